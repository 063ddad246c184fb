"""Published protocols: perturbation errors measured as the authors' code measures them, beside the definition's."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import ArrayLike, Count, Inputs, Source, count, one_of, random_source, real_array, sequences
from cmlib.perturbation import PerturbationCurve
from cmlib.sequence_maps import answer

if TYPE_CHECKING:
    Target: TypeAlias = Callable[[Tensor], Tensor]
else:
    Target = Any


def time_weighted_error(y: Inputs, goal: Inputs) -> Float[Tensor, ""]:
    """Return the public code's loss: the mean of (w_k (y_k - goal_k))^2 with w_k ~ ((k + 1) / (n + 1))^2 of mean 1.

    The weights are squared together with the error, so that late errors count like t^4.

    Args:
        y, goal: (batch, n, d_out).

    Raises:
        ValueError: on tensors of other shapes.

    Reference: wang2024stablessm, Fig. 1, as in its public code

    >>> goal = torch.zeros(1, 2, 1)
    >>> [round(protocols.time_weighted_error(torch.ones(1, 2, 1) * a, goal).item(), 3) for a in (1.0, 2.0)]
    [1.36, 5.44]
    """
    y, goal = sequences("y", y), sequences("a goal", goal)
    if y.shape != goal.shape:
        raise ValueError(f"expected outputs and goals of one shape, got {tuple(y.shape)} and {tuple(goal.shape)}")
    weights = time_weights(y.shape[1]).to(y)[:, None]
    return (weights * (y - goal)).square().mean()


def time_weights(n: Count) -> Float[Tensor, " n"]:
    """Return the weights w_k of n steps, ((k + 1) / (n + 1))^2 divided by their mean.

    Raises:
        ValueError: for n < 1.

    >>> [round(w, 3) for w in protocols.time_weights(2).tolist()]  # 1/9 and 4/9
    [0.4, 1.6]
    """
    squares = torch.arange(1, count("n", n) + 1, dtype=torch.float64) ** 2
    return squares / squares.mean()


def public_perturbation(
    model: Any,
    target: Target,
    radii: ArrayLike,
    inputs: Inputs,
    *,
    shifted: str | None = None,
    n_draws: Count = 10,
    generator: Source = None,
) -> PerturbationCurve:
    """Evaluate E(beta) as the public code of paper C does: another quantity than E_m(beta) of Definition 3.4.

    Each parameter moves by beta n / max |n| with normal n, entry by entry, the same n at each radius; all entries of
    the one named `shifted` by -beta. The error is `time_weighted_error`, its maximum over draws and smaller radii; a
    number too large for the model's precision is inf.

    Args:
        model: nn.Module, (batch, time, d_in) -> (batch, time, d_out); it keeps its weights.
        target: the map it should be.
        radii: (n_radii,), >= 0; they are sorted.
        inputs: (batch, time, d_in), in the model's precision.
        shifted: name of a parameter whose larger values are more stable, such as rates; None gives noise to all.
        n_draws: >= 1.
        generator: of the draws; None takes one with seed 0.

    Raises:
        ValueError: on bad radii or inputs, a model that is no module, or a parameter that it does not have.

    Reference: wang2024stablessm, Fig. 1, as in its public code

    >>> model, rho = models.LinearRNN([-0.5], [1.0], [1.0]), kernels.Exponential(0.5)
    >>> curve = protocols.public_perturbation(model, targets.LinearFunctional(rho), [0, 0.1], inputs.heaviside(9))
    >>> bool(curve.errors[0] < 1e-30 < curve.errors[1])
    True
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected model to be an nn.Module, got {model!r}")
    radii, x = np.sort(np.atleast_1d(real_array("radii", radii))), sequences("inputs", inputs)
    if radii.ndim != 1 or not radii.size or radii[0] < 0:
        raise ValueError(f"expected finite radii >= 0 of shape (n_radii,), got {radii}")
    weights = dict(model.named_parameters())
    if shifted is not None:
        one_of("shifted", shifted, weights)
    n_draws, generator = count("n_draws", n_draws), random_source("generator", generator)
    goal, pushed, errors = target(x), copy.deepcopy(model), np.empty((n_draws, len(radii)))
    moving = dict(pushed.named_parameters())
    for k in range(n_draws):
        directions = {name: _direction(w, generator) for name, w in weights.items()}
        if shifted is not None:
            directions[shifted] = -torch.ones_like(weights[shifted])
        for i, beta in enumerate(radii):
            with torch.no_grad():
                for name, w in weights.items():
                    moving[name].copy_(w + float(beta) * directions[name])
            errors[k, i] = time_weighted_error(answer(pushed, x), goal).item()
    # infinity minus infinity, further on in the same network, is no number
    largest = np.maximum.accumulate(np.where(np.isnan(errors), np.inf, errors).max(0))
    return PerturbationCurve(radii, largest, "random", np.nan, True)


def _direction(w: Tensor, generator: torch.Generator) -> Tensor:
    n = torch.randn(w.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return (n / n.abs().max()).to(w)
