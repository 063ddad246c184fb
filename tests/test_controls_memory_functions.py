"""Negative controls of the chapter on memory functions: on a wrong object each claim must fail."""

import controls
import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels

CHAPTER = "nonlinear/memory-functions"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("memory-functions"))


def delay_is_one_step_late(v):
    late = cmlib.memory_function(lambda x: torch.cat([torch.zeros_like(x[:, :21]), x[:, :-21]], 1), 80)
    return {"answers": v["answers"] | {("delay", "heaviside"): late}}


def a_cube_in_place_of_the_square(v):
    smooth = v["smooth"]
    cube = cmlib.memory_function(lambda x: smooth(x) ** 3, 80)
    return {"answers": v["answers"] | {("square", "heaviside"): cube}}


def the_power_cut_off(v):
    # a power that an exponential window ends
    cut = cmlib.decay(cmlib.MemoryCurve(np.arange(1000.0), np.exp(-0.01 * np.arange(1000.0)), "heaviside"))
    return {"verdicts": v["verdicts"] | {("power", 1000): cut}}


def another_rate(v):
    other = cmlib.decay(cmlib.MemoryCurve(np.arange(1000.0), np.exp(-0.201 * np.arange(1000.0)), "heaviside", 1e-16))
    return {"verdicts": v["verdicts"] | {("exponential", 1000): other}}


def endless_modes(v):
    return {"verdicts": v["verdicts"] | {("8 modes", 20000): v["verdicts"]["power", 20000]}}


def one_network_with_large_inputs(v):
    key = next(iter(v["decays"]))
    generator = torch.Generator().manual_seed(0)
    f = v["recurrent"](nn.GRU, 1, generator)
    curve = cmlib.memory_function(f, 800, amplitudes=np.geomspace(1, 300, 40), history=200)
    return {"decays": v["decays"] | {key: cmlib.decay(curve)}}


def impulse_rates_of_another_network(v):
    return {"rates": v["rates"] | {("RNN", 1, "impulse"): v["rates"]["S4", 1, "impulse"]}}


def a_neuron_half_as_stable(v):
    x = np.concatenate([v["amplitudes"], -v["amplitudes"]])
    slow = cmlib.models.RNN([[-0.25]], [1.0], [1.0], dt=0.02)
    curve = cmlib.memory_function(slow, 5 * v["lags"], 0.02, amplitudes=x, history=1)
    return {"unbounded": v["unbounded"] | {"one tanh neuron": curve}}


def only_small_inputs(v):
    return {"unbounded": v["bounded"]}


def also_large_inputs(v):
    return {"bounded": v["unbounded"]}


def weights_of_the_other_size(kind):
    def control(v):
        gain, other = (min, max) if kind == "exponential" else (max, min)
        found = dict(v["found"])
        found[gain(v["gains"]), 0] = found[other(v["gains"]), 0]
        return {"found": found}

    return control


def half_the_slope(v):
    right = v["comes_back"]

    def halfway(x):
        back, period = right(x)
        return (x + back) / 2, period  # the same fixed point

    return {"comes_back": halfway}


def all_inputs_above(v):
    right = v["cmlib"].memory_function

    class Above:
        @staticmethod
        def memory_function(f, n, dt, amplitudes, history):
            return right(f, n, dt, amplitudes=[1.05 * a for a in amplitudes], history=history)

        decay = staticmethod(cmlib.decay)

    return {"cmlib": Above}


def all_inputs_below(v):
    right = v["cmlib"].memory_function

    class Below:
        @staticmethod
        def memory_function(f, n, dt, amplitudes, history):
            return right(f, n, dt, amplitudes=[0.95 * a for a in amplitudes], history=history)

        decay = staticmethod(cmlib.decay)

    return {"cmlib": Below}


def a_hold_that_leaks(v):
    class Leaking:
        @staticmethod
        def cummax(x, dim):
            held, k = torch.cummax(x, dim)
            return torch.return_types.cummax((held * 0.99 ** torch.arange(x.shape[1], dtype=x.dtype)[:, None], k))

    return {"torch": Leaking}


def a_hold_that_leaks_after_a_step(v):
    class Leaking:
        @staticmethod
        def cummax(x, dim):
            # held while the input is on, leaking once it has gone
            held, k = torch.cummax(x, dim)
            return torch.return_types.cummax((torch.where(x > 0, held, 0.9 * held), k))

    return {"torch": Leaking}


class _Kernels:
    """cmlib.kernels with another bump."""

    Sum = staticmethod(kernels.Sum)

    def __init__(self, bump):
        self.Bump = bump


CONTROLS = {
    "memory-of-linear-maps": delay_is_one_step_late,
    "memory-of-a-square": a_cube_in_place_of_the_square,
    "decay-tells-kernels-apart": the_power_cut_off,
    "decay-rate": another_rate,
    "eight-modes": endless_modes,
    "B-F10-exponential": one_network_with_large_inputs,
    "B-F10-rates-agree": impulse_rates_of_another_network,
    "one-neuron-closed-form": a_neuron_half_as_stable,
    "large-inputs-polynomial": only_small_inputs,
    "small-inputs-exponential": also_large_inputs,
    "B-F11a-exponential": weights_of_the_other_size("exponential"),
    "B-F11a-none": weights_of_the_other_size("none"),
    "B-F11b-orbit-repels": lambda v: {"W": -v["W"]},
    "B-F11b-two-routes": half_the_slope,
    "B-F11b-basin": lambda v: {"v": 0.5 * v["v"]},
    "B-F11b-corner": lambda v: {"W": np.eye(2)},
    "B-F11b-below": all_inputs_above,
    "B-F11b-above": all_inputs_below,
    "peak-hold-decays": a_hold_that_leaks,
    "peak-hold-does-not-fade": a_hold_that_leaks_after_a_step,
    "spikes-fade": lambda v: {"kernels": _Kernels(lambda center, width: kernels.Bump(center, 0.5))},
    "spikes-do-not-decay": lambda v: {"kernels": _Kernels(lambda c, w: kernels.Bump(c + 5 * w, w))},
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
