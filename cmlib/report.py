"""Report: what a model of your own remembers and what a push to its weights does, on one page."""

import base64
import copy
import html
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cmlib.arguments import ArrayLike, Count, Number, Source, count, positive, random_source
from cmlib.decay import Decay, decay
from cmlib.memory import INPUTS, MemoryCurve, memory_function
from cmlib.models.recurrent import is_recurrent
from cmlib.perturbation import PerturbationCurve, perturbation_error, stable_perturbation_radius
from cmlib.rest import Rest, linearised_at_rest
from cmlib.sequence_maps import channels_of, evaluate, in_double, preflight

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTICEABLE = 0.1  # a push that changes the output by this share of its size is noticed
THEOREM = "Wang, Li and Li 2024, Theorem 3.9"
LONG = 4  # times as much before the input changes as after


@dataclass(frozen=True)
class Report:
    """What `report` found.

    Args:
        name: of the model.
        memory: kind of input -> memory function.
        decays: kind of input -> how it decays.
        perturbation: how far a push to all weights moves the outputs; None for a map without weights.
        size: of the outputs, sup |H - H(0)| / |x| over the inputs of `perturbation`.
        rest: of the recurrent part, None where there is none or it does not settle.
        verdict: what it means, in sentences.

    Reference: wang2024inverse, Defs 3.1 and 3.4

    >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32, n_directions=1)
    >>> found.name, found.decays["impulse"].kind, len(found.perturbation.errors)
    ('LinearRNN', 'exponential', 18)
    """

    name: str
    memory: dict[str, MemoryCurve]
    decays: dict[str, Decay]
    perturbation: PerturbationCurve | None
    size: float
    rest: Rest | None
    verdict: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.verdict)

    def plot(self) -> "Figure":
        """Return a figure of the memory functions and, below, of the perturbation error where it was measured.

        >>> found = cmlib.report(targets.LinearFunctional(kernels.Exponential(0.5)), d_in=1, n_steps=32)
        >>> len(found.plot().axes)
        1
        """
        import matplotlib.pyplot as plt

        panels = 1 if self.perturbation is None else 2
        fig, axes = plt.subplots(panels, 1, figsize=(5.6, 3.2 * panels), squeeze=False)
        for kind, curve in self.memory.items():
            seen = curve.values > 100 * curve.floor
            _ = axes[0, 0].semilogy(curve.t[seen], curve.values[seen], label=kind)
        _ = axes[0, 0].set(xlabel="time since the input changed", ylabel="memory function $M(t)$")
        _ = axes[0, 0].legend()
        if self.perturbation is not None:
            seen = (self.perturbation.radii > 0) & np.isfinite(self.perturbation.errors)
            _ = axes[1, 0].loglog(self.perturbation.radii[seen], self.perturbation.errors[seen])
            _ = axes[1, 0].axhline(NOTICEABLE * self.size, color="grey", linewidth=1)
            label = r"change of the output $E(\beta)$"
            _ = axes[1, 0].set(xlabel=r"size of the push to each weight $\beta$", ylabel=label)
        fig.tight_layout()
        return fig

    def save(self, path: Any) -> Path:
        """Write the report as one HTML page that needs no other file; return its path.

        Raises:
            ValueError: unless the path ends in .html.

        >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32, n_directions=1)
        >>> found.save("mine.pdf")
        Traceback (most recent call last):
        ValueError: expected a path that ends in .html, got 'mine.pdf'
        """
        import matplotlib.pyplot as plt

        path = Path(path)
        if path.suffix != ".html":
            raise ValueError(f"expected a path that ends in .html, got {str(path)!r}")
        fig, image = self.plot(), io.BytesIO()
        fig.savefig(image, format="png", dpi=150)
        plt.close(fig)
        rows = "".join(
            f"<tr><td>{kind}</td><td>{d.kind}</td><td>{_number(d.rate)}</td><td>{_number(d.exponent)}</td>"
            f"<td>{d.window[0]:g} to {d.window[1]:g}</td></tr>"
            for kind, d in self.decays.items()
        )
        template = Template(resources.files("cmlib").joinpath("report.html").read_text(encoding="utf-8"))
        page = template.substitute(
            name=html.escape(self.name),
            verdict="".join(f"<p>{html.escape(line)}</p>" for line in self.verdict),
            rows=rows,
            image=base64.b64encode(image.getvalue()).decode(),
        )
        path.write_text(page, encoding="utf-8")
        return path


