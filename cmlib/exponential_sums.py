"""Exponential sums: every kernel a linear RNN can have, fitted to the kernel it should have.

The Hankel operator (G f)(t) = int_0^inf rho(t + s) f(s) ds carries all of it: its singular values bound every fit from
below, its singular vectors are the start of a good one, and its Hilbert-Schmidt norm, int_0^inf t rho(t)^2 dt squared,
is what the fit then makes small by variable projection, which from random starts may miss the complex rates.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, optimize

from cmlib.arguments import ArrayLike, Number, stored
from cmlib.kernels import Kernel, KernelLike, Reals, Sum, Values, _grid, _kernel, l1_distance

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
        stored(self, rates=np.asarray(self.rates), weights=np.asarray(self.weights))
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
    times: ArrayLike | None = None,
) -> ExponentialSum:
    """Fit a kernel by m exponentials: make int_0^inf t (s - rho)^2 dt small, or a sum of squares over given times.

    Args:
        kernel: the memory kernel.
        m: number of modes; free fits return fewer where fewer already reach rounding error.
        rates: (m,), fixed rates as in paper B; None fits them too, real or in conjugate pairs.
        margin: every free rate has a real part >= margin, per unit of time; fewer modes where no further one helps.
        times: (n,), equally spaced, n >= 2 m + 2, e.g. 1, 2, …, 100 as in paper B; None fits on all times.

    Raises:
        ValueError: for m < 1, unfit times or rates, or a margin that is not positive.

    Reference: wang2024inverse, Fig. 1; kung1978new; golub1973differentiation
    """
    m = _count("number of modes m", m)
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"expected margin > 0, got {margin!r}")
    if rates is not None:
        if margin is not None:
            raise ValueError("expected fixed rates or a margin, got both")
        rates = np.asarray(rates, dtype=float)
        if rates.shape != (m,):
            raise ValueError(f"expected m = {m} rates, got shape {rates.shape}")
        if not np.isfinite(rates).all():
            raise ValueError(f"expected finite rates, got {rates}")
        if rates.min() <= 0:
            raise ValueError(f"expected every rate to have a positive real part, got {rates}")
    # a margin makes rates coalesce and weights explode: past 1e8 of them the sum itself would be lost to rounding
    cutoff = 1e-15 if margin is None else 1e-8
    samples = _on_all_times(kernel, cutoff) if times is None else _on_given_times(kernel, times, 2 * m + 2, cutoff)
    if rates is not None:
        return samples.sum(rates)
    if margin is None:
        return samples.sum(samples.refined(samples.start(m)))
    # no start knows where rates coalesce: grow mode by mode, so that no width is worse than the one before
    best = samples.refined(samples.start(1), margin)
    for k in range(2, m + 1):
        starts = [samples.start(k), np.append(best, 3.0 * margin)]
        best = min([best, *(samples.refined(start, margin) for start in starts)], key=samples.misfit)
    return samples.sum(best)


def balanced_truncation(kernel: KernelLike, m: Number) -> ExponentialSum:
    """Cut a kernel down to m modes: the H_inf norm of what is cut is at most 2 sum_{k > m} s_k.

    With the eigenpairs (x_k, v_k) of the Hankel operator, B_k = sqrt|x_k| v_k(0), C_k = sign(x_k) B_k, and the Lyapunov
    equation gives A entry by entry.

    Args:
        kernel: the memory kernel.
        m: number of modes, >= 1; fewer come back where s_m is below rounding error.

    Reference: glover1984optimal, Sec. 9
    """
    return ExponentialSum(*_tidy(*_converged(_kernel("kernel", kernel)).truncated(_count("number of modes m", m))))


def hankel_singular_values(kernel: KernelLike, n: Number, *, n_nodes: int | None = None) -> Float[np.ndarray, " n"]:
    """Return the n largest singular values of the Hankel operator (G f)(t) = int_0^inf rho(t + s) f(s) ds.

    The value at index m bounds ||rho - s||_{L1} from below for every exponential sum s of m modes. From Gramians for
    exponential sums, else by Gauss-Legendre quadrature in log(1 + t / scale); absolute error about 1e-13 of the first.

    Args:
        kernel: the memory kernel.
        n: how many, >= 1.
        n_nodes: quadrature nodes; None doubles them until the values settle, and warns where they still move by 1600.

    Reference: adamjan1971analytic; glover1984optimal
    """
    kernel, n = _kernel("kernel", kernel), _count("number of singular values n", n)
    if n_nodes is not None:
        if _count("number of nodes n_nodes", n_nodes) < n:
            raise ValueError(f"expected n_nodes >= n = {n}, got {n_nodes}")
        return np.abs(_HankelOperator.of(kernel, n_nodes).values[:n])
    if isinstance(kernel, ExponentialSum):
        # one input and one output: the moduli of the eigenvalues of the cross-Gramian
        root = np.sqrt(kernel.weights.astype(complex))
        values = linalg.eigvals(np.outer(root, root) / (kernel.rates[:, None] + kernel.rates))
    else:
        values = _converged(kernel, max(n, 50)).values
    return np.append(np.sort(np.abs(values))[::-1], np.zeros(n))[:n]


@dataclass(frozen=True)
class _HankelOperator:
    t: np.ndarray  # (n,) nodes
    q: np.ndarray  # (n,) their weights
    values: np.ndarray  # (n,) eigenvalues, largest modulus first
    at_zero: np.ndarray  # (n,) eigenfunctions, of norm 1, at t = 0

    @classmethod
    def of(cls, kernel: Kernel, n_nodes: int) -> "_HankelOperator":
        grid = _grid(kernel)
        values = kernel(grid)
        size, slope = np.abs(values).max(), np.abs(np.diff(values) / np.diff(grid)).max()
        if not (np.isfinite(size) and 0 < slope < np.inf):
            raise ValueError(f"expected a finite kernel that varies, got {kernel!r}")
        scale = min(size / slope, grid[-1])
        end = np.log1p(grid[-1] / scale)
        u, q = np.polynomial.legendre.leggauss(n_nodes)
        u, q = end * (u + 1) / 2, end * q / 2
        t, q = scale * np.expm1(u), scale * q * np.exp(u)
        root = np.sqrt(q)
        values, vectors = linalg.eigh(root[:, None] * kernel(t[:, None] + t) * root)
        order = np.argsort(-np.abs(values))
        values, vectors = values[order], vectors[:, order]
        with np.errstate(divide="ignore", invalid="ignore"):  # of values that are zero no one asks
            return cls(t, q, values, (root * kernel(t)) @ vectors / values)

    def truncated(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (rates, weights) of balanced truncation, complex and as they come."""
        m = min(m, int((np.abs(self.values) > 1e-13 * np.abs(self.values[0])).sum()))
        x, B = np.abs(self.values[:m]), np.sqrt(np.abs(self.values[:m])) * self.at_zero[:m]
        sign = np.sign(self.values[:m])
        A = -np.outer(B, B) / (x + np.outer(sign, sign) * x[:, None])
        eigenvalues, vectors = linalg.eig(A)
        return -eigenvalues, (sign * B) @ vectors * linalg.solve(vectors, B.astype(complex))


