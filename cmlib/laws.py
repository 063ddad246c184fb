"""Laws: the shapes by which a memory function may fall, and how well each fits a curve. Times end at 1."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Vector: TypeAlias = np.ndarray
Kind: TypeAlias = Literal["exponential", "polynomial", "stretched", "plateau"]

STEEPEST = 12.0  # t^{-12} and beyond are left to the exponentials
APART = 0.15  # modes whose rates are closer than by this factor, as a logarithm, are one with a polynomial in front
LEVEL = 0.05  # what falls by less than this share over the window is level
SIGNIFICANT = 2.0  # standard errors by which a term has to differ from none, or else the law without it stands


@dataclass(frozen=True)
class Law:
    """f(x) = sum_j c_j g_j(x; theta): `columns` gives the g_j, the one that lasts first; `starts` are theta to try."""

    name: str
    columns: Callable[[Vector, Vector], list[Vector]]
    starts: Callable[[list[Vector], float], list[list[float]]]  # of the exponentials found and the exponent at the end


@dataclass(frozen=True)
class Fit:
    """A law with its values of theta and c, their covariance for noise as stated, residuals in its units, and the least
    distance of two times."""

    law: Law
    theta: Vector
    c: Vector
    covariance: Vector
    left: Vector
    step: float

    @property
    def size(self) -> int:
        return len(self.theta) + len(self.c)

    def __call__(self, x: Vector) -> Vector:
        with np.errstate(over="ignore", invalid="ignore"):  # beyond the window
            return np.stack(self.law.columns(x, self.theta), 1) @ self.c

    def errors(self) -> Vector:
        """Return standard errors of (theta, c), no less than what the residuals say of the noise."""
        spread = max(1.0, float(self.left @ self.left) / max(len(self.left) - self.size, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.sqrt(spread * repeats(self.left) * np.maximum(np.diag(self.covariance), 0.0))

    def log_rate(self) -> tuple[float, float]:
        """Return the logarithm of the slowest rate and its standard error, nan of a law that rises."""
        i = 2 if self.law.name == "cut-off" else 0
        value, error = self.theta[i], self.errors()[i]
        if not i:
            return float(value), float(error)
        return (float(np.log(value)), float(error / value)) if value > 0 else (np.nan, np.nan)

    def order(self) -> float:
        """Return the power of t in front of the slowest exponential."""
        name = self.law.name
        return abs(self.theta[1]) if name == "cut-off" else float(name[-1]) if name.startswith("polynomial") else 0.0

    def kind(self) -> Kind | None:
        """Return the decay it stands for, None where it says no more than a law of fewer terms."""
        name, theta, c, errors = self.law.name, self.theta, self.c, self.errors()
        sure = np.abs(np.append(theta, c)) > SIGNIFICANT * errors
        terms = sure[len(theta) :]
        if name.startswith("polynomial in front"):
            return "exponential" if c[0] > 0 and terms[0] and np.isfinite(errors).all() else None
        if not np.isfinite(errors).all() or not c[0] > 0 or not terms.all():
            return None
        first = 0 if "modes" in name else 2 if name == "power after a mode" else len(theta)
        rates, unsure = theta[first:], errors[first : len(theta)]
        if unsure.max(initial=0.0) > 1 or rates.max(initial=-np.inf) > np.log(3 / self.step):
            return None  # a mode that nobody has seen fall
        if np.diff(rates).min(initial=np.inf) < APART:
            return None
        if name.startswith("level"):
            return "plateau"
        if name.startswith("modes"):
            return "exponential" if errors[0] < 1 / 3 else None
        if name == "cut-off":
            return "exponential" if sure[1:3].all() and theta[2] > 2 * LEVEL and abs(theta[1]) < STEEPEST else None
        if name.startswith("power"):
            falls = theta[1] * np.logaddexp(0.0, -theta[0])
            return "polynomial" if sure[1] and theta[1] < STEEPEST and falls > LEVEL else None
        if -theta[0] * theta[1] < np.log(LEVEL):
            return None
        return "stretched" if abs(theta[1] - 1) > max(0.1, SIGNIFICANT * errors[1]) and 0.05 < theta[1] < 1 else None


def repeats(left: Vector) -> float:
    """Return how many residuals count as one, by how seldom they change their sign; below the noise, one."""
    if left @ left < len(left):
        return 1.0
    return max(1.0, len(left) / (2.0 * (1 + np.count_nonzero(np.diff(np.sign(left))))))


def _modes(x: Vector, theta: Vector) -> list[Vector]:
    return [np.exp(-np.exp(np.minimum(w, 20)) * x) for w in theta]


def _power(x: Vector, theta: Vector) -> list[Vector]:
    return [(1 + x * np.exp(-np.clip(theta[0], -12, 6))) ** -np.clip(theta[1], -STEEPEST, STEEPEST)]


def _stretched(x: Vector, theta: Vector) -> list[Vector]:
    return [np.exp(-((x * np.exp(-np.maximum(theta[0], -30))) ** np.clip(theta[1], 0.02, 9)))]


def _modes_law(k: int) -> Law:
    return Law(f"modes {k}", _modes, lambda rates, p: [list(rates[k - 1])])


def _powers(p: float) -> list[list[float]]:
    return [[np.log(s), max(p * (1 + s), 0.1)] for s in (1e-3, 0.1)]


LAWS = (
    *(_modes_law(k) for k in (1, 2, 3, 4)),
    Law("power", _power, lambda rates, p: _powers(p)),
    Law(
        "power after a mode",
        lambda x, theta: [*_power(x, theta), np.exp(-np.exp(theta[2]) * x)],
        lambda rates, p: [[*start, rates[1][-1]] for start in _powers(p)],
    ),
    Law(
        "cut-off",
        lambda x, theta: [_power(x, theta)[0] * np.exp(-theta[2] * x)],
        lambda rates, p: [[np.log(0.01), 1.0, np.exp(rates[0][0])], [np.log(0.1), -1.0, 2 * np.exp(rates[0][0])]],
    ),
    *(
        Law(
            f"polynomial in front {k}",
            lambda x, theta, k=k: [x**i * np.exp(-np.exp(theta[0]) * x) for i in range(k, -1, -1)],
            lambda rates, p: [[rates[0][0] + 0.5], [rates[0][0] + 1.0]],
        )
        for k in (1, 2)
    ),
    Law("stretched", _stretched, lambda rates, p: [[np.log(0.05), 0.5], [-rates[0][0], 0.9]]),
    Law("level", lambda x, theta: [np.ones_like(x)], lambda rates, p: [[]]),
    *(
        Law(
            f"level after modes {k}",
            lambda x, theta: [np.ones_like(x), *_modes(x, theta)],
            lambda rates, p, k=k: [list(rates[k][1:])],
        )
        for k in (1, 2)
    ),
    Law(
        "level after a power",
        lambda x, theta: [np.ones_like(x), *_power(x, theta)],
        lambda rates, p: [[np.log(0.01), 1.5]],
    ),
)


def spectrum(x: Vector, y: Vector, scale: Vector) -> list[Vector]:
    """Return log rates of one to four exponentials near y, from the non-negative sum over a grid of rates."""
    from scipy import optimize  # here, because it would nearly double the time of `import cmlib`

    step = np.diff(x).min()
    grid = np.linspace(np.log(0.02), np.log(3 / step), 50)
    table = np.exp(-np.exp(grid) * x[:, None]) / scale[:, None]
    weight = optimize.nnls(table, y / scale, maxiter=100 * len(grid))[0]
    weight = np.where(np.isfinite(weight), weight, 0.0)
    share = (table * weight).max(0)
    kept = share > 1e-4 * share.max()
    rates, weight = list(grid[kept]), list(share[kept])
    found = {}
    while rates:
        found[len(rates)] = np.array(rates)
        if len(rates) == 1:
            break
        i = int(np.argmin(np.diff(rates)))
        total = weight[i] + weight[i + 1]
        rates[i : i + 2] = [(rates[i] * weight[i] + rates[i + 1] * weight[i + 1]) / total]
        weight[i : i + 2] = [total]
    most = max(found, default=0)
    if not most:
        found, most = {1: np.array([0.0])}, 1
    for k in range(most + 1, 5):  # another, faster one each
        found[k] = np.append(found[k - 1], found[k - 1][-1] + 1.5)
    return [found[k] for k in (1, 2, 3, 4)]


def fit(law: Law, x: Vector, y: Vector, scale: Vector, start: list[float]) -> Fit | None:
    """Return the fit of least squares of (y - f) / scale, None where it fails; the c are eliminated at each step."""
    from scipy import optimize

    def solved(theta: Vector) -> tuple[Vector, Vector, Vector]:
        table = np.stack(law.columns(x, theta), 1) / scale[:, None]
        if not np.isfinite(table).all():
            return np.zeros(table.shape[1]), np.full(len(x), 1e12), table
        size = np.maximum(np.abs(table).max(0), 1e-300)
        c = np.linalg.lstsq(table / size, y / scale, rcond=1e-13)[0] / size
        return c, table @ c - y / scale, table

    def left(theta: Vector) -> Vector:
        return solved(theta)[1]

    theta = np.array(start, dtype=float)
    with np.errstate(all="ignore"):
        try:
            if len(theta):
                # least_squares takes four times as long for the same steps
                theta = optimize.leastsq(
                    left, theta, xtol=1e-10, ftol=1e-12, maxfev=40 * (len(theta) + 1), full_output=True
                )[0]
                if law.columns is _modes:
                    theta = np.sort(theta)
            c, residuals, table = solved(theta)
            slopes = [
                (np.stack(law.columns(x, theta + h), 1) - np.stack(law.columns(x, theta - h), 1)) @ c / (2e-6 * scale)
                for h in 1e-6 * np.eye(len(theta))
            ]
            jacobian = np.column_stack([*slopes, table]) if slopes else table
            size = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
            covariance = np.linalg.pinv((jacobian / size).T @ (jacobian / size), rcond=1e-14) / np.outer(size, size)
        except (ValueError, np.linalg.LinAlgError):  # left the numbers
            return None
    return Fit(law, theta, c, covariance, residuals, float(np.diff(x).min())) if np.isfinite(residuals).all() else None
