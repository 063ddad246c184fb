"""Defects of the library that the chapter on Hankel lower bounds must notice."""

import numpy as np

from cmlib import hankel

CHAPTER = "linear/hankel-lower-bounds"


def fixed_rates(exponential_sum):
    def stuck(kernel, m, rates=None, **options):
        return exponential_sum(kernel, m, rates=np.geomspace(0.05, 5.0, m) if rates is None else rates, **options)

    return stuck


def one_mode_less(balanced_truncation):
    return lambda kernel, m: balanced_truncation(kernel, max(m - 1, 1))


DEFECTS = {
    "free-rates-held": (
        CHAPTER,
        "cmlib.exponential_sums.exponential_sum",
        fixed_rates,
        "free fits that keep their first rates",
    ),
    "half-the-area": (
        CHAPTER,
        "cmlib.exponential_sums.ExponentialSum.l1_error",
        lambda right: lambda *args, **options: 0.5 * right(*args, **options),
        "half the area between two kernels",
    ),
    "balanced-one-short": (
        CHAPTER,
        "cmlib.exponential_sums.balanced_truncation",
        one_mode_less,
        "balanced truncation with a mode too few",
    ),
    "hankel-from-25-nodes": (
        CHAPTER,
        "cmlib.hankel.converged",
        lambda right: lambda kernel, n_values=50: hankel.HankelOperator.of(kernel, 25 if n_values <= 25 else n_values),
        "Hankel singular values from too coarse a quadrature",
    ),
    "half-of-the-values": (
        CHAPTER,
        "cmlib.hankel.hankel_singular_values",
        lambda right: lambda *args, **options: right(*args, **options) / 2,
        "Hankel singular values half as large",
    ),
}
