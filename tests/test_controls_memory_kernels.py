"""Negative controls of the chapter Memory kernels."""

import dataclasses
import types

import controls
import numpy as np
import pytest

import cmlib
from cmlib import kernels, models, targets

CHAPTER = "linear/memory-kernels"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("chapter"))


def another_target(v):
    def functional(kernel, dt):
        return targets.LinearFunctional(kernels.Exponential(0.1), dt=dt)

    return {"targets": types.SimpleNamespace(LinearFunctional=functional)}


def convolution_off_by_a_little(v):
    network = v["network"]
    return {"network": lambda x, route="recurrence": network(x) * (1 + 1e-9 * (route == "convolution"))}


def other_sum(v):
    return {"s": cmlib.exponential_sum(v["kernel"], 1)}


def impulse_off_by_a_little(v):
    def memory_function(*args, inputs, **options):
        curve = cmlib.memory_function(*args, inputs=inputs, **options)
        return dataclasses.replace(curve, values=curve.values * (1 + 1e-6 * (inputs == "impulse")))

    return {"cmlib": types.SimpleNamespace(memory_function=memory_function)}


def rates_that_ignore_the_kernel(v):
    kernel = v["targets_by_name"]["polynomial"]
    fits = [v["fit"](kernel, m, np.arange(1.0, m + 1)) for m in v["widths"]]
    return {"errors": v["errors"] | {"polynomial": np.array([s.l1_error(kernel, v["horizon"]) for s in fits])}}


def coupled_modes(v):
    # the same rates on the diagonal, but no longer normal
    def coupled(network):
        W = network.W.detach().numpy() + 0.5 * np.eye(len(network.W), k=1)
        return models.LinearRNN(W, network.U, network.c)

    family = {m: coupled(network) for m, network in v["networks"]["polynomial"].items()}
    return {"networks": v["networks"] | {"polynomial": family}}


def curves_that_cross_in_one_place(v):
    beta = np.linspace(0, 0.1, 50)
    return {
        "worst": v["worst"]
        | {
            "polynomial": {
                m: cmlib.PerturbationCurve(beta, np.exp(m * (beta / 0.03 - 1)), "worst_case", np.inf, False)
                for m in v["widths"]
            }
        }
    }


def samples_above(v):
    return {
        "sampled": {
            name: {
                m: dataclasses.replace(c, radii=v["paper_radii"], errors=1.01 * v["at_paper_radii"](c))
                for m, c in family.items()
            }
            for name, family in v["worst"].items()
        }
    }


def every(v, change):
    return {name: {m: change(c) for m, c in family.items()} for name, family in v["worst"].items()}


def capped(curve):
    return dataclasses.replace(curve, errors=np.minimum(curve.errors, 3.0))


CONTROLS = {
    "operator-error-attained": another_target,
    "operator-error-bounds": lambda v: {"network": models.LinearRNN([-1.0], [0.0], [0.0], dt=v["dt"])},
    "recurrence-is-convolution": convolution_off_by_a_little,
    "memory-is-kernel-heaviside": other_sum,
    "memory-is-kernel-impulse": impulse_off_by_a_little,
    "B-F1a-errors-fall": lambda v: {"errors": v["errors"] | {"mixture": v["errors"]["exponential"] * 0 + 1.0}},
    "B-F1b-errors-fall": rates_that_ignore_the_kernel,
    "B-F1a-one-mode": lambda v: {"errors": v["errors"] | {"exponential": v["errors"]["mixture"]}},
    "radius-is-slowest-rate": coupled_modes,
    "B-F1b-left-shift": curves_that_cross_in_one_place,
    "B-F1b-radius-shrinks": lambda v: {"radius": v["radius"] | {"polynomial": v["radius"]["mixture"]}},
    "B-F1a-radius-stays": lambda v: {"radius": v["radius"] | {"mixture": v["radius"]["polynomial"]}},
    "B-F1a-radius-exact": lambda v: {"radius": v["radius"] | {"exponential": v["radius"]["mixture"]}},
    "B-F1a-curves-settle": lambda v: {"worst": v["worst"] | {"mixture": v["window"]}},
    "sampled-below-worst": samples_above,
    "worst-case-ends-at-radius": lambda v: {
        "worst": every(v, lambda c: dataclasses.replace(c, stability_radius=c.stability_radius / 2))
    },
    "blow-up-is-found": lambda v: {
        "every_curve": [capped(c) for family in v["worst"].values() for c in family.values()]
    },
    "B-F1b-window-hides": lambda v: {
        "window": {
            m: dataclasses.replace(c, errors=c.errors * (m == v["widths"][-1] or 0.5)) for m, c in v["window"].items()
        }
    },
}


def test_every_claim_of_the_chapter_has_a_control():
    assert controls.claimed(CHAPTER) == sorted(CONTROLS)


@pytest.mark.parametrize("claim", list(CONTROLS))
def test_claim_fails_on_a_wrong_object(before, claim, tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
