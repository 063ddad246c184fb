"""One figure of the book again, with other values: execute the cells it needs, and show it beside the book's.

make figure ID=B-F2 ARGS="-p exponent 2"        python workflow/figure.py B-F2 -p exponent 2

ID is the name a figure is saved by, its name on the page (fig-b-f2), or that of its card in the atlas. What the last
run of each figure left is in _build/figure/ID, with compare.html; `make site` adds it to one's own site.
"""

import argparse
import ast
import contextlib
import difflib
import io
import json
import os
import shlex
import shutil
import sys
import time
import traceback
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import yaml
from chapters import PRESETS, ROOT, chapters, preset_values, typed_values
from compare import columns_apart
from execute import first_line, literal, short
from figure_data import gathered, kept
from machine import machine
from notebooks import code_cells, default_values, read_notebook, source, tags
from own_values import OWN, beside
from slices import names_of, needed

ATLAS = ROOT / "book" / "atlas.yml"


@dataclass(frozen=True)
class Figure:
    """A figure of a chapter, and the number of its cell among those of code."""

    name: str
    chapter: str
    cell: int


def figures() -> dict[str, Figure]:
    """Return every figure by every name it has: as saved, on its page, in the atlas."""
    found = {}
    for chapter in chapters():
        for number, cell in enumerate(code_cells(read_notebook(ROOT / "book" / f"{chapter}.ipynb"))):
            for name in saved_by(source(cell)):
                found[name] = Figure(name, chapter, number)
                on_page = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
                found |= {on_page: found[name]} if on_page else {}
    for card in cards():
        if card.get("picture") in found:
            found.setdefault(card["id"], found[card["picture"]])
    return found


def cards() -> list[dict]:
    return yaml.safe_load(ATLAS.read_text(encoding="utf-8"))


def saved_by(code: str) -> list[str]:
    """Return the names of the figures that a cell saves."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and len(node.args) > 1]
    saving = [call for call in calls if ast.unparse(call.func) in ("figures.save", "movable")]
    return [call.args[1].value for call in saving if isinstance(call.args[1], ast.Constant)]


def known_figure(id: str) -> Figure:
    """Return the figure of this name, whatever its capitals.

    Raises:
        ValueError: naming the nearest ones.
    """
    known = {name.lower(): figure for name, figure in figures().items()}
    if id.lower() not in known:
        for card in cards():
            if card["id"].lower() == id.lower():
                raise ValueError(f"{card['id']}, {card['name']}, has a card in the atlas, but no picture")
        near = difflib.get_close_matches(id.lower(), known, n=4, cutoff=0.5)
        names = list(dict.fromkeys(known[name].name for name in near)) or sorted({f.name for f in known.values()})
        raise ValueError(f"no figure {id!r}; {'near it are' if near else 'the figures are'}: {', '.join(names)}")
    return known[id.lower()]


def cells_of(figure: Figure) -> tuple[list[dict], list[int]]:
    """Return the chapter's cells of code, and the numbers of those that the figure needs."""
    cells = code_cells(read_notebook(ROOT / "book" / f"{figure.chapter}.ipynb"))
    declaring = {number for number, cell in enumerate(cells) if "parameters" in tags(cell)}
    return cells, sorted(declaring | set(needed([source(cell) for cell in cells], figure.cell)))


def execute(figure: Figure, values: dict, folder: Path) -> Iterator[tuple[int, int, dict, float | None]]:
    """Execute the cells; yield the number of each among them, how many, and the cell, before it and with its seconds.

    Raises:
        RuntimeError: naming the cell that went wrong.
    """
    cells, chosen = cells_of(figure)
    os.environ |= {"CMLIB_OUTPUT": str(folder), "MPLBACKEND": "Agg"}
    about = {"preset": "own values", "machine": short(machine()), "parameters": values}
    os.environ["CMLIB_RUN"] = json.dumps({"chapter": figure.chapter} | about)  # for the provenance
    os.chdir(ROOT / "book" / Path(figure.chapter).parent)  # where the notebook's kernel works
    namespace = {"__name__": "__main__"}
    for i, number in enumerate(chosen, start=1):
        yield i, len(chosen), cells[number], None
        start = time.monotonic()
        try:
            exec(compile(source(cells[number]), f"<code cell {number + 1} of {figure.chapter}>", "exec"), namespace)
        except Exception as error:
            traceback.print_exc()
            line = first_line(source(cells[number]))
            text = f"in code cell [{number + 1}] `{line}`: {type(error).__name__}: {first_line(str(error))}"
            raise RuntimeError(text) from None
        if "parameters" in tags(cells[number]):
            namespace |= values
        yield i, len(chosen), cells[number], time.monotonic() - start


