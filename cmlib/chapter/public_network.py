"""The network of paper C's public code: a state-space layer turned by a trained matrix, between two linear maps."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import Count, DType, Inputs, Source, count, floating, one_of, random_source, sequences
from cmlib.parameterizations import matrix_exponential
from cmlib.protocols import time_weights

# raw weights -> rates; those of "s4" turn as well, and are out of reach of a shift
RATES = {"direct": nn.functional.relu, "softplus": nn.functional.softplus, "exp": torch.exp, "s4": torch.exp}


class PublicNetwork(nn.Module):
    """Steps h_k = h_{k-1} - P^T diag(rates) P h_{k-1} + embed(x_k), y_k = readout(h_k): Euler of dt = 1, no activation.

    embed and readout are linear maps of three layers with biases. Rates are log(1 + e^W), e^W, or "direct": max(W, 0)
    while it trains, so that rates below 0 are learnt by none, and W itself once it is `settled`. P starts as a random
    orthogonal matrix that it may leave, W with normal entries. An "s4" has m/2 complex modes in place of P and W, rates
    e^log_rate, a learned step and steps that are exact.

    Args:
        m: state variables, even for "s4".
        kind: "direct", "softplus", "exp" or "s4".
        exact: whether the flow -P^T diag(rates) P is solved exactly over a step instead; it may be set later.
        generator: of the random start; None takes one with seed 0.
        dtype: of the weights; single precision, as there.

    Raises:
        ValueError: for m < 1, an odd m of "s4", another kind or dtype.

    Reference: wang2024stablessm, Fig. 1, as in its public code

    >>> from cmlib.chapter import PublicNetwork
    >>> network, x = PublicNetwork(8, "softplus"), inputs.impulse(20).float()
    >>> y = network(x) - network(0 * x)  # without what the biases give
    >>> torch.allclose(y.flatten(), network.kernel(20), atol=1e-5)
    True
    """

    d_in = 1

    def __init__(
        self,
        m: Count,
        kind: str = "direct",
        *,
        exact: bool = False,
        generator: Source = None,
        dtype: DType = torch.float32,
    ):
        super().__init__()
        m, self.kind, self.exact = count("m", m), one_of("kind", kind, RATES), exact
        generator, dtype = random_source("generator", generator), floating("dtype", dtype)
        if kind == "s4" and m % 2:
            raise ValueError(f"expected an even m of complex modes, got {m}")

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(*shape, generator=generator, dtype=dtype)

        def linear(n_in: int, n_out: int) -> nn.Module:
            layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)  # no draw from torch's own generator
            for weight in layer.parameters():
                weight.data = uniform(-1 / math.sqrt(n_in), 1 / math.sqrt(n_in), *weight.shape)
            return layer

        self.settled = False
        self.embed = nn.Sequential(linear(1, m), linear(m, m), linear(m, m))
        if kind == "s4":
            self.log_rate = nn.Parameter(torch.full((m // 2,), math.log(0.5), dtype=dtype))
            self.frequency = nn.Parameter(math.pi * torch.arange(m // 2, dtype=dtype))
            self.log_step = nn.Parameter(uniform(math.log(1e-2), math.log(1e-1), m // 2))
        else:
            self.W = nn.Parameter(torch.randn(m, generator=generator, dtype=dtype))
            self.P = nn.Parameter(torch.linalg.qr(torch.randn(m, m, generator=generator, dtype=dtype)).Q)
        self.readout = nn.Sequential(linear(m, m), linear(m, m), linear(m, 1))

    def rates(self) -> Float[Tensor, " n"]:
        """Return the m rates in the middle of P^T diag(rates) P, or those of the m/2 modes of an "s4"."""
        if self.kind == "s4":
            return torch.exp(self.log_rate)
        return self.W if self.kind == "direct" and self.settled else RATES[self.kind](self.W)

    def settle(self) -> None:
        """End training: direct rates are from now on what is stored, so that a push can take them below 0."""
        if self.kind == "direct" and not self.settled:
            with torch.no_grad():
                _ = self.W.relu_()
        self.settled = True

    def step(self) -> tuple[Float[Tensor, "m m"], Float[Tensor, "m m"]]:
        """Return (M, B) of h_k = M h_{k-1} + B embed(x_k)."""
        if self.kind == "s4":
            size = torch.exp(self.log_step)
            z = torch.complex(-self.rates(), self.frequency) * size
            return _turning(torch.exp(z)), _turning(torch.expm1(z) / z * size)
        A = -self.P.mT @ (self.rates()[:, None] * self.P)
        one = torch.eye(len(A), dtype=A.dtype, device=A.device)
        if not self.exact:
            return one + A, one
        upper = torch.cat([A, one], 1)
        flow = matrix_exponential(torch.cat([upper, torch.zeros_like(upper)]))
        return flow[: len(A), : len(A)], flow[: len(A), len(A) :]  # e^A and int_0^1 e^{As} ds

    def forward(self, x: Inputs) -> Float[Tensor, "batch time 1"]:
        """Map (batch, time, 1) to (batch, time, 1), step by step.

        Raises:
            ValueError: on inputs of another shape or dtype.
        """
        M, B = self.step()
        drive, h, states = self.embed(sequences("an input", x, 1)) @ B.mT, torch.zeros_like(M[0]), []
        for drive_k in drive.unbind(1):
            h = h @ M.mT + drive_k
            states.append(h)
        return self.readout(torch.stack(states, 1))

    def kernel(self, n: Count) -> Float[Tensor, " n"]:
        """Return the answer to an impulse of 1, biases left out, at n steps.

        Raises:
            ValueError: for n < 1.
        """
        return self._answers(n)[0]

    def idle(self, n: Count) -> Float[Tensor, " n"]:
        """Return what the biases give without any input, at n steps.

        Raises:
            ValueError: for n < 1.
        """
        return self._answers(n)[1]

    def _answers(self, n: Count) -> tuple[Tensor, Tensor]:
        n, (M, B) = count("n", n), self.step()
        nothing = M.new_zeros(1)
        idle = self.embed(nothing)
        pushed = torch.stack([self.embed(nothing + 1) - idle, idle])
        states = (pushed @ B.mT)[:, None]  # (2, steps, m), twice as many steps each time
        while states.shape[1] < n:
            states, M = torch.cat([states, states @ M.mT], 1), M @ M
        rest = self.readout(torch.zeros_like(M[0]))
        kernel, of_bias = (self.readout(states[:, :n]) - rest)[..., 0]
        return kernel, of_bias.cumsum(0) + rest


def white_noise_error(network: Any, weights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the mean of `protocols.time_weighted_error` over white noise of variance 1, in closed form.

    Args:
        network: a PublicNetwork.
        weights: (n,), the target's answer to an impulse.

    >>> from cmlib.chapter.public_network import PublicNetwork, white_noise_error
    >>> network = PublicNetwork(4)
    >>> white_noise_error(network, network.kernel(9)).item() > 0  # as its biases answer to nothing
    True
    """
    n = len(weights)
    variances = (network.kernel(n) - weights).square().cumsum(0) + network.idle(n).square()
    return (time_weights(n).to(weights).square() * variances).mean()


def _turning(z: Tensor) -> Tensor:
    """Return the matrix, on real parts and then imaginary parts, of a product with complex numbers."""
    real, imaginary = torch.diag(z.real), torch.diag(z.imag)
    return torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])
