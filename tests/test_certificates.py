"""certify: rates of layers by two routes each, where they rest, where they are driven and where they do not rest."""

import copy

import numpy as np
import pytest
import torch
from scipy import linalg
from test_parts import LRU, Head, Loop, Running, Selective, drawn, noise
from torch import nn

import cmlib
from cmlib import certificates, models, parameterizations
from cmlib.certificates import certify
from cmlib.parts import REGISTERED, parts, register

FEW = {"n_steps": 200}


def differences(step, state, x, size=1e-6):
    """The Jacobian of a step by central differences."""
    eye = size * torch.eye(len(state), dtype=state.dtype)
    ahead, behind = (step(state + sign * eye, x.expand(len(state), -1)) for sign in (1, -1))
    return ((ahead - behind) / (2 * size)).mT.detach().numpy()


def settled(layer, x, n=4000):
    """Where a layer of torch rests at a constant input: by torch's own recurrence."""
    with torch.no_grad():
        x = torch.as_tensor(x, dtype=torch.float64)
        _, state = layer(x.expand(1, n, -1) if layer.batch_first else x.expand(n, 1, -1))
    return torch.cat([h[-1] for h in state], -1)[0] if isinstance(state, tuple) else state[-1, 0]


def slowest(matrix):
    return -np.log(np.abs(linalg.eigvals(matrix)).max())


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("wrapped", [False, True])
def test_rate_at_rest_and_driven_is_that_of_differences_where_torch_settles(kind, wrapped):
    layer, other = drawn(kind(1, 6)), drawn(kind(1, 6), seed=1)
    model = Head(copy.deepcopy(layer), time_first=True).double() if wrapped else copy.deepcopy(layer)
    (found,) = certify(model, 1, **FEW)
    assert found.part.name == ("layer" if wrapped else "")
    for x, rate in ((0.0, found.rate), (1.0, found.driven[1.0]), (-1.0, found.driven[-1.0])):
        values = []
        for one in (layer, other):
            (part,) = parts(one)
            held = torch.tensor([x], dtype=torch.float64)
            values.append(slowest(differences(part.step, settled(one, held), held)))
        assert rate == pytest.approx(values[0], rel=1e-6) and rate != pytest.approx(values[1], rel=1e-2)


def test_rate_at_rest_is_the_one_at_which_an_impulse_dies():
    model = Head(drawn(nn.LSTM(1, 3)), time_first=True).double()
    (found,) = certify(model, 1)
    M = cmlib.memory_function(model, 60, inputs="impulse", amplitudes=[1e-3], history=400).values
    seen = np.flatnonzero(M > 1e-9)[-20:]
    assert np.ptp(np.log(M[seen]) + found.rate * seen) < 1.0  # a mode that turns is as often above as below


