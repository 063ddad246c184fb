"""The live figure of the front page: its fits and values against cmlib, and its controls in a browser."""

import json
import re
import sys
from itertools import product

import numpy as np
import pytest
import torch
from test_site import CHROMIUM, HTML, OVERFLOW, ROOT, Visit, address, browser  # noqa: F401 fixtures

import cmlib
from cmlib import models, parameterizations

sys.path.insert(0, str(ROOT / "workflow"))

from poster import FITS, OPENING, TARGETS, WIDTHS, fitted

COMMITTED = json.loads(FITS.read_text(encoding="utf-8")[len(OPENING) :].rstrip(";\n"))
CASES = [(name, i) for name in TARGETS for i in range(len(WIDTHS))]
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
on_the_site = pytest.mark.skipif(not (HTML / "poster").exists(), reason="no site in _build/html: run make site")


def sum_of(fit):
    return cmlib.ExponentialSum(fit["rates"], fit["weights"])


# ---- the fits


@pytest.mark.parametrize("name", TARGETS)
def test_fits_of_the_page_are_those_of_the_library(name):
    today, kernel = fitted(TARGETS[name]), TARGETS[name]
    assert COMMITTED[name]["norm"] == pytest.approx(kernel.l1_norm(), rel=1e-14)
    for kept, new in zip(COMMITTED[name]["fits"], today["fits"], strict=True):
        assert kept["m"] == new["m"]
        # a minimum of squares is known to the root of rounding error, 1.5e-8, and a kernel to the tenth part of that
        assert sum_of(kept).l1_error(sum_of(new)) < 1e-7 * kernel.l1_norm()
        assert kept["error"] == pytest.approx(sum_of(kept).l1_error(kernel), rel=1e-9, abs=1e-14)


def test_a_fit_with_a_negative_weight_is_refused():
    from cmlib import kernels

    with pytest.raises(ValueError, match="expected real modes of positive weight"):
        fitted(kernels.Sum([kernels.Exponential(0.1), kernels.Exponential(1.0)], [1.0, -0.5]))


# ---- the values


@pytest.fixture(scope="module")
def script(browser):  # noqa: F811
    page = browser.new_page()
    page.add_script_tag(path=FITS)
    page.add_script_tag(path=FITS.with_name("poster.js"))
    yield page
    page.close()


MOVES = """([name, i, radii]) => {
  const fit = posterFits[name].fits[i];
  return radii.map(beta => ({ ...poster.largest(fit, beta), growth: poster.growth(fit, beta) }));
}"""
BOUNDS = """([name, i, kind, radii]) => {
  const { norm, fits } = posterFits[name];
  return radii.map(beta => poster.bounds[kind](fits[i], norm, beta))
    .map(({ least, most }) => [norm * least, norm * most]);
}"""


@in_a_browser
@pytest.mark.parametrize(("name", "i"), CASES)
def test_worst_network_of_the_page_is_in_the_ball_and_moves_as_the_library_says(script, name, i):
    fit = COMMITTED[name]["fits"][i]
    s = sum_of(fit)
    radii = [share * s.rates.real.min() for share in (1e-3, 0.1, 0.5, 0.9, 0.999)]
    for beta, move in zip(radii, script.evaluate(MOVES, [name, i, radii]), strict=True):
        push = np.array(move["push"])
        assert np.linalg.norm(push) == pytest.approx(beta, rel=1e-9)
        moved = cmlib.ExponentialSum(s.rates.real - beta, (np.sqrt(s.weights.real) + push) ** 2)
        # what rounding leaves of an area of two kernels is 1e-14 of theirs
        assert move["growth"] == pytest.approx(moved.l1_error(s), rel=1e-6, abs=1e-13)


