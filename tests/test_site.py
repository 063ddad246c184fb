"""The built site in a real browser: mathematics, figures, search, links, and nothing from anywhere else."""

import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path

import matplotlib as mpl
import pytest

from cmlib import chapter

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "workflow"))

from chapters import chapters, pages  # noqa: E402
from notebooks import code_cells, figures_of, read_notebook  # noqa: E402

CHROMIUM = shutil.which("chromium")
# without these the browser itself calls home
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the site is not seen in a browser"),
    pytest.mark.skipif(not (HTML / "index.html").exists(), reason="no site in _build/html: run make site"),
]
PAGES = pages()
CHAPTERS = [f"book/{chapter}" for chapter in chapters()]
PICTURE = "figure img:visible, figure svg[role=img]"  # the second in figures with a slider
# an evaluation waits for a promise as long as it takes, and a test for ever
SOON = "Promise.race([%s, new Promise((_, no) => setTimeout(() => no(new Error('not within 60 s')), 60000))])"
READY = f"window.MathJax ? {SOON % 'MathJax.startup.promise'}.then(() => null) : null"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=HTML)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """One page in a fresh profile, with everything it asked for and complained about."""

    def __init__(self, browser, address, width, scheme):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.address, self.strangers, self.complaints = address, [], []
        self.page.on("request", self.note_request)
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def note_request(self, request):
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.strangers.append(request.url)

    def open(self, name):
        self.page.goto(f"{self.address}{name}.html", wait_until="load")
        self.page.evaluate(READY)
        return self.page

    def count(self, selector):
        return self.page.locator(selector).count()


