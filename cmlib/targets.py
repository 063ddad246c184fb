"""Targets: the sequence maps that models are asked to approximate."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cmlib.arguments import count, positive, sequences, stored
from cmlib.kernels import KernelLike, complete
from cmlib.sequence_maps import causal_convolution


@dataclass(frozen=True)
class LinearFunctional:
    """H_t(x) = int_0^inf rho(s) x(t - s) ds, exact for inputs held over each time step.

    Args:
        kernel: the memory kernel rho; it need not be integrable, as no input is infinitely long.
        dt: time step, > 0, in units of the kernel's time.

    Raises:
        ValueError: unless the kernel is one and dt > 0.

    Reference: wang2024inverse, eq. (3)

    >>> target = targets.LinearFunctional(kernels.Exponential(1.0), dt=0.5)
    >>> target.weights(2).round(3).tolist()  # 1 - e^{-1/2}, e^{-1/2} - e^{-1}
    [0.393, 0.239]
    >>> [round(y, 3) for y in target(inputs.heaviside(3)).flatten().tolist()]
    [0.393, 0.632, 0.777]
    """

    kernel: KernelLike
    dt: float = 1.0

    def __post_init__(self):
        stored(self, kernel=complete(self.kernel), dt=positive("dt", self.dt))

    def weights(self, n: int) -> Float[np.ndarray, " n"]:
        """Return int rho over [j dt, (j + 1) dt), j = 0 … n - 1: differences of the antiderivative.

        Raises:
            ValueError: for n < 1.
        """
        return np.diff(self.kernel.antiderivative(self.dt * np.arange(count("n", n) + 1)))

    def __call__(self, x: Tensor) -> Float[Tensor, "batch time 1"]:
        """Map (batch, time, 1) to (batch, time, 1); output k is H at time (k + 1) dt.

        Raises:
            ValueError: on inputs of another shape, or that are no floating-point numbers.
        """
        x = sequences("x", x, channels=1)
        weights = torch.as_tensor(self.weights(x.shape[1]), dtype=x.dtype, device=x.device)
        return causal_convolution(weights, x[..., 0])[..., None]
