"""The zoo's answers, each by a route that shares nothing with the probe: closed forms, gradients, two trajectories."""

import math

import numpy as np
import pytest
import torch

import cmlib
from cmlib.chapter.zoo import EITHER, GROWING, ZOO, Known, WithHead

SEEDS = (0, 1, 2)
EARLY, LATE = 12, 24  # e-foldings of the fall between which a rate is read


def with_known(kind):
    """Return (name, kind of input, seed) wherever a memory is of this kind and has a number to it."""
    return [
        pytest.param(name, inputs, seed, id=f"{name}-{inputs}-{seed}")
        for name, animal in ZOO.items()
        for seed in (SEEDS if animal.random else (0,))
        for inputs, known in animal.known(animal.make(seed)).items()
        if known.kind == kind and not math.isnan(known.value)
    ]


def measured(name, inputs, seed, n_steps, history):
    animal = ZOO[name]
    model = animal.make(seed)
    curve = cmlib.memory_function(
        model, n_steps, d_in=animal.d_in, inputs=inputs, history=history, amplitudes=animal.options.get("amplitudes")
    )
    return curve, animal.known(model)[inputs]


def test_each_animal_has_a_reason_and_is_drawn_from_its_seed_alone():
    for name, animal in ZOO.items():
        assert animal.how and animal.known(animal.make()), name
        x = torch.randn(2, 12, animal.d_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        first, again, other = (animal.make(seed)(x) for seed in (0, 0, 1))
        first, again, other = (y[0] if isinstance(y, tuple) else y for y in (first, again, other))
        assert first.dtype == torch.float64 and torch.equal(first, again), name
        assert torch.equal(first, other) != animal.random, name


@pytest.mark.parametrize(("name", "inputs", "seed"), [p for p in with_known("finite") if p.values[1] == "impulse"])
def test_finite_memory_ends_where_gradients_do(name, inputs, seed):
    model, lag = ZOO[name].make(seed), int(ZOO[name].known(None)[inputs].value)
    x = torch.randn(1, 200, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model(x)[0, -1, 0], x)
    reached = slope[0, :, 0].flip(0).nonzero()
    assert int(reached.max()) == lag


LAGS = np.arange(300.0)


def held(kernel_integral):
    """The mean of a kernel over each step, out of its antiderivative."""
    return np.diff(kernel_integral(np.append(LAGS, LAGS[-1] + 1)))


CLOSED = {
    "integrator": np.ones(300),
    "oscillator": held(lambda t: np.sin(np.pi * t / 11) * 11 / np.pi),
    "damped oscillator": held(lambda t: (np.exp((-0.03 + 0.3j) * t) / (-0.03 + 0.3j)).real),
    "leaky integrator": held(lambda t: -np.exp(-0.05 * t) / 0.05),
    "three exponentials": held(lambda t: -50 * np.exp(-0.02 * t) + 20 * np.exp(-0.1 * t) - 8 * np.exp(-0.5 * t)),
    "power law": held(lambda t: -2 * (1 + t) ** -0.5),
}


@pytest.mark.parametrize("name", CLOSED)
def test_linear_maps_have_the_impulse_response_in_closed_form(name):
    x = cmlib.inputs.impulse(300)
    np.testing.assert_allclose(ZOO[name].make()(x).detach()[0, :, 0], CLOSED[name], atol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_recurrent_unit_is_a_sum_of_modes_of_which_the_slowest_decides(seed):
    layer = ZOO["LRU"].make(seed)
    nu, theta, B, C = (v.detach().numpy() for v in (layer.nu_log, layer.theta_log, layer.B, layer.C))
    modulus, phase = np.exp(-np.exp(nu)), np.exp(theta)
    assert ((modulus >= 0.9) & (modulus <= 0.999)).all()
    modes = modulus[:, None] ** LAGS * np.exp(1j * phase[:, None] * LAGS)
    kernel = ((C @ [1, 1j]) * np.sqrt(1 - modulus**2) * (B @ [1, 1j])) @ modes
    kernel = kernel.real + (LAGS == 0) * layer.D.item()
    np.testing.assert_allclose(layer(cmlib.inputs.impulse(300)).detach()[0, :, 0], kernel, atol=1e-12)
    known = ZOO["LRU"].known(layer)
    assert [found.value for found in known.values()] == pytest.approx([-np.log(modulus.max())] * 3, rel=1e-9)


@pytest.mark.parametrize(("name", "inputs", "seed"), with_known("exponential"))
def test_rates_are_those_of_the_late_fall(name, inputs, seed):
    rate = ZOO[name].known(ZOO[name].make(seed))[inputs].value
    first, last = math.ceil(EARLY / rate), math.ceil(LATE / rate)
    curve, _ = measured(name, inputs, seed, last, last)
    assert curve.values[first:].max() > 1000 * curve.floor
    # What is left after division by the law is level, but for oscillations and modes of nearly that rate: over the
    # 8 e-foldings between the two thirds a rate that is an eighth too large or too small gives e or 1 / e.
    left = curve.values[first:] * np.exp(rate * curve.t[first:])
    early, late = (part.max() for part in np.split(left, [len(left) // 3, -len(left) // 3])[::2])
    assert 1 / math.e < early / late < math.e


@pytest.mark.parametrize("seed", SEEDS)
def test_delta_rule_keeps_what_silence_does_not_overwrite(seed):
    curve, known = measured("DeltaNet", "impulse", seed, 400, 10)
    np.testing.assert_allclose(curve.values[-50:], known.value, rtol=1e-9)


def test_selective_layer_forgets_like_one_over_e_t_over_inputs_that_grow():
    curve, _ = measured("selective, |x| grows", "heaviside", 0, 4000, 1)
    k = np.arange(1, 4000)
    best = (k / (k + 1.0)) ** k / (k + 1)  # of (1 - q) q^k over q
    np.testing.assert_allclose(curve.values[1:], best, rtol=2e-3)
    np.testing.assert_allclose((k + 0.5)[2:] * curve.values[3:] * math.e, 1, rtol=0.01)  # the middle of the step


def test_selective_layer_over_bounded_inputs_forgets_at_one_rate():
    curve, known = measured("selective, |x| <= 2", "heaviside", 0, 200, 1)
    s = 0.5 * math.log1p(math.exp(-2))
    assert known.value == pytest.approx(s, rel=1e-12)
    k = np.arange(20, 200)
    np.testing.assert_allclose(curve.values[20:], -np.expm1(-s) * np.exp(-s * k), rtol=0, atol=10 * curve.floor)


def test_growing_inputs_hold_every_rate_that_the_window_can_show():
    rates = ZOO["selective, |x| grows"].make().speed(GROWING).detach()
    assert rates.min() < 1 / 4000 and rates.max() > 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("inputs", "exponent"), [("impulse", 1), ("heaviside", 2)])
def test_attention_divides_itself_among_all_steps(seed, inputs, exponent):
    curve, known = measured("attention", inputs, seed, 1500, 1)
    assert known.value == exponent
    early, late = curve.values[[300, 1499]]
    assert math.log(early / late) / math.log(1501 / 302) == pytest.approx(exponent, abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_with_a_table_ends_before_it_forgets(seed):
    curve = cmlib.memory_function(ZOO["attention, 512 positions"].make(seed), 512 - 12, inputs="impulse", history=12)
    M = curve.values * (12 + curve.t)
    assert M[250:].max() > 0.1 * M[1:250].max()  # no faster than 1 / t, but for a factor
    with pytest.raises(ValueError):
        cmlib.memory_function(ZOO["attention, 512 positions"].make(seed), 513, history=1)


def divergence(layer, x, n_steps=3000):
    """Growth per step of a gap of 1e-8 between two trajectories, drawn back to that after each step."""
    W, U = layer.weight_hh_l0.detach(), layer.weight_ih_l0.detach()
    h, gap = torch.randn(2, len(W), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gap, grown = 1e-8 * gap / gap.norm(), 0.0
    for step in range(n_steps):
        new, moved = torch.tanh(W @ h + U[:, 0] * x), torch.tanh(W @ (h + gap) + U[:, 0] * x)
        gap, h = moved - new, new
        grown += math.log(gap.norm() / 1e-8) if step >= 500 else 0.0
        gap *= 1e-8 / gap.norm()
    return grown / (n_steps - 500)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_trajectories_part_above_the_edge_and_meet_below(seed):
    below, above = (ZOO[f"echo state, radius {r}"].make(seed).core for r in (0.9, 2))
    rest = ZOO["echo state, radius 0.9"].known(ZOO["echo state, radius 0.9"].make(seed))["impulse"].value
    assert rest == pytest.approx(-math.log(0.9), rel=1e-9)
    assert divergence(below, 0.0) == pytest.approx(-rest, abs=0.005)
    assert divergence(above, 0.0) > 0.05 and divergence(above, 0.1) > 0.05  # at rest, and under the smallest input
    assert divergence(ZOO["chaotic tanh"].make(seed), 0.0) > 0.2


def test_rates_at_rest_are_those_of_the_step_by_hand():
    model = ZOO["LSTM with head"].make(0)
    w = {name.removesuffix("_l0"): weight.detach().numpy() for name, weight in model.core.named_parameters()}

    def step(state):
        h, c = state[:8], state[8:]
        i, f, g, o = np.split(w["weight_hh"] @ h + w["bias_ih"] + w["bias_hh"], 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        return np.append(np.tanh(c) / (1 + np.exp(-o)), c)

    rest = np.zeros(16)
    for _ in range(500):
        rest = step(rest)
    moved = 1e-6 * np.eye(16)
    J = np.array([(step(rest + e) - step(rest - e)) / 2e-6 for e in moved]).T
    rate = -math.log(np.abs(np.linalg.eigvals(J)).max())
    assert ZOO["LSTM with head"].known(model)["impulse"].value == pytest.approx(rate, rel=1e-6)
    other = ZOO["LSTM with head"].known(ZOO["LSTM with head"].make(1))["impulse"].value
    assert other != pytest.approx(rate, rel=0.01)


DRAWN = ("LRU", "S4D", "echo state, radius 0.9", "LSTM with head", "GRU, adapted")


@pytest.mark.parametrize("name", ["damped oscillator", "three exponentials", *DRAWN])
def test_rates_are_those_that_the_parts_say_from_inside(name):
    model, other = ZOO[name].make(0), ZOO[name].make(1)
    (found,) = cmlib.certify(model, 1, n_steps=100)
    assert ZOO[name].known(model)["impulse"].value == pytest.approx(found.rate, rel=1e-9)
    if ZOO[name].random and name != "echo state, radius 0.9":  # all of which have one radius
        assert ZOO[name].known(other)["impulse"].value != pytest.approx(found.rate, rel=0.01)


def test_time_first_module_mixes_what_is_called_a_batch():
    model = ZOO["GRU, time first"].make()
    x = torch.randn(3, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = x.clone()
    moved[0] += 1
    assert not torch.equal(model(moved)[1], model(x)[1])
    inside = WithHead(torch.nn.GRU(1, 8, batch_first=True)).double()
    inside.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x.transpose(0, 1)).transpose(0, 1), inside(x), rtol=0, atol=1e-14)


def test_no_other_inputs_are_tried_than_the_answers_speak_of():
    curve = cmlib.memory_function(lambda x: x, 16)
    assert sorted(curve.amplitudes[:, 0].tolist()) == EITHER[:, 0].tolist()


@pytest.mark.parametrize(
    ("known", "curve", "judged"),
    [
        (Known("exponential", 0.05), lambda t: np.exp(-0.05 * t), "right"),
        (Known("exponential"), lambda t: np.exp(-0.05 * t), "right"),
        (Known("exponential", 0.06), lambda t: np.exp(-0.05 * t), "wrong"),
        (Known("exponential", 0.045, upto=0.055), lambda t: np.exp(-0.05 * t), "right"),
        (Known("polynomial", 0.05), lambda t: np.exp(-0.05 * t), "wrong"),
        (Known("polynomial", 1.5), lambda t: (1 + t) ** -1.5, "right"),
        (Known("finite", 9), lambda t: 1.0 * (t < 10), "right"),
        (Known("finite", 10), lambda t: 1.0 * (t < 10), "wrong"),
        (Known("plateau", 1e-3), lambda t: np.exp(-0.5 * t) + 1e-3, "right"),
        (Known("none", also=("plateau",)), lambda t: np.exp(-0.5 * t) + 1e-3, "right"),
        (Known("exponential", 1e-3), lambda t: np.exp(-1e-3 * t), "undecided"),
    ],
)
def test_verdicts_are_judged_by_what_is_known(known, curve, judged):
    t = np.arange(200.0)
    assert known.judge(cmlib.decay(cmlib.MemoryCurve(t, curve(t), "impulse"))) == judged


VERDICTS = [
    pytest.param(name, inputs, id=f"{name}-{inputs}")
    for name, animal in ZOO.items()
    for inputs, known in animal.known(animal.make()).items()
    if known.kind != "refused" and inputs != "removed"
]


@pytest.mark.parametrize(("name", "inputs"), VERDICTS)
def test_probe_is_right_or_undecided(name, inputs):
    curve, known = measured(name, inputs, 0, 100, None)
    found = cmlib.decay(curve, max_steps=400)
    assert known.judge(found) != "wrong", (found, known)


def test_probe_decides_most_of_the_zoo():
    animals = ("delay of 50", "integrator", "damped oscillator", "leaky integrator", "power law", "DeltaNet")
    judged = []
    for name in animals:
        curve, known = measured(name, "impulse", 0, 100, None)
        judged.append(known.judge(cmlib.decay(curve, max_steps=400)))
    assert judged == ["right"] * len(animals)
