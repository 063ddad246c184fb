"""The atlas: cards that rest on evidence, and a page that filters them; each guard is shown what it must refuse."""

import copy
import csv
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

import atlas  # noqa: E402
import test_site  # noqa: E402
from chapters import chapters  # noqa: E402
from evidence import evidence_at  # noqa: E402

address, browser, wide = test_site.address, test_site.browser, test_site.wide  # fixtures
CARDS = atlas.read()


@pytest.fixture(scope="module")
def evidence():
    return [row for chapter in chapters() for row in evidence_at(ROOT / "book" / f"{chapter}.ipynb")]


@pytest.fixture(scope="module")
def book(evidence):
    return atlas.Book(evidence, "committed")


def card(id):
    return copy.deepcopy(next(card for card in CARDS if card["id"] == id))


@pytest.mark.parametrize("id", [card["id"] for card in CARDS])
def test_card_speaks_of_evidence_pictures_and_places_that_exist(book, id):
    book.check(card(id))


def test_every_figure_drawn_under_a_papers_name_has_a_card(book):
    drawn = {name for name in book.pictures if re.match("[ABC]-", name)}
    assert drawn and drawn <= {card.get("picture") for card in CARDS}


def test_every_claim_against_the_papers_is_on_a_card(book):
    against = {id for id, row in book.evidence.items() if re.search(r"against the \w+ in print", row["says"])}
    assert against and against <= {id for card in CARDS for id in card.get("evidence", [])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "confirmed"}, "card B-F2: unknown verdict 'confirmed'; expected one of: reproduced, "),
        ({"source": "hearsay"}, "card B-F2: unknown source 'hearsay'; expected one of: text, secondary"),
        ({"verdit": "corrected"}, "card B-F2: unknown field 'verdit'; the fields are: aliases, "),
        ({"why": None}, "card B-F2: lacks why"),
        ({"evidence": []}, "card B-F2: 'depends on the protocol' with 0 pieces of evidence"),
        ({"verdict": "not tested"}, "card B-F2: 'not tested' with 23 pieces of evidence"),
        ({"name": "Fig. 2 of B"}, "card B-F2: expected a name like 'Figure 2 of B', got 'Fig. 2 of B'"),
        ({"also": ["Figure 2 of E"]}, "card B-F2: expected a name like 'Figure 2 of B', got 'Figure 2 of E'"),
        ({"compare": "widths | 4"}, "card B-F2: expected rows as 'quantity | theirs | ours' in compare"),
        ({"id": "B-F3"}, "two cards have the same id: B-F3"),
    ],
)
def test_card_of_another_shape_is_refused(tmp_path, changes, message):
    changed = card("B-F2") | changes
    cards = [card("B-F3"), {field: value for field, value in changed.items() if value is not None}]
    (tmp_path / "atlas.yml").write_text(json.dumps(cards))  # JSON is YAML
    with pytest.raises(ValueError, match=re.escape(message)):
        atlas.read(tmp_path / "atlas.yml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evidence": ["B-F2-width"]}, "card B-F2: no evidence 'B-F2-width' in the book"),
        ({"why": "It is {claim}`B-F2-width`."}, "card B-F2: no evidence 'B-F2-width' in the book"),
        ({"picture": "B-F2b"}, "card B-F2: no picture 'B-F2b' in the book"),
        ({"sections": ["thm-nowhere"]}, "card B-F2: no section 'thm-nowhere' in the book"),
        ({"compare": "m | 4 | {param}`width`"}, "card B-F2: nonlinear/nonlinear-rnns has no parameter 'width'"),
        ({"vary": {"exponents": 2.0}}, "nonlinear/nonlinear-rnns has no parameter 'exponents'"),
        ({"vary": {"exponent": "two"}}, "parameter 'exponent' expects float, got 'two'"),
    ],
)
def test_card_that_speaks_of_what_is_not_there_is_refused(book, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        atlas.page_body([card("B-F2") | changes], book, {})


@pytest.mark.parametrize(
    ("verdict", "standing", "words"),
    [("FAIL", "fails", 1), ("NOT REACHED", "fails", 1), ("OPEN", "open", 0), ("PASS", "stands", 0)],
)
def test_verdict_whose_evidence_fails_turns_red_by_itself(evidence, verdict, standing, words):
    changed = [row | {"verdict": verdict} if row["id"] == "B-F2-widths" else row for row in evidence]
    book = atlas.Book(changed, "committed")
    page = atlas.page_body([card("B-F2"), card("B-F3")], book, {})
    assert re.findall(r"evidence-(\w+)", page) == [standing, "stands"]
    assert page.count("[evidence fails]{.verdict .is-failing}") == words
    assert atlas.summary([card("B-F2"), card("B-F3")], book).count("Figure 2 of B <atlas-b-f2>") == words


def test_first_page_counts_every_card_once(book):
    counted = re.findall(r"\b(\d+) (?:is|are|depend)", atlas.summary(CARDS, book))
    assert sum(map(int, counted)) == len(CARDS)
    one = atlas.summary([card("B-F11b"), card("A-Sec4"), card("A-F1c")], book)
    assert one.startswith(
        "Of 3 figures, tables and statements of the papers, 2 depend on the protocol and 1 is corrected:"
    )


@pytest.mark.parametrize(
    ("id", "wordings"),
    [
        ("B-F12b", ["Figure 12b", "Figure 12b of B", "Figure 12b of Wang, Li and Li"]),
        ("B-Eq38", ["Equation 38"]),
        ("A-Thm4.1", ["Theorem 4.1", "Theorem A.2", "Theorem 7 of A-JMLR", "universal approximation theorem"]),
    ],
)
def test_card_has_index_entries_for_its_number_and_its_words(id, wordings):
    assert set(wordings) <= set(atlas.index_entries(card(id)))


def test_numbers_on_a_card_are_measured_or_values_of_the_chapter(book):
    body = atlas.page_body([card("B-F1b")], book, {})
    assert "{claim}`B-F1b-radius-shrinks`" in body and "{param}" not in body
    assert "- 2, 4, 6, 8, 14\n  - 2, 4, 6, 8, 14\n" in body


@pytest.mark.parametrize("table", sorted((ROOT / "results" / "published").glob("*.csv")), ids=lambda path: path.stem)
def test_published_numbers_say_where_they_are_from(table):
    about = json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))
    assert re.fullmatch("[0-9a-f]{40}", about["commit"]) and about["repository"].startswith("https://github.com/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["read"]) and about["files"]
    lines = [line for line in table.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert list(rows[0]) == list(about["columns"])
    assert table.stem in {card.get("published") for card in CARDS}


def test_published_numbers_stand_beside_ours(book):
    rows = atlas.published_rows(card("C-F1"), book)
    starts = dict((row[0], row[1:]) for row in rows)["direct, $m$ = 8, 16, 32, 64: error at rest"]
    assert starts[0] == "0.012, 0.0053, 0.0026, 2.8e-06"  # as in the published table
    assert len(rows) == 6 and all(cell.count(",") == 3 for row in rows for cell in row[1:])


SHOWN = "section.atlas-card:visible"
ADDRESS = "book/atlas"


def found(verdict=None, paper=None):
    return sum(verdict in (None, c["verdict"]) and paper in (None, atlas.paper(c)) for c in CARDS)


@pytest.fixture
def page(wide):
    yield wide.open(ADDRESS)
    assert wide.strangers == [] and wide.complaints == []


class TestPage:
    pytestmark = test_site.pytestmark

    def test_has_a_card_for_each_entry_with_its_address_picture_and_files(self, page):
        assert page.locator("section.atlas-card").count() == len(CARDS)
        for entry in CARDS:
            section = page.locator(f"section.atlas-card:has(#{atlas.label(entry)})")
            assert section.locator("h3").inner_text().startswith(entry["name"])
            assert section.locator("img.only-light[loading=lazy]").count() == ("picture" in entry)
        for link in {
            a.get_attribute("href") for a in page.locator(".atlas-card a[download], .atlas-card a:has(img)").all()
        }:
            assert page.request.get(f"{page.url.rsplit('/', 1)[0]}/{link}").ok

    def test_filters_by_mouse_and_keeps_the_address(self, page):
        page.get_by_label("corrected", exact=True).click()
        assert page.locator(SHOWN).count() == found("corrected")
        assert page.url.endswith("?verdict=corrected")
        wanted = [f"Paper {letter}" for letter in atlas.LETTERS if found("corrected", letter)]
        assert [heading.split("#")[0] for heading in page.locator("article h2:visible").all_inner_texts()] == wanted
        page.get_by_label("A", exact=True).click()
        assert page.locator(SHOWN).count() == found("corrected", "A")
        assert page.get_by_role("status").inner_text() == f"{found('corrected', 'A')} of {len(CARDS)} cards"
        page.locator("#only-paper-all").click()
        page.locator("#only-verdict-all").click()
        assert page.locator(SHOWN).count() == len(CARDS) and "?" not in page.url

    def test_filters_by_keyboard(self, page):
        page.locator("#only-paper-all").focus()
        page.locator(":focus").press("ArrowRight")
        page.locator(":focus").press("ArrowRight")
        assert page.locator(SHOWN).count() == found(paper="B") and page.url.endswith("?paper=b")

    def test_opens_as_its_address_says(self, page):
        page.goto(f"{page.url}?paper=B&verdict=corrected")
        assert page.locator(SHOWN).count() == found("corrected", "B") > 0
        assert page.locator("#only-paper-b").is_checked() and page.locator("#only-verdict-corrected").is_checked()

    def test_numbers_of_the_table_lead_to_as_many_cards(self, page):
        links = page.locator(".atlas-counts a").all()
        numbers = [int(link.inner_text()) for link in links]
        addresses = [link.get_attribute("href") for link in links]
        for number, query in zip(numbers, addresses, strict=True):
            page.goto(page.url.split("?")[0].split("#")[0] + query)
            assert page.locator(SHOWN).count() == number

    def test_shows_a_card_that_the_address_names_though_filtered_out(self, page):
        page.goto(f"{page.url}?verdict=corrected#atlas-b-f2")
        assert page.locator("section.atlas-card:has(#atlas-b-f2)").is_visible()

    def test_prints_every_card_and_no_filter(self, page):
        page.goto(f"{page.url}?verdict=corrected")
        page.emulate_media(media="print")
        assert page.locator(SHOWN).count() == len(CARDS)
        assert not page.locator(".atlas-filters").is_visible()

    def test_filters_from_a_file(self, wide):
        wide.page.goto(f"file://{ROOT}/_build/html/{ADDRESS}.html?paper=C")
        assert wide.page.locator(SHOWN).count() == found(paper="C")
        wide.page.get_by_label("reproduced in part", exact=True).click()
        assert wide.page.locator(SHOWN).count() == found("reproduced in part", "C")
        assert wide.complaints == []
