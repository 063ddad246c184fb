"""The zoo: small sequence maps whose memory is known, to try a probe on before its verdicts are believed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmlib import kernels, models, targets
from cmlib.adapters import adapt
from cmlib.decay import Decay
from cmlib.sequence_maps import linear_scan

INPUTS = ("heaviside", "impulse", "removed")
# the inputs that `memory_function` tries on its own
EITHER = torch.tensor([[-10.0], [-1.0], [-0.1], [0.1], [1.0], [10.0]], dtype=torch.float64)
CLOSE = 0.05  # a rate is right this near to the known one, relatively, or where its interval holds that
NEAR = 1.25  # times the slowest rate
SETTLE = 20_000  # steps within which a recurrent layer has to come to rest


@dataclass(frozen=True)
class Known:
    """What is known of a memory: its kind, and the number that goes with that where there is a formula.

    Args:
        kind: as in `cmlib.Decay`, or "refused" for a model that no memory can be told of.
        value: rate, exponent, last lag, level or period; nan where the kind is all that is known.
        also: kinds that are right on the windows at hand as well.
        upto: largest rate of the modes within NEAR of the slowest: rounding may come before that one is alone, so that
            a rate in between is right; nan where there are none.
    """

    kind: str
    value: float = math.nan
    also: tuple[str, ...] = ()
    upto: float = math.nan

    def judge(self, found: Decay) -> str:
        """Return whether a verdict is "right", "undecided" or "wrong"; numbers within its interval or a twentieth."""
        if found.kind == "undecided":
            return "undecided"
        if found.kind != self.kind or math.isnan(self.value):
            return "right" if found.kind in (self.kind, *self.also) else "wrong"
        value, (low, high) = number(found), interval(found)
        close, upto = 0.0 if found.kind == "finite" else CLOSE * abs(self.value), max(self.value, self.upto)
        return "right" if self.value - close <= value <= upto + close or low <= self.value <= high else "wrong"


NUMBERS = {"exponential": "rate", "polynomial": "exponent", "finite": "lag", "plateau": "level", "periodic": "period"}


def number(found: Decay) -> float:
    """Return the number that goes with a kind of decay, nan where none does."""
    return float(getattr(found, NUMBERS[found.kind])) if found.kind in NUMBERS else math.nan


def interval(found: Decay) -> tuple[float, float]:
    """Return the interval of that number, nan where it has none."""
    return getattr(found, f"{NUMBERS.get(found.kind)}_interval", (math.nan, math.nan))


@dataclass(frozen=True)
class Animal:
    """A sequence map and what is known of it.

    Args:
        make: seed -> the map, in double precision; the seed is of its weights, if these are random.
        known: map -> kind of input -> what its memory is, over the inputs that `options` name; kinds of input of which
            nothing is known are left out.
        how: why.
        d_in: its input channels.
        options: of `memory_function` and `report`, besides their defaults.
        random: whether another seed gives another map.
    """

    make: Callable[..., Any]
    known: Callable[[Any], dict[str, Known]]
    how: str
    d_in: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    random: bool = False


def filled(module: Any, seed: int) -> Any:
    """Return a module in double precision, its weights uniform within 1 / sqrt(inputs), its biases within 0.1."""
    generator = torch.Generator().manual_seed(seed)
    for weight in module.double().parameters():
        bound = 0.1 if weight.ndim == 1 else weight[0].numel() ** -0.5
        weight.data = bound * (2 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1)
    return module


class Taps(nn.Module):
    """y_k = sum_j taps_j x_{k-j}: a delay, a moving average."""

    def __init__(self, taps: Tensor):
        super().__init__()
        self.taps = nn.Parameter(taps.double())

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x.mT, (len(self.taps) - 1, 0))
        return functional.conv1d(padded, self.taps.flip(0)[None, None]).mT


def delay(steps: int) -> Taps:
    return Taps(functional.one_hot(torch.tensor(steps)))


class TCN(nn.Module):
    """Convolutions over 3 steps that lie 1, 2, 4, … apart, each behind a tanh and added to what came in.

    Reference: bai2018empirical
    """

    def __init__(self, depth: int = 6, channels: int = 8):
        super().__init__()
        self.first, self.last = nn.Conv1d(1, channels, 1), nn.Conv1d(channels, 1, 1)
        self.layers = nn.ModuleList(nn.Conv1d(channels, channels, 3, dilation=2**i) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.mT)
        for i, layer in enumerate(self.layers):
            h = h + torch.tanh(layer(functional.pad(h, (2 * 2**i, 0))))
        return self.last(h).mT


class LRU(nn.Module):
    """A linear recurrent unit: h = Lambda h + gamma B x, y = Re(C h) + D x, moduli of Lambda within a ring.

    Reference: orvieto2023resurrecting
    """

    def __init__(self, seed: int = 0, modes: int = 64, ring: tuple[float, float] = (0.9, 0.999)):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        uniform, phase = torch.rand(2, modes, generator=generator, dtype=torch.float64)
        radius = (ring[0] ** 2 + uniform * (ring[1] ** 2 - ring[0] ** 2)) ** 0.5
        self.nu_log = nn.Parameter(torch.log(-torch.log(radius)))
        self.theta_log = nn.Parameter(torch.log(math.pi * phase))
        self.B, self.C = (nn.Parameter(v) for v in torch.randn(2, modes, 2, generator=generator, dtype=torch.float64))
        self.D = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def eigenvalues(self) -> Tensor:
        return torch.exp(torch.complex(-torch.exp(self.nu_log), torch.exp(self.theta_log)))

    def forward(self, x: Tensor) -> Tensor:
        eigenvalues = self.eigenvalues()
        B = (1 - eigenvalues.abs() ** 2) ** 0.5 * torch.view_as_complex(self.B)
        h = recurrence(eigenvalues, B * x)
        return (h @ torch.view_as_complex(self.C)).real[..., None] + self.D * x


class S5(nn.Module):
    """One state-space model for all channels: eigenvalues (-1/2 + i pi n) step_n, a gelu behind it.

    Reference: smith2023simplified
    """

    def __init__(self, seed: int = 0, channels: int = 2, modes: int = 8):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.log_step = nn.Parameter(torch.rand(modes, generator=generator, dtype=torch.float64) * math.log(5) - 3)
        self.log_rate = nn.Parameter(torch.full((modes,), math.log(0.5), dtype=torch.float64))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes, dtype=torch.float64))
        self.B, self.C, self.D = normal(channels, modes, 2), normal(modes, channels, 2), normal(channels)

    def eigenvalues(self) -> Tensor:
        return torch.exp(torch.complex(-torch.exp(self.log_rate), self.frequency) * torch.exp(self.log_step))

    def forward(self, x: Tensor) -> Tensor:
        B = torch.exp(self.log_step) * torch.view_as_complex(self.B)
        h = recurrence(self.eigenvalues(), x.to(B.dtype) @ B)
        return functional.gelu((h @ torch.view_as_complex(self.C)).real + self.D * x)


def recurrence(A: Tensor, drive: Tensor) -> Tensor:
    """Return h_k = A h_{k-1} + drive_k, step by step, as `linear_scan` takes no complex numbers."""
    h, states = torch.zeros_like(drive[:, 0]), []
    for drive_k in drive.unbind(1):
        h = A * h + drive_k
        states.append(h)
    return torch.stack(states, 1)


class RGLRU(nn.Module):
    """A gated linear recurrent unit: h = a h + sqrt(1 - a^2) i u, a = exp(-8 softplus(w) r), gates r and i of u.

    Reference: de2024griffin
    """

    def __init__(self, seed: int = 0, channels: int = 4):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        uniform, *others = torch.rand(5, channels, generator=generator, dtype=torch.float64)
        self.w = nn.Parameter(torch.log(torch.expm1((0.05 + 0.2 * uniform) / 8)))  # 8 softplus(w) in [0.05, 0.25]
        self.U, self.enter, self.C, recur = (nn.Parameter(2 * v - 1) for v in others)
        self.recur = nn.Parameter(0.2 * recur.detach())

    def rates(self, x: Any) -> Tensor:
        """Return -log a of each channel, under an input (…, 1)."""
        return 8 * functional.softplus(self.w) * torch.sigmoid(self.recur * self.U * x)

    def forward(self, x: Tensor) -> Tensor:
        a, u = torch.exp(-self.rates(x)), self.U * x
        return (linear_scan(a, (1 - a**2) ** 0.5 * torch.sigmoid(self.enter * u) * u) @ self.C)[..., None]


class Selective(nn.Module):
    """One selective channel: h = A h + (1 - A) x, A = exp(-rate softplus(v x + b)).

    Reference: gu2023mamba, Sec. 3
    """

    def __init__(self, rate: float = 0.5, v: float = 1.0, b: float = 0.0):
        super().__init__()
        numbers = torch.tensor([math.log(rate), v, b], dtype=torch.float64)
        self.w, self.v, self.b = (nn.Parameter(number) for number in numbers)

    def speed(self, x: Any) -> Tensor:
        """Return -log A under an input."""
        return torch.exp(self.w) * functional.softplus(self.v * x + self.b)

    def forward(self, x: Tensor) -> Tensor:
        A = torch.exp(-self.speed(x))
        return linear_scan(A, (1 - A) * x)


class DeltaNet(nn.Module):
    """S = S (I - beta k k^T) + beta v k^T, y = S q; values are numbers, and beta begins near 1.9: an eigenvalue -0.9.

    Reference: grazzi2025unlocking
    """

    def __init__(self, seed: int = 0, keys: int = 4):
        super().__init__()
        self.query, self.key = nn.Linear(1, keys), nn.Linear(1, keys)
        self.value, self.beta = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
        filled(self, seed)
        self.beta.weight.data *= 0.1
        self.beta.bias.data += 2.9

    def step(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return query, key, value and beta of inputs (…, 1)."""
        beta = 2 * torch.sigmoid(self.beta(x))
        return self.query(x), functional.normalize(self.key(x), dim=-1), self.value(x), beta

    def forward(self, x: Tensor) -> Tensor:
        S, outputs = torch.zeros(len(x), self.key.out_features, dtype=x.dtype), []
        for q, k, v, beta in zip(*(part.unbind(1) for part in self.step(x)), strict=True):
            S = S + beta * (v - (S * k).sum(-1, keepdim=True)) * k
            outputs.append((S * q).sum(-1, keepdim=True))
        return torch.stack(outputs, 1)


