"""Training a nonlinear RNN: one epoch against the plain loop, and the time to the loss that the papers' protocol ends at.

Epoch: m = 64, 12,800 sequences of 100 steps in batches of 128, Adam, tanh, float64, dense and diagonal W. The plain loop
draws its data anew, applies U to the whole sequence and then slices x[:, i:i+1], as the public code does, whose backward
pass fills a buffer of the whole sequence at every step. It runs on a share of the batches and its time is scaled up; its
losses on that share are compared. Run with an argument to run all of it.

Time to a loss: m = 16 on the polynomial target of the book's chapter on trained networks. The protocol is 1000 epochs of Adam
at 5e-3 and ends at a loss that `fit` finds in the same steps; `fit(optimizer="lbfgs")` is timed until it has that loss on
all sequences, and the plain loop on a share of the protocol.
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
SHARE = 1 if len(sys.argv) > 1 else 10  # the plain loop runs one batch in so many
EPOCHS = 1000


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


def plain_training(model: models.RNN, time_steps: int, updates: int) -> tuple[list, float]:
    """Return the losses and the seconds of so many updates."""
    began = time.perf_counter()
    x, y = data(time_steps)
    plain, generator, order, losses = PlainLoop(model), torch.Generator().manual_seed(2), [], []
    stepper = torch.optim.Adam(plain.parameters(), lr=5e-3)
    for k in range(updates):
        if k % (SEQUENCES // BATCH) == 0:
            order = torch.randperm(SEQUENCES, generator=generator)
        rows = order[:BATCH]
        order = order[BATCH:]
        stepper.zero_grad()
        loss = functional.mse_loss(plain(x[rows]), y[rows])
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    return losses, time.perf_counter() - began


def fast_training(model: models.RNN, time_steps: int, updates: int) -> tuple[np.ndarray, float]:
    began = time.perf_counter()
    x, y = data(time_steps)
    generator = torch.Generator().manual_seed(2)
    result = cmlib.fit(model, x, y, steps=updates, lr=5e-3, batch=BATCH, generator=generator)
    return result.losses[:, 0], time.perf_counter() - began


updates = SEQUENCES // BATCH
for diagonal in (False, True):
    model = network(64, diagonal)
    fast_training(model, 100, 2)  # the first steps of a process are slower
    fast, seconds = min((fast_training(model, 100, updates) for _ in range(3)), key=lambda pair: pair[1])
    slow, plain = plain_training(model, 100, updates // SHARE)
    plain *= SHARE
    apart = np.abs(fast[: len(slow)] / slow - 1).max()
    kind = "diagonal" if diagonal else "dense"
    print(f"one epoch, m = 64, {kind}: {seconds:.2f} s, plain loop {plain:.1f} s, ratio {plain / seconds:.1f}, "
          f"losses differ by {apart:.0e}, relative")  # fmt: skip

model, (x, y) = network(16, False), data(32)
losses, protocol = fast_training(model, 32, EPOCHS * updates)
began = time.perf_counter()
result = cmlib.fit(model, x[:BATCH], y[:BATCH], steps=2000, optimizer="lbfgs", until=losses[-1] / 3)
seconds = time.perf_counter() - began
with torch.no_grad():
    reached = functional.mse_loss(result.models[0](x), y).item()
first, plain = plain_training(model, 32, updates)
apart = np.abs(losses[: len(first)] / first - 1).max()
plain *= EPOCHS
print(f"{EPOCHS} epochs of Adam end at a loss of {losses[-1]:.1e}: {plain:.0f} s by the plain loop, {protocol:.0f} s by fit, "
      f"losses of the first epoch differ by {apart:.0e}, relative")  # fmt: skip
print(f"quasi-Newton reaches {reached:.1e} on the same sequences in {seconds:.2f} s, {len(result.losses) - 1} steps")
print(f"ratio {plain / seconds:.0f} to the plain loop, {protocol / seconds:.0f} to fit with Adam")
assert reached <= losses[-1], "the quasi-Newton fit has not reached the protocol's loss"
