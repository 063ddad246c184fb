"""Memory functions: what a sequence map remembers of an input that changed t ago."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmlib import inputs as test_inputs
from cmlib.arguments import (
    Array,
    ArrayLike,
    Count,
    Number,
    Real,
    Source,
    count,
    number,
    one_of,
    positive,
    random_source,
    real_array,
    stored,
)
from cmlib.sequence_maps import evaluate

INPUTS = {
    "heaviside": test_inputs.heaviside,
    "impulse": test_inputs.impulse,
    "removed": test_inputs.removed,
}


@dataclass(frozen=True)
class MemoryCurve:
    """A memory function M(t) at the times t = 0, dt, 2 dt, …

    Args:
        t: (n_steps,), time since the input changed.
        values: (n_steps,), supremum over the amplitudes of |dy/dt| / |x|, or of |y| / |x| for impulses.
        inputs: "heaviside", "impulse" or "removed".
        floor: what the rounding of the outputs in their dtype alone can make of `values`.

    Raises:
        ValueError: unless there are as many values as times, which are finite, and the floor is >= 0.

    Reference: wang2024inverse, Def. 3.1

    >>> t = np.arange(100.0)  # a curve of your own
    >>> cmlib.decay(cmlib.MemoryCurve(t, np.exp(-t / 5), "impulse")).kind
    'exponential'
    """

    t: Array
    values: Array
    inputs: str
    floor: Real = 0.0

    def __post_init__(self):
        t, values = real_array("t", self.t, ndim=1), real_array("values", self.values, ndim=1, finite=False)
        if t.shape != values.shape:
            raise ValueError(f"expected as many values as times, {len(t)}, got {len(values)}")
        stored(self, t=t, values=values, floor=number("floor", self.floor, at_least=0.0))


def memory_function(
    seq_map: Any,
    n_steps: Count,
    dt: Number = 1.0,
    d_in: Count = 1,
    inputs: str = "heaviside",
    amplitudes: ArrayLike | None = None,
    history: Count | None = None,
    generator: Source = None,
) -> MemoryCurve:
    """Measure M(H)(t) = sup_x |d/dt H_t(x 1_{t >= 0})| / |x|_inf of any sequence map.

    For a linear map it is |rho|: the mean of rho over [t, t + dt] where inputs are held over a step. The answer to no
    input at all is subtracted. Over unbounded x even one stable tanh neuron has M(t) ~ 1/t, so x is bounded here.

    Args:
        seq_map: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that.
        n_steps: number of lags.
        dt: time per step, > 0.
        d_in: number of input channels.
        inputs: "heaviside", "impulse" or "removed" (x until t = 0, then 0).
        amplitudes: (n, d_in) or (n,), the x tried; None tries +-0.1, 1 and 10 along each channel and the diagonal.
        history: steps before t = 0, at rest or (removed) held at x; None takes n_steps.
        generator: if given, 8 random sign patterns are tried as well; without one nothing is drawn.

    Raises:
        ValueError: on bad input, a map of other shapes, or outputs that are not finite.

    Reference: wang2024inverse, Def. 3.1 and Apps F, G

    >>> model = models.LinearRNN([-0.5], [1.0], [1.0])
    >>> curve = cmlib.memory_function(model, 3)
    >>> curve.t.tolist(), curve.values.round(3).tolist()  # 2 (e^{-t/2} - e^{-(t+1)/2})
    ([0.0, 1.0, 2.0], [0.787, 0.477, 0.289])
    """
    one_of("inputs", inputs, INPUTS)
    n_steps, d_in, dt = count("n_steps", n_steps), count("d_in", d_in), positive("dt", dt)
    # at least one step of it, the state at rest
    history = n_steps if history is None else count("history", history)
    generator = None if generator is None else random_source("generator", generator)
    x = _amplitudes(amplitudes, d_in, generator)  # (n, d_in)
    like = next(seq_map.parameters(), x) if isinstance(seq_map, nn.Module) else x
    signal = INPUTS[inputs](n_steps, x, history=history).to(dtype=like.dtype, device=like.device)
    # less the answer to no input at all, which moves where the map starts away from its rest
    y = evaluate(seq_map, torch.cat([signal, torch.zeros_like(signal[:1])]))
    rounding = torch.finfo(y.dtype).eps * y.abs().amax().item() / x.abs().amax(1).min().item() / dt
    y = y[:-1] - y[-1:]
    after, before = y[:, history:], y[:, history - 1 : -1]
    # an impulse fills one step, so its height over |x| has to be taken per dt as well
    change = (after - y[:, history - 1 : history] if inputs == "impulse" else after - before) / dt
    size = x.abs().amax(1)[:, None]
    values = (change.abs().amax(2).double().cpu() / size).amax(0).numpy()
    return MemoryCurve(dt * np.arange(n_steps), values, inputs, rounding)


def _amplitudes(amplitudes: ArrayLike | None, d_in: int, generator: torch.Generator | None) -> Tensor:
    if amplitudes is not None:
        x = torch.as_tensor(real_array("amplitudes", amplitudes))
        x = x[:, None].expand(-1, d_in) if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != d_in or not len(x):
            raise ValueError(f"expected amplitudes of shape (n,) or (n, {d_in}), got {np.shape(amplitudes)}")
        if not torch.isfinite(x).all() or (x.abs().amax(1) == 0).any():
            raise ValueError("expected finite amplitudes that are not zero")
        return x
    directions = [torch.eye(d_in, dtype=torch.float64)]
    if d_in > 1:
        directions.append(torch.ones(1, d_in, dtype=torch.float64))
    if generator is not None:
        signs = torch.randint(0, 2, (8, d_in), generator=generator, device=generator.device)
        directions.append(2.0 * signs.cpu() - 1)
    directions = torch.cat(directions)
    return torch.cat([scale * directions for scale in (-10.0, -1.0, -0.1, 0.1, 1.0, 10.0)])
