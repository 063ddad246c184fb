"""Memory kernels rho(t) on t >= 0, each with its closed forms.

A kernel maps numpy to float64 numpy, and torch to torch of the same dtype and device, with gradients. Times
are in the units of the model's own time; t >= 0 is assumed and not checked.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy import special

from cmlib.arguments import ArrayLike, Number, namespace, number, positive, stored

KernelLike = Any  # must be a Kernel
Values = Float[np.ndarray, "..."] | Float[torch.Tensor, "..."] | float
Reals = Float[np.ndarray, "..."] | float


@runtime_checkable
class Kernel(Protocol):
    """An integrable memory kernel rho: [0, inf) -> R; `nonnegative` is True only if rho never is negative.

    Most also have the closed form `laplace(s) = int_0^inf e^{-st} rho(t) dt`, for real s >= 0.

    Reference: li2021curse; wang2024inverse, eq. (3)
    """

    nonnegative: bool

    def __call__(self, t: ArrayLike) -> Values:
        """Return rho(t), as numpy for numpy and as torch for torch."""

    def l1_norm(self) -> float:
        """Return int_0^inf |rho(s)| ds."""

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho(s) ds, signed; t may be inf."""


def _kernel(name: str, value: Any) -> Kernel:
    if isinstance(value, type) or not isinstance(value, Kernel):
        raise ValueError(f"expected {name} to be a Kernel, got {value!r}")
    return value


def _real(t: ArrayLike) -> np.ndarray:
    return np.asarray(t, dtype=float)


def _damped_integral(z: Reals, q: float, length: float) -> Reals:
    # int_0^length exp(-z(e^v - 1) - q v) dv, exact to rounding: the integrand is positive and smooth, and
    # e^{-40} of it is cut off
    z = np.clip(z, 1e-300, 1e300)
    length = np.minimum(np.log1p(40.0 / z), length)[..., None]
    v = length * (_NODES + 1.0) / 2.0
    return (length * _WEIGHTS / 2.0 * np.exp(-z[..., None] * np.expm1(v) - q * v)).sum(-1)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(80)


class _Nonnegative:
    nonnegative: ClassVar[bool] = True

    def l1_norm(self) -> float:
        return float(self.tail(0.0))


@dataclass(frozen=True)
class Exponential(_Nonnegative):
    """rho(t) = e^{-rate t}.

    Args:
        rate: decay rate, > 0, per unit of time.

    Reference: wang2024inverse, Fig. 1a
    """

    rate: Number

    def __post_init__(self):
        stored(self, rate=positive("rate", self.rate))

    def __call__(self, t: ArrayLike) -> Values:
        xp, t = namespace(t)
        return xp.exp(-self.rate * t)

    def tail(self, t: ArrayLike) -> Reals:
        return np.exp(-self.rate * _real(t)) / self.rate

    def laplace(self, s: ArrayLike) -> Reals:
        return 1.0 / (_real(s) + self.rate)


@dataclass(frozen=True)
class ExponentialMixture(_Nonnegative):
    """Rates spread evenly over [a, b]: rho(t) = 1/(b-a) int_a^b e^{-wt} dw = (e^{-at} - e^{-bt}) / ((b-a) t).

    Args:
        slowest: smallest rate a, > 0, per unit of time.
        fastest: largest rate b, > a, per unit of time.
    """

    slowest: Number
    fastest: Number

    def __post_init__(self):
        slowest = positive("slowest", self.slowest)
        stored(self, slowest=slowest, fastest=number("fastest", self.fastest, above=slowest))

    def __call__(self, t: ArrayLike) -> Values:
        xp, t = namespace(t)
        x = (self.fastest - self.slowest) * t
        near = x < 0.5  # there (1 - e^{-x})/x is 0/0 at 0 and its autograd cancels, so take the series
        series = xp.zeros_like(x)
        for n in range(14, -1, -1):
            series = 1.0 / math.factorial(n + 1) - xp.where(near, x, 0.5) * series
        far = xp.where(near, 0.5, x)
        return (xp.exp(-self.slowest * t) * xp.where(near, series, -xp.expm1(-far) / far))[()]

    def tail(self, t: ArrayLike) -> Reals:
        # (E1(at) - E1(bt)) / (b - a), which cancels near t = 0 and for b near a
        a, b, t = self.slowest, self.fastest, _real(t)
        return np.exp(-a * t) * _damped_integral(a * t, 0.0, math.log1p((b - a) / a)) / (b - a)

    def laplace(self, s: ArrayLike) -> Reals:
        width = self.fastest - self.slowest
        return np.log1p(width / (_real(s) + self.slowest)) / width


