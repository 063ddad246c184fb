"""Guards over the committed chapters; each guard is also shown a broken chapter, on which it must speak."""

import ast
import base64
import copy
import re
import struct
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from chapters import chapters, pages, preset_values  # noqa: E402
from evidence import evidence_of  # noqa: E402
from notebooks import (  # noqa: E402
    code_cells,
    declared_parameters,
    figures_of,
    normalised,
    outputs_digest,
    read_notebook,
    record_of,
    source,
    tags,
    title_of,
)

PARAMETER = re.compile(r"[a-z]\w*: (int|float|bool|str|list\[(int|float|str)\]) = .*\S  # \S.*")
LARGEST = 800_000  # bytes
WIDEST = 1600  # pixels: eight inches at 200 dots per inch


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def not_executed(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    wanted = list(range(1, len(counts) + 1))
    return [] if counts == wanted else [f"execution counts are {counts}, not {wanted}"]


def parameters_amiss(notebook):
    cells = [source(cell) for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged parameters, not one"]
    return [
        f"not `name: type = default  # meaning`: {line}"
        for line in cells[0].splitlines()
        if not PARAMETER.fullmatch(line)
    ]


def claims_amiss(notebook):
    try:
        rows = evidence_of(notebook)
    except ValueError as error:
        return [str(error)]
    problems = [] if rows else ["nothing is checked or claimed"]
    problems += [f"{row['kind']} {row['id']}: {row['verdict']}" for row in rows if row["verdict"] != "PASS"]
    verdicts = re.findall(r"^(?:check|claim) (\S+) · .* · (PASS|FAIL|OPEN)$", printed(notebook), re.MULTILINE)
    if dict(verdicts) != {row["id"]: row["verdict"] for row in rows}:
        problems.append(f"what is printed and what the numbers give differ: {verdicts}")
    return problems


def judging_drowns(notebook):
    code = [source(cell) for cell in code_cells(notebook)]
    calls = [
        ast.get_source_segment(text, node)
        for text in code
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("claims.check", "claims.claim")
    ]
    share = sum(map(len, calls)) / sum(map(len, code))
    return [f"{share:.0%} of the code judges what the rest computes"] if share > 0.1 else []


def altered(notebook):
    kept = record_of(notebook)
    return [] if kept["content"] == outputs_digest(notebook, kept["claims"]) else ["outputs are not those of a run"]


def printed(notebook):
    return "".join("".join(out["text"]) for out in outputs(notebook) if out["output_type"] == "stream")


def stray_outputs(notebook):
    bad = [out for out in outputs(notebook) if out["output_type"] == "error" or out.get("name") == "stderr"]
    return [f"an output is an error or stands on stderr: {out}" for out in bad]


def too_long_cells(notebook):
    long = [cell for cell in code_cells(notebook) if len(source(cell).splitlines()) > 18]
    return [f"a cell has more than 18 lines: {source(cell).splitlines()[0]}" for cell in long]


def figures_amiss(notebook):
    problems = []
    for cell in code_cells(notebook):
        pictures = [out for out in cell["outputs"] if "image/png" in out.get("data", {})]
        first = source(cell).splitlines()[0] if cell["source"] else ""
        if len(pictures) > 1:
            problems.append(f"a cell shows more than one picture: {first}")
        if pictures and len(figures_of(cell)) != len(pictures):
            problems.append(f"a picture was not saved by figures.save: {first}")
        problems += [f"no alternative text: {figure}" for figure in figures_of(cell) if not figure["alt"].strip()]
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if pictures and not (figure.get("caption", "").strip() and figure.get("name", "").startswith("fig-")):
            problems.append(f"no caption, or no name fig-…, in the metadata: {first}")
        for picture in pictures:
            png = base64.b64decode("".join(picture["data"]["image/png"]))
            width = struct.unpack(">I", png[16:20])[0]
            if width > WIDEST:
                problems.append(f"a picture is {width} pixels wide, more than {WIDEST}: {first}")
    return problems


def not_normal(path):
    text = path.read_text(encoding="utf-8")
    notebook = read_notebook(path)
    return [] if text == normalised(notebook, record_of(notebook)) else ["not in normal form; run make update"]


GUARDS = [not_executed, parameters_amiss, claims_amiss, judging_drowns, stray_outputs, too_long_cells, figures_amiss]
GUARDS += [altered]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
@pytest.mark.parametrize("chapter", chapters())
def test_chapter_passes(chapter, guard):
    assert guard(read_notebook(ROOT / "book" / f"{chapter}.ipynb")) == []


@pytest.mark.parametrize("chapter", chapters())
def test_chapter_is_small_titled_and_in_normal_form(chapter):
    path = ROOT / "book" / f"{chapter}.ipynb"
    assert path.stat().st_size <= LARGEST
    assert title_of(read_notebook(path))
    assert not_normal(path) == []
    assert not path.with_suffix(".md").exists()


def code(text, number, *outputs, **metadata):
    return {
        "cell_type": "code",
        "id": f"cell-{number}",
        "source": text,
        "metadata": metadata,
        "execution_count": number,
        "outputs": list(outputs),
    }


@pytest.fixture
def good():
    png = b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 560, 360)
    picture = {
        "output_type": "execute_result",
        "execution_count": 2,
        "data": {"image/png": base64.b64encode(png).decode(), "text/plain": "Figure A"},
        "metadata": {"cmlib": {"figure": "A", "alt": "a line"}},
    }
    line = {"output_type": "stream", "name": "stdout", "text": "check a-1 · ⟨1⟩ · expected > 0 · PASS\n"}
    one = {"value": 1.0, "spread": None, "n": None}
    check = {"id": "a-1", "kind": "check", "measured": one, "rival": None, "expected": "> 0", "bounds": {"above": 0}}
    table = "# Title\n\n| Check | Source |\n|:--|:--|\n| **a-1** it is positive | wang2024inverse |\n"
    notebook = {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": table},
            code("rate: float = 0.1  # per unit of time", 1, tags=["parameters"]),
            code("figures.save(fig)", 2, picture, mystnb={"figure": {"caption": "A.", "name": "fig-a"}}),
            code("analysis = 'of many characters, so that the call is a tenth of the code at most' * 9\n" * 3, 3),
            code("_ = claims.check(1)", 4, line),
        ],
        "metadata": {"cmlib": {"claims": [check]}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    notebook["metadata"]["cmlib"]["content"] = outputs_digest(notebook, [check])
    return notebook


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
def test_guard_is_silent_on_a_good_chapter(good, guard):
    assert guard(good) == []


def edit(*path, to):
    def apply(notebook):
        for key in path[:-1]:
            notebook = notebook[key]
        notebook[path[-1]] = to

    return apply


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
STDERR = {"output_type": "stream", "name": "stderr", "text": "a warning"}
WIDE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 1700, 900)).decode()