def test_two_layers_are_the_blocks_of_one_triangular_jacobian():
    stack = drawn(nn.GRU(1, 3, num_layers=2))
    below, above = certify(stack, **FEW)
    x = torch.zeros(1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        state = stack(x.expand(4000, -1, -1))[1]

    def whole(flat):
        return stack(x, flat.reshape(state.shape))[1].flatten()

    J = torch.autograd.functional.jacobian(whole, state.flatten()).numpy()
    found = np.concatenate([below.eigenvalues, above.eigenvalues])
    assert np.abs(np.sort_complex(linalg.eigvals(J)) - np.sort_complex(found)).max() < 1e-9
    assert [one.part.name for one in (below, above)] == ["l0", "l1"]


def test_gate_alone_has_the_rate_of_its_bias_and_settles_by_newton_where_it_is_slow():
    for bias in (2.0, 8.0):
        gate = nn.LSTM(1, 1, batch_first=True)
        for weight in gate.parameters():
            nn.init.zeros_(weight)
        gate.bias_ih_l0.data[1], gate.bias_ih_l0.data[2] = bias, 0.5  # forgets little, and something comes in
        (found,) = certify(Head(gate).double(), 1, **FEW)
        assert found.rate == pytest.approx(np.log1p(np.exp(-bias)), rel=1e-9)
        assert any("Newton" in line for line in found.assumes) == (bias == 8.0)
        f = 1 / (1 + np.exp(-bias))
        reads = 0.5 * (1 - np.tanh(0.5 * np.tanh(0.5) / (1 - f)) ** 2)  # of the cell, by an output gate half open
        assert found.radius == pytest.approx(cmlib.stability_radius([[0.0, reads * f], [0.0, f]], time="steps"))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cell_in_a_loop_has_what_the_layer_has(kind):
    layer = drawn({nn.RNNCell: nn.RNN, nn.GRUCell: nn.GRU, nn.LSTMCell: nn.LSTM}[kind](1, 4))
    cell = kind(1, 4).double()
    with torch.no_grad():
        for own, of_layer in zip(cell.parameters(), layer.parameters(), strict=True):
            own.copy_(of_layer)
    (one,), (other,) = certify(Loop(cell), 1, **FEW), certify(layer, **FEW)
    assert one.rate == pytest.approx(other.rate, rel=1e-9) and one.radius == pytest.approx(other.radius, rel=1e-6)
    assert one.driven == pytest.approx(other.driven, rel=1e-6)


def test_lru_has_the_rate_of_its_largest_modulus_and_bounds_the_memory_of_what_has_no_other():
    moduli = np.linspace(0.9, 0.99872, 16)
    nets = {
        "alone": (LRU(moduli), True),
        "between static layers": (nn.Sequential(nn.Linear(1, 1), LRU(moduli), nn.Tanh(), LRU([0.5])), True),
        "behind a mean": (nn.Sequential(Running(), LRU(moduli)), False),
        "beside a GRU": (nn.Sequential(LRU(moduli), Head(nn.GRU(1, 2, batch_first=True))), False),
    }
    for name, (model, decides) in nets.items():
        found = certify(model.double(), 1, n_steps=32)
        (slow,) = [one for one in found if one.part.layer == "LRU" and len(one.eigenvalues) == 16]
        assert slow.rate == pytest.approx(-np.log(0.99872), rel=1e-9), name
        assert slow.decides is decides and slow.radius == np.inf and slow.driven_rate == slow.rate, name
        assert slow.time_scales[0] == pytest.approx(1 / slow.rate) and slow.growth == 1.0


def test_bound_of_an_lru_holds_where_its_memory_is_measured():
    model = nn.Sequential(nn.Linear(1, 1), LRU([0.5, 0.9]), nn.Tanh()).double()
    rate = min(one.rate for one in certify(model, 1))
    for kind in ("impulse", "heaviside", "removed"):
        M = cmlib.memory_function(model, 120, inputs=kind).values
        t = np.arange(20, 120)
        assert (M[t] * np.exp(rate * t)).max() < 50 * (M[20] * np.exp(rate * 20))
        assert (M[t] * np.exp(2 * rate * t)).max() > 50 * (M[20] * np.exp(2 * rate * 20))  # and one of 2 rate does not


def test_flows_have_rates_per_unit_of_time_and_radii_of_raw_weights():
    W = [[-0.5, 4.0], [0.0, -0.3]]
    for dt in (0.5, 1.0):
        (found,) = certify(models.LinearRNN(W, [1.0, 1.0], [1.0, 1.0], dt=dt), n_steps=16)
        assert (found.part.kind, found.rate, found.decides) == ("flow", pytest.approx(0.3), True)
        assert found.radius == pytest.approx(cmlib.stability_radius(W))
        powers = [linalg.norm(linalg.expm(dt * k * np.array(W)), 2) for k in range(1, 40)]
        assert 0.7 * max(powers) <= found.growth <= max(powers) * (1 + 1e-9)  # over the powers 1, 2, 4, ...
    (found,) = certify(models.RNN(W, [1.0, 1.0], [1.0, 1.0], dt=0.5), n_steps=16)
    assert found.rate == pytest.approx(-np.log(1 - 0.15) / 0.5) and not found.decides and found.driven == {}
    (found,) = certify(models.SSM([0.0], [1.0], [1.0], parameterization=parameterizations.exp), n_steps=16)
    assert found.radius == np.inf
    (found,) = certify(models.LinearRNN([[0.1]], [1.0], [1.0]), n_steps=16)
    assert found.rate == pytest.approx(-0.1) and found.lyapunov == pytest.approx(0.1) and not found.decides


def random_rnn(gain, n=100, bias=False):
    layer = drawn(nn.RNN(1, n, bias=bias, batch_first=True))
    with torch.no_grad():
        layer.weight_hh_l0.copy_(gain * noise(n, n) / n**0.5)
        layer.weight_ih_l0.copy_(noise(n, 1, seed=1))
    return layer


def divergence(W, drive=None, n=600, size=1e-7):
    """The rate at which two trajectories part, one of them put back beside the other at each step."""
    rng = np.random.default_rng(0)
    h, logs = rng.normal(size=len(W)), []
    d = rng.normal(size=len(W))
    d *= size / np.linalg.norm(d)
    for k in range(n + 300):
        u = 0.0 if drive is None else drive[k]
        h, beside = np.tanh(W @ h + u), np.tanh(W @ (h + d) + u)
        grown = np.linalg.norm(beside - h)
        d = (beside - h) * size / grown
        if k >= 300:
            logs.append(np.log(grown / size))
    return np.mean(logs)


def test_chaotic_network_has_the_exponent_at_which_neighbours_part():
    layer = random_rnn(3.0)
    (found,) = certify(layer, **FEW)
    W = layer.weight_hh_l0.detach().numpy()
    assert found.rate == pytest.approx(slowest(W), rel=1e-9) and found.rate < 0 and found.radius == 0.0
    assert found.lyapunov > 0.1 and found.lyapunov == pytest.approx(divergence(W), abs=0.02)
    other = random_rnn(1.5).weight_hh_l0.detach().numpy()
    assert found.lyapunov != pytest.approx(divergence(other), abs=0.02)
    assert "Lyapunov exponent" in found.says and "not stable" in found.says


def test_network_below_the_edge_has_no_exponent_and_forgets():
    (found,) = certify(random_rnn(0.8), **FEW)
    assert found.lyapunov is None and found.rate > 0 and found.driven_rate > found.rate


def test_strong_drive_calms_a_network_that_is_unstable_at_rest():
    layer = random_rnn(1.2)
    with torch.no_grad():
        layer.weight_ih_l0.mul_(4.0)
    (found,) = certify(layer, n_steps=400)
    W, U = layer.weight_hh_l0.detach().numpy(), layer.weight_ih_l0.detach().numpy()[:, 0]
    drive = np.random.default_rng(1).normal(size=(900, 1)) * U
    assert found.rate < 0 < found.driven_rate and found.lyapunov > -0.05
    assert found.driven_rate == pytest.approx(-divergence(W, drive), abs=0.05)


def test_bistable_neuron_goes_to_the_other_rest():
    layer = nn.RNN(1, 1, bias=False, batch_first=True).double()
    with torch.no_grad():
        layer.weight_hh_l0.fill_(3.0)
        layer.weight_ih_l0.fill_(1.0)
    (found,) = certify(layer, **FEW)
    h = 1.0
    for _ in range(100):
        h = np.tanh(3.0 * h)
    assert found.rate == pytest.approx(-np.log(3.0))
    assert found.lyapunov == pytest.approx(np.log(3.0 * (1 - h**2)), rel=1e-6)


def test_a_cycle_is_no_rest():
    layer = drawn(nn.RNN(1, 2, batch_first=True))
    turn = torch.tensor([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    with torch.no_grad():
        layer.weight_hh_l0.copy_(3.0 * turn)
        layer.bias_ih_l0.copy_(torch.tensor([0.3, -0.2]))
        layer.bias_hh_l0.zero_()
    (found,) = certify(layer, **FEW)
    assert found.rate < 0 and found.lyapunov == pytest.approx(0.0, abs=0.02)  # along the cycle


def test_inputs_are_held_along_channels_and_the_diagonal_of_a_large_layer_along_the_diagonal(monkeypatch):
    layer = nn.RNN(2, 1, bias=False, batch_first=True).double()
    with torch.no_grad():
        layer.weight_hh_l0.fill_(0.5)
        layer.weight_ih_l0.copy_(torch.tensor([[1.0, -1.0]]))

    def rate(drive):
        h = 0.0
        for _ in range(200):
            h = np.tanh(0.5 * h + drive)
        return -np.log(0.5 * (1 - h**2))

    (found,) = certify(layer, n_steps=8, amplitudes=[1.0])
    assert found.driven[1.0] == pytest.approx(rate(0.0)) and rate(0.0) < rate(1.0)  # along the diagonal channels cancel
    monkeypatch.setattr(certificates, "SMALL", 0)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[1.0, 0.0]]))
    assert certify(layer, n_steps=8, amplitudes=[1.0])[0].driven[1.0] == pytest.approx(rate(1.0))


