"""perturbation: errors against closed forms and another route."""

import numpy as np
import pytest
import torch

import cmlib
from cmlib import kernels, models, parameterizations, targets
from cmlib.distances import KernelDistance
from cmlib.perturbation import PerturbationCurve, crossing, stable_perturbation_radius
from cmlib.worst_case import Ball

LAMBDA = 0.7  # the rate of every one-neuron network below


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_neuron(**options) -> models.LinearRNN:
    return models.LinearRNN([[-LAMBDA]], [1.0], [1.0], **options)


def few_modes(m: int = 4) -> tuple[models.LinearRNN, kernels.Kernel]:
    kernel = kernels.Polynomial(exponent=1.1)
    return models.LinearRNN(*cmlib.exponential_sum(kernel, m, times=np.arange(1.0, 101)).realization()), kernel


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_worst_case_of_one_neuron_is_the_closed_form(fraction):
    beta = fraction * LAMBDA
    curve = cmlib.perturbation_error(
        one_neuron(), kernels.Exponential(LAMBDA), [beta], method="worst_case", generator=generator()
    )
    expected = (1 + beta) ** 2 / (LAMBDA - beta) - 1 / LAMBDA
    assert curve.errors[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_worst_case_of_one_neuron_on_a_window_is_the_closed_form():
    beta, T = 0.2, 5.0
    curve = cmlib.perturbation_error(
        one_neuron(), kernels.Exponential(LAMBDA), [beta], method="worst_case", horizon=T, generator=generator()
    )
    slow = LAMBDA - beta
    expected = (1 + beta) ** 2 * -np.expm1(-slow * T) / slow + np.expm1(-LAMBDA * T) / LAMBDA
    assert curve.errors[0] == pytest.approx(expected, rel=1e-9)


def test_w1_norm_of_one_neuron_adds_jump_and_variation():
    # only the readout moves: the difference is beta e^{-lambda t}, of area beta/lambda, start beta, variation beta
    beta = 0.2
    curve = cmlib.perturbation_error(
        one_neuron(),
        kernels.Exponential(LAMBDA),
        [beta],
        method="worst_case",
        norm="w1",
        weights=("c",),
        generator=generator(),
    )
    assert curve.errors[0] == pytest.approx(beta / LAMBDA + 2 * beta, rel=1e-9)
    assert curve.stability_radius == np.inf


def test_error_at_radius_zero_is_the_fit_error():
    network, kernel = few_modes()
    fit = cmlib.exponential_sum(kernel, 4, times=np.arange(1.0, 101))
    for horizon in (np.inf, 100.0):
        curve = cmlib.perturbation_error(network, kernel, [0.0], horizon=horizon, generator=generator())
        assert curve.errors[0] == pytest.approx(fit.l1_error(kernel, horizon), rel=1e-7)


@pytest.mark.parametrize("horizon", [np.inf, 100.0])
def test_sampled_errors_equal_root_bracketed_kernel_distances(horizon):
    # the other route: eigenvalues of each perturbed W, and |rho - rhohat| between bracketed sign changes
    network, kernel = few_modes()
    beta = 0.5 * cmlib.stability_radius(network.W)
    directions = Ball(network).random(generator(), 5)
    distances = []
    for j in range(5):
        W, U, c = ((getattr(network, n).detach() + beta * directions[n][0, j]).numpy() for n in ("W", "U", "c"))
        values, vectors = np.linalg.eig(W.astype(complex))
        weights = (c @ vectors) * np.linalg.solve(vectors, U.astype(complex))
        distances.append(cmlib.ExponentialSum(-values, weights).l1_error(kernel, horizon))
    curve = cmlib.perturbation_error(network, kernel, [beta], n_directions=5, horizon=horizon, generator=generator())
    assert curve.errors[0] == pytest.approx(max(distances), rel=1e-7)


def test_directions_lie_on_the_unit_sphere_of_each_spectral_norm():
    network, _ = few_modes()
    directions = Ball(network).random(generator(), 7)
    assert torch.allclose(torch.linalg.matrix_norm(directions["W"], ord=2), torch.ones(1, 7, dtype=torch.float64))
    for name in ("U", "c"):
        assert torch.allclose(directions[name].norm(dim=-1), torch.ones(1, 7, dtype=torch.float64))


def test_worst_case_is_monotone_bounds_samples_and_ends_at_the_radius():
    network, kernel = few_modes()
    radii = cmlib.stability_radius(network.W) * np.array([0.0, 0.1, 0.5, 0.9, 1.0, 1.5])
    worst = cmlib.perturbation_error(network, kernel, radii, method="worst_case", generator=generator())
    sampled = cmlib.perturbation_error(network, kernel, radii, n_directions=20, generator=generator(1))
    assert (np.diff(worst.errors[:4]) > 0).all()
    assert (sampled.errors <= worst.errors).all()
    assert np.isfinite(worst.errors[:4]).all() and np.isinf(worst.errors[4:]).all()
    assert sampled.is_lower_bound and not worst.is_lower_bound


def test_entrywise_worst_case_of_two_neurons_on_all_times_is_the_worst_corner():
    # rho - rhohat = (1 + b)^2 sum of e^{-(r - b) t} where every entry helps: of a diagonal its area is a closed form
    rates, beta = np.array([0.5, 1.0]), 0.1
    kernel = kernels.Sum([kernels.Exponential(r) for r in rates], [1.0, 1.0])
    call = {"method": "worst_case", "ball": "entrywise"}
    model = models.LinearRNN(-rates, [1.0, 1.0], [1.0, 1.0])
    error = cmlib.perturbation_error(model, kernel, [beta], **call).errors[0]
    assert error == pytest.approx((1 + beta) ** 2 * (1 / (rates - beta)).sum() - (1 / rates).sum(), rel=1e-7)
    # of a matrix the area of c^T e^{Wt} U >= 0 is -c^T W^{-1} U, and entries off the diagonal grow as well
    model = models.LinearRNN(np.diag(-rates), [1.0, 1.0], [1.0, 1.0])
    curve = cmlib.perturbation_error(model, kernel, [beta, 0.6], **call)
    moved = np.diag(-rates) + beta
    expected = (1 + beta) ** 2 * -np.linalg.inv(moved).sum() - (1 / rates).sum()
    assert curve.errors[0] == pytest.approx(expected, rel=1e-7)
    assert np.isinf(curve.errors[1]) and np.isnan(curve.stability_radius)


def test_no_random_search_beats_the_worst_case():
    # 20,000 perturbations of a two-neuron network, boundary and interior, on a window
    kernel = kernels.Polynomial(exponent=1.1)
    network = models.LinearRNN(*cmlib.exponential_sum(kernel, 2, times=np.arange(1.0, 101)).realization())
    beta = 0.02
    worst = cmlib.perturbation_error(
        network, kernel, [beta], method="worst_case", horizon=20.0, generator=generator()
    ).errors[0]
    searched = cmlib.perturbation_error(
        network, kernel, [beta, beta / 2], n_directions=10_000, horizon=20.0, generator=generator(2)
    ).errors.max()
    assert 0.9 * worst < searched <= worst * (1 + 1e-9)


def test_ascent_ends_where_no_small_step_improves():
    network, kernel = few_modes(2)
    ball, distance = Ball(network), KernelDistance(kernel, network, "sup", np.inf, 0.01)
    beta, reachable, first = torch.tensor([0.01], dtype=torch.float64), torch.tensor([True]), torch.tensor([0])
    short, long = (
        ball.ascend(distance, beta, reachable, ball.random(generator(), 5), first, n_iterations=n).amax().item()
        for n in (12, 60)
    )
    assert long == pytest.approx(short, rel=1e-6)


def test_recurrent_weight_alone_and_readout_alone_do_less_than_all():
    network, kernel = few_modes()
    errors = {
        weights: cmlib.perturbation_error(
            network, kernel, [0.004], method="worst_case", weights=weights, generator=generator()
        ).errors[0]
        for weights in (("W",), ("U", "c"), None)
    }
    assert errors[("W",)] < errors[None] and errors[("U", "c")] < errors[None]


def test_diagonal_network_moves_in_its_raw_weights():
    rates = np.array([0.1, 1.0])
    kernel = kernels.Sum([kernels.Exponential(r) for r in rates], [1.0, 1.0])
    direct = models.LinearRNN(-rates, [1.0, 1.0], [1.0, 1.0])
    stable = models.LinearRNN(
        parameterizations.exp.inverse(-rates), [1.0, 1.0], [1.0, 1.0], parameterization=parameterizations.exp
    )
    curves = [
        cmlib.perturbation_error(n, kernel, [0.05, 0.5], method="worst_case", weights=("W",), generator=generator())
        for n in (direct, stable)
    ]
    assert curves[0].stability_radius == pytest.approx(0.1) and np.isinf(curves[0].errors[1])
    assert curves[1].stability_radius == np.inf
    # slowing both: each mode's area grows from 1/r to e^beta / r
    expected = np.expm1([0.05, 0.5]) * (1 / rates).sum()
    assert curves[1].errors == pytest.approx(expected, rel=1e-6)


def test_dense_network_moves_in_its_raw_matrix_and_never_blows_up():
    W = -np.array([[0.3, 0.1], [-0.2, 1.0]])
    f = parameterizations.dissipative
    kernel = kernels.Exponential(0.5)
    network = models.LinearRNN(f.inverse(W), [1.0, 0.5], [0.5, 1.0], parameterization=f)
    radii = [0.0, 0.3, 2.0]
    curve = cmlib.perturbation_error(network, kernel, radii, weights=("W",), n_directions=4, generator=generator())
    assert curve.stability_radius == np.inf and np.isfinite(curve.errors).all()
    # the same directions by hand, each as a network of its own
    directions = torch.randn(4, 2, 2, generator=generator(), dtype=torch.float64)
    directions /= torch.linalg.matrix_norm(directions, 2)[:, None, None]
    for beta, error in zip(radii, curve.errors, strict=True):
        moved = [models.LinearRNN(f(network.W.detach() + beta * d), network.U, network.c) for d in directions]
        alone = [
            cmlib.perturbation_error(one, kernel, [0.0], n_directions=1, generator=generator()).errors[0]
            for one in moved
        ]
        assert error == pytest.approx(max(alone), rel=1e-6)


class OfTheUser(torch.nn.Module):
    stable, acts_on, time = False, "eigenvalues", "flow"

    def __init__(self, forward, inverse):
        super().__init__()
        self.forward, self.right_inverse = forward, inverse


def test_a_users_parameterization_moves_in_raw_weights():
    double = OfTheUser(lambda w: -2 * w, lambda value: -value / 2)
    network = models.LinearRNN([0.1, 0.5], [1.0, 1.0], [1.0, 1.0], parameterization=double)
    same = models.LinearRNN([-0.2, -1.0], [1.0, 1.0], [1.0, 1.0])
    kernel = kernels.Exponential(0.5)
    options = {"method": "worst_case", "weights": ("W",), "generator": generator()}
    unknown = cmlib.perturbation_error(network, kernel, [0.0, 0.05, 0.2], **options)
    known = cmlib.perturbation_error(same, kernel, [0.0, 0.1, 0.4], **options)
    assert unknown.stability_radius == pytest.approx(0.1) and known.stability_radius == pytest.approx(0.2)
    assert unknown.errors == pytest.approx(known.errors, rel=1e-6)  # inf where one of its modes grows
    cubic = OfTheUser(lambda w: w**3 - 1, lambda value: np.cbrt(value + 1))
    network = models.LinearRNN([0.1, 0.5], [1.0, 1.0], [1.0, 1.0], parameterization=cubic)
    assert np.isnan(cmlib.perturbation_error(network, kernel, [0.0], **options).stability_radius)


def test_a_functional_and_its_kernel_are_the_same_target():
    network, kernel = few_modes()
    both = [
        cmlib.perturbation_error(network, target, [0.001], generator=generator()).errors[0]
        for target in (kernel, targets.LinearFunctional(kernel))
    ]
    assert both[0] == both[1]


def test_the_callers_network_is_left_alone():
    network, kernel = few_modes()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cmlib.perturbation_error(network, kernel, [0.001], method="worst_case", generator=generator())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"radii": [-0.1]}, "expected finite radii >= 0"),
        ({"radii": [np.nan]}, "expected radii to hold finite real numbers"),
        ({"radii": [[0.1]]}, "expected finite radii >= 0 of shape"),
        ({"method": "hope"}, "expected method among"),
        ({"norm": "l2"}, "expected norm among"),
        ({"norm": "mse"}, "expected inputs for the norm 'mse'"),
        ({"ball": "round"}, "expected ball among"),
        ({"horizon": 0.0}, "expected horizon > 0"),
        ({"weights": ("W", "b")}, "expected weights out of"),
        ({"weights": ()}, "expected weights out of"),
        ({"n_directions": 0}, "expected n_directions to be an integer >= 1"),
        ({"generator": 3}, "expected generator to be a torch.Generator"),
        ({"model": torch.nn.Linear(1, 1)}, "expected inputs, or a model that declares its realization"),
        ({"target": "polynomial"}, "expected target to be a Kernel"),
    ],
)
def test_perturbation_error_rejects(options, message):
    call = {
        "model": one_neuron(),
        "target": kernels.Exponential(LAMBDA),
        "radii": [0.1],
        "generator": generator(),
    } | options
    with pytest.raises(ValueError, match=message):
        cmlib.perturbation_error(call.pop("model"), call.pop("target"), call.pop("radii"), **call)


