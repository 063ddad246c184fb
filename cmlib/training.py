"""Training: how gradient methods move the weights of any models towards a target, each as if it were alone."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import optimize
from torch import Tensor, nn

from cmlib.arguments import Count, Inputs, Number, Source, count, number, one_of, positive, random_source


@dataclass(frozen=True, eq=False)
class FitResult:
    """Training of several models side by side.

    Args:
        losses: (steps + 1, n_models), mean squared error before each step, on the sequences of that step, and after the
            last; a model that stopped earlier keeps its last.
        models: the trained copies.

    >>> result = cmlib.FitResult(np.array([[1.0], [0.9], [0.05]]), [])
    >>> result.first_below(0.1).tolist()
    [2.0]
    >>> length, start = result.plateaus()
    >>> length.tolist(), start.tolist()
    ([2], [0])
    """

    losses: Float[np.ndarray, "steps_and_one n_models"]
    models: list

    def first_below(self, fraction: Number) -> Float[np.ndarray, " n_models"]:
        """Return for each model the first step at which its loss is below fraction times its first; inf if none.

        Raises:
            ValueError: unless the fraction is > 0.
        """
        below = self.losses < positive("fraction", fraction) * self.losses[0]
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
            if not positive(name, value) < 1:
                raise ValueError(f"expected {name} < 1, got {value!r}")
        found = []
        for loss, last in zip(self.losses.T, self.first_below(floor), strict=True):
            loss = loss[: int(min(last, len(loss)))]
            fallen = np.triu(loss < keep * loss[:, None])  # from the step of the row to that of the column
            lengths = np.where(fallen.any(1), fallen.argmax(1), len(loss)) - np.arange(len(loss))
            found.append((lengths.max(), lengths.argmax()))
        length, start = np.array(found).T
        return length, start


AT_ONCE = 128  # sequences over which the last loss is taken at once
OPTIMIZERS = {
    "gd": torch.optim.SGD,
    "heavy_ball": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
}


def fit(
    models: Any,
    inputs: Inputs,
    outputs: Inputs,
    *,
    steps: Count,
    lr: Number | None = None,
    optimizer: str = "adam",
    batch: Count | None = None,
    generator: Source = None,
    until: Number = 0.0,
) -> FitResult:
    """Train copies of models on the mean squared error over the inputs: each as if it were alone.

    Unit-area impulses as inputs give, up to the length of time, int (rho - rhohat)^2: the exact mean over white noise.

    Args:
        models: an nn.Module, or several that differ in nothing but the values of their weights.
        inputs, outputs: (n, time, d_in) and (n, time, d_out).
        steps: at most how many, >= 1; lr: their size, > 0, except for "lbfgs".
        optimizer: "gd", "heavy_ball" (momentum 0.9), "adam" or "lbfgs" (quasi-Newton, one model after the other).
        batch: sequences of one step, drawn without replacement until all had their turn; None takes all, as does lbfgs.
        generator: of the order of the sequences; None takes one with seed 0.
        until: loss at which a model stops; those trained side by side stop together. 0 never looks at the loss.

    Raises:
        ValueError: on models that differ in more than weights, data of other shapes, or settings out of range.

    Reference: li2021curse, Sec. 5; liu1989limited (lbfgs)

    >>> x = inputs.impulse(20)
    >>> y = targets.LinearFunctional(kernels.Exponential(0.3))(x)
    >>> result = cmlib.fit(models.LinearRNN([-1.0], [1.0], [1.0]), x, y, steps=50, optimizer="lbfgs", until=1e-12)
    >>> round(result.models[0].W.item(), 3)
    -0.3
    """
    models = list(models) if isinstance(models, Iterable) and not isinstance(models, nn.Module) else [models]
    if not models or not all(isinstance(model, nn.Module) for model in models):
        raise ValueError(f"expected one or more nn.Module, got {models!r}")
    if any(_shape(model) != _shape(models[0]) for model in models):
        raise ValueError(f"expected models that differ in their weights alone, got {models!r}")
    steps, optimizer = count("steps", steps), one_of("optimizer", optimizer, (*OPTIMIZERS, "lbfgs"))
    until = math.inf if until == math.inf else number("until", until, at_least=0.0)
    for name, value in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(value, Tensor) or value.ndim != 3 or not torch.isfinite(value).all():
            raise ValueError(f"expected {name} as a finite tensor (batch, time, channels), got {value!r}")
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(f"expected outputs for each of at least one input, got {len(outputs)} for {len(inputs)}")
    if batch is not None and count("batch", batch) > len(inputs):
        raise ValueError(f"expected batch between 1 and the {len(inputs)} sequences, got {batch!r}")
    generator = random_source("generator", generator)
    if optimizer == "lbfgs":
        if lr is not None or batch is not None:
            raise ValueError(f"expected no lr and no batch with lbfgs, got {lr!r} and {batch!r}")
        trained, losses = zip(*(_quasi_newton(model, inputs, outputs, steps, until) for model in models), strict=True)
        longest = max(map(len, losses))
        losses = [np.pad(of_one, (0, longest - len(of_one)), mode="edge") for of_one in losses]
        return FitResult(np.stack(losses, 1), list(trained))
    stepper = partial(OPTIMIZERS[optimizer], lr=positive("lr", lr))
    return _side_by_side(models, _batches(inputs, outputs, steps, batch, generator), stepper, until)


def _batches(inputs, outputs, steps, batch, generator) -> Iterator[tuple[Tensor, Tensor]]:
    # what each step sees, and at last all there is
    if batch is None:
        yield from itertools.repeat((inputs, outputs), steps)
    else:
        order = inputs.new_empty(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < batch:
                drawn = torch.randperm(len(inputs), generator=generator, device=generator.device)
                order = torch.cat([order, drawn.to(inputs.device)])
            now, order = order[:batch], order[batch:]
            yield inputs[now], outputs[now]
    yield inputs, outputs


def _side_by_side(models: list, batches: Iterator, stepper: Callable, until: float) -> FitResult:
    base = copy.deepcopy(models[0])
    weights, buffers = torch.func.stack_module_state(models)  # with a leading axis, the models
    weights = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}

    def loss(weights, buffers, x, y):
        return _mean_square(torch.func.functional_call(base, (weights, buffers), (x,)), y)

    def only(weights, buffers, x, y):  # with its adjoint, which a batch of models has not
        return loss({n: v[0] for n, v in weights.items()}, {n: v[0] for n, v in buffers.items()}, x, y)[None]

    losses_of = only if len(models) == 1 else torch.vmap(loss, (0, 0, None, None))
    stepper, losses = stepper(weights.values()), []
    x, y = next(batches)
    for following in batches:
        stepper.zero_grad()
        now = losses_of(weights, buffers, x, y)
        if until and (now <= until).all():  # to look at a loss is to wait for the device
            break
        now.sum().backward()  # no model's loss depends on another's weights
        stepper.step()
        losses.append(now.detach())
        x, y = following
    with torch.no_grad():  # all there is may be more than fits at once
        parts = list(zip(x.split(AT_ONCE), y.split(AT_ONCE), strict=True))
        losses.append(sum(len(x) * losses_of(weights, buffers, x, y) for x, y in parts) / len(x))
    trained = [copy.deepcopy(model) for model in models]
    for i, model in enumerate(trained):
        model.load_state_dict({name: value[i].detach() for name, value in weights.items()}, strict=False)
    return FitResult(torch.stack(losses).double().cpu().numpy(), trained)


def _quasi_newton(model: nn.Module, x: Tensor, y: Tensor, steps: int, until: float) -> tuple[nn.Module, list]:
    model, losses = copy.deepcopy(model), []
    weights = [w for w in model.parameters() if w.requires_grad]

    def assign(values: np.ndarray) -> None:
        parts = torch.from_numpy(values).split([w.numel() for w in weights])
        with torch.no_grad():  # copied, as views into one vector would be aligned as no model expects
            for w, part in zip(weights, parts, strict=True):
                w.copy_(part.view_as(w))

    def loss_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        assign(values)
        loss = _mean_square(model(x), y)
        slopes = torch.autograd.grad(loss, weights)
        return loss.item(), _vector(slopes).double().cpu().numpy()

    def watch(intermediate_result: optimize.OptimizeResult) -> None:
        losses.append(intermediate_result.fun)
        if losses[-1] <= until:
            raise StopIteration

    start = _vector(weights).detach().double().cpu().numpy()
    losses.append(loss_and_gradient(start)[0])
    if losses[0] > until:
        # 30 pairs, as memory has many scales; without tolerances, as `steps` and `until` say when to stop
        options = {"maxiter": steps, "maxfun": 20 * steps, "maxcor": 30, "ftol": 0.0, "gtol": 0.0}
        found = optimize.minimize(
            loss_and_gradient, start, jac=True, method="L-BFGS-B", callback=watch, options=options
        )
        assign(found.x)
    return model, losses


def _vector(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in tensors])  # of any strides, such as those of a QR factor


def _mean_square(predicted: Any, outputs: Tensor) -> Tensor:
    predicted = predicted[0] if isinstance(predicted, tuple) else predicted
    if predicted.shape != outputs.shape:
        raise ValueError(f"expected outputs of shape {tuple(predicted.shape)}, got {tuple(outputs.shape)}")
    return (predicted - outputs).square().mean()


def _shape(model: nn.Module) -> list:
    # all that is not the value of a weight: classes, settings, shapes
    settings = [(type(part), {k: v for k, v in vars(part).items() if k[0] != "_"}) for part in model.modules()]
    tensors = list(model.named_parameters()) + list(model.named_buffers())
    return [repr(settings), [(name, value.shape, value.dtype) for name, value in tensors]]
