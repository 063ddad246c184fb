"""distances: compiled, batched and plain routes to the same numbers, and closed forms for one neuron."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import distances, kernels, models, parameterizations, targets
from cmlib.distances import SequenceDistance
from cmlib.worst_case import Ball

DT = 0.1
TARGET = targets.LinearFunctional(kernels.Polynomial(1.1), dt=DT)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(batch=70, steps=30, d_in=1, seed=1):
    return torch.randn(batch, steps, d_in, generator=generator(seed), dtype=torch.float64)


def rnn(activation, diagonal, m=5, d_in=1, d_out=1):
    g = generator(3)
    W = -torch.rand(m, generator=g, dtype=torch.float64) - 0.1
    if not diagonal:
        W = torch.diag(W) + 0.2 * torch.randn(m, m, generator=g, dtype=torch.float64)
    U, c = (torch.randn(m, d, generator=g, dtype=torch.float64) for d in (d_in, d_out))
    return models.RNN(W, U, c, 0.3 * torch.randn(m, generator=g, dtype=torch.float64), dt=DT, activation=activation)


def plainly(model, target, x, norm, moved):
    """The definition, one network and one sequence at a time."""
    weights = dict(model.named_parameters())
    error = squares = 0.0
    with torch.no_grad():
        kept = {name: w.clone() for name, w in weights.items()}
        for name, w in weights.items():
            w.copy_(moved[name])
        gap = np.zeros((len(x), x.shape[1]))
        slope = np.zeros_like(gap)
        for n in range(len(x)):
            out = model(x[n : n + 1])
            squares += (out - target(x[n : n + 1])).square().mean().item() if norm == "mse" else 0.0
            difference = ((out[0] if isinstance(out, tuple) else out) - target(x[n : n + 1]))[0] / x[n].abs().max()
            gap[n] = difference.abs().amax(1)
            slope[n] = torch.diff(difference, dim=0, prepend=torch.zeros_like(difference[:1])).abs().amax(1)
        for name, w in weights.items():
            w.copy_(kept[name])
    slope /= getattr(model, "dt", DT)
    for t in range(x.shape[1]):
        error = max(error, gap[:, t].max() + (slope[:, t].max() if norm == "w1" else 0.0))
    return (squares / len(x)) if norm == "mse" else error


def through_everything(model, x, norm, weights):
    """The definition of all sequences at once, in operations of torch."""
    out = torch.func.functional_call(model, weights, (x,))
    difference = (out[0] if isinstance(out, tuple) else out) - TARGET(x)
    if norm == "mse":
        return difference.square().mean()
    difference = difference / x.abs().amax((1, 2), keepdim=True)
    slope = torch.diff(difference, dim=1, prepend=torch.zeros_like(difference[:, :1])).abs() / DT
    gap = difference.abs().amax((0, 2))
    return (gap + slope.amax((0, 2))).max() if norm == "w1" else gap.max()


def moved_by(model, beta, n=3):
    ball = Ball(model)
    directions = ball.random(generator(5), n)
    return {k: (ball.center[k] + beta * d)[:1].expand(1, n, *ball.center[k].shape) for k, d in directions.items()}


@pytest.mark.parametrize("norm", ["sup", "w1", "mse"])
@pytest.mark.parametrize("activation", models.ACTIVATIONS)
@pytest.mark.parametrize("diagonal", [True, False])
def test_every_route_is_the_definition(activation, diagonal, norm):
    model, x = rnn(activation, diagonal), noise()
    distance = SequenceDistance(model, TARGET, x, norm)
    assert distance.compiled == (diagonal and activation != "tanh")
    moved = moved_by(model, 0.05)
    found = distance(moved)[0]
    expected = [plainly(model, TARGET, x, norm, {k: v[0, i] for k, v in moved.items()}) for i in range(3)]
    assert found.numpy() == pytest.approx(expected, rel=1e-12)
    leaves = {k: v.clone().requires_grad_() for k, v in moved.items()}
    values = distance(leaves)[0]
    assert values.detach().numpy() == pytest.approx(expected, rel=1e-12)
    # the gradient is that through all sequences and times
    gradients = torch.autograd.grad(values.sum(), list(leaves.values()))
    for i in range(3):
        one = {k: v[0, i].clone().requires_grad_() for k, v in moved.items()}
        error = through_everything(model, x, norm, one)
        assert error.item() == pytest.approx(expected[i], rel=1e-12)
        for found, wanted in zip(gradients, torch.autograd.grad(error, list(one.values())), strict=True):
            torch.testing.assert_close(found[0, i], wanted, rtol=1e-9, atol=1e-11)


def test_compiled_loop_sees_the_weights_and_not_the_raw_ones():
    f, x = parameterizations.softplus, noise()
    x = x[..., :1]
    rates = np.array([0.3, 1.0, 2.0])
    weights = (f.inverse(-rates), [1.0, -0.5, 2.0], [0.5, 1.0, 1.0])
    model = models.RNN(*weights, dt=DT, activation="relu", parameterization=f)
    target = models.RNN(-rates, [1.0, -0.5, 2.0], [0.5, 1.0, 1.0], dt=DT, activation="identity")
    distance = SequenceDistance(model, target, x, "sup")
    moved = moved_by(model, 0.3)
    assert distance.compiled
    expected = [plainly(model, target, x, "sup", {k: v[0, i] for k, v in moved.items()}) for i in range(3)]
    assert distance(moved)[0].numpy() == pytest.approx(expected, rel=1e-12)


class Layer(nn.Module):
    """A recurrent layer of torch with a readout."""

    def __init__(self, kind):
        super().__init__()
        self.layer, self.out = kind(2, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.layer(x)[0]), "a second output"


class Attention(nn.Module):
    """A causal transformer with dropout, which must be off, and a buffer."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, batch_first=True)
        self.inside, self.encoder, self.out = nn.Linear(2, 4), nn.TransformerEncoder(layer, 1), nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.scale * self.out(self.encoder(self.inside(x), mask=mask))


