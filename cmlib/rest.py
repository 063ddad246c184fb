"""Rest: a recurrent layer linearised where it has come to rest without input."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn

from cmlib.models.recurrent import is_recurrent, radius_of_weight
from cmlib.sequence_maps import BatchFirst, evaluating
from cmlib.stability import stability_radius

SETTLE = 20_000  # steps without input within which a recurrent layer has to come to rest


@dataclass(frozen=True)
class Rest:
    """A recurrent weight, or the step of a recurrent layer linearised at rest.

    Args:
        kind: "flow" where eigenvalues of the recurrent weight have to have real parts below 0, "steps" where those of
            the linearised step have to be below 1 in size.
        rate: slowest, per unit of time or per step; negative where rest is unstable. Of an RNN, that of Euler's steps.
        radius: distance of that matrix from instability, spectral norm, complex; inf for a stable parameterization.

    >>> rest = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32, n_directions=1).rest
    >>> rest.kind, round(rest.rate, 3), round(rest.radius, 3)
    ('flow', 0.5, 0.5)
    """

    kind: str
    rate: float
    radius: float


def linearised_at_rest(model: Any) -> Rest | None:
    """Return rest as a recurrent model declares it, or as a recurrent layer of torch finds it; None for other maps."""
    if is_recurrent(model):
        eigenvalues = torch.linalg.eigvals(model.linearization().detach().double().cpu())
        if model.discretization == "euler":
            eigenvalues = torch.log(1 + model.dt * eigenvalues) / model.dt
        return Rest("flow", -float(eigenvalues.real.max()), radius_of_weight(model, "complex"))
    layer = model.layer if isinstance(model, BatchFirst) else model
    if not isinstance(layer, nn.RNNBase) or layer.bidirectional:
        return None
    matrix = _step_at_rest(layer)
    if matrix is None:
        return None
    largest = float(np.abs(linalg.eigvals(matrix)).max())
    return Rest("steps", -float(np.log(largest)) if largest > 0 else np.inf, stability_radius(matrix, time="steps"))


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
