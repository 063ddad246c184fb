"""Make .venv from requirements.lock, or return at once when it already is what the lock says.

Run by the system's Python, so this file uses the standard library only and parses on old versions too.
A marker inside .venv tells our environments from foreign ones and finished ones from half-made ones.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time

WANTED = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
MARKER = os.path.join(VENV, "curse-of-memory")
LOCK = os.path.join(ROOT, "requirements.lock")
LOG = os.path.join(ROOT, "_build", "environment.log")
HALF_MADE = "installing"


def wanted_state():
    # The folder counts because a virtual environment that has been moved no longer works.
    with open(LOCK, "rb") as file:
        return hashlib.sha256(file.read() + ROOT.encode()).hexdigest()


def found_state():
    try:
        with open(MARKER) as file:
            return file.read().strip()
    except OSError:
        return None


def runs():
    try:
        return subprocess.call([PYTHON, "-I", "-S", "-c", ""], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def mark(state):
    with open(MARKER, "w") as file:
        file.write(state + "\n")


def remove():
    # The marker goes last, so that an interrupted removal still shows whose environment it was.
    for name in os.listdir(VENV):
        path = os.path.join(VENV, name)
        if path != MARKER:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    if os.path.exists(MARKER):
        os.remove(MARKER)
    os.rmdir(VENV)


def install():
    """Run the three steps with their output in a log; return the failed step's last error line, or None."""
    steps = (
        [sys.executable, "-m", "venv", VENV],
        [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-r", LOCK],
        [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        + ["--no-deps", "--no-build-isolation", "-e", ROOT],
    )
    with open(LOG, "w+") as log:
        for step in steps:
            if subprocess.call(step, stdout=log, stderr=subprocess.STDOUT) != 0:
                log.seek(0)
                lines = [line.strip() for line in log if line.strip()]
                errors = [line for line in lines if line.startswith("ERROR")]
                return (errors or lines or ["no output"])[-1]
    return None


def main():
    if sys.version_info[:2] != WANTED:
        found = ".".join(map(str, sys.version_info[:3]))
        return f"Python 3.11 is needed, but {sys.executable} is {found}; try: make PYTHON=/path/to/python3.11"
    if os.path.islink(VENV):
        return ".venv is a link to another folder, which is left alone; remove the link, then run make again"
    state, found = wanted_state(), found_state()
    if found == state and runs():
        return None
    if os.path.lexists(VENV) and found is None and not (os.path.isdir(VENV) and not os.listdir(VENV)):
        return ".venv was not made by this Makefile; move it away or delete it, then run make again"
    try:
        os.makedirs(os.path.dirname(LOG), exist_ok=True)
        lock = open(LOG + ".lock", "w")  # noqa: SIM115, closed below
    except OSError as error:
        return "cannot write to " + os.path.dirname(LOG) + ": " + str(error.strerror)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return "another make is setting up .venv; wait for it to finish"
        why = "setting up .venv"
        if found is not None:
            broken = "does not run" if found == state else "is for another requirements.lock or folder"
            why = "rebuilding .venv, which " + ("was half-made" if found == HALF_MADE else broken)
            remove()
        print(why + " (one to two minutes, about 1.5 GB) ...", flush=True)
        start = time.time()
        os.makedirs(VENV, exist_ok=True)
        mark(HALF_MADE)
        try:
            error = install()
        except KeyboardInterrupt:
            error = "interrupted"
        if error:
            remove()
            return f"could not set up .venv (is there a network?): {error}; see _build/environment.log"
        mark(state)
        print(f"set up .venv in {time.time() - start:.0f} s", flush=True)
    return None


if __name__ == "__main__":
    problem = main()
    if problem:
        sys.exit("make: " + problem)
