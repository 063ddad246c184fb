"""Ensembles: what an experiment gives for many seeds, read from a committed table or computed on the spot.

An experiment is a function of a seed and of keyword values that returns rows: dicts in which texts and whole numbers
say what a row is about, and numbers with a point, bools and arrays are what was measured. `make lab` runs it for every
seed, or for every part of every seed, one resumable job each, and writes the tables as rows come; the same call in a
chapter reads them.
"""

import csv
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Rows:
    """A tidy table: columns by name, each (n_rows,) or, for curves and weights, (n_rows, ...).

    Args:
        live_gap: by how many of the table's spreads the seeds computed here differ from it; None where none was.
        origin: one sentence on where the rows come from.
    """

    columns: dict[str, np.ndarray]
    live_gap: float | None = None
    origin: str = ""
    keys: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        names = [name for name, column in self.columns.items() if column.ndim == 1 and column.dtype.kind in "iU"]
        object.__setattr__(self, "keys", tuple(names))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["seed"])

    def where(self, **keys: Any) -> "Rows":
        """Return the rows with these keys.

        Raises:
            ValueError: when there is none.
        """
        chosen = np.ones(len(self), dtype=bool)
        for name, wanted in keys.items():
            chosen &= self.columns[name] == wanted
        if not chosen.any():
            raise ValueError(f"expected rows with {keys}, found none among {len(self)}")
        return Rows({name: column[chosen] for name, column in self.columns.items()}, self.live_gap, self.origin)

    def by_seed(self, name: str, **keys: Any) -> np.ndarray:
        """Return a column as (n_seeds, n, ...): the rows with these keys, seeds in order, n in the table's order.

        Seeds that lack rows which others have, as they do in a table that is not finished, are left out.
        """
        rows = self.where(**keys)
        seeds, counts = np.unique(rows["seed"], return_counts=True)
        return np.stack([rows[name][rows["seed"] == seed] for seed in seeds[counts == counts.max()]])


def ensemble(
    name: str,
    experiment: Callable[..., list[dict]],
    seeds: int,
    *,
    parts: dict[str, list] | None = None,
    live: int = 0,
    **values: Any,
) -> Rows:
    """Return the rows of an experiment for the seeds 0, 1, ...: from results/, or computed here for want of them.

    Args:
        name: of the table, as results/NAME.csv.
        experiment: called as experiment(seed=seed, **part, **values), and with device="cpu", or what `make lab` was
            asked for, if it has such a parameter; returns one row or more, with the same columns.
        seeds: how many of the table's are read; it may hold fewer until `make lab` has run.
        parts: keyword -> list; each combination is one part of a seed, and one part of one seed is a job.
        live: how many of the table's jobs are computed here as well and compared with it.
        values: numbers, texts or lists of them; other values or parts than the table's own have no rows there, and are
            computed here for max(live, 1) seeds.

    Raises:
        ValueError: on rows that are no table.
    """
    parts = parts or {}
    n_parts = len(combinations(parts))
    if wanted := os.environ.get("CMLIB_ENSEMBLE"):  # a job of the training stage: one part of one seed, and done
        job = json.loads(wanted)
        if job["name"] == name:
            columns = _columns(experiment, [job["job"]], parts, values)
            raise Done(columns, values, parts, _device(experiment).get("device"))
        live = 0
    table, jobs = _read(name, parts, values, seeds * n_parts)
    if not jobs:
        count = max(live, 1)
        origin = f"{name}: no rows for these values in results/; {count} of {seeds} seeds computed here"
        print(origin)
        return Rows(_columns(experiment, range(count * n_parts), parts, values), origin=origin)
    table = {column: rows[table["seed"] < seeds] for column, rows in table.items()}
    whole = len(jobs) == seeds * n_parts
    amount = f"{seeds} seeds" + (f" of {n_parts} parts" if parts else "")
    origin = f"{name}: {amount if whole else f'{len(jobs)} of {seeds * n_parts} jobs'} from results/{name}.csv"
    gap = None
    if live:
        gap = spreads_apart(_columns(experiment, jobs[:live], parts, values), table)
        origin += f", {len(jobs[:live])} of them computed again here"
    if not whole:
        origin += "; make lab computes the rest"
    print(origin)
    return Rows(table, gap, origin)


def gathered(name: str) -> Rows:
    """Return the rows of another chapter's ensemble, as results/ holds them.

    Raises:
        ValueError: when results/ has no table of this name.
    """
    folder = results_folder()
    if folder is None or not (folder / f"{name}.csv").exists():
        raise ValueError(f"expected the table results/{name}.csv of the book, found none")
    return Rows(read_columns(folder / name), origin=f"{name}: results/{name}.csv")


class Done(Exception):
    """Ends a job of the training stage with its columns, values, parts, and the device that it was given or None."""


def combinations(parts: dict[str, list]) -> list[dict[str, Any]]:
    """Return the parts of a seed in the order of their numbers: job = seed * n_parts + number, the last key fastest."""
    return [dict(zip(parts, chosen, strict=True)) for chosen in itertools.product(*parts.values())]


