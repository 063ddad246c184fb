"""Stage the site's source: the book with its chapters' outputs, links to their files, and the scorecard."""

import base64
import copy
import csv
import json
import re
import shutil
from pathlib import Path

import atlas
import figure_data
from chapters import ROOT, RUNS, chapters, pages
from digests import chapter_digest
from evidence import evidence_of, tables, tally
from figure_data import numbers_digest
from identity import identity
from lab import RESULTS, ensembles
from layers import with_layers
from notebooks import code_cells, figures_of, merged, outputs_digest, read_notebook, record_of, source, title_of
from own_values import stage_page
from scorecard import label, page_body, record, table

STAGE = ROOT / "_build" / "stage"
PLACEHOLDER, BANNER, CARDS = "% scorecard", "% evidence", "% atlas"
FILES = {"PNG": ".png", "SVG": ".svg", "data (CSV)": ".csv", "data (NPZ)": ".npz", "data (JSON)": ".json.txt"}
FILES["provenance"] = ".json"
JUDGED = re.compile(r"^(check|claim) \S+ · .* · (PASS|FAIL|OPEN)\n?", re.MULTILINE)


def crashed(chapter: str, preset: str) -> str | None:
    """Return how the chapter's run at a preset ended, where it ended badly."""
    folder = RUNS / preset / chapter
    if not (folder / "run.json").exists():
        return "it ended without a word; was it killed?"
    return json.loads((folder / "run.json").read_text(encoding="utf-8")).get("crash")


def trouble(chapter: str, preset: str) -> dict[str, str]:
    """Return what a reader of the chapter's page must know of its outputs: kind of trouble -> one sentence."""
    found = {}
    if preset != "committed" and (crash := crashed(chapter, preset)):
        found["crashed"] = f"This chapter's run crashed {crash}. The page shows the outputs committed before."
    if preset == "committed" or found:
        notebook = read_notebook(ROOT / "book" / f"{chapter}.ipynb")
        kept = record_of(notebook)
        numbers = numbers_digest(figure_data.kept(chapter))
        if (kept.get("content"), kept.get("figures")) != (outputs_digest(notebook, kept.get("claims", [])), numbers):
            found["altered"] = "The committed outputs of this chapter are not those its run left: they were altered."
        elif not found and kept.get("digest") != chapter_digest(chapter, {}):
            found["stale"] = "The committed outputs of this chapter come from other code or values than today's."
    states = {e.name: e.state for e in ensembles().values() if e.chapter == chapter}
    for state in ("stale", "altered"):
        if names := [name for name, found_state in states.items() if found_state == state]:
            word = "computed by other code than today's" if state == "stale" else "altered since they were computed"
            found.setdefault(state, "")
            found[state] += f" Tables {word}: {', '.join(names)}."
    return {kind: text.strip() for kind, text in found.items()}


def notebook_of(chapter: str, preset: str) -> dict:
    """Return the chapter with the outputs of its run, or with its own where the run crashed or none is wanted."""
    notebook = read_notebook(ROOT / "book" / f"{chapter}.ipynb")
    if preset == "committed" or crashed(chapter, preset):
        return notebook
    return merged(notebook, read_notebook(RUNS / preset / chapter / "executed.ipynb"))


def with_alt_and_links(notebook: dict, files: Path) -> dict:
    """Give each image its alternative text, and a line of links to those of the figure's files that exist."""
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        for figure in figures_of(cell):
            cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})["alt"] = figure["alt"]
            links = [f"[{words}]({files.name}/{name})" for words, name in files_of(figure["figure"], files).items()]
            if links:
                text = ":::{div} figure-files\n" + " · ".join(links) + "\n:::"
                cells.append({"cell_type": "markdown", "id": f"files-{len(cells)}", "metadata": {}, "source": text})
    return notebook | {"cells": cells}


def files_of(figure: str, folder: Path) -> dict[str, str]:
    """Return words -> name of those files of a figure that are in a folder."""
    names = {words: figure + suffix for words, suffix in FILES.items()}
    return {words: name for words, name in names.items() if (folder / name).exists()}


def atlas_pages(evidence: list[dict], preset: str) -> dict[str, str]:
    """Return what the atlas puts on its own page and on the first one."""
    cards, book, files = atlas.read(), atlas.Book(evidence, preset), {}
    shutil.copytree(atlas.PUBLISHED, STAGE / "book" / "published")
    for figure, (chapter, _, _) in book.pictures.items():
        names = files_of(figure, STAGE / "book" / f"{chapter}.files")
        files[figure] = {words: f"{chapter}.files/{name}" for words, name in names.items()}
    return {"atlas.md": atlas.page_body(cards, book, files), "intro.md": atlas.summary(cards, book)}


