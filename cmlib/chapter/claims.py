"""Evidence: what a chapter says about a number it has just computed, judged on the spot and recorded.

A *check* is an identity, or two routes to one number: only a bug breaks it. A *claim* could have come out otherwise: it
names a rival, and passes only if it holds for its object and fails for the rival. Neither stops a chapter. What each of
them says, and against which rival, stands in a table of the chapter beside it.
"""

import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

# A number that may differ between machines stands between these; tests/nbval_sanitize.cfg masks it.
_OPEN, _CLOSE = "⟨", "⟩"
LEAST_SEEDS = 5
# of the one-sided interval for a share
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """A measured number: its value; over an ensemble the mean or the share, the spread, and how many."""

    value: float | int | bool | str | None  # "inf", "-inf", "nan" where JSON has no number; None: not computed
    spread: float | str | None = None
    n: int | None = None

    def __str__(self) -> str:
        about = "" if self.n is None else f" ± {shown(self.spread)} (n = {self.n})"
        return f"{_OPEN}{shown(self.value)}{about}{_CLOSE}" if _inexact(self.value) else f"{self.value}{about}"


@dataclass(frozen=True)
class Evidence:
    """One judged statement; passed is None where the ensemble is too small to say."""

    id: str
    kind: str  # "check" or "claim"
    measured: Sample
    expected: str
    bounds: dict[str, float | int | bool]
    passed: bool | None
    rival: Sample | None = None

    @property
    def verdict(self) -> str:
        return {True: "PASS", False: "FAIL", None: "OPEN"}[self.passed]

    def _ipython_display_(self) -> None:
        """Show nothing where it ends a cell: what there is to say has been printed."""

    def __str__(self) -> str:
        rival = "" if self.rival is None else f" · rival {self.rival}"
        return f"{self.kind} {self.id} · {self.measured} · expected {self.expected}{rival} · {self.verdict}"


def shown(value: Any) -> str:
    """Return a measured value as pages show it: floats to three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def check(id: str, value: Any, *, below=None, above=None, equal=None, within=None) -> Evidence:
    """Judge an identity or two routes to one number: above < value < below, or |value - equal| <= within.

    Args:
        id: letters, digits, hyphens and dots, e.g. "hankel-two-routes"; a second one of an id replaces the first.
        value: a number or a bool, of which NaN never passes; None for what this run did not compute, which stays open.

    Raises:
        ValueError: on arguments that state nothing.
    """
    bounds = _bounds(below, above, equal, within)
    measured = Sample(None if value is None else _json_safe(_number("value", value)))
    passed = None if value is None else _inside(measured, bounds)
    return _recorded(Evidence(_named(id), "check", measured, _expected(bounds), bounds, passed))


def claim(id: str, value: Any, *, rival: Any, below=None, above=None, equal=None, within=None) -> Evidence:
    """Judge evidence that could have come out otherwise: it holds for value and fails for rival.

    Args:
        id: as for `check`.
        value: a number; or one for each member of an ensemble, (n,), judged by their mean, which must hold by at least
            their standard deviation; or a bool for each, judged by their share within its 95 % binomial bound.
        rival: the same number of the object for which the claim must fail, by its own spread.

    Raises:
        ValueError: on arguments that state nothing.
    """
    bounds = _bounds(below, above, equal, within)
    measured, against = _sample("value", value, bounds), _sample("rival", rival, bounds)
    return _recorded(
        Evidence(_named(id), "claim", measured, _expected(bounds), bounds, judged(measured, against, bounds), against)
    )


def judged(measured: Sample, rival: Sample, bounds: dict) -> bool | None:
    """Return whether a claim holds for its object and fails for its rival, each by its spread; None if n is small."""
    if any(sample.n is not None and sample.n < LEAST_SEEDS for sample in (measured, rival)):
        return None
    holds = _inside(measured, bounds) and _margin(measured, bounds) >= float(measured.spread or 0)
    # a rival that gives no number shows nothing
    fails = not _inside(rival, bounds) and -_margin(rival, bounds) >= float(rival.spread or 0)
    return holds and fails


def output_folder() -> Path:
    """Return where this run's evidence and figures go: $CMLIB_OUTPUT, or ./cmlib-output."""
    return Path(os.environ.get("CMLIB_OUTPUT") or "cmlib-output")


