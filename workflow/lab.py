"""The ensembles of the book, and results/: one table each, gathered from the jobs that are done.

python workflow/lab.py [NAME ...]     brings results/NAME.csv, .npz and .json up to what _build/train/NAME holds
"""

import ast
import json
import math
import shutil
import statistics
import sys
from dataclasses import dataclass, field
from functools import cached_property

from chapters import ROOT, chapters
from digests import content_digest, ensemble_digest, ensembles_of
from notebooks import code_cells, default_values, read_notebook, source
from scorecard import git_commit

RESULTS = ROOT / "results"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """An ensemble as its chapter calls it. A job is one part of one seed; without parts, a seed."""

    name: str
    chapter: str
    code: str
    seeds: int
    parts: dict[str, list] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        return ensemble_digest(self.code, self.name)

    @property
    def n_parts(self) -> int:
        return math.prod(map(len, self.parts.values()))

    @property
    def jobs(self) -> range:
        return range(self.seeds * self.n_parts)

    @property
    def folder(self):
        """Return where its jobs leave their rows."""
        return ROOT / "_build" / "train" / self.name

    def record(self) -> dict:
        path = RESULTS / f"{self.name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def state(self) -> str:
        """Return "fresh", "partial" (jobs lack), "stale" (other code's), "altered" (edited since) or "missing"."""
        record = self.record()
        files = [RESULTS / name for name in record.get("files", [])]
        if not files or not all(path.exists() for path in files):
            return "missing"
        if content_digest(*files) != record["content"]:
            return "altered"
        if record["digest"] != self.digest:
            return "stale"
        return "fresh" if {str(job) for job in self.jobs} <= record["jobs"].keys() else "partial"

    def tabled(self) -> dict[int, dict]:
        """Return job -> what the record says of it, of the jobs in the table, where that is today's code's."""
        jobs = self.record()["jobs"] if self.state in ("fresh", "partial") else {}
        return {int(job): about for job, about in jobs.items()}

    def kept(self) -> dict[int, dict]:
        """Return job -> what it said of itself, of the jobs in _build/train, whichever code they were computed by."""
        paths = [path for path in self.folder.glob("*.json") if path.stem.isdecimal()]
        return {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in paths}

    def left(self) -> list[int]:
        """Return the jobs that no row is there of, by today's code."""
        digest = self.digest
        done = self.tabled().keys() | {job for job, about in self.kept().items() if about["digest"] == digest}
        return [job for job in self.jobs if job not in done]

    def estimate(self, jobs: list[int]) -> float | None:
        """Return how many seconds of a core jobs take, None where none was ever timed.

        Each as long as the median job of its part, or of all, in the record and in _build/train; of older code too.
        """
        known = {int(job): about["seconds"] for job, about in self.record().get("jobs", {}).items()}
        known |= {job: about["seconds"] for job, about in self.kept().items()}
        of_part: dict[int, list[float]] = {}
        for job, seconds in known.items():
            of_part.setdefault(job % self.n_parts, []).append(seconds)
        return (
            sum(statistics.median(of_part.get(job % self.n_parts, known.values())) for job in jobs) if known else None
        )


def ensembles() -> dict[str, Ensemble]:
    """Return every ensemble of every chapter, by name.

    Raises:
        ValueError: when two have one name, or the number of seeds or the parts do not stand there or in a parameter.
    """
    found = {}
    for chapter in chapters():
        notebook = read_notebook(ROOT / "book" / f"{chapter}.ipynb")
        code = "\n".join(source(cell) for cell in code_cells(notebook))
        values = default_values(notebook)
        for name, call in ensembles_of(code):
            if name in found:
                raise ValueError(f"two ensembles are called {name}: in {found[name].chapter} and {chapter}")
            found[name] = called(name, chapter, code, call, values)
    return found