@dataclass(frozen=True)
class Polynomial(_Nonnegative):
    """rho(t) = (1 + scale t)^{-exponent}.

    Args:
        exponent: decay exponent p, > 1, else rho is not integrable.
        scale: c > 0, per unit of time.

    Reference: wang2024inverse, Fig. 1b
    """

    exponent: Number
    scale: Number = 1.0

    def __post_init__(self):
        exponent = number("exponent of an integrable kernel", self.exponent, above=1.0)
        stored(self, exponent=exponent, scale=positive("scale", self.scale))

    def __call__(self, t: ArrayLike) -> Values:
        xp, t = namespace(t)
        return xp.exp(-self.exponent * xp.log1p(self.scale * t))

    def tail(self, t: ArrayLike) -> Reals:
        q = self.exponent - 1.0
        return np.exp(-q * np.log1p(self.scale * _real(t))) / (self.scale * q)

    def laplace(self, s: ArrayLike) -> Reals:
        # (1/c) U(1, 2-p, s/c) with U as an integral: scipy.special.hyperu is off by 1e-7 near s = 10 c, and
        # wholly wrong for p = 2 near s = 0
        s, q = _real(s), self.exponent - 1.0
        integral = _damped_integral(s / self.scale, q, 40.0 / q) / self.scale
        return np.where(s == 0, self.tail(0.0), integral)[()]


def _airy(x: Reals, derivative: int = 0) -> Reals:
    return special.airy(np.minimum(x, 110.0))[derivative]  # 0 beyond, where scipy ends up at NaN


class _AiryFunction(torch.autograd.Function):
    # torch.special.airy_ai has no gradient and is off by 3e-6 at -2.1, so evaluate through scipy on the host
    @staticmethod
    def forward(ctx, x, derivative):
        ctx.derivative = derivative
        ctx.save_for_backward(x)
        values = _airy(x.detach().cpu().double().numpy(), derivative)
        return torch.as_tensor(values, dtype=x.dtype, device=x.device)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors  # Ai'' = x Ai
        return grad * (x * _AiryFunction.apply(x, 0) if ctx.derivative else _AiryFunction.apply(x, 1)), None


def _airy_tail(x: Reals) -> Reals:
    # int_x^inf Ai by Gauss-Legendre on panels so short that Ai is a polynomial to rounding;
    # scipy.special.itairy is off by 1e-7 at -6 and by 2.6 at 9.25
    x = np.minimum(x, 110.0)
    low, high = x.min(initial=0.0), x.max(initial=0.0) + 16.0
    nodes, weights = np.polynomial.legendre.leggauss(16)

    def panel(left, right):
        half = (right - left) / 2
        return half * (_airy(left[..., None] + half[..., None] * (1 + nodes)) @ weights)

    width = 8.0 / math.sqrt(max(64.0, -low))
    edges = low + width * np.arange(math.ceil((high - low) / width) + 1)
    beyond = np.append(np.cumsum(panel(edges[:-1], edges[1:])[::-1])[::-1], 0.0)
    above = np.searchsorted(edges, x)
    return panel(x, edges[above]) + beyond[above]


@dataclass(frozen=True)
class Airy:
    """rho(t) = Ai(t - shift), which oscillates until t = shift and then decays; it has no closed `laplace`.

    Torch values and gradients (any order) come from scipy on the host.

    Args:
        shift: time of the last peak, about; <= 1000, where Ai itself still is good to 1e-12.

    Reference: li2021curse, Fig. 1
    """

    shift: Number

    def __post_init__(self):
        if number("shift", self.shift) > 1000.0:
            raise ValueError(f"expected shift <= 1000, got {self.shift!r}")
        stored(self, shift=float(self.shift))

    @property
    def nonnegative(self) -> bool:
        return self._zeros().size == 0

    def _zeros(self) -> np.ndarray:
        count = 2 + int(max(self.shift, 0.0) ** 1.5 * 2 / (3 * math.pi))  # the n-th is near -(3 pi n / 2)^{2/3}
        zeros = np.sort(special.ai_zeros(count)[0]) + self.shift
        return zeros[zeros > 0]

    def __call__(self, t: ArrayLike) -> Values:
        if isinstance(t, torch.Tensor):
            return _AiryFunction.apply(t - self.shift, 0)
        return _airy(_real(t) - self.shift)

    def l1_norm(self) -> float:
        return _l1_between(np.concatenate([[0.0], self._zeros(), [math.inf]]), self.tail)

    def tail(self, t: ArrayLike) -> Reals:
        return _airy_tail(_real(t) - self.shift)[()]


