"""Verdict: what the findings of a report mean, each sentence with its reason; what is assumed, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cmlib.certificates import ALONE
from cmlib.decay import Decay
from cmlib.memory import INPUTS, MemoryCurve

if TYPE_CHECKING:
    from cmlib.report import Report

    Findings = Report
    Curve = MemoryCurve
else:
    Findings = Curve = Any

THEOREM = "Theorem 3.9 of Wang, Li and Li 2024"
# from what is forgotten first to what is never forgotten
ORDER = ("finite", "exponential", "stretched", "polynomial", "periodic", "plateau", "none")
LASTING = ("periodic", "plateau", "none")
LAWS = {
    "finite": "a memory that ends",
    "exponential": "an exponential",
    "stretched": "a stretched exponential",
    "polynomial": "a power of time",
    "periodic": "a memory that repeats",
    "plateau": "a memory that stays",
    "none": "a memory that does not fall",
}
NEARLY = 0.02  # rates that differ by a smaller share are one in words
ABOVE = 1e3  # times its floor, a curve ends before a slower mode has to have come out
SEEN = 0.5  # a window that ends before this share of the lags is one that rounding ends
CONFIRMED = 0.1  # a curve within this share of the rate of the eigenvalues, or in its interval, confirms them
FALLS = 0.8  # a rate that falls to less than this share of itself as inputs grow depends on their size
NEAR = 0.1  # a distance from instability below this share of the rate is small,
CLOSE = 0.01  # and so is one below this, of the matrix of a step
SURE = 100.0  # times the floor, above which memory is no rounding
OUTLIVED = 1e3  # times what a bound leaves
BRIEFLY = "exponential at the rate "
TRANSIENT = 10.0  # a state that grows by more than this before it decays


@dataclass(frozen=True)
class Sentence:
    """One thing that a report says.

    Args:
        text: the sentence.
        reason: what it rests on.

    >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32)
    >>> print(found.verdict[1])
    LinearRNN is linear: all inputs have one memory, whatever their size.
    """

    text: str
    reason: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Assumption:
    """A hypothesis of a theorem, and whether the model was seen to meet it.

    Args:
        hypothesis: in words.
        status: "checked", "assumed" or "fails".
        how: it was checked, or why it has to be assumed.

    Reference: wang2024inverse, Thm 3.9

    >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32)
    >>> [a.hypothesis for a in found.assumptions if a.status == "checked"]
    ['causal', 'time-homogeneous', 'bounded', 'decaying memory', 'the supremum over all inputs']
    """

    hypothesis: str
    status: str
    how: str


def conclusion(found: Findings) -> Decay | None:
    """Return the decay that the verdict rests on: the slowest that was seen; None where none was measured.

    Of a linear map all inputs have one memory, and that of an impulse needs no history. Of any other, an input whose
    memory is undecided leaves the whole undecided, unless another is never forgotten, or all that it may be is of a
    faster kind than what was seen. The end of a memory that random sequences found has the last word, and so have
    eigenvalues that bound it, or that give the rate of what can only be exponential.
    """
    if not found.decays:
        return None
    seen, what = _seen(found), found.traits
    if what is not None and what.chaotic:
        return replace(seen, kind="none", possible=("none",), reason="runs that differ by a rounding part for good")
    lag = None if what is None or what.time_invariant is False else what.lag
    lag = None if lag is None else lag * found.settings["time per step"]
    if lag is not None and seen.kind in ("finite", "undecided") and not _seen_after(found, lag):
        tried = _far(what)
        reason = f"inputs older than {_time(found, lag)} were replaced by others, and the output was the same, {tried}"
        return replace(seen, kind="finite", possible=("finite",), lag=lag, reason=reason)
    rates = from_inside(found.certificates, found.settings["time per step"], found.decays)
    bounded = all(c.decides for c in found.certificates) and seen.kind not in ("finite", "exponential")
    allowed = {kind for d in found.decays.values() if d.kind == "undecided" for kind in d.possible or ORDER}
    covered = all(c.covers for c in found.certificates) and allowed <= {"finite", "exponential"}
    if (
        not rates
        or not all(rate > 0 for rate in rates.values())
        or not (bounded or (seen.kind == "undecided" and covered))
        or _outlived(found, min(rates.values()))
    ):
        return seen
    where = min(rates, key=lambda where: rates[where])
    told = {"kind": "exponential", "possible": ("exponential",), "rate": rates[where]}
    reason = f"eigenvalues {where}; the curve alone is {_brief(seen)}: {seen.reason}"
    # the slowest modes may be neither driven nor read out
    return replace(seen, rate_interval=(rates[where], np.inf), reason=reason, **told)


def from_inside(parts: Iterable[Any], dt: float, kinds: Iterable[str], size: float | None = None) -> dict[str, float]:
    """Return where a part is -> its slowest rate there, in the unit of time of curves of which a step takes dt.

    Args:
        parts: certificates.
        dt: time per step.
        kinds: of input, which decide where a part is: at rest, held, or driven.
        size: of the input where it is held; None for all.
    """
    rates: dict[str, float] = {}
    for c in parts:
        known = {
            f"where x = {x:g} is held": r
            for x, r in c.driven.items()
            if "heaviside" in kinds and size in (None, abs(x))
        }
        known |= {"under random input": c.driven_rate} if "random" in kinds else {}
        known |= {"at rest": c.rate} if c.decides or "impulse" in kinds or "removed" in kinds else {}
        for where, rate in known.items():
            rate = rate if _repeated(c) else np.nan
            rates[where] = float(np.minimum(rates.get(where, np.inf), rate_of(c, rate, dt)))  # nan stays
    return rates


def _repeated(c: Any) -> bool:
    # a step that is not what the model repeats does not say how the model forgets
    return not any(why.startswith(ALONE) for why in c.assumes)


def _rates_at_rest(found: Findings) -> list[float]:
    known = [c for c in found.certificates if np.isfinite(c.rate) and _repeated(c)]
    return [rate_of(c, c.rate, found.settings["time per step"]) for c in known]


def questioned(curve: Curve, d: Decay, rates: dict[str, float], linear: bool = False) -> Decay:
    """Return the decay of a curve, in the light of eigenvalues that have a slower mode.

    It is undecided where that mode may not have come out yet. Where the curve ends in rounding, which hides what is
    left of it, the rate is that of the mode, and what the curve shows is the upper end of its interval.

    Args:
        curve: of which it is the decay.
        d: exponential, or anything else, which is left as it is.
        rates: where -> slowest rate of the eigenvalues there.
        linear: whether the map is; then what its curve does not show no other input will show.
    """
    slower = {where: rate for where, rate in rates.items() if rate > 0}
    if d.kind != "exponential" or not slower:
        return d
    where = min(slower, key=lambda where: slower[where])
    rate = slower[where]
    if not rate < min(d.rate_interval[0], (1 - CONFIRMED) * d.rate):
        return d
    late = curve.values[np.searchsorted(curve.t, d.window[1], side="right") - 1]
    if late >= ABOVE * d.floor:
        seen = f"up to t = {d.window[1]:g} the rate is {d.rate:.3g}"
        reason = f"{seen}, but the eigenvalues {where} have a slower one, {rate:.3g}"
        nothing = {"rate": np.nan, "rate_interval": (np.nan, np.nan)}
        return replace(d, kind="undecided", possible=("exponential",), reason=reason, **nothing)
    if linear:
        return d
    seen = f"{_with(d.rate, d.rate_interval)} is the rate up to t = {d.window[1]:g}, where rounding ends the curve"
    reason = f"{seen}; the eigenvalues {where} have a slower one, {rate:.3g}, of which less than {d.floor:.1e} is seen"
    return replace(d, rate=rate, rate_interval=(rate, d.rate_interval[1]), reason=reason)


def _of_eigenvalues(d: Decay) -> bool:
    # what they say is the least that a rate may be
    return d.kind == "exponential" and d.rate == d.rate_interval[0]


def _seen(found: Findings) -> Decay:
    # what the curves say by themselves
    if found.traits is None or not (found.traits.linear and found.traits.time_invariant):
        return _slowest(d for name, d in found.decays.items() if not _outpaced(found, name))
    order = [found.decays[name] for name in ("impulse", "heaviside", *found.decays) if name in found.decays]
    return next((d for d in order if d.kind != "undecided"), order[0])


def _outpaced(found: Findings, name: str) -> bool:
    # whether random inputs, of which no law fits well, were seen to fall into rounding no more slowly than all others,
    # which are exponential
    d, curve = found.decays[name], found.memory.get(name)
    others = [other for kind, other in found.decays.items() if kind != name]
    if d.kind != "undecided" or curve is None or curve.inputs in INPUTS or not others:
        return False
    into_rounding = d.window[1] < curve.t[-1]
    if not into_rounding or any(other.kind != "exponential" for other in others):
        return False
    return _late_rate(curve, d) >= min(other.rate_interval[0] for other in others)


def _late_rate(curve: Curve, d: Decay) -> float:
    # at which a curve falls over the second half of a window, nan where it has too few values there
    late = (curve.t >= d.window[1] / 2) & (curve.t <= d.window[1]) & (curve.values > d.floor)
    return -float(np.polyfit(curve.t[late], np.log(curve.values[late]), 1)[0]) if late.sum() > 1 else np.nan


def _seen_after(found: Findings, lag: float) -> bool:
    # traits look less far back than curves that were followed
    return any(
        (c.values[c.t > lag] > SURE * max(c.floor, np.finfo(float).eps * c.values.max())).any()
        for c in found.memory.values()
    )


def _outlived(found: Findings, rate: float) -> bool:
    # whether memory is seen that no such bound would leave: eigenvalues may be those of another formula, or something
    # around the parts remember that was not seen; half the rate leaves room for powers of t
    growth = OUTLIVED * np.prod([c.growth for c in found.certificates])
    return bool(np.isfinite(growth)) and any(
        c.values[-1] > max(10 * c.floor, growth * np.exp(-rate * c.t[-1] / 2) * c.values.max())
        for c in found.memory.values()
    )


def _slowest(decays: Iterable[Decay]) -> Decay:
    decays = list(decays)
    slowest = max((d for d in decays if d.kind != "undecided"), key=_slowness, default=None)
    if slowest is not None and slowest.kind in LASTING:
        return slowest
    # one that may be of the same kind may be a slower one, and one that names no kind may be anything
    rank = -1 if slowest is None else ORDER.index(slowest.kind)
    ranks = {id(d): max(map(ORDER.index, d.possible), default=len(ORDER)) for d in decays if d.kind == "undecided"}
    return next((d for d in decays if ranks.get(id(d), -2) >= rank), slowest or decays[0])


def last_forgotten(decays: dict[str, Decay]) -> str:
    """Return the kind of input that is forgotten last."""
    slowest = _slowest(decays.values())
    return next(name for name, d in decays.items() if d is slowest)


def _slowness(d: Decay) -> tuple[int, float]:
    speed = {"finite": -d.lag, "exponential": d.rate, "polynomial": d.exponent, "stretched": d.exponent}
    return ORDER.index(d.kind), -speed.get(d.kind, 0.0)


def by_size(found: Findings) -> dict[float, Decay]:
    """Return size of the input -> the slowest decay of any kind of input of that size."""
    sizes = sorted({size for decays in found.by_amplitude.values() for size in decays})
    kinds = [d for name, d in found.by_amplitude.items() if not _outpaced(found, name)]
    return {size: _slowest(d[size] for d in kinds if size in d) for size in sizes if any(size in d for d in kinds)}


def overtaken(curve: Curve, d: Decay, sizes: dict[float, Decay]) -> Decay:
    """Return how the memory of inputs of all these sizes falls in the end: as that of the one that falls last.

    Args:
        curve: of all of them, the largest at each time.
        d: its decay, within its window.
        sizes: size -> decay of its own.
    """
    if d.kind in LASTING and d.kind not in {one.kind for one in sizes.values()}:
        later = _slowest(sizes.values()) if len(sizes) == len(curve.sizes) else d
    elif d.kind == "exponential":
        later = _slowest([d, *(one for size, one in sizes.items() if _falls_last(curve, size, one, d))])
    else:
        later = d
    if later is d:
        return d
    size = next(size for size, one in sizes.items() if one is later)
    return replace(later, reason=f"inputs of size {size:g} are forgotten last: {later.reason}")


def _falls_last(curve: Curve, size: float, one: Decay, d: Decay) -> bool:
    # whether inputs of this size, which may not be the largest yet, fall more slowly than all of them so far
    if one.kind != "undecided":
        return _differ([one, d])
    return _late_rate(curve.of_size(size), replace(d, floor=one.floor)) < FALLS * d.rate


def held_longer(decays: dict[float, Decay]) -> bool:
    """Return whether inputs, by their size, are held the longer the larger they are."""
    if len(decays) < 2:
        return False
    small, large = decays[min(decays)], decays[max(decays)]
    return small.kind == "exponential" and (
        large.kind not in ("finite", "exponential") or large.rate < FALLS * small.rate
    )


# ---- sentences -----------------------------------------------------------------------------------


def verdict(found: Findings) -> tuple[Sentence, ...]:
    """Return what the findings mean, the most important first."""
    parts = (_memory, _character, _inputs, _sizes, _growing, _certified, _held, _theorem, _pushes, _notes, _missing)
    return tuple(sentence for part in parts for sentence in part(found))


def _memory(found: Findings) -> list[Sentence]:
    # the main sentence
    d, name, what = found.conclusion, found.name, found.traits
    if d is None:
        return [Sentence(f"The memory of {name} was not measured.", "the budget did not reach so far")]
    if what is not None and what.memoryless:
        text = f"{name} has no memory: its output at a step depends on the input of that step alone."
        return [
            Sentence(text, f"all earlier inputs were replaced by others, and the output was the same, {_far(what)}")
        ]
    if what is not None and what.chaotic:
        rate = f", at the rate {what.lyapunov:.3g} per step" if np.isfinite(what.lyapunov) else ""
        text = f"{name} is chaotic: runs that differ by next to nothing part{rate}."
        why = "what an input did is not forgotten, and cannot be told from what rounding did"
        return [Sentence(text, f"{d.reason}; {why}")]
    if d.kind == "undecided":
        open_ones = _or([LAWS[kind] for kind in d.possible]) or "any law"
        return [Sentence(f"How {name} forgets is undecided: what was seen allows {open_ones}.", d.reason)]
    exponent = _with(d.exponent, d.exponent_interval)
    text = {
        "finite": f"{name} remembers {_time(found, d.lag)} and nothing before them.",
        "exponential": f"{name} forgets exponentially, {_at_rate(found, d)}.",
        "stretched": f"{name} forgets like exp(-(t/tau)^b) with b = {exponent}.",
        "polynomial": f"{name} forgets like a power of time, t^-p with p = {exponent}.",
        "periodic": f"{name} never forgets: its memory repeats every {_time(found, d.period)} and does not fall.",
        "plateau": f"{name} never forgets: its memory stays at {d.level:.3g}.",
        "none": f"{name} does not forget: on the times tried its memory does not fall, nor is it level or periodic.",
    }[d.kind]
    return [Sentence(text, f"{d.reason}; seen from t = {d.window[0]:g} to {d.window[1]:g}")]


def _at_rate(found: Findings, d: Decay) -> str:
    lasts, most = f"to 1/e in {_time(found, 1 / d.rate)}", d.rate_interval[1]
    if not _of_eigenvalues(d):
        return f"at the rate {_with(d.rate, d.rate_interval)} per {_unit(found)}, {lasts}"
    if np.isinf(most):
        return f"at the rate {d.rate:.3g} per {_unit(found)} or faster by its eigenvalues, {lasts}"
    slowest = f"as slowly as {d.rate:.3g} per {_unit(found)} {_where(found, d)}".rstrip()
    return f"{slowest} (eigenvalues); what {d.n_steps} lags show is a rate of up to {most:.3g}"


def _where(found: Findings, d: Decay) -> str:
    # the eigenvalues are that have given a rate
    rates = from_inside(found.certificates, found.settings["time per step"], found.decays)
    return next((where for where, rate in rates.items() if rate == d.rate), "")


def _character(found: Findings) -> list[Sentence]:
    # what kind of map it is, as far as the main sentence has not said so
    name, what = found.name, found.traits
    if what is None:
        return []
    lines = []
    if what.linear and not what.memoryless:
        one = "all inputs have one memory, whatever their size" if what.time_invariant else "sizes make no difference"
        text = f"{name} is linear: {one}."
        why = "sums and multiples of random inputs had the sums and multiples of their answers"
        lines.append(Sentence(text, f"{why}, {_far(what)}"))
    if what.time_invariant is False:
        text = f"{name} changes with time: what it remembers depends on when the input changes, here at one moment."
        why = "the same random input, later, was answered otherwise"
        lines.append(Sentence(text, why))
    return lines


def _inputs(found: Findings) -> list[Sentence]:
    # whether the kinds of input agree, where the sentence on their sizes does not say so
    if found.traits is not None and (found.traits.chaotic or found.traits.memoryless):
        return []
    known = [d for d in found.decays.values() if d.kind != "undecided"]
    if not known or not _differ(found.decays.values()) or _differ_by_size(found):
        return []
    told = "; ".join(f"{name}: {_brief(d)}" for name, d in found.decays.items())
    if not _differ(known):
        left = [
            f"{name}: {d.reason}" + ", but it fell into rounding no more slowly" * _outpaced(found, name)
            for name, d in found.decays.items()
            if d.kind == "undecided"
        ]
        return [Sentence(f"Not every kind of input was decided ({told}).", "; ".join(left))]
    if found.traits is not None and found.traits.linear and found.traits.time_invariant:
        text = f"Its curves differ by how they were taken, not by what it remembers ({told})."
        why = "it is linear; what is removed had been held for a time T only, and shows |rho(t) - rho(t + T)|"
        return [Sentence(text, f"{why}; the verdict rests on the impulse where it can")]
    why = "a map that is not linear is driven elsewhere by each kind of input"
    if found.traits is not None and found.traits.linear:
        why = "it is linear, but that it is the same at all times was not seen"
    return [Sentence(f"How it forgets depends on the kind of input ({told}).", f"{why}; the verdict takes the slowest")]


def _sizes(found: Findings) -> list[Sentence]:
    # whether the size of the input matters
    sizes = by_size(found)
    known = [d for d in sizes.values() if d.kind != "undecided"]
    if not known or not _differ(sizes.values()):
        return []
    exponential = {d.kind for d in sizes.values()} == {"exponential"}
    told = [f"{_brief(d).removeprefix(BRIEFLY * exponential)} at |x| = {size:g}" for size, d in sizes.items()]
    rates = _rates_at_rest(found)
    if exponential and rates:
        told.append(f"{min(rates):.3g} at rest")
    depends = f"{'Its rate' if exponential else 'How it forgets'} depends on the size of the input"
    text = f"{depends if _differ(known) else 'Not every size of the input was decided'}: {', '.join(told)}."
    why = "inputs of each size were judged apart, the slowest kind of input for each"
    why += "; at rest is where its eigenvalues say" if exponential and rates else ""
    if _differ_by_size(found):
        others = [f"{name}: {_brief(d)}" for name, d in found.decays.items() if name not in found.by_amplitude]
        why += "; the kinds of input agree where it is small" + (f" ({'; '.join(others)})" if others else "")
    return [Sentence(text, why)]


def _differ_by_size(found: Findings) -> bool:
    # whether the size of the inputs makes a difference, and their kind none but for that
    sizes = by_size(found)
    small = {name: decays[min(decays)] for name, decays in found.by_amplitude.items() if decays}
    return len(sizes) > 1 and _differ(sizes.values()) and not _differ((found.decays | small).values())


def _growing(found: Findings) -> list[Sentence]:
    # inputs of any size, where the size matters
    if found.growing is None or found.growing[1].kind in ("undecided", "finite"):
        return []
    curve, d = found.growing
    largest = curve.sizes[-1]
    if d.kind == "polynomial":
        inside = (curve.t >= d.window[1] / 4) & (curve.t <= d.window[1])
        level = float(np.median(curve.values[inside] * curve.t[inside] ** d.exponent))
        how = f"falls like a power of time, about {level:.3g} t^-{d.exponent:.3g}"
    else:
        how = f"is {_brief(d)}"
    text = (
        f"Over inputs of all sizes up to {largest:g} its memory {how}; with a bound on the inputs it is as said above."
    )
    return [Sentence(text, f"the larger an input, the longer it is held; {d.reason}")]


def _held(found: Findings) -> list[Sentence]:
    # what a constant input does to the eigenvalues, where the main sentence has not said so
    lines, d = [], found.conclusion
    if d is not None and _of_eigenvalues(d) and np.isfinite(d.rate_interval[1]):
        return []
    for c in found.certificates[:3]:
        rates = {size: rate for size, rate in c.driven.items() if np.isfinite(rate)}
        size = min(rates, key=lambda size: rates[size], default=None)
        if size is None or not rates[size] < FALLS * c.rate or not _repeated(c):
            continue
        rest, held = (rate_of(c, rate, found.settings["time per step"]) for rate in (c.rate, rates[size]))
        text = f"An input held at x = {size:g} slows {part_name(c)}: its rate is {held:.3g} there, {rest:.3g} at rest."
        why = "eigenvalues where a constant input takes it, and where it rests"
        if held > 0 and d is not None:
            scales = held * found.settings["time per step"] * d.n_steps
            why += f"; the {d.n_steps} lags that were looked at are {scales:.2g} of its time scales"
        lines.append(Sentence(text, why))
    return lines


def _certified(found: Findings) -> list[Sentence]:
    # what the eigenvalues say, and whether the curve agrees
    told = [Sentence(c.says, "; ".join(c.assumes)) for c in found.certificates[:3]]
    rates = _rates_at_rest(found)
    if not rates or not found.decays or min(rates) <= 0:
        return told
    sizes, slowest = by_size(found), min(rates)
    seen, of = (sizes[min(sizes)], f"inputs of size {min(sizes):g}") if sizes else (_seen(found), "the curve")
    if seen.kind != "exponential" or _of_eigenvalues(seen):
        return told
    both = f"{seen.rate:.3g} seen with {of}, {slowest:.3g} from the eigenvalues"
    if seen.rate_interval[0] <= slowest <= seen.rate_interval[1] or abs(seen.rate - slowest) <= CONFIRMED * slowest:
        text, why = f"The curve confirms the eigenvalues: {both}.", "two routes, from outside and from inside"
    elif seen.rate < slowest:
        text = f"The curve falls more slowly than the eigenvalues say: {both}."
        why = "the input holds a part away from its rest, or something remembers that is not among the parts found"
    else:
        text = f"The curve falls faster than the eigenvalues say: {both}."
        why = "the slowest mode is hardly driven or hardly read out, and may show later or under another input"
    return [*told, Sentence(text, why)]


def _theorem(found: Findings) -> list[Sentence]:
    d = found.conclusion
    if d is None or d.kind == "undecided":
        return []
    failing = [a.hypothesis for a in found.assumptions if a.status == "fails"]
    if failing:
        why = "each hypothesis is listed, with how it was looked at"
        return [Sentence(f"{THEOREM} says nothing about it, as not all that it asks for holds: {_and(failing)}.", why)]
    checked, assumed = (sum(a.status == status for a in found.assumptions) for status in ("checked", "assumed"))
    under = f"Of its hypotheses, in found.assumptions, {checked} were checked and {assumed} are assumed."
    if d.kind in ("finite", "exponential") or (d.kind == "stretched" and d.exponent_interval[0] >= 1):
        grown = found.growing is not None and found.growing[1].kind not in ("finite", "exponential", "undecided")
        who = "With a bound on the inputs it" if grown else "It"
        text = f"{who} forgets fast enough for recurrent networks to approximate it stably, as far as {THEOREM} goes."
        why = "the theorem says that what they approximate stably forgets exponentially, and not that they can"
    else:
        text = f"If it goes on like this for ever, no tanh or hardtanh network approximates it stably ({THEOREM})."
        why = "the theorem says that what they approximate stably forgets exponentially"
    return [Sentence(f"{text} {under}", why)]


def _pushes(found: Findings) -> list[Sentence]:
    weights = [row for row in found.sensitivity if row.role != "bias" and np.isfinite(row.worst)]
    if not weights:
        return []
    least = min(weights, key=lambda row: row.worst)
    share = f" ({least.relative:.2g} of its size)" if np.isfinite(least.relative) else ""
    text = (
        f"Its most delicate weight is {least.name}: a push of {least.worst:.2g}{share} changes the answers by a tenth."
    )
    return [Sentence(text, "the least push in spectral norm that random directions and an ascent found, biases apart")]


def _notes(found: Findings) -> list[Sentence]:
    return [Sentence(note, "seen before anything was measured") for note in found.notes]


def _missing(found: Findings) -> list[Sentence]:
    if not found.left_out:
        return []
    return [
        Sentence(f"Left out: {_and(found.left_out)}.", "; ".join(f"{n}: {why}" for n, why in found.left_out.items()))
    ]


# ---- what it rests on, what would change it, what to do ------------------------------------------


def assumptions(found: Findings) -> tuple[Assumption, ...]:
    """Return the hypotheses of Theorem 3.9 for the model as its target, each with how it was looked at."""
    d, what = found.conclusion, found.traits
    invariant = None if what is None else what.time_invariant
    kind = "undecided" if d is None else d.kind
    return (
        Assumption(
            "causal", "checked", "later inputs of random sequences were changed, and earlier outputs were the same"
        ),
        Assumption(
            "time-homogeneous",
            {True: "checked", False: "fails", None: "assumed"}[invariant],
            {
                True: f"the same random input, later, was answered alike, later, {_far(what)}",
                False: "the same random input, later, was answered otherwise",
                None: "whether an input that comes later is answered alike was not settled",
            }[invariant],
        ),
        _bounded(d, what),
        Assumption("continuous", "assumed", "a finite number of runs does not show it"),
        Assumption("regular", "assumed", "that inputs which vanish at almost all times leave nothing was not tried"),
        Assumption(
            "decaying memory",
            "fails" if kind in LASTING else "assumed" if kind == "undecided" or d is None else "checked",
            "it could not be decided"
            if d is None or kind == "undecided"
            else f"as far as t = {d.window[1]:g}: {_brief(d)}",
        ),
        Assumption(
            "the supremum over all inputs",
            "checked",
            f"it is linear, {_far(what)}, so that each input shows all of its memory",
        )
        if what is not None and what.linear and what.time_invariant
        else Assumption("the supremum over all inputs", "assumed", "it is taken over the inputs that were tried"),
        Assumption("continuous time", "assumed", "steps stand for it"),
        Assumption(
            "approximants: tanh or hardtanh, of bounded weights, with memories that fall alike when pushed",
            "assumed",
            "this is about networks that would approximate the model",
        ),
    )


def _bounded(d: Decay | None, what: Any) -> Assumption:
    # a linear map is bounded where the integral of its memory is finite
    if d is not None and d.kind != "undecided" and what is not None and what.linear:
        heavy = d.kind == "polynomial" and d.exponent_interval[1] <= 1
        light = d.kind in ("finite", "exponential", "stretched") or (
            d.kind == "polynomial" and d.exponent_interval[0] > 1
        )
        if heavy or d.kind in LASTING:
            return Assumption("bounded", "fails", "it is linear, and the integral of its memory does not converge")
        if light:
            return Assumption(
                "bounded", "checked", "it is linear, and the integral of its memory converges if this goes on"
            )
    return Assumption(
        "bounded", "assumed", "answers were finite; that they are in proportion to every input was not shown"
    )


def doubts(found: Findings) -> tuple[Sentence, ...]:
    """Return what would change the verdict."""
    d, what = found.conclusion, found.traits
    if d is None:
        return ()
    end = f"t = {d.window[1]:g}"
    told = {
        "finite": Sentence("Memory that comes back later.", f"nothing after {d.n_steps} lags was looked at"),
        "exponential": Sentence("A slower mode.", f"it would have to lie below {d.floor:.1e}, or show after {end}"),
        "stretched": Sentence("An exponential in the end.", f"after {end} it would look the same until then"),
        "polynomial": Sentence("A cut-off.", f"from a time later than {end} on it may fall exponentially"),
        "periodic": Sentence("A slow fall.", f"over a time much longer than {end} it may die out"),
        "plateau": Sentence("A slow fall.", f"over a time much longer than {end} it may die out"),
        "none": Sentence("A fall that begins later.", f"nothing after {end} was looked at"),
        "undecided": Sentence("What settles it.", d.reason),
    }
    lines = [told[d.kind]]
    if _of_eigenvalues(d):
        why = "the eigenvalues are those of the parts that were found, where the inputs that were tried take them"
        lines = [Sentence("Memory outside of these parts, or other places to rest.", why)]
    if what is None or not what.linear:
        sizes = sorted({size for decays in found.by_amplitude.values() for size in decays})
        tried = f"sizes {', '.join(f'{size:g}' for size in sizes)}" if sizes else "these"
        lines.append(
            Sentence("Other inputs.", f"it is not known to be linear; tried were {_and(found.decays)} of {tried}")
        )
    lines.append(Sentence("Other weights.", "all of this is about the weights as they are"))
    return tuple(lines)


def advice(found: Findings) -> tuple[Sentence, ...]:
    """Return what to do, each with its reason."""
    d, lines = found.conclusion, []
    # more of it does not help with what failed
    spent = {stage: why for stage, why in found.left_out.items() if why.startswith(("the budget", "it takes"))}
    if spent:
        why = "; ".join(f"{stage}: {why}" for stage, why in spent.items())
        lines.append(Sentence("Allow more: cmlib.report(model, budget=...).", why))
    lines += _to_decide(found)
    if (dtype := found.settings["dtype"]) != "float64":
        floor = max((one.floor for one in found.decays.values()), default=0.0)
        why = f"in {dtype} memory below {floor:.1e} cannot be told from rounding"
        lines.append(Sentence("Evaluate in double precision, if the model can.", why))
    if held_longer(sizes := by_size(found)):
        why = f"inputs of size {max(sizes):g} are held longer than those of {min(sizes):g}; the verdict is about both"
        lines.append(Sentence("Say how large your inputs are: amplitudes=[...].", why))
    lines += [one for c in found.certificates for one in _of_part(found, c)]
    if d is not None and d.kind in ("polynomial", "stretched"):
        fastest, slowest = 1 / found.settings["time per step"], 1 / d.window[1]
        rates = f"from {slowest:.2g} to {fastest:.2g} per {_unit(found)}"
        text = f"To approximate it, spread initial rates {rates}, evenly in their logarithms."
        why = "a sum of exponentials needs one for each time scale, and training hardly moves a rate across decades"
        lines.append(Sentence(text, why))
    return tuple(lines)


def _to_decide(found: Findings) -> list[Sentence]:
    d, what, longest = found.conclusion, found.traits, found.settings["greatest length"]
    if d is None or d.kind != "undecided":
        return []
    if what is not None and what.time_invariant is False:
        return [Sentence("Ask at the moment that matters: history=...", "it changes with time, and so does its memory")]
    if longest is not None and 2 * d.n_steps >= longest:
        why = f"{d.reason}; it takes inputs of {longest} steps at most"
        return [Sentence("Look inside: longer windows than this model takes would decide.", why)]
    if 0 < d.window[1] < SEEN * d.n_steps * found.settings["time per step"]:
        why = f"what can be told from rounding ends at t = {d.window[1]:g} of these inputs; {d.reason}"
        return [Sentence("A longer window would show no more.", why)]
    return [Sentence(f"Measure longer: n_steps={2 * d.n_steps}.", d.reason)]


def _of_part(found: Findings, c: Any) -> list[Sentence]:
    who = part_name(c)
    if c.rate <= 0:
        driven = f"; under random input it forgets at the rate {c.driven_rate:.3g}" if c.driven_rate > 0 else ""
        why = f"at rest small disturbances grow, at the rate {-c.rate:.3g}{driven}"
        return [Sentence(f"Lower the recurrent weights of {who}.", why)]
    lines = []
    step = 1.0 if c.part.kind == "steps" else getattr(c.part.module, "dt", found.settings["time per step"])
    if c.radius < NEAR * c.rate or c.radius * step < CLOSE:
        why = f"its rate is {c.rate:.2g}, and a change of norm {c.radius:.2g} of its matrix makes it unstable"
        lines.append(Sentence(f"Give {who} a stable parameterization.", why))
    if c.growth > TRANSIENT:
        why = f"its state can grow {c.growth:.3g} times before it decays, as eigenvectors are far from orthogonal"
        lines.append(Sentence(f"Keep the recurrent weights of {who} closer to normal.", why))
    return lines


# ---- words ---------------------------------------------------------------------------------------


def _far(what: Any) -> str:
    return "" if what is None else f"as far as random sequences of {3 * what.n_steps} steps can tell"


def _differ(decays: Iterable[Decay]) -> bool:
    # in kind, or in rates whose intervals lie apart and that are not nearly one
    decays = list(decays)
    if len({d.kind for d in decays}) > 1:
        return True
    of = {"exponential": ("rate", "rate_interval"), "polynomial": ("exponent", "exponent_interval")}.get(decays[0].kind)
    if of is None:
        return False
    values, intervals = ([getattr(d, name) for d in decays] for name in of)
    apart = max(low for low, _ in intervals) > min(high for _, high in intervals)
    return apart and max(values) - min(values) > NEARLY * max(values)


def part_name(c: Any) -> str:
    """Return what the part of a certificate is called."""
    return f"{c.part.layer} {c.part.name}".strip()


def rate_of(c: Any, rate: float, dt: float) -> float:
    """Return the rate of a part in the unit of time of curves of which a step takes dt."""
    return float(rate * (1.0 if c.part.kind == "steps" else getattr(c.part.module, "dt", dt)) / dt)


def _brief(d: Decay) -> str:
    return {
        "finite": f"over after t = {d.lag:g}",
        "exponential": f"{BRIEFLY}{d.rate:.3g}" + " (eigenvalues)" * _of_eigenvalues(d),
        "stretched": f"stretched exponential with b = {d.exponent:.3g}",
        "polynomial": f"a power with p = {d.exponent:.3g}",
        "periodic": f"repeating every {d.period:g}",
        "plateau": f"level at {d.level:.3g}",
        "none": "not falling",
        "undecided": "undecided",
    }[d.kind]


def _with(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    if not (np.isfinite(low) and np.isfinite(high)) or f"{low:.3g}" == f"{high:.3g}":
        return f"{value:.3g}"
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def _unit(found: Findings) -> str:
    return found.settings["unit"]


def _time(found: Findings, value: float) -> str:
    unit = _unit(found)
    return (
        f"{value:.3g} {unit}"
        if f"{value:.3g}" == "1"
        else f"{value:.3g} {unit.replace('unit', 'units') if ' ' in unit else unit + 's'}"
    )


def _and(words: Iterable[str], last: str = "and") -> str:
    words = list(words)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _or(words: Iterable[str]) -> str:
    return _and(words, "or")
