"""The numbers drawn in the figures: committed with the book, and compared with those of another run."""

import csv
from pathlib import Path

from chapters import ROOT

FIGURES = ROOT / "results" / "figures"


def gathered(folder: Path) -> dict[str, dict[str, list]]:
    """Return figure -> column -> numbers, to seven digits, of the CSV and NPZ files in a folder."""
    import numpy as np

    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        found[path.stem] = {name: _plain(column) for name, column in zip(head, zip(*rows, strict=True), strict=True)}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            found[path.stem] = {name: _plain(file[name].ravel().tolist()) for name in file.files}
    return found


def _plain(column) -> list:
    # as text, since JSON has no infinity and no nan
    return [_digits(value) for value in column]


def _digits(value: object) -> str:
    try:
        return f"{float(value):.7g}"
    except ValueError:
        return str(value)
