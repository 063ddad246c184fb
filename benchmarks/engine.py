"""The sweep over perturbed networks against what one core can do, and a step of the ascent against its plain twin.

What one core can do is measured beside it: 96 chains of fused multiply-adds in registers, two operations each, in
float64. Of a network the same are counted and nothing else, neither min and max nor tanh, nor the error that is kept:
for every neuron, step and sequence W h + (U x + b), h + dt z and c h are 8 operations where W is diagonal, and
2 (m + 3) where it is dense. All on one thread and in processor time, the best of several turns.

The twin of an ascent's step takes its gradient through all sequences; values and vertices are compared.
"""

import time

import numba
import numpy as np
import torch

from cmlib import distances, kernels, models, targets
from cmlib.distances import SequenceDistance
from cmlib.worst_case import Ball

torch.set_num_threads(1)
M, DT, TURNS, ROUNDS = 64, 0.1, 8, 200_000
TARGET = targets.LinearFunctional(kernels.Polynomial(1.1), dt=DT)


@numba.njit(fastmath={"contract"})
def multiply_and_add(chains: np.ndarray, rounds: int) -> None:
    for _ in range(rounds):
        for i in range(96):
            chains[i] = chains[i] * 0.999 + 0.001


def network(m: int, activation: str, diagonal: bool) -> models.RNN:
    generator = torch.Generator().manual_seed(0)
    W, U, c = -torch.logspace(-1.3, 0.3, m, dtype=torch.float64), *torch.randn(2, m, generator=generator).double()
    return models.RNN(W if diagonal else torch.diag(W), U, c / m, dt=DT, activation=activation)


def noise(sequences: int, steps: int) -> torch.Tensor:
    return torch.randn(sequences, steps, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def timed(route, *arguments) -> tuple[float, object]:
    began = time.process_time()
    result = route(*arguments)
    return time.process_time() - began, result


def share_of_peak(m: int, activation: str, diagonal: bool, sequences: int, steps: int, networks: int) -> float:
    model = network(m, activation, diagonal)
    distance, ball = SequenceDistance(model, TARGET, noise(sequences, steps), "sup"), Ball(model)
    directions = ball.random(torch.Generator().manual_seed(2), networks)
    operations = networks * sequences * steps * m * (8 if diagonal else 2 * (m + 3))
    chains, beta, rates = np.ones(96), torch.tensor([0.01], dtype=torch.float64), []
    for _ in range(TURNS):
        peak = 2 * len(chains) * ROUNDS / timed(multiply_and_add, chains, ROUNDS)[0]
        rates.append((operations / timed(ball.errors, distance, beta, directions)[0], peak))
    rate, peak = np.max(rates[1:], axis=0)  # without the first turn, which compiles
    print(f"  {rate / 1e9:5.1f} of {peak / 1e9:.1f} GFlop/s, {rate / peak:4.0%}: ", end="")
    print(f"{activation}, {'diagonal' if diagonal else 'dense'}, m = {m}, {sequences} sequences of {steps} steps")
    return rate / peak


def step_of_an_ascent(activation: str, diagonal: bool, n_radii: int = 4) -> None:
    model = network(M, activation, diagonal)
    distance, ball = SequenceDistance(model, TARGET, noise(64, 1000), "sup"), Ball(model)
    directions = ball.random(torch.Generator().manual_seed(2), 6)
    directions = {name: d.expand(n_radii, *d.shape[1:]) for name, d in directions.items()}
    beta = torch.logspace(-3, -1, n_radii, dtype=torch.float64)
    fast, (value, vertex) = min(
        (timed(ball._value_and_vertex, distance, beta, directions) for _ in range(2)), key=first
    )
    kept, distances.FEW = distances.FEW, 64
    slow, (plain, corner) = timed(ball._value_and_vertex, distance, beta, directions)
    distances.FEW = kept
    apart = max(float((vertex[name] - corner[name]).abs().max()) for name in vertex)
    print(f"  {slow / fast:4.1f} times, {fast:.2f} s against {slow:.2f} s: ", end="")
    print(f"{activation}, {'diagonal' if diagonal else 'dense'}, m = {M}, values equal to ", end="")
    print(f"{float((value / plain - 1).abs().max()):.0e}, vertices to {apart:.0e}")


def first(pair: tuple) -> float:
    return pair[0]


print("share of the peak of one core, fused multiply-adds in float64")
share_of_peak(M, "hardtanh", True, 1280, 100, 32)
share_of_peak(16, "hardtanh", True, 1280, 100, 128)
share_of_peak(M, "hardtanh", True, 64, 1000, 64)
share_of_peak(M, "tanh", True, 1280, 100, 2)
share_of_peak(M, "tanh", False, 1280, 100, 2)
share_of_peak(M, "identity", False, 1280, 100, 2)
print("a step of the ascent over 64 sequences of 1000 steps, 24 networks: gradient of the witness against that of all")
step_of_an_ascent("hardtanh", True)
step_of_an_ascent("tanh", True)
step_of_an_ascent("tanh", False)
