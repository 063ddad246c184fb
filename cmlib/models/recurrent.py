"""What a recurrent model says of itself, so that probes need not know its class."""

import copy
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.stability import stability_radius


class RecurrentModel(Protocol):
    """A network (batch, time, d_in) -> (batch, time, d_out) with a state h that its recurrent weight moves.

    `is_recurrent` tells whether a class declares all of it, `cmlib.testing.check_recurrent_model` whether it is true.
    A model may declare more:
    `d_in`, the channels of its input; `realization()`, (W, U, c) of shapes (m, m), (m,), (m,), where the network is the
    linear functional with memory kernel c^T e^{Wt} U; and `clamp`, (low, high), where its step from h = 0 is
    h' = h + dt min(max(W h + U x + b, low), high), y = c^T h with diagonal W, which a compiled loop then takes.

    Args:
        recurrent_weight, input_weight, readout_weight: names of its parameters; the recurrent one is raw.
        bias_weight: the same, or None.
        diagonal: whether the recurrent weight has shape (m,), of raw eigenvalues, and not (m, m).
        parameterization: raw weight -> eigenvalues or matrix.
        dt: time of a step, > 0.
        discretization: "zoh", exact for inputs held over a step, or "euler".

    Reference: wang2024inverse, eq. (1)

    >>> model = models.SSM([-0.5], [1.0], [1.0])
    >>> model.recurrent_weight, model.recurrent().item(), model.linearization().item()
    ('W', -0.5, -0.5)
    """

    recurrent_weight: str
    input_weight: str
    readout_weight: str
    bias_weight: str | None
    diagonal: bool
    parameterization: nn.Module
    dt: float
    discretization: str

    def recurrent(self) -> Float[Tensor, "m m"]:
        """Return the recurrent weight as a matrix, whatever its parameterization."""
        ...

    def linearization(self) -> Float[Tensor, "m m"]:
        """Return A of dh/dt = A h, the flow close to rest, per unit of time."""
        ...


DECLARED = (*RecurrentModel.__annotations__, "recurrent", "linearization")


def is_recurrent(model: Any) -> TypeGuard[RecurrentModel]:
    """Return whether a model declares all that a RecurrentModel does.

    >>> models.is_recurrent(models.SSM([-0.5], [1.0], [1.0])), models.is_recurrent(torch.nn.GRU(1, 4))
    (True, False)
    """
    # not isinstance: from Python 3.12 on that does not see what a torch module registers, such as its parameterization
    return all(hasattr(model, name) for name in DECLARED)


def radius_of_weight(model: Any, field: str = "real") -> float:
    """Return how far the raw recurrent weight may move, in the spectral norm, before rest is unstable.

    0 where it is unstable already, inf where no move does it, nan where the answer is not known: for a
    parameterization that is neither stable nor moves the linearisation along with the raw weight.

    Args:
        model: an nn.Module that is a RecurrentModel.
        field: "real" or "complex" moves of a dense weight; a diagonal one moves within diagonals.
    """
    A = _linearization_at(model, 0.0)
    if np.linalg.eigvals(A).real.max() >= 0:
        return 0.0
    weight = dict(model.named_parameters())[model.recurrent_weight]
    generator = torch.Generator().manual_seed(0)
    moves = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    if model.parameterization.stable:
        # taken at its word, unless a look at a few large moves shows otherwise
        moved = [_linearization_at(model, size * move) for move in moves for size in (1.0, 10.0)]
        return np.inf if all(np.linalg.eigvals(B).real.max() <= 0 for B in moved) else np.nan
    changes = [_linearization_at(model, move) - A for move in moves]
    along = [np.diag(move.numpy()) if model.diagonal else move.numpy() for move in moves]
    slope = np.vdot(along[0], changes[0]) / np.vdot(along[0], along[0])
    if slope == 0 or any(np.abs(c - slope * a).max() > 1e-9 * abs(slope) for c, a in zip(changes, along, strict=True)):
        return np.nan
    radius = -np.diag(A).max() if model.diagonal else stability_radius(A, field)
    return float(radius / abs(slope))


def _linearization_at(model: Any, move: Tensor | float) -> np.ndarray:
    moved = copy.deepcopy(model).cpu().double()
    with torch.no_grad():
        dict(moved.named_parameters())[model.recurrent_weight].add_(move)
        return moved.linearization().numpy()