def report(
    model: Any,
    *,
    d_in: Count | None = None,
    n_steps: Count = 200,
    dt: Number | None = None,
    radii: ArrayLike | None = None,
    n_directions: Count = 10,
    generator: Source = None,
) -> Report:
    """Measure a model's memory for three kinds of input, its answer to a push, and say what that means.

    Recurrent layers of torch go in as they are, batch first or not; a TransformerEncoder is given a causal mask.

    Args:
        model: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that.
        d_in: number of input channels; None asks the model.
        n_steps: lags of the memory functions, >= 16.
        dt: time per step; None takes that of a recurrent model, or 1.
        radii: (n,) sizes of the push; None takes 0 and 1e-4 to 1.
        n_directions: random pushes of each size.
        generator: of pushes and inputs; None takes one with seed 0.

    Raises:
        ValueError: if outputs have another shape, are not finite, or depend on later inputs or the rest of the batch.

    Reference: wang2024inverse, Defs 3.1 and 3.4, Thm 3.9

    >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32, n_directions=1)
    >>> print(found.verdict[0])
    LinearRNN forgets exponentially, for each kind of input, within a time of 2 (one over the rate 0.5).
    """
    generator, n_steps = random_source("generator", generator), count("n_steps", n_steps, at_least=16)
    name = type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", type(model).__name__)
    dt = (model.dt if is_recurrent(model) else 1.0) if dt is None else positive("dt", dt)
    d_in = channels_of(model) if d_in is None else count("d_in", d_in)
    seq_map = in_double(model)
    inputs = torch.randn(24, n_steps, d_in, generator=generator, dtype=torch.float64)
    preflight(seq_map, inputs)
    # a map that looks at all of its past, as attention does, has no other clock than how long that is: make it long
    history = LONG * n_steps
    memory = {kind: memory_function(seq_map, n_steps, dt, d_in, kind, history=history) for kind in INPUTS}
    decays = {kind: decay(curve) for kind, curve in memory.items()}
    perturbation, size = None, np.nan
    if isinstance(seq_map, nn.Module) and any(True for _ in seq_map.parameters()):
        radii = np.append(0.0, np.geomspace(1e-4, 1.0, 17)) if radii is None else radii
        options = {"n_directions": n_directions, "generator": generator, "inputs": inputs, "dt": dt}
        perturbation = perturbation_error(seq_map, copy.deepcopy(seq_map), radii, **options)
        change = evaluate(seq_map, inputs) - evaluate(seq_map, torch.zeros_like(inputs))
        size = float((change.abs().amax((1, 2)) / inputs.abs().amax((1, 2))).max())
    rest = linearised_at_rest(seq_map)
    verdict = _verdict(name, decays, memory, perturbation, size, rest)
    return Report(name, memory, decays, perturbation, size, rest, verdict)


def _verdict(
    name: str,
    decays: dict[str, Decay],
    memory: dict[str, MemoryCurve],
    perturbation: PerturbationCurve | None,
    size: float,
    rest: Rest | None,
) -> tuple[str, ...]:
    kinds = {d.kind for d in decays.values()}
    span = memory["heaviside"].t[-1]
    if kinds == {"exponential"}:
        slowest = min(d.rate for d in decays.values())
        lasts = "a few steps" if np.isinf(slowest) else f"a time of {1 / slowest:.3g}"
        lines = [
            f"{name} forgets exponentially, for each kind of input, within {lasts} (one over the rate {slowest:.3g}).",
            f"Recurrent networks can approximate stably only what does so ({THEOREM}).",
        ]
    elif "exponential" in kinds:
        told = ", ".join(f"{kind}: {d.kind}" for kind, d in decays.items())
        lines = [
            f"The kinds of input disagree about {name} ({told}); for a linear map they could not.",
            "Inputs up to 10 are tried, and large ones can hold a gate shut. n_steps makes the curves longer.",
        ]
    else:
        how = "does not decay" if kinds == {"none"} else "decays more slowly than exponentially"
        how = "decays like a power of time" if kinds == {"polynomial"} else how
        lines = [
            f"The memory of {name} {how}, on the times up to {span:g} that were tried.",
            f"If this goes on for ever, no recurrent network approximates it stably ({THEOREM}).",
        ]
    if rest is not None and rest.rate > 0:
        safe = "no push to the raw weights" if np.isinf(rest.radius) else f"no change of norm below {rest.radius:.3g}"
        per = "unit of time" if rest.kind == "flow" else "step"
        lines.append(f"Its recurrent part is stable at rest: slowest rate {rest.rate:.3g} per {per}; {safe} upsets it.")
    elif rest is not None:
        lines.append(f"Its recurrent part is not stable at rest: small disturbances grow at the rate {-rest.rate:.3g}.")
    if perturbation is not None:
        reach = stable_perturbation_radius(perturbation, NOTICEABLE * size) if size > 0 else np.nan
        if np.isfinite(reach):
            lines.append(
                f"A push of {reach:.2g} to each weight changes its output by a tenth, in the worst direction tried."
            )
        elif np.isinf(reach):
            largest = perturbation.radii.max()
            lines.append(f"No push up to {largest:.2g} to each weight changed its output by a tenth.")
    return tuple(lines)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"
