"""Figures: one style, and one way to save a figure with its data and where it came from.

The plot functions take a result and an Axes and return the Axes; they compute nothing.
"""

import base64
import csv
import hashlib
import io
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

import numpy as np

from cmlib.chapter.claims import output_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmlib.exponential_sums import ExponentialSum
    from cmlib.kernels import Kernel
    from cmlib.perturbation import PerturbationCurve

# Okabe and Ito's colours, which people with every kind of colour blindness tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# For matplotlib: plt.style.use(STYLE). Sized for a page of 400 px, on which the figure shrinks to two thirds: text of
# 10 points then has 9 px. An opaque white ground, so that a file reads the same on any page.
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
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "text.usetex": False,
}

_STARTED = time.monotonic()
# a page shows a figure at 100 dots an inch, with two pixels of the file to each of the page
_DPI, _FILE_DPI = 100, 200


@dataclass(frozen=True)
class SavedFigure:
    """A figure on disk, shown by Jupyter when it ends a cell, with its alternative text."""

    name: str
    alt: str
    folder: Path
    inches: tuple[float, float]

    def __repr__(self) -> str:
        return f"Figure {self.name}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        png = base64.b64encode((self.folder / f"{self.name}.png").read_bytes()).decode()
        # the size on a page, which is half of the file's
        look: dict[str, Any] = {"alt": self.alt}
        look |= {"width": round(self.inches[0] * _DPI), "height": round(self.inches[1] * _DPI)}
        metadata = {"cmlib": {"figure": self.name, "alt": self.alt}, "image/png": look}
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
        (folder / f"{name}.png").write_bytes(_png(fig))
        fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    inches = float(fig.get_figwidth()), float(fig.get_figheight())
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
    return SavedFigure(name, alt, folder.resolve(), inches)


def smallest_text(fig: "Figure") -> float:
    """Return the size in points of a figure's smallest words, which says how far a page may shrink it."""
    from matplotlib.text import Text

    texts: Any = fig.findobj(Text)
    return min((t.get_fontsize() for t in texts if t.get_visible() and t.get_text().strip()), default=np.inf)


def _png(fig: "Figure") -> bytes:
    # 256 colours, which takes a third of the bytes; the picture carries its resolution and the size of its words
    from PIL import Image, PngImagePlugin

    drawn, file, about = io.BytesIO(), io.BytesIO(), PngImagePlugin.PngInfo()
    fig.savefig(drawn, format="png", dpi=_FILE_DPI)
    about.add_text("Smallest text", f"{smallest_text(fig):g}")
    # of the ways that Pillow has, the one that moves no colour far, not even that of a thin line
    few = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(file, "png", optimize=True, dpi=(_FILE_DPI, _FILE_DPI), pnginfo=about)
    return file.getvalue()


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
        arrays: dict[str, Any] = columns  # beside which numpy takes options by name
        np.savez_compressed(path, **arrays)
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


def plot_kernels(kernel: "Kernel", sums: "dict[int, ExponentialSum]", t: np.ndarray, ax: "Axes") -> "Axes":
    """Draw a memory kernel (dashed) over the fit of each width m, on logarithmic axes."""
    for m, colour in width_colours(list(sums)).items():
        ax.loglog(t, sums[m](t), color=colour, label=f"$m = {m}$")
    ax.loglog(t, kernel(t), color="black", linestyle="--", label=r"$\rho$")
    ax.set_xlabel("elapsed time $t$")
    ax.set_ylabel(r"$\rho(t)$, $\hat\rho_m(t)$")
    return ax


def plot_perturbation(
    worst: "dict[int, PerturbationCurve]", ax: "Axes", sampled: "dict[int, PerturbationCurve] | None" = None
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


def plot_rates(sums: "dict[int, ExponentialSum]", ax: "Axes") -> "Axes":
    """Draw the rates of each fit as dots above its width m, each dot's area its share of the weights."""
    for m, colour in width_colours(list(sums)).items():
        s = sums[m]
        share = np.abs(s.weights) / np.abs(s.weights).sum()
        ax.scatter(np.full(len(s.rates), str(m)), s.rates.real, s=12 + 120 * share, color=colour, alpha=0.85)
    ax.set_yscale("log")
    ax.set_xlabel("width $m$")
    ax.set_ylabel(r"rates $-\mathrm{Re}\,\lambda_k$ (1/time)")
    return ax
