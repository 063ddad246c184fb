"""The engine on a tiny copy of the project: two chapters without torch, and a library of one number."""

import ast
import fcntl
import functools
import gzip
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from chapters import preset_values, typed_values  # noqa: E402
from digests import COMPUTING, versions_digest  # noqa: E402
from notebooks import merged, read_notebook  # noqa: E402
from scorecard import page_body, record  # noqa: E402
from stage import with_alt_and_links, with_badges, with_banner  # noqa: E402
from test_layout import imports, sources  # noqa: E402

PARAMETERS = "rate: float = 0.5  # per unit of time\nwidths: list[int] = [2, 4]  # of the model"
CLAIM = """from cmlib import claims, number
_ = claims.claim("{id}", number.NUMBER, rival=7, below={bound})"""
TABLE = "| Claim | Fails for | Source |\n|:--|:--|:--|\n| **{id}** the number is small | seven | wang2024inverse |\n"
ATLAS = """- id: B-F1
  name: Figure 1 of B
  title: a number
  source: text
  says: It is small.
  verdict: contradicted
  why: It is {claim}`two`.
  sections: [linear/two]
  evidence: [two]
"""


def write_chapter(project, name, *cells, prose="Prose."):
    notebook = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    declared = "\n\n".join(TABLE.format(id=id) for id in re.findall(r'claims.claim\("(.*?)"', "".join(cells)))
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# Chapter {name}\n\n{prose}\n\n{declared}"), parameters]
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    path = project / "book" / "linear" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def run(project, *command):
    environment = os.environ | {"PYTHONPATH": str(project)}
    return subprocess.run(
        [sys.executable, "workflow/build.py", *command],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    project = tmp_path_factory.mktemp("project")
    for folder in ("workflow", "book/_ext", "book/_static", "book/_extra", "book/_templates"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "book" / "back").mkdir()
    for name in (
        "_config.yml",
        "CITATION.cff",
        "LICENSE",
        "book/references.bib",
        "book/back/scorecard.md",
        "book/back/references.md",
    ):
        shutil.copy(ROOT / name, project / name)
    shutil.copy(ROOT / "book" / "atlas.md", project / "book")
    (project / "book" / "atlas.yml").write_text(ATLAS)
    (project / "results" / "published").mkdir(parents=True)
    (project / "workflow" / "presets.yml").write_text("smoke:\n  linear/one: {rate: 0.25}\n")
    (project / "requirements.lock").write_text("")
    (project / "book" / "intro.md").write_text("# Intro\n\nSee {cite:t}`wang2024inverse`.\n\n% evidence\n\n% atlas\n")
    pages = ["book/atlas", "book/linear/one", "book/linear/two", "book/back/scorecard", "book/back/references"]
    toc = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": page} for page in pages]}
    (project / "_toc.yml").write_text(yaml.safe_dump(toc))
    (project / "cmlib").mkdir()
    (project / "cmlib" / "__init__.py").write_text("")
    (project / "cmlib" / "number.py").write_text("NUMBER = 0.25\n")
    shutil.copy(ROOT / "cmlib" / "chapter" / "claims.py", project / "cmlib")
    write_chapter(project, "one", CLAIM.format(id="one", bound=1), prose="It measures {claim}`one`.")
    write_chapter(project, "two", CLAIM.format(id="two", bound=1))
    done = run(project, "book")
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done.stdout


@pytest.fixture
def project(built, tmp_path):
    return shutil.copytree(built[0], tmp_path / "project")


def test_book_prints_each_chapter_the_site_and_last_the_scorecard(built):
    project, out = built
    for name in ("one", "two"):
        assert re.search(rf"^linear/{name}  book  \d+ s  1 claim, 1 pass · 0 checks, 0 pass$", out, re.MULTILINE)
    assert out.splitlines()[-2:] == [f"site  {project}/_build/html/index.html", "2 claims, 2 pass · 0 checks, 0 pass"]
    scorecard = json.loads((project / "_build/html/scorecard.json").read_text())
    assert [claim["chapter"] for claim in scorecard["evidence"]] == ["linear/one", "linear/two"]
    page = (project / "_build/html/book/linear/one.html").read_text()
    assert re.search(r'href="[^"]*scorecard.html#claim-one"[^>]*><span[^>]*>0.25', page)


def test_nothing_is_done_twice_and_prose_alone_executes_nothing(project):
    done = run(project, "book")
    assert done.returncode == 0 and done.stdout.count("up to date") == 2
    assert "running" not in done.stdout and "building" not in done.stdout
    write_chapter(project, "two", CLAIM.format(id="two", bound=1), prose="Better prose.")
    done = run(project, "book")
    assert "running" not in done.stdout and "site  building" in done.stdout
    assert "Better prose." in (project / "_build/html/book/linear/two.html").read_text()


def test_what_counts_is_content_and_not_the_times_of_files(project):
    module = project / "cmlib" / "number.py"
    module.write_text('"""Documented."""\n\nNUMBER = 0.25  # the same\n')
    done = run(project, "update")
    assert done.stdout.count("up to date") == 2
    times = module.stat()
    module.write_text("NUMBER = 0.75\n")
    os.utime(module, (times.st_atime, times.st_mtime - 1e6))  # an edit that looks older than every run
    done = run(project, "update")
    assert done.stdout.count("running") == 2 and done.stdout.count("updated") == 2
    committed = project / "book" / "linear" / "one.ipynb"
    first = committed.read_bytes()
    claim = json.loads(first)["metadata"]["cmlib"]["claims"][0]
    assert claim["measured"]["value"] == 0.75 and b"papermill" not in first and b"shell.execute" not in first
    executed = project / "_build/run/book/linear/two/executed.ipynb"
    executed.write_text(executed.read_text()[:-100])  # damaged
    done = run(project, "update", "linear/two")
    assert done.stdout.count("running") == 1 and done.stdout.count("no change") == 1
    assert committed.read_bytes() == first


def test_update_of_one_chapter_in_a_fresh_clone_asks_nothing_of_the_others(project):
    shutil.rmtree(project / "_build/run/book/linear/two")  # it was never executed here
    done = run(project, "update", "linear/one")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "1 claim, 1 pass · 0 checks, 0 pass"
    assert "linear/two" not in done.stdout


def test_failing_claim_stops_nothing_and_is_red_wherever_it_stands(project):
    (project / "book" / "atlas.yml").write_text(ATLAS.replace("two", "one"))
    write_chapter(project, "one", CLAIM.format(id="one", bound=0.1), "after = 1", prose="It is {claim}`one`.")
    done = run(project, "book")
    assert done.returncode == 1
    assert re.search(r"linear/one  book  \d+ s  1 claim, 0 pass, 1 FAIL", done.stdout)
    assert done.stdout.splitlines()[-1] == "linear/one: FAIL claim one: the number is small"
    executed = read_notebook(project / "_build/run/book/linear/one/executed.ipynb")
    assert executed["cells"][-1]["execution_count"] == 3  # the chapter went on to its end
    page = (project / "_build/html/book/linear/one.html").read_text()
    assert "badge-fail" in page and '<span class="fail">FAIL' in page
    assert "Not everything holds on this copy" in (project / "_build/html/book/intro.html").read_text()
    assert '<span class="fail">FAIL' in (project / "_build/html/book/back/scorecard.html").read_text()
    assert 'is-failing">evidence fails' in (project / "_build/html/book/atlas.html").read_text()
    assert "On this copy the evidence fails" in (project / "_build/html/book/intro.html").read_text()


def test_crash_ends_one_chapter_whose_page_shows_what_was_committed_under_a_banner(project):
    assert run(project, "update").returncode == 0
    notebook = nbformat.read(project / "book/linear/one.ipynb", as_version=4)
    notebook.cells[-1].source = "1 / 0"
    nbformat.write(notebook, project / "book/linear/one.ipynb")
    done = run(project, "book")
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if "FAILED" in line)
    assert line.startswith("linear/one  book  FAILED in code cell [2] `1 / 0`: ZeroDivisionError")
    assert (project / "_build/run/book/linear/one/failed.ipynb").exists()
    page = (project / "_build/html/book/linear/one.html").read_text()
    assert "crashed in code cell [2]" in page and "badge-pass" in page
    assert done.stdout.splitlines()[-1] == "linear/one: crashed"
    assert "running" in run(project, "book").stdout  # a crash is no result: it is tried again


