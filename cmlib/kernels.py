"""Memory kernels rho(t) on t >= 0: what counts as one, a family with closed forms, and + - * among them.

Any callable that maps an array of times to as many values is a kernel; what else it may declare stands under `Kernel`.
`complete` gives every kernel all of that.

Times are in the units of the model's own time. Times below 0, be it by rounding, raise a ValueError.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy import special

from cmlib import areas
from cmlib.arguments import ArrayLike, Number, Real, number, positive, real_array, span, stored, times

__all__ = [
    "Kernel",
    "Exponential",
    "ExponentialMixture",
    "Polynomial",
    "Airy",
    "Bump",
    "Shifted",
    "Sum",
    "Custom",
    "l1_distance",
    "l2_distance",
]

KernelLike = Any  # must be a Kernel
Values = Float[np.ndarray, "..."] | Float[torch.Tensor, "..."] | float
Reals = Float[np.ndarray, "..."] | float

# loose at run time, as in cmlib.arguments
if TYPE_CHECKING:
    Function: TypeAlias = Callable[..., Any] | None
    Flag: TypeAlias = bool | None
else:
    Function = Flag = Any


@runtime_checkable
class Kernel(Protocol):
    """A memory kernel rho: [0, inf) -> R: any callable that maps an array of times to as many values.

    What it declares as attributes is believed, and the rest is found by quadrature. The kernels of this module have all
    of it, the last line where rho is such a sum, and add, subtract and scale. Every callable passes `isinstance`;
    `cmlib.testing.check_kernel` asks for more.

    - `nonnegative`: True only if rho never is negative.
    - `tail(t)`: int_t^inf rho, signed. `integral(t)`: int_0^t rho, for kernels that have no tail.
    - `l1_norm()`: int_0^inf |rho|. `laplace(s)`: int_0^inf e^{-st} rho(t) dt for real s >= 0.
    - `features(horizon)`: increasing times that sampling must not miss: jumps, peaks narrower than 1 % of their time.
    - `modes()` -> (weights, rates) and `gaussians()` -> (heights, centers, widths): all that rho is the sum of.

    Reference: li2021curse; wang2024inverse, eq. (3)

    >>> rho = kernels.Exponential(0.5) + kernels.Bump(8.0, 1.0)
    >>> rho.nonnegative, rho.modes(), [float(row[0]) for row in rho.gaussians()]
    (True, (array([1.]), array([0.5])), [1.0, 8.0, 1.0])
    >>> [round(float(v), 3) for v in (rho(2.0), rho.tail(2.0), rho.integral(2.0), rho.laplace(0.5), rho.l1_norm())]
    [0.368, 3.242, 1.264, 1.052, 4.507]
    >>> all(t in rho.features(100.0) for t in (7.0, 8.0, 9.0))  # times around the peak
    True
    >>> kernels.l1_distance(lambda t: np.exp(-t / 2), kernels.Exponential(0.5)) < 1e-10  # a function is a kernel, too
    True
    """

    def __call__(self, t: ArrayLike) -> Values:
        """Return rho(t), as float64 numpy for numpy, and as torch of the same dtype and device for torch.

        Raises:
            ValueError: on t < 0, or what is no real numbers; from a Custom, on values of another shape.
        """
        ...


_COMPLETE = ("nonnegative", "antiderivative", "integral", "tail", "l1_norm", "laplace", "features", "scaled")
_DECLARED = ("nonnegative", "tail", "integral", "l1_norm", "laplace", "features", "modes", "gaussians")


def complete(kernel: KernelLike, name: str = "kernel") -> Any:
    """Return the kernel itself if it has all that this module names, else a Custom of what it declares.

    Args:
        kernel: any callable from times to values.
        name: what the caller calls it.

    Raises:
        ValueError: unless two times become two real values.

    >>> complete = kernels.complete(lambda t: np.exp(-2 * t))
    >>> round(complete.l1_norm(), 6)
    0.5
    """
    if all(hasattr(type(kernel), method) for method in _COMPLETE):
        return kernel
    if isinstance(kernel, type) or not callable(kernel):
        raise ValueError(f"expected {name} to be a Kernel, got {kernel!r}")
    wrong = f"expected {name} to be a Kernel, got {kernel!r}, which does not map two times to two real values"
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(kernel(np.array([0.0, 1.0])))
    except Exception as error:  # whatever a callable does that is no kernel
        raise ValueError(wrong) from error
    if values.shape != (2,) or values.dtype.kind not in "iuf":
        raise ValueError(f"{wrong} but to {values!r}")
    return Custom(kernel, **{name: getattr(kernel, name, None) for name in _DECLARED})


def terms(kernel: KernelLike) -> tuple | None:
    """Return ((weights, rates), (heights, centers, widths)) of a sum of modes and Gaussians, as arrays; else None.

    rho(t) = Re sum_k weights_k e^{-rates_k t} + sum_k heights_k exp(-(t - centers_k)^2 / (2 widths_k^2))

    Raises:
        ValueError: where a kernel declares other than arrays of one shape.

    >>> kernels.terms(kernels.Exponential(2.0))[0], kernels.terms(kernels.Polynomial(2.0))
    ((array([1.]), array([2.])), None)
    """
    found = [declared() if (declared := getattr(kernel, name, None)) else None for name in ("modes", "gaussians")]
    if found == [None, None]:
        return None
    pairs = zip(("modes", "gaussians"), found, (2, 3), strict=True)
    return tuple(_rows(name, (np.zeros(0),) * n if rows is None else rows, n) for name, rows, n in pairs)


def _rows(name: str, rows: Any, n: int) -> tuple:
    rows = tuple(np.asarray(row) for row in rows)
    if len(rows) != n or any(row.shape != rows[0].shape or row.ndim != 1 for row in rows):
        raise ValueError(f"expected {name}() to return {n} arrays of one shape (n,), got {rows}")
    if not all(np.isfinite(row).all() for row in rows) or (rows[-1].real <= 0).any():  # rates, or widths
        raise ValueError(f"expected {name}() to return finite numbers, the last ones positive, got {rows}")
    return rows


class Combinable:
    """Kernels as a vector space: a + b, a - b, -a and 2 * a are Sums of any kernels.

    >>> kernels.Exponential(1.0) - 2 * kernels.Polynomial(2.0)
    Sum(kernels=(Exponential(rate=1.0), Polynomial(exponent=2.0, scale=1.0)), weights=(1.0, -2.0))
    >>> kernels.Exponential(1.0).scaled()
    ((1.0, Exponential(rate=1.0)),)
    """

    __array_ufunc__ = None  # numpy's numbers leave the product to __rmul__

    def scaled(self) -> tuple:
        """Return (weight, kernel) pairs that add up to this kernel."""
        return ((1.0, self),)

    def __add__(self, other: KernelLike) -> "Sum":
        return _sum(self.scaled() + complete(other, "a summand").scaled())

    def __radd__(self, other: KernelLike) -> "Sum":
        return complete(other, "a summand") + self

    def __mul__(self, factor: Number) -> "Sum":
        factor = number("the factor of a kernel", factor)
        return _sum((factor * weight, kernel) for weight, kernel in self.scaled())

    __rmul__ = __mul__

    def __neg__(self) -> "Sum":
        return self * -1.0

    def __sub__(self, other: KernelLike) -> "Sum":
        return self + -complete(other, "a summand")

    def __rsub__(self, other: KernelLike) -> "Sum":
        return complete(other, "a summand") + -self


def _sum(scaled: Any) -> "Sum":
    weights, kernels = zip(*scaled, strict=True)
    return Sum(kernels, weights)


class Closed(Combinable):
    """What follows from a closed `tail` and from `features`.

    >>> rho = kernels.Polynomial(2.0)  # its tail is 1 / (1 + t)
    >>> values = rho.antiderivative(1.0), rho.integral(1.0), rho.l1_norm(horizon=3.0), rho.laplace(0.0)
    >>> [round(float(v), 6) for v in values]
    [-0.5, 0.5, 0.75, 1.0]
    """

    tail: Callable[[Any], Any]

    def antiderivative(self, t: ArrayLike) -> Reals:
        """Return some F with F' = rho, the one with the smallest rounding errors; t may be inf.

        Raises:
            ValueError: on t < 0, or where no integral of rho up to t exists.
        """
        return -self.tail(t)

    def integral(self, t: ArrayLike) -> Reals:
        """Return int_0^t rho; t may be inf.

        Raises:
            ValueError: on t < 0, or where the integral does not exist.
        """
        return self.antiderivative(t) - self.antiderivative(0.0)

    def l1_norm(self, horizon: Number = math.inf) -> float:
        """Return int_0^horizon |rho|.

        Raises:
            ValueError: unless horizon > 0 and the integral exists.
        """
        return areas.area(self, span("horizon", horizon))

    def laplace(self, s: ArrayLike) -> Reals:
        """Return int_0^inf e^{-st} rho(t) dt, by quadrature where no closed form is known.

        Raises:
            ValueError: on s < 0, or where the integral does not exist.
        """
        return areas.laplace(self, _real(s, "s"))


def _real(t: ArrayLike, name: str = "t") -> np.ndarray:
    return times(t.detach().cpu().numpy() if isinstance(t, torch.Tensor) else t, name)[1]


def _damped_integral(z: Any, q: float, longest: float) -> Any:
    # int_0^longest exp(-z(e^v - 1) - q v) dv, exact to rounding: the integrand is positive and smooth, and
    # e^{-40} of it is cut off
    z = np.clip(z, 1e-300, 1e300)
    length = np.minimum(np.log1p(40.0 / z), longest)[..., None]
    v = length * (_NODES + 1.0) / 2.0
    return (length * _WEIGHTS / 2.0 * np.exp(-z[..., None] * np.expm1(v) - q * v)).sum(-1)


_NODES = legendre.leggauss(80)[0]
# numpy's own weights are off by 1e-12 at the ends; this sum of squares is not
_WEIGHTS = 1.0 / (legendre.legvander(_NODES, 79) ** 2 @ (np.arange(80) + 0.5))


class Nonnegative(Closed):
    """A kernel whose area is its integral, and which 64 times an octave show.

    >>> times = kernels.Exponential(1.0).features()  # past the second, one is 2^(1/64) times the one before
    >>> float(times[0]), bool(np.allclose(times[2:] / times[1:-1], 2 ** (1 / 64)))
    (0.0, True)
    """

    nonnegative: ClassVar[bool] = True

    def l1_norm(self, horizon: Number = math.inf) -> float:
        if (horizon := span("horizon", horizon)) == math.inf:
            return float(self.tail(0.0))
        return float(self.integral(horizon))

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        """Return increasing times between neighbours of which rho is smooth."""
        return areas.octaves(self.tail)


@dataclass(frozen=True)
class Exponential(Nonnegative):
    """rho(t) = e^{-rate t}.

    Args:
        rate: decay rate, > 0, per unit of time.

    Raises:
        ValueError: unless rate > 0.

    Reference: wang2024inverse, Fig. 1a

    >>> rho = kernels.Exponential(0.5)
    >>> [round(float(v), 3) for v in (rho(2.0), rho.tail(2.0), rho.l1_norm())]
    [0.368, 0.736, 2.0]
    >>> rho.modes()
    (array([1.]), array([0.5]))
    """

    rate: Real

    def __post_init__(self):
        stored(self, rate=positive("rate", self.rate))

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        return xp.exp(-self.rate * at)

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho = e^{-rate t} / rate.

        Raises:
            ValueError: on t < 0.
        """
        return np.exp(-self.rate * _real(t)) / self.rate

    def laplace(self, s: ArrayLike) -> Reals:
        return 1.0 / (_real(s, "s") + self.rate)

    def modes(self) -> tuple:
        """Return (weights, rates), of one mode."""
        return np.ones(1), np.array([self.rate])


