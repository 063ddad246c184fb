"""Memory functions: what a sequence map remembers of an input that changed t ago."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib import inputs as test_inputs
from cmlib.arguments import ArrayLike
from cmlib.sequence_maps import evaluating

INPUTS = {
    "heaviside": test_inputs.heaviside,
    "impulse": test_inputs.impulse,
    "reversed": test_inputs.reversed_step,
}


@dataclass(frozen=True)
class MemoryCurve:
    """A memory function M(t) at the times t = 0, dt, 2 dt, …

    Args:
        t: (n_steps,), time since the input changed.
        values: (n_steps,), supremum over the amplitudes of |dy/dt| / |x|, or of |y| / |x| for impulses.
        inputs: "heaviside", "impulse" or "reversed".
        floor: what the rounding of the outputs in their dtype alone can make of `values`.
    """

    t: Float[np.ndarray, " n_steps"]
    values: Float[np.ndarray, " n_steps"]
    inputs: str
    floor: float = 0.0


def memory_function(
    seq_map: Callable,
    n_steps: int,
    dt: float = 1.0,
    d_in: int = 1,
    inputs: str = "heaviside",
    amplitudes: ArrayLike | None = None,
    history: int | None = None,
    generator: torch.Generator | None = None,
) -> MemoryCurve:
    """Measure M(H)(t) = sup_x |d/dt H_t(x 1_{t >= 0})| / |x|_inf of any sequence map.

    For a linear map it is |rho|: the mean of rho over [t, t + dt] where inputs are held over a step. The answer to no
    input at all is subtracted. Over unbounded x even one stable tanh neuron has M(t) ~ 1/t, so x is bounded here.

    Args:
        seq_map: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that.
        n_steps: number of lags.
        dt: time per step.
        d_in: number of input channels.
        inputs: "heaviside", "impulse" or "reversed" (x until t = 0, then 0).
        amplitudes: (n, d_in) or (n,), the x tried; None tries +-0.1, 1 and 10 along each channel and the diagonal.
        history: steps before t = 0, at rest or (reversed) held at x; None takes n_steps.
        generator: if given, 8 random sign patterns are tried as well.

    Reference: wang2024inverse, Def. 3.1 and Apps F, G
    """
    if inputs not in INPUTS:
        raise ValueError(f"expected inputs among {sorted(INPUTS)}, got {inputs!r}")
    if n_steps < 1 or d_in < 1:
        raise ValueError(f"expected n_steps >= 1 and d_in >= 1, got {n_steps!r} and {d_in!r}")
    if not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"expected a time step dt > 0, got {dt!r}")
    history = n_steps if history is None else history
    if history < 1:
        raise ValueError(f"expected at least one step of history, the state at rest, got {history!r}")
    x = _amplitudes(amplitudes, d_in, generator)  # (n, d_in)
    like = next(seq_map.parameters(), x) if isinstance(seq_map, nn.Module) else x
    signal = INPUTS[inputs](n_steps, x, history=history).to(dtype=like.dtype, device=like.device)
    # less the answer to no input at all, which moves where the map starts away from its rest
    y = _evaluate(seq_map, torch.cat([signal, torch.zeros_like(signal[:1])]))
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
        x = torch.as_tensor(np.array(amplitudes, dtype=float))
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


def _evaluate(seq_map: Callable, signal: Tensor) -> Tensor:
    with torch.no_grad(), evaluating(seq_map):
        y = seq_map(signal)
    y = y[0] if isinstance(y, tuple) else y
    if not isinstance(y, Tensor) or y.ndim != 3 or y.shape[:2] != signal.shape[:2]:
        raise ValueError(
            f"expected the map to return (batch, time, d_out) for (batch, time, d_in) = {tuple(signal.shape)}, "
            f"got {tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__}"
        )
    if not torch.isfinite(y).all():
        raise ValueError("expected finite outputs, got NaN or infinity: is the map stable?")
    return y
