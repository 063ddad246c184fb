"""Conformance: does a class of your own do what it declares? Each check raises AssertionError that says what is not so.

In a test of yours: `cmlib.testing.check_recurrent_model(MyNetwork())`.
"""

import copy
import math
import warnings
from typing import Any

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Count, Number, count, real_array, span, square_matrix
from cmlib.clamped_loop import has_compiler
from cmlib.distances import SequenceDistance
from cmlib.kernels import Custom, complete
from cmlib.models.recurrent import DECLARED
from cmlib.parameterizations import Parameterization, checked
from cmlib.preflight import preflight
from cmlib.sequence_maps import evaluate

SMALL = 1e-5  # inputs so small that a network answers as its linearisation does
ROUNDING = 1e-9
QUADRATURE = 1e-7  # what integrals of values alone are good for, and more


def check_kernel(kernel: Any, horizon: Number = math.inf) -> None:
    """Check what a memory kernel declares against quadrature of its values alone.

    Values in torch and numpy, sign, `tail`, `integral`, `l1_norm`, `laplace`, and that `features` miss no sign change.

    Args:
        kernel: any Kernel.
        horizon: the time up to which it is looked at, finite for one that is not integrable.

    Raises:
        AssertionError: that says what is not so.

    >>> testing.check_kernel(kernels.Exponential(0.5))
    >>> testing.check_kernel(kernels.Custom(lambda t: 1 / (1 + t), nonnegative=True), horizon=100.0)
    """
    horizon = span("horizon", horizon)
    try:
        declared = complete(kernel)
        plain = Custom(declared.__call__)  # of its values alone
        area = plain.l1_norm(horizon)
        times = declared.features(horizon)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    assert np.ndim(times) == 1 and (np.diff(times) > 0).all(), "features() are not increasing times"
    times = times[times < horizon]
    values = declared(times)
    assert not declared.nonnegative or (values >= 0).all(), f"nonnegative, and rho({times[values.argmin()]:g}) < 0"
    in_torch = _values_in_torch(declared, times)
    gap = 0.0 if in_torch is None else np.abs(in_torch - values).max()
    assert gap <= ROUNDING * np.abs(values).max(), f"torch and numpy give values {gap:.0e} apart"
    some = np.unique(np.quantile(times, np.linspace(0, 1, 9)))
    pairs = {"integral": (declared.integral, plain.integral)}
    if np.isinf(horizon):
        pairs["tail"] = (declared.tail, plain.tail)
    for name, (found, wanted) in pairs.items():
        gap = np.abs(found(some) - wanted(some)).max() / area
        assert gap <= QUADRATURE, f"{name}() is not the integral of its values: off by {gap:.0e}"
    gap = abs(declared.l1_norm(horizon) / area - 1)
    assert gap <= QUADRATURE, f"l1_norm() is no area, or features() miss a change of sign: off by {gap:.0e}"
    if np.isinf(horizon):
        s = np.array([0.0, 1.0]) / max(some[len(some) // 2], 1e-3)
        gap = np.abs(declared.laplace(s) - plain.laplace(s)).max() / area
        assert gap <= QUADRATURE, f"laplace() is not the transform of its values: off by {gap:.0e}"


def _values_in_torch(kernel: Any, times: np.ndarray) -> np.ndarray | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's own, on being given a tensor
        try:
            return kernel(torch.as_tensor(times)).numpy()
        except (TypeError, ValueError):  # a function for numpy alone
            return None


def check_sequence_map(seq_map: Any, d_in: Count = 1, n_steps: Count = 32) -> None:
    """Check a map (batch, time, d_in) -> (batch, time, d_out) by `cmlib.preflight`: that it is one, and causal.

    Args:
        seq_map: any callable; the output, or the head of a tuple, is looked at.
        d_in: its input channels.
        n_steps: length of the sequences tried, >= 2.

    Raises:
        AssertionError: that says what is not so.
        ValueError: on d_in below 1 or n_steps below 2.

    >>> testing.check_sequence_map(lambda x: x.cumsum(1))
    >>> testing.check_sequence_map(lambda x: x.flip(1), n_steps=4)
    Traceback (most recent call last):
    AssertionError: expected a causal model, but its output at step 0 depends on the input at step 1 or later
    """
    n_steps = count("n_steps", n_steps, at_least=2)  # a past and a future
    d_in = count("d_in", d_in)
    try:
        _ = preflight(seq_map, d_in, n_steps)
    except ValueError as error:
        raise AssertionError(str(error)) from error


def check_recurrent_model(model: Any, n_steps: Count = 48) -> None:
    """Check what a recurrent model declares against what its `forward` does, in double precision and on a copy.

    Names of weights, `diagonal`, `dt` and `discretization`; the linearisation by the modes that the answer to a small
    impulse consists of; and, where they are declared, `realization` and `clamp`.

    Args:
        model: a RecurrentModel of at most some eight states, stable at rest.
        n_steps: length of the sequences tried, >= 2.

    Raises:
        AssertionError: that says what is not so.
        ValueError: on n_steps below 2.

    >>> testing.check_recurrent_model(models.RNN([[-1.0]], [1.0], [1.0], dt=0.1))
    >>> testing.check_recurrent_model(torch.nn.Linear(1, 1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: not an nn.Module that declares recurrent_weight, ...
    """
    n_steps = count("n_steps", n_steps, at_least=2)
    missing = [name for name in DECLARED if not hasattr(model, name)]
    assert isinstance(model, nn.Module) and not missing, f"not an nn.Module that declares {', '.join(missing)}"
    model = _in_double(model)
    weights = dict(model.named_parameters())
    for role in ("recurrent_weight", "input_weight", "readout_weight", "bias_weight"):
        name = getattr(model, role)
        known = name in weights or (role == "bias_weight" and name is None)
        assert known, f"{role} names {name!r}, and the parameters are {list(weights)}"
    W, A = weights[model.recurrent_weight], model.linearization().detach()
    m = len(W)
    shape = tuple(W.shape)
    assert W.ndim == (1 if model.diagonal else 2), f"diagonal is {model.diagonal}, the recurrent weight {shape}"
    assert model.recurrent().shape == A.shape == (m, m), f"recurrent() and linearization() are not {(m, m)}"
    assert model.discretization in ("zoh", "euler"), f"discretization is {model.discretization!r}"
    checked(model.parameterization, W)
    if model.parameterization.stable:
        largest = torch.linalg.eigvals(model.recurrent()).real.max()
        assert largest < 0, "a stable parameterization gave an unstable recurrent weight"
    d_in = int(getattr(model, "d_in", weights[model.input_weight].reshape(m, -1).shape[1]))
    check_sequence_map(model, d_in, n_steps)
    _check_linearization(model, A, d_in, n_steps)
    if hasattr(model, "realization"):
        _check_realization(model, n_steps)
    if getattr(model, "clamp", None) is not None and d_in == 1 and has_compiler():
        x = _noise(n_steps, 1)
        distance = SequenceDistance(model, lambda x: torch.zeros_like(x), x, "sup")
        assert distance.compiled, "the declared clamp is not the step that forward takes"


def _check_linearization(model: Any, A: Tensor, d_in: int, n_steps: int) -> None:
    S = torch.linalg.matrix_exp(model.dt * A) if model.discretization == "zoh" else torch.eye(len(A)) + model.dt * A
    largest = float(torch.linalg.eigvals(S).abs().max())
    if not largest < 1:
        return  # no rest to come to
    settle = min(int(np.log(ROUNDING * SMALL) / np.log(largest)) + 2, 20_000) if largest > 0 else 2
    x = torch.zeros(1, settle + n_steps, d_in, dtype=torch.float64)
    x[:, settle] = SMALL
    y = (evaluate(model, x) - evaluate(model, torch.zeros_like(x)))[0, settle:].numpy() / SMALL
    # the answer from one step on is a combination of the entries of S^k v, for almost every v
    h, modes = np.random.default_rng(0).normal(size=len(A)), []
    for _ in range(n_steps - 1):
        h = S.numpy() @ h
        modes.append(h)
    modes = np.array(modes) / np.abs(modes).max(0)
    left = y[1:] - modes @ np.linalg.lstsq(modes, y[1:], rcond=None)[0]
    off = np.abs(left).max() / np.abs(y[1:]).max()
    assert off <= 10 * SMALL, f"linearization() does not give the answer to a small impulse: off by {off:.0e}"


def _check_realization(model: Any, n_steps: int) -> None:
    W, U, c = (value.detach().numpy() for value in model.realization())
    m = len(W)
    assert W.shape == (m, m) and U.shape == c.shape == (m,), "realization() is not (m, m), (m,), (m,)"
    if model.discretization == "zoh":
        block = linalg.expm(model.dt * np.block([[W, U[:, None]], [np.zeros((1, m + 1))]]))
        A, B = block[:m, :m], block[:m, m]
    else:
        A, B = np.eye(m) + model.dt * W, model.dt * U
    x, h, outputs = _noise(n_steps, 1)[:1], np.zeros(m), []
    for value in x[0, :, 0].numpy():
        h = A @ h + B * value
        outputs.append(c @ h)
    y = evaluate(model, x)[0].numpy()
    assert y.shape == (n_steps, 1), "a model with a realization has one output channel"
    gap, size = np.abs(y[:, 0] - outputs).max(), np.abs(outputs).max()
    assert gap <= ROUNDING * size, f"forward is not the linear network of realization(): off by {gap / size:.0e}"


def check_parameterization(parameterization: Any, raw: ArrayLike | None = None) -> None:
    """Check what a parameterization declares: no weights, its inverse, stability, and what it acts on.

    Args:
        parameterization: a Parameterization.
        raw: raw weights to try, (m, m) where it acts on matrices, else (n,); None draws some.

    Raises:
        AssertionError: that says what is not so.
        ValueError: on raw weights that are not finite or of another shape.

    Reference: wang2024stablessm, Def. 3.4

    >>> testing.check_parameterization(parameterizations.softplus)
    >>> testing.check_parameterization(torch.nn.Identity())
    Traceback (most recent call last):
    AssertionError: not an nn.Module that declares stable, acts_on, time, right_inverse
    """
    missing = [name for name in ("stable", "acts_on", "time", "right_inverse") if not hasattr(parameterization, name)]
    is_one = isinstance(parameterization, nn.Module), isinstance(parameterization, Parameterization)
    assert all(is_one), f"not an nn.Module that declares {', '.join(missing)}"
    assert not list(parameterization.parameters()), "it has weights of its own"
    matrices = parameterization.acts_on == "matrices"
    if raw is None:
        generator, shape = torch.Generator().manual_seed(0), (4, 4) if matrices else (16,)
        raw = torch.randn(shape, generator=generator, dtype=torch.float64)
        raw = 2 * raw.abs() + 0.1 if not matrices else raw  # on one branch of maps such as w^2
    else:
        raw = torch.from_numpy(square_matrix("raw", raw) if matrices else real_array("raw", raw, ndim=1))
    if not raw.numel():
        raise ValueError("expected raw weights, got none")
    try:
        checked(parameterization, raw) if parameterization.time == "flow" else None
    except ValueError as error:
        raise AssertionError(str(error)) from error
    value = parameterization(raw)
    assert value.shape == raw.shape and value.dtype == raw.dtype, f"{tuple(raw.shape)} became {tuple(value.shape)}"
    again = parameterization(torch.as_tensor(parameterization.right_inverse(value)))
    gap = (again - value).abs().max() / value.abs().max()
    assert gap <= ROUNDING, f"right_inverse is no inverse: off by {gap:.0e}"
    if not matrices:
        one_by_one = torch.stack([parameterization(w) for w in raw.flatten()]).reshape(raw.shape)
        assert torch.allclose(one_by_one, value, rtol=ROUNDING, atol=0), "it does not act on eigenvalues one by one"
    if parameterization.stable:
        for size in (-30.0, -1.0, 1.0, 30.0):
            value = parameterization(size * raw)
            eigenvalues = torch.linalg.eigvals(value) if matrices else value
            largest = eigenvalues.real.max() if parameterization.time == "flow" else eigenvalues.abs().max() - 1
            rounding = 1e-14 * float(value.abs().max())
            assert largest <= rounding, f"it declares itself stable, and raw weights of size {abs(size):g} are not"
    x = raw.clone().requires_grad_()
    assert torch.autograd.gradcheck(parameterization, x, raise_exception=False), "its gradient is not its slope"
    if hasattr(parameterization, "derivative"):
        slope = torch.autograd.grad(parameterization(x).sum(), x)[0]
        assert torch.allclose(parameterization.derivative(raw), slope), "derivative() is not its slope"


def _noise(n_steps: int, d_in: int) -> Tensor:
    return torch.randn(3, n_steps, d_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _in_double(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).cpu().double().eval()
