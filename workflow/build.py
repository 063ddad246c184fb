"""One run of the workflow: take the lock, clear what a killed run left, let Snakemake work, publish, sum up.

python workflow/build.py book|site|smoke|paper|update|lab [CHAPTER or ENSEMBLE ...]

A chapter is executed when it has no whole run of today's code, whatever the times of its files say. Claims that fail
and chapters that crash stop nothing: the site is built, they are listed last, and the exit status is 1.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from chapters import ROOT, RUNS, chapters, preset_values
from digests import chapter_digest, content_digest, digest
from evidence import evidence_at, tally
from identity import identity
from lab import RESULTS, Ensemble, ensembles, gather
from own_values import OWN

BUILD = ROOT / "_build"
LOG = BUILD / "snakemake.log"
# Every process of a run carries this, so that the next run finds the kernels a killed one left behind.
MARK = "CURSE_OF_MEMORY_RUN"
# where jobs run -> what Snakemake is told; squeue knows of jobs where a cluster keeps no accounts, which sacct asks
EXECUTORS = {
    "local": ["--cores", "all", "--quiet", "all"],
    "slurm": ["--executor", "slurm", "--jobs", "100", "--slurm-status-command", "squeue"],
}
# command -> preset of its chapters
COMMANDS = {"book": "book", "site": "committed", "smoke": "smoke", "paper": "paper", "update": "book", "lab": None}


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


def run_snakemake(preset: str, targets: list[str], executor: str = "local") -> None:
    """Let Snakemake make the targets; what it could not make is missing afterwards.

    executor: "local", or "slurm" for a job of the cluster each.
    """
    threads = {name: os.environ.get("OMP_NUM_THREADS", "1") for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    threads = {"OMP_NUM_THREADS": "1"} | threads | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    # --nolock: our own lock is already held, and unlike Snakemake's it cannot outlive its process
    command += [*EXECUTORS[executor], "--keep-going", "--rerun-incomplete", "--nolock"]
    # what is out of date was taken away before, by content; times of files say nothing
    command += ["--rerun-triggers", "code", "--config", f"preset={preset}", "--", *targets]
    environment = os.environ | threads | {MARK: str(ROOT)}
    cluster = executor == "slurm"
    with (
        LOG.open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stderr=log, env=environment, start_new_session=cluster) as process,
    ):
        try:
            process.wait()
        except BaseException:
            if cluster:  # it takes its jobs off the cluster, if it is told once and given the time
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
            process.kill()
            raise


def read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def whole(preset: str, chapter: str, values: dict) -> bool:
    """Return whether a chapter's run is there, of today's code, complete and as it was left."""
    folder = RUNS / preset / chapter
    run = read_json(folder / "run.json")
    if not run or run.get("crash") or run.get("digest") != chapter_digest(chapter, values):
        return False
    executed = folder / "executed.ipynb"
    return executed.exists() and content_digest(executed) == run["content"]


def execute(preset: str, wanted: list[str]) -> None:
    """Execute the chapters that have no whole run."""
    values = preset_values(preset)
    for chapter in wanted:
        if whole(preset, chapter, values[chapter]):
            print(f"{chapter}  {preset}  up to date  {tally(evidence(preset, chapter))}", flush=True)
        else:
            shutil.rmtree(RUNS / preset / chapter, ignore_errors=True)
    missing = [c for c in wanted if not (RUNS / preset / c / "run.json").exists()]
    if missing:
        run_snakemake(preset, [f"_build/run/{preset}/{chapter}/run.json" for chapter in missing])
    for chapter in missing:
        if not (RUNS / preset / chapter / "run.json").exists():
            print(f"{chapter}  {preset}  FAILED: it ended without a word; see {LOG.relative_to(ROOT)}", flush=True)


def evidence(preset: str, chapter: str) -> list[dict]:
    path = RUNS / preset / chapter / "executed.ipynb"
    if preset == "committed":
        path = ROOT / "book" / f"{chapter}.ipynb"
    return evidence_at(path) if path.exists() else []


def site_state(preset: str) -> str:
    """Return a hash of everything a site is made of."""
    paths = [ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "LICENSE", *sorted((ROOT / "book").rglob("*"))]
    paths += [*sorted((ROOT / "cmlib").rglob("*.py")), *sorted((ROOT / "workflow").glob("*.py"))]
    paths += [*sorted(RESULTS.rglob("*")), *sorted(OWN.rglob("run.json"))]
    paths += [RUNS / preset / chapter / "run.json" for chapter in chapters()]
    skipped = ("__pycache__", "cmlib-output", ".ipynb_checkpoints")
    kept = [path for path in paths if path.is_file() and not any(name in path.parts for name in skipped)]
    return digest(preset, identity(), [(str(path.relative_to(ROOT)), content_digest(path)) for path in kept])


def site(preset: str) -> dict[str, dict] | None:
    """Build the site unless it is there already; return the pages' troubles, or None if it could not be built."""
    from publish import HTML, publish

    marker, state = BUILD / "site.json", site_state(preset)
    before = read_json(marker)
    if before and before["state"] == state and (HTML / "index.html").exists():
        return before["troubles"]
    marker.unlink(missing_ok=True)
    built, troubles = publish(preset)
    if built:
        marker.write_text(json.dumps({"state": state, "troubles": troubles}), encoding="utf-8")
    return troubles if built else None


