"""Defects of the library that the chapter on stable reparameterization must notice."""

import math

import torch

CHAPTER = "stable/reparameterization"


def twice_as_sharp(right):
    def eigenvalue(self, w):
        return right(self, 2 * w) / 2

    return eigenvalue


def without_b(right):
    def eigenvalue(self, w):
        return -1.0 / (self.a * w**2 + self.b / 2)

    return eigenvalue


def to_second_order(right):
    def matrix_exponential(A):
        return torch.eye(A.shape[-1], dtype=A.dtype) + A + A @ A / 2

    return matrix_exponential


def of_all_weights(right):
    def perturbation_error(*args, weights=None, **keywords):
        return right(*args, **keywords)

    return perturbation_error


def for_all_times(right):
    def perturbation_error(*args, horizon=math.inf, **keywords):
        return right(*args, **keywords)

    return perturbation_error


def no_ascent(right):
    def ascend(self, distance, beta, reachable, directions, best):
        return torch.zeros(len(beta), 1, dtype=torch.float64)

    return ascend


DEFECTS = {
    "sharp-softplus": (
        CHAPTER,
        "cmlib.parameterizations.Softplus.forward",
        twice_as_sharp,
        "-log(1 + e^2w) / 2 in place of -log(1 + e^w)",
    ),
    "half-of-b": (
        CHAPTER,
        "cmlib.parameterizations.InverseSquare.forward",
        without_b,
        "-1/(a w^2 + b/2) in place of -1/(a w^2 + b)",
    ),
    "matrix-exponential-cut-off": (
        CHAPTER,
        "cmlib.parameterizations.matrix_exponential",
        to_second_order,
        "the exponential of a matrix as its series to second order",
    ),
    "all-weights-perturbed": (
        CHAPTER,
        "cmlib.perturbation.perturbation_error",
        of_all_weights,
        "perturbs all weights whichever are asked for",
    ),
    "window-ignored": (
        CHAPTER,
        "cmlib.perturbation.perturbation_error",
        for_all_times,
        "measures the error on all times whatever the horizon",
    ),
    "stays-at-random-directions": (
        CHAPTER,
        "cmlib.worst_case.Ball.ascend",
        no_ascent,
        "the worst case is the largest of random directions, without ascent",
    ),
}
