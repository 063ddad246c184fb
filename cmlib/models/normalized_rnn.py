"""The linear network whose modes all have size one, so that weights of slow modes weigh no more than others."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Number, one_of, positive
from cmlib.models.linear_rnn import LinearRNN
from cmlib.models.weights import weights_from
from cmlib.parameterizations import checked, direct

FACTORS = {
    "l1": lambda rate: rate,
    "w1": lambda rate: rate / (1 + rate),
    "l2": lambda rate: torch.sqrt(2 * rate),
}


class NormalizedRNN(LinearRNN):
    """dh/dt = W h + U x, y = c^T h with diagonal W = -diag(lambda) and c_k = n(lambda_k) gamma_k; gamma is the weight.

    n = lambda makes the L1 norm of n e^{-lambda t} one; lambda / (1 + lambda) keeps that of W1 between one and two;
    sqrt(2 lambda) makes the L2 norm one, as the LRU has it.

    Args:
        W, U, gamma: (m,); W is raw, as in LinearRNN, and its eigenvalues are < 0.
        norm: "l1", "w1" or "l2".
        dt, discretization, parameterization: as in LinearRNN.

    Raises:
        ValueError: on weights of other shapes, eigenvalues >= 0, dt <= 0, an unknown norm or a map of matrices.

    >>> model = models.NormalizedRNN([-0.01], [2.0], [3.0])  # its kernel has the area 2 * 3, whatever the rate
    >>> round(model.kernel(0.0).item(), 3), round(model(inputs.heaviside(4000))[0, -1, 0].item(), 3)
    (0.06, 6.0)
    """

    readout_weight = "gamma"

    def __init__(
        self,
        W: ArrayLike,
        U: ArrayLike,
        gamma: ArrayLike,
        *,
        norm: str = "l1",
        dt: Number = 1.0,
        discretization: str = "zoh",
        parameterization: Any = direct,
    ):
        nn.Module.__init__(self)  # that of LinearRNN would make c a weight
        W, U, gamma = weights_from("W", W), weights_from("U", U), weights_from("gamma", gamma)
        if W.ndim != 1 or not W.shape == U.shape == gamma.shape:
            found = [tuple(v.shape) for v in (W, U, gamma)]
            raise ValueError(f"expected W, U and gamma of one shape (m,), got {found}")
        self.norm, self.dt = one_of("norm", norm, FACTORS), positive("dt", dt)
        self.discretization = one_of("discretization", discretization, ("zoh", "euler"))
        self.parameterization = checked(parameterization, W)
        if (largest := float(self.parameterization(W).max())) >= 0:
            raise ValueError(f"expected eigenvalues < 0, whose modes have a norm, got {largest:g}")
        self.W, self.U, self.gamma = nn.Parameter(W), nn.Parameter(U), nn.Parameter(gamma)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, norm={self.norm!r}"

    @property
    def c(self) -> Float[Tensor, " m"]:
        """The readout n(lambda_k) gamma_k, which moves with the rates.

        >>> models.NormalizedRNN([-0.5], [1.0], [3.0]).c.tolist()
        [1.5]
        """
        return FACTORS[self.norm](-self.parameterization(self.W)) * self.gamma