def sum_up(preset: str, wanted: list[str], troubles: dict[str, dict]) -> bool:
    """Print the totals of what was asked for, and what does not hold last; return whether everything does."""
    rows, wrong = [], []
    for chapter in wanted:
        own = evidence(preset, chapter)
        rows += own
        run = read_json(RUNS / preset / chapter / "run.json") or {}
        if preset != "committed" and (not own or run.get("crash")):
            wrong.append(f"{chapter}: crashed")
        kinds = [kind for kind in ("altered", "stale") if kind in troubles.get(chapter, {})]
        wrong += [f"{chapter}: {kind}: {troubles[chapter][kind]}" for kind in kinds]
        # an open claim is no evidence; at smoke nothing is trained again, which leaves checks open
        amiss = ("FAIL", "NOT REACHED") if preset == "smoke" else ("FAIL", "NOT REACHED", "OPEN")
        bad = [row for row in own if row["verdict"] in amiss]
        wrong += [f"{chapter}: {row['verdict']} {row['kind']} {row['id']}: {row['says']}" for row in bad]
    print(tally(rows), flush=True)
    for line in wrong:
        print(line, flush=True)
    return all(": stale: " in line for line in wrong)


def update(wanted: list[str]) -> None:
    from update import update as put

    for chapter in wanted:
        try:
            print(f"{chapter}  {'updated' if put(chapter) else 'no change'}")
        except (OSError, ValueError) as error:  # it crashed, or was edited while it ran
            print(f"{chapter}  not updated: {error}")


def lab(names: list[str]) -> int:
    """Compute the jobs that the tables of results/ lack, and gather what is done, however it ends."""
    known, executor = ensembles(), os.environ.get("EXECUTOR") or "local"
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no ensemble {unknown[0]!r}; the ensembles are: {', '.join(known)}")
    if wrong := wrong_executor(executor):
        raise ValueError(wrong)
    chosen = [known[name] for name in names or known]
    put_together(chosen)
    left = {ensemble: jobs for ensemble in chosen if (jobs := ensemble.left())}
    if left:
        announce(left, executor)
    for ensemble in left:
        digest = ensemble.digest
        for job in [job for job, about in ensemble.kept().items() if about["digest"] != digest]:
            (ensemble.folder / f"{job}.json").unlink()
    try:
        if left:
            targets = [f"_build/train/{ensemble.name}/{job}.json" for ensemble, jobs in left.items() for job in jobs]
            run_snakemake("book", targets, executor)
    finally:
        put_together(list(left))
        for ensemble in left:
            if jobs := ensemble.left():
                log = LOG.relative_to(ROOT)
                print(f"{ensemble.name}  {len(jobs)} of {len(ensemble.jobs)} jobs left; see {log}", flush=True)
    lacking = [ensemble.name for ensemble in known.values() if ensemble.state != "fresh"]
    print(
        f"{len(known) - len(lacking)} of {len(known)} tables are fresh"
        + (f"; not {', '.join(lacking)}" * bool(lacking))
    )
    return 1 if any(ensemble.name in lacking for ensemble in chosen) else 0


