"""The nonlinear network of the theory, in steps of Euler, with the adjoint of its recurrence written out."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike
from cmlib.models.weights import check_parameterization, weights_from
from cmlib.parameterizations import direct

ACTIVATIONS = {
    "tanh": torch.tanh,
    "hardtanh": nn.functional.hardtanh,
    "relu": torch.relu,
    "identity": lambda v: v,
}
# sigma'(z) as a function of the value sigma(z)
SLOPES = {
    "tanh": lambda value: torch.addcmul(value.new_ones(()), value, value, value=-1),
    "hardtanh": lambda value: (value.abs() < 1).to(value.dtype),
    "relu": lambda value: (value > 0).to(value.dtype),
    "identity": torch.ones_like,
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

    Reference: wang2024inverse, eq. (1)
    """

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        c: ArrayLike,
        b: ArrayLike | None = None,
        *,
        dt: float = 1.0,
        activation: str = "tanh",
        parameterization: Callable = direct,
    ):
        super().__init__()
        W, U, c = (weights_from(name, value) for name, value in (("W", W), ("U", U), ("c", c)))
        m = len(W)
        b = W.new_zeros(m) if b is None else weights_from("b", b)
        U, c = (v[:, None] if v.ndim == 1 else v for v in (U, c))
        if W.shape not in ((m,), (m, m)) or m < 1:
            raise ValueError(f"expected W of shape (m, m), or (m,) for a diagonal, got {tuple(W.shape)}")
        for name, value, rank in (("U", U, 2), ("c", c, 2), ("b", b, 1)):
            if value.ndim != rank or len(value) != m or value.shape[-1] < 1:
                raise ValueError(f"expected {name} of {m} rows, got shape {tuple(value.shape)}")
        if not (np.isfinite(dt) and dt > 0):
            raise ValueError(f"expected a time step dt > 0, got {dt!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"expected activation among {list(ACTIVATIONS)}, got {activation!r}")
        check_parameterization(parameterization, W)
        self.W, self.U, self.b, self.c = (nn.Parameter(v) for v in (W, U, b, c))
        self.dt, self.activation, self.parameterization = float(dt), activation, parameterization

    @property
    def d_in(self) -> int:
        return self.U.shape[1]

    @property
    def diagonal(self) -> bool:
        return self.W.ndim == 1

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization."""
        W = self.parameterization(self.W)
        return torch.diag(W) if self.diagonal else W

    def forward(self, x: Tensor) -> Float[Tensor, "batch time d_out"]:
        """Map (batch, time, d_in) to (batch, time, d_out)."""
        if x.ndim != 3 or x.shape[-1] != self.U.shape[1]:
            raise ValueError(f"expected an input of shape (batch, time, {self.U.shape[1]}), got {tuple(x.shape)}")
        W = self.parameterization(self.W)
        y, *_ = _Euler.apply(x, W, self.U, self.b, self.c, self.dt, self.activation)
        return y


def _euler(x: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor, dt: float, activation: str) -> Tensor:
    # y of an RNN in operations that torch can batch and differentiate in any order
    sigma = ACTIVATIONS[activation]
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
        sigma, diagonal, (batch, time, _), m = ACTIVATIONS[activation], W.ndim == 1, x.shape, len(W)
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
            _, pullback = torch.func.vjp(lambda *v: _euler(*v, ctx.dt, ctx.activation), *tensors)
            return *pullback(dy), None, None
        slope, diagonal, dt = SLOPES[ctx.activation], W.ndim == 1, ctx.dt
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
        y, pullback = torch.func.vjp(lambda *v: _euler(*v, ctx.dt, ctx.activation), *tensors)
        _, pushforward = torch.func.vjp(pullback, torch.zeros_like(y))
        return *pushforward(tuple(tangents)), None, None

    @staticmethod
    def vmap(info, in_dims, *arguments):
        y = torch.vmap(_euler, in_dims)(*arguments)
        nothing = y.new_empty(info.batch_size, 0)
        return (y, nothing, nothing), (0, 0, 0)