@dataclass(frozen=True)
class ExponentialMixture(Nonnegative):
    """Rates spread evenly over [a, b]: rho(t) = 1/(b-a) int_a^b e^{-wt} dw = (e^{-at} - e^{-bt}) / ((b-a) t).

    Args:
        slowest: smallest rate a, > 0, per unit of time.
        fastest: largest rate b, > a, per unit of time.

    Raises:
        ValueError: unless 0 < slowest < fastest.

    >>> rho = kernels.ExponentialMixture(1.0, 3.0)
    >>> [round(float(v), 3) for v in (rho(1.0), rho.tail(0.0))]  # (e^{-1} - e^{-3}) / 2, log(3) / 2
    [0.159, 0.549]
    """

    slowest: Real
    fastest: Real

    def __post_init__(self):
        slowest = positive("slowest", self.slowest)
        stored(self, slowest=slowest, fastest=number("fastest", self.fastest, above=slowest))

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        x = (self.fastest - self.slowest) * at
        near = x < 0.5  # there (1 - e^{-x})/x is 0/0 at 0 and its autograd cancels, so take the series
        series = xp.zeros_like(x)
        for n in range(14, -1, -1):
            series = 1.0 / math.factorial(n + 1) - xp.where(near, x, 0.5) * series
        far = xp.where(near, 0.5, x)
        return (xp.exp(-self.slowest * at) * xp.where(near, series, -xp.expm1(-far) / far))[()]

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho, by Gauss-Legendre quadrature over log w.

        Raises:
            ValueError: on t < 0.
        """
        # (E1(at) - E1(bt)) / (b - a), which cancels near t = 0 and for b near a
        a, b, at = self.slowest, self.fastest, _real(t)
        return np.exp(-a * at) * _damped_integral(a * at, 0.0, math.log1p((b - a) / a)) / (b - a)

    def laplace(self, s: ArrayLike) -> Reals:
        width = self.fastest - self.slowest
        return np.log1p(width / (_real(s, "s") + self.slowest)) / width


@dataclass(frozen=True)
class Polynomial(Nonnegative):
    """rho(t) = (1 + scale t)^{-exponent}, square-integrable above 1/2 and integrable above 1.

    Args:
        exponent: decay exponent p > 0. Up to 1 the memory is long: what needs all times raises, any horizon does not.
        scale: c > 0, per unit of time.

    Raises:
        ValueError: unless exponent > 0 and scale > 0.

    Reference: wang2024inverse, Fig. 1b

    >>> rho = kernels.Polynomial(2.0)
    >>> [round(float(v), 6) for v in (rho(1.0), rho.tail(1.0))]  # 1 / (1 + t)^2, 1 / (1 + t)
    [0.25, 0.5]
    >>> round(kernels.Polynomial(0.5).l1_norm(horizon=3.0), 6)  # 2 (sqrt(1 + t) - 1); up to inf it raises
    2.0
    """

    exponent: Real
    scale: Real = 1.0

    def __post_init__(self):
        stored(self, exponent=positive("exponent", self.exponent), scale=positive("scale", self.scale))

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        return xp.exp(-self.exponent * xp.log1p(self.scale * at))

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho = (1 + scale t)^{1 - exponent} / (scale (exponent - 1)).

        Raises:
            ValueError: on t < 0, or for an exponent <= 1.
        """
        if self.exponent <= 1:
            raise ValueError(f"expected an exponent > 1 for an integral over all times, or horizon=, got {self!r}")
        q = self.exponent - 1.0
        return np.exp(-q * np.log1p(self.scale * _real(t))) / (self.scale * q)

    def integral(self, t: ArrayLike) -> Reals:
        u, q = np.log1p(self.scale * _real(t)), self.exponent - 1.0
        if q <= 0 and np.isinf(u).any():
            return self.tail(t)  # raises
        return (u if q == 0 else -np.expm1(-q * u) / q) / self.scale

    def antiderivative(self, t: ArrayLike) -> Reals:
        return -self.tail(t) if self.exponent > 1 else self.integral(t)

    def laplace(self, s: ArrayLike) -> Reals:
        # (1/c) U(1, 2-p, s/c) with U as an integral: scipy.special.hyperu is off by 1e-7 near s = 10 c, and
        # wholly wrong for p = 2 near s = 0
        x, q = _real(s, "s"), self.exponent - 1.0
        at_zero = self.tail(0.0) if (x == 0).any() else 0.0
        integral = _damped_integral(x / self.scale, q, 40.0 / q if q > 0 else math.inf) / self.scale
        return np.where(x == 0, at_zero, integral)[()]

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        if self.exponent > 1:
            return areas.octaves(self.tail)
        first = 1e-6 / self.scale
        return areas.dyadic(first, max(first, min(horizon, areas.FARTHEST)))


