"""The compiled loop over many perturbed networks whose step is h' = h + dt min(max(W h + U x + b, low), high)."""

import functools
from collections.abc import Callable

import numpy as np


def has_compiler() -> bool:
    """Return whether numba, which is optional, is there and goes with this numpy."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


@functools.cache
def compiled() -> Callable:
    """Return loop(x, y, scale, dt, low, high, per_dt, W, U, b, c, errors), which fills in the errors."""
    import numba  # here, because it takes a quarter of a second to import, and the loop one to compile

    @numba.njit(nogil=True, fastmath={"contract", "nsz"})
    def loop(x, y, scale, dt, low, high, per_dt, W, U, b, c, errors):
        blocks, time, lanes = x.shape
        gaps, slopes = np.empty((time, lanes)), np.empty((time, lanes))
        h, output, last = np.empty((W.shape[1], lanes)), np.empty(lanes), np.empty(lanes)
        for p in range(len(W)):
            gaps[:], slopes[:] = 0.0, 0.0
            for k in range(blocks):
                h[:], last[:] = 0.0, 0.0
                for t in range(time):
                    output[:] = 0.0
                    for i in range(len(h)):
                        w, u, bias, readout = W[p, i], U[p, i], b[p, i], c[p, i]
                        for n in range(lanes):
                            z = w * h[i, n] + (u * x[k, t, n] + bias)
                            z = low if z < low else z  # min and max would look after signed zeros too
                            z = high if z > high else z
                            h[i, n] += dt * z
                            output[n] += readout * h[i, n]
                    for n in range(lanes):
                        gap = (output[n] - y[k, t, n]) * scale[k, n]
                        gap = gap if gap == gap else np.inf  # inf - inf
                        gaps[t, n] = max(gaps[t, n], abs(gap))
                        slopes[t, n] = max(slopes[t, n], abs(gap - last[n]) * per_dt)
                        last[n] = gap
            errors[p] = 0.0
            for t in range(time):
                errors[p] = max(errors[p], gaps[t].max() + slopes[t].max())

    return loop
