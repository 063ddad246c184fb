"""Stability radii: level sets, against a search over frequencies.

The twin of the real radius takes 60 frequencies and every eigenvalue's, for each the best g to ten digits, and refines
the lowest; that of the complex radius takes a singular value decomposition at each eigenvalue and then level sets.
The search does not say what lies between its frequencies, so the agreement is a check of it. Matrices are
skew-symmetric ones with couplings one way: they oscillate and are far from normal. Of seed 0 a pair of eigenvalues
arrives first, and the real radius takes eight or nine level sets; of seed 4 a single one, and one level set says so.
"""

import time

import numpy as np
from scipy import linalg, optimize

import cmlib


def matrix(m: int, seed: int = 0) -> np.ndarray:
    A, N = np.random.default_rng(seed).standard_normal((2, m, m)) / np.sqrt(m)
    W = (A - A.T) / 2 + 2 * np.triu(N, 1)
    return W - (linalg.eigvals(W).real.max() + 0.05) * np.eye(m)


def smallest(W: np.ndarray, frequency: float) -> float:
    return linalg.svdvals(1j * frequency * np.eye(len(W)) - W)[-1]


def complex_from_every_eigenvalue(W: np.ndarray) -> float:
    eye = np.eye(len(W))
    radius = min(smallest(W, w) for w in np.append(0.0, np.abs(linalg.eigvals(W).imag)))
    while True:
        level = radius * (1 - 1e-10)
        values = linalg.eigvals(np.block([[W, -level * eye], [level * eye, -W.T]]))
        crossings = np.sort(values.imag[np.abs(values.real) < 1e-9 * np.abs(values).max()])
        lowest = min((smallest(W, w) for w in (crossings[1:] + crossings[:-1]) / 2), default=level)
        if lowest >= level:
            return radius
        radius = lowest


def real_on_a_grid(W: np.ndarray) -> float:
    eye = np.eye(len(W))

    def distance(frequency: float) -> float:
        def second_smallest(log_g: float) -> float:
            g = np.exp(log_g)
            return -linalg.svdvals(np.block([[W, g * frequency * eye], [-frequency / g * eye, W]]))[-2]

        return -optimize.minimize_scalar(
            second_smallest, bounds=(-25.0, 0.0), method="bounded", options={"xatol": 1e-10}
        ).fun

    values = linalg.svdvals(W)
    resonances = np.unique(np.abs(linalg.eigvals(W).imag))
    grid = np.union1d(np.geomspace(1e-6, 1, 60) * (values[0] + values[-1]), resonances[resonances > 0])
    found = np.array([distance(w) for w in grid])
    padded = np.concatenate([[np.inf], found, [np.inf]])
    radius = min(values[-1], found.min())
    for i in np.flatnonzero((found <= padded[:-2]) & (found <= padded[2:]) & (found < 2 * radius)):
        bounds = (grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)])
        refined = optimize.minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-12})
        radius = min(radius, refined.fun)
    return radius


def timed(route, *args) -> tuple[float, float]:
    start = time.process_time()
    result = route(*args)
    return time.process_time() - start, result


TWINS = {"complex": complex_from_every_eigenvalue, "real": real_on_a_grid}
for field, m, seed in (("complex", 64, 0), ("complex", 128, 0), ("real", 64, 0), ("real", 128, 0), ("real", 128, 4)):
    W = matrix(m, seed)
    fast, radius = min(timed(cmlib.stability_radius, W, field) for _ in range(3))
    slow, expected = timed(TWINS[field], W)
    print(f"{field}, m = {m}, seed {seed}: level sets {fast:.2f} s, twin {slow:.2f} s of processor time")
    print(f"ratio {slow / fast:.1f}, relative difference {radius / expected - 1:.1e}")
for field, m in (("complex", 512), ("real", 256)):
    for flow_or_steps in ("flow", "steps"):
        W = matrix(m) if flow_or_steps == "flow" else linalg.expm(matrix(m))
        seconds, radius = timed(cmlib.stability_radius, W, field, flow_or_steps)
        print(f"{field}, m = {m}, {flow_or_steps}: {seconds:.1f} s of processor time, radius {radius:.6g}")
