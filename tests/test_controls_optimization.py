"""Negative controls of the chapter on what training gains."""

from types import SimpleNamespace

import controls
import numpy as np
import pytest

from cmlib import parameterizations

CHAPTER = "stable/optimization"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("optimization"))


def another_map(v):
    return {"parameterizations": SimpleNamespace(InverseSquare=lambda a, b: parameterizations.exp)}


def one_map_for_another(name, other):
    return lambda v: {"maps": v["maps"] | {name: v["maps"][other]}}


def ratio_of(name, other):
    return lambda v: {"ratio": v["ratio"] | {name: v["ratio"][other]}}


def results_of(name, other):
    def control(v):
        same = {(name, lr): v["results"][other, lr] for lr in v["learning_rates"]}
        return {"results": v["results"] | same}

    return control


def guesses(v):
    return {"curves": {key: np.full_like(c, 0.1) for key, c in v["curves"].items()}}


def a_network_that_lags(v):
    return {"curves": {key: c + (key[0] == "direct") * np.array([0, 0, 10.0, 0]) for key, c in v["curves"].items()}}


CONTROLS = {
    "C-T36-solves": another_map,
    "C-T36-scales": one_map_for_another("direct", "exp"),
    "C-gradient-direct": ratio_of("direct", "exp"),
    "C-gradient-best": ratio_of("inverse square", "exp"),
    "C-T2-direct-fails": results_of("direct", "exp"),
    "C-T2-stable-finite": results_of("exp", "direct"),
    "C-T2-order": results_of("direct", "exp"),
    "C-T2-ratio": results_of("inverse square", "softplus"),
    "B-T1-learns": guesses,
    "B-T1-order": a_network_that_lags,
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