def called(name: str, chapter: str, code: str, call: ast.Call, values: dict[str, object]) -> Ensemble:
    """Return the ensemble that a call in a chapter's code makes; values: of its parameters."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    seeds = call.args[2] if len(call.args) > 2 else given["seeds"]
    number = stands(seeds, values)
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{chapter}: ensemble {name} has no number of seeds: {ast.unparse(seeds)}")
    parts = stands(given["parts"], values) if "parts" in given else {}
    if not isinstance(parts, dict) or not all(isinstance(part, list) and part for part in parts.values()):
        raise ValueError(f"{chapter}: ensemble {name} has no lists as parts: {ast.unparse(given['parts'])}")
    return Ensemble(name, chapter, code, number, parts)


def stands(node: ast.expr, values: dict[str, object]) -> object:
    """Return what an expression of literals and parameters is, None where it is more than that."""

    class Filled(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.parse(repr(values[node.id]), mode="eval").body if node.id in values else node

    try:
        return ast.literal_eval(Filled().visit(ast.parse(ast.unparse(node), mode="eval")))
    except ValueError:
        return None


def gather(ensemble: Ensemble) -> None:
    """Bring the table of an ensemble up to the jobs that are done: those in it and those in _build/train.

    Rows of other code than today's give way. The table is written aside and put in place when it is whole.

    Raises:
        ValueError: when jobs have rows that do not fit together.
    """
    import numpy as np

    from cmlib.chapter.ensembles import read_columns, write_columns

    put_in_place(ensemble)
    digest, record, known = ensemble.digest, ensemble.record(), ensemble.tabled()
    kept = {job: about for job, about in ensemble.kept().items() if job in ensemble.jobs and about["digest"] == digest}
    new = sorted(kept.keys() - known.keys())
    if not new:
        return
    about, columns = {}, {}
    table, at = (read_columns(RESULTS / ensemble.name) if known else {}), 0
    for job in sorted(known):  # the table has its rows in the order of its jobs
        rows = slice(at, at := at + known[job]["rows"])
        about[job], columns[job] = known[job], {name: column[rows] for name, column in table.items()}
    first = kept[new[0]]
    machine = record["machine"] if known else first["machine"]
    for job in new:
        columns[job] = read_columns(ensemble.folder / str(job))
        about[job] = {"seconds": kept[job]["seconds"], "rows": len(columns[job]["seed"])}
        if kept[job]["machine"] != machine:
            about[job]["machine"] = kept[job]["machine"]
    jobs = sorted(columns)
    shapes = {job: {n: (c.shape[1:], c.dtype.kind == "U") for n, c in columns[job].items()} for job in jobs}
    if wrong := [job for job in jobs if shapes[job] != shapes[jobs[0]]]:
        raise ValueError(
            f"{ensemble.name}: job {wrong[0]} has columns of other names, shapes or kinds than job {jobs[0]}"
        )
    aside = ensemble.folder / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    together = {name: np.concatenate([columns[job][name] for job in jobs]) for name in columns[jobs[0]]}
    files = write_columns(aside / ensemble.name, together)
    record = {
        "ensemble": ensemble.name,
        "chapter": ensemble.chapter,
        "values": first["values"],
        "parts": first.get("parts", {}),
        "seeds": ensemble.seeds,
        "files": [file.name for file in files],
        "content": content_digest(*files),
        "digest": digest,
        "jobs": {str(job): about[job] for job in jobs},
        "machine": machine,
        "commit": git_commit(),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (aside / f"{ensemble.name}.json").write_text(text, encoding="utf-8")
    aside.replace(ensemble.folder / "table")
    put_in_place(ensemble)


def put_in_place(ensemble: Ensemble) -> None:
    """Move a table that lies ready into results/; one whose move was cut short by a kill is moved to its end."""
    ready = ensemble.folder / "table"
    if not ready.is_dir():
        return
    RESULTS.mkdir(exist_ok=True)
    for path in sorted(ready.iterdir()):
        path.replace(RESULTS / path.name)
    if f"{ensemble.name}.npz" not in ensemble.record()["files"]:
        (RESULTS / f"{ensemble.name}.npz").unlink(missing_ok=True)
    ready.rmdir()


def main(names: list[str]) -> int:
    known, failed = ensembles(), 0
    if unknown := [name for name in names if name not in known]:
        print(f"lab: no ensemble {unknown[0]!r}; the ensembles are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        ensemble = known[name]
        if refused := sorted(job for job, about in ensemble.kept().items() if about["digest"] != ensemble.digest):
            jobs = ", ".join(map(str, refused))
            print(f"{name}  left out, as computed by other code than today's: jobs {jobs}", flush=True)
        try:
            gather(ensemble)
        except (ValueError, OSError) as error:
            print(f"lab: {error}", file=sys.stderr)
            failed = 1
            continue
        print(f"{name}  {len(ensemble.jobs) - len(ensemble.left())} of {len(ensemble.jobs)} jobs  results/{name}.csv")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
