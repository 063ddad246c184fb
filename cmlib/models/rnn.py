"""The nonlinear network of the theory, in steps of Euler, with the adjoint of its recurrence written out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Inputs, Number, one_of, positive, sequences
from cmlib.models.weights import columns_from, recurrent_from, weights_from
from cmlib.parameterizations import checked, direct


@dataclass(frozen=True)
class Activation:
    """A step function sigma with what the network and its probes need to know of it.

    Args:
        sigma: z -> sigma(z).
        slope: the value sigma(z) -> sigma'(z), which spares the adjoint to store z.
        slope_at_zero: sigma'(0); of relu, that from above.
        clamp: (low, high) where sigma(z) = min(max(z, low), high).

    >>> hardtanh = models.ACTIVATIONS["hardtanh"]
    >>> hardtanh(torch.tensor([-2.0, 0.5])).tolist(), hardtanh.clamp
    ([-1.0, 0.5], (-1.0, 1.0))
    """

    sigma: Callable
    slope: Callable
    slope_at_zero: float = 1.0
    clamp: tuple[float, float] | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """Return sigma(z)."""
        return self.sigma(z)


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, lambda value: torch.addcmul(value.new_ones(()), value, value, value=-1)),
    "hardtanh": Activation(nn.functional.hardtanh, lambda value: (value.abs() < 1).to(value.dtype), clamp=(-1.0, 1.0)),
    "relu": Activation(torch.relu, lambda value: (value > 0).to(value.dtype), clamp=(0.0, math.inf)),
    "identity": Activation(lambda z: z, torch.ones_like, clamp=(-math.inf, math.inf)),
}


class RNN(nn.Module):
    """dh/dt = sigma(W h + U x + b), y = c^T h, in steps h_{k+1} = h_k + dt sigma(W h_k + U x_k + b) of Euler, h_0 = 0.

    Unlike a linear network's, its flow has no closed form, so the step is part of the model; as dt -> 0 it is the flow.

    Args:
        W: (m, m) dense, or (m,) diagonal: raw, the recurrent weight is parameterization(W); per unit of time.
        U: (m,) or (m, d_in), input weight.
        b: (m,), bias, 0 if not given; trained like the rest.
        c: (m,) or (m, d_out), readout.
        dt: time step, > 0.
        activation: "tanh", "hardtanh", "relu" or "identity".
        parameterization: of eigenvalues for a diagonal W, of matrices for a dense one.

    Raises:
        ValueError: on weights that do not fit one another, dt <= 0, or a parameterization of another kind.

    Reference: wang2024inverse, eq. (1)

    >>> model = models.RNN([-1.0], [1.0], [1.0], dt=0.5)
    >>> [round(y, 3) for y in model(inputs.impulse(3)).flatten().tolist()]  # h, h + tanh(-h) / 2, ...
    [0.381, 0.199, 0.101]
    """

    recurrent_weight, input_weight, readout_weight, bias_weight = "W", "U", "c", "b"
    discretization = "euler"

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        c: ArrayLike,
        b: ArrayLike | None = None,
        *,
        dt: Number = 1.0,
        activation: str = "tanh",
        parameterization: Any = direct,
    ):
        super().__init__()
        W = recurrent_from(W)
        m = len(W)
        U, c = columns_from("U", U, m), columns_from("c", c, m)
        b = W.new_zeros(m) if b is None else weights_from("b", b)
        if b.shape != (m,):
            raise ValueError(f"expected b of {m} rows, got shape {tuple(b.shape)}")
        self.dt, self.activation = positive("dt", dt), one_of("activation", activation, ACTIVATIONS)
        self.parameterization = checked(parameterization, W)
        self.W, self.U, self.b, self.c = (nn.Parameter(v) for v in (W, U, b, c))

    def extra_repr(self) -> str:
        shape = "diagonal" if self.diagonal else "dense"
        return f"m={len(self.U)}, {shape}, dt={self.dt:g}, activation={self.activation!r}"

    @property
    def d_in(self) -> int:
        """Number of input channels."""
        return self.U.shape[1]

    @property
    def diagonal(self) -> bool:
        """Whether W has shape (m,)."""
        return self.W.ndim == 1

    @property
    def clamp(self) -> tuple[float, float] | None:
        """(low, high) where the activation is min(max(z, low), high) and the recurrent weight diagonal, else None."""
        return ACTIVATIONS[self.activation].clamp if self.diagonal else None

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization.

        >>> models.RNN([0.0], [1.0], [1.0], parameterization=parameterizations.exp).recurrent().tolist()
        [[-1.0]]
        """
        W = self.parameterization(self.W)
        return torch.diag(W) if self.diagonal else W

    def linearization(self) -> Float[Tensor, "m m"]:
        """Return A of dh/dt = A h where W h + b = 0: the recurrent weight times the slope of the activation at 0.

        >>> models.RNN([[-1.0]], [1.0], [1.0]).linearization().tolist()
        [[-1.0]]
        """
        return ACTIVATIONS[self.activation].slope_at_zero * self.recurrent()

    def forward(self, x: Inputs) -> Float[Tensor, "batch time d_out"]:
        """Map (batch, time, d_in) to (batch, time, d_out).

        Raises:
            ValueError: on inputs of another shape, or that are no floating-point numbers.
        """
        x = sequences("an input", x, self.U.shape[1])
        W = self.parameterization(self.W)
        y, *_ = _Euler.apply(x, W, self.U, self.b, self.c, self.dt, self.activation)
        return y


