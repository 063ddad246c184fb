"""Calibrate `cmlib.decay`: curves whose law is known, what it says of each, and how often it is wrong.

python workflow/calibrate.py    writes results/calibration.csv, a row a case, and calibration.json, the shares of them

A case is a kernel, its length, what it is multiplied and mixed with, and noise, all drawn from the seed of the case.
Seeds below 30,000 are for choosing the constants of decay.py and laws.py; the published table has those from there on.
What is true of a case, and whether its window shows it, is said here from kernel, window and noise, not from a fit.
"""

import ast
import csv
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from digests import digest, what_runs

import cmlib

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "results" / "calibration"
FIRST, CASES = 30_000, 2_420
KERNELS = (
    "finite",
    "modes",
    "jordan",
    "power",
    "cut-off",
    "stretched",
    "plateau",
    "periodic",
    "none",
    "mixture",
    "network",
)
LENGTHS = (64, 200, 1000, 4000)
# name -> (spread relative to M, spread relative to the largest M, whether the curve comes with standard errors)
NOISES = {
    "rounding": (0.0, 1e-16, False),
    "jitter 1e-3": (1e-3, 1e-16, False),
    "jitter 1e-2": (1e-2, 1e-16, False),
    "additive 1e-8": (0.0, 1e-8, False),
    "additive 1e-4": (0.0, 1e-4, False),
    "additive 1e-2": (0.0, 1e-2, False),
    "errors 1e-4": (0.0, 1e-4, True),
    "errors 1e-2": (0.0, 1e-2, True),
}
WAVES = ("none", "none", "slow", "fast", "two")
CONFIDENCE = 0.95


@dataclass
class Case:
    """A curve and what is true of it.

    Args:
        kinds: that are right; more than one where the law lies beyond what the window and the noise let through.
        decidable: whether window and noise show the law; if not, only a right kind or "undecided" will do, as always.
        rate, exponent, lag, level: of the law, nan where it has none or the window hides which.
    """

    seed: int
    kernel: str
    length: int
    noise: str
    wave: str
    curve: cmlib.MemoryCurve = field(repr=False)
    kinds: tuple[str, ...]
    decidable: bool
    rate: float = np.nan
    exponent: float = np.nan
    lag: float = np.nan
    level: float = np.nan


