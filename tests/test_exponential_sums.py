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
        fit = cmlib.exponential_sum(s, len(s.rates), horizon=20.0, n_samples=200)
        t = np.linspace(0, 20, 101)
        assert np.allclose(fit(t), s(t), rtol=0, atol=1e-12)
        by_phase = [rates[np.lexsort((rates.real, rates.imag))] for rates in (fit.rates + 0j, s.rates + 0j)]
        assert np.allclose(*by_phase, atol=1e-10)


@pytest.mark.parametrize("kernel", [kernels.Polynomial(1.1), kernels.ExponentialMixture(0.1, 1.0)])
def test_errors_fall_with_each_mode_to_rounding(kernel):
    t = np.arange(1.0, 101)
    errors = [np.abs(cmlib.exponential_sum(kernel, m)(t) - kernel(t)).max() for m in range(1, 15)]
    falling = [b < a for a, b in zip(errors, errors[1:], strict=False) if a > 1e-13]
    assert all(falling) and errors[-1] < 1e-12


@pytest.mark.parametrize("kernel", [kernels.Airy(4.0), kernels.Bump(8.0, 1.5)])
def test_kernels_that_are_not_monotone_get_oscillating_modes(kernel):
    t = np.arange(1, 201) * 0.1
    fits = [cmlib.exponential_sum(kernel, m, horizon=20.0, n_samples=200) for m in (2, 4, 8)]
    errors = [np.abs(s(t) - kernel(t)).max() for s in fits]
    assert errors[2] < errors[1] < errors[0]
    assert all(s.rates.real.min() > 0 for s in fits) and np.iscomplexobj(fits[-1].rates)


def test_the_fit_is_stationary_in_every_rate():
    kernel, t = kernels.Polynomial(1.1), np.arange(1.0, 101)
    s = cmlib.exponential_sum(kernel, 4)

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
    s = cmlib.exponential_sum(kernel, 3, rates=rates)
    expected = np.linalg.lstsq(np.exp(-rates * t[:, None]), kernel(t), rcond=None)[0]
    assert np.array_equal(s.rates, rates) and np.allclose(s.weights, expected, rtol=1e-10)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.5])
def test_every_rate_keeps_the_margin_and_the_price_is_a_larger_error(margin):
    kernel, t = kernels.Polynomial(1.1), np.arange(1.0, 101)
    free, held = cmlib.exponential_sum(kernel, 4), cmlib.exponential_sum(kernel, 4, margin=margin)
    assert held.rates.real.min() >= margin
    assert linalg.norm(held(t) - kernel(t)) > linalg.norm(free(t) - kernel(t))


def test_one_exponential_needs_one_mode_whatever_the_width():
    s = cmlib.exponential_sum(kernels.Exponential(-np.log(0.9)), 8)
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
        (60, {}, r"expected at least 2 m \+ 2 = 122 samples"),
        (2, {"margin": 0.0}, "expected margin > 0"),
        (2, {"horizon": np.inf}, "expected a finite horizon > 0"),
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
        cmlib.exponential_sum(kernels.Exponential(1e4), 1)
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