@in_a_browser
@pytest.mark.parametrize(("name", "i"), CASES)
def test_cured_network_of_the_page_moves_as_the_library_says(script, name, i):
    fit, norm = COMMITTED[name]["fits"][i], COMMITTED[name]["norm"]
    s, radii = sum_of(fit), [1e-6, 1e-3, 0.1, 1.0]
    N = s.tail(0.0)
    for beta, (least, most) in zip(radii, script.evaluate(BOUNDS, [name, i, "cured", radii]), strict=True):
        grown = cmlib.ExponentialSum(s.rates, s.weights * (1 + beta / np.sqrt(N)) ** 2)
        one, slower = (cmlib.ExponentialSum([rate], [rate]) for rate in (1.0, np.exp(-beta)))
        allowed = grown.l1_error(s) + N * one.l1_error(slower)
        assert most == pytest.approx(fit["error"] + allowed, rel=1e-6)
        assert least == pytest.approx(max(fit["error"], grown.tail(0.0) - norm), rel=1e-6)


def ascended(kind, s, target, radii):
    """E_m by the library's ascent, for a network of the page."""
    share, options = np.sqrt(s.weights.real), {"method": "worst_case", "n_directions": 1}
    model = models.LinearRNN(-s.rates.real, share, share)
    if kind == "cured":
        share = np.sqrt(s.weights.real / s.rates.real)
        raw = parameterizations.exp.inverse(-s.rates.real)
        model = models.NormalizedRNN(raw, share, share, parameterization=parameterizations.exp)
    return cmlib.perturbation_error(model, target, radii, generator=torch.Generator().manual_seed(0), **options).errors


@in_a_browser
@pytest.mark.parametrize(("kind", "name", "i"), [*product(("plain", "cured"), ("exponential", "power 1.5"), (0, 2))])
def test_ascent_of_the_library_ends_between_the_bounds_of_the_page(script, kind, name, i):
    s = sum_of(COMMITTED[name]["fits"][i])
    radii = np.array([0.1, 0.9, 1.0]) * s.rates.real.min() if kind == "plain" else np.array([1e-3, 0.1])
    found = ascended(kind, s, TARGETS[name], radii)
    for (least, most), error in zip(script.evaluate(BOUNDS, [name, i, kind, radii.tolist()]), found, strict=True):
        assert (1 - 1e-6) * least <= error <= (1 + 1e-6) * most


@in_a_browser
@pytest.mark.parametrize(("name", "i"), [*product(("exponential", "power 1.5", "power 3"), (0, 2))])
def test_no_ascent_moves_a_plain_network_further_than_the_page_says(script, name, i):
    s = sum_of(COMMITTED[name]["fits"][i])
    radii = np.array([0.1, 0.5, 0.9]) * s.rates.real.min()
    found = ascended("plain", s, s, radii)
    exact = np.array([move["growth"] for move in script.evaluate(MOVES, [name, i, radii.tolist()])])
    assert (found <= (1 + 1e-6) * exact).all()
    assert (found >= 0.999 * exact).all()  # it stops where a step gains less than 1e-7, four times


@in_a_browser
def test_verdict_is_curse_for_plain_networks_and_powers_alone(script):
    found = script.evaluate(
        """() => Object.entries(posterFits).flatMap(([name, target]) => ["plain", "cured"].flatMap(kind =>
          target.fits.slice(1).map(({ m }) => [name, kind, poster.verdict(kind, target, m).curse])))"""
    )
    assert [case for case in found if case[2] != (case[0].startswith("power") and case[1] == "plain")] == []


@in_a_browser
def test_what_a_network_withstands_is_where_its_error_is_the_norm_of_the_target(script):
    for kind in ("plain", "cured"):
        script_says = f"""() => {{
          const {{ norm, fits }} = posterFits["power 2"];
          return fits.map(fit => poster.bounds.{kind}(fit, norm, poster.room("{kind}", "most", fit, norm)).most);
        }}"""
        assert script.evaluate(script_says) == pytest.approx([1.0] * len(WIDTHS), rel=1e-6)


# ---- the figure on its page


