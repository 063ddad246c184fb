"""Claims: what a chapter says about a number it has just computed, checked on the spot and recorded."""

import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

# A number that may differ between machines stands between these; tests/nbval_sanitize.cfg masks it.
_OPEN, _CLOSE = "⟨", "⟩"


class ClaimFailed(AssertionError):
    """A measured value lies outside what its claim allows."""


@dataclass(frozen=True)
class Claim:
    """One checked statement; `measured` is a number, a bool or, as JSON has none, "inf", "-inf", "nan"."""

    id: str
    measured: float | int | bool | str
    expected: str
    passed: bool
    source: str
    says: str
    exact: bool

    def __str__(self) -> str:
        value = str(self.measured) if self.exact else f"{_OPEN}{round_for_print(self.measured)}{_CLOSE}"
        return f"{self.id} · measured {value} · expected {self.expected} · {'PASS' if self.passed else 'FAIL'}"


def round_for_print(measured: float | int | bool | str) -> str:
    """Return a measured value as pages show it: floats to three significant digits."""
    return f"{measured:.3g}" if isinstance(measured, float) else str(measured)


def check(
    id: str,
    value: float | int | bool,
    *,
    below: float | None = None,
    above: float | None = None,
    equal: float | int | bool | None = None,
    within: float | None = None,
    exact: bool = False,
    source: str,
    says: str,
) -> Claim:
    """Check that above < value < below, or |value - equal| <= within; print one line and record it.

    Args:
        id: letters, digits, hyphens and dots, e.g. "B-F1b-left-shift"; a second check replaces the first.
        exact: print the value in full, for numbers that are the same on every machine.
        source: the statement or figure checked, e.g. "wang2024inverse, Fig. 1b".
        says: the claim in one sentence, for the scorecard.

    Raises:
        ValueError: on arguments that state no claim.
        ClaimFailed: after recording, when the claim does not hold; NaN never does.
    """
    if not isinstance(id, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", id):
        raise ValueError(f"expected id of letters, digits, hyphens and dots, got {id!r}")
    for name, text in (("source", source), ("says", says)):
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise ValueError(f"expected {name} to be one line of text, got {text!r}")
    value = _number("value", value)
    below, above, equal, within = (
        None if bound is None else _number(name, bound)
        for name, bound in (("below", below), ("above", above), ("equal", equal), ("within", within))
    )
    expected = _expected(value, below, above, equal, within)
    if equal is None:
        passed = (below is None or value < below) and (above is None or value > above)
    else:
        passed = value == equal or (within is not None and abs(value - equal) <= within)
    claim = Claim(id, _json_safe(value), expected, bool(passed) and value == value, source, says, bool(exact))
    _record(claim)
    print(claim)
    if not claim.passed:
        raise ClaimFailed(str(claim))
    return claim


def output_folder() -> Path:
    """Return where this run's claims and figures go: $CMLIB_OUTPUT, or ./cmlib-output."""
    return Path(os.environ.get("CMLIB_OUTPUT") or "cmlib-output")


def _number(name: str, value: object) -> float | int | bool:
    # numpy scalars and one-element tensors come down to Python's own numbers
    item = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if not isinstance(item, bool | int | float):
        raise ValueError(f"expected {name} to be one real number or a bool, got {value!r}")
    if name != "value" and isinstance(item, float) and math.isnan(item):
        raise ValueError(f"expected {name} to be a number, got nan")
    return item


def _expected(value, below, above, equal, within) -> str:
    if equal is None:
        if within is not None:
            raise ValueError("expected within only together with equal")
        if below is None and above is None:
            raise ValueError("expected a bound: below, above or equal")
        if isinstance(value, bool):
            raise ValueError(f"expected equal=True or equal=False for a bool, got {value!r} with a bound")
        if below is not None and above is not None:
            if not above < below:
                raise ValueError(f"expected above < below, got above={above!r} and below={below!r}")
            return f"in ({above:g}, {below:g})"
        return f"< {below:g}" if above is None else f"> {above:g}"
    if below is not None or above is not None:
        raise ValueError("expected either equal or below and above, got both")
    if isinstance(value, bool) != isinstance(equal, bool):
        raise ValueError(f"expected a bool to be compared with a bool, got {value!r} and equal={equal!r}")
    if within is None:
        return f"= {equal}"
    if within < 0:
        raise ValueError(f"expected within >= 0, got {within!r}")
    return f"= {equal} ± {within:g}"


def _json_safe(value: float | int | bool) -> float | int | bool | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _record(claim: Claim) -> None:
    path = output_folder() / "claims.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    # a repeated check keeps its place, so that running a cell twice changes no order
    records = {record["id"]: record for record in records} | {claim.id: asdict(claim)}
    text = json.dumps(list(records.values()), indent=1, ensure_ascii=False, allow_nan=False)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
