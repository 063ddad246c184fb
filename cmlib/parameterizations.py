"""Parameterizations: raw weight w -> real eigenvalue lambda = f(w), their inverses and their derivatives.

Each is a weightless module: it maps numpy to float64 numpy, and torch to torch of the same dtype and device, with
gradients, and `torch.nn.utils.parametrize.register_parametrization` takes it as it is. The stable ones have
lambda < 0 whatever w. `Dissipative` is one of whole matrices.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, special
from torch import Tensor, nn

from cmlib.arguments import (
    ArrayLike,
    Matrices,
    Number,
    namespace,
    number,
    one_of,
    positive,
    square_matrices,
    square_matrix,
)

Values = Float[np.ndarray, "..."] | Float[Tensor, "..."] | float


@runtime_checkable
class Parameterization(Protocol):
    """A map of raw weights to eigenvalues or matrices that says what it does; a model takes any nn.Module that is one.

    Args:
        stable: whether every raw weight gives something stable.
        acts_on: "eigenvalues", one by one, "matrices", or "both".
        time: "flow", where stable means eigenvalues of real part < 0, or "steps", where it means modulus < 1.

    Reference: wang2024stablessm, Def. 3.4

    >>> isinstance(parameterizations.exp, parameterizations.Parameterization), parameterizations.exp.stable
    (True, True)
    >>> parameterizations.exp.right_inverse(torch.tensor([-1.0])).tolist()  # e^0 = 1
    [0.0]
    """

    stable: bool
    acts_on: str
    time: str

    def __call__(self, w: ArrayLike) -> Any:
        """Return f(w), of a flow per unit of time."""

    def right_inverse(self, value: ArrayLike) -> Any:
        """Return a raw weight w with f(w) = value, or with f(w) nearest to it, and then warn."""


class _Weightless(nn.Module):
    # a module that is its class and its settings: copies, which torch and training make, equal one another
    def _settings(self) -> tuple:
        return type(self), *(
            (name, value) for name, value in vars(self).items() if name[0] != "_" and name != "training"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Weightless) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())


class _OfEigenvalues(_Weightless):
    stable, acts_on, time = True, "eigenvalues", "flow"
    lowest = -math.inf  # no raw weight reaches below
    inverse: Callable[[Any], Any]

    def right_inverse(self, value: ArrayLike) -> Values:
        """Return the raw weight of the nearest eigenvalue that one reaches: what torch starts from when it registers.

        Args:
            value: eigenvalues of any shape, per unit of time; those out of reach are warned of.

        Raises:
            ValueError: unless all are finite.

        >>> parameterizations.Exp().right_inverse([-1.0, -1.0]).tolist()
        [0.0, 0.0]
        """
        xp, wanted = namespace(value, "eigenvalues")
        if not xp.isfinite(wanted).all():
            raise ValueError(f"expected finite eigenvalues, got {value!r}")
        if not self.stable:
            return self.inverse(wanted)
        highest = -math.sqrt(xp.finfo(wanted.dtype).eps)
        nearest = xp.clip(wanted, None, xp.asarray(highest, dtype=wanted.dtype))
        nearest = xp.where(nearest < self.lowest, xp.asarray(self.lowest, dtype=wanted.dtype), nearest)
        _warn_of(int(((wanted >= 0) | (wanted < self.lowest)).sum()), "eigenvalues", self)
        return self.inverse(xp.where((wanted < 0) & (wanted >= self.lowest), wanted, nearest))

    def _below_zero(self, value: ArrayLike) -> tuple[Any, Any]:
        # (x < 0) & (x > -inf) is False for NaN as well
        xp, eigenvalue = namespace(value, "eigenvalues")
        if not ((eigenvalue < (0.0 if self.stable else math.inf)) & (eigenvalue > -math.inf)).all():
            raise ValueError(f"expected finite eigenvalues{' < 0' if self.stable else ''}, got {value!r}")
        return xp, eigenvalue


class Direct(_OfEigenvalues):
    """lambda = w, of any sign: the parameterization that is not stable. It takes diagonals and whole matrices.

    Reference: wang2024stablessm, Def. 3.4

    >>> f = parameterizations.Direct()
    >>> f.stable, [float(v) for v in (f(0.5), f.inverse(0.5), f.derivative(0.5))]
    (False, [0.5, 0.5, 1.0])
    """

    stable, acts_on = False, "both"

    def forward(self, w: ArrayLike) -> Values:
        """Return w.

        Raises:
            ValueError: unless w holds real numbers.
        """
        return namespace(w)[1][()]

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        """Return lambda.

        Raises:
            ValueError: unless all are finite.
        """
        return self._below_zero(eigenvalue)[1][()]

    def derivative(self, w: ArrayLike) -> Values:
        """Return d lambda / dw = 1.

        Raises:
            ValueError: unless w holds real numbers.
        """
        xp, raw = namespace(w)
        return xp.ones_like(raw)[()]


class Exp(_OfEigenvalues):
    """lambda = -e^w.

    Reference: wang2024stablessm, Def. 3.4

    >>> f = parameterizations.Exp()
    >>> [round(float(v), 3) for v in (f(1.0), f.inverse(-1.0), f.derivative(1.0))]
    [-2.718, 0.0, -2.718]
    """

    def forward(self, w: ArrayLike) -> Values:
        """Return -e^w.

        Raises:
            ValueError: unless w holds real numbers.
        """
        xp, raw = namespace(w)
        return -xp.exp(raw)

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        """Return w = log(-lambda).

        Raises:
            ValueError: unless all are finite and < 0.
        """
        xp, checked = self._below_zero(eigenvalue)
        return xp.log(-checked)

    def derivative(self, w: ArrayLike) -> Values:
        """Return d lambda / dw = lambda.

        Raises:
            ValueError: unless w holds real numbers.
        """
        return self(w)


class Softplus(_OfEigenvalues):
    """lambda = -log(1 + e^w).

    Not torch.nn.functional.softplus, which returns w itself above 20 and so is off by 2e-9 there.

    Reference: wang2024stablessm, Def. 3.4

    >>> f = parameterizations.Softplus()
    >>> [round(float(v), 3) for v in (f(0.0), f.inverse(-1.0), f.derivative(0.0))]
    [-0.693, 0.541, -0.5]
    """

    def forward(self, w: ArrayLike) -> Values:
        """Return -log(1 + e^w).

        Raises:
            ValueError: unless w holds real numbers.
        """
        xp, raw = namespace(w)
        return -xp.logaddexp(raw, xp.zeros_like(raw))

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        """Return w = log(e^{-lambda} - 1).

        Raises:
            ValueError: unless all are finite and < 0.
        """
        xp, checked = self._below_zero(eigenvalue)
        return xp.log(-xp.expm1(checked)) - checked

    def derivative(self, w: ArrayLike) -> Values:
        """Return d lambda / dw = -1 / (1 + e^{-w}).

        Raises:
            ValueError: unless w holds real numbers.
        """
        xp, raw = namespace(w)
        return -(torch.sigmoid if xp is torch else special.expit)(raw)


class InverseSquare(_OfEigenvalues):
    """lambda = -1 / (a w^2 + b), in [-1/b, 0); `inverse` takes the branch w >= 0.

    Args:
        a: > 0.
        b: >= 0; the default 0.5 reaches no further than lambda = -2.

    Raises:
        ValueError: unless a > 0 and b >= 0 are finite.

    Reference: wang2024stablessm, Thm 3.6

    >>> f = parameterizations.InverseSquare()
    >>> [float(v) for v in (f(0.0), f.inverse(-2.0), f.derivative(0.0))]
    [-2.0, 0.0, 0.0]
    """

    def __init__(self, a: Number = 1.0, b: Number = 0.5):
        super().__init__()
        self.a, self.b = positive("a", a), number("b", b, at_least=0.0)
        self.lowest = -1.0 / self.b if self.b else -math.inf

    def extra_repr(self) -> str:
        return f"a={self.a:g}, b={self.b:g}"

    def forward(self, w: ArrayLike) -> Values:
        """Return -1 / (a w^2 + b).

        Raises:
            ValueError: unless w holds real numbers.
        """
        _, raw = namespace(w)
        return -1.0 / (self.a * raw**2 + self.b)

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        """Return w = sqrt((-1 / lambda - b) / a).

        Raises:
            ValueError: unless all lie in [-1/b, 0).
        """
        xp, checked = self._below_zero(eigenvalue)
        square = -1.0 / checked - self.b
        if not (square >= -4 * xp.finfo(square.dtype).eps * self.b).all():  # -1/b itself may round below 0
            raise ValueError(f"expected eigenvalues >= -1/b = {-1.0 / self.b:g}, got {eigenvalue!r}")
        return xp.sqrt(xp.where(square > 0, square, xp.zeros_like(square)) / self.a)

    def derivative(self, w: ArrayLike) -> Values:
        """Return d lambda / dw = 2 a w lambda^2.

        Raises:
            ValueError: unless w holds real numbers.
        """
        _, raw = namespace(w)
        return 2.0 * self.a * raw / (self.a * raw**2 + self.b) ** 2


class Dissipative(_Weightless):
    """W = K - e^S with the skew part K and the symmetric part S of a raw (m, m) matrix M: Hurwitz whatever M.

    It reaches every W with d|h|^2/dt < 0 along dh/dt = Wh. For diagonal M it is `exp`; -e^M of any M is not stable.

    Reference: wang2024inverse, Fig. 4, for matrices

    >>> f, W = parameterizations.Dissipative(), torch.tensor([[-1.0, 3.0], [-3.0, -1.0]], dtype=torch.float64)
    >>> M = f.inverse(W)
    >>> torch.allclose(f(M), W), torch.allclose(f.right_inverse(W), M)
    (True, True)
    """

    stable, acts_on, time = True, "matrices", "flow"

    def forward(self, M: Matrices) -> Float[Tensor, "*batch m m"]:
        """Return W = K - e^S of one matrix M or a batch of them, (*batch, m, m).

        Raises:
            ValueError: unless it is a floating-point tensor of such a shape.
        """
        M = square_matrices("M", M)
        return (M - M.mT) / 2 - matrix_exponential((M + M.mT) / 2)

    def inverse(self, W: ArrayLike) -> Tensor:
        """Return M of a single matrix W, (m, m), as a tensor like it.

        Raises:
            ValueError: unless W is real, square and finite, and W + W^T has eigenvalues < 0.
        """
        matrix = square_matrix("W", W)
        largest = linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
        if largest >= 0:
            raise ValueError(f"expected W + W^T with eigenvalues < 0, got one of {2 * largest:g}")
        return self._of(matrix, W)

    def right_inverse(self, W: ArrayLike) -> Tensor:
        """Return M of the nearest matrix that one gives; it is warned of where that is not W.

        Raises:
            ValueError: unless W is real, square and finite.
        """
        matrix = square_matrix("W", W)
        _warn_of(int((linalg.eigvalsh((matrix + matrix.T) / 2) >= 0).sum()), "eigenvalues of W + W^T", self)
        return self._of(matrix, W)

    def _of(self, matrix: np.ndarray, like: ArrayLike) -> Tensor:
        values, vectors = linalg.eigh((matrix + matrix.T) / 2)
        highest = -math.sqrt(torch.finfo(like.dtype if isinstance(like, Tensor) else torch.float64).eps)
        logarithms = np.log(-np.where(values < 0, values, highest))
        M = torch.as_tensor((matrix - matrix.T) / 2 + (vectors * logarithms) @ vectors.T)
        return M.to(like) if isinstance(like, Tensor) else M


def _warn_of(count: int, things: str, parameterization: nn.Module) -> None:
    if count:
        message = f"{count} {things} are out of reach of {parameterization!r} and start at the nearest value within it"
        warnings.warn(message, stacklevel=3)


def matrix_exponential(A: Matrices) -> Float[Tensor, "*batch m m"]:
    """Return e^A of one matrix or a batch of them, (*batch, m, m), to rounding error.

    torch 2.13 takes a wrong coefficient for one small matrix alone, off by 1e-10 (pytorch issue 196592); a batch of
    two or more goes another way, so the first matrix goes in twice.

    Raises:
        ValueError: unless it is a floating-point tensor of such a shape.

    >>> parameterizations.matrix_exponential(torch.tensor([[0.0, 1.0], [0.0, 0.0]])).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    A = square_matrices("A", A)
    batch = A.reshape(-1, *A.shape[-2:])
    return torch.linalg.matrix_exp(torch.cat([batch, batch[:1]]))[:-1].reshape(A.shape)


