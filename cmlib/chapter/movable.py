"""Movable figures: a figure with a slider that needs neither a server nor a library in the browser."""

import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from cmlib.chapter.figures import SavedFigure, save, smallest_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text


@dataclass(frozen=True, repr=False)
class MovableFigure(SavedFigure):
    """A saved figure shown as HTML with a slider, and as a picture where HTML is not shown."""

    fragment: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(include, exclude)
        return data | {"text/html": self.fragment}, metadata


def movable(
    fig: "Figure",
    name: str,
    frames: "dict[Line2D, Any]",
    values: Any,
    *,
    label: str,
    alt: str,
    default: Any = None,
    texts: "dict[Text, Sequence[str]] | None" = None,
    data: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    seed: int | None = None,
) -> MovableFigure:
    """Save a figure as `save` does and return it with a slider that moves its lines, without server or library.

    Args:
        frames: line -> its y at each value, (n_values, n_points), or a tuple (x, y) of such; NaN leaves a gap.
        values: the slider's numbers, two or more; `default` (else the first) is shown first and sets the limits.
        label: words beside the slider, mathematics between dollars.
        texts: a Text of the figure -> its plain words at each value.
        data: what to write besides all frames.

    Raises:
        ValueError: on what fits neither figure nor values, and as `save`.
    """
    values, frames, texts = _frames(fig, values, frames, texts or {})
    if not isinstance(label, str) or not label.strip() or label.count("$") % 2:
        raise ValueError(f"expected label in words, dollars in pairs, got {label!r}")
    shown = 0 if default is None else next((i for i, v in enumerate(values) if v == default), -1)
    if shown < 0:
        raise ValueError(f"expected default among {values}, got {default!r}")
    columns = {"value": values}
    for i, (line, (x, y)) in enumerate(frames.items()):
        title = str(line.get_label())
        if title.startswith("_") or f"{title}, y" in columns:  # without a label, or with that of another line
            title = f"line {i}"
        columns |= {f"{title}, x": x if np.ptp(x, 0).any() else x[0], f"{title}, y": y}
        line.set_data(x[shown], y[shown])
    artists = [*frames, *texts]
    for i, artist in enumerate(artists):
        artist.set_gid(f"moves-{i}")  # its id in the SVG
    for text, words in texts.items():
        text.set_text(words[shown])
    saved = save(fig, name, data=columns | (data or {}), alt=alt, parameters=parameters, seed=seed)
    # the SVG was drawn last, so the axes stand where they are in it
    moves = [[_path_data(line, *xy) for xy in zip(*frames[line], strict=True)] for line in frames]
    moves += list(texts.values())
    svg = _inline_svg((saved.folder / f"{name}.svg").read_text(encoding="utf-8"), name, alt)
    for i, (artist, steps) in enumerate(zip(artists, moves, strict=True)):
        _put(_found(svg, f".//{_SVG}g[@id='{name}-moves-{i}']"), artist, steps[shown])
    shown_values = [f"{v:g}" for v in values]
    words = "".join(
        rf'<span class="math notranslate nohighlight">\({html.escape(part)}\)</span>' if i % 2 else html.escape(part)
        for i, part in enumerate(label.split("$"))
    )
    width = round(100 * fig.get_figwidth())
    fragment = _FRAGMENT.format(
        id=f"movable-{name}",
        width=width,
        least=min(width, math.ceil(width * READABLE / (smallest_text(fig) * 100 / 72))),
        ratio=round(fig.get_figwidth() / fig.get_figheight(), 4),
        svg=ElementTree.tostring(svg, encoding="unicode"),
        label=words,
        last=len(values) - 1,
        shown=shown,
        value=shown_values[shown],
        # no text of a frame can end the script
        frames=json.dumps([f"{name}-moves-", shown_values, moves], ensure_ascii=False).replace("<", r"\u003c"),
    )
    return MovableFigure(name, alt, saved.folder, saved.inches, fragment)


READABLE = 9  # pixels of a page: the least height of letters to which it shrinks the figure, which then scrolls

# Figure and slider are seen at once on a screen of ordinary height.
# The comments are the marks of what may differ between machines: nbval compares nothing between them.
_FRAGMENT = """<!--⟨--><div id="{id}" class="movable"
 style="max-width:max({least}px,min({width}px,(100vh - 10rem)*{ratio}));margin:0 auto">
<div class="movable-picture" style="overflow-x:auto"><div style="min-width:{least}px">
{svg}
</div></div>
<div hidden><div style="display:flex;flex-wrap:wrap;gap:0 0.8em;align-items:center;padding:0.4em 0.6em">
<label for="{id}-range">drag me: {label}</label>
<input type="range" id="{id}-range" min="0" max="{last}" step="1" value="{shown}" autocomplete="off"
 style="flex:1 1 7em;min-width:0;height:2em">
<output for="{id}-range" aria-live="polite" style="min-width:2.5em">{value}</output>
</div></div>
<script>
(() => {{
  const [stem, values, moves] = {frames};
  const root = document.getElementById("{id}"), range = root.querySelector("input");
  const show = () => {{
    const now = Number(range.value);
    root.querySelector("output").textContent = values[now];
    range.setAttribute("aria-valuetext", values[now]);
    moves.forEach((steps, i) => {{
      const element = document.getElementById(stem + i).querySelector(":scope > path, :scope > text");
      if (element.tagName === "path") element.setAttribute("d", steps[now]);
      else element.textContent = steps[now];
    }});
  }};
  range.addEventListener("input", show);
  root.querySelector("[hidden]").hidden = false;
  show();
}})();
</script></div><!--⟩-->"""