def test_site_names_outputs_that_are_stale_and_refuses_altered_ones(project):
    assert run(project, "update").returncode == 0
    path = project / "book/linear/one.ipynb"
    good = path.read_text()
    (project / "cmlib" / "number.py").write_text("NUMBER = 0.5\n")
    done = run(project, "site")
    assert done.returncode == 0 and "linear/one: stale: " in done.stdout
    assert "come from other code" in (project / "_build/html/book/linear/one.html").read_text()
    (project / "cmlib" / "number.py").write_text("NUMBER = 0.25\n")
    edited = json.loads(good)
    edited["metadata"]["cmlib"]["claims"][0]["measured"]["value"] = 9.0
    edited["metadata"]["cmlib"]["claims"][0]["passed"] = True
    path.write_text(json.dumps(edited))
    numbers = project / "results/figures/linear-two.json.gz"
    numbers.parent.mkdir(parents=True, exist_ok=True)
    numbers.write_bytes(gzip.compress(b'{"B": {"x": ["9"]}}'))  # drawn by no run
    done = run(project, "site")
    assert done.returncode == 1 and "linear/one: altered: " in done.stdout and "linear/two: altered: " in done.stdout
    assert "linear/one: FAIL claim one" in done.stdout  # the verdict comes from the number, not from what is written
    path.write_text(good)
    numbers.unlink()
    done = run(project, "site")
    assert done.returncode == 0 and "stale" not in done.stdout and "altered" not in done.stdout