def spreads_apart(again: dict[str, np.ndarray], table: dict[str, np.ndarray]) -> float:
    """Return how far rows computed again lie from the ensemble: the worst column's root mean square over rows.

    In units of the standard deviation between seeds; positive columns that span a decade are compared by logarithm.

    Raises:
        ValueError: on other columns than the table's.
    """
    if table.keys() != again.keys():
        raise ValueError(f"expected the columns {list(table)}, got {list(again)}")
    keys = Rows(table).keys
    groups = _groups(table, [key for key in keys if key != "seed"])
    found = []
    for name, column in table.items():
        if name in keys or column.ndim != 1 or column.dtype.kind not in "fb":
            continue
        here, column = again[name].astype(float), column.astype(float)
        if (column > 0).all() and (here > 0).all() and column.max() > 10 * column.min():
            here, column = np.log(here), np.log(column)
        squares = []
        for group, value in zip(_groups(again, [key for key in keys if key != "seed"]), here, strict=True):
            same = np.array([other == group for other in groups])
            if not same.any():
                return float("inf")
            mean, spread = column[same].mean(), column[same].std(ddof=1) if same.sum() > 1 else 0.0
            # what does not vary with the seed is equal to its last digits; a verdict may turn once
            floor = 0.25 if table[name].dtype.kind == "b" else 1e-6 * max(1.0, abs(mean))
            alike = value == mean or (np.isnan(value) and np.isnan(mean))
            squares.append(0.0 if alike else ((value - mean) / max(spread, floor)) ** 2)
        found.append(np.sqrt(np.mean(squares)))
    return float(np.nan_to_num(found, nan=np.inf, posinf=np.inf).max()) if found else 0.0


def results_folder() -> Path | None:
    """Return the project's results/: $CMLIB_RESULTS, or that of the nearest folder above; None outside it."""
    if given := os.environ.get("CMLIB_RESULTS"):
        return Path(given)
    above = (folder / "results" for folder in (Path.cwd(), *Path.cwd().parents))
    return next((folder for folder in above if (folder.parent / "_toc.yml").exists()), None)


def _groups(columns: dict, keys: Sequence[str]) -> list[tuple]:
    return list(zip(*(columns[key].tolist() for key in keys), strict=True)) if keys else [()] * len(columns["seed"])


def _device(experiment: Callable) -> dict[str, str]:
    takes = "device" in inspect.signature(experiment).parameters
    return {"device": os.environ.get("CMLIB_DEVICE") or "cpu"} if takes else {}


def _columns(experiment: Callable, jobs: Iterable[int], parts: dict, values: dict) -> dict[str, np.ndarray]:
    given, device = combinations(parts), _device(experiment)
    rows = []
    for job in jobs:
        seed, part = divmod(job, len(given))
        rows += [{"seed": seed} | row for row in experiment(seed=seed, **given[part], **device, **values)]
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"expected rows of the same columns, got {[list(row) for row in rows[:3]]}")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name, column in columns.items():  # a text that reads as a number would not come back as a text
        if column.dtype.kind == "U" and column.ndim == 1 and _typed(tuple(column.tolist())).dtype.kind != "U":
            raise ValueError(f"expected texts that are no numbers in {name}, got {column[:3].tolist()}")
    return columns


def _read(name: str, parts: dict, values: dict, n_jobs: int) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return the columns of the table with these parts and values, and which of the first n_jobs are in it."""
    folder = results_folder()
    if folder is None or not (folder / f"{name}.json").exists():
        return {}, []
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    asked = json.loads(json.dumps([parts, values], default=lambda value: value.tolist()))
    if [record["parts"], record["values"]] != asked:
        return {}, []
    return read_columns(folder / name), [job for job in map(int, record["jobs"]) if job < n_jobs]


def read_columns(stem: Path) -> dict[str, np.ndarray]:
    """Return the columns of stem.csv, and of stem.npz where there is one."""
    with stem.with_name(stem.name + ".csv").open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    columns = {name: _typed(column) for name, column in zip(head, zip(*lines, strict=True), strict=True)}
    arrays = stem.with_name(stem.name + ".npz")
    if arrays.exists():
        with np.load(arrays) as file:
            columns |= {name: file[name] for name in file.files}
    return columns


def write_columns(stem: Path, columns: dict[str, np.ndarray]) -> list[Path]:
    """Write one number or word a row to stem.csv and everything longer to stem.npz; return the files."""
    short = {name: column for name, column in columns.items() if column.ndim == 1}
    with stem.with_name(stem.name + ".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(short)
        writer.writerows(zip(*(column.tolist() for column in short.values()), strict=True))
    written = [stem.with_name(stem.name + ".csv")]
    stem.with_name(stem.name + ".npz").unlink(missing_ok=True)
    long: dict[str, Any] = {name: column for name, column in columns.items() if column.ndim > 1}
    if long:  # beside them numpy takes options by name
        np.savez_compressed(stem.with_name(stem.name + ".npz"), **long)
        written.append(stem.with_name(stem.name + ".npz"))
    return written


def _typed(column: tuple[str, ...]) -> np.ndarray:
    if set(column) <= {"True", "False"}:
        return np.array([text == "True" for text in column])
    for kind in (int, float):
        try:
            return np.array([kind(text) for text in column])
        except ValueError:
            continue
    return np.array(column)
