"""Models: sequence maps (batch, time, d_in) -> (batch, time, d_out) with trained weights.

Time step k holds its input over [k dt, (k + 1) dt), and output k is read at the end of it.
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.kernels import ArrayLike
from cmlib.parameterizations import Dissipative, Exp, InverseSquare, Softplus, direct, matrix_exponential


class LinearRNN(nn.Module):
    """dh/dt = W h + U x, y = c^T h, with memory kernel c^T e^{Wt} U.

    Args:
        W: (m, m) dense, or (m,) diagonal: raw, the recurrent weight is parameterization(W); per unit of time.
        U: (m,), input weight.
        c: (m,), readout.
        dt: time step, > 0.
        discretization: "zoh" (exact for inputs held over a step) or "euler".
        parameterization: of eigenvalues for a diagonal W, of matrices for a dense one.

    Reference: wang2024inverse, eq. (1); li2021curse, Sec. 3
    """

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        c: ArrayLike,
        *,
        dt: float = 1.0,
        discretization: str = "zoh",
        parameterization: Callable = direct,
    ):
        super().__init__()
        W, U, c = (_weights(name, value) for name, value in (("W", W), ("U", U), ("c", c)))
        m = len(W)
        if W.shape not in ((m,), (m, m)) or m < 1:
            raise ValueError(f"expected W of shape (m, m), or (m,) for a diagonal, got {tuple(W.shape)}")
        if U.shape != (m,) or c.shape != (m,):
            raise ValueError(f"expected U and c of shape ({m},), got {tuple(U.shape)} and {tuple(c.shape)}")
        if not (np.isfinite(dt) and dt > 0):
            raise ValueError(f"expected a time step dt > 0, got {dt!r}")
        if discretization not in ("zoh", "euler"):
            raise ValueError(f"expected discretization 'zoh' or 'euler', got {discretization!r}")
        _check_parameterization(parameterization, W)
        self.W, self.U, self.c = nn.Parameter(W), nn.Parameter(U), nn.Parameter(c)
        self.dt, self.discretization, self.parameterization = float(dt), discretization, parameterization

    @property
    def diagonal(self) -> bool:
        return self.W.ndim == 1

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization."""
        W = self.parameterization(self.W)
        return torch.diag(W) if self.diagonal else W

    def kernel(self, t: ArrayLike) -> Float[Tensor, " time"]:
        """Return c^T e^{Wt} U at times t >= 0 of shape (time,)."""
        t = torch.as_tensor(t, dtype=self.W.dtype, device=self.W.device)
        W = self.parameterization(self.W)
        if self.diagonal:
            return torch.exp(t[:, None] * W) @ (self.c * self.U)
        return matrix_exponential(t[:, None, None] * W) @ self.U @ self.c

    def forward(self, x: Tensor, route: str = "recurrence") -> Float[Tensor, "batch time 1"]:
        """Map (batch, time, 1) to (batch, time, 1); "recurrence" and "convolution" agree to rounding."""
        if x.ndim != 3 or x.shape[-1] != 1:
            raise ValueError(f"expected an input of shape (batch, time, 1), got {tuple(x.shape)}")
        if route == "recurrence":
            return self._recurrence(x)
        if route == "convolution":
            return self._convolution(x)
        raise ValueError(f"expected route 'recurrence' or 'convolution', got {route!r}")

    def discretized(self) -> tuple[Tensor, Tensor]:
        """Return (A, B) of h_{k+1} = A h_k + B x_k; A is (m,) for a diagonal W and (m, m) else."""
        W = self.parameterization(self.W)
        if self.discretization == "euler":
            identity = torch.ones_like(W) if self.diagonal else torch.eye(len(W), dtype=W.dtype, device=W.device)
            return identity + self.dt * W, self.dt * self.U
        if self.diagonal:
            z = self.dt * W
            return torch.exp(z), self.dt * self.U * _expm1_over(z)
        # the exponential of [[W, U], [0, 0]] dt holds A and the integral of e^{Ws} U at once, W singular or not
        m = len(W)
        block = torch.cat([torch.cat([W, self.U[:, None]], 1), W.new_zeros(1, m + 1)])
        block = matrix_exponential(self.dt * block)
        return block[:m, :m], block[:m, m]

    def _recurrence(self, x: Tensor) -> Tensor:
        A, B = self.discretized()
        h = x.new_zeros(x.shape[0], len(self.U))
        outputs = []
        for x_k in x.unbind(1):  # x_k is (batch, 1)
            h = (h * A if self.diagonal else h @ A.T) + x_k * B
            outputs.append(h @ self.c)
        return torch.stack(outputs, 1)[..., None]

    def _convolution(self, x: Tensor) -> Tensor:
        A, B = self.discretized()
        n = x.shape[1]
        A = torch.diag(A) if self.diagonal else A
        states = B[:, None]  # columns A^j B, their number doubled each time
        while states.shape[1] < n:
            states, A = torch.cat([states, A @ states], 1), A @ A
        return causal_convolution(self.c @ states[:, :n], x[..., 0])[..., None]


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
        W, U, c = (_weights(name, value) for name, value in (("W", W), ("U", U), ("c", c)))
        m = len(W)
        b = W.new_zeros(m) if b is None else _weights("b", b)
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
        _check_parameterization(parameterization, W)
        self.W, self.U, self.b, self.c = (nn.Parameter(v) for v in (W, U, b, c))
        self.dt, self.activation, self.parameterization = float(dt), activation, parameterization

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
        W, U, C = (_weights(name, value) for name, value in (("W", W), ("U", U), ("C", C)))
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
        _check_parameterization(parameterization, W)
        self.W, self.U, self.C = nn.Parameter(W), nn.Parameter(U), nn.Parameter(C)
        self.dt, self.activation, self.parameterization = float(dt), activation, parameterization

    diagonal = True

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
        A, drive = torch.exp(z), (x @ self.U.mT) * (self.dt * _expm1_over(z))  # (m,) and (batch, time, m)
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


