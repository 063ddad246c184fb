"""stability: radii against closed forms, the formula of Qiu et al. on dense grids, and perturbations that upset."""

import functools
import itertools

import numpy as np
import pytest
import torch
from scipy import linalg, optimize

import cmlib

FIELDS = ("complex", "real")
TIMES = ("flow", "steps")


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def orthogonal(m: int, seed: int) -> np.ndarray:
    return linalg.qr(draw(seed).standard_normal((m, m)))[0]


def point(t: float, time: str) -> complex:
    return 1j * t if time == "flow" else np.exp(1j * t)


def stabilised(W: np.ndarray, time: str, depth: float) -> np.ndarray:
    """Shift W (flow), or shrink it (steps), until its eigenvalues keep that distance from the boundary."""
    values = linalg.eigvals(W)
    if time == "flow":
        return W - (values.real.max() + depth) * np.eye(len(W))
    return W * ((1 - depth) / np.abs(values).max())


def gaussian(m: int, seed: int) -> np.ndarray:
    return draw(seed).standard_normal((m, m))


def swinging(m: int, seed: int) -> np.ndarray:
    """Oscillating modes coupled one way: far from normal."""
    A = gaussian(m, seed)
    return (A - A.T) / 2 + 0.3 * np.triu(gaussian(m, seed + 99), 1)


