"""Compare what nbval does not: the numbers between ⟨ and ⟩, and those drawn in the figures.

python workflow/compare.py FOLDER     figures of another run against results/figures; exit status 1 if any differs

A number may move by TOLERANCE of its size, or by twice what `make drift` saw it move between machines; numbers below
SMALL are rounding errors, alike whatever their digits.
"""

import json
import re
import sys
from pathlib import Path

from chapters import ROOT, chapters
from figure_data import gathered, kept

TOLERANCE, SMALL = 0.02, 1e-9
MOVES = ROOT / "results" / "drift-numbers.json"
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf)|nan", re.IGNORECASE)


def printed_numbers(outputs: list[dict]) -> list[float]:
    """Return the numbers between ⟨ and ⟩ in what a cell printed and showed as text.

    Those of checks are left out: they are gaps, of which the bound and the verdict are compared.
    """
    texts = ["".join(out.get("text", "")) for out in outputs if out["output_type"] == "stream"]
    texts += ["".join(out.get("data", {}).get("text/plain", "")) for out in outputs]
    texts = [re.sub(r"^check .*$", "", text, flags=re.MULTILINE) for text in texts]
    masked = [inside for text in texts for inside in re.findall(r"⟨([^⟩]*)⟩", text)]
    return [float(found.replace("\N{MINUS SIGN}", "-")) for inside in masked for found in NUMBER.findall(inside)]


def move(one: float, other: float) -> float:
    """Return by what part of its size a number moved; 0 for two that are both rounding errors."""
    if one == other or (one != one and other != other):
        return 0.0
    size = max(abs(one), abs(other))
    return 0.0 if size < SMALL else abs(one - other) / size if size < float("inf") else float("inf")


def allowed(moves: dict, place: str) -> float:
    return max(TOLERANCE, 2 * moves.get(place, 0.0))


def known_moves() -> dict[str, float]:
    """Return place -> the largest move that drift saw there, where it is more than a last digit."""
    return json.loads(MOVES.read_text(encoding="utf-8")) if MOVES.exists() else {}


def cells_apart(chapter: str, number: int, kept: list[dict], found: list[dict]) -> list[str]:
    """Return what differs between a code cell's outputs and those of another run."""
    before, after, moves = printed_numbers(kept), printed_numbers(found), known_moves()
    if len(before) != len(after):
        return [f"{len(before)} numbers between ⟨ and ⟩ became {len(after)}"]
    pairs = enumerate(zip(before, after, strict=True))
    return [
        f"⟨{one:g}⟩ became ⟨{other:g}⟩"
        for i, (one, other) in pairs
        if move(one, other) > allowed(moves, f"{chapter} cell {number} number {i}")
    ]


def columns_apart(figure: str, kept: dict, found: dict) -> dict[str, float]:
    """Return column -> how far it moved, as a part of the column's largest number; inf for one of another form."""
    apart = {}
    for name in kept.keys() | found.keys():
        one, other = kept.get(name, []), found.get(name, [])
        place = f"{figure}, {name}"
        if len(one) != len(other):
            apart[place] = float("inf")
            continue
        try:
            pairs = [(float(a), float(b)) for a, b in zip(one, other, strict=True)]
        except ValueError:  # words
            apart[place] = 0.0 if one == other else float("inf")
            continue
        sizes = [abs(a) for a, _ in pairs if abs(a) < float("inf")]
        scale = max(sizes, default=0.0)
        gaps = [0.0 if a == b or (a != a and b != b) else abs(a - b) for a, b in pairs]
        # curves that fall over decades are compared point by point, others by their height
        near = [min(gap / scale if scale else 0.0, move(a, b)) for gap, (a, b) in zip(gaps, pairs, strict=True)]
        apart[place] = max((gap if gap == gap else float("inf") for gap in near), default=0.0)
    return apart


def figures_apart(folder: Path) -> list[str]:
    """Return what differs between the committed data of the figures and those found in a folder."""
    found, moves, problems = gathered(folder), known_moves(), []
    for chapter in chapters():
        for figure, columns in kept(chapter).items():
            if figure not in found:
                problems.append(f"{figure}: no data")
                continue
            apart = columns_apart(figure, columns, found[figure])
            problems += [f"{place}: moved by {by:.2g}" for place, by in apart.items() if by > allowed(moves, place)]
    return problems


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python workflow/compare.py FOLDER, which holds figures with their data")
    different = figures_apart(Path(sys.argv[1]))
    for line in different:
        print(line)
    print(f"data of the figures: {'differ' if different else 'as committed'}")
    sys.exit(1 if different else 0)
