"""Defects of the library that the chapter on the inverse theorem must notice."""

import numpy as np

CHAPTER = "nonlinear/inverse-theorem"


def margin_in_place_of_radius(right):
    # the distance of the eigenvalues to the axis, which is the radius of normal matrices only
    def wrong(W, field="complex", time="flow"):
        return -float(np.linalg.eigvals(np.asarray(W)).real.max())

    return wrong


def fields_exchanged(right):
    other = {"real": "complex", "complex": "real"}
    return lambda W, field="complex", **of: right(W, other[field], **of)


def only_at_frequency_zero(right):
    # the smallest singular value of W, as if it were symmetric
    return lambda W, boundary: float(np.linalg.svd(W, compute_uv=False)[-1])


def without_the_derivative(right):
    return lambda *a, norm="sup", **k: right(*a, norm="sup", **k)


def without_the_time_step(right):
    # the difference of two outputs, not divided by dt
    def wrong(self, *a):
        right(self, *a)
        self.dt = 1.0

    return wrong


DEFECTS = {
    "margin-for-radius": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        margin_in_place_of_radius,
        "the margin of the eigenvalues for the stability radius",
    ),
    "real-for-complex": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        fields_exchanged,
        "real and complex stability radii exchanged",
    ),
    "radius-at-rest": (
        CHAPTER,
        "cmlib.stability._complex_radius",
        only_at_frequency_zero,
        "the complex radius at frequency 0 only",
    ),
    "w1-without-derivative": (
        CHAPTER,
        "cmlib.perturbation.perturbation_error",
        without_the_derivative,
        "the W1 norm without its derivative",
    ),
    "derivative-without-dt": (
        CHAPTER,
        "cmlib.distances.SequenceDistance.__init__",
        without_the_time_step,
        "the derivative in the W1 norm lacks its 1/dt",
    ),
}
