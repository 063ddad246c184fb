"""The page of a report in a real browser: one screen of verdict, themes, phones, paper, rules of accessibility."""

import re

import numpy as np
import pytest
import torch
from test_site import CHROMIUM, browser  # noqa: F401 (a fixture)
from torch import nn

import cmlib
from cmlib import models

AXE = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not seen in a browser")
INVISIBLE = """() => [...document.querySelectorAll('svg path, svg use')].filter(e => {
  const style = getComputedStyle(e);
  const colours = [style.fill, style.stroke].filter(c => c !== 'none' && c !== 'rgba(0, 0, 0, 0)');
  return colours.length && colours.every(c => c === getComputedStyle(document.body).backgroundColor);
}).length"""


class Network(nn.Module):
    """Every figure and table: two parts, of steps and of a flow, a long name, and weights of each role."""

    def __init__(self):
        super().__init__()
        self.the_recurrent_layer_of_a_network_with_long_names = nn.GRU(1, 4, batch_first=True)
        self.ssm = models.SSM(-np.geomspace(0.1, 1.0, 4), np.eye(4), np.ones((4, 1)))
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for w in self.the_recurrent_layer_of_a_network_with_long_names.parameters():
                w.copy_(0.5 * torch.randn(w.shape, generator=g))

    def forward(self, x):
        return self.ssm(self.the_recurrent_layer_of_a_network_with_long_names(x)[0])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    found = cmlib.report(Network(), d_in=1, n_steps=64, inputs=["heaviside", "impulse"], n_directions=1)
    assert len(found.certificates) == 2 and found.sensitivity and found.by_amplitude
    return found.save(tmp_path_factory.mktemp("report") / "report.html").as_uri()


@pytest.fixture(params=["light", "dark"])
def visit(request, browser, address):  # noqa: F811
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme=request.param)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.goto(address, wait_until="load")
    yield page
    assert asked == [address] and complaints == []
    context.close()


def test_page_breaks_no_rule_of_accessibility(visit):
    for width in (1300, 400):
        visit.set_viewport_size({"width": width, "height": 900})
        broken = AXE.run(visit, options={"resultTypes": ["violations"]}).response["violations"]
        assert {rule["id"]: [node["html"][:200] for node in rule["nodes"]] for rule in broken} == {}


def test_the_check_of_rules_speaks(visit):
    visit.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\"><p style=\"color: #777\">faint</p>')"
    )
    found = {rule["id"] for rule in AXE.run(visit).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found


def test_first_screen_holds_what_was_found_and_what_to_do(visit):
    for title in ("What was found", "What to do", "What would change this"):
        box = visit.get_by_role("heading", name=title).bounding_box()
        assert box["y"] + box["height"] < 900
    lead = visit.locator(".lead")
    assert lead.bounding_box()["y"] < 100 and "Network" in lead.inner_text()
    assert visit.get_by_role("heading", name="What was found").locator("..").bounding_box()["height"] < 800


def test_page_does_not_scroll_sideways_on_a_phone_and_its_tables_do(visit):
    visit.set_viewport_size({"width": 400, "height": 900})
    assert visit.evaluate("document.documentElement.scrollWidth") == 400
    boxes = visit.locator(".scroll").all()
    assert boxes and all(box.get_attribute("tabindex") == "0" and box.get_attribute("aria-label") for box in boxes)
    assert any(box.evaluate("e => e.scrollWidth > e.clientWidth") for box in boxes)


def test_figures_are_seen_in_each_theme_and_said_in_words(visit):
    figures = visit.locator("figure").all()
    assert len(figures) == 5
    for figure in figures:
        drawing = figure.locator("svg").bounding_box()
        assert drawing["width"] > 300 and drawing["height"] > 150
        assert figure.locator("svg").get_attribute("aria-label") == figure.locator("figcaption").inner_text()
    assert visit.evaluate(INVISIBLE) == 0


def test_paper_is_white_in_either_theme(visit):
    visit.emulate_media(media="print")
    assert visit.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert visit.evaluate("getComputedStyle(document.querySelector('.lead')).color") == "rgb(22, 25, 29)"
    pdf = visit.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
