"""Exponential sums: every kernel a linear RNN can have, fitted to the kernel it should have.

A fit starts from singular vectors of a Hankel operator, or of a Hankel matrix of samples, and then makes its sum of
squares small by variable projection, which from random starts may miss the complex rates. On all times the squares are
those of the operator's Hilbert-Schmidt norm, int_0^inf t rho(t)^2 dt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import linalg, optimize

from cmlib.areas import energy, octaves
from cmlib.arguments import Array, ArrayLike, Number, count, positive, real_array, span, stored
from cmlib.arguments import times as checked_times
from cmlib.hankel import HankelOperator, converged, graded_nodes
from cmlib.kernels import Closed, KernelLike, Reals, Values, complete, l1_distance

MOST_SAMPLES = 1_000_000
MOST_MODES = 100
Complex: TypeAlias = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class ExponentialSum(Closed):
    """s(t) = Re sum_k weights_k e^{-rates_k t}: a memory kernel of at most m modes.

    Complex rates come in conjugate pairs with conjugate weights, so that s is real.

    Args:
        rates: (m,), real part > 0, per unit of time.
        weights: (m,), in units of the kernel.

    Raises:
        ValueError: unless both are finite, of one shape and in conjugate pairs, and rates have real parts > 0.

    >>> s = cmlib.ExponentialSum([1.0 + 2j, 1.0 - 2j], [0.5, 0.5])  # e^{-t} cos 2t
    >>> [round(float(v), 3) for v in (s(np.pi), s.tail(0.0), s.laplace(1.0))]
    [0.043, 0.2, 0.25]
    >>> s.nonnegative, s.modes()[1].tolist(), s.features(10.0).size >= 1000
    (False, [(1+2j), (1-2j)], True)
    >>> round(s.l1_error(lambda t: np.exp(-t) * np.cos(2 * t)), 6)
    0.0
    >>> s.realization()[0].tolist()  # W of the network whose kernel it is
    [[-1.0, 2.0], [-2.0, -1.0]]
    """

    rates: Array
    weights: Array

    def __post_init__(self):
        stored(self, rates=np.asarray(self.rates), weights=np.asarray(self.weights))
        if self.rates.ndim != 1 or self.rates.shape != self.weights.shape or not self.rates.size:
            raise ValueError(
                f"expected rates and weights of one shape (m,), got {self.rates.shape} and {self.weights.shape}"
            )
        if any(x.dtype.kind not in "iufc" or not np.isfinite(x).all() for x in (self.rates, self.weights)):
            raise ValueError(f"expected finite rates and weights, got {self.rates} and {self.weights}")
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
        """Whether all rates are real and no weight is negative."""
        return bool(np.isrealobj(self.rates) and (self.weights >= 0).all())

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = checked_times(t)
        if xp is torch:
            dtype = torch.complex128 if np.iscomplexobj(self.rates) else torch.float64
            rates = torch.as_tensor(self.rates, dtype=dtype, device=at.device)
            weights = torch.as_tensor(self.weights, dtype=dtype, device=at.device)
            return (weights * torch.exp(-rates * at[..., None])).sum(-1).real.to(at.dtype)
        return self._sum(self.weights, at)

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf s, signed.

        Raises:
            ValueError: on t < 0.
        """
        return self._sum(self.weights / self.rates, checked_times(t)[1])

    def features(self, horizon: float = np.inf) -> Float[np.ndarray, " time"]:
        """Return 64 times an octave, and eight for each half turn of an oscillation until 1e-7 of it is left.

        Raises:
            ValueError: where an oscillation takes more than 25,000 periods to decay.
        """
        points, turning = octaves(self.tail), self.rates[self.rates.imag != 0]
        if not len(turning):
            return points
        end = min(16.0 / turning.real.min(), horizon)
        n = 8 * np.abs(turning.imag).max() * end / np.pi
        if n > MOST_SAMPLES:
            raise ValueError(f"expected modes that decay within {MOST_SAMPLES // 40} periods, got rates {self.rates}")
        return np.union1d(points, np.linspace(0.0, end, max(int(n), 1000)))

    def modes(self) -> tuple:
        """Return (weights, rates)."""
        return self.weights, self.rates

    def laplace(self, s: ArrayLike) -> Reals:
        """Return int_0^inf e^{-st} s(t) dt.

        Raises:
            ValueError: on s < 0.
        """
        return (self.weights / (checked_times(s, "s")[1][..., None] + self.rates)).sum(-1).real[()]

    def l1_error(self, kernel: KernelLike, horizon: Number = np.inf) -> float:
        """Return int_0^horizon |s - kernel|: the operator distance of the two functionals.

        Raises:
            ValueError: unless kernel is one, horizon > 0 and the integral exists.

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

    def _sum(self, weights: np.ndarray, t: np.ndarray) -> Reals:
        end = np.isposinf(t)  # where a complex rate times infinity would be NaN
        modes = np.exp(-self.rates * np.where(end, 0.0, t)[..., None])
        return np.where(end, 0.0, (weights * modes).sum(-1).real)[()]


def exponential_sum(
    kernel: KernelLike,
    m: Number,
    *,
    rates: ArrayLike | None = None,
    margin: Number | None = None,
    times: ArrayLike | None = None,
    horizon: Number | None = None,
) -> ExponentialSum:
    """Fit a kernel by m exponentials: make int_0^inf t (s - rho)^2 dt small, or what `horizon` or `times` ask for.

    Free fits return fewer than m modes where these reach rounding error, where modes that coalesce gain nothing over
    one of them, and beyond 100: no start is good for more.

    Args:
        kernel: the memory kernel.
        m: number of modes.
        rates: (m,), fixed rates as in paper B; None fits them too, real or in conjugate pairs.
        margin: every free rate has a real part >= margin, per unit of time; fewer modes where no further one helps.
        times: (n,), equally spaced, n >= 2 m + 2, e.g. 1, 2, …, 100 as in paper B: the sum of squares over them.
        horizon: T > 0: int_0^T (s - rho)^2 dt, from several starts; the kernel need not be integrable.

    Raises:
        ValueError: for m < 1, unfit times or rates, a margin or horizon that is not positive, two options that exclude
            each other, a kernel that is 0 on what counts, or one that is not integrable where all times do.

    Reference: wang2024inverse, Fig. 1; kung1978new; golub1973differentiation

    >>> kernel = kernels.Polynomial(2.0)
    >>> [round(cmlib.exponential_sum(kernel, m).l1_error(kernel), 4) for m in (1, 2, 4)]
    [0.3067, 0.1096, 0.0191]
    >>> cmlib.exponential_sum(kernels.Polynomial(0.5), 4, horizon=10.0).rates.shape  # where it is not integrable
    (4,)
    """
    kernel, m = complete(kernel), count("m", m)
    margin = None if margin is None else positive("margin", margin)
    if times is not None and horizon is not None:
        raise ValueError("expected times or a horizon, got both")
    if rates is not None:
        if margin is not None:
            raise ValueError("expected fixed rates or a margin, got both")
        rates = real_array("rates", rates, ndim=1)
        if rates.shape != (m,):
            raise ValueError(f"expected m = {m} rates, got shape {rates.shape}")
        if rates.min() <= 0:
            raise ValueError(f"expected every rate to have a positive real part, got {rates}")
    # a margin makes rates coalesce and weights explode: past 1e8 of them the sum itself would be lost to rounding
    cutoff = 1e-15 if margin is None else 1e-8
    if times is not None:
        samples = _on_given_times(kernel, times, 2 * m + 2, cutoff)
    elif horizon is not None and (end := span("horizon", horizon)) < np.inf:
        samples = _on_a_horizon(kernel, end, m, cutoff)
    else:
        samples = _on_all_times(kernel, cutoff)
    if rates is not None:
        return samples.sum(rates)
    m = min(m, MOST_MODES)
    if margin is None:
        return samples.sum(_free(samples, m))
    # no start knows where rates coalesce: grow mode by mode, so that no width is worse than the one before
    best = []
    for k in range(1, m + 1):
        starts = [*samples.starts(k), *(np.append(rates, 3.0 * margin) for rates in best)]
        fits = [samples.refined(start, margin) for start in starts]
        best = [min([*best, *fits], key=samples.misfit)]
    return samples.sum(best[0])


def _free(samples: "_Samples", m: int) -> Complex:
    # rates of the best fit from any start; of those that coalesce only one where the others gain nothing
    best = min((samples.refined(start) for start in samples.starts(m)), key=samples.misfit)
    if len(distinct := _distinct(best)) < len(best):
        fewer = samples.refined(distinct)
        best = fewer if samples.misfit(fewer) <= (1 + 1e-6) * samples.misfit(best) else best
    return best


def _distinct(rates: Complex) -> Complex:
    # one of each group of rates that agree to three digits
    upper, kept = _upper(rates)[0], []
    for rate in upper:
        if all(abs(rate - other) > 1e-3 * abs(rate) for other in kept):
            kept.append(rate)
    distinct: Complex = np.array(kept)
    return np.append(distinct, distinct[distinct.imag > 0].conj())


def balanced_truncation(kernel: KernelLike, m: Number) -> ExponentialSum:
    """Cut a kernel down to m modes: the H_inf norm of what is cut is at most 2 sum_{k > m} s_k.

    With the eigenpairs (x_k, v_k) of the Hankel operator, B_k = sqrt|x_k| v_k(0), C_k = sign(x_k) B_k, and the Lyapunov
    equation gives A entry by entry.

    Args:
        kernel: the memory kernel.
        m: number of modes, >= 1; fewer come back where s_m is below rounding error.

    Raises:
        ValueError: for m < 1, or a kernel that is constant or not integrable.

    Reference: glover1984optimal, Sec. 9

    >>> kernel = kernels.Polynomial(2.0)
    >>> cut = kernel - cmlib.balanced_truncation(kernel, 2)
    >>> round(float(cut.laplace(0.0)), 6)  # its H_inf norm
    0.056959
    >>> round(float(2 * cmlib.hankel_singular_values(kernel, 50)[2:].sum()), 6)
    0.056959
    """
    return ExponentialSum(*converged(complete(kernel)).truncated(count("m", m)))


@dataclass(frozen=True)
class _Samples:
    t: np.ndarray  # (n,)
    root: np.ndarray  # (n,) square roots of the weights of the sum of squares
    y: np.ndarray  # (n,) the kernel, times root
    starts: Callable[[int], list]  # number of modes -> sets of complex rates to start from
    slowest: tuple[float, float]  # floors for the rates of real modes and of pairs
    fastest: float
    cutoff: float  # singular values of the columns below this share of the largest are left out
    gtol: float | None = 1e-15  # of the slope, which is the product of two small numbers where the fit is good

    def refined(self, rates: Complex, lower: float = 0.0) -> Complex:
        """Return rates of a local minimum that is no worse than the given ones, by variable projection."""
        # least squares over rates alone, the weights being linear; logarithms keep rates positive
        upper, n_pairs = _upper(rates)
        n, n_real, y = len(upper), len(upper) - n_pairs, self.y / linalg.norm(self.y)
        floor = np.maximum(np.repeat(self.slowest, [n_real, n_pairs]), lower)

        def unpack(p):
            return floor * np.exp(p[:n] - 1.0) + 1j * np.append(np.zeros(n_real), p[n:])

        def residual(p):
            U = self._solved(unpack(p), n_pairs, y)[0]
            return y - U @ (U.T @ y)

        def jacobian(p):
            # Kaufman's form: the part left out is of second order in the residual
            U, a, modes = self._solved(unpack(p), n_pairs, y)
            by_rate = -self.t[:, None] * a * modes  # d s / d rate, with s = Re(a e^{-rate t})
            D = np.hstack([(by_rate * unpack(p).real).real, (1j * by_rate[:, n_real:]).real])
            return U @ (U.T @ D) - D

        # p >= 1, as the solver's first step is as long as p: near p = 0 it would not move
        ceiling = 1.0 + np.log(self.fastest / floor)
        p0 = np.append(np.clip(1.0 + np.log(upper.real / floor), 1.0 + 1e-9, ceiling - 1e-9), upper.imag[n_real:])
        free = np.full(n_pairs, np.inf)
        bounds = (np.append(np.ones(n), -free), np.append(ceiling, free))
        fit = optimize.least_squares(
            residual, p0, jacobian, bounds, x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=self.gtol, max_nfev=200
        )
        best = unpack(fit.x if fit.cost < linalg.norm(residual(p0)) ** 2 / 2 else p0)
        return np.append(best, best[n_real:].conj())

    def sum(self, rates: np.ndarray) -> ExponentialSum:
        """Return the exponential sum of these rates with the weights of least squares."""
        upper, n_pairs = _upper(rates)
        a = self._solved(upper, n_pairs, self.y)[1]
        if not n_pairs:
            return ExponentialSum(upper.real, a.real)
        a[-n_pairs:] /= 2
        return ExponentialSum(np.append(upper, upper[-n_pairs:].conj()), np.append(a, a[-n_pairs:].conj()))

    def misfit(self, rates: Complex) -> float:
        """Return the root of the sum of squares that is left at these rates."""
        U = self._solved(*_upper(rates), self.y)[0]
        return linalg.norm(self.y - U @ (U.T @ self.y))

    def _solved(self, upper: Complex, n_pairs: int, y: np.ndarray) -> tuple[np.ndarray, Complex, Complex]:
        # orthonormal columns, complex weights, modes; columns of size 1, since fast modes have tiny ones, and small
        # singular values left out, since coalescing modes have them
        modes: Complex = self.root[:, None] * np.exp(-upper * self.t[:, None])
        columns = np.hstack([modes.real, modes[:, len(upper) - n_pairs :].imag])
        size = linalg.norm(columns, axis=0)
        size[size == 0] = 1.0
        U, s, V = linalg.svd(columns / size, full_matrices=False)
        rank = int((s > self.cutoff * s[0]).sum())
        a = V[:rank].T @ (U[:, :rank].T @ y / s[:rank]) / size
        weights = a[: len(upper)].astype(complex)
        weights[len(upper) - n_pairs :] -= 1j * a[len(upper) :]
        return U[:, :rank], weights, modes


def _upper(rates: Any) -> tuple[Complex, int]:
    # real rates, then one of each conjugate pair; and the number of pairs
    rates = np.sort_complex(rates)
    pairs = rates[rates.imag > 0]
    return np.append(rates[rates.imag == 0], pairs), len(pairs)


def _on_all_times(kernel: Any, cutoff: float) -> _Samples:
    operator = converged(kernel)
    # past the last node the kernel is gone, but slow modes are not
    u, q = np.polynomial.legendre.leggauss(len(operator.t) // 2)
    end, stretch = operator.t[-1], 10.0 ** ((u + 1) / 2)
    t = np.append(operator.t, end * stretch)
    with np.errstate(over="ignore"):
        root = np.sqrt(t * np.append(operator.q, end * stretch * np.log(10.0) * q / 2))
    if not np.isfinite(root).all():
        raise ValueError(f"expected a memory that ends before t = 1e150, or a finite horizon=, got {kernel!r}")

    def starts(m):
        settled = operator if m < 50 else converged(kernel, m + 1)
        return [settled.truncated(m)[0].astype(complex)]

    return _Samples(t, root, root * kernel(t), starts, (1.0 / t[-1], 1.0 / t[-1]), 1.0 / t[8], cutoff)


def _on_a_horizon(kernel: Any, horizon: float, m: int, cutoff: float) -> _Samples:
    if not (size := energy(kernel, horizon)) > 0:
        raise ValueError(f"expected a kernel that is not zero on all of 0 … {horizon:g}, got {kernel!r}")
    # as many as the kernel needs, of which 1600 are as good as any where it jumps, and as m modes do
    for n_nodes in (least for least in (100, 200, 400, 800, 1600) if least >= min(12 * m, 1600)):
        t, q, scale = graded_nodes(kernel, n_nodes, horizon)
        if abs(q @ kernel(t) ** 2 / size - 1) < 1e-10:
            break
    try:
        operator = HankelOperator.of(kernel, 400)
    except ValueError:  # one start less for a kernel that is not integrable
        operator = None

    def starts(m):
        found = [] if operator is None else [operator.truncated(m)[0].astype(complex)]
        for n in sorted({2 * m + 2, max(200, 2 * m + 2), max(1000, 2 * m + 2)}):
            spaced = np.linspace(0.0, horizon, n)
            if (y := kernel(spaced)).any():
                found.append(_hankel_rates(y, m, spaced[1]))
        return found or [np.geomspace(1.0 / horizon, 2.0 / scale, m).astype(complex)]  # no sample met the kernel

    slowest = (1e-9 / horizon, 1e-2 / horizon)  # as on given times
    return _Samples(t, np.sqrt(q), np.sqrt(q) * kernel(t), starts, slowest, 1.0 / t[8], cutoff, gtol=None)


def _on_given_times(kernel: Any, times: ArrayLike, least: int, cutoff: float) -> _Samples:
    t = real_array("times", times, ndim=1)
    if len(t) < least:
        raise ValueError(f"expected at least 2 m + 2 = {least} times, got {len(t)}")
    steps = np.diff(t)
    dt = steps.mean()
    if not (t[0] >= 0 and dt > 0 and np.allclose(steps, dt, rtol=1e-6, atol=0)):
        raise ValueError(f"expected equally spaced increasing times >= 0, got {t}")
    y = kernel(t)
    if not (np.isfinite(y).all() and np.abs(y).max() > 0):
        raise ValueError(f"expected a finite kernel that is not zero on all of {t[0]:g} … {t[-1]:g}, got {kernel!r}")
    # below the floors the samples do not show a decay, which an undamped oscillation would abuse to look good on the
    # window alone; beyond the ceiling a mode is gone before the next sample
    slowest = (1e-9 / t[-1], 1e-2 / t[-1])
    return _Samples(t, np.ones_like(t), y, lambda m: [_hankel_rates(y, m, dt)], slowest, 40.0 / dt, cutoff)


def _hankel_rates(y: np.ndarray, m: int, dt: float) -> Complex:
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
