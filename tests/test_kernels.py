import itertools
import math
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special
from scipy.optimize import brentq

from cmlib import ExponentialSum
from cmlib.kernels import (
    Airy,
    Bump,
    Custom,
    Exponential,
    ExponentialMixture,
    Kernel,
    Polynomial,
    Shifted,
    Sum,
    complete,
    l1_distance,
    l2_distance,
    terms,
)

EPS = np.finfo(float).eps

KERNELS = {
    "exponential": Exponential(0.1),
    "mixture": ExponentialMixture(0.1, 2.0),
    "mixture-narrow": ExponentialMixture(1.0, 1.001),
    "mixture-wide": ExponentialMixture(1e-3, 1e3),
    "polynomial": Polynomial(1.1),
    "polynomial-integer": Polynomial(2.0, scale=3.0),
    "polynomial-steep": Polynomial(4.5, scale=0.2),
    "airy": Airy(6.0),
    "airy-oscillating": Airy(20.0),
    "airy-decaying": Airy(-1.0),
    "bump": Bump(8.0, 0.5),
    "bump-cut": Bump(-1.0, 2.0),
    "shifted": Shifted(Exponential(1.0), 3.0),
    "sum-positive": Sum([Polynomial(1.5), Bump(5.0, 1.0)], [2.0, 0.5]),
    "sum-negative": Sum([Exponential(1.0), Exponential(3.0)], [-1.0, -2.0]),
    "sum-two-signs": Sum([Exponential(1.0), Exponential(3.0), Polynomial(1.5)], [1.0, -3.0, 0.1]),
    "sum-jump": Sum([Exponential(1.0), Shifted(Exponential(1.0), 3.0)], [1.0, -3.0]),
    "sum-airy": Sum([Airy(6.0), Exponential(1.0)], [1.0, -1.5]),
    "sum-nested": Shifted(Sum([Sum([Exponential(1.0), Exponential(2.0)], [1.0, -1.5])], [2.0]), 1.0),
    "sum-narrow-and-far": Sum([Exponential(0.001), Bump(500.0, 0.01)], [1.0, -2.0]),
}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request):
    return request.param


TRANSFORMED = {name: k for name, k in KERNELS.items() if "airy" not in name}


@pytest.fixture(params=TRANSFORMED.values(), ids=TRANSFORMED.keys())
def transformed(request):
    return request.param


def parts(kernel):
    match kernel:
        case Sum(kernels=inner):
            return [part for k in inner for part in parts(k)]
        case Shifted(kernel=inner):
            return [kernel, *parts(inner)]
    return [kernel]


def jumps_and_peaks(kernel):
    """Times at which quadrature must split, found apart from the library's own grid."""
    points = {0.0}
    for part in parts(kernel):
        match part:
            case Shifted(delay=delay):
                points.add(delay)
            case Bump(center=c, width=w):
                points.update(c + w * k for k in (-9, -4, -2, -1, 0, 1, 2, 4, 9))
            case Airy(shift=shift):
                points.update(np.linspace(0.0, max(shift, 0.0) + 16.0, 24))
    return sorted(p for p in points if p >= 0)


def mass(kernel):
    """Return the L1 norm of all parts together, against which the rounding of a sum's tail is measured."""
    return sum(part.l1_norm() for part in parts(kernel))


def quadrature(integrand, kernel, low=0.0, high=math.inf, also=()):
    """Return int_low^high of the integrand and a bound on its error: scipy's own, rounding, the cut at e^330.

    In u = log(1 + t), where the heaviest tail, (1 + t)^{-1.1}, has shrunk to e^{-33} of itself at u = 330.
    """
    low, high = math.log1p(low), min(math.log1p(high), 330.0)
    ladder = [0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 32, 64, 128]
    inner = {u for u in [*(math.log1p(t) for t in (*jumps_and_peaks(kernel), *also)), *ladder] if low < u < high}
    splits = [low, *sorted(inner), high]
    total = error = mass = 0.0
    for left, right in itertools.pairwise(splits):
        value, estimate = integrate.quad(
            lambda u: integrand(math.expm1(u)) * math.exp(u),
            left,
            right,
            epsabs=1e-14,
            epsrel=1e-13,
            limit=200,
        )
        total, error, mass = total + value, error + estimate, mass + abs(value)
    return total, error + (64 * EPS + math.exp(-32.0)) * mass


def sign_changes(kernel):
    """Times at which the kernel changes sign, from an even grid in log(1 + t) and one around each peak."""
    grid = np.expm1(np.linspace(0.0, 40.0, 40_001))
    grid = np.unique(np.concatenate([grid, *(c + np.linspace(-0.1, 0.1, 2001) for c in jumps_and_peaks(kernel))]))
    grid = grid[grid >= 0]
    values = kernel(grid)
    grid, signs = grid[values != 0], np.sign(values[values != 0])
    return [brentq(kernel, grid[i], grid[i + 1]) for i in np.flatnonzero(np.diff(signs))]


# ---- integrals -----------------------------------------------------------------------------------


def test_l1_norm_equals_quadrature(kernel):
    expected, bound = quadrature(lambda t: abs(kernel(t)), kernel, also=sign_changes(kernel))
    assert abs(kernel.l1_norm() - expected) <= bound + 16 * EPS * mass(kernel)


