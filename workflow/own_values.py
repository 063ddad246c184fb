"""Figures drawn with one's own values beside the book's: a page of their own each, and one page of one's own site."""

import base64
import json
import shutil
from html import escape
from pathlib import Path

import yaml
from chapters import ROOT
from notebooks import code_cells, read_notebook

OWN = ROOT / "_build" / "figure"  # what `make figure` leaves
PAGE = "book/own-values"
ROWS = 12  # of the columns that moved


def beside(run: dict) -> str:
    """Return a page, whole in itself, with the figure now and the book's, the values, and what moved."""
    name = escape(run["figure"])
    pictures = (("Now", picture(OWN / run["figure"], run["figure"])), ("In the book", in_the_book(run)))
    figures = "".join(
        f'<figure><figcaption>{words}</figcaption><img alt="{name}, {words.lower()}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>'
        for words, png in pictures
        if png
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in run["notes"])
    tables = "".join(
        f"<h2>{title}</h2><table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
        + "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        + "</table>"
        for title, heads, rows in tables_of(run)
    )
    words = f"<p>{escape(said(run))} Made by <code>{escape(run['command'])}</code>.</p>"
    return _HTML.format(name=name, chapter=escape(run["chapter"]), words=words + notes, figures=figures, tables=tables)


def picture(folder: Path, name: str) -> bytes | None:
    path = folder / f"{name}.png"
    return path.read_bytes() if path.exists() else None


def in_the_book(run: dict) -> bytes | None:
    """Return the picture that the chapter holds of the figure."""
    for cell in code_cells(read_notebook(ROOT / "book" / f"{run['chapter']}.ipynb")):
        for output in cell["outputs"]:
            if output.get("metadata", {}).get("cmlib", {}).get("figure") == run["figure"]:
                return base64.b64decode("".join(output["data"]["image/png"]))
    return None


def said(run: dict) -> str:
    changed = [f"{name} = {now} (in the book {book})" for name, book, now in run["parameters"] if book != now]
    if changed:
        return f"Drawn with {', '.join(changed)}."
    return "Drawn with the book's own values."


def tables_of(run: dict) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Return (title, heads, rows) of the values and of the numbers that moved most."""
    values = sorted(run["parameters"], key=lambda row: row[1] == row[2])  # changed ones first
    rows = [[name, str(now), str(book)] for name, book, now in values]
    numbers: list[list[str]] = []
    alike: dict[str, list[str]] = {}  # one row for all of a kind
    for name, by in run["moved"]:
        if isinstance(by, str):
            alike.setdefault(by, []).append(name)
        elif by < 1e-4:
            alike.setdefault("less than 0.01%" if by else "not at all", []).append(name)
        else:
            numbers.append([name, f"{by:.2%}"])
    if len(numbers) > ROWS:
        numbers[ROWS:] = [[f"and {len(numbers) - ROWS} more", "less"]]
    kinds = [[f"{names[0]} and {len(names) - 1} more" if names[1:] else names[0], by] for by, names in alike.items()]
    found = [("Values", ("Parameter", "Now", "In the book"), rows)]
    title = "Numbers drawn, those that moved most first"
    return [*found, (title, ("Column", "Moved, by part of its largest number"), numbers + kinds)]


_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} beside the book’s</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; }}
body {{ max-width: 82rem; margin: 0 auto; padding: 1rem; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; flex: 1 1 22rem; }}
figcaption {{ font-weight: 600; }}
img {{ width: 100%; background: #fff; border-radius: 0.4rem; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: 0.15rem 1rem 0.15rem 0; border-bottom: 1px solid #8888; }}
code, td + td {{ overflow-wrap: anywhere; }}
</style></head><body>
<h1>{name} beside the book’s</h1>
{words}
<div class="pictures">{figures}</div>
{tables}
<p>From the chapter {chapter} of <em>The Curse of Memory</em>.</p>
</body></html>
"""


def runs() -> list[dict]:
    """Return what each figure's last run left, by name, of the chapters that there are."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(OWN.glob("*/run.json"))]
    return [run for run in found if (ROOT / "book" / f"{run['chapter']}.ipynb").exists()]


def stage_page(stage: Path) -> None:
    """Add the page to a staged book and to its table of contents, last, where there are any such figures."""
    if not (found := runs()):
        return
    files = stage / f"{PAGE}.files"
    files.mkdir()
    lines = ["# Your own values", "", "Drawn on this copy by `make figure`, each beside the book's."]
    for run in found:
        name = run["figure"]
        lines += ["", f"## {name}", "", f"{said(run)} From {{doc}}`/book/{run['chapter']}`, in {run['seconds']:g} s:"]
        lines += ["", "```bash", run["command"], "```", "", *run["notes"], "", "::::{grid} 1 1 2 2"]
        pictures = {"now": (name, picture(OWN / name, name)), "in the book": (f"{name}-book", in_the_book(run))}
        for words, (stem, png) in pictures.items():
            if png is None:  # a figure that has not been committed yet
                continue
            (files / f"{stem}.png").write_bytes(png)
            lines += [":::{grid-item}", f"```{{image}} own-values.files/{stem}.png", f":alt: {name}, {words}"]
            lines += [":class: dark-light", "```", words.capitalize(), ":::"]  # as it is on a dark page too
        lines += ["::::", ""]
        for path in sorted((OWN / name).glob(f"{name}.*")):
            shutil.copy(path, files / path.name)
            lines += [f"[{path.suffix[1:].upper()}](own-values.files/{path.name})"]
        title, heads, rows = tables_of(run)[1]  # the values that differ stand above
        lines += ["", f"{title}:", "", ":::{list-table}", ":header-rows: 1", ""]
        for row in [heads, *rows]:
            lines += [f"{'  -' if i else '* -'} {escape(cell, quote=False)}" for i, cell in enumerate(row)]
        lines += [":::"]
    (stage / f"{PAGE}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    contents = yaml.safe_load((stage / "_toc.yml").read_text(encoding="utf-8"))
    last = contents["parts"][-1] if "parts" in contents else contents
    last["chapters"].append({"file": PAGE})
    (stage / "_toc.yml").write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
