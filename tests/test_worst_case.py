"""worst_case: the ascent finds maxima known in closed form, in the norm of each weight."""

import numpy as np
import pytest
import torch

from cmlib import models
from cmlib.worst_case import Ball


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def dense(m=4):
    return models.LinearRNN(0.2 * normal(m, m) - torch.eye(m, dtype=torch.float64), normal(m), normal(m, seed=1))


def diagonal(m=4):
    return models.LinearRNN(-torch.linspace(0.2, 1.0, m, dtype=torch.float64), normal(m), normal(m, seed=1))


def ascended(ball, distance, beta):
    beta = torch.as_tensor(beta, dtype=torch.float64)
    directions = ball.random(generator(3), 5)
    best = ball.errors(distance, beta, directions).argmax(1)
    found = ball.ascend(distance, beta, torch.ones(len(beta), dtype=torch.bool), directions, best)
    return found.amax(1).numpy()


DUAL = {
    "W, dense": lambda G: torch.linalg.matrix_norm(G, ord="nuc"),  # of the spectral norm
    "W, diagonal": lambda G: G.abs().sum(),  # of the spectral norm of a diagonal
    "vector": torch.linalg.vector_norm,
}


@pytest.mark.parametrize("norm", ["spectral", "entrywise"])
@pytest.mark.parametrize("make", [dense, diagonal])
def test_of_a_linear_function_the_ascent_finds_the_dual_norms(make, norm):
    ball = Ball(make(), norm=norm)
    G = {name: normal(*w.shape, seed=7 + i) for i, (name, w) in enumerate(ball.center.items())}

    def distance(moved):
        return sum((moved[name] * G[name]).flatten(2).sum(-1) for name in G)

    kind = "W, diagonal" if ball.model.diagonal else "W, dense"
    slope = DUAL[kind](G["W"]) + DUAL["vector"](G["U"]) + DUAL["vector"](G["c"])
    if norm == "entrywise":
        slope = sum(g.abs().sum() for g in G.values())
    center = sum((ball.center[name] * G[name]).sum() for name in G)
    beta = np.array([0.0, 0.1, 2.0])
    assert ascended(ball, distance, beta) == pytest.approx((center + torch.as_tensor(beta) * slope).numpy(), rel=1e-10)


@pytest.mark.parametrize("make", [dense, diagonal])
def test_a_maximum_inside_the_ball_takes_many_steps_and_is_found(make):
    ball = Ball(make())
    inside = {name: ball.center[name] + 0.3 * d[0, 0] for name, d in ball.random(generator(5), 1).items()}

    def distance(moved):
        return -sum((moved[name] - inside[name]).square().flatten(2).sum(-1) for name in inside)

    start = float(distance({name: w[None, None] for name, w in ball.center.items()})[0, 0])
    assert ascended(ball, distance, [1.0])[0] > 0.05 * start


def test_a_convex_function_of_a_matrix_is_largest_at_the_vertex_that_its_closed_form_names():
    # |(W + D) U| with |D| <= beta is at most |W U| + beta |U|, and reached
    model = dense()
    ball = Ball(model, ("W",))
    U = ball.center["U"]

    def distance(moved):
        return torch.linalg.vector_norm((moved["W"] @ U[:, None])[..., 0], dim=-1)

    plain = torch.linalg.vector_norm(ball.center["W"] @ U) + 0.5 * torch.linalg.vector_norm(U)
    assert ascended(ball, distance, [0.5])[0] == pytest.approx(float(plain), rel=1e-6)


def test_an_entrywise_ball_has_directions_of_largest_entry_one():
    for make in (dense, diagonal):
        ball = Ball(make(), norm="entrywise")
        for name, direction in ball.random(generator(), 50).items():
            assert direction.shape == (1, 50, *ball.center[name].shape)
            torch.testing.assert_close(direction.abs().flatten(2).amax(2), torch.ones(1, 50, dtype=torch.float64))
    assert Ball(dense(), norm="entrywise").reach() == 4.0 and Ball(dense()).reach() == 1.0


def test_stability_radius_of_an_entrywise_ball_is_known_for_diagonals():
    assert Ball(diagonal(), norm="entrywise").stability_radius() == pytest.approx(0.2)
    assert np.isnan(Ball(dense(), norm="entrywise").stability_radius())
    assert Ball(dense(), ("U",), "entrywise").stability_radius() == np.inf
    one = models.LinearRNN([[-0.7]], [1.0], [1.0])
    assert Ball(one, norm="entrywise").stability_radius() == pytest.approx(0.7)


class TwoVectors(torch.nn.Module):
    diagonal_weights = ("rates",)

    def __init__(self):
        super().__init__()
        self.rates, self.readout = (torch.nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))


def test_any_module_may_name_vectors_that_are_diagonals():
    directions = Ball(TwoVectors()).random(generator(), 50)
    assert directions["rates"].abs().amax(-1) == pytest.approx(1.0)  # the spectral norm of a diagonal
    assert directions["readout"].norm(dim=-1) == pytest.approx(1.0)
