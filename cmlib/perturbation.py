"""Perturbation error E_m(beta), Definition 3.4 of paper B: what a push of size beta to each weight can do.

A supremum, which random directions bound from below and an ascent approaches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Number
from cmlib.distances import KernelDistance, SequenceDistance
from cmlib.kernels import Kernel, complete
from cmlib.models import LinearRNN
from cmlib.targets import LinearFunctional
from cmlib.worst_case import Ball


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
    ball = Ball(model, weights)
    radius = ball.stability_radius()
    unbounded = inputs is None and np.isinf(horizon)  # where the supremum is inf past the stability radius
    reachable = torch.as_tensor(~(radii >= radius) if unbounded else np.isfinite(radii))  # nan: not known
    if inputs is None:
        kernel, largest = complete(kernel, "target"), float(radii[reachable.numpy()].max(initial=0.0))
        distance = KernelDistance(kernel, model, norm, horizon, largest)
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
    if not isinstance(model, nn.Module) or not callable(target) or hasattr(target, "tail"):
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
