"""Memory functions: what a sequence map remembers of an input that changed t ago."""

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cmlib import inputs as test_inputs
from cmlib.arguments import (
    Array,
    ArrayLike,
    Count,
    Inputs,
    MaybeArray,
    Number,
    Real,
    Source,
    count,
    number,
    one_of,
    positive,
    random_source,
    real_array,
    sequences,
    stored,
)
from cmlib.preflight import Preflight, precisions, preflight
from cmlib.sequence_maps import BatchFirst, evaluate

if TYPE_CHECKING:
    Longer: TypeAlias = Callable[[int], "MemoryCurve"] | None
    Check: TypeAlias = bool | Preflight
else:
    Longer = Check = Any
INPUTS = {
    "heaviside": test_inputs.heaviside,
    "impulse": test_inputs.impulse,
    "removed": test_inputs.removed,
}
RUNNING = 4  # random sequences that a change falls into
OTHERS = 8  # tokens that take the place of one
USUAL = (-1.0, -0.1, 0.1, 1.0)  # standard deviations of the user's own data, within which models have been trained
GLANCE = 16  # steps on which a map is looked at
CHANNELS = 32  # of a wide input, that are pushed one by one
BLOCK = 2**24  # numbers that a map is fed at once


@dataclass(frozen=True)
class MemoryCurve:
    """A memory function M(t) at the times t = 0, dt, 2 dt, …

    Args:
        t: (n_steps,), time since the input changed.
        values: (n_steps,), supremum over the amplitudes of |dy/dt| / |x|, or of |y| / |x| for impulses.
        inputs: "heaviside", "impulse", "removed", "random", "tokens" or "own".
        floor: what the rounding of the outputs in their dtype alone can make of `values`.
        errors: (n_steps,), standard errors of the values where they are estimates; None for values that are computed.
        amplitudes: (n, d_in), the x tried; None where the values are all that is known.
        by_amplitude: (n, n_steps), the values of each of them, of which `values` is the largest.
        responses: (n, n_steps), what the output does, with its sign, in the channel that is largest in the end.
        longer: n_steps -> the same measured over that many lags; None where it cannot be measured again.

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
    errors: MaybeArray = None
    amplitudes: MaybeArray = field(default=None, repr=False, compare=False)
    by_amplitude: MaybeArray = field(default=None, repr=False, compare=False)
    responses: MaybeArray = field(default=None, repr=False, compare=False)
    longer: Longer = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        t, values = real_array("t", self.t, ndim=1), real_array("values", self.values, ndim=1, finite=False)
        if t.shape != values.shape:
            raise ValueError(f"expected as many values as times, {len(t)}, got {len(values)}")
        stored(self, t=t, values=values, floor=number("floor", self.floor, at_least=0.0))
        if self.errors is not None:
            errors = real_array("errors", self.errors, ndim=1)
            if errors.shape != t.shape or (errors < 0).any():
                raise ValueError(f"expected {len(t)} standard errors >= 0, got {errors}")
            stored(self, errors=errors)
        if self.by_amplitude is not None:
            stored(self, amplitudes=real_array("amplitudes", self.amplitudes, ndim=2))
            stored(self, by_amplitude=real_array("by_amplitude", self.by_amplitude, ndim=2, finite=False))
        if self.responses is not None:
            responses = real_array("responses", self.responses, ndim=2, finite=False)
            if responses.shape[1] != len(t):
                raise ValueError(f"expected responses at {len(t)} times, got {responses.shape}")
            stored(self, responses=responses)

    @property
    def sizes(self) -> list[float]:
        """Sizes |x|_inf of the amplitudes, from the smallest on; none where the values are all that is known."""
        return [] if self.amplitudes is None else np.unique(np.abs(self.amplitudes).max(1)).tolist()

    def of_size(self, size: Number) -> "MemoryCurve":
        """Return the memory of inputs of one size alone.

        Raises:
            ValueError: on a size that is not among `sizes`.

        >>> curve = cmlib.memory_function(torch.tanh, 16, inputs="impulse")
        >>> [round(float(curve.of_size(size).values[0]), 2) for size in curve.sizes]  # tanh(|x|) / |x|
        [1.0, 0.76, 0.1]
        """
        size = positive("size", size)
        if size not in self.sizes or self.amplitudes is None or self.by_amplitude is None:
            raise ValueError(f"expected a size out of {self.sizes}, got {size:g}")
        chosen, longer = np.abs(self.amplitudes).max(1) == size, self.longer
        values = self.by_amplitude[chosen]
        return replace(
            self,
            values=values.max(0),
            amplitudes=self.amplitudes[chosen],
            by_amplitude=values,
            responses=None if self.responses is None else self.responses[chosen],
            longer=None if longer is None else lambda n_steps: longer(n_steps).of_size(size),
        )


def memory_function(
    seq_map: Any,
    n_steps: Count,
    dt: Number = 1.0,
    d_in: Count = 1,
    inputs: str | Inputs = "heaviside",
    amplitudes: ArrayLike | None = None,
    history: Count | None = None,
    generator: Source = None,
    check: Check = True,
) -> MemoryCurve:
    """Measure M(H)(t) = sup_x |d/dt H_t(x 1_{t >= 0})| / |x|_inf of any sequence map.

    For a linear map it is |rho|: the mean of rho over [t, t + dt] where inputs are held over a step. The answer to what
    was there before is subtracted. Over unbounded x even one stable tanh neuron has M(t) ~ 1/t, so x is bounded here.

    Args:
        seq_map: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that.
        n_steps: number of lags.
        dt: time per step, > 0.
        d_in: number of input channels.
        inputs: "heaviside", "impulse" or "removed" (x until t = 0, then 0) out of silence; or an impulse x on top of
            "random" sequences, of the user's own (batch, time, d_in), or "tokens", of which another takes the place.
        amplitudes: (n, d_in) or (n,), the x tried; None tries +-0.1, 1 and 10 along each channel, 32 of them at most,
            and the diagonal; on sequences of the user's own +-0.1 and 1 standard deviations of each channel.
        history: steps before t = 0, at rest or (removed) held at x; None takes n_steps. Fewer, down to 1, where the
            map takes no more.
        generator: if given, 8 random sign patterns are tried as well; without one nothing is drawn but what runs.
        check: whether `preflight` looks first; what it found, where it has; False takes any map as it comes.

    Raises:
        ValueError: on bad input, what `preflight` finds, or outputs that are not finite.

    Reference: wang2024inverse, Def. 3.1 and Apps F, G

    >>> model = models.LinearRNN([-0.5], [1.0], [1.0])
    >>> curve = cmlib.memory_function(model, 3)
    >>> curve.t.tolist(), curve.values.round(3).tolist()  # 2 (e^{-t/2} - e^{-(t+1)/2})
    ([0.0, 1.0, 2.0], [0.787, 0.477, 0.289])
    >>> cmlib.memory_function(model, 3, inputs="random").values.round(3).tolist()
    [0.787, 0.477, 0.289]
    """
    n_steps, d_in, dt = count("n_steps", n_steps), count("d_in", d_in), positive("dt", dt)
    # at least one step of it, the state at rest
    history = None if history is None else count("history", history)
    generator = None if generator is None else random_source("generator", generator)
    probes = _probes(inputs, d_in, amplitudes, generator)
    if probes.room is not None and (history or 1) + n_steps > probes.room:
        raise ValueError(
            f"expected inputs of at least {history or 1} steps of history and {n_steps} more, got {probes.room}"
        )
    if not isinstance(check, bool | Preflight):
        raise ValueError(f"expected check to be True, False or a Preflight, got {check!r}")
    known = check if isinstance(check, Preflight) else None
    if check is True:
        known = _glance(seq_map, d_in, n_steps + (history or n_steps))
    return _measured(seq_map, n_steps, dt, probes, history, known)


def _glance(seq_map: Any, d_in: int, n_steps: int) -> Preflight:
    # on a few steps, short against what is measured; all of them where that fails
    if n_steps > GLANCE:
        with contextlib.suppress(ValueError):
            return preflight(seq_map, d_in, GLANCE)
    return preflight(seq_map, d_in, n_steps)


@dataclass(frozen=True)
class _Probes:
    """Pairs of sequences that differ from time 0 on."""

    kind: str
    x: Tensor  # (n, d_in), by how much
    background: Callable[[int, int], Tensor] | None = None  # history, n_steps -> (batch, time, d_in); None for silence
    room: int | None = None  # steps that there are of it

    def pairs(self, history: int, n_steps: int) -> tuple[Tensor, Tensor]:
        """Return the changed sequences, (n, time, d_in), and those before, each for as many of them in turn."""
        if self.background is None:
            changed = INPUTS[self.kind](n_steps, self.x, history=history)
            return changed, torch.zeros_like(changed[:1])
        before = self.background(history, n_steps)
        changed = before.repeat_interleave(len(self.x) // len(before), 0)
        changed[:, history] += self.x
        return changed, before


def _probes(inputs: Any, d_in: int, amplitudes: Any, generator: torch.Generator | None) -> _Probes:
    if isinstance(inputs, Tensor):
        return _of_own(inputs, d_in, amplitudes, generator)
    one_of("inputs", inputs, [*INPUTS, "random", "tokens"])
    if inputs == "tokens":
        if amplitudes is not None:
            raise ValueError(f"expected no amplitudes for tokens, which are all of size 1, got {amplitudes!r}")
        return _of_tokens(d_in, _seed(generator))
    x = _amplitudes(amplitudes, d_in, generator)
    if inputs == "random":
        return _Probes(inputs, x.repeat(RUNNING, 1), _running(_seed(generator), lambda r, n: r.normal(size=(n, d_in))))
    return _Probes(inputs, x)


def _of_own(own: Tensor, d_in: int, amplitudes: Any, generator: torch.Generator | None) -> _Probes:
    own = sequences("inputs", own, d_in).detach().cpu().double()
    if not own.numel() or not torch.isfinite(own).all():
        raise ValueError(f"expected inputs of finite numbers, got {own}")
    if amplitudes is None:
        x = _amplitudes(None, d_in, generator, USUAL) * own.std((0, 1), correction=0)
        x = x[x.abs().amax(1) > 0]
        if not len(x):
            raise ValueError("expected inputs that vary, got constant ones: how large is a change? Set amplitudes")
    else:
        x = _amplitudes(amplitudes, d_in, generator)

    def middle(history: int, n_steps: int) -> Tensor:
        # time 0 is halfway, unless there is too little before or after it
        zero = min(max(own.shape[1] // 2, history), own.shape[1] - n_steps)
        return own[:, zero - history : zero + n_steps]

    return _Probes("own", x.repeat(len(own), 1), middle, own.shape[1])


def _of_tokens(d_in: int, seed: int) -> _Probes:
    def one_hot(rng: np.random.Generator, n: int) -> np.ndarray:
        if d_in == 1:
            return np.where(rng.random((n, 1)) < 0.5, -1.0, 1.0)
        return np.eye(d_in)[(d_in * rng.random(n)).astype(int)]

    running = _running(seed, one_hot)
    now = running(0, 1)[:, 0]  # (batch, d_in)
    others = np.random.default_rng(seed).permutation(np.arange(1, d_in))[:OTHERS].tolist()
    # the sign is all there is of a single channel
    change = [now.roll(by, 1) - now for by in others] if d_in > 1 else [-2 * now]
    return _Probes("tokens", torch.stack(change, 1).flatten(0, 1), running)


def _running(seed: int, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Callable[[int, int], Tensor]:
    def background(history: int, n_steps: int) -> Tensor:
        # drawn from time 0 to both sides, so that a longer one goes on where a shorter one ends
        after, earlier = (
            np.stack([draw(np.random.default_rng((seed, side, k)), n) for k in range(RUNNING)])
            for side, n in enumerate((n_steps, history))
        )
        return torch.from_numpy(np.concatenate([earlier[:, ::-1], after], 1))

    return background


def _seed(generator: torch.Generator | None) -> int:
    generator = random_source("generator", generator)
    return int(torch.randint(0, 2**31, (), generator=generator, device=generator.device))


def _measured(
    seq_map: Any,
    n_steps: int,
    dt: float,
    probes: _Probes,
    wanted: int | None,
    known: Preflight | None,
    at_most: bool = False,
) -> MemoryCurve:
    rooms = [room for room in (probes.room, known and known.longest) if room is not None]
    history, room = n_steps if wanted is None else wanted, min(rooms, default=None)
    if room is not None:
        n_steps = min(n_steps, room - 1) if at_most else n_steps
        history = min(history, room - n_steps)
        if history < 1:
            raise ValueError(f"expected n_steps < {room}, since a step of history comes before them, got {n_steps}")
    changed, before = probes.pairs(history, n_steps)
    place = next(seq_map.parameters(), changed).device if isinstance(seq_map, nn.Module) else changed.device
    signal = torch.cat([changed, before]).to(dtype=known.dtype if known else precisions(seq_map)[0], device=place)
    try:
        rows = max(1, BLOCK // max(signal[0].numel(), pairs(seq_map, signal) * signal.shape[1] ** 2))
        y = torch.cat([evaluate(seq_map, some) for some in signal.split(rows)])
    except ValueError:
        if known is None or known.longest is not None:
            raise
        known = preflight(seq_map, changed.shape[2], history + n_steps, known.dtype)
        if known.longest is None:
            raise
        return _measured(seq_map, n_steps, dt, probes, wanted, known, at_most)
    x, each = probes.x, len(changed) // len(before)
    rounding = (known.rounding if known else torch.finfo(y.dtype).eps) * y.abs().amax((1, 2)).double().cpu()
    # less the answer to what it was before, which for silence moves where the map starts away from its rest
    y = y[: len(x)] - y[len(x) :].repeat_interleave(each, 0)
    after, earlier = y[:, history:], y[:, history - 1 : -1]
    # all but steps fill one step, so that the height over |x| has to be taken per dt as well
    change = (after - earlier if probes.kind in ("heaviside", "removed") else after - y[:, history - 1 : history]) / dt
    size = x.abs().amax(1)
    values = (change.abs().amax(2).double().cpu() / size[:, None]).numpy()
    largest = torch.maximum(rounding[: len(x)], rounding[len(x) :].repeat_interleave(each, 0))
    floor = float((largest / size).max()) / dt

    def longer(n_steps: int) -> MemoryCurve:
        # with what is drawn by now; at most what there is room for
        return _measured(seq_map, n_steps, dt, probes, wanted, known, at_most=True)

    return MemoryCurve(
        dt * np.arange(n_steps),
        values.max(0),
        probes.kind,
        floor,
        amplitudes=x.numpy(),
        by_amplitude=values,
        responses=_responses(change, values, floor) / size.numpy()[:, None],
        longer=None if room is not None and n_steps >= room - 1 else longer,
    )


def _responses(change: Tensor, values: np.ndarray, floor: float) -> np.ndarray:
    """Return for each amplitude the change in the channel that is largest where it is last seen well."""
    change = change.real if change.is_complex() else change
    found = np.empty(values.shape)
    for row, (one, size) in enumerate(zip(change, values, strict=True)):
        last = int(np.flatnonzero(size > 100 * floor).max(initial=0)) + 1
        channel = one[3 * last // 4 : last].abs().amax(0).argmax()
        found[row] = one[:, channel].double().cpu().numpy()
    return found


def pairs(seq_map: Any, signal: Tensor) -> int:
    """Return how many numbers a map, as attention does, holds for each two steps of a sequence; 0 where all fit."""
    modules = list(seq_map.modules()) if isinstance(seq_map, nn.Module) else []
    fused = max((part.num_heads for part in modules if isinstance(part, nn.MultiheadAttention)), default=0)
    # layers of torch by themselves hold none, and to look takes a second of imports
    if max(fused, 1) * len(signal) * signal.shape[1] ** 2 <= BLOCK or isinstance(seq_map, BatchFirst | nn.RNNBase):
        return 0
    own = {size for part in modules for w in (*part.parameters(False), *part.buffers(False)) for size in w.shape}
    n = next(n for n in itertools.count(4 * GLANCE) if n not in own | {signal.shape[2]})
    made = _Pairs(n)
    with contextlib.suppress(ValueError), made:  # one that takes no other length
        _ = evaluate(seq_map, signal[:1, :n])
    return max(fused, made.most)


class _Pairs(TorchDispatchMode):
    """Looks for tensors of which two axes are as long as time, and how many numbers they have for each two steps."""

    def __init__(self, n_steps: int):
        super().__init__()
        self.n_steps, self.most = n_steps, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and tuple(tensor.shape).count(self.n_steps) > 1:
                self.most = max(self.most, tensor.numel() // self.n_steps**2)
        return made


def _amplitudes(
    amplitudes: ArrayLike | None,
    d_in: int,
    generator: torch.Generator | None,
    sizes: tuple[float, ...] = (-10.0, -1.0, -0.1, 0.1, 1.0, 10.0),
) -> Tensor:
    if amplitudes is not None:
        x = torch.as_tensor(real_array("amplitudes", amplitudes))
        x = x[:, None].expand(-1, d_in) if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != d_in or not len(x):
            raise ValueError(f"expected amplitudes of shape (n,) or (n, {d_in}), got {np.shape(amplitudes)}")
        if not torch.isfinite(x).all() or (x.abs().amax(1) == 0).any():
            raise ValueError("expected finite amplitudes that are not zero")
        return x
    directions = [torch.eye(d_in, dtype=torch.float64)]
    if d_in > CHANNELS:
        directions[0] = directions[0][torch.linspace(0, d_in - 1, CHANNELS).round().long()]
    if d_in > 1:
        directions.append(torch.ones(1, d_in, dtype=torch.float64))
    if generator is not None:
        signs = torch.randint(0, 2, (8, d_in), generator=generator, device=generator.device)
        directions.append(2.0 * signs.cpu() - 1)
    directions = torch.cat(directions)
    return torch.cat([scale * directions for scale in sizes])
