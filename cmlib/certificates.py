"""Certificates: what the recurrent parts of a model say, from inside, of how long they remember."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigs, gmres
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Count, Source, count, random_source, real_array
from cmlib.models.recurrent import is_recurrent, radius_of_weight
from cmlib.parts import Part, Seen, memoryless_around, parts, watch
from cmlib.preflight import precise
from cmlib.sequence_maps import BatchFirst, channels_of, copied, in_double
from cmlib.stability import stability_radius

SMALL = 256  # states up to which radii and norms of powers are computed
DENSE = 1024  # and all eigenvalues; above, the largest few
FEW, KRYLOV = 6, 120  # of these, out of a space of so many dimensions
MATRIX = 2048  # and the Jacobian as a matrix; above, its products alone, and rest alone
SETTLE = 500  # steps within which a state settles by itself, after which Newton's method takes over
SETTLED = 1e-12  # relative to the state
ROUNDING = 1e-12  # of a rate
LEAST = 1e-300
ROWS, FOLLOWED = 8, 1000  # sequences followed for a Lyapunov exponent, and steps of each
BLOCKS = 4  # of the steps of each, for a standard error
NUMBERS = 4096  # held by all of them together, of two sequences at least
ABSENT, ALONE = "not linearised", "its step alone"  # how assumptions begin that change what is said
CHANNELS = 8  # along each of so many a constant input is held, and along the diagonal


@dataclass(frozen=True)
class Certificate:
    """What one part of a model says of its memory.

    Args:
        part: the layer.
        eigenvalues: (n,), slowest first: of the Jacobian of its step where it rests without input, or those that it
            declares; (0,) where it is not linearised.
        rate: of the slowest of them, per step or per unit of time (`part.kind`); negative where rest is unstable, nan
            where none was found.
        gap: from there to the next rate; inf where there is none.
        radius: spectral norm of the smallest change of the matrix that makes rest unstable; inf where no push to raw
            weights does, nan above 256 states.
        growth: largest norm of 1, 2, 4, ... steps of the linearisation, 1 of a normal matrix; nan above 256 states.
        driven: constant input to the model -> slowest rate where it is held at that, over the directions tried; nan
            where it comes to no rest, nothing above 2048 states.
        driven_rate, driven_error: at which two states forget their difference under random input to the model of size
            1, minus the conditional Lyapunov exponent; and its standard error.
        lyapunov, lyapunov_error: the largest exponent without input where rest is no stable point; else None.
        decides: whether memory is bounded by e^{-r t} for each r below the rate, up to a constant, for all inputs, on
            what `assumes` lists; parts of one rate behind each other, or a defective matrix, add a power of t.
        assumes: what the numbers rest on.
        covers: whether all memory of the model was seen to be in its parts.
        says: all this in one sentence.

    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), models.SSM([-0.5, -2.0], np.eye(2), np.eye(2)))
    >>> [(found.part.layer, found.rate, found.radius, found.decides) for found in cmlib.certify(model, 1)]
    [('SSM', 0.5, 0.5, True)]
    """

    part: Part
    eigenvalues: Complex[np.ndarray, " n"]
    rate: float = math.nan
    gap: float = math.nan
    radius: float = math.nan
    growth: float = math.nan
    driven: dict[float, float] = field(default_factory=dict)
    driven_rate: float = math.nan
    driven_error: float = math.nan
    lyapunov: float | None = None
    lyapunov_error: float | None = None
    decides: bool = False
    assumes: tuple[str, ...] = ()
    covers: bool = False

    @property
    def time_scales(self) -> np.ndarray:
        """(n,), one over the rate of each eigenvalue, in steps or units of time; inf for one that does not decay."""
        with np.errstate(divide="ignore"):
            return np.where((rates := _rates(self.eigenvalues, self.part.kind)) > 0, 1 / rates, np.inf)

    @property
    def says(self) -> str:
        """The certificate in a sentence or two."""
        who = f"{self.part.layer} {self.part.name!r}" if self.part.name else self.part.layer
        per, units = ("unit of time", "units of time") if self.part.kind == "flow" else ("step", "steps")
        if self.decides:
            return (
                f"The state of {who} is linear, and nothing around it was seen to remember: what passes through it "
                f"fades faster than e^(-r t) for each r below {self.rate:.3g}, t in {units}."
            )
        if not len(self.eigenvalues):
            told = f"{who} comes to no rest that was found"
            told = next((f"{who} is {why}" for why in self.assumes if why.startswith(ABSENT)), told)
        elif abs(self.rate) < ROUNDING:
            told = f"{who} neither forgets nor amplifies small disturbances where it rests"
        elif self.rate > 0:
            told = f"{who}, where it rests, forgets small disturbances at the rate {self.rate:.3g} per {per}"
        else:
            told = f"{who} is not stable where it rests: small disturbances grow at the rate {-self.rate:.3g} per {per}"
        if self.lyapunov is not None and not self.part.linear:
            told += f"; left alone its largest Lyapunov exponent is {self.lyapunov:.3g} +- {self.lyapunov_error:.1g}"
        if math.isfinite(self.driven_rate) and not self.part.linear:
            does = "it forgets at the rate" if self.driven_rate > 0 else "differences grow at the rate"
            does += f" {abs(self.driven_rate):.3g} +- {self.driven_error:.1g}"
            told += f"; under random input {does if abs(self.driven_rate) > ROUNDING else 'differences stay'}"
        told += "".join(f"; all this of {why}" for why in self.assumes if why.startswith(ALONE))
        return told + "."


def certify(
    model: Any,
    d_in: Count | None = None,
    *,
    n_steps: Count = 1000,
    amplitudes: ArrayLike = (0.1, 1.0, 10.0),
    generator: Source = None,
) -> list[Certificate]:
    """Linearise each recurrent part of a model where it rests, with no input and held at constant ones.

    A part is looked at as the whole model feeds it. Rest is where its state goes, or what Newton's method finds from
    there and the state approaches. Where there is no such point, or it is unstable, two states are followed from close
    to it, and from random inputs in any case. All of it in double precision, on a copy.

    Args:
        model: (batch, time, d_in) -> (batch, time, d_out); one without recurrent parts has no certificates.
        d_in: number of input channels; None asks the model.
        n_steps: that the model is run for, >= 8; a part that rests later is told where it has come to.
        amplitudes: (n,), > 0, of the constant inputs, of both signs; none for rest alone.
        generator: of random inputs and pushes; None takes one with seed 0.

    Raises:
        ValueError: on bad counts or amplitudes, or a layer that reads backwards as well.

    Reference: wang2024inverse, Thm 3.9

    >>> gate = torch.nn.LSTM(1, 1, batch_first=True)
    >>> for weight in gate.parameters():
    ...     _ = torch.nn.init.zeros_(weight)
    >>> gate.bias_ih_l0.data[1] = 2.0  # of the forget gate, which multiplies the state by s(2) at each step
    >>> round(cmlib.certify(gate)[0].rate, 6), round(float(np.log1p(np.exp(-2.0))), 6)
    (0.126928, 0.126928)
    """
    generator, n_steps = random_source("generator", generator), count("n_steps", n_steps, at_least=8)
    heights = real_array("amplitudes", amplitudes, ndim=1)
    if not (heights > 0).all():
        raise ValueError(f"expected amplitudes > 0, got {heights}")
    if not parts(model):
        return []
    d_in = channels_of(model) if d_in is None else count("d_in", d_in)
    # the model runs as it can, in double precision if that is possible; its parts are stepped in double in any case
    seq_map = precise(model, d_in)
    running, found = _parts(seq_map), _parts(in_double(seq_map))  # which has run: some weights are computed as it does
    dtype = next((w.dtype for w in seq_map.parameters() if w.is_floating_point()), torch.float64)
    heights, held = _constant(heights, d_in)
    rests, drives = [], {}
    if any(part.step is not None or part.selective for part in found):
        rests = _watched(seq_map, running, held[:, None].expand(-1, n_steps, -1).to(dtype))
        noise = _normal(generator, ROWS, n_steps, d_in)
        drives = _seen(seq_map, running, noise.to(dtype))
    x = _normal(generator, 2, n_steps, d_in).to(dtype)
    x[1] *= 10.0
    covers = memoryless_around(seq_map, running, x)
    certificates = []
    for part in found:
        if part.spectrum is not None and not part.selective:
            bounds = covers and all(other.linear for other in found)
            certificates.append(_of_spectrum(part, heights, bounds))
        else:
            seen = [run.get(part.name) for run in rests]
            certificates.append(_of_what_it_sees(part, heights, seen, drives.get(part.name), generator))
    return [replace(one, covers=covers) for one in certificates]


def _constant(heights: np.ndarray, d_in: int) -> tuple[np.ndarray, Tensor]:
    # silence, then each amplitude along channels and along the diagonal, up and down
    along = torch.eye(d_in, dtype=torch.float64)[:CHANNELS]
    along = along if d_in == 1 else torch.cat([along, torch.ones(1, d_in, dtype=torch.float64)])
    signed = np.concatenate([-heights[::-1], [0.0], heights])
    each = np.concatenate([[a] * (len(along) if a else 1) for a in signed])
    held = [a * along if a else torch.zeros(1, d_in, dtype=torch.float64) for a in signed]
    return each, torch.cat(held)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).cpu()


def _parts(model: Any) -> list[Part]:
    return parts(model.layer if isinstance(model, BatchFirst) else model)  # the names that the caller knows


def _seen(model: nn.Module, found: list[Part], x: Tensor) -> dict[str, Seen]:
    return {
        name: Seen(seen.inputs.double(), None if seen.state is None else seen.state.double(), seen.apart)
        for name, seen in watch(model, found, x).items()
    }


def _watched(model: nn.Module, found: list[Part], x: Tensor) -> list[dict[str, Seen]]:
    """Return what parts see for each sequence of x apart."""
    together = _seen(model, found, x)
    if any(seen.rows != len(x) for seen in together.values()):
        return [_seen(model, found, one) for one in x.split(1)]  # a module that folds channels into its batch
    return [{name: _row(seen, k) for name, seen in together.items()} for k in range(len(x))]


def _row(seen: Seen, k: int) -> Seen:
    return Seen(seen.inputs[:, [k]], None if seen.state is None else seen.state[[k]], seen.apart)


def _rates(eigenvalues: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -np.log(np.abs(eigenvalues)) if kind == "steps" else -np.real(eigenvalues)


def _sorted(eigenvalues: np.ndarray, kind: str) -> tuple[np.ndarray, float, float]:
    """Return eigenvalues, slowest first, the slowest rate and the gap to the next; a conjugate pair has one rate."""
    if not len(eigenvalues):
        return eigenvalues.astype(complex), math.nan, math.nan
    rates = _rates(eigenvalues, kind)
    order = np.argsort(rates, kind="stable")
    values, rates = eigenvalues[order].astype(complex), rates[order]
    pair = 2 if len(values) > 1 and values[0].imag != 0 and values[1] == values[0].conj() else 1
    last = len(rates) <= pair or np.isinf(rates[0])
    return values, float(rates[0]) + 0.0, math.inf if last else float(rates[pair] - rates[0])  # + 0.0: no -0


# --- parts whose eigenvalues their weights fix


def _of_spectrum(part: Part, heights: np.ndarray, bounds: bool) -> Certificate:
    values, rate, gap = _sorted(part.spectrum(), part.kind)
    stays = part.linear  # whatever comes in
    declared = is_recurrent(part.module)
    assumes = ["the eigenvalues that it declares" if declared else "the eigenvalues its class is known by"]
    assumes += [] if stays else ["small signals: its step is linearised where it rests"]
    if bounds:
        assumes.append(
            "no other memory in it, and finite slopes of all around it, of which random inputs showed no memory"
        )
    elif stays:
        assumes.append("nothing of what the rest of the model remembers")
    return Certificate(
        part,
        values,
        rate,
        gap,
        radius=radius_of_weight(part.module, "complex") if declared else _radius_by_moves(part, rate),
        growth=_growth(_declared_step(part.module)) if declared else (1.0 if rate >= 0 else math.inf),
        driven=dict.fromkeys(np.unique(heights[heights != 0]).tolist(), rate) if stays else {},
        driven_rate=rate if stays else math.nan,
        driven_error=0.0 if stays else math.nan,
        lyapunov=-rate if stays and not rate > 0 else None,
        lyapunov_error=0.0 if stays and not rate > 0 else None,
        decides=bounds and rate > 0,
        assumes=tuple(assumes),
    )


def _declared_step(model: Any) -> np.ndarray:
    A = model.dt * model.linearization().detach().double().cpu().numpy()
    return linalg.expm(A) if model.discretization == "zoh" else np.eye(len(A)) + A


def _radius_by_moves(part: Part, rate: float, *inputs: Tensor) -> float:
    """Return inf where no move of the weights makes it unstable, large ones tried; else how far eigenvalues may go."""
    if not rate > 0:
        return 0.0
    moved, generator = copied(part.module), torch.Generator().manual_seed(0)
    tried = []
    for size in (1.0, 1.0, 10.0, 10.0):
        moved.load_state_dict(part.module.state_dict())
        with torch.no_grad():
            for weight in moved.parameters():
                weight.add_(size * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        tried.append(parts(moved)[0].spectrum(*inputs))
    if all((_rates(values, part.kind) >= 0).all() for values in tried):
        return math.inf
    values = part.spectrum(*inputs)
    return float(1 - np.abs(values).max() if part.kind == "steps" else -np.real(values).max())


# --- parts that have to be looked at where they are


@torch.no_grad()
def _of_what_it_sees(
    part: Part, heights: np.ndarray, seen: list[Seen | None], drive: Seen | None, generator: torch.Generator
) -> Certificate:
    rest = seen[int(np.flatnonzero(heights == 0)[0])]
    if rest is None or drive is None or not len(rest.inputs):
        missing = "the model does not call it" if rest is None else rest.apart[0]
        return Certificate(part, np.zeros(0, complex), assumes=(f"{ABSENT}: {missing}",))
    size = 0 if rest.state is None else rest.state.shape[1]
    if size > SMALL:  # where a point takes its time, inputs along the diagonal alone, which stand last
        last = [k for k, height in enumerate(heights) if k + 1 == len(heights) or heights[k + 1] != height]
        last = last if size <= MATRIX else [int(np.flatnonzero(heights == 0)[0])]
        seen, heights = [seen[k] for k in last], heights[last]
    points = _points(part, seen, (heights == 0).tolist())
    driven: dict[float, float] = {}
    for height, point in zip(heights.tolist(), points, strict=True):
        if height:
            rate = math.nan if point is None or not point.reached else point.rate
            driven[height] = float(np.minimum(driven.get(height, math.inf), rate))  # nan stays
    at = points[int(np.flatnonzero(heights == 0)[0])]
    values, rate, gap = _sorted(np.zeros(0) if at is None else at.eigenvalues, part.kind)
    assumes = ["small signals: its step is linearised where it rests"]
    assumes += [f"{ALONE}, though {why}" for why in rest.apart]
    if at is not None and not at.settled:
        goes = "towards which it still goes" if at.reached else "to which it does not come by itself"
        assumes.append(f"a rest {goes}: found by Newton's method")
    middle, last = rest.inputs[len(rest.inputs) // 2], rest.inputs[-1]
    if (middle - last).abs().max() > 1e-6 * (1 + last.abs().max()):
        assumes.append("what reached it last, which has not come to rest itself")
    exponent, error = _conditional(part, drive, generator)
    lyapunov = lyapunov_error = None
    if part.step is not None and (at is None or not at.reached or not rate > 0):
        lyapunov, lyapunov_error = _alone(part.step, rest, generator)
    J = None if at is None else at.jacobian
    if part.selective:
        radius, growth = _radius_by_moves(part, rate, rest.inputs[-1]), 1.0 if rate >= 0 else math.inf
    else:
        radius = 0.0 if not rate > 0 else math.nan
        if rate > 0 and J is not None and len(J) <= SMALL:
            radius = stability_radius(J, time="steps")
        growth = math.nan if J is None or len(J) > SMALL else _growth(J)
    return Certificate(
        part,
        values,
        rate,
        gap,
        radius,
        growth,
        driven,
        -exponent,
        error,
        lyapunov,
        lyapunov_error,
        False,
        tuple(assumes),
    )


@dataclass
class _Point:
    eigenvalues: np.ndarray
    jacobian: np.ndarray | None
    rate: float
    settled: bool  # by itself
    reached: bool  # the state is there or goes there


def _points(part: Part, seen: list[Seen | None], thorough: list[bool]) -> "list[_Point | None]":
    """Return for each run the slowest of the points where rows of a part rest, each held at the last input it saw."""
    rows = [(k, _row(one, row)) for k, one in enumerate(seen) if one for row in range(min(CHANNELS, one.rows))]
    x = torch.cat([one.inputs[-1] for _, one in rows])
    if part.step is None:
        values = part.spectrum(x)
        found = [_Point(v, None, _sorted(v, part.kind)[1], True, True) for v in values]
    else:
        s, middle, settled = _settled(part.step, torch.cat([one.state for _, one in rows]), x)
        found = []
        for i, (k, _) in enumerate(rows):
            starts = [s[i], middle[i], torch.zeros_like(s[i])] if thorough[k] else [s[i]]
            found.append(_rest(part.step, starts, x[i], bool(settled[i])))
    points: list[_Point | None] = [None] * len(seen)
    for (k, _), point in zip(rows, found, strict=True):
        before = points[k]
        if point is not None and (before is None or point.rate < before.rate):
            points[k] = point
    return points


def _settled(step: Callable, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where states (n, m) have come to, the middle of where they have been, and which of them have settled."""
    middle, settled = torch.zeros_like(s), torch.zeros(len(s), dtype=torch.bool)
    for _ in range(SETTLE):
        new = step(s, x)
        settled = (new - s).abs().amax(1) <= SETTLED * (1 + new.abs().amax(1))
        if settled.all():
            break
        s, middle = new, middle + new / SETTLE
    return s, middle, settled