def checked(parameterization: Any, W: Tensor) -> nn.Module:
    """Return the parameterization of a raw weight W once it is seen to fit: what a model's constructor asks.

    Args:
        parameterization: an nn.Module without weights that is a Parameterization of a flow.
        W: (m,) a diagonal or (m, m) dense.

    Raises:
        ValueError: for what declares nothing, or acts on diagonals where W is dense, or the other way round.

    >>> parameterizations.checked(parameterizations.exp, torch.zeros(3))
    Exp()
    """
    if not (isinstance(parameterization, nn.Module) and isinstance(parameterization, Parameterization)):
        known = "an nn.Module that declares stable, acts_on and time, such as parameterizations.exp"
        raise ValueError(f"expected a parameterization, {known}, got {parameterization!r}")
    if any(True for _ in parameterization.parameters()):
        raise ValueError(f"expected a parameterization without weights of its own, got {parameterization!r}")
    one_of("acts_on of a parameterization", parameterization.acts_on, ("eigenvalues", "matrices", "both"))
    one_of("time of a parameterization", parameterization.time, ("flow", "steps"))
    if parameterization.time == "steps":
        raise ValueError(f"expected a parameterization of a flow, as W is per unit of time, got {parameterization!r}")
    if parameterization.acts_on not in ("both", "matrices" if W.ndim == 2 else "eigenvalues"):
        shape = {"matrices": "dense W of shape (m, m)", "eigenvalues": "diagonal W of shape (m,)"}
        got = f"{parameterization!r} with W of shape {tuple(W.shape)}"
        raise ValueError(f"expected a {shape[parameterization.acts_on]} with a parameterization of its kind, got {got}")
    return parameterization


direct, exp, softplus, inverse_square = Direct(), Exp(), Softplus(), InverseSquare()
dissipative = Dissipative()
PARAMETERIZATIONS = {"direct": direct, "exp": exp, "softplus": softplus, "inverse_square": inverse_square}