def wrong_executor(executor: str) -> str | None:
    """Return what speaks against running jobs there, on the device that was asked for."""
    from train import wrong_device

    if executor not in EXECUTORS:
        return f"expected EXECUTOR=local or EXECUTOR=slurm, got {executor!r}"
    if executor == "slurm" and not shutil.which("sbatch"):
        return "EXECUTOR=slurm needs a machine of a SLURM cluster, and there is no sbatch here"
    on_other_machines = executor == "slurm" and os.environ.get("CMLIB_DEVICE") == "cuda"
    return None if on_other_machines else wrong_device()  # there each job looks for itself


def put_together(chosen: list[Ensemble]) -> None:
    for ensemble in chosen:
        try:
            gather(ensemble)
        except ValueError as error:
            print(f"not gathered: {error}", flush=True)


def announce(left: dict[Ensemble, list[int]], executor: str) -> None:
    """Say what is left of each table, and how long it took before."""
    estimates = [ensemble.estimate(jobs) for ensemble, jobs in left.items()]
    for (ensemble, jobs), estimate in zip(left.items(), estimates, strict=True):
        takes = "nobody knows how long" if estimate is None else f"about {duration(estimate)} of a core"
        print(f"{ensemble.name}  {ensemble.state}: {len(jobs)} of {len(ensemble.jobs)} jobs left, {takes}", flush=True)
    if known := [estimate for estimate in estimates if estimate is not None]:
        total, cores = sum(known), len(os.sched_getaffinity(0))
        here = (
            f"{duration(total / cores)} on the {cores} cores here"
            if executor == "local"
            else f"{duration(total)} of a core"
        )
        unknown = " and what nobody knows" if None in estimates else ""
        print(f"together about {here}{unknown}, as long as such jobs took when they were last computed", flush=True)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def main(name: str, given: list[str]) -> int:
    preset = COMMANDS[name]
    try:
        BUILD.mkdir(exist_ok=True)
        lock = (BUILD / "lock").open("w")
    except OSError as error:
        print(f"build: cannot write to {BUILD}: {error.strerror}", file=sys.stderr)
        return 1
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("build: another run is at work in this folder; wait for it to finish", file=sys.stderr)
            return 1
        try:
            if ended := end_left_over():
                print(f"ended {ended} processes left by a run that was killed")
            return work(name, preset, given)
        except ValueError as error:
            print(f"build: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("build: interrupted; the next run goes on from here", file=sys.stderr)
            return 130
        finally:
            end_left_over()


def work(name: str, preset: str | None, given: list[str]) -> int:
    if name == "lab":
        return lab(given)
    known = chapters()
    if unknown := [chapter for chapter in given if chapter not in known]:
        raise ValueError(f"no chapter {unknown[0]!r}; the chapters are: {', '.join(known)}")
    wanted = given or known
    if preset != "committed":
        execute(preset, wanted)
    if name == "update":
        update(wanted)
    troubles = {}
    if name in ("book", "site", "paper"):
        troubles = site(preset)
        if troubles is None:
            return 1
        print(f"site  {BUILD / 'html' / 'index.html'}")
    return 0 if sum_up(preset, wanted, troubles) else 1


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python workflow/build.py {'|'.join(COMMANDS)} [NAME ...]")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