def _rest(step: Callable, starts: list[Tensor], x: Tensor, settled: bool) -> "_Point | None":
    """Return the point where a state (m,) rests at a constant input (d,), stable or not; None where none is found.

    The state is at the first of the starts of the search.
    """
    s, point = starts[0], starts[0] if settled else None
    for start in starts if torch.isfinite(s).all() and not settled else ():
        point = _newton(step, start, x) if point is None else point
    if point is None:
        return None
    values, J = _spectrum(step, point, x)
    rate, reached = _sorted(values, "steps")[1], settled
    if not settled and rate > 0:
        before, now, gone = (s - point).norm(), math.inf, 0
        while gone < FOLLOWED and now > before / 2:
            s, gone = step(s[None], x[None])[0], gone + 1
            now = (s - point).norm()
        reached = bool(now < before)
    return _Point(values, J, rate, settled, reached)


def _newton(step: Callable, s: Tensor, x: Tensor) -> Tensor | None:
    off = step(s[None], x[None])[0] - s
    for _ in range(25):
        if off.abs().max() <= SETTLED * (1 + s.abs().max()):
            return s
        way, share = _solved(step, s, x, off), 1.0
        while share > 1e-4:
            tried = s + share * way
            left = step(tried[None], x[None])[0] - tried
            if left.norm() < off.norm():
                break
            share /= 2
        else:
            return None
        s, off = tried, left
    return None