@pytest.mark.parametrize(("matrix", "amplitudes"), [(2048, [-1.0, 1.0]), (4, [])])
def test_large_layers_have_the_slowest_rates_alone_and_they_are_those_of_all(monkeypatch, matrix, amplitudes):
    monkeypatch.setattr(certificates, "SMALL", 2)
    monkeypatch.setattr(certificates, "DENSE", 3)
    monkeypatch.setattr(certificates, "MATRIX", matrix)
    layer = random_rnn(0.8, n=200, bias=True)
    (found,) = certify(layer, n_steps=50, amplitudes=[1.0])
    (part,) = parts(layer)
    J = differences(part.step, settled(layer, torch.zeros(1), 300), torch.zeros(1, dtype=torch.float64))
    assert len(found.eigenvalues) == certificates.FEW and found.rate == pytest.approx(slowest(J), rel=1e-6)
    assert np.isnan(found.radius) and np.isnan(found.growth) and list(found.driven) == amplitudes


def test_selective_layer_is_seen_where_it_is():
    before = dict(REGISTERED)
    register(Selective, lambda layer, x: torch.exp(-nn.functional.softplus(layer.w * x)), selective=True)
    try:
        (found,) = certify(nn.Sequential(nn.Linear(1, 1, bias=False), Selective()).double(), 1, **FEW)
        (bare,) = certify(Selective(), 1, **FEW)
    finally:
        REGISTERED.clear()
        REGISTERED.update(before)
    assert found.rate == pytest.approx(np.log(2.0)) and not found.decides
    assert bare.driven[-10.0] == pytest.approx(np.log1p(np.exp(-10.0)), rel=1e-6)
    u = np.random.default_rng(0).normal(size=200_000)
    assert bare.driven_rate == pytest.approx(np.log1p(np.exp(u)).mean(), abs=5 * bare.driven_error)
    assert 0 < bare.driven_error < 0.05


