"""Checks and claims of a chapter: the tables that declare them, joined with what its run measured."""

import math
import re
from pathlib import Path

from notebooks import read_notebook, record_of, source

KINDS = ("check", "claim")
HEADS = {"Check": "check", "Claim": "claim"}
LEAST_SEEDS = 5


def declared(notebook: dict) -> list[dict]:
    """Return the rows of the tables headed Check or Claim in the chapter's text, in reading order.

    | Claim | Fails for | Source |                      | Check | Source |
    |:--|:--|:--|                                       |:--|:--|
    | **id** what it says | its rival | key, Thm 1 |    | **id** what it says | key, Thm 1 |

    Raises:
        ValueError: on a row that lacks one of these, or an id declared twice.
    """
    rows = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            rows += [row for table in tables(source(cell)) for row in table[1]]
    ids = [row["id"] for row in rows]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise ValueError(f"declared twice: {', '.join(twice)}")
    return rows


def tables(text: str) -> list[tuple[tuple[int, int], list[dict]]]:
    """Return ((first, last line), rows) of each evidence table of a markdown text."""
    lines, found, at, fenced = text.splitlines(), [], 0, False
    while at < len(lines):
        fenced ^= lines[at].lstrip().startswith("```")
        cells = _cells(lines[at])
        if cells and cells[0] in HEADS and not fenced:
            kind, first, rows = HEADS[cells[0]], at, []
            if at + 1 == len(lines) or not re.fullmatch(r"[|:\-\s]+", lines[at + 1]):
                raise ValueError(f"expected |:--|:--| under {lines[at]!r}")
            at += 2
            while at < len(lines) and lines[at].startswith("|"):
                rows.append(_row(kind, lines[at]))
                at += 1
            found.append(((first, at), rows))
        else:
            at += 1
    return found


def _cells(line: str) -> list[str]:
    # a bar inside mathematics is written \\mid or \\vert, so that it ends no cell
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def _row(kind: str, line: str) -> dict:
    cells, wanted = _cells(line), 3 if kind == "claim" else 2
    found = re.fullmatch(r"\*\*([A-Za-z0-9][A-Za-z0-9.-]*)\*\* (.+)", cells[0])
    if found is None or len(cells) != wanted or not all(cells):
        shape = "| **id** what it says |" + (" its rival |" if kind == "claim" else "") + " source |"
        raise ValueError(f"expected a {kind} as {shape}, got {line!r}")
    row = {"id": found[1], "kind": kind, "says": found[2], "source": cells[-1]}
    return row | ({"against": cells[1]} if kind == "claim" else {})


def evidence_at(path: Path) -> list[dict]:
    """Return the evidence of a notebook file.

    Raises:
        ValueError: as `evidence_of`, naming the file.
    """
    try:
        return evidence_of(read_notebook(path))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from None


def evidence_of(notebook: dict) -> list[dict]:
    """Return each declared statement with what was measured, its verdict worked out anew from the numbers.

    Raises:
        ValueError: when a measured statement is not declared, or is one of another kind.
    """
    measured = {record["id"]: record for record in record_of(notebook).get("claims", [])}
    rows = declared(notebook)
    known = {row["id"]: row["kind"] for row in rows}
    for id, record in measured.items():
        if known.get(id) != record.get("kind"):
            raise ValueError(f"{record.get('kind')} {id} was measured, and no table of the chapter declares it so")
    return [row | judged(measured.get(row["id"])) for row in rows]


def judged(record: dict | None) -> dict:
    """Return what a record measured with the verdict that its numbers give, whatever it says of itself."""
    if record is None:
        return {"measured": None, "expected": "", "rival": None, "verdict": "NOT REACHED"}
    passed = verdict(record)
    word = {True: "PASS", False: "FAIL", None: "OPEN"}[passed]
    return {key: record.get(key) for key in ("measured", "rival", "expected", "bounds")} | {"verdict": word}


def verdict(record: dict) -> bool | None:
    """Return whether the numbers of a record hold, worked out apart from the library that wrote them."""
    if record["measured"]["value"] is None:
        return None
    bounds, rival = record["bounds"], record.get("rival")
    samples = [sample for sample in (record["measured"], rival) if sample]
    if record["kind"] == "claim" and any(sample["n"] is not None and sample["n"] < LEAST_SEEDS for sample in samples):
        return None
    room = [distance(sample, bounds) for sample in samples]  # nan is nowhere, and larger than nothing
    spread = [float(sample["spread"] or 0) for sample in samples]
    on_the_edge = "equal" in bounds  # |value - equal| <= within takes its ends; above < value < below does not
    holds = room[0] >= spread[0] and (room[0] > 0 or (on_the_edge and room[0] == 0))
    if record["kind"] == "check":
        return holds
    fails = -room[1] >= spread[1] and (room[1] < 0 or (not on_the_edge and room[1] == 0))
    return holds and fails


def distance(sample: dict, bounds: dict) -> float:
    """Return how far inside its bounds a number lies, negative outside."""
    value = float(sample["value"])
    if math.isnan(value):
        return math.nan
    if "equal" in bounds:
        return bounds.get("within", 0) - abs(value - bounds["equal"])
    return min(sign * (bounds[end] - value) for end, sign in (("below", 1), ("above", -1)) if end in bounds)


def tally(evidence: list[dict]) -> str:
    """Return "4 claims, 4 pass · 7 checks, 7 pass", and what failed, stayed open or was not reached."""
    parts = []
    for kind, plural in (("claim", "claims"), ("check", "checks")):
        own = [row for row in evidence if row["kind"] == kind]
        words = [f"{len(own)} {plural if len(own) != 1 else kind}", f"{sum(r['verdict'] == 'PASS' for r in own)} pass"]
        for word in ("FAIL", "OPEN", "NOT REACHED"):
            if count := sum(row["verdict"] == word for row in own):
                words.append(f"{count} {word}")
        parts.append(", ".join(words))
    return " · ".join(parts)