@pytest.mark.parametrize(
    "make", [lambda: Layer(nn.RNN), lambda: Layer(nn.GRU), lambda: Layer(nn.LSTM), Attention, lambda: nn.Linear(2, 2)]
)
def test_any_module_is_measured_in_double_precision_and_left_alone(make):
    torch.manual_seed(0)
    model = make().train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x = noise(batch=6, steps=9, d_in=2)
    curve = cmlib.perturbation_error(
        model, lambda x: torch.cumsum(x, 1), [0.0, 0.1], n_directions=2, generator=generator(), inputs=x, norm="w1"
    )
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(part.training for part in model.modules())
    ball = Ball(model)
    directions = ball.random(generator(), 2)
    double = make().double().eval()
    double.load_state_dict(state)
    for i, beta in enumerate([0.0, 0.1]):
        moved = [{k: ball.center[k] + beta * d[0, j] for k, d in directions.items()} for j in range(2)]
        double.dt = 1.0
        expected = max(plainly(double, lambda x: torch.cumsum(x, 1), x, "w1", m) for m in moved)
        assert curve.errors[i] == pytest.approx(expected, rel=1e-10)
    assert curve.is_lower_bound and np.isnan(curve.stability_radius)


def test_a_target_keeps_its_precision_and_its_mode():
    torch.manual_seed(0)
    target = Layer(nn.GRU)
    target.out = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9))
    target.train()
    x = noise(batch=4, steps=6, d_in=2)
    torch.manual_seed(0)
    student = Layer(nn.GRU)  # the same weights, without dropout: the target was read without it as well
    student.out = nn.Sequential(nn.Linear(3, 2), nn.Identity())
    assert cmlib.perturbation_error(student, target, [0.0], generator=generator(), inputs=x).errors[0] < 1e-6
    assert all(part.training for part in target.modules()) and next(target.parameters()).dtype == torch.float32


