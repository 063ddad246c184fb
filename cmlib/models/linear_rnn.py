"""The linear network of the theory."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Inputs, Number, one_of, positive, sequences, times
from cmlib.models.weights import expm1_over, recurrent_from, weights_from
from cmlib.parameterizations import checked, direct, matrix_exponential
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

    Raises:
        ValueError: on weights that do not fit one another, dt <= 0, or a parameterization of another kind.

    Reference: wang2024inverse, eq. (1); li2021curse, Sec. 3

    >>> model = models.LinearRNN([-1.0, -2.0], [1.0, 1.0], [2.0, -1.0])  # rho(t) = 2 e^{-t} - e^{-2t}
    >>> [round(rho, 3) for rho in model.kernel([0.0, 1.0]).tolist()]
    [1.0, 0.6]
    >>> round(model(inputs.heaviside(40))[0, -1, 0].item(), 3)  # the area under rho
    1.5
    """

    recurrent_weight, input_weight, readout_weight, bias_weight = "W", "U", "c", None
    d_in = 1

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        c: ArrayLike,
        *,
        dt: Number = 1.0,
        discretization: str = "zoh",
        parameterization: Any = direct,
    ):
        super().__init__()
        W, U, c = recurrent_from(W), weights_from("U", U), weights_from("c", c)
        m = len(W)
        if U.shape != (m,) or c.shape != (m,):
            raise ValueError(f"expected U and c of shape ({m},), got {tuple(U.shape)} and {tuple(c.shape)}")
        self.dt, self.discretization = positive("dt", dt), one_of("discretization", discretization, ("zoh", "euler"))
        self.parameterization = checked(parameterization, W)
        self.W, self.U, self.c = nn.Parameter(W), nn.Parameter(U), nn.Parameter(c)

    def extra_repr(self) -> str:
        shape = "diagonal" if self.diagonal else "dense"
        return f"m={len(self.U)}, {shape}, dt={self.dt:g}, discretization={self.discretization!r}"

    @property
    def diagonal(self) -> bool:
        """Whether W has shape (m,)."""
        return self.W.ndim == 1

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization.

        >>> models.LinearRNN([0.0], [1.0], [1.0], parameterization=parameterizations.exp).recurrent().tolist()
        [[-1.0]]
        """
        W = self.parameterization(self.W)
        return torch.diag(W) if self.diagonal else W

    def linearization(self) -> Float[Tensor, "m m"]:
        """Return A of dh/dt = A h without input: the recurrent weight.

        >>> models.LinearRNN([-1.0], [1.0], [1.0]).linearization().tolist()
        [[-1.0]]
        """
        return self.recurrent()

    def realization(self) -> tuple[Float[Tensor, "m m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Return (W, U, c) of the memory kernel c^T e^{Wt} U.

        >>> [v.tolist() for v in models.LinearRNN([-1.0], [2.0], [3.0]).realization()]
        [[[-1.0]], [2.0], [3.0]]
        """
        return self.recurrent(), self.U, self.c

    def kernel(self, t: ArrayLike) -> Float[Tensor, "*times"]:
        """Return rho(t) = c^T e^{Wt} U at times t of any shape, in the unit in which W is per unit of time.

        Raises:
            ValueError: unless times are finite and >= 0.

        >>> round(models.LinearRNN([[-1.0]], [1.0], [2.0]).kernel(1.0).item(), 3)  # 2 / e
        0.736
        """
        t = torch.as_tensor(times(t)[1], dtype=self.W.dtype, device=self.W.device)
        if not torch.isfinite(t).all():
            raise ValueError(f"expected finite times, got {float(t.max())}")
        W = self.parameterization(self.W)
        if self.diagonal:
            return torch.exp(t[..., None] * W) @ (self.c * self.U)
        return matrix_exponential(t[..., None, None] * W) @ self.U @ self.c

    def forward(self, x: Inputs, route: str = "recurrence") -> Float[Tensor, "batch time 1"]:
        """Map (batch, time, 1) to (batch, time, 1); "recurrence" and "convolution" agree to rounding.

        Raises:
            ValueError: on inputs of another shape or dtype, or another route.
        """
        x = sequences("an input", x, 1)
        if one_of("route", route, ("recurrence", "convolution")) == "recurrence":
            return self._recurrence(x)
        return self._convolution(x)

    def discretized(self) -> tuple[Tensor, Tensor]:
        """Return (A, B) of h_{k+1} = A h_k + B x_k; A is (m,) for a diagonal W and (m, m) else.

        Raises:
            ValueError: on a W that has been given another shape since.

        >>> A, B = models.LinearRNN([-1.0], [1.0], [1.0], dt=0.5, discretization="euler").discretized()
        >>> A.tolist(), B.tolist()
        ([0.5], [0.5])
        """
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