def test_tail_falls_by_the_integral_of_rho(kernel):
    for low, high in itertools.pairwise([0.0, 0.3, 2.0, 7.0, 40.0, 510.0, 1e4]):
        expected, bound = quadrature(kernel, kernel, low, high)
        assert abs(kernel.tail(low) - kernel.tail(high) - expected) <= bound + 16 * EPS * mass(kernel)


def test_tail_vanishes_at_infinity(kernel):
    assert kernel.tail(math.inf) == 0.0


def test_tail_at_zero_equals_l1_norm_when_nonnegative(kernel):
    if kernel.nonnegative:
        assert kernel.tail(0.0) == pytest.approx(kernel.l1_norm(), rel=16 * EPS)
    else:
        assert abs(kernel.tail(0.0)) <= kernel.l1_norm()


def test_nonnegative_is_true_only_without_sign_change(kernel):
    values = kernel(np.linspace(0.0, 40.0, 4001))
    assert not (kernel.nonnegative and values.min() < 0)


# ---- Laplace transforms --------------------------------------------------------------------------


def test_laplace_at_zero_equals_tail_at_zero(transformed):
    kernel = transformed
    assert abs(kernel.laplace(0.0) - kernel.tail(0.0)) <= 16 * EPS * mass(kernel)


@pytest.mark.parametrize("s", [1e-6, 1e-3, 0.3, 10.0, 1e3])
def test_laplace_equals_quadrature(transformed, s):
    kernel = transformed
    closed = kernel.laplace(s)
    scale = closed or 1.0  # a delay of 3 at s = 1e3 underflows; otherwise the ratio tests relative accuracy
    starts = {0.0, *(part.delay for part in parts(kernel) if isinstance(part, Shifted))}
    also = [t + x / s for t in starts for x in (0.1, 1, 3, 8, 20, 60)]
    expected, bound = quadrature(lambda t: math.exp(-s * t) * kernel(t) / scale, kernel, also=also)
    assert abs(closed / scale - expected) <= bound


def test_polynomial_laplace_equals_the_exponential_integral():
    z = np.geomspace(1e-6, 300.0, 200)
    for n in (2, 3, 7):
        np.testing.assert_allclose(Polynomial(n).laplace(z), np.exp(z) * special.expn(n, z), rtol=0, atol=1e-12)
        np.testing.assert_allclose(Polynomial(n).laplace(z) / np.exp(z), special.expn(n, z), rtol=2e-13)


@pytest.mark.parametrize("p", [1.0001, 1.1, 1.5, 2.0, 3.3, 20.0])
def test_polynomial_laplace_satisfies_its_recurrence(p):
    s, c = np.concatenate([[0.0, 1e-12], np.geomspace(1e-6, 1e3, 91)]), 0.7
    lower, upper = (Polynomial(q, scale=c).laplace(s) for q in (p, p + 1.0))
    np.testing.assert_allclose(c * p * upper + s * lower, 1.0, rtol=32 * EPS)  # integration by parts


def test_laplace_of_bump_does_not_overflow():
    s = np.geomspace(1e-6, 1e3, 60)
    values = Bump(100.0, 0.1).laplace(s)
    assert np.isfinite(values).all() and (np.diff(values) <= 0).all()
    small = s < 1.0
    gaussian = math.sqrt(2 * math.pi) * 0.1 * np.exp(s * (s * 0.1**2 / 2 - 100.0))
    np.testing.assert_allclose(values[small], gaussian[small], rtol=200 * EPS)  # e^{-100} has 100 eps


@pytest.mark.parametrize("s", [0.0, 0.3, 10.0])
@pytest.mark.parametrize("name", ["airy", "airy-oscillating", "airy-decaying", "sum-airy"])
def test_laplace_without_closed_form_equals_quadrature(name, s):
    kernel = KERNELS[name]
    expected, bound = quadrature(lambda t: math.exp(-s * t) * kernel(t), kernel, also=[x / (s + 1) for x in (1, 5, 20)])
    assert abs(kernel.laplace(s) - expected) <= bound + 1e-10 * mass(kernel)  # cells are resolved to 1e-11 of the area


# ---- single kernels ------------------------------------------------------------------------------


@pytest.mark.parametrize("a, b", [(0.1, 2.0), (1.0, 1.0 + 1e-9), (1e-3, 1e3)])
def test_mixture_equals_quadrature_over_rates(a, b):
    kernel = ExponentialMixture(a, b)
    for t in (0.0, 1e-300, 1e-9, 0.4 / b, 0.6 / b, 1.0, 20.0 / a):
        v, error = integrate.quad(lambda v, t=t: math.exp(v - math.exp(v) * t), math.log(a), math.log(b), epsabs=0)
        ratio = (math.exp(math.log(b)) - math.exp(math.log(a))) / (b - a)  # the logarithms' own rounding
        assert kernel(t) == pytest.approx(v / (b - a) / ratio, rel=64 * EPS + error / v)