@dataclass(frozen=True)
class Bump(_Nonnegative):
    """rho(t) = exp(-(t - center)^2 / (2 width^2)).

    Args:
        center: time of the peak, finite.
        width: standard deviation, > 0, in units of time.

    Reference: li2021curse, Thm 5.1
    """

    center: Number
    width: Number

    def __post_init__(self):
        stored(self, center=number("center", self.center), width=positive("width", self.width))

    def __call__(self, t: ArrayLike) -> Values:
        xp, t = namespace(t)
        return xp.exp(-0.5 * ((t - self.center) / self.width) ** 2)

    def tail(self, t: ArrayLike) -> Reals:
        x = (_real(t) - self.center) / (math.sqrt(2) * self.width)
        return math.sqrt(math.pi / 2) * self.width * special.erfc(x)

    def laplace(self, s: ArrayLike) -> Reals:
        s, c, w = _real(s), self.center, self.width
        z = (w * s - c / w) / math.sqrt(2)
        # erfcx overflows on the left, e^{s(sw^2/2 - c)} on the right
        left = np.exp(np.minimum(s * (s * w**2 / 2 - c), 0.0)) * special.erfc(z)
        right = math.exp(-0.5 * (c / w) ** 2) * special.erfcx(np.maximum(z, 0.0))
        return (math.sqrt(math.pi / 2) * w * np.where(z < 0, left, right))[()]


@dataclass(frozen=True)
class Shifted:
    """rho(t) = kernel(t - delay) for t >= delay, and 0 before.

    Args:
        kernel: any kernel.
        delay: >= 0, in units of time.

    Raises:
        ValueError: from `laplace`, when the kernel has none.

    Reference: li2021curse, Thm 5.1
    """

    kernel: KernelLike
    delay: Number

    def __post_init__(self):
        delay = number("delay", self.delay)
        if delay < 0:
            raise ValueError(f"expected delay >= 0, got {self.delay!r}")
        stored(self, kernel=_kernel("kernel", self.kernel), delay=delay)

    @property
    def nonnegative(self) -> bool:
        return self.kernel.nonnegative

    def __call__(self, t: ArrayLike) -> Values:
        xp, t = namespace(t)
        values = self.kernel(xp.where(t >= self.delay, t - self.delay, 0.0))
        return xp.where(t >= self.delay, values, 0.0)[()]

    def l1_norm(self) -> float:
        return self.kernel.l1_norm()

    def tail(self, t: ArrayLike) -> Reals:
        return self.kernel.tail(np.maximum(_real(t) - self.delay, 0.0))

    def laplace(self, s: ArrayLike) -> Reals:
        return np.exp(-self.delay * _real(s)) * _laplace(self.kernel, s)


@dataclass(frozen=True)
class Sum:
    """rho(t) = sum_i weights_i kernels_i(t); of Exponentials, an exponential sum.

    Args:
        kernels: any kernels, at least one.
        weights: one finite number for each kernel.

    Raises:
        ValueError: from `laplace`, when one of the kernels has none.
    """

    kernels: Any  # iterable of kernels, stored as a tuple
    weights: Any  # iterable of numbers, stored as a tuple

    def __post_init__(self):
        kernels = tuple(self.kernels) if np.iterable(self.kernels) else (self.kernels,)
        weights = tuple(self.weights) if np.iterable(self.weights) else (self.weights,)
        if not kernels:
            raise ValueError("expected at least one kernel, got none")
        if len(kernels) != len(weights):
            raise ValueError(f"expected one weight for each of {len(kernels)} kernels, got {len(weights)}")
        kernels = tuple(_kernel(f"kernels[{i}]", k) for i, k in enumerate(kernels))
        stored(self, kernels=kernels, weights=tuple(number(f"weights[{i}]", w) for i, w in enumerate(weights)))

    @property
    def nonnegative(self) -> bool:
        return all(w >= 0 for w in self.weights) and all(k.nonnegative for k in self.kernels)

    def _weighted(self, values: Callable[[Kernel], Any]) -> Any:
        return sum(w * values(k) for k, w in zip(self.kernels, self.weights, strict=True))

    def __call__(self, t: ArrayLike) -> Values:
        return self._weighted(lambda k: k(t))

    def l1_norm(self) -> float:
        """Return int |rho|: a sum of closed forms, or the changes of `tail` between the sign changes of rho.

        Sign changes are bracketed on a grid of 64 points an octave; a pair inside one cell is missed.
        """
        if all(k.nonnegative for k in self.kernels) and max(self.weights) * min(self.weights) >= 0:
            return abs(self._weighted(lambda k: k.l1_norm()))
        return _l1_between(np.append(_sign_changes(self, _grid(self)), math.inf), self.tail)

    def tail(self, t: ArrayLike) -> Reals:
        return self._weighted(lambda k: k.tail(t))

    def laplace(self, s: ArrayLike) -> Reals:
        return self._weighted(lambda k: _laplace(k, s))


