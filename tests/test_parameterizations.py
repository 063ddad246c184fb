import copy
import math

import numpy as np
import pytest
import torch
from scipy import linalg

from cmlib.parameterizations import (
    PARAMETERIZATIONS,
    Direct,
    Exp,
    InverseSquare,
    Softplus,
    direct,
    dissipative,
    exp,
    inverse_square,
    matrix_exponential,
    softplus,
)

EPS = np.finfo(float).eps
ALL = {
    "direct": direct,
    "exp": exp,
    "softplus": softplus,
    "inverse_square": inverse_square,
    "inverse_square-far": InverseSquare(b=0.005),
    "inverse_square-unbounded": InverseSquare(a=2.0, b=0.0),
}
STABLE = {name: f for name, f in ALL.items() if name != "direct"}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def f(request):
    return request.param


@pytest.fixture(params=STABLE.values(), ids=STABLE.keys())
def stable(request):
    return request.param


def reachable(f):
    if isinstance(f, InverseSquare) and f.b > 0:
        return -np.geomspace(1e-6, 1.0 / f.b, 801)
    return -np.geomspace(1e-6, 1e2, 801)


def test_round_trip_returns_the_eigenvalue(f):
    eigenvalues = reachable(f)
    # e^w is good to |w| eps <= 14 eps, the others to a few eps
    np.testing.assert_allclose(f(f.inverse(eigenvalues)), eigenvalues, rtol=32 * EPS)
    in_torch = torch.as_tensor(eigenvalues)
    torch.testing.assert_close(f(f.inverse(in_torch)), in_torch, rtol=32 * EPS, atol=0)


def test_torch_equals_numpy(f):
    w = np.linspace(0.01, 30.0, 200)
    for of in (f, f.derivative):
        np.testing.assert_allclose(of(torch.as_tensor(w)).numpy(), of(w), rtol=8 * EPS)
    np.testing.assert_allclose(f.inverse(torch.as_tensor(reachable(f))).numpy(), f.inverse(reachable(f)), rtol=64 * EPS)


def test_derivative_equals_autograd(f):
    w = torch.linspace(-40.0, 40.0, 200, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(f(w).sum(), w)
    torch.testing.assert_close(f.derivative(w.detach()), gradient, rtol=64 * EPS, atol=0)  # e^40 has 40 eps


def test_inverse_has_the_reciprocal_derivative(f):
    eigenvalues = torch.as_tensor(reachable(f)[:-1]).requires_grad_()
    w = f.inverse(eigenvalues)
    (gradient,) = torch.autograd.grad(w.sum(), eigenvalues)
    torch.testing.assert_close(gradient * f.derivative(w.detach()), torch.ones_like(gradient), rtol=1e-11, atol=0)


def test_stable_parameterizations_have_negative_eigenvalues(stable):
    assert (stable(np.linspace(-40.0, 40.0, 400)) < 0).all()


def test_direct_is_the_identity_of_any_sign():
    w = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(direct(w), w)
    np.testing.assert_array_equal(direct.inverse(w), w)
    np.testing.assert_array_equal(direct.derivative(w), 1.0)


def test_softplus_has_no_threshold():
    w = torch.tensor([20.5, 25.0], dtype=torch.float64)
    tail = torch.log1p(torch.exp(-w))
    torch.testing.assert_close(-softplus(w) - w, tail, rtol=0, atol=4 * 25 * EPS)
    assert (-torch.nn.functional.softplus(w) - softplus(w)).abs().min() > 1e-12  # the one that has


def test_inverse_square_takes_the_branch_of_positive_weights():
    assert inverse_square.inverse(-2.0) == 0.0
    assert inverse_square.inverse(-1.0) == pytest.approx(math.sqrt(0.5), rel=4 * EPS)
    assert inverse_square(-3.0) == inverse_square(3.0)


@pytest.mark.parametrize("b", [0.11, 0.19, 0.7, 1e-3])
def test_inverse_square_reaches_its_extreme_whatever_the_rounding(b):
    assert InverseSquare(b=b).inverse(InverseSquare(b=b)(0.0)) <= 4 * math.sqrt(EPS * b)


def test_softplus_approaches_exp_and_direct():
    assert softplus(-40.0) == pytest.approx(exp(-40.0), rel=8 * EPS)
    assert softplus(800.0) == -800.0


def test_dtype_shape_and_kind_are_kept(f):
    w = torch.full((2, 3), 0.5, dtype=torch.float32)
    for of, x in ((f, w), (f.derivative, w), (f.inverse, -w)):
        assert of(x).dtype == torch.float32 and of(x).shape == (2, 3)
        assert of(x.tolist()).dtype == np.float64 and of(x.tolist()).shape == (2, 3)
        assert isinstance(of(float(x[0, 0])), float)


def test_names_are_those_of_the_registry():
    expected = {
        "direct": Direct(),
        "exp": Exp(),
        "softplus": Softplus(),
        "inverse_square": InverseSquare(1.0, 0.5),
    }
    assert expected == PARAMETERIZATIONS
    assert hash(InverseSquare(a=1)) == hash(inverse_square) and InverseSquare(a=2) != inverse_square != exp


def test_copies_that_torch_and_training_make_are_equal(f):
    copied = copy.deepcopy(f).double().eval()
    assert copied == f and hash(copied) == hash(f) and copied != dissipative


@pytest.mark.parametrize("bad", [0.0, 1.0, math.nan, -math.inf, [-1.0, 0.5], torch.tensor([-1.0, math.nan])])
def test_unstable_eigenvalues_are_refused(stable, bad):
    with pytest.raises(ValueError, match=r"expected finite eigenvalues < 0, got "):
        stable.inverse(bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, [-math.inf, 0.0]])
