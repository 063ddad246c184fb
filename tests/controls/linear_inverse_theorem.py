"""Defects of the library that the chapter on the linear inverse theorem must notice."""

import numpy as np

CHAPTER = "linear/linear-inverse-theorem"


def fixed_rates(exponential_sum):
    def stuck(kernel, m, rates=None, **options):
        return exponential_sum(kernel, m, rates=np.geomspace(0.05, 5.0, m) if rates is None else rates, **options)

    return stuck


DEFECTS = {
    "radius-is-margin": (
        CHAPTER,
        "cmlib.stability.stability_radius",
        lambda right: lambda W, **options: -np.linalg.eigvals(np.asarray(W)).real.max(),
        "the margin of the eigenvalues in place of the stability radius",
    ),
    "smaller-chain-radius": (
        CHAPTER,
        "cmlib.stability._real_radius",
        lambda right: lambda W, boundary: 0.5 * right(W, boundary),
        "half the real stability radius",
    ),
    "margins-of-held-rates": (
        CHAPTER,
        "cmlib.exponential_sums.exponential_sum",
        fixed_rates,
        "fits of the inverse theorem that keep their first rates",
    ),
}
