"""Preflight: whether a map is one that can be asked about its memory, said before anything is measured."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from cmlib.arguments import Count, DType, Integer, Real, Source, count, floating, random_source
from cmlib.sequence_maps import answer, evaluate, evaluating, in_double, named, spelled

if TYPE_CHECKING:
    Length: TypeAlias = int | None
else:
    Length = Any
BATCH = 5  # sequences tried at once; never the number of steps or channels, so that no other layout fits by chance
ENOUGH = 64  # steps on which all but the greatest length is looked at
EVEN = 64  # a length that those take which cut sequences into equal pieces
USUAL = 1024  # no model made for a single length is made for many more steps
TRUSTED = 100  # times the rounding of an output: two calls that differ by less are alike


@dataclass(frozen=True)
class Preflight:
    """What a map takes and gives. That there is one says that the map is causal, starts anew and throws no dice.

    Args:
        d_in, d_out: channels of its inputs and outputs.
        dtype: of the inputs that it takes: that of its weights, or the most precise.
        longest: the greatest number of steps that it takes; None where it took as many as were asked for.
        rounding: of its outputs, relative to the largest, at the lowest precision seen on the way.
        notes: what a reader of its results should know.

    >>> found = cmlib.preflight(torch.nn.GRU(2, 3, batch_first=True), d_in=2)
    >>> found.d_out, found.dtype, found.longest
    (3, torch.float32, None)
    """

    d_in: Integer
    d_out: Integer
    dtype: DType
    longest: Length
    rounding: Real
    notes: tuple[str, ...]


def preflight(
    seq_map: Any, d_in: Count = 1, n_steps: Count = ENOUGH, dtype: DType | None = None, generator: Source = None
) -> Preflight:
    """Try whether a map is one: layout, causality, independent sequences, nothing kept from call to call, no dice.

    A difference counts where it exceeds what a push of the inputs by the square root of their rounding has made by
    that step: a leak does, and what a chaotic map makes of rounding does not.

    Args:
        seq_map: what should be (batch, time, d_in) -> (batch, time, d_out), or to a tuple headed by that.
        d_in: its input channels.
        n_steps: the length that it will be fed; all but the greatest length is looked at on 64 of them at most.
        dtype: of the inputs; None tries that of its weights, then float64, then float32.
        generator: of the sequences tried; None takes one with seed 0.

    Raises:
        ValueError: that says what is wrong, and what may help.

    >>> cmlib.preflight(lambda x: x.flip(1))
    Traceback (most recent call last):
    ValueError: expected a causal model, but its output at step 0 depends on the input at step 1 or later
    """
    d_in, n_steps, generator = count("d_in", d_in), count("n_steps", n_steps), random_source("generator", generator)
    n = min(n_steps, ENOUGH)
    while n > 2 and n in (d_in, BATCH):
        n -= 1
    x = torch.randn(BATCH, n, d_in, generator=generator, dtype=torch.float64, device=generator.device)
    x = _taken(seq_map, x, n_steps, None if dtype is None else floating("dtype", dtype))
    probe = _Probe(seq_map, x, evaluate(seq_map, x), generator)
    probe.repeats()
    probe.keeps_apart()
    probe.is_causal()
    rounding, cause = probe.rounding()
    longest = _longest(seq_map, x, n_steps)
    notes = [note for note in [getattr(seq_map, "note", None)] if isinstance(note, str)]
    if cause:
        notes.append(f"{cause}: memory below {rounding:.0e} of the largest output is not seen.")
    if longest is not None:
        notes.append(f"It takes {longest} steps at most.")
    return Preflight(d_in, probe.y.shape[2], x.dtype, longest, rounding, tuple(notes))


def precise(model: Any, d_in: int) -> Any:
    """Return a copy that takes double precision, or that of its weights where it refuses double."""
    copied = in_double(model)
    silence = torch.zeros(2, 2, d_in)
    if not isinstance(model, nn.Module) or _refusal(copied, silence.double()) is None:
        return copied
    own = precisions(model)[0]
    less = in_double(model, own)
    return less if _refusal(less, silence.to(own)) is None else copied


class _Probe:
    """A map, the sequences x that it was fed and its answer y, for one question after the other."""

    def __init__(self, seq_map: Any, x: Tensor, y: Tensor, generator: torch.Generator):
        self.seq_map, self.x, self.y, self.generator = seq_map, x, y, generator
        self.eps = max(torch.finfo(x.dtype).eps, torch.finfo(y.dtype).eps)
        self.scale = float(y.abs().max())
        n, device = x.shape[1], generator.device
        some = int(torch.randint(min(1, n - 1), n, (), generator=generator, device=device))
        # of two sequences each is changed once without the other; in one step chaos has made little of rounding yet
        pairs = list(itertools.combinations(range(4), 2))
        pairs = [pairs[k] for k in torch.randperm(len(pairs), generator=generator, device=device)[:BATCH]]
        plan = enumerate((0, min(1, n - 1), some, n // 2))
        changed = [([row for row, pair in enumerate(pairs) if k in pair], step) for k, step in plan]
        self.changes = [(rows, step, self._apart(self._with_noise(rows, step))) for rows, step in changed]
        self.again = evaluate(seq_map, x)

    def repeats(self) -> None:
        """Raise where the same input is answered otherwise, after others in between."""
        if self._same(self.again, self.y):
            return
        before = _held(self.seq_map)
        _ = evaluate(self.seq_map, self.x)
        kept = [name for name, held in _held(self.seq_map).items() if name not in before or _moved(before[name], held)]
        if kept:
            raise ValueError(
                f"expected a map that starts anew with each call, but it keeps {', '.join(kept)} from call to call"
            )
        answers = []
        with torch.random.fork_rng([self.x.device] if self.x.is_cuda else []):
            for _ in range(2):
                torch.manual_seed(0)
                answers.append(evaluate(self.seq_map, self.x))
        said = "keeps something from call to call, or draws random numbers of its own"
        if self._same(*answers):
            said = "draws random numbers: switch off what .eval() leaves on, or call it on what is inside a function"
        raise ValueError(f"expected the same outputs for the same inputs, but the map {said}")

    def keeps_apart(self) -> None:
        """Raise where a sequence answers to others of its batch, and say whether that is because time comes first."""
        everyone = set(range(BATCH))
        others = [(apart > self.blur)[sorted(everyone.difference(rows))] for rows, _, apart in self.changes]
        if not any(noticed.any() for noticed in others):
            return
        earlier = (self._apart(self._with_noise([BATCH - 1], 0)) > self.blur)[:-1]
        step, x = self.x.shape[1] // 2, self.x.clone()
        x[:, step] = self._noise()[:, step]
        beside = self._apart(x) > self.blur
        beside[:, step] = False
        if not earlier.any() and not beside.any():
            raise ValueError(
                "expected (batch, time, channels), but each output depends on earlier sequences of its batch and on no "
                "other step: that looks like (time, batch, channels), which cmlib.adapt(model, time_first=True) turns"
            )
        raise ValueError("expected sequences to be independent, but one output depends on the others in its batch")

    def is_causal(self) -> None:
        """Raise where an output depends on what comes later, or on how much does."""
        for _, step, apart in self.changes:
            early = (apart > self.blur)[:, :step].any(0)
            if early.any():
                says = f"its output at step {int(early.nonzero()[0])} depends on the input at step {step} or later"
                raise ValueError(f"expected a causal model, but {says}")
        n = self.x.shape[1] // 2
        if n == 0:
            return
        try:
            part = evaluate(self.seq_map, self.x[:, :n])
        except ValueError:
            return  # made for a single length
        if ((part - self.y[:, :n]).abs().amax(2).double() > self.blur[:n]).any():
            raise ValueError("expected a causal model, but a shorter input gave other outputs over its own time")

    def rounding(self) -> tuple[float, str]:
        """Return the relative rounding of the outputs, and where it comes from unless that is double precision."""
        x, y = self.x.dtype, self.y.dtype
        # two pushes, one twice the other: a smooth map moves twice as far, and one that rounds on the way jumps
        once, twice = self.pushed - self.y, evaluate(self.seq_map, self._push(2.0)) - self.y
        moved = torch.maximum(once.abs(), twice.abs())
        # until chaos has blown them up
        calm = moved.amax((0, 2)).cummax(0).values < self.eps**0.25 * self.scale
        near = (moved > 0) & calm[:, None]
        jumps = (twice - 2 * once).abs()[near]
        if near.any() and (jumps / moved[near]).median() > 0.1 and jumps.max() > TRUSTED * self.eps * self.scale:
            return float(jumps.max()) / self.scale, "It computes in a lower precision than it takes"
        if self.eps == torch.finfo(torch.float64).eps:
            return self.eps, ""
        given = torch.finfo(y).eps > torch.finfo(x).eps
        return self.eps, f"Its outputs come as {y}" if given else f"It takes {x}"

    @cached_property
    def pushed(self) -> Tensor:
        """The answer after a push."""
        return evaluate(self.seq_map, self._push(1.0))

    @cached_property
    def blur(self) -> Tensor:
        """(time,): what the push has made by then, and would have where outputs are in proportion; and rounding."""
        both = self.y - self.y[:1], self.pushed - self.y
        spread, moved = (apart.abs().amax((0, 2)).double().cummax(0).values for apart in both)
        return self.eps**0.5 * spread + moved + TRUSTED * self.eps * self.scale

    def _noise(self) -> Tensor:
        device = self.generator.device
        noise = torch.randn(self.x.shape, generator=self.generator, dtype=torch.float64, device=device)
        return noise.to(self.x)

    def _with_noise(self, rows: list[int], step: int) -> Tensor:
        x = self.x.clone()
        x[rows, step:] = self._noise()[rows, step:]
        return x

    def _push(self, size: float) -> Tensor:
        signs = torch.ones_like(self.x)
        signs[:, ::2] = -1
        return self.x * (1 + size * self.eps**0.5 * signs)

    def _apart(self, x: Tensor) -> Tensor:
        # (batch, time)
        return (evaluate(self.seq_map, x) - self.y).abs().amax(2).double()

    def _same(self, y: Tensor, again: Tensor) -> bool:
        return float((again - y).abs().max()) <= min(TRUSTED * self.eps, self.eps**0.5) * self.scale


def _parts(seq_map: Any) -> dict[nn.Module, str]:
    return {part: named(name) for name, part in seq_map.named_modules()} if isinstance(seq_map, nn.Module) else {}


def _held(seq_map: Any) -> dict[str, tuple[Any, int]]:
    # what the parts of a module hold besides weights, and how often each tensor was written to
    return {
        f"{part}.{name}".lstrip("."): (value, value._version if isinstance(value, Tensor) else 0)
        for module, part in _parts(seq_map).items()
        for name, value in (vars(module) | dict(module.named_buffers(recurse=False))).items()
        if isinstance(value, Tensor | float | int)
    }


def _moved(before: tuple[Any, int], after: tuple[Any, int]) -> bool:
    (old, written), (new, rewritten) = before, after
    another = new is not old if isinstance(new, Tensor) or isinstance(old, Tensor) else new != old
    return another or written != rewritten


def precisions(seq_map: Any) -> list[torch.dtype]:
    """Return the dtypes to try inputs in: that of the weights, then from precise to less so."""
    weights = seq_map.parameters() if isinstance(seq_map, nn.Module) else ()
    own = [w.dtype.to_real() for w in weights if w.is_floating_point() or w.is_complex()]
    return list(dict.fromkeys([*own[:1], torch.float64, torch.float32]))


def _taken(seq_map: Any, x: Tensor, n_steps: int, dtype: torch.dtype | None) -> Tensor:
    # x in a dtype, on the device and of a length that the map takes
    if isinstance(seq_map, nn.Module):
        x = x.to(next(seq_map.parameters(), x).device)
    known = precisions(seq_map) if dtype is None else [dtype]
    refused = _refusal(seq_map, x.to(known[0]))
    if refused is None:
        return x.to(known[0])
    for other in precisions(seq_map):
        if other != known[0] and _refusal(seq_map, x.to(other)) is None:
            if dtype is not None:
                raise ValueError(f"expected a map of {dtype} inputs, but it takes {other}: {refused}") from refused
            return x.to(other)
    for some in (x, x[:, :2]):  # it may be too long as well
        if hint := _hint(seq_map, some.to(known[0])):
            raise ValueError(f"{refused}: {hint}") from refused
    whole, n = _lengthened(x, n_steps), x.shape[1]
    for each in known:  # as one made for a single length does
        if _refusal(seq_map, whole.to(each)) is None:
            return whole.to(each)
    if _is_channels_first(seq_map, x.to(known[0])):
        turn = "lambda x: x.transpose(1, 2)"
        hint = f"it takes (batch, channels, time): cmlib.adapt(model, input={turn}, output={turn})"
        raise ValueError(f"{refused}: {hint}") from refused
    while (n := n // 2) > 0:
        for each in known:
            if _refusal(seq_map, x[:, :n].to(each)) is None:
                return x[:, : _greatest(seq_map, x.to(each), n, x.shape[1])].to(each)
    if (only := _only_length(seq_map, _lengthened(x[:2], max(n_steps, USUAL)).to(known[0]))) is not None:
        fill = f"lambda x: model(F.pad(x, (0, 0, 0, {only} - x.shape[1])))[:, :x.shape[1]]"
        raise ValueError(f"{refused}: it takes {only} steps, so fill shorter sequences up: {fill}") from refused
    raise refused


def _only_length(seq_map: Any, x: Tensor) -> int | None:
    # the length that one made for a single length was made for, which may be any; None for what is wrong at all of them
    if _tried(seq_map, x)[1] is None:
        return None
    return next((n for n in range(1, x.shape[1]) if _refusal(seq_map, x[:, :n]) is None), None)


def _refusal(seq_map: Any, x: Tensor) -> ValueError | None:
    try:
        _ = answer(seq_map, x)
    except ValueError as error:
        return error
    return None


def _longest(seq_map: Any, x: Tensor, n_steps: int) -> int | None:
    n = x.shape[1]
    if n_steps <= n:
        return None
    longer = _lengthened(x[:2], n_steps)  # a batch of one is squeezed away by some
    if _refusal(seq_map, longer) is None:
        _ = evaluate(seq_map, longer)
        return None
    even = n_steps // EVEN * EVEN
    if even > n and _refusal(seq_map, longer[:, :even]) is None:
        if _refusal(seq_map, longer[:, : even - 1]) is not None:
            refused = f"{even - 1} or {n_steps}"
            raise ValueError(f"expected a map of any length, but it takes {even} steps, and not {refused}")
        n = even
    return _greatest(seq_map, longer, n, n_steps)


def _lengthened(x: Tensor, n_steps: int) -> Tensor:
    return x.repeat(1, -(-n_steps // x.shape[1]), 1)[:, :n_steps]


def _greatest(seq_map: Any, x: Tensor, taken: int, refused: int) -> int:
    while refused - taken > 1:
        middle = (taken + refused) // 2
        taken, refused = (middle, refused) if _refusal(seq_map, x[:, :middle]) is None else (taken, middle)
    return taken


def _hint(seq_map: Any, x: Tensor) -> str:
    # what a map that refuses x takes instead, or gives
    found, error = _tried(seq_map, x)
    if found is not None:
        return _hint_of_outputs(found, x)
    if isinstance(error, TypeError) and "missing" in str(error):
        return "one that needs more arguments gets them from cmlib.adapt(model, input=lambda x: (x, mask))"
    if "indices" in str(error) and (embedding := _of_tokens(seq_map, x)):
        return f"it takes token ids, so probe it after the embedding: cmlib.adapt(model, input={embedding})"
    if isinstance(_tried(seq_map, x.double().cpu().numpy())[0], np.ndarray):
        return "it takes numpy arrays: cmlib.adapt(f, input='numpy')"
    return ""


def _of_tokens(seq_map: Any, x: Tensor) -> str:
    # where a model that takes token ids looks them up, "" for one that does not take them
    ids, called = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device), []

    def note(part: nn.Module, given: Any, vectors: Any) -> None:
        if given[0].shape == ids.shape and not given[0].any():  # not positions, which count
            called.append(part)

    parts = _parts(seq_map)
    hooks = [part.register_forward_hook(note) for part in parts if isinstance(part, nn.Embedding)]
    _, error = _tried(seq_map, ids)
    for hook in hooks:
        hook.remove()
    if error is not None:
        return ""
    return spelled(parts[called[0]]) if called else "its nn.Embedding"


def _is_channels_first(seq_map: Any, x: Tensor) -> bool:
    if x.shape[2] == 1 and not any(isinstance(part, nn.Conv1d) for part in _parts(seq_map)):
        return False  # a single channel fits anywhere
    turned = x.transpose(1, 2)
    found = _tried(seq_map, turned)[0]
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[::2] != x.shape[:2]:
        return False
    # what takes another number of channels as well would take them for steps
    return _tried(seq_map, torch.cat([turned, turned[:, :1]], 1))[1] is not None


def _hint_of_outputs(found: Any, x: Tensor) -> str:
    parts: Mapping[Any, Any] = {}
    if isinstance(found, Mapping):
        parts = found
    elif isinstance(found, list | tuple):
        parts = dict(enumerate(found))
    elif not isinstance(found, Tensor | np.ndarray):
        parts = getattr(found, "__dict__", {})
    fit = [key for key, part in parts.items() if isinstance(part, Tensor) and part.shape[:2] == x.shape[:2]]
    if parts:
        return f"take one of {list(parts)} with cmlib.adapt(model, output={(fit or list(parts))[0]!r})"
    if isinstance(found, np.ndarray):
        return "it gives numpy arrays: cmlib.adapt(f, input='numpy')"
    if isinstance(found, Tensor) and found.shape == x.shape[:2]:
        return "channels are missing: cmlib.adapt(model, output=lambda y: y[..., None])"
    if isinstance(found, Tensor) and found.ndim == 2 and len(found) == len(x):
        return "it gives one output for a whole sequence: probe the part of it that gives one for each step"
    if isinstance(found, Tensor) and found.ndim > 3 and found.shape[:2] == x.shape[:2]:
        return "its channels have several axes: cmlib.adapt(model, output=lambda y: y.flatten(2))"
    return "" if isinstance(found, Tensor) else "cmlib.adapt(model, output=...) says where the outputs are"


def _tried(seq_map: Callable[..., Any], x: Any) -> tuple[Any, Exception | None]:
    try:
        with torch.no_grad(), evaluating(seq_map):
            return seq_map(x), None
    except Exception as error:  # whatever a map of others says of what it is not made for
        return None, error
