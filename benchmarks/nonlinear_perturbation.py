"""Sampled perturbation errors of a nonlinear RNN: the compiled sweep against one perturbed network at a time.

Diagonal hardtanh network, m = 64, 12,800 sequences of 100 steps, 22 radii x 30 directions, float64. The twin is the
plain loop: for each network it draws the inputs and computes the target again, and goes through time with
x[:, i:i+1]. It is run on a share of the networks and its time scaled up; outputs of that share are compared.
Before that, how the time of the sweep grows, and what memory it takes. Run with an argument to run all of the twin.
"""

import resource
import sys
import time

import numpy as np
import torch
from torch.nn import functional

import cmlib
from cmlib import kernels, models, targets
from cmlib.distances import SequenceDistance
from cmlib.worst_case import Ball

M, STEPS, SEQUENCES, DT = 64, 100, 12_800, 0.1
RADII = np.append(0.0, 1e-6 * 2.0 ** np.arange(21))  # up to 1: where dt |W| > 2 Euler's steps amplify rounding
DIRECTIONS = 30
EVERY = 1 if len(sys.argv) > 1 else 22  # the twin runs every so many networks

start = torch.Generator().manual_seed(0)
weights = [torch.randn(M, generator=start, dtype=torch.float64) for _ in range(2)]
network = models.RNN(-np.geomspace(0.05, 2.0, M), weights[0], weights[1] / M, dt=DT, activation="hardtanh")
target = targets.LinearFunctional(kernels.Polynomial(1.1), dt=DT)


def draw(sequences: int = SEQUENCES, steps: int = STEPS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sequences, steps, 1, generator=generator, dtype=torch.float64)


def sweep(directions: int = DIRECTIONS, radii: np.ndarray = RADII, steps: int = STEPS) -> np.ndarray:
    generator = torch.Generator().manual_seed(2)
    inputs = draw(steps=steps)
    curve = cmlib.perturbation_error(
        network, target, radii, n_directions=directions, generator=generator, inputs=inputs
    )
    return curve.errors


def plain_loop(W: torch.Tensor, U: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> float:
    x = draw()
    y = target(x)
    h, outputs = torch.zeros(SEQUENCES, 1, M, dtype=torch.float64), []
    for i in range(STEPS):
        x_i = x[:, i : i + 1]
        h = h + DT * functional.hardtanh(functional.linear(h, torch.diag(W)) + functional.linear(x_i, U, b))
        outputs.append(functional.linear(h, c.mT))
    gap = (torch.cat(outputs, 1) - y).abs().amax((1, 2)) / x.abs().amax((1, 2))
    return gap.max().item()


def timed(route, *arguments, **options):
    began = time.perf_counter()
    result = route(*arguments, **options)
    return time.perf_counter() - began, result


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB


def exponent(sizes, route) -> float:
    seconds = [min(timed(route, n)[0] for _ in range(2)) for n in sizes]
    return np.polyfit(np.log(sizes), np.log(seconds), 1)[0]


imported = peak()
cold, errors = timed(sweep)  # with the import of numba and the compilation
warm, _ = timed(sweep)
growth = {
    "directions": exponent([15, 30, 60, 120], lambda n: sweep(directions=n, radii=RADII[:4])),
    "radii": exponent([4, 8, 16], lambda n: sweep(directions=15, radii=RADII[:n])),
    "time": exponent([50, 100, 200], lambda n: sweep(directions=15, radii=RADII[:4], steps=n)),
}
memory = peak()

ball = Ball(network)
directions = ball.random(torch.Generator().manual_seed(2), DIRECTIONS)
pairs = [(i, j) for i in range(len(RADII)) for j in range(DIRECTIONS)][::EVERY]
moved = [{n: ball.center[n] + RADII[i] * d[0, j] for n, d in directions.items()} for i, j in pairs]
with torch.no_grad():
    slow, plain = timed(lambda: [plain_loop(**weights) for weights in moved])
distance = SequenceDistance(network, target, draw(), "sup")
same = distance({n: torch.stack([weights[n] for weights in moved])[None] for n in directions})[0].numpy()
difference = np.abs(same / np.array(plain) - 1).max()
slow *= len(RADII) * DIRECTIONS / len(pairs)
print(f"{len(RADII)} radii x {DIRECTIONS} directions, m = {M}: {cold:.1f} s with compilation, {warm:.1f} s after it")
print(f"one at a time {slow:.0f} s, from {len(pairs)} of {len(RADII) * DIRECTIONS} networks")
print(f"ratio {slow / cold:.0f} with compilation, {slow / warm:.0f} after it, relative difference {difference:.1e}")
print("time grows like " + ", ".join(f"{name}^{power:.2f}" for name, power in growth.items()))
print(f"peak memory with up to 660 networks {memory:.2f} GiB, of which {imported:.2f} GiB after the imports")
