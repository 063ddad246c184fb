"""What a link leads to, for a small window beside it: previews/PAGE.js, loaded when a reader points at one."""

import copy
import json
import posixpath
import re
from pathlib import Path

from bs4 import BeautifulSoup

# of the page pointed at: what would lead on, repeat an id, or be too much for a small window
LEFT_OUT = ".headerlink, .used, script, svg, details, .backrefs, span.label, .figure-files"


def note_page(app, pagename, templatename, context, doctree):
    """Keep what has an id on the page, and note where its links lead."""
    if doctree is None or app.builder.name != "html":
        return
    notes = app.env.previews
    # without the code, which no preview shows, parsing takes a third of the time
    soup = BeautifulSoup(re.sub(r"<pre>.*?</pre>", "", context["body"], flags=re.DOTALL), "html.parser")
    notes["pages"][pagename] = {tag["id"]: tag for tag in soup.find_all(id=True)} | {"": soup.find("section")}
    for link in soup.select("a.reference.internal[href]"):
        path, _, target = link["href"].partition("#")
        page = posixpath.normpath(posixpath.join(posixpath.dirname(pagename), path)) if path else f"{pagename}.html"
        notes["wanted"].setdefault(page.removesuffix(".html"), set()).add(target)


def preview(found):
    """Return the HTML to show of what a link leads to, None where there is nothing."""
    if found is None:
        return None
    if row := found.find_parent("tr"):  # of the scorecard
        heads = [head.get_text() for head in row.find_parent("table").select("thead th")]
        cells = [cell.decode_contents() for cell in shown(row).find_all("td")]
        return "<dl>" + "".join(f"<dt>{h}</dt><dd>{c}</dd>" for h, c in zip(heads, cells, strict=True)) + "</dl>"
    if found.name == "section":
        parts = [found.find(["h1", "h2", "h3"]), found.find("p", recursive=False)]
    elif found.name == "dt":
        parts = [found, found.find_next_sibling("dd").find("p")]
    elif found.name in ("figure", "table", "div", "p", "li"):
        parts = [found]
    else:
        return None
    return "".join(shown(part).decode() for part in parts if part is not None) or None


def shown(tag):
    """Return a copy without what a preview leaves out, and without ids, which are the page's own."""
    tag = copy.copy(tag)
    for part in tag.select(LEFT_OUT):
        part.decompose()
    for part in [tag, *tag.find_all(id=True)]:
        part.attrs.pop("id", None)
    return tag


def write(app, exception):
    if exception or app.builder.name != "html":
        return
    notes = app.env.previews
    for page, targets in notes["wanted"].items():
        if page not in notes["pages"]:
            continue
        found = {target: preview(notes["pages"][page].get(target)) for target in sorted(targets)}
        text = json.dumps([page, {target: html for target, html in found.items() if html}], ensure_ascii=False)
        path = Path(app.outdir, "previews", f"{page}.js")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"keepPreviews(...{text});\n", encoding="utf-8")


def begin(app):
    app.env.previews = {"pages": {}, "wanted": {}}


def setup(app):
    app.connect("builder-inited", begin)
    app.connect("html-page-context", note_page)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "version": "1"}
