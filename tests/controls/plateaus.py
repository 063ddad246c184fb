"""Defects of the library that the chapter Plateaus must notice."""

import numpy as np
import torch

CHAPTER = "linear/plateaus"


def rates_pushed_twice(right):
    def gradient(self, weights, rates):
        g = right(self, weights, rates).copy()
        g[len(g) // 2 :] *= 2
        return g

    return gradient


def fainter_bump(right):
    return lambda self, n, w: 0.9 * right(self, n, w)


def without_mixed_terms(right):
    def hessian(self, weights, rates):
        H, m = right(self, weights, rates).copy(), len(weights)
        H[:m, m:] = H[m:, :m] = 0.0
        return H

    return hessian


def distance_of_weights(right):
    # at twice the distance, as for a norm that is half of what it should be
    return lambda self, delta, of="loss": right(self, 2 * delta if of == "parameters" else delta, of)


def before_the_bump_only(right):
    return lambda self, t: np.where(np.asarray(t) < self.center, right(self, t), 0.0)


def without_the_mean(right):
    def velocity(self, state, x):
        v = right(self, state, x)
        return torch.cat([v[:, :1] + state[:, 1:].mean(1, keepdim=True), v[:, 1:]], 1)

    return velocity


DEFECTS = {
    "rates-pushed-twice": (
        CHAPTER,
        "cmlib.gradient_flow.KernelLoss.gradient",
        rates_pushed_twice,
        "dJ/dw twice too large",
    ),
    "fainter-bump": (
        CHAPTER,
        "cmlib.gradient_flow.KernelLoss._moment",
        fainter_bump,
        "modes hear nine tenths of the bump",
    ),
    "hessian-in-blocks": (
        CHAPTER,
        "cmlib.gradient_flow.KernelLoss.hessian",
        without_mixed_terms,
        "no mixed derivatives",
    ),
    "halved-distance": (
        CHAPTER,
        "cmlib.gradient_flow.GradientFlow.hitting_time",
        distance_of_weights,
        "distances halved",
    ),
    "half-a-bump": (CHAPTER, "cmlib.kernels.Bump.__call__", before_the_bump_only, "bump cut off after its centre"),
    "waves-unfelt": (
        CHAPTER,
        "cmlib.chapter.lorenz96.Lorenz96.velocity",
        without_the_mean,
        "fast variables do not act",
    ),
}