def test_cell_that_kills_its_kernel_fails_the_chapter(project):
    write_chapter(project, "one", "import os\nos.kill(os.getpid(), 9)", "after = 1")
    done = run(project, "update", "linear/one")
    assert done.returncode != 0 and "linear/one  book  FAILED in code cell [2] `import os`: DeadKernel" in done.stdout


TABLE_OF_SIX = """from pathlib import Path
import os
import time
from cmlib.chapter.ensembles import ensemble


def grid(*, seed, m, scale):
    while list(Path("_build/train/grid").glob("*.json")) and "GO" not in os.environ:
        Path(f"waits-{seed}-{m}").touch()
        time.sleep(0.05)
    if Path("broken").exists() and m == 4:
        raise ValueError("it diverged")
    return [{"m": m, "error": scale * (seed + m + 0.5)}]


rows = ensemble("grid", grid, 3, parts={"m": widths}, scale=rate)"""


@pytest.fixture
def laboratory(project):
    """The project with a table of three seeds of two parts; once a job is done, others wait unless GO is set."""
    (project / "cmlib" / "chapter").mkdir()
    for name in ("__init__", "ensembles"):
        shutil.copy(ROOT / "cmlib" / "chapter" / "ensembles.py", project / "cmlib" / "chapter" / f"{name}.py")
    (project / "cmlib" / "chapter" / "__init__.py").write_text("")
    write_chapter(project, "one", TABLE_OF_SIX)
    return project


def record_of_grid(project):
    return json.loads((project / "results" / "grid.json").read_text())


