"""sensitivity: the least push of each weight that changes the answer by a tenth, solved for where it can be."""

import copy

import numpy as np
import pytest
import torch
from test_parts import LRU, Head, drawn, noise
from torch import nn

from cmlib import inputs, models, sensitivity
from cmlib.distances import SequenceDistance
from cmlib.parts import parts
from cmlib.report import CALLS_OF_ASCENT, CALLS_OF_PUSH
from cmlib.sensitivity import CLOSE, _least
from cmlib.worst_case import Ball

X = noise(4, 60, 1)


def rows(model, x=X, **options):
    return {row.name: row for row in sensitivity(model, x, **options)}


def test_pushes_of_a_linear_network_are_those_of_its_formula():
    # at rest under a long step of size 1 its answer is c U / rate
    found = rows(models.LinearRNN([-0.5], [3.0], [2.0]), inputs.heaviside(200))
    assert found["U"].worst == pytest.approx(0.3, rel=CLOSE - 1) and found["U"].size == 3.0
    assert found["c"].worst == pytest.approx(0.2, rel=CLOSE - 1) and found["c"].relative == found["c"].worst / 2.0
    slower = 0.5 - 0.5 / 1.1  # 1 / (1/2 - push) = 1.1 / (1/2)
    assert slower <= found["W"].worst <= slower * CLOSE and found["W"].role == "recurrent"
    assert [row.name for row in sensitivity(models.LinearRNN([-0.5], [3.0], [2.0]), X)][0] == "W"


def test_shift_of_the_output_is_no_change_of_memory():
    model = nn.Sequential(drawn(nn.Linear(1, 1)), models.SSM([-0.5], [1.0], [1.0]), drawn(nn.Linear(1, 1))).double()
    found = rows(model)
    assert found["2.bias"].worst == found["2.bias"].random == np.inf and found["2.bias"].role == "bias"
    assert found["0.bias"].worst < np.inf  # it moves the tanh, and with it what inputs do
    assert found["2.weight"].worst == pytest.approx(0.1 * found["2.weight"].size, rel=CLOSE - 1)
    assert list(found)[-2:] == ["0.bias", "2.bias"] and found["1.C"].part == "1" and found["2.weight"].part is None


