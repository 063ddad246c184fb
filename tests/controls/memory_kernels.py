"""Defects of the library that the chapter on memory kernels must notice."""

import dataclasses

import numpy as np
import torch

from cmlib import kernels

CHAPTER = "linear/memory-kernels"


def in_frobenius_norm(ball):
    """Every ball around a recurrent weight, its sphere and its best vertex, in the Frobenius norm."""

    class Frobenius(ball):
        def _size(self, name, value):
            if self.center[name].ndim < 2:
                return super()._size(name, value)
            return torch.linalg.matrix_norm(value)[..., None, None]

        def _vertex(self, name, gradient):
            return gradient / self._size(name, gradient).clamp(min=1e-300)

        def _slower(self, model):
            every, slowest = super()._slower(model)
            return every / torch.linalg.matrix_norm(every), slowest

    return Frobenius


def one_step_late(memory_function):
    def late(*args, **options):
        curve = memory_function(*args, **options)
        return dataclasses.replace(curve, values=np.append(0.0, curve.values[:-1]))

    return late


DEFECTS = {
    "halved-radius": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        lambda right: lambda *args, **options: 0.5 * right(*args, **options),
        "half the stability radius",
    ),
    "no-ascent": (
        CHAPTER,
        "cmlib.worst_case.Ball.ascend",
        lambda right: lambda *args: right(*args, n_iterations=0),
        "the ascent takes no step from its starts",
    ),
    "frobenius-balls": (
        CHAPTER,
        "cmlib.worst_case.Ball",
        in_frobenius_norm,
        "perturbations measured in the Frobenius norm, not the spectral one",
    ),
    "errors-to-time-100": (
        CHAPTER,
        "cmlib.perturbation.KernelDistance",
        lambda right: (
            lambda kernel, model, norm, horizon, *rest: right(kernel, model, norm, min(horizon, 100.0), *rest)
        ),
        "perturbation errors lose what comes after t = 100",
    ),
    "kernel-read-late": (
        CHAPTER,
        "cmlib.exponential_sums._on_given_times",
        lambda right: lambda kernel, *args: right(kernels.Shifted(kernel, 1.0), *args),
        "fits see the kernel one sample late",
    ),
    "linear-memory-one-step-late": (
        CHAPTER,
        "cmlib.memory.memory_function",
        one_step_late,
        "the memory function is off by one step",
    ),
    "area-without-signs": (
        CHAPTER,
        "cmlib.areas.sign_changes",
        lambda right: lambda *args: right(*args)[:1],
        "areas between kernels that cross cancel",
    ),
}
