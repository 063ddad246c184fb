"""Parameterizations: raw weight w -> real eigenvalue lambda = f(w), their inverses and their derivatives.

Each maps numpy to float64 numpy, and torch to torch of the same dtype and device, with gradients. The stable
ones have lambda < 0 whatever w. `Dissipative` is one of whole matrices.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, special
from torch import Tensor

from cmlib.arguments import ArrayLike, Number, namespace, number, positive, stored
from cmlib.kernels import Values


def _eigenvalue(value: ArrayLike, stable: bool = True) -> tuple[Any, Any]:
    # (x < inf) & (x > -inf) is False for NaN as well
    xp, eigenvalue = namespace(value)
    if not ((eigenvalue < (0.0 if stable else math.inf)) & (eigenvalue > -math.inf)).all():
        raise ValueError(f"expected finite eigenvalues{' < 0' if stable else ''}, got {value!r}")
    return xp, eigenvalue


@dataclass(frozen=True)
class Direct:
    """lambda = w, of any sign: the parameterization that is not stable.

    Reference: wang2024stablessm, Def. 3.4
    """

    def __call__(self, w: ArrayLike) -> Values:
        return namespace(w)[1][()]

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        return _eigenvalue(eigenvalue, stable=False)[1][()]

    def derivative(self, w: ArrayLike) -> Values:
        xp, w = namespace(w)
        return xp.ones_like(w)[()]


@dataclass(frozen=True)
class Exp:
    """lambda = -e^w.

    Reference: wang2024stablessm, Def. 3.4
    """

    def __call__(self, w: ArrayLike) -> Values:
        xp, w = namespace(w)
        return -xp.exp(w)

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        xp, eigenvalue = _eigenvalue(eigenvalue)
        return xp.log(-eigenvalue)

    def derivative(self, w: ArrayLike) -> Values:
        return self(w)


@dataclass(frozen=True)
class Softplus:
    """lambda = -log(1 + e^w).

    Not torch.nn.functional.softplus, which returns w itself above 20 and so is off by 2e-9 there.

    Reference: wang2024stablessm, Def. 3.4
    """

    def __call__(self, w: ArrayLike) -> Values:
        xp, w = namespace(w)
        return -xp.logaddexp(w, xp.zeros_like(w))

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        xp, eigenvalue = _eigenvalue(eigenvalue)
        return xp.log(-xp.expm1(eigenvalue)) - eigenvalue

    def derivative(self, w: ArrayLike) -> Values:
        xp, w = namespace(w)
        return -(torch.sigmoid if xp is torch else special.expit)(w)


@dataclass(frozen=True)
class InverseSquare:
    """lambda = -1 / (a w^2 + b), in [-1/b, 0); `inverse` takes the branch w >= 0.

    Args:
        a: > 0.
        b: >= 0; the default 0.5 reaches no further than lambda = -2.

    Reference: wang2024stablessm, Thm 3.6
    """

    a: Number = 1.0
    b: Number = 0.5

    def __post_init__(self):
        if (b := number("b", self.b)) < 0:
            raise ValueError(f"expected b >= 0, got {self.b!r}")
        stored(self, a=positive("a", self.a), b=b)

    def __call__(self, w: ArrayLike) -> Values:
        _, w = namespace(w)
        return -1.0 / (self.a * w**2 + self.b)

    def inverse(self, eigenvalue: ArrayLike) -> Values:
        xp, checked = _eigenvalue(eigenvalue)
        square = -1.0 / checked - self.b
        if not (square >= -4 * xp.finfo(square.dtype).eps * self.b).all():  # -1/b itself may round below 0
            raise ValueError(f"expected eigenvalues >= -1/b = {-1.0 / self.b:g}, got {eigenvalue!r}")
        return xp.sqrt(xp.where(square > 0, square, xp.zeros_like(square)) / self.a)

    def derivative(self, w: ArrayLike) -> Values:
        _, w = namespace(w)
        return 2.0 * self.a * w / (self.a * w**2 + self.b) ** 2


@dataclass(frozen=True)
class Dissipative:
    """W = K - e^S with the skew part K and the symmetric part S of a raw (m, m) matrix M: Hurwitz whatever M.

    It reaches every W with d|h|^2/dt < 0 along dh/dt = Wh. For diagonal M it is `exp`; -e^M of any M is not stable.

    Reference: wang2024inverse, Fig. 4, for matrices
    """

    def __call__(self, M: Float[Tensor, "*batch m m"]) -> Float[Tensor, "*batch m m"]:
        return (M - M.mT) / 2 - matrix_exponential((M + M.mT) / 2)

    def inverse(self, W: ArrayLike) -> Tensor:
        """Return M of a single matrix W."""
        W = np.asarray(W.detach().cpu() if isinstance(W, Tensor) else W, dtype=float)
        if W.ndim != 2 or W.shape[0] != W.shape[1] or not np.isfinite(W).all():
            raise ValueError(f"expected a square matrix of finite numbers, got {W!r}")
        values, vectors = linalg.eigh((W + W.T) / 2)
        if values[-1] >= 0:
            raise ValueError(f"expected W + W^T with eigenvalues < 0, got one of {2 * values[-1]:g}")
        return torch.as_tensor((W - W.T) / 2 + (vectors * np.log(-values)) @ vectors.T)


def matrix_exponential(A: Float[Tensor, "*batch m m"]) -> Float[Tensor, "*batch m m"]:
    """Return e^A to rounding error.

    torch 2.13 takes a wrong coefficient for one small matrix alone, off by 1e-10 (pytorch issue 196592); a batch of
    two or more goes another way, so the first matrix goes in twice.
    """
    batch = A.reshape(-1, *A.shape[-2:])
    return torch.linalg.matrix_exp(torch.cat([batch, batch[:1]]))[:-1].reshape(A.shape)


direct, exp, softplus, inverse_square = Direct(), Exp(), Softplus(), InverseSquare()
dissipative = Dissipative()
PARAMETERIZATIONS = {"direct": direct, "exp": exp, "softplus": softplus, "inverse_square": inverse_square}
STABLE = (Exp, Softplus, InverseSquare, Dissipative)
