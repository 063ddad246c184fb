"""Fitting: how gradient methods move a model's weights towards a target, and when."""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cmlib.kernels import Number, _positive


@dataclass(frozen=True, eq=False)
class FitResult:
    """Training of several models side by side.

    Args:
        losses: (steps + 1, n_models), mean squared error before each step and after the last.
        models: the trained copies.
    """

    losses: Float[np.ndarray, "steps_and_one n_models"]
    models: list

    def first_below(self, fraction: Number) -> Float[np.ndarray, " n_models"]:
        """Return for each model the first step at which its loss is below fraction times its first; inf if none."""
        below = self.losses < _positive("fraction", fraction) * self.losses[0]
        return np.where(below.any(0), below.argmax(0), np.inf)

    def plateaus(self, keep: Number = 0.8, floor: Number = 0.01) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Return for each model (length, start) of its longest plateau, in steps.

        A plateau is a stretch of steps in which the loss stays above keep times its value at the start of the
        stretch. Only steps before the loss first falls below floor times its first value count: a fit that is as
        good as finished may well be slow.

        Raises:
            ValueError: unless keep and floor lie between 0 and 1.
        """
        for name, value in (("keep", keep), ("floor", floor)):
            if not _positive(name, value) < 1:
                raise ValueError(f"expected {name} < 1, got {value!r}")
        found = []
        for loss, last in zip(self.losses.T, self.first_below(floor), strict=True):
            loss = loss[: int(min(last, len(loss)))]
            fallen = np.triu(loss < keep * loss[:, None])  # from the step of the row to that of the column
            lengths = np.where(fallen.any(1), fallen.argmax(1), len(loss)) - np.arange(len(loss))
            found.append((lengths.max(), lengths.argmax()))
        length, start = np.array(found).T
        return length, start


OPTIMIZERS = {
    "gd": torch.optim.SGD,
    "heavy_ball": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
}


def fit(models: Any, inputs: Tensor, outputs: Tensor, *, steps: Any, lr: Number, optimizer: str = "adam") -> FitResult:
    """Train copies of models on the mean squared error over all inputs, as one batch: each as if it were alone.

    Unit-area impulses as inputs give, up to the length of time, int (rho - rhohat)^2: the exact mean over white noise.

    Args:
        models: an nn.Module, or several that differ in nothing but the values of their weights.
        inputs, outputs: (batch, time, d_in) and (batch, time, d_out).
        steps: how many steps, >= 1; lr: their size, > 0.
        optimizer: "gd", "heavy_ball" (momentum 0.9) or "adam".

    Reference: li2021curse, Sec. 5
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    if not models or not all(isinstance(model, nn.Module) for model in models):
        raise ValueError(f"expected one or more nn.Module, got {models!r}")
    if any(_shape(model) != _shape(models[0]) for model in models):
        raise ValueError(f"expected models that differ in their weights alone, got {models!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"expected steps to be an integer >= 1, got {steps!r}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"expected optimizer among {list(OPTIMIZERS)}, got {optimizer!r}")
    for name, value in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(value, Tensor) or value.ndim != 3 or not torch.isfinite(value).all():
            raise ValueError(f"expected {name} as a finite tensor (batch, time, channels), got {value!r}")
    base = copy.deepcopy(models[0])
    weights, buffers = torch.func.stack_module_state(models)  # with a leading axis, the models
    weights = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}

    def loss(weights, buffers):
        predicted = torch.func.functional_call(base, (weights, buffers), (inputs,))
        if predicted.shape != outputs.shape:
            raise ValueError(f"expected outputs of shape {tuple(predicted.shape)}, got {tuple(outputs.shape)}")
        return (predicted - outputs).square().mean()

    losses_of = torch.vmap(loss)
    stepper = OPTIMIZERS[optimizer](weights.values(), lr=_positive("lr", lr))
    losses = []
    for _ in range(steps):
        stepper.zero_grad()
        now = losses_of(weights, buffers)
        now.sum().backward()  # no model's loss depends on another's weights
        stepper.step()
        losses.append(now.detach())
    with torch.no_grad():
        losses.append(losses_of(weights, buffers))
    trained = [copy.deepcopy(model) for model in models]
    for i, model in enumerate(trained):
        model.load_state_dict({name: value[i].detach() for name, value in weights.items()}, strict=False)
    return FitResult(torch.stack(losses).double().cpu().numpy(), trained)


def _shape(model: nn.Module) -> list:
    # all that is not the value of a weight: classes, settings, shapes
    settings = [(type(part), {k: v for k, v in vars(part).items() if k[0] != "_"}) for part in model.modules()]
    tensors = list(model.named_parameters()) + list(model.named_buffers())
    return [repr(settings), [(name, value.shape, value.dtype) for name, value in tensors]]
