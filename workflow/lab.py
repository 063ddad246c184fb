"""The ensembles of the book, and results/: one table each, gathered from its seeds.

python workflow/lab.py NAME     writes results/NAME.csv, .npz and .json from _build/train/NAME
"""

import ast
import json
import sys
from dataclasses import dataclass

from chapters import ROOT, chapters
from digests import content_digest, ensemble_digest, ensembles_of
from notebooks import code_cells, default_values, read_notebook, source
from scorecard import git_commit

RESULTS = ROOT / "results"


@dataclass(frozen=True)
class Ensemble:
    """An ensemble as its chapter calls it."""

    name: str
    chapter: str
    code: str
    seeds: int

    @property
    def digest(self) -> str:
        return ensemble_digest(self.code, self.name)

    def record(self) -> dict:
        path = RESULTS / f"{self.name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def state(self) -> str:
        """Return "fresh", "stale" (computed by other code), "altered" (edited since) or "missing"."""
        record = self.record()
        files = [RESULTS / name for name in record.get("files", [])]
        if not files or not all(path.exists() for path in files):
            return "missing"
        if content_digest(*files) != record["content"]:
            return "altered"
        return "fresh" if record["digest"] == self.digest and record["seeds"] >= self.seeds else "stale"


def ensembles() -> dict[str, Ensemble]:
    """Return every ensemble of every chapter, by name.

    Raises:
        ValueError: when two have one name, or the number of seeds is no whole number or parameter.
    """
    found = {}
    for chapter in chapters():
        notebook = read_notebook(ROOT / "book" / f"{chapter}.ipynb")
        code = "\n".join(source(cell) for cell in code_cells(notebook))
        values = default_values(notebook)
        for name, call in ensembles_of(code):
            if name in found:
                raise ValueError(f"two ensembles are called {name}: in {found[name].chapter} and {chapter}")
            seeds = call.args[2] if len(call.args) > 2 else next(k.value for k in call.keywords if k.arg == "seeds")
            number = values.get(seeds.id) if isinstance(seeds, ast.Name) else ast.literal_eval(seeds)
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{chapter}: ensemble {name} has no number of seeds: {ast.unparse(seeds)}")
            found[name] = Ensemble(name, chapter, code, number)
    return found


def gather(ensemble: Ensemble) -> None:
    """Write the table of an ensemble from its seeds."""
    import numpy as np

    from cmlib.chapter.ensembles import read_columns, write_columns

    folder = ROOT / "_build" / "train" / ensemble.name
    parts = [read_columns(folder / str(seed)) for seed in range(ensemble.seeds)]
    about = [json.loads((folder / f"{seed}.json").read_text()) for seed in range(ensemble.seeds)]
    if wrong := [seed for seed, each in enumerate(about) if each["digest"] != ensemble.digest]:
        raise ValueError(f"{ensemble.name}: seeds {wrong} were computed by other code than today's; run make lab")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    RESULTS.mkdir(exist_ok=True)
    files = write_columns(RESULTS / ensemble.name, columns)
    record = {
        "ensemble": ensemble.name,
        "chapter": ensemble.chapter,
        "values": about[0]["values"],
        "seeds": ensemble.seeds,
        "files": [file.name for file in files],
        "content": content_digest(*files),
        "digest": about[0]["digest"],
        "seconds": [each["seconds"] for each in about],
        "machine": about[0]["machine"],
        "commit": git_commit(),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{ensemble.name}.json").write_text(text, encoding="utf-8")


def main(name: str) -> int:
    try:
        gather(ensembles()[name])
    except (ValueError, KeyError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    print(f"{name}  results/{name}.csv", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
