"""Negative controls of the chapter on stable approximation: on a wrong object each claim must fail."""

import controls
import numpy as np
import pytest
import torch

import cmlib
from cmlib import models

CHAPTER = "nonlinear/stable-approximation"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("stable-approximation"))


def swapped(curves):
    return {(n, m, {"random": "worst_case", "worst_case": "random"}[k]): c for (n, m, k), c in curves.items()}


def samples_in_place_of_the_ascent(v):
    return {"curves": v["curves"] | {(n, m, "worst_case"): v["curves"][n, m, "random"] for n, m in v["networks"]}}


def one_kernel_for_the_other(name):
    def control(v):
        other = {"mixture": "polynomial", "polynomial": "mixture"}[name]
        return {"stability": v["stability"] | {name: v["stability"][other]}}

    return control


def one_window_for_the_other(name):
    def control(v):
        other = {"mixture": "polynomial", "polynomial": "mixture"}[name]
        of_other = {(name, m): e for (n, m), e in v["on_window"].items() if n == other}
        return {"on_window": v["on_window"] | of_other}

    return control


class _Cmlib:
    """cmlib with one function replaced."""

    def __init__(self, **replaced):
        vars(self).update(vars(cmlib) | replaced)


def without_adjustment(v):
    # the readout in place of the bias: no input, no output
    right = cmlib.perturbation_error

    def readout(model, goal, radii, weights, **options):
        return right(model, goal, radii, weights=("c",), **options)

    return {"cmlib": _Cmlib(perturbation_error=readout)}


def half_the_ball(v):
    right = cmlib.perturbation_error

    def smaller(model, goal, radii, **options):
        return right(model, goal, np.array(radii) / 2, **options)

    return {"cmlib": _Cmlib(perturbation_error=smaller)}


CONTROLS = {
    # inputs without the worst one
    "stable-known-error": lambda v: {"inputs": v["inputs"][:3]},
    "stable-noise-underestimates": lambda v: {"torch": _Constant()},
    "stable-worst-above-random": lambda v: {"curves": swapped(v["curves"])},
    "stable-random-misses": samples_in_place_of_the_ascent,
    "stable-polynomial-radius": one_kernel_for_the_other("polynomial"),
    "stable-mixture-radius": one_kernel_for_the_other("mixture"),
    "stable-mixture-window": one_window_for_the_other("mixture"),
    "stable-polynomial-window": one_window_for_the_other("polynomial"),
    "stable-bias-unbounded": without_adjustment,
    "public-norm-grows": lambda v: {"public": v["faithful"]},
    "B-AppC-stable": lambda v: {"series": v["series"] | {"rho_1": v["series"]["rho_2"]}},
    "B-AppC-unstable": lambda v: {"series": v["series"] | {"rho_2": v["series"]["rho_1"]}},
    "B-AppC-two-routes": half_the_ball,
}


class _Constant:
    """torch, whose noise is a constant: the input that sees a slower mode best."""

    Generator = torch.Generator
    float64 = torch.float64

    @staticmethod
    def randn(*shape, generator, dtype):
        return torch.ones(*shape, dtype=dtype)


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])


def test_the_networks_of_the_chapter_are_nonlinear(before):
    # otherwise the chapter would say nothing new: beyond norm 1 the same networks saturate
    v = before[-1]
    model = v["networks"]["mixture", 4]
    x = 3 * torch.ones(1, 50, 1, dtype=torch.float64)
    linear = models.RNN(model.W, model.U, model.c, activation="identity")
    assert (model(x) - linear(x)).abs().max() > 0.1
    assert (model(x / 3) - linear(x / 3)).abs().max() < 1e-12