@pytest.mark.parametrize("norm", ["sup", "w1"])
def test_gradient_of_what_takes_no_batch_of_networks(norm):
    torch.manual_seed(0)
    model, x = Layer(nn.GRU).double(), noise(batch=9, steps=6, d_in=2)
    model.out = nn.Linear(3, 1).double()

    def target(x):
        return TARGET(x[..., :1])

    distance = SequenceDistance(model, target, x, norm, dt=DT)
    assert not distance.batchable
    leaves = {k: v.clone().requires_grad_() for k, v in moved_by(model, 0.05, n=2).items()}
    gradients = torch.autograd.grad(distance(leaves).sum(), list(leaves.values()))
    for i in range(2):
        one = {k: v[0, i].detach().clone().requires_grad_() for k, v in leaves.items()}
        difference = (torch.func.functional_call(model, one, (x,))[0] - target(x)) / x.abs().amax((1, 2), keepdim=True)
        slope = torch.diff(difference, dim=1, prepend=torch.zeros_like(difference[:, :1])).abs() / DT
        error = (difference.abs().amax((0, 2)) + (slope.amax((0, 2)) if norm == "w1" else 0.0)).max()
        for found, wanted in zip(gradients, torch.autograd.grad(error, list(one.values())), strict=True):
            torch.testing.assert_close(found[0, i], wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", ["sup", "mse"])
@pytest.mark.parametrize("method", ["random", "worst_case"])
@pytest.mark.parametrize("diagonal", [True, False])
def test_chunks_change_nothing(method, diagonal, norm, monkeypatch):
    model, x = rnn("tanh", diagonal), noise(batch=4, steps=5)

    def errors():
        return cmlib.perturbation_error(
            model, TARGET, [0.0, 0.2], method=method, n_directions=2, generator=generator(), inputs=x, norm=norm
        ).errors

    whole = errors()
    monkeypatch.setattr(distances, "MOST_NUMBERS", 5 * 5 * 3)  # 3 sequences of 5 steps and 5 units at a time
    assert errors() == pytest.approx(whole, rel=1e-10)
    monkeypatch.setattr(distances, "MOST_NUMBERS", 1)
    assert errors() == pytest.approx(whole, rel=1e-10)
    monkeypatch.setattr(distances, "IN_CACHE", 1)
    assert errors() == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("activation", ["identity", "hardtanh"])
def test_worst_case_of_one_neuron_has_a_closed_form(activation):
    # a slower rate and larger weights on a constant input; |x| <= 1/10 keeps hardtanh linear
    w, beta, n = 0.5, 0.05, 40
    model = models.RNN([-w], [1.0], [1.0], dt=DT, activation=activation)
    x = torch.full((1, n, 1), 0.1, dtype=torch.float64)
    target = models.RNN([-w], [1.0], [1.0], dt=DT, activation="identity")
    curve = cmlib.perturbation_error(
        model, target, [0.0, beta], method="worst_case", weights=("W", "U", "c"), generator=generator(), inputs=x
    )

    def response(w, gain):
        return gain * DT * ((1 - DT * w) ** np.arange(n)).sum()

    assert curve.errors[0] == pytest.approx(0.0, abs=1e-14)
    assert curve.errors[1] == pytest.approx(response(w - beta, (1 + beta) ** 2) - response(w, 1), rel=1e-9)
    assert curve.stability_radius == w


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("activation", ["identity", "hardtanh"])
def test_mse_of_one_neuron_has_a_closed_form(activation, diagonal):
    # as above, at each time; a ball of one number is the same by any norm
    w, beta, n = 0.5, 0.05, 40
    model = models.RNN([-w] if diagonal else [[-w]], [1.0], [1.0], dt=DT, activation=activation)
    x = torch.full((1, n, 1), 0.1, dtype=torch.float64)
    options = {"method": "worst_case", "weights": ("W", "U", "c"), "norm": "mse", "ball": "entrywise"}
    curve = cmlib.perturbation_error(model, model, [0.0, beta], inputs=x, **options)

    def answers(w, gain):
        return 0.1 * gain * (1 - (1 - DT * w) ** np.arange(1, n + 1)) / w

    assert curve.errors[0] == 0.0
    assert curve.errors[1] == pytest.approx(
        np.mean((answers(w - beta, (1 + beta) ** 2) - answers(w, 1)) ** 2), rel=1e-9
    )
    assert curve.stability_radius == w


@pytest.mark.parametrize("weights", [("c",), ("U", "c"), ("W",)])
@pytest.mark.parametrize("norm", ["sup", "w1", "mse"])
def test_entrywise_worst_case_is_the_worst_corner(norm, weights):
    model, x, beta = rnn("tanh", diagonal=False, m=3), noise(batch=5, steps=20), 0.01
    options = {"inputs": x, "norm": norm, "ball": "entrywise", "weights": weights}
    worst = cmlib.perturbation_error(model, TARGET, [beta], method="worst_case", **options)
    center = {k: v.detach() for k, v in model.named_parameters()}
    sizes = [center[name].numel() for name in weights]
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * sum(sizes))
    moved = {k: v.expand(1, len(corners), *v.shape) for k, v in center.items()}
    for name, signs in zip(weights, corners.split(sizes, 1), strict=True):
        moved[name] = moved[name] + beta * signs.reshape(1, -1, *center[name].shape)
    corner = SequenceDistance(model, TARGET, x, norm)(moved).max().item()
    assert worst.errors[0] == pytest.approx(corner, rel=1e-9)
    sampled = cmlib.perturbation_error(model, TARGET, [beta], n_directions=200, **options)
    spectral = cmlib.perturbation_error(model, TARGET, [beta], method="worst_case", **(options | {"ball": "spectral"}))
    assert max(sampled.errors[0], spectral.errors[0]) < worst.errors[0]


@pytest.mark.parametrize("activation", ["tanh", "hardtanh"])
def test_worst_case_is_above_every_sample_and_grows(activation):
    model, x, radii = rnn(activation, diagonal=False), noise(batch=20), [0.2, 0.0, 0.05, 0.1]
    worst = cmlib.perturbation_error(
        model, TARGET, radii, method="worst_case", n_directions=5, generator=generator(), inputs=x
    )
    sampled = cmlib.perturbation_error(model, TARGET, radii, n_directions=300, generator=generator(), inputs=x)
    assert (worst.errors >= sampled.errors * (1 - 1e-12)).all()
    assert (worst.errors[[0, 2, 3]] > 1.02 * sampled.errors[[0, 2, 3]]).all()
    assert (np.diff(worst.errors[np.argsort(radii)]) >= 0).all()
    assert worst.is_lower_bound