@pytest.mark.parametrize("a, b", [(0.1, 2.0), (1e-3, 1e3)])
def test_mixture_tail_equals_difference_of_exponential_integrals(a, b):
    t = np.geomspace(0.1 / b, 300.0 / a, 60)
    expected = (special.exp1(a * t) - special.exp1(b * t)) / (b - a)
    np.testing.assert_allclose(ExponentialMixture(a, b).tail(t), expected, rtol=512 * EPS)  # e^{-at} has a t eps


def test_mixture_slope_at_zero_is_minus_the_mean_rate():
    t = torch.tensor([0.0, 1e-300, 1e-12], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ExponentialMixture(0.1, 2.0)(t).sum(), t)
    torch.testing.assert_close(slope, torch.full_like(slope, -1.05), rtol=1e-11, atol=0)


@pytest.mark.parametrize("shift", [20.0, 60.0, 400.0])
def test_airy_integral_equals_scipy_where_scipy_is_exact(shift):
    # scipy.special.itairy takes asymptotic series there; wrong between -15 and 10. Phases: eps
    phase = 2.0 / 3.0 * shift**1.5
    expected = 1.0 / 3.0 + special.itairy(shift)[2]
    assert Airy(shift).tail(0.0) == pytest.approx(expected, rel=0, abs=EPS * (16 + phase))


def test_airy_tail_keeps_relative_accuracy_while_decaying():
    x = np.array([12.0, 30.0, 80.0])  # DLMF 9.7.5 and 9.10.4, three terms: relative error below 15 / zeta^3
    zeta = 2.0 / 3.0 * x**1.5
    leading = np.exp(-zeta) / (2.0 * math.sqrt(math.pi) * x**0.75)
    expected = leading * (1.0 - 41.0 / (72.0 * zeta) + 9241.0 / (10368.0 * zeta**2))
    assert (np.abs(Airy(0.0).tail(x) / expected - 1.0) <= 15.0 / zeta**3).all()


def test_airy_is_zero_where_scipy_gives_nan():
    assert Airy(6.0)(1e30) == 0.0
    assert Airy(6.0)(torch.tensor(1e30)) == 0.0


@pytest.mark.parametrize("order", [1, 2, 3])
def test_airy_satisfies_its_differential_equation_in_torch(order):
    t = torch.linspace(0.0, 20.0, 50, dtype=torch.float64, requires_grad=True)
    rho, derivatives = Airy(6.0)(t), []
    derivatives.append(rho)
    for _ in range(order):
        derivatives.append(torch.autograd.grad(derivatives[-1].sum(), t, create_graph=True)[0])
    x = (t - 6.0).detach()
    expected = {
        1: torch.as_tensor(special.airy(x.numpy())[1]),
        2: x * rho,
        3: rho + x * derivatives[1],
    }[order]
    torch.testing.assert_close(derivatives[order], expected, rtol=16 * EPS, atol=0)


def test_shifted_is_zero_before_its_delay_and_the_kernel_after():
    kernel, inner = Shifted(Polynomial(1.5), 2.0), Polynomial(1.5)
    t = np.array([0.0, 1.0, 2.0, 2.5, 100.0])
    np.testing.assert_array_equal(kernel(t), [0.0, 0.0, *inner(t[2:] - 2.0)])
    np.testing.assert_array_equal(kernel.tail(t), [*(2 * [inner.l1_norm()]), *inner.tail(t[2:] - 2.0)])
    np.testing.assert_array_equal(Shifted(inner, 0.0)(t), inner(t))


def test_sum_is_linear():
    k1, k2, t = Polynomial(1.5), Bump(3.0, 1.0), np.linspace(0.0, 9.0, 10)
    total = Sum([k1, k2], [2.0, -0.5])
    for of in (lambda k: k(t), lambda k: k.tail(t), lambda k: k.laplace(t)):
        np.testing.assert_array_equal(of(total), 2.0 * of(k1) - 0.5 * of(k2))


def test_sum_takes_any_iterable_and_keeps_tuples():
    expected = Sum((Exponential(1.0), Exponential(2.0)), (1.0, -1.0))
    assert Sum((Exponential(r) for r in (1, 2)), np.array([1, -1])) == expected
    assert hash(expected) == hash(Sum([Exponential(1.0), Exponential(2.0)], torch.tensor([1.0, -1.0])))
    assert all(type(w) is float for w in expected.weights)


def test_l1_norm_with_one_sign_change_equals_hand_calculation():
    # e^{-t} - 3/2 e^{-2t} changes sign where e^{-t} = 2/3: 2 (tail there) - tail(0) = 2 (2/3 - 1/3) - 1/4
    kernel = Sum([Exponential(1.0), Exponential(2.0)], [1.0, -1.5])
    assert kernel.l1_norm() == pytest.approx(5.0 / 12.0, rel=8 * EPS)


def test_l1_norm_is_exact_across_jumps():
    # e^{-t} on [0, 2), then e^{-t} - 3 e^{-(t - 2)} < 0
    kernel = Sum([Exponential(1.0), Shifted(Exponential(1.0), 2.0)], [1.0, -3.0])
    expected = (1.0 - math.exp(-2.0)) + (3.0 - math.exp(-2.0))
    assert kernel.l1_norm() == pytest.approx(expected, rel=8 * EPS)


