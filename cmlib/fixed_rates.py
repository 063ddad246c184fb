"""Sums of exponentials with the rates r, 2r, ..., mr, which need not be found: the networks of Jackson's theorem.

In s = e^{-rt} they are polynomials without constant term. The exponentials themselves are hopeless as a basis, their
Gram matrix being a Hilbert matrix; phi_j = s P_j^{(0,1)}(2s - 1), with Jacobi's polynomials, is an orthogonal one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre

from cmlib.arguments import Array, ArrayLike, Number, Real, count, positive, real_array, stored
from cmlib.arguments import times as checked_times
from cmlib.kernels import Closed, KernelLike, Reals, Values, complete, l1_distance, terms

GONE = 750.0  # e^{-750} is 0 in double precision


@dataclass(frozen=True, eq=False)
class FixedRateSum(Closed):
    """sum_j coefficients_j phi_j(t), with phi_j orthogonal combinations of e^{-rt}, ..., e^{-(j+1)rt}.

    Args:
        rate: r > 0, per unit of time.
        coefficients: (m,), in units of the kernel.

    Raises:
        ValueError: unless rate > 0 and the coefficients are finite and at least one.

    >>> s = cmlib.FixedRateSum(1.0, [1.0, 0.5])  # e^{-t} + (3 e^{-2t} - 2 e^{-t}) / 2 = 1.5 e^{-2t}
    >>> s.nonnegative, [round(float(v), 3) for v in (s(0.0), s(1.0), s.tail(0.0), s.laplace(1.0))]
    (False, [1.5, 0.203, 0.75, 0.5])
    >>> s.first(1).coefficients.tolist(), s.features(10.0).size >= 16
    ([1.0], True)
    >>> round(s.l1_error(lambda t: 1.5 * np.exp(-2 * t)), 6)
    0.0
    """

    rate: Real
    coefficients: Array

    nonnegative = False

    def __post_init__(self):
        stored(self, rate=positive("rate", self.rate))
        stored(self, coefficients=real_array("coefficients", self.coefficients, ndim=1))
        if not self.coefficients.size:
            raise ValueError("expected at least one coefficient, got none")

    def first(self, m: Number) -> "FixedRateSum":
        """Return the sum of the first m terms: the best of its width, since the basis is orthogonal.

        Raises:
            ValueError: for m < 1.
        """
        return FixedRateSum(self.rate, self.coefficients[: count("m", m)])

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = checked_times(t)
        return self._sum(self.coefficients, xp.exp(-self.rate * at))

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf s, signed.

        Raises:
            ValueError: on t < 0.
        """
        # -phi_j' = rates_j phi_j + 2 sum_{i < j} rates_i phi_i, inverted from the last term on
        sums = np.zeros(self.coefficients.size + 1)
        for j, share in reversed(list(enumerate(self.coefficients / _rates(self.rate, self.coefficients.size)))):
            sums[j] = share - sums[j + 1]
        return self._sum(-np.diff(sums), np.exp(-self.rate * checked_times(t)[1]))

    def laplace(self, s: ArrayLike) -> Reals:
        """Return int_0^inf e^{-st} s(t) dt.

        Raises:
            ValueError: on s < 0.
        """
        found = _transforms(checked_times(s, "s")[1], self.rate, self.coefficients.size)
        return np.tensordot(self.coefficients, found, 1)[()]

    def features(self, horizon: float = np.inf) -> Float[np.ndarray, " time"]:
        """Return 0, 16 times for each turn of the last polynomial, and then eight an octave until nothing is left."""
        return _grid(self.rate, self.coefficients.size)

    def l1_error(self, kernel: KernelLike, horizon: Number = np.inf) -> float:
        """Return int_0^horizon |s - kernel|: the operator distance of the two functionals.

        Raises:
            ValueError: unless kernel is one, horizon > 0 and the integral exists.

        Reference: wang2024inverse, eq. (3)
        """
        return l1_distance(self, kernel, horizon)

    def _sum(self, coefficients: np.ndarray, s: Any) -> Any:
        return sum(a * phi for a, phi in zip(coefficients.tolist(), _basis(s, coefficients.size), strict=True))


def fixed_rate_sum(kernel: KernelLike, m: Number, rate: Number) -> FixedRateSum:
    """Fit a kernel by the m exponentials with rates rate, 2 rate, ..., m rate: make int_0^inf (s - rho)^2 dt small.

    Args:
        kernel: the memory kernel; it need not be integrable.
        m: number of modes, >= 1.
        rate: > 0, per unit of time.

    Raises:
        ValueError: for m < 1, rate <= 0, or what is no kernel.

    Reference: li2021curse, Thm 4.2

    >>> kernel = kernels.Polynomial(2.0)
    >>> wide = cmlib.fixed_rate_sum(kernel, 128, 1.0)
    >>> [round(wide.first(m).l1_error(kernel), 4) for m in (2, 16, 128)]
    [0.2878, 0.1466, 0.094]
    """
    kernel, m, rate = complete(kernel), count("m", m), positive("rate", rate)
    if (closed := terms(kernel)) and closed[0][0].size and not closed[1][0].size:
        weights, rates = closed[0]
        products = (_transforms(rates, rate, m) @ weights).real
    else:
        # both factors turn at most once between neighbours, so that eight nodes see all of them
        edges = np.union1d(kernel.features(GONE / rate), _grid(rate, m))
        edges = edges[edges <= GONE / rate]
        nodes, shares = legendre.leggauss(8)
        half = np.diff(edges)[:, None] / 2
        t = (edges[:-1, None] + half * (1 + nodes)).ravel()
        values, s = kernel(t) * (half * shares).ravel(), np.exp(-rate * t)
        products = np.array([values @ phi for phi in _basis(s, m)])
    return FixedRateSum(rate, 2 * _rates(rate, m) * products)


def _rates(rate: float, m: int) -> np.ndarray:
    return rate * np.arange(1, m + 1)


def _basis(s: Any, m: int) -> Iterator[Any]:
    # s P_j^{(0,1)}(2s - 1) for j < m, by the three-term recurrence
    x, before, now = 2 * s - 1, 0 * s, s
    for n in range(1, m + 1):
        yield now
        scale = 1 / ((n + 1) * (2 * n - 1))
        forward = ((4 * n * n - 1) * scale * x - scale) * now - (n - 1) * (2 * n + 1) * scale * before
        before, now = now, forward


def _transforms(z: Any, rate: float, m: int) -> Any:
    # int_0^inf e^{-zt} phi_j(t) dt = prod_{i < j} (z - rates_i) / prod_{i <= j} (z + rates_i), j on a first axis
    rates = _rates(rate, m).reshape(-1, *(1,) * np.ndim(z))
    passed = np.concatenate([np.ones((1, *np.shape(z))), (z - rates[:-1]) / (z + rates[:-1])])
    return np.cumprod(passed, axis=0) / (z + rates)


def _grid(rate: float, m: int) -> np.ndarray:
    # in s = cos^2 the polynomials turn about evenly; past the last turn, s alone is left
    turns = -2 * np.log(np.cos(np.arange(16 * m) * np.pi / (32 * m)))
    later = turns[-1] * np.exp2(np.arange(1, np.ceil(8 * np.log2(GONE / turns[-1])) + 1) / 8)
    return np.concatenate([turns, later]) / rate