def draw(figure: Figure, values: dict, folder: Path, say=print) -> list[str]:
    """Leave the figure's files in a folder and return what was said of tables that hold no rows for these values.

    Raises:
        RuntimeError: when a cell went wrong, or the figure was not drawn.
    """
    run = folder / "run"
    run.mkdir(parents=True)
    with Log(folder / "log.txt") as log:
        for i, n, cell, seconds in _quietly(execute(figure, values, run), log):
            if seconds is None:
                say(f"{figure.name}  cell {i} of {n}  {first_line(source(cell))[:70]}", end="  ", flush=True)
            else:
                say(f"{seconds:.1f} s")
    files = list((run / "figures").glob(f"{figure.name}.*"))
    if not files:
        raise RuntimeError(f"{figure.chapter} draws no figure {figure.name} with these values")
    for file in files:
        file.rename(folder / file.name)
    shutil.rmtree(run)  # what the needed cells drew and judged on the way
    return log.notes


class Log(io.TextIOWrapper):
    """What the cells say. That an experiment is trained on the spot, for minutes perhaps, the terminal says at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("wb"), encoding="utf-8")
        self.terminal, self.notes = sys.stdout, []

    def write(self, text: str) -> int:
        if "no rows for these values in results/" in text:
            self.notes.append(text.strip())
            print(text.strip(), end="  ", file=self.terminal, flush=True)
        return super().write(text)


def _quietly(steps: Iterator, file: TextIO) -> Iterator:
    while True:
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("id", help="a figure's name, e.g. B-F2")
    parser.add_argument("--preset", default="book", choices=PRESETS, help="values of the other parameters")
    words = "a parameter of its chapter"
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=words)
    options = parser.parse_args()
    try:
        figure = known_figure(options.id)
        defaults = default_values(read_notebook(ROOT / "book" / f"{figure.chapter}.ipynb"))
        own = typed_values(figure.chapter, {name: literal(value) for name, value in options.p})
        values = defaults | preset_values(options.preset)[figure.chapter] | own
    except ValueError as error:
        print(f"figure: {error}", file=sys.stderr)
        return 2
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    folder = OWN / figure.name
    shutil.rmtree(folder, ignore_errors=True)
    start = time.monotonic()
    try:
        notes = draw(figure, values, folder)
    except RuntimeError as error:
        print(f"\nfigure: FAILED {error}; see {folder / 'log.txt'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nfigure: interrupted", file=sys.stderr)
        return 130
    given = [word for name, value in options.p for word in ("-p", name, value)]
    given += [] if options.preset == "book" else ["--preset", options.preset]
    used = names_used(figure)
    unused = [f"{figure.name} does not use the parameter {name}" for name in own if name not in used]
    run = {
        "figure": figure.name,
        "chapter": figure.chapter,
        "command": " ".join(["make figure", f"ID={figure.name}", *([f"ARGS={quoted(given)}"] if given else [])]),
        "seconds": round(time.monotonic() - start, 1),
        "notes": notes + unused,
        "parameters": [[name, defaults[name], values[name]] for name in values if name in used or name in own],
        "moved": moved(figure, folder),
    }
    (folder / "run.json").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = folder / "compare.html"
    page.write_text(beside(run), encoding="utf-8")
    for note in unused:
        print(note)
    print(f"{figure.name}  {run['seconds']:.0f} s  {page}")
    if sys.platform in ("darwin", "win32") or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        webbrowser.open(page.as_uri())
    return 0


def quoted(words: list[str]) -> str:
    text = shlex.join(words)
    return shlex.quote(text) if set(text) & set('"$`\\') else f'"{text}"'


def names_used(figure: Figure) -> set[str]:
    """Return the names that the figure's cells read."""
    cells, chosen = cells_of(figure)
    code = "\n".join(source(cells[number]) for number in chosen if "parameters" not in tags(cells[number]))
    read = names_of(ast.parse(code))
    return read.now | read.later


def moved(figure: Figure, folder: Path) -> list[list]:
    """Return each column of the figure's numbers and how far it lies from the book's, farthest first.

    As a part of the column's largest number; as words where the two cannot be compared number by number.
    """
    ours, books = gathered(folder).get(figure.name, {}), kept(figure.chapter).get(figure.name, {})
    apart = columns_apart(figure.name, books, ours)
    rows = []
    for name in sorted(ours.keys() | books.keys(), key=lambda name: (-apart[f"{figure.name}, {name}"], name)):
        if name in ours and name in books:
            alike = len(ours[name]) == len(books[name])
            by = apart[f"{figure.name}, {name}"]
            rows.append([name, by if by < float("inf") else "infinite" if alike else "of another length"])
        else:
            rows.append([name, "only here" if name in ours else "only in the book"])
    return rows


if __name__ == "__main__":
    sys.exit(main())
