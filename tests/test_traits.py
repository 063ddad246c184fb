"""traits: maps of which the kind is known are told so, and their rivals are not."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels, models, targets
from cmlib.sequence_maps import causal_convolution


def generator(seed):
    return torch.Generator().manual_seed(seed)


def delay(lag):
    return lambda x: torch.cat([torch.zeros_like(x[:, :lag]), x], 1)[:, : x.shape[1]]


def average(x):
    weights = torch.zeros(x.shape[1], dtype=x.dtype)
    weights[:20] = 0.05
    return causal_convolution(weights, x[..., 0])[..., None]


def moving(step, units=1, start=0.0):
    """A map of a recurrent step (h, x) -> h that is read off as it is."""

    def run(x):
        h, y = torch.full((len(x), units), start, dtype=x.dtype), []
        for k in range(x.shape[1]):
            h = step(h, x[:, k])
            y.append(h)
        return torch.stack(y, 1)

    return run


def tanh_network(gain, seed=0, units=100):
    numbers = np.random.default_rng(seed)
    W = gain * numbers.standard_normal((units, units)) / units**0.5
    U = numbers.standard_normal((1, units))
    return W, moving(lambda h, x: torch.tanh(h @ torch.as_tensor(W) + x @ torch.as_tensor(U)), units)


def clock(x):
    return x * torch.sin(torch.arange(x.shape[1], dtype=x.dtype))[:, None]


def with_head(kind, dtype=torch.float64):
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = kind(1, 6, batch_first=True), nn.Linear(6, 1)

        def forward(self, x):
            return self.head(self.layer(x)[0])

    g, network = generator(1), Headed().to(dtype)
    with torch.no_grad():
        for w in network.parameters():
            w.copy_(0.6 * torch.randn(w.shape, generator=g))
    return network


LINEAR = {
    "identity": lambda x: x,
    "shifted": lambda x: 2 * x + 3,
    "integrator": lambda x: x.cumsum(1),
    "moving average": average,
    "network": models.LinearRNN([-0.1, -1.0], [1.0, 1.0], [1.0, 1.0]),
    "unstable": models.LinearRNN([0.05], [1.0], [1.0]),
    "convolution": targets.LinearFunctional(kernels.Polynomial(1.5)),
    "clock": clock,
}
NONLINEAR = {
    "square": lambda x: x**2,
    "relu": torch.relu,
    "barely": lambda x: x + 1e-8 * x**2,
    "LSTM": with_head(nn.LSTM),
    "GRU": with_head(nn.GRU),
    "in single precision": with_head(nn.GRU, torch.float32),
}


def test_linear_maps_are_told_from_others():
    assert {name: cmlib.traits(each).linear for name, each in LINEAR.items()} == dict.fromkeys(LINEAR, True)
    assert {name: cmlib.traits(each).linear for name, each in NONLINEAR.items()} == dict.fromkeys(NONLINEAR, False)


@pytest.mark.parametrize("n_steps", [64, 128, 200])
def test_a_finite_memory_has_the_lag_of_its_oldest_input(n_steps):
    known = {"identity": (lambda x: x, 0), "average": (average, 19), "delay": (delay(27), 27), "clock": (clock, 0)}
    known["saturated"] = (torch.tanh, 0)
    known["window"] = (lambda x: torch.relu(x - delay(5)(x)) * delay(3)(x), 5)
    for name, (seq_map, lag) in known.items():
        found = cmlib.traits(seq_map, n_steps=n_steps)
        assert (found.lag, found.memoryless) == (lag, lag == 0), name


def test_what_fades_or_reaches_too_far_has_no_lag():
    fading = [models.LinearRNN([-rate], [1.0], [1.0]) for rate in (0.01, 1.0, 3.0, 12.0)]
    saturated = [lambda x, part=part: part(x.cumsum(1)) for part in (torch.sign, lambda z: z.clamp(-1, 1))]
    recurrent = [NONLINEAR[name] for name in ("LSTM", "GRU")]
    for seq_map in [*fading, *saturated, LINEAR["convolution"], delay(100), *recurrent]:
        assert cmlib.traits(seq_map).lag is None


def test_a_clock_is_seen_and_a_start_away_from_rest_is_none():
    for seq_map in (clock, lambda x: x * torch.arange(x.shape[1])[:, None]):
        assert cmlib.traits(seq_map).time_invariant is False
    for seq_map in (average, delay(9), *NONLINEAR.values()):
        assert cmlib.traits(seq_map).time_invariant is True
    starts = moving(lambda h, x: torch.tanh(0.9 * h + x + 0.3), start=5.0)
    assert cmlib.traits(starts).time_invariant is True
    slowly = moving(lambda h, x: torch.tanh(0.999 * h) + 0.01 * x * h, start=1.0)
    assert cmlib.traits(slowly, n_steps=32).time_invariant in (None, False)


def rate_of_tangents(W, n_steps=3000):
    numbers = np.random.default_rng(7)
    h, v, total = numbers.standard_normal(len(W)), numbers.standard_normal(len(W)), 0.0
    for k in range(n_steps + 500):
        h = np.tanh(h @ W)
        v = (v @ W) * (1 - h**2)
        size = np.linalg.norm(v)
        v /= size
        total += np.log(size) if k >= 500 else 0.0
    return total / n_steps


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_chaos_has_a_rate_by_two_routes_and_order_has_none(seed):
    W, network = tanh_network(2.5, seed)
    found, rate = cmlib.traits(network, n_steps=256), rate_of_tangents(W)
    assert found.chaotic is True and found.time_invariant is None
    assert found.lyapunov == pytest.approx(rate, rel=0.5) and rate > 0.1  # inputs calm one of the two runs
    for gain in (0.5, 0.9, 1.05):
        W, network = tanh_network(gain, seed)
        found = cmlib.traits(network, n_steps=256)
        assert found.chaotic is False and np.isnan(found.lyapunov) and rate_of_tangents(W) < 0.01


def test_weak_chaos_on_a_short_time_is_not_decided():
    _, network = tanh_network(1.6)
    assert cmlib.traits(network, n_steps=64).chaotic is None and cmlib.traits(network, n_steps=512).chaotic is True


def test_what_grows_turns_or_switches_is_not_chaotic():
    turn = 1.3 * torch.tensor([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    others = {
        "unstable": LINEAR["unstable"],
        "limit cycle": moving(lambda h, x: torch.tanh(h @ turn + x), 2),
        "two states": moving(lambda h, x: torch.tanh(3.0 * h + x)),
        "integrator": LINEAR["integrator"],
        "clock": clock,
        "largest so far": lambda x: torch.cummax(x, 1).values,
    }
    assert {name: cmlib.traits(each).chaotic for name, each in others.items()} == dict.fromkeys(others, False)
    logistic = moving(lambda h, x: 3.9 * h * (1 - h) + 0.0 * x, start=0.3)
    assert cmlib.traits(logistic).chaotic is False  # no input reaches it
    pushed = moving(lambda h, x: (3.9 * h * (1 - h) + 1e-3 * torch.tanh(x)).clamp(0, 1), start=0.3)
    assert cmlib.traits(pushed).lyapunov == pytest.approx(0.5, rel=0.2)  # that of the map, as the literature has it


def chunks(length):
    return lambda x: torch.cat([part.cumsum(1) for part in x.split(length, 1)], 1)


@pytest.mark.parametrize("scale", [30.0, 300.0, 3000.0])
def test_what_relaxes_slowly_from_its_start_is_not_called_a_clock(scale):
    relaxing = cmlib.traits(lambda x: x * (1 - torch.exp(-torch.arange(x.shape[1], dtype=x.dtype) / scale))[:, None])
    assert relaxing.time_invariant is None


@pytest.mark.parametrize("n_steps", [64, 127, 200])
def test_what_starts_anew_changes_with_time_whatever_its_period(n_steps):
    every_other = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert cmlib.traits(lambda x: x * every_other.repeat(x.shape[1])[: x.shape[1], None]).time_invariant is False
    for length in (2, 7, n_steps // 4, n_steps // 2, n_steps, 2 * n_steps):
        assert cmlib.traits(chunks(length), n_steps=n_steps).time_invariant is False, length


def test_a_last_step_that_begins_anew_is_no_lack_of_memory():
    found = cmlib.traits(chunks(127))
    assert found.memoryless is False and found.lag is None


@pytest.mark.parametrize("lag", [130, 251, 300])
def test_a_delay_longer_than_was_looked_back_is_no_lack_of_memory(lag):
    for seq_map in (delay(lag), lambda x: torch.tanh(x) + delay(lag)(x)):
        found = cmlib.traits(seq_map)
        assert found.memoryless is False and found.lag is None


def test_thresholds_and_saturation_far_off_are_not_linear():
    for seq_map in (lambda x: x.clamp(-100, 100).cumsum(1), lambda x: torch.where(x.abs() < 1e-3, 0.0, x)):
        assert cmlib.traits(seq_map).linear is False
    single = models.LinearRNN([-0.1], [1.0], [1.0]).float()
    for seq_map in (single, lambda x: single(x.float()) + 5.0, lambda x: 3.0 * x + 1e4):
        assert cmlib.traits(seq_map).linear is True


def test_chaos_that_a_coarse_readout_hides_at_first_is_seen():
    network = tanh_network(3.0, seed=5)[1]
    for readout in (torch.sign, lambda y: torch.round(4 * y)):
        found = cmlib.traits(lambda x, readout=readout: readout(network(x)))
        assert found.chaotic is True and np.isnan(found.lyapunov)


@pytest.mark.parametrize("seed", range(1, 4))
def test_verdicts_do_not_hang_on_the_draw(seed):
    for seq_map in (average, with_head(nn.LSTM), LINEAR["network"], clock, tanh_network(3.0)[1]):
        first, other = cmlib.traits(seq_map), cmlib.traits(seq_map, generator=generator(seed))
        assert (first.linear, first.lag, first.chaotic) == (other.linear, other.lag, other.chaotic)


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="expected n_steps to be an integer >= 8"):
        cmlib.traits(lambda x: x, n_steps=7)
    with pytest.raises(ValueError, match="expected finite outputs"):
        cmlib.traits(lambda x: x / 0)


@pytest.mark.parametrize("rate", [0.1, 0.37, 1.0])
@pytest.mark.parametrize("n_steps", [64, 128, 200])
def test_gain_that_swings_changes_with_time_and_does_not_settle(rate, n_steps):
    def swings(x):
        gain = 1 + 0.5 * torch.sin(rate * torch.arange(x.shape[1], dtype=x.dtype))
        falls = 0.8 ** torch.arange(x.shape[1], dtype=x.dtype)
        return cmlib.sequence_maps.causal_convolution(falls, gain * x[..., 0])[..., None]

    assert cmlib.traits(swings, n_steps=n_steps).time_invariant is False
