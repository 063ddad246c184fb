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
        (0, {}, "expected a number of modes m >= 1"),
        (2.0, {}, "expected a number of modes m >= 1"),
        (60, {"times": np.arange(1.0, 101)}, r"expected at least 2 m \+ 2 = 122 finite times"),
        (1, {"times": np.array([1.0, 2.0, np.nan, 4.0])}, "expected at least 2 m"),
        (1, {"times": np.array([1.0, 2.0, 4.0, 8.0])}, "expected equally spaced increasing times"),
        (1, {"times": np.array([4.0, 3.0, 2.0, 1.0])}, "expected equally spaced increasing times"),
        (2, {"margin": 0.0}, "expected margin > 0"),
        (2, {"rates": [0.1]}, "expected m = 2 rates"),
        (2, {"rates": [0.1, 0.2], "margin": 0.1}, "expected fixed rates or a margin"),
        (2, {"rates": [0.1, -0.2]}, "positive real part"),
        (2, {"rates": [0.1, np.nan]}, "expected finite rates"),
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
        (lambda: cmlib.hankel_singular_values(kernels.Airy(2.0), 0), "expected a number of singular values n >= 1"),
        (lambda: cmlib.hankel_singular_values(kernels.Airy(2.0), 5, n_nodes=4), "expected n_nodes >= n = 5"),
        (lambda: cmlib.hankel_singular_values("airy", 5), "expected kernel to be a Kernel"),
        (lambda: cmlib.hankel_singular_values(kernels.Sum([kernels.Airy(1)], [0.0]), 2), "finite kernel that varies"),
        (lambda: cmlib.balanced_truncation(kernels.Airy(2.0), 1.5), "expected a number of modes m >= 1"),
        (lambda: cmlib.balanced_truncation("airy", 1), "expected kernel to be a Kernel"),
    ],
)
def test_hankel_functions_reject(call, message):
    with pytest.raises(ValueError, match=message):
        call()
