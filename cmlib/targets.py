"""Targets: the sequence maps that models are asked to approximate."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cmlib.kernels import Kernel, KernelLike, Number, _positive
from cmlib.models import causal_convolution


@dataclass(frozen=True)
class LinearFunctional:
    """H_t(x) = int_0^inf rho(s) x(t - s) ds, exact for inputs held over each time step.

    Args:
        kernel: the memory kernel rho.
        dt: time step, > 0.

    Reference: wang2024inverse, eq. (3)
    """

    kernel: KernelLike
    dt: float = 1.0

    def __post_init__(self):
        if not isinstance(self.kernel, Kernel):
            raise ValueError(f"expected a Kernel, got {self.kernel!r}")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"expected a time step dt > 0, got {self.dt!r}")

    def weights(self, n: int) -> Float[np.ndarray, " n"]:
        """Return int rho over [j dt, (j + 1) dt), j = 0 … n - 1: differences of the closed-form tail."""
        return -np.diff(self.kernel.tail(self.dt * np.arange(n + 1)))

    def __call__(self, x: Tensor) -> Float[Tensor, "batch time 1"]:
        """Map (batch, time, 1) to (batch, time, 1); output k is H at time (k + 1) dt."""
        if x.ndim != 3 or x.shape[-1] != 1:
            raise ValueError(f"expected an input of shape (batch, time, 1), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"expected a floating-point input, got {x.dtype}")
        weights = torch.as_tensor(self.weights(x.shape[1]), dtype=x.dtype, device=x.device)
        return causal_convolution(weights, x[..., 0])[..., None]


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

    n_fast: Number = 10
    speed: Number = 2.0
    dt: Number = 0.1
    substeps: Number = 5

    def __post_init__(self):
        for name, least in (("n_fast", 4), ("substeps", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"expected {name} to be an integer >= {least}, got {value!r}")
        for name in ("speed", "dt"):
            _positive(name, getattr(self, name))

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
