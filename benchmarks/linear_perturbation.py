"""Sampled perturbation errors of a linear RNN: all radii and directions at once, against one model at a time.

The twin takes each perturbed network to its exponential sum by eigendecomposition and integrates |rho - rhohat|
between root-bracketed sign changes: another route to the same numbers, so the benchmark is a check as well.
"""

import time

import numpy as np
import torch

import cmlib
from cmlib import kernels, models
from cmlib.worst_case import Ball

torch.set_num_threads(1)
kernel, m, n_directions = kernels.Polynomial(exponent=1.1), 14, 10
network = models.LinearRNN(*cmlib.exponential_sum(kernel, m, times=np.arange(1.0, 101)).realization())
radii = cmlib.stability_radius(network.W) * np.geomspace(0.01, 0.9, 20)


def batched() -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return cmlib.perturbation_error(network, kernel, radii, n_directions=n_directions, generator=generator).errors


def one_at_a_time() -> np.ndarray:
    directions = Ball(network).random(torch.Generator().manual_seed(0), n_directions)
    errors = np.zeros((len(radii), n_directions))
    for i, beta in enumerate(radii):
        for j in range(n_directions):
            W, U, c = (
                (getattr(network, name).detach() + beta * directions[name][0, j]).numpy() for name in ("W", "U", "c")
            )
            values, vectors = np.linalg.eig(W)
            weights = (c @ vectors) * np.linalg.solve(vectors, U.astype(complex))
            errors[i, j] = cmlib.ExponentialSum(-values, weights).l1_error(kernel)
    return errors.max(1)


def timed(route) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = route()
    return time.perf_counter() - start, result


timed(batched)  # the first call pays for torch's own start
fast, fast_errors = min((timed(batched) for _ in range(3)), key=lambda pair: pair[0])
slow, slow_errors = timed(one_at_a_time)
difference = np.abs(fast_errors / slow_errors - 1).max()
print(f"{len(radii)} radii x {n_directions} directions, m = {m}: batched {fast:.2f} s, one at a time {slow:.2f} s")
print(f"ratio {slow / fast:.1f}, largest relative difference {difference:.1e}")
