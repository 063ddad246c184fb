"""Negative controls of the chapter on stable reparameterization."""

import controls
import numpy as np
import pytest

CHAPTER = "stable/reparameterization"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("reparameterization"))


def only_the_raw_one_moved(v):
    return {"spectra": {"W": v["spectra"]["M"], "M": v["spectra"]["M"]}}


def only_the_weight_moved(v):
    return {"spectra": {"W": v["spectra"]["W"], "M": v["spectra"]["W"]}}


def a_symmetric_matrix(v):
    # the cell makes its own matrix, so pi is what can be wrong
    class Flat:
        def __getattr__(self, name):
            return 0.0 if name == "pi" else getattr(np, name)

    return {"np": Flat()}


def map_in_place_of(name, other):
    def control(v):
        return {"maps": v["maps"] | {name: v["maps"][other]}}

    return control


def quadrature_of_another_map(v):
    return {"change": lambda f, w, beta: v["np"].expm1(2 * beta)}


def rooms_of(name, other):
    def control(v):
        return {"rooms": v["rooms"] | {(name, u): v["rooms"][other, u] for u in (np.inf, v["horizon"])}}

    return control


def the_recurrent_weight_alone(v):
    right = v["worst_case"]
    return {"worst_case": lambda f, weights, horizon: right(f, ("W",), horizon)}


def everything_as(name, until, other, otherwise):
    def control(v):
        right = v["worst_case"]
        made = {}

        def worst_case(f, weights, horizon):
            wanted = f == v["three"][name] and horizon == until(v)
            f, horizon = (v["three"][other], otherwise(v)) if wanted else (f, horizon)
            if (f, horizon) not in made:
                made[f, horizon] = right(f, weights, horizon)
            return made[f, horizon]

        return {"worst_case": worst_case}

    return control


def direct_for_softplus(activation):
    def control(v):
        same = {(activation, "softplus", m): v["curves"][activation, "direct", m] for m in v["nonlinear_widths"]}
        survive = {(activation, "softplus"): v["survive"][activation, "direct"]}
        return {"curves": v["curves"] | same, "survive": v["survive"] | survive}

    return control


def errors_of(name, other):
    return lambda v: {"later": v["later"] | {(name, m): v["later"][other, m] for m in v["nonlinear_widths"]}}


CONTROLS = {
    "spectrum-direct": only_the_raw_one_moved,
    "spectrum-dissipative": only_the_weight_moved,
    "spectrum-minus-exp": a_symmetric_matrix,
    "C-D34-inverse-square": map_in_place_of("inverse square", "exp"),
    "C-D34-exp": map_in_place_of("softplus", "inverse square"),
    "C-D34-fail": map_in_place_of("inverse square, b = 0", "inverse square"),
    "C-D34-quadrature": quadrature_of_another_map,
    "B-F4-direct": rooms_of("direct", "exp"),
    "B-F4a-bound": rooms_of("exp", "direct"),
    "B-F4b-bound": rooms_of("softplus", "direct"),
    "B-F4-gain": lambda v: {"rooms": v["rooms"] | {("direct", np.inf): np.geomspace(0.3, 0.05, len(v["widths"]))}},
    "B-F4-all-window": everything_as("exp", lambda v: v["horizon"], "direct", lambda v: np.inf),
    "B-F4-all-times": the_recurrent_weight_alone,
    "B-F4-all-times-gain": everything_as("exp", lambda v: np.inf, "direct", lambda v: np.inf),
    "B-F8a": direct_for_softplus("hardtanh"),
    "B-F8b": direct_for_softplus("tanh"),
    "B-F7-direct": errors_of("direct", "softplus"),
    "B-F7b-softplus": errors_of("softplus", "direct"),
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
