"""fit: several models trained side by side are each trained as if alone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cmlib import inputs, kernels
from cmlib.models import RNN, LinearRNN
from cmlib.targets import LinearFunctional
from cmlib.training import OPTIMIZERS, FitResult, fit

DT = 0.1


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(kind: str, n: int = 3) -> list[nn.Module]:
    g = generator()

    def normal(*shape):
        return 0.5 * torch.randn(*shape, generator=g, dtype=torch.float64)

    def one():
        W = normal(4, 4) - torch.eye(4, dtype=torch.float64)
        if kind == "tanh":
            return RNN(W, normal(4, 1), normal(4, 1), normal(4), dt=DT)
        return LinearRNN(W, normal(4), normal(4), dt=DT, discretization=kind)

    return [one() for _ in range(n)]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = inputs.white_noise(12, batch=5, generator=generator())
    return x, LinearFunctional(kernels.Airy(1.0), dt=DT)(x)


def alone(model, x, y, steps, lr, optimizer):
    """The same training of one model, in plain torch."""
    model = copy.deepcopy(model)
    stepper = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    losses = []
    for k in range(steps + 1):
        stepper.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        losses.append(loss.item())
        if k < steps:
            loss.backward()
            stepper.step()
    return losses, model


@pytest.mark.parametrize("kind", ["tanh", "zoh", "euler"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_models_trained_together_are_each_trained_as_if_alone(kind, optimizer):
    models, (x, y) = drawn(kind), data()
    together = fit(models, x, y, steps=40, lr=0.01, optimizer=optimizer)
    assert together.losses.shape == (41, 3)
    for i, model in enumerate(models):
        losses, trained = alone(model, x, y, 40, 0.01, optimizer)
        assert np.abs(together.losses[:, i] - losses).max() < 1e-12
        for ours, theirs in zip(together.models[i].parameters(), trained.parameters(), strict=True):
            assert (ours - theirs).abs().max() < 1e-12
    assert (together.losses[-1] < together.losses[0]).all()


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_batches_go_through_all_sequences_in_the_order_drawn(optimizer):
    (model, *_), (x, y) = drawn("tanh"), data()
    together = fit(model, x, y, steps=7, lr=0.01, optimizer=optimizer, batch=2, generator=generator())
    g, order = generator(), torch.empty(0, dtype=torch.long)
    model = copy.deepcopy(model)
    stepper = OPTIMIZERS[optimizer](model.parameters(), lr=0.01)
    for k in range(7):
        if len(order) < 2:
            order = torch.cat([order, torch.randperm(5, generator=g)])
        rows, order = order[:2], order[2:]
        stepper.zero_grad()
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        assert together.losses[k, 0] == pytest.approx(loss.item(), rel=1e-11)
        loss.backward()
        stepper.step()
    assert together.losses[7, 0] == pytest.approx(nn.functional.mse_loss(model(x), y).item(), rel=1e-11)


def test_quasi_newton_finds_the_least_squares_readout():
    (model, *_), (x, y) = drawn("tanh"), data()
    for name, weight in model.named_parameters():
        weight.requires_grad_(name == "c")
    result = fit(model, x, y, steps=200, optimizer="lbfgs")
    with torch.no_grad():
        states = copy.deepcopy(model)
        states.c = nn.Parameter(torch.eye(4, dtype=torch.float64))
        best = torch.linalg.lstsq(states(x).flatten(0, 1), y.flatten(0, 1), driver="gelsd").solution
    # the loss is flat to second order at its minimum, so c is right to the root of rounding times the condition
    assert (result.models[0].c - best).abs().max() < 1e-6
    assert result.losses[-1, 0] <= nn.functional.mse_loss(states(x) @ best, y).item() * (1 + 1e-9)
    assert torch.equal(result.models[0].W, model.W)


def test_quasi_newton_trains_each_model_as_if_alone():
    models, (x, y) = drawn("tanh"), data()
    together = fit(models, x, y, steps=30, optimizer="lbfgs")
    for i, model in enumerate(models):
        alone = fit(model, x, y, steps=30, optimizer="lbfgs")
        assert np.array_equal(together.losses[: len(alone.losses), i], alone.losses[:, 0])
        assert together.losses[-1, i] == alone.losses[-1, 0]
        last = nn.functional.mse_loss(together.models[i](x), y).item()
        assert last == pytest.approx(together.losses[-1, i], rel=1e-12)
    assert (np.diff(together.losses, axis=0) <= 0).all()
    by_adam = fit(models, x, y, steps=30, lr=0.01)
    assert (together.losses[-1] < 0.1 * by_adam.losses[-1]).all()


def test_quasi_newton_takes_weights_of_any_strides():
    model, (x, y) = drawn("tanh")[0], data()
    factor = -torch.linalg.qr(model.W.detach()).Q  # in columns, as a QR factorization leaves it
    losses = []
    for W in (factor, factor.contiguous()):
        model.W = nn.Parameter(W)
        losses.append(fit(model, x, y, steps=20, optimizer="lbfgs").losses)
    assert not factor.is_contiguous()
    assert losses[0][:5] == pytest.approx(losses[1][:5], rel=1e-9)  # later steps magnify what rounding differs by


@pytest.mark.parametrize("options", [{"optimizer": "lbfgs"}, {"optimizer": "adam", "lr": 0.01}])
def test_training_stops_at_the_loss_asked_for(options):
    model, (x, y) = drawn("tanh")[0], data()
    level = fit(model, x, y, steps=20, **options).losses[10, 0]
    stopped = fit(model, x, y, steps=20, until=level, **options)
    assert stopped.losses.shape == (11, 1)
    assert stopped.losses[-1] <= level < stopped.losses[-2]
    assert nn.functional.mse_loss(stopped.models[0](x), y).item() == pytest.approx(level, rel=1e-11)
    begun = fit(model, x, y, steps=20, until=1e9, **options)
    assert begun.losses.shape == (1, 1) and torch.equal(begun.models[0].W, model.W)


class Looks(TorchDispatchMode):
    """Counts the numbers that are fetched from a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("n_models", [1, 3])
