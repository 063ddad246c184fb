"""exponential_sums: known sums come back, errors fall to rounding, realizations have the kernel they should."""

import numpy as np
import pytest
import torch
from scipy import integrate, linalg

import cmlib
from cmlib import kernels
from cmlib.exponential_sums import ExponentialSum

PAIR = ExponentialSum(np.array([1.0, 1 + 2j, 1 - 2j]), np.array([1.0, 0.5j, -0.5j]))  # e^{-t} (1 + sin 2t)
REAL = ExponentialSum(np.array([0.2, 1.5]), np.array([1.0, -0.4]))


@pytest.mark.parametrize("s", [REAL, PAIR], ids=["real", "pair"])
class TestClosedForms:
    def test_realization_has_the_same_kernel(self, s):
        W, U, c = s.realization()
        t = np.linspace(0, 8, 30)
        assert np.allclose([c @ linalg.expm(W * x) @ U for x in t], s(t), rtol=0, atol=1e-13)

    def test_realization_is_balanced(self, s):
        W, U, c = s.realization()
        assert linalg.norm(U) == pytest.approx(linalg.norm(c), rel=1e-14)
        assert np.allclose(W @ W.T, W.T @ W, atol=1e-14)  # normal

    def test_tail_and_norm_equal_quadrature(self, s):
        tail = integrate.quad(s, 0.7, 200, epsabs=1e-13, limit=400)[0]
        assert s.tail(0.7) == pytest.approx(tail, abs=1e-11)
        norm = integrate.quad(lambda t: abs(s(t)), 0, 200, epsabs=1e-12, limit=1000)[0]
        assert s.l1_norm() == pytest.approx(norm, abs=1e-8)

    def test_laplace_equals_quadrature(self, s):
        value = integrate.quad(lambda t: np.exp(-0.3 * t) * s(t), 0, 80, epsabs=1e-13, limit=400)[0]
        assert s.laplace(0.3) == pytest.approx(value, abs=1e-11)
        assert s.laplace(0.0) == pytest.approx(s.tail(0.0), rel=1e-14)

    def test_torch_and_numpy_agree(self, s):
        t = np.linspace(0, 5, 11)
        assert np.allclose(s(torch.tensor(t)).numpy(), s(t), rtol=0, atol=1e-15)
        assert s(torch.tensor(t, dtype=torch.float32)).dtype == torch.float32

    def test_a_fit_gets_it_back(self, s):
        fit = cmlib.exponential_sum(s, len(s.rates), times=0.1 * np.arange(1, 201))
        t = np.linspace(0, 20, 101)
        assert np.allclose(fit(t), s(t), rtol=0, atol=1e-12)
        by_phase = [rates[np.lexsort((rates.real, rates.imag))] for rates in (fit.rates + 0j, s.rates + 0j)]
        assert np.allclose(*by_phase, atol=1e-10)


@pytest.mark.parametrize("kernel", [kernels.Polynomial(1.1), kernels.ExponentialMixture(0.1, 1.0)])
def test_errors_fall_with_each_mode_to_rounding(kernel):
    t = np.arange(1.0, 101)
    errors = [np.abs(cmlib.exponential_sum(kernel, m, times=t)(t) - kernel(t)).max() for m in range(1, 15)]
    falling = [b < a for a, b in zip(errors, errors[1:], strict=False) if a > 1e-13]
    assert all(falling) and errors[-1] < 1e-12


@pytest.mark.parametrize("kernel", [kernels.Airy(4.0), kernels.Bump(8.0, 1.5)])
def test_kernels_that_are_not_monotone_get_oscillating_modes(kernel):
    t = np.arange(1, 201) * 0.1
    fits = [cmlib.exponential_sum(kernel, m, times=t) for m in (2, 4, 8)]
    errors = [np.abs(s(t) - kernel(t)).max() for s in fits]
    assert errors[2] < errors[1] < errors[0]
    assert all(s.rates.real.min() > 0 for s in fits) and np.iscomplexobj(fits[-1].rates)


