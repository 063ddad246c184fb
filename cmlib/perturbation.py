"""Perturbation error E_m(beta), Definition 3.4 of paper B: what a push of size beta to each weight can do.

A supremum, which random directions bound from below and an ascent approaches.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import (
    ArrayLike,
    Count,
    Number,
    Source,
    count,
    one_of,
    positive,
    random_source,
    real_array,
    span,
    stored,
)
from cmlib.distances import KernelDistance, SequenceDistance
from cmlib.kernels import complete
from cmlib.worst_case import Ball

if TYPE_CHECKING:
    Curve: TypeAlias = "PerturbationCurve"
    Radius: TypeAlias = Number | Callable[[], float]
else:
    Curve = Radius = Any
METHODS = ("random", "worst_case")


@dataclass(frozen=True, init=False)
class PerturbationCurve:
    """E_m(beta) of one model at several radii.

    Args:
        radii: (n_radii,), beta: radius of the ball around each weight.
        errors: (n_radii,), E_m(beta), with the norm and horizon asked for; for a linear model inf past
            `stability_radius`.
        method: "random" or "worst_case".
        stability_radius: of the raw recurrent weight, computed when it is first asked for; nan where there is none. For
            a linear model it is the exact beta from which the supremum on [0, inf) is inf, for a nonlinear one that of
            its linearisation at rest; inf for a stable parameterization, nan where it is not known.
        is_lower_bound: True where errors come from sampled directions alone or from given inputs, or where perturbed
            modes may oscillate faster than the grid of times follows.

    Raises:
        ValueError: unless there is an error for each radius, all of them >= 0 and the radii finite.

    Reference: wang2024inverse, Def. 3.4

    >>> model, options = models.LinearRNN([-0.5], [1.0], [1.0]), {"method": "worst_case", "weights": ["W"]}
    >>> curve = cmlib.perturbation_error(model, kernels.Exponential(0.5), [0.1, 0.6], **options)
    >>> curve.errors.round(3).tolist(), curve.stability_radius, curve.is_lower_bound
    ([0.5, inf], 0.5, False)
    """

    radii: Float[np.ndarray, " n_radii"]
    errors: Float[np.ndarray, " n_radii"]
    method: str
    is_lower_bound: bool
    _radius: Callable[[], float] = field(repr=False, compare=False)

    def __init__(
        self,
        radii: ArrayLike,
        errors: ArrayLike,
        method: str,
        stability_radius: Radius,
        is_lower_bound: bool,
    ):
        radii, errors = _radii(radii), real_array("errors", errors, ndim=1, finite=False)
        if radii.shape != errors.shape or not (errors >= 0).all():
            raise ValueError(f"expected errors >= 0, one for each of {len(radii)} radii, got {errors}")
        one_of("method", method, METHODS)
        stored(self, radii=radii, errors=errors, method=method, is_lower_bound=is_lower_bound)
        if callable(stability_radius):
            stored(self, _radius=functools.cache(stability_radius))
        else:
            known = real_array("stability_radius", stability_radius, ndim=0, finite=False)
            stored(self, _radius=functools.partial(float, known))

    @property
    def stability_radius(self) -> float:
        """Distance of the raw recurrent weight from instability, in the norm of the ball."""
        # of a large dense weight it takes longer than all the errors, and not everybody asks
        return self._radius()


def perturbation_error(
    model: Any,
    target: Any,
    radii: ArrayLike,
    *,
    method: str = "random",
    n_directions: Count = 10,
    generator: Source = None,
    norm: str = "sup",
    horizon: Number = np.inf,
    weights: Sequence[str] | None = None,
    inputs: Tensor | None = None,
    dt: Number | None = None,
    ball: str = "spectral",
) -> PerturbationCurve:
    """Evaluate E_m(beta) = sup of ||H - Hhat(theta~)|| over |W~ - W|, |U~ - U|, … <= beta, spectral norms.

    Of a linear model and a kernel errors are exact, over all inputs; of any other over `inputs`. The supremum is a
    maximum over n_directions random ones ("random"), or those and a conditional-gradient ascent ("worst_case").

    Args:
        model: any nn.Module; a declared diagonal moves within diagonals, in raw weights: that of
            a recurrent model, and in any other the vectors named in its `diagonal_weights`. Without `inputs` one that
            declares its `realization`, as LinearRNN does.
        target: a LinearFunctional or its kernel; with `inputs` any sequence map.
        radii: (n_radii,), >= 0.
        method: "random" or "worst_case".
        n_directions: of each weight, drawn once for all radii, >= 1.
        generator: of the directions; None takes one with seed 0.
        norm: "sup" = sup_t sup_x |H - Hhat| / |x|; "w1", which adds that of the derivative d/dt (H - Hhat); or, with
            `inputs`, "mse", the mean of |H - Hhat|^2 over sequences, times and channels.
        horizon: sup over t <= horizon; a finite one never gives inf. Without `inputs` only.
        weights: names of those that are perturbed; None takes all.
        inputs: (batch, time, d_in), no sequence of them 0.
        dt: time per step, for "w1" over `inputs`; None takes that of a recurrent model, or 1.
        ball: "spectral", or "entrywise", where every entry of every weight moves by at most beta, and random directions
            are Gaussian ones whose largest entry is 1, as in public code; a dense weight then has no known
            `stability_radius`.

    Raises:
        ValueError: on bad radii, names or inputs, or a model without a realization where there are no inputs.

    Reference: wang2024inverse, Defs 3.4 and 3.7

    >>> model = models.LinearRNN([-0.5], [1.0], [1.0])
    >>> curve = cmlib.perturbation_error(model, kernels.Exponential(0.5), [0.0, 0.1], method="worst_case")
    >>> curve.errors.round(3).tolist()  # (1 + beta)^2 / (1/2 - beta) - 2
    [0.0, 1.025]
    >>> options = {"method": "worst_case", "ball": "entrywise", "norm": "mse", "weights": ["c"]}
    >>> curve = cmlib.perturbation_error(model, model, [0.0, 0.1], inputs=inputs.impulse(2), **options)
    >>> curve.errors.round(4).tolist()  # beta^2 (h_1^2 + h_2^2) / 2
    [0.0, 0.0042]
    """
    radii = _radii(radii)
    one_of("method", method, METHODS)
    one_of("norm", norm, ("sup", "w1", "mse"))
    one_of("ball", ball, ("spectral", "entrywise"))
    horizon, n_directions = span("horizon", horizon), count("n_directions", n_directions)
    generator = random_source("generator", generator)
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected model to be an nn.Module, got {model!r}")
    if inputs is None and not hasattr(model, "realization"):
        raise ValueError(f"expected inputs, or a model that declares its realization, got {type(model).__name__}")
    if inputs is None and norm == "mse":
        raise ValueError("expected inputs for the norm 'mse', a mean over them")
    if inputs is not None:
        _check_inputs(target, inputs, horizon)
    around = Ball(model, weights, ball)
    unbounded = inputs is None and np.isinf(horizon)  # where the supremum is inf past the stability radius
    radius = around.stability_radius() if unbounded else functools.cache(around.stability_radius)
    reachable = torch.as_tensor(~(radii >= radius) if unbounded else np.isfinite(radii))  # nan: not known
    if inputs is None:
        # a functional, or the kernel itself; a shifted kernel has a kernel too
        own = target if hasattr(target, "tail") or not hasattr(target, "kernel") else target.kernel
        kernel, largest = complete(own, "target"), float(radii[reachable.numpy()].max(initial=0.0))
        distance = KernelDistance(kernel, model, norm, horizon, around.reach() * largest)
    else:
        distance = SequenceDistance(model, target, inputs, norm, dt)
    beta = torch.as_tensor(radii, dtype=torch.float64)
    directions = around.random(generator, n_directions)
    errors = around.errors(distance, beta, directions)  # (n_radii, n_directions)
    if method == "worst_case":
        errors = torch.cat([errors, around.ascend(distance, beta, reachable, directions, errors.argmax(1))], 1)
    best = errors.amax(1).detach().numpy()
    if method == "worst_case":
        # a perturbation allowed at one radius is allowed at each larger one
        order = np.argsort(radii)
        best[order] = np.maximum.accumulate(best[order])
        if unbounded:
            best[radii >= radius] = np.inf
    exact = method == "worst_case" and distance.follows
    return PerturbationCurve(radii, best, method, radius, not exact)


def _radii(value: ArrayLike) -> np.ndarray:
    radii = np.atleast_1d(real_array("radii", value))
    if radii.ndim != 1 or not radii.size or (radii < 0).any():
        raise ValueError(f"expected finite radii >= 0 of shape (n_radii,), got {radii}")
    return radii


def _check_inputs(target: Any, inputs: Any, horizon: float) -> None:
    if not callable(target) or hasattr(target, "tail"):
        raise ValueError(
            f"expected a target that maps sequences, and no kernel, where inputs are given, got {target!r}"
        )
    if not isinstance(inputs, Tensor) or inputs.ndim != 3 or not torch.isfinite(inputs).all():
        raise ValueError("expected finite inputs of shape (batch, time, d_in)")
    if not inputs.numel() or (inputs.abs().amax((1, 2)) == 0).any():
        raise ValueError("expected inputs of which no sequence is 0")
    if np.isfinite(horizon):
        raise ValueError("expected no horizon where inputs are given: their length is one")


def crossing(curve: Curve, wider: Curve) -> float:
    """Return the smallest beta at which the wider model's E_m(beta) overtakes the narrower one's; inf if never.

    1/E is interpolated linearly in beta, which is exact for the pole at `stability_radius` where E is inf.

    Args:
        curve: perturbation curve of the narrower model.
        wider: perturbation curve of the wider model, with a smaller error at its first radius.

    Raises:
        ValueError: if the wider model does not start below the narrower one.

    Reference: wang2024inverse, Fig. 1b

    >>> radii = np.array([0.0, 0.3])
    >>> narrow = cmlib.PerturbationCurve(radii, np.array([0.5, 0.5]), "random", np.inf, True)
    >>> wide = cmlib.PerturbationCurve(radii, np.array([0.25, 1.0]), "random", np.inf, True)
    >>> round(cmlib.crossing(narrow, wide), 3)  # 1/E falls from 4 to 1, and is 2 for the other
    0.2
    """
    _checked(curve)
    _checked(wider)
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


def stable_perturbation_radius(curve: Curve, level: Number | None = None) -> float:
    """Return the largest beta up to which E_m stays at or below a level; inf if it never leaves it.

    A family is beta_0-stable where, for every level and m large, this does not fall below beta_0; where it tends to 0
    with m, nothing is stable. Between radii 1/E is linear in beta, as in `crossing`.

    Args:
        curve: of one model.
        level: > 0; None takes twice the error at the smallest radius.

    Raises:
        ValueError: unless the level is finite and > 0.

    Reference: wang2024inverse, Def. 3.5

    >>> curve = cmlib.PerturbationCurve(np.array([0.0, 0.1, 0.2]), np.array([1.0, 2.0, 4.0]), "random", np.inf, True)
    >>> round(cmlib.stable_perturbation_radius(curve), 3)
    0.1
    """
    _checked(curve)
    order = np.argsort(curve.radii)
    radii, errors = curve.radii[order], np.maximum.accumulate(curve.errors[order])
    level = positive("level", 2 * errors[0] if level is None else level)
    growing = PerturbationCurve(radii, errors, curve.method, curve.stability_radius, curve.is_lower_bound)
    beta = np.unique(np.append(radii, np.clip(curve.stability_radius, radii[0], radii[-1])))
    gap = _reciprocal(growing, beta) - 1 / level
    beyond = np.flatnonzero(gap < 0)
    if not len(beyond):
        return np.inf
    i = beyond[0]
    return float(beta[i - 1] + (beta[i] - beta[i - 1]) * gap[i - 1] / (gap[i - 1] - gap[i])) if i else 0.0


def _checked(curve: Any) -> None:
    if not (hasattr(curve, "radii") and hasattr(curve, "errors") and hasattr(curve, "stability_radius")):
        raise ValueError(f"expected a PerturbationCurve, got {curve!r}")


def _reciprocal(curve: PerturbationCurve, beta: np.ndarray) -> np.ndarray:
    radii, inverse = curve.radii, 1 / np.maximum(curve.errors, np.finfo(float).tiny)
    beyond = curve.errors[radii >= curve.stability_radius]
    if np.isinf(beyond).any() and not np.isfinite(beyond).any():  # the pole; on a window errors go on past it
        radii, inverse = np.append(radii, curve.stability_radius), np.append(inverse, 0.0)
    order = np.argsort(radii)
    return np.interp(beta, radii[order], inverse[order])
