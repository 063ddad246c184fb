"""Stability radii: how far a matrix is from one that is not stable, exactly."""

import numpy as np
from scipy import linalg, optimize
from torch import Tensor

from cmlib.arguments import ArrayLike


def stability_radius(W: ArrayLike, field: str = "complex") -> float:
    """Return the distance, in the spectral norm, from W to the nearest matrix that is not Hurwitz.

    complex: min_w s_min(iw I - W). real: min_w max_{0 < g <= 1} of the second smallest singular value of
    [[W, g w I], [-w I / g, W]], searched on a grid of w and refined; exact at w = 0.

    Args:
        W: (m, m), a real matrix.
        field: "complex" or "real" perturbations.

    Reference: boyd1990regularity (complex); qiu1995formula (real)
    """
    W = W.detach().cpu().numpy() if isinstance(W, Tensor) else np.asarray(W)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not W.size:
        raise ValueError(f"expected a square matrix, got shape {W.shape}")
    if np.iscomplexobj(W) or not np.isfinite(W).all():
        raise ValueError("expected a real matrix of finite numbers, got complex, NaN or infinite entries")
    W = W.astype(float)
    if field not in ("complex", "real"):
        raise ValueError(f"expected field 'complex' or 'real', got {field!r}")
    if linalg.eigvals(W).real.max() >= 0:
        return 0.0
    return _complex_radius(W) if field == "complex" else _real_radius(W)


def _complex_radius(W: np.ndarray) -> float:
    identity = np.eye(len(W))

    def smallest(frequency: float) -> float:
        return linalg.svdvals(1j * frequency * identity - W)[-1]

    frequencies = np.append(0.0, np.abs(linalg.eigvals(W).imag))
    radius = min(map(smallest, frequencies))
    while True:
        # iw is an eigenvalue of this Hamiltonian exactly where iw I - W has the singular value `level`
        level = radius * (1 - 1e-10)
        values = linalg.eigvals(np.block([[W, -level * identity], [level * identity, -W.T]]))
        on_axis = np.abs(values.real) < 1e-9 * np.abs(values).max()
        crossings = np.sort(values.imag[on_axis])
        if len(crossings) < 2:
            return float(radius)
        lower = min(map(smallest, (crossings[1:] + crossings[:-1]) / 2))
        if lower >= level:
            return float(min(radius, lower))
        radius = lower


def _real_radius(W: np.ndarray) -> float:
    identity = np.eye(len(W))

    def distance(frequency: float) -> float:
        # the second smallest singular value is unimodal in g, so a bounded search over log g finds its maximum
        def second_smallest(log_g: float) -> float:
            g = np.exp(log_g)
            block = np.block([[W, g * frequency * identity], [-frequency / g * identity, W]])
            return -linalg.svdvals(block)[-2]

        return -optimize.minimize_scalar(
            second_smallest, bounds=(-25.0, 0.0), method="bounded", options={"xatol": 1e-10}
        ).fun

    at_zero = linalg.svdvals(W)[-1]
    top = linalg.svdvals(W)[0] + at_zero  # no perturbation below at_zero moves an eigenvalue past this height
    resonances = np.abs(linalg.eigvals(W).imag)
    grid = np.unique(np.concatenate([np.geomspace(1e-6 * top, top, 60), resonances[resonances > 0]]))
    values = np.array([distance(w) for w in grid])
    radius = min(at_zero, values.min())
    padded = np.concatenate([[np.inf], values, [np.inf]])
    for i in np.flatnonzero((values <= padded[:-2]) & (values <= padded[2:]) & (values < 2 * radius)):
        bounds = (grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)])
        refined = optimize.minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-12})
        radius = min(radius, refined.fun)
    return float(radius)