class Beyond(nn.Module):
    """What a model says beyond its answer to silence."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) - self.model(torch.zeros_like(x))


@pytest.mark.parametrize("layer", [nn.GRU(1, 3, batch_first=True), nn.LSTM(1, 3, batch_first=True)])
def test_worst_push_changes_the_answer_by_a_tenth_and_a_long_ascent_finds_none_much_smaller(layer):
    model, x, name = Beyond(drawn(Head(layer))), X[:2, :30], "layer.weight_hh_l0"
    worst = rows(model.model, x, weights=[name])[name].worst
    level = 0.1 * float((model(x).detach().abs().amax((1, 2)) / x.abs().amax((1, 2))).max())
    ball, distance = Ball(model, [f"model.{name}"]), SequenceDistance(model, copy.deepcopy(model), x, "sup")
    directions = ball.random(torch.Generator().manual_seed(5), 20)

    def reached(size):
        beta = torch.tensor([size], dtype=torch.float64)
        best = ball.errors(distance, beta, directions).argmax(1)
        return float(ball.ascend(distance, beta, beta > 0, directions, best).max())

    assert reached(0.75 * worst) < level <= 1.1 * reached(worst)


def test_random_directions_are_no_match_for_an_ascent():
    found = rows(drawn(nn.GRU(1, 12, batch_first=True)))
    assert found["weight_hh_l0"].worst < found["weight_hh_l0"].random / 2


def test_weights_that_do_nothing_have_no_reach():
    model = nn.Sequential(models.LinearRNN([-0.5], [1.0], [1.0]), nn.Linear(1, 1))
    model.register_parameter("idle", nn.Parameter(torch.ones(3)))
    assert rows(model.double())["idle"].worst == np.inf


def test_complex_weights_are_pushed_as_real_and_imaginary_parts():
    class Complex(LRU):
        def __init__(self):
            super().__init__([0.5, 0.9])
            self.C = nn.Parameter(torch.view_as_complex(self.C.detach()))
            self.register_parameter("gain", nn.Parameter(torch.ones(1, dtype=torch.complex64)))

        def forward(self, x):
            own = LRU.forward.__get__(_Real(self))
            return own(x)

    class _Real:
        def __init__(self, model):
            self.nu_log, self.theta_log, self.B = model.nu_log, model.theta_log, model.B
            self.C = torch.view_as_real(model.C * model.gain)

    model, plain = Complex(), LRU([0.5, 0.9])
    with torch.no_grad():
        plain.C.copy_(torch.view_as_real(model.C))
    found, expected = rows(model), rows(plain)
    assert list(found) != [] and set(found) == {"nu_log", "theta_log", "B", "C", "gain"}
    for name in ("nu_log", "C"):
        assert found[name].worst == pytest.approx(expected[name].worst, rel=CLOSE - 1)
    assert found["gain"].worst == pytest.approx(0.1, rel=0.2) and model.C.is_complex()


def test_some_weights_alone_and_the_callers_draws():
    model = Head(drawn(nn.GRU(1, 3, batch_first=True))).double()
    before = copy.deepcopy(model.state_dict())
    some = rows(model, weights=["head.weight"])
    assert list(some) == ["head.weight"] and model.training
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    generator = torch.Generator().manual_seed(3)
    again = [rows(model, weights=["layer.weight_hh_l0"], generator=generator) for _ in range(2)]
    assert again[0]["layer.weight_hh_l0"].random != again[1]["layer.weight_hh_l0"].random


def test_compiled_model_has_the_names_of_what_it_was_made_from():
    model = Head(drawn(nn.GRU(1, 3, batch_first=True))).double()
    inner = copy.deepcopy(model)
    inner.layer = torch.compile(inner.layer, backend="eager")
    for compiled in (torch.compile(model, backend="eager"), inner):
        assert [(part.name, part.layer) for part in parts(compiled)] == [("layer", "GRU")]
        (row,) = sensitivity(compiled, X[:2, :20], weights=["layer.weight_hh_l0"], n_directions=1)
        assert (row.name, row.part, row.role) == ("layer.weight_hh_l0", "layer", "recurrent")
    (own,) = parts(torch.compile(models.SSM([-0.5], [1.0], [1.0]), backend="eager"))
    assert (own.layer, own.weights["C"]) == ("SSM", "readout")


@pytest.mark.parametrize("power", [0.5, 1.0, 1.3, 3.0])
def test_level_is_met_in_few_steps_by_whatever_power_the_error_grows(power):
    tried = []

    def errors(beta, ways):
        tried.append(ways.shape[1])
        return beta**power * ways[0]

    found, ways = _least(errors, torch.tensor([[0.9, 0.1, 1.0]]), 1.0, 0.01, 1e3)
    assert 1 <= found <= CLOSE and torch.equal(ways, torch.tensor([[1.0, 0.9]]))
    assert len(tried) <= 16 and tried[0] == 3 and set(tried[1:]) == {2}


def test_no_more_evaluations_than_a_report_foretells():
    model, calls = drawn(nn.LSTM(1, 4, batch_first=True)).double(), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    sensitivity(model, X, n_directions=2)
    assert len(calls) <= len(list(model.parameters())) * (CALLS_OF_ASCENT + 2 * CALLS_OF_PUSH)


@pytest.mark.parametrize(
    ("model", "x", "options", "message"),
    [
        (nn.Tanh(), X, {}, r"expected weights out of \[\], got \[\]"),
        (models.SSM([-1.0], [1.0], [1.0]), X, {"weights": ["V"]}, "expected weights out of .*'V'"),
        (models.SSM([-1.0], [1.0], [1.0]), 0 * X, {}, "expected finite inputs of which no sequence is 0"),
        (models.SSM([-1.0], [0.0], [1.0]), X, {}, "expected a model that answers these inputs otherwise than none"),
        (models.SSM([-1.0], [1.0], [1.0]), X, {"share": 0.0}, "expected share > 0"),
    ],
)
def test_bad_input_is_refused(model, x, options, message):
    with pytest.raises(ValueError, match=message):
        sensitivity(model, x, **options)


def test_biases_of_any_name_stand_apart():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(2, 1, batch_first=True, dtype=torch.float64)

        def forward(self, x):
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            return self.attention(x, x, x, attn_mask=later)[0]

    x = torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = sensitivity(Attending(), x, n_directions=1)
    assert {row.name for row in rows if row.role == "bias"} == {"attention.in_proj_bias", "attention.out_proj.bias"}
