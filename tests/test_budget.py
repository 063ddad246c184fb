"""budget: stages that do not fit are left out with a reason, and what runs stops where it ends."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cmlib import Budget
from cmlib.budget import Meter
from cmlib.sequence_maps import evaluate

X = torch.zeros(2, 40, 1, dtype=torch.float64)


def metered(budget, seq_map=None, progress=False):
    meter = Meter(budget, progress)
    seq_map = meter.metered(nn.Identity() if seq_map is None else seq_map, torch.float64)
    meter.calibrate(seq_map, X)
    return meter, seq_map


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seconds": 0}, "expected seconds > 0, got 0"),
        ({"seconds": "long"}, "expected seconds to be a finite number"),
        ({"calls": 0}, "expected calls to be an integer >= 1, got 0"),
        ({"calls": 1.5}, "expected calls to be an integer >= 1"),
    ],
)
def test_wrong_budgets_are_said(wrong, message):
    with pytest.raises(ValueError, match=message):
        Budget(**wrong)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_every_way_to_evaluate_a_map_is_counted():
    scripted = torch.jit.script(nn.Tanh())
    for seq_map in (nn.Tanh(), torch.tanh, scripted):
        meter, counted = metered(Budget(calls=50), seq_map)
        before = meter.calls
        _ = evaluate(counted, X)
        assert meter.calls == before + 1
        _ = evaluate(copy.deepcopy(counted), X)
        assert meter.calls == before + 2


def test_function_gets_the_dtype_that_it_takes():
    meter = Meter(None, False)
    seen = meter.metered(lambda x: x + torch.zeros(1, dtype=x.dtype), torch.float32)
    assert evaluate(seen, X).dtype == torch.float32


def test_stage_that_does_not_fit_is_left_out_and_the_next_one_may():
    meter, seq_map = metered(Budget(seconds=1000, calls=10))
    left = meter.calls_left()
    assert meter.run("long", lambda: 1, seconds=2000) is None
    assert meter.run("many", lambda: 1, calls=left + 1) is None
    assert meter.run("fits", lambda: evaluate(seq_map, X).shape, seconds=1, calls=left) == (2, 40, 1)
    assert list(meter.left_out) == ["long", "many"]
    assert "it takes about 2000 s" in meter.left_out["long"]
    assert f"it takes {left + 1:.0f} evaluations of the model, and {left:.0f} were left" == meter.left_out["many"]


def test_stage_stops_where_the_budget_ends_even_in_a_map_that_catches_all_errors():
    def endless():
        while True:
            try:
                _ = evaluate(seq_map, X)
            except Exception:
                continue

    meter, seq_map = metered(Budget(seconds=1000, calls=20))
    assert meter.run("endless", endless) is None and meter.calls == 20
    assert meter.left_out == {"endless": "the budget was spent while it ran"}
    # and what a model raises is its own affair
    with pytest.raises(ZeroDivisionError):
        metered(None)[0].run("broken", lambda: 1 / 0)


def test_cost_is_foretold_in_proportion():
    meter, _ = metered(None)
    meter.batch, meter.n, meter.at, meter.power = 10, 1000, 2.0, 2.0
    assert meter.seconds(1000) == meter.seconds(1000, batch=10) == 2.0
    assert meter.seconds(2000) == 8.0 and meter.seconds(1000, batch=20) == 4.0
    assert meter.seconds(1) == pytest.approx(0.02)


@pytest.mark.parametrize(("power", "found"), [(0.0, 1.0), (2.0, 2.0), (5.0, 3.0)])
def test_growth_of_the_cost_is_timed_and_at_least_linear(monkeypatch, power, found):
    clock = [0.0]

    def slow(x):
        clock[0] += x.shape[1] ** power
        return x

    monkeypatch.setattr("cmlib.budget.time.monotonic", lambda: clock[0])
    meter, _ = metered(Budget(seconds=1e12), slow)
    assert meter.power == pytest.approx(found) and meter.at == pytest.approx(40.0**power)
    assert np.isclose(meter.seconds_left(), 1e12 - clock[0])


def test_lines_go_where_they_are_wanted(capsys):
    lines = []
    meter, _ = metered(None, progress=lines.append)
    _ = meter.run("one", lambda: 1, seconds=3)
    meter.note("two", "why")
    meter.note("two", "why")
    assert lines == ["one, about 3.0 s", "two: left out, why"]
    meter, _ = metered(None, progress=True)
    _ = meter.run("one", lambda: 1)
    meter, _ = metered(None, progress=None)  # no terminal here
    _ = meter.run("two", lambda: 1)
    assert capsys.readouterr() == ("", "cmlib: one\n")