def with_badges(notebook: dict, evidence: list[dict], keys: set[str]) -> dict:
    """Turn each evidence table into badges in the margin and a record to unfold, and take the printed lines away."""
    known, notebook = {row["id"]: row for row in evidence}, copy.deepcopy(notebook)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            lines = source(cell).splitlines()
            for (first, last), rows in reversed(tables(source(cell))):
                lines[first:last] = badges([known[row["id"]] for row in rows], keys)
            cell["source"] = "\n".join(lines)
            continue
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                output["text"] = JUDGED.sub("", "".join(output["text"]))
        cell["outputs"] = [o for o in cell["outputs"] if o["output_type"] != "stream" or o["text"].strip()]
    return notebook


def badges(rows: list[dict], keys: set[str]) -> list[str]:
    """Return the directives for one table of a chapter."""
    margin = ["", *(f"(at-{label(row['id'])})=" for row in rows), "::::{margin}"]
    for row in rows:
        link = f"{{ref}}`{row['id']} <{label(row['id'])}>`"
        margin += [f"[{row['verdict']}]{{.badge-{row['verdict'].split()[0].lower()}}} {link}", ""]
    amiss = [row["id"] for row in rows if row["verdict"] != "PASS"]
    opening = ["", f"::::{{dropdown}} The record: {tally(rows).replace(' · 0 checks, 0 pass', '')}"]
    opening[1] = opening[1].replace("0 claims, 0 pass · ", "")
    opening += [":class-container: record amiss", ":open:"] if amiss else [":class-container: record"]
    body = table(rows, keys)
    return [*margin, "::::", *opening, "", *body, "::::", ""]


def with_banner(notebook: dict, troubles: dict[str, str]) -> dict:
    """Put what is wrong with a page's outputs under its title."""
    if not troubles:
        return notebook
    first = notebook["cells"][0]
    lines = source(first).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("# ")) + 1
    words = {"crashed": "danger", "altered": "danger", "stale": "warning"}
    for kind, text in troubles.items():
        text = text.replace("`", "'").replace("<", "&lt;").replace("{", "(").replace("}", ")")
        banner = ["", f":::{{admonition}} {kind.capitalize()}", f":class: {words[kind]}", text, ":::", ""]
        lines[at:at] = banner
    cells = [first | {"source": "\n".join(lines)}, *notebook["cells"][1:]]
    return notebook | {"cells": cells}


