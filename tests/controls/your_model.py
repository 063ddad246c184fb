"""Defects of the library that the chapter on the reader's own model must notice."""

import dataclasses

import numpy as np
import torch

CHAPTER = "stable/your-model"


def of_decay(change):
    return lambda right: lambda curve: change(right(curve))


def of_curve(change):
    return lambda right: lambda *arguments, **options: change(right(*arguments, **options))


def summed(curve):
    """What a step leaves of the output itself, instead of its derivative."""
    return curve if curve.inputs == "impulse" else dataclasses.replace(curve, values=np.cumsum(curve.values))


def with_forget_gate_open(right):
    def step_at_rest(layer):
        if isinstance(layer, torch.nn.LSTM):
            layer.bias_ih_l0.data[layer.hidden_size : 2 * layer.hidden_size] += 1.0
        return right(layer)

    return step_at_rest


DEFECTS = {
    "rate-half-reported": (
        CHAPTER,
        "cmlib.report.decay",
        of_decay(lambda found: dataclasses.replace(found, rate=found.rate / 2)),
        "half the rate of a memory",
    ),
    "steps-not-differentiated": (CHAPTER, "cmlib.memory.memory_function", of_curve(summed), "no derivative of steps"),
    "forget-bias-added-once-more": (
        CHAPTER,
        "cmlib.rest._step_at_rest",
        with_forget_gate_open,
        "1 is added to an LSTM's forget bias",
    ),
    "radius-per-unit-of-two": (
        CHAPTER,
        "cmlib.rest.stability_radius",
        lambda right: lambda W, *a, **k: right(2.0 * W, *a, **k),
        "the stability radius of 2 W",
    ),
    "no-look-at-the-model": (
        CHAPTER,
        "cmlib.report.preflight",
        lambda right: lambda seq_map, inputs: None,
        "takes any model, whatever it depends on",
    ),
}
