"""Decay: what law a memory function follows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cmlib.memory import MemoryCurve

if TYPE_CHECKING:
    Curve = MemoryCurve
else:
    Curve = Any


@dataclass(frozen=True)
class Decay:
    """How a memory curve falls, as seen on its window.

    Args:
        kind: "exponential" ~ e^{-rate t}, "polynomial" ~ t^{-exponent}, or "none".
        rate: per unit of time, nan for the other kinds; inf where the memory is over within three steps.
        exponent: nan for the other kinds.
        r2: share of the variance of log M that the better of the two laws explains.
        rival_r2: the share of the other; 0 for a power that earlier values rule out.
        window: first and last time used.
        floor: the level below which values were not used.

    >>> curve = cmlib.memory_function(models.LinearRNN([-0.5], [1.0], [1.0]), 40)
    >>> found = cmlib.decay(curve)
    >>> found.kind, round(found.rate, 3)
    ('exponential', 0.5)
    """

    kind: str
    rate: float
    exponent: float
    r2: float
    rival_r2: float
    window: tuple[float, float]
    floor: float


# Rounding repeats at each step and in each layer, so only values this many times above one rounding are used.
TRUSTED = 100.0
# t_end is where M meets the floor, or where the curve ends. The laws are fitted from t_end over each of SPANS on.
# A law that leaves less than CLEAR settles it; one that explains less than LEAST_R2 is none.
SPANS, PIECES, CLEAR, LEAST_R2 = (32.0, 16.0, 8.0, 4.0, 2.0), 12, 1e-4, 0.95
# Exponentials of several rates look like t^{-12} for a while: a power that, followed back to t_end / 8, overshoots the
# curve by more than this factor is ruled out.
OVERSHOOT = 10.0
# A curve that falls by less than this, from the first to the second of these parts of t_end, does not decay.
FLAT, EARLY, LATE = 1.5, 0.25, 0.8


def decay(curve: Curve) -> Decay:
    """Say whether a memory curve falls exponentially, polynomially or not at all, on the window that it has.

    With t_end where M meets the floor, or the curve its end, log sup_{s >= t} M(s) at 12 times of a window that ends
    at t_end is regressed on t and on log t. The window is the latest on which a law leaves less than 1e-4 of the
    variance, or else that on which the two differ most; a power must fit the time before as well. The law that leaves
    less is the verdict; "none" if it leaves a twentieth, or if M falls by a third at most from t_end / 4 to 4/5 t_end.

    Args:
        curve: at least 16 lags.

    Raises:
        ValueError: unless times are >= 0 and increase, and values are >= 0 and finite, one for each.

    Reference: wang2024inverse, Def. 3.1

    >>> t = np.geomspace(1.0, 1e4, 64)
    >>> found = cmlib.decay(cmlib.MemoryCurve(t, (1 + t) ** -1.5, "heaviside"))
    >>> found.kind, round(found.exponent, 1)
    ('polynomial', 1.5)
    """
    if not (hasattr(curve, "t") and hasattr(curve, "values") and hasattr(curve, "floor")):
        raise ValueError(f"expected a MemoryCurve, got {curve!r}")
    t, M = np.asarray(curve.t, dtype=float), np.asarray(curve.values, dtype=float)
    if t.ndim != 1 or t.shape != M.shape or len(t) < 16 or t[0] < 0 or (np.diff(t) <= 0).any():
        raise ValueError(f"expected at least 16 increasing times >= 0 and as many values, got {t.shape} and {M.shape}")
    if not np.isfinite(M).all() or (M < 0).any():
        raise ValueError("expected finite values >= 0")
    floor = TRUSTED * float(curve.floor)
    above = np.flatnonzero(floor < M)
    last = above[-1] if len(above) else 0
    candidates = [_laws(t[: last + 1], M[: last + 1], span) for span in SPANS]
    candidates = [c for c in candidates if c is not None]
    if not candidates:  # over within a few steps, or hardly begun
        kind, rate = ("exponential", np.inf) if last < len(t) - 1 else ("none", np.nan)
        return Decay(kind, rate, np.nan, np.nan, np.nan, (float(t[0]), float(t[last])), floor)
    clear = [c for c in candidates if min(left for _, left in c[1].values()) < CLEAR]
    differ = max(candidates, key=lambda c: abs(np.log(c[1]["exponential"][1] / c[1]["polynomial"][1])))
    at, laws = clear[-1] if clear else differ
    kind, rival = sorted(laws, key=lambda law: laws[law][1])
    r2, rival_r2 = (1 - laws[law][1] for law in (kind, rival))
    early, late = (M[: last + 1][t[: last + 1] >= part * t[last]].max() for part in (EARLY, LATE))
    if r2 < LEAST_R2 or early < FLAT * late:
        kind = "none"
    rate, exponent = (float(-laws[law][0]) if law == kind else np.nan for law in ("exponential", "polynomial"))
    return Decay(kind, rate, exponent, float(r2), float(rival_r2), (float(at[0]), float(at[-1])), floor)


def _laws(t: np.ndarray, M: np.ndarray, span: float) -> tuple[np.ndarray, dict] | None:
    from scipy import stats  # here, because it would nearly double the time of `import cmlib`

    # sup_{s >= t} M from t_end / span on, and the two regressions through it; None where there are too few points
    first = max(t[-1] / span, t[min(1, len(t) - 1)])
    if not first < t[-1]:
        return None
    piece = np.digitize(t, np.geomspace(first, t[-1], PIECES + 1)[:-1])  # 0 before the window
    still = np.maximum.accumulate(M[::-1])[::-1]  # sup of M from t on, which no zero of M pulls down
    touches = still == M
    chosen = []
    for i in np.unique(piece[piece > 0]):
        within = np.flatnonzero(piece == i)
        chosen.append(next((k for k in within if touches[k]), within[-1]))
    at, M = t[chosen], still[chosen]
    if len(at) < 5 or not np.ptp(M):
        return None
    line, power = stats.linregress(at, np.log(M)), stats.linregress(np.log(at), np.log(M))
    # (slope, share of the variance of log M that is left); rounding leaves at least this much
    laws = {law: (f.slope, max(1 - f.rvalue**2, 1e-14)) for law, f in (("exponential", line), ("polynomial", power))}
    back = np.searchsorted(t, t[-1] / 8)
    if power.intercept + power.slope * np.log(t[back]) > np.log(OVERSHOOT * still[back]):
        laws["polynomial"] = (power.slope, 1.0)
    return at, laws