# --- crossing


def pole(radius: float, height: float) -> PerturbationCurve:
    radii = np.linspace(0, 1, 101)
    with np.errstate(divide="ignore"):
        errors = np.where(radii < radius, height / (radius - np.minimum(radii, radius)), np.inf)
    return PerturbationCurve(radii, errors, "worst_case", radius, False)


def test_crossing_of_two_poles_is_their_intersection():
    # 0.5 / (0.8 - beta) = 0.1 / (0.3 - beta) at beta = 0.07 / 0.4
    assert crossing(pole(0.8, 0.5), pole(0.3, 0.1)) == pytest.approx(0.175, rel=1e-9)


def test_curves_that_stay_nested_never_cross():
    assert crossing(pole(0.5, 0.5), pole(0.8, 0.1)) == np.inf


def test_errors_that_overflow_on_a_window_make_no_pole_at_the_stability_radius():
    radii = np.array([0.0, 0.5, 1.0, 2.0, 400.0])
    errors = np.array([1.0, 2.0, 3.0, 5.0, np.inf])  # finite past the radius 0.1
    curve = PerturbationCurve(radii, errors, "worst_case", 0.1, True)
    assert stable_perturbation_radius(curve, 2.0) == pytest.approx(0.5)
    below = PerturbationCurve(radii, np.array([0.5, 1.0, 4.0, 8.0, np.inf]), "worst_case", 0.01, True)
    assert 0.5 < crossing(curve, below) < 1.0