def test_modes_that_neither_grow_nor_fall_are_said_to_stay():
    (linear,) = certify(models.LinearRNN([[0.0, 1.0], [-1.0, 0.0]], [1.0, 0.0], [1.0, 0.0]), n_steps=16)
    assert linear.rate == 0.0 and "neither forgets nor amplifies" in linear.says and not linear.decides
    before = dict(REGISTERED)
    register(Selective, lambda layer, x: torch.ones_like(x), selective=True)
    try:
        (found,) = certify(Selective(), 1, n_steps=16)
    finally:
        REGISTERED.clear()
        REGISTERED.update(before)
    assert found.driven_rate == 0.0 and found.says.endswith("under random input differences stay.")


def test_parts_that_are_not_alone_or_never_called_say_so():
    (found,) = certify(Loop(drawn(nn.GRUCell(5, 4)), feeds_back=True), 1, **FEW)
    why = "its step alone, though its own input depends on its state"
    assert why in found.assumes and found.says.endswith(f"; all this of {why}.")

    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = drawn(nn.GRU(1, 2, batch_first=True)), nn.GRU(1, 2)

        def forward(self, x):
            return self.used(x)[0]

    used, unused = certify(Spare(), 1, **FEW)
    assert used.rate > 0 and np.isnan(unused.rate) and unused.assumes == ("not linearised: the model does not call it",)
    assert unused.says == "GRU 'unused' is not linearised: the model does not call it."


def test_a_model_that_takes_single_precision_alone_is_certified_in_double():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = drawn(nn.GRU(1, 3, batch_first=True)).float()

        def forward(self, x):
            return self.layer(x, torch.zeros(1, len(x), 3))[0]

    model = Single()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model).double()(noise(1, 3, 1))
    (single,), (double,) = certify(model, 1, **FEW), certify(copy.deepcopy(model.layer).double(), 1, **FEW)
    assert single.rate == pytest.approx(double.rate, rel=1e-9) and single.driven == pytest.approx(
        double.driven, rel=1e-5
    )


def test_channels_folded_into_the_batch_are_all_looked_at():
    class Folds(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = drawn(nn.GRU(1, 3, batch_first=True))

        def forward(self, x):
            return self.layer(x.mT.flatten(0, 1)[..., None])[0].unflatten(0, (len(x), -1)).sum(1)

    model = Folds()
    (folded,), (plain,) = certify(model, 2, **FEW), certify(model.layer, 1, **FEW)
    assert folded.rate == pytest.approx(plain.rate, rel=1e-9)
    assert folded.driven[10.0] == pytest.approx(min(plain.driven[10.0], plain.rate), rel=1e-6)


def test_model_is_left_as_it_was_and_draws_are_the_callers():
    model = Head(drawn(nn.GRU(1, 4, batch_first=True))).float()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, second = (certify(model, 1, n_steps=64)[0].driven_rate for _ in range(2))
    other = certify(model, 1, n_steps=64, generator=torch.Generator().manual_seed(1))[0].driven_rate
    assert first == second != other and model.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(w, before[name]) and w.dtype == torch.float32 for name, w in model.state_dict().items())


def test_a_step_that_leaves_no_difference_has_no_finite_exponent():
    layer = drawn(nn.RNN(1, 2, nonlinearity="relu", batch_first=True))
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    (found,) = certify(layer, **FEW)
    assert found.rate == found.driven_rate == np.inf and found.driven_error == 0.0 and found.growth == pytest.approx(1)


