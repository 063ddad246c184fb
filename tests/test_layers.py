"""The two layers of a chapter: folds that say what they hold, a map, the choice of a layer, and what links show."""

import sys
from pathlib import Path

import pytest
from test_site import CHAPTERS, HTML, address, browser, pytestmark, wide  # noqa: F401 (fixtures, and when to skip)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from layers import fold_name, with_layers  # noqa: E402


def cell(code, *tags, **about):
    metadata = {"tags": list(tags), "mystnb": about} if about else {"tags": list(tags)}
    return {"cell_type": "code", "source": code, "metadata": metadata, "outputs": [], "execution_count": 1}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("# Fit networks of each width.\nfits = {}", "Fit networks of each width"),
        ("def error(m):\n    return m\n\n\nerrors = [error(m) for m in (1, 2)]", "Define error"),
        ("fits = [m for m in (1, 2)]\nfor fit in fits:\n    size, _ = fit, 1", "Compute fits, fit, size"),
        ("import numpy as np", "Import what the chapter uses"),
        ('_ = claims.check("a-b", 1, equal=1)\n_ = claims.claim(f"{n}-c", 1, rival=2, below=1)', "Judge a-b, …-c"),
        ("print(1)", "Print the numbers"),
        ("# " + "word " * 30, "word " * 14 + "…"),
    ],
)
def test_fold_says_what_it_holds(code, name):
    assert fold_name(cell(code)) == name


def test_parameters_and_figures_have_their_names():
    text = {"cell_type": "markdown", "metadata": {}, "source": "# T\n\nSo.\n\n## One\n\n(main-plateaus)=\n## Two"}
    drawn = cell("_ = 1", figure={"name": "fig-a", "caption": "x"})
    cells = [text, cell("m: int = 1", "parameters"), drawn, cell("_ = claims.check('a', 1)", "hide-cell")]
    layered = with_layers({"cells": cells}, "linear/plateaus")["cells"]
    names = [c["metadata"]["mystnb"]["code_prompt_show"] for c in layered[1:]]
    assert names[:2] == ["Parameters", "Draw Figure 6.1"]
    assert layered[3]["metadata"]["tags"] == ["hide-input", "judges"]
    assert (
        "[One](#map-plateaus-1) · [Two](#map-plateaus-2) (\N{BLACK STAR} [main result](#main-plateaus))"
        in (layered[0]["source"])
    )
    assert cells[1]["metadata"]["tags"] == ["parameters"]  # the notebook itself is left alone


CODE = "article div.cell_input"


@pytest.mark.parametrize("name", CHAPTERS)
def test_story_shows_no_code_and_the_record_all(wide, name):  # noqa: F811
    page = wide.open(name)
    count = page.locator(CODE).count()
    assert count > 0 and page.locator(f"{CODE}:visible").count() == 0
    assert page.locator(".chapter-map a").count() > 2
    folds = page.locator("div.cell > details.hide > summary").all_inner_texts()
    figures = page.locator("figure .caption-number").all_inner_texts()
    drawn = {text.strip().removeprefix("Draw ") for text in folds if text.strip().startswith("Draw Figure")}
    assert drawn == {text.strip().replace("Fig.", "Figure") for text in figures}
    page.get_by_label("Record").check()
    assert page.locator(f"{CODE}:visible").count() == count
    assert "layer=record" in page.url
    assert wide.strangers == [] and wide.complaints == []


def test_layer_is_remembered_unless_the_address_asks(wide):  # noqa: F811
    wide.open(CHAPTERS[0]).get_by_label("Record").check()
    page = wide.open(CHAPTERS[1])
    assert page.get_by_label("Record").is_checked() and page.locator(f"{CODE}:visible").count() > 0
    page.goto(f"{wide.address}{CHAPTERS[1]}.html?layer=story")
    assert page.get_by_label("Story").is_checked() and page.locator(f"{CODE}:visible").count() == 0


def test_a_failed_statement_is_open_in_the_story(wide):  # noqa: F811
    page = wide.open(CHAPTERS[0])
    record = page.locator("details.record").first
    assert not record.is_visible()
    record.evaluate("d => { d.open = true; d.classList.add('amiss'); }")  # as a page is built where one failed
    assert record.is_visible()
    page.get_by_label("Record").check()
    page.get_by_label("Story").check()
    assert record.is_visible()


PREVIEWS = {
    ".measured a": "Rival",
    "a[href='#thm-plateau']": "Theorem 6.",
    "a.reference[href^='#equation-']": "",
    "span.bibtex-citation a": "In",
}


@pytest.mark.parametrize("where", ["http", "file"])
def test_links_show_what_they_lead_to(wide, where):  # noqa: F811
    page = wide.page
    start = wide.address if where == "http" else HTML.as_uri() + "/"
    page.goto(f"{start}book/linear/plateaus.html")
    page.wait_for_function("() => window.MathJax?.startup?.promise && document.querySelector('mjx-container')")
    for link, words in PREVIEWS.items():
        page.locator(f"article {link}").first.hover()
        preview = page.get_by_role("tooltip")
        preview.wait_for()
        assert words in preview.inner_text() and preview.locator(".math:not(:has(mjx-container))").count() == 0
        page.locator("body").press("Escape")
        assert preview.count() == 0
    number = page.locator(f"article {next(iter(PREVIEWS))}").first
    number.focus()
    preview.wait_for()
    assert number.get_attribute("aria-describedby") == preview.get_attribute("id")
    assert wide.complaints == []


def test_row_of_the_scorecard_is_marked_and_leads_back(wide):  # noqa: F811
    page = wide.open("book/linear/plateaus")
    number = page.locator(f"article {next(iter(PREVIEWS))}").first
    number.click()
    page.wait_for_url("**/scorecard.html#claim-*")
    row = page.locator("tr:has(:target)")
    colours = page.evaluate("() => [...document.querySelectorAll('tr:has(:target) > td, tr:not(:has(:target)) > td')]"
                            ".map(cell => getComputedStyle(cell).backgroundColor)")  # fmt: skip
    assert row.count() == 1 and len(set(colours)) > 1
    row.locator(".used a", has_text="plateaus").click()
    page.wait_for_url("**/plateaus.html#used-claim-*")
    assert page.locator(":target").count() == 1


@pytest.mark.parametrize("name", CHAPTERS)
def test_story_comes_to_its_point(wide, name):  # noqa: F811
    """The first figure within a screen and a half of 900 px, the main result within five."""
    page = wide.open(name)
    tops = "found => found.map(element => element.getBoundingClientRect().top + scrollY)"
    figures = page.locator("article :is(figure, .movable)").evaluate_all(tops)
    main = page.locator(f"[id='main-{name.rpartition('/')[2]}']").evaluate_all(tops)
    assert min(figures) <= 1.5 * 900
    assert len(main) == 1 and main[0] <= 5 * 900


def test_term_shows_what_it_means(wide):  # noqa: F811
    page = wide.open("book/stable/cure-completed")
    page.locator("article a[href*='#term-stability-radius']").first.hover()
    preview = page.get_by_role("tooltip")
    preview.wait_for()
    assert "smallest change of the recurrent weight" in preview.inner_text()