def test_crossing_rejects_a_wider_model_that_starts_above():
    with pytest.raises(ValueError, match="expected the wider model to start below"):
        crossing(pole(0.5, 0.1), pole(0.5, 0.5))


def test_crossing_does_not_mind_the_order_of_radii_and_ends_where_one_curve_ends():
    curve, wider = pole(0.8, 0.5), pole(0.3, 0.1)
    shuffled = PerturbationCurve(wider.radii[::-1].copy(), wider.errors[::-1].copy(), "worst_case", 0.3, False)
    assert crossing(curve, shuffled) == pytest.approx(0.175, rel=1e-9)
    short = PerturbationCurve(wider.radii[:11], wider.errors[:11], "worst_case", 0.3, False)  # up to 0.1
    assert crossing(curve, short) == np.inf


def test_an_oscillating_network_near_its_radius_is_reported_as_a_lower_bound():
    network = models.LinearRNN([[-0.1, 1.0], [-1.0, -0.1]], [1.0, 0.0], [1.0, 0.0])
    call = {"target": kernels.Exponential(1.0), "method": "worst_case", "generator": generator()}
    assert not cmlib.perturbation_error(network, radii=[0.0, 0.05], **call).is_lower_bound
    assert cmlib.perturbation_error(network, radii=[0.0999], **call).is_lower_bound


