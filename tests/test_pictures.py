"""Pictures of the dark theme: the colours that the caption names, on another ground."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmlib.chapter.figures import COLOURS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import pictures  # noqa: E402

WHITE, GROUND = np.full(3, 255), np.array(pictures.GROUND)
PAPER_COLOURS = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS])


def contrast(one, other):
    """The ratio of WCAG 2, by its own formula."""
    values = [np.asarray(colour) / 255 for colour in (one, other)]
    light = [np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722] for v in values]
    return (np.maximum(*light) + 0.05) / (np.minimum(*light) + 0.05)


def test_oklab_has_its_published_values_and_its_inverse():
    # Ottosson's table of XYZ is in 3 digits; white and sRGB's red, https://bottosson.github.io/posts/oklab
    assert np.allclose(pictures.oklab(WHITE), [1, 0, 0], atol=1e-3)
    assert np.allclose(pictures.oklab(np.array([255, 0, 0])), [0.628, 0.225, 0.126], atol=1e-3)
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 17)] * 3), -1)
    assert (pictures.srgb(pictures.oklab(grid)) == grid).all()


def test_white_becomes_the_ground_and_black_nearly_white():
    assert (pictures.dark(WHITE) == GROUND).all()
    assert contrast(pictures.dark(np.zeros(3)), GROUND) > 15


def test_what_stands_out_from_white_stands_out_from_the_dark_ground():
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), -1).reshape(-1, 3)
    seen = contrast(grid, WHITE) >= 3
    assert contrast(pictures.dark(grid[seen]), GROUND).min() >= 3
    assert contrast(pictures.dark(PAPER_COLOURS), GROUND).min() >= 3  # of which orange has 2.2 on white


def test_colours_keep_their_hue():
    before, after = pictures.oklab(PAPER_COLOURS[:-1]), pictures.oklab(pictures.dark(PAPER_COLOURS[:-1]))
    turned = np.angle((before[:, 1] + 1j * before[:, 2]) / (after[:, 1] + 1j * after[:, 2]), deg=True)
    assert np.abs(turned).max() < 10  # of 360


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_page_shows_one_picture_of_each_theme_in_its_size(tmp_path, mode):
    drawn = np.full((40, 60, 3), 255, np.uint8)
    drawn[10:20] = PAPER_COLOURS[0]
    (tmp_path / "_images").mkdir()
    picture = Image.fromarray(drawn)
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "_images" / "a.png", dpi=(200, 200))
    page = '<figure><img alt="a band" src="../_images/a.png" style="width: 9px"/></figure>'
    page = pictures.PICTURE.sub(lambda match: pictures.both(match, tmp_path / "_images" / "a.png", tmp_path), page)
    for theme, name in (("light", "a"), ("dark", "a-dark")):
        assert f'<img class="only-{theme}" alt="a band" src="../_images/{name}.png" width="30" height="20"' in page
    assert page.count("<img") == 2 and "9px" not in page
    with Image.open(tmp_path / "_images" / "a-dark.png") as dark:
        seen = np.array(dark.convert("RGBA"))
    assert (seen[:10, :, 3] == 0).all() and (seen[10:20, :, 3] == 255).all()
    assert np.abs(seen[15, 5, :3].astype(int) - pictures.dark(PAPER_COLOURS[0])).max() <= 1


def test_colour_of_a_movable_figure_is_said_for_both_themes():
    figure = '<div id="movable-a"><svg style="background:#fff"><path style="fill: none; stroke: #0072b2"/></svg></div>'
    said = pictures.COLOUR.sub(pictures.both_colours, figure)
    blue = "".join(f"{value:02x}" for value in pictures.dark(PAPER_COLOURS[0]))
    assert f"stroke: #0072b2;stroke:light-dark(#0072b2,#{blue})" in said
    assert "background:#fff;background:light-dark(#ffffff,#121212)" in said
    assert "fill: none;" in said
