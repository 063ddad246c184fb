"""The linear network of the theory."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike
from cmlib.models.weights import check_parameterization, expm1_over, weights_from
from cmlib.parameterizations import direct, matrix_exponential
from cmlib.sequence_maps import causal_convolution


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
        W, U, c = (weights_from(name, value) for name, value in (("W", W), ("U", U), ("c", c)))
        m = len(W)
        if W.shape not in ((m,), (m, m)) or m < 1:
            raise ValueError(f"expected W of shape (m, m), or (m,) for a diagonal, got {tuple(W.shape)}")
        if U.shape != (m,) or c.shape != (m,):
            raise ValueError(f"expected U and c of shape ({m},), got {tuple(U.shape)} and {tuple(c.shape)}")
        if not (np.isfinite(dt) and dt > 0):
            raise ValueError(f"expected a time step dt > 0, got {dt!r}")
        if discretization not in ("zoh", "euler"):
            raise ValueError(f"expected discretization 'zoh' or 'euler', got {discretization!r}")
        check_parameterization(parameterization, W)
        self.W, self.U, self.c = nn.Parameter(W), nn.Parameter(U), nn.Parameter(c)
        self.dt, self.discretization, self.parameterization = float(dt), discretization, parameterization

    d_in = 1

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
            return torch.exp(z), self.dt * self.U * expm1_over(z)
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