def squeezed(m: int, seed: int) -> np.ndarray:
    """Rotations, ten times as large in one unit as in the other, coupled one way in a mixed basis."""
    random, Q = draw(seed), orthogonal(m, seed)
    blocks = [
        [[-a, 10 * w], [-w / 10, -a]]
        for a, w in zip(random.uniform(0.05, 0.3, m // 2), random.uniform(0.3, 3, m // 2), strict=True)
    ]
    return Q @ (linalg.block_diag(*blocks) + 0.1 * np.triu(random.standard_normal((m, m)), 2)) @ Q.T


def grcar(m: int) -> np.ndarray:
    return sum(np.eye(m, k=k) for k in range(4)) - np.eye(m, k=-1)


def jordan(k: int, eigenvalue: complex, coupling: float) -> np.ndarray:
    """A Jordan block, as a real matrix of twice the size where its eigenvalue is not real."""
    Z = eigenvalue * np.eye(k) + coupling * np.eye(k, k=1)
    return Z if np.isrealobj(Z) else np.block([[Z.real, -Z.imag], [Z.imag, Z.real]])


def smallest_singular_value_of_a_jordan_block(k: int) -> float:
    # (I - N)(I - N)^T is the second difference with one free end, whose eigenvalues are 4 sin^2((2j - 1) pi / (4k + 2))
    return 2 * np.sin(np.pi / (4 * k + 2))


def qiu(G: np.ndarray, gammas: np.ndarray) -> np.ndarray:
    """Second largest singular value of [[Re G, -g Im G], [Im G / g, Re G]], at every g."""
    X, Y, g = np.broadcast_to(G.real, (len(gammas), *G.shape)), G.imag, gammas[:, None, None]
    return np.linalg.svd(np.block([[X, -g * Y], [Y / g, X]]), compute_uv=False)[:, 1]


def real_distance(W: np.ndarray, s: complex) -> tuple[float, float]:
    """Return 1 / min_g of the above at G = (sI - W)^{-1}, and its g: a grid, then golden section about its least."""
    G = linalg.inv(s * np.eye(len(W)) - W)
    logs = np.linspace(-9, 0, 46)
    best = logs[qiu(G, np.exp(logs)).argmin()]
    found = optimize.minimize_scalar(
        lambda x: qiu(G, np.exp([x]))[0],
        bounds=(best - 0.2, min(best + 0.2, 0)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return 1 / found.fun, float(np.exp(found.x))


def distance(W: np.ndarray, t: float, time: str, field: str) -> float:
    s = point(t, time)
    return linalg.svdvals(s * np.eye(len(W)) - W)[-1] if field == "complex" else real_distance(W, s)[0]


def by_brute_force(W: np.ndarray, time: str, field: str) -> tuple[float, float]:
    """Return the least distance over grids of the boundary, refined about its lowest points, and its t."""
    real, end = ([0.0], 2 * linalg.norm(W, 2)) if time == "flow" else ([0.0, np.pi], np.pi)
    values = linalg.eigvals(W)
    resonances = np.unique(np.abs(values.imag if time == "flow" else np.angle(values)))
    grid = np.append(np.linspace(0, end, 200), resonances[:, None] + np.linspace(-0.1, 0.1, 21))
    grid = np.unique(grid[(grid > 0) & (grid < end)])
    values = np.array([distance(W, t, time, field) for t in grid])
    found = [(distance(W, t, time, "complex"), t) for t in real]
    for i in np.argsort(values)[:3]:
        refined = optimize.minimize_scalar(
            lambda t: distance(W, t, time, field),
            bounds=(grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]),
            method="bounded",
            options={"xatol": 1e-9},
        )
        found.append((refined.fun, refined.x))
    return min(found)


MATRICES = {
    "gaussian4": gaussian(4, 3),
    "gaussian6": gaussian(6, 1),
    "swinging6": swinging(6, 0),
    "squeezed4": squeezed(4, 0),
    "squeezed6": squeezed(6, 1),
    "grcar8": grcar(8),
    "squeezed14": squeezed(14, 6),
}
CASES = list(itertools.product(MATRICES, TIMES))


def case(name: str, time: str) -> np.ndarray:
    return stabilised(MATRICES[name], time, 0.1)


@functools.cache
def worst(name: str, time: str, field: str) -> tuple[float, float]:
    return by_brute_force(case(name, time), time, field)


# --- closed forms


@pytest.mark.parametrize("field", FIELDS)
def test_radius_of_a_diagonal_matrix_is_the_distance_of_its_nearest_eigenvalue(field):
    assert cmlib.stability_radius(np.diag([-3.0, -0.2, -1.0]), field) == pytest.approx(0.2, rel=1e-12)
    assert cmlib.stability_radius(np.diag([0.5, -0.9, 0.8]), field, "steps") == pytest.approx(0.1, rel=1e-12)
    assert cmlib.stability_radius(np.zeros((3, 3)), field, "steps") == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("field", FIELDS)
def test_radius_of_one_neuron(field):
    assert cmlib.stability_radius([[-0.7]], field) == pytest.approx(0.7, rel=1e-14)
    assert cmlib.stability_radius([[-0.7]], field, "steps") == pytest.approx(0.3, rel=1e-14)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("m", [3, 9])
def test_radius_of_a_normal_matrix_is_the_distance_of_its_spectrum_from_the_boundary(field, m):
    random, Q = draw(m), orthogonal(m, m)
    a, b = random.uniform(0.2, 1, m // 2), random.uniform(0.5, 3, m // 2)
    flow = linalg.block_diag(*[[[-x, y], [-y, -x]] for x, y in zip(a, b, strict=True)], [[-2.0]])
    steps = flow / 4
    expected = a.min(), 1 - max(np.hypot(a, b).max(), 2) / 4
    for W, time, radius in zip((flow, steps), TIMES, expected, strict=True):
        assert cmlib.stability_radius(Q @ W @ Q.T, field, time) == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("k", [2, 5, 20])
def test_radius_of_a_jordan_block_has_its_closed_form(field, k):
    s_min = smallest_singular_value_of_a_jordan_block(k)
    Q = orthogonal(k, k)
    assert cmlib.stability_radius(Q @ jordan(k, -1.0, 1.0) @ Q.T, field) == pytest.approx(s_min, rel=1e-9)
    assert cmlib.stability_radius(jordan(k, -0.6, 0.4), field, "steps") == pytest.approx(0.4 * s_min, rel=1e-9)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("k", [2, 5, 20])
def test_radius_of_an_oscillating_jordan_block_has_its_closed_form(field, k):
    # real matrices of this shape are complex ones of half the size, so real perturbations do as much as complex ones
    s_min = smallest_singular_value_of_a_jordan_block(k)
    Q = orthogonal(2 * k, k)
    for eigenvalue, coupling, time in ((-0.5 + 3j, 0.5, "flow"), (0.8 * np.exp(2j), 0.2, "steps")):
        W = Q @ jordan(k, eigenvalue, coupling) @ Q.T
        assert cmlib.stability_radius(W, field, time) == pytest.approx(coupling * s_min, rel=1e-8)


@pytest.mark.parametrize("entry", [4.0, 100.0])
@pytest.mark.parametrize("field", FIELDS)
def test_radius_of_two_coupled_modes_is_their_smallest_singular_value(field, entry):
    # worst at frequency 0, where s_min([[-1, a], [0, -1]]) = (sqrt(a^2 + 4) - a) / 2
    expected = 2 / (np.sqrt(entry**2 + 4) + entry)
    assert cmlib.stability_radius([[-1.0, entry], [0.0, -1.0]], field) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_real_radius_of_a_2x2_flow_has_its_closed_form(scale):
    # a real 2x2 matrix leaves the stable ones where det = 0, at the distance s_min(W), or where tr = 0, at -tr / 2
    for seed in range(40):
        W = draw(seed).standard_normal((2, 2)) * [[1, scale], [1 / scale, 1]]
        W = stabilised(W, "flow", 0.05)
        expected = min(linalg.svdvals(W)[-1], -np.trace(W) / 2)
        assert cmlib.stability_radius(W, "real") == pytest.approx(expected, rel=2e-8)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_real_radius_of_2x2_steps_has_its_closed_form(scale):
    # they leave at an eigenvalue 1 or -1, or where det = 1: |D| <= r adds no more than r to either singular value, the
    # second of them taken with the sign of det
    for seed in range(40):
        W = draw(seed).standard_normal((2, 2)) * [[1, scale], [1 / scale, 1]]
        W = stabilised(W, "steps", 0.1)
        p, q = linalg.svdvals(W) * [1, np.sign(linalg.det(W))]
        pair = (np.sqrt((p - q) ** 2 + 4) - (p + q)) / 2  # (p + r)(q + r) = 1
        expected = min(linalg.svdvals(np.eye(2) - W)[-1], linalg.svdvals(np.eye(2) + W)[-1], pair)
        assert cmlib.stability_radius(W, "real", "steps") == pytest.approx(expected, rel=2e-8)


def test_real_radius_can_exceed_the_complex_one_unless_two_copies_stand_in_for_complex_numbers():
    W = np.array([[-0.1, 10.0], [-0.1, -0.1]])
    alone = cmlib.stability_radius(W)
    assert cmlib.stability_radius(W, "real") > 1.5 * alone
    # real changes of W x I_2 contain the complex ones of W, as X x I_2 + Y x J
    Q = orthogonal(4, 0)
    assert cmlib.stability_radius(Q @ np.kron(W, np.eye(2)) @ Q.T, "real") == pytest.approx(alone, rel=1e-8)


# --- other routes


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name, time", CASES)
def test_radius_equals_brute_force_over_the_boundary(name, time, field):
    radius = cmlib.stability_radius(case(name, time), field, time)
    assert radius == pytest.approx(worst(name, time, field)[0], rel=2e-8)


def perturbation(W: np.ndarray, s: complex) -> np.ndarray:
    """Return the least real D that gives W + D the eigenvalue s: D v = s_min u, at the g of the formula."""
    A, y, eye = s.real * np.eye(len(W)) - W, s.imag, np.eye(len(W))
    if abs(y) < 1e-12:
        u, sigma, vh = linalg.svd(A)
        return sigma[-1] * np.outer(u[:, -1], vh[-1])
    g = real_distance(W, s)[1]
    u, sigma, vh = linalg.svd(np.block([[A, -g * y * eye], [y / g * eye, A]]))
    return sigma[-2] * u[:, -2].reshape(2, -1).T @ linalg.pinv(vh[-2].reshape(2, -1).T)


@pytest.mark.parametrize("name, time", CASES)
def test_a_real_perturbation_of_that_norm_upsets(name, time):
    W = case(name, time)
    radius, s = cmlib.stability_radius(W, "real", time), point(worst(name, time, "real")[1], time)
    D = perturbation(W, s)
    assert linalg.norm(D, 2) == pytest.approx(radius, rel=1e-6)
    assert np.abs(linalg.eigvals(W + D) - s).min() < 1e-8
    # on the way to the nearest matrix that is not stable, the radius falls by as much as has been gone
    assert cmlib.stability_radius(W + 0.4 * D, "real", time) == pytest.approx(0.6 * radius, rel=1e-6)


def test_radius_of_steps_is_the_smallest_push_that_upsets():
    W = np.array([[0.5, 0.3], [-0.4, 0.2]])
    radius = cmlib.stability_radius(W, time="steps")
    grid = min(linalg.svdvals(np.exp(1j * a) * np.eye(2) - W)[-1] for a in np.linspace(0, np.pi, 20001))
    assert radius == pytest.approx(grid, rel=1e-6) and radius <= grid
    layer = torch.nn.RNN(1, 2, bias=False, nonlinearity="tanh").double()
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.as_tensor(W))
    (found,) = cmlib.certify(layer, n_steps=8, amplitudes=[])
    assert found.radius == pytest.approx(radius, rel=1e-9)  # it rests at 0, where tanh' = 1


# --- what a distance has to obey


@pytest.mark.parametrize("field, time", list(itertools.product(FIELDS, TIMES)))
def test_radius_ignores_the_orthogonal_basis_and_changes_no_faster_than_the_matrix(field, time):
    W, Q = stabilised(squeezed(8, 2), time, 0.1), orthogonal(8, 4)
    radius = cmlib.stability_radius(W, field, time)
    assert cmlib.stability_radius(Q @ W @ Q.T, field, time) == pytest.approx(radius, rel=2e-8)
    assert cmlib.stability_radius(W.T, field, time) == pytest.approx(radius, rel=2e-8)
    for seed, size in itertools.product(range(3), (1e-6, 1e-3, 0.5)):
        E = gaussian(8, seed)
        E *= size * radius / linalg.norm(E, 2)
        assert abs(cmlib.stability_radius(W + E, field, time) - radius) <= (size + 2e-8) * radius


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("scale", [3.0, 1e-120, 1e120])
def test_radius_of_a_flow_scales_with_its_unit_of_time(field, scale):
    W = stabilised(swinging(6, 0), "flow", 0.1)
    expected = scale * cmlib.stability_radius(W, field)
    assert cmlib.stability_radius(scale * W, field) == pytest.approx(expected, rel=2e-8)


@pytest.mark.parametrize("name, time", CASES)
def test_real_radius_lies_between_the_complex_one_and_that_of_real_eigenvalues(name, time):
    W = case(name, time)
    real, eye = cmlib.stability_radius(W, "real", time), np.eye(len(W))
    alone = [linalg.svdvals(x * eye - W)[-1] for x in ((0.0,) if time == "flow" else (1.0, -1.0))]
    assert cmlib.stability_radius(W, "complex", time) * (1 - 2e-8) <= real <= min(alone) * (1 + 1e-12)


def test_a_radius_below_rounding_ends_all_the_same():
    W = stabilised(jordan(12, -1.0, 1e4), "flow", 0.5)  # s_min(W) is about 1e-48
    for field in FIELDS:
        assert 0 <= cmlib.stability_radius(W, field) < 12 * np.finfo(float).eps * 1e4


@pytest.mark.parametrize("field", FIELDS)
def test_radius_of_a_matrix_that_is_not_stable_is_zero(field):
    assert cmlib.stability_radius([[0.0]], field) == 0.0
    assert cmlib.stability_radius([[-1.0, 0.0], [0.0, 0.1]], field) == 0.0
    assert cmlib.stability_radius([[-1.0, 0.0], [0.0, 0.1]], field, "steps") == 0.0
    assert cmlib.stability_radius(np.diag([-1.5, -0.1]), field, "steps") == 0.0
    assert cmlib.stability_radius([[0.0, 1.0], [-1.0, 0.0]], field) == 0.0


@pytest.mark.parametrize(
    "W, options, message",
    [
        ([1.0, 2.0], {}, "expected W to be a square matrix"),
        ([[1.0, 2.0]], {}, "expected W to be a square matrix"),
        (np.zeros((0, 0)), {}, "expected W to be a square matrix"),
        ([[np.nan]], {}, "expected W to hold finite real numbers"),
        ([[-np.inf]], {}, "expected W to hold finite real numbers"),
        ([[-1.0 + 1j]], {}, "expected W to hold finite real numbers"),
        ([["a"]], {}, "expected W to hold finite real numbers"),
        ([[-1.0]], {"field": "quaternion"}, "expected field among"),
        ([[-1.0]], {"time": "jumps"}, "expected time among"),
    ],
)
def test_radius_rejects(W, options, message):
    with pytest.raises(ValueError, match=message):
        cmlib.stability_radius(W, **options)


def test_radius_takes_tensors_and_leaves_them_alone():
    W = torch.tensor([[-1.0, 4.0], [0.0, -1.0]], requires_grad=True)
    before = W.detach().clone()
    assert cmlib.stability_radius(W) == cmlib.stability_radius(before.numpy())
    assert torch.equal(W, before) and W.requires_grad


@pytest.mark.parametrize("norm", [5.0, 50.0])
def test_a_real_distance_that_is_level_along_the_boundary_is_returned_with_a_warning(norm):
    # two rows whose complex radius is least for this norm, real radius 1, and a mode that is as near to the boundary
    difference, total = np.sqrt((norm + 3) * (norm - 1)), norm - 1
    pair = np.array([[-1.0, (total + difference) / 2], [(total - difference) / 2, -1.0]])
    with pytest.warns(UserWarning, match=r"certified to a relative 0\.01 only"):
        radius = cmlib.stability_radius(linalg.block_diag(pair, -1.01), "real")
    # the mode moves by 1.01, and the pair's trace by 2 at no less than 1; no point of a grid is nearer
    assert radius == pytest.approx(1.0, rel=1e-7)
    grid = np.linspace(0.05, 2 * norm, 120)
    assert min(real_distance(linalg.block_diag(pair, -1.01), 1j * t)[0] for t in grid) >= 1 - 1e-4