def _converged(kernel: Kernel, count: int = 50) -> _HankelOperator:
    coarse, n = _HankelOperator.of(kernel, max(100, count)), 2 * max(100, count)
    while n <= 1600:
        fine = _HankelOperator.of(kernel, n)
        change = np.abs(np.abs(fine.values[:count]) - np.abs(coarse.values[:count])).max()
        change /= np.abs(fine.values[0])
        if change < 1e-9:  # of the coarse ones; the fine ones are far closer
            return fine
        coarse, n = fine, 2 * n
    warnings.warn(f"Hankel singular values of {kernel!r} have settled to {change:.0e} of the first only", stacklevel=3)
    return fine


@dataclass(frozen=True)
class _Samples:
    t: np.ndarray  # (n,)
    root: np.ndarray  # (n,) square roots of the weights of the sum of squares
    y: np.ndarray  # (n,) the kernel, times root
    start: Callable[[int], np.ndarray]  # number of modes -> complex rates to start from
    slowest: tuple[float, float]  # floors for the rates of real modes and of pairs
    fastest: float
    cutoff: float  # singular values of the columns below this share of the largest are left out

    def refined(self, rates: np.ndarray, lower: float = 0.0) -> np.ndarray:
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
            residual, p0, jacobian, bounds, x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=200
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

    def misfit(self, rates: np.ndarray) -> float:
        """Return the root of the sum of squares that is left at these rates."""
        U = self._solved(*_upper(rates), self.y)[0]
        return linalg.norm(self.y - U @ (U.T @ self.y))

    def _solved(self, upper: np.ndarray, n_pairs: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # orthonormal columns, complex weights, modes; columns of size 1, since fast modes have tiny ones, and small
        # singular values left out, since coalescing modes have them
        modes = self.root[:, None] * np.exp(-upper * self.t[:, None])
        columns = np.hstack([modes.real, modes[:, len(upper) - n_pairs :].imag])
        size = linalg.norm(columns, axis=0)
        size[size == 0] = 1.0
        U, s, V = linalg.svd(columns / size, full_matrices=False)
        rank = int((s > self.cutoff * s[0]).sum())
        a = V[:rank].T @ (U[:, :rank].T @ y / s[:rank]) / size
        weights = a[: len(upper)].astype(complex)
        weights[len(upper) - n_pairs :] -= 1j * a[len(upper) :]
        return U[:, :rank], weights, modes


def _upper(rates: np.ndarray) -> tuple[np.ndarray, int]:
    # real rates, then one of each conjugate pair; and the number of pairs
    rates = np.sort_complex(rates)
    pairs = rates[rates.imag > 0]
    return np.append(rates[rates.imag == 0], pairs), len(pairs)


def _on_all_times(kernel: KernelLike, cutoff: float) -> _Samples:
    operator = _converged(_kernel("kernel", kernel))
    # past the last node the kernel is gone, but slow modes are not
    u, q = np.polynomial.legendre.leggauss(len(operator.t) // 2)
    end, stretch = operator.t[-1], 10.0 ** ((u + 1) / 2)
    t = np.append(operator.t, end * stretch)
    root = np.sqrt(t * np.append(operator.q, end * stretch * np.log(10.0) * q / 2))

    def start(m):
        return _tidy(*operator.truncated(m))[0].astype(complex)

    return _Samples(t, root, root * kernel(t), start, (1.0 / t[-1], 1.0 / t[-1]), 1.0 / t[8], cutoff)


def _on_given_times(kernel: KernelLike, times: ArrayLike, least: int, cutoff: float) -> _Samples:
    t = np.asarray(times, dtype=float)
    if t.ndim != 1 or not np.isfinite(t).all() or len(t) < least:
        raise ValueError(f"expected at least 2 m + 2 = {least} finite times in one row, got shape {t.shape}")
    steps = np.diff(t)
    dt = steps.mean()
    if not (t[0] >= 0 and dt > 0 and np.allclose(steps, dt, rtol=1e-6, atol=0)):
        raise ValueError(f"expected equally spaced increasing times >= 0, got {t}")
    y = np.asarray(_kernel("kernel", kernel)(t), dtype=float)
    if not (np.isfinite(y).all() and np.abs(y).max() > 0):
        raise ValueError(f"expected a finite kernel that is not zero on all of {t[0]:g} … {t[-1]:g}, got {kernel!r}")
    # below the floors the samples do not show a decay, which an undamped oscillation would abuse to look good on the
    # window alone; beyond the ceiling a mode is gone before the next sample
    slowest = (1e-9 / t[-1], 1e-2 / t[-1])
    return _Samples(t, np.ones_like(t), y, lambda m: _hankel_rates(y, m, dt), slowest, 40.0 / dt, cutoff)


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


def _tidy(rates: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # real where rounding alone makes them complex; rates that rounding made negative come back at rounding level
    least = np.finfo(float).eps * np.abs(rates).max()
    rates = np.maximum(rates.real, least * 1e-3) + 1j * np.where(np.abs(rates.imag) < least, 0.0, rates.imag)
    if not rates.imag.any():
        return rates.real, weights.real
    paired = rates.imag != 0
    # conjugates to the last digit
    upper = rates.imag > 0
    rates = np.concatenate([rates[~paired], rates[upper], rates[upper].conj()])
    weights = np.concatenate([weights[~paired].real, weights[upper], weights[upper].conj()])
    return rates, weights


def _count(name: str, value: Number) -> int:
    if not (isinstance(value, int | np.integer) and value >= 1):
        raise ValueError(f"expected a {name} >= 1, got {value!r}")
    return int(value)