@pytest.mark.parametrize("signal_of_end", [signal.SIGKILL, signal.SIGINT])
def test_lab_that_is_stopped_keeps_what_was_done_and_goes_on_from_there(laboratory, monkeypatch, signal_of_end):
    command = [sys.executable, "workflow/build.py", "lab"]
    environment = os.environ | {"PYTHONPATH": str(laboratory)}
    done = laboratory / "_build" / "train" / "grid"
    out = (laboratory / "out").open("w")
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background ignores it
    words = {"cwd": laboratory, "env": environment, "stdout": out, "stderr": out, "preexec_fn": heard}
    with out, subprocess.Popen(command, **words) as process:
        for _ in range(1200):
            n_done, n_waiting = len(list(done.glob("*.json"))), len(list(laboratory.glob("waits-*")))
            if n_done and n_waiting == min(len(os.sched_getaffinity(0)), 6 - n_done):
                break
            time.sleep(0.05)
        process.send_signal(signal_of_end)
    said = (laboratory / "out").read_text()
    assert said.startswith("grid  missing: 6 of 6 jobs left, nobody knows how long\ngrid  job ")
    kept = {path.name: path.read_bytes() for path in done.glob("*.json")}
    assert len(kept) == n_done
    if signal_of_end == signal.SIGINT:
        assert process.returncode == 130 and "the next run goes on from here" in said
        assert {f"{job}.json" for job in record_of_grid(laboratory)["jobs"]} == set(kept)
        assert carriers(laboratory) == []
    monkeypatch.setenv("GO", "1")  # not for jobs that the kill left behind, which wait on
    again = run(laboratory, "lab")
    assert again.returncode == 0, again.stdout + again.stderr
    lines = again.stdout.splitlines()
    left = next(line for line in lines if " jobs left, " in line)
    assert re.fullmatch(rf"grid  partial: {6 - n_done} of 6 jobs left, about \d+ s of a core", left)
    assert re.search(r"^together about \d+ s on the \d+ cores here, as long as", again.stdout, re.MULTILINE)
    assert lines[-1] == "1 of 1 tables are fresh" and again.stdout.count("grid  job ") == 6 - n_done
    record = record_of_grid(laboratory)
    assert list(record["jobs"]) == [str(job) for job in range(6)] and record["parts"] == {"m": [2, 4]}
    assert {name: (done / name).read_bytes() for name in kept} == kept  # nothing was computed twice
    assert run(laboratory, "lab").stdout == "1 of 1 tables are fresh\n"


def test_lab_gathers_what_was_done_beside_jobs_that_failed(laboratory, monkeypatch):
    monkeypatch.setenv("GO", "1")
    (laboratory / "broken").touch()
    done = run(laboratory, "lab", "grid")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == [
        "grid  3 of 6 jobs left; see _build/snakemake.log",
        "0 of 1 tables are fresh; not grid",
    ]
    assert list(record_of_grid(laboratory)["jobs"]) == ["0", "2", "4"]
    assert "it diverged" in (laboratory / "_build" / "snakemake.log").read_text()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"EXECUTOR": "pbs"}, "expected EXECUTOR=local or EXECUTOR=slurm, got 'pbs'"),
        (
            {"EXECUTOR": "slurm", "PATH": ""},
            "EXECUTOR=slurm needs a machine of a SLURM cluster, and there is no sbatch",
        ),
        ({"CMLIB_DEVICE": "gpu"}, "expected DEVICE=cpu or DEVICE=cuda, got 'gpu'"),
        ({"CMLIB_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}, "DEVICE=cuda was asked for, but torch"),
    ],
)
def test_lab_refuses_places_that_are_not_there_before_anything_runs(laboratory, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = run(laboratory, "lab")
    assert done.returncode == 2 and done.stderr.startswith(f"build: {said}") and done.stdout == ""


def test_job_that_is_killed_is_named(project):
    end = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGKILL)"
    write_chapter(project, "one", end)
    done = run(project, "update", "linear/one")
    assert done.returncode == 1 and "linear/one  book  FAILED: it ended without a word" in done.stdout


@pytest.mark.parametrize(
    "text", ["", "{}", '{"cells": 1, "metadata": {}}', '{"cells": [{"cell_type": "code"}], "metadata": {}}']
)
def test_file_that_is_no_notebook_is_named(tmp_path, text):
    path = tmp_path / "broken.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.ipynb: not a notebook"):
        read_notebook(path)


def test_preset_values_reach_the_notebook_and_wrong_ones_are_refused_before_anything_runs(project):
    done = run(project, "smoke")
    assert done.returncode == 0 and done.stdout.count("running") == 2
    executed = json.loads((project / "_build/run/smoke/linear/one/executed.ipynb").read_text())
    assert any("rate = 0.25" in "".join(cell["source"]) for cell in executed["cells"])
    (project / "workflow" / "presets.yml").write_text("smoke:\n  linear/one: {rat: 0.25}\n")
    done = run(project, "smoke")
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr == "build: linear/one has no parameter 'rat'; its parameters are: rate, widths\n"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{rate: 1e-3}", r"'rate' expects float, got '1e-3'; write 1.0e-3, not 1e-3"),
        ("{rate: true}", "'rate' expects float, got True"),
        ("{widths: 3}", r"'widths' expects list\[int\], got 3"),
        ("{widths: [2, 2.5]}", "'widths' expects int, got 2.5"),
        ("{speed: 1}", "no parameter 'speed'"),
    ],
)
def test_wrong_parameter_is_refused(built, values, message):
    with pytest.raises(ValueError, match=message):
        typed_values("linear/one", yaml.safe_load(values), built[0])