class S4D(nn.Module):
    """A layer of diagonal state-space models, one for each channel, mixed by a nonlinearity between them.

    In channel j, dh_n/dt = lambda_n h_n + x and y = 2 Re sum_n C_n h_n + D x, for inputs held over the channel's own
    step; the layer returns out(gelu(y)). It begins with lambda_n = -1/2 + i pi n, steps spread evenly in their
    logarithm, C and D normal.

    Args:
        channels: d_in = d_out, >= 1.
        modes: complex modes in each channel, half the real states, >= 1.
        steps: smallest and largest step.
        generator: of the random start; None takes torch's own.

    Reference: gu2022parameterization, S4D-Lin
    """

    def __init__(
        self,
        channels: int,
        modes: int = 32,
        *,
        steps: tuple[float, float] = (1e-3, 1e-1),
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__()
        if channels < 1 or modes < 1:
            raise ValueError(f"expected channels >= 1 and modes >= 1, got {channels!r} and {modes!r}")
        if not 0 < steps[0] <= steps[1] < math.inf:
            raise ValueError(f"expected steps with 0 < smallest <= largest, got {steps!r}")

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=dtype)

        low, high = math.log(steps[0]), math.log(steps[1])
        spread = torch.rand(channels, generator=generator, dtype=dtype)
        self.log_step = nn.Parameter(low + (high - low) * spread)
        # real rates through exp, so that no training step leaves the stable half-plane
        self.log_rate = nn.Parameter(torch.full((channels, modes), math.log(0.5), dtype=dtype))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes, dtype=dtype).repeat(channels, 1))
        self.C = nn.Parameter(normal(channels, modes, 2) * math.sqrt(0.5))  # real and imaginary parts
        self.D = nn.Parameter(normal(channels))
        self.out = nn.utils.skip_init(nn.Linear, channels, channels, dtype=dtype)  # no draw from torch's own generator
        with torch.no_grad():
            self.out.weight.copy_(normal(channels, channels) / math.sqrt(channels))
            self.out.bias.zero_()

    def eigenvalues(self) -> Tensor:
        """Return the eigenvalues of each channel per unit of its own time, times its step: (channels, modes)."""
        rates = torch.complex(-torch.exp(self.log_rate), self.frequency)
        return rates * torch.exp(self.log_step)[:, None]

    def forward(self, x: Tensor, route: str = "convolution") -> Float[Tensor, "batch time channels"]:
        """Map (batch, time, channels) to the same shape; "convolution" and "recurrence" agree to rounding."""
        if x.ndim != 3 or x.shape[-1] != len(self.D):
            raise ValueError(f"expected an input of shape (batch, time, {len(self.D)}), got {tuple(x.shape)}")
        if route not in ("convolution", "recurrence"):
            raise ValueError(f"expected route 'recurrence' or 'convolution', got {route!r}")
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


@contextlib.contextmanager
def evaluating(model: Callable) -> Iterator[None]:
    """Switch dropout and the like off while we look, and leave each part's mode as it was."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _check_parameterization(parameterization: Callable, W: Tensor) -> None:
    if isinstance(parameterization, Dissipative) and W.ndim == 1:
        raise ValueError("expected a dense W of shape (m, m) with a parameterization of matrices, got (m,)")
    if W.ndim == 2 and isinstance(parameterization, Exp | Softplus | InverseSquare):
        raise ValueError("expected a diagonal W of shape (m,) with a parameterization of eigenvalues, got (m, m)")


def _expm1_over(z: Tensor) -> Tensor:
    # (e^z - 1) / z; near 0 it is 0/0 and its autograd cancels, so take the series
    near = z.abs() < 0.5
    series = torch.zeros_like(z)
    for n in range(14, -1, -1):
        series = 1.0 / math.factorial(n + 1) + torch.where(near, z, 0.0) * series
    far = torch.where(near, 1.0, z)
    return torch.where(near, series, torch.expm1(far) / far)


def linear_scan(A: Float[Tensor, "batch time m"], drive: Float[Tensor, "batch time m"]) -> Tensor:
    """Return h_k = A_k h_{k-1} + drive_k from h_{-1} = 0, in log2(time) steps that double what each h has seen.

    Reference: blelloch1990prefix
    """
    h, reach = drive, 1
    while reach < drive.shape[1]:
        h = torch.cat([h[:, :reach], h[:, reach:] + A[:, reach:] * h[:, :-reach]], 1)
        A = torch.cat([A[:, :reach], A[:, reach:] * A[:, :-reach]], 1)
        reach *= 2
    return h


def causal_convolution(weights: Float[Tensor, "*channels time"], x: Float[Tensor, "batch *channels time"]) -> Tensor:
    """Return y_k = sum_{j <= k} weights_j x_{k-j}, by FFT."""
    n = x.shape[-1]
    length = 2 * n  # zero padding keeps the circular product causal
    return torch.fft.irfft(torch.fft.rfft(weights, length) * torch.fft.rfft(x, length), length)[..., :n]


def _weights(name: str, value: ArrayLike) -> Tensor:
    tensor = value.detach().clone() if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.ndim == 0 or not torch.isfinite(tensor).all():
        raise ValueError(f"expected {name} to hold finite numbers in one or two dimensions, got {value!r}")
    return tensor
