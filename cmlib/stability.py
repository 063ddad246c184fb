"""Stability: how far a recurrent weight is from instability, and what a perturbation of size beta can do.

`stability_radius` is exact linear algebra. `perturbation_error` is Definition 3.4 of paper B: a supremum, which random
directions bound from below and an ascent approaches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, optimize
from torch import Tensor, nn

from cmlib.distances import KernelDistance, SequenceDistance
from cmlib.kernels import ArrayLike, Kernel, Number
from cmlib.models import RNN, SSM, LinearRNN
from cmlib.parameterizations import STABLE, direct
from cmlib.targets import LinearFunctional


def stability_radius(W: ArrayLike, field: str = "complex") -> float:
    """Return the distance, in the spectral norm, from W to the nearest matrix that is not Hurwitz.

    complex: min_w s_min(iw I - W). real: min_w max_{0 < g <= 1} of the second smallest singular value of
    [[W, g w I], [-w I / g, W]], searched on a grid of w and refined; exact at w = 0.

    Args:
        W: (m, m), a real matrix.
        field: "complex" or "real" perturbations.

    Reference: boyd1990regularity (complex); qiu1995formula (real)
    """
    W = W.detach().cpu().numpy() if isinstance(W, Tensor) else np.asarray(W)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not W.size:
        raise ValueError(f"expected a square matrix, got shape {W.shape}")
    if np.iscomplexobj(W) or not np.isfinite(W).all():
        raise ValueError("expected a real matrix of finite numbers, got complex, NaN or infinite entries")
    W = W.astype(float)
    if field not in ("complex", "real"):
        raise ValueError(f"expected field 'complex' or 'real', got {field!r}")
    if linalg.eigvals(W).real.max() >= 0:
        return 0.0
    return _complex_radius(W) if field == "complex" else _real_radius(W)


def _complex_radius(W: np.ndarray) -> float:
    identity = np.eye(len(W))

    def smallest(frequency: float) -> float:
        return linalg.svdvals(1j * frequency * identity - W)[-1]

    frequencies = np.append(0.0, np.abs(linalg.eigvals(W).imag))
    radius = min(map(smallest, frequencies))
    while True:
        # iw is an eigenvalue of this Hamiltonian exactly where iw I - W has the singular value `level`
        level = radius * (1 - 1e-10)
        values = linalg.eigvals(np.block([[W, -level * identity], [level * identity, -W.T]]))
        on_axis = np.abs(values.real) < 1e-9 * np.abs(values).max()
        crossings = np.sort(values.imag[on_axis])
        if len(crossings) < 2:
            return float(radius)
        lower = min(map(smallest, (crossings[1:] + crossings[:-1]) / 2))
        if lower >= level:
            return float(min(radius, lower))
        radius = lower


def _real_radius(W: np.ndarray) -> float:
    identity = np.eye(len(W))

    def distance(frequency: float) -> float:
        # the second smallest singular value is unimodal in g, so a bounded search over log g finds its maximum
        def second_smallest(log_g: float) -> float:
            g = np.exp(log_g)
            block = np.block([[W, g * frequency * identity], [-frequency / g * identity, W]])
            return -linalg.svdvals(block)[-2]

        return -optimize.minimize_scalar(
            second_smallest, bounds=(-25.0, 0.0), method="bounded", options={"xatol": 1e-10}
        ).fun

    at_zero = linalg.svdvals(W)[-1]
    top = linalg.svdvals(W)[0] + at_zero  # no perturbation below at_zero moves an eigenvalue past this height
    resonances = np.abs(linalg.eigvals(W).imag)
    grid = np.unique(np.concatenate([np.geomspace(1e-6 * top, top, 60), resonances[resonances > 0]]))
    values = np.array([distance(w) for w in grid])
    radius = min(at_zero, values.min())
    padded = np.concatenate([[np.inf], values, [np.inf]])
    for i in np.flatnonzero((values <= padded[:-2]) & (values <= padded[2:]) & (values < 2 * radius)):
        bounds = (grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)])
        refined = optimize.minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-12})
        radius = min(radius, refined.fun)
    return float(radius)


@dataclass(frozen=True)
class PerturbationCurve:
    """E_m(beta) of one model at several radii.

    Args:
        radii: (n_radii,), beta: radius of the ball around each weight, spectral norms.
        errors: (n_radii,), E_m(beta), with the norm and horizon asked for; for a linear model inf past
            `stability_radius`.
        method: "random" or "worst_case".
        stability_radius: of the recurrent weight, nan where there is none. For a linear model it is the exact beta from
            which the supremum on [0, inf) is inf, for a nonlinear one that of its linearisation at rest; inf for a
            stable parameterization, nan for one that is not known.
        is_lower_bound: True where errors come from sampled directions alone or from given inputs, or where perturbed
            modes may oscillate faster than the grid of times follows.
    """

    radii: Float[np.ndarray, " n_radii"]
    errors: Float[np.ndarray, " n_radii"]
    method: str
    stability_radius: float
    is_lower_bound: bool


def perturbation_error(
    model: Any,
    target: Any,
    radii: ArrayLike,
    *,
    method: str = "random",
    n_directions: int = 10,
    generator: Any = None,
    norm: str = "sup",
    horizon: Number = np.inf,
    weights: Sequence[str] | None = None,
    inputs: Tensor | None = None,
) -> PerturbationCurve:
    """Evaluate E_m(beta) = sup of ||H - Hhat(theta~)|| over |W~ - W|, |U~ - U|, … <= beta, spectral norms.

    Of a linear model and a kernel errors are exact, over all inputs; of any other over `inputs`. The supremum is a
    maximum over n_directions random ones ("random"), or those and a conditional-gradient ascent ("worst_case").

    Args:
        model: a LinearRNN or any nn.Module; a diagonal W moves within diagonals, in raw weights.
        target: a LinearFunctional or its kernel; with `inputs` any sequence map.
        radii: (n_radii,), >= 0.
        norm: "sup" = sup_t sup_x |H - Hhat| / |x|, or "w1", which adds that of the derivative d/dt (H - Hhat).
        horizon: sup over t <= horizon; a finite one never gives inf. Without `inputs` only.
        weights: names of those that are perturbed; None takes all.
        inputs: (batch, time, d_in), no sequence of them 0.

    Reference: wang2024inverse, Defs 3.4 and 3.7
    """
    radii = np.atleast_1d(np.asarray(radii, dtype=float))
    if radii.ndim != 1 or not np.isfinite(radii).all() or (radii < 0).any():
        raise ValueError(f"expected finite radii >= 0 of shape (n_radii,), got {radii}")
    if method not in ("random", "worst_case"):
        raise ValueError(f"expected method 'random' or 'worst_case', got {method!r}")
    if norm not in ("sup", "w1"):
        raise ValueError(f"expected norm 'sup' or 'w1', got {norm!r}")
    if not horizon > 0:
        raise ValueError(f"expected a horizon > 0, got {horizon!r}")
    if n_directions < 1:
        raise ValueError(f"expected n_directions >= 1, got {n_directions!r}")
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"expected generator, a torch.Generator, got {generator!r}")
    kernel = target.kernel if isinstance(target, LinearFunctional) else target
    if inputs is None and not (isinstance(model, LinearRNN) and isinstance(kernel, Kernel)):
        expected = "expected inputs, or a LinearRNN and a linear functional or kernel"
        raise ValueError(f"{expected}, got {model!r}, {target!r}")
    if inputs is not None:
        _check_inputs(model, target, inputs, horizon)
    ball = _Ball(model, weights)
    radius = ball.stability_radius()
    unbounded = inputs is None and np.isinf(horizon)  # where the supremum is inf past the stability radius
    reachable = torch.as_tensor(~(radii >= radius) if unbounded else np.isfinite(radii))  # nan: not known
    if inputs is None:
        distance = KernelDistance(kernel, model, norm, horizon, float(radii[reachable.numpy()].max(initial=0.0)))
    else:
        distance = SequenceDistance(model, target, inputs, norm)
    beta = torch.as_tensor(radii, dtype=torch.float64)
    directions = ball.random(generator, n_directions)
    errors = ball.errors(distance, beta, directions)  # (n_radii, n_directions)
    if method == "worst_case":
        errors = torch.cat([errors, ball.ascend(distance, beta, reachable, directions, errors.argmax(1))], 1)
    best = errors.amax(1).numpy()
    if method == "worst_case":
        # a perturbation allowed at one radius is allowed at each larger one
        order = np.argsort(radii)
        best[order] = np.maximum.accumulate(best[order])
        if unbounded:
            best[radii >= radius] = np.inf
    exact = inputs is None and method == "worst_case" and distance.follows
    return PerturbationCurve(radii, best, method, radius, not exact)


def _check_inputs(model: Any, target: Any, inputs: Any, horizon: float) -> None:
    if not isinstance(model, nn.Module) or not callable(target) or isinstance(target, Kernel):
        raise ValueError(f"expected an nn.Module and a sequence map where inputs are given, got {model!r}, {target!r}")
    if not isinstance(inputs, Tensor) or inputs.ndim != 3 or not torch.isfinite(inputs).all():
        raise ValueError("expected finite inputs of shape (batch, time, d_in)")
    if not inputs.numel() or (inputs.abs().amax((1, 2)) == 0).any():
        raise ValueError("expected inputs of which no sequence is 0")
    if np.isfinite(horizon):
        raise ValueError("expected no horizon where inputs are given: their length is one")


def crossing(curve: PerturbationCurve, wider: PerturbationCurve) -> float:
    """Return the smallest beta at which the wider model's E_m(beta) overtakes the narrower one's; inf if never.

    1/E is interpolated linearly in beta, which is exact for the pole at `stability_radius` where E is inf.

    Args:
        curve: perturbation curve of the narrower model.
        wider: perturbation curve of the wider model, with a smaller error at its first radius.

    Reference: wang2024inverse, Fig. 1b
    """
    first, last = max(min(curve.radii), min(wider.radii)), min(max(curve.radii), max(wider.radii))
    beta = np.concatenate([curve.radii, wider.radii, [curve.stability_radius, wider.stability_radius]])
    beta = np.unique(beta[(first <= beta) & (beta <= last)])
    gap = _reciprocal(wider, beta) - _reciprocal(curve, beta)
    if gap[0] <= 0:
        raise ValueError(f"expected the wider model to start below the narrower one, at beta = {beta[0]:g}")
    behind = np.flatnonzero(gap < 0)
    if not len(behind):
        return np.inf
    i = behind[0]
    return float(beta[i - 1] + (beta[i] - beta[i - 1]) * gap[i - 1] / (gap[i - 1] - gap[i]))


def stable_perturbation_radius(curve: PerturbationCurve, level: Number | None = None) -> float:
    """Return the largest beta up to which E_m stays at or below a level; inf if it never leaves it.

    A family is beta_0-stable where, for every level and m large, this does not fall below beta_0; where it tends to 0
    with m, nothing is stable. Between radii 1/E is linear in beta, as in `crossing`.

    Args:
        curve: of one model.
        level: > 0; None takes twice the error at the smallest radius.

    Reference: wang2024inverse, Def. 3.5
    """
    order = np.argsort(curve.radii)
    radii, errors = curve.radii[order], np.maximum.accumulate(curve.errors[order])
    level = 2 * errors[0] if level is None else level
    if not 0 < level < np.inf:
        raise ValueError(f"expected a finite level > 0, got {level!r}")
    growing = PerturbationCurve(radii, errors, curve.method, curve.stability_radius, curve.is_lower_bound)
    beta = np.unique(np.append(radii, np.clip(curve.stability_radius, radii[0], radii[-1])))
    gap = _reciprocal(growing, beta) - 1 / level
    beyond = np.flatnonzero(gap < 0)
    if not len(beyond):
        return np.inf
    i = beyond[0]
    return float(beta[i - 1] + (beta[i] - beta[i - 1]) * gap[i - 1] / (gap[i - 1] - gap[i])) if i else 0.0


def _reciprocal(curve: PerturbationCurve, beta: np.ndarray) -> np.ndarray:
    radii, inverse = curve.radii, 1 / np.maximum(curve.errors, np.finfo(float).tiny)
    beyond = curve.errors[radii >= curve.stability_radius]
    if np.isinf(beyond).any() and not np.isfinite(beyond).any():  # the pole; on a window errors go on past it
        radii, inverse = np.append(radii, curve.stability_radius), np.append(inverse, 0.0)
    order = np.argsort(radii)
    return np.interp(beta, radii[order], inverse[order])


class _Ball:
    """The unit ball of directions: one tensor per perturbed weight, each of spectral norm at most 1."""

    def __init__(self, model: nn.Module, weights: Sequence[str] | None = None):
        self.model = model
        self.center = {name: w.detach().cpu().double() for name, w in model.named_parameters()}
        self.weights = tuple(self.center) if weights is None else tuple(weights)
        if not set(self.weights) <= set(self.center) or not self.weights:
            raise ValueError(f"expected weights out of {tuple(self.center)}, got {self.weights}")

    def stability_radius(self) -> float:
        if not isinstance(self.model, LinearRNN | RNN | SSM):
            return np.nan
        if torch.linalg.eigvals(self.model.recurrent().detach().cpu().double()).real.max() >= 0:
            return 0.0
        # a stable map never leaves the stable matrices
        if "W" not in self.weights or isinstance(self.model.parameterization, STABLE):
            return np.inf
        if self.model.parameterization != direct:
            return np.nan
        return -float(self.center["W"].max()) if self.model.diagonal else stability_radius(self.center["W"], "real")

    def random(self, generator: torch.Generator, n: int) -> dict[str, Tensor]:
        """Gaussian directions scaled to the sphere of each weight: (1, n, *shape)."""
        directions = {}
        for name in self.weights:
            shape = (1, n, *self.center[name].shape)
            sample = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).cpu()
            directions[name] = sample / self._size(name, sample)
        return directions

    def errors(self, distance: Callable, beta: Tensor, directions: dict[str, Tensor]) -> Tensor:
        """(n_radii, n): the distance at center + beta direction; inf where it overflows or does not exist."""
        n = directions[self.weights[0]].shape[1]
        moved = {name: value.expand(len(beta), n, *value.shape) for name, value in self.center.items()}
        for name, direction in directions.items():
            moved[name] = moved[name] + beta.reshape(-1, 1, *(1,) * self.center[name].ndim) * direction
        return distance(moved)

    def ascend(
        self,
        distance: Callable,
        beta: Tensor,
        reachable: Tensor,
        sampled: dict[str, Tensor],
        best: Tensor,
        n_iterations: int = 40,
    ) -> Tensor:
        """(n_radii, n_starts): conditional gradient, each step towards the best vertex, halved where it fails."""
        starts = self._starts(len(beta))
        for name in self.weights:
            starts[name] = torch.cat([starts[name], sampled[name][0, best][:, None]], 1)
        found = torch.full((len(beta), starts[self.weights[0]].shape[1]), -torch.inf, dtype=torch.float64)
        if not reachable.any():
            return found
        beta = beta[reachable]
        here = {name: start[reachable] for name, start in starts.items()}
        value, vertex = self._value_and_vertex(distance, beta, here)
        step, idle = torch.ones_like(value), 0
        for _ in range(n_iterations):
            trial = {n: here[n] + _like(step, here[n]) * (vertex[n] - here[n]) for n in self.weights}
            trial_value, trial_vertex = self._value_and_vertex(distance, beta, trial)
            better = trial_value > value
            idle = 0 if (trial_value > value * (1 + 1e-7)).any() else idle + 1
            value = torch.where(better, trial_value, value)
            step = torch.where(better, (2 * step).clamp(max=1), step / 2)
            for n in self.weights:
                here[n] = torch.where(_like(better, here[n]), trial[n], here[n])
                vertex[n] = torch.where(_like(better, here[n]), trial_vertex[n], vertex[n])
            if idle == 4:  # steps have been halved that often, and nothing came of it
                break
        found[reachable] = value
        return found

    def _value_and_vertex(
        self, distance: Callable, beta: Tensor, directions: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        leaves = {name: value.detach().requires_grad_() for name, value in directions.items()}
        value = self.errors(distance, beta, leaves)
        finite = torch.where(torch.isfinite(value), value, 0.0).sum()
        gradients = torch.autograd.grad(finite, list(leaves.values()), allow_unused=True)
        vertex = {}
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            gradient = torch.zeros_like(leaf) if gradient is None else gradient
            gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
            vertex[name] = torch.where(_like(value.detach() < torch.inf, leaf), self._vertex(name, gradient), leaf)
        return value.detach(), {name: v.detach() for name, v in vertex.items()}

    def _vertex(self, name: str, gradient: Tensor) -> Tensor:
        # argmax of <gradient, direction> over the unit ball of the weight's norm
        if self._is_diagonal(name):
            return torch.sign(gradient)
        if self.center[name].ndim < 2:
            return gradient / self._size(name, gradient).clamp(min=1e-300)
        left, _, right = torch.linalg.svd(self._as_matrix(name, gradient), full_matrices=False)
        return (left @ right).reshape(gradient.shape)

    def _size(self, name: str, value: Tensor) -> Tensor:
        if self._is_diagonal(name):
            return value.abs().amax(-1, keepdim=True)
        rank = self.center[name].ndim
        if rank == 0:
            return value.abs()
        if rank == 1:
            return torch.linalg.vector_norm(value, dim=-1, keepdim=True)
        size = torch.linalg.matrix_norm(self._as_matrix(name, value), ord=2)
        return size.reshape(*size.shape, *(1,) * rank)

    def _is_diagonal(self, name: str) -> bool:
        return name == "W" and getattr(self.model, "diagonal", False)

    def _as_matrix(self, name: str, value: Tensor) -> Tensor:
        # a tensor of more than two dimensions, such as a convolution's, counts as the matrix of its first one
        return value.flatten(1 - self.center[name].ndim) if self.center[name].ndim > 2 else value

    def _starts(self, n_radii: int) -> dict[str, Tensor]:
        # slow every mode, slow the least stable one, speed every mode up; the other weights grown, the readout shrunk
        columns = {}
        for name in self.weights:
            weight = self.center[name]
            along = weight / self._size(name, weight).clamp(min=1e-300)
            columns[name] = [along, along, along, along, -along]
        if isinstance(self.model, LinearRNN | RNN | SSM):
            if "W" in self.weights:
                slow, slowest = self._slower()
                columns["W"] = [slow, slow, slowest, slowest, -slow]
            if "c" in self.weights:
                c = columns["c"][0]
                columns["c"] = [c, -c, c, -c, -c]
        return {n: torch.stack(columns[n]).expand(n_radii, 5, *self.center[n].shape) for n in self.weights}

    def _slower(self) -> tuple[Tensor, Tensor]:
        W = self.center["W"]
        if self.model.diagonal:
            slowest = torch.zeros_like(W)
            slowest[self.model.parameterization(W).argmax()] = 1.0
            return torch.ones_like(W), slowest
        left, _, right = torch.linalg.svd(W)
        return torch.eye(len(W), dtype=W.dtype), -torch.outer(left[:, -1], right[-1])


def _like(batch: Tensor, value: Tensor) -> Tensor:
    return batch.reshape(*batch.shape, *(1,) * (value.ndim - batch.ndim))
