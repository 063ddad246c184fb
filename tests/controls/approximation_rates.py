"""Defects of the library that the chapter on approximation rates must notice."""

import numpy as np

from cmlib import hankel

CHAPTER = "linear/approximation-rates"


def fixed_rates(exponential_sum):
    def stuck(kernel, m, rates=None, **options):
        return exponential_sum(kernel, m, rates=np.geomspace(0.05, 5.0, m) if rates is None else rates, **options)

    return stuck


def one_mode_less(balanced_truncation):
    return lambda kernel, m: balanced_truncation(kernel, max(m - 1, 1))


DEFECTS = {
    "radius-is-margin": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        lambda right: lambda W, **options: -np.linalg.eigvals(np.asarray(W)).real.max(),
        "the margin of the eigenvalues in place of the stability radius",
    ),
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
    "smaller-chain-radius": (
        CHAPTER,
        "cmlib.stability._real_radius",
        lambda right: lambda W: 0.5 * right(W),
        "half the real stability radius",
    ),
    "areas-that-cancel": (
        CHAPTER,
        "cmlib.areas.sign_changes",
        lambda right: lambda *args: right(*args)[:1],
        "areas between kernels that cross cancel",
    ),
}