@pytest.fixture(params=[(1300, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def visit(request, browser, address):
    visit = Visit(browser, address, *request.param)
    yield visit
    visit.context.close()


@pytest.fixture
def wide(browser, address):
    visit = Visit(browser, address, 1300, "light")
    yield visit
    visit.context.close()


UNDEFINED_MACRO = 'mjx-mtext[style*="red"], mjx-container [data-mjx-error]'  # MathJax shows it in red
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# ink of the text and its ground, as relative luminance, through the page's own colours
CONTRAST = """() => {
  const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ink = light(getComputedStyle(document.querySelector('article p, article h1')).color);
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
}"""


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_and_asks_nobody_else(visit, name):
    page = visit.open(name)
    assert page.locator("article h1").count() == 1
    assert visit.count("mjx-merror") == 0
    assert visit.count(UNDEFINED_MACRO) == 0
    assert visit.count(".math:not(:has(mjx-container))") == 0  # no formula was left as text
    for picture in page.locator("article img:visible").all():
        # one that loads when it comes into view would be waited for in vain
        decoded = f"i => {{ i.loading = 'eager'; return {SOON % 'i.decode()'}.then(() => i.naturalWidth); }}"
        assert picture.evaluate(decoded) > 0
        assert picture.get_attribute("alt").strip()
        # whole, or in a frame of its own in which it scrolls
        frame = "i => (i.closest('.picture') || i).getBoundingClientRect().width <= document.body.clientWidth"
        assert picture.evaluate(frame)
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(CONTRAST) > 4.5
    assert visit.strangers == [] and visit.complaints == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_shows_its_figures_and_its_claims(wide, name):
    page = wide.open(name)
    notebook = read_notebook(ROOT / f"{name}.ipynb")
    alts = [figure["alt"] for cell in code_cells(notebook) for figure in figures_of(cell)]
    shown = page.locator(PICTURE).all()
    assert [image.get_attribute("alt") or image.get_attribute("aria-label") for image in shown] == alts
    assert all(image.is_visible() for image in shown)
    assert page.locator("figure figcaption").count() == len(alts)
    assert wide.count("mjx-container") > 0
    evidence = page.request.get(f"{wide.address}scorecard.json").json()["evidence"]
    own = {row["id"]: row["verdict"] for row in evidence if f"book/{row['chapter']}" == name}
    badges = page.locator("p:has(> [class^=badge-])").all()
    assert {badge.locator("a").inner_text(): badge.locator("[class^=badge-]").inner_text() for badge in badges} == own
    for links in page.locator(".figure-files").all():  # the numbers drawn, whatever run the page is from
        assert "data" in links.inner_text()


@pytest.mark.parametrize("name", CHAPTERS)
def test_dark_page_shows_dark_figures_and_asks_for_no_others(browser, address, name):
    visit, asked = Visit(browser, address, 1300, "dark"), set()
    visit.page.on("request", lambda request: asked.add(request.url))
    page = visit.open(name)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    for image in page.locator(PICTURE).all():
        image.scroll_into_view_if_needed()
        if image.get_attribute("role") == "img":
            assert image.evaluate("i => getComputedStyle(i).backgroundColor") == "rgb(18, 18, 18)"
        else:
            loaded = f"i => {SOON % 'i.decode()'}.then(() => [i.naturalWidth > 0, getComputedStyle(i).filter])"
            assert image.evaluate(loaded) == [True, "none"]
            assert image.get_attribute("src").endswith("-dark.png")
    pictures = {url for url in asked if "/_images/" in url and url.endswith(".png")}
    assert all(url.endswith("-dark.png") for url in pictures)
    visit.context.close()


STEPS = """figure => [...figure.querySelectorAll('[id*="-moves-"] > path, [id*="-moves-"] > text')]
  .map(element => element.getAttribute('d') || element.textContent)"""


def sliders_amiss(page):
    """Move each slider on the page by one key; what should follow and did not, or should not and did."""
    figures, problems = page.locator(".movable").all(), []
    for i, figure in enumerate(figures):
        slider = figure.get_by_role("slider")
        label = figure.locator("label")
        if not slider.is_visible() or not label.is_visible() or not label.inner_text().strip():
            problems.append(f"figure {i} has no slider with a label")
            continue
        before, value = [f.evaluate(STEPS) for f in figures], figure.locator("output").inner_text()
        slider.press("ArrowRight" if slider.input_value() == "0" else "ArrowLeft")
        after = [f.evaluate(STEPS) for f in figures]
        for j, (old, new) in enumerate(zip(before, after, strict=True)):
            if (old != new) != (i == j):
                problems.append(f"the slider of figure {i} {'moves' if old != new else 'does not move'} figure {j}")
        if figure.locator("output").inner_text() == value:
            problems.append(f"figure {i} does not show its new value")
    return problems


@pytest.mark.parametrize("name", CHAPTERS)
def test_sliders_of_a_chapter_move_their_own_figure(visit, name):
    assert sliders_amiss(visit.open(name)) == []
    assert visit.strangers == [] and visit.complaints == []


@pytest.fixture
def two_sliders(tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # after the choice of a backend without windows

    def fragment(name):
        fig, ax = plt.subplots()
        frames, words = {ax.plot([0, 1, 2])[0]: [[0, 1, 2], [2, 1, 0]]}, {ax.title: ["up", "down"]}
        saved = chapter.movable(fig, name, frames, [0, 1], label="slope", texts=words, default=1, alt="a line")
        return saved.fragment

    return "<!doctype html>" + fragment("first") + fragment("second")


@pytest.mark.parametrize(
    ("harm", "problems"),
    [
        (("", ""), 0),
        (("addEventListener", "removeEventListener"), 4),  # neither moves, neither shows its value
        (("second-moves", "first-moves"), 1),  # ids that clash
        (("<label", "<label hidden"), 2),
        (("textContent = values", "title = values"), 2),
    ],
)
def test_browser_check_of_sliders_speaks(wide, two_sliders, harm, problems):
    wide.page.set_content(two_sliders.replace(*harm))
    assert len(sliders_amiss(wide.page)) == problems


def test_figure_with_a_slider_is_there_without_scripts(browser, two_sliders):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(two_sliders)
    assert page.locator("svg").first.is_visible() and not page.locator("input").first.is_visible()
    context.close()


def test_front_page_leads_to_the_introduction(wide):
    wide.page.goto(f"{wide.address}index.html", wait_until="commit")
    wide.page.wait_for_url("**/book/intro.html")


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_old_address_leads_to_the_page_and_its_section(browser, address, scheme):
    visit = Visit(browser, address if scheme == "http" else f"{HTML.as_uri()}/", 1300, "light")
    section = visit.open("book/nonlinear/proof-notes").locator("article section section").first.get_attribute("id")
    visit.page.goto(f"{visit.address}book/back/proof-notes.html#{section}", wait_until="commit")
    visit.page.wait_for_url(f"**/book/nonlinear/proof-notes.html#{section}")
    assert visit.strangers == [] and visit.complaints == []
    visit.context.close()


def test_next_and_previous_go_through_the_book_and_back(wide):
    page = wide.open(PAGES[0])
    for name in PAGES[1:]:
        page.locator("a.right-next").click()
        page.wait_for_url(f"**/{name}.html")
    for name in reversed(PAGES[:-1]):
        page.locator("a.left-prev").click()
        page.wait_for_url(f"**/{name}.html")
    assert wide.strangers == [] and wide.complaints == []


def test_scorecard_has_a_row_for_each_claim(wide):
    page = wide.open("book/back/scorecard")
    evidence = page.request.get(f"{wide.address}scorecard.json").json()["evidence"]
    assert evidence and page.locator("table.scorecard tbody tr").count() == len(evidence)
    for word in ("PASS", "FAIL"):
        shown = page.locator(f"table.scorecard .{word.lower()}").count()
        assert shown == sum(row["verdict"] == word for row in evidence)


def test_numbers_theorems_by_chapter_with_one_counter(wide):
    page = wide.open(CHAPTERS[0])
    numbers = [text.strip() for text in page.locator("div.proof .caption-number").all_inner_texts()]
    numbers = [text.split()[-1] for text in numbers if text[-1:].isdigit()]
    assert numbers == [f"1.{n + 1}" for n in range(len(numbers))]


@pytest.mark.parametrize(
    ("formula", "wrong"), [(r"\frac{1}", True), (r"\nosuchmacro", True), (r"\norm{\rhohat - \rho}", False)]
)
def test_browser_check_of_formulas_speaks(wide, formula, wrong):
    page = wide.open(CHAPTERS[0])
    page.evaluate(
        """formula => {
          const p = document.createElement('p');
          p.className = 'math';
          p.textContent = '\\\\(' + formula + '\\\\)';
          document.querySelector('article').append(p);
          return MathJax.typesetPromise([p]);
        }""",
        formula,
    )
    bad = wide.count("mjx-merror") + wide.count(UNDEFINED_MACRO)
    assert (bad > 0) == wrong
