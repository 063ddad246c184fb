"""A state-space layer with a real diagonal, evaluated by recurrence, convolution or scan."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike
from cmlib.models.rnn import ACTIVATIONS
from cmlib.models.weights import check_parameterization, expm1_over, weights_from
from cmlib.parameterizations import direct
from cmlib.sequence_maps import causal_convolution, linear_scan


class SSM(nn.Module):
    """A layer dh/dt = Lambda h + U x, y = C^T sigma(h), for inputs held over a step; its recurrence is linear.

    Args:
        W: (m,), raw weights of the eigenvalues parameterization(W); per unit of time.
        U: (m,) or (m, d_in), input weight.
        C: (m,) or (m, d_out), readout.
        dt: time step, > 0.
        activation: "tanh", "hardtanh", "relu" or "identity".
        parameterization: raw weight -> eigenvalue.

    Reference: wang2024stablessm, Thm 3.3
    """

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        C: ArrayLike,
        *,
        dt: float = 1.0,
        activation: str = "tanh",
        parameterization: Callable = direct,
    ):
        super().__init__()
        W, U, C = (weights_from(name, value) for name, value in (("W", W), ("U", U), ("C", C)))
        U, C = (v[:, None] if v.ndim == 1 else v for v in (U, C))
        if W.ndim != 1:
            raise ValueError(f"expected W of shape (m,), got {tuple(W.shape)}")
        for name, value in (("U", U), ("C", C)):
            if value.ndim != 2 or len(value) != len(W) or value.shape[-1] < 1:
                raise ValueError(f"expected {name} of {len(W)} rows, got shape {tuple(value.shape)}")
        if not (np.isfinite(dt) and dt > 0):
            raise ValueError(f"expected a time step dt > 0, got {dt!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"expected activation among {list(ACTIVATIONS)}, got {activation!r}")
        check_parameterization(parameterization, W)
        self.W, self.U, self.C = nn.Parameter(W), nn.Parameter(U), nn.Parameter(C)
        self.dt, self.activation, self.parameterization = float(dt), activation, parameterization

    diagonal = True

    @property
    def d_in(self) -> int:
        return self.U.shape[1]

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization."""
        return torch.diag(self.parameterization(self.W))

    def forward(self, x: Tensor, route: str = "recurrence") -> Float[Tensor, "batch time d_out"]:
        """Map (batch, time, d_in) to (batch, time, d_out); "recurrence", "convolution" and "scan" agree to rounding."""
        if x.ndim != 3 or x.shape[-1] != self.U.shape[1]:
            raise ValueError(f"expected an input of shape (batch, time, {self.U.shape[1]}), got {tuple(x.shape)}")
        if route not in ("scan", "convolution", "recurrence"):
            raise ValueError(f"expected route 'recurrence', 'convolution' or 'scan', got {route!r}")
        z = self.dt * self.parameterization(self.W)
        A, drive = torch.exp(z), (x @ self.U.mT) * (self.dt * expm1_over(z))  # (m,) and (batch, time, m)
        if route == "scan":
            h = linear_scan(A.expand_as(drive), drive)
        elif route == "convolution":
            powers = torch.exp(z[:, None] * torch.arange(x.shape[1], dtype=x.dtype, device=x.device))
            h = causal_convolution(powers, drive.mT).mT
        else:
            h = [torch.zeros_like(drive[:, 0])]
            for drive_k in drive.unbind(1):
                h.append(A * h[-1] + drive_k)
            h = torch.stack(h[1:], 1)
        return ACTIVATIONS[self.activation](h) @ self.C
