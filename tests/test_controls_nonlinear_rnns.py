"""Negative controls of the chapter on trained nonlinear networks."""

import dataclasses

import controls
import pytest
import torch
from torch import nn

from cmlib.models import causal_convolution

CHAPTER = "nonlinear/nonlinear-rnns"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("nonlinear-rnns"))


def untrained(v):
    g = torch.Generator().manual_seed(1)
    return {"networks": {key: v["start"](key[1], g) for key in v["networks"]}}


def widths_the_other_way(of, name):
    def control(v):
        back = dict(zip(v["widths"], v["widths"][::-1], strict=True))
        return {of: {key: v[of][key[0], back[key[1]] if key[0] == name else key[1]] for key in v[of]}}

    return control


def one_memory_for_the_other(wrong, right):
    def control(v):
        return {"on_window": v["on_window"] | {(wrong, n): v["on_window"][right, n] for n in v["windows"]}}

    return control


def a_longer_window_that_does_not_pay(v):
    curves = dict(v["on_window"])
    first, last = (("polynomial", n) for n in (v["windows"][0], v["windows"][-1]))
    curves[last] = dataclasses.replace(curves[last], errors=curves[first].errors)
    return {"on_window": curves}


def states_of(kind):
    def control(v):
        other = next(h for key, h in v["states"].items() if key[0] == kind)
        return {"states": {key: other for key in v["states"]}}

    return control


def a_forgetful_verdict(v):
    return {"verdicts": {gain: v["verdicts"][v["gains"][-1]] for gain in v["gains"]}}


def all_taught_like(index):
    def control(v):
        gain = v["gains"][index]
        return {
            "taught": {g: v["taught"][gain] for g in v["gains"]},
            "verdicts": {g: v["verdicts"][gain] for g in v["gains"]},
        }

    return control


def a_target_that_keeps_to_its_sequence(v):
    Decoder = v["Decoder"]
    return {"Decoder": lambda causal: Decoder(causal=True)}


class Remembering(nn.Module):
    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x):
        return self.target(x) + x.cumsum(1) * torch.arange(1.0, x.shape[1] + 1)[:, None]


def a_query_that_remembers(v):
    Decoder = v["Decoder"]
    return {"Decoder": lambda causal: Remembering(Decoder(causal=False))}


def map_with_memory(weights):
    return lambda v: {
        "at_random": lambda decoder, generator: lambda x: causal_convolution(weights(x), x[..., 0])[..., None]
    }


def a_clock_of_its_own(x):
    return torch.exp(-0.1 * torch.arange(x.shape[1]))


def a_power_law(x):
    return 1 / torch.arange(1.0, x.shape[1] + 1)


def a_forgetting_teacher(v):
    return {"decoder": v["teachers"][v["gains"][0]]}


def hurried(v):
    class Hurried(v["ContinuousGRU"]):
        def velocity(self, h, x):
            return 2 * super().velocity(h, x)

    return Hurried


def gru_of_another_speed(v):
    unit = hurried(v)(8, 0.5, torch.Generator().manual_seed(v["seed"]))
    return {"gru": v["gru"] | {0.5: unit}}


CONTROLS = {
    "B-F2-trained": untrained,
    "B-F2-polynomial-widths": widths_the_other_way("curves", "polynomial"),
    "B-F2-exponential-widths": widths_the_other_way("curves", "exponential"),
    "B-F2-readouts": widths_the_other_way("networks", "polynomial"),
    "rnn-window-polynomial": one_memory_for_the_other("polynomial", "exponential"),
    "rnn-window-exponential": one_memory_for_the_other("exponential", "polynomial"),
    "rnn-window-error": a_longer_window_that_does_not_pay,
    "B-F7a-drift": states_of("tanh"),
    "B-F7a-tanh-stays": states_of("ReLU"),
    "B-F7a-radius": lambda v: {"relus": v["networks"]},
    "B-F3-filter": a_forgetful_verdict,
    "B-F3-survivors": all_taught_like(-1),
    "B-F3-rejects": all_taught_like(0),
    "B-F12-batch": a_target_that_keeps_to_its_sequence,
    "B-F12-query": a_query_that_remembers,
    "B-F12-age": map_with_memory(a_clock_of_its_own),
    "B-F12-flat": map_with_memory(a_power_law),
    "B-F12-students": a_forgetting_teacher,
    "B-AppJ-jacobian": lambda v: {"ContinuousGRU": hurried(v)},
    "B-AppJ-memory": gru_of_another_speed,
    "B-AppJ-unstable": lambda v: {"gru": v["gru"] | {6.0: v["gru"][0.5]}},
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