@pytest.mark.parametrize(
    ("guard", "harm"),
    [
        (not_executed, edit("cells", 2, "execution_count", to=None)),
        (not_executed, edit("cells", 4, "execution_count", to=7)),
        (parameters_amiss, edit("cells", 1, "metadata", to={})),
        (parameters_amiss, edit("cells", 1, "source", to="rate = 0.1  # per unit of time")),
        (parameters_amiss, edit("cells", 1, "source", to="rate: float = 0.1")),
        (parameters_amiss, edit("cells", 2, "metadata", "tags", to=["parameters"])),
        (claims_amiss, edit("cells", 4, "outputs", to=[])),
        (claims_amiss, edit("cells", 4, "outputs", 0, "text", to="check a-1 · ⟨1⟩ · expected > 2 · FAIL\n")),
        (claims_amiss, edit("metadata", "cmlib", "claims", to=[])),
        (claims_amiss, edit("metadata", "cmlib", "claims", 0, "measured", "value", to=-1.0)),
        (claims_amiss, edit("cells", 0, "source", to="# Title")),
        (judging_drowns, edit("cells", 3, "source", to="1")),
        (altered, edit("cells", 4, "outputs", 0, "text", to="check a-1 · ⟨2⟩ · expected > 0 · PASS\n")),
        (altered, edit("metadata", "cmlib", "claims", 0, "measured", "value", to=2.0)),
        (stray_outputs, edit("cells", 4, "outputs", to=[ERROR])),
        (stray_outputs, edit("cells", 4, "outputs", to=[STDERR])),
        (too_long_cells, edit("cells", 4, "source", to="1\n" * 19)),
        (figures_amiss, edit("cells", 2, "outputs", 0, "metadata", to={})),
        (figures_amiss, edit("cells", 2, "outputs", 0, "metadata", "cmlib", "alt", to=" ")),
        (figures_amiss, edit("cells", 2, "metadata", "mystnb", to={})),
        (figures_amiss, edit("cells", 2, "metadata", "mystnb", "figure", "name", to="a")),
        (figures_amiss, edit("cells", 2, "outputs", 0, "data", "image/png", to=WIDE)),
    ],
)
def test_guard_speaks_on_a_broken_chapter(good, guard, harm):
    harm(good)
    assert guard(good) != []