def test_direct_refuses_only_what_is_not_finite(bad):
    with pytest.raises(ValueError, match=r"expected finite eigenvalues, got "):
        direct.inverse(bad)


def test_inverse_square_refuses_eigenvalues_it_cannot_reach():
    with pytest.raises(ValueError, match=r"expected eigenvalues >= -1/b = -2, got -2\.001"):
        inverse_square.inverse(-2.001)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"a": 0.0}, r"expected a > 0, got 0\.0"),
        ({"a": math.nan}, r"expected a to be a finite number, got nan"),
        ({"a": "one"}, r"expected a to be a finite number, got 'one'"),
        ({"b": -0.5}, r"expected b >= 0, got -0\.5"),
        ({"b": math.inf}, r"expected b to be a finite number, got inf"),
    ],
)
def test_bad_inverse_square_says_what_was_expected_and_what_came(arguments, message):
    with pytest.raises(ValueError, match=message):
        InverseSquare(**arguments)


@pytest.mark.parametrize("norm", [1e-5, 1e-3, 1e-2, 2e-2, 3e-2, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_matrix_exponential_is_scipys(norm, batch):
    A = np.random.default_rng(0).standard_normal((*batch, 6, 6))
    A *= norm / linalg.norm(A.reshape(-1, 6), 2)
    ours, scipys = matrix_exponential(torch.tensor(A)).numpy(), linalg.expm(A)
    # both are scaled and squared, so rounding grows with the norm
    assert np.abs(ours - scipys).max() < 100 * max(1, norm) * np.finfo(float).eps * np.abs(scipys).max()


def raw_matrices(n: int = 60, m: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-2, 0.5, n, dtype=torch.float64)
    return sizes[:, None, None] * torch.randn(n, m, m, generator=g, dtype=torch.float64)


def test_dissipative_matrices_are_hurwitz_and_lose_energy():
    W = dissipative(raw_matrices())
    assert (torch.linalg.eigvals(W).real < 0).all()
    assert (torch.linalg.eigvalsh(W + W.mT) < 0).all()
    # -e^M is not: two eigenvalues i pi of M give 1
    M = torch.tensor([[0.0, -math.pi], [math.pi, 0.0]], dtype=torch.float64)
    assert torch.linalg.eigvals(-matrix_exponential(M)).real.min() == pytest.approx(1.0)


def test_dissipative_round_trip():
    for M in raw_matrices():
        spread = torch.linalg.eigvalsh(M + M.mT)
        condition = torch.exp((spread[-1] - spread[0]) / 2).item()
        assert (dissipative.inverse(dissipative(M)) - M).abs().max() < 100 * EPS * condition


def test_dissipative_is_exp_on_diagonals():
    w = torch.linspace(-3.0, 2.0, 6, dtype=torch.float64)
    torch.testing.assert_close(dissipative(torch.diag(w)), torch.diag(exp(w)), rtol=8 * EPS, atol=0)


def test_dissipative_moves_continuously_with_its_gradient():
    M = raw_matrices(3).requires_grad_()
    assert torch.autograd.gradcheck(dissipative, M)


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.ones((2, 3)), "expected W to be a square matrix"),
        ([[math.nan]], "expected W to hold finite real numbers"),
        ([[-1.0, 4.0], [0.0, -1.0]], r"expected W \+ W\^T with eigenvalues < 0, got one of 2"),
    ],
)
def test_dissipative_inverse_rejects(W, message):
    with pytest.raises(ValueError, match=message):
        dissipative.inverse(W)
