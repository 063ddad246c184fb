"""Fits with the rates r, 2r, ..., mr: an orthogonal basis against the exponentials themselves, and closed forms."""

import numpy as np
import pytest
import torch

import cmlib
from cmlib import kernels, testing

TURNING = cmlib.ExponentialSum([0.3, 1.7, 2 + 3j, 2 - 3j], [1.0, -0.4, 0.2, 0.2])


@pytest.mark.parametrize(
    "coefficients", [[1.0], [1.0, -2.0, 0.5, 0.3], np.cos(np.arange(40.0)) / np.arange(1, 41) ** 2]
)
def test_it_is_a_kernel_with_the_closed_forms_it_declares(coefficients):
    testing.check_kernel(cmlib.FixedRateSum(0.5, coefficients))


def test_basis_is_orthogonal_with_the_norms_that_the_fit_divides_by():
    rate, m = 0.7, 6
    basis = [cmlib.FixedRateSum(rate, row) for row in np.eye(m)]
    gram = [[kernels.Custom(lambda t, a=a, b=b: a(t) * b(t)).tail(0.0) for a in basis] for b in basis]
    np.testing.assert_allclose(gram, np.diag(1 / (2 * rate * np.arange(1, m + 1))), atol=1e-11)


def test_closed_inner_products_and_quadrature_give_the_same_fit():
    closed, quadrature = (cmlib.fixed_rate_sum(k, 60, 0.7) for k in (TURNING, lambda t: TURNING(t)))
    np.testing.assert_allclose(closed.coefficients, quadrature.coefficients, atol=1e-13)


@pytest.mark.parametrize("kernel", [kernels.Polynomial(1.5), kernels.Bump(8.0, 0.5), TURNING])
def test_fit_solves_the_normal_equations_of_its_exponentials(kernel):
    rate, m = 0.5, 5  # beyond, the Gram matrix of the exponentials loses digits
    rates = rate * np.arange(1, m + 1)
    weights = np.linalg.solve(1 / (rates[:, None] + rates), kernel.laplace(rates))
    t = np.geomspace(1e-2, 30.0, 50)
    # the condition number of this Gram matrix is 5e5
    np.testing.assert_allclose(
        cmlib.fixed_rate_sum(kernel, m, rate)(t), np.exp(-np.outer(t, rates)) @ weights, atol=1e-9
    )


def test_first_terms_are_the_fit_of_that_width():
    kernel = kernels.Polynomial(2.0)
    wide = cmlib.fixed_rate_sum(kernel, 9, 1.0)
    np.testing.assert_allclose(
        wide.first(4).coefficients, cmlib.fixed_rate_sum(kernel, 4, 1.0).coefficients, rtol=1e-12
    )


def test_area_of_the_slow_tail_is_seen():
    # 4000 Gauss nodes in s = e^{-t} give .0990 here; the tail of (1 + t)^{-2} is 1 / (s ln^2 s) in s
    kernel = kernels.Polynomial(2.0)
    fit = cmlib.fixed_rate_sum(kernel, 128, 1.0)
    sampled = kernels.Custom(lambda t: kernel(t) - fit(t)).l1_norm()
    assert fit.l1_error(kernel) == pytest.approx(sampled, rel=1e-9)
    assert 0.0940 < sampled < 0.0942


def test_values_follow_the_tensor_they_are_asked_with():
    values = cmlib.FixedRateSum(1.0, [1.0, 0.5])(torch.tensor([0.0, 1.0], dtype=torch.float32))
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.numpy(), 1.5 * np.exp([0.0, -2.0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cmlib.FixedRateSum(0.0, [1.0]), "rate"),
        (lambda: cmlib.FixedRateSum(1.0, []), "at least one coefficient"),
        (lambda: cmlib.FixedRateSum(1.0, [np.nan]), "coefficients"),
        (lambda: cmlib.FixedRateSum(1.0, [1.0]).first(0), "m to be an integer >= 1"),
        (lambda: cmlib.FixedRateSum(1.0, [1.0]).tail(-1.0), "t >= 0"),
        (lambda: cmlib.FixedRateSum(1.0, [1.0]).laplace(-1.0), "s >= 0"),
        (lambda: cmlib.fixed_rate_sum(kernels.Polynomial(2.0), 0, 1.0), "m to be an integer >= 1"),
        (lambda: cmlib.fixed_rate_sum(kernels.Polynomial(2.0), 2, -1.0), "rate"),
        (lambda: cmlib.fixed_rate_sum(3.0, 2, 1.0), "Kernel"),
    ],
)
def test_wrong_calls_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
