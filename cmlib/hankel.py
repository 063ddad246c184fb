"""The Hankel operator (G f)(t) = int_0^inf rho(t + s) f(s) ds: what any number of modes can and cannot do for a kernel.

Its singular values bound every fit from below, and its singular vectors are the start of a good one.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import linalg

from cmlib.areas import up_to
from cmlib.arguments import Number, count
from cmlib.kernels import KernelLike, complete, terms


def hankel_singular_values(kernel: KernelLike, n: Number, *, n_nodes: int | None = None) -> Float[np.ndarray, " n"]:
    """Return the n largest singular values of the Hankel operator (G f)(t) = int_0^inf rho(t + s) f(s) ds.

    The value at index m bounds ||rho - s||_{L1} from below for every exponential sum s of m modes. From Gramians for
    exponential sums, else by Gauss-Legendre quadrature in log(1 + t / scale); absolute error about 1e-13 of the first.

    Args:
        kernel: the memory kernel.
        n: how many, >= 1.
        n_nodes: quadrature nodes; None doubles them until the values settle, and warns where they still move by 1600.

    Raises:
        ValueError: for n < 1, n_nodes < n, or a kernel that is constant or not integrable.

    Reference: adamjan1971analytic; glover1984optimal

    >>> cmlib.hankel_singular_values(kernels.Exponential(0.5), 2).tolist()  # one mode: 1 / (2 rate), and no more
    [1.0, 0.0]
    >>> cmlib.hankel_singular_values(kernels.Polynomial(2.0), 3).round(4).tolist()
    [0.4018, 0.0698, 0.0185]
    """
    kernel, n = complete(kernel), count("n", n)
    if n_nodes is not None:
        return np.abs(HankelOperator.of(kernel, count("n_nodes", n_nodes, at_least=n)).values[:n])
    if (closed := terms(kernel)) and closed[0][0].size and not closed[1][0].size:
        # one input and one output: the moduli of the eigenvalues of the cross-Gramian
        weights, rates = closed[0]
        root = np.sqrt(weights.astype(complex))
        values = linalg.eigvals(np.outer(root, root) / (rates[:, None] + rates))
    else:
        values = converged(kernel, max(n, 50)).values
    return np.append(np.sort(np.abs(values))[::-1], np.zeros(n))[:n]


def graded_nodes(kernel: Any, n_nodes: int, horizon: float = np.inf) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (t, q, scale): Gauss-Legendre nodes in log(1 + t / scale), their weights, and the kernel's own time scale.

    They end at the horizon, or where nothing of the kernel is left.
    """
    grid = up_to(horizon, kernel.features(horizon))
    values = kernel(grid)
    size, slope = np.abs(values).max(), np.abs(np.diff(values) / np.diff(grid)).max(initial=0.0)
    if not (np.isfinite(size) and 0 < slope < np.inf):
        raise ValueError(f"expected a finite kernel that varies, got {kernel!r}")
    scale = min(size / slope, grid[-1])
    end = np.log1p(grid[-1] / scale)
    u, q = np.polynomial.legendre.leggauss(n_nodes)
    u, q = end * (u + 1) / 2, end * q / 2
    return scale * np.expm1(u), scale * q * np.exp(u), scale


@dataclass(frozen=True, eq=False)
class HankelOperator:
    """The eigenpairs of one quadrature of the Hankel operator, which is symmetric.

    Args:
        t: (n,) nodes, in units of time.
        q: (n,) their weights.
        values: (n,) eigenvalues, largest modulus first.
        at_zero: (n,) eigenfunctions, of norm 1, at t = 0.
    """

    t: Float[np.ndarray, " n"]
    q: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    at_zero: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, kernel: Any, n_nodes: int) -> "HankelOperator":
        """Return the operator of a complete kernel at n_nodes Gauss-Legendre nodes in log(1 + t / scale)."""
        kernel.tail(0.0)  # raises where the memory is too long for the operator to exist
        t, q, _ = graded_nodes(kernel, n_nodes)
        root = np.sqrt(q)
        values, vectors = linalg.eigh(root[:, None] * kernel(t[:, None] + t) * root)
        order = np.argsort(-np.abs(values))
        values, vectors = values[order], vectors[:, order]
        with np.errstate(divide="ignore", invalid="ignore"):  # of values that are zero no one asks
            return cls(t, q, values, (root * kernel(t)) @ vectors / values)

    def truncated(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (rates, weights) of balanced truncation to m modes, or as many as have values above rounding."""
        m = min(m, int((np.abs(self.values) > 1e-13 * np.abs(self.values[0])).sum()))
        x, B = np.abs(self.values[:m]), np.sqrt(np.abs(self.values[:m])) * self.at_zero[:m]
        sign = np.sign(self.values[:m])
        A = -np.outer(B, B) / (x + np.outer(sign, sign) * x[:, None])
        eigenvalues, vectors = linalg.eig(A)
        return _tidy(-eigenvalues, (sign * B) @ vectors * linalg.solve(vectors, B.astype(complex)))


def converged(kernel: Any, n_values: int = 50) -> HankelOperator:
    """Return the operator at so many nodes that doubling them moves no one of the first values by 1e-9 of the first.

    Warns where 1600 nodes, or twice the number of values, do not suffice: the kernel has a jump.
    """
    coarse, n = HankelOperator.of(kernel, max(100, n_values)), 2 * max(100, n_values)
    most = max(1600, n)
    while n <= most:
        fine = HankelOperator.of(kernel, n)
        change = np.abs(np.abs(fine.values[:n_values]) - np.abs(coarse.values[:n_values])).max()
        change /= np.abs(fine.values[0])
        if change < 1e-9:  # of the coarse ones; the fine ones are far closer
            return fine
        coarse, n = fine, 2 * n
    warnings.warn(f"Hankel singular values of {kernel!r} have settled to {change:.0e} of the first only", stacklevel=3)
    return fine


def _tidy(rates: npt.NDArray[np.inexact], weights: npt.NDArray[np.inexact]) -> tuple[np.ndarray, np.ndarray]:
    # real where rounding alone makes them complex; rates that rounding made negative come back at rounding level
    least = np.finfo(float).eps * np.abs(rates).max()
    rates = np.maximum(rates.real, least * 1e-3) + 1j * np.where(np.abs(rates.imag) < least, 0.0, rates.imag)
    if not rates.imag.any():
        return rates.real, weights.real
    paired = rates.imag != 0
    # conjugates to the last digit
    upper = rates.imag > 0
    rates = np.concatenate([rates[~paired], rates[upper], rates[upper].conj()])
    weights = np.concatenate([weights[~paired].real, weights[upper], weights[upper].conj()])
    return rates, weights
