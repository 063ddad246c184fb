"""Defects of the library that the chapter on stable approximation must notice."""

import torch

CHAPTER = "nonlinear/stable-approximation"


def without_ascent(right):
    # the random directions again, in place of where the ascent ends
    def wrong(self, distance, beta, reachable, sampled, best, n_iterations=40):
        return self.errors(distance, beta, sampled)

    return wrong


def entrywise(right):
    # the largest entry in place of the spectral norm
    def wrong(self, name, value):
        rank = self.center[name].ndim
        return value.abs().flatten(-rank).amax(-1).reshape(*value.shape[: value.ndim - rank], *(1,) * rank)

    return wrong


def one_step_early(right):
    # outputs are compared with those of the target a step later
    def wrong(self, *a):
        right(self, *a)
        self.y = torch.roll(self.y, -1, 1)

    return wrong


def not_divided_by_inputs(right):
    def wrong(self, *a):
        right(self, *a)
        self.size = torch.ones_like(self.size)

    return wrong


def fewer_modes(right):
    # fits of half the width
    return lambda kernel, m, *a, **k: right(kernel, max(m // 2, 1), *a, **k)


DEFECTS = {
    "ascent-left-out": (CHAPTER, "cmlib.worst_case.Ball.ascend", without_ascent, "no ascent of the perturbation error"),
    "entries-for-spectral-norm": (
        CHAPTER,
        "cmlib.worst_case.Ball._size",
        entrywise,
        "perturbations by largest entry, not by spectral norm",
    ),
    "target-a-step-early": (
        CHAPTER,
        "cmlib.distances.SequenceDistance.__init__",
        one_step_early,
        "outputs compared a step apart",
    ),
    "error-not-relative": (
        CHAPTER,
        "cmlib.distances.SequenceDistance.__init__",
        not_divided_by_inputs,
        "errors not divided by the size of the input",
    ),
    "half-the-modes": (
        CHAPTER,
        "cmlib.exponential_sums.exponential_sum",
        fewer_modes,
        "fits of half the width asked for",
    ),
}