def test_a_kernel_faster_than_the_network_is_seen():
    network = models.LinearRNN([[-0.1]], [1.0], [1.0])
    kernel = kernels.Sum([kernels.Exponential(1000.0)], [1000.0])
    error = cmlib.perturbation_error(network, kernel, [0.0], generator=generator()).errors[0]
    assert error == pytest.approx(kernels.l1_distance(kernel, kernels.Exponential(0.1)), rel=1e-6)


class Turned(torch.nn.Module):
    """y = Re(i w x), w complex: minus its imaginary part times x."""

    def __init__(self, shape):
        super().__init__()
        drawn = torch.randn(*shape, 2, generator=generator(), dtype=torch.float64)
        self.w = torch.nn.Parameter(torch.view_as_complex(drawn))

    def forward(self, x):
        return (1j * self.w * x).real if self.w.ndim == 1 else (1j * x.to(self.w.dtype) @ self.w).real


@pytest.mark.parametrize("shape", [(1,), (2, 3)])
def test_complex_weights_are_pushed_along_complex_directions(shape):
    model, x = Turned(shape), torch.randn(4, 5, shape[0], generator=generator(1), dtype=torch.float64)
    betas = np.array([0.0, 0.1, 0.4])
    with_ascent = cmlib.perturbation_error(model, model, betas, inputs=x, method="worst_case").errors
    # |x| is the largest channel; a row of a matrix of norm 1 can be x / ||x||
    expected = betas * float((x.norm(dim=2) / x.abs().amax((1, 2))[:, None]).max())
    assert with_ascent == pytest.approx(expected, rel=1e-6, abs=1e-14)
    drawn = cmlib.perturbation_error(model, model, betas, inputs=x).errors
    assert drawn[0] == 0 and (drawn[1:] > 0).all() and (drawn <= expected * (1 + 1e-12)).all()
    direction = Ball(model).random(generator(), 7)["w"]
    assert direction.is_complex() and (direction.imag != 0).all()
    sizes = direction.abs()[..., 0] if len(shape) == 1 else torch.linalg.matrix_norm(direction, 2)
    torch.testing.assert_close(sizes, torch.ones(1, 7, dtype=torch.float64))


def test_complex_outputs_count_with_both_parts():
    class Spiral(Turned):
        def forward(self, x):
            return self.w * x

    model, other, x = Spiral((1,)), Spiral((1,)), torch.ones(1, 3, 1, dtype=torch.float64)
    with torch.no_grad():
        other.w.add_(0.3j)
    assert cmlib.perturbation_error(model, other, [0.0], inputs=x).errors == pytest.approx([0.3])
