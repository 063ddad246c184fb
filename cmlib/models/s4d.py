"""A layer of diagonal state-space models with complex modes."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import (
    Count,
    DType,
    Inputs,
    Interval,
    Source,
    count,
    floating,
    one_of,
    positive,
    random_source,
    real_array,
    sequences,
)
from cmlib.parameterizations import checked, exp
from cmlib.sequence_maps import causal_convolution


class S4D(nn.Module):
    """A layer of diagonal state-space models, one for each channel, mixed by a nonlinearity between them.

    In channel j, dh_n/dt = lambda_n h_n + x and y = 2 Re sum_n C_n h_n + D x, for inputs held over the channel's own
    step; the layer returns out(gelu(y)). It begins with lambda_n = -1/2 + i pi n, steps spread evenly in their
    logarithm, C and D normal.

    Args:
        channels: d_in = d_out, >= 1.
        modes: complex modes in each channel, half the real states, >= 1.
        steps: smallest and largest step.
        parameterization: raw weight -> real part of an eigenvalue, exp or another that reaches -1/2.
        generator: of the random start; None takes one with seed 0.
        dtype: of the weights, of floating-point numbers.

    Raises:
        ValueError: on counts below 1, steps that are not 0 < smallest <= largest, a parameterization of matrices, a
            generator that is none of torch, or another dtype.

    Reference: gu2022parameterization, S4D-Lin

    >>> layer, x = models.S4D(2, modes=4), inputs.impulse(20, [1.0, -1.0])
    >>> tuple(layer(x).shape), torch.allclose(layer(x), layer(x, route="recurrence"))
    ((1, 20, 2), True)
    """

    def __init__(
        self,
        channels: Count,
        modes: Count = 32,
        *,
        steps: Interval = (1e-3, 1e-1),
        parameterization: Any = exp,
        generator: Source = None,
        dtype: DType = torch.float64,
    ):
        super().__init__()
        channels, modes = count("channels", channels), count("modes", modes)
        if real_array("steps", steps).shape != (2,):
            raise ValueError(f"expected steps (smallest, largest), got {steps!r}")
        low, high = (positive("a step", step) for step in steps)
        if low > high:
            raise ValueError(f"expected steps with smallest <= largest, got {steps!r}")
        generator, dtype = random_source("generator", generator), floating("dtype", dtype)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=dtype)

        low, high = math.log(low), math.log(high)
        spread = torch.rand(channels, generator=generator, dtype=dtype)
        self.log_step = nn.Parameter(low + (high - low) * spread)
        real = torch.full((channels, modes), -0.5, dtype=dtype)
        # a stable one keeps each training step within the stable half-plane
        self.parameterization: Any = checked(parameterization, real[0])
        self.W = nn.Parameter(self.parameterization.right_inverse(real))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes, dtype=dtype).repeat(channels, 1))
        self.C = nn.Parameter(normal(channels, modes, 2) * math.sqrt(0.5))  # real and imaginary parts
        self.D = nn.Parameter(normal(channels))
        out: Any = nn.utils.skip_init(nn.Linear, channels, channels, dtype=dtype)  # no draw from torch's own generator
        self.out: nn.Linear = out
        with torch.no_grad():
            self.out.weight.copy_(normal(channels, channels) / math.sqrt(channels))
            self.out.bias.zero_()

    @property
    def d_in(self) -> int:
        """Number of input channels, and of output channels."""
        return len(self.D)

    def eigenvalues(self) -> Tensor:
        """Return the eigenvalues of each channel per unit of its own time, times its step: (channels, modes).

        >>> z = models.S4D(3, modes=4, steps=(0.1, 0.1)).eigenvalues()  # 0.1 (-1/2 + i pi n)
        >>> torch.allclose(z.real, torch.full_like(z.real, -0.05)), round(z.imag[0, 1].item() / np.pi, 3)
        (True, 0.1)
        """
        rates = torch.complex(self.parameterization(self.W), self.frequency)
        return rates * torch.exp(self.log_step)[:, None]

    def forward(self, x: Inputs, route: str = "convolution") -> Float[Tensor, "batch time channels"]:
        """Map (batch, time, channels) to the same shape; "convolution" and "recurrence" agree to rounding.

        Raises:
            ValueError: on inputs of another shape or dtype, or another route.
        """
        x = sequences("an input", x, len(self.D))
        route = one_of("route", route, ("recurrence", "convolution"))
        z = self.eigenvalues()
        # (e^{lambda step} - 1) / lambda integrates the mode over a step
        readout = 2 * torch.complex(*self.C.unbind(-1)) * torch.expm1(z) / z * torch.exp(self.log_step)[:, None]
        if route == "convolution":
            k = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
            kernel = torch.einsum("cm,cmt->ct", readout, torch.exp(z[..., None] * k)).real
            y = causal_convolution(kernel, x.mT).mT
        else:
            A, h, outputs = torch.exp(z), torch.zeros(x.shape[0], *z.shape, dtype=z.dtype, device=x.device), []
            for x_k in x.unbind(1):
                h = A * h + x_k[..., None]
                outputs.append((readout * h).sum(-1).real)
            y = torch.stack(outputs, 1)
        return self.out(nn.functional.gelu(y + self.D * x))