def test_l1_norm_of_rounding_noise_is_rounding_noise():
    rates, weights = np.geomspace(1e-3, 10.0, 48), (-1.0) ** np.arange(48)
    kernel = Sum([Exponential(r) for r in rates], weights)
    noisy = Sum([Exponential(r * (1.0 + EPS)) for r in rates], weights)
    # thousands of sign changes, each as uncertain as the tails
    assert l1_distance(kernel, noisy) <= 64 * 990 * EPS * mass(kernel)


@pytest.mark.parametrize("shift, exponent", [(6.0, 1.1), (20.0, 1.05)])
def test_l1_norm_of_sum_is_finite_when_one_part_decays_far_later(shift, exponent):
    early, late = Airy(shift), Polynomial(exponent)
    total, far = Sum([early, late], [1.0, -0.2]).l1_norm(), 0.2 * late.l1_norm()
    assert abs(early.l1_norm() - far) <= total <= early.l1_norm() + far


def test_l1_norm_takes_kernels_written_elsewhere():
    @dataclass(frozen=True)
    class Gamma:  # t e^{-t}
        nonnegative = True

        def __call__(self, t):
            return np.asarray(t, dtype=float) * np.exp(-np.asarray(t, dtype=float))

        def l1_norm(self):
            return 1.0

        def tail(self, t):
            t = np.minimum(t, 800.0)
            return (1.0 + t) * np.exp(-t)

    assert isinstance(Gamma(), Kernel)
    # t e^{-t} - e^{-t} changes sign at t = 1, where its integral from 0 is -1/e
    assert Sum([Gamma(), Exponential(1.0)], [1.0, -1.0]).l1_norm() == pytest.approx(2 / math.e, rel=8 * EPS)


# ---- kernels that declare little --------------------------------------------------------------------


def swinging(t, rate=0.01, frequency=5.0):
    return np.exp(-rate * t) * np.cos(frequency * t)


def area_of_swings(rate=0.01, frequency=5.0):
    """int |e^{-at} cos wt|: the first quarter turn, then half turns that shrink by q each."""
    q, t0, size = math.exp(-rate * math.pi / frequency), math.pi / 2 / frequency, rate**2 + frequency**2
    last = frequency * math.exp(-rate * t0)
    return (last + rate) / size + last * (1 + q) / (1 - q) / size


class OldProtocol:
    """A user's kernel with a closed tail that says nothing of its oscillation."""

    nonnegative = False

    def __call__(self, t):
        return swinging(t)

    def tail(self, t):
        z = 0.01 + 5j
        return (np.exp(-z * np.minimum(t, 1e4)) / z).real

    def l1_norm(self):
        return area_of_swings()


NOTHING = Sum([Exponential(1.0)], [0.0])


@pytest.mark.parametrize(
    "make", [OldProtocol, lambda: swinging, lambda: Custom(swinging)], ids=["old", "plain", "custom"]
)
def test_an_oscillation_that_is_not_declared_is_seen(make):
    assert l1_distance(make(), NOTHING) == pytest.approx(area_of_swings(), rel=1e-9)
    assert complete(make()).l1_norm() == pytest.approx(area_of_swings(), rel=1e-9)


CLOSED = {  # a function and the kernel of ours that has its closed forms
    "exponential": (lambda t: np.exp(-0.1 * t), KERNELS["exponential"]),
    "heavy": (lambda t: (1 + t) ** -1.1, KERNELS["polynomial"]),
    "bump": (lambda t: np.exp(-0.5 * ((t - 8.0) / 0.5) ** 2), KERNELS["bump"]),
    "oscillating": (lambda t: special.airy(np.minimum(t - 20.0, 110.0))[0], KERNELS["airy-oscillating"]),
    "jump": (lambda t: np.where(t < 3.0, 0.0, np.exp(3.0 - np.maximum(t, 3.0))), KERNELS["shifted"]),
    "two-signs": (lambda t: np.exp(-t) - 3 * np.exp(-3 * t) + 0.1 * (1 + t) ** -1.5, KERNELS["sum-two-signs"]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_plain_function_has_the_integrals_of_its_closed_form(name):
    function, exact = CLOSED[name]
    found, t, size = Custom(function), np.array([0.0, 0.3, 2.0, 7.5, 40.0]), mass(exact)
    # every cell is resolved to 1e-11 of its area
    for value, expected in (
        (found(t), exact(t)),
        (found.tail(t), exact.tail(t)),
        (found.integral(t), exact.integral(t)),
        (found.laplace([0.0, 0.3, 20.0]), exact.laplace([0.0, 0.3, 20.0])),
        (found.l1_norm(), exact.l1_norm()),
        (found.l1_norm(9.0), exact.l1_norm(9.0)),
        (l1_distance(function, Exponential(0.5)), l1_distance(exact, Exponential(0.5))),
    ):
        assert np.abs(value - expected).max() <= 1e-10 * size
    assert found.tail(math.inf) == 0.0 and isinstance(found.tail(1.0), float)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda t: (1 + t) ** -0.7, "expected a kernel whose integral exists.*pass a finite horizon="),
        (lambda t: np.ones_like(t), "expected a kernel whose integral exists"),
        (lambda t: np.sinc(t), "samples resolve.*pass a horizon="),
        (lambda t: np.where((t > 3) & (t < 4), np.nan, np.exp(-t)), "expected a kernel of finite values, got nan"),
        (lambda t: np.exp(-t) / np.sqrt(t), "expected a kernel of finite values, got inf near t = 0"),
    ],
)
def test_an_integral_that_does_not_exist_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        Custom(function).tail(0.0)


