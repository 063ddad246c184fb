"""Compute one job of one ensemble: the statements of its chapter that it needs, and nothing else.

python workflow/train.py B-F2 0         one job, kept in _build/train for `make lab` to gather; without parts, a seed
python workflow/train.py --today 3      three of the committed jobs again, drawn by the date, and compared with them

CMLIB_DEVICE=cuda, which make lab sets for DEVICE=cuda, is passed to experiments that have a parameter `device`.
"""

import datetime
import json
import os
import random
import sys
import time
from pathlib import Path

from chapters import ROOT
from digests import slice_of
from lab import RESULTS, ensembles
from machine import machine

TRAINED = ROOT / "_build" / "train"
FAR = 4  # spreads


def rows_of(name: str, job: int):
    """Return what the experiment gave: its columns, its values, its parts, and the device it was given or None."""
    import torch

    from cmlib.chapter.ensembles import Done

    torch.set_num_threads(1)
    os.environ["CMLIB_ENSEMBLE"] = json.dumps({"name": name, "job": job})
    os.environ.setdefault("CMLIB_OUTPUT", str(TRAINED / name))
    try:
        exec(compile(slice_of(ensembles()[name].code, name), f"<{name}>", "exec"), {"__name__": "experiment"})
    except Done as done:
        return done.args
    raise RuntimeError(f"{name}: its call of ensemble was not reached")


def wrong_device() -> str | None:
    """Return what is wrong with the device that was asked for."""
    asked = os.environ.get("CMLIB_DEVICE") or "cpu"
    if asked not in ("cpu", "cuda"):
        return f"expected DEVICE=cpu or DEVICE=cuda, got {asked!r}"
    if asked == "cuda":
        import torch

        if not torch.cuda.is_available():
            return f"DEVICE=cuda was asked for, but torch {torch.__version__} finds no CUDA device here"
    return None


def main(name: str, job: int) -> int:
    start = time.monotonic()
    known = ensembles()
    if name not in known:
        print(f"train: no ensemble {name!r}; the ensembles are: {', '.join(known)}", file=sys.stderr)
        return 2
    ensemble = known[name]
    wrong = wrong_device()
    if job not in ensemble.jobs:
        wrong = f"no job {job} of {name}, which has {len(ensemble.jobs)}"
    if wrong:
        print(f"train: {wrong}", file=sys.stderr)
        return 2
    columns, values, parts, device = rows_of(name, job)
    from cmlib.chapter.ensembles import combinations, write_columns

    stem = TRAINED / name / str(job)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = write_columns(stem, columns)
    asked = json.loads(json.dumps({"values": values, "parts": parts}, default=lambda value: value.tolist()))
    about = asked | {"digest": ensemble.digest, "seconds": round(time.monotonic() - start, 1)}
    about |= {"machine": machine(device), "files": [file.name for file in files]}
    partial = stem.with_name(f"{job}.partial")
    partial.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    partial.replace(Path(f"{stem}.json"))  # last, so that a job without it is not whole
    seed, part = divmod(job, ensemble.n_parts)
    of_part = "".join(f" {key}={value}" for key, value in combinations(ensemble.parts)[part].items())
    print(f"{name}  job {job}: seed {seed}{of_part}  {about['seconds']:.0f} s", flush=True)
    return 0


def today(count: int) -> int:
    """Compute jobs of results/ again, none of over five minutes; return 1 if one lies over 4 spreads from its table."""
    from cmlib.chapter.ensembles import read_columns, spreads_apart

    known = [e for e in ensembles().values() if e.state == "fresh"]
    jobs = [(e.name, job) for e in known for job, about in e.tabled().items() if about["seconds"] < 300]
    far = 0
    for name, job in random.Random(str(datetime.date.today())).sample(jobs, min(count, len(jobs))):
        start = time.monotonic()
        columns = rows_of(name, job)[0]
        gap = spreads_apart(columns, read_columns(RESULTS / name))
        far += not gap <= FAR
        took = time.monotonic() - start
        print(f"{name}  job {job}  {took:.0f} s  {gap:.2g} spreads from its table", flush=True)
    print(f"{min(count, len(jobs)) - far} of {min(count, len(jobs))} jobs computed again agree with their tables")
    return 1 if far else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--today" and sys.argv[2].isdecimal():
        sys.exit(today(int(sys.argv[2])))
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        sys.exit("usage: python workflow/train.py ENSEMBLE JOB")
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
