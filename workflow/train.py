"""Compute one seed of one ensemble: the statements of its chapter that it needs, and nothing else.

python workflow/train.py B-F2 0         one seed, kept in _build/train for `make lab` to gather
python workflow/train.py --today 3      three of the committed rows again, drawn by the date, and compared with them
"""

import datetime
import json
import os
import random
import sys
import time
from pathlib import Path

from chapters import ROOT
from digests import ensemble_digest, slice_of
from lab import RESULTS, ensembles
from machine import machine

TRAINED = ROOT / "_build" / "train"
FAR = 4  # spreads


def rows_of(name: str, seed: int):
    """Return what the experiment gave: its columns, its values and the number of seeds."""
    import torch

    from cmlib.chapter.ensembles import Done

    torch.set_num_threads(1)
    os.environ["CMLIB_ENSEMBLE"] = json.dumps({"name": name, "seed": seed})
    os.environ.setdefault("CMLIB_OUTPUT", str(TRAINED / name))
    try:
        exec(compile(slice_of(ensembles()[name].code, name), f"<{name}>", "exec"), {"__name__": "experiment"})
    except Done as done:
        return done.args
    raise RuntimeError(f"{name}: its call of ensemble was not reached")


def main(name: str, seed: int) -> int:
    start = time.monotonic()
    known = ensembles()
    if name not in known:
        print(f"train: no ensemble {name!r}; the ensembles are: {', '.join(known)}", file=sys.stderr)
        return 2
    columns, values, seeds = rows_of(name, seed)
    from cmlib.chapter.ensembles import write_columns

    stem = TRAINED / name / str(seed)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = write_columns(stem, columns)
    values = json.loads(json.dumps(values, default=lambda value: value.tolist()))
    about = {"values": values, "seeds": seeds, "digest": ensemble_digest(known[name].code, name)}
    about |= {"seconds": round(time.monotonic() - start, 1), "machine": machine(), "files": [f.name for f in files]}
    partial = stem.with_name(f"{seed}.partial")
    partial.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    partial.replace(Path(f"{stem}.json"))  # last, so that a row without it is not whole
    print(f"{name}  seed {seed}  {about['seconds']:.0f} s", flush=True)
    return 0


def today(count: int) -> int:
    """Compute rows of results/ again, none of over five minutes; return 1 if one lies over 4 spreads from its table."""
    from cmlib.chapter.ensembles import read_columns, spreads_apart

    known = [e for e in ensembles().values() if e.state == "fresh"]
    jobs = [(e.name, seed) for e in known for seed, took in enumerate(e.record()["seconds"]) if took < 300]
    far = 0
    for name, seed in random.Random(str(datetime.date.today())).sample(jobs, min(count, len(jobs))):
        start = time.monotonic()
        columns, _, _ = rows_of(name, seed)
        gap = spreads_apart(columns, read_columns(RESULTS / name))
        far += not gap <= FAR
        took = time.monotonic() - start
        print(f"{name}  seed {seed}  {took:.0f} s  {gap:.2g} spreads from its table", flush=True)
    print(f"{min(count, len(jobs)) - far} of {min(count, len(jobs))} rows computed again agree with their tables")
    return 1 if far else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--today" and sys.argv[2].isdecimal():
        sys.exit(today(int(sys.argv[2])))
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        sys.exit("usage: python workflow/train.py ENSEMBLE SEED")
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