def test_the_fit_is_stationary_in_every_rate():
    kernel, t = kernels.Polynomial(1.1), np.arange(1.0, 101)
    s = cmlib.exponential_sum(kernel, 4, times=t)

    def least_squares(log_rates):
        A = np.exp(-np.exp(log_rates) * t[:, None])
        return linalg.lstsq(A, kernel(t))[1]

    x, h = np.log(s.rates), 1e-3
    best = least_squares(x)
    for k in range(4):
        step = h * np.eye(4)[k]
        up, down = least_squares(x + step), least_squares(x - step)
        assert up > best and down > best
        # a slope of zero: both sides rise alike, up to the cubic term of a step h
        assert abs(up - down) < 10 * h * (up + down - 2 * best)


def test_fixed_rates_are_plain_least_squares():
    kernel, rates, t = kernels.Polynomial(1.1), np.array([0.05, 0.3, 1.0]), np.arange(1.0, 101)
    s = cmlib.exponential_sum(kernel, 3, rates=rates, times=t)
    expected = np.linalg.lstsq(np.exp(-rates * t[:, None]), kernel(t), rcond=None)[0]
    assert np.array_equal(s.rates, rates) and np.allclose(s.weights, expected, rtol=1e-10)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.5])
def test_every_rate_keeps_the_margin_and_the_price_is_a_larger_error(margin):
    kernel, t = kernels.Polynomial(1.1), np.arange(1.0, 101)
    free, held = (cmlib.exponential_sum(kernel, 4, margin=x, times=t) for x in (None, margin))
    assert held.rates.real.min() >= margin
    assert linalg.norm(held(t) - kernel(t)) > linalg.norm(free(t) - kernel(t))


@pytest.mark.parametrize("times", [None, np.arange(1.0, 101)], ids=["all", "paper"])
def test_one_exponential_needs_one_mode_whatever_the_width(times):
    s = cmlib.exponential_sum(kernels.Exponential(-np.log(0.9)), 8, times=times)
    assert s.rates == pytest.approx([-np.log(0.9)], rel=1e-12) and s.weights == pytest.approx([1.0], rel=1e-12)


def test_l1_error_is_the_kernel_distance():
    kernel = kernels.Exponential(0.2)
    s = ExponentialSum(np.array([0.2]), np.array([0.75]))
    assert s.l1_error(kernel) == pytest.approx(0.25 / 0.2, rel=1e-14)
    assert s.l1_error(kernel, 3.0) == pytest.approx(0.25 * -np.expm1(-0.6) / 0.2, rel=1e-13)


@pytest.mark.parametrize(
    "m, options, message",
    [
        (0, {}, "expected m to be an integer >= 1"),
        (2.0, {}, "expected m to be an integer >= 1"),
        (60, {"times": np.arange(1.0, 101)}, r"expected at least 2 m \+ 2 = 122 times"),
        (1, {"times": np.array([1.0, 2.0, np.nan, 4.0])}, "expected times to hold finite"),
        (1, {"times": np.array([1.0, 2.0, 4.0, 8.0])}, "expected equally spaced increasing times"),
        (1, {"times": np.array([4.0, 3.0, 2.0, 1.0])}, "expected equally spaced increasing times"),
        (2, {"margin": 0.0}, "expected margin > 0"),
        (2, {"horizon": 0.0}, "expected horizon > 0"),
        (2, {"horizon": np.nan}, "expected horizon to be a finite number"),
        (2, {"horizon": 9.0, "times": np.arange(1.0, 101)}, "expected times or a horizon, got both"),
        (2, {"rates": [0.1]}, "expected m = 2 rates"),
        (2, {"rates": [0.1, 0.2], "margin": 0.1}, "expected fixed rates or a margin"),
        (2, {"rates": [0.1, -0.2]}, "positive real part"),
        (2, {"rates": [0.1, np.nan]}, "expected rates to hold finite"),
    ],
)
def test_a_fit_rejects(m, options, message):
    with pytest.raises(ValueError, match=message):
        cmlib.exponential_sum(kernels.Polynomial(1.1), m, **options)