@pytest.fixture(params=["http", "file"])
def front(request, browser, address):  # noqa: F811
    visit = Visit(browser, address if request.param == "http" else f"{HTML.as_uri()}/", 1300, "light")
    visit.open("book/intro")
    yield visit
    visit.context.close()


def state(page):
    """Return what the figure shows: curves, verdicts, sentence."""
    curves = page.locator(".poster path.chosen").evaluate_all("paths => paths.map(path => path.getAttribute('d'))")
    return (
        curves,
        page.locator(".poster .says").all_inner_texts(),
        page.locator(".poster [role=status]").inner_text(),
    )


@in_a_browser
@on_the_site
def test_figure_follows_the_keyboard(front):
    page = front.page
    curves, verdicts, sentence = state(page)
    assert ["no curse" in text.lower() for text in verdicts] == [False, True]
    assert "β = 0.001: a plain network of width 16 is off without limit" in sentence
    for _ in range(100):
        page.locator("[name=beta]").press("ArrowLeft")
    assert page.locator("[name=beta]").get_attribute("aria-valuetext") == "10⁻⁸"
    pushed = state(page)
    assert pushed[0] == curves and "without limit" not in pushed[2]
    page.locator("[name=width]").press("ArrowLeft")
    narrower = state(page)
    assert "width 12" in narrower[2] and all(a != b for a, b in zip(narrower[0], curves, strict=True))
    page.locator("[name=exponent]").press("ArrowRight")
    steeper = state(page)
    assert all(a != b for a, b in zip(steeper[0] + steeper[1], narrower[0] + narrower[1], strict=True))
    page.locator("[value=power]").press("ArrowRight")
    assert page.locator("[name=exponent]").is_disabled()
    assert ["no curse" in text.lower() for text in state(page)[1]] == [True, True]
    assert front.strangers == [] and front.complaints == []


@in_a_browser
@on_the_site
def test_figure_is_dragged(front):
    page, before = front.page, state(front.page)[2]
    box = page.locator(".poster svg").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 80)
    page.mouse.up()
    after = state(page)[2]
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 80)  # let go
    assert after != before and state(page)[2] == after


@in_a_browser
@on_the_site
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figure_takes_a_finger_moves_nothing_by_itself_and_fits_a_phone(browser, address, scheme):  # noqa: F811
    options = {"has_touch": True, "is_mobile": True, "reduced_motion": "reduce", "color_scheme": scheme}
    context = browser.new_context(viewport={"width": 400, "height": 900}, **options)
    page = context.new_page()
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver(list => list.getEntries().forEach(entry => window.shift += entry.value))
          .observe({ type: "layout-shift", buffered: true });"""
    )
    page.goto(f"{address}book/intro.html")
    before, figure = state(page)[2], page.locator(".poster")
    assert figure.bounding_box()["height"] < 900 and page.evaluate(OVERFLOW) <= 0
    figure.locator("svg").last.scroll_into_view_if_needed()
    box = figure.locator("svg").last.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
    assert state(page)[2] != before
    assert page.evaluate("document.querySelector('.poster').getAnimations({ subtree: true }).length") == 0
    assert page.evaluate("window.shift") < 0.05
    context.close()


@in_a_browser
@on_the_site
@pytest.mark.parametrize("scripts", [True, False])
def test_a_picture_stands_in_where_there_are_no_scripts(browser, address, scripts):  # noqa: F811
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{address}book/intro.html")
    assert page.locator(".poster").is_visible() == scripts
    assert page.locator("noscript img.only-light").is_visible() != scripts
    context.close()


@on_the_site
def test_links_of_the_figure_lead_to_statements():
    targets = re.findall(
        r'href="(\w+/[\w-]+\.html)#([\w-]+)"', (ROOT / "book" / "poster.html").read_text(encoding="utf-8")
    )
    assert len(targets) == 5
    for page, label in targets:
        assert f'id="{label}"' in (HTML / "book" / page).read_text(encoding="utf-8")
