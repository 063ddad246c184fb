"""Fit the networks of the front page's live figure and write them where the page's script finds them.

python workflow/poster.py     writes book/_extra/poster/fits.js, 50 fits in some ten seconds
"""

import json

from chapters import ROOT

import cmlib
from cmlib import kernels

FITS = ROOT / "book" / "_extra" / "poster" / "fits.js"
OPENING = (
    "// Written by workflow/poster.py: do not edit. Each fit is sum_k weights[k] exp(-rates[k] t).\nvar posterFits = "
)
WIDTHS = (2, 4, 8, 12, 16)
EXPONENTS = (1.3, 1.4, 1.5, 1.6, 1.75, 2.0, 2.25, 2.5, 3.0)
TARGETS = {"exponential": kernels.ExponentialMixture(slowest=0.1, fastest=1.0)} | {
    f"power {p:g}": kernels.Polynomial(p) for p in EXPONENTS
}


def fitted(kernel) -> dict:
    """Return the norm of a kernel and its fits on all times, each with its L1 error.

    Raises:
        ValueError: where a mode oscillates or has a negative weight: the page's formulas hold for the others.
    """
    fits = []
    for m in WIDTHS:
        s = cmlib.exponential_sum(kernel, m)
        if not (s.rates.imag == 0).all() or not (s.weights.real > 0).all():
            raise ValueError(f"expected real modes of positive weight, got {s!r} for {kernel!r}")
        modes = {"rates": s.rates.real.tolist(), "weights": s.weights.real.tolist()}
        fits.append({"m": m} | modes | {"error": s.l1_error(kernel)})
    return {"norm": kernel.l1_norm(), "fits": fits}


if __name__ == "__main__":
    found = {name: fitted(kernel) for name, kernel in TARGETS.items()}
    FITS.write_text(OPENING + json.dumps(found, separators=(",", ":")) + ";\n", encoding="utf-8")