def test_a_fit_rejects_a_kernel_that_is_zero_where_it_is_sampled():
    with pytest.raises(ValueError, match="not zero on"):
        cmlib.exponential_sum(kernels.Exponential(1e4), 1, times=np.arange(1.0, 101))
    with pytest.raises(ValueError, match="expected kernel to be a Kernel"):
        cmlib.exponential_sum("polynomial", 1)


@pytest.mark.parametrize(
    "rates, weights, message",
    [
        (np.array([[1.0]]), np.array([[1.0]]), "expected rates and weights of one shape"),
        (np.array([1.0]), np.array([1.0, 2.0]), "expected rates and weights of one shape"),
        (np.array([]), np.array([]), "expected rates and weights of one shape"),
        (np.array([0.0]), np.array([1.0]), "positive real part"),
        (np.array([np.nan]), np.array([1.0]), "expected finite rates and weights"),
        (np.array(["a"]), np.array([1.0]), "expected finite rates and weights"),
    ],
)
def test_a_sum_rejects(rates, weights, message):
    with pytest.raises(ValueError, match=message):
        ExponentialSum(rates, weights)


def test_the_norm_sees_every_turn_of_a_slowly_decaying_oscillation():
    # int |e^{-rt} cos wt| = (1/r) <|cos|> for r << w, to order (r/w)^2; 5,000 turns outlast the decay
    s = ExponentialSum(np.array([0.01 + 5j, 0.01 - 5j]), np.array([0.5, 0.5]))
    half_turn = np.pi / 5
    t = half_turn * (np.arange(5000) + 0.5)  # the zeros of cos 5t, between which the integral has a closed form
    at = np.concatenate([[0.0], t, [np.inf]])
    assert s.l1_norm() == pytest.approx(np.abs(np.diff(s.tail(at))).sum(), rel=1e-6)
    assert s.l1_norm() == pytest.approx(100 * 2 / np.pi, rel=1e-3)


@pytest.mark.parametrize("rates, weights", [([0.5 + 1j], [1.0]), ([0.5 + 1j, 0.5 - 1j], [1j, 1j])])
def test_a_sum_rejects_complex_modes_without_their_conjugates(rates, weights):
    with pytest.raises(ValueError, match="expected complex rates in conjugate pairs"):
        ExponentialSum(rates, weights)


def test_modes_that_never_seem_to_decay_are_judged_up_to_a_horizon():
    s = ExponentialSum([1e-6 + 5j, 1e-6 - 5j], [0.5, 0.5])
    turns = 40  # of |cos|, each of area 2 / 5, shrunk by at most 1e-6 t
    assert s.l1_norm(turns * np.pi / 5) == pytest.approx(turns * 2 / 5, rel=1e-6 * turns)


def test_modes_that_never_seem_to_decay_are_refused_rather_than_misjudged():
    with pytest.raises(ValueError, match="expected modes that decay within"):
        ExponentialSum([1e-6 + 5j, 1e-6 - 5j], [0.5, 0.5]).l1_norm()


# Kernels of one time scale and of many, monotone and not, with the modes until double precision ends.
OPTIMAL = [
    (kernels.Polynomial(1.5), [1, 2, 4, 8, 16], 3.0),
    (kernels.Polynomial(2.0), [1, 2, 4, 8, 16, 32], 4.0),
    (kernels.ExponentialMixture(0.1, 1.0), [1, 2, 4, 6, 8], 2.2),
    (kernels.Airy(6.0), [1, 2, 3, 4, 6, 8, 10], 2.0),
    (kernels.Sum([kernels.Exponential(1), kernels.Bump(9, 0.5**0.5)], [1, 1]), [1, 2, 4, 8, 16, 24], 2.0),
    (kernels.Bump(8.0, 0.5), [2, 8, 16, 24], 2.0),
    (PAIR, [1, 2], 2.0),
]
NAMES = [type(kernel).__name__ + str(i) for i, (kernel, _, _) in enumerate(OPTIMAL)]


def hankel_norm(kernel, s):
    difference = kernels.Sum((kernel, s), (1.0, -1.0))
    return cmlib.hankel_singular_values(difference, 1, n_nodes=400)[0]


