"""Sensitivity: how far each weight of a model may be pushed before its answer to inputs changes by a tenth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cmlib.arguments import Count, Inputs, Number, Source, count, positive, random_source, sequences
from cmlib.distances import SequenceDistance
from cmlib.parts import parts
from cmlib.sequence_maps import copied, evaluate, first, in_double, named
from cmlib.worst_case import Ball

if TYPE_CHECKING:
    Names: TypeAlias = Sequence[str] | None
else:
    Names = Any
FARTHEST = 1e3  # times the size of a weight: one that may be pushed further does not matter
CLOSE = 1.05  # between a push that is noticed and one that is not
ROUNDS, CLIMBS = 2, 3  # of an ascent at one size of the push, each of so many steps
GAIN = 1.01  # by which a step has to gain for another
AHEAD = 0.7  # of the largest error, below which a direction is not followed further


@dataclass(frozen=True)
class Sensitivity:
    """How far one weight may be pushed before the model's answer to inputs changes by a given share.

    Args:
        name: of the weight.
        part: name of the part to which it belongs; None outside of all.
        role: "recurrent", "input", "readout" or "bias" of such a part; elsewhere "bias" or "other".
        size: its spectral norm, the largest entry of a declared diagonal, the Euclidean norm of a vector.
        random: the least push, in that norm, found in random directions; inf where none is noticed.
        worst: the least push found in all, by ascent; no more than `random`, and no less than what would be the least.

    >>> model, x = models.LinearRNN([-0.5], [1.0], [2.0]), inputs.heaviside(40)
    >>> [(row.name, row.role, round(row.worst, 2)) for row in cmlib.sensitivity(model, x)]
    [('W', 'recurrent', 0.05), ('U', 'input', 0.1), ('c', 'readout', 0.2)]
    """

    name: str
    part: str | None
    role: str
    size: float
    random: float
    worst: float

    @property
    def relative(self) -> float:
        """The least push over the size of the weight; nan for one of size 0."""
        return self.worst / self.size if self.size > 0 else math.nan


def sensitivity(
    model: Any,
    inputs: Inputs,
    *,
    share: Number = 0.1,
    weights: Names = None,
    n_directions: Count = 4,
    generator: Source = None,
) -> list[Sensitivity]:
    """Return, for each weight, the least push found that changes the answer to inputs by a share of its size.

    Answers are H(x) - H(0): what a push does to the answer to no input is a shift of the output and no change of
    memory, and does not count. Sizes are sup over inputs and times of |H(x) - H(0)| / |x|. Weights come first, the most
    sensitive ahead, then biases.

    Args:
        model: an nn.Module (batch, time, d_in) -> (batch, time, d_out); it is not changed.
        inputs: (batch, time, d_in), no sequence of them 0.
        share: > 0.
        weights: names of those that are looked at; None takes all that are trained.
        n_directions: random ones for each weight.
        generator: of the directions; None takes one with seed 0.

    Raises:
        ValueError: on a model without weights or without an answer, names that are none, or bad inputs.

    Reference: wang2024inverse, Def. 3.4

    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), models.SSM([-0.5], [1.0], [1.0]), torch.nn.Linear(1, 1))
    >>> rows = cmlib.sensitivity(model, inputs.heaviside(40))
    >>> rows[-1].name, rows[-1].worst  # it shifts the output, which is no memory
    ('2.bias', inf)
    """
    share, n_directions = positive("share", share), count("n_directions", n_directions)
    generator = random_source("generator", generator)
    x = sequences("inputs", inputs).detach().cpu().double()
    if not torch.isfinite(x).all() or not x.numel() or (x.abs().amax((1, 2)) == 0).any():
        raise ValueError("expected finite inputs of which no sequence is 0")
    known = model.named_parameters() if isinstance(model, nn.Module) else ()
    trained = [named(name) for name, w in known if w.requires_grad]
    names = trained if weights is None else [named(name) for name in weights]
    if not names or not set(names) <= set(trained):
        raise ValueError(f"expected weights out of {trained}, got {names}")
    answer = _Answer(model)
    level = float((evaluate(answer, x).abs().amax((1, 2)) / x.abs().amax((1, 2))).max())
    if not level > 0:
        raise ValueError("expected a model that answers these inputs otherwise than none")
    distance = SequenceDistance(answer, copied(answer), x, "sup")
    owners = {name: (part.name, role) for part in parts(model) for name, role in part.weights.items()}
    rows = []
    for inner, name in zip((n for n, _ in answer.named_parameters()), answer.names, strict=True):
        if name in names:
            part, role = owners.get(name, (None, "bias" if "bias" in name.split(".")[-1] else "other"))
            ball = Ball(answer, [inner])
            size = float(ball._size(inner, ball.center[inner][None, None]).amax())
            random, worst = _least_pushes(ball, distance, share * level, size or 1.0, n_directions, generator)
            rows.append(Sensitivity(name, part, role, size, random, worst))
    return sorted(rows, key=lambda row: (row.role == "bias", row.worst))


class _Answer(nn.Module):
    # what a model says beyond its answer to no input, with weights that are all real
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = in_double(model)
        known = {id(w): name for name, w in zip(_names(model), self.model.parameters(), strict=True)}
        for module in list(self.model.modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                if weight.is_complex():
                    own = known[id(weight)]
                    parametrize.register_parametrization(module, name, _Complex(), unsafe=True)
                    known[id(module.parametrizations[name].original0)] = own
        self.names = [known[id(w)] for w in self.model.parameters()]
        # eigenvalues move along diagonals
        declared = [
            part for part in parts(model) if part.spectrum is not None and getattr(part.module, "diagonal", True)
        ]
        diagonal = {name for part in declared for name, role in part.weights.items() if role == "recurrent"}
        inner = [name for name, _ in self.named_parameters()]
        self.diagonal_weights = [name for name, own in zip(inner, self.names, strict=True) if own in diagonal]

    def forward(self, x: Tensor) -> Tensor:
        y = first(self.model(torch.cat([x, torch.zeros_like(x[:1])])))
        return y[:-1] - y[-1:]


class _Complex(nn.Module):
    def forward(self, pair: Tensor) -> Tensor:
        return torch.view_as_complex(pair.contiguous())

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        return (torch.view_as_real(weight.resolve_conj()).clone(),)  # a single one would have to keep its dtype


def _names(model: nn.Module) -> list[str]:
    return [named(name) for name, _ in model.named_parameters()]


def _least_pushes(
    ball: Ball, distance: SequenceDistance, level: float, scale: float, n: int, generator: torch.Generator
) -> tuple[float, float]:
    """Return the least push of one weight that is noticed in n random directions, and after an ascent from the best."""
    (name,) = ball.weights

    def errors(beta: float, ways: Tensor) -> Tensor:
        return ball.errors(distance, _radius(beta), {name: ways}).detach()[0]

    def higher(beta: float, ways: Tensor) -> tuple[Tensor, Tensor]:
        value, vertex = ball._value_and_vertex(distance, _radius(beta), {name: ways})
        return value[0], vertex[name]

    random, ways = _least(errors, ball.random(generator, n)[name], level, 0.1 * scale, FARTHEST * scale)
    if math.isinf(random):
        return random, random
    # ascents from the best of them and from the weight itself, grown and shrunk
    grown, worst = ball.center[name][None, None] / scale, random
    ways = torch.cat([ways[:, :1], grown, -grown], 1)
    for _ in range(ROUNDS):
        found, vertex = higher(worst, ways)
        for _ in range(CLIMBS):
            value, further = higher(worst, vertex)
            better, before = value > found, float(found.max())
            ways = torch.where(better.reshape(-1, *(1,) * (ways.ndim - 2)), vertex, ways)
            found = torch.maximum(value, found)
            ahead = found >= AHEAD * found.max()
            ways, vertex, found = ways[:, ahead], further[:, ahead], found[ahead]
            if not float(found.max()) > GAIN * before:
                break
        start = worst * max(level / float(found.max()), 0.1)
        least, ways = _least(errors, ways, level, start, FARTHEST * scale)
        worst = min(worst, least)
    return random, worst


def _radius(beta: float) -> Tensor:
    return torch.tensor([beta], dtype=torch.float64)


def _least(
    errors: Callable[[float, Tensor], Tensor], ways: Tensor, level: float, beta: float, farthest: float
) -> tuple[float, Tensor]:
    """Return a push at which the largest of errors that grow with it has come to a level, which it has not much before.

    And the ways that have not fallen behind, the best first.
    """
    below, noticed = 0.0, math.inf
    while noticed > CLOSE * below and below < farthest:
        each = errors(beta, ways)
        found = float(each.max())
        below, noticed = (below, beta) if found >= level else (beta, noticed)
        order = each.argsort(descending=True)
        ways = ways[:, order[each[order] >= AHEAD * found]]
        # an error that is proportional to the push is met from both sides at once
        guess = beta * (level / found if found > 0 else math.inf) * (CLOSE**-0.4 if found >= level else CLOSE**0.4)
        guess = min(max(guess, beta / 10), beta * 10)
        apart = below < guess < noticed and noticed > CLOSE**2 * below
        beta = guess if apart else math.sqrt(below * noticed)
    return noticed, ways
