"""Defects of the library that the chapter on trained nonlinear networks must notice."""

import dataclasses

import numpy as np

CHAPTER = "nonlinear/nonlinear-rnns"


def no_change_per_step(memory_function):
    def wrong(seq_map, n_steps, dt=1.0, **options):
        curve = memory_function(seq_map, n_steps, dt=dt, **options)
        return dataclasses.replace(curve, values=curve.values * dt)

    return wrong


def history_of_one_step(memory_function):
    return lambda *args, **options: memory_function(*args, **(options | {"history": 1}))


def abscissa(stability_radius):
    return lambda W, *args, **of: float(-np.linalg.eigvals(np.asarray(W)).real.max())


def level_forgotten(stable_perturbation_radius):
    return lambda curve, level=None: stable_perturbation_radius(curve)


def always_exponential(decay):
    return lambda curve, **options: dataclasses.replace(decay(curve, **options), kind="exponential")


DEFECTS = {
    "decoder-memory-without-dt": (
        CHAPTER,
        "cmlib.memory.memory_function",
        no_change_per_step,
        "memory lacks the 1 / dt",
    ),
    "history-of-one-step": (CHAPTER, "cmlib.memory.memory_function", history_of_one_step, "no rest before t = 0"),
    "abscissa-for-radius": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        abscissa,
        "the spectral abscissa in place of the stability radius",
    ),
    "level-forgotten": (
        CHAPTER,
        "cmlib.perturbation.stable_perturbation_radius",
        level_forgotten,
        "twice the error at rest in place of the level",
    ),
    "teachers-decay-exponential": (
        CHAPTER,
        "cmlib.decay.decay",
        always_exponential,
        "each memory is called exponential",
    ),
}
