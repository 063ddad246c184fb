"""What models share: weights from arrays, and the exact integral of a mode over a step."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cmlib.arguments import ArrayLike
from cmlib.parameterizations import Dissipative, Exp, InverseSquare, Softplus


def weights_from(name: str, value: ArrayLike) -> Tensor:
    tensor = value.detach().clone() if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.ndim == 0 or not torch.isfinite(tensor).all():
        raise ValueError(f"expected {name} to hold finite numbers in one or two dimensions, got {value!r}")
    return tensor


def check_parameterization(parameterization: Callable, W: Tensor) -> None:
    if isinstance(parameterization, Dissipative) and W.ndim == 1:
        raise ValueError("expected a dense W of shape (m, m) with a parameterization of matrices, got (m,)")
    if W.ndim == 2 and isinstance(parameterization, Exp | Softplus | InverseSquare):
        raise ValueError("expected a diagonal W of shape (m,) with a parameterization of eigenvalues, got (m, m)")


def expm1_over(z: Tensor) -> Tensor:
    # (e^z - 1) / z; near 0 it is 0/0 and its autograd cancels, so take the series
    near = z.abs() < 0.5
    series = torch.zeros_like(z)
    for n in range(14, -1, -1):
        series = 1.0 / math.factorial(n + 1) + torch.where(near, z, 0.0) * series
    far = torch.where(near, 1.0, z)
    return torch.where(near, series, torch.expm1(far) / far)
