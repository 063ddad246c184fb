"""Defects of the library that the chapter on the reader's own model must notice."""

import dataclasses

import numpy as np
import torch

from cmlib import Preflight

CHAPTER = "stable/your-model"


def of_result(change):
    return lambda right: lambda *arguments, **options: change(right(*arguments, **options))


def summed(curve):
    """What a step leaves of the output itself, instead of its derivative."""
    return curve if curve.inputs == "impulse" else dataclasses.replace(curve, values=np.cumsum(curve.values))


def half_the_rate(found):
    low, high = found.rate_interval
    return dataclasses.replace(found, rate=found.rate / 2, rate_interval=(low / 2, high / 2))


def never_undecided(found):
    """The first of the laws that are possible, or an end of memory where there are none."""
    return found if found.kind != "undecided" else dataclasses.replace(found, kind=[*found.possible, "finite"][0])


def impulses_alone(right):
    def memory_function(seq_map, n_steps, dt=1.0, d_in=1, inputs="heaviside", *arguments, **options):
        return right(
            seq_map, n_steps, dt, d_in, inputs if isinstance(inputs, str) else "impulse", *arguments, **options
        )

    return memory_function


def forget_gate_opened(right):
    def in_double(model):
        model = right(model)
        for layer in model.modules() if isinstance(model, torch.nn.Module) else ():
            if isinstance(layer, torch.nn.LSTM):
                layer.bias_ih_l0.data[layer.hidden_size : 2 * layer.hidden_size] += 1.0
        return model

    return in_double


def never_refuses(right):
    def preflight(seq_map, d_in=1, *arguments, **options):
        try:
            return right(seq_map, d_in, *arguments, **options)
        except ValueError:
            return Preflight(d_in, 1, torch.float64, None, 2e-16, ())

    return preflight


DEFECTS = {
    "rate-half-reported": (CHAPTER, "cmlib.decay.decay", of_result(half_the_rate), "half the rate of a memory"),
    "never-undecided": (CHAPTER, "cmlib.decay.decay", of_result(never_undecided), "a verdict where there is none"),
    "steps-not-differentiated": (CHAPTER, "cmlib.memory.memory_function", of_result(summed), "no derivative of steps"),
    "own-sequences-ignored": (
        CHAPTER,
        "cmlib.memory.memory_function",
        impulses_alone,
        "impulses in place of the user's own sequences",
    ),
    "forget-bias-added-once-more": (
        CHAPTER,
        "cmlib.sequence_maps.in_double",
        forget_gate_opened,
        "1 is added to an LSTM's forget bias",
    ),
    "radius-per-unit-of-two": (
        CHAPTER,
        "cmlib.certificates.stability_radius",
        lambda right: lambda W, *a, **k: right(2.0 * W, *a, **k),
        "the stability radius of 2 W",
    ),
    "no-look-at-the-model": (
        CHAPTER,
        "cmlib.preflight.preflight",
        never_refuses,
        "takes any model, whatever it depends on",
    ),
}
