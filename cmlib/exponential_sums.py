"""Exponential sums: every kernel a linear RNN can have, fitted to the kernel it should have.

Rates on a grid make a linear least-squares problem (paper B, Fig. 1). Free rates start from the singular vectors of
a Hankel matrix of samples and end in variable projection, which alone stalls in local minima for m > 6.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, optimize

from cmlib.kernels import (
    ArrayLike,
    Kernel,
    KernelLike,
    Number,
    Reals,
    Sum,
    Values,
    _kernel,
    _set,
    l1_distance,
)

MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class ExponentialSum:
    """s(t) = Re sum_k weights_k e^{-rates_k t}: a memory kernel of at most m modes.

    Complex rates come in conjugate pairs with conjugate weights, so that s is real.

    Args:
        rates: (m,), real part > 0, per unit of time.
        weights: (m,), in units of the kernel.
    """

    rates: ArrayLike
    weights: ArrayLike

    def __post_init__(self):
        _set(self, rates=np.asarray(self.rates), weights=np.asarray(self.weights))
        if self.rates.ndim != 1 or self.rates.shape != self.weights.shape or not self.rates.size:
            raise ValueError(
                f"expected rates and weights of one shape (m,), got {self.rates.shape} and {self.weights.shape}"
            )
        if not (np.isfinite(self.rates).all() and np.isfinite(self.weights).all()):
            raise ValueError("expected finite rates and weights, got NaN or infinity")
        by_rate = dict(zip(self.rates.tolist(), self.weights.tolist(), strict=True))
        lone = [
            r
            for r, w in by_rate.items()
            if r.imag != 0 and not np.isclose(by_rate.get(r.conjugate(), np.nan), np.conj(w))
        ]
        if lone:
            raise ValueError(f"expected complex rates in conjugate pairs with conjugate weights, got {lone} alone")
        if self.rates.real.min() <= 0:
            raise ValueError(f"expected every rate to have a positive real part, got {self.rates}")

    @property
    def nonnegative(self) -> bool:
        return bool(np.isrealobj(self.rates) and (self.weights >= 0).all())

    def __call__(self, t: ArrayLike) -> Values:
        if isinstance(t, torch.Tensor):
            dtype = torch.complex128 if np.iscomplexobj(self.rates) else torch.float64
            rates = torch.as_tensor(self.rates, dtype=dtype, device=t.device)
            weights = torch.as_tensor(self.weights, dtype=dtype, device=t.device)
            return (weights * torch.exp(-rates * t[..., None])).sum(-1).real.to(t.dtype)
        return self._sum(self.weights, t)

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf s, signed."""
        return self._sum(self.weights / self.rates, t)

    def oscillation_times(self) -> Float[np.ndarray, " time"]:
        """Return times close enough to see every oscillation until 1e-7 of it is left; none for real rates."""
        turning = self.rates[self.rates.imag != 0]
        if not len(turning):
            return np.zeros(0)
        end = 16.0 / turning.real.min()
        n = 8 * np.abs(turning.imag).max() * end / np.pi
        if n > MOST_SAMPLES:
            raise ValueError(f"expected modes that decay within {MOST_SAMPLES // 40} periods, got rates {self.rates}")
        return np.linspace(0.0, end, max(int(n), 1000))

    def laplace(self, s: ArrayLike) -> Reals:
        """Return int_0^inf e^{-st} s(t) dt."""
        return (self.weights / (np.asarray(s, dtype=float)[..., None] + self.rates)).sum(-1).real[()]

    def l1_norm(self) -> float:
        """Return int_0^inf |s|."""
        return l1_distance(self, Sum((self,), (0.0,)))

    def l1_error(self, kernel: Kernel, horizon: float = np.inf) -> float:
        """Return int_0^horizon |s - kernel|: the operator distance of the two functionals.

        Reference: wang2024inverse, eq. (3)
        """
        return l1_distance(self, kernel, horizon)

    def realization(
        self,
    ) -> tuple[Float[np.ndarray, "m m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Return balanced real (W, U, c) with c^T e^{Wt} U = s(t).

        A real mode has |c_k| = |U_k| = sqrt|weight_k|; a conjugate pair is a scaled rotation block.
        """
        blocks, U, c = [], [], []
        for rate, weight in zip(self.rates, self.weights, strict=True):
            if rate.imag == 0:
                root = np.sqrt(abs(weight))
                blocks.append([[-rate.real]])
                U.append(root)
                c.append(np.copysign(root, weight.real))
            elif rate.imag > 0:  # the conjugate adds the same, hence the factor 2
                root, half = np.sqrt(2 * abs(weight)), np.angle(weight) / 2
                blocks.append([[-rate.real, rate.imag], [-rate.imag, -rate.real]])
                U += [root * np.cos(half), root * np.sin(half)]
                c += [root * np.cos(half), -root * np.sin(half)]
        return linalg.block_diag(*blocks), np.array(U), np.array(c)

    def _sum(self, weights: np.ndarray, t: ArrayLike) -> Reals:
        t = np.asarray(t, dtype=float)
        end = np.isposinf(t)  # where a complex rate times infinity would be NaN
        modes = np.exp(-self.rates * np.where(end, 0.0, t)[..., None])
        return np.where(end, 0.0, (weights * modes).sum(-1).real)[()]


def exponential_sum(
    kernel: KernelLike,
    m: Number,
    *,
    rates: ArrayLike | None = None,
    margin: float | None = None,
    horizon: float = 100.0,
    n_samples: int = 100,
) -> ExponentialSum:
    """Fit a kernel by m exponentials, least squares over t = horizon/n_samples, 2 horizon/n_samples, …, horizon.

    Args:
        kernel: the memory kernel.
        m: number of modes; free fits return fewer where fewer already reach rounding error.
        rates: (m,), fixed rates as in paper B; None fits them too, real or in conjugate pairs.
        margin: every free rate has a real part >= margin, per unit of time.
        horizon: last sample time; the defaults are paper B's grid t = 1, 2, …, 100.
        n_samples: number of samples.

    Raises:
        ValueError: for m < 1, fewer than 2 m + 2 samples, or a margin that is not positive.

    Reference: wang2024inverse, Fig. 1; kung1978new; golub1973differentiation
    """
    if not (isinstance(m, int | np.integer) and m >= 1):
        raise ValueError(f"expected a number of modes m >= 1, got {m!r}")
    if not (np.isfinite(horizon) and horizon > 0):
        raise ValueError(f"expected a finite horizon > 0, got {horizon!r}")
    if n_samples < 2 * m + 2:
        raise ValueError(f"expected at least 2 m + 2 = {2 * m + 2} samples, got {n_samples}")
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"expected margin > 0, got {margin!r}")
    t = horizon * np.arange(1, n_samples + 1) / n_samples
    y = np.asarray(_kernel("kernel", kernel)(t), dtype=float)
    if not (np.isfinite(y).all() and np.abs(y).max() > 0):
        raise ValueError(f"expected a finite kernel that is not zero on (0, {horizon:g}], got {kernel!r}")
    if rates is not None:
        if margin is not None:
            raise ValueError("expected fixed rates or a margin, got both")
        rates = np.asarray(rates, dtype=float)
        if rates.shape != (m,):
            raise ValueError(f"expected m = {m} rates, got shape {rates.shape}")
        if not np.isfinite(rates).all():
            raise ValueError(f"expected finite rates, got {rates}")
        return ExponentialSum(rates, linalg.lstsq(np.exp(-rates * t[:, None]), y)[0])
    start = _hankel_rates(y, m, t[0])
    if margin is None:
        return _weighted(_refine(start, 0.0, t, y), t, y)
    # rates below the margin start at it, or all are shifted by it: neither is always the better
    fits = [_weighted(_refine(rates, margin, t, y), t, y) for rates in (start, start + margin)]
    return min(fits, key=lambda s: linalg.norm(s(t) - y))


def _hankel_rates(y: np.ndarray, m: int, dt: float) -> np.ndarray:
    # y_k = sum_j w_j z_j^k makes the column space of the Hankel matrix invariant under the shift by one row
    hankel = linalg.hankel(y[: len(y) // 2 + 1], y[len(y) // 2 :])
    vectors, values, _ = linalg.svd(hankel)
    m = min(m, int((values > 4 * np.finfo(float).eps * values[0]).sum()))
    shift = linalg.lstsq(vectors[:-1, :m], vectors[1:, :m])[0]
    z = linalg.eigvals(shift).astype(complex)
    # a mode must decay between samples, and not alternate from one to the next: between them that is no kernel
    rates = -np.log(np.where(z == 0, np.finfo(float).tiny, z)) / dt
    span = len(y) * dt
    real = np.clip(rates.real, 1e-3 / span, 40.0 / dt)
    imag = np.where(np.abs(rates.imag) < 1e-12 * np.abs(rates), 0.0, rates.imag)
    alternating = np.abs(imag) > 0.999 * np.pi / dt
    return np.sort_complex(np.where(alternating, real, real + 1j * imag))


def _refine(rates: np.ndarray, lower: float, t: np.ndarray, y: np.ndarray) -> np.ndarray:
    # variable projection: least squares over rates alone, the weights being linear; logarithms keep rates positive
    real, pairs = rates[rates.imag == 0].real, rates[rates.imag > 0]
    n_real, slowest = len(real), np.append(np.full(len(real), 1e-9), np.full(len(pairs), 1e-2)) / t[-1]
    # beyond the ceiling a mode is gone before the first sample; below the floor the samples do not show its decay,
    # which an undamped oscillation would abuse to look good on the window alone
    floor, ceiling = np.log(slowest), np.log(40.0 / t[0])

    def unpack(p: np.ndarray) -> np.ndarray:
        decay = lower + np.exp(np.clip(p[: n_real + len(pairs)], floor, ceiling))
        frequency = p[n_real + len(pairs) :]
        return np.concatenate([decay[:n_real].astype(complex), decay[n_real:] + 1j * frequency])

    def columns(p: np.ndarray) -> np.ndarray:
        modes = np.exp(-unpack(p) * t[:, None])
        return np.hstack([modes.real, modes[:, n_real:].imag])

    def residual(p: np.ndarray) -> np.ndarray:
        Q = linalg.qr(columns(p), mode="economic")[0]
        return y - Q @ (Q.T @ y)

    def jacobian(p: np.ndarray) -> np.ndarray:
        # Kaufman's form: the part left out is of second order in the residual
        Q, R = linalg.qr(columns(p), mode="economic")
        a = linalg.lstsq(R, Q.T @ y)[0]
        modes = np.exp(-unpack(p) * t[:, None])
        weights = np.concatenate([a[:n_real], a[n_real : n_real + len(pairs)] - 1j * a[n_real + len(pairs) :]])
        by_rate = -t[:, None] * weights * modes  # d s / d rate, with s = Re(weight e^{-rate t})
        decay = np.exp(np.clip(p[: n_real + len(pairs)], floor, ceiling))
        D = np.hstack([(by_rate * decay).real, (1j * by_rate[:, n_real:]).real])
        return Q @ (Q.T @ D) - D

    start = np.concatenate([real, pairs.real]) - lower
    p0 = np.concatenate([np.log(np.maximum(start, np.maximum(slowest, 1e-3 * lower))), pairs.imag])
    y = y / np.abs(y).max()
    fit = optimize.least_squares(
        residual, p0, jac=jacobian, method="lm", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=400
    )
    best = fit.x if np.isfinite(fit.x).all() else p0
    rates = unpack(best)
    return np.concatenate([rates[:n_real], rates[n_real:], rates[n_real:].conj()])


def _weighted(rates: np.ndarray, t: np.ndarray, y: np.ndarray) -> ExponentialSum:
    rates = np.sort_complex(rates)
    if (rates.imag == 0).all():
        rates = rates.real
        return ExponentialSum(rates, _least_squares(np.exp(-rates * t[:, None]), y))
    upper = rates[rates.imag >= 0]
    modes = np.exp(-upper * t[:, None])
    paired = upper.imag > 0
    a = _least_squares(np.hstack([modes.real, modes[:, paired].imag]), y)
    weights = a[: len(upper)].astype(complex)
    weights[paired] = (weights[paired] - 1j * a[len(upper) :]) / 2
    return ExponentialSum(
        np.concatenate([upper, upper[paired].conj()]), np.concatenate([weights, weights[paired].conj()])
    )


def _least_squares(V: np.ndarray, y: np.ndarray) -> np.ndarray:
    # fast modes have tiny columns, which lstsq would take for noise
    size = np.linalg.norm(V, axis=0)
    return linalg.lstsq(V / size, y)[0] / size
