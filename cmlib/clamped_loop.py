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
    """Return loop(x, y, scale, dt, low, high, per_dt, W, U, b, c, errors, squares, witnesses), which fills in the last.

    Inputs come as (blocks, time, lanes), weights as (networks, m) with m divisible by 4; of each network the loop finds
    the supremum of the error, the sum of its squares, and the witness (time, sequence, sequence) where value and slope
    reach the supremum.
    """
    import numba  # here, because it takes a quarter of a second to import, and the loop one to compile

    @numba.njit(nogil=True, fastmath={"contract", "nsz"})
    def step(h, n, drive, w, dt, low, high):
        z = w * h[n] + drive
        z = low if z < low else z  # min and max would look after signed zeros too
        z = high if z > high else z
        h[n] += dt * z
        return h[n]

    @numba.njit(nogil=True, fastmath={"contract", "nsz"})
    def outputs(x, dt, low, high, W, U, b, c, output):
        # four neurons at a time go through all steps: their weights stay in registers, their states in the first cache
        h = np.empty((4, x.shape[1]))
        h0, h1, h2, h3 = h
        output[:] = 0.0
        for i in range(0, len(W), 4):
            h[:] = 0.0
            w0, w1, w2, w3 = W[i], W[i + 1], W[i + 2], W[i + 3]
            u0, u1, u2, u3 = U[i], U[i + 1], U[i + 2], U[i + 3]
            b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
            c0, c1, c2, c3 = c[i], c[i + 1], c[i + 2], c[i + 3]
            for t in range(x.shape[0]):
                for n in range(x.shape[1]):
                    total = output[t, n] + c0 * step(h0, n, u0 * x[t, n] + b0, w0, dt, low, high)
                    total += c1 * step(h1, n, u1 * x[t, n] + b1, w1, dt, low, high)
                    total += c2 * step(h2, n, u2 * x[t, n] + b2, w2, dt, low, high)
                    output[t, n] = total + c3 * step(h3, n, u3 * x[t, n] + b3, w3, dt, low, high)

    @numba.njit(nogil=True, fastmath={"contract", "nsz"})
    def loop(x, y, scale, dt, low, high, per_dt, W, U, b, c, errors, squares, witnesses):
        blocks, time, lanes = x.shape
        output, squares_of = np.empty((time, lanes)), np.empty(lanes)
        gaps, slopes = np.empty((time, lanes)), np.empty((time, lanes))
        block_of_gap, block_of_slope = np.empty((time, lanes), np.int64), np.empty((time, lanes), np.int64)
        for p in range(len(W)):
            gaps[:], slopes[:], squares_of[:] = 0.0, 0.0, 0.0
            block_of_gap[:], block_of_slope[:] = 0, 0
            for k in range(blocks):
                outputs(x[k], dt, low, high, W[p], U[p], b[p], c[p], output)
                for t in range(time):
                    for n in range(lanes):
                        gap = (output[t, n] - y[k, t, n]) * scale[k, n]
                        gap = gap if gap == gap else np.inf  # inf - inf
                        output[t, n] = gap
                        squares_of[n] += gap * gap
                        if abs(gap) > gaps[t, n]:
                            gaps[t, n], block_of_gap[t, n] = abs(gap), k
                if per_dt > 0:
                    for t in range(time):
                        for n in range(lanes):
                            slope = abs(output[t, n] - (output[t - 1, n] if t else 0.0)) * per_dt
                            if slope > slopes[t, n]:
                                slopes[t, n], block_of_slope[t, n] = slope, k
            errors[p], squares[p], witnesses[p] = 0.0, squares_of.sum(), 0
            for t in range(time):
                i, j = gaps[t].argmax(), slopes[t].argmax()
                if gaps[t, i] + slopes[t, j] > errors[p]:
                    errors[p] = gaps[t, i] + slopes[t, j]
                    witnesses[p, 0] = t
                    witnesses[p, 1], witnesses[p, 2] = block_of_gap[t, i] * lanes + i, block_of_slope[t, j] * lanes + j

    return loop
