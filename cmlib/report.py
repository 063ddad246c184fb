"""Report: what a model of your own remembers, stage by stage within a budget, and what that means."""

import dataclasses
import functools
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from cmlib.adapters import Adapted
from cmlib.arguments import (
    ArrayLike,
    Count,
    DType,
    Number,
    Source,
    count,
    floating,
    one_of,
    positive,
    random_source,
    real_array,
    sequences,
)
from cmlib.budget import Budget, Meter, Spent
from cmlib.certificates import Certificate, certify
from cmlib.decay import Decay, decay
from cmlib.memory import CHANNELS, INPUTS, MemoryCurve, memory_function, pairs
from cmlib.models.recurrent import is_recurrent
from cmlib.perturbation import PerturbationCurve, perturbation_error
from cmlib.preflight import precise, preflight
from cmlib.sensitivity import Sensitivity, sensitivity
from cmlib.sequence_maps import BatchFirst, Causal, channels_of, copied, in_double
from cmlib.traits import LEAST, Traits, traits
from cmlib.verdict import (
    Assumption,
    Sentence,
    advice,
    assumptions,
    conclusion,
    doubts,
    from_inside,
    held_longer,
    last_forgotten,
    overtaken,
    questioned,
    verdict,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Inputs: TypeAlias = Sequence[str] | Mapping[str, Tensor] | None
    Spending: TypeAlias = Budget | Number | None
    Progress: TypeAlias = Callable[[str], Any] | bool | None
else:
    Inputs = Spending = Progress = Any

SCHEMA = 1  # of the JSON: it grows when a name of it changes its meaning
DEFAULT_INPUTS = (*INPUTS, "random")
KINDS = (*DEFAULT_INPUTS, "tokens")
LONG = 4  # times as much before the input changes as after
LARGEST = 2**27  # numbers of one tensor that following a curve may take: 1 GiB in double precision
MORE = 8  # times as many lags as asked for, at most, until a decay is decided
SIZES = 5  # sizes of the input that are judged apart, at most
# any size of input: dense enough for the supremum over rates that depend on it
GROWING = np.concatenate([np.arange(0.125, 32.0, 0.125), np.geomspace(32.0, 1000.0, 33)])
TIMED = 8  # sequences of the evaluations that are timed
RUN = 1000  # steps for which the recurrent parts are run
PUSHED = 8  # random sequences over which the answer to a push is measured
CALLS_OF_TRAITS, CALLS_OF_ASCENT, CALLS_OF_PUSH = 20, 35, 3  # about, the last two for each weight


@dataclass(frozen=True)
class Report:
    """What `report` found.

    Args:
        name: of the model.
        settings: name -> what it was measured with, and by what versions.
        notes: of the preflight, and of the adapter where there is one.
        traits: whether it is linear, memoryless, invariant in time, chaotic; None where left out.
        memory: kind of input -> memory function, over as many lags as its verdict took.
        decays: kind of input -> how it decays.
        by_amplitude: kind of input -> size |x| -> how the memory of inputs of that size decays; of steps and of what is
            forgotten last, and not of a linear map.
        growing: memory function and decay over inputs of any size, where the size matters; or None.
        certificates: of its recurrent and state-space parts.
        sensitivity: weight by weight, the push that changes the answers by a tenth.
        perturbation: what pushes of the radii asked for do to the outputs; None where none were.
        left_out: stage -> why.

    Reference: wang2024inverse, Defs 3.1 and 3.4

    >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32)
    >>> found.name, found.conclusion.kind, len(found.certificates)
    ('LinearRNN', 'exponential', 1)
    """

    name: str
    settings: dict[str, Any]
    notes: tuple[str, ...]
    traits: Traits | None
    memory: dict[str, MemoryCurve]
    decays: dict[str, Decay]
    by_amplitude: dict[str, dict[float, Decay]]
    growing: tuple[MemoryCurve, Decay] | None
    certificates: tuple[Certificate, ...]
    sensitivity: tuple[Sensitivity, ...]
    perturbation: PerturbationCurve | None
    left_out: dict[str, str]

    @property
    def conclusion(self) -> Decay | None:
        """The decay that the verdict rests on, the slowest that was seen; None where none was measured."""
        return conclusion(self)

    @property
    def verdict(self) -> tuple[Sentence, ...]:
        """What it means, in sentences, each with its reason."""
        return verdict(self)

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """The hypotheses of the theorem that the verdict may cite, and which of them were checked."""
        return assumptions(self)

    @property
    def doubts(self) -> tuple[Sentence, ...]:
        """What would change the verdict."""
        return doubts(self)

    @property
    def advice(self) -> tuple[Sentence, ...]:
        """What to do, each with its reason."""
        return advice(self)

    def __str__(self) -> str:
        return "\n".join(map(str, self.verdict))

    def plot(self) -> "Figure":
        """Return a figure with a panel for each question that has an answer: inputs, sizes, eigenvalues, weights.

        >>> found = cmlib.report(targets.LinearFunctional(kernels.Exponential(0.5)), d_in=1, n_steps=32)
        >>> len(found.plot().axes)
        1
        """
        from cmlib.page import plot

        return plot(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it: null where a number does not apply, "inf" where it is infinite.

        >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32)
        >>> found.to_dict()["schema"], found.to_dict()["conclusion"]["kind"]
        (1, 'exponential')
        """
        said = {name: getattr(self, name) for name in ("conclusion", "verdict", "assumptions", "doubts", "advice")}
        measured = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"schema": SCHEMA} | _plain(measured | said)

    def save(self, path: Any) -> Path:
        """Write the report as one HTML page that needs no other file, or the same as JSON; return its path.

        Raises:
            ValueError: unless the path ends in .html or .json.

        >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32)
        >>> found.save("mine.pdf")
        Traceback (most recent call last):
        ValueError: expected a path that ends in .html or .json, got 'mine.pdf'
        """
        from cmlib.page import page

        path = Path(path)
        if path.suffix not in (".html", ".json"):
            raise ValueError(f"expected a path that ends in .html or .json, got {str(path)!r}")
        text = page(self) if path.suffix == ".html" else json.dumps(self.to_dict(), allow_nan=False) + "\n"
        path.write_text(text, encoding="utf-8")
        return path


def report(
    model: Any,
    *,
    d_in: Count | None = None,
    n_steps: Count = 200,
    dt: Number | None = None,
    amplitudes: ArrayLike | None = None,
    inputs: Inputs = None,
    history: Count | None = None,
    dtype: DType | None = None,
    budget: Spending = None,
    radii: ArrayLike | None = None,
    n_directions: Count = 4,
    generator: Source = None,
    progress: Progress = None,
) -> Report:
    """Measure a model's memory, certify it where its state is in sight, and say what that means.

    Args:
        model: (batch, time, d_in) -> (batch, time, d_out), or what `adapt` makes of another; layers of torch as they
            are, a TransformerEncoder with a causal mask.
        d_in: its input channels; None asks the model.
        n_steps: lags to begin with, >= 16; what is not decided is followed over up to 8 times as many.
        dt: time per step; None takes that of a recurrent model, or 1.
        amplitudes: as of `memory_function`.
        inputs: kinds of input of `memory_function`, or name -> (batch, time, d_in) of your own.
        history: steps before the input changes; None takes 4 times as many as follow.
        dtype: to evaluate in; None takes float64 where the model does.
        budget: a Budget, or seconds; None takes 60. What does not fit is left out, the last stages first.
        radii: (n,) sizes of a push to all weights at once, for `perturbation`; None leaves that out.
        n_directions: random pushes of a weight.
        generator: of random inputs and pushes; None takes one with seed 0.
        progress: True writes a line for each stage to stderr, None does on a terminal; or a function of the line.

    Raises:
        ValueError: on bad options, or where the preflight finds that the model is no such map.

    Reference: wang2024inverse, Defs 3.1 and 3.4, Thm 3.9

    >>> print(cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32).verdict[0])
    LinearRNN forgets exponentially, at the rate 0.5 per unit of time, to 1/e in 2 units of time.
    """
    generator, n_steps = random_source("generator", generator), count("n_steps", n_steps, at_least=16)
    kinds, dtype = _kinds(inputs), None if dtype is None else floating("dtype", dtype)
    timed = dt is not None or is_recurrent(model)
    dt = positive("dt", dt) if dt is not None else float(model.dt) if is_recurrent(model) else 1.0
    d_in = channels_of(model) if d_in is None else count("d_in", d_in)
    history = None if history is None else count("history", history)
    n_directions, meter, seed = count("n_directions", n_directions), Meter(budget, progress), generator.initial_seed()
    # drawn now, so that no stage draws other numbers because another was left out
    seeds = torch.randint(2**31, (5,), generator=generator, device=generator.device).tolist()

    def source(i: int) -> torch.Generator:
        return torch.Generator().manual_seed(seeds[i])

    def before(n: int, limit: int | None) -> int:
        wanted = LONG * n if history is None else history
        return wanted if limit is None else max(1, min(wanted, limit - n))

    meter.say("preflight")
    seq_map = precise(model, d_in) if dtype is None else in_double(model, dtype)
    fit = preflight(seq_map, d_in, n_steps + before(n_steps, None), dtype, source(0))
    if fit.longest is not None and n_steps >= fit.longest:
        n_steps = count("the greatest length that the model takes", fit.longest, at_least=32) // 2
    seq_map = meter.metered(seq_map, fit.dtype)

    def room(kind: Any) -> int | None:
        return fit.longest if isinstance(kind, str) else kind.shape[1]

    def measured(kind: Any, x: Any, n: int) -> MemoryCurve:
        named = isinstance(kind, str)
        drawn = None if named and kind in INPUTS else source(1)
        x = None if named and kind == "tokens" else x  # which are all of size 1
        total = n + before(n, room(kind))
        held = pairs(seq_map, torch.zeros(1, total, d_in, dtype=fit.dtype)) * total**2 if n > n_steps else 0
        if held > LARGEST:
            raise ValueError(f"one sequence of {total} steps takes {held:.0e} numbers at once, as attention does")
        return memory_function(seq_map, n, dt, d_in, kind, x, before(n, room(kind)), drawn, check=fit)

    total = n_steps + before(n_steps, fit.longest)
    meter.calibrate(seq_map, torch.zeros(TIMED, total, d_in, dtype=fit.dtype))
    rows = 6 * min(d_in + 1, CHANNELS) + 1 if amplitudes is None else real_array("amplitudes", amplitudes).size + 1
    once = meter.seconds(total, rows)
    weights = [w for w in seq_map.parameters() if w.requires_grad] if isinstance(seq_map, nn.Module) else []
    calls_of_pushes = len(weights) * (CALLS_OF_ASCENT + CALLS_OF_PUSH * n_directions)
    seconds_of_pushes = meter.seconds(n_steps, PUSHED, 2 * calls_of_pushes)  # half of them with gradients
    planned = once * (len(kinds) + 3) + seconds_of_pushes
    meter.say(f"about {planned:.1f} s, and more for what is not decided at once, of {meter.budget.seconds:g} s")
    back, what = n_steps if fit.longest is None else min(n_steps, fit.longest // 3), None  # traits feed 3 times as many
    if back < LEAST:
        meter.note("traits", f"they take {3 * LEAST} steps at least, and the model takes {fit.longest}")
    else:
        look = partial(traits, seq_map, d_in, back, source(2))
        what = _inside(meter, "traits", look, meter.seconds(3 * back, 9, 16), CALLS_OF_TRAITS)
    # more steps decide nothing about chaos, nor about what falls slowly in a map that changes with time
    settled = what is None or not (what.chaotic or what.time_invariant is False)
    most = MORE * n_steps if settled else n_steps
    followed = {}
    for name, kind in kinds.items():
        # half of what there is room for is history, unless more lags were asked for
        end = most if (limit := room(kind)) is None else min(most, max(n_steps, limit // 2))
        one = _Followed(name, partial(measured, kind, amplitudes), lambda n: n + before(n, fit.longest), end, meter)
        if meter.run(f"memory, {name}", partial(one.curve, n_steps), once, 1) is not None:
            followed[name] = one
    lasts = RUN if fit.longest is None else min(RUN, fit.longest)
    sizes = next((_few(one.measure(n_steps).sizes) for one in followed.values()), [1.0])
    look = partial(certify, model, d_in, n_steps=lasts, amplitudes=sizes, generator=source(3))
    certificates = tuple(_inside(meter, "certificates", look) or ())
    moving = what is not None and not what.chaotic and what.time_invariant is not True
    judged = _at_one_moment if moving else lambda d: d
    decays: dict[str, Decay] = {}
    for name, one in followed.items():
        # one of them is judged even where no time is left
        found = meter.run(f"decay, {name}", one.decided) if decays else one.decided()
        found = _unjudged(one.measure(one.seen)) if found is None else found
        curve, inside = one.measure(found.n_steps), from_inside(certificates, dt, [name])
        decays[name] = judged(questioned(curve, found, inside, linear=what is not None and what.linear))
    by_amplitude, growing = {}, None
    if what is None or not (what.linear or what.memoryless or what.chaotic):
        # a step holds an input of its size; and what is forgotten last
        for name in [name for name in decays if name in ("heaviside", last_forgotten(decays))]:
            one = followed[name]
            by_amplitude[name] = {
                size: judged(
                    questioned(one.measure(d.n_steps).of_size(size), d, from_inside(certificates, dt, [name], size))
                )
                for size, d in (meter.run(f"sizes, {name}", one.by_size) or {}).items()
            }
            decays[name] = overtaken(one.measure(decays[name].n_steps), decays[name], by_amplitude[name])
        if amplitudes is None and held_longer(by_amplitude.get("heaviside", {})):
            steps = followed["heaviside"].measure(decays["heaviside"].n_steps)
            look = partial(_growing, steps, n_steps, partial(measured, "heaviside"))
            growing = meter.run("inputs that grow", look, meter.seconds(total, 2 * len(GROWING)), 1)
    sensed, perturbation = (), None
    if isinstance(model, torch.jit.ScriptModule):
        meter.note("certificates and sensitivity", "TorchScript hides its parts and weights")
    if weights:
        pushed = torch.randn(PUSHED, n_steps, d_in, generator=source(4), dtype=torch.float64).to(fit.dtype)
        push = {"n_directions": n_directions, "generator": source(4)}
        look = partial(sensitivity, seq_map, pushed, **push)
        sensed = tuple(_inside(meter, "sensitivity", look, seconds_of_pushes, calls_of_pushes) or ())
        if isinstance(seq_map, BatchFirst | Causal):  # the names that the caller knows
            sensed = tuple(replace(row, name=row.name.partition(".")[2]) for row in sensed)
        if radii is not None:
            pushes = partial(perturbation_error, seq_map, copied(seq_map), radii, inputs=pushed, dt=dt, **push)
            perturbation = meter.run("perturbation", pushes)
    meter.armed = False  # curves that are followed further later on are no part of it
    settings = {
        "input channels": d_in,
        "output channels": fit.d_out,
        "dtype": str(fit.dtype).removeprefix("torch."),
        "greatest length": fit.longest,
        "unit": "unit of time" if timed else "step",
        "time per step": dt,
        "lags asked for": n_steps,
        "steps before the input changes": total - n_steps,
        "kinds of input": list(kinds),
        "sizes of input": sorted({size for one in followed.values() for size in one.measure(n_steps).sizes}),
        "random pushes of each weight": n_directions,
        "seed": seed,
        "seconds allowed": meter.budget.seconds,
        "evaluations allowed": meter.budget.calls,
        "evaluations": meter.calls,
    }
    return Report(
        name=_name(model),
        settings=settings | _versions(),
        notes=tuple(filter(None, fit.notes)),
        traits=what,
        memory={name: one.measure(decays[name].n_steps) for name, one in followed.items()},
        decays=decays,
        by_amplitude=by_amplitude,
        growing=growing,
        certificates=certificates,
        sensitivity=sensed,
        perturbation=perturbation,
        left_out=meter.left_out,
    )


class _Followed:
    """The memory of one kind of input, measured over as many lags as its decay asks for and the budget allows."""

    def __init__(self, name: str, measure: Any, steps: Callable[[int], int], most: int, meter: Meter):
        self.name, self.steps, self.most, self.meter = name, steps, most, meter
        self.measure = functools.cache(measure)
        self.seen, self.rows = 0, 1  # most lags so far, and sequences that they took

    def curve(self, n: int, size: float | None = None) -> MemoryCurve:
        """Return n lags, of inputs of one size where it is given."""
        found = self.measure(n)
        self.seen, self.rows = max(self.seen, n), len(found.by_amplitude) + 1
        found = found if size is None else found.of_size(size)
        return replace(found, longer=partial(self.longer, size))

    def longer(self, size: float | None, n: int) -> MemoryCurve:
        if n > self.seen:
            seconds = self.meter.seconds(self.steps(n), self.rows)
            # at most half of what is left, for the sake of the stages that come
            if seconds > self.meter.seconds_left() / 2 or self.meter.calls_left() < 2:
                raise Spent("the budget does not reach so far")
            self.meter.say(f"memory, {self.name}, {n} lags" + (f", about {seconds:.1f} s" if seconds >= 0.1 else ""))
        try:
            return self.curve(n, size)
        except ValueError as error:  # so late an output is not finite, or refused
            raise Spent(str(error)) from error

    def decided(self, size: float | None = None) -> Decay:
        try:
            return decay(self.curve(self.seen, size), max_steps=self.most)
        except Spent as spent:
            self.meter.note(f"more than {self.seen} lags of {self.name}", str(spent))
            return decay(replace(self.curve(self.seen, size), longer=None))

    def by_size(self) -> dict[float, Decay]:
        found = {}
        for size in _few(self.measure(self.seen).sizes):
            self.meter.check()
            found[size] = self.decided(size)
        return found


def _few(sizes: list[float]) -> list[float]:
    return [sizes[i] for i in np.unique(np.linspace(0, len(sizes) - 1, SIZES).round().astype(int))]


def _unjudged(curve: MemoryCurve) -> Decay:
    window, reason = (float(curve.t[0]), float(curve.t[-1])), "the budget did not reach as far as to judge it"
    return Decay("undecided", (), window=window, floor=curve.floor, n_steps=len(curve.t), reason=reason)


def _at_one_moment(d: Decay) -> Decay:
    # how slowly a map that changes with time forgets may be a matter of how long it has been running
    if d.kind in ("finite", "exponential", "undecided"):
        return d
    reason = (
        "the map changes with time, or has not been seen to settle, and what falls slowly "
        f"({d.kind} at this moment) may do so at this moment alone"
    )
    return Decay("undecided", (), window=d.window, floor=d.floor, n_steps=d.n_steps, reason=reason)


def _growing(steps: Any, n_steps: int, measured: Callable[[Any, int], MemoryCurve]) -> tuple[MemoryCurve, Decay]:
    # along the direction in which the largest inputs are held longest, both ways
    largest = steps.of_size(steps.sizes[-1])
    along = largest.amplitudes[largest.by_amplitude[:, -1].argmax()] / steps.sizes[-1]
    found = measured(np.concatenate([-GROWING, GROWING])[:, None] * along, n_steps)
    # no longer than that, for which the sizes lie close enough together
    return found, decay(replace(found, longer=None))


def _inside(meter: Meter, name: str, look: Callable[[], Any], *cost: float) -> Any:
    # a look into anybody's model may fail, and what else was seen still holds
    try:
        return meter.run(name, look, *cost)
    except (ValueError, RuntimeError) as error:
        meter.note(name, str(error))
        return None


def _name(model: Any) -> str:
    # adapters, functools.partial and torch.compile stand before what the user knows
    inside = {Adapted: "model", partial: "func"}.get(type(model), "_orig_mod")
    if callable(getattr(model, inside, None)):
        return _name(getattr(model, inside))
    if isinstance(model, torch.jit.ScriptModule):
        return str(model.original_name)
    name = getattr(model, "__name__", type(model).__name__)
    return "The map" if name == "<lambda>" else name


def _kinds(inputs: Any) -> dict[str, Any]:
    if inputs is None:
        return {name: name for name in DEFAULT_INPUTS}
    if isinstance(inputs, Mapping) and inputs:
        return {str(name): sequences(f"inputs[{name!r}]", own) for name, own in inputs.items()}
    if isinstance(inputs, str) or not isinstance(inputs, Sequence) or not inputs:
        raise ValueError(f"expected inputs as a list out of {list(KINDS)}, or name -> tensor, got {inputs!r}")
    return {one_of("inputs", name, KINDS): name for name in inputs}


def _versions() -> dict[str, str]:
    import cmlib  # by now it is there as a whole

    return {
        "cmlib": cmlib.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
    }


def _plain(value: Any) -> Any:
    # as JSON has it
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        if isinstance(value, MemoryCurve):
            fields = [
                "t",
                "values",
                "inputs",
                "floor",
                "errors",
            ]  # each amplitude apart would be a hundred times as much
        found = {name: getattr(value, name) for name in fields if not name.startswith("_")}
        # functions and modules, which a part carries along, are no part of what was found
        return {name: _plain(each) for name, each in found.items() if not callable(each)}
    if isinstance(value, Mapping):
        return {f"{name:g}" if isinstance(name, float) else str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | Tensor):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