def _airy(x: Any, derivative: int = 0) -> Any:
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


def _airy_tail(x: Any) -> Any:
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
class Airy(Closed):
    """rho(t) = Ai(t - shift), which oscillates until t = shift and then decays; `laplace` is by quadrature.

    Torch values and gradients (any order) come from scipy on the host.

    Args:
        shift: time of the last peak, about; <= 1000, where Ai itself still is good to 1e-12.

    Raises:
        ValueError: unless shift is finite and <= 1000.

    Reference: li2021curse, Fig. 1

    >>> rho = kernels.Airy(6.0)
    >>> [round(float(v), 3) for v in (rho(6.0), rho.tail(6.0))]  # Ai(0), and 1/3 past it
    [0.355, 0.333]
    >>> rho.nonnegative, kernels.Airy(-1.0).nonnegative, float(rho.features()[-1]) > 20.0
    (False, True, True)
    """

    shift: Real

    def __post_init__(self):
        if number("shift", self.shift) > 1000.0:
            raise ValueError(f"expected shift <= 1000, got {self.shift!r}")
        stored(self, shift=float(self.shift))

    @property
    def nonnegative(self) -> bool:
        """Whether no zero of Ai comes after t = 0."""
        return self._zeros().size == 0

    def _zeros(self) -> np.ndarray:
        count = 2 + int(max(self.shift, 0.0) ** 1.5 * 2 / (3 * math.pi))  # the n-th is near -(3 pi n / 2)^{2/3}
        zeros = np.sort(special.ai_zeros(count)[0]) + self.shift
        return zeros[zeros > 0]

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        return _AiryFunction.apply(at - self.shift, 0) if xp is torch else _airy(at - self.shift)

    def l1_norm(self, horizon: Number = math.inf) -> float:
        # the zeros of Ai are its sign changes
        zeros, horizon = self._zeros(), span("horizon", horizon)
        return areas.variation(self.tail, np.concatenate([[0.0], zeros[zeros < horizon], [horizon]]))

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho, by Gauss-Legendre quadrature of Ai.

        Raises:
            ValueError: on t < 0.
        """
        return _airy_tail(_real(t) - self.shift)[()]

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        """Return evenly spaced times until 16 past the shift, about 30 in the shortest half turn."""
        return np.arange(0.0, max(self.shift, 0.0) + 16.0, 0.1 / math.sqrt(1.0 + max(self.shift, 0.0)))


@dataclass(frozen=True)
class Bump(Nonnegative):
    """rho(t) = exp(-(t - center)^2 / (2 width^2)).

    Args:
        center: time of the peak, finite.
        width: standard deviation, > 0, in units of time.

    Raises:
        ValueError: unless center is finite and width > 0.

    Reference: li2021curse, Thm 5.1

    >>> rho = kernels.Bump(center=5.0, width=1.0)
    >>> [round(float(v), 3) for v in (rho(5.0), rho.tail(5.0))]  # 1, sqrt(pi / 2)
    [1.0, 1.253]
    >>> rho.gaussians()
    (array([1.]), array([5.]), array([1.]))
    """

    center: Real
    width: Real

    def __post_init__(self):
        stored(self, center=number("center", self.center), width=positive("width", self.width))

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        return xp.exp(-0.5 * ((at - self.center) / self.width) ** 2)

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho = sqrt(pi / 2) width erfc((t - center) / (sqrt(2) width)).

        Raises:
            ValueError: on t < 0.
        """
        x = (_real(t) - self.center) / (math.sqrt(2) * self.width)
        return math.sqrt(math.pi / 2) * self.width * special.erfc(x)

    def laplace(self, s: ArrayLike) -> Reals:
        x, c, w = _real(s, "s"), self.center, self.width
        z = (w * x - c / w) / math.sqrt(2)
        # erfcx overflows on the left, e^{s(sw^2/2 - c)} on the right
        left = np.exp(np.minimum(x * (x * w**2 / 2 - c), 0.0)) * special.erfc(z)
        right = math.exp(-0.5 * (c / w) ** 2) * special.erfcx(np.maximum(z, 0.0))
        return (math.sqrt(math.pi / 2) * w * np.where(z < 0, left, right))[()]

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        """Return 0 and 577 times within nine widths of the peak, those of them that are > 0."""
        points = np.append(0.0, self.center + self.width * np.linspace(-9.0, 9.0, 577))
        return points[points >= 0]

    def gaussians(self) -> tuple:
        """Return (heights, centers, widths), of one Gaussian."""
        return np.ones(1), np.array([self.center]), np.array([self.width])


