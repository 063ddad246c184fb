"""The package: what an installation holds, needs and does without a checkout; the command line; what is optional."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

import cmlib
from cmlib import models
from cmlib.__main__ import main
from cmlib.distances import SequenceDistance

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from snippets import python_of  # noqa: E402
from test_layout import imports  # noqa: E402

EPS = np.finfo(float).eps


def run(*command, cwd, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- what an installation holds ------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, made of a copy: setuptools leaves things behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("cmlib", "tests", "workflow", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "book" / "_ext").mkdir(parents=True)
    (copy / "book" / "_ext" / "page.py").touch()
    run("-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=copy)
    (made,) = (copy / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist):
    """The wheel, made of the source distribution alone."""
    command = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", "wheels", str(sdist)]
    run(*command, cwd=sdist.parent)
    (made,) = (sdist.parent / "wheels").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel):
    """A folder with cmlib in it and nothing else, for PYTHONPATH; torch comes from the tests' own environment."""
    folder = wheel.parent / "installed"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel), cwd=wheel.parent)
    return folder


def library():
    files = [path for path in (ROOT / "cmlib").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name for name in names if ".dist-info/" not in name} == library()
    assert {"cmlib/py.typed", "cmlib/report.html", "cmlib/chapter/__init__.py"} <= library()


