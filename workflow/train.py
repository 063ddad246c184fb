"""Compute one seed of one ensemble: the statements of its chapter that it needs, and nothing else.

By hand:  .venv/bin/python workflow/train.py B-F2 0
"""

import json
import os
import sys
import time
from pathlib import Path

from chapters import ROOT
from digests import ensemble_digest, slice_of
from lab import ensembles
from machine import machine

TRAINED = ROOT / "_build" / "train"


def rows_of(name: str, seed: int):
    """Return what the experiment gave: its columns, its values and the number of seeds."""
    from cmlib.ensembles import Done

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
    import torch

    torch.set_num_threads(1)
    columns, values, seeds = rows_of(name, seed)
    from cmlib.ensembles import write_columns

    stem = TRAINED / name / str(seed)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = write_columns(stem, columns)
    about = {"values": values, "seeds": seeds, "digest": ensemble_digest(known[name].code, name)}
    about |= {"seconds": round(time.monotonic() - start, 1), "machine": machine(), "files": [f.name for f in files]}
    partial = stem.with_name(f"{seed}.partial")
    partial.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    partial.replace(Path(f"{stem}.json"))  # last, so that a row without it is not whole
    print(f"{name}  seed {seed}  {about['seconds']:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        sys.exit("usage: python workflow/train.py ENSEMBLE SEED")
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
