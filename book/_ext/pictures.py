"""Pictures on the finished pages: sharp, of a size known before they load, and drawn anew for the dark theme.

The dark variant keeps hue and chroma and turns lightness over (in OKLab), so that white becomes the page's ground,
black nearly white, and a colour stays the colour that the caption names.
"""

import io
import posixpath
import re
from pathlib import Path

import numpy as np
from PIL import Image

GROUND = (0x12, 0x12, 0x12)  # of the dark theme
READABLE = 9  # CSS pixels: the least height of letters to which a narrow page may shrink a picture
PICTURE = re.compile(r'<img ([^>]*?)src="((?:\.\./)*)(_images/[^"]+?)\.png"([^>]*?)/?>')
MOVABLE = re.compile(r'<div id="movable-.*?</svg>', re.DOTALL)
COLOUR = re.compile(r"\b(fill|stroke|background): ?(#[0-9a-f]{3,6})\b")

# Björn Ottosson's OKLab: linear light -> cones -> lightness, green-red, blue-yellow
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours: np.ndarray) -> np.ndarray:
    """Return (..., 3) of lightness 0 to 1, a and b for sRGB 0 to 255."""
    values = np.asarray(colours) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.cbrt(light @ TO_CONES.T) @ TO_LAB.T


def srgb(lab: np.ndarray) -> np.ndarray:
    """Return sRGB 0 to 255, to the nearest there is."""
    light = np.clip((lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_CONES).T, 0, 1)
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * values).astype(int)


def dark(colours: np.ndarray) -> np.ndarray:
    """Return what (..., 3) colours drawn on white become on the dark ground."""
    lab, ground = oklab(colours), oklab(np.array(GROUND))
    depth, chroma = 1 - lab[..., :1], np.hypot(lab[..., 1:2], lab[..., 2:])
    # light colours such as yellow stand out from white by chroma, for which the ground asks more light
    lab[..., :1] = ground[0] + (0.96 - ground[0]) * np.clip(depth**0.85 + 2 * chroma * (1 - depth), 0, 1)
    return srgb(lab)


def dark_picture(path: Path) -> bytes:
    """Return a PNG in the dark theme's colours, its ground clear."""
    with Image.open(path) as file:
        picture = file if file.mode == "P" else file.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
        drawn, clear = io.BytesIO(), np.flatnonzero((palette == 255).all(1))
        picture.putpalette(dark(palette).astype(np.uint8).tobytes())
        options = {"transparency": int(clear[0])} if len(clear) else {}
        picture.save(drawn, "png", optimize=True, **options)
    return drawn.getvalue()


def both(match: re.Match, path: Path, outdir: Path) -> str:
    """Return the picture's tag as two, one for each theme, of which a browser loads the one it shows."""
    before, up, name, after = match.groups()
    twin = outdir / f"{name}-dark.png"
    if not twin.exists():
        twin.parent.mkdir(exist_ok=True)
        twin.write_bytes(dark_picture(path))
    with Image.open(path) as picture:
        scale = picture.info.get("dpi", (100,))[0] / 100
        width, height = (round(side / scale) for side in picture.size)
        points = float(picture.info.get("Smallest text", "inf"))
    least = min(width, round(width * READABLE / (points * 100 / 72)))
    rest = re.sub(r' ?(class|style|loading)="[^"]*"', "", f"{before}{after}").strip()
    classes = " ".join(re.findall(r'class="([^"]*)"', f"{before}{after}"))
    tags = [
        f'<img class="{" ".join(filter(None, (classes, theme)))}" {rest} src="{up}{name}{suffix}.png" '
        f'width="{width}" height="{height}" loading="lazy"/>'
        for theme, suffix in (("only-light", ""), ("only-dark", "-dark"))
    ]
    return f'<span class="picture" style="--least: {least}px">{"".join(tags)}</span>'


def both_colours(match: re.Match) -> str:
    """Return a declaration followed by one that browsers with a dark theme of the page's own understand."""
    digits = match[2][1:] if len(match[2]) == 7 else "".join(2 * digit for digit in match[2][1:])
    turned = "".join(f"{value:02x}" for value in dark(np.array(list(bytes.fromhex(digits)))))
    return f"{match[0]};{match[1]}:light-dark(#{digits},#{turned})"


def rewrite(app, pagename, templatename, context, doctree):
    if app.builder.name != "html" or doctree is None:
        return
    files = {posixpath.splitext(name)[0]: Path(app.srcdir, path) for path, name in app.builder.images.items()}

    def picture(match: re.Match) -> str:
        return both(match, files[posixpath.basename(match[3])], Path(app.outdir))

    body = PICTURE.sub(picture, context["body"])
    context["body"] = MOVABLE.sub(lambda movable: COLOUR.sub(both_colours, movable[0]), body)


def setup(app):
    app.connect("html-page-context", rewrite, priority=400)  # before previews are cut from the page
    return {"parallel_read_safe": True, "version": "1"}