def test_what_overflows_after_it_has_vanished_is_taken_for_zero():
    assert Custom(lambda t: t**4 * np.exp(-t)).tail(0.0) == pytest.approx(24.0, rel=1e-11)  # inf * 0 at 1e77


def test_a_peak_too_narrow_to_be_found_is_found_where_it_is_declared():
    def peak(t):
        return np.exp(-0.5 * ((t - 500.0) / 0.01) ** 2)

    assert Custom(peak).tail(0.0) == 0.0  # as the docstring says
    declared = Custom(peak, features=lambda horizon: [499.97, 500.0, 500.03])
    assert declared.tail(0.0) == pytest.approx(Bump(500.0, 0.01).tail(0.0), rel=1e-10)


def test_declared_closed_forms_are_used():
    fake = Custom(
        lambda t: np.exp(-t),
        nonnegative=True,
        tail=lambda t: 7.0 + 0 * t,
        l1_norm=lambda: 8.0,
        laplace=lambda s: 9.0 + 0 * s,
    )
    assert (fake.nonnegative, fake.tail(1.0), fake.l1_norm(), fake.laplace(1.0)) == (True, 7.0, 8.0, 9.0)
    slow = Custom(lambda t: (1 + t) ** -1.001, tail=Polynomial(1.001).tail)  # beyond what quadrature reaches
    assert slow.laplace(0.0) == slow.l1_norm() == pytest.approx(1000.0, rel=1e-9)
    assert fake.tail(math.inf) == 0.0  # closed forms need not know infinity
    assert Custom(lambda t: np.exp(-t), integral=lambda t: 5.0 * t).integral(2.0) == 10.0


def test_complete_leaves_ours_alone_and_wraps_the_rest_once(kernel):
    assert complete(kernel) is kernel
    wrapped = complete(OldProtocol())
    assert complete(wrapped) is wrapped and wrapped.l1_norm() == area_of_swings()


def test_plain_functions_are_targets_of_torch_too():
    kernel = 2.0 * Custom(lambda t: (1 + t) ** -1.5) - Exponential(1.0)
    t = torch.linspace(0.0, 4.0, 6).reshape(2, 3)
    torch.testing.assert_close(kernel(t), 2 * (1 + t) ** -1.5 - torch.exp(-t))


# ---- long memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.3, 0.5, 0.999, 1.0])
def test_long_memory_has_its_area_up_to_any_horizon(p):
    kernel, horizon = Polynomial(p, scale=0.7), 300.0
    u = math.log1p(0.7 * horizon)
    expected = (u if p == 1 else math.expm1((1 - p) * u) / (1 - p)) / 0.7
    assert kernel.l1_norm(horizon) == pytest.approx(expected, rel=8 * EPS)
    assert kernel.integral(horizon) == pytest.approx(expected, rel=8 * EPS)
    by_quadrature, bound = quadrature(lambda t: abs(kernel(t) - math.exp(-t)), kernel, high=horizon)
    assert abs(l1_distance(kernel, Exponential(1.0), horizon) - by_quadrature) <= bound + 16 * EPS * expected


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize(
    "what",
    [
        lambda k: k.l1_norm(),
        lambda k: k.tail(1.0),
        lambda k: k.integral(math.inf),
        lambda k: k.laplace(0.0),
        lambda k: l1_distance(k, Exponential(1.0)),
        lambda k: Shifted(k, 1.0).l1_norm(),
        lambda k: (k + Exponential(1.0)).tail(0.0),
    ],
)
def test_long_memory_has_no_mass_on_all_times_and_names_the_horizon(what, p):
    with pytest.raises(ValueError, match="exponent > 1.*horizon="):
        what(Polynomial(p))


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_laplace_transform_of_long_memory_satisfies_its_recurrence(p):
    s = np.geomspace(1e-4, 1e3, 40)
    lower, upper = (Polynomial(q, scale=0.7).laplace(s) for q in (p, p + 1.0))
    np.testing.assert_allclose(0.7 * p * upper + s * lower, 1.0, rtol=1e-12)


def test_square_integrable_long_memory_has_its_l2_norm():
    assert l2_distance(Polynomial(0.7), NOTHING) == pytest.approx(0.4**-0.5, rel=1e-12)
    with pytest.raises(ValueError, match="expected a square-integrable kernel, or a finite horizon="):
        l2_distance(Polynomial(0.5), NOTHING)
    assert l2_distance(Polynomial(0.5), NOTHING, 99.0) == pytest.approx(math.log(100.0) ** 0.5, rel=1e-12)


# ---- + - * -------------------------------------------------------------------------------------------