def test_a_linear_network_over_its_worst_input_has_the_exact_error():
    # identity activation on the discrete kernel: the sampled route meets the sum of |differences|
    model = models.RNN([-0.5, -2.0], [1.0, 1.0], [1.0, -0.5], dt=DT, activation="identity")
    steps = np.arange(60)
    kernel = DT * ((1 - 0.5 * DT) ** steps - 0.5 * (1 - 2.0 * DT) ** steps)
    difference = kernel - TARGET.weights(60)
    x = torch.tensor(np.sign(difference[::-1]).copy())[None, :, None]
    error = cmlib.perturbation_error(model, TARGET, [0.0], generator=generator(), inputs=x).errors[0]
    assert error == pytest.approx(np.abs(difference).sum(), rel=1e-12)


def test_weights_that_are_not_named_stay():
    model, x = rnn("tanh", diagonal=False), noise(batch=5)
    only_b = cmlib.perturbation_error(model, TARGET, [0.1], weights=["b"], generator=generator(), inputs=x)
    moved = moved_by(model, 0.0, n=10)
    moved["b"] = moved["b"] + 0.1 * Ball(model, ["b"]).random(generator(), 10)["b"]
    assert only_b.errors[0] == pytest.approx(SequenceDistance(model, TARGET, x, "sup")(moved).max().item(), rel=1e-12)
    assert only_b.stability_radius == np.inf


def test_directions_have_spectral_norm_one():
    model = nn.Sequential(nn.Conv1d(3, 4, 5), nn.PReLU(1), nn.Linear(6, 2))
    for name, d in Ball(model).random(generator(), 3).items():
        weight = dict(model.named_parameters())[name]
        assert d.shape == (1, 3, *weight.shape)
        for one in d[0]:
            size = torch.linalg.matrix_norm(one.flatten(1), ord=2) if weight.ndim > 1 else one.norm()
            assert size == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("norm", ["sup", "w1", "mse"])
def test_a_perturbation_that_overflows_has_an_infinite_error(norm):
    for diagonal in (True, False):
        W = [-1.0] if diagonal else [[-1.0]]
        model = models.RNN(W, [1.0], [1.0], dt=1.0, activation="relu")
        curve = cmlib.perturbation_error(
            model, TARGET, [0.0, 1e200], generator=generator(), inputs=noise(steps=20), n_directions=20, norm=norm
        )
        assert np.isfinite(curve.errors[0]) and curve.errors[1] == np.inf


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": "rnn"}, "expected model to be an nn.Module"),
        ({"target": kernels.Exponential(1.0)}, "expected a target that maps sequences, and no kernel"),
        ({"inputs": torch.zeros(2, 3)}, "expected finite inputs of shape"),
        ({"inputs": torch.full((2, 3, 1), torch.nan)}, "expected finite inputs of shape"),
        ({"inputs": torch.zeros(2, 3, 1)}, "no sequence is 0"),
        ({"horizon": 10.0}, "expected no horizon"),
        ({"weights": ["V"]}, "expected weights out of"),
        ({"target": lambda x: x[:, 0]}, "expected a target with finite outputs"),
        ({"target": lambda x: x / 0.0}, "expected a target with finite outputs"),
    ],
)
def test_perturbation_error_over_inputs_rejects(options, message):
    arguments = {"model": rnn("tanh", False), "target": TARGET, "inputs": noise(batch=2, steps=3)} | options
    with pytest.raises(ValueError, match=message):
        cmlib.perturbation_error(radii=[0.1], generator=generator(), **arguments)


def curve(radii, errors, radius=np.inf):
    return cmlib.PerturbationCurve(np.array(radii), np.array(errors), "random", radius, True)


def test_stable_perturbation_radius_of_a_pole_is_exact():
    # E = 1 / (2 - beta) doubles at beta = 1, also between the radii and where they are not in order
    radii = np.array([0.0, 1.7, 0.3, 0.6, 2.5])
    errors = np.where(radii < 2, 1 / (2 - radii.clip(max=1.9)), np.inf)
    assert cmlib.stable_perturbation_radius(curve(radii, errors, 2.0)) == pytest.approx(1.0, rel=1e-12)
    assert cmlib.stable_perturbation_radius(curve(radii, errors, 2.0), level=4.0) == pytest.approx(1.75, rel=1e-12)


def test_stable_perturbation_radius_at_its_ends():
    flat = curve([0.0, 1.0], [0.5, 0.6])
    assert cmlib.stable_perturbation_radius(flat) == np.inf
    assert cmlib.stable_perturbation_radius(flat, level=0.4) == 0.0
    for level in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="expected level"):
            cmlib.stable_perturbation_radius(flat, level)
