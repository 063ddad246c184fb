"""Break the library on purpose, run a chapter on it, and see which checks and claims notice.

python workflow/sabotage.py                 every defect of tests/controls, two at a time; writes results/sabotage.csv
python workflow/sabotage.py halved-radius   these only
python workflow/sabotage.py --today 3       three of them, drawn by the date
"""

import contextlib
import csv
import datetime
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chapters import ROOT, preset_values
from notebooks import code_cells, read_notebook, source, tags

TABLE = ROOT / "results" / "sabotage.csv"


@dataclass(frozen=True)
class Defect:
    """One deliberate fault: what stands under a name of the library, and what to put there instead.

    Args:
        chapter: the one that is to notice.
        target: "cmlib.stability.stability_radius", or a method, "cmlib.kernels.Polynomial.l1_norm".
        wrong: right -> wrong.
        says: the fault in a few words.
    """

    chapter: str
    target: str
    wrong: Callable
    says: str


def defects() -> dict[str, Defect]:
    """Return those of every module in tests/controls, by name.

    Raises:
        ValueError: when two have one name.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    found = {}
    for path in sorted((ROOT / "tests" / "controls").glob("[a-z]*.py")):
        for name, defect in importlib.import_module(f"controls.{path.stem}").DEFECTS.items():
            if name in found:
                raise ValueError(f"two defects are called {name}")
            found[name] = Defect(*defect)
    return found


def place_of(target: str) -> tuple[object, str]:
    """Return the module or class in which the last name of a target stands, and that name.

    Raises:
        ValueError: when the library has no such name.
    """
    owner, rest = None, target.split(".")
    for cut in range(len(rest) - 1, 0, -1):
        with contextlib.suppress(ImportError):
            owner, rest = importlib.import_module(".".join(rest[:cut])), rest[cut:]
            break
    for name in rest[:-1]:
        owner = getattr(owner, name, None)
    if owner is None or vars(owner).get(rest[-1]) is None:
        raise ValueError(f"cmlib has no {target}; has it been renamed?")
    return owner, rest[-1]


def put_in_place(defect: Defect) -> None:
    """Replace the name, and every other name in the library under which the same object is known."""
    import cmlib.chapter  # noqa: F401

    owner, name = place_of(defect.target)
    right = vars(owner)[name]
    bound = type(right) if isinstance(right, classmethod | staticmethod) else lambda function: function
    wrong = bound(defect.wrong(getattr(right, "__func__", right)))
    setattr(owner, name, wrong)
    if isinstance(owner, type) or isinstance(right, int | float | str | bool):
        return
    for module in [m for n, m in sys.modules.items() if n == "cmlib" or n.startswith("cmlib.")]:
        # under another name, or as a value of a table such as memory.INPUTS
        for table in [vars(module), *(value for value in vars(module).values() if type(value) is dict)]:
            table |= {name: wrong for name, value in table.items() if value is right}


def run(chapter: str, defect: Defect | None) -> dict:
    """Run the chapter's cells at the smoke preset in this process; return what failed, and a crash if there was one."""
    import matplotlib as mpl

    mpl.use("Agg")
    if defect is not None:
        put_in_place(defect)
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        os.environ["CMLIB_OUTPUT"] = folder
        os.chdir((ROOT / "book" / chapter).parent)
        return run_cells(chapter, Path(folder))


def run_cells(chapter: str, folder: Path) -> dict:
    variables, crash = {"__name__": "__main__"}, None
    for cell in code_cells(read_notebook(ROOT / "book" / f"{chapter}.ipynb")):
        try:
            exec(source(cell), variables)
        except Exception as error:  # whatever the defect leads to
            crash = f"{type(error).__name__}: {error}".splitlines()[0]
            break
        if "parameters" in tags(cell):
            variables |= preset_values("smoke")[chapter]
    claims = folder / "claims.json"
    records = json.loads(claims.read_text(encoding="utf-8")) if claims.exists() else []
    return {"failed": [r["id"] for r in records if r["passed"] is False], "crash": crash}


def in_its_own_process(name: str) -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    except subprocess.TimeoutExpired:
        return {"failed": [], "crash": "no end after 15 minutes"}
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        return {"failed": [], "crash": (done.stderr.strip().splitlines() or ["ended without a word"])[-1]}
    return json.loads(lines[-1])


def main(arguments: list[str]) -> int:
    known = defects()
    if arguments[:1] == ["--one"]:
        name = arguments[1]
        clean = name.startswith("clean:")
        found = run(name.removeprefix("clean:"), None) if clean else run(known[name].chapter, known[name])
        print(json.dumps(found))
        return 0
    if arguments[:1] == ["--today"]:
        names = random.Random(str(datetime.date.today())).sample(sorted(known), int(arguments[1]))
    else:
        names = arguments or list(known)
    if unknown := set(names) - set(known):
        print(f"sabotage: no defect {', '.join(sorted(unknown))}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    chapters = sorted({known[name].chapter for name in names})
    print(f"{len(names)} defects in {len(chapters)} chapters", flush=True)
    rows, missed = [], []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        clean = dict(zip(chapters, pool.map(in_its_own_process, [f"clean:{c}" for c in chapters]), strict=True))
        broken = {chapter: found["crash"] for chapter, found in clean.items() if found["crash"]}
        for chapter, crash in broken.items():
            print(f"{chapter} crashes without any defect: {crash}", flush=True)
        for name, found in zip(names, pool.map(in_its_own_process, names), strict=True):
            defect = known[name]
            caught = [id for id in found["failed"] if id not in clean[defect.chapter]["failed"]]
            rows.append([name, defect.target, defect.says, defect.chapter, " ".join(caught), found["crash"] or ""])
            verdict = "caught by " + ", ".join(caught) if caught else "NOT CAUGHT"
            print(f"{name}  {defect.chapter}  {verdict}" + (f" (crash: {found['crash']})" if found["crash"] else ""))
            sys.stdout.flush()
            missed += [] if caught else [name]
    if not arguments:
        TABLE.parent.mkdir(exist_ok=True)
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["defect", "target", "says", "chapter", "caught by", "crash"])
            writer.writerows(rows)
    print(f"{len(names) - len(missed)} of {len(names)} defects are caught")
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