def test_kernels_add_and_scale_as_functions_do(kernel):
    other, t = ExponentialSum([0.5, 1 + 2j, 1 - 2j], [1.0, 0.5j, -0.5j]), np.linspace(0.0, 30.0, 61)
    for combined, expected in (
        (kernel + other, kernel(t) + other(t)),
        (kernel - other, kernel(t) - other(t)),
        (-kernel, -kernel(t)),
        (2 * kernel, 2 * kernel(t)),
        (np.float64(0.5) * (other + kernel * 3), 0.5 * other(t) + 1.5 * kernel(t)),
        (swinging + kernel, swinging(t) + kernel(t)),
        (swinging - kernel, swinging(t) - kernel(t)),
        (kernel - swinging, kernel(t) - swinging(t)),
    ):
        np.testing.assert_allclose(combined(t), expected, rtol=0, atol=32 * EPS * (1 + magnitude(kernel, t).max()))


def test_sums_of_sums_are_flat():
    a, b, c = Exponential(1.0), Exponential(2.0), Bump(3.0, 1.0)
    assert 2 * (a - b) + c == Sum([a, b, c], [2.0, -2.0, 1.0])


def test_closed_terms_go_through_sums_until_a_part_has_none():
    (weights, rates), (heights, centers, widths) = terms(2 * (Exponential(0.3) - Bump(4.0, 0.5)) + 3 * Exponential(1.0))
    assert (weights.tolist(), rates.tolist()) == ([2.0, 3.0], [0.3, 1.0])
    assert (heights.tolist(), centers.tolist(), widths.tolist()) == ([-2.0], [4.0], [0.5])
    assert terms(Exponential(0.3) + Airy(2.0)) is None and terms(Custom(swinging)) is None


# ---- times -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [-1.0, -1e-300, math.nan])
def test_times_below_zero_raise_however_small(kernel, before):
    for call in (kernel, kernel.tail, lambda t: kernel(torch.as_tensor(t)), kernel.integral):
        with pytest.raises(ValueError, match="expected t >= 0, got"):
            call(np.array([0.5, before]))
    assert kernel(-0.0) == kernel(0.0)


# ---- distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [0.7, 12.0, math.inf])
def test_l2_distance_equals_quadrature(kernel, horizon):
    other = Exponential(0.5)
    also = [part.delay for part in parts(kernel) if isinstance(part, Shifted)]
    expected, bound = quadrature(lambda t: (kernel(t) - other(t)) ** 2, kernel, high=horizon, also=also)
    assert abs(l2_distance(kernel, other, horizon) ** 2 - expected) <= 2 * bound + 64 * EPS * expected


def test_l1_distance_of_ordered_kernels_is_the_difference_of_their_norms():
    a, b = Exponential(0.2), Exponential(3.0)
    assert l1_distance(a, b) == pytest.approx(5.0 - 1.0 / 3.0, rel=8 * EPS)
    assert l1_distance(a, b, horizon=2.0) == pytest.approx(
        (1 - math.exp(-0.4)) * 5.0 - (1 - math.exp(-6.0)) / 3.0, rel=32 * EPS
    )


def test_l1_distance_equals_quadrature_up_to_its_horizon(kernel):
    other = Exponential(0.5)
    difference = Sum([kernel, other], [1.0, -1.0])
    for horizon in (0.7, 12.0, math.inf):
        expected, bound = quadrature(
            lambda t: abs(difference(t)), difference, high=horizon, also=sign_changes(difference)
        )
        assert abs(l1_distance(kernel, other, horizon=horizon) - expected) <= bound + 16 * EPS * mass(difference)


def test_l1_distance_to_itself_is_zero(kernel):
    assert l1_distance(kernel, kernel) == 0.0


# ---- torch and numpy -----------------------------------------------------------------------------

TIMES = np.concatenate([[0.0, 1e-9, 1e-3], np.linspace(0.01, 30.0, 301), [500.0, 1e4]])


# properties, on kernels drawn by hypothesis

drawn = settings(derandomize=True, deadline=None, database=None, max_examples=40)
rates = st.floats(1e-3, 1e3)


@st.composite
def nonnegative_kernels(draw, depth=2):
    kinds = ["exponential", "mixture", "polynomial", "bump"] + ["sum", "shifted"] * (depth > 0)
    match draw(st.sampled_from(kinds)):
        case "exponential":
            return Exponential(draw(rates))
        case "mixture":
            slowest = draw(rates)
            return ExponentialMixture(slowest, slowest * (1 + draw(st.floats(1e-3, 1e3))))
        case "polynomial":
            return Polynomial(draw(st.floats(1.05, 6.0)), draw(rates))
        case "bump":
            return Bump(draw(st.floats(-3.0, 50.0)), draw(st.floats(1.0, 5.0)))
        case "shifted":
            return Shifted(draw(nonnegative_kernels(depth - 1)), draw(st.floats(0.0, 20.0)))
    inner = draw(st.lists(nonnegative_kernels(depth - 1), min_size=1, max_size=3))
    return Sum(inner, [draw(st.floats(0.1, 10.0)) for _ in inner])


def close(a, b, scale):
    return abs(a - b) <= 1e-10 * scale


TIMES = np.append(0.0, np.geomspace(1e-4, 1e4, 60))


@drawn
@given(nonnegative_kernels())
def test_nonnegative_kernels_are_so_and_their_tails_fall(kernel):
    tail = kernel.tail(TIMES)
    assert kernel.nonnegative
    assert np.all(kernel(TIMES) >= 0)
    assert np.all(np.diff(tail) <= 1e-13 * tail[0])
    assert kernel.l1_norm() == pytest.approx(tail[0], rel=1e-13)


