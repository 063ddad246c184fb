"""Defects of the library that the chapter on the corrected inverse theorem must notice."""

import dataclasses

CHAPTER = "nonlinear/corrected-theorem"


def complex_for_real(right):
    # as if perturbations by complex matrices were allowed throughout
    return lambda W, field="complex", time="flow": right(W, "complex", time)


def per_double_time(right):
    def wrong(curve, **options):
        found = right(curve, **options)
        return dataclasses.replace(found, rate=found.rate / 2)

    return wrong


DEFECTS = {
    "complex-for-real-radius": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        complex_for_real,
        "the real stability radius is the complex one",
    ),
    "rate-of-two-units": (CHAPTER, "cmlib.decay.decay", per_double_time, "rates of decay count two units of time"),
}