def test_steps_wait_for_the_device_only_where_a_loss_is_asked_for(n_models):
    models, (x, y) = drawn("tanh"), data()

    def looks(steps, **options):
        with Looks() as counted:
            fit(models[:n_models], x, y, steps=steps, lr=1e-3, optimizer="heavy_ball", **options)
        return counted.count

    assert looks(20) == looks(4)
    assert looks(20, until=1e-30) - looks(4, until=1e-30) == 16


def test_a_model_that_diverges_harms_no_other():
    (calm, wild, _), (x, y) = drawn("tanh"), data()
    with torch.no_grad():
        wild.c.mul_(1e200)
    losses = fit([calm, wild], x, y, steps=5, lr=0.01, optimizer="gd").losses
    assert not np.isfinite(losses[:, 1]).any()
    assert np.abs(losses[:, 0] - alone(calm, x, y, 5, 0.01, "gd")[0]).max() < 1e-12


def test_the_callers_models_are_left_as_they_were():
    models, (x, y) = drawn("tanh"), data()
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in models]
    models[0].eval(), models[1].eval(), models[2].eval()
    result = fit(models, x, y, steps=2, lr=0.1)
    for model, state, trained in zip(models, before, result.models, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        assert not model.training and all(p.grad is None for p in model.parameters())
        assert not any(torch.equal(v, state[k]) for k, v in trained.state_dict().items())


def test_a_single_model_may_come_without_a_list():
    model, (x, y) = drawn("tanh")[0], data()
    result = fit(model, x, y, steps=3, lr=0.1)
    assert isinstance(result, FitResult) and result.losses.shape == (4, 1)
    assert nn.functional.mse_loss(result.models[0](x), y).item() == pytest.approx(result.losses[-1, 0], rel=1e-14)


def test_loss_on_an_impulse_is_the_mean_loss_over_white_noise():
    n, (model, *_) = 12, drawn("euler")
    impulse = inputs.impulse(n, 1 / DT)
    functional = LinearFunctional(kernels.Airy(1.0), dt=DT)
    on_impulse = fit(model, impulse, functional(impulse), steps=1, lr=1e-9).losses[0, 0]
    # E (y_n - yhat_n)^2 is the sum of squares of how the last output depends on each input, over the variance 1/dt
    x = torch.zeros(1, n, 1, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad((model(x) - functional(x))[0, -1, 0], x)
    assert n * DT * on_impulse == pytest.approx(slopes.square().sum().item() / DT, rel=1e-12)


def test_first_below_counts_steps_and_knows_of_never():
    losses = np.array([[1.0, 2.0, 1.0], [0.95, 0.5, np.nan], [0.8, 3.0, np.nan]])
    assert FitResult(losses, []).first_below(0.9).tolist() == [2, 1, np.inf]
    with pytest.raises(ValueError, match="expected fraction > 0"):
        FitResult(losses, []).first_below(0.0)


def test_plateau_is_the_longest_stretch_that_keeps_its_loss():
    early = np.r_[np.full(30, 1.0), 0.5, 0.3, 0.2, np.full(10, 0.1), np.geomspace(0.09, 0.009, 8)]
    late = np.r_[1.0, 0.6, np.full(48, 0.3), 0.2]
    length, start = FitResult(np.stack([early, late], 1), []).plateaus()
    assert length.tolist() == [30, 48] and start.tolist() == [0, 2]


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_plateau_of_a_steady_decline_is_the_time_to_lose_a_fifth(rate):
    length, _ = FitResult(np.exp(-rate * np.arange(2000.0))[:, None], []).plateaus()
    assert length[0] == np.ceil(np.log(1 / 0.8) / rate)


def test_plateau_counts_nothing_after_the_fit_is_finished():
    losses = np.r_[1.0, 0.5, np.full(50, 0.005)][:, None]
    assert FitResult(losses, []).plateaus()[0].tolist() == [1]
    assert FitResult(losses, []).plateaus(floor=0.001)[0].tolist() == [50]


def test_plateaus_reject():
    for options in ({"keep": 1.0}, {"keep": 0.0}, {"floor": 2.0}):
        with pytest.raises(ValueError, match="expected (keep|floor)"):
            FitResult(np.ones((3, 1)), []).plateaus(**options)


def other_step():
    return [drawn("tanh")[0], RNN(np.eye(4), np.ones((4, 1)), np.ones((4, 1)), dt=1.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "expected one or more nn.Module"),
        ({"models": [torch.tanh]}, "expected one or more nn.Module"),
        ({"models": other_step()}, "expected models that differ in their weights alone"),
        ({"models": [drawn("tanh")[0], drawn("zoh")[0]]}, "expected models that differ in their weights alone"),
        ({"steps": 0}, "expected steps to be an integer"),
        ({"steps": 2.0}, "expected steps to be an integer"),
        ({"lr": -1.0}, "expected lr > 0"),
        ({"optimizer": "newton"}, "expected optimizer among"),
        ({"lr": None}, "expected lr to be a finite number"),
        ({"optimizer": "lbfgs"}, "expected no lr and no batch"),
        ({"optimizer": "lbfgs", "lr": None, "batch": 2, "generator": generator()}, "expected no lr and no batch"),
        ({"batch": 2, "generator": 0}, "expected generator to be a torch.Generator, got 0"),
        ({"batch": 6, "generator": generator()}, "expected batch between 1 and the 5"),
        ({"batch": True, "generator": generator()}, "expected batch to be an integer >= 1, got True"),
        ({"until": -1.0}, "expected until >= 0"),
        ({"inputs": torch.zeros(3)}, "expected inputs as a finite tensor"),
        ({"outputs": torch.full((5, 12, 1), torch.nan)}, "expected outputs as a finite tensor"),
        ({"outputs": torch.zeros(5, 1, 1)}, r"expected outputs of shape \(5, 12, 1\)"),
    ],
)
def test_fit_refuses(change, message):
    x, y = data()
    arguments = {"models": drawn("tanh"), "inputs": x, "outputs": y, "steps": 2, "lr": 0.1} | change
    with pytest.raises(ValueError, match=message):
        fit(**arguments)
