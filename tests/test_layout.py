"""The directions in which things may depend on each other, checked in the source itself."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NUMERICS = {"torch", "numpy", "scipy", "matplotlib"}
WORKFLOW = {path.stem for path in (ROOT / "workflow").glob("*.py")}
# folder -> what its files may import besides the standard library
ALLOWED = {
    # sklearn for its digits; PIL, which matplotlib brings, to write pictures of few colours
    "cmlib": {"cmlib", "jaxtyping", "numba", "sklearn", "PIL"} | NUMERICS,
    "book": {"cmlib"} | NUMERICS,
    # of cmlib the tables' format and its names, to put defects under them; bs4 and a browser print the book
    "workflow": {"papermill", "nbformat", "psutil", "yaml", "threadpoolctl", "bs4", "playwright", "cmlib"}
    | NUMERICS
    | WORKFLOW,
    "benchmarks": {"cmlib", "numba"} | NUMERICS,  # numba for the peak of a core
}


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0] if node.level == 0 and node.module else "."


def sources(folder):
    """Yield (file, source) of the folder's modules, and of its notebooks' code."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "_ext" not in path.parts:  # Sphinx's own plug-in is no part of the book's text
            yield path, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / folder).rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def strangers(source, allowed):
    return sorted(set(imports(ast.parse(source))) - allowed - sys.stdlib_module_names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_folder_imports_only_what_lies_below_it(folder):
    found = {str(path.relative_to(ROOT)): strangers(source, ALLOWED[folder]) for path, source in sources(folder)}
    assert {path: names for path, names in found.items() if names} == {}


def test_guard_of_imports_speaks():
    assert strangers("import IPython\nfrom cmlib.kernels import Sum\nfrom . import x", ALLOWED["cmlib"]) == [
        ".",
        "IPython",
    ]


def test_no_module_is_a_drawer():
    drawers = {"utils", "util", "common", "core", "base", "helpers", "misc"}
    names = {path.stem for folder in (*ALLOWED, "tests") for path in (ROOT / folder).rglob("*")}
    assert names & drawers == set()


def test_library_prints_nothing_but_evidence_where_rows_come_from_and_on_the_command_line():
    calls = {
        path.stem
        for path, source in sources("cmlib")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert calls <= {"claims", "ensembles", "__main__"}


def keys(bibliography):
    return set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))


def cited(source):
    """Return the keys after `Reference:` in the docstrings, which look like a name, a year and a word."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for text in re.findall(r"Reference: ?((?:.+\n?)+)", ast.get_docstring(node) or ""):
                found |= set(re.findall(r"\b[a-z]+\d{4}[a-z]+\b", text))
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "cmlib").glob("*.py")), ids=lambda path: path.stem)
def test_docstrings_refer_to_entries_of_the_bibliography(path):
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert cited(path.read_text(encoding="utf-8")) - keys(bibliography) == set()


def test_guard_of_references_sees_the_keys():
    assert cited('def f():\n    """F.\n\n    Reference: li2021curse, Thm 5.1; nobody1999never\n    """') == {
        "li2021curse",
        "nobody1999never",
    }
