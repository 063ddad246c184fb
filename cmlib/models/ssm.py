"""A state-space layer with a real diagonal, evaluated by recurrence, convolution or scan."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Inputs, Number, one_of, positive, sequences
from cmlib.models.rnn import ACTIVATIONS
from cmlib.models.weights import columns_from, expm1_over, weights_from
from cmlib.parameterizations import checked, direct
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

    Raises:
        ValueError: on weights that do not fit one another, dt <= 0, or a parameterization of matrices.

    Reference: wang2024stablessm, Thm 3.3

    >>> layer, x = models.SSM([-0.5, -2.0], [1.0, 1.0], [1.0, -1.0], dt=0.1), inputs.heaviside(50)
    >>> [torch.allclose(layer(x), layer(x, route=route)) for route in ("convolution", "scan")]
    [True, True]
    """

    recurrent_weight, input_weight, readout_weight, bias_weight = "W", "U", "C", None
    diagonal, discretization = True, "zoh"

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        C: ArrayLike,
        *,
        dt: Number = 1.0,
        activation: str = "tanh",
        parameterization: Any = direct,
    ):
        super().__init__()
        W = weights_from("W", W)
        if W.ndim != 1:
            raise ValueError(f"expected W of shape (m,), got {tuple(W.shape)}")
        U, C = columns_from("U", U, len(W)), columns_from("C", C, len(W))
        self.dt, self.activation = positive("dt", dt), one_of("activation", activation, ACTIVATIONS)
        self.parameterization = checked(parameterization, W)
        self.W, self.U, self.C = nn.Parameter(W), nn.Parameter(U), nn.Parameter(C)

    def extra_repr(self) -> str:
        return f"m={len(self.U)}, dt={self.dt:g}, activation={self.activation!r}"

    @property
    def d_in(self) -> int:
        """Number of input channels."""
        return self.U.shape[1]

    def linearization(self) -> Float[Tensor, "m m"]:
        """Return A of dh/dt = A h without input: the recurrent weight, as the state itself is linear.

        >>> models.SSM([-1.0], [1.0], [1.0]).linearization().tolist()
        [[-1.0]]
        """
        return self.recurrent()

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization.

        >>> models.SSM([0.0], [1.0], [1.0], parameterization=parameterizations.exp).recurrent().tolist()
        [[-1.0]]
        """
        return torch.diag(self.parameterization(self.W))

    def forward(self, x: Inputs, route: str = "recurrence") -> Float[Tensor, "batch time d_out"]:
        """Map (batch, time, d_in) to (batch, time, d_out); "recurrence", "convolution" and "scan" agree to rounding.

        Raises:
            ValueError: on inputs of another shape or dtype, or another route.
        """
        x = sequences("an input", x, self.U.shape[1])
        route = one_of("route", route, ("recurrence", "convolution", "scan"))
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
