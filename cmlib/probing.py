"""Probing: what a model of your own remembers and what a push to its weights does, as one report."""

import base64
import contextlib
import copy
import html
import importlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import linalg, optimize
from torch import Tensor, nn

from cmlib.kernels import ArrayLike
from cmlib.memory import INPUTS, Decay, MemoryCurve, decay, memory_function
from cmlib.models import RNN, SSM, LinearRNN, evaluating
from cmlib.parameterizations import direct
from cmlib.stability import PerturbationCurve, perturbation_error, stability_radius, stable_perturbation_radius

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTICEABLE = 0.1  # a push that changes the output by this share of its size is noticed
THEOREM = "Wang, Li and Li 2024, Theorem 3.9"
LONG = 4  # times as much before the input changes as after
SETTLE = 20_000  # steps without input within which a recurrent layer has to come to rest


@dataclass(frozen=True)
class Rest:
    """A recurrent weight, or the step of a recurrent layer linearised at rest.

    Args:
        kind: "flow" where eigenvalues of the recurrent weight have to have real parts below 0, "steps" where those of
            the linearised step have to be below 1 in size.
        rate: slowest, per unit of time or per step; negative where rest is unstable. Of an RNN, that of Euler's steps.
        radius: distance of that matrix from instability, spectral norm, complex; inf for a stable parameterization.
    """

    kind: str
    rate: float
    radius: float


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
        """Return a figure of the memory functions and, below, of the perturbation error."""
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
        """Write the report as one HTML page that needs no other file."""
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
        page = PAGE.format(
            name=html.escape(self.name),
            verdict="".join(f"<p>{html.escape(line)}</p>" for line in self.verdict),
            rows=rows,
            image=base64.b64encode(image.getvalue()).decode(),
        )
        path.write_text(page, encoding="utf-8")
        return path


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Memory of {name}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }}
img {{ width: 100% }} td, th {{ padding: .2rem .8rem; text-align: left }} table {{ border-collapse: collapse }}
tr {{ border-bottom: 1px solid #ccc }}
</style>
<h1>Memory of {name}</h1>
{verdict}
<table><tr><th>input</th><th>decay</th><th>rate</th><th>exponent</th><th>seen from</th></tr>{rows}</table>
<p><img alt="Above, memory functions against time for three kinds of input; below, change of the output against the
size of a push to all weights." src="data:image/png;base64,{image}"></p>
</html>
"""


def report(
    model: Any,
    *,
    d_in: int | None = None,
    n_steps: int = 200,
    dt: float | None = None,
    radii: ArrayLike | None = None,
    n_directions: int = 10,
    generator: torch.Generator | None = None,
) -> Report:
    """Measure a model's memory for three kinds of input, its answer to a push, and say what that means.

    Recurrent layers of torch go in as they are, batch first or not; a TransformerEncoder is given a causal mask.

    Args:
        model: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that.
        d_in: number of input channels; None asks the model.
        n_steps: lags of the memory functions, >= 16.
        dt: time per step; None asks the model, or takes 1.
        radii: (n,) sizes of the push; None takes 0 and 1e-4 to 1.
        n_directions: random pushes of each size.
        generator: of pushes and inputs; None takes one with seed 0.

    Raises:
        ValueError: if outputs have another shape, are not finite, or depend on later inputs or the rest of the batch.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    name = type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", type(model).__name__)
    dt = float(getattr(model, "dt", 1.0)) if dt is None else dt
    d_in = _channels(model) if d_in is None else d_in
    seq_map = _double(model)
    inputs = torch.randn(24, n_steps, d_in, generator=generator, dtype=torch.float64)
    _check(seq_map, inputs)
    # a map that looks at all of its past, as attention does, has no other clock than how long that is: make it long
    history = LONG * n_steps
    memory = {kind: memory_function(seq_map, n_steps, dt, d_in, kind, history=history) for kind in INPUTS}
    decays = {kind: decay(curve) for kind, curve in memory.items()}
    perturbation, size = None, np.nan
    if isinstance(seq_map, nn.Module) and any(True for _ in seq_map.parameters()):
        radii = np.append(0.0, np.geomspace(1e-4, 1.0, 17)) if radii is None else radii
        options = {"n_directions": n_directions, "generator": generator, "inputs": inputs}
        perturbation = perturbation_error(seq_map, copy.deepcopy(seq_map), radii, **options)
        with torch.no_grad(), evaluating(seq_map):
            change = _first(seq_map(inputs)) - _first(seq_map(torch.zeros_like(inputs)))
        size = float((change.abs().amax((1, 2)) / inputs.abs().amax((1, 2))).max())
    rest = _rest(model if isinstance(model, RNN | LinearRNN | SSM) else seq_map)
    verdict = _verdict(name, decays, memory, perturbation, size, rest)
    return Report(name, memory, decays, perturbation, size, rest, verdict)


def load_model(module: str, checkpoint: Any = None) -> Any:
    """Return what a factory makes, with the weights of a checkpoint.

    Args:
        module: "package.module:factory"; the working directory is searched as well. The factory is called without
            arguments.
        checkpoint: of a state dict, read with weights_only=True; None or "" takes the weights of the factory.

    Raises:
        ValueError: that says which of the steps went wrong.
    """
    package, colon, factory = str(module).partition(":")
    if not (package and colon and factory):
        raise ValueError(f'expected module="package.module:factory", got {module!r}')
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(package)
    except (ImportError, SystemExit) as error:
        raise ValueError(f"expected a module {package!r} that can be imported: {error}") from error
    finally:
        sys.path.remove(here)
    make = getattr(found, factory, None)
    if not callable(make):
        raise ValueError(f"expected a function or class {factory!r} in {package}, got {make!r}")
    try:
        model = make()
    except TypeError as error:
        raise ValueError(f"expected {module} to work without arguments: {error}") from error
    except SystemExit as error:
        raise ValueError(f"expected {module} to return a model, but it ends the process") from error
    if not callable(model):
        raise ValueError(f"expected {module} to return a model, got {type(model).__name__}")
    if checkpoint:
        _load(model, Path(checkpoint))
    return model


def _load(model: Any, path: Path) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected an nn.Module for the checkpoint, got {type(model).__name__}")
    if not path.is_file():
        raise ValueError(f"expected a checkpoint, got {str(path)!r}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise ValueError(f"expected a state dict of tensors alone in {path.name}: {error}") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"expected the weights of {type(model).__name__} in {path.name}: {error}") from error


class _BatchFirst(nn.Module):
    """A layer of torch that has time before batch."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return _first(self.layer(x.transpose(0, 1))).transpose(0, 1)


class _Causal(nn.Module):
    """A transformer encoder that sees the past only."""

    def __init__(self, encoder: nn.TransformerEncoder):
        super().__init__()
        self.encoder, self.batch_first = encoder, encoder.layers[0].self_attn.batch_first

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.encoder(x, mask=mask, is_causal=False)
        return y if self.batch_first else y.transpose(0, 1)


def _double(model: Any) -> Any:
    # a copy in double precision that takes (batch, time, d_in)
    if not isinstance(model, nn.Module):
        return model
    model = copy.deepcopy(model).cpu().double()
    if isinstance(model, nn.RNNBase):
        return model if model.batch_first else _BatchFirst(model)
    if isinstance(model, nn.TransformerEncoder):
        return _Causal(model)
    return model


def _channels(model: Any) -> int:
    match model:
        case nn.RNNBase():
            return model.input_size
        case nn.TransformerEncoder():
            return model.layers[0].self_attn.embed_dim
        case RNN() | SSM():
            return model.U.shape[1]
        case LinearRNN():
            return 1
    channels = getattr(model, "d_in", None)
    if isinstance(channels, int):
        return channels
    raise ValueError(f"expected d_in, the number of input channels, for a {type(model).__name__}")


def _first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


def _check(seq_map: Any, inputs: Tensor) -> None:
    later, others = inputs.clone(), inputs.clone()
    half = inputs.shape[1] // 2
    later[:, half:] += 1.0
    others[1:] += 1.0
    with torch.no_grad(), evaluating(seq_map), _explained(inputs):
        y, y_later, y_others = (_first(seq_map(x)) for x in (inputs, later, others))
    if not isinstance(y, Tensor) or y.ndim != 3 or y.shape[:2] != inputs.shape[:2]:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"expected outputs (batch, time, d_out) for inputs {tuple(inputs.shape)}, got {got}")
    if not torch.isfinite(y).all():
        raise ValueError("expected finite outputs, got NaN or infinity: is the model stable?")
    rounding = 1e-9 * max(1.0, float(y.abs().max()))
    early = (y_later - y)[:, :half].abs().amax((0, 2))
    if early.max() > rounding:
        step = int((early > rounding).nonzero()[0])
        raise ValueError(f"expected a causal model, but its output at step {step} depends on the input at step {half}")
    if (y_others - y)[0].abs().max() > rounding:
        raise ValueError("expected sequences to be independent, but one output depends on the others in its batch")


@contextlib.contextmanager
def _explained(inputs: Tensor) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, IndexError, TypeError, AssertionError) as error:
        raise ValueError(f"expected a model of inputs {tuple(inputs.shape)} in double precision: {error}") from error


def _rest(model: Any) -> Rest | None:
    if isinstance(model, RNN | LinearRNN | SSM):
        W = model.recurrent().detach().double().cpu()
        known = getattr(model, "parameterization", direct) == direct
        radius = stability_radius(W) if known else np.inf
        eigenvalues = torch.linalg.eigvals(W)
        if isinstance(model, RNN):  # its steps are Euler's
            eigenvalues = torch.log(1 + model.dt * eigenvalues) / model.dt
        return Rest("flow", -float(eigenvalues.real.max()), radius)
    layer = model.layer if isinstance(model, _BatchFirst) else model
    if not isinstance(layer, nn.RNNBase) or layer.bidirectional:
        return None
    matrix = _step_at_rest(layer)
    if matrix is None:
        return None
    largest = float(np.abs(linalg.eigvals(matrix)).max())
    return Rest("steps", -float(np.log(largest)) if largest > 0 else np.inf, _radius_of_steps(matrix))


def _step_at_rest(layer: nn.RNNBase) -> np.ndarray | None:
    # derivative of the next state by the state, where the layer has come to rest without input
    gated = isinstance(layer, nn.LSTM)
    silence = torch.zeros(1, 1, layer.input_size, dtype=torch.float64)
    state = torch.zeros((2 if gated else 1), layer.num_layers, 1, layer.hidden_size, dtype=torch.float64)
    if gated and layer.proj_size:
        return None  # h and c have different sizes

    def step(state: Tensor) -> Tensor:
        _, new = layer(silence, (state[0], state[1]) if gated else state[0])
        return torch.stack(new) if gated else new[None]

    with torch.no_grad(), evaluating(layer):
        for _ in range(SETTLE):
            new = step(state)
            if (new - state).abs().max() < 1e-13:
                break
            state = new
        else:
            return None
    with evaluating(layer):
        matrix = torch.autograd.functional.jacobian(step, state)
    return matrix.reshape(state.numel(), state.numel()).numpy()


def _radius_of_steps(matrix: np.ndarray) -> float:
    # min over the unit circle of the smallest singular value of e^{i angle} I - matrix
    if np.abs(linalg.eigvals(matrix)).max() >= 1:
        return 0.0
    identity = np.eye(len(matrix))

    def smallest(angle: float) -> float:
        return linalg.svdvals(np.exp(1j * angle) * identity - matrix)[-1]

    angles = np.unique(np.append(np.linspace(0, np.pi, 65), np.abs(np.angle(linalg.eigvals(matrix)))))
    values = np.array([smallest(a) for a in angles])
    i = int(values.argmin())
    bounds = (angles[max(i - 1, 0)], angles[min(i + 1, len(angles) - 1)])
    refined = optimize.minimize_scalar(smallest, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    return float(min(values.min(), refined.fun))


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
