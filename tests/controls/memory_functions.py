"""Defects of the library that the chapter on memory functions must notice."""

import dataclasses

import numpy as np

CHAPTER = "nonlinear/memory-functions"


def without_the_time_step(right):
    # the difference of two outputs, not divided by dt, as in the public code
    def wrong(seq_map, n_steps, dt=1.0, *a, **k):
        curve = right(seq_map, n_steps, dt, *a, **k)
        return dataclasses.replace(curve, values=curve.values * dt)

    return wrong


def one_step_late(right):
    def wrong(*a, **k):
        curve = right(*a, **k)
        return dataclasses.replace(curve, values=np.append(0.0, curve.values[:-1]))

    return wrong


def clipped_inputs(right):
    # the supremum is over |x| <= 10, whatever was asked for
    return lambda amplitudes, *a: right(None if amplitudes is None else np.clip(amplitudes, -10, 10), *a)


def half_the_rate(right):
    def wrong(curve, **options):
        found = right(curve, **options)
        low, high = found.rate_interval
        return dataclasses.replace(found, rate=found.rate / 2, rate_interval=(low / 2, high / 2))

    return wrong


def always_exponential(right):
    # without the fit of a power
    return lambda curve, **options: dataclasses.replace(right(curve, **options), kind="exponential")


def starts_late(right):
    # the step and the impulse come one step after time 0
    return lambda *a, **k: right(*a, **k).roll(1, 1)


def stays_for_ten_steps(right):
    def wrong(*a, **k):
        x = right(*a, **k)
        return sum(x.roll(lag, 1) for lag in range(10))

    return wrong


DEFECTS = {
    "memory-without-dt": (CHAPTER, "cmlib.memory.memory_function", without_the_time_step, "M lacks the 1/dt"),
    "memory-one-step-late": (CHAPTER, "cmlib.memory.memory_function", one_step_late, "M starts a step late"),
    "memory-of-small-inputs": (CHAPTER, "cmlib.memory._amplitudes", clipped_inputs, "inputs clipped at 10"),
    "half-the-decay-rate": (CHAPTER, "cmlib.decay.decay", half_the_rate, "half the rate of a fitted exponential"),
    "steps-start-late": (CHAPTER, "cmlib.inputs.heaviside", starts_late, "the step comes one step late"),
    "long-impulses": (CHAPTER, "cmlib.inputs.impulse", stays_for_ten_steps, "an impulse lasts ten steps"),
    "every-decay-exponential": (CHAPTER, "cmlib.decay.decay", always_exponential, "no decay but exponential ones"),
}
