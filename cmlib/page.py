"""Page: a report as one HTML file that asks for nothing else, and its figures."""

import html
import io
import re
from collections.abc import Callable, Iterable
from functools import partial
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from cmlib.memory import MemoryCurve
from cmlib.verdict import Sentence, part_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmlib.report import Report

    Findings = Report
else:
    Findings = Any

TRUSTED = 100.0  # what lies closer to the floor than this is not drawn
WIDTH, HEIGHT = 5.6, 3.6  # inches
FEW = 20  # lags, of which each is a dot
MANY = 12  # weights in the figure, the most delicate; and words of a list
# colours of a figure in a file -> in a page, where they follow the reader's theme
INK, QUIET = "#010101", "#020202"
LINES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
THEME = {INK: "var(--ink)", QUIET: "var(--quiet)"} | {line: f"var(--line-{i})" for i, line in enumerate(LINES)}
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
ON_PAGE = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "font.size": 10.0,
    "svg.fonttype": "path",
}


def page(found: Findings) -> str:
    """Return the page."""
    template = Template(resources.files("cmlib").joinpath("report.html").read_text(encoding="utf-8"))
    first, *others = found.verdict
    figures = [_figure(name, *panel) for name, panel in panels(found).items()]
    return template.substitute(
        name=html.escape(found.name),
        first=html.escape(first.text),
        reason=html.escape(first.reason),
        verdict=_section("What was found", _said(others)),
        todo=_section("What to do", _said(found.advice)) if found.advice else "",
        doubts=_section("What would change this", _said(found.doubts)) if found.doubts else "",
        panels=_section("Figures", f'<div class="panels">{"".join(figures)}</div>') if figures else "",
        tables="\n".join(_section(name, _table(name, heads, rows)) for name, heads, rows in _tables(found) if rows),
    )


def plot(found: Findings) -> "Figure":
    """Return one figure with a panel for each question that has an answer."""
    from matplotlib.figure import Figure

    drawn = panels(found)
    fig = Figure(figsize=(WIDTH, HEIGHT * max(len(drawn), 1)), layout="constrained")
    for i, (_, draw, _) in enumerate(drawn.values()):
        draw(fig.add_subplot(len(drawn), 1, i + 1), [f"C{k}" for k in range(6)], "0.4")
    return fig


# ---- figures -------------------------------------------------------------------------------------


def panels(found: Findings) -> dict[str, tuple[str, Callable, str]]:
    """Return name -> (question, function that draws the answer, the answer in words)."""
    shown: dict[str, tuple[str, Callable, str]] = {}
    questions = {
        "inputs": ("How long does it remember each kind of input?", found.memory),
        "sizes": ("Does the size of the input matter?", _sizes(found)),
    }
    for name, (question, curves) in questions.items():
        if curves:
            told = "; ".join(f"{each} {_course(curve)}" for each, curve in curves.items())
            draw = partial(_curves, found, curves)
            shown[name] = (question, draw, f"Memory functions against time: {told}.")
    for kind, where in (("steps", "the unit circle"), ("flow", "the imaginary axis")):
        parts = [c for c in found.certificates if c.part.kind == kind and len(c.eigenvalues)]
        if parts:
            told = "; ".join(f"{part_name(c)}: {len(c.eigenvalues)}, slowest rate {c.rate:.3g}" for c in parts)
            shown[f"eigenvalues-{kind}"] = (
                f"Where are the eigenvalues, seen from {where}?",
                partial(_plane, parts, kind),
                f"Eigenvalues in the complex plane, and {where}, beyond which a part is unstable. {told}.",
            )
    pushes = [row for row in found.sensitivity if np.isfinite(row.worst)][:MANY]
    if pushes:
        told = "; ".join(f"{row.name} {row.worst:.2g}" for row in pushes)
        shown["sensitivity"] = (
            "How far can each weight be pushed?",
            partial(_bars, pushes),
            f"The push that changes the answers by a tenth, weight by weight: {told}.",
        )
    return shown


