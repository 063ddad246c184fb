"""Stability radii: how far a matrix is from one that is not stable, with a certificate."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import linalg, optimize

from cmlib.arguments import ArrayLike, one_of, square_matrix

EPS = np.finfo(float).eps
COMPLEX_TOLERANCE, REAL_TOLERANCE = 1e-10, 1e-8  # relative
LOOSER = (1e-2, 1e-1)  # certificates of real radii where that one would take thousands of level sets
ROUNDS = 100  # of level sets; complex radii take about four, real ones up to 20
Piece = tuple[float, float, float]  # from t, to t, distance half way


def stability_radius(W: ArrayLike, field: str = "complex", time: str = "flow") -> float:
    """Return the distance, in the spectral norm, from W to the nearest matrix that is not stable.

    Over s = x + iy on the imaginary axis (a flow) or the unit circle (steps) it is, complex, min_s s_min(sI - W), and,
    real, min_s max_{0 < g <= 1} of the second smallest singular value of [[A, -g y I], [y I / g, A]], A = xI - W. Level
    sets certify that no s lies more than a relative 1e-10 (complex) or 1e-8 (real) below the value returned, or, where
    this is more, m eps |W|. Where the real distance hardly changes along the boundary a warning says how much less is
    certified; the value is the least distance found.

    Args:
        W: (m, m), a real matrix; per unit of time of a flow, a number in steps.
        field: "complex" or "real" perturbations.
        time: "flow", stable where all eigenvalues have real parts < 0, or "steps", where all have moduli < 1.

    Returns:
        The radius in the units of W; 0.0 for a matrix that is not stable.

    Raises:
        ValueError: if W is no real square matrix of finite numbers, or `field` or `time` is none of the above.
        RuntimeError: if level sets do not come to an end.

    Reference: boyd1990regularity; bruinsma1990fast (complex); qiu1995formula; sreedhar1996fast (real)

    >>> W = [[-1.0, 4.0], [-1.0, -1.0]]  # eigenvalues -1 +- 2i
    >>> [round(cmlib.stability_radius(W, field), 6) for field in ("complex", "real")]
    [0.8, 1.0]
    >>> round(cmlib.stability_radius([[0.6, 0.0], [0.0, -0.9]], time="steps"), 6)
    0.1
    """
    W = square_matrix("W", W)
    one_of("field", field, ("complex", "real"))
    boundary = _BOUNDARIES[one_of("time", time, _BOUNDARIES)](W)
    if not boundary.depths[0] > 0:
        return 0.0
    return _complex_radius(W, boundary) if field == "complex" else _real_radius(W, boundary)


class _Axis:
    """The imaginary axis, s = it with t >= 0: a real W has the same distances at -t."""

    real_points = (0.0,)  # t where s is real and one real eigenvalue can arrive alone

    def __init__(self, W: np.ndarray):
        values = linalg.eigvals(W)
        values = values[np.argsort(-values.real)]
        self.W = W
        self.depths = -values.real  # from the boundary, increasing
        self.resonances = values.imag[values.imag > 0]  # t next to eigenvalues off the real line, shallowest first
        self.scale = linalg.norm(W, 2)
        self.end = 2 * self.scale  # s_min(itI - W) >= t - |W| exceeds |W| from here on, and the radius does not

    @staticmethod
    def point(t: float) -> complex:
        return 1j * t

    def crossings(self, level: float, gamma: float = 1.0) -> np.ndarray:
        # every t >= 0 at which the block of `_second_smallest` has the singular value `level`
        W, rho = self.W, level * np.eye(len(self.W))
        if gamma == 1.0:
            t = -1j * linalg.eigvals(np.block([[W, -rho], [rho, -W.T]]))
        else:
            # t y = K x, t x = L y for parts x, y of the singular vectors; t^2 as eigenvalues of LK, half the size,
            # would lose half the digits of a t far below |W|
            K = np.block([[-W, -rho / gamma], [gamma * rho, W.T]])
            L = np.block([[W, gamma * rho], [-rho / gamma, -W.T]])
            t = linalg.eigvals(np.block([[np.zeros_like(L), L], [K, np.zeros_like(K)]]))
        # where a level is touched two roots meet, and rounding moves them apart by a square root
        return np.unique(np.abs(t.real[np.abs(t.imag) <= np.sqrt(EPS) * np.abs(t).max()]))


class _Circle:
    """The unit circle, s = e^{it} with 0 <= t <= pi: a real W has the same distances at -t."""

    real_points = (0.0, np.pi)
    end = np.pi

    def __init__(self, W: np.ndarray):
        values = linalg.eigvals(W)
        values = values[np.argsort(-np.abs(values))]
        self.W = W
        self.depths = 1 - np.abs(values)
        self.resonances = np.angle(values[values.imag > 0])
        self.scale = 1 + linalg.norm(W, 2)

    @staticmethod
    def point(t: float) -> complex:
        return np.exp(1j * t)

    def crossings(self, level: float, gamma: float = 1.0) -> np.ndarray:
        # as on the axis, y^2 x = LK x; here L and K depend on c = cos t, and in y^2 = 1 - c^2 = LK the squares of c
        # cancel, which leaves (I - C) x = c B x, half as large
        W, rho, eye = self.W, level, np.eye(len(self.W))
        slope, across = rho * (1 / gamma - gamma) * eye, rho * (gamma * W.T - W / gamma)
        B = np.block([[2 * W, slope], [-slope, 2 * W.T]])
        C = np.block([[(gamma * rho) ** 2 * eye - W @ W, across], [-across, (rho / gamma) ** 2 * eye - W.T @ W.T]])
        spread, center, inverse = min(
            (self._about(center, np.eye(len(C)) - C - center * B, B) for center in (-1.5, 0.0, 1.5)),
            key=lambda shifted: shifted[0],
        )
        values = linalg.eigvals(inverse)  # 1 / (c - center)
        cosines = center + 1 / values[np.abs(values) * (2 + abs(center)) > 1]
        slack = np.sqrt(EPS * max(spread, 1.0))
        near = (np.abs(cosines.imag) <= slack) & (np.abs(cosines.real) <= 1 + slack)
        return np.unique(np.arccos(np.clip(cosines.real[near], -1, 1)))

    @staticmethod
    def _about(center: float, shifted: np.ndarray, B: np.ndarray) -> tuple[float, float, np.ndarray]:
        # the first entry times eps is what rounding does to a cosine, so the center with the least is the one to take
        try:
            inverse = np.linalg.solve(shifted, B)
        except np.linalg.LinAlgError:
            return np.inf, center, B
        return linalg.norm(inverse, 1) * (1 + abs(center)) ** 2, center, inverse


_BOUNDARIES = {"flow": _Axis, "steps": _Circle}


def _complex_radius(W: np.ndarray, boundary: _Axis | _Circle) -> float:
    def distance(t: float) -> float:
        return _singular_values(W, boundary.point(t))[-1]

    radius = min(map(distance, (*boundary.real_points, *boundary.resonances[:3])))
    pieces = [(0.0, boundary.end, np.inf)]
    for _ in range(ROUNDS):
        level = _level(radius, COMPLEX_TOLERANCE, boundary)
        pieces = _below(level, distance, pieces, boundary.crossings(level))
        if not pieces:
            return float(radius)
        radius = min(found for _, _, found in pieces)
    raise RuntimeError(f"expected {ROUNDS} level sets to leave nothing below a radius of {radius}, got {pieces}")


def _real_radius(W: np.ndarray, boundary: _Axis | _Circle) -> float:
    # the distance jumps where s is real: there one real eigenvalue arrives alone, elsewhere a pair has to
    radius = min(_singular_values(W, boundary.point(t))[-1] for t in boundary.real_points)
    for t in boundary.resonances[:1]:
        radius = min(radius, _real_distance(W, boundary, t, 1e-9)[0])
    pieces, gamma = [(0.0, boundary.end, np.inf)], 1.0
    for tolerance in np.repeat([REAL_TOLERANCE, *LOOSER], ROUNDS):
        # one g with a value no less than the level is enough to leave a point of the boundary
        level = _level(radius, tolerance, boundary)
        distance = partial(_second_smallest, W, boundary, gamma)
        pieces = _below(level, distance, pieces, boundary.crossings(level, gamma))
        if not pieces:
            if tolerance > REAL_TOLERANCE:
                warnings.warn(f"the radius {radius:.9g} is certified to a relative {tolerance:g} only", stacklevel=3)
            return float(radius)
        start, stop, _ = max(pieces, key=lambda piece: piece[1] - piece[0])
        t = (start + stop) / 2
        found, gamma = _real_distance(W, boundary, t, 1e-2)  # enough to leave t, and its neighbourhood, if it is above
        if found < radius:
            found, gamma = _real_distance(W, boundary, t, 1e-9)
        radius = min(radius, found)
    raise RuntimeError(f"expected {3 * ROUNDS} level sets to leave nothing below a radius of {radius}, got {pieces}")


def _level(radius: float, tolerance: float, boundary: _Axis | _Circle) -> float:
    # not negative: a radius below rounding is as good as 0, and no distance is below that
    return max(0.0, radius - max(tolerance * radius, len(boundary.W) * EPS * boundary.scale))


def _below(level: float, distance: Callable[[float], float], pieces: list[Piece], crossings: np.ndarray) -> list[Piece]:
    """Cut pieces of the boundary at crossings of a level, and keep the parts on which the distance lies below it."""
    kept = []
    for start, stop, _ in pieces:
        edges = [start, *crossings[(crossings > start) & (crossings < stop)], stop]
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            found = distance((a + b) / 2)
            if found < level:
                kept.append((a, b, found))
    return kept


def _singular_values(W: np.ndarray, s: complex) -> np.ndarray:
    return linalg.svdvals(s * np.eye(len(W)) - W)


def _second_smallest(W: np.ndarray, boundary: _Axis | _Circle, gamma: float, t: float) -> float:
    s, eye = boundary.point(t), np.eye(len(W))
    A = s.real * eye - W
    return linalg.svdvals(np.block([[A, -gamma * s.imag * eye], [s.imag / gamma * eye, A]]))[-2]


def _real_distance(W: np.ndarray, boundary: _Axis | _Circle, t: float, xatol: float) -> tuple[float, float]:
    """Return the distance from W to real matrices with the eigenvalue s at t, and its g, to xatol in log g."""
    s = boundary.point(t)
    values = _singular_values(W, s)
    if values[-1] <= EPS * values[0]:
        return values[-1], 1.0
    # (-g A v / y, v) shows that a smaller g gives less than g = 1 does
    lowest = np.log(s.imag / values[0] * values[-1] / values[-2])
    noise = len(W) * EPS * s.imag  # over g it is what rounding may add; a tiny g must not win by that
    best = optimize.minimize_scalar(  # unimodal in g
        lambda log_gamma: noise / np.exp(log_gamma) - _second_smallest(W, boundary, np.exp(log_gamma), t),
        bounds=(lowest - 1, 0.0),
        method="bounded",
        options={"xatol": xatol},
    )
    gamma = float(np.exp(best.x))
    found = noise / gamma - best.fun
    return (found, gamma) if found > values[-1] else (values[-1], 1.0)
