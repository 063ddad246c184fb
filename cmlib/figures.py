"""Figures: one style, and one way to save a figure with its data and where it came from.

The plot functions take a result and an Axes and return the Axes; they compute nothing.
"""

import base64
import csv
import hashlib
import html
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from cmlib.claims import output_folder
from cmlib.exponential_sums import ExponentialSum
from cmlib.kernels import Kernel
from cmlib.stability import PerturbationCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

# Okabe and Ito's colours, which people with every kind of colour blindness tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# For matplotlib: plt.style.use(STYLE). Sized for a page of 400 px, on which the figure shrinks to two thirds;
# an opaque white ground, so that a figure reads the same on a dark page.
STYLE = {
    "figure.figsize": (5.6, 3.6),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "text.usetex": False,
}

_STARTED = time.monotonic()
_DPI = 100


@dataclass(frozen=True)
class SavedFigure:
    """A figure on disk, shown by Jupyter when it ends a cell, with its alternative text."""

    name: str
    alt: str
    folder: Path

    def __repr__(self) -> str:
        return f"Figure {self.name}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        png = base64.b64encode((self.folder / f"{self.name}.png").read_bytes()).decode()
        metadata = {"cmlib": {"figure": self.name, "alt": self.alt}, "image/png": {"alt": self.alt}}
        return {"image/png": png, "text/plain": repr(self)}, metadata


def save(
    fig: "Figure",
    name: str,
    *,
    data: dict[str, Any],
    alt: str,
    parameters: dict[str, Any] | None = None,
    seed: int | None = None,
) -> SavedFigure:
    """Write `name`.png, .svg, .csv (or .npz) and .json under $CMLIB_OUTPUT/figures, and close the figure.

    Args:
        name: letters, digits, hyphens and dots, e.g. "B-F1a".
        data: what is drawn; equal-length columns become a CSV file, other arrays an NPZ file.
        alt: what a reader who cannot see the figure should know.
        parameters: the values it was computed with, for the provenance file.

    Raises:
        ValueError: on an unfit name, empty data or empty alternative text.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name):
        raise ValueError(f"expected name of letters, digits, hyphens and dots, got {name!r}")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"expected alt to describe the figure in words, got {alt!r}")
    if not isinstance(data, dict) or not data:
        raise ValueError(f"expected data as a dict of arrays, got {data!r}")
    import matplotlib as mpl  # here, because pyplot would double the time of `import cmlib`
    import matplotlib.pyplot as plt

    folder = output_folder() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    # fixed ids and no dates: the same figure is the same bytes
    with mpl.rc_context({"svg.hashsalt": name}):
        fig.savefig(folder / f"{name}.png", dpi=_DPI, metadata={"Software": None})
        fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(fig)
    data_file = _write_data(folder / name, data)
    # chapter, preset, every parameter and the machine, as the workflow knows them
    run = json.loads(os.environ.get("CMLIB_RUN") or "{}")
    provenance = {
        "figure": name,
        "alt": alt,
        "parameters": run.pop("parameters", {}) | (parameters or {}),
        "seed": seed,
        "run": run,
        "data": data_file.name,
        "data_sha256": hashlib.sha256(data_file.read_bytes()).hexdigest(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES},
        "commit": _commit(),
        "seconds_since_start": round(time.monotonic() - _STARTED, 1),
    }
    # through text once, since JSON has no infinity and no nan: they become words
    provenance = json.loads(json.dumps(provenance, default=_plain), parse_constant=str)
    text = json.dumps(provenance, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return SavedFigure(name, alt, folder.resolve())


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
    moves += texts.values()
    svg = _inline_svg((saved.folder / f"{name}.svg").read_text(encoding="utf-8"), name, alt)
    for i, (artist, steps) in enumerate(zip(artists, moves, strict=True)):
        _put(svg.find(f".//{_SVG}g[@id='{name}-moves-{i}']"), artist, steps[shown])
    shown_values = [f"{v:g}" for v in values]
    words = "".join(
        rf'<span class="math notranslate nohighlight">\({html.escape(part)}\)</span>' if i % 2 else html.escape(part)
        for i, part in enumerate(label.split("$"))
    )
    fragment = _FRAGMENT.format(
        id=f"movable-{name}",
        width=round(100 * fig.get_figwidth()),
        svg=ElementTree.tostring(svg, encoding="unicode"),
        label=words,
        last=len(values) - 1,
        shown=shown,
        value=shown_values[shown],
        # no text of a frame can end the script
        frames=json.dumps([f"{name}-moves-", shown_values, moves], ensure_ascii=False).replace("<", r"\u003c"),
    )
    return MovableFigure(name, alt, saved.folder, fragment)


# The comments are the marks of what may differ between machines: nbval compares nothing between them.
_FRAGMENT = """<!--⟨--><div id="{id}" class="movable" style="max-width:{width}px;margin:0 auto">
{svg}
<div hidden><div style="display:flex;flex-wrap:wrap;gap:0 0.8em;align-items:center;padding:0.4em 0.6em">
<label for="{id}-range">{label}</label>
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
  root.querySelector("div").hidden = false;
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

    fig = line.get_figure(root=True)
    width, height = 72 * fig.get_size_inches()  # an SVG has 72 points an inch, from the top
    points = line.get_transform().transform(np.column_stack([x, y])) * 72 / fig.dpi
    curve = Curve(points * (1, -1) + (0, height))
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
    svg.remove(svg.find(f"{_SVG}metadata"))
    svg.remove(svg.find(f"{_SVG}defs"))  # one style for the whole page; what it says is put on the root
    for size in ("width", "height"):
        del svg.attrib[size]
    look = "display:block;width:100%;height:auto;background:#fff;stroke-linejoin:round;stroke-linecap:butt"
    svg.attrib |= {"role": "img", "aria-label": alt, "style": look}
    return svg