def _sizes(found: Findings) -> dict[str, MemoryCurve]:
    name = next((name for name, sizes in found.by_amplitude.items() if len(sizes) > 1), None)
    if name is None:
        return {}
    curve = found.memory[name]
    shown = {f"|x| = {size:g}": curve.of_size(size) for size in found.by_amplitude[name]}
    if found.growing is not None:
        any_size = found.growing[0]
        n = int(np.searchsorted(any_size.t, curve.t[-1], side="right"))
        shown["any size"] = MemoryCurve(any_size.t[:n], any_size.values[:n], any_size.inputs, any_size.floor)
    return shown


def _course(curve: Any) -> str:
    seen = np.flatnonzero(curve.values > TRUSTED * curve.floor)
    if not len(seen):
        return "is nowhere above rounding"
    first, last = seen[0], seen[-1]
    return (
        f"from {curve.values[first]:.2g} at t = {curve.t[first]:g} to {curve.values[last]:.2g} at t = {curve.t[last]:g}"
    )


def _curves(found: Findings, curves: dict[str, Any], ax: "Axes", colours: list[str], quiet: str) -> None:
    d, unit = found.conclusion, found.settings["unit"]
    power = d is not None and d.kind in ("polynomial", "stretched")
    for i, (name, curve) in enumerate(curves.items()):
        seen = (curve.values > TRUSTED * curve.floor) & ((curve.t > 0) | (not power))
        look: dict[str, Any] = {"color": colours[i % 6], "linestyle": STYLES[i % 6]}
        _ = ax.plot(curve.t[seen], curve.values[seen], marker="." if seen.sum() < FEW else "", label=name, **look)
    _ = ax.set(yscale="log", xscale="log" if power else "linear")
    units = "units of time" if unit == "unit of time" else "steps"
    _ = ax.set(xlabel=f"time since the input changed ({units})", ylabel=f"memory $M(t)$ (output / input / {unit})")
    _ = ax.legend()


def _plane(parts: list[Any], kind: str, ax: "Axes", colours: list[str], quiet: str) -> None:
    for i, c in enumerate(parts):
        z = c.eigenvalues
        _ = ax.plot(z.real, z.imag, "oxs^Dv"[i % 6], color=colours[i % 6], label=part_name(c), fillstyle="none")
    if kind == "steps":
        angle = np.linspace(0, 2 * np.pi, 361)
        _ = ax.plot(np.cos(angle), np.sin(angle), color=quiet, linewidth=1)
        _ = ax.set_aspect("equal", adjustable="datalim")
        unit = "of a step"
    else:
        _ = ax.axvline(0.0, color=quiet, linewidth=1)
        unit = "per unit of time"
    _ = ax.set(xlabel=f"real part ({unit})", ylabel=f"imaginary part ({unit})")
    _ = ax.legend(loc="upper left")


def _bars(rows: list[Any], ax: "Axes", colours: list[str], quiet: str) -> None:
    at = np.arange(len(rows))[::-1]
    worst, drawn = np.array([row.worst for row in rows]), np.array([row.random for row in rows])
    seen = np.isfinite(drawn)
    ends = worst.min() / 1.1, np.append(worst, drawn[seen]).max() * 1.1
    least, most = 10 ** np.floor(np.log10(ends[0])), 10 ** np.ceil(np.log10(ends[1]))
    _ = ax.barh(at, worst - least, left=least, height=0.6, color=[colours[row.role == "bias"] for row in rows])
    _ = ax.plot(drawn[seen], at[seen], "|", color=quiet, markersize=12)
    _ = ax.set(xscale="log", xlim=(least, most), xlabel="push (spectral norm) that changes the answers by a tenth")
    _ = ax.set_yticks(at, [_short(row.name) for row in rows])


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"…{name[-23:]}"