def test_guard_of_the_normal_form_speaks_on_papermill_metadata(good, tmp_path):
    path = tmp_path / "chapter.ipynb"
    path.write_text(normalised(copy.deepcopy(good), record_of(good)), encoding="utf-8")
    assert not_normal(path) == []
    path.write_text(path.read_text().replace('"name": "python3"\n', '"name": "mine"\n'), encoding="utf-8")
    assert not_normal(path) != []


def untidy_toc(root):
    written = {
        str(p.relative_to(root).with_suffix("")) for p in root.glob("book/**/*") if p.suffix in (".md", ".ipynb")
    }
    listed = pages(root)
    twice = {page for page in listed if listed.count(page) > 1}
    return [f"not both in _toc.yml and in book/, once: {page}" for page in sorted(written ^ set(listed) | twice)]


def test_table_of_contents_lists_every_page_once():
    assert untidy_toc(ROOT) == []


def test_guard_of_the_table_of_contents_speaks(tmp_path):
    (tmp_path / "book").mkdir()
    for page in ("intro.md", "forgotten.md"):
        (tmp_path / "book" / page).touch()
    toc = {"root": "book/intro", "chapters": [{"file": "book/missing"}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    assert len(untidy_toc(tmp_path)) == 2


@pytest.mark.parametrize("preset", ["smoke", "paper"])
def test_presets_name_parameters_that_the_chapters_declare(preset):
    assert set(preset_values(preset)) == set(chapters())


def test_commands_on_the_reproduce_page_name_chapters_and_parameters_that_exist():
    text = (ROOT / "book" / "back" / "reproduce.md").read_text(encoding="utf-8")
    commands = re.findall(r"^.*(?:execute\.py|bin/papermill) (?:book/)?(\S+?)(?:\.ipynb)? .*-p (\w+) \S+$", text, re.M)
    assert len(commands) == 2
    for chapter, name in commands:
        assert name in declared_parameters(read_notebook(ROOT / "book" / f"{chapter}.ipynb"))


def test_a_print_that_arrived_in_pieces_is_one_output():
    notebook = read_notebook(ROOT / "book" / f"{chapters()[0]}.ipynb")
    whole = normalised(copy.deepcopy(notebook), record_of(notebook))
    cell = next(c for c in code_cells(notebook) if [o["output_type"] for o in c["outputs"]] == ["stream"])
    (output,) = cell["outputs"]
    cell["outputs"] = [{**output, "text": output["text"][:3]}, {**output, "text": output["text"][3:]}]
    assert normalised(copy.deepcopy(notebook), record_of(notebook)) == whole
    cell["outputs"][1]["name"] = "stderr"  # another stream stays apart
    assert normalised(copy.deepcopy(notebook), record_of(notebook)) != whole
