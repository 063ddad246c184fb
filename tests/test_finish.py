"""What the finished site does without: rules of style for what no page shows, and marks on code that change nothing."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import finish  # noqa: E402


@pytest.mark.parametrize(
    ("style", "left"),
    [
        (".a{x:1}.b{x:2}", ".a{x:1}"),
        ("p .b,.a>p{x:1}", ".a>p{x:1}"),
        ("/* {} */p{x:1}", "p{x:1}"),
        ("@media print{.b{x:1}.a{x:2}}", "@media print{.a{x:2}}"),
        ("@media print{.b{x:1}}p{x:2}", "p{x:2}"),
        ("p:not(.b){x:1}", "p:not(.b){x:1}"),
        (":is(.a,.b) p{x:1}", ":is(.a,.b) p{x:1}"),
        (".bs-tooltip-end{x:1}", ".bs-tooltip-end{x:1}"),
        ("@font-face{src:url(b.ttf)}", "@font-face{src:url(b.ttf)}"),
    ],
)
def test_rules_stay_for_what_pages_name(style, left):
    assert finish.used_rules(style, {"a"}) == left


def test_names_in_code_lose_their_marks_and_nothing_else():
    code = '<span class="n">x</span><span class="w"> </span><span class="o">=</span>'
    assert finish.PLAIN.sub(r"\1", code) == 'x <span class="o">=</span>'


def test_citations_leave_their_entry_to_the_preview_and_other_links_keep_their_title():
    cited = '<a class="reference internal" href="../back/references.html#id4" title="Wang and others, 2024.">2024</a>'
    named = '<a class="reference internal" href="api.html#cmlib.fit" title="cmlib.fit">fit</a>'
    assert finish.CITED.sub(r"\1", cited + named) == cited.replace(' title="Wang and others, 2024."', "") + named


@pytest.mark.skipif(not (HTML / "index.html").exists(), reason="no site in _build/html: run make site")
def test_each_icon_of_a_page_is_in_the_font_that_is_left():
    from fontTools.ttLib import TTFont

    style = (HTML / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    codes = {}
    for rule in finish.RULE.finditer(style):
        for name in (part for part in rule[1].split(",") if part.startswith(".fa-") and "content" in rule[2]):
            codes[name.removeprefix(".").removesuffix(":before")] = int(rule[2].split("\\")[1].split('"')[0], 16)
    page = (HTML / "book" / "notation.html").read_text(encoding="utf-8")
    wanted = {name for name in ("fa-bars", "fa-magnifying-glass", "fa-moon", "fa-angle-right") if name in page}
    with TTFont(HTML / "_static" / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.ttf") as font:
        assert wanted and {codes[name] for name in wanted} <= font.getBestCmap().keys()