def _solved(step: Callable, s: Tensor, x: Tensor, off: Tensor) -> Tensor:
    # (I - J)^-1 off
    if len(s) <= MATRIX:
        return torch.linalg.solve_ex(torch.eye(len(s), dtype=s.dtype) - _jacobian(step, s, x), off).result
    along = _tangent(step, s, x)
    operator = LinearOperator((len(s), len(s)), matvec=lambda v: v.ravel() - along(v), dtype=np.float64)
    return torch.from_numpy(gmres(operator, off.numpy())[0])


def _spectrum(step: Callable, s: Tensor, x: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    J = _jacobian(step, s, x).numpy() if len(s) <= MATRIX else None
    if J is not None and len(s) <= DENSE:
        return linalg.eigvals(J), J
    operator = LinearOperator((len(s), len(s)), matvec=_tangent(step, s, x), dtype=np.float64) if J is None else J
    start = np.random.default_rng(0).normal(size=len(s))
    return eigs(operator, k=FEW, ncv=KRYLOV, which="LM", v0=start, return_eigenvectors=False), J


def _jacobian(step: Callable, s: Tensor, x: Tensor) -> Tensor:
    # copy i of the state gives row i, so that one step and one way back give them all
    copies = s.expand(len(s), -1).clone().requires_grad_()
    with torch.enable_grad():
        diagonal = step(copies, x.expand(len(s), -1)).diagonal().sum()
        return torch.autograd.grad(diagonal, copies)[0]


def _tangent(step: Callable, s: Tensor, x: Tensor) -> Callable[[np.ndarray], np.ndarray]:
    def along(v: np.ndarray) -> np.ndarray:
        tangent = torch.from_numpy(np.asarray(v, dtype=np.float64).ravel())
        return _pushed(lambda state: step(state[None], x[None])[0], s, tangent)[1].numpy()

    return along


def _pushed(function: Callable, s: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    value, pushed = torch.autograd.functional.jvp(function, s, tangent)  # that of torch.func needs torch.jit
    return torch.as_tensor(value), torch.as_tensor(pushed)


def _growth(J: np.ndarray) -> float:
    """Return the largest norm of a power of a matrix, over powers 1, 2, 4, ...; inf where it grows for ever."""
    largest, power = 1.0, J
    for _ in range(60):
        size = linalg.norm(power, 2)
        if not np.isfinite(size) or size > 1e12:
            return math.inf
        largest = max(largest, size)
        if size < 0.5:  # of a power: those after it are no larger than the ones before
            break
        power = power @ power
    return float(largest)


# --- states followed


def _conditional(part: Part, drive: Seen, generator: torch.Generator) -> tuple[float, float]:
    """Return the largest exponent, and its standard error, of a part under the inputs that it saw."""
    skip = len(drive.inputs) // 4
    if part.step is None:
        means = np.stack([_mean_growth(part, block) for block in drive.inputs[:, :ROWS].chunk(BLOCKS)])
        return _mean(means[..., means.mean((0, 1)).argmax()])
    rows = _rows(drive.state)
    start = torch.zeros_like(drive.state[:rows])
    return _over_blocks(_followed(part.step, start, drive.inputs[:, :rows], generator)[skip:])


def _mean_growth(part: Part, inputs: Tensor) -> np.ndarray:
    # of each mode in each row; a sum, as all steps of all modes at once may fill the memory
    growth = -_rates(part.spectrum(inputs[0]), part.kind)
    for x in inputs[1:]:
        growth -= _rates(part.spectrum(x), part.kind)
    return growth / len(inputs)


def _alone(step: Callable, rest: Seen, generator: torch.Generator) -> tuple[float, float]:
    """Return the largest exponent, and its standard error, close to where a part was left, its input held."""
    rows = _rows(rest.state)
    state = rest.state[0].expand(rows, -1)
    state = state + 1e-2 * _normal(generator, *state.shape)
    held = rest.inputs[-1, 0].expand(SETTLE + FOLLOWED, rows, -1)
    return _over_blocks(_followed(step, state, held, generator)[SETTLE:])


def _rows(state: Tensor) -> int:
    return max(2, min(ROWS, NUMBERS // state.shape[1]))


def _followed(step: Callable, state: Tensor, inputs: Tensor, generator: torch.Generator) -> np.ndarray:
    """Return the logarithm of the factor by which each step stretches a tangent: (time, rows)."""
    tangent = _normal(generator, *state.shape)
    logs = []
    for x in inputs:
        unit = tangent / tangent.norm(dim=1).clamp(min=LEAST)[:, None]
        state, tangent = _pushed(lambda s, u=x: step(s, u), state, unit)
        logs.append(tangent.norm(dim=1).clamp(min=LEAST).log())
    return torch.stack(logs).detach().numpy()


def _over_blocks(logs: np.ndarray) -> tuple[float, float]:
    if len(logs) < BLOCKS:
        return math.nan, math.nan
    if logs.min() <= math.log(LEAST):  # a step after which no difference is left
        return -math.inf, 0.0
    return _mean(np.stack([block.mean(0) for block in np.array_split(logs, BLOCKS)]))


def _mean(means: np.ndarray) -> tuple[float, float]:
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(means.size))
