"""The linear core at its limits: singular and unstable networks, humped kernels, the slowest modes, hostile weights."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, optimize

from cmlib import kernels
from cmlib.exponential_sums import ExponentialSum, exponential_sum
from cmlib.models import LinearRNN
from cmlib.parameterizations import exp, inverse_square, softplus
from cmlib.perturbation import crossing, perturbation_error
from cmlib.stability import stability_radius
from cmlib.targets import LinearFunctional

EPS = np.finfo(float).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_neuron(rate, kind="dense"):
    return LinearRNN([[-rate]] if kind == "dense" else [-rate], [1.0], [1.0])


def worst(model, target, radii, **options):
    options = {"method": "worst_case", "n_directions": 4, "generator": seeded()} | options
    return perturbation_error(model, target, radii, **options)


# --- exponential_sums

HUMPED = {
    "airy-oscillating": kernels.Airy(20.0),
    "bump-late": kernels.Bump(50.0, 5.0),
    "shifted": kernels.Shifted(kernels.Exponential(0.5), 10.0),
    "echo": kernels.Sum([kernels.Exponential(1.0), kernels.Bump(9.0, 1.0)], [1.0, 1.0]),
}


@pytest.mark.parametrize("m", [1, 2, 3, 8])
@pytest.mark.parametrize("grid", [(100.0, 100), (20.0, 400)], ids=["paper", "fine"])
@pytest.mark.parametrize("kernel", HUMPED.values(), ids=HUMPED.keys())
def test_humped_kernels_get_decaying_fits_no_worse_than_zero(kernel, grid, m):
    horizon, n = grid
    t = horizon * np.arange(1, n + 1) / n
    fit = exponential_sum(kernel, m, times=horizon * np.arange(1, n + 1) / n)
    assert 1 <= len(fit.rates) <= m and fit.rates.real.min() > 0
    # the weights are a least-squares solution, and zero weights are allowed
    assert np.linalg.norm(kernel(t) - fit(t)) <= np.linalg.norm(kernel(t)) * (1 + 100 * EPS)
    assert np.isfinite(fit.l1_error(kernel))


def test_sum_with_zero_weights_has_norm_zero_and_the_kernels_norm_as_error():
    nothing = ExponentialSum(np.array([1.0]), np.array([0.0]))
    assert nothing.l1_norm() == 0.0
    assert nothing.l1_error(kernels.Exponential(0.5)) == pytest.approx(2.0, rel=8 * EPS)


@pytest.mark.parametrize(
    "known",
    [
        ExponentialSum(np.array([0.3, 1.5]), np.array([2.0, 0.5])),
        ExponentialSum(np.array([1.0, 1.0 - 2j, 1.0 + 2j]), np.array([1.0 + 0j, -0.5j, 0.5j])),
    ],
    ids=["real", "e^-t (1 + sin 2t)"],
)
def test_known_sum_is_recovered_to_rounding_times_its_sensitivity(known):
    t = np.arange(1, 121) * 0.1
    fit = exponential_sum(known, len(known.rates), times=0.1 * np.arange(1, 121))
    modes = np.exp(-known.rates * t[:, None])
    J = np.hstack([modes.real, modes.imag, (t[:, None] * known.weights * modes).real,
                   (t[:, None] * known.weights * modes).imag])  # fmt: skip
    singular = np.linalg.svd(J, compute_uv=False)
    tolerance = 100 * EPS * np.linalg.norm(known(t)) / singular[singular > 1e-10 * singular[0]].min()
    assert tolerance < 1e-8  # else the test would show nothing
    order = [np.abs(fit.rates - rate).argmin() for rate in known.rates]
    assert sorted(order) == list(range(len(known.rates)))
    np.testing.assert_allclose(fit.rates[order], known.rates, rtol=0, atol=tolerance)
    np.testing.assert_allclose(fit.weights[order], known.weights, rtol=0, atol=tolerance)


# --- models


@pytest.mark.parametrize("eigenvalue", [0.0, -1e-14, -1e-12, -1e-9, -1e-5, -1e-2, -0.3, -0.7, -5.0, 1e-6])
def test_gradient_of_a_held_step_is_good_for_the_slowest_modes(eigenvalue):
    model = LinearRNN([eigenvalue], [1.0], [1.0])
    model.discretized()[1].sum().backward()
    # d/dz (e^z - 1)/z = int_0^1 s e^{zs} ds
    expected = integrate.quad(lambda s: s * np.exp(eigenvalue * s), 0.0, 1.0, epsabs=1e-15)[0]
    assert model.W.grad.item() == pytest.approx(expected, rel=64 * EPS)


# --- targets


def test_functional_rejects_integers():
    with pytest.raises(ValueError, match="expected x of floating-point numbers, got torch.int64"):
        LinearFunctional(kernels.Exponential(1.0))(torch.ones(1, 4, 1, dtype=torch.int64))


# --- stability


@pytest.mark.parametrize("method", ["random", "worst_case"])
@pytest.mark.parametrize("kind", ["dense", "diagonal"])
def test_singular_perturbations_have_infinite_error(kind, method):
    # +-rate are the only directions of one neuron, and the weight is exactly 0 at the radius
    curve = perturbation_error(
        one_neuron(0.5, kind), kernels.Exponential(0.5), [0.25, 0.5, 0.75], method=method, generator=seeded()
    )
    np.testing.assert_array_equal(np.isinf(curve.errors), [False, True, True])


@pytest.mark.parametrize("weights", [("W", "U", "c"), ("U",)], ids=["all", "input"])
@pytest.mark.parametrize("W", [[[0.1]], [0.1], [[0.0]], [0.0]], ids=["dense", "diagonal", "zero", "diagonal-zero"])
def test_model_that_is_not_stable_has_radius_zero_and_infinite_error(W, weights):
    for method in ("random", "worst_case"):
        curve = perturbation_error(
            LinearRNN(W, [1.0], [1.0]), kernels.Exponential(0.5), [0.0, 0.1],
            method=method, weights=weights, generator=seeded(),
        )  # fmt: skip
        assert curve.stability_radius == 0.0 and np.isinf(curve.errors).all()


def lopsided_pair():
    rng = np.random.default_rng(0)
    U, c = rng.standard_normal((2, 2))
    W = -rng.uniform(0.2, 2.0, 2)
    Q = linalg.qr(rng.standard_normal((2, 2)))[0]
    return Q @ np.diag(W) @ Q.T + 0.1 * np.triu(rng.standard_normal((2, 2)), 1), U, c


def brute_force(W, U, c, kernel, beta, n=20_000):
    """Return the largest distance among n admissible perturbations: coarse for all, exact for the best ten."""
    rng = np.random.default_rng(0)

    def sphere():
        x = rng.standard_normal((n, 2))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    left, size, right = np.linalg.svd(rng.standard_normal((n, 2, 2)))
    size /= size[:, :1]
    size[::2] = 1.0  # every second one orthogonal, an extreme point of the spectral ball
    values, vectors = np.linalg.eig(W + beta * (left * size[:, None]) @ right)
    weights = ((c + beta * sphere())[:, None] @ vectors)[:, 0]
    weights = weights * np.linalg.solve(vectors, (U + beta * sphere())[..., None])[..., 0]
    t = np.append(0.0, np.geomspace(1e-2, 40 / -values.real.max(), 100))
    rho = (np.exp(values[:, None] * t[:, None]) @ weights[..., None])[..., 0].real
    best = 0.0
    for i in np.argsort(integrate.trapezoid(np.abs(rho - kernel(t)), t))[-10:]:
        real = not np.abs(values[i].imag).max() > 0
        s = ExponentialSum(-values[i].real if real else -values[i], weights[i].real if real else weights[i])
        best = max(best, s.l1_error(kernel))
    return best


def test_no_random_perturbation_of_general_weights_beats_the_worst_case():
    W, U, c = lopsided_pair()
    kernel, beta = kernels.Polynomial(1.5), 0.6 * stability_radius(W, "real")
    error = worst(LinearRNN(W, U, c), kernel, [beta]).errors[0]
    found = brute_force(W, U, c, kernel, beta)
    assert 0.9 * error < found <= error * (1 + 1e-6)


def test_worst_case_does_not_depend_on_the_samples_it_starts_from():
    W, U, c = lopsided_pair()
    beta = 0.6 * stability_radius(W, "real")
    found = [
        worst(LinearRNN(W, U, c), kernels.Polynomial(1.5), [beta], generator=seeded(s)).errors[0] for s in range(3)
    ]
    assert max(found) / min(found) - 1 < 1e-4


@pytest.mark.parametrize("f", [exp, softplus, inverse_square], ids=["exp", "softplus", "inverse_square"])
@pytest.mark.parametrize("weights", [("W",), ("W", "U", "c")], ids=["recurrent", "all"])
def test_stable_parameterizations_of_one_neuron_have_their_closed_form_and_no_radius(f, weights):
    rate = 0.7
    raw = float(f.inverse(-rate))
    beta = np.array([0.1, 0.5, 2.0])
    model = LinearRNN([raw], [1.0], [1.0], parameterization=f)
    curve = worst(model, kernels.Exponential(rate), beta, weights=weights)
    assert curve.stability_radius == np.inf
    # all weights are grown, and the rate is the slowest that its ball holds: at one of its ends
    slowest = np.minimum(-f(raw - beta), -f(raw + beta))
    lift = (1 + beta) ** 2 if "U" in weights else 1.0
    np.testing.assert_allclose(curve.errors, lift / slowest - 1 / rate, rtol=1e-7)


def most_unstable(W, radius, starts=4, steps=60):
    """Return the largest abscissa found among real W + D, |D| <= radius, by steps to the best vertex."""
    rng, best = np.random.default_rng(0), -np.inf
    left, _, right = linalg.svd(W)
    directions = [linalg.qr(rng.standard_normal(W.shape))[0] for _ in range(starts)]
    for D in (-radius * np.outer(left[:, -1], right[-1]), *(radius * Q for Q in directions)):
        for _ in range(steps):
            values, left, right = linalg.eig(W + D, left=True)
            best = max(best, values.real.max())
            k = values.real.argmax()
            # d lambda = left^* dD right / (left^* right)
            slope = np.outer(left[:, k].conj(), right[:, k]) / (left[:, k].conj() @ right[:, k])
            u, _, v = linalg.svd(slope.real)
            step = rng.uniform(0.3, 1.0)
            D = (1 - step) * D + step * radius * u @ v
    return best


@pytest.mark.parametrize("m", [3, 4])
@pytest.mark.parametrize("seed", [20, 21])
def test_real_radius_separates_stable_from_unstable_perturbations(m, seed):
    W = np.random.default_rng(seed).standard_normal((m, m))
    W -= (linalg.eigvals(W).real.max() + 0.3) * np.eye(m)
    r = stability_radius(W, "real")
    assert most_unstable(W, 0.999 * r) < 0 <= most_unstable(W, 1.001 * r)


def test_crossing_of_two_neurons_is_their_closed_form():
    target, radii = kernels.Exponential(1.0), np.append(0.0, np.geomspace(1e-2, 1.2, 40))
    # both lie above e^{-t}, and are furthest from it when all weights are grown
    models = [LinearRNN([[-r]], [math.sqrt(a)], [math.sqrt(a)]) for r, a in ((1.0, 1.2), (0.9, 1.02))]

    def gap(beta):
        return (math.sqrt(1.02) + beta) ** 2 / (0.9 - beta) - (math.sqrt(1.2) + beta) ** 2 / (1.0 - beta)

    expected = optimize.brentq(gap, 1e-3, 0.89)
    assert crossing(*(worst(m, target, radii) for m in models)) == pytest.approx(expected, rel=0.01)
