"""Fitting: how gradient methods move a model's weights towards a target, and when.

`fit` trains any models on data. `KernelLoss` and `gradient_flow` are the theory's own setting: a diagonal linear
network, white noise of infinite length, and steps that are infinitely small.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import integrate, optimize
from torch import Tensor, nn

from cmlib.exponential_sums import ExponentialSum
from cmlib.kernels import ArrayLike, Bump, Exponential, Kernel, KernelLike, Number, Sum, _kernel, _positive, _set


@dataclass(frozen=True, eq=False)
class FitResult:
    """Training of several models side by side.

    Args:
        losses: (steps + 1, n_models), mean squared error before each step, on the sequences of that step, and after the
            last; a model that stopped earlier keeps its last.
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


AT_ONCE = 128  # sequences over which the last loss is taken at once
OPTIMIZERS = {
    "gd": torch.optim.SGD,
    "heavy_ball": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
}


def fit(
    models: Any,
    inputs: Tensor,
    outputs: Tensor,
    *,
    steps: Any,
    lr: Number | None = None,
    optimizer: str = "adam",
    batch: Any = None,
    generator: torch.Generator | None = None,
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
        generator: of the order of the sequences.
        until: loss at which a model stops; those trained side by side stop together.

    Reference: li2021curse, Sec. 5; liu1989limited (lbfgs)
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    if not models or not all(isinstance(model, nn.Module) for model in models):
        raise ValueError(f"expected one or more nn.Module, got {models!r}")
    if any(_shape(model) != _shape(models[0]) for model in models):
        raise ValueError(f"expected models that differ in their weights alone, got {models!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"expected steps to be an integer >= 1, got {steps!r}")
    if optimizer not in (*OPTIMIZERS, "lbfgs"):
        raise ValueError(f"expected optimizer among {[*OPTIMIZERS, 'lbfgs']}, got {optimizer!r}")
    for name, value in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(value, Tensor) or value.ndim != 3 or not torch.isfinite(value).all():
            raise ValueError(f"expected {name} as a finite tensor (batch, time, channels), got {value!r}")
    if not until >= 0:
        raise ValueError(f"expected until >= 0, got {until!r}")
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= len(inputs)):
        raise ValueError(f"expected batch between 1 and the {len(inputs)} sequences, got {batch!r}")
    if batch is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"expected generator, a torch.Generator, with batch, got {generator!r}")
    if optimizer == "lbfgs":
        if lr is not None or batch is not None:
            raise ValueError(f"expected no lr and no batch with lbfgs, got {lr!r} and {batch!r}")
        trained, losses = zip(*(_quasi_newton(model, inputs, outputs, steps, until) for model in models), strict=True)
        longest = max(map(len, losses))
        losses = [np.pad(of_one, (0, longest - len(of_one)), mode="edge") for of_one in losses]
        return FitResult(np.stack(losses, 1), list(trained))
    stepper = partial(OPTIMIZERS[optimizer], lr=_positive("lr", lr))
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
        if (now <= until).all():
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
        return loss.item(), nn.utils.parameters_to_vector(slopes).double().cpu().numpy()

    def watch(intermediate_result: optimize.OptimizeResult) -> None:
        losses.append(intermediate_result.fun)
        if losses[-1] <= until:
            raise StopIteration

    start = nn.utils.parameters_to_vector(weights).detach().double().cpu().numpy()
    losses.append(loss_and_gradient(start)[0])
    if losses[0] > until:
        # 30 pairs, as memory has many scales; without tolerances, as `steps` and `until` say when to stop
        options = {"maxiter": steps, "maxfun": 20 * steps, "maxcor": 30, "ftol": 0.0, "gtol": 0.0}
        found = optimize.minimize(
            loss_and_gradient, start, jac=True, method="L-BFGS-B", callback=watch, options=options
        )
        assign(found.x)
    return model, losses


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