@pytest.mark.parametrize("kernel, widths, factor", OPTIMAL, ids=NAMES)
def test_free_fits_are_nearly_optimal_and_nothing_is_better_than_optimal(kernel, widths, factor):
    s = cmlib.hankel_singular_values(kernel, max(widths) + 1)
    for m in widths:
        error = hankel_norm(kernel, fit := cmlib.exponential_sum(kernel, m))
        # s_m+1 <= Hankel norm <= H_inf norm <= L1 norm, rounding aside
        assert s[m] * (1 - 1e-6) < error < min(factor * s[m], fit.l1_error(kernel) * (1 + 1e-6))


@pytest.mark.parametrize("kernel, widths, factor", OPTIMAL, ids=NAMES)
def test_errors_of_free_fits_fall_with_every_mode(kernel, widths, factor):
    errors = [hilbert_schmidt(kernel, cmlib.exponential_sum(kernel, m)) for m in range(1, min(max(widths), 12) + 1)]
    assert all(b < a for a, b in zip(errors, errors[1:], strict=False))


def hilbert_schmidt(kernel, s):
    # an independent quadrature of int t (rho - s)^2 dt, on log t
    u = np.linspace(np.log(1e-6), np.log(1e30 if isinstance(kernel, kernels.Polynomial) else 1e4), 20001)
    t = np.exp(u)
    return np.sqrt(integrate.trapezoid((t * (kernel(t) - s(t))) ** 2, u))


@pytest.mark.parametrize("kernel, m", [(kernels.Polynomial(2.0), 3), (PAIR, 2), (kernels.Airy(4.0), 3)])
def test_free_fits_are_stationary_in_the_hilbert_schmidt_norm(kernel, m):
    best = cmlib.exponential_sum(kernel, m)
    x0 = np.concatenate([best.rates.real, best.rates.imag])
    upper = best.rates.imag >= 0
    t = np.exp(np.linspace(np.log(1e-6), np.log(1e6), 4001))

    def error(step):  # of the best weights for rates moved by the step
        rates = best.rates[upper] * (1 + step[: upper.sum()]) + 1j * step[upper.sum() :] * (best.rates[upper].imag > 0)
        modes = np.exp(-rates * t[:, None])
        columns = np.hstack([modes.real, modes.imag[:, rates.imag != 0]]) * t[:, None]
        return linalg.lstsq(columns, t * kernel(t))[1]

    assert len(x0) == 2 * m
    centre = error(np.zeros(2 * upper.sum()))
    for k in range(2 * upper.sum()):
        e = 1e-3 * np.eye(2 * upper.sum())[k]
        up, down = error(e), error(-e)
        if up == centre == down:  # the imaginary part of a real rate
            continue
        assert up > centre and down > centre and abs(up - down) < 0.05 * (up + down - 2 * centre)


@pytest.mark.parametrize("kernel, widths, factor", OPTIMAL[1:6], ids=NAMES[1:6])
def test_balanced_truncation_keeps_its_promise(kernel, widths, factor):
    s = cmlib.hankel_singular_values(kernel, 100)
    for m in widths:
        cut = cmlib.balanced_truncation(kernel, m)
        assert s[m] * (1 - 1e-6) < hankel_norm(kernel, cut) < 2 * s[m:].sum()


def test_balanced_truncation_equals_the_textbook_route_through_gramians():
    s = ExponentialSum(np.array([0.3, 1.0, 2.5, 7.0]), np.array([1.0, -2.0, 0.5, 3.0]))
    W, U, c = s.realization()
    P = linalg.solve_continuous_lyapunov(W, -np.outer(U, U))
    Q = linalg.solve_continuous_lyapunov(W.T, -np.outer(c, c))
    L, R = linalg.cholesky(P, lower=True), linalg.cholesky(Q, lower=True)
    Z, values, Y = linalg.svd(R.T @ L)
    assert cmlib.hankel_singular_values(s, 4) == pytest.approx(values, rel=1e-9)
    scale = np.sqrt(values[:2])
    left, right = (R @ Z[:, :2]) / scale, (L @ Y[:2].T) / scale
    textbook = left.T @ W @ right, left.T @ U, right.T @ c
    cut = cmlib.balanced_truncation(s, 2)
    t = np.linspace(0, 10, 40)
    assert np.allclose(cut(t), [textbook[2] @ linalg.expm(textbook[0] * x) @ textbook[1] for x in t], atol=1e-9)


