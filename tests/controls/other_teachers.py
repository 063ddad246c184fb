"""Defects of the library that the chapter on other teachers must notice."""

import dataclasses

import torch

CHAPTER = "nonlinear/other-teachers"


def rightmost(stability_radius):
    return lambda W, *args, **options: float(-torch.linalg.eigvals(torch.as_tensor(W)).real.max())


def per_step(memory_function):
    def wrong(seq_map, n_steps, dt=1.0, **options):
        curve = memory_function(seq_map, n_steps, dt=dt, **options)
        return dataclasses.replace(curve, values=curve.values * dt)

    return wrong


def impatient(fit):
    return lambda *args, **options: fit(*args, **options | {"steps": 5})


DEFECTS = {
    "students-radius-of-eigenvalues": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        rightmost,
        "the radius is the distance of the eigenvalues from the axis, which a shift register shows to be wrong",
    ),
    "students-memory-per-step": (
        CHAPTER,
        "cmlib.memory.memory_function",
        per_step,
        "memory lacks the 1 / dt",
    ),
    "students-hardly-trained": (CHAPTER, "cmlib.training.fit", impatient, "training ends after five steps a round"),
}