@dataclass(frozen=True)
class KernelLoss:
    """J(a, w) = int_0^inf (sum_i a_i e^{-w_i t} - rho(t))^2 dt, in closed form with two derivatives.

    The modes of the target join those of the model before anything is summed, so that where both agree they cancel
    exactly and a gradient of size g is right to about 1e-15 / g.

    Args:
        kernel: rho, a sum of exponentials (real rates) and bumps.

    Raises:
        ValueError: for any other kernel; from each call, unless rates are positive and shapes agree.

    Reference: li2022approximation, eq. (102)
    """

    kernel: KernelLike

    def __post_init__(self):
        modes, bumps = _modes_and_bumps(_kernel("kernel", self.kernel))
        _set(self, _weights=np.array([w for w, _ in modes]), _rates=np.array([r for _, r in modes]), _bumps=bumps)

    def __call__(self, weights: ArrayLike, rates: ArrayLike) -> float:
        """Return J."""
        a, w = _checked(weights, rates)
        a, w = np.append(a, -self._weights), np.append(w, self._rates)
        squares = sum(p * q * _overlap(b, c) for p, b in self._bumps for q, c in self._bumps)
        return float(a @ (1 / (w[:, None] + w)) @ a - 2 * a @ self._moment(0, w) + squares)

    def gradient(self, weights: ArrayLike, rates: ArrayLike) -> Float[np.ndarray, " m_and_m"]:
        """Return dJ/da followed by dJ/dw."""
        a, w = _checked(weights, rates)
        return np.append(2 * self._residual(0, a, w), -2 * a * self._residual(1, a, w))

    def hessian(self, weights: ArrayLike, rates: ArrayLike) -> Float[np.ndarray, "m_and_m m_and_m"]:
        """Return the second derivatives, in the order of the gradient."""
        a, w = _checked(weights, rates)
        total = w[:, None] + w
        by_both = -2 * a / total**2 - 2 * np.diag(self._residual(1, a, w))
        by_rates = 4 * np.outer(a, a) / total**3 + 2 * np.diag(a * self._residual(2, a, w))
        return np.block([[2 / total, by_both], [by_both.T, by_rates]])

    def _residual(self, n: int, a: np.ndarray, w: np.ndarray) -> np.ndarray:
        # int t^n e^{-w_k t} (rhohat - rho) dt for each k; n! / (w_k + w_j)^{n+1} is the moment of one mode
        a, of = np.append(a, -self._weights), np.append(w, self._rates)
        powers = (w[:, None] + of) ** -(n + 1.0) * (1, 1, 2)[n]
        # largest terms first, so that equal and opposite ones meet
        order = np.argsort(-np.abs(a), kind="stable")
        return (a[order] * powers[:, order]).cumsum(1)[:, -1] - self._moment(n, w)

    def _moment(self, n: int, w: np.ndarray) -> np.ndarray:
        # int t^n e^{-wt} of the bumps; e^{-wt} bump is a Gaussian of mean mu, so partial integration steps up in n
        total = np.zeros(len(w))
        for weight, bump in self._bumps:
            m = [bump.laplace(w)]
            mu, edge = bump.center - bump.width**2 * w, bump.width**2 * bump(0.0)
            m.append(mu * m[0] + edge)
            m.append(mu * m[1] + bump.width**2 * m[0])
            total += weight * m[n]
        return total


def _modes_and_bumps(kernel: Kernel) -> tuple[list, list]:
    match kernel:
        case Exponential(rate=rate):
            return [(1.0, rate)], []
        case ExponentialSum(rates=rates, weights=weights) if np.isrealobj(rates) and np.isrealobj(weights):
            return list(zip(weights.tolist(), rates.tolist(), strict=True)), []
        case Bump():
            return [], [(1.0, kernel)]
        case Sum(kernels=kernels, weights=weights):
            modes, bumps = [], []
            for scale, part in zip(weights, kernels, strict=True):
                of_part = _modes_and_bumps(part)
                modes += [(scale * w, r) for w, r in of_part[0]]
                bumps += [(scale * w, b) for w, b in of_part[1]]
            return modes, bumps
    raise ValueError(f"expected a sum of exponentials with real rates and bumps, got {kernel!r}")