def _frames(fig: "Figure", values: Any, frames: Any, texts: Any) -> tuple[list, dict, dict]:
    values = np.asarray(values)
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"expected values as two or more finite numbers, got {values!r}")
    if not isinstance(frames, dict) or not frames:
        raise ValueError(f"expected frames as a dict of lines, got {frames!r}")
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    lines = {}
    for line, moved in frames.items():
        if not isinstance(line, Line2D) or line.get_figure(root=True) is not fig or not line.get_visible():
            raise ValueError(f"expected frames of visible lines of the figure, got {line!r}")
        if line.get_marker() not in ("None", None, "", " ") or line.get_drawstyle() != "default":
            raise ValueError(f"expected lines without markers or steps, got {line!r}")
        x, y = moved if isinstance(moved, tuple) and len(moved) == 2 else (line.get_xdata(), moved)
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if y.ndim != 2 or len(y) != len(values) or x.shape not in (y.shape, y.shape[1:]):
            wanted = f"({len(values)}, {x.shape[-1] if x.ndim else 0})"
            raise ValueError(f"expected frames of shape {wanted} for {line!r}, got {y.shape}")
        lines[line] = np.broadcast_to(x, y.shape), y
    for text, words in texts.items():
        if not isinstance(text, Text) or text.get_figure(root=True) is not fig or text.get_rotation() != 0:
            raise ValueError(f"expected texts of the figure, level ones, got {text!r}")
        if len(words) != len(values) or not all(isinstance(w, str) and w.strip() and "$" not in w for w in words):
            raise ValueError(f"expected {len(values)} texts in plain words, got {words!r}")
    return values.tolist(), lines, {text: list(words) for text, words in texts.items()}


def _path_data(line: "Line2D", x: np.ndarray, y: np.ndarray) -> str:
    # as matplotlib's own SVG has it, but to a tenth of a pixel and each point relative to the last
    from matplotlib.path import Path as Curve

    fig: Any = line.get_figure(root=True)
    width, height = 72 * fig.get_size_inches()  # an SVG has 72 points an inch, from the top
    points = line.get_transform().transform(np.column_stack([x, y])) * 72 / fig.dpi
    curve: Any = Curve(points * (1, -1) + (0, height))
    curve = curve.cleaned(remove_nans=True, clip=(0, 0, width, height), simplify=curve.should_simplify)
    tenths = np.rint(10 * curve.vertices).astype(int)
    parts, last = [], (0, 0)
    for code, (x, y) in zip(curve.codes.tolist(), tenths.tolist(), strict=True):
        if code == Curve.MOVETO:
            parts.append(f"M{x / 10:g} {y / 10:g}")
        elif code == Curve.LINETO and (x, y) != last:
            parts.append(f"l{(x - last[0]) / 10:g} {(y - last[1]) / 10:g}")
        last = (x, y)
    return "".join(parts)


def _inline_svg(text: str, name: str, alt: str) -> ElementTree.Element:
    # matplotlib's SVG for the inside of a page: ids of its own, no style that leaks, no document head
    ElementTree.register_namespace("", _SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    svg = ElementTree.fromstring(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text))
    svg.remove(_found(svg, f"{_SVG}metadata"))
    svg.remove(_found(svg, f"{_SVG}defs"))  # one style for the whole page; what it says is put on the root
    for size in ("width", "height"):
        del svg.attrib[size]
    look = "display:block;width:100%;height:auto;background:#fff;fill:#000;stroke-linejoin:round;stroke-linecap:butt"
    svg.attrib |= {"role": "img", "aria-label": alt, "style": look}
    return svg


def _found(group: ElementTree.Element, path: str) -> ElementTree.Element:
    part = group.find(path)
    assert part is not None, f"matplotlib drew no {path}"
    return part


def _put(group: ElementTree.Element, artist: Any, step: str) -> None:
    if hasattr(artist, "get_drawstyle"):  # a line
        _found(group, f"{_SVG}path").set("d", step)
        return
    from matplotlib.colors import to_hex

    fig = artist.get_figure(root=True)
    x, y = artist.get_transform().transform(artist.get_position()) * 72 / fig.dpi
    attributes = {
        "x": f"{x:.1f}",
        "y": f"{72 * fig.get_figheight() - y:.1f}",
        "text-anchor": {"left": "start", "center": "middle", "right": "end"}[artist.get_horizontalalignment()],
        "dominant-baseline": _BASELINES.get(artist.get_verticalalignment(), "auto"),
        "font-size": f"{artist.get_fontsize():g}",
        "font-family": "DejaVu Sans, Verdana, sans-serif",
        "style": f"fill:{to_hex(artist.get_color())}",
    }
    group[:] = group.findall(f".//{_SVG}defs")  # its glyphs, which other words may use
    ElementTree.SubElement(group, f"{_SVG}text", attributes).text = step


_SVG = "{http://www.w3.org/2000/svg}"
_BASELINES = {"top": "text-before-edge", "center": "central", "bottom": "text-after-edge"}
