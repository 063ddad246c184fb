"""Gradient flow: the theory's own setting, white noise of infinite length and steps that are infinitely small."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import integrate, optimize

from cmlib.arguments import ArrayLike, Number, positive, stored
from cmlib.kernels import Bump, KernelLike, complete, terms


@dataclass(frozen=True)
class KernelLoss:
    """J(a, w) = int_0^inf (sum_i a_i e^{-w_i t} - rho(t))^2 dt, in closed form with two derivatives.

    The modes of the target join those of the model before anything is summed, so that where both agree they cancel
    exactly and a gradient of size g is right to about 1e-15 / g.

    Args:
        kernel: rho, a sum of exponentials (real rates) and bumps: one that declares `modes` or `gaussians`.

    Raises:
        ValueError: for any other kernel; from each call, unless rates are positive and shapes agree.

    Reference: li2022approximation, eq. (102)

    >>> loss = cmlib.KernelLoss(kernels.Exponential(1.0))
    >>> loss([2.0], [1.0])  # of e^{-t}: 1/2
    0.5
    >>> loss.gradient([2.0], [1.0]).tolist()
    [1.0, -1.0]
    >>> loss.hessian([2.0], [1.0]).tolist()
    [[1.0, -1.5], [-1.5, 3.0]]
    """

    kernel: KernelLike
    _weights: np.ndarray = field(init=False, repr=False, compare=False)
    _rates: np.ndarray = field(init=False, repr=False, compare=False)
    _bumps: list[tuple[float, Bump]] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        kernel = complete(self.kernel)
        found = terms(kernel)
        if found is None or np.imag(found[0]).any():
            raise ValueError(f"expected a sum of exponentials with real rates and bumps, got {self.kernel!r}")
        modes, gaussians = found
        bumps = [(float(height), Bump(*of)) for height, *of in zip(*gaussians, strict=True)]
        stored(self, kernel=kernel, _weights=np.real(modes[0]), _rates=np.real(modes[1]), _bumps=bumps)

    def __call__(self, weights: ArrayLike, rates: ArrayLike) -> float:
        """Return J.

        Raises:
            ValueError: unless weights and rates are finite, of one shape (m,), and rates > 0.
        """
        a, w = _checked(weights, rates)
        a, w = np.append(a, -self._weights), np.append(w, self._rates)
        squares = sum(p * q * _overlap(b, c) for p, b in self._bumps for q, c in self._bumps)
        return float(a @ (1 / (w[:, None] + w)) @ a - 2 * a @ self._moment(0, w) + squares)

    def gradient(self, weights: ArrayLike, rates: ArrayLike) -> Float[np.ndarray, " m_and_m"]:
        """Return dJ/da followed by dJ/dw.

        Raises:
            ValueError: unless weights and rates are finite, of one shape (m,), and rates > 0.
        """
        a, w = _checked(weights, rates)
        return np.append(2 * self._residual(0, a, w), -2 * a * self._residual(1, a, w))

    def hessian(self, weights: ArrayLike, rates: ArrayLike) -> Float[np.ndarray, "m_and_m m_and_m"]:
        """Return the second derivatives, in the order of the gradient.

        Raises:
            ValueError: unless weights and rates are finite, of one shape (m,), and rates > 0.
        """
        a, w = _checked(weights, rates)
        total = w[:, None] + w
        by_both = -2 * a / total**2 - 2 * np.diag(self._residual(1, a, w))
        by_rates = 4 * np.outer(a, a) / total**3 + 2 * np.diag(a * self._residual(2, a, w))
        return np.block([[2 / total, by_both], [by_both.T, by_rates]])

    def _residual(self, n: int, a: np.ndarray, w: np.ndarray) -> np.ndarray:
        # int t^n e^{-w_k t} (rhohat - rho) dt for each k; n! / (w_k + w_j)^{n+1} is the moment of one mode
        a, of = np.append(a, -self._weights), np.append(w, self._rates)
        powers = (w[:, None] + of) ** -(n + 1.0) * (1, 1, 2)[n]
        # largest terms first, so that equal and opposite ones meet
        order = np.argsort(-np.abs(a), kind="stable")
        return (a[order] * powers[:, order]).cumsum(1)[:, -1] - self._moment(n, w)

    def _moment(self, n: int, w: np.ndarray) -> np.ndarray:
        # int t^n e^{-wt} of the bumps; e^{-wt} bump is a Gaussian of mean mu, so partial integration steps up in n
        total = np.zeros(len(w))
        for weight, bump in self._bumps:
            m = [bump.laplace(w)]
            mu, edge = bump.center - bump.width**2 * w, bump.width**2 * bump(0.0)
            m.append(mu * m[0] + edge)
            m.append(mu * m[1] + bump.width**2 * m[0])
            total += weight * m[n]
        return total


def _overlap(a: Bump, b: Bump) -> float:
    # int a b: the product of two Gaussians is one
    total = a.width**2 + b.width**2
    center = (a.center * b.width**2 + b.center * a.width**2) / total
    height = np.exp(-((a.center - b.center) ** 2) / (2 * total))
    return height * float(Bump(center, a.width * b.width / np.sqrt(total)).tail(0.0))


def _checked(weights: ArrayLike, rates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, w = np.asarray(weights, dtype=float), np.asarray(rates, dtype=float)
    if a.ndim != 1 or a.shape != w.shape or not a.size:
        raise ValueError(f"expected weights and rates of one shape (m,), got {a.shape} and {w.shape}")
    if not (np.isfinite(a).all() and np.isfinite(w).all() and w.min() > 0):
        raise ValueError(f"expected finite weights and positive rates, got {a} and {w}")
    return a, w


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """A solution of d(a, w)/dtau = -grad J(a, w).

    Args:
        t: (n,) times tau of the solver's steps.
        weights: (n, m) a at these times.
        rates: (n, m) w at these times.
        losses: (n,) J at these times.
        at: tau -> (2m,) or (2m, n), a followed by w, between the steps.
        loss: J.

    >>> flow = cmlib.gradient_flow(kernels.Exponential(1.0), [0.5], [1.0], t_max=20.0)
    >>> flow.weights.shape == flow.rates.shape == (len(flow.t), 1)
    True
    >>> round(flow.hitting_time(0.1), 3), flow.hitting_time(1.0)  # J is 1/8 at first
    (0.71, inf)
    """

    t: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, "n m"]
    rates: Float[np.ndarray, "n m"]
    losses: Float[np.ndarray, " n"]
    at: Any
    loss: KernelLoss

    def hitting_time(self, delta: Number, of: str = "loss") -> float:
        """Return the first time at which |J - J(0)|, or |(a, w) - (a, w)(0)|_2, reaches delta; inf if never.

        Args:
            delta: how far, > 0.
            of: "loss" or "parameters".

        Raises:
            ValueError: unless delta > 0, or for another `of`.

        Reference: li2022approximation, Thm 20
        """
        delta, start = positive("delta", delta), self.at(0.0)
        m = self.weights.shape[1]
        distances = {
            "loss": lambda x: abs(self.loss(x[:m], x[m:]) - self.losses[0]),
            "parameters": lambda x: float(np.linalg.norm(x - start)),
        }
        if of not in distances:
            raise ValueError(f"expected of among {list(distances)}, got {of!r}")

        def beyond(t):
            return distances[of](self.at(t)) - delta

        step = next((i for i in range(1, len(self.t)) if beyond(self.t[i]) >= 0), None)
        return float("inf") if step is None else optimize.brentq(beyond, *self.t[step - 1 : step + 1], rtol=1e-12)


def gradient_flow(
    kernel: KernelLike, weights0: ArrayLike, rates0: ArrayLike, t_max: Number = 1e6, *, rtol: Number = 1e-8
) -> GradientFlow:
    """Follow the gradient of J from (weights0, rates0), by an implicit Runge-Kutta method with the exact Hessian.

    The flow ends at t_max, or earlier where a rate comes below a thousandth of its start: past zero J is infinite.

    Args:
        kernel: a sum of exponentials and bumps.
        weights0, rates0: (m,) start; rates > 0.
        t_max: end, > 0.
        rtol: error allowed to each step, relative; the absolute one is 1e-3 of it.

    Raises:
        ValueError: for any other kernel, a start of other shapes or with rates <= 0, or t_max or rtol <= 0.
        RuntimeError: where the solver cannot go on.

    Reference: li2022approximation, Thm 20; hairer1996solving

    >>> flow = cmlib.gradient_flow(kernels.Exponential(1.0), [0.5], [2.0], t_max=1e3)
    >>> flow.weights[-1].round(3).tolist(), flow.rates[-1].round(3).tolist()  # it comes to the kernel
    ([1.0], [1.0])
    """
    loss = KernelLoss(kernel)
    a, w = _checked(weights0, rates0)
    t_max, rtol = positive("t_max", t_max), positive("rtol", rtol)
    m, floor = len(a), w.min() / 1000

    def slowest(t, x):
        return x[m:].min() - floor

    slowest.terminal = True
    solution = integrate.solve_ivp(
        lambda t, x: -loss.gradient(x[:m], np.maximum(x[m:], floor / 2)),
        (0.0, t_max),
        np.append(a, w),
        method="Radau",
        jac=lambda t, x: -loss.hessian(x[:m], np.maximum(x[m:], floor / 2)),
        dense_output=True,
        events=slowest,
        rtol=rtol,
        atol=1e-3 * rtol,
    )
    if solution.status < 0:
        raise RuntimeError(f"the flow could not be followed past {solution.t[-1]:g}: {solution.message}")
    weights, rates = solution.y[:m].T, solution.y[m:].T
    losses = np.array([loss(*x) for x in zip(weights, np.maximum(rates, floor / 2), strict=True)])
    return GradientFlow(solution.t, weights, rates, losses, solution.sol, loss)