def _inexact(value: Any) -> bool:
    return isinstance(value, float | str)


def _inside(sample: Sample, bounds: dict) -> bool:
    margin = _margin(sample, bounds)
    return margin >= 0 if "equal" in bounds else margin > 0


def _margin(sample: Sample, bounds: dict) -> float:
    """Distance to the nearest bound, negative outside; nan stays nan."""
    assert sample.value is not None
    value = float(sample.value)
    if "equal" in bounds:
        return bounds.get("within", 0.0) - abs(value - bounds["equal"])
    ends = [value - bounds["above"]] if "above" in bounds else []
    return min(ends + ([bounds["below"] - value] if "below" in bounds else []))


def _sample(name: str, value: Any, bounds: dict) -> Sample:
    if np.ndim(value) == 0:
        return Sample(_json_safe(_number(name, value)))
    values = np.asarray(value)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "biuf":
        raise ValueError(f"expected {name} to be one number, or those of an ensemble (n,), got {value!r}")
    n = values.size
    if values.dtype.kind == "b":
        if "equal" in bounds:
            raise ValueError(f"expected a share to be judged by above or below, got equal={bounds['equal']!r}")
        from scipy import stats  # here, because it takes a second, which few chapters need

        hits = int(values.sum())
        least = stats.beta.ppf(1 - CONFIDENCE, hits, n - hits + 1) if hits else 0.0
        most = stats.beta.ppf(CONFIDENCE, hits + 1, n - hits) if hits < n else 1.0
        share = hits / n
        # the end of the interval that the bound lies towards
        down = "above" in bounds and share > bounds["above"] or "below" in bounds and share >= bounds["below"]
        return Sample(share, float(share - least if down else most - share), n)
    if (values == values[0]).all():  # of one member alone, or infinite throughout
        return Sample(_json_safe(float(values[0])), 0.0, n)
    with np.errstate(invalid="ignore"):
        return Sample(_json_safe(float(values.mean())), _json_safe(float(values.std(ddof=1))), n)


def _named(id: str) -> str:
    if not isinstance(id, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", id):
        raise ValueError(f"expected id of letters, digits, hyphens and dots, got {id!r}")
    return id


def _number(name: str, value: Any) -> float | int | bool:
    # numpy scalars and one-element tensors come down to Python's own numbers
    item = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if not isinstance(item, bool | int | float):
        raise ValueError(f"expected {name} to be one real number or a bool, got {value!r}")
    if name not in ("value", "rival") and isinstance(item, float) and math.isnan(item):
        raise ValueError(f"expected {name} to be a number, got nan")
    return item


def _json_safe(value: float | int | bool) -> float | int | bool | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _bounds(below, above, equal, within) -> dict:
    given = {"below": below, "above": above, "equal": equal, "within": within}
    bounds = {name: _number(name, bound) for name, bound in given.items() if bound is not None}
    if "equal" in bounds and ("below" in bounds or "above" in bounds):
        raise ValueError("expected either equal or below and above, got both")
    if "within" in bounds and ("equal" not in bounds or not bounds["within"] >= 0):
        raise ValueError(f"expected within >= 0, and only together with equal, got {within!r}")
    if not bounds:
        raise ValueError("expected a bound: below, above or equal")
    if "below" in bounds and "above" in bounds and not above < below:
        raise ValueError(f"expected above < below, got above={above!r} and below={below!r}")
    return bounds


def _expected(bounds: dict) -> str:
    if "equal" in bounds:
        return f"= {bounds['equal']}" + (f" ± {bounds['within']:g}" if "within" in bounds else "")
    if len(bounds) == 2:
        return f"in ({bounds['above']:g}, {bounds['below']:g})"
    return f"< {bounds['below']:g}" if "below" in bounds else f"> {bounds['above']:g}"


def _recorded(evidence: Evidence) -> Evidence:
    path = output_folder() / "claims.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    # a repeated one keeps its place, so that running a cell twice changes no order
    records = {record["id"]: record for record in records} | {evidence.id: asdict(evidence)}
    text = json.dumps(list(records.values()), indent=1, ensure_ascii=False, allow_nan=False)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    print(evidence)
    return evidence
