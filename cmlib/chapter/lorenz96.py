"""A nonlinear target: a forced two-scale system of Lorenz."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cmlib.arguments import Integer, Real, count, positive, stored


@dataclass(frozen=True)
class Lorenz96:
    """Forced two-scale Lorenz 96 system with one slow variable y, driven by the input x and watched through y.

    dy/dt = -y + x - mean_j z_j, dz_j/dt = speed (-z_{j+1} (z_{j+2} - z_{j-1}) - z_j + y), j cyclic; at time 0
    y = 0 and z_j = cos(2 pi j / J) / 10, since from equal z_j the system would keep them equal and be linear.

    Args:
        n_fast: number J of fast variables, >= 4.
        speed: of the fast variables, > 0.
        dt: time step over which the input is held, > 0.
        substeps: classical Runge-Kutta steps in each, >= 1.

    Reference: lorenz1996predictability; li2021curse, Fig. 1
    """

    n_fast: Integer = 10
    speed: Real = 2.0
    dt: Real = 0.1
    substeps: Integer = 5

    def __post_init__(self):
        stored(self, n_fast=count("n_fast", self.n_fast, at_least=4), substeps=count("substeps", self.substeps))
        stored(self, speed=positive("speed", self.speed), dt=positive("dt", self.dt))

    def __call__(self, x: Tensor) -> Float[Tensor, "batch time 1"]:
        """Map (batch, time, 1) to (batch, time, 1); output k is y at time (k + 1) dt."""
        if x.ndim != 3 or x.shape[-1] != 1:
            raise ValueError(f"expected an input of shape (batch, time, 1), got {tuple(x.shape)}")
        step = self.dt / self.substeps
        j = torch.arange(self.n_fast, dtype=x.dtype, device=x.device)
        z = 0.1 * torch.cos(2 * math.pi * j / self.n_fast).expand(len(x), -1)
        s, outputs = torch.cat([torch.zeros_like(x[:, 0]), z], 1), []  # the state (y, z): (batch, 1 + J)
        for x_k in x.unbind(1):
            for _ in range(self.substeps):
                k1 = self.velocity(s, x_k)
                k2 = self.velocity(s + step / 2 * k1, x_k)
                k3 = self.velocity(s + step / 2 * k2, x_k)
                s = s + step / 6 * (k1 + 2 * k2 + 2 * k3 + self.velocity(s + step * k3, x_k))
            outputs.append(s[:, :1])
        return torch.stack(outputs, 1)

    def velocity(self, state: Tensor, x: Tensor) -> Tensor:
        """Return d/dt of states (y, z_1, …, z_J) of shape (batch, 1 + J) under inputs of shape (batch, 1)."""
        y, z = state[:, :1], state[:, 1:]
        after, before = torch.roll(z, -1, 1), torch.roll(z, 1, 1)
        dz = -after * (torch.roll(z, -2, 1) - before) - z + y
        return torch.cat([x - y - z.mean(1, keepdim=True), self.speed * dz], 1)
