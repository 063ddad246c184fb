"""KernelLoss and gradient_flow: closed forms against quadrature and autograd, the flow against another integrator."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from cmlib import ExponentialSum, KernelLoss, gradient_flow, kernels
from cmlib.kernels import Bump, Exponential, Sum

EPS = np.finfo(float).eps


class Mine:
    """A user's kernel, which says what it is the sum of."""

    def __call__(self, t):
        e = torch.exp if isinstance(t, torch.Tensor) else np.exp
        return 2.0 * e(-0.5 * t) + 0.3 * e(-2.0 * (t - 4.0) ** 2)

    def modes(self):
        return [2.0], [0.5]

    def gaussians(self):
        return [0.3], [4.0], [0.5]


TARGETS = {
    "exponential": Exponential(0.7),
    "exponential-sum": ExponentialSum([0.3, 2.0], [1.0, -0.5]),
    "bump": Bump(4.0, 0.5),
    "bump-cut-at-zero": Bump(-0.5, 1.5),
    "plateau": Sum([Exponential(0.5), Bump(12.0, 0.5)], [1.0, 1.0]),
    "two-bumps": Sum([Bump(2.0, 0.5), Bump(3.0, 1.0)], [1.0, -2.0]),
    "declared": Mine(),
    "nested": Sum([Sum([Exponential(0.5), Bump(5.0, 0.7)], [2.0, 1.0]), Exponential(3.0)], [0.5, -1.0]),
}


@pytest.fixture(params=TARGETS.values(), ids=TARGETS.keys())
def target(request):
    return request.param


def point(m=4):
    generator = np.random.default_rng(0)
    return generator.normal(size=m), np.geomspace(0.3, 3.0, m)


def moment(target, a, w, integrand):
    """int integrand(t, rhohat - rho) dt by adaptive quadrature on panels that hold every bump."""
    edges = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0, 15.0, 30.0, 150.0]

    def f(t):
        return integrand(t, np.exp(-w * t) @ a - float(target(t)))

    return sum(integrate.quad(f, *ends, epsabs=1e-13, epsrel=1e-13)[0] for ends in zip(edges, edges[1:], strict=False))


def test_loss_equals_quadrature(target):
    a, w = point()
    assert KernelLoss(target)(a, w) == pytest.approx(moment(target, a, w, lambda t, r: r**2), abs=1e-11)


def test_gradient_equals_quadrature(target):
    a, w = point()
    by_weights = [2 * moment(target, a, w, lambda t, r, k=k: math.exp(-w[k] * t) * r) for k in range(4)]
    by_rates = [-2 * a[k] * moment(target, a, w, lambda t, r, k=k: t * math.exp(-w[k] * t) * r) for k in range(4)]
    assert np.abs(KernelLoss(target).gradient(a, w) - np.array(by_weights + by_rates)).max() < 1e-9