def case(seed: int) -> Case:
    """Return the case of a seed: kernels, lengths, noises and waves take turns, all else is drawn."""
    rng = np.random.default_rng(seed)
    kernel = KERNELS[seed % len(KERNELS)]
    length = LENGTHS[seed // len(KERNELS) % len(LENGTHS)]
    noise = "rounding" if kernel == "network" else str(rng.choice(list(NOISES)))
    wave = str(rng.choice(WAVES)) if kernel in ("modes", "power", "cut-off", "stretched", "mixture") else "none"
    jitter, added, told = NOISES[noise]
    t = np.arange(float(length))
    rho, truth = {
        "finite": _finite,
        "modes": _modes,
        "jordan": _jordan,
        "power": _power,
        "cut-off": _cut_off,
        "stretched": _stretched,
        "plateau": _plateau,
        "periodic": _periodic,
        "none": _none,
        "mixture": _mixture,
        "network": _network,
    }[kernel](t, rng)
    rho = rho / (np.abs(rho).max() or 1.0)
    swings, factor = _wave(wave, t, rng)
    clear = 100 * added if added == 1e-16 else (5 if wave == "none" else 10) * added
    seen = np.flatnonzero(_memory(rho) > clear)
    end = seen[-1] if len(seen) else 0  # the window that noise leaves
    kinds, decidable, values = truth(rho, end)
    # a wave is known by its peaks, two dozen are needed, and they are too rough for a stretched exponential
    decidable = decidable and (
        wave == "none" or (end / swings >= 24 and jitter + added < 5e-3 and kernel != "stretched")
    )
    shape = np.shape(rho)
    responses = rho * factor * (1 + jitter * rng.normal(size=shape)) + added * rng.normal(size=shape)
    floor = added if added == 1e-16 else 0.0
    errors = np.full(length, added) if told else None
    curve = cmlib.MemoryCurve(t, _memory(responses), "impulse", floor, errors, responses=np.atleast_2d(responses))
    return Case(seed, kernel, length, noise, wave, curve, kinds, decidable, **values)


def _memory(rho):
    return np.abs(np.atleast_2d(rho)).max(0)


def _wave(wave, t, rng):
    """Return the time between two peaks of |wave| and the wave."""
    if wave == "none":
        return 1.0, np.ones_like(t)
    if wave == "slow":
        period = 2 * np.exp(rng.uniform(np.log(5), np.log(max(len(t) / 16, 6))))
        return period / 2, np.cos(2 * np.pi * t / period)
    w, v = rng.uniform(0.5, 2.6, size=2)
    if wave == "fast":
        return np.pi / w, np.cos(w * t)
    return np.pi / min(w, v), 0.6 * np.cos(w * t) + 0.4 * np.cos(v * t)


def _log(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# Each returns a kernel on t and the truth about it: (kernel, last lag that noise lets through) -> (kinds that are
# right, whether it is decidable, the values of the law).


def _finite(t, rng):
    n = len(t)
    lag = int(_log(rng, 1, 1.5 * n))
    shape = rng.choice(["delay", "average", "ramp", "taps"])
    inside = t <= lag
    rho = {
        "delay": (t == lag).astype(float),
        "average": inside.astype(float),
        "ramp": inside * (1 + lag - t),
        "taps": inside * rng.uniform(0.2, 1.0, size=n) * np.exp(-rng.uniform(0, 4) * t / lag),
    }[str(shape)]

    def truth(rho, end):
        seen = end == min(lag, n - 1)
        values = {"lag": float(lag)} if seen and lag < n else {}
        # not seen to end without as many empty lags as full ones; what is over at once may be a fast exponential
        # an average that outlasts the window is level on it, and of a delay beyond it only the noise is seen
        kinds = ("finite", {"average": "plateau", "delay": "none"}.get(str(shape), "finite"))[: 1 + (lag >= n - 1)]
        return kinds, bool(seen and n > 2 * lag + 2 and lag >= 8), values

    return rho, truth


def _truth_of_modes(t, rates, weights):
    def truth(rho, end):
        slow = int(np.argmin(rates))
        term = np.abs(weights[slow]) * np.exp(-rates[slow] * t)
        whole = np.abs(np.exp(-np.outer(t, rates)) @ weights)
        rules = np.flatnonzero((term > 0.5 * whole) & (t <= end))
        scales = rates[slow] * (end - rules[0]) if len(rules) else 0.0
        values = {"rate": float(rates[slow])} if scales >= 1 else {}
        kinds = ("exponential", "plateau") if rates[slow] * len(t) < 0.05 else ("exponential",)
        return kinds, bool(scales >= 3.5 and end >= 20), values

    return truth


def _modes(t, rng):
    k = int(rng.integers(1, 5))
    rates = np.cumprod(np.append(_log(rng, 0.5, 60) / len(t), rng.uniform(1.5, 8, size=k - 1)))
    weights = np.append(_log(rng, 1e-3, 1), rng.uniform(0.1, 1, size=k - 1) * rng.choice([1, 1, 1, -0.5], size=k - 1))
    rho = np.exp(-np.outer(t, rates)) @ weights
    return rho, _truth_of_modes(t, rates, weights)


def _jordan(t, rng):
    k, rate = int(rng.integers(1, 3)), _log(rng, 1, 60) / len(t)
    rho = (rng.uniform(0, 1) + (rate * t) ** k) * np.exp(-rate * t)

    def truth(rho, end):
        scales = rate * end
        return ("exponential",), bool(scales >= 5 + 2 * k and end >= 20), {"rate": rate} if scales >= 3 else {}

    return rho, truth


def _truth_of_power(t, p, s, begins=0.0):
    def truth(rho, end):
        decades = np.log10((s + end) / (s + begins)) if end > begins else 0.0
        kinds = ("polynomial",) if end > 2 * begins else ("polynomial", "exponential")
        return kinds, bool(decades >= 2 and end >= 20), {"exponent": p} if decades >= 1 else {}

    return truth


def _power(t, rng):
    p, s = rng.uniform(0.3, 4), _log(rng, 0.3, 100)
    return (1 + t / s) ** -p, _truth_of_power(t, p, s)


def _cut_off(t, rng):
    p, s, rate = rng.uniform(0.3, 2.5), _log(rng, 0.3, 10), _log(rng, 0.05, 40) / len(t)

    def truth(rho, end):
        scales = rate * end
        # a cut-off beyond twice the window is none on it
        kinds = ("exponential",) if scales > 0.5 else ("exponential", "polynomial")
        return kinds, bool(scales >= 5 + p and end >= 20), {"rate": rate} if scales >= 5 else {}

    return (1 + t / s) ** -p * np.exp(-rate * t), truth


def _stretched(t, rng):
    b, scale = rng.uniform(0.3, 0.8), _log(rng, 0.3, len(t) / 10)

    def truth(rho, end):
        falls = (end / scale) ** b
        return ("stretched",), bool(falls >= 5 and end >= 50), {"exponent": b} if falls >= 2 else {}

    return np.exp(-((t / scale) ** b)), truth


def _plateau(t, rng):
    level = rng.choice([1.0, _log(rng, 1e-6, 0.5)])
    rate, p = _log(rng, 3, 60) / len(t), rng.uniform(1, 3)
    by_modes = rng.random() < 0.7
    rest = np.exp(-rate * t) if by_modes else (1 + t) ** -p
    rho = level + (1 - level) * rest if level < 1 else np.ones_like(t)

    def truth(rho, end):
        n = len(t)
        if end < n - 1:  # under the noise
            return ("plateau", "exponential" if by_modes else "polynomial"), False, {}
        if not (1 - level) * rest[-1] < level:
            return ("plateau", "exponential" if by_modes else "polynomial"), False, {}
        begins = int(np.argmax((1 - level) * rest < level))
        return ("plateau",), bool(n - begins > n / 2), {"level": float(level)}

    return rho, truth


def _periodic(t, rng):
    period = _log(rng, 3, len(t) / 6)
    shape = rng.choice(["wave", "ripple", "comb"])
    if shape == "comb":
        period = float(round(period))
        rho = (t % period == 0).astype(float)
    else:
        phase = np.cos(2 * np.pi * t / period)
        rho = phase if shape == "wave" else 1 + 0.5 * phase
    return rho, lambda rho, end: (("periodic",), bool(len(t) / period >= 10), {})


def _none(t, rng):
    n = len(t)
    shape, grown = str(rng.choice(["white", "chaos", "growth", "growing mode", "many waves"])), np.inf
    if shape == "chaos":
        x = [0.1 + 0.3 * rng.random()]
        for _ in range(n - 1):
            x.append(3.97 * x[-1] * (1 - x[-1]))
        rho = np.abs(np.array(x) - 0.5)
    else:
        waves = rng.uniform(0, np.pi, size=24), rng.uniform(0, 2 * np.pi, size=24)
        rho = {
            "white": lambda: rng.normal(size=n),
            "growth": lambda: (1 + t) ** rng.uniform(0.5, 2),
            "growing mode": lambda: np.exp(_log(rng, 1, 20) * t / n),
            "many waves": lambda: np.cos(np.outer(t, waves[0]) + waves[1]).sum(1),
        }[shape]()
        if shape.startswith("grow"):  # what will fall may grow at first, as a power of time or for some e-foldings
            grown = np.log(rho[-1]) if shape == "growing mode" else 0.0
    return rho, lambda rho, end: (("none",), bool(n >= 200 and grown > 8), {})


def _mixture(t, rng):
    """Return a power after a mode that is over early."""
    p, share = rng.uniform(0.3, 3), _log(rng, 1e-3, 0.5)
    rate = _log(rng, 0.05, 1)
    begins = t[np.argmax(share * (1 + t) ** -p > (1 - share) * np.exp(-rate * t))]
    begins = begins if begins > 0 else float(len(t))
    return share * (1 + t) ** -p + (1 - share) * np.exp(-rate * t), _truth_of_power(t, p, 1.0, begins)


def _network(t, rng):
    """Return the response of a network to an impulse: full, diagonal with complex modes, or of tanh to two sizes."""
    n, m = len(t), int(rng.integers(4, 33))
    slowest = _log(rng, 3, 100) / n
    shape = str(rng.choice(["full", "diagonal", "tanh"]))
    if shape == "diagonal":
        rates = slowest * np.append(1.0, rng.uniform(1, 30, size=m - 1))
        modes = np.exp(-rates + 1j * rng.uniform(0, np.pi, size=m) * rng.choice([0.1, 1.0]))
        weights = rng.normal(size=(3, m))
    else:
        W = rng.normal(size=(m, m)) / np.sqrt(m)
        W *= np.exp(-slowest) / np.abs(np.linalg.eigvals(W)).max()
        U, C = rng.normal(size=m), rng.normal(size=(3, m))
        modes, vectors = np.linalg.eig(W)
        weights = C @ vectors * np.linalg.solve(vectors, U)
        rates = -np.log(np.abs(modes))
    terms = np.exp(np.multiply.outer(t, np.log(modes.astype(complex))))  # (time, m)
    rho = (weights @ terms.T).real
    if shape == "tanh":
        of_sizes = []
        for size in (0.1, 1.0):
            h, y = np.tanh(size * U), []
            for _ in t:
                y.append(C @ h / size)
                h = np.tanh(W @ h)
            of_sizes += [*np.transpose(y)]
        rho = np.array(of_sizes)
    slow = np.isclose(rates, rates.min(), rtol=1e-6)
    first = np.abs(terms[:, slow] @ weights[:, slow].T).max(1)
    rest = np.abs(terms[:, ~slow]) @ np.abs(weights[:, ~slow]).max(0)

    def truth(rho, end):
        rules = np.flatnonzero((first > rest) & (t <= end))
        scales = rates.min() * (end - rules[0]) if len(rules) else 0.0
        return ("exponential",), bool(scales >= 10 and end >= 50), {"rate": float(rates.min())} if scales >= 3 else {}

    return rho, truth


def judged(found: cmlib.Decay, of: Case) -> dict:
    """Return the row of a case."""
    decided = found.kind != "undecided"
    wrong = decided and found.kind not in of.kinds
    if found.kind == "finite" == of.kinds[0] and np.isfinite(of.lag):
        wrong = found.lag != of.lag
    if found.kind == "plateau" == of.kinds[0] and np.isfinite(of.level):
        wrong = abs(found.level / of.level - 1) > 0.1
    held = ""
    for value, interval in ((of.rate, found.rate_interval), (of.exponent, found.exponent_interval)):
        if decided and not wrong and np.isfinite(value) and np.isfinite(interval).all():
            held = int(interval[0] <= value <= interval[1])
    value = [v for v in (found.rate, found.exponent, found.lag, found.level, found.period) if np.isfinite(v)]
    true = [v for v in (of.rate, of.exponent, of.lag, of.level) if np.isfinite(v)]
    return {
        "seed": of.seed, "kernel": of.kernel, "length": of.length, "noise": of.noise, "wave": of.wave,
        "truth": "|".join(of.kinds), "decidable": int(of.decidable), "said": found.kind,
        "wrong": int(wrong), "held": held,
        "true_value": f"{true[0]:.6g}" if true else "", "value": f"{value[0]:.6g}" if value else "",
    }  # fmt: skip


def shares(rows: list[dict], key: str) -> dict[str, dict]:
    """Return value of a column -> how many cases, verdicts, wrong ones, undecided of the decidable, intervals."""
    found = {}
    for value in dict.fromkeys(row[key] for row in rows):
        here = [row for row in rows if row[key] == value]
        decided = [row for row in here if row["said"] != "undecided"]
        decidable = [row for row in here if int(row["decidable"])]
        held = [int(row["held"]) for row in here if row["held"] != ""]
        found[str(value)] = {
            "cases": len(here),
            "decided": len(decided),
            "wrong": sum(int(row["wrong"]) for row in decided),
            "decidable": len(decidable),
            "undecided of these": sum(row["said"] == "undecided" for row in decidable),
            "intervals": len(held),
            "held": sum(held),
        }
    return found


def code() -> str:
    """Return the digest of what makes the table: the rule, the laws, the modes and the cases."""
    paths = (*(ROOT / "cmlib" / name for name in ("decay.py", "laws.py", "modes.py")), Path(__file__))
    return digest(*(what_runs(ast.parse(path.read_text(encoding="utf-8"))) for path in paths))


def main() -> None:
    began, rows = time.process_time(), []
    for seed in range(FIRST, FIRST + CASES):
        of = case(seed)
        rows.append(judged(cmlib.decay(of.curve, confidence=CONFIDENCE), of))
        if len(rows) % 200 == 0:
            print(f"{len(rows)} of {CASES} cases, {time.process_time() - began:.0f} s", flush=True)
    with open(TABLE.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    said = [*dict.fromkeys(row["said"] for row in sorted(rows, key=lambda row: row["said"]))]
    confusion = {
        kernel: {kind: sum(row["kernel"] == kernel and row["said"] == kind for row in rows) for kind in said}
        for kernel in KERNELS
    }
    whole = shares([row | {"all": "all"} for row in rows], "all")["all"]
    by = {key: shares(rows, key) for key in ("kernel", "noise", "wave", "length")}
    summary = {"code": code(), "first seed": FIRST, "all": whole, "by": by, "confusion": confusion}
    TABLE.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for key, values in {"all": {"all": whole}, **by}.items():
        for value, share in values.items():
            print(f"{key:8} {value:14} " + ", ".join(f"{name} {n}" for name, n in share.items()))


if __name__ == "__main__":
    main()
