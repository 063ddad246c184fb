"""Last work on the finished site: what the theme sends that no page uses goes, what it says wrongly is put right."""

import re
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from sphinx.util import logging

# what the theme writes -> what the page has; each of these occurs, or the build says that it no longer does
REPAIRS = {
    # the theme's icons come from its font; the script would draw each of them again, from 1.5 MB
    r'\s*<script defer src="[^"]*/scripts/fontawesome\.js[^"]*"></script>': "",
    # the words to unfold a cell are its name
    r'<summary aria-label="Toggle hidden content">': "<summary>",
    # roles that ARIA has given up, or that ask for children which are not there
    r' role="doc-biblioentry"': "",
    r'<div role="list" class="citation-list">': '<div class="citation-list">',
    # the name of the button is what it shows
    r'(<button class="btn search-button-field [^"]*") title="Search" aria-label="Search"': r"\1",
    # the book's title lies in the list of its chapters
    r'<div id="pst-primary-sidebar"': r'<div role="navigation" aria-label="Book" id="pst-primary-sidebar"',
}
# names, marks and spaces of code have the colour of code; marking each of them doubles the page
PLAIN = re.compile(r'<span class="[npw]">([^<]*)</span>')
# a citation repeats its whole entry, which the preview of the link shows: on the scorecard four hundred times
CITED = re.compile(r'(<a class="reference internal" href="[^"]*#id\d+") title="[^"]*"')
# a formula and the mark that follows it, which a browser would put on the next line
MARKED = re.compile(r'(\(?<span class="math notranslate nohighlight">[^<]*</span>)([.,;:)?!]+)')
# the corner of a table is no heading
CORNER = '<th class="head"></th>'
# the words of the whole book, which only the page that searches needs
INDEX = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>')
# styles of two libraries and two themes; the rules for what no page shows are most of them
STYLES = ("styles/pydata-sphinx-theme.css", "sphinx-design.min.css", "mystnb.*.css")
RULE = re.compile(r"([^{}]*)\{([^{}]*)\}")
MADE_UP = ("bs-tooltip-",)  # names that a script puts together
# of MathJax: what turns TeX into HTML and its hidden MathML; neither menu nor explorer, which make formulas tab stops
MATHJAX = ("startup.js", "core.js", "input/tex.js", "input/tex/extensions/", "output/chtml", "a11y/assistive-mml.js")


def repair(folder: Path) -> str:
    """Rewrite the pages; return all their text."""
    seen, texts = set(), []
    for page in sorted(folder.rglob("*.html")):
        text = new = page.read_text(encoding="utf-8")
        for pattern, replacement in REPAIRS.items():
            new, times = re.subn(pattern, replacement, new)
            seen |= {pattern} if times else set()
        new = PLAIN.sub(r"\1", new).replace(CORNER, "<td></td>")
        new = CITED.sub(r"\1", MARKED.sub(r'<span class="unbroken">\1\2</span>', new))
        if page.name != "search.html":
            new = INDEX.sub("", new)
        if new != text:
            page.write_text(new, encoding="utf-8")
        texts.append(new)
    for pattern in REPAIRS.keys() - seen:
        logging.getLogger(__name__).warning("no page has %r any more: take its repair away", pattern)
    return "".join(texts)


def used_rules(style: str, words: set[str]) -> str:
    """Return a style sheet without the rules for classes that are not among the words."""

    def used(selector: str) -> bool:
        selector = re.sub(r":(not|is|where)\([^()]*\)", "", selector)  # which hold without the class, or with another
        classes = re.findall(r"\.(-?[A-Za-z_][\w-]*)", selector)
        return all(name in words or name.startswith(MADE_UP) for name in classes)

    def kept(rule: re.Match) -> str:
        if rule[1].lstrip().startswith("@"):
            return rule[0]
        selectors = [part for part in re.split(r",(?![^()]*\))", rule[1]) if used(part)]
        return f"{','.join(selectors)}{{{rule[2]}}}" if selectors else ""

    style = RULE.sub(kept, re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL))
    return re.sub(r"@[^{};]*\{\s*\}", "", style)  # what an @media is left with


def subset(static: Path, pages: str) -> None:
    """Leave of the styles, and of the font of icons, what the pages and their scripts name."""
    scripts = [path.read_text(encoding="utf-8") for path in (*static.glob("*.js"), *static.glob("scripts/*.js"))]
    words = set(re.findall(r"[A-Za-z_][\w-]*", "\n".join([pages, *scripts])))
    for pattern in STYLES:
        for path in static.glob(pattern):
            text = used_rules(path.read_text(encoding="utf-8"), words)
            path.write_text(re.sub(r"url\([^()]*\.woff2\) format\(.woff2.\),", "", text), encoding="utf-8")
    styles = [path.read_text(encoding="utf-8") for path in (*static.glob("*.css"), *static.glob("styles/*.css"))]
    icons = {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", "".join(styles))}
    icons |= {ord(mark) for mark in re.findall("[\ue000-\uf8ff]", "".join(styles))}  # or written as themselves
    for path in (static / "vendor" / "fontawesome" / "webfonts").iterdir():
        if path.suffix == ".woff2":  # which needs a library to write; what is left of the other is as small
            path.unlink()
            continue
        with TTFont(path) as font:
            tool = Subsetter(Options(notdef_outline=True))
            tool.populate(unicodes=icons)
            tool.subset(font)
            font.save(path)


def finish(app, exception):
    if exception is not None or app.builder.name not in ("html", "dirhtml"):
        return
    static = Path(app.outdir) / "_static"
    for path in static.glob("scripts/fontawesome*"):
        path.unlink()
    subset(static, repair(Path(app.outdir)))
    mathjax = static / "mathjax"
    unused = [path for path in mathjax.rglob("*.*") if not path.relative_to(mathjax).as_posix().startswith(MATHJAX)]
    for path in (*unused, *static.rglob("*.map")):
        path.unlink()


def in_parts(app, config):
    # sphinx-mathjax-offline names the one file that holds everything, over what _config.yml says
    config.mathjax_path = "mathjax/startup.js"


def setup(app):
    app.connect("config-inited", in_parts)
    app.connect("build-finished", finish, priority=950)  # after the last of the files has been copied
    return {"parallel_read_safe": True, "version": "1"}
