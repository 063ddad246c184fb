"""The numbers drawn in the figures: committed with the book, and compared with those of another run."""

import csv
import gzip
import hashlib
import json
from pathlib import Path

from chapters import ROOT

FIGURES = ROOT / "results" / "figures"


def kept_at(chapter: str) -> Path:
    return FIGURES / f"{chapter.replace('/', '-')}.json.gz"


def kept(chapter: str) -> dict[str, dict[str, list]]:
    """Return figure -> column -> numbers, as committed with the chapter."""
    path = kept_at(chapter)
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else {}


def keep(chapter: str, numbers: dict) -> None:
    """Write the numbers of a chapter's figures; the same ones leave the file as it is."""
    path = kept_at(chapter)
    if not path.exists() or kept(chapter) != numbers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps(numbers, sort_keys=True).encode(), mtime=0))


def numbers_digest(numbers: dict) -> str:
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]


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
