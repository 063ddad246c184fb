"""Stage the book and build its pages, every warning an error; the old site stays until the new is whole."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from chapters import ROOT
from notebooks import read_notebook
from stage import STAGE, stage

BUILT = ROOT / "_build" / "sphinx"
HTML = ROOT / "_build" / "html"
LOG = ROOT / "_build" / "site.log"


def explained(line: str) -> str:
    """Return a warning of Sphinx with the page, the cell and its line in place of a staged file's path."""
    line = re.sub(r"\x1b\[[0-9;]*m", "", line).replace(f"{STAGE}/", "")
    found = re.match(r"(\S+\.ipynb):(\d+): (.*)", line)
    if not found:
        return line
    # MyST-NB numbers the lines of a notebook 10000 x cell + line + 1
    page, (cell, within), text = found[1], divmod(int(found[2]) - 1, 10000), found[3]
    cells = read_notebook(STAGE / page)["cells"]
    links = sum(c.get("id", "").startswith("files-") for c in cells[:cell])
    return f"{page}, cell {cell - links}, line {within}: {text}"


def build() -> list[str]:
    """Return the warnings and errors of the build; an empty list when the site is in place."""
    shutil.rmtree(BUILT, ignore_errors=True)  # incremental builds give false passes and false failures
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(STAGE)]
    command += ["--path-output", str(BUILT), "-n", "-W", "--keep-going", "-q"]
    with LOG.open("w+", encoding="utf-8") as log:
        code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        log.seek(0)
        text = log.read()
    problems = [explained(line) for line in text.splitlines() if re.search("WARNING: |ERROR: |CRITICAL: ", line)]
    if code != 0:
        return problems or text.splitlines()[-3:] or [f"the build ended with code {code}"]
    shutil.copy(STAGE / "scorecard.json", BUILT / "_build" / "html" / "scorecard.json")
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.move(BUILT / "_build" / "html", HTML)
    return problems


def publish(preset: str) -> tuple[bool, dict[str, dict]]:
    """Build the site; return whether it is in place, and chapter -> what its page warns of."""
    start, troubles = time.monotonic(), {}
    print("site  building ...", flush=True)
    try:
        troubles = stage(preset)
        problems = build()
    except ValueError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"site  {problem}", flush=True)
    if problems:
        print(f"site  FAILED; see {LOG.relative_to(ROOT)}", flush=True)
    else:
        print(f"site  {time.monotonic() - start:.0f} s", flush=True)
    return not problems, troubles
