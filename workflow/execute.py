"""Execute one chapter at a preset and keep the executed notebook, its figures and its evidence.

By hand, with other values:  .venv/bin/python workflow/execute.py linear/memory-kernels -p n_directions 3

A claim that fails stops nothing. Only a crash ends a chapter; both are in run.json, and the exit status is 0 for the
workflow's sake unless the chapter is run by hand.
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
from digests import chapter_digest, content_digest
from evidence import evidence_of, tally
from machine import machine
from notebooks import code_cells, default_values, normalised, read_notebook, source


def execute(chapter: str, label: str, values: dict, folder: Path, say: Callable[[str], None]) -> dict:
    """Run the notebook into `executed.ipynb`, or leave `failed.ipynb`; return what run.json holds."""
    import papermill  # after the first line is out: this import takes a second

    start = time.monotonic()
    notebook, executing = ROOT / "book" / f"{chapter}.ipynb", folder / "executing.ipynb"
    run = {"chapter": chapter, "preset": label, "values": values, "digest": chapter_digest(chapter, values)}
    run["machine"] = machine()
    os.environ["CMLIB_OUTPUT"] = str(folder)
    about = {"preset": label, "machine": run["machine"], "parameters": default_values(read_notebook(notebook)) | values}
    os.environ["CMLIB_RUN"] = json.dumps({"chapter": chapter} | about)  # for the provenance of its figures
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
        claims = folder / "claims.json"
        found = json.loads(claims.read_text(encoding="utf-8")) if claims.exists() else []
        text = normalised(done, {"claims": found, "digest": run["digest"], "machine": short(run["machine"])})
        executing.write_text(text, encoding="utf-8")
        executing.rename(folder / "executed.ipynb")
        evidence = evidence_of(json.loads(text))
    except Exception as error:
        failed = folder / "failed.ipynb"
        if executing.exists():
            executing.rename(failed)
        kept = failed if failed.exists() else folder / "log.txt"
        run["crash"] = what_failed(error, failed)
        say(f"{chapter}  {label}  FAILED {run['crash']}")
        say(f"{chapter}  {label}  see {kept.relative_to(ROOT)}")
        return run
    run["seconds"] = round(time.monotonic() - start, 1)
    run["content"] = content_digest(folder / "executed.ipynb")
    say(f"{chapter}  {label}  {run['seconds']:.0f} s  {tally(evidence)}")
    for row in evidence:
        if row["verdict"] in ("FAIL", "NOT REACHED"):
            say(f"{chapter}  {label}  {row['verdict']} {row['kind']} {row['id']}: {row['says']}")
    run["failed"] = [row["id"] for row in evidence if row["verdict"] in ("FAIL", "NOT REACHED")]
    return run


def short(found: dict) -> dict:
    return {key: found[key] for key in ("cpu", "instruction_set", "threads")}


def what_failed(error: Exception, notebook: Path) -> str:
    """Return the code cell, its first line and the error, in one line."""
    if hasattr(error, "exec_count"):
        line = first_line(error.source)
        return f"in code cell [{error.exec_count}] `{line}`: {error.ename}: {first_line(error.evalue)}"
    if isinstance(error, ValueError):
        return first_line(str(error))
    # the kernel died or never started: the last cell that papermill gave a starting time is the one
    cells = code_cells(read_notebook(notebook)) if notebook.exists() else []
    started = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    where = "before its first cell"
    if started:
        where = f"in code cell [{len(started)}] `{first_line(source(started[-1]))}`"
    return f"{where}: {type(error).__name__}: {first_line(str(error))}"


def first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", help="folder/name below book/, without .ipynb")
    parser.add_argument("--preset", default="book", choices=PRESETS)
    parser.add_argument("--keep-going", action="store_true", help="exit 0 whatever fails, as the workflow asks")
    parser.add_argument("--label", help="folder of _build/run to write to; own-values with -p, else the preset")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args()
    try:
        values = preset_values(options.preset)
        if options.chapter not in values:
            raise ValueError(f"no chapter {options.chapter!r}; the chapters are: {', '.join(values)}")
        own = typed_values(options.chapter, {name: literal(value) for name, value in options.p})
    except ValueError as error:
        print(f"execute: {error}", file=sys.stderr)
        return 2
    # a run with the reader's own values never lands among those the site is built from
    label = options.label or ("own-values" if own else options.preset)
    folder = RUNS / label / options.chapter
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        print(f"execute: cannot write to {folder}: {error.strerror}", file=sys.stderr)
        return 1
    # what the kernel and the libraries say goes to the log; the terminal gets our lines only
    terminal = os.fdopen(os.dup(1), "w", buffering=1)
    with (folder / "log.txt").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    print(f"{options.chapter}  {label}  running ...", file=terminal)
    values = values[options.chapter] | own
    run = execute(options.chapter, label, values, folder, lambda line: print(line, file=terminal))
    partial = folder / "run.partial"
    partial.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.rename(folder / "run.json")  # last: a run without it never came to its end
    return 0 if options.keep_going or not (run.get("crash") or run["failed"]) else 1


if __name__ == "__main__":
    sys.exit(main())
