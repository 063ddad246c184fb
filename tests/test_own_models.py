"""Networks of a user's own: what a subclass overrides counts, and nothing is read off names that it did not declare."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels, models
from cmlib.distances import SequenceDistance
from cmlib.worst_case import Ball


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(6, 40, 1, generator=generator(1), dtype=torch.float64)


class Leaky(models.RNN):
    """A step of its own, under the declarations of the class it comes from."""

    def forward(self, x):
        return super().forward(torch.tanh(x))


def relu_network(kind):
    return kind([-0.5, -0.2], [1.0, -0.5], [1.0, 1.0], dt=0.1, activation="relu")


def test_a_subclass_with_its_own_forward_is_at_no_distance_from_itself():
    network = relu_network(Leaky)
    assert not SequenceDistance(network, network, X, "sup").compiled
    assert SequenceDistance(relu_network(models.RNN), network, X, "sup").compiled
    errors = cmlib.perturbation_error(network, copy.deepcopy(network), [0.0, 0.1], inputs=X).errors
    assert errors[0] == 0 and errors[1] > 0


class Stiffer(models.LinearRNN):
    """Its recurrent weight lies half a unit of time to the left of what is stored."""

    def recurrent(self):
        return super().recurrent() - 0.5 * torch.eye(len(self.U), dtype=self.U.dtype)

    def forward(self, x):
        W, U, c = self.realization()
        return models.LinearRNN(W, U, c, dt=self.dt)(x)


@pytest.mark.parametrize("W", [[[-0.2, 0.0], [0.0, -0.4]], [-0.2, -0.4]])
def test_a_recurrent_weight_of_its_own_decides_error_and_radius(W):
    network = Stiffer(W, [1.0, 1.0], [0.5, 0.5])
    kernel = cmlib.ExponentialSum([0.7, 0.9], [0.5, 0.5])
    curve = cmlib.perturbation_error(network, kernel, [0.0, 0.1, 0.8], method="worst_case")
    assert curve.errors[0] == pytest.approx(0, abs=1e-12) and curve.errors[2] == np.inf
    assert curve.stability_radius == pytest.approx(0.7)
    if np.ndim(W) == 2:
        assert cmlib.certify(network, 1)[0].radius == pytest.approx(0.7)


def test_the_ascent_starts_from_the_readout_whatever_its_name():
    layer = models.SSM([-0.5, -0.2], [1.0, -0.5], [0.7, 1.0], dt=0.5)
    starts = Ball(layer)._starts(1)["C"][0]
    along = layer.C.detach() / layer.C.detach().norm()
    signs = [float((start * along).sum()) for start in starts]
    assert signs == pytest.approx([1, -1, 1, -1, -1])


class Clock(nn.Module):
    """A module with an attribute dt that is no time step."""

    def __init__(self, dt):
        super().__init__()
        self.dt, self.gain = dt, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.gain * x.cumsum(1)


def test_a_time_step_is_not_read_off_any_attribute_of_that_name():
    errors = [
        cmlib.perturbation_error(Clock(dt), Clock(dt), [0.1], inputs=X, norm="w1", n_directions=2).errors[0]
        for dt in ("noon", 0.01)
    ]
    assert errors[0] == errors[1]
    halved = cmlib.perturbation_error(Clock(1), Clock(1), [0.1], inputs=X, norm="w1", n_directions=2, dt=0.5).errors[0]
    assert halved > errors[0]


def test_without_numba_the_numbers_are_the_same(monkeypatch):
    from cmlib import distances

    network, target = relu_network(models.RNN), kernels.Exponential(0.3)
    target = cmlib.targets.LinearFunctional(target, dt=0.1)
    options = {"inputs": X, "n_directions": 5, "norm": "w1"}
    compiled = cmlib.perturbation_error(network, target, [0.0, 0.1, 0.3], **options).errors
    monkeypatch.setattr(distances, "has_compiler", lambda: False)
    assert not SequenceDistance(network, target, X, "sup").compiled
    plain = cmlib.perturbation_error(network, target, [0.0, 0.1, 0.3], **options).errors
    assert compiled == pytest.approx(plain, rel=1e-12)


def test_nothing_is_drawn_from_torchs_own_generator_and_the_same_call_gives_the_same():
    state = torch.random.get_rng_state()
    first, again = (
        cmlib.perturbation_error(relu_network(models.RNN), relu_network(models.RNN), [0.1], inputs=X).errors[0]
        for _ in range(2)
    )
    assert first == again and torch.equal(torch.random.get_rng_state(), state)
    other = cmlib.perturbation_error(
        relu_network(models.RNN), relu_network(models.RNN), [0.1], inputs=X, generator=generator(1)
    )
    assert other.errors[0] != first


def test_what_torch_registers_is_seen_and_isinstance_is_not_offered():
    # from Python 3.12 on isinstance(model, protocol) is blind to submodules such as the parameterization
    model = models.LinearRNN([-1.0], [1.0], [1.0])
    assert "parameterization" not in vars(model)
    assert models.is_recurrent(model)
    with pytest.raises(TypeError, match="runtime_checkable"):
        isinstance(model, models.RecurrentModel)
    without = models.LinearRNN([-1.0], [1.0], [1.0])
    del without.parameterization
    assert not models.is_recurrent(without)
