"""Modes: the damped oscillations that a response is a sum of, which tell its rate where it swings too seldom."""

from dataclasses import dataclass

import numpy as np

# Parts of the response that have to agree: from these shares of it on.
STARTS = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
# Up to where they stand out by this from the noise: its last decades tell the slowest from others, and hide those.
CLEAR_OF_NOISE = (4.0, 400.0)
SAMPLES = 200  # of each part, at equal distances
MOST = 16  # modes
CLOSE = 0.15  # of a part, its sum of modes leaves at most this share
SHARE = 1e-3  # of the slowest mode there is at least this at the end
# Three parts that agree so far, or two that are sums of modes to such a share. A stretched exponential does neither.
AGREE, EXACT = 0.02, 3e-3
NEAR = 1.25  # modes of rates within this factor count as one slowest mode
DISCREPANCY = 1e-6  # no response is exactly a sum of modes


@dataclass(frozen=True)
class Slowest:
    """The slowest mode of a response: its rate per step, the interval, and the time scales over which it is most."""

    rate: float
    interval: tuple[float, float]
    time_scales: float


def slowest(y: np.ndarray, noise: float) -> Slowest | None:
    """Return the slowest mode that parts of a response agree on, None where too few are sums of modes.

    Each part is freed from its mean fall, so that its end counts as much as its beginning, and its modes are the
    eigenvalues of a shift of the leading singular vectors of its Hankel matrix, as many as stand out of the noise.

    Args:
        y: (n_steps,), a response with its sign.
        noise: its standard deviation.

    Reference: kung1978new
    """
    agreed = [found for found in (_agreed(y, noise, clear) for clear in CLEAR_OF_NOISE) if found is not None]
    if not agreed:
        return None
    off, rate = min((off, rate) for off, rate, _, _ in agreed)
    said = [rate for _, _, rates, _ in agreed for rate in rates]
    # what parts say, and modes that the window is too short to tell apart
    more = (max(said) - min(said)) / 2 + 3 / _end(y, CLEAR_OF_NOISE[0] * noise) + off * abs(rate)
    return Slowest(rate, (min(said) - more, max(said) + more), max(scales for _, _, _, scales in agreed))


def _agreed(y: np.ndarray, noise: float, clear: float) -> tuple[float, float, list[float], float] | None:
    """Return what the best part leaves and its rate, the rates of all, and time scales; None where parts disagree."""
    n, said, best = _end(y, clear * noise), [], []
    for start in STARTS:
        part = y[int(start * n) : n]
        each = max(1, len(part) // SAMPLES)
        part = part[(len(part) - 1) % each :: each]
        fits = _fits(part, noise) if len(part) >= 16 else []
        off = min((f[0] for f in fits), default=np.inf)
        if off > CLOSE:
            continue
        good = sorted(f for f in fits if f[0] <= max(min(3 * off, CLOSE), DISCREPANCY))
        said += [rate / each for _, rate, _ in good]
        best.append((off, good[0][1] / each, good[0][2]))
    offs, rates = sorted(off for off, _, _ in best), [rate for _, rate, _ in best]
    alike = len(best) > 2 and max(rates) - min(rates) < AGREE * min(rates)
    if not alike and (len(best) < 2 or offs[1] > EXACT):
        return None
    return *min(best)[:2], said, max(scales for _, _, scales in best)


def _end(y: np.ndarray, level: float) -> int:
    seen = np.flatnonzero(np.abs(y) > level)
    return int(seen[-1]) + 1 if len(seen) else 0


def _fits(y: np.ndarray, noise: float) -> list[tuple[float, float, float]]:
    """Return for sums of ever more modes what they leave, the slowest rate, and the time scales it is most for."""
    n, t, top = len(y), np.arange(len(y)), _largest_to_come(y)
    if not top[-1] > 0:
        return []
    fall = -np.polyfit(t, np.log(top), 1)[0]
    with np.errstate(over="ignore"):
        y, top, noises = (v * np.exp(fall * t) for v in (y, top, noise))
    if not np.isfinite(y).all():
        return []
    scale = np.hypot(DISCREPANCY * top, noises)
    hankel = np.lib.stride_tricks.sliding_window_view(y, n // 2)
    vectors, values, _ = np.linalg.svd(hankel.T, full_matrices=False)
    rank = np.count_nonzero(values > np.sqrt(n // 2) * np.sqrt(np.mean(noises**2)))
    found = []
    for k in range(1, min(MOST, max(rank, 1), n // 3) + 1):
        z = np.linalg.eigvals(np.linalg.lstsq(vectors[:-1, :k], vectors[1:, :k], rcond=None)[0])
        z = z[np.abs(z) > 1e-3]
        with np.errstate(all="ignore"):
            table = z ** t[:, None] / scale[:, None]
        if not len(z) or not np.isfinite(table).all():
            continue
        size = np.maximum(np.abs(table).max(0), 1e-300)
        c = np.linalg.lstsq(table / size, (y / scale).astype(complex), rcond=1e-12)[0] / size
        left = (table @ c).real - y / scale
        off = float(np.sqrt(np.mean((left * scale / np.maximum(top, 4 * noises)) ** 2)))
        kept = np.abs(c) * np.abs(z) ** (n - 1) > max(off, SHARE) * top[-1]
        if not kept.any():
            continue
        rates = fall - np.log(np.abs(z))
        rate = float(rates[kept].min())
        slow = (rates >= rate) & (rates <= rate + (NEAR - 1) * abs(rate))
        most = (np.abs(c[slow]) * np.abs(z[slow]) ** t[:, None]).sum(1) >= 0.5 * top
        begins = 0 if most.all() else n - int(np.argmin(most[::-1]))
        found.append((off, rate, rate * (n - 1 - begins)))
        if left @ left < 2 * n:
            break
    return found


def _largest_to_come(y: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(np.abs(y)[::-1])[::-1]