@drawn
@given(nonnegative_kernels())
def test_laplace_transform_of_nonnegative_kernels_is_completely_monotone(kernel):
    s = np.linspace(0.0, 8.0, 17) / kernel.l1_norm()
    values = kernel.laplace(s)
    scale = values[0]
    assert close(values[0], kernel.tail(0.0), scale)
    for order in range(4):  # differences of even order are positive, of odd order negative
        assert np.all((-1) ** order * np.diff(values, order) >= -1e-12 * scale)
    assert np.all(values[1:-1] ** 2 <= values[:-2] * values[2:] * (1 + 1e-10))  # log-convex: Hoelder


@drawn
@given(nonnegative_kernels(), st.floats(0.0, 30.0), rates)
def test_shift_multiplies_the_laplace_transform(kernel, delay, s):
    expected = math.exp(-delay * s) * kernel.laplace(s)
    assert Shifted(kernel, delay).laplace(s) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@drawn
@given(nonnegative_kernels(), st.floats(1e-3, 1e3))
def test_tail_bounds_the_laplace_transform(kernel, s):
    # e^{-st} is 1 at most, and at least e^{-sT} up to T
    horizon = 1.0 / s
    least = math.exp(-1.0) * (kernel.tail(0.0) - kernel.tail(horizon))
    mass = kernel.tail(0.0)
    assert least - 1e-12 * mass <= kernel.laplace(s) <= mass * (1 + 1e-12)


@drawn
@given(nonnegative_kernels(1), nonnegative_kernels(1), nonnegative_kernels(1))
def test_l1_distance_is_a_metric(a, b, c):
    scale = a.l1_norm() + b.l1_norm() + c.l1_norm()
    distance = l1_distance(a, b)
    assert close(distance, l1_distance(b, a), scale)
    assert abs(a.l1_norm() - b.l1_norm()) - 1e-9 * scale <= distance
    assert distance <= l1_distance(a, c) + l1_distance(c, b) + 1e-9 * scale


def magnitude(kernel, t):
    """Return sum_i |w_i rho_i(t)|, against which a sum's rounding is measured."""
    match kernel:
        case Sum(kernels=inner, weights=weights):
            return sum(abs(w) * magnitude(k, t) for k, w in zip(inner, weights, strict=True))
        case Shifted(kernel=inner, delay=delay):
            return magnitude(inner, np.maximum(t - delay, 0.0))
    return np.abs(kernel(t))


def test_torch_equals_numpy(kernel):
    size = np.maximum(magnitude(kernel, TIMES), 1e-300)
    difference = np.abs(kernel(torch.as_tensor(TIMES)).numpy() - kernel(TIMES))
    assert (difference <= 8 * EPS * size * (1.0 + np.abs(np.log(size)))).all()  # e^{-x} is good to x eps


