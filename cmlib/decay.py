"""Decay: what law a memory function follows, with an interval, or that the curve does not say."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cmlib import laws, modes
from cmlib.arguments import Count, Number, count, number
from cmlib.memory import MemoryCurve

if TYPE_CHECKING:
    Curve = MemoryCurve
else:
    Curve = Any
NONE = (np.nan, np.nan)

# Rounding repeats at each step and in each layer, so only values this many times above one rounding are used.
TRUSTED = 100.0
# Noise that is known by its spread is left behind at this many times that.
CLEAR_OF_NOISE = 4.0
# No kernel is exactly one of our laws: residuals below this share of M count as none.
DISCREPANCY = 1e-6
# Differences of BIC that decide: odds of e^5.
DECISIVE = 10.0
SURE = 1e-5  # nor is a rate surer than this
# What a window has to hold: time scales of an exponential once it is most of M, decades of a power, and how many times
# the lags with memory the lags without.
TIME_SCALES, DECADES, AS_MUCH = 2.5, 1.5, 1.0
# Laws are fitted from these parts of the window on, until one leaves less than a share of M; the second will do.
STARTS, CLOSE = (0.0, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 3 / 4), (1e-4, 1e-2)
SWING = 0.4  # a peak has a dip on both sides by this, as a logarithm
ALIKE = 0.15  # what repeats itself does so to this part of its spread
FEW = 12  # swings, or lags of a noisy curve, are needed for a verdict
ROWS = 3  # responses of which the modes are looked for
POINTS = 100  # lags fitted, at equal distances and as many at equal ratios


@dataclass(frozen=True)
class Decay:
    """How a memory curve falls, as far as its window tells.

    Args:
        kind: "exponential" (in the end e^{-rate t}), "polynomial" (t^{-exponent}), "stretched" (e^{-(t/tau)^exponent}),
            "finite", "plateau", "periodic", "none" (does not fall, and is neither level nor periodic), or "undecided".
        possible: the kinds that the curve allows: one where it is decided, none where it says nothing.
        rate: of the slowest mode, per unit of time, and its interval; nan for the other kinds, as in all that follow.
        exponent: of a power of t, or of t in the stretched exponential, and its interval.
        lag: the last with memory, of the finite.
        level: that a plateau keeps.
        period: of the periodic.
        window: first and last time used.
        floor: the level below which values were not used.
        n_steps: lags looked at in the end.
        confidence: of the intervals.
        reason: what decides, or what is missing.

    >>> curve = cmlib.memory_function(models.LinearRNN([-0.5], [1.0], [1.0]), 40)
    >>> found = cmlib.decay(curve)
    >>> found.kind, round(found.rate, 3)
    ('exponential', 0.5)
    """

    kind: str
    possible: tuple[str, ...] = ()
    rate: float = np.nan
    rate_interval: tuple[float, float] = NONE
    exponent: float = np.nan
    exponent_interval: tuple[float, float] = NONE
    lag: float = np.nan
    level: float = np.nan
    period: float = np.nan
    window: tuple[float, float] = NONE
    floor: float = 0.0
    n_steps: int = 0
    confidence: float = 0.95
    reason: str = ""


def decay(curve: Curve, *, max_steps: Count | None = None, confidence: Number = 0.95) -> Decay:
    """Say by which law a memory curve falls, or that it is undecided; where it can be measured longer, ask for that.

    Laws fitted to the curve, or to its peaks, are compared by BIC. A verdict needs every other kind beaten decisively,
    and a window that holds 2.5 time scales of an exponential, 1.5 decades of a power, or as many lags after what is
    finite as before. Where no law is exact, what parts of the window say is the interval; where the responses are
    there, damped oscillations that add up to them give the rate. Noise that a fall by a factor of ten ends in is the
    measurement's. Longer curves are asked for until a verdict stands: an exponential at the floor, a power or a level
    on twice the lags.

    Args:
        curve: at least 16 lags.
        max_steps: lags up to which `curve.longer` is asked for twice as many; None takes 8 times what is there.
        confidence: of the intervals, between 0 and 1.

    Raises:
        ValueError: unless times are >= 0 and increase, and values are >= 0 and finite, one for each.

    Reference: wang2024inverse, Def. 3.1

    >>> t = np.geomspace(1.0, 1e4, 64)
    >>> found = cmlib.decay(cmlib.MemoryCurve(t, (1 + t) ** -1.5, "heaviside"))
    >>> found.kind, round(found.exponent, 2)
    ('polynomial', 1.5)
    """
    if not (hasattr(curve, "t") and hasattr(curve, "values") and hasattr(curve, "floor")):
        raise ValueError(f"expected a MemoryCurve, got {curve!r}")
    confidence = number("confidence", confidence, above=0.0)
    if not confidence < 1:
        raise ValueError(f"expected confidence < 1, got {confidence:g}")
    longest = 8 * len(curve.t) if max_steps is None else count("max_steps", max_steps)
    before, found = Decay("undecided"), _decided(curve, confidence)
    while curve.longer is not None and len(curve.t) < longest and not _settled(before, found, curve):
        more = curve.longer(min(2 * len(curve.t), longest))
        if len(more.t) <= len(curve.t):  # as long as the map can be asked
            break
        before, found, curve = found, _decided(more, confidence), more
    return found


def _settled(before: Decay, found: Decay, curve: MemoryCurve) -> bool:
    """Say whether still longer curves can be spared."""
    if found.kind in ("finite", "periodic", "none") or found.window == before.window:
        return True  # nothing new came in sight
    if found.kind in ("polynomial", "plateau"):
        return before.kind == found.kind
    # a slower mode may come out as long as there is something to be seen
    return found.kind != "undecided" and bool(curve.values[-max(3, len(curve.t) // 16) :].max() <= found.floor)


def _decided(curve: MemoryCurve, confidence: float) -> Decay:
    t, M = np.asarray(curve.t, dtype=float), np.asarray(curve.values, dtype=float)
    if t.ndim != 1 or t.shape != M.shape or len(t) < 16 or t[0] < 0 or (np.diff(t) <= 0).any():
        raise ValueError(f"expected at least 16 increasing times >= 0 and as many values, got {t.shape} and {M.shape}")
    if not np.isfinite(M).all() or (M < 0).any():
        raise ValueError("expected finite values >= 0")
    noise = _noise(M) if curve.errors is None else np.asarray(curve.errors, dtype=float)
    rounding = TRUSTED / CLEAR_OF_NOISE * float(curve.floor)
    noisy = np.max(noise) > rounding
    noise = np.broadcast_to(np.maximum(noise, max(rounding, 1e-290 * M.max())), M.shape)
    least = CLEAR_OF_NOISE * noise
    # of noise one lag stands out by itself only if it does so far
    seen = np.where(1.6 * least < M, M, _median(M)) if noisy else M
    above = np.flatnonzero(seen > least)
    found = Decay(
        "undecided", window=(float(t[0]), float(t[-1])), floor=float(least.min()), n_steps=len(t), confidence=confidence
    )
    if not len(above):
        reason = f"no memory above {least.max():.2g} at any of {len(t)} lags: longer lags may have some"
        return replace(found, possible=("finite",), reason=reason)
    last = int(above[-1])
    found = replace(found, window=(float(t[0]), float(t[last])))
    if (period := _repeats(t, M, noise)) is not None:
        return replace(found, kind="periodic", possible=("periodic",), period=period, reason="it repeats itself")
    if last < len(t) - 1 and (over := _finite(t, M, least, last)) is not None:
        return replace(found, **over)
    said = _law(t, M, noise, last, confidence)
    straight, possible = said.pop("straight", False), said.get("possible", ())
    if straight or ("kind" not in said and (not possible or "exponential" in possible)):
        said |= _by_modes(curve, t[: last + 1], noise[: last + 1])
    return replace(found, **said)


def _by_modes(curve: MemoryCurve, t: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
    """Return the verdict that the responses are sums of damped oscillations, nothing where that is not seen."""
    n, dt = len(t), float(t[-1] - t[-2])
    if curve.responses is None or not np.allclose(np.diff(t), dt):
        return {}
    # those that the second half of the window is made of
    late = np.abs(curve.responses[:, n // 2 : n]).argmax(0)
    rows, often = np.unique(late, return_counts=True)
    rows = rows[np.argsort(-often)][:ROWS]
    found = [modes.slowest(curve.responses[row, :n], float(noise.max())) for row in rows]
    if found[0] is None:
        return {}
    slow = min((one for one in found if one is not None), key=lambda one: one.rate)
    low, high = slow.interval
    if not 0 < low < high < 2 * low or slow.time_scales < 2 * TIME_SCALES:
        return {}
    reason = f"a sum of damped oscillations, the slowest of which is most of it for {slow.time_scales:.2g} time scales"
    rates = {"rate": slow.rate / dt, "rate_interval": (low / dt, high / dt)}
    window = float(t[0]), float(t[-1])
    return {"kind": "exponential", "possible": ("exponential",), "window": window, "reason": reason} | rates


def _median(M: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.median_filter(M, 5, mode="nearest")


def _noise(M: np.ndarray) -> float:
    """Return the spread of the noise that the curve ends in after a fall, 0 where it ends in none."""
    tail = M[-max(16, len(M) // 3) :]
    spread, half = float(np.sqrt(np.mean(tail**2))), len(tail) // 2
    # neither a level nor spikes
    if M.max() < 10 * spread or tail.std() < 0.2 * tail.mean() or not np.median(tail) > 0.3 * spread:
        return 0.0
    means = tail[:half].mean(), tail[half:].mean()
    level = abs(means[0] - means[1]) < 4 * tail.std() / np.sqrt(half)
    ranks = np.argsort(np.argsort(tail)) - (len(tail) - 1) / 2
    repeat = np.correlate(ranks, ranks, "full")[len(tail) : len(tail) + half] / (ranks @ ranks)
    return spread if level and np.abs(repeat).max() < max(0.3, 3.3 / np.sqrt(half)) else 0.0


def _finite(t: np.ndarray, M: np.ndarray, least: np.ndarray, last: int) -> dict[str, Any] | None:
    """Return the verdict on a memory that ends abruptly, None on one that falls below what can be seen."""
    before = M[max(0, last - 8) : last + 1]
    before = before[before > least[max(0, last - 8) : last + 1]]
    # what falls as before has no more left to fall from the last lag seen than from lag to lag
    steps = np.abs(np.diff(np.log(before)))
    fall, usual = np.log(M[last] / least[last + 1]), float(steps.max(initial=0.0 if last > 4 else 4.0))
    if fall > usual + 3:
        return _ended(t, least, last)
    if last < 5:
        reason = f"over within {last + 1} lags: shorter steps of time would show how"
        return {"possible": ("finite", "exponential"), "reason": reason}
    return None


def _ended(t: np.ndarray, least: np.ndarray, last: int) -> dict[str, Any]:
    if t[-1] - t[last] < AS_MUCH * (t[last] - t[0]):
        reason = f"nothing after {t[last]:g}, but that is not as long as what was there before"
        return {"possible": ("finite",), "reason": reason}
    reason = f"M is above {least[last]:.2g} up to {t[last]:g} and nowhere after"
    return {"kind": "finite", "possible": ("finite",), "lag": float(t[last]), "reason": reason}


def _envelope(M: np.ndarray, noise: np.ndarray) -> np.ndarray | None:
    """Return the lags of the peaks of a curve that oscillates, None for one that falls smoothly or with small noise."""
    from scipy import signal

    logs = np.log(np.maximum(M, 2 * CLEAR_OF_NOISE * noise))
    peaks = signal.find_peaks(np.append(logs.min(), logs), prominence=SWING)[0] - 1
    if len(peaks) - (0 in peaks) < 3:
        return None
    # the highest of several stands out of noise more easily
    peaks = peaks[M[peaks] > 2 * CLEAR_OF_NOISE * noise[peaks]]
    # sampling cuts the peaks of waves at random heights: where there are many, the highest of each four in turn
    in_turn = np.lib.stride_tricks.sliding_window_view(peaks, 4 if len(peaks) > 24 else 1)
    return np.unique(in_turn[np.arange(len(in_turn)), M[in_turn].argmax(1)])


@dataclass(frozen=True)
class _View:
    """What is to be seen of a curve: up to the last lag above the noise, of an oscillating one the peaks `at`."""

    t: np.ndarray
    M: np.ndarray
    noise: np.ndarray
    after: np.ndarray  # times at which nothing is seen
    whole: np.ndarray  # all lags from the largest M on, or all peaks
    at: np.ndarray  # those fitted
    scale: np.ndarray  # of noise and what no law explains
    oscillates: bool
    exact: bool  # a law explains all but the noise
    confidence: float

    @property
    def end(self) -> float:
        return float(self.t[self.at[-1]])

    @property
    def first(self) -> float:
        return float(self.t[self.at[0]]) / self.end


def _lags(M: np.ndarray, noise: np.ndarray, to_the_end: bool) -> tuple[np.ndarray, float, bool, str]:
    """Return the lags by which a law is told, the jitter between them, if they are peaks, and what is missing."""
    peaks, top = _envelope(M, noise), int(M.argmax())
    if peaks is not None and len(peaks) >= FEW:
        return peaks, 0.0, True, ""
    if peaks is not None:  # it may swing no more for the rest of the window
        top = max(top, int(peaks[-1]) if len(peaks) else len(M))
        if top > len(M) / 2:
            return peaks, 0.0, True, f"{len(peaks)} swings are too few to say how they fall"
    elif len(M) - top < 0.25 * len(M) and to_the_end:  # it still rises, or to a level
        top = 0
    jitter, seen = _jitter(M[top:], noise[top:]), np.count_nonzero(M[top:] > noise[top:])
    noisy = jitter > DISCREPANCY or noise[-1] > 1e-6 * M.max()
    missing = f"{seen} lags are too few to tell a law" if seen < (FEW if noisy else FEW / 2) else ""
    return np.arange(top, len(M)), jitter, False, missing


def _law(t: np.ndarray, M: np.ndarray, noise: np.ndarray, last: int, confidence: float) -> dict[str, Any]:
    after, to_the_end = t[last + 1 :], last == len(t) - 1
    t, M, noise = t[: last + 1], M[: last + 1], noise[: last + 1]
    if to_the_end and _grows(t, M):
        quarter = len(M) // 4
        if M[3 * quarter :].mean() < np.exp(TIME_SCALES) * M[quarter : 2 * quarter].mean():
            return {"reason": f"it still grows at {t[-1]:g}"}  # what it does in the end has not begun
        return {"kind": "none", "possible": ("none",), "reason": "it grows, and does not slow down"}
    chosen, jitter, oscillates, missing = _lags(M, noise, to_the_end)
    if missing:
        return {"reason": missing}
    # a zero says nothing where no noise is known
    scale = np.where(M > 0, np.hypot(max(jitter, DISCREPANCY) * M, noise), M.max())
    tried: list[tuple[float, _View, list[laws.Fit]]] = []
    for part in STARTS:
        first = int(np.searchsorted(t[chosen], part * t[chosen[-1]]))
        n = len(chosen) - 1 - first
        if n < (4 if part == 0 else 12):
            break
        grid = np.append(np.linspace(0, n, POINTS), np.geomspace(1, n + 1, POINTS) - 1)
        at = chosen[first + np.unique(np.round(grid).astype(int))]
        fits = _fits(t[at], M[at], scale[at], 4 if oscillates else 1)
        fits = [f for f in fits if f.kind() != "plateau" or 2 * CLEAR_OF_NOISE * noise[-1] < f.c[0] < 1.5 * M.max()]
        if fits:
            left = fits[0].left
            off = float(np.sqrt(np.mean((left * scale[at] / np.maximum(M, noise)[at]) ** 2)))
            white = laws.repeats(left) < 2
            of_noise = white and left @ left < 9 * len(left) and jitter < 0.05
            # what is left of a window is fitted by anything
            exact = bool(part < 0.1 and (off < 10 * DISCREPANCY or (of_noise and not oscillates)))
            view = _View(t, M, noise, after, chosen, at, scale, oscillates, exact, confidence)
            tried.append((0.0 if white else off, view, fits))
            if tried[-1][0] < CLOSE[0]:
                break
            # what is straight over many time scales needs no law that fits
            missing, numbers = _straight(view, 2 * TIME_SCALES, 0.04)
            if not missing:
                window = (float(t[chosen[0]]), view.end)
                return {"kind": "exponential", "possible": ("exponential",), "window": window} | numbers
    if not tried:
        return {"reason": "no law fits"}
    # the earliest part that a law fits closely, or else well, or else the last
    _, view, fits = next((w for close in CLOSE for w in tried if w[0] < close), tried[-1])
    if to_the_end and M[-max(3, len(M) // 64) :].max() < 0.03 * fits[0](t[-1:] / view.end)[0]:
        return {"possible": ("finite",), "reason": "it fell off a few lags before the end"}
    return _weighed(view, fits)


def _jitter(M: np.ndarray, noise: np.ndarray) -> float:
    """Return the relative spread from lag to lag, which a smooth curve has none of, where the noise known has less."""
    logs = np.log(M[100 * noise < M])
    return float(np.median(np.abs(np.diff(logs, 4))) / np.sqrt(70) / 0.6745) if len(logs) > 8 else 0.0


def _fits(t: np.ndarray, M: np.ndarray, scale: np.ndarray, each: int, names: tuple[str, ...] = ()) -> list[laws.Fit]:
    """Return the best fit of each law that means something and has as many points to each number, the best first."""
    x = t / t[-1]
    half = len(x) // 2
    slope = -np.polyfit(np.log(x[half:]), np.log(np.maximum(M, scale)[half:]), 1)[0]
    rates = laws.spectrum(x, M, scale)
    found, enough = [], False  # more modes are not tried where fewer leave nothing
    for law in [law for law in laws.LAWS if not names or law.name in names]:
        if law.name.startswith("modes") and enough:
            continue
        best = None
        for start in law.starts(rates, slope):
            f = laws.fit(law, x, M, scale, start)
            if f is not None and (best is None or f.left @ f.left < best.left @ best.left):
                best = f
            if best is not None and best.left @ best.left < 1.5 * len(x):
                break
        if best is None or len(x) <= max(each * best.size - 1, best.size + 2):
            continue
        enough = enough or (law.name.startswith("modes") and best.left @ best.left < 0.5 * len(x))
        if names or best.kind() is not None:
            found.append(best)
    return sorted(found, key=lambda f: f.left @ f.left)


def _weighed(view: _View, fits: list[laws.Fit]) -> dict[str, Any]:
    """Return the verdict that the laws which the curve allows agree on."""
    M, at, end = view.M, view.at, view.end
    n, free = len(at), len(at) / laws.repeats(fits[0].left)
    least = float(np.mean((DISCREPANCY * M[at] / view.scale[at]) ** 2))
    scores = [free * np.log(f.left @ f.left / n + least) + f.size * np.log(max(free, 2)) for f in fits]
    order = np.argsort(scores)
    # a level is the limit of all others: these need evidence, not it
    near = DECISIVE * (fits[order[0]].law.name != "level")
    kinds: dict[str, list[laws.Fit]] = {}
    for i in order:
        # of what goes on as the law does, so much would have been seen that it must have ended
        unseen = np.count_nonzero(fits[i](view.after / end) > 3 * CLEAR_OF_NOISE * view.noise[-1])
        ended = unseen > 3 * np.median(np.diff(at)) and np.median(fits[i](view.t[at[-5:]] / end) / M[at[-5:]]) < 2
        ended = ended and view.noise[-1] > 1e-6 * M.max() and not view.oscillates
        kind = "finite" if ended else fits[i].kind() or ""
        if scores[i] <= scores[order[0]] + (2 if kind in kinds else 1) * near:  # intervals hold more than verdicts
            kinds.setdefault(kind, []).append(fits[i])
    possible = tuple(kinds)
    if possible == ("finite",):
        whole = np.append(view.t, view.after)
        return _ended(whole, np.full(len(whole), CLEAR_OF_NOISE * view.noise[-1]), len(view.t) - 1)
    said = {"possible": possible, "window": (view.first * end, end)}
    if len(possible) > 1:
        return said | {"reason": f"up to {end:g} the curve allows {' and '.join(possible)}"}
    kind, alike = next(iter(kinds.items()))
    judge = {"exponential": _exponential, "polynomial": _polynomial, "stretched": _stretched, "plateau": _plateau}[kind]
    missing, numbers = judge(view, alike, free)
    if missing:
        return said | {"reason": missing}
    return said | {"kind": kind} | numbers | ({"possible": (numbers["kind"],)} if "kind" in numbers else {})


def _interval(
    values: list[tuple[float, float]], sizes: list[int], free: float, confidence: float
) -> tuple[float, float]:
    """Return the interval that holds those of all (value, standard error) from fits of so many numbers."""
    from scipy import stats

    z = [float(stats.t.ppf((1 + confidence) / 2, max(free - size, 1))) for size in sizes]
    reach = [k * error + SURE * (1 + abs(value)) for k, (value, error) in zip(z, values, strict=True)]
    ends = [(value - more, value + more) for more, (value, _) in zip(reach, values, strict=True)]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _slopes(
    u: np.ndarray, logs: np.ndarray, confidence: float, bend: float = 0.1
) -> tuple[float, tuple[float, float], bool]:
    """Return by what log M falls per u in the last half, the interval of that over parts of it, and if it is straight.

    Where no law is exact, as for networks, whose curves beat and bend, what parts of the window say is the error.
    """
    from scipy import stats

    lines = []
    for low, high in ((1 / 2, 1), (2 / 3, 1), (1 / 2, 3 / 4), (3 / 4, 1)):
        part = (u >= u[0] + low * (u[-1] - u[0])) & (u <= u[0] + high * (u[-1] - u[0]))
        if np.count_nonzero(part) < 4:
            return np.nan, NONE, False
        lines.append((stats.linregress(u[part], logs[part]), np.count_nonzero(part)))
    fall = [(-float(line.slope), float(line.stderr)) for line, _ in lines]
    free = [n / laws.repeats(logs[-n:] - line.intercept - line.slope * u[-n:]) for line, n in lines[:2]]
    interval = _interval(fall[:2], [2, 2], min(free), confidence)
    values = [value for value, _ in fall]
    spread = max(values) - min(values)
    interval = min(interval[0], min(values) - spread / 2), max(interval[1], max(values) + spread / 2)
    fifths = [(u > u[0] + k / 5 * (u[-1] - u[0])) & (u <= u[0] + (k + 1) / 5 * (u[-1] - u[0])) for k in range(1, 5)]
    steps = [-float(stats.linregress(u[part], logs[part]).slope) for part in fifths if np.count_nonzero(part) > 2]
    bends = np.diff(steps)
    # a beat goes up and down, a power and what falls faster than an exponential keep their bend
    bent = (
        len(steps) < 4
        or ((bends > 0).all() or (bends < 0).all())
        and not abs(steps[-2] - steps[-1]) < bend * abs(steps[-1])
    )
    straight = (
        0.75 * values[3] < values[2] < 1.33 * values[3]
        and interval[0] > 0
        and interval[1] < 2 * interval[0]
        and not bent
    )
    return values[0], interval, bool(straight)


Verdict: TypeAlias = tuple[str, dict[str, Any]]  # what is missing, "" if nothing is, and the fields of a Decay


def _exponential(view: _View, alike: list[laws.Fit], free: float) -> Verdict:
    best, end = alike[0], view.end
    rate, need = float(np.exp(best.log_rate()[0])), TIME_SCALES + best.order()
    if not view.exact:
        # a polynomial in front bends what seems straight
        return _straight(view, TIME_SCALES, 0.1, rate)
    if best.order():  # of which power is in front the rate depends, and noise hides it
        t, M, scale = view.t[view.at], view.M[view.at], view.scale[view.at]
        others = _fits(t, M, scale, 1, ("polynomial in front 1", "polynomial in front 2", "cut-off"))
        others = [f for f in others if np.isfinite(f.log_rate()[0])]
        alike = alike + [f for f in others if f.left @ f.left < 1.1 * (best.left @ best.left)]
    low, high = _interval([f.log_rate() for f in alike], [f.size for f in alike], free, view.confidence)
    interval = float(np.exp(max(low, -700.0))), float(np.exp(min(high, 700.0)))
    x = np.linspace(view.first, 1, 400)
    # all columns of a law with a polynomial in front fall by its one rate
    most = x if best.order() else x[best.c[0] * best.law.columns(x, best.theta)[0] >= 0.5 * np.abs(best(x))]
    scales = rate * (1 - most[0]) if len(most) else 0.0
    if scales < need:
        slow = f"the slowest exponential found, of time scale {end / rate:.3g},"
        return f"{slow} is most of M for {scales:.2g} of these up to {end:g}, {need:.2g} are needed", {}
    numbers = {"rate": rate / end, "rate_interval": (interval[0] / end, interval[1] / end)}
    return "", numbers | {"reason": f"{scales:.2g} time scales of the slowest exponential are seen"}


def _straight(view: _View, need: float, bend: float, *fitted: float) -> Verdict:
    """Return the verdict on an exponential of which only parts of the window tell the rate."""
    at, end = view.whole, view.end
    t, logs = view.t[at] / end, np.log(np.maximum(view.M[at], view.noise[at]))
    rate, interval, straight = _slopes(t, logs, view.confidence, bend)
    if not straight:
        return f"how fast it falls still changes up to {end:g}", {}
    scales = rate * (1 - t[0]) / 2
    if scales < need:
        return f"half of the window of {end:g} holds {scales:.2g} times the time scale {end / rate:.3g} found", {}
    # rates that differ by less than one over the window are not told apart in it
    low, high = min([interval[0], *fitted]) - 1, max([interval[1], *fitted]) + 1
    numbers = {"rate": rate / end, "rate_interval": (max(low, 0.0) / end, high / end)}
    return "", numbers | {"straight": True, "reason": f"it falls straight for {2 * scales:.2g} time scales"}


def _polynomial(view: _View, alike: list[laws.Fit], free: float) -> Verdict:
    best, t, end = alike[0], view.t, view.end
    s, exponent = float(np.exp(best.theta[0])), float(best.theta[1])
    begins = view.first
    if not view.oscillates:  # it holds back to where M leaves it by a tenth
        off = np.abs(np.log(np.maximum(best(t / end), 1e-300) / np.maximum(view.M, 1e-300)))
        leaves = np.flatnonzero(off[t < begins * end] > 0.1)
        begins = float(t[leaves[-1]]) / end if len(leaves) else 0.0
    decades = np.log10((1 + s) / (begins + s))
    if decades < DECADES:
        return f"a power of t + {s * end:.3g} is seen over {decades:.2g} decades, {DECADES} are needed", {}
    if view.exact:
        values = [(float(f.theta[1]), float(f.errors()[1])) for f in alike]
        interval = _interval(values, [f.size for f in alike], free, view.confidence)
    else:
        u = np.log(t[view.at] / end + s)
        _, interval, straight = _slopes(u, np.log(view.M[view.at]), view.confidence)
        later = [_later_power(view, part) for part in (1 / 16, 1 / 4)]
        low, high = min(interval[0], *later), max(interval[1], *later)
        exponent, interval = later[0], (low - (high - low) / 2, high + (high - low) / 2)
        if not straight or not np.isfinite(later).all() or interval[1] > 2 * interval[0]:
            return f"its exponent still changes up to {end:g}", {}
    return "", {"exponent": exponent, "exponent_interval": interval, "reason": f"one power over {decades:.2g} decades"}


def _later_power(view: _View, part: float) -> float:
    """Return the exponent of the power that fits from a part of the window on."""
    at = view.at[view.t[view.at] >= part * view.end]
    found = _fits(view.t[at], view.M[at], view.scale[at], 1, ("power",)) if len(at) > 5 else []
    return float(found[0].theta[1]) if found else np.nan


def _stretched(view: _View, alike: list[laws.Fit], free: float) -> Verdict:
    best = alike[0]
    falls = np.exp(min(-best.theta[0] * best.theta[1], 700.0)) * (1 - view.first ** best.theta[1])
    if not view.exact or falls < TIME_SCALES:
        return f"a stretched exponential is seen over a fall by e^{falls:.2g} only, or is not exact", {}
    values = [(float(f.theta[1]), float(f.errors()[1])) for f in alike]
    interval = _interval(values, [f.size for f in alike], free, view.confidence)
    reason = f"a stretched exponential over a fall by e^{falls:.2g}"
    return "", {"exponent": float(best.theta[1]), "exponent_interval": interval, "reason": reason}


def _plateau(view: _View, alike: list[laws.Fit], free: float) -> Verdict:
    from scipy import stats

    best, at, end = alike[0], view.at, view.end
    level, x = float(best.c[0]), np.linspace(view.first, 1, 400)
    before = x[(best(x) > 2 * level) | (best(x) < 0.9 * level)]
    begins = before[-1] if len(before) else view.first
    at = at[view.t[at] >= begins * end]
    missing = f"level since {begins * end:.3g}, which is too short to tell from a slow fall"
    if len(at) < 4 or len(view.after) or 1 - begins < begins / 3:
        return missing, {}
    off = (view.M[at] - best(view.t[at] / end)) / level
    rough, line = float(off.std()), stats.linregress(view.t[at] / end, off)
    slope, error = abs(line.slope), line.stderr * np.sqrt(laws.repeats(best.left))
    wild = view.oscillates or rough > max(0.1, 2 * view.noise[-1] / level)
    if (slope + 2 * error) * (1 - begins) > (0.7 if wild else 0.1) or (wild and slope > 2.5 * error):
        return missing, {}
    if not wild:
        return "", {"level": level, "reason": f"level since {begins * end:.3g}"}
    if _period(view.t, view.M)[1] < 0.8 or not (view.oscillates or rough > 0.3):
        return "it does not fall, and neither repeats itself nor does it not", {}
    return "", {"kind": "none", "reason": "it goes on without falling"}


def _grows(t: np.ndarray, M: np.ndarray) -> bool:
    """Say whether M rises in its second half, without a sign of slowing down."""
    from scipy import stats

    quarters = [slice(k * len(M) // 4, (k + 1) * len(M) // 4) for k in (1, 2, 3)]
    if not M[quarters[2]].mean() > 1.5 * M[quarters[0]].mean() > 0:
        return False
    before, last = (stats.linregress(t[q], M[q]) for q in quarters[1:])
    return bool(last.slope - 2 * last.stderr > 0.95 * (before.slope + 2 * before.stderr) > 0)


def _repeats(t: np.ndarray, M: np.ndarray, noise: np.ndarray) -> float | None:
    """Return the period of a curve that neither falls nor rises and repeats itself, None of any other."""
    half, last = len(M) // 2, 3 * len(M) // 4
    tops, spread = (M[half:last].max(), M[last:].max()), M[half:].std()
    if not min(tops) > 0 or abs(np.log(tops[1] / tops[0])) > 0.1 + 3 * noise[-1] / max(tops):
        return None
    if spread < 0.01 * max(tops) + 3 * noise[-1] or not np.allclose(np.diff(t), t[1] - t[0]):
        return None
    period, off = _period(t, M)
    if off > ALIKE:
        return None
    # by what the curve has fallen after many periods, at the lag at which it is most alike
    late = M[half:]
    far = min(range(half // 2, half), key=lambda lag: float(np.sum((M[half - lag : len(M) - lag] - late) ** 2)))
    fallen = np.linalg.norm(late) / np.linalg.norm(M[half - far : len(M) - far])
    return period if abs(fallen - 1) < laws.LEVEL / 2 else None


def _period(t: np.ndarray, M: np.ndarray) -> tuple[float, float]:
    """Return the time after which the end of a curve repeats itself best, and what differs in units of its spread."""
    from scipy import interpolate

    half = len(M) // 2
    at = np.arange(half, len(M))
    late, spline = M[at], interpolate.CubicSpline(np.arange(len(M)), M)
    whole = np.array([np.sqrt(np.mean((M[at - lag] - late) ** 2)) for lag in range(1, half)]) / late.std()
    best = (np.nan, np.inf)
    for i in np.flatnonzero((whole < 0.8) & (whole <= np.append(whole[1:], 0)) & (whole <= np.append(0, whole[:-1]))):
        # between two lags only what is sampled well
        near = i + 1 + (np.linspace(-1, 1, 41) if i > 5 else np.zeros(1))
        off = [float(np.sqrt(np.mean((spline(at - p) - late) ** 2)) / late.std()) for p in near]
        if min(off) < 0.8 * best[1]:
            best = (float(near[int(np.argmin(off))] * (t[1] - t[0])), min(off))
        if best[1] < ALIKE:
            break
    return best
