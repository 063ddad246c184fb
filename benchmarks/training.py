"""Training a nonlinear RNN: one epoch against the plain loop, and the time to the loss where the papers' protocol ends.

Epoch: m = 64, 12,800 sequences of 100 steps in batches of 128, Adam, tanh, float64, dense and diagonal W, one and the
same training loop. The plain model applies U to the whole sequence and then slices x[:, i:i+1], as the public code
does, whose backward pass fills a buffer of the whole sequence at every step. It runs on a share of the batches and its
time is scaled up; losses on that share are compared. Run with an argument to run all of it.

Time to a loss: m = 16 on the polynomial target of the chapter on trained networks. The protocol is 1000 epochs of Adam
at 5e-3, which `fit` goes through in the same steps; `fit(optimizer="lbfgs")` is timed until its loss on all sequences
is as low, and the plain loop on one epoch.
"""

import copy
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import cmlib
from cmlib import kernels, models, targets

DT, BATCH, SEQUENCES = 0.1, 128, 12_800
UPDATES = SEQUENCES // BATCH  # of one epoch
SHARE = 1 if len(sys.argv) > 1 else 5  # the plain loop runs one batch in so many
EPOCHS = 1000
torch.set_num_threads(1)  # as the book runs its chapters; two threads gain little on tensors this small


class PlainLoop(nn.Module):
    def __init__(self, model: models.RNN):
        super().__init__()
        model = copy.deepcopy(model)
        self.W, self.U, self.b, self.c, self.diagonal = model.W, model.U, model.b, model.c, model.diagonal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.linear(x, self.U, self.b)
        hidden = [torch.zeros(1, 1, len(self.U), dtype=x.dtype)]
        for i in range(x.shape[1]):
            recurrent = hidden[i] * self.W if self.diagonal else functional.linear(hidden[i], self.W)
            hidden.append(hidden[i] + DT * torch.tanh(x[:, i : i + 1] + recurrent))
        return functional.linear(torch.cat(hidden[1:], 1), self.c.mT)


def data(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SEQUENCES, steps, 1, generator=generator, dtype=torch.float64)
    return x, targets.LinearFunctional(kernels.Polynomial(1.5), dt=DT)(x)


def network(m: int, diagonal: bool) -> models.RNN:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W = -torch.rand(m, generator=generator, dtype=torch.float64) if diagonal else -torch.eye(m)
    W = W if diagonal else W + 0.3 * normal(m, m) / m**0.5
    return models.RNN(W, 0.5 * normal(m), normal(m) / m, dt=DT)


def train(model: nn.Module, time_steps: int, updates: int) -> tuple[np.ndarray, float]:
    """Return the losses of so many updates, at most an epoch, and their seconds, those of making the data included."""
    began = time.perf_counter()
    x, y = data(time_steps)
    order = torch.randperm(SEQUENCES, generator=torch.Generator().manual_seed(2))
    stepper, losses = torch.optim.Adam(model.parameters(), lr=5e-3), []
    for rows in order.split(BATCH)[:updates]:
        stepper.zero_grad()
        loss = functional.mse_loss(model(x[rows]), y[rows])
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    return np.array(losses), time.perf_counter() - began


for diagonal in (False, True):
    start = network(64, diagonal)
    train(copy.deepcopy(start), 100, 2)  # the first steps of a process are slower
    losses, seconds = min((train(copy.deepcopy(start), 100, UPDATES) for _ in range(3)), key=lambda pair: pair[1])
    plain_losses, plain = train(PlainLoop(start), 100, UPDATES // SHARE)
    plain *= SHARE
    apart = np.abs(losses[: len(plain_losses)] / plain_losses - 1).max()
    kind = "diagonal" if diagonal else "dense"
    print(f"one epoch, m = 64, {kind}: {seconds:.2f} s, plain loop {plain:.1f} s, ratio {plain / seconds:.1f}")
    print(f"  losses differ by {apart:.0e}, relative")

start, (x, y), generator = network(16, False), data(32), torch.Generator().manual_seed(2)
began = time.perf_counter()
adam = cmlib.fit(start, x, y, steps=EPOCHS * UPDATES, lr=5e-3, batch=BATCH, generator=generator)
protocol, goal = time.perf_counter() - began, adam.losses[-1, 0]
began = time.perf_counter()
quasi_newton = cmlib.fit(start, x[:BATCH], y[:BATCH], steps=2000, optimizer="lbfgs", until=goal / 3)
seconds = time.perf_counter() - began
with torch.no_grad():
    reached = functional.mse_loss(quasi_newton.models[0](x), y).item()
plain_losses, plain = train(PlainLoop(start), 32, UPDATES)
plain *= EPOCHS
apart = np.abs(adam.losses[:UPDATES, 0] / plain_losses - 1).max()
print(f"{EPOCHS} epochs of Adam end at a loss of {goal:.1e}: plain loop {plain:.0f} s, fit {protocol:.0f} s")
print(f"  losses of the first epoch differ by {apart:.0e}, relative")
print(f"quasi-Newton reaches {reached:.1e} on all sequences in {seconds:.2f} s, {len(quasi_newton.losses) - 1} steps")
print(f"ratio {plain / seconds:.0f} to the plain loop, {protocol / seconds:.0f} to fit with Adam")
if reached > goal:
    raise SystemExit("the quasi-Newton fit has not reached the protocol's loss")
