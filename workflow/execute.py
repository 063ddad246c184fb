"""Execute one chapter at a preset, check its claims, and keep the executed notebook.

By hand, with other values:  .venv/bin/python workflow/execute.py linear/memory-kernels -p n_directions 3
"""

import argparse
import ast
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from chapters import PRESETS, ROOT, RUNS, preset_values, typed_values
from notebooks import code_cells, normalised, read_notebook, source
from scorecard import tally


def execute(chapter: str, label: str, values: dict, folder: Path, say: Callable[[str], None]) -> bool:
    """Run the notebook into `executed.ipynb`, or leave `failed.ipynb` and say which cell it was."""
    import papermill  # after the first line is out: this import takes a second

    start, notebook, executing = (
        time.monotonic(),
        ROOT / "book" / f"{chapter}.ipynb",
        folder / "executing.ipynb",
    )
    os.environ["CMLIB_OUTPUT"] = str(folder)
    try:
        done = papermill.execute_notebook(
            notebook,
            executing,
            parameters=values,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            record_timing=False,
            cwd=notebook.parent,
        )
    except Exception as error:
        failed = folder / "failed.ipynb"
        if executing.exists():
            executing.rename(failed)
        say(f"{chapter}  {label}  FAILED {what_failed(error, failed)}")
        kept = failed if failed.exists() else folder / "log.txt"
        say(f"{chapter}  {label}  see {kept.relative_to(ROOT)}")
        return False
    claims = recorded_claims(folder)
    executing.write_text(normalised(done, claims), encoding="utf-8")
    executing.rename(folder / "executed.ipynb")
    say(f"{chapter}  {label}  {time.monotonic() - start:.0f} s  {tally(claims)}")
    return True


def recorded_claims(folder: Path) -> list[dict]:
    """Return the run's claims, what may differ between machines at three digits, as the page shows it."""
    path = folder / "claims.json"
    claims = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for claim in claims:
        if isinstance(claim["measured"], float) and not claim["exact"]:
            claim["measured"] = float(f"{claim['measured']:.3g}")
    return claims


def what_failed(error: Exception, notebook: Path) -> str:
    """Return the code cell, its first line and the error, in one line."""
    if hasattr(error, "exec_count"):
        line = _first_line(error.source)
        return f"in code cell [{error.exec_count}] `{line}`: {error.ename}: {_first_line(error.evalue)}"
    # the kernel died or never started: the last cell that papermill gave a starting time is the one
    cells = code_cells(read_notebook(notebook)) if notebook.exists() else []
    started = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    where = "before its first cell"
    if started:
        where = f"in code cell [{len(started)}] `{_first_line(source(started[-1]))}`"
    return f"{where}: {type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", help="folder/name below book/, without .ipynb")
    parser.add_argument("--preset", default="book", choices=PRESETS)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args()
    try:
        values = preset_values(options.preset)
        if options.chapter not in values:
            raise ValueError(f"no chapter {options.chapter!r}; the chapters are: {', '.join(values)}")
        own = typed_values(options.chapter, {name: _literal(value) for name, value in options.p})
    except ValueError as error:
        print(f"execute: {error}", file=sys.stderr)
        return 2
    # a run with the reader's own values never lands among those the site is built from
    label = "own-values" if own else options.preset
    folder = RUNS / label / options.chapter
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # what the kernel and the libraries say goes to the log; the terminal gets our lines only
    terminal = os.fdopen(os.dup(1), "w", buffering=1)
    with (folder / "log.txt").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    print(f"{options.chapter}  {label}  running ...", file=terminal)
    values = values[options.chapter] | own
    done = execute(options.chapter, label, values, folder, lambda line: print(line, file=terminal))
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
