"""Every page for readers who listen, who use the keyboard alone, who see little, and who wait for each byte."""

import gzip

import pytest
from test_site import HTML, PAGES, READY, Visit, address, browser, pytestmark, wide  # noqa: F401 (fixtures and marks)

AXE = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
# off unless asked for; the name of what is spoken to has to hold the words that are seen
OPTIONS = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": True}}}
COLOURS = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
# What axe would look at ten thousand times and find the same: the boxes of a formula's letters become one letter in a
# box of the formula's size, a drawing stays as the one image that it is said to be, of code one word of each colour.
THIN = """() => {
  document.querySelectorAll('mjx-container').forEach(formula => {
    const {width, height} = formula.getBoundingClientRect();
    formula.textContent = 'x';
    formula.style.cssText += `;display:inline-block;width:${width}px;height:${height}px`;
  });
  document.querySelectorAll('svg[role=img]').forEach(drawing => drawing.replaceChildren());
  const seen = new Set();
  document.querySelectorAll('.highlight pre').forEach(code => {
    code.style.whiteSpace = 'normal';
    [...code.childNodes].filter(word => seen.has(word.className)).forEach(word => word.remove());
    [...code.children].forEach(word => seen.add(word.className));
  });
}"""
# the theme makes what scrolls a stop of the tab key .3 s after the last change of sizes
STOPPED = """() => [...document.querySelectorAll('pre, .cell_output > .output, .pst-scrollable-table-container')]
  .every(e => e.tabIndex === 0 || (e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight))"""


def violations(page):
    """Return rule -> the elements that break it, in both themes at 1300 and 400 px; a theme changes colours only."""
    page.evaluate(THIN)
    found = {}
    for scheme, options in (("light", OPTIONS), ("dark", COLOURS)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
        for width in (1300, 400):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(STOPPED)
            for broken in AXE.run(page, options=options).response["violations"]:
                elements = [node["html"][:200] for node in broken["nodes"]]
                found[f"{broken['id']}, {scheme}, {width} px"] = elements
    return found


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_page_breaks_no_rule_of_accessibility(wide, name):  # noqa: F811
    page = wide.page
    page.goto(f"{wide.address}{name}.html", wait_until="load")
    page.evaluate(READY)
    assert violations(page) == {}


@pytest.mark.parametrize(
    ("harm", "rule"),
    [
        ("<p style='color: #999'>too faint on white</p>", "color-contrast, light"),
        ("<p style='color: #555'>too faint on black</p>", "color-contrast, dark"),
        ("<img src='../_static/favicon.svg'>", "image-alt"),
        ("<h5>two levels too deep</h5>", "heading-order"),
        ("<button aria-label='one'>other</button>", "label-content-name-mismatch"),
    ],
)
def test_the_check_of_rules_speaks(wide, harm, rule):  # noqa: F811
    page = wide.open(PAGES[0])
    page.locator("article h1").evaluate("(title, harm) => title.insertAdjacentHTML('afterend', harm)", harm)
    assert any(broken.startswith(rule) for broken in violations(page))


# the key's stops among what may scroll, against what does
STOPS = """() => [...document.querySelectorAll('mjx-container, .math, .picture, .movable-picture')]
  .filter(e => e.checkVisibility() && (e.tabIndex === 0) !== (
    e.scrollWidth > e.clientWidth + (e.matches('span.math') ? 5 : 1)
    && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))).map(e => e.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("name", PAGES)
def test_formula_or_picture_is_a_stop_of_the_tab_key_when_it_scrolls_and_no_letter_is_too_small(wide, name):  # noqa: F811
    page = wide.open(name)
    for width in (1300, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)  # for the observer of sizes
        assert page.evaluate(STOPS) == []
        for picture in page.locator("figure .picture img:visible").all():
            least = "i => parseFloat(getComputedStyle(i.parentElement).getPropertyValue('--least'))"
            assert picture.evaluate("i => i.getBoundingClientRect().width") >= picture.evaluate(least) - 0.5


def test_tab_key_comes_first_to_a_link_past_the_contents_and_shows_where_it_is(wide):  # noqa: F811
    page = wide.open(PAGES[1])
    page.locator("body").press("Tab")  # page.keyboard would wait for ever where a browser forgets to answer
    link = page.locator(":focus")
    assert link.inner_text() == "Skip to main content" and link.is_visible()
    link.press("Enter")
    page.locator("body").press("Tab")
    inside = page.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert inside and page.locator(":focus").evaluate("e => getComputedStyle(e).outlineStyle") != "none"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_light_and_does_not_jump(browser, address, name):  # noqa: F811
    visit, answers = Visit(browser, address, 1300, "light"), []
    page = visit.page
    page.on("response", lambda answer: answers.append(answer))
    page.add_init_script(
        """window.jumps = [];
        new PerformanceObserver(list => window.jumps.push(...list.getEntries().map(entry => entry.value)))
          .observe({type: 'layout-shift', buffered: true});
        // on a loaded machine the page would give its formulas up after 5 s, and jump when they come
        const soon = window.setTimeout;
        window.setTimeout = (call, after, ...rest) => soon(call, after === 5000 ? 60000 : after, ...rest);"""
    )
    visit.open(name)
    bodies = {answer.url: answer.body() for answer in answers}
    assert (HTML / f"{name}.html").read_bytes() in bodies.values()
    # as hosts send it, compressed; and as it is read from a folder, where three chapters with long tables of frames
    # for their figures are above 1.5 MB
    assert sum(len(gzip.compress(body)) for body in bodies.values()) <= 750_000
    assert sum(map(len, bodies.values())) <= 1_750_000
    for _ in range(page.evaluate("Math.ceil(document.documentElement.scrollHeight / 800)")):
        page.evaluate("scrollBy(0, 800)")
        page.wait_for_timeout(20)
    assert sum(page.evaluate("window.jumps")) < 0.05
    visit.context.close()
