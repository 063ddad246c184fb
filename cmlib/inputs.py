"""Input sequences that probe a memory: (batch, time, d_in) torch tensors.

Time 0 is at index `history`; the `history` steps before it are part of the sequence, so that it has
history + n_steps steps in all. Amplitudes have the unit of the model's input.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cmlib.arguments import Count, DType, Source, count, floating, place, positive, random_source

Amplitude = Any  # a number, or anything torch.as_tensor takes of shape (d_in,) or (batch, d_in)
Inputs = Float[Tensor, "batch time d_in"]


def _amplitude(value: Amplitude, dtype: torch.dtype, device: Any) -> Inputs:
    try:
        amplitude = torch.as_tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected a numeric amplitude, got {value!r}") from error
    if amplitude.ndim > 2 or amplitude.numel() == 0:
        raise ValueError(
            f"expected an amplitude of shape (), (d_in,) or (batch, d_in), got shape {tuple(amplitude.shape)}"
        )
    if not torch.isfinite(amplitude).all():
        raise ValueError(f"expected a finite amplitude, got {value!r}")
    return torch.atleast_2d(amplitude).unsqueeze(1).to(place("device", device))  # (batch, 1, d_in)


def _gated(start: int, stop: int, length: int, amplitude: Amplitude, dtype: Any, device: Any) -> Inputs:
    # amplitude on start <= step < stop, 0 elsewhere
    amplitude = _amplitude(amplitude, floating("dtype", dtype), device)
    step = torch.arange(length, device=amplitude.device)
    gate = ((step >= start) & (step < stop)).to(dtype)
    return gate[:, None] * amplitude  # (batch, time, d_in)


def heaviside(
    n_steps: Count,
    amplitude: Amplitude = 1.0,
    history: Count = 0,
    *,
    dtype: DType = torch.float64,
    device: Any = None,
) -> Inputs:
    """Return x_t = amplitude for t >= 0 and 0 before, (batch, history + n_steps, d_in).

    Args:
        n_steps: steps from time 0 on, >= 1.
        amplitude: a number, (d_in,) or (batch, d_in).
        history: steps before time 0, >= 0.
        dtype, device: of the tensor, of floating-point numbers.

    Raises:
        ValueError: on counts out of range, an amplitude that is not finite or has another shape, or another dtype.

    Reference: wang2024inverse, Def. 3.1

    >>> inputs.heaviside(2, 0.5, history=1).flatten().tolist()
    [0.0, 0.5, 0.5]
    """
    n_steps, history = count("n_steps", n_steps), count("history", history, at_least=0)
    return _gated(history, history + n_steps, history + n_steps, amplitude, dtype, device)


def impulse(
    n_steps: Count,
    amplitude: Amplitude = 1.0,
    history: Count = 0,
    *,
    dtype: DType = torch.float64,
    device: Any = None,
) -> Inputs:
    """Return x_t = amplitude at the step of time 0 and 0 elsewhere; unit area needs amplitude 1/dt.

    Args:
        n_steps: steps from time 0 on, >= 1.
        amplitude: a number, (d_in,) or (batch, d_in).
        history: steps before time 0, >= 0.
        dtype, device: of the tensor, of floating-point numbers, (batch, history + n_steps, d_in).

    Raises:
        ValueError: on counts out of range, an amplitude that is not finite or has another shape, or another dtype.

    Reference: wang2024inverse, App. F

    >>> inputs.impulse(2, [[1.0], [10.0]], history=1)[..., 0].tolist()
    [[0.0, 1.0, 0.0], [0.0, 10.0, 0.0]]
    """
    n_steps, history = count("n_steps", n_steps), count("history", history, at_least=0)
    return _gated(history, history + 1, history + n_steps, amplitude, dtype, device)


def removed(
    n_steps: Count,
    amplitude: Amplitude = 1.0,
    history: Count = 1,
    *,
    dtype: DType = torch.float64,
    device: Any = None,
) -> Inputs:
    """Return x_t = amplitude before time 0 and 0 from then on, the reversed Heaviside input.

    Args:
        n_steps: steps from time 0 on, >= 1.
        amplitude: a number, (d_in,) or (batch, d_in).
        history: steps before time 0, >= 1; enough of them to bring the system to rest.
        dtype, device: of the tensor, of floating-point numbers, (batch, history + n_steps, d_in).

    Raises:
        ValueError: on counts out of range, an amplitude that is not finite or has another shape, or another dtype.

    Reference: wang2024inverse, App. F

    >>> inputs.removed(2, history=3).flatten().tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    n_steps, history = count("n_steps", n_steps), count("history", history)
    return _gated(0, history, history + n_steps, amplitude, dtype, device)


def white_noise(
    n_steps: Count,
    batch: Count = 1,
    d_in: Count = 1,
    dt: Any = 1.0,
    *,
    generator: Source = None,
    dtype: DType = torch.float64,
    device: Any = None,
) -> Inputs:
    """Return independent normals of variance 1/dt, so that E x_s x_t -> delta(t - s) as dt -> 0.

    Args:
        n_steps: number of steps, >= 1.
        batch, d_in: sizes, >= 1.
        dt: time per step, > 0.
        generator: of the numbers, which are drawn on its device, then moved; None takes one with seed 0.
        dtype, device: of the tensor, of floating-point numbers, (batch, n_steps, d_in).

    Raises:
        ValueError: on counts below 1, dt <= 0, a generator that is none of torch, or another dtype.

    Reference: li2021curse, Sec. 5

    >>> x = inputs.white_noise(4000, dt=0.25, generator=torch.Generator().manual_seed(1))
    >>> tuple(x.shape), bool(abs(x.var() - 4) < 0.54)  # six standard deviations of a sample variance
    ((1, 4000, 1), True)
    """
    n_steps = count("n_steps", n_steps)
    batch, d_in = count("batch", batch), count("d_in", d_in)
    dt = positive("dt", dt)
    generator = random_source("generator", generator)
    dtype = floating("dtype", dtype)
    noise = torch.randn(batch, n_steps, d_in, generator=generator, dtype=dtype, device=generator.device)
    return (noise / math.sqrt(dt)).to(place("device", device) or generator.device)
