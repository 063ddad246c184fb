"""Areas: integrals of a kernel, of its modulus and of its square, and the times at which it has to be looked at.

A closed antiderivative makes the first two exact between the sign changes that a grid of times brackets. Where a kernel
declares none, it is sampled on cells that are halved until the samples predict it between them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, legendre

FARTHEST = 2.0**990  # stands in for infinity
SMALLEST = 2.0**-200  # first cell, in units of the horizon where that is finite
MOST_SAMPLES = 2**22
TOLERANCE = 1e-11  # wanted of a cell, relative to its area or to the mean one
ACCEPTED = 1e-8  # of the whole; beyond it nothing is returned

# a cell on [-1, 1]: values at Chebyshev-Lobatto nodes -> coefficients -> values at two probes, irregular so that no
# oscillation hides from them
_NODES = -np.cos(np.pi * np.arange(9) / 8)
_PROBES = -np.cos(np.pi * np.array([3.43, 5.56]) / 8)
_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(_NODES, 8))
_PREDICTED = chebyshev.chebvander(_PROBES, 8) @ _COEFFICIENTS


@dataclass(frozen=True, eq=False)
class Cells:
    """A kernel on cells of time, on each a polynomial of degree 8 that predicts it.

    Args:
        edges: (n + 1,) from 0; past the last one the kernel is 0, or was not asked for.
        antiderivatives: (n, 10) Chebyshev coefficients of its integral from the left end of each cell.
        areas: (n,) int |rho| on each cell, about.
        error: estimate of the error of every integral; where it exceeds 1e-8 of the area, integrals raise a ValueError.
        start: time until which rho stays within 1e-6 of its first value, relative to its largest.
    """

    edges: np.ndarray
    antiderivatives: np.ndarray
    areas: np.ndarray
    error: float
    start: float

    def integral(self, t: Any) -> Any:
        """Return int_0^t rho."""
        cell, part, whole = self._split(t)
        return np.append(0.0, np.cumsum(whole))[cell] + part

    def tail(self, t: Any) -> Any:
        """Return int_t^inf rho, summed from its end so that rounding shrinks with it."""
        cell, part, whole = self._split(t)
        return np.append(np.cumsum(whole[::-1])[::-1], 0.0)[cell] - part

    def times(self) -> np.ndarray:
        """Return times between neighbours of which the kernel turns at most once, until 1e-14 of its area is left."""
        left = np.cumsum(self.areas[::-1])[::-1]  # area of a cell and all after it
        used = np.flatnonzero((left > 1e-14 * left[0]) & (self.edges[1:] > self.start / 2))
        if not used.size:
            return np.zeros(1)
        end = np.searchsorted(self.edges, 2 * self.edges[used[-1] + 1])  # an octave more, to see it gone
        edges = self.edges[used[0] : end + 1]
        nodes = edges[:-1, None] + np.diff(edges)[:, None] * (1 + _NODES) / 2
        return np.unique(np.append(0.0, nodes))

    def _split(self, t: Any) -> tuple[Any, Any, np.ndarray]:
        # the cell of each time, the integral over it up to that time, and those over every cell
        if not self.error <= ACCEPTED * self.areas.sum():
            raise ValueError(
                f"expected a kernel whose integral exists, got {self.areas.sum():g} up to {self.edges[-1]:g} with an "
                f"error of {self.error:.0e}: pass a finite horizon=, or declare the tail of the kernel"
            )
        cell = np.clip(np.searchsorted(self.edges, t, side="right") - 1, 0, len(self.areas) - 1)
        left, right = self.edges[cell], self.edges[cell + 1]
        x = np.clip(2 * (np.minimum(t, right) - left) / (right - left) - 1, -1.0, 1.0)
        part = (self.antiderivatives[cell] * chebyshev.chebvander(x, 9).reshape(*np.shape(t), 10)).sum(-1)
        return cell, part, self.antiderivatives.sum(1)


def resolved(rho: Callable, horizon: float = math.inf, features: Any = ()) -> Cells:
    """Sample rho on [0, horizon] until nine values predict two more on every cell: eight cells an octave, then halves.

    Args:
        rho: times (n,) -> values (n,).
        horizon: end of the time asked for; up to infinity what comes after 2^990 is extrapolated, and has to be small.
        features: times at which cells end: jumps and peaks narrower than 1 % of their time, which else may be missed.

    Raises:
        ValueError: where 4 million samples do not resolve rho, or values are not finite.
    """
    end = min(horizon, FARTHEST)
    features = np.asarray(features, dtype=float)
    octaves = math.log2(end if math.isinf(horizon) else 1.0) - math.log2(SMALLEST)
    edges = end * np.exp2(-np.arange(int(8 * octaves) + 1) / 8)
    edges = np.unique(np.concatenate([[0.0], edges, features[(features > 0) & (features < end)]]))
    left, right = edges[:-1], edges[1:]
    values = _sampled(rho, left, right)
    left, right, values = _until_it_overflows(left, right, values)
    done, area, n_samples = [], 0.0, values.size
    while True:
        width = right - left
        with np.errstate(over="ignore"):
            areas = width * np.abs(values).mean(1)
            errors = width * np.abs(values[:, 9:] - values[:, :9] @ _PREDICTED.T).max(1)
        n_cells = sum(len(cells[0]) for cells in done) + len(left)
        share = (area + areas.sum()) / n_cells
        fails = (errors > TOLERANCE * (areas + share)) & (width > 1e-15 * right)
        done.append([x[~fails] for x in (left, right, values, areas, errors)])
        area += areas[~fails].sum()
        if not fails.any():
            break
        middle = (left[fails] + right[fails]) / 2
        left, right = np.append(left[fails], middle), np.append(middle, right[fails])
        n_samples += 11 * len(left)
        if n_samples > MOST_SAMPLES:
            raise ValueError(
                f"expected a kernel that {MOST_SAMPLES} samples resolve on 0 … {horizon:g}, got more turns or jumps: "
                "pass a horizon=, or declare its tail and features"
            )
        values = _sampled(rho, left, right)
        if not np.isfinite(values).all():
            raise _not_finite(left, values)
    left, right, values, areas, errors = (np.concatenate(x) for x in zip(*done, strict=True))
    order = np.argsort(left)
    left, right, values, areas, errors = (x[order] for x in (left, right, values, areas, errors))
    error = errors.sum() + (beyond(left, areas) if math.isinf(horizon) else 0.0)
    integral = chebyshev.chebint(values[:, :9] @ _COEFFICIENTS.T, lbnd=-1, axis=1) * (right - left)[:, None] / 2
    moved = np.abs(values - values[0, 0]).max(1) > 1e-6 * np.abs(values).max()
    start = left[np.argmax(moved)] if moved.any() else right[-1]
    return Cells(np.append(left, right[-1]), integral, areas, float(error), float(start))


def _sampled(rho: Callable, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    t = left[:, None] + (right - left)[:, None] * (1 + np.append(_NODES, _PROBES)) / 2
    t[:, 8] = right
    with np.errstate(all="ignore"):  # what overflows on the way is judged by what comes out
        return rho(t.ravel()).reshape(t.shape)


def _until_it_overflows(left: np.ndarray, right: np.ndarray, values: np.ndarray) -> tuple:
    # t^4 e^{-t} is inf * 0 in the end, an octave and more after it has become 0
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if not bad.size:
        return left, right, values
    before = values[(right <= left[bad[0]]) & (left >= left[bad[0]] / 4)]
    if not before.size or before.any():
        raise _not_finite(left, values)
    return left[: bad[0]], right[: bad[0]], values[: bad[0]]


def _not_finite(left: np.ndarray, values: np.ndarray) -> ValueError:
    row = np.flatnonzero(~np.isfinite(values).all(1))[0]
    found = values[row][~np.isfinite(values[row])][0]
    return ValueError(f"expected a kernel of finite values, got {found} near t = {left[row]:g}")


def beyond(left: np.ndarray, areas: np.ndarray) -> float:
    """Return the area past the last cell if octaves go on to shrink as the last two do; inf where they grow.

    Args:
        left: (n,) left ends of increasing cells.
        areas: (n,) what lies on them.
    """
    end = left[-1]
    last, before = areas[left > end / 2].sum(), areas[(left > end / 4) & (left <= end / 2)].sum()
    if last == 0:
        return 0.0
    return float(last**2 / (before - last)) if last < before else math.inf


def dyadic(first: float, last: float) -> np.ndarray:
    """Return 0 and 64 times an octave from first to last, a subset of 2^{k/64}, so that kernels share them."""
    first, last = math.floor(64 * math.log2(first)), math.ceil(64 * math.log2(last))
    return np.append(0.0, np.exp2(np.arange(first, last + 1) / 64))


def octaves(tail: Callable) -> np.ndarray:
    """Return 0 and 64 times an octave, from where 1e-6 of the integral has passed until 1e-14 of it is left."""
    k = np.arange(-990, 991)
    tails = tail(np.exp2(k))
    if not (mass := np.abs(tails).max()) > 0:
        return np.zeros(1)
    first = k[np.argmax(np.abs(tail(0.0) - tails) > 1e-6 * mass)]
    last = k[np.flatnonzero(np.abs(tails) > 1e-14 * mass)[-1]] + 1
    return dyadic(float(2.0 ** (first - 1)), float(2.0**last))


def sign_changes(rho: Callable, grid: np.ndarray) -> np.ndarray:
    """Return 0 followed by the sign changes of rho that an increasing grid brackets."""
    # all bisected at once: brentq takes 20 times as long, and raises where rounding of rho differs between arrays and
    # scalars
    values = rho(grid)
    grid, values = grid[values != 0], values[values != 0]
    found = np.flatnonzero(np.diff(np.sign(values)))
    low, high, sign = grid[found], grid[found + 1], np.sign(values[found])
    for _ in range(52 if found.size else 0):
        middle = (low + high) / 2
        unchanged = np.sign(rho(middle)) == sign
        low, high = np.where(unchanged, middle, low), np.where(unchanged, high, middle)
    return np.append(0.0, low)


def variation(antiderivative: Callable, points: np.ndarray) -> float:
    """Return int |rho| from the first to the last of increasing points, if rho changes sign at them only."""
    return float(np.abs(np.diff(antiderivative(points))).sum())


def area(rho: Any, horizon: float = math.inf) -> float:
    """Return int_0^horizon |rho| of a complete kernel: differences of its antiderivative between its sign changes."""
    points = sign_changes(rho, up_to(horizon, rho.features(horizon)))
    return variation(rho.antiderivative, np.append(points[points < horizon], horizon))


def energy(rho: Any, horizon: float = math.inf) -> float:
    """Return int_0^horizon rho^2 of a complete kernel, by eight Gauss nodes between neighbouring features.

    Raises:
        ValueError: where the horizon is infinite and the integral does not exist.
    """
    features = up_to(horizon, rho.features(horizon))
    # what is faster than the first feature shows as well
    first = features[features > 0].min(initial=np.inf if math.isinf(horizon) else horizon)
    edges = np.unique(np.concatenate([[0.0], first * np.exp2(-np.arange(400) / 8), features]))
    edges = edges[np.isfinite(edges)]  # of nothing but 0
    half = np.diff(edges) / 2
    nodes, weights = legendre.leggauss(8)
    squares = half * (rho(edges[:-1, None] + half[:, None] * (1 + nodes)) ** 2 @ weights)
    endless = math.isinf(horizon) and edges[-1] > FARTHEST / 2  # else the features end because nothing is left
    if endless and not beyond(edges[:-1], squares) <= ACCEPTED * squares.sum():
        raise ValueError(f"expected a square-integrable kernel, or a finite horizon=, got {rho!r}")
    return float(squares.sum())


def up_to(horizon: float, grid: np.ndarray) -> np.ndarray:
    """Return the times of an increasing grid before the horizon, and the horizon where it is finite."""
    return grid if math.isinf(horizon) else np.append(grid[grid < horizon], horizon)


def laplace(rho: Any, s: Any, features: Any = ()) -> Any:
    """Return int_0^inf e^{-st} rho(t) dt of a complete kernel, s >= 0, by quadrature where s > 0."""

    def transform(s: float) -> float:
        cells = resolved(lambda t: np.exp(-s * t) * rho(t), features=features) if s > 0 else rho
        return float(cells.tail(np.array(0.0)))

    return np.reshape([transform(each) for each in np.ravel(s)], np.shape(s))[()]
