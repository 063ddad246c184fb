"""Stage the site's source: the book with its chapters' outputs, links to their files, and the scorecard."""

import json
import shutil
from pathlib import Path

from chapters import ROOT, RUNS, chapters
from notebooks import claims_of, figures_of, merged, read_notebook, title_of
from scorecard import page_body, record

STAGE = ROOT / "_build" / "stage"
PLACEHOLDER = "% scorecard"
FILES = {"PNG": ".png", "SVG": ".svg", "data (CSV)": ".csv", "data (NPZ)": ".npz", "provenance": ".json"}


def with_alt_and_links(notebook: dict, files: Path) -> dict:
    """Give each image its alternative text, and a line of links to those of the figure's files that exist."""
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        for figure in figures_of(cell):
            cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})["alt"] = figure["alt"]
            names = {label: figure["figure"] + suffix for label, suffix in FILES.items()}
            links = [f"[{label}]({files.name}/{n})" for label, n in names.items() if (files / n).exists()]
            if links:
                text = ":::{div} figure-files\n" + " · ".join(links) + "\n:::"
                cells.append({"cell_type": "markdown", "id": f"files-{len(cells)}", "metadata": {}, "source": text})
    return notebook | {"cells": cells}


def stage_chapter(chapter: str, preset: str) -> dict:
    """Write one chapter's page, with the outputs of the preset's run or with its own; return the notebook."""
    page = STAGE / "book" / f"{chapter}.ipynb"
    files = page.with_suffix(".files")
    notebook = read_notebook(ROOT / "book" / f"{chapter}.ipynb")
    if preset != "committed":
        run = RUNS / preset / chapter
        notebook = merged(notebook, read_notebook(run / "executed.ipynb"))
        if (run / "figures").exists():
            shutil.copytree(run / "figures", files)
    notebook = with_alt_and_links(notebook, files)
    page.write_text(json.dumps(notebook), encoding="utf-8")
    return notebook


def stage(preset: str) -> None:
    """Fill `_build/stage` anew."""
    shutil.rmtree(STAGE, ignore_errors=True)
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "cmlib-output", "*.ipynb")
    shutil.copytree(ROOT / "book", STAGE / "book", ignore=unwanted)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, STAGE / name)
    notebooks = {chapter: stage_chapter(chapter, preset) for chapter in chapters()}
    titles = {chapter: title_of(notebook) for chapter, notebook in notebooks.items()}
    claims = [{"chapter": chapter} | claim for chapter, nb in notebooks.items() for claim in claims_of(nb)]
    scorecard = record(claims, preset)
    text = json.dumps(scorecard, indent=1, ensure_ascii=False) + "\n"
    (STAGE / "scorecard.json").write_text(text, encoding="utf-8")
    page = STAGE / "book" / "back" / "scorecard.md"
    body = page_body(scorecard, titles, (STAGE / "book" / "references.bib").read_text(encoding="utf-8"))
    page.write_text(page.read_text(encoding="utf-8").replace(PLACEHOLDER, body), encoding="utf-8")
