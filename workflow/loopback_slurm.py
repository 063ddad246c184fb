"""Start a SLURM on this machine, compute a few jobs of the tables again through it, compare, and take it down.

python workflow/loopback_slurm.py

For Debian and its like, as root: packages that lack are installed with apt-get. Key, socket, configuration and logs lie
in a folder of their own below _build, so that a SLURM that is here already is not touched.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from build import BUILD, LOG, MARK, end_left_over, run_snakemake
from chapters import ROOT
from lab import RESULTS, Ensemble, ensembles
from train import FAR

PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
N_JOBS = 3
OURS = str(BUILD / "slurm-")  # how the folders of our own begin
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def installed() -> str | None:
    """Install what lacks; return what stands in the way."""
    lacking = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if os.geteuid() != 0:
        return "a SLURM of one's own is started by root alone; run make test-slurm as root, in a container say"
    if lacking and not shutil.which("apt-get"):
        return f"{', '.join(lacking)} lack, and there is no apt-get here to install them with"
    if lacking:
        print(f"installing {', '.join(lacking)}", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *lacking]
        for command in (["apt-get", "update", "--quiet"], install):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            return f"apt-get could not install {', '.join(lacking)}: {(done.stderr or done.stdout).strip()[-300:]}"
    return None


def start(folder: Path) -> None:
    """Start munge, the controller and one node, and wait until the node takes jobs.

    Raises:
        RuntimeError: when a part of it ends, or no node is idle within a minute.
    """
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    memory = psutil.virtual_memory().total // 2**20
    host, base = os.uname().nodename.split(".")[0], 20000 + os.getpid() % 10000
    words = {"folder": folder, "ports": (base, base + 10000), "host": host, "cores": os.cpu_count(), "memory": memory}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**words))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    # a job's srun is not told of SLURM_CONF, which Snakemake's plug-in takes away with the rest of its environment
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    os.environ["PATH"] = f"{srun.parent}:{os.environ['PATH']}"
    places = {"key-file": key, "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    munge = [f"--{option}={folder / name}" for option, name in places.items()]
    munge += [f"--log-file={folder / 'munged.log'}"]
    # --force: of a folder that others may write to, it only warns
    commands = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]]
    processes = []
    for command in commands:
        with (folder / f"{command[0]}.out").open("w") as out:
            # without the mark of a run, as a later one would take them for its own
            environment = {name: value for name, value in os.environ.items() if name != MARK}
            processes.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True))
        time.sleep(1)
    for _ in range(60):
        if ended := [process.args[0] for process in processes if process.poll() is not None]:
            raise RuntimeError(f"{ended[0]} ended: {last_words(folder, ended[0])}")
        state = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True).stdout.strip()
        if state == "idle":
            return
        time.sleep(1)
    raise RuntimeError(f"its node takes no jobs: it is {state or 'unknown'}; {last_words(folder, 'slurmd')}")


def last_words(folder: Path, name: str) -> str:
    texts = [
        path.read_text(errors="replace") for path in (folder / f"{name}.log", folder / f"{name}.out") if path.exists()
    ]
    return "".join(texts).strip()[-500:]


def stop() -> None:
    """End every process of it and of its jobs, also of one that a kill left behind; remove its folder."""
    if os.environ.get("SLURM_CONF", "").startswith(OURS):  # and of no other SLURM
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=10)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        processes = daemons()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                end(process)
        psutil.wait_procs(processes, timeout=10)
    end_left_over()  # the jobs
    for folder in BUILD.glob("slurm-*"):
        shutil.rmtree(folder, ignore_errors=True)


def daemons() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get("SLURM_CONF", "").startswith(OURS)
            found += [process] if ours and process.pid != os.getpid() else []
    return found


def cheapest() -> list[tuple[Ensemble, int]]:
    """Return the quickest job of each of the quickest fresh tables, which are compared with."""
    jobs = []
    for ensemble in ensembles().values():
        if ensemble.state == "fresh":
            seconds = {job: about["seconds"] for job, about in ensemble.tabled().items()}
            quickest = min(seconds, key=seconds.get)
            jobs.append((seconds[quickest], ensemble.name, ensemble, quickest))
    return [(ensemble, job) for _, _, ensemble, job in sorted(jobs)[:N_JOBS]]


def compared(chosen: list[tuple[Ensemble, int]]) -> int:
    """Print how far each job lies from its table; return how many are missing or too far."""
    from cmlib.chapter.ensembles import read_columns, spreads_apart

    wrong = 0
    for ensemble, job in chosen:
        stem = ensemble.folder / str(job)
        if not Path(f"{stem}.json").exists():
            print(f"{ensemble.name}  job {job}  MISSING: see {LOG.relative_to(ROOT)}", flush=True)
            wrong += 1
            continue
        gap = spreads_apart(read_columns(stem), read_columns(RESULTS / ensemble.name))
        wrong += not gap <= FAR
        print(f"{ensemble.name}  job {job}  {gap:.2g} spreads from its table", flush=True)
    return wrong


def main() -> int:
    if problem := installed():
        print(f"test-slurm: {problem}", file=sys.stderr)
        return 1
    chosen = cheapest()
    if not chosen:
        print("test-slurm: no table is fresh, so there is nothing to compare with; run make lab", file=sys.stderr)
        return 1
    BUILD.mkdir(exist_ok=True)
    stop()
    try:
        start(Path(tempfile.mkdtemp(prefix="slurm-", dir=BUILD)))
        version = subprocess.run(["sbatch", "--version"], capture_output=True, text=True).stdout.strip()
        print(f"{version} takes jobs on loopback", flush=True)
        for ensemble, job in chosen:
            (ensemble.folder / f"{job}.json").unlink(missing_ok=True)
        run_snakemake("book", [f"_build/train/{e.name}/{job}.json" for e, job in chosen], "slurm")
        wrong = compared(chosen)
    except RuntimeError as error:
        print(f"test-slurm: {error}", file=sys.stderr)
        return 1
    finally:
        stop()
        print("SLURM is taken down", flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} jobs computed through SLURM agree with their tables")
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
