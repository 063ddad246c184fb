"""Arguments: checks of what callers pass. Each returns the value as the library uses it, or says what was expected."""

import math
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# For type checkers. At run time they are loose on purpose, so that wrong arguments reach our own checks first.
if TYPE_CHECKING:
    ArrayLike: TypeAlias = npt.ArrayLike | Tensor  # whatever np.asarray takes, or a tensor
    Number: TypeAlias = SupportsFloat
    Count: TypeAlias = SupportsIndex
    Source: TypeAlias = torch.Generator | None
    Inputs: TypeAlias = Tensor
    Matrices: TypeAlias = Tensor
    Interval: TypeAlias = tuple[float, float]
    DType: TypeAlias = torch.dtype
    # fields of dataclasses, which hold what their checks return
    Real: TypeAlias = float
    Integer: TypeAlias = int
    MaybeInteger: TypeAlias = int | None
    MaybeArray: TypeAlias = npt.NDArray[np.inexact] | None

    class Array:
        """A field that takes whatever is an array, and gives one."""

        def __get__(self, instance: object, owner: Any = None) -> npt.NDArray[np.inexact]: ...

        def __set__(self, instance: object, value: ArrayLike) -> None: ...

else:
    ArrayLike = Number = Count = Source = Inputs = Matrices = Interval = DType = Any
    Real = Integer = MaybeInteger = Array = MaybeArray = Any


def number(name: str, value: Any, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
    """Return a finite number as a float."""
    try:
        found = math.nan if isinstance(value, str | bytes | bool | np.bool_) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"expected {name} to be a finite number, got {value!r}")
    if not found > above:
        raise ValueError(f"expected {name} > {above:g}, got {value!r}")
    if not found >= at_least:
        raise ValueError(f"expected {name} >= {at_least:g}, got {value!r}")
    return found


def positive(name: str, value: Any) -> float:
    """Return a finite number > 0 as a float."""
    return number(name, value, above=0.0)


def span(name: str, value: Any) -> float:
    """Return a length of time > 0, which may be infinite."""
    return math.inf if isinstance(value, float) and value == math.inf else positive(name, value)


def count(name: str, value: Any, *, at_least: int = 1) -> int:
    """Return an integer; True is none."""
    try:
        found = operator.index(value)
    except TypeError:
        found = None
    if found is None or isinstance(value, bool | np.bool_) or found < at_least:
        raise ValueError(f"expected {name} to be an integer >= {at_least}, got {value!r}")
    return found


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """Return a word out of a few."""
    if not isinstance(value, str) or value not in (known := list(known)):
        raise ValueError(f"expected {name} among {list(known)}, got {value!r}")
    return value


def random_source(name: str, value: Any) -> torch.Generator:
    """Return a torch.Generator: the caller's, or for None a new one with seed 0, so that each call draws the same."""
    if value is None:
        return torch.Generator().manual_seed(0)
    if not isinstance(value, torch.Generator):
        raise ValueError(f"expected {name} to be a torch.Generator, got {value!r}")
    return value


def real_array(name: str, value: Any, *, ndim: int | None = None, finite: bool = True) -> np.ndarray:
    """Return a copy of real numbers as a float64 array on the host; with infinity and NaN unless `finite`."""
    found = _numbers(name, value.detach().cpu() if isinstance(value, Tensor) else value, finite)
    if ndim is not None and found.ndim != ndim:
        raise ValueError(f"expected {name} of {ndim} dimension{'s' if ndim > 1 else ''}, got shape {found.shape}")
    return np.array(found)


def _numbers(name: str, value: Any, finite: bool = False) -> np.ndarray:
    try:
        found = np.asarray(value)
        found = found.astype(float, copy=False) if found.dtype.kind in "iuf" else None
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or (finite and not np.isfinite(found).all()):
        raise ValueError(f"expected {name} to hold {'finite ' if finite else ''}real numbers, got {value!r}")
    return found


def square_matrix(name: str, value: Any) -> np.ndarray:
    """Return a real square matrix of finite numbers as a float64 array on the host."""
    found = real_array(name, value)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        raise ValueError(f"expected {name} to be a square matrix, got shape {found.shape}")
    return found


def sequences(name: str, value: Any, channels: int | None = None) -> Tensor:
    """Return a floating-point tensor (batch, time, channels)."""
    wanted = f"(batch, time, {'channels' if channels is None else channels})"
    if not isinstance(value, Tensor):
        raise ValueError(f"expected {name} to be a tensor {wanted}, got {value!r}")
    if value.ndim != 3 or (channels is not None and value.shape[-1] != channels):
        raise ValueError(f"expected {name} of shape {wanted}, got {tuple(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"expected {name} of floating-point numbers, got {value.dtype}")
    return value


def square_matrices(name: str, value: Any) -> Tensor:
    """Return a floating-point tensor (*batch, m, m)."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"expected {name} to be a tensor (*batch, m, m) of floating-point numbers, got {value!r}")
    if value.ndim < 2 or value.shape[-2] != value.shape[-1]:
        raise ValueError(f"expected {name} of shape (*batch, m, m), got {tuple(value.shape)}")
    return value


def floating(name: str, value: Any) -> torch.dtype:
    """Return a dtype of real floating-point numbers."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise ValueError(f"expected {name} to be a torch.dtype of floating-point numbers, got {value!r}")
    return value


def place(name: str, value: Any) -> torch.device | None:
    """Return a device, or None for the one a tensor is on."""
    try:
        return None if value is None else torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"expected {name} to be a torch.device or the name of one, got {value!r}") from error


def stored(instance: object, **fields: Any) -> None:
    """Set fields of a frozen dataclass that its checks have changed."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)


def namespace(t: ArrayLike, name: str = "w") -> tuple[Any, Any]:
    """Return (torch, t) for a floating-point tensor, and (numpy, a float64 array) for all else, of real numbers."""
    if isinstance(t, Tensor):
        if not t.is_floating_point():
            raise ValueError(f"expected {name} of floating-point numbers, got {t.dtype}")
        return torch, t
    return np, _numbers(name, t)


def times(t: ArrayLike, name: str = "t") -> tuple[Any, Any]:
    """Return (torch, t) for a tensor, and (numpy, a float64 array) for all else, of numbers >= 0, which may be inf.

    Rounding below 0 is no excuse: a caller who subtracts has to clip. Tensors without data are not looked at.
    """
    if isinstance(t, Tensor):
        if t.is_complex() or t.dtype == torch.bool:
            raise ValueError(f"expected {name} to hold real numbers, got {t.dtype}")
        if t.device.type != "meta" and t.numel() and not t.min() >= 0:
            raise ValueError(f"expected {name} >= 0, got {float(t.min())}")
        return torch, t
    found = _numbers(name, t)
    if not found.min(initial=0.0) >= 0:
        raise ValueError(f"expected {name} >= 0, got {found.min()}")
    return np, found