def committed_files(notebook: dict, chapter: str, files: Path) -> None:
    """Write what the project holds of each figure: the picture in the notebook and the committed numbers."""
    files.mkdir(parents=True, exist_ok=True)
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            name = output.get("metadata", {}).get("cmlib", {}).get("figure")
            if name and "image/png" in output.get("data", {}):
                (files / f"{name}.png").write_bytes(base64.b64decode("".join(output["data"]["image/png"])))
    for name, columns in figure_data.kept(chapter).items():
        if len({len(column) for column in columns.values()}) == 1:
            with (files / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
        else:
            (files / f"{name}.json.txt").write_text(json.dumps(columns) + "\n", encoding="utf-8")


def with_installation(notebook: dict, copy_of: dict) -> dict:
    """Let the notebook fetch what it needs first, where the repository has an address: Colab has only the file."""
    address, commit = copy_of["addresses"].get("repository"), copy_of["commit"]
    if not address or not commit:
        return notebook
    folder = address.rsplit("/", 1)[-1]
    lines = [
        "# Fetches the book, for its experiments' tables, and installs its library; not needed in a checkout of it.",
        "# Takes a minute or two. Numbers are promised for the versions in requirements.lock alone.",
        f"!git clone --quiet {address}.git",
        f"%cd {folder}",
        f"!git checkout --quiet {commit.removesuffix('-modified')}",
        '%pip install --quiet ".[fast]" scikit-learn',
    ]
    cell = {
        "cell_type": "code",
        "id": "installation",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": "\n".join(lines),
    }
    return notebook | {"cells": [cell, *notebook["cells"]]}


def ensemble_rows() -> list[dict]:
    """Return what the scorecard says of each table of results/, and put its files beside the page."""
    rows, folder = [], STAGE / "book" / "back" / "ensembles"
    for ensemble in ensembles().values():
        kept = ensemble.record()
        for name in kept.get("files", []):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(RESULTS / name, folder / name)
        seconds = sorted(about["seconds"] for about in kept.get("jobs", {}).values())
        about = kept.get("machine", {})
        rows.append(
            {
                "name": ensemble.name,
                "chapter": ensemble.chapter,
                "jobs": f"{len(seconds)} of {len(ensemble.jobs)}",
                "seconds": f"{seconds[len(seconds) // 2]:.0f}" if seconds else "",
                "machine": f"{about.get('cpu', '')}, {about.get('instruction_set', '')}".strip(", "),
                "state": ensemble.state,
                "files": kept.get("files", []),
            }
        )
    return rows


def front_banner(evidence: list[dict], troubles: dict[str, dict]) -> str:
    """Return what the first page says of the evidence: a count, and in red what is wrong."""
    text = f"Counted on this copy: {tally(evidence)}; see the {{doc}}`scorecard </book/back/scorecard>`."
    wrong = [
        f"- {row['verdict']}: {{ref}}`{row['id']} <{label(row['id'])}>` in {{doc}}`/book/{row['chapter']}`"
        for row in evidence
        if row["verdict"] in ("FAIL", "NOT REACHED")
    ]
    for chapter, found in troubles.items():
        wrong += [f"- {kind}: {{doc}}`/book/{chapter}`" for kind in found]
    if not wrong:
        return text
    return "\n".join([":::{admonition} Not everything holds on this copy", ":class: danger", *wrong, ":::", "", text])


def fill(page: str, mark: str, text: str) -> None:
    """Put a text in the place of a page's mark."""
    path = STAGE / "book" / page
    path.write_text(path.read_text(encoding="utf-8").replace(mark, text), encoding="utf-8")


def staged(page: str) -> Path:
    """Return a page's source among the staged files."""
    notebook = STAGE / f"{page}.ipynb"
    return notebook if notebook.exists() else notebook.with_suffix(".md")


def stage(preset: str) -> dict[str, dict]:
    """Fill `_build/stage` anew; return chapter -> its troubles, where it has any."""
    shutil.rmtree(STAGE, ignore_errors=True)
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "cmlib-output", "*.ipynb")
    shutil.copytree(ROOT / "book", STAGE / "book", ignore=unwanted)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, STAGE / name)
    this_copy = identity()
    (STAGE / "identity.json").write_text(json.dumps(this_copy), encoding="utf-8")
    extra = STAGE / "extra"  # goes into the site as it is
    extra.mkdir()
    shutil.copy(ROOT / "LICENSE", extra / "LICENSE.txt")
    bibliography = (STAGE / "book" / "references.bib").read_text(encoding="utf-8")
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    titles, evidence, troubles = {}, [], {}
    for chapter in chapters():
        notebook = notebook_of(chapter, preset)
        try:
            own = [{"chapter": chapter} | row for row in evidence_of(notebook)]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{chapter}: {error}") from None
        page = STAGE / "book" / f"{chapter}.ipynb"
        files = page.with_suffix(".files")
        if preset != "committed" and (RUNS / preset / chapter / "figures").exists():
            shutil.copytree(RUNS / preset / chapter / "figures", files)
        else:
            committed_files(notebook, chapter, files)
        if found := trouble(chapter, preset):
            troubles[chapter] = found
        titles[chapter] = title_of(notebook)
        evidence += own
        offered = extra / "notebooks" / f"{chapter}.ipynb"
        offered.parent.mkdir(parents=True, exist_ok=True)
        offered.write_text(json.dumps(with_installation(notebook, this_copy), indent=1) + "\n", encoding="utf-8")
        notebook = with_layers(with_badges(notebook, own, keys), chapter)
        notebook = with_banner(notebook, troubles.get(chapter, {}))
        page.write_text(json.dumps(with_alt_and_links(notebook, files)), encoding="utf-8")
    for page, text in atlas_pages(evidence, preset).items():  # first, as rows lead back to the cards
        fill(page, CARDS, text)
    texts = {page: staged(page).read_text(encoding="utf-8") for page in pages()}
    for row in evidence:
        row["used"] = [page for page, text in texts.items() if f"{{claim}}`{row['id']}`" in text]
    scorecard = record(evidence, preset)
    text = json.dumps(scorecard, indent=1, ensure_ascii=False) + "\n"
    (STAGE / "scorecard.json").write_text(text, encoding="utf-8")
    body = page_body(scorecard, titles, bibliography, ensemble_rows())
    fill("back/scorecard.md", PLACEHOLDER, body)
    fill("intro.md", BANNER, front_banner(evidence, troubles))
    stage_page(STAGE)
    return troubles
