"""Negative controls of the chapter Approximation rates."""

import types

import controls
import numpy as np
import pytest

import cmlib
from cmlib import kernels

CHAPTER = "linear/approximation-rates"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("chapter"))


def fits_with_rates_that_do_not_grow(v):
    # one and the same fit for every width
    return {"fixed_rate_errors": lambda rho, tail, r, degrees: np.full(len(degrees), 0.1)}


def a_kernel_that_forgets_faster(v):
    slow = kernels.Polynomial(exponent=3.0)
    return {"integer": v["integer"] | {"polynomial": v["fixed_rate_errors"](slow, slow.tail, 1.0, v["degrees"])}}


def another_slope(v):
    # the errors of one rough kernel passed off as those of the other
    first, second = (f"rough, a = {a:g}" for a in v["smoothness"])
    return {"E": v["E"] | {first: v["E"][second], second: v["E"][first]}}


def the_second_slope_only(v):
    first, second = (f"rough, a = {a:g}" for a in v["smoothness"])
    return {"E": v["E"] | {second: v["E"][first]}}


def detuned(v, only):
    # a rough kernel on other scales: the sixteen neurons turn at the wrong frequencies
    right = v["rough"]

    def rough(a):
        rho, tail = right(a)
        return (lambda t: rho(1.1 * t), tail) if a == only else (rho, tail)

    return {"rough": rough}


def curve_from(rows, v):
    def curve(name, way):
        picked = [(m, l1, hankel) for n, m, w, l1, hankel in rows if (n, w) == (name, way)]
        m, l1, hankel = map(np.array, zip(*picked, strict=True))
        return m, l1, hankel, v["bounds"][name][m]

    return {"curve": curve}


def changed(v, way, l1_factor=1.0, hankel_factor=1.0):
    return curve_from(
        [
            (n, m, w, l1 * (l1_factor if w == way else 1), h * (hankel_factor if w == way else 1))
            for n, m, w, l1, h in v["rows"]
        ],
        v,
    )


def quadrature_of_another_kernel(v):
    def values(kernel, n, n_nodes=None):
        if n_nodes is None:
            return cmlib.hankel_singular_values(kernel, n)
        return 1.001 * cmlib.hankel_singular_values(kernel, n, n_nodes=n_nodes)

    return {"cmlib": types.SimpleNamespace(ExponentialSum=cmlib.ExponentialSum, hankel_singular_values=values)}


def real_rates_only(v):
    def fit(kernel, m, **options):
        if isinstance(kernel, cmlib.ExponentialSum):
            return cmlib.exponential_sum(kernel, m, rates=np.geomspace(0.3, 3.0, m))
        return cmlib.exponential_sum(kernel, m, **options)

    return {"cmlib": types.SimpleNamespace(ExponentialSum=cmlib.ExponentialSum, exponential_sum=fit)}


def fits_that_stall(v):
    def fit(kernel, m, **options):
        return cmlib.exponential_sum(kernel, min(m, 4), **options)

    return {"cmlib": types.SimpleNamespace(ExponentialSum=cmlib.ExponentialSum, exponential_sum=fit)}


def families_with(v, change):
    return {"families": {key: change(*key, row) for key, row in v["families"].items()}}


def normal_chain(v):
    # the same eigenvalues without the coupling: one exponential, and no power law
    return {"limit": np.exp(-v["t"])}


CONTROLS = {
    "A-UAP-errors-fall": fits_with_rates_that_do_not_grow,
    "A-UAP-logarithmic": a_kernel_that_forgets_faster,
    "A-RATE-constant": lambda v: {"C": {speed: 1.1 * value for speed, value in v["C"].items()}},
    "A-RATE-unit-free": lambda v: {"C": v["printed"]},
    "A-RATE-printed-form": lambda v: {"printed": v["C"]},
    "A-RATE-bounded": lambda v: {"scaled": v["scaled"] | {"mixture": 100 * v["scaled"]["mixture"]}},
    "A-RATE-exponent-1.25": another_slope,
    "A-RATE-exponent-2.25": the_second_slope_only,
    "A-RATE-complex-rates-1.25": lambda v: detuned(v, 1.25),
    "A-RATE-complex-rates-2.25": lambda v: detuned(v, 2.25),
    "hankel-two-routes": quadrature_of_another_kernel,
    "AAK-not-beaten": lambda v: changed(v, "free", hankel_factor=0.3),
    "AAK-free-is-near": lambda v: changed(v, "free", hankel_factor=3.0),
    "AAK-chain-of-norms": lambda v: changed(v, "fixed", l1_factor=0.01),
    "balanced-truncation-bound": lambda v: changed(v, "balanced", l1_factor=10.0, hankel_factor=10.0),
    "fit-finds-complex-rates": real_rates_only,
    "fit-errors-fall": fits_that_stall,
    "A-INV-margin-stays": lambda v: families_with(
        v, lambda name, m, row: (*row[:2], row[2] * (0.5 if name == "mixture" else 1), row[3])
    ),
    "A-INV-conclusion": lambda v: {"mixture": v["slow"]},
    "A-INV-margin-lost": lambda v: families_with(
        v, lambda name, m, row: (*row[:2], 0.1 if name == "polynomial" else row[2], row[3])
    ),
    "chain-keeps-hypotheses": lambda v: {"table": {m: (-0.5, *row[1:]) for m, row in v["table"].items()}},
    "chain-breaks-conclusion": normal_chain,
    "chain-radius-falls": lambda v: {"radii": np.ones(len(v["radii"]))},
}


def test_every_claim_of_the_chapter_has_a_control():
    assert controls.claimed(CHAPTER) == sorted(CONTROLS)


@pytest.mark.parametrize("claim", list(CONTROLS))
def test_claim_fails_on_a_wrong_object(before, claim, tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
