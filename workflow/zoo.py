"""Report on every animal of the zoo at default settings, and compare with what is known of it.

python workflow/zoo.py           all of them; writes results/zoo.csv and exits 1 on a wrong verdict
python workflow/zoo.py LRU TCN   these alone; writes nothing
"""

import csv
import math
import sys
import time

import torch
from chapters import ROOT

from cmlib import report
from cmlib.chapter.zoo import ZOO, Animal, Known, interval, number
from cmlib.verdict import ORDER

TABLE = ROOT / "results" / "zoo.csv"
HEAD = ("animal", "inputs", "known", "value", "said", "number", "low", "high", "lags", "judged")


def rows_of(name: str, animal: Animal) -> list[tuple]:
    """Return a row for each kind of input of which an answer is known, and one for the verdict over all of them."""
    model = animal.make()
    known = animal.known(model)
    try:
        found = report(model, d_in=animal.d_in, **animal.options)
    except ValueError as error:  # no memory can be told of it, which may be the answer
        print(f"{name}: {error}")
        judged = {inputs: "right" if answer.kind == "refused" else "wrong" for inputs, answer in known.items()}
        return [(name, i, known[i].kind, "", "refused", "", "", "", "", judged[i]) for i in known]
    # the slowest law that is known; at what rate other kinds of input are forgotten is not
    slowest = max(known.values(), key=lambda answer: ORDER.index(answer.kind))
    known["verdict"] = Known(slowest.kind, also=slowest.also)
    rows = []
    for inputs, answer in known.items():
        decay = found.conclusion if inputs == "verdict" else found.decays.get(inputs)
        if decay is None:  # the budget did not reach so far
            rows.append((name, inputs, answer.kind, "", "left out", "", "", "", "", "undecided"))
            continue
        numbers = [f"{n:.4g}" if math.isfinite(n) else "" for n in (answer.value, number(decay), *interval(decay))]
        judged = answer.judge(decay)
        rows.append((name, inputs, answer.kind, numbers[0], decay.kind, *numbers[1:], decay.n_steps, judged))
    return rows


def main(names: list[str]) -> int:
    if unknown := set(names) - set(ZOO):
        print(f"zoo: no {', '.join(sorted(unknown))}; there are: {', '.join(ZOO)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows = []
    for name in names or ZOO:
        start = time.process_time()
        new = rows_of(name, ZOO[name])
        rows += new
        said = ", ".join(f"{row[1]}: {row[4]} {row[5]}".strip() for row in new)
        worst = max((row[-1] for row in new), key=("right", "undecided", "wrong").index)
        print(f"{name}  {time.process_time() - start:.0f} s  {worst}  {said}", flush=True)
    if not names:
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([HEAD, *rows])
    count = {judged: sum(row[-1] == judged for row in rows) for judged in ("right", "undecided", "wrong")}
    print(f"zoo: {len(rows)} verdicts, " + ", ".join(f"{n} {judged}" for judged, n in count.items()))
    return 1 if count["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