def test_right_parameters_are_typed(built):
    typed = typed_values("linear/one", {"rate": 2, "widths": [3]}, built[0])
    assert typed == {"rate": 2.0, "widths": [3]} and type(typed["rate"]) is float


@pytest.mark.parametrize(
    ("presets", "preset", "message"),
    [
        ("", "huge", "unknown preset 'huge'; the presets are: smoke, book, paper"),
        ("huge: {}", "smoke", "expected smoke or paper, got 'huge'"),
        ("smoke: {linear/ten: {}}", "smoke", "'linear/ten', which is no chapter"),
        ("paper: {linear/one: {rate: 1e-3}}", "smoke", "expects float, got '1e-3'"),
    ],
)
def test_wrong_preset_is_refused(project, presets, preset, message):
    (project / "workflow" / "presets.yml").write_text(presets)
    with pytest.raises(ValueError, match=message):
        preset_values(preset, project)


def carriers(project):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CURSE_OF_MEMORY_RUN") == str(project):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_run_after_a_kill_ends_the_orphans_and_goes_on(project):
    wait = "from pathlib import Path\nimport time\nwhile not Path('go').exists():\n    time.sleep(0.05)"
    write_chapter(project, "one", wait, CLAIM.format(id="one", bound=1))
    environment = os.environ | {"PYTHONPATH": str(project)}
    command = [sys.executable, "workflow/build.py", "update"]
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) as process:
        for _ in range(600):
            if any("ipykernel_launcher" in " ".join(p.cmdline()) for p in carriers(project)):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert carriers(project), "the killed run left no kernel behind, so this test shows nothing"
    (project / "book" / "linear" / "go").touch()
    done = run(project, "update")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ended \d+ processes left by a run that was killed$", done.stdout, re.MULTILINE)
    assert "linear/one  updated" in done.stdout
    assert not carriers(project)