def _euler(x: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor, dt: float, activation: str) -> Tensor:
    # y of an RNN in operations that torch can batch and differentiate in any order
    sigma = ACTIVATIONS[activation].sigma
    drive = x @ U.mT + b  # of all steps at once: (batch, time, m)
    h, states = torch.zeros_like(drive[:, 0]), []
    for drive_k in drive.unbind(1):  # indexing in the loop would cost a full gradient buffer at every step
        z = torch.addcmul(drive_k, h, W) if W.ndim == 1 else torch.addmm(drive_k, h, W.mT)
        h = torch.add(h, sigma(z), alpha=dt)
        states.append(h)
    return torch.stack(states, 1) @ c


class _Euler(torch.autograd.Function):
    # The same with the adjoint recurrence written out, for the common case: no graph of operations, and no buffer but
    # two that hold all steps, so that a training step takes about half the time. Batching by torch.vmap, forward mode
    # and second derivatives go through the operations above.

    @staticmethod
    def forward(x, W, U, b, c, dt, activation):
        sigma, diagonal, (batch, time, _), m = ACTIVATIONS[activation].sigma, W.ndim == 1, x.shape, len(W)
        states = x.new_empty(time + 1, batch, m)  # h
        rates = x.new_empty(time, batch, m)  # sigma(W h + U x + b)
        with_one = torch.cat([x, torch.ones_like(x[..., :1])], 2)
        Ub = torch.cat([U, b[:, None]], 1).mT
        states[0] = 0.0
        h = states.unbind(0)
        for k, (rate, x_k) in enumerate(zip(rates.unbind(0), with_one.unbind(1), strict=True)):
            torch.mm(x_k, Ub, out=rate)
            rate.addcmul_(h[k], W) if diagonal else rate.addmm_(h[k], W.mT)
            rate.copy_(sigma(rate))
            torch.add(h[k], rate, alpha=dt, out=h[k + 1])
        return (states[1:] @ c).transpose(0, 1).contiguous(), states, rates

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.dt, ctx.activation = inputs
        _, states, rates = output
        ctx.mark_non_differentiable(states, rates)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, states, rates)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, dy, *_):
        *tensors, states, rates = ctx.saved_tensors
        x, W, U, _, c = tensors
        if dy is None:
            return (None,) * 7
        if torch.is_grad_enabled() or not states.numel():
            _, pullback, *_ = torch.func.vjp(partial(_euler, dt=ctx.dt, activation=ctx.activation), *tensors)
            return *pullback(dy), None, None
        slope, diagonal, dt = ACTIVATIONS[ctx.activation].slope, W.ndim == 1, ctx.dt
        dh = torch.zeros_like(states[0])
        dW = torch.zeros_like(dh if diagonal else W)  # per dt; of a diagonal, for each sequence
        with_one = torch.cat([x, torch.ones_like(x[..., :1])], 2)
        dUb = W.new_zeros(len(U), with_one.shape[2])
        steps = zip(states[:-1].unbind(0), rates.unbind(0), with_one.unbind(1), dy.unbind(1), strict=True)
        dx = []
        for h, rate, x_k, dy_k in reversed(list(steps)):
            dh.addmm_(dy_k, c.mT)
            dz = slope(rate).mul_(dh)  # per dt
            dUb.addmm_(dz.mT, x_k)
            if diagonal:
                dW.addcmul_(dz, h)
                dh.addcmul_(dz, W, value=dt)
            else:
                dW.addmm_(dz.mT, h)
                dh.addmm_(dz, W, alpha=dt)
            if ctx.needs_input_grad[0]:
                dx.append(dt * (dz @ U))
        dW, dUb = dt * (dW.sum(0) if diagonal else dW), dt * dUb
        dc = states[1:].flatten(0, 1).mT @ dy.transpose(0, 1).flatten(0, 1)
        return torch.stack(dx[::-1], 1) if dx else None, dW, dUb[:, :-1], dUb[:, -1], dc, None, None

    @staticmethod
    def jvp(ctx, *tangents):
        tensors, tangents = ctx.saved_tensors, tangents[: len(ctx.saved_tensors)]
        tangents = [torch.zeros_like(v) if dv is None else dv for v, dv in zip(tensors, tangents, strict=True)]
        # forward mode does not nest, and the transpose of the transpose is the map itself
        y, pullback, *_ = torch.func.vjp(partial(_euler, dt=ctx.dt, activation=ctx.activation), *tensors)
        _, pushforward, *_ = torch.func.vjp(pullback, torch.zeros_like(y))
        return *pushforward(tuple(tangents)), None, None

    @staticmethod
    def vmap(info, in_dims, *arguments):
        y = torch.vmap(_euler, in_dims)(*arguments)
        nothing = y.new_empty(info.batch_size, 0)
        return (y, nothing, nothing), (0, 0, 0)