@dataclass(frozen=True)
class Shifted(Closed):
    """rho(t) = kernel(t - delay) for t >= delay, and 0 before.

    Args:
        kernel: any kernel.
        delay: >= 0, in units of time.

    Raises:
        ValueError: unless kernel is one and delay >= 0.

    Reference: li2021curse, Thm 5.1

    >>> rho = kernels.Shifted(kernels.Exponential(1.0), 3.0)
    >>> rho.nonnegative, rho([2.0, 4.0]).round(3).tolist(), round(float(rho.tail(4.0)), 3)
    (True, [0.0, 0.368], 0.368)
    >>> 3.0 in rho.features(10.0)  # where it jumps
    True
    """

    kernel: KernelLike
    delay: Real

    def __post_init__(self):
        stored(self, kernel=complete(self.kernel), delay=number("delay", self.delay, at_least=0.0))

    @property
    def nonnegative(self) -> bool:
        """Whether the kernel is known to be so."""
        return self.kernel.nonnegative

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        values = self.kernel(xp.where(at >= self.delay, at - self.delay, 0.0))
        return xp.where(at >= self.delay, values, 0.0)[()]

    def l1_norm(self, horizon: Number = math.inf) -> float:
        left = span("horizon", horizon) - self.delay
        return self.kernel.l1_norm(left) if left > 0 else 0.0

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho, all of it for t <= delay.

        Raises:
            ValueError: on t < 0.
        """
        return self.kernel.tail(self._since(t))

    def antiderivative(self, t: ArrayLike) -> Reals:
        return self.kernel.antiderivative(self._since(t))

    def laplace(self, s: ArrayLike) -> Reals:
        return np.exp(-self.delay * _real(s, "s")) * self.kernel.laplace(s)

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        """Return 0 and the times of the kernel, later by the delay."""
        left = horizon - self.delay
        return np.append(0.0, self.delay + (self.kernel.features(left) if left > 0 else np.zeros(1)))

    def _since(self, t: ArrayLike) -> Reals:
        return np.maximum(_real(t) - self.delay, 0.0)


@dataclass(frozen=True)
class Sum(Closed):
    """rho(t) = sum_i weights_i kernels_i(t); of Exponentials, an exponential sum.

    Its l1_norm is a sum of closed forms, or differences of its antiderivative between the sign changes of rho, which
    the features of all kernels together bracket.

    Args:
        kernels: any kernels, at least one.
        weights: one finite number for each kernel.

    Raises:
        ValueError: on no kernels, what is none, or weights that are not as many finite numbers.

    >>> rho = kernels.Sum([kernels.Exponential(1.0), kernels.Exponential(2.0)], [1.0, -1.0])
    >>> [round(float(v), 3) for v in (rho(0.0), rho.tail(0.0), rho.l1_norm())]
    [0.0, 0.5, 0.5]
    >>> rho.nonnegative, rho.modes(), rho.gaussians()[0].size  # it is >= 0, but that is not known
    (False, (array([ 1., -1.]), array([1., 2.])), 0)
    >>> bool(np.isin(rho.kernels[0].features(), rho.features()).all())
    True
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
        kernels = tuple(complete(k, f"kernels[{i}]") for i, k in enumerate(kernels))
        stored(self, kernels=kernels, weights=tuple(number(f"weights[{i}]", w) for i, w in enumerate(weights)))

    @property
    def nonnegative(self) -> bool:
        """Whether all kernels are known to be so, and no weight is negative."""
        return all(w >= 0 for w in self.weights) and all(k.nonnegative for k in self.kernels)

    def scaled(self) -> tuple:
        return tuple(zip(self.weights, self.kernels, strict=True))

    def _weighted(self, values: Callable[[Any], Any]) -> Any:
        return sum(w * values(k) for k, w in zip(self.kernels, self.weights, strict=True))

    def __call__(self, t: ArrayLike) -> Values:
        return self._weighted(lambda k: k(t))

    def l1_norm(self, horizon: Number = math.inf) -> float:
        if all(k.nonnegative for k in self.kernels) and max(self.weights) * min(self.weights) >= 0:
            return abs(self._weighted(lambda k: k.l1_norm(horizon)))
        return super().l1_norm(horizon)

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho, the weighted sum of tails.

        Raises:
            ValueError: on t < 0, or where one of them does not exist.
        """
        return self._weighted(lambda k: k.tail(t))

    def integral(self, t: ArrayLike) -> Reals:
        return self._weighted(lambda k: k.integral(t))

    def antiderivative(self, t: ArrayLike) -> Reals:
        return self._weighted(lambda k: k.antiderivative(t))

    def laplace(self, s: ArrayLike) -> Reals:
        return self._weighted(lambda k: k.laplace(s))

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        """Return the times of all kernels together."""
        return np.unique(np.concatenate([k.features(horizon) for k in self.kernels]))

    def modes(self) -> tuple | None:
        """Return (weights, rates) of all modes; None unless rho is a sum of modes and Gaussians alone.

        Raises:
            ValueError: where a kernel declares other than arrays of one shape.
        """
        return self._terms(0)

    def gaussians(self) -> tuple | None:
        """Return (heights, centers, widths) of all Gaussians; None unless rho is a sum of modes and Gaussians alone.

        Raises:
            ValueError: where a kernel declares other than arrays of one shape.
        """
        return self._terms(1)

    def _terms(self, kind: int) -> tuple | None:
        found = [of for k in self.kernels if (of := terms(k)) is not None]
        if len(found) < len(self.kernels):
            return None
        rows = [(w * of[kind][0], *of[kind][1:]) for w, of in zip(self.weights, found, strict=True)]
        return tuple(np.concatenate(row) for row in zip(*rows, strict=True))


@dataclass(frozen=True, init=False)
class Custom(Combinable):
    """A kernel from a function, t -> rho(t); what is not given in closed form is found by quadrature, to about 1e-11.

    Args:
        function: times (n,) >= 0 -> values (n,), numpy for numpy; torch for torch where gradients are asked for.
        nonnegative, tail, integral, l1_norm, laplace, features, modes, gaussians: as under `Kernel`; each is a function
            but the first, and None where it is not known.

    Raises:
        ValueError: on what is no function; from each integral, where 4 million samples do not resolve rho or the
            integral does not exist.

    >>> rho = kernels.Custom(lambda t: np.exp(-t) * np.cos(t))
    >>> [round(float(v), 6) for v in (rho(0.0), rho.tail(0.0), rho.laplace(1.0))]  # (s + 1) / ((s + 1)^2 + 1)
    [1.0, 0.5, 0.4]
    >>> [round(float(v), 6) for v in (rho.integral(np.pi), rho.antiderivative(np.pi), rho.l1_norm(horizon=np.pi / 2))]
    [0.521607, 0.521607, 0.60394]
    >>> rho.nonnegative, rho.modes(), rho.gaussians(), rho.scaled() == ((1.0, rho),), len(rho.features(10.0)) > 30
    (False, None, None, True, True)
    >>> kernels.Custom(lambda t: (1 + t) ** -2.0, nonnegative=True, tail=lambda t: 1 / (1 + t)).l1_norm()  # exact
    1.0
    """

    function: Callable
    declared: tuple  # (name, value) of what is known

    def __init__(
        self,
        function: Function,
        *,
        nonnegative: Flag = None,
        tail: Function = None,
        integral: Function = None,
        l1_norm: Function = None,
        laplace: Function = None,
        features: Function = None,
        modes: Function = None,
        gaussians: Function = None,
    ):
        closed = (tail, integral, l1_norm, laplace, features, modes, gaussians)
        for name, value in zip(_DECLARED[1:], closed, strict=True):
            if value is not None and not callable(value):
                raise ValueError(f"expected {name} to be a function, got {value!r}")
        if nonnegative is not None and not isinstance(nonnegative, bool | np.bool_):
            raise ValueError(f"expected nonnegative to be True or False, got {nonnegative!r}")
        if isinstance(function, type) or not callable(function):
            raise ValueError(f"expected a function t -> rho(t), got {function!r}")
        declared = zip(_DECLARED, (nonnegative, *closed), strict=True)
        stored(self, function=function, declared=tuple((name, value) for name, value in declared if value is not None))

    @cached_property
    def _closed(self) -> dict:
        return dict(self.declared)

    @property
    def nonnegative(self) -> bool:
        """Whether it was declared to be so."""
        return bool(self._closed.get("nonnegative", False))

    def __call__(self, t: ArrayLike) -> Values:
        xp, at = times(t)
        row = at.reshape(-1)
        values = self.function(row)
        if xp is torch:
            if not isinstance(values, torch.Tensor) or values.shape != row.shape:
                raise ValueError(
                    f"expected a tensor of shape {tuple(row.shape)} from {self.function!r}, got {values!r}"
                )
            return values.reshape(at.shape)
        values = np.asarray(values)
        if values.shape != row.shape or values.dtype.kind not in "iuf":
            raise ValueError(f"expected real values of shape {row.shape} from {self.function!r}, got {values!r}")
        return values.astype(float).reshape(at.shape)[()]

    def tail(self, t: ArrayLike) -> Reals:
        """Return int_t^inf rho.

        Raises:
            ValueError: on t < 0, or where the integral does not exist.
        """
        t = _real(t)
        if "tail" not in self._closed:
            return self._cells(math.inf).tail(t)[()]
        end = np.isinf(t)  # where a closed form may be 0 * inf
        return np.where(end, 0.0, self._closed["tail"](np.where(end, 0.0, t)))[()]

    def integral(self, t: ArrayLike) -> Reals:
        """Return int_0^t rho.

        Raises:
            ValueError: on t < 0, or where the integral does not exist.
        """
        t = _real(t)
        if "integral" in self._closed and not np.isinf(t).any():
            return np.asarray(self._closed["integral"](t), dtype=float)[()]
        if "tail" in self._closed:
            return self.tail(0.0) - self.tail(t)
        return self._cells(t.max(initial=1.0)).integral(t)[()]

    def antiderivative(self, t: ArrayLike) -> Reals:
        """Return some F with F' = rho; t may be inf.

        Raises:
            ValueError: on t < 0, or where no integral of rho up to t exists.
        """
        return -self.tail(t) if "tail" in self._closed else self.integral(t)

    def l1_norm(self, horizon: Number = math.inf) -> float:
        """Return int_0^horizon |rho|.

        Raises:
            ValueError: unless horizon > 0 and the integral exists.
        """
        if (horizon := span("horizon", horizon)) == math.inf and "l1_norm" in self._closed:
            return number("l1_norm()", self._closed["l1_norm"](), at_least=0.0)
        return areas.area(self, horizon)

    def laplace(self, s: ArrayLike) -> Reals:
        """Return int_0^inf e^{-st} rho(t) dt.

        Raises:
            ValueError: on s < 0, or where the integral does not exist.
        """
        s = _real(s, "s")
        if "laplace" in self._closed:
            return np.asarray(self._closed["laplace"](s), dtype=float)[()]
        return areas.laplace(self, s, self._declared_features(math.inf))

    def features(self, horizon: Real = math.inf) -> Float[np.ndarray, " n"]:
        """Return times between neighbours of which rho turns at most once.

        Raises:
            ValueError: where 4 million samples do not resolve rho.
        """
        return self._cells(horizon).times()

    def modes(self) -> tuple | None:
        """Return the declared (weights, rates), or None."""
        return self._closed["modes"]() if "modes" in self._closed else None

    def gaussians(self) -> tuple | None:
        """Return the declared (heights, centers, widths), or None."""
        return self._closed["gaussians"]() if "gaussians" in self._closed else None

    def _declared_features(self, horizon: float) -> Any:
        return real_array("features", self._closed["features"](horizon)) if "features" in self._closed else ()

    def _cells(self, horizon: float) -> areas.Cells:
        # up to the next power of two, so that neighbouring horizons share the work
        end = horizon if math.isinf(horizon) else 2.0 ** math.ceil(math.log2(horizon))
        if end not in self._resolved:
            self._resolved[end] = areas.resolved(self, end, self._declared_features(end))
        return self._resolved[end]

    @cached_property
    def _resolved(self) -> dict:
        return {}


def l1_distance(a: KernelLike, b: KernelLike, horizon: Number = math.inf) -> float:
    """Return int_0^horizon |a - b|, exact up to sign changes that no feature of either kernel shows.

    With horizon inf this is sup_t sup_{||x|| <= 1} |A_t(x) - B_t(x)| of the two functionals.

    Args:
        a, b: kernels.
        horizon: > 0, in units of time.

    Raises:
        ValueError: unless both are kernels, horizon > 0 and the integral exists.

    Reference: wang2024inverse, eq. (3)

    >>> round(kernels.l1_distance(kernels.Exponential(1.0), kernels.Exponential(2.0)), 6)
    0.5
    """
    return areas.area(Sum((a, b), (1.0, -1.0)), span("horizon", horizon))


def l2_distance(a: KernelLike, b: KernelLike, horizon: Number = math.inf) -> float:
    """Return the root of int_0^horizon (a - b)^2: of the mean square gap of the functionals on white noise.

    Args:
        a, b: kernels.
        horizon: > 0, in units of time.

    Raises:
        ValueError: unless both are kernels and horizon > 0; where it is infinite and the integral does not exist.

    >>> round(kernels.l2_distance(kernels.Exponential(1.0), kernels.Exponential(2.0)) ** 2, 6)  # 1/2 - 2/3 + 1/4
    0.083333
    """
    return math.sqrt(areas.energy(Sum((a, b), (1.0, -1.0)), span("horizon", horizon)))