def _overlap(a: Bump, b: Bump) -> float:
    # int a b: the product of two Gaussians is one
    total = a.width**2 + b.width**2
    center = (a.center * b.width**2 + b.center * a.width**2) / total
    height = np.exp(-((a.center - b.center) ** 2) / (2 * total))
    return height * float(Bump(center, a.width * b.width / np.sqrt(total)).tail(0.0))


def _checked(weights: ArrayLike, rates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, w = np.asarray(weights, dtype=float), np.asarray(rates, dtype=float)
    if a.ndim != 1 or a.shape != w.shape or not a.size:
        raise ValueError(f"expected weights and rates of one shape (m,), got {a.shape} and {w.shape}")
    if not (np.isfinite(a).all() and np.isfinite(w).all() and w.min() > 0):
        raise ValueError(f"expected finite weights and positive rates, got {a} and {w}")
    return a, w


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """A solution of d(a, w)/dtau = -grad J(a, w).

    Args:
        t: (n,) times tau of the solver's steps.
        weights: (n, m) a at these times.
        rates: (n, m) w at these times.
        losses: (n,) J at these times.
        at: tau -> (2m,) or (2m, n), a followed by w, between the steps.
    """

    t: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, "n m"]
    rates: Float[np.ndarray, "n m"]
    losses: Float[np.ndarray, " n"]
    at: Any
    loss: KernelLoss

    def hitting_time(self, delta: Number, of: str = "loss") -> float:
        """Return the first time at which |J - J(0)|, or |(a, w) - (a, w)(0)|_2, reaches delta; inf if never.

        Args:
            delta: how far, > 0.
            of: "loss" or "parameters".

        Reference: li2022approximation, Thm 20
        """
        delta, start = _positive("delta", delta), self.at(0.0)
        m = self.weights.shape[1]
        distances = {
            "loss": lambda x: abs(self.loss(x[:m], x[m:]) - self.losses[0]),
            "parameters": lambda x: float(np.linalg.norm(x - start)),
        }
        if of not in distances:
            raise ValueError(f"expected of among {list(distances)}, got {of!r}")

        def beyond(t):
            return distances[of](self.at(t)) - delta

        step = next((i for i in range(1, len(self.t)) if beyond(self.t[i]) >= 0), None)
        return float("inf") if step is None else optimize.brentq(beyond, *self.t[step - 1 : step + 1], rtol=1e-12)


def gradient_flow(
    kernel: KernelLike, weights0: ArrayLike, rates0: ArrayLike, t_max: Number = 1e6, *, rtol: Number = 1e-8
) -> GradientFlow:
    """Follow the gradient of J from (weights0, rates0), by an implicit Runge-Kutta method with the exact Hessian.

    The flow ends at t_max, or earlier where a rate comes below a thousandth of its start: past zero J is infinite.

    Args:
        kernel: a sum of exponentials and bumps.
        weights0, rates0: (m,) start; rates > 0.
        t_max: end, > 0.
        rtol: error allowed to each step, relative; the absolute one is 1e-3 of it.

    Reference: li2022approximation, Thm 20; hairer1996solving
    """
    loss = KernelLoss(kernel)
    a, w = _checked(weights0, rates0)
    m, floor = len(a), w.min() / 1000

    def slowest(t, x):
        return x[m:].min() - floor

    slowest.terminal = True
    solution = integrate.solve_ivp(
        lambda t, x: -loss.gradient(x[:m], np.maximum(x[m:], floor / 2)),
        (0.0, _positive("t_max", t_max)),
        np.append(a, w),
        method="Radau",
        jac=lambda t, x: -loss.hessian(x[:m], np.maximum(x[m:], floor / 2)),
        dense_output=True,
        events=slowest,
        rtol=_positive("rtol", rtol),
        atol=1e-3 * rtol,
    )
    if solution.status < 0:
        raise RuntimeError(f"the flow could not be followed past {solution.t[-1]:g}: {solution.message}")
    weights, rates = solution.y[:m].T, solution.y[m:].T
    losses = np.array([loss(*x) for x in zip(weights, np.maximum(rates, floor / 2), strict=True)])
    return GradientFlow(solution.t, weights, rates, losses, solution.sol, loss)