def test_second_run_at_the_same_time_says_so(project):
    with (project / "_build" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(project, "book")
    assert done.returncode == 1
    assert done.stderr == "build: another run is at work in this folder; wait for it to finish\n"


@pytest.mark.parametrize(
    ("prose", "message"),
    [
        ("{ref}`nowhere`", "book/linear/one.ipynb, cell 1, line 3: WARNING: undefined label: 'nowhere'"),
        ("{cite:t}`nobody1999`", 'could not find bibtex key "nobody1999"'),
        ("{claim}`unchecked`", "no claim 'unchecked' was checked"),
    ],
)
def test_unresolved_reference_fails_the_site_and_keeps_the_old_one(project, prose, message):
    write_chapter(project, "one", CLAIM.format(id="one", bound=1), prose=prose)
    old = (project / "_build/html/book/linear/one.html").read_bytes()
    done = run(project, "book")
    assert done.returncode != 0 and message in done.stdout
    assert (project / "_build/html/book/linear/one.html").read_bytes() == old


def test_outputs_are_merged_only_into_the_same_code(built):
    notebook = nbformat.read(built[0] / "book/linear/one.ipynb", as_version=4)
    executed = nbformat.read(built[0] / "_build/run/book/linear/one/executed.ipynb", as_version=4)
    executed.cells.insert(2, nbformat.v4.new_code_cell("rate = 1.0", metadata={"tags": ["injected-parameters"]}))
    cells = merged(notebook, executed)["cells"]
    assert [c["source"] for c in cells][2] == "rate = 1.0" and cells[-1]["outputs"]
    executed.cells[-1].source += "\n"
    with pytest.raises(ValueError, match="the executed copy has other code: 'from cmlib"):
        merged(notebook, executed)


def test_staged_figure_has_its_words_and_links_to_the_files_that_exist(tmp_path):
    files = tmp_path / "one.files"
    files.mkdir()
    for name in ("A.png", "A.csv"):
        (files / name).touch()
    output = nbformat.v4.new_output("display_data", metadata={"cmlib": {"figure": "A", "alt": "a line"}})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    cell, links = with_alt_and_links(notebook, files)["cells"]
    assert cell["metadata"]["mystnb"]["image"]["alt"] == "a line"
    assert "[PNG](one.files/A.png) · [data (CSV)](one.files/A.csv)\n" in links["source"]
    assert len(with_alt_and_links(notebook, tmp_path / "none")["cells"]) == 1


def claim(**changes):
    sample = {"value": 0.12345, "spread": None, "n": None}
    words = {"source": "a2024b and c1999d, Fig. 1", "says": "it falls", "against": "a stone", "kind": "claim"}
    numbers = {"measured": sample, "rival": sample | {"value": 2.0}, "expected": "< 1", "bounds": {"below": 1.0}}
    return {"chapter": "linear/one", "id": "A-1", "verdict": "PASS"} | words | numbers | changes


def test_scorecard_cites_known_sources_and_refuses_one_id_in_two_chapters():
    page = page_body(record([claim()], "book"), {"linear/one": "One"}, "@article{a2024b,\n}", [])
    assert "**1 claim, 1 pass · 0 checks, 0 pass.** From a run at the book preset" in page
    assert "(claim-a-1)=" in page and "  - 0.123\n" in page and "[PASS]{.pass}" in page
    assert "  - {cite:t}`a2024b` and c1999d, Fig. 1" in page and "  - 2: a stone\n" in page
    with pytest.raises(ValueError, match="two statements have the same id: A-1"):
        record([claim(), claim()], "book")


def test_nothing_of_a_claim_becomes_html_on_the_scorecard():
    harm = "<script>alert(1)</script>"
    sample = {"value": harm, "spread": None, "n": None}
    row = claim(says=f"{harm} where $a<b$", source=harm, against=harm, measured=sample, expected=harm)
    page = page_body(record([row], "book"), {"linear/one": "One"}, "", [])
    assert "<script" not in page and "$a<b$" in page


def test_evidence_tables_become_badges_and_printed_verdicts_leave_the_page():
    text = "Before.\n\n" + TABLE.format(id="A-1") + "\nAfter."
    stream = nbformat.v4.new_output("stream", text="claim A-1 · 0.1 · expected < 1 · rival 2 · PASS\nkept\n")
    code = nbformat.v4.new_code_cell("claims.claim(1)", outputs=[stream], metadata={"tags": ["hide-cell"]})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text), code])
    words, cell = with_badges(notebook, [claim(verdict="FAIL")], set())["cells"]
    badge = "(at-claim-a-1)=\n::::{margin}\n[FAIL]{.badge-fail} {ref}`A-1 <claim-a-1>`"
    assert words["source"].startswith(f"Before.\n\n\n{badge}")
    assert ":open:" in words["source"] and words["source"].endswith("After.")
    assert cell["outputs"][0]["text"] == "kept\n"