def test_source_distribution_holds_the_library_and_how_to_build_it(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert library() | {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {name for name in names if name.endswith(".py")} == {name for name in library() if name.endswith(".py")}


def test_metadata_has_one_version_and_asks_for_ranges(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = HeaderParser().parsestr(archive.read(name).decode())
    assert found["Version"] == cmlib.__version__ == re.search(r"## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())[1]
    assert f"version: {cmlib.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert found["Requires-Python"] == ">=3.10"
    needed = [Requirement(text) for text in found.get_all("Requires-Dist")]
    always = {each.name: str(each.specifier) for each in needed if each.marker is None}
    assert always.keys() == {"torch", "numpy", "scipy", "matplotlib", "jaxtyping"}
    assert all(re.fullmatch(r">=[\d.]+", specifier) for specifier in always.values())
    assert [each.name for each in needed if each.marker and each.marker.evaluate({"extra": "fast"})] == ["numba"]


def section(text, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def test_library_section_of_the_readme_runs_from_an_installation(installed, tmp_path):
    code = python_of(section((ROOT / "README.md").read_text(encoding="utf-8"), "The library"))
    code += "\nimport sys\nprint(cmlib.__file__)\nprint({'matplotlib', 'numba'} & set(sys.modules))\n"
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    *said, where, loaded = run("readme.py", cwd=tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert Path(where).is_relative_to(installed)
    assert loaded == "set()"  # nothing was drawn, and nothing compiled
    promised = re.findall(r"^print\(.*\)\s+# ([\d.e-]+):", code, re.MULTILINE)
    assert len(promised) == 3
    for text, number in zip(said, promised, strict=False):  # what follows is the GRU's, and random
        digits = len(number.partition("e")[0].replace(".", "").lstrip("0"))
        assert f"{float(text):.{digits}g}" == f"{float(number):.{digits}g}"


def test_kernel_of_ones_own_prints_what_the_page_says(tmp_path):
    code = python_of(
        section((ROOT / "book" / "back" / "reproduce.md").read_text(encoding="utf-8"), "A kernel of your own")
    )
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    said = run("own.py", cwd=tmp_path, PYTHONPATH=str(ROOT)).splitlines()
    promised = re.findall(r"^print\(.*\) +# ([\d.e-]+)", code, re.MULTILINE)
    assert len(said) == len(promised) == 2
    assert [f"{float(text):.2g}" for text in said] == promised


def test_version_of_an_installation(installed, tmp_path):
    assert run("-m", "cmlib", "version", cwd=tmp_path, PYTHONPATH=str(installed)) == f"{cmlib.__version__}\n"


# ---- the command line ----------------------------------------------------------------------------

MODELS = """
import torch
from cmlib import models

def network():
    return models.LinearRNN([-0.5], [1.0], [1.0])

def tuned():
    return torch.nn.Sequential(torch.nn.Linear(2, 1))

def breaks():
    raise KeyError("no\\nsuch weight")

def peeks():
    return lambda x: x.flip(1)

def stumbles():
    return lambda x: x / (1 // 0)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "models_for_the_command.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("models_for_the_command", None)


def test_report_says_what_it_found_and_writes_the_page(folder, capsys):
    arguments = ["-o", "page.html", "--json", "page.json", "--steps", "40"]
    assert main(["report", "models_for_the_command:network", *arguments]) == 0
    said = capsys.readouterr()
    assert "LinearRNN forgets exponentially" in said.out and said.err == ""
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert all(line in page for line in said.out.splitlines())
    assert [s["text"] for s in json.loads((folder / "page.json").read_text())["verdict"]] == said.out.splitlines()


def test_options_reach_the_report(folder, monkeypatch):
    asked = {}

    class Found:
        def __init__(self, model, **options):
            asked.update(options)

        def save(self, path):
            asked.setdefault("paths", []).append(path)

    monkeypatch.setattr(cmlib, "load_model", lambda *given: asked.update(given=given))
    monkeypatch.setattr(cmlib, "report", Found)
    few = ["report", "a:b", "-o", "p.html", "--checkpoint", "weights.pt", "--d-in", "2", "--n-steps", "30"]
    assert main(few) == 0
    assert asked == {"given": ("a:b", "weights.pt"), "d_in": 2, "n_steps": 30, "paths": [Path("p.html")]}
    asked.clear()
    more = ["--seconds", "5", "--amplitudes", "1", "2", "--input", "heaviside", "tokens", "--dtype", "float32"]
    assert main(["report", "a:b", "-o", "p.html", "--json", "p.json", *more]) == 0
    assert asked == {
        "given": ("a:b", None),
        "budget": 5.0,
        "amplitudes": [-1.0, 1.0, -2.0, 2.0],
        "inputs": ["heaviside", "tokens"],
        "dtype": torch.float32,
        "paths": [Path("p.html"), Path("p.json")],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models_of_nobody:make"], "expected a module 'models_of_nobody' that can be imported, got ModuleNotFound"),
        (["models_for_the_command:breaks"], r"to work without arguments, got KeyError: 'no\\nsuch weight'"),
        (["models_for_the_command:network", "--checkpoint", "none.pt"], "expected a checkpoint, got 'none.pt'"),
        (
            ["models_for_the_command:tuned"],
            "expected d_in, the number of input channels, for a Sequential; --d-in N says it",
        ),
        (["models_for_the_command:peeks", "--d-in", "1"], "expected a causal model"),
        (["models_for_the_command:stumbles", "--d-in", "3"], "ZeroDivisionError: integer division"),
    ],
)
def test_model_that_cannot_be_loaded_or_measured_is_one_line_and_exit_status_2(folder, capsys, arguments, message):
    assert main(["report", *arguments, "-o", "page.html"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(f"cmlib: .*{message}.*\n", said.err)
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["report", "a:b"], "the following arguments are required: -o"),
        (["report", "a:b", "-o", "page.pdf"], "expected a path that ends in .html, in a folder that exists"),
        (["report", "a:b", "-o", "nowhere/page.html"], "expected a path that ends in .html, in a folder that exists"),
        (["report", "a:b", "-o", "p.html", "--json", "page.html"], "expected a path that ends in .json, in a folder"),
        (["report", "a:b", "-o", "page.html", "--seconds", "0"], "expected a number > 0, got '0'"),
        (
            ["report", "a:b", "-o", "page.html", "--dtype", "int64"],
            "expected a floating-point dtype of torch, got 'int64'",
        ),
        (["report", "a:b", "-o", "page.html", "--input", "noise"], "invalid choice: 'noise'"),
        (["report", "a:b", "-o", "page.html", "--n-steps", "0"], "expected an integer >= 1, got '0'"),
        (["report", "a:b", "-o", "page.html", "--d-in", "two"], "expected an integer >= 1, got 'two'"),
    ],
)
def test_wrong_usage_is_exit_status_2(folder, capsys, arguments, message):
    with pytest.raises(SystemExit, match="^2$"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["report"], ["version"]])
def test_help_says_what_the_exit_status_means(capsys, command):
    with pytest.raises(SystemExit, match="^0$"):
        main([*command, "--help"])
    assert "exit status: 0 done; 2 wrong usage" in " ".join(capsys.readouterr().out.split())


# ---- what is optional, and other versions --------------------------------------------------------


def test_without_numba_the_errors_are_the_same(monkeypatch):
    pytest.importorskip("numba")
    g = torch.Generator().manual_seed(0)
    m, steps = 3, 50
    x = torch.randn(5, steps, 1, generator=g, dtype=torch.float64)
    model = models.RNN([-0.3, -1.0, -2.0], [1.0, -0.5, 2.0], [0.5, 1.0, 1.0], dt=0.5, activation="hardtanh")
    moved = {n: w.detach() + torch.rand(2, 3, *w.shape, generator=g) / 9 for n, w in model.named_parameters()}
    fast = SequenceDistance(model, lambda x: x, x, "w1")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "numba", None)  # as if it were not there
        plain = SequenceDistance(model, lambda x: x, x, "w1")
        expected = plain(moved)
    assert fast.compiled and not plain.compiled
    # both contract, and round a few times a step and neuron
    assert torch.allclose(fast(moved), expected, rtol=8 * m * steps * EPS, atol=0)


def test_library_parses_on_the_oldest_python_it_is_for():
    for path in (ROOT / "cmlib").rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_matrix_leaves_out_the_tests_of_the_book_and_no_others():
    text = (ROOT / ".github" / "workflows" / "matrix.yml").read_text(encoding="utf-8")
    out = set(re.findall(r"--ignore=(\S+)", text))
    tests = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "tests").glob("test_*.py")}
    books = {"papermill", "nbformat", "psutil", "yaml", "digests", "sklearn", "playwright", "test_site"}
    assert out <= tests.keys()
    assert {name for name in tests if books & set(imports(ast.parse(tests[name].read_text())))} <= out


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("a\n```python\nx = 1\n```\nb\n```sh\nls\n```\n", "\n\nx = 1\n\n\n\n\n\n"),
        ("```python\nx = 1\n```\n```python\ny = 2\n```", "\nx = 1\n\n\ny = 2\n\n"),
        ("none", "\n"),
    ],
)
def test_python_of_a_page_keeps_its_lines(page, code):
    assert python_of(page) == code


def test_python_that_is_not_closed_is_refused():
    with pytest.raises(ValueError, match="expected a block of Python to be closed"):
        python_of("```python\nx = 1\n")
