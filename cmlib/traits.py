"""Traits: what kind of sequence map one is - linear, memoryless, of finite memory, invariant in time, chaotic."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmlib.arguments import Count, Integer, MaybeInteger, Real, Source, count, random_source
from cmlib.sequence_maps import evaluate

TRUSTED = 1e4  # times the rounding of an output: what is below counts as none, rounding adds up over steps and layers
TOGETHER = 0.05  # two runs that end further apart than this share of the outputs' spread have parted for good
SIZES = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64).repeat(3)[:, None, None]  # saturation hides the past
LEAST = 8  # steps back that memory is looked for
AGREE = 3  # of them see a finite memory end at its lag; where a threshold hides the rest, each sees another
SETTLING = 1.5  # a difference that falls by this factor with each doubling of the time since the start dies out

GRADUAL, ROUNDED = 10.0, 1e-3  # times the mean change of a step; and what a steady drift may be off by


@dataclass(frozen=True)
class Traits:
    """What kind of map one is, as far as random sequences of the length tried can tell.

    Args:
        linear: superposition holds, apart from the answer to no input, for inputs of sizes from 1e-3 to 1e3.
        memoryless: each output depends on the input of the same step alone.
        lag: of the oldest input that an output depends on, where that is at most half the length; None where memory
            fades, or goes back further.
        time_invariant: an input that comes later is answered alike, later; None where the map is still settling, or
            its runs part too fast to be compared.
        chaotic: two runs of bounded outputs that differ by a rounding part for good, with or without input; None where
            they part, but not for good on this length.
        lyapunov: rate at which they part, per step; nan where they do not, or where it is not seen.
        n_steps: how far back memory was looked for; no sequence was longer than three times this.

    >>> g = torch.Generator().manual_seed(0)
    >>> found = cmlib.traits(lambda x: x.cumsum(1), generator=g)
    >>> found.linear, found.memoryless, found.lag, found.time_invariant, found.chaotic
    (True, False, None, True, False)
    """

    linear: bool
    memoryless: bool
    lag: MaybeInteger
    time_invariant: bool | None
    chaotic: bool | None
    lyapunov: Real
    n_steps: Integer = 128


def traits(seq_map: Any, d_in: Count = 1, n_steps: Count = 128, generator: Source = None) -> Traits:
    """Say what kind of map one is, from its answers to random sequences; each is fed up to 3 n_steps of them.

    Args:
        seq_map: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that; causal.
        d_in: its input channels.
        n_steps: >= 8; how far back memory is looked for.
        generator: of the sequences; None takes one with seed 0.

    Raises:
        ValueError: on bad input, a map of other shapes, or outputs that are not finite.

    Reference: wang2024inverse, Def. 2.1

    >>> found = cmlib.traits(lambda x: torch.relu(x - x.roll(3, 1) * (torch.arange(x.shape[1]) > 2)[:, None]))
    >>> found.linear, found.memoryless, found.lag
    (False, False, 3)
    """
    n, d_in, g = count("n_steps", n_steps, at_least=LEAST), count("d_in", d_in), random_source("generator", generator)
    like = next(seq_map.parameters(), None) if isinstance(seq_map, nn.Module) else None

    def run(x: Tensor) -> Tensor:
        y = evaluate(seq_map, x if like is None else x.to(dtype=like.dtype, device=like.device))
        precision.append(torch.finfo(y.dtype).eps)
        return y.double().cpu()

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, d_in, generator=g, device=g.device, dtype=torch.float64).cpu()

    precision: list[float] = []
    linear = _superposes(run, noise(3, n), noise(3, n), precision)
    lag = _oldest(run, SIZES * noise(9, n), SIZES * noise(9, n), precision)
    # differences of a linear map grow as it does itself
    if lag == 0 and not _forgetful(run, noise(9, 3 * n), noise(9, 3 * n), noise(3 * n)[:, :1] > 0, precision):
        lag = None  # at the last step alone, as at the first one of a chunk, or up to a later one
    chaotic, lyapunov = (False, np.nan) if linear else _parts(run, noise(3, 3 * n), precision)
    invariant = None if chaotic or chaotic is None else _invariant(run, noise(3, n // 2), n, precision)
    return Traits(linear, lag == 0, lag, invariant, chaotic, lyapunov, n)


def _superposes(run: Any, x: Tensor, y: Tensor, precision: list[float]) -> bool:
    *answers, at_rest = run(torch.cat([x, y, x + y, -10 * x, torch.zeros_like(x)])).chunk(5)
    of_x, of_y, of_both, of_large = (answer - at_rest for answer in answers)
    gap = torch.maximum((of_both - of_x - of_y).abs(), (of_large / -10 - of_x).abs())
    size = torch.stack([answer.abs() for answer in [*answers, at_rest]]).amax()
    if gap.amax() > TRUSTED * precision[-1] * size:
        return False
    for factor in (1e-3, 1e3):  # thresholds and saturation; what overflows at these has been told apart before
        answer = run(factor * x)
        gap = (answer - at_rest - factor * of_x).abs().amax()
        if gap > TRUSTED * precision[-1] * torch.maximum(answer.abs().amax(), factor * size):
            return False
    return True


def _oldest(run: Any, x: Tensor, other: Tensor, precision: list[float]) -> int | None:
    # of each last output: does it change when all inputs `age` steps before it, and earlier, are replaced?
    n = x.shape[1]
    age = torch.arange(n - 1, -1, -1)[:, None]

    def last(ages: Tensor) -> Tensor:
        return run(torch.where(age >= ages[:, None, None], other, x))[:, -1]

    low, high = torch.zeros(len(x), dtype=torch.long), torch.full((len(x),), n)  # some age between, by halves
    end = last(high)
    change = (last(low) - end).abs().amax(1)
    size = torch.maximum(change, end.abs().amax(1))
    none = TRUSTED * precision[-1] * size
    matters = change > none
    if not matters.any():  # not even the input of the same step
        return None
    while (high - low).max() > 1:
        middle = (low + high) // 2
        found = (last(middle) - end).abs().amax(1)
        further = found > none
        low, high = torch.where(further, middle, low), torch.where(further, high, middle)
        change = torch.where(further, found, change)
    oldest = int(low.max())
    # a memory that fades passes every size on its way to rounding, one that ends does not; saturated draws say nothing
    ends = (low == oldest) & (change > (none * size).sqrt())
    return oldest if oldest <= n // 2 and ends.sum() >= AGREE else None


def _forgetful(run: Any, x: Tensor, other: Tensor, some: Tensor, precision: list[float]) -> bool:
    # what replaces some inputs leaves the outputs at all others as they are
    here = run(torch.where(some, SIZES * other, SIZES * x))
    gap = (here - run(SIZES * x))[:, ~some[:, 0]].abs().amax((1, 2))
    return bool((gap <= TRUSTED * precision[-1] * here.abs().amax((1, 2))).all())


def _parts(run: Any, x: Tensor, precision: list[float]) -> tuple[bool | None, float]:
    # two runs over noise, and two that noise has set off and that then go on alone
    alone, start = x.clone(), x.shape[1] // 8
    alone[:, start:] = 0.0
    both = torch.cat([x, alone])
    pushed = both.clone()
    run(x[:1, :1])  # for the precision of the outputs
    pushed[:, start - 1] += TRUSTED * precision[-1]
    first, second = run(torch.cat([both, pushed])).chunk(2)
    middle, last = x.shape[1] // 2, 3 * x.shape[1] // 4
    spread = (first[:, last:] - first[:, last:].mean(1, keepdim=True)).abs().amax((1, 2))
    earlier = (first[:, start:last] - first[:, start:last].mean(1, keepdim=True)).abs().amax((1, 2))
    apart = (second - first).abs().amax(2)
    at_once, later, late = (
        apart[:, start - 1 : start + 4].amax(1),
        apart[:, middle:last].amax(1),
        apart[:, last:].amax(1),
    )
    # what grows without bound, as an unstable linear map does, takes both runs along
    goes_on = (spread > 0) & (spread < 10 * earlier) & (late > at_once)
    parted = goes_on & (late > TOGETHER * spread) & (at_once < TOGETHER / 100 * spread)
    grown = parted | (goes_on & (at_once > 0) & (late > SETTLING * later))
    if not grown.any():
        return False, np.nan
    chosen = parted if parted.any() else grown
    rates = []
    for distance, limit in zip(apart[chosen, start:], spread[chosen], strict=True):
        growing = (distance > 0) & (torch.cummax(distance, 0).values < TOGETHER * limit)
        k = growing.nonzero().flatten().numpy()
        if len(k) > 2:
            rates.append(np.polyfit(k, distance[growing].log().numpy(), 1)[0])
    return (True if parted.any() else None), float(np.median(rates)) if rates else np.nan


def _invariant(run: Any, x: Tensor, n: int, precision: list[float]) -> bool | None:
    # doublings tell what settles; what repeats itself may be the same after each, but not also a step before, nor, as
    # chunks are, a quarter of n before
    answers, sizes = [], []
    for silence in (n // 2, n, 2 * n, 2 * n - 1, 2 * n - n // 4):
        before = torch.zeros(len(x), silence, x.shape[2], dtype=x.dtype)
        y = run(torch.cat([torch.cat([before, x], 1), torch.cat([before, torch.zeros_like(x)], 1)]))
        with_x, without = y[:, silence:].chunk(2)
        answers.append(with_x - without)
        sizes.append(y.abs().amax())
    first, half, last, *shifted = answers
    early, late = (half - first).abs().amax(), (last - half).abs().amax()
    none = TRUSTED * precision[-1] * max(sizes)
    if late <= none:
        return all((last - other).abs().amax() <= none for other in shifted)
    step = (last - shifted[0]).abs().amax()
    # what settles changes by as much from n to 2n as in n of the last steps, at least; and what relaxes from where it
    # starts moves evenly, and in n steps less than twice what it did in n / 2
    settles = late < early / SETTLING and n * step < 4 * late
    relaxes = step < GRADUAL * late / n and early < late < (2 - ROUNDED) * early
    return None if settles or relaxes else False