def test_torch_gradient_integrates_to_the_kernel(kernel):
    nodes, weights = np.polynomial.legendre.leggauss(40)
    knots = [*jumps_and_peaks(kernel), 40.0, 700.0]
    for low, gap in zip(knots, np.diff(knots), strict=False):
        if gap <= 0:
            continue
        width = min(0.01, gap / 2)
        t = torch.as_tensor(low + width * (1.0 + nodes) / 2, dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(kernel(t).sum(), t)
        integral = width / 2 * weights @ slope.numpy()
        change = kernel(low + width) - kernel(low)
        size = magnitude(kernel, t.detach().numpy()).max()
        # nodes are good to eps t; Ai(-20) to its phase, 60 eps
        tolerance = 128 * EPS * (size + (low + width) * slope.abs().max().item())
        assert abs(integral - change) <= tolerance


def test_torch_gradient_is_finite_everywhere(kernel):
    t = torch.as_tensor(TIMES).requires_grad_()
    (slope,) = torch.autograd.grad(kernel(t).sum(), t)
    assert torch.isfinite(slope).all()


def test_torch_dtype_and_shape_are_kept(kernel):
    t = torch.linspace(0.0, 4.0, 6, dtype=torch.float32).reshape(2, 3)
    assert kernel(t).dtype == torch.float32
    assert kernel(t).shape == (2, 3)


def test_torch_device_is_kept(transformed):
    assert transformed(torch.empty(3, device="meta")).device.type == "meta"  # any other device than the default


def test_numpy_is_float64_of_the_same_shape(kernel):
    for times in ([[0, 1, 2], [3, 4, 5]], np.arange(6, dtype=np.float32).reshape(2, 3)):
        for values in (kernel(times), kernel.tail(times)):
            assert isinstance(values, np.ndarray)
            assert values.shape == (2, 3) and values.dtype == np.float64
    for time in (1, 1.0, np.float32(1.0)):
        assert isinstance(kernel(time), float)
        assert isinstance(kernel.tail(time), float)
    assert isinstance(kernel.l1_norm(), float)
    assert kernel(np.empty(0)).shape == kernel.tail(np.empty(0)).shape == (0,)


def test_kernels_satisfy_the_protocol_and_are_frozen(kernel):
    assert isinstance(kernel, Kernel)
    assert hash(kernel) == hash(eval(repr(kernel)))
    assert kernel == eval(repr(kernel))
    with pytest.raises(FrozenInstanceError):
        kernel.nonnegative = True


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Exponential(0.0), r"expected rate > 0, got 0\.0"),
        (lambda: Exponential(-1), r"expected rate > 0, got -1"),
        (lambda: Exponential(math.nan), r"expected rate to be a finite number, got nan"),
        (lambda: Exponential(math.inf), r"expected rate to be a finite number, got inf"),
        (lambda: Exponential("fast"), r"expected rate to be a finite number, got 'fast'"),
        (lambda: Exponential(None), r"expected rate to be a finite number, got None"),
        (lambda: Exponential(1j), r"expected rate to be a finite number, got 1j"),
        (lambda: ExponentialMixture(0.0, 1.0), r"expected slowest > 0, got 0\.0"),
        (lambda: ExponentialMixture(2.0, 2.0), r"expected fastest > 2, got 2\.0"),
        (lambda: Polynomial(0.0), r"expected exponent > 0, got 0\.0"),
        (lambda: Polynomial(math.nan), r"expected exponent .* finite number, got nan"),
        (lambda: Polynomial("2"), r"expected exponent .* finite number, got '2'"),
        (lambda: Exponential(np.True_), r"expected rate .* finite number, got"),
        (lambda: Polynomial(1.5, scale=-1.0), r"expected scale > 0, got -1\.0"),
        (lambda: Airy(math.nan), r"expected shift to be a finite number, got nan"),
        (lambda: Airy(1001.0), r"expected shift <= 1000, got 1001\.0"),
        (lambda: Bump(math.inf, 1.0), r"expected center to be a finite number, got inf"),
        (lambda: Bump(1.0, 0.0), r"expected width > 0, got 0\.0"),
        (lambda: Shifted(Exponential(1.0), -1.0), r"expected delay >= 0, got -1\.0"),
        (lambda: Shifted(math.exp, 1.0), r"expected kernel to be a Kernel, got <built-in function exp>"),
        (lambda: Shifted(Exponential, 1.0), r"expected kernel to be a Kernel, got <class"),
        (lambda: complete(lambda t: "a"), r"which does not map two times to two real values"),
        (lambda: complete(lambda t: 1.0), r"two real values but to array\(1\.\)"),
        (lambda: complete(lambda t: t * 1j), r"two real values but to array"),
        (lambda: Custom(Exponential), r"expected a function t -> rho\(t\), got <class"),
        (lambda: Custom(np.exp, tail=3.0), r"expected tail to be a function, got 3\.0"),
        (lambda: Custom(np.exp, nonnegative="yes"), r"expected nonnegative to be True or False, got 'yes'"),
        (lambda: Custom(lambda t: t[:1])([1.0, 2.0]), r"expected real values of shape \(2,\) from"),
        (lambda: Custom(lambda t: t[:1])(torch.ones(2)), r"expected a tensor of shape \(2,\) from"),
        (lambda: terms(Custom(np.cos, modes=lambda: ([1.0], [1.0, 2.0]))), r"expected modes\(\) to return 2 arrays"),
        (lambda: terms(Custom(np.cos, modes=lambda: ([1.0], [-1.0]))), r"finite numbers, the last ones positive"),
        (lambda: Custom(np.cos, features=lambda horizon: ["a"]).l1_norm(), r"expected features to hold finite"),
        (lambda: Exponential(1.0) * "2", r"expected the factor of a kernel to be a finite number, got '2'"),
        (lambda: Exponential(1.0) * Exponential(1.0), r"expected the factor of a kernel to be a finite number"),
        (lambda: Exponential(1.0) + 2.0, r"expected a summand to be a Kernel, got 2\.0"),
        (lambda: 2.0 - Exponential(1.0), r"expected a summand to be a Kernel, got 2\.0"),
        (lambda: Exponential(1.0).l1_norm(-1.0), r"expected horizon > 0, got -1\.0"),
        (lambda: Exponential(1.0).laplace(-0.5), r"expected s >= 0, got -0\.5"),
        (lambda: Exponential(1.0)(["a"]), r"expected t to hold real numbers, got \['a'\]"),
        (lambda: Exponential(1.0)(1j), r"expected t to hold real numbers, got 1j"),
        (lambda: Exponential(1.0)(torch.ones(2) * 1j), r"expected t to hold real numbers, got torch.complex"),
        (lambda: Sum([], []), r"expected at least one kernel, got none"),
        (lambda: Sum([Exponential(1.0)], [1.0, 2.0]), r"expected one weight for each of 1 kernels, got 2"),
        (lambda: Sum([Exponential(1.0), 3.0], [1.0, 2.0]), r"expected kernels\[1\] to be a Kernel, got 3\.0"),
        (
            lambda: Sum([Exponential(1.0)], [math.nan]),
            r"expected weights\[0\] to be a finite number, got nan",
        ),
        (lambda: l1_distance(Exponential(1.0), 2.0), r"expected kernels\[1\] to be a Kernel, got 2\.0"),
        (
            lambda: l1_distance(Exponential(1.0), Exponential(2.0), horizon=0.0),
            r"expected horizon > 0, got 0\.0",
        ),
    ],
)
def test_bad_input_says_what_was_expected_and_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()