def test_banner_stands_under_the_title():
    cell = nbformat.v4.new_markdown_cell("(label)=\n# Title\n\nText.")
    lines = with_banner({"cells": [cell]}, {"stale": "It is `old`."})["cells"][0]["source"].splitlines()
    assert lines[1] == "# Title" and lines[3] == ":::{admonition} Stale" and lines[-1] == "Text."


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """workflow/environment.py of an empty project whose installation only leaves a Python that runs."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "requirements.lock").write_text("one==1\n")
    shutil.copy(ROOT / "workflow" / "environment.py", tmp_path / "workflow")
    spec = importlib.util.spec_from_file_location("environment", tmp_path / "workflow" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def install():
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)

    monkeypatch.setattr(module, "install", install)
    module.folder = tmp_path / ".venv"
    return module


def test_environment_is_made_once(environment, capsys):
    assert environment.main() is None
    assert re.fullmatch(r"setting up .venv .*\nset up .venv in \d+ s\n", capsys.readouterr().out)
    assert environment.main() is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda e: e.mark("installing"), "rebuilding .venv, which was half-made"),
        (lambda e: Path(e.PYTHON).unlink(), "rebuilding .venv, which does not run"),
        (
            lambda e: Path(e.LOCK).write_text("one==2\n"),
            "rebuilding .venv, which is for another requirements",
        ),
    ],
)
def test_own_environment_that_is_not_whole_is_rebuilt(environment, capsys, harm, said):
    environment.main()
    (environment.folder / "old").touch()
    harm(environment)
    capsys.readouterr()
    assert environment.main() is None
    assert capsys.readouterr().out.startswith(said)
    assert environment.runs() and not (environment.folder / "old").exists()


def test_environment_behind_a_link_is_left_alone(environment, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "curse-of-memory").write_text("another project's\n")
    (other / "precious").touch()
    environment.folder.symlink_to(other)
    assert ".venv is a link" in environment.main()
    assert sorted(path.name for path in other.iterdir()) == ["curse-of-memory", "precious"]


def test_folder_that_cannot_be_written_is_one_clear_line(environment, project):
    (environment.folder.parent / "_build").write_text("in the way")
    assert re.fullmatch(r"cannot write to \S+_build: .+", environment.main())
    shutil.rmtree(project / "_build")
    (project / "_build").write_text("in the way")
    done = run(project, "book")
    assert done.returncode == 1 and re.fullmatch(r"build: cannot write to \S+_build: .+\n", done.stderr)


def test_foreign_environment_is_left_alone(environment):
    environment.folder.mkdir()
    (environment.folder / "precious").touch()
    assert "was not made by this Makefile" in environment.main()
    assert [path.name for path in environment.folder.iterdir()] == ["precious"]


def test_interrupted_installation_leaves_nothing(environment, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "install", interrupt)
    assert "interrupted" in environment.main()
    assert not environment.folder.exists()


def alone(environment, *prefix, **variables):
    path = str(environment.folder.parent / "workflow" / "environment.py")
    command = [sys.executable, *prefix, path] if not prefix else [sys.executable, *prefix]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)


def test_wrong_python_is_one_clear_line(environment):
    path = str(environment.folder.parent / "workflow" / "environment.py")
    code = f"import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path({path!r}, run_name='__main__')"
    done = alone(environment, "-c", code)
    assert done.returncode != 0
    assert re.fullmatch(r"make: Python 3.11 is needed, but \S+ is 3.9.1; try: .*\n", done.stderr)
    assert not environment.folder.exists()


def test_without_network_is_one_clear_line_and_leaves_nothing(environment):
    Path(environment.LOCK).write_text("a-package-that-is-nowhere==1\n")
    done = alone(environment, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(environment.folder.parent))
    assert done.returncode != 0 and not environment.folder.exists()
    assert re.fullmatch(r"make: could not set up .venv \(is there a network\?\): ERROR: .*\n", done.stderr)
    assert (environment.folder.parent / "_build" / "environment.log").exists()


def declared():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_declared_dependencies_and_the_lock_agree():
    extras = declared()["optional-dependencies"]
    for text in declared()["dependencies"] + sum(extras.values(), []):
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked()[requirement.name]), text
    assert SpecifierSet(declared()["requires-python"]).contains("3.11")


def test_versions_that_count_are_those_of_what_the_library_and_the_chapters_import():
    homes = packages_distributions()
    names = {
        name for folder in ("cmlib", "book") for _, source in sources(folder) for name in imports(ast.parse(source))
    }
    used = {homes[name][0] for name in names - {"cmlib"} - sys.stdlib_module_names}
    compiler, writer = {"llvmlite"}, {"pillow"}  # no number depends on who writes a picture
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in used} - writer | compiler == set(COMPUTING)
    assert set(COMPUTING) <= locked().keys()


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("torch==2.1", "torch==2.2", False),
        ("numpy==1.0", "", False),
        ("numpy==1.0\ntorch==2.1", "torch==2.1\nnumpy==1.0", True),
        ("pytest==8.0", "pytest==9.0", True),
        ("pytest==8.0", "pytest==8.0\nbasedpyright==1.0\ntorch-like==1.0", True),
        ("# written", "# written again", True),
    ],
)
def test_runs_depend_on_the_versions_of_what_computes_alone(tmp_path, old, new, same):
    lock = tmp_path / "requirements.lock"
    lock.write_text(text := "# written\nnumpy==1.0\ntorch==2.1\npytest==8.0\n")
    before = versions_digest(tmp_path)
    assert text.count(old) == 1
    lock.write_text(text.replace(old, new))
    assert (versions_digest(tmp_path) == before) is same
