"""Negative controls of the chapter on the inverse theorem: on a wrong object each claim must fail."""

from types import SimpleNamespace

import controls
import numpy as np
import pytest
from scipy import linalg

import cmlib
from cmlib import kernels, models

CHAPTER = "nonlinear/inverse-theorem"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("inverse-theorem"))


class _Cmlib:
    """cmlib with some functions replaced."""

    def __init__(self, **replaced):
        vars(self).update(vars(cmlib) | replaced)


def few_readouts(v):
    class _Rng:
        @staticmethod
        def standard_normal(shape):
            return np.eye(1, shape[1])  # one direction

    return {"rng": _Rng()}


def a_bound_too_small(v):
    lyapunov = linalg.solve_continuous_lyapunov
    return {"linalg": SimpleNamespace(norm=lambda A, p: 0.3 * linalg.norm(A, p), solve_continuous_lyapunov=lyapunov)}


def normal_matrix(v):
    return {"lyapunov": lambda W: 0.5 * np.eye(2)}  # that of -1


def diagonal_exponential(v):
    # of the matrix without the entry above its diagonal
    return {"linalg": SimpleNamespace(norm=linalg.norm, expm=lambda A: linalg.expm(np.diag(np.diag(A))))}


def matrices_made_normal(v):
    W = [-np.diag(np.linspace(0.1, 1, len(W))) for W in v["matrices"]]
    margins = np.array([0.1 for _ in W])
    return {"matrices": W, "margins": margins, "radius": margins}


def the_radius_taken_for_twice_as_large(v):
    return {"cmlib": _Cmlib(stability_radius=lambda W: 2 * cmlib.stability_radius(W))}


def complex_and_real_exchanged(v):
    right = cmlib.stability_radius
    swapped = {"real": "complex", "complex": "real"}

    def radius(W, field="complex"):
        return 0.5 * right(W, swapped[field])

    return {"cmlib": _Cmlib(stability_radius=radius)}


def a_pure_rotation(v):
    right = np.array
    rotation = [[-0.01, 1.0], [-1.0, -0.01]]

    class _Numpy:
        def __getattr__(self, name):
            return getattr(np, name)

        @staticmethod
        def array(value):
            return right(rotation) if len(value) == 2 and value[0] == [-0.01, 20.0] else right(value)

    return {"np": _Numpy()}


def unstable_trajectories(v):
    # held and rates of the wrong dynamics: radii three times too large
    return {"held": [1.5, *v["held"]], "rates": v["rates"]}


def slower_trajectories(v):
    return {"rates": [0.5 * r for r in v["rates"]]}


def polynomial_for_mixture(v):
    return {"constants": v["constants"] | {"mixture": v["constants"]["polynomial"]}}


def mixture_for_polynomial(v):
    return {"constants": v["constants"] | {"polynomial": v["constants"]["mixture"]}}


def a_neuron_nearer_to_instability(v):
    neuron = models.RNN([-0.25], [1.0], [1.0], dt=0.05)
    error = cmlib.perturbation_error(
        neuron,
        neuron,
        [0.01, 0.05, 0.2],
        norm="w1",
        weights=("W", "U", "c"),
        inputs=0.1 * v["signals"],
        generator=v["torch"].Generator().manual_seed(0),
    ).errors
    return {"self_error": v["self_error"] | {0.1: error}}


CONTROLS = {
    "inverse-readout": few_readouts,
    "inverse-margin": the_radius_taken_for_twice_as_large,
    "inverse-remainder": a_bound_too_small,
    "inverse-a8-counterexample": normal_matrix,
    "inverse-eq38-counterexample": diagonal_exponential,
    "inverse-a8-random": matrices_made_normal,
    "inverse-a8-repaired": lambda v: {"radius": 5 * v["radius"]},
    "inverse-real-radius": complex_and_real_exchanged,
    "inverse-real-gap": a_pure_rotation,
    "inverse-full-rate": unstable_trajectories,
    "inverse-rate-above-radius": slower_trajectories,
    "inverse-limit-mixture": polynomial_for_mixture,
    "inverse-limit-polynomial": mixture_for_polynomial,
    "inverse-neuron-stable": a_neuron_nearer_to_instability,
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])


def test_the_lemma_holds_for_another_ensemble_too(before):
    # companion matrices of random stable polynomials: far from normal, and not of the chapter's four kinds
    rng = np.random.default_rng(7)
    for _ in range(60):
        roots = -(10 ** rng.uniform(-1.5, 0.5, rng.integers(2, 9)))
        W = linalg.companion(np.poly(roots))
        P = before[-1]["lyapunov"](W)
        assert np.allclose(W.T @ P + P @ W, -np.eye(len(W)), atol=1e-6 * np.abs(P).max())
        bound = before[-1]["bound"](linalg.norm(W, 2), cmlib.stability_radius(W))
        assert linalg.norm(P, 2) <= bound * (1 + 1e-6)


def test_one_constant_serves_another_exponential_kernel(before):
    kernel = kernels.ExponentialMixture(0.2, 3.0)
    t = np.linspace(0, 300, 3001)
    for m in (2, 4, 8):
        s = cmlib.exponential_sum(kernel, m, times=np.arange(0.0, 101))
        assert (np.exp(0.1 * t) * np.abs(s(t))).max() < 1.1