def _figure(name: str, question: str, draw: Callable, told: str) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = ON_PAGE | {"svg.hashsalt": name}
    with mpl.rc_context(style):
        fig = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        draw(fig.add_subplot(), list(LINES), QUIET)
        file = io.StringIO()
        fig.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # inside a page it needs no name spaces, and names of its own; sizes come from the page
    drawing = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawing)
    drawing = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    box = re.findall(r'viewBox="[^"]*"', drawing)[0]
    start = f'<svg role="img" aria-label="{html.escape(told)}" {box}>'
    drawing = start + drawing[drawing.index(">") + 1 :]
    for colour, variable in THEME.items():
        drawing = drawing.replace(colour, variable)
    title, caption = f"<h3>{html.escape(question)}</h3>", f"<figcaption>{html.escape(told)}</figcaption>"
    return f"<figure>\n{title}\n{drawing}{caption}\n</figure>\n"


# ---- words and tables ----------------------------------------------------------------------------


def _said(lines: Iterable[Sentence]) -> str:
    items = (f'<li>{html.escape(s.text)} <span class="why">{html.escape(s.reason)}</span></li>' for s in lines)
    return '<ul class="said">\n' + "\n".join(items) + "\n</ul>"


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{html.escape(title)}</h2>\n{body}\n</section>"


def _tables(found: Findings) -> list[tuple[str, list[str], list[list[str]]]]:
    rows = [[name, "all", *_decay(d)] for name, d in found.decays.items()]
    for name, sizes in found.by_amplitude.items():
        rows += [[name, f"{size:g}", *_decay(d)] for size, d in sizes.items()]
    parts = [
        [part_name(c), c.part.kind, _number(c.rate), _scales(c), _number(c.radius), _number(c.driven_rate), c.says]
        for c in found.certificates
    ]
    pushes = [
        [row.name, row.part or "", row.role, *map(_number, (row.size, row.worst, row.relative, row.random))]
        for row in found.sensitivity
    ]
    settings = [[name, _shown(value)] for name, value in found.settings.items()]
    return [
        ("Decay", ["input", "size", "kind", "rate or exponent", "interval", "seen from", "to", "why"], rows),
        (
            "Recurrent and state-space parts",
            ["part", "kind", "slowest rate", "time scales", "stability radius", "rate under random input", "in words"],
            parts,
        ),
        ("Weights", ["weight", "part", "role", "size", "least push", "of its size", "random push"], pushes),
        ("Hypotheses", ["hypothesis", "status", "how"], [[a.hypothesis, a.status, a.how] for a in found.assumptions]),
        ("Notes", ["note"], [[note] for note in found.notes]),
        ("Left out", ["stage", "why"], [[name, why] for name, why in found.left_out.items()]),
        ("Settings", ["setting", "value"], settings),
    ]


def _decay(d: Any) -> list[str]:
    exponent = d.kind in ("polynomial", "stretched")
    value, interval = (d.exponent, d.exponent_interval) if exponent else (d.rate, d.rate_interval)
    value, interval = (d.lag, (np.nan, np.nan)) if d.kind == "finite" else (value, interval)
    between = " to ".join(map(_number, interval)) if np.isfinite(interval).all() else ""
    kind = f"undecided: {' or '.join(d.possible)}" if d.kind == "undecided" else d.kind
    return [kind, _number(value), between, f"{d.window[0]:g}", f"{d.window[1]:g}", d.reason]


def _scales(c: Any) -> str:
    return ", ".join(f"{scale:.3g}" for scale in c.time_scales[:4]) + (", …" if len(c.time_scales) > 4 else "")


def _table(name: str, heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    wide = ' class="wide"' if len(heads) > 3 else ""
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {html.escape(name)}">\n'
        f"<table{wide}><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</div>"
    )


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        words = [f"{each:g}" if isinstance(each, float) else str(each) for each in value]
        return ", ".join(words) if len(words) <= MANY else f"{len(words)}, from {words[0]} to {words[-1]}"
    return "not limited" if value is None else str(value)