def l1_distance(a: KernelLike, b: KernelLike, horizon: Number = math.inf) -> float:
    """Return int_0^horizon |a - b|, exact up to sign changes that a grid of 64 points an octave misses.

    With horizon inf this is sup_t sup_{||x|| <= 1} |A_t(x) - B_t(x)| of the two functionals.

    Reference: wang2024inverse, eq. (3)
    """
    if not horizon > 0:
        raise ValueError(f"expected a horizon > 0, got {horizon!r}")
    difference = Sum((a, b), (1.0, -1.0))
    points = _sign_changes(difference, _grid(difference))
    return _l1_between(np.append(points[points < horizon], horizon), difference.tail)


def _laplace(kernel: Kernel, s: ArrayLike) -> Reals:
    if not hasattr(kernel, "laplace"):
        raise ValueError(f"expected a kernel with a closed Laplace transform, got {kernel!r}")
    return kernel.laplace(s)


def _l1_between(points: np.ndarray, tail: Callable[[np.ndarray], Reals]) -> float:
    # int_{points[0]}^{points[-1]} |rho| when rho changes sign only at the given increasing points
    return float(np.abs(np.diff(tail(points))).sum())


def _sign_changes(rho: Callable, grid: np.ndarray) -> np.ndarray:
    # 0 followed by the sign changes of rho that the grid sees, all bisected at once: brentq takes 20 times as
    # long, and raises where rounding of rho differs between arrays and scalars
    values = rho(grid)
    grid, values = grid[values != 0], values[values != 0]
    found = np.flatnonzero(np.diff(np.sign(values)))
    low, high, sign = grid[found], grid[found + 1], np.sign(values[found])
    for _ in range(52 if found.size else 0):
        middle = (low + high) / 2
        unchanged = np.sign(rho(middle)) == sign
        low, high = np.where(unchanged, middle, low), np.where(unchanged, high, middle)
    return np.append(0.0, low)


def _grid(kernel: Kernel) -> np.ndarray:
    # times on which no feature of the kernel is missed; dyadic, so that grids of several kernels share points
    match kernel:
        case Sum(kernels=parts):
            return np.unique(np.concatenate([_grid(k) for k in parts]))
        case Shifted(kernel=inner, delay=delay):
            return np.append(0.0, delay + _grid(inner))
        case Bump(center=center, width=width):
            points = np.append(0.0, center + width * np.linspace(-9.0, 9.0, 577))
            return points[points >= 0]
        case Airy(shift=shift):
            return np.arange(0.0, max(shift, 0.0) + 16.0, 0.1 / math.sqrt(1.0 + max(shift, 0.0)))
    octaves = np.arange(-990, 991)
    tails = kernel.tail(np.exp2(octaves))
    if not (mass := np.abs(tails).max()) > 0:
        return np.zeros(1)
    first = octaves[np.argmax(np.abs(kernel.tail(0.0) - tails) > 1e-6 * mass)]
    last = octaves[np.flatnonzero(np.abs(tails) > 1e-14 * mass)[-1]] + 1
    points = np.append(0.0, np.exp2(np.arange(64 * (first - 1), 64 * last + 1) / 64))
    more = getattr(kernel, "oscillation_times", lambda: points)()  # of modes that turn faster than octaves follow
    return np.union1d(points, more)
