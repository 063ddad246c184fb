"""The ball of perturbations of one size, random directions in it, and an ascent to its worst corner."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmlib.models.recurrent import is_recurrent, radius_of_weight
from cmlib.sequence_maps import in_precision


class Ball:
    """The unit ball of directions: one tensor per perturbed weight, each of norm at most 1.

    The norm is the spectral one, or, in an "entrywise" ball, the largest entry.
    """

    def __init__(self, model: nn.Module, weights: Sequence[str] | None = None, norm: str = "spectral"):
        self.model, self.entrywise = model, norm == "entrywise"
        self.center = {name: in_precision(w.detach().cpu(), torch.float64) for name, w in model.named_parameters()}
        self.weights = tuple(self.center) if weights is None else tuple(weights)
        if not set(self.weights) <= set(self.center) or not self.weights:
            raise ValueError(f"expected weights out of {tuple(self.center)}, got {self.weights}")

    def stability_radius(self) -> float:
        """Return the beta at which the recurrent weight may become unstable; inf if never, nan if not known."""
        if not is_recurrent(self.model):
            return np.nan
        radius, name = radius_of_weight(self.model), self.model.recurrent_weight
        if radius > 0 and name not in self.weights:
            return np.inf
        # how far the entries of a matrix may move is NP-hard to find
        matrix = not self._is_diagonal(name) and self.center[name].numel() > 1
        return np.nan if self.entrywise and matrix and 0 < radius < np.inf else radius

    def reach(self) -> float:
        """Return the largest spectral norm of a direction."""
        sizes = [self.center[name].numel() for name in self.weights if self.entrywise and not self._is_diagonal(name)]
        return max(sizes, default=1) ** 0.5

    def random(self, generator: torch.Generator, n: int) -> dict[str, Tensor]:
        """Gaussian directions scaled to the sphere of each weight: (1, n, *shape)."""
        directions = {}
        for name in self.weights:
            shape = (1, n, *self.center[name].shape)
            dtype = self.center[name].dtype  # of a complex weight a complex one
            sample = torch.randn(shape, generator=generator, dtype=dtype, device=generator.device).cpu()
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
            gradient = torch.where(torch.isfinite(gradient), gradient, 0.0)
            vertex[name] = torch.where(_like(value.detach() < torch.inf, leaf), self._vertex(name, gradient), leaf)
        return value.detach(), {name: v.detach() for name, v in vertex.items()}

    def _vertex(self, name: str, gradient: Tensor) -> Tensor:
        # argmax of <gradient, direction> over the unit ball of the weight's norm
        if self.entrywise or self._is_diagonal(name):
            return torch.sgn(gradient)
        if self.center[name].ndim < 2:
            return gradient / self._size(name, gradient).clamp(min=1e-300)
        left, _, right = torch.linalg.svd(self._as_matrix(name, gradient), full_matrices=False)
        return (left @ right).reshape(gradient.shape)

    def _size(self, name: str, value: Tensor) -> Tensor:
        rank = self.center[name].ndim
        if rank == 0:
            return value.abs()
        if self.entrywise:
            return value.abs().amax(tuple(range(-rank, 0)), keepdim=True)
        if self._is_diagonal(name):
            return value.abs().amax(-1, keepdim=True)
        if rank == 1:
            return torch.linalg.vector_norm(value, dim=-1, keepdim=True)
        size = torch.linalg.matrix_norm(self._as_matrix(name, value), ord=2)
        return size.reshape(*size.shape, *(1,) * rank)

    def _is_diagonal(self, name: str) -> bool:
        recurrent = is_recurrent(self.model) and name == self.model.recurrent_weight
        return bool(recurrent and self.model.diagonal) or name in getattr(self.model, "diagonal_weights", ())

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
        if is_recurrent(self.model):
            if self.model.recurrent_weight in self.weights:
                slow, slowest = self._slower(self.model)
                columns[self.model.recurrent_weight] = [slow, slow, slowest, slowest, -slow]
            if self.model.readout_weight in self.weights:
                c = columns[self.model.readout_weight][0]
                columns[self.model.readout_weight] = [c, -c, c, -c, -c]
        return {n: torch.stack(columns[n]).expand(n_radii, 5, *self.center[n].shape) for n in self.weights}

    def _slower(self, model: Any) -> tuple[Tensor, Tensor]:
        W = self.center[model.recurrent_weight]
        if model.diagonal:
            slowest = torch.zeros_like(W)
            slowest[model.linearization().detach().diagonal().argmax()] = 1.0
            return torch.ones_like(W), slowest
        left, _, right = torch.linalg.svd(W)
        slowest = -torch.outer(left[:, -1], right[-1])
        return torch.eye(len(W), dtype=W.dtype), torch.sgn(slowest) if self.entrywise else slowest


def _like(batch: Tensor, value: Tensor) -> Tensor:
    return batch.reshape(*batch.shape, *(1,) * (value.ndim - batch.ndim))
