"""Negative controls of the chapter The curse in approximation."""

import controls
import numpy as np
import pytest

from cmlib import kernels

CHAPTER = "linear/curse-of-approximation"
OMEGAS = ("0.25", "0.5", "1", "2")


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("chapter"))


def algebraic_errors(v):
    return {"errors": {omega: np.array(v["widths"], dtype=float) ** -2 for omega in v["errors"]}}


def rates_that_stay(omega):
    def control(v):
        return {"slowest": v["slowest"] | {float(omega): np.full(len(v["widths"]), 0.1)}}

    return control


def a_kernel_that_forgets_faster(omega):
    def control(v):
        return {"powers": v["powers"] | {float(omega): kernels.Polynomial(exponent=1 + 2 * float(omega))}}

    return control


def needed_with(omega, name, change):
    def control(v):
        ours = v["needed"][float(omega)]
        return {"needed": v["needed"] | {float(omega): ours | {name: change(ours[name])}}}

    return control


CONTROLS = {
    "curse-hidden": algebraic_errors,
    "curse-hidden-weights": lambda v: {"sizes": {omega: 10 * x for omega, x in v["sizes"].items()}},
    "floor-above-bound": lambda v: {"floors": v["floors"] / 2},
    "floor-is-near-bound": lambda v: {"floors": 2 * v["floors"]},
    # the errors of the free fits, claimed for weights and rates of the others
    "margin-fits-above-own-bound": lambda v: {"error_of": v["error_of"] | {"held": v["error_of"]["free"]}},
    "margin-costs": lambda v: {"error_of": v["error_of"] | {"free": v["error_of"]["held"]}},
    "chain-error-two-routes": lambda v: {"models": OneUnitShort},
}
for omega in OMEGAS:
    CONTROLS |= {
        f"curse-in-stability-{omega}": rates_that_stay(omega),
        f"curse-in-weights-{omega}": a_kernel_that_forgets_faster(omega),
        f"curse-in-neurons-bound-{omega}": needed_with(omega, "bound", np.sqrt),
        f"curse-in-neurons-chain-{omega}": needed_with(omega, "chain", np.sqrt),
        f"curse-half-{omega}": needed_with(omega, "fixed rates", np.square),
    }


class OneUnitShort:
    """A chain whose last unit is not read."""

    @staticmethod
    def LinearRNN(W, U, c):
        from cmlib import models

        return models.LinearRNN(W, U, np.append(c[:-1], 0.0))


def test_every_claim_of_the_chapter_has_a_control():
    assert controls.claimed(CHAPTER) == sorted(CONTROLS)


@pytest.mark.parametrize("claim", list(CONTROLS))
def test_claim_fails_on_a_wrong_object(before, claim, tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
