"""Defects of the library that the chapter on what training gains must notice."""

import numpy as np

CHAPTER = "stable/optimization"


def without_its_square(right):
    def derivative(self, w):
        return right(self, w) * (self.a * w**2 + self.b)

    return derivative


def linear_in_w(right):
    def eigenvalue(self, w):
        return -1.0 / (self.a * abs(w) + self.b)

    return eigenvalue


def of_the_exponential(right):
    def inverse(self, eigenvalue):
        return np.log(-eigenvalue)

    return inverse


def without_time(right):
    def gradient(self, weights, rates):
        found = right(self, weights, rates)
        half = len(found) // 2
        # int e^{-wt}, where int t e^{-wt} belongs
        return np.append(found[:half], -found[:half] * np.asarray(weights))

    return gradient


DEFECTS = {
    "inverse-square-slope": (
        CHAPTER,
        "cmlib.parameterizations.InverseSquare.derivative",
        without_its_square,
        "the derivative of -1/(a w^2 + b) loses a power of its denominator",
    ),
    "inverse-not-square": (
        CHAPTER,
        "cmlib.parameterizations.InverseSquare.forward",
        linear_in_w,
        "-1/(a |w| + b) in place of -1/(a w^2 + b)",
    ),
    "softplus-started-as-exp": (
        CHAPTER,
        "cmlib.parameterizations.Softplus.inverse",
        of_the_exponential,
        "softplus begins at the raw weights of the exponential",
    ),
    "gradient-without-time": (
        CHAPTER,
        "cmlib.gradient_flow.KernelLoss.gradient",
        without_time,
        "the gradient in a rate loses its factor t",
    ),
}
