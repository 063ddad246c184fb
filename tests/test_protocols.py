"""The public code's protocol and network: closed forms, what is perturbed and by how much, overflow."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels, models, protocols, targets
from cmlib.chapter import PublicNetwork
from cmlib.chapter.public_network import RATES, white_noise_error

EPS = np.finfo(float).eps


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(m=6, kind="direct", **options):
    return PublicNetwork(m, kind, generator=torch.Generator().manual_seed(3), dtype=torch.float64, **options)


def nothing(x):
    return torch.zeros_like(x)


class Kept(nn.Module):
    """Answers 0, and keeps what its weights were each time."""

    def __init__(self):
        super().__init__()
        self.W, self.P, self.seen = nn.Parameter(noise(5)), nn.Parameter(noise(4, 4)), []

    def forward(self, x):
        Kept.last.append({name: w.detach().clone() for name, w in self.named_parameters()})
        return torch.zeros_like(x)


def weights_seen(**options):
    Kept.last, model = [], Kept()
    protocols.public_perturbation(model, nothing, [0.0, 0.1, 0.3], noise(1, 3, 1), n_draws=2, **options)
    start = dict(model.named_parameters())
    return [{name: (w - start[name]).detach() for name, w in seen.items()} for seen in Kept.last]


# ---- the protocol --------------------------------------------------------------------------------


def test_late_errors_count_by_the_fourth_power_of_time():
    n = 200
    late, early = (torch.zeros(1, n, 1, dtype=torch.float64) for _ in range(2))
    late[0, 199], early[0, 99] = 1.0, 1.0
    goal = torch.zeros_like(late)
    ratio = protocols.time_weighted_error(late, goal) / protocols.time_weighted_error(early, goal)
    assert ratio.item() == pytest.approx(2.0**4, rel=16 * EPS)
    assert protocols.time_weights(n).mean().item() == pytest.approx(1.0, rel=n * EPS)


def test_error_at_radius_zero_is_that_of_the_network_as_it_is():
    model, x = network(), noise(5, 30, 1)
    target = targets.LinearFunctional(kernels.Polynomial(1.1, 0.1))
    curve = protocols.public_perturbation(model, target, [0.0, 0.01], x, shifted="W")
    assert curve.errors[0] == protocols.time_weighted_error(model(x), target(x)).item()


def test_shift_moves_each_rate_by_exactly_the_radius_and_noise_reaches_it_in_one_entry():
    for moved, beta in zip(weights_seen(shifted="W"), [0.0, 0.1, 0.3] * 2, strict=True):
        assert torch.allclose(moved["W"], torch.full((5,), -beta, dtype=torch.float64), rtol=0, atol=4 * EPS)
        assert moved["P"].abs().max().item() == pytest.approx(beta, abs=8 * EPS)
        assert beta == 0 or (moved["P"].abs() < beta / 2).any()


def test_without_a_shift_every_weight_gets_noise_alike_at_each_radius():
    zero, small, large, *others = weights_seen()
    assert all(w.abs().max() == 0 for w in zero.values())
    for name in ("W", "P"):
        assert small[name].abs().max().item() == pytest.approx(0.1, abs=8 * EPS)
        assert torch.allclose(3 * small[name], large[name], rtol=0, atol=16 * EPS)
        assert not torch.allclose(others[2][name], large[name], rtol=0, atol=1e-3)  # the other draw


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_one_state_variable_shifted_agrees_with_its_geometric_sum(exact, beta):
    model = network(1, exact=exact)
    with torch.no_grad():
        for layer in (*model.embed, *model.readout):
            layer.bias.zero_(), layer.weight.fill_(1.0)
        model.P.fill_(2.0), model.W.fill_(0.1)
    model.settle()
    x, rate = noise(3, 25, 1), 4 * (0.1 - beta)
    step, gain = (np.exp(-rate), -np.expm1(-rate) / rate) if exact else (1 - rate, 1.0)
    y = [sum(step ** (k - j) * gain * x[:, j, 0] for j in range(k + 1)) for k in range(25)]
    expected = protocols.time_weighted_error(torch.stack(y, 1)[..., None], nothing(x)).item()

    class OfW(nn.Module):  # only the rate is a weight
        def __init__(self):
            super().__init__()
            self.W, self.inner = nn.Parameter(model.W.detach().clone()), [model]

        def forward(self, x):
            self.inner[0].W.data.copy_(self.W)
            return self.inner[0](x)

    errors = protocols.public_perturbation(OfW(), nothing, [beta], x, shifted="W", n_draws=1).errors
    # 25 factors of size up to 1.8, each rounded, in sums of 25
    assert errors[0] == pytest.approx(expected, rel=1e3 * EPS)


def test_overflow_of_single_precision_is_infinite_and_in_double_it_is_not():
    radii, x = [0.0, 1.0], noise(2, 100, 1)
    models_of = [network(), network().float()]
    for model in models_of:
        model.settle()  # so that the shift takes rates below 0
    curves = [
        protocols.public_perturbation(model, nothing, radii, x.to(model.W.dtype), shifted="W", n_draws=2)
        for model in models_of
    ]
    assert np.isfinite(curves[0].errors).all() and curves[0].errors[1] > 1e39
    assert curves[1].errors[0] == pytest.approx(curves[0].errors[0], rel=1e-4) and curves[1].errors[1] == np.inf


def test_maximum_runs_over_draws_and_smaller_radii():
    class Dip(nn.Module):  # errors 1, 4, 0 at radii 0, .5, 1
        def __init__(self):
            super().__init__()
            self.W = nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            shift = 1 - self.W
            return torch.ones_like(x) * (1 + 5 * shift - 6 * shift**2)

    curve = protocols.public_perturbation(Dip(), nothing, [1.0, 0.0, 0.5], noise(1, 1, 1), shifted="W", n_draws=1)
    assert curve.radii.tolist() == [0.0, 0.5, 1.0] and curve.errors.tolist() == [1.0, 4.0, 4.0]


def test_curve_is_read_like_any_other():
    model, x = models.LinearRNN([-0.5], [1.0], [1.0]), noise(4, 60, 1)
    target = targets.LinearFunctional(kernels.Exponential(0.5))
    curve = protocols.public_perturbation(model, target, np.linspace(0, 0.6, 13), x)
    radius = cmlib.stable_perturbation_radius(curve, 1.0)
    assert 0 < radius < 0.6 and curve.is_lower_bound
    assert np.interp(radius, curve.radii, 1 / np.maximum(curve.errors, 1e-300)) == pytest.approx(1.0, rel=1e-9)


def test_model_keeps_its_weights():
    model = network()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    protocols.public_perturbation(model, nothing, [0.5], noise(1, 5, 1), shifted="W")
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"model": print}, "expected model to be an nn.Module"),
        ({"radii": [-1.0]}, r"expected finite radii >= 0 of shape \(n_radii,\)"),
        ({"radii": []}, r"expected finite radii >= 0"),
        ({"inputs": torch.zeros(3)}, r"expected inputs of shape \(batch, time, channels\)"),
        ({"shifted": "w"}, "expected shifted among"),
        ({"n_draws": 0}, "expected n_draws to be an integer >= 1"),
        ({"target": lambda x: x[:, 1:]}, "expected outputs and goals of one shape"),
    ],
)
def test_protocol_rejects(changed, message):
    arguments = {"model": network(), "target": nothing, "radii": [0.1], "inputs": noise(2, 4, 1)} | changed
    with pytest.raises(ValueError, match=message):
        protocols.public_perturbation(**arguments)


# ---- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", RATES)
def test_answers_to_impulses_and_to_nothing_are_those_of_the_steps(kind, exact):
    model, x = network(kind=kind, exact=exact), torch.zeros(2, 40, 1, dtype=torch.float64)
    x[0, 0] = 1.0
    pushed, idle = model(x)[..., 0]
    assert torch.allclose(idle, model.idle(40), rtol=0, atol=1e-13)
    assert torch.allclose(pushed - idle, model.kernel(40), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", RATES)
def test_error_over_white_noise_is_its_quadratic_form(kind):
    # of an affine map: the error of nothing, and what each unit impulse adds to the answer
    n, model, weights = 12, network(kind=kind), noise(12, seed=1)
    target = nn.Conv1d(1, 1, n, bias=False, dtype=torch.float64)
    target.weight.data = weights.flip(0)[None, None]
    x = torch.cat([torch.zeros(1, n), torch.eye(n)]).double()
    off = (model(x[..., None])[..., 0] - target(nn.functional.pad(x, (n - 1, 0))[:, None])[:, 0]).detach()
    mean_square = off[0] ** 2 + (off[1:] - off[0]).square().sum(0)
    expected = (protocols.time_weights(n) ** 2 * mean_square).mean().item()
    assert white_noise_error(model, weights).item() == pytest.approx(expected, rel=1e-12)


def test_euler_is_unstable_where_the_flow_is_not():
    euler, exact = network(kind="softplus"), network(kind="softplus", exact=True)
    for model in (euler, exact):
        model.P.data *= 10.0  # rates times 100, all still > 0
    assert torch.equal(euler.rates(), exact.rates()) and (euler.rates() > 0).all()
    sizes = [torch.linalg.eigvals(model.step()[0].detach()).abs().max().item() for model in (euler, exact)]
    assert sizes[0] > 1 > sizes[1]


def test_rates_of_a_network_that_trains_are_not_negative_and_direct_ones_may_be_once_it_has():
    for kind in ("direct", "softplus", "exp"):
        model = network(kind=kind)
        assert (model.rates() >= 0).all() and (model.W < 0).any()
        before = model.rates()
        model.settle()
        assert torch.equal(model.rates(), before)  # what relu hid is gone
        model.W.data -= 5.0
        assert bool((model.rates() > 0).all()) is (kind != "direct")


def test_start_is_orthogonal():
    P = network().P
    assert torch.allclose(P.mT @ P, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-14)


def test_modes_of_s4_turn_and_have_no_weight_to_shift():
    model = network(8, "s4")
    assert not {"W", "P"} & dict(model.named_parameters()).keys() and len(model.rates()) == 4
    found = torch.linalg.eigvals(model.step()[0]).detach().numpy()
    z = (torch.complex(-model.rates(), model.frequency) * torch.exp(model.log_step)).detach().numpy()
    expected = np.concatenate([np.exp(z), np.exp(z.conj())])
    assert np.abs(np.sort_complex(found) - np.sort_complex(expected)).max() < 1e-12


def test_network_draws_from_its_generator_alone():
    state = torch.random.get_rng_state()
    first, again = network(), network()
    other = PublicNetwork(6, dtype=torch.float64)
    assert torch.equal(first.P, again.P) and not torch.equal(first.P, other.P)
    assert torch.equal(torch.random.get_rng_state(), state) and PublicNetwork(3).W.dtype == torch.float32


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((0,), {}, "expected m to be an integer >= 1"),
        ((4, "gru"), {}, "expected kind among"),
        ((5, "s4"), {}, "expected an even m of complex modes, got 5"),
        ((4,), {"dtype": torch.int64}, "expected dtype to be a torch.dtype of floating-point numbers"),
    ],
)
def test_network_rejects(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        PublicNetwork(*arguments, **options)
    with pytest.raises(ValueError, match="expected an input of shape"):
        PublicNetwork(4)(torch.zeros(2, 5, 2))
