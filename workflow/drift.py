"""How far the evidence moves when one thing changes: instruction set, threads or seed.

python workflow/drift.py            every variant at the book preset; writes results/drift.csv and drift-numbers.json
python workflow/drift.py --slice    two of them at the smoke preset; fails where a verdict changes, writes nothing
"""

import csv
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chapters import ROOT, RUNS, chapters
from compare import columns_apart, move, printed_numbers
from evidence import distance, evidence_at
from figure_data import gathered, kept
from notebooks import code_cells, declared_parameters, read_notebook

TABLE, NUMBERS = ROOT / "results" / "drift.csv", ROOT / "results" / "drift-numbers.json"
BASELINE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Prescott",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "NUMBA_CPU_NAME": "generic",
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
}
# name -> (environment, seed or None); the first is this machine as it is
VARIANTS = {
    "native": ({}, None),
    "baseline": (BASELINE, None),
    "avx2": (AVX2, None),
    "two threads": ({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}, None),
    "seed 1": ({}, 1),
    "seed 2": ({}, 2),
    "seed 3": ({}, 3),
}
SLICE = ("native", "baseline", "seed 1")


def label(variant: str) -> str:
    return "drift-" + variant.replace(" ", "-")


def run(variant: str, chapter: str, preset: str) -> None:
    environment, seed = VARIANTS[variant]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, str(ROOT / "workflow" / "execute.py"), chapter, "--preset", preset]
    command += ["--label", label(variant), "--keep-going"]
    if seed is not None and "seed" in declared_parameters(read_notebook(ROOT / "book" / f"{chapter}.ipynb")):
        command += ["-p", "seed", str(seed)]
    subprocess.run(command, env=os.environ | single | environment, cwd=ROOT, check=False)


def found_in(variant: str) -> dict[str, dict]:
    """Return id -> its evidence in the run of a variant."""
    found = {}
    for chapter in chapters():
        path = RUNS / label(variant) / chapter / "executed.ipynb"
        if path.exists():
            found |= {row["id"]: row | {"chapter": chapter} for row in evidence_at(path)}
    return found


def rows(runs: dict[str, dict]) -> list[dict]:
    """Return the drift table: for each statement its bound, least and greatest value, and margin in spreads."""
    table = []
    for id, first in runs["native"].items():
        seen = {variant: found[id] for variant, found in runs.items() if id in found and found[id]["measured"]}
        own = {variant: row for variant, row in seen.items() if row["measured"]["value"] is not None}
        samples = [row["measured"] for row in own.values()]
        values = [float(sample["value"]) for sample in samples]
        between = statistics.pstdev(values) if values and all(abs(v) < float("inf") for v in values) else float("nan")
        margins = [
            distance(sample, row["bounds"]) / max(float(sample["spread"] or 0), between)
            for sample, row in zip(samples, own.values(), strict=True)
            if max(float(sample["spread"] or 0), between) > 0
        ]
        rivals = [float(row["rival"]["value"]) for row in own.values() if row["rival"]]
        # at smoke nothing is trained again, which leaves the checks of live seeds open
        other = [variant for variant, row in seen.items() if row["verdict"] not in ("PASS", "OPEN")]
        other += [variant for variant in runs if variant not in seen]
        table.append(
            {
                "id": id,
                "kind": first["kind"],
                "chapter": first["chapter"],
                "expected": first["expected"],
                "least": f"{min(values):.3g}" if values else "",
                "greatest": f"{max(values):.3g}" if values else "",
                "rival least": f"{min(rivals):.3g}" if rivals else "",
                "rival greatest": f"{max(rivals):.3g}" if rivals else "",
                "margin in spreads": f"{min(margins):.3g}" if margins else "",
                "runs": len(runs),
                "not passed in": " ".join(variant.replace(" ", "-") for variant in other),
            }
        )
    return table


def moves() -> dict[str, float]:
    """Return place -> largest relative move between machines of printed and drawn numbers, above a per cent."""
    found: dict[str, float] = {}
    machines = [variant for variant, (_, seed) in VARIANTS.items() if seed is None and variant != "native"]
    for chapter in chapters():
        drawn = kept(chapter)
        reference = code_cells(read_notebook(ROOT / "book" / f"{chapter}.ipynb"))
        for variant in machines:
            folder = RUNS / label(variant) / chapter
            if not (folder / "executed.ipynb").exists():
                continue
            for number, (one, other) in enumerate(
                zip(reference, code_cells(read_notebook(folder / "executed.ipynb")), strict=True), start=1
            ):
                pairs = zip(printed_numbers(one["outputs"]), printed_numbers(other["outputs"]), strict=False)
                for i, (a, b) in enumerate(pairs):
                    place = f"{chapter} cell {number} number {i}"
                    found[place] = max(found.get(place, 0.0), move(a, b))
            again = gathered(folder / "figures")
            for figure, columns in drawn.items():
                for place, by in columns_apart(figure, columns, again.get(figure, {})).items():
                    found[place] = max(found.get(place, 0.0), by)
    return {place: float(f"{by:.2g}") for place, by in sorted(found.items()) if by > 0.01}


def main(arguments: list[str]) -> int:
    small = arguments == ["--slice"]
    variants, preset = (SLICE, "smoke") if small else (tuple(VARIANTS), "book")
    jobs = [(variant, chapter, preset) for variant in variants for chapter in chapters()]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(lambda job: run(*job), jobs))
    table = rows({variant: found_in(variant) for variant in variants})
    changed = [row for row in table if row["not passed in"]]
    for row in changed:
        print(f"{row['id']}: {row['least']} to {row['greatest']}, not passed in {row['not passed in']}")
    print(f"{len(table)} statements, {len(table) - len(changed)} hold in every one of {len(variants)} runs")
    if has_avx512() is False:
        print("AVX-512: not run, as this CPU has none")
    if not small:
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
        moved = moves()
        for place in [place for place, by in moved.items() if by == float("inf")]:
            print(f"{place}: of another length, or another word, on another machine")
            changed.append(moved.pop(place))
        NUMBERS.write_text(json.dumps(moved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if changed else 0


def has_avx512() -> bool | None:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return None


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--slice"]):
        sys.exit("usage: python workflow/drift.py [--slice]")
    sys.exit(main(sys.argv[1:]))