class WithHead(nn.Module):
    """A recurrent layer of torch inside a module, and a linear readout of its states."""

    def __init__(self, core: nn.RNNBase):
        super().__init__()
        self.core, self.head = core, nn.Linear(core.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(x)[0])


def remembering(core: nn.RNNBase, seed: int) -> WithHead:
    """An LSTM or a GRU whose gate of forgetting begins open, as is the custom, and its readout."""
    model, m = filled(WithHead(core), seed), core.hidden_size
    model.core.bias_ih_l0.data[m : 2 * m] += 1.0  # torch's order: input, forget, cell, output; reset, update, new
    return model


def reservoir(seed: int, radius: float, units: int = 100) -> WithHead:
    """A tanh network without biases whose random recurrent weight has this spectral radius, and its readout.

    Reference: jaeger2001echo; sompolinsky1988chaos
    """
    model = filled(WithHead(nn.RNN(1, units, bias=False, batch_first=True)), seed)
    W = torch.randn(units, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    model.core.weight_hh_l0.data = radius * W / torch.linalg.eigvals(W).abs().max()
    return model


class Attention(nn.Module):
    """Causal attention of one head and a layer of gelu behind it, with linear biases, a table of positions or neither.

    Args:
        slope: what a step further back costs in the exponent.
        positions: the length of the table; 0 for none.

    Reference: press2022train
    """

    def __init__(self, slope: float = 0.0, positions: int = 0, width: int = 4):
        super().__init__()
        self.slope, self.embedding = slope, nn.Linear(1, width)
        self.table = nn.Embedding(positions, width) if positions else None
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(x.shape[1])
        h = self.embedding(x) if self.table is None else self.embedding(x) + self.table(time)
        back = time[:, None] - time
        scores = self.query(h) @ self.key(h).mT / h.shape[-1] ** 0.5 - self.slope * back
        return self.head(torch.softmax(scores.masked_fill(back < 0, -math.inf), -1) @ self.value(h))


def attention(seed: int, **options: Any) -> Attention:
    """Attention whose scores differ by a few at most over the inputs tried: else the largest input hides all others."""
    model = filled(Attention(**options), seed)
    model.embedding.weight.data *= 0.2
    return model


def integrator(x: Tensor) -> Tensor:
    return x.cumsum(1)


def memoryless(x: Tensor) -> Tensor:
    return torch.tanh(x)


Answers = dict[str, Known]


def same(kind: str, value: float = math.nan, inputs: tuple[str, ...] = INPUTS) -> Callable[[Any], Answers]:
    """Return `known` for a map whose memory is the same for these kinds of input."""
    return lambda _: {name: Known(kind, value) for name in inputs}


def slowest(rates: Tensor) -> Known:
    """Return an exponential at the slowest of these rates."""
    rates = rates.detach().flatten()
    return Known("exponential", float(rates.min()), upto=float(rates[rates <= NEAR * rates.min()].max()))


def fades(rates: Tensor) -> Answers:
    return {name: slowest(rates) for name in INPUTS}


def modes(model: Any) -> Answers:
    return fades(-torch.log(model.eigenvalues().abs()))


def rates_at_rest(model: nn.Module) -> Tensor:
    """Return the rates at which the recurrent layer in a module comes to rest.

    Raises:
        ValueError: where it does not.
    """
    layer: Any = next(module for module in model.modules() if isinstance(module, nn.RNNBase))
    lstm, silence = isinstance(layer, nn.LSTM), torch.zeros(1, 1, 1, dtype=torch.float64)

    def step(state: Tensor) -> Tensor:
        new = layer(silence, tuple(state.split(1)) if lstm else state)[1]
        return torch.cat(new) if lstm else new

    state = torch.zeros(1 + lstm, 1, layer.hidden_size, dtype=torch.float64)
    for _ in range(SETTLE):
        state, last = step(state).detach(), state
        if (state - last).abs().max() < 1e-14:
            J: Any = torch.autograd.functional.jacobian(step, state)
            return -torch.log(torch.linalg.eigvals(J.reshape(state.numel(), -1)).abs())
    raise ValueError(f"expected a layer that comes to rest within {SETTLE} steps")


def settles(model: nn.Module) -> Answers:
    # under a step other rates hold, those at rest under each amplitude; which of them is seen depends on the weights
    return fades(rates_at_rest(model)) | {"heaviside": Known("exponential")}


def gated(model: RGLRU) -> Answers:
    return fades(model.rates(0.0)) | {"heaviside": slowest(model.rates(EITHER))}


def selective(steps: Known) -> Callable[[Selective], Answers]:
    return lambda model: fades(model.speed(0.0)) | {"heaviside": steps}


def associative(model: DeltaNet) -> Answers:
    with torch.no_grad():
        (q0, k0, _, beta0), (_, k, v, beta) = model.step(torch.zeros_like(EITHER)), model.step(EITHER)
    # of what an impulse leaves, silence overwrites what lies along its own key
    stays = beta * v * ((k - (k * k0).sum(-1, keepdim=True) * k0) * q0).sum(-1, keepdim=True)
    return {
        "heaviside": slowest(-torch.log((1 - beta).abs())),
        "impulse": Known("plateau", float((stays / EITHER).abs().max())),
        "removed": slowest(-torch.log((1 - beta0).abs())),
    }


GROWING = torch.linspace(-10.0, 2.0, 120, dtype=torch.float64)  # rates of the selective layer from 2e-5 to 1
LINEAR = "a linear map: its impulse response can be written down"

ZOO = {
    "memoryless": Animal(lambda seed=0: memoryless, same("finite", 0), "tanh(x) looks at one step"),
    "delay of 50": Animal(lambda seed=0: delay(50), same("finite", 50), LINEAR),
    "delay of 150": Animal(lambda seed=0: delay(150), same("finite", 150), LINEAR),
    "moving average": Animal(lambda seed=0: Taps(torch.ones(20) / 20), same("finite", 19), LINEAR),
    "TCN": Animal(
        lambda seed=0: filled(TCN(), seed),
        same("finite", 126),
        "the receptive field: 1 + 2 (1 + 2 + 4 + 8 + 16 + 32) = 127 steps",
        random=True,
    ),
    "integrator": Animal(lambda seed=0: integrator, same("plateau", 1.0, INPUTS[:2]), LINEAR),
    "oscillator": Animal(
        lambda seed=0: models.LinearRNN([[0.0, -math.pi / 11], [math.pi / 11, 0.0]], [1.0, 0.0], [1.0, 0.0]),
        same("periodic", 11.0),
        "a linear map: its impulse response is a cosine of period 22, of which M takes the size",
    ),
    "damped oscillator": Animal(
        lambda seed=0: models.LinearRNN([[-0.03, -0.3], [0.3, -0.03]], [1.0, 0.0], [1.0, 0.0]),
        same("exponential", 0.03),
        "the eigenvalues -0.03 +- 0.3 i",
    ),
    "leaky integrator": Animal(
        lambda seed=0: models.LinearRNN([-0.05], [1.0], [1.0]), same("exponential", 0.05), "its one eigenvalue"
    ),
    "three exponentials": Animal(
        lambda seed=0: models.LinearRNN([-0.02, -0.1, -0.5], [1.0, 1.0, 1.0], [1.0, -2.0, 4.0]),
        same("exponential", 0.02),
        "the slowest of its eigenvalues",
    ),
    "power law": Animal(
        lambda seed=0: targets.LinearFunctional(kernels.Polynomial(1.5)),
        same("polynomial", 1.5, INPUTS[:2]),
        "a linear map: it convolves with (1 + t)^-1.5",
    ),
    "LRU": Animal(LRU, modes, "the largest of its eigenvalues", random=True),
    "S4D": Animal(
        lambda seed=0: models.S4D(1, 8, steps=(0.05, 0.2), generator=torch.Generator().manual_seed(seed)),
        lambda model: fades(-model.eigenvalues().real),
        "the largest of its eigenvalues, as what follows them has no memory",
        random=True,
    ),
    "S5": Animal(S5, modes, "the largest of its eigenvalues, as the gelu has no memory", 2, random=True),
    "RG-LRU": Animal(RGLRU, gated, "a constant input holds the gates: the slowest channel's rate there", random=True),
    "selective, |x| <= 2": Animal(
        lambda seed=0: Selective(),
        selective(Known("exponential", 0.5 * math.log1p(math.exp(-2.0)))),
        "the step holds the gate: the rate s(-2) of the input that is held best",
        options={"amplitudes": (-2.0, -1.0, -0.1, 0.1, 1.0, 2.0)},
    ),
    "selective, |x| grows": Animal(
        lambda seed=0: Selective(),
        selective(Known("polynomial", 1.0)),
        "the largest of s e^{-st} over all rates s is 1 / (e t)",
        options={"amplitudes": GROWING},
    ),
    "DeltaNet": Animal(
        DeltaNet,
        associative,
        "a constant input holds the key: the eigenvalue 1 - beta; across it nothing is overwritten",
        random=True,
    ),
    "echo state, radius 0.9": Animal(
        lambda seed=0: reservoir(seed, 0.9),
        settles,
        "the eigenvalues of its step at rest",
        random=True,
    ),
    "echo state, radius 2": Animal(
        lambda seed=0: reservoir(seed, 2.0),
        same("none"),
        "a positive Lyapunov exponent",
        random=True,
    ),
    "chaotic tanh": Animal(
        lambda seed=0: reservoir(seed, 3.0).core,
        lambda _: {name: Known("none", also=("plateau",)) for name in INPUTS},
        "a positive Lyapunov exponent; of a hundred outputs one or another is always at its bound",
        random=True,
    ),
    "LSTM with head": Animal(
        lambda seed=0: remembering(nn.LSTM(1, 8, batch_first=True), seed),
        settles,
        "the eigenvalues of its step at rest",
        random=True,
    ),
    "GRU, time first": Animal(
        lambda seed=0: remembering(nn.GRU(1, 8), seed),
        same("refused"),
        "it takes the batch for time",
        random=True,
    ),
    "GRU, adapted": Animal(
        lambda seed=0: adapt(ZOO["GRU, time first"].make(seed), time_first=True),
        settles,
        "the eigenvalues of its step at rest",
        random=True,
    ),
    "attention": Animal(
        lambda seed=0: attention(seed),
        lambda _: {"heaviside": Known("polynomial", 2.0), "impulse": Known("polynomial", 1.0)},
        "an impulse is one of t steps that attention divides itself among",
        random=True,
    ),
    "attention, linear biases": Animal(
        lambda seed=0: attention(seed, slope=0.1),
        same("exponential", 0.1),
        "what lies t back has a share of e^{-slope t}",
        random=True,
    ),
    "attention, 512 positions": Animal(
        lambda seed=0: attention(seed, positions=512),
        lambda _: {"impulse": Known("none", also=("polynomial", "plateau"))},
        "as without positions, but for factors from its table; the table ends before anything is forgotten",
        random=True,
    ),
}
