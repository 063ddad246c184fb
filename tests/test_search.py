"""The search page of the built site in a browser: what readers of the papers type is among the first three results."""

import re
from urllib.parse import quote

import pytest
from test_site import HTML, Visit, address, browser, pytestmark  # noqa: F401

# query -> page, or page and section, of which one has to be among the first three
QUERIES = {
    "Figure 2": r"book/atlas\.html#figure-2-of-b",
    "Fig. 12b": r"book/atlas\.html#figure-12b-of-b",
    "Theorem 3.9": r"book/atlas\.html#theorem-3-9-of-b",
    "Lemma A.8": r"book/(atlas\.html#lemma-a-8-of-b|nonlinear/proof-notes\.html#)",
    "stability radius": r"book/linear/memory-kernels\.html#def-stability-radius",
    "how do I test my own model": r"book/stable/your-model\.html",
    "Figure 1 of Li": r"book/atlas\.html#figure-1[abc]-of-a",
    "Table 2": r"book/atlas\.html#table-2-of-c",
    "Definition 3.4": r"book/atlas\.html#definition-3-4-of-b",
    "plateau time": r"book/linear/plateaus\.html#",
    "softplus": r"book/stable/reparameterization\.html#",
    "Hankel singular values": r"book/linear/hankel-lower-bounds\.html",
    "GRU": r"book/nonlinear/(memory-functions|corrected-theorem)\.html#",
    "memory function": r"book/nonlinear/memory-functions\.html",
    "what is the curse of memory": r"book/intro\.html",
    "reproduce": r"book/back/reproduce\.html",
    "state-space model": r"book/stable/state-space-models\.html",
    "Lorenz": r"book/linear/plateaus\.html#",
    "IMDB": r"book/nonlinear/memory-in-applications\.html#",
    "Airy": r"book/linear/plateaus\.html#",
}


def first_three(visit, query):
    """Return the addresses of the first three results, from the top of the site."""
    visit.page.goto(f"{visit.address}search.html?q={quote(query)}")
    visit.page.locator(".search-summary:not(:empty)").wait_for()  # it counts the results when all of them are there
    links = visit.page.locator("#search-results li > a").all()[:3]
    return [link.evaluate("link => link.href").removeprefix(visit.address) for link in links]


@pytest.mark.parametrize("query", QUERIES)
def test_search_finds_what_readers_type(browser, address, query):  # noqa: F811
    visit = Visit(browser, address, 1300, "light")
    found = first_three(visit, query)
    assert any(re.match(QUERIES[query], target) for target in found), found
    assert visit.strangers == [] and visit.complaints == []
    visit.context.close()


def test_search_works_in_a_folder_without_a_server(browser):  # noqa: F811
    visit = Visit(browser, f"{HTML.as_uri()}/", 1300, "light")
    assert any("proof-notes" in target for target in first_three(visit, "Lemma A.8"))
    assert visit.strangers == [] and visit.complaints == []
    visit.context.close()


@pytest.mark.parametrize(
    ("query", "other"),
    [("Fig. 12b", "Figure 12b"), ("thm 3.9", "Theorem 3.9"), ("HOW do I test my OWN model?", "test model")],
)
def test_search_hears_what_is_meant(browser, address, query, other):  # noqa: F811
    visit = Visit(browser, address, 1300, "light")
    assert first_three(visit, query)[0] == first_three(visit, other)[0]
    visit.context.close()


def test_search_does_not_find_what_is_nowhere(browser, address):  # noqa: F811
    visit = Visit(browser, address, 1300, "light")
    assert first_three(visit, "Theorem 77.7 xylophone") == []
    visit.context.close()