def by_autograd(target, a, w):
    """The gradient of J written in torch: Gauss-Legendre panels, no closed form of any moment."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.concatenate([np.linspace(0.0, 20.0, 81), np.geomspace(20.0, 200.0, 30)[1:]])
    half = np.diff(edges) / 2
    t = torch.as_tensor((edges[:-1, None] + half[:, None] * (1 + nodes)).ravel())
    dt = torch.as_tensor((half[:, None] * weights).ravel())
    a, w = (torch.tensor(x, requires_grad=True) for x in (a, w))
    loss = (((a * torch.exp(-w * t[:, None])).sum(1) - target(t)).square() * dt).sum()
    return loss.item(), np.concatenate([g.numpy() for g in torch.autograd.grad(loss, (a, w))])


def test_loss_and_gradient_equal_autograd_through_another_quadrature(target):
    a, w = point()
    loss, gradient = by_autograd(target, a, w)
    assert KernelLoss(target)(a, w) == pytest.approx(loss, abs=1e-10)
    assert np.abs(KernelLoss(target).gradient(a, w) - gradient).max() < 1e-9


def test_gradient_equals_finite_differences_of_the_loss(target):
    loss, x = KernelLoss(target), np.concatenate(point())
    step = 1e-3

    def central(k):  # of sixth order: the remainder is about step^6
        e = step * np.eye(8)[k]
        values = [loss(*np.split(x + j * e, 2)) for j in (-3, -2, -1, 1, 2, 3)]
        return np.dot([-1, 9, -45, 45, -9, 1], values) / (60 * step)

    assert np.abs(loss.gradient(*point()) - [central(k) for k in range(8)]).max() < 1e-9


def test_hessian_equals_finite_differences_of_the_gradient(target):
    loss, x = KernelLoss(target), np.concatenate(point())
    step = 1e-3

    def central(k):
        e = step * np.eye(8)[k]
        values = [loss.gradient(*np.split(x + j * e, 2)) for j in (-3, -2, -1, 1, 2, 3)]
        return np.array([-1, 9, -45, 45, -9, 1]) @ values / (60 * step)

    hessian = loss.hessian(*point())
    assert np.array_equal(hessian, hessian.T)
    assert np.abs(hessian - [central(k) for k in range(8)]).max() < 1e-8


@pytest.mark.parametrize("memory", [8.0, 20.0, 40.0])
def test_gradient_at_the_start_of_a_plateau_keeps_its_digits(memory):
    bump, rates = Bump(memory, 0.5), np.geomspace(0.5, 4.0, 10)
    gradient = KernelLoss(Sum([Exponential(0.5), bump], [1.0, 1.0])).gradient(np.eye(10)[0], rates)
    assert gradient[:10] == pytest.approx(-2 * bump.laplace(rates), rel=1e-12)
    # the only neuron that speaks: d/ds of the Laplace transform, by quadrature over the bump
    nodes, weights = np.polynomial.legendre.leggauss(80)
    t = memory + 4.0 * nodes
    assert gradient[10] == pytest.approx(2 * (4.0 * weights) @ (t * np.exp(-0.5 * t) * bump(t)), rel=1e-12)
    assert np.all(gradient[11:] == 0)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_loss_scales_with_the_unit_of_time(scale):
    # rho_s(t) = rho(s t) and rates s w: J_s(a, s w) = J(a, w) / s
    def target(s):
        return Sum([Exponential(0.5 * s), Bump(6.0 / s, 0.5 / s)], [1.0, 1.0])

    a, w = point()
    there, here = KernelLoss(target(scale)), KernelLoss(target(1.0))
    assert there(a, scale * w) == pytest.approx(here(a, w) / scale, rel=1e-13)
    by_weights, by_rates = np.split(here.gradient(a, w), 2)
    expected = np.concatenate([by_weights / scale, by_rates / scale**2])
    assert there.gradient(a, scale * w) == pytest.approx(expected, rel=1e-11)


def test_loss_scales_with_the_target():
    a, w = point()
    target = TARGETS["plateau"]
    assert KernelLoss(Sum([target], [3.0]))(3 * a, w) == pytest.approx(9 * KernelLoss(target)(a, w), rel=1e-13)


def test_loss_vanishes_where_the_target_is_reached():
    weights, rates = np.array([1.0, -0.5]), np.array([0.3, 2.0])
    loss = KernelLoss(ExponentialSum(rates, weights))
    assert abs(loss(weights, rates)) < 10 * EPS
    assert np.all(loss.gradient(weights, rates) == 0)


# the flow


def plateau(memory):
    return Sum([Exponential(0.5), Bump(memory, 0.5)], [1.0, 1.0])


def start(m=10):
    return np.eye(m)[0], np.geomspace(0.5, 4.0, m)


@pytest.fixture(scope="module")
def flow():
    return gradient_flow(plateau(10.0), *start(), t_max=30.0)


def test_flow_equals_another_integrator_at_tighter_tolerance(flow):
    gradient = KernelLoss(plateau(10.0)).gradient
    other = integrate.solve_ivp(
        lambda t, x: -gradient(x[:10], x[10:]),
        (0.0, 30.0),
        np.concatenate(start()),
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
        t_eval=np.linspace(0.0, 30.0, 40),
    )
    assert np.abs(flow.at(other.t) - other.y).max() < 1e-6


def test_loss_falls_along_the_flow(flow):
    assert flow.t[0] == 0 and flow.t[-1] == 30.0
    assert np.all(np.diff(flow.losses) < 0)
    assert flow.losses[0] == pytest.approx(KernelLoss(plateau(10.0))(*start()), rel=1e-14)


def test_dissipation_equals_the_fall_of_the_loss(flow):
    # dJ/dtau = -|grad J|^2, integrated on the flow's own steps
    nodes, weights = np.polynomial.legendre.leggauss(12)
    total = 0.0
    for low, high in zip(flow.t, flow.t[1:], strict=False):
        for tau, weight in zip(low + (high - low) * (1 + nodes) / 2, weights * (high - low) / 2, strict=True):
            total += weight * np.square(flow.loss.gradient(*np.split(flow.at(tau), 2))).sum()
    assert total == pytest.approx(flow.losses[0] - flow.losses[-1], rel=1e-6)


@pytest.mark.parametrize(("memory", "tau", "tau_loss"), [(8.0, 0.145128, 0.56022), (16.0, 22.779, 233.192)])
def test_hitting_times_equal_an_independent_program(memory, tau, tau_loss):
    flow = gradient_flow(plateau(memory), *start(), t_max=2 * tau_loss)
    assert flow.hitting_time(0.05, of="parameters") == pytest.approx(tau, rel=5e-6)
    assert flow.hitting_time(0.05) == pytest.approx(tau_loss, rel=5e-6)


@pytest.mark.parametrize("of", ["loss", "parameters"])
def test_hitting_time_is_where_the_distance_equals_delta(flow, of):
    x = flow.at(flow.hitting_time(0.03, of=of))
    distance = {
        "loss": abs(flow.loss(x[:10], x[10:]) - flow.losses[0]),
        "parameters": np.linalg.norm(x - flow.at(0.0)),
    }[of]
    assert distance == pytest.approx(0.03, rel=1e-9)


def test_hitting_time_is_inf_when_not_reached(flow):
    assert flow.hitting_time(10.0) == math.inf
    assert flow.hitting_time(1e3, of="parameters") == math.inf


def test_hitting_time_converges_with_the_tolerance():
    times = [
        gradient_flow(plateau(12.0), *start(), t_max=40.0, rtol=rtol).hitting_time(0.05)
        for rtol in (1e-4, 1e-6, 1e-8, 1e-9)
    ]
    errors = np.abs(np.array(times[:3]) / times[3] - 1)
    assert np.all(errors < [1e-3, 1e-5, 1e-7])
    assert errors[2] < errors[0] / 100


def test_flow_reaches_a_target_it_can_express():
    flow = gradient_flow(Exponential(1.0), [0.7], [1.5], t_max=1e3)
    assert flow.weights[-1] == pytest.approx([1.0], abs=1e-6)
    assert flow.rates[-1] == pytest.approx([1.0], abs=1e-6)


def test_flow_that_sends_a_rate_towards_zero_ends_at_a_thousandth_of_it():
    # the target's own rate is below the floor, so that the flow cannot stop before
    flow = gradient_flow(Exponential(1e-4), [0.7], [0.2], t_max=1e3)
    assert flow.t[-1] < 1.0
    assert flow.rates[-1] == pytest.approx([0.2e-3], rel=1e-6)
    assert np.isfinite(flow.losses).all()


BAD = {
    "kernel": (lambda: KernelLoss(1.0), "expected kernel to be a Kernel, got 1.0"),
    "with-something-else": (
        lambda: KernelLoss(Exponential(1.0) + kernels.Airy(2.0)),
        "expected a sum of exponentials with real rates and bumps",
    ),
    "unsupported": (lambda: KernelLoss(kernels.Airy(2.0)), "expected a sum of exponentials with real rates and bumps"),
    "complex": (
        lambda: KernelLoss(ExponentialSum([1 + 1j, 1 - 1j], [1.0, 1.0])),
        "expected a sum of exponentials with real rates and bumps",
    ),
    "shapes": (lambda: KernelLoss(Exponential(1.0))([1.0], [1.0, 2.0]), r"of one shape \(m,\), got \(1,\) and \(2,\)"),
    "rank": (lambda: KernelLoss(Exponential(1.0))([[1.0]], [[1.0]]), r"of one shape \(m,\), got \(1, 1\)"),
    "empty": (lambda: KernelLoss(Exponential(1.0))([], []), r"of one shape \(m,\), got \(0,\)"),
    "rate": (lambda: KernelLoss(Exponential(1.0)).gradient([1.0], [0.0]), "finite weights and positive rates"),
    "nan": (lambda: KernelLoss(Exponential(1.0)).hessian([math.nan], [1.0]), "finite weights and positive rates"),
    "t_max": (lambda: gradient_flow(Exponential(1.0), [1.0], [2.0], t_max=0.0), "expected t_max > 0, got 0.0"),
    "rtol": (lambda: gradient_flow(Exponential(1.0), [1.0], [2.0], rtol=-1.0), "expected rtol > 0, got -1.0"),
    "delta": (lambda: gradient_flow(Exponential(1.0), [1.0], [2.0]).hitting_time(0.0), "expected delta > 0, got 0.0"),
    "of": (
        lambda: gradient_flow(Exponential(1.0), [1.0], [2.0]).hitting_time(0.1, of="weights"),
        r"expected of among \['loss', 'parameters'\], got 'weights'",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_says_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()
