"""What models share: weights from arrays, and the exact integral of a mode over a step."""

import math

import numpy as np
import torch
from torch import Tensor

from cmlib.arguments import ArrayLike


def weights_from(name: str, value: ArrayLike) -> Tensor:
    """Return a copy of finite numbers in one or two dimensions, as floats."""
    try:
        tensor = value.detach().clone() if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {name} to hold finite numbers in one or two dimensions, got {value!r}") from error
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.ndim not in (1, 2) or not tensor.numel() or not torch.isfinite(tensor).all():
        raise ValueError(f"expected {name} to hold finite numbers in one or two dimensions, got {value!r}")
    return tensor


def recurrent_from(value: ArrayLike) -> Tensor:
    """Return a recurrent weight, (m, m) dense or (m,) diagonal."""
    W = weights_from("W", value)
    if W.shape not in ((len(W),), (len(W), len(W))):
        raise ValueError(f"expected W of shape (m, m), or (m,) for a diagonal, got {tuple(W.shape)}")
    return W


def columns_from(name: str, value: ArrayLike, m: int) -> Tensor:
    """Return a weight of shape (m, k), from one of shape (m,) or (m, k)."""
    weight = weights_from(name, value)
    weight = weight[:, None] if weight.ndim == 1 else weight
    if len(weight) != m:
        raise ValueError(f"expected {name} of {m} rows, got shape {tuple(weight.shape)}")
    return weight


def expm1_over(z: Tensor) -> Tensor:
    """Return (e^z - 1) / z, which is the integral of a mode over a step."""
    # near 0 it is 0/0 and its autograd cancels, so take the series
    near = z.abs() < 0.5
    series = torch.zeros_like(z)
    for n in range(14, -1, -1):
        series = 1.0 / math.factorial(n + 1) + torch.where(near, z, 0.0) * series
    far = torch.where(near, 1.0, z)
    return torch.where(near, series, torch.expm1(far) / far)
