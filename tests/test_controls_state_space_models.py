"""Negative controls of the chapter on state-space models."""

import dataclasses
from types import SimpleNamespace

import controls
import numpy as np
import pytest
import torch

from cmlib import models, parameterizations

CHAPTER = "stable/state-space-models"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("state-space-models"))


class AnotherScan(models.SSM):
    def forward(self, x, route="recurrence"):
        return super().forward(x, route) * (1.0 + 1e-6 * (route == "scan"))


def deeper(v):
    last = v["depths"][-1]
    curve = v["memories"][last]
    return {"memories": v["memories"] | {last: dataclasses.replace(curve, values=curve.values * (1 + curve.t))}}


def a_stack_that_wakes_up(v):
    first = v["depths"][0]
    curve = v["memories"][first]
    values = np.where(curve.t > 26 / v["rate"], 1.0, curve.values)
    return {"memories": v["memories"] | {first: dataclasses.replace(curve, values=values)}}


def recurrent_of(name, other):
    def control(v):
        same = {(name, m): v["recurrent"][other, m] for m in v["widths"]}
        return {"recurrent": v["recurrent"] | same}

    return control


def a_layer(**methods):
    def control(v):
        Other = type("Other", (v["Selective"],), methods)
        return {"Selective": Other, "selective": Other(0.5, 1.0, 0.0).double()}

    return control


def off_by_a_little(self, x):
    A = torch.exp(-self.speed(x))
    return 1.001 * models.linear_scan(A, (1 - A) * x)


def twice_as_fast(self, x):
    A = torch.exp(-2 * self.speed(x))
    return models.linear_scan(A, (1 - A) * x)


def never_slow(self, x):
    return 0.5 + 0.1 * torch.nn.functional.softplus(self.v * x + self.b)


CONTROLS = {
    "ssm-routes": lambda v: {"models": SimpleNamespace(SSM=AnotherScan)},
    "ssm-lru": lambda v: {"parameterizations": SimpleNamespace(exp=parameterizations.softplus)},
    "C-T33-power": deeper,
    "C-T33-exponential": a_stack_that_wakes_up,
    "C-F1-direct": recurrent_of("direct", "softplus"),
    "C-F1-softplus": recurrent_of("softplus", "direct"),
    "C-F1-s4d": recurrent_of("S4D", "direct"),
    "C-F1-room": lambda v: {"rooms": v["rooms"] | {"softplus": v["rooms"]["direct"]}},
    "selective-scan": a_layer(forward=off_by_a_little),
    "selective-rate": a_layer(forward=twice_as_fast),
    "selective-not-uniform": a_layer(speed=never_slow),
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
