"""One run of the workflow: take the lock, clear what a killed run left, let Snakemake work, sum up.

python workflow/build.py book|site|smoke|paper|update
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
from chapters import ROOT, RUNS, chapters, preset_values
from notebooks import claims_of, merged, normalised, read_notebook
from scorecard import tally

BUILD = ROOT / "_build"
LOG = BUILD / "snakemake.log"
# Every process of a run carries this, so that the next run finds the kernels a killed one left behind.
MARK = "CURSE_OF_MEMORY_RUN"
# command -> (preset, Snakemake's target)
COMMANDS = {
    "book": ("book", "site"),
    "site": ("committed", "site"),
    "smoke": ("smoke", "chapters"),
    "paper": ("paper", "site"),
    "update": ("book", "chapters"),
}
# shown in README
PICTURES = {"linear/memory-kernels": "B-F1b.png"}


def left_over() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(ROOT):
                found.append(process)
        except psutil.Error:  # another user's process, or one that has just ended
            continue
    return found


def end_left_over() -> int:
    """End what an earlier run left; safe because the lock says that no run lives."""
    processes = left_over()
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(processes, timeout=5)
    return len(processes)


def run_snakemake(preset: str, target: str) -> int:
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    # --nolock: our own lock is already held, and unlike Snakemake's it cannot outlive its process
    command += ["--cores", "all", "--keep-going", "--rerun-incomplete", "--nolock", "--quiet", "all"]
    command += ["--config", f"preset={preset}", "--", target]
    with LOG.open("w") as log:
        return subprocess.call(command, cwd=ROOT, stderr=log, env=os.environ | threads | {MARK: str(ROOT)})


def executed(preset: str, chapter: str) -> Path:
    if preset == "committed":
        return ROOT / "book" / f"{chapter}.ipynb"
    return RUNS / preset / chapter / "executed.ipynb"


def sum_up(preset: str, started: float) -> bool:
    """Print a line for each chapter that had nothing to do, then the totals; False if a claim fails."""
    claims = []
    for chapter in chapters():
        path = executed(preset, chapter)
        own = claims_of(read_notebook(path)) if path.exists() else []
        if preset != "committed" and path.exists() and path.stat().st_mtime < started:
            print(f"{chapter}  {preset}  up to date  {tally(own)}")
        claims += own
    print(tally(claims), flush=True)
    return all(claim["passed"] for claim in claims)


def update() -> None:
    """Put the new outputs into the chapters, whose prose may be newer than the run."""
    for chapter in chapters():
        path = ROOT / "book" / f"{chapter}.ipynb"
        new = read_notebook(executed("book", chapter))
        text = normalised(merged(read_notebook(path), new), claims_of(new))
        changed = text != path.read_text(encoding="utf-8")
        if changed:
            path.write_text(text, encoding="utf-8")
        print(f"{chapter}  {'updated' if changed else 'no change'}")
        if picture := PICTURES.get(chapter):
            shutil.copyfile(RUNS / "book" / chapter / "figures" / picture, ROOT / "book" / "_static" / picture)


def main(name: str) -> int:
    started = time.time()
    preset, target = COMMANDS[name]
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("build: another run is at work in this folder; wait for it to finish", file=sys.stderr)
            return 1
        try:
            if preset != "committed":
                preset_values(preset)  # a wrong preset is one line here, and a traceback inside Snakemake
        except ValueError as error:
            print(f"build: {error}", file=sys.stderr)
            return 2
        if ended := end_left_over():
            print(f"ended {ended} processes left by a run that was killed")
        try:
            code = run_snakemake(preset, target)
        except KeyboardInterrupt:
            print("build: interrupted; the next run goes on from here", file=sys.stderr)
            return 130
        finally:
            end_left_over()
        if code != 0:
            print(f"build: FAILED; see the lines above and {LOG.relative_to(ROOT)}", file=sys.stderr)
            return code
        if name == "update":
            update()
        if target == "site":
            print(f"site  {BUILD / 'html' / 'index.html'}")
        return 0 if sum_up(preset, started) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python workflow/build.py {'|'.join(COMMANDS)}")
    sys.exit(main(sys.argv[1]))
