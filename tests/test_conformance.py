"""Conformance: ours do what they declare, and each check says so of a class that does not."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels, models, parameterizations, targets, testing
from cmlib.chapter import Lorenz96


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def dense(m=4):
    return 0.3 * normal(m, m) - torch.eye(m, dtype=torch.float64)


def diagonal(m=4):
    return -torch.linspace(0.2, 1.0, m, dtype=torch.float64)


OURS = {
    "linear, dense": lambda: models.LinearRNN(dense(), normal(4), normal(4, seed=1), dt=0.5),
    "linear, diagonal": lambda: models.LinearRNN(diagonal(), normal(4), normal(4, seed=1), dt=0.5),
    "linear, Euler": lambda: models.LinearRNN(dense(), normal(4), normal(4), dt=0.1, discretization="euler"),
    "linear, exp": lambda: models.LinearRNN(normal(4), normal(4), normal(4), parameterization=parameterizations.exp),
    "linear, dissipative": lambda: models.LinearRNN(
        normal(4, 4), normal(4), normal(4), parameterization=parameterizations.dissipative
    ),
    "normalised": lambda: models.NormalizedRNN(diagonal(), normal(4), normal(4, seed=1), dt=0.5),
    "normalised in W1, exp": lambda: models.NormalizedRNN(
        normal(4), normal(4), normal(4, seed=1), norm="w1", parameterization=parameterizations.exp
    ),
    "normalised in L2, Euler": lambda: models.NormalizedRNN(
        diagonal(), normal(4), normal(4, seed=1), norm="l2", dt=0.1, discretization="euler"
    ),
    "tanh with a bias": lambda: models.RNN(dense(), normal(4, 2), normal(4, 3), 0.3 * normal(4), dt=0.2),
    "hardtanh, diagonal": lambda: models.RNN(diagonal(), normal(4), normal(4), dt=0.2, activation="hardtanh"),
    "identity, diagonal": lambda: models.RNN(diagonal(), normal(4), normal(4), dt=0.2, activation="identity"),
    "state-space layer": lambda: models.SSM(diagonal(), normal(4, 2), normal(4, 2), dt=0.5),
}


KERNELS = [
    (kernels.Exponential(0.3), np.inf),
    (kernels.ExponentialMixture(0.1, 2.0), np.inf),
    (kernels.Polynomial(2.5), np.inf),
    (kernels.Polynomial(0.8), 1e3),
    (kernels.Airy(6.0), np.inf),
    (kernels.Bump(5.0, 0.7), np.inf),
    (kernels.Shifted(kernels.Exponential(1.0), 3.0), np.inf),
    (kernels.Bump(5.0, 0.7) - 2 * kernels.Exponential(0.5), np.inf),
    (cmlib.ExponentialSum([0.5 + 3j, 0.5 - 3j], [0.5, 0.5]), np.inf),
    (lambda t: np.exp(-0.1 * t) * np.cos(5 * t), np.inf),
]


@pytest.mark.parametrize(("kernel", "horizon"), KERNELS)
def test_our_kernels_conform(kernel, horizon):
    testing.check_kernel(kernel, horizon)


def decaying(t):
    return np.exp(-t) * np.cos(3 * t)


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (kernels.Custom(decaying, nonnegative=True), "nonnegative"),
        (kernels.Custom(decaying, tail=lambda t: np.exp(-t)), "tail|integral"),
        (kernels.Custom(decaying, integral=lambda t: t), "tail|integral"),
        (kernels.Custom(decaying, l1_norm=lambda: 1.0), "l1_norm"),
        (kernels.Custom(decaying, laplace=lambda s: 1 / (1 + s)), "laplace"),
        (lambda t: 1 / (1 + t), "integral exists"),
        (lambda t: t[0], "not map two times to two real values"),
        (3.0, "to be a Kernel"),
    ],
)
def test_kernels_that_are_not_what_they_declare_are_named(kernel, says):
    with pytest.raises(AssertionError, match=says):
        testing.check_kernel(kernel)


@pytest.mark.parametrize("name", OURS)
def test_our_recurrent_models_conform(name):
    testing.check_recurrent_model(OURS[name]())


@pytest.mark.parametrize("name", [*parameterizations.PARAMETERIZATIONS, "dissipative"])
def test_our_parameterizations_conform(name):
    testing.check_parameterization(getattr(parameterizations, name))


@pytest.mark.parametrize(
    ("seq_map", "d_in"),
    [
        (targets.LinearFunctional(kernels.Polynomial(1.1)), 1),
        (Lorenz96(), 1),
        (models.S4D(3, 4, generator=generator()), 3),
        (nn.GRU(2, 3, batch_first=True, dtype=torch.float64), 2),
    ],
)
def test_our_targets_and_layers_conform(seq_map, d_in):
    testing.check_sequence_map(seq_map, d_in)


class Keeps(nn.Module):
    """A map that goes on from where the last call ended."""

    def __init__(self):
        super().__init__()
        self.h = 0.0

    def forward(self, x):
        self.h = self.h + 1.0
        return x + self.h


@pytest.mark.parametrize(
    ("seq_map", "says"),
    [
        (lambda x: x.flip(1), "expected a causal model"),
        (lambda x: x - x.mean(0, keepdim=True), "expected sequences to be independent"),
        (lambda x: x[:, -1], "expected outputs"),
        (lambda x: x.cumsum(1) / 0, "expected finite outputs"),
        (Keeps(), "starts anew with each call, but it keeps h from call to call"),
        (lambda x: x / x.shape[1], "a shorter input gave other outputs"),
        ("a map", "expected a map"),
    ],
)
def test_maps_that_are_none_are_named(seq_map, says):
    with pytest.raises(AssertionError, match=says):
        testing.check_sequence_map(seq_map)


class Lying(models.RNN):
    def forward(self, x):
        return super().forward(x) + 0.1 * x.cumsum(1)


class Faster(models.LinearRNN):
    def recurrent(self):
        return 2 * super().recurrent()


class SlowAtRest(models.RNN):
    def linearization(self):
        return 0.5 * self.recurrent()


class Unnamed(models.RNN):
    readout_weight = "C"


class NoLongerDiagonal(models.RNN):
    diagonal = True

    def recurrent(self):
        return self.W


class ButExact(models.RNN):
    discretization = "zoh"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: Lying(diagonal(), normal(4), normal(4), dt=0.2, activation="relu"), "linearization|clamp"),
        (lambda: Lying(diagonal(), normal(4), normal(4), dt=0.2, activation="hardtanh"), "linearization|clamp"),
        (lambda: Faster(dense(), normal(4), normal(4)), "linearization|realization"),
        (lambda: SlowAtRest(dense(), normal(4), normal(4), dt=0.2), "linearization"),
        (lambda: ButExact(dense(), normal(4), normal(4), dt=0.7), "linearization"),
        (lambda: Unnamed(dense(), normal(4), normal(4)), "readout_weight names 'C'"),
        (lambda: NoLongerDiagonal(dense(), normal(4), normal(4), dt=0.2), "diagonal is True"),
        (lambda: nn.GRU(1, 3), "declares .*linearization"),
    ],
)
def test_models_that_do_not_what_they_declare_are_named(model, says):
    with pytest.raises(AssertionError, match=says):
        testing.check_recurrent_model(model())


class OfAUser(nn.Module):
    stable, acts_on, time = True, "eigenvalues", "flow"

    def __init__(self, forward, right_inverse, **declared):
        super().__init__()
        self.forward, self.right_inverse = forward, right_inverse
        for name, value in declared.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("parameterization", "says"),
    [
        (OfAUser(lambda w: -w, lambda value: -value), "declares itself stable"),
        (OfAUser(lambda w: -(w**2) - 0.1, lambda value: value), "right_inverse is no inverse"),
        (OfAUser(lambda w: -w.exp() / len(w.reshape(-1)), lambda v: (-16 * v).log()), "one by one"),
        (OfAUser(lambda w: -w.exp().detach(), lambda v: (-v).log()), "gradient"),
        (OfAUser(lambda w: -w.exp(), lambda v: (-v).log(), derivative=lambda w: w), "derivative"),
        (OfAUser(lambda w: -w.exp(), lambda v: (-v).log(), acts_on="rows"), "acts_on"),
        (nn.Linear(1, 1), "declares"),
        (lambda w: -w.exp(), "declares"),
    ],
)
def test_parameterizations_that_do_not_what_they_declare_are_named(parameterization, says):
    with pytest.raises(AssertionError, match=says):
        testing.check_parameterization(parameterization)


def test_a_users_own_parameterization_conforms_and_is_taken():
    mine = OfAUser(lambda w: -(w**2) - 0.1, lambda value: (-value - 0.1).sqrt())
    testing.check_parameterization(mine)
    model = models.LinearRNN(normal(3), normal(3), normal(3), parameterization=mine)
    testing.check_recurrent_model(model)
    assert models.recurrent.radius_of_weight(model) == np.inf