@pytest.mark.parametrize("s", [REAL, PAIR], ids=["real", "pair"])
def test_gramians_and_quadrature_give_the_same_singular_values(s):
    by_gramians = cmlib.hankel_singular_values(s, 5)
    assert np.allclose(cmlib.hankel_singular_values(s, 5, n_nodes=300), by_gramians, rtol=0, atol=1e-11)
    assert np.all(by_gramians[len(s.rates) :] == 0)


def test_singular_values_of_one_exponential_and_their_scaling():
    assert cmlib.hankel_singular_values(kernels.Exponential(0.4), 2) == pytest.approx([1 / 0.8, 0.0], abs=1e-12)
    # rho(ct) has the singular values of rho over c
    slow, fast = kernels.Polynomial(2.0, scale=0.01), kernels.Polynomial(2.0)
    assert cmlib.hankel_singular_values(slow, 8) == pytest.approx(100 * cmlib.hankel_singular_values(fast, 8), rel=1e-9)


def test_trace_of_the_hankel_operator_is_half_the_area():
    # int rho(2t) dt, and the sum of the eigenvalues, which for a completely monotone kernel are the singular values
    kernel = kernels.Polynomial(2.0)
    assert cmlib.hankel_singular_values(kernel, 80).sum() == pytest.approx(kernel.l1_norm() / 2, rel=1e-9)


def test_a_jump_is_not_settled_by_quadrature_and_says_so():
    with pytest.warns(UserWarning, match="have settled to"):
        cmlib.hankel_singular_values(kernels.Shifted(kernels.Exponential(1.0), 2.0), 3)