def _put(group: ElementTree.Element, artist: Any, step: str) -> None:
    if hasattr(artist, "get_drawstyle"):  # a line
        group.find(f"{_SVG}path").set("d", step)
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
        "fill": to_hex(artist.get_color()),
    }
    group[:] = group.findall(f".//{_SVG}defs")  # its glyphs, which other words may use
    ElementTree.SubElement(group, f"{_SVG}text", attributes).text = step


_SVG = "{http://www.w3.org/2000/svg}"
_BASELINES = {"top": "text-before-edge", "center": "central", "bottom": "text-after-edge"}


_PACKAGES = ("cmlib", "torch", "numpy", "scipy", "matplotlib")


def _write_data(stem: Path, data: dict[str, Any]) -> Path:
    columns = {
        str(key): np.asarray(value.detach().cpu() if hasattr(value, "detach") else value) for key, value in data.items()
    }
    for suffix in (".csv", ".npz"):  # a figure whose data changed shape keeps no stale file of the other kind
        stem.with_name(stem.name + suffix).unlink(missing_ok=True)
    if {column.ndim for column in columns.values()} == {1} and len({len(c) for c in columns.values()}) == 1:
        path = stem.with_name(stem.name + ".csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    else:
        path = stem.with_name(stem.name + ".npz")
        np.savez_compressed(path, **columns)
    return path


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the project's commit, "-modified" where its files differ from it; None outside a checkout of it."""
    # never that of a repository around a copy of the project
    root = next((p for p in (Path.cwd(), *Path.cwd().parents) if (p / "_toc.yml").exists()), None)
    if root is None or not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=-modified", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def width_colours(widths: Sequence[int]) -> dict[int, Any]:
    """Return one colour per width m, dark to light; of equal steps in lightness, so the order survives in grey."""
    import matplotlib as mpl

    return {m: mpl.colormaps["viridis"](0.85 * i / max(len(widths) - 1, 1)) for i, m in enumerate(widths)}


def plot_kernels(kernel: Kernel, sums: dict[int, ExponentialSum], t: np.ndarray, ax: "Axes") -> "Axes":
    """Draw a memory kernel (dashed) over the fit of each width m, on logarithmic axes."""
    for m, colour in width_colours(list(sums)).items():
        ax.loglog(t, sums[m](t), color=colour, label=f"$m = {m}$")
    ax.loglog(t, kernel(t), color="black", linestyle="--", label=r"$\rho$")
    ax.set_xlabel("elapsed time $t$")
    ax.set_ylabel(r"$\rho(t)$, $\hat\rho_m(t)$")
    return ax


def plot_perturbation(
    worst: dict[int, PerturbationCurve], ax: "Axes", sampled: dict[int, PerturbationCurve] | None = None
) -> "Axes":
    """Draw E_m(beta) for each width m: the supremum as a line, sampled maxima as dots, its blow-up as a dotted line.

    Args:
        worst: width m -> curve of method "worst_case"; radius 0 is left out of the logarithmic axis.
        sampled: width m -> curve of method "random", drawn at its own radii.
    """
    for m, colour in width_colours(list(worst)).items():
        curve = worst[m]
        shown = (curve.radii > 0) & np.isfinite(curve.errors)
        ax.loglog(curve.radii[shown], curve.errors[shown], color=colour, label=f"$m = {m}$")
        ax.axvline(curve.stability_radius, color=colour, linestyle=":", linewidth=1.2)
        if sampled is not None:
            dots = sampled[m]
            shown = (dots.radii > 0) & np.isfinite(dots.errors)
            ax.loglog(dots.radii[shown], dots.errors[shown], ".", color=colour)
    ax.set_xlabel(r"perturbation radius $\beta$")
    ax.set_ylabel(r"perturbation error $E_m(\beta)$")
    return ax


def plot_rates(sums: dict[int, ExponentialSum], ax: "Axes") -> "Axes":
    """Draw the rates of each fit as dots above its width m, each dot's area its share of the weights."""
    for m, colour in width_colours(list(sums)).items():
        s = sums[m]
        share = np.abs(s.weights) / np.abs(s.weights).sum()
        ax.scatter(np.full(len(s.rates), str(m)), s.rates.real, s=12 + 120 * share, color=colour, alpha=0.85)
    ax.set_yscale("log")
    ax.set_xlabel("width $m$")
    ax.set_ylabel(r"rates $-\mathrm{Re}\,\lambda_k$ (1/time)")
    return ax
