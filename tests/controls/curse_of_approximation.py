"""Defects of the library that the chapter The curse in approximation must notice."""

from dataclasses import replace

import numpy as np

CHAPTER = "linear/curse-of-approximation"


def without_margin(right):
    return lambda kernel, m, **options: right(kernel, m, **{k: v for k, v in options.items() if k != "margin"})


def fewest_modes(right):
    # a free fit of no more than four modes, however many are asked for
    return lambda kernel, m, **options: right(kernel, min(m, 4) if options.get("margin") is None else m, **options)


def up_to_ten(right):
    return lambda a, b, horizon=np.inf: right(a, b, min(horizon, 10.0))


def on_sparse_times(right):
    def coarse(*given):
        samples = right(*given)
        return replace(samples, t=samples.t[::6], root=samples.root[::6], y=samples.y[::6])

    return coarse


def one_power_off(right):
    return lambda self, t: right(replace(self, exponent=self.exponent + 1.0), t)


def one_unit_short(right):
    def kernel(self, t, *more):
        c = self.c.detach().clone()
        c[..., -1] = 0.0
        return right(type(self)(self.W.detach(), self.U.detach(), c), t, *more)

    return kernel


DEFECTS = {
    "margin-ignored": (CHAPTER, "cmlib.exponential_sums.exponential_sum", without_margin, "fits ignore the margin"),
    "four-modes-at-most": (
        CHAPTER,
        "cmlib.exponential_sums.exponential_sum",
        fewest_modes,
        "no free fit has over four modes",
    ),
    "area-until-ten": (CHAPTER, "cmlib.kernels.l1_distance", up_to_ten, "the area between kernels ends at time 10"),
    "sparse-samples": (CHAPTER, "cmlib.exponential_sums._on_all_times", on_sparse_times, "fits see every sixth time"),
    "power-tail-one-off": (
        CHAPTER,
        "cmlib.kernels.Polynomial.tail",
        one_power_off,
        "tail of a power, exponent one too large",
    ),
    "last-neuron-unread": (CHAPTER, "cmlib.models.LinearRNN.kernel", one_unit_short, "kernel without the last neuron"),
}
