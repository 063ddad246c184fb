"""Stability: how far a recurrent weight is from instability, and what a perturbation of size beta can do.

`stability_radius` is exact linear algebra. `perturbation_error` is Definition 3.4 of paper B: a supremum, which random
directions bound from below and an ascent approaches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, optimize
from torch import Tensor

from cmlib.kernels import ArrayLike, Kernel
from cmlib.models import LinearRNN, matrix_exponential
from cmlib.parameterizations import direct
from cmlib.targets import LinearFunctional

WEIGHTS = ("W", "U", "c")
MOST_POINTS_PER_OCTAVE = 512
MOST_OCTAVES = 48


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
        errors: (n_radii,), E_m(beta), with the norm and horizon asked for; inf past `stability_radius`.
        method: "random" or "worst_case".
        stability_radius: the exact beta from which the supremum on [0, inf) is inf.
        is_lower_bound: True where errors come from sampled directions alone, or where perturbed modes may
            oscillate faster than the grid of times follows.
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
    horizon: float = np.inf,
    weights: Sequence[str] = WEIGHTS,
) -> PerturbationCurve:
    """Evaluate E_m(beta) = sup of ||H - Hhat(theta~)|| over |W~ - W|, |U~ - U|, |c~ - c| <= beta, spectral norms.

    Errors are exact kernel distances, no input is sampled; the supremum is a maximum over n_directions random ones
    ("random", a lower bound), or those and a conditional-gradient ascent from several starts ("worst_case").

    Args:
        model: a LinearRNN; a diagonal W moves within diagonals, in raw weights.
        target: a LinearFunctional or its kernel.
        radii: (n_radii,), >= 0.
        norm: "sup" = int |rho - rhohat|, or "w1", which adds the norm of the derivative d/dt (H - Hhat).
        horizon: sup over t <= horizon; a finite one never gives inf.
        weights: those that are perturbed, out of W, U, c.

    Reference: wang2024inverse, Defs 3.4 and 3.7
    """
    kernel = target.kernel if isinstance(target, LinearFunctional) else target
    if not isinstance(model, LinearRNN) or not isinstance(kernel, Kernel):
        raise ValueError(f"expected a LinearRNN and a linear functional or kernel, got {model!r}, {target!r}")
    radii = np.atleast_1d(np.asarray(radii, dtype=float))
    if radii.ndim != 1 or not np.isfinite(radii).all() or (radii < 0).any():
        raise ValueError(f"expected finite radii >= 0 of shape (n_radii,), got {radii}")
    if method not in ("random", "worst_case"):
        raise ValueError(f"expected method 'random' or 'worst_case', got {method!r}")
    if norm not in ("sup", "w1"):
        raise ValueError(f"expected norm 'sup' or 'w1', got {norm!r}")
    if not horizon > 0:
        raise ValueError(f"expected a horizon > 0, got {horizon!r}")
    if not set(weights) <= set(WEIGHTS) or not weights:
        raise ValueError(f"expected weights out of {WEIGHTS}, got {tuple(weights)}")
    if n_directions < 1:
        raise ValueError(f"expected n_directions >= 1, got {n_directions!r}")
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"expected generator, a torch.Generator, got {generator!r}")
    ball = _Ball(model, weights)
    radius = ball.stability_radius()
    largest = radii[radii < radius].max(initial=0.0) if np.isinf(horizon) else radii.max()
    distance = _KernelDistance(kernel, model, norm, horizon, float(largest))
    beta = torch.as_tensor(radii, dtype=torch.float64)
    directions = [ball.random(generator, n_directions)]
    errors = ball.errors(distance, beta, directions[0])  # (n_radii, n_directions)
    if method == "worst_case":
        ascent = ball.ascend(distance, beta, directions[0])
        errors = torch.cat([errors, ascent], 1)
    best = errors.amax(1).numpy()
    if method == "worst_case":
        # a perturbation allowed at one radius is allowed at each larger one
        order = np.argsort(radii)
        best[order] = np.maximum.accumulate(best[order])
        if np.isinf(horizon):
            best[radii >= radius] = np.inf
    return PerturbationCurve(radii, best, method, radius, method == "random" or not distance.follows)


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


def _reciprocal(curve: PerturbationCurve, beta: np.ndarray) -> np.ndarray:
    radii, inverse = curve.radii, 1 / np.maximum(curve.errors, np.finfo(float).tiny)
    if np.isinf(curve.errors).any():
        radii, inverse = np.append(radii, curve.stability_radius), np.append(inverse, 0.0)
    order = np.argsort(radii)
    return np.interp(beta, radii[order], inverse[order])


class _Ball:
    """The unit ball of directions: one tensor per perturbed weight, each of spectral norm at most 1."""

    def __init__(self, model: LinearRNN, weights: Sequence[str]):
        self.model, self.weights = model, tuple(weights)
        self.center = {name: getattr(model, name).detach().cpu().double() for name in WEIGHTS}

    def stability_radius(self) -> float:
        if torch.linalg.eigvals(self.model.recurrent().detach().cpu().double()).real.max() >= 0:
            return 0.0
        if "W" not in self.weights:
            return np.inf
        if not self.model.diagonal:
            return stability_radius(self.center["W"], field="real")
        # a map onto the negative numbers never leaves them
        return -float(self.center["W"].max()) if self.model.parameterization == direct else np.inf

    def random(self, generator: torch.Generator, n: int) -> dict[str, Tensor]:
        """Gaussian directions scaled to the sphere of each weight: (1, n, *shape)."""
        directions = {}
        for name in self.weights:
            shape = (1, n, *self.center[name].shape)
            sample = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).cpu()
            directions[name] = sample / self._size(name, sample)
        return directions

    def errors(self, distance: "_KernelDistance", beta: Tensor, directions: dict[str, Tensor]) -> Tensor:
        """(n_radii, n): the distance at center + beta direction; inf where it overflows or does not exist."""
        n = directions[self.weights[0]].shape[1]
        moved = {name: value.expand(len(beta), n, *value.shape) for name, value in self.center.items()}
        for name, direction in directions.items():
            moved[name] = moved[name] + beta.reshape(-1, 1, *(1,) * self.center[name].ndim) * direction
        W = moved["W"]
        if self.model.diagonal:
            W = torch.diag_embed(self.model.parameterization(W))
        return distance(W, moved["U"], moved["c"])

    def ascend(
        self, distance: "_KernelDistance", beta: Tensor, sampled: dict[str, Tensor], n_iterations: int = 40
    ) -> Tensor:
        """(n_radii, n_starts): conditional gradient, each step towards the best vertex, halved where it fails."""
        reachable = beta < self.stability_radius() if np.isinf(distance.horizon) else torch.isfinite(beta)
        starts = self._starts(len(beta))
        best = self.errors(distance, beta, sampled).argmax(1)
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
        self, distance: "_KernelDistance", beta: Tensor, directions: dict[str, Tensor]
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
        if name == "W" and self.model.diagonal:
            return torch.sign(gradient)
        if name == "W":
            left, _, right = torch.linalg.svd(gradient)
            return left @ right
        return gradient / torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).clamp(min=1e-300)

    def _size(self, name: str, value: Tensor) -> Tensor:
        if name == "W" and self.model.diagonal:
            return value.abs().amax(-1, keepdim=True)
        if name == "W":
            return torch.linalg.matrix_norm(value, ord=2, keepdim=True)
        return torch.linalg.vector_norm(value, dim=-1, keepdim=True)

    def _starts(self, n_radii: int) -> dict[str, Tensor]:
        # slow every mode, slow the least stable one, speed every mode up; readout grown, shrunk
        W = self.center["W"]
        if self.model.diagonal:
            slow = torch.ones_like(W)
            slowest = torch.zeros_like(W)
            slowest[W.argmax()] = 1.0
        else:
            slow = torch.eye(len(W), dtype=W.dtype)
            left, _, right = torch.linalg.svd(W)
            slowest = -torch.outer(left[:, -1], right[-1])
        U = self.center["U"] / self.center["U"].norm().clamp(min=1e-300)
        c = self.center["c"] / self.center["c"].norm().clamp(min=1e-300)
        columns = {
            "W": [slow, slow, slowest, slowest, -slow],
            "U": [U, U, U, U, -U],
            "c": [c, -c, c, -c, -c],
        }
        return {n: torch.stack(columns[n]).expand(n_radii, 5, *self.center[n].shape) for n in self.weights}


def _like(batch: Tensor, value: Tensor) -> Tensor:
    return batch.reshape(*batch.shape, *(1,) * (value.ndim - batch.ndim))


class _KernelDistance:
    """Norms of rho - c^T e^{Wt} U over a batch of (W, U, c), from exact antiderivatives on a graded grid.

    The grid has as many points in every octave of time, so that e^{Wt} U follows by doubling: 32, or enough to follow
    an oscillating network until it has decayed. The error is in where the difference changes sign, of fourth order
    in the step, and in pairs of sign changes between two points or across a jump of rho.
    """

    def __init__(self, kernel: Kernel, model: LinearRNN, norm: str, horizon: float, beta: float):
        W = model.recurrent().detach().cpu().double()
        rates = -torch.linalg.eigvals(W).real
        self.norm, self.horizon = norm, horizon
        slowest = float(rates.min())
        end = horizon if np.isfinite(horizon) else 1e4 / slowest if slowest > 0 else 1.0
        self.mass = float(kernel.tail(0.0))
        fastest = max(float(W.norm()), abs(float(kernel(0.0))) / kernel.l1_norm())
        self.octaves = int(np.clip(np.ceil(np.log2(max(end * 4 * fastest, 1.0))), 10, MOST_OCTAVES))
        first = end / 2**self.octaves
        # modes perturbed by beta turn faster by at most beta: an eighth of a turn a step, until e^{-16} is left
        frequency = float(torch.linalg.eigvals(W).imag.abs().max())
        lasts = min(16.0 / (slowest - beta), end) if slowest > beta else end
        needed = (frequency + beta) * lasts * 4 / np.pi if frequency > 0 else 0.0
        self.follows = needed <= MOST_POINTS_PER_OCTAVE
        self.doublings = int(np.ceil(np.log2(np.clip(needed, 32, MOST_POINTS_PER_OCTAVE))))
        self.points = 2**self.doublings
        panels = [np.arange(self.points) / self.points * first]
        panels += [first * 2**j * (1 + np.arange(self.points) / self.points) for j in range(self.octaves)]
        t = torch.as_tensor(np.append(np.concatenate(panels), end))
        self.step = first / self.points
        self.dt = torch.diff(t)
        # the kernel, its integral from 0 to t, and (for w1) its derivative
        t.requires_grad_(norm == "w1")
        self.rho = kernel(t)
        self.slope = torch.autograd.grad(self.rho.sum(), t)[0] if norm == "w1" else None
        self.rho, t = self.rho.detach(), t.detach()
        self.integral = self.mass - torch.as_tensor(kernel.tail(t.numpy()))

    def __call__(self, W: Tensor, U: Tensor, c: Tensor) -> Tensor:
        state, integral = self._states(W, U)  # (..., m, time)
        rho = (c[..., None, :] @ state)[..., 0, :]
        difference = self.rho - rho
        gap = self.integral - (c[..., None, :] @ integral)[..., 0, :]
        error = self._variation(gap, difference)
        if self.norm == "w1":
            slope = self.slope - (c[..., None, :] @ (W @ state))[..., 0, :]
            error = error + difference[..., 0].abs() + self._variation(difference, slope)
        if np.isinf(self.horizon):
            total = self.mass + (c * torch.linalg.solve_ex(W, U).result).sum(-1)  # inf where W is singular
            error = error + (total - gap[..., -1]).abs()
            if self.norm == "w1":
                error = error + difference[..., -1].abs()
            unstable = torch.linalg.eigvals(W.detach()).real.amax(-1) >= 0
            error = torch.where(unstable, torch.inf, error)
        return torch.where(torch.isfinite(error), error, torch.inf)

    def _states(self, W: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
        # columns e^{Wt} U and its integral from 0, both from powers of the exponential of [[W, U], [0, 0]]
        m = W.shape[-1]
        block = torch.cat([torch.cat([W, U[..., None]], -1), W.new_zeros(*W.shape[:-2], 1, m + 1)], -2)
        last = torch.zeros_like(block[..., 0])
        last[..., m] = 1.0
        start = torch.stack([torch.cat([U, torch.zeros_like(U[..., :1])], -1), last], -1)
        powers = [matrix_exponential(self.step * block)]
        doublings = self.doublings
        for _ in range(doublings + self.octaves):
            powers.append(powers[-1] @ powers[-1])
        panels = []
        for j in range(-1, self.octaves):
            first = max(j, 0)
            states = start if j < 0 else powers[doublings + j] @ start
            states = states[..., None, :]  # (..., m + 1, time, 2)
            for k in range(doublings):
                flat = powers[first + k] @ states.flatten(-2)
                states = torch.cat([states, flat.unflatten(-1, states.shape[-2:])], -2)
            panels.append(states)
        panels.append((powers[doublings + self.octaves] @ start)[..., None, :])
        states = torch.cat(panels, -2)
        return states[..., :m, :, 0], states[..., :m, :, 1]

    def _variation(self, values: Tensor, slopes: Tensor) -> Tensor:
        # int |slopes|, where values' = slopes: |differences| of values between the sign changes of slopes
        left, right, a, b = values[..., :-1], values[..., 1:], slopes[..., :-1], slopes[..., 1:]
        crosses = a * b < 0
        x = torch.where(crosses, a / torch.where(crosses, a - b, 1.0), 0.5).detach()
        hermite = (
            (1 + 2 * x) * (1 - x) ** 2 * left
            + x * (1 - x) ** 2 * self.dt * a
            + x**2 * (3 - 2 * x) * right
            - x**2 * (1 - x) * self.dt * b
        )
        split = (hermite - left).abs() + (right - hermite).abs()
        return torch.where(crosses, split, (right - left).abs()).sum(-1)