def test_fits_under_a_margin_are_no_worse_with_more_modes():
    kernel = kernels.Polynomial(2.0)
    fits = [cmlib.exponential_sum(kernel, m, margin=0.1) for m in (1, 2, 3, 4, 6, 8)]
    assert all(s.rates.real.min() >= 0.1 * (1 - 1e-12) for s in fits)
    errors = [hilbert_schmidt(kernel, s) for s in fits]
    assert all(b <= a * (1 + 1e-9) for a, b in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: cmlib.hankel_singular_values(kernels.Airy(2.0), 0), "expected n to be an integer >= 1"),
        (
            lambda: cmlib.hankel_singular_values(kernels.Airy(2.0), 5, n_nodes=4),
            "expected n_nodes to be an integer >= 5",
        ),
        (lambda: cmlib.hankel_singular_values("airy", 5), "expected kernel to be a Kernel"),
        (lambda: cmlib.hankel_singular_values(kernels.Sum([kernels.Airy(1)], [0.0]), 2), "finite kernel that varies"),
        (lambda: cmlib.balanced_truncation(kernels.Airy(2.0), 1.5), "expected m to be an integer >= 1"),
        (lambda: cmlib.balanced_truncation("airy", 1), "expected kernel to be a Kernel"),
    ],
)
def test_hankel_functions_reject(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_margin_that_is_met_by_coalescing_modes_gets_their_closed_form():
    # slower than the margin lets any mode be: the best two are e^{-bt} and t e^{-bt}, in the limit
    a, b = 0.05, 0.1
    fit = cmlib.exponential_sum(kernels.Exponential(a), 2, margin=b)
    moments = np.array([[1 / (2 * b) ** 2, 2 / (2 * b) ** 3], [2 / (2 * b) ** 3, 6 / (2 * b) ** 4]])
    against = np.array([1 / (a + b) ** 2, 2 / (a + b) ** 3])
    expected = np.sqrt(1 / (2 * a) ** 2 - against @ linalg.solve(moments, against))
    # a gap g between the rates costs g^2, and weights 1 / g < 1e8
    assert hilbert_schmidt(kernels.Exponential(a), fit) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kernel, margin", [(kernels.Exponential(0.05), 0.1), (kernels.Polynomial(2.0), 0.5)])
def test_weights_under_a_margin_leave_half_of_the_digits(kernel, margin):
    # unit columns and singular values above 1e-8 of the first
    fit = cmlib.exponential_sum(kernel, 4, margin=margin)
    sizes = np.abs(fit.weights) / (2 * fit.rates.real)  # in the norm of the fit, int t s^2
    size = np.sqrt(integrate.quad(lambda t: t * kernel(t) ** 2, 0, np.inf)[0])
    assert sizes.max() < 1e8 * size


# up to a horizon


def relative_error(kernel, s, horizon):
    """Relative L2 error on [0, horizon], by an independent quadrature, graded towards 0."""
    t = np.expm1(np.linspace(0.0, np.log1p(horizon), 40001))
    return np.sqrt(integrate.simpson((kernel(t) - s(t)) ** 2, x=t) / integrate.simpson(kernel(t) ** 2, x=t))


def test_a_fit_to_a_horizon_spends_no_mode_on_what_comes_after():
    kernel, horizon = kernels.Polynomial(1.1), 1023.0
    errors = {m: relative_error(kernel, cmlib.exponential_sum(kernel, m, horizon=horizon), horizon) for m in (4, 8, 16)}
    # 16 exp(-pi^2 m / log(8 R)) is what exponential sums reach uniformly for 1/x on [1, R], and x^{-1.1} is much alike:
    # braess2005approximation
    bounds = {m: 16 * np.exp(-(np.pi**2) * m / np.log(8 * (1 + horizon))) for m in errors}
    assert all(errors[m] < bounds[m] for m in errors)
    assert relative_error(kernel, cmlib.exponential_sum(kernel, 16), horizon) > 1e5 * errors[16]


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_long_memory_is_fitted_up_to_a_horizon_only(p):
    kernel = kernels.Polynomial(p)
    assert relative_error(kernel, cmlib.exponential_sum(kernel, 10, horizon=200.0), 200.0) < 1e-5
    for call in (cmlib.exponential_sum, cmlib.balanced_truncation, cmlib.hankel_singular_values):
        with pytest.raises(ValueError, match="exponent > 1.*horizon="):
            call(kernel, 4)
    with pytest.raises(ValueError, match="memory that ends .*horizon="), pytest.warns(UserWarning, match="settled"):
        cmlib.exponential_sum(kernels.Polynomial(1.02), 2)


def test_a_fit_to_a_horizon_equals_one_on_fine_samples():
    kernel, horizon = kernels.Airy(6.0), 12.0
    t = np.linspace(0.0, horizon, 801)
    by_samples = cmlib.exponential_sum(kernel, 6, times=t)
    fit = cmlib.exponential_sum(kernel, 6, horizon=horizon)
    # the minimum of the integral: a sum over 800 steps has another, by about a step
    assert relative_error(kernel, fit, horizon) < (1 + 1e-9) * relative_error(kernel, by_samples, horizon)


def test_several_starts_find_what_one_of_them_misses():
    # half a bump: samples on [0, 8] end at its top, and only the fit on all times knows how it goes on
    kernel = kernels.Bump(8.0, 0.5)
    by_samples = cmlib.exponential_sum(kernel, 16, times=np.linspace(0.0, 8.0, 1000))
    fit = cmlib.exponential_sum(kernel, 16, horizon=8.0)
    assert relative_error(kernel, fit, 8.0) < 0.01 * relative_error(kernel, by_samples, 8.0)
    # and the other way about: on [0, 10] an oscillation that lasts until 20 is seen by samples only
    kernel = kernels.Airy(20.0)
    fit, everywhere = cmlib.exponential_sum(kernel, 8, horizon=10.0), cmlib.exponential_sum(kernel, 8)
    assert relative_error(kernel, fit, 10.0) < 0.1 * relative_error(kernel, everywhere, 10.0)


def test_a_margin_and_fixed_rates_hold_up_to_a_horizon():
    kernel, horizon, rates = kernels.Polynomial(0.7), 50.0, [0.05, 0.3, 1.0]
    held = cmlib.exponential_sum(kernel, 3, horizon=horizon, margin=0.2)
    free = cmlib.exponential_sum(kernel, 3, horizon=horizon)
    fixed = cmlib.exponential_sum(kernel, 3, horizon=horizon, rates=rates)
    assert held.rates.real.min() >= 0.2 * (1 - 1e-12) and np.array_equal(fixed.rates, rates)
    assert relative_error(kernel, free, horizon) < min(relative_error(kernel, s, horizon) for s in (held, fixed))


def test_an_unbounded_horizon_is_all_times():
    kernel = kernels.Polynomial(2.0)
    a, b = (cmlib.exponential_sum(kernel, 3, horizon=h) for h in (None, np.inf))
    assert np.array_equal(a.rates, b.rates)


def test_a_kernel_that_is_zero_up_to_the_horizon_is_refused():
    with pytest.raises(ValueError, match="expected a kernel that is not zero on all of 0 … 1"):
        cmlib.exponential_sum(kernels.Shifted(kernels.Exponential(1.0), 2.0), 2, horizon=1.0)


# more modes than are of use


def test_rates_that_coalesce_for_nothing_come_back_as_one():
    kernel = kernels.Polynomial(2.0)
    fits = {m: cmlib.exponential_sum(kernel, m) for m in (48, 300)}
    rates = np.sort(fits[300].rates)
    assert len(rates) < 100 and (np.diff(rates) > 1e-3 * rates[1:]).all()
    assert hilbert_schmidt(kernel, fits[300]) < 1.1 * hilbert_schmidt(kernel, fits[48])


def test_rates_that_coalesce_for_something_stay_two():
    # t e^{-t} is the limit of two modes, and of one it is far
    kernel = kernels.Custom(lambda t: t * np.exp(-t))
    fit, single = (cmlib.exponential_sum(kernel, m) for m in (2, 1))
    t = np.linspace(0.0, 20.0, 200)
    assert len(fit.rates) == 2 and np.abs(fit(t) - kernel(t)).max() < 1e-6 < np.abs(single(t) - kernel(t)).max()


def test_slow_rates_that_start_at_rounding_level_make_a_wider_fit_no_worse():
    kernel = kernels.Polynomial(1.1)
    errors = [hilbert_schmidt(kernel, cmlib.exponential_sum(kernel, m)) for m in (32, 48)]
    assert errors[1] < errors[0]


def test_no_free_fit_has_more_than_a_hundred_modes():
    t = np.arange(1.0, 700.0)
    noise = kernels.Custom(lambda t: np.sin(1e4 * np.sin(t)) / (1 + t))  # of full rank
    assert len(cmlib.exponential_sum(noise, 300, times=t).rates) <= 100


# kernels that declare little


def test_a_plain_function_has_the_fit_and_the_bounds_of_its_closed_form():
    def function(t):
        return (1 + t) ** -2.0

    exact = kernels.Polynomial(2.0)
    assert cmlib.hankel_singular_values(function, 8) == pytest.approx(cmlib.hankel_singular_values(exact, 8), rel=1e-8)
    a, b = cmlib.exponential_sum(function, 3), cmlib.exponential_sum(exact, 3)
    assert a.rates == pytest.approx(b.rates, rel=1e-6)


def test_singular_values_of_a_box_are_known():
    # rho = 1 on [0, 1]: G f = int_0^{1-t} f, whose eigenvalues are 2 / ((2k + 1) pi)
    box = kernels.Custom(lambda t: np.where(t < 1.0, 1.0, 0.0))
    with pytest.warns(UserWarning, match="have settled to"):
        values = cmlib.hankel_singular_values(box, 3)
    assert values == pytest.approx(2 / np.pi / np.array([1, 3, 5]), rel=0.05)


def test_more_singular_values_than_nodes_to_begin_with():
    values = cmlib.hankel_singular_values(kernels.Polynomial(2.0), 900)
    assert values.shape == (900,) and (np.diff(values) <= 0).all()