def test_a_state_that_runs_away_has_neither_rest_nor_exponent():
    layer = drawn(nn.RNN(1, 1, nonlinearity="relu", batch_first=True))
    with torch.no_grad():
        layer.weight_hh_l0.fill_(10.0)
        layer.bias_ih_l0.fill_(1.0)
    (found,) = certify(layer, n_steps=1000, amplitudes=[1.0])
    assert np.isnan(found.rate) and "no rest" in found.says and not found.decides


class Between(nn.Module):
    """The difference of two channels, summed from where it is large."""

    def __init__(self, least=0.0):
        super().__init__()
        self.least = least

    def forward(self, x):
        gap = x[..., :1] - x[..., 1:]
        return x + torch.where(gap.abs() > self.least, gap, 0.0).cumsum(1)


class Delay(nn.Module):
    def forward(self, x):
        return torch.cat([torch.zeros_like(x[:, :100]), x], 1)[:, : x.shape[1]]


@pytest.mark.parametrize("other", [Between(), Between(least=5.0), Delay()])
def test_memory_that_some_inputs_or_a_long_time_bring_out_leaves_no_bound(other):
    bare, other = (nn.Sequential(layer, drawn(LRU([0.9], channels=2))) for layer in (nn.Identity(), other))
    assert [one.decides for model in (bare, other) for one in certify(model, 2, **FEW)] == [True, False]


@pytest.mark.parametrize("time_first", [False, True])
def test_parts_cover_the_memory_of_a_model_that_has_no_other(time_first):
    layer = drawn(nn.GRU(1, 3, num_layers=2, batch_first=not time_first))
    model = Head(layer, time_first).double()
    for net, covers in ((layer, True), (model, True), (nn.Sequential(model, Running()), False)):
        assert {one.covers for one in certify(net, 1, **FEW)} == {covers}


def by_kicks(model, size=1e-4, n=90):
    """The rate at which what an impulse did to a model at rest dies out, from its late peaks."""
    with torch.no_grad():
        x = torch.zeros(2, 400 + n, 1, dtype=torch.float64)
        x[1, 400] = size
        y = model.eval()(x)
    gap = np.log((y[1] - y[0]).abs().amax(1)[400:].numpy())
    peak = np.maximum.accumulate(gap[::-1])[::-1]
    return (peak[30] - peak[60]) / 30


NORMS = {
    "old": lambda layer: nn.utils.spectral_norm(layer, "weight_hh_l0"),
    "spectral": lambda layer: nn.utils.parametrizations.spectral_norm(layer, "weight_hh_l0"),
    "weight": lambda layer: nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0"),
}


@pytest.mark.parametrize("name", NORMS)
def test_weights_that_are_computed_are_those_that_the_model_runs_with(name):
    layer = drawn(nn.GRU(1, 1, batch_first=True), seed=4)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)  # where norms begin to look for their singular vectors
        model = Head(NORMS[name](layer)).double()
    before = copy.deepcopy({n: w.detach() for n, w in model.state_dict().items()})
    (found,) = certify(model, 1, **FEW)
    parts(model)
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items()) and model.training
    assert found.rate == pytest.approx(by_kicks(model), rel=0.02)
    assert "recurrent" in {role for n, role in found.part.weights.items() if "weight_hh" in n}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_what_runs_under_a_transform_is_not_looked_at():
    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = drawn(nn.RNNCell(1, 2))

        def forward(self, x):
            return torch.vmap(lambda u: self.cell(u, u.new_zeros(len(u), 2)))(x)

    (found,) = certify(Mapped(), 1, n_steps=8)
    assert "runs under a transform" in found.says and np.isnan(found.rate)


@pytest.mark.filterwarnings("error")
def test_a_part_that_takes_one_step_has_no_rate_under_random_input():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = drawn(nn.GRU(1, 2, batch_first=True))

        def forward(self, x):
            return self.layer(x.reshape(-1, 1, 1))[0].reshape(len(x), -1, 2)

    (found,) = certify(Folded(), 1, n_steps=16)
    assert np.isnan(found.driven_rate) and "it takes 1 steps where the model takes 16" in found.says


def test_what_has_no_parts_has_no_certificates_and_bad_input_is_refused():
    assert certify(nn.Linear(1, 1), 1) == [] == certify(lambda x: x)
    with pytest.raises(ValueError, match="expected amplitudes > 0"):
        certify(nn.GRU(1, 2), amplitudes=[0.0, 1.0])
    with pytest.raises(ValueError, match="expected n_steps to be an integer >= 8"):
        certify(nn.GRU(1, 2), n_steps=2)
    with pytest.raises(ValueError, match="expected d_in, the number of input channels"):
        certify(Head(nn.GRU(1, 2, batch_first=True)))
