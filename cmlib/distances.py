"""Distances: ||H - Hhat|| for many perturbed networks at once.

Linear networks and kernels: exact, over all inputs. Any other sequence map: over given inputs.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from cmlib.arguments import Number, positive
from cmlib.clamped_loop import compiled, has_compiler
from cmlib.kernels import KernelLike
from cmlib.models.recurrent import is_recurrent
from cmlib.parameterizations import matrix_exponential
from cmlib.preflight import precisions
from cmlib.sequence_maps import copied, evaluate, evaluating, first, in_precision

MOST_POINTS_PER_OCTAVE = 512
MOST_OCTAVES = 48
MOST_NUMBERS = 2**24  # held at once by a batch of networks: 128 MiB, some four times that with what torch needs around
IN_CACHE = 2**21  # the same where nothing is kept for a gradient: whole networks, as many as stay near the processor
CHECKPOINTS = torch.__version__ >= "2.5"  # compared as versions; before, torch knows no checkpoint around vmap
LANES = 32  # sequences that the compiled loop takes together
FEW = 4  # sequences through all of which a gradient is as fast as through those where a supremum is reached
PROBED = 32  # steps on which it is compared with the model itself


class KernelDistance:
    """Norms of rho - c^T e^{Wt} U for a batch of weights W, U, c, from exact antiderivatives on a graded grid.

    The grid has as many points in every octave of time, so that e^{Wt} U follows by doubling: 32, or enough to follow
    an oscillating network until it has decayed. The error is in where the difference changes sign, of fourth order
    in the step, and in pairs of sign changes between two points or across a jump of rho.
    """

    def __init__(self, kernel: KernelLike, model: nn.Module, norm: str, horizon: float, beta: float):
        self.realization = _Realization(copied(model).cpu().double())
        W = self.realization()[0].detach()
        rates = -torch.linalg.eigvals(W).real
        self.norm, self.horizon = norm, horizon
        slowest = float(rates.min())
        end = horizon if np.isfinite(horizon) else 1e4 / slowest if slowest > 0 else 1.0
        self.mass = float(kernel.tail(0.0)) if np.isinf(horizon) else np.nan
        fastest = max(float(W.norm()), abs(float(kernel(0.0))) / kernel.l1_norm(horizon))
        self.octaves = int(np.clip(np.ceil(np.log2(max(end * 4 * fastest, 1.0))), 10, MOST_OCTAVES))
        first = end / 2**self.octaves
        # modes perturbed by beta turn faster by at most beta: an eighth of a turn a step, until e^{-16} is left
        frequency = float(torch.linalg.eigvals(W).imag.abs().max())
        lasts = min(16.0 / (slowest - beta), end) if slowest > beta else end
        needed = (frequency + beta) * lasts * 4 / np.pi if frequency > 0 else 0.0
        self.follows = needed <= MOST_POINTS_PER_OCTAVE
        self.doublings = int(np.ceil(np.log2(np.clip(needed, 32, MOST_POINTS_PER_OCTAVE))))
        self.points = 2**self.doublings
        panels = [np.arange(self.points) / self.points * first]
        panels += [first * 2**j * (1 + np.arange(self.points) / self.points) for j in range(self.octaves)]
        t = torch.as_tensor(np.append(np.concatenate(panels), end))
        self.step = first / self.points
        self.dt = torch.diff(t)
        # the kernel, its integral from 0 to t, and (for w1) its derivative
        t.requires_grad_(norm == "w1")
        self.rho = kernel(t)
        self.slope = torch.autograd.grad(self.rho.sum(), t)[0] if norm == "w1" else None
        self.rho, t = self.rho.detach(), t.detach()
        self.integral = torch.as_tensor(kernel.integral(t.numpy()))

    def __call__(self, moved: dict[str, Tensor]) -> Tensor:
        batch = next(iter(moved.values())).shape[:2]
        flat = {f"model.{name}": value.flatten(0, 1) for name, value in moved.items()}
        found = vmap(lambda one: functional_call(self.realization, one, ()))(flat)
        W, U, c = (value.unflatten(0, batch) for value in found)
        state, integral = self._states(W, U)  # (..., m, time)
        rho = (c[..., None, :] @ state)[..., 0, :]
        difference = self.rho - rho
        gap = self.integral - (c[..., None, :] @ integral)[..., 0, :]
        error = self._variation(gap, difference)
        if self.norm == "w1":
            slope = self.slope - (c[..., None, :] @ (W @ state))[..., 0, :]
            error = error + difference[..., 0].abs() + self._variation(difference, slope)
        if np.isinf(self.horizon):
            total = self.mass + (c * torch.linalg.solve_ex(W, U).result).sum(-1)  # inf where W is singular
            error = error + (total - gap[..., -1]).abs()
            if self.norm == "w1":
                error = error + difference[..., -1].abs()
            unstable = torch.linalg.eigvals(W.detach()).real.amax(-1) >= 0
            error = torch.where(unstable, torch.inf, error)
        return torch.where(torch.isfinite(error), error, torch.inf)

    def _states(self, W: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
        # columns e^{Wt} U and its integral from 0, both from powers of the exponential of [[W, U], [0, 0]]
        m = W.shape[-1]
        block = torch.cat([torch.cat([W, U[..., None]], -1), W.new_zeros(*W.shape[:-2], 1, m + 1)], -2)
        last = torch.zeros_like(block[..., 0])
        last[..., m] = 1.0
        start = torch.stack([torch.cat([U, torch.zeros_like(U[..., :1])], -1), last], -1)
        powers = [matrix_exponential(self.step * block)]
        doublings = self.doublings
        for _ in range(doublings + self.octaves):
            powers.append(powers[-1] @ powers[-1])
        panels = []
        for j in range(-1, self.octaves):
            first = max(j, 0)
            states = start if j < 0 else powers[doublings + j] @ start
            states = states[..., None, :]  # (..., m + 1, time, 2)
            for k in range(doublings):
                flat = powers[first + k] @ states.flatten(-2)
                states = torch.cat([states, flat.unflatten(-1, states.shape[-2:])], -2)
            panels.append(states)
        panels.append((powers[doublings + self.octaves] @ start)[..., None, :])
        states = torch.cat(panels, -2)
        return states[..., :m, :, 0], states[..., :m, :, 1]

    def _variation(self, values: Tensor, slopes: Tensor) -> Tensor:
        # int |slopes|, where values' = slopes: |differences| of values between the sign changes of slopes
        left, right, a, b = values[..., :-1], values[..., 1:], slopes[..., :-1], slopes[..., 1:]
        crosses = a * b < 0
        x = torch.where(crosses, a / torch.where(crosses, a - b, 1.0), 0.5).detach()
        hermite = (
            (1 + 2 * x) * (1 - x) ** 2 * left
            + x * (1 - x) ** 2 * self.dt * a
            + x**2 * (3 - 2 * x) * right
            - x**2 * (1 - x) * self.dt * b
        )
        split = (hermite - left).abs() + (right - hermite).abs()
        return torch.where(crosses, split, (right - left).abs()).sum(-1)


class _Realization(nn.Module):
    # (W, U, c) of a model as the output of a module, which torch can evaluate at other weights
    model: Any  # of a module torch knows tensors and modules alone, and not what it declares

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.realization()


class SequenceDistance:
    """sup_t sup_x |H_t(x) - Hhat_t(x)| / |x| over given inputs x, for a batch of weights, plus that of d/dt for "w1".

    For "mse" the mean of |H_t(x) - Hhat_t(x)|^2 over inputs, times and channels.

    One batched computation for as many networks as fit; recurrent layers of torch, which cannot be batched, go one by
    one. A model of one channel that declares a clamp takes a compiled loop, once that loop has given what `forward`
    gives. Of a supremum over many sequences a gradient goes through those alone where it is reached.
    """

    follows = False  # given inputs are some of all

    def __init__(self, model: nn.Module, target: Callable, inputs: Tensor, norm: str, dt: Number | None = None):
        self.model: Any = model  # and what it declares
        self.norm = norm
        own = self.model.dt if is_recurrent(self.model) else 1.0
        self.dt = own if dt is None else positive("dt", dt)
        self.x = inputs.detach().cpu().double()
        place = next(target.parameters(), self.x).device if isinstance(target, nn.Module) else self.x.device
        try:
            y = evaluate(target, self.x.to(dtype=precisions(target)[0], device=place))
            self.y = in_precision(y.cpu(), torch.float64)
        except ValueError as error:
            raise ValueError(f"expected a target with finite outputs (batch, time, d_out): {error}") from error
        self.size = self.x.abs().amax((1, 2))  # (batch,)
        self.buffers = {name: in_precision(b.detach().cpu(), torch.float64) for name, b in model.named_buffers()}
        self.batchable = self._takes_a_batch()
        self.clamp: Any = getattr(model, "clamp", None) if is_recurrent(self.model) else None
        one_channel = self.x.shape[2] == self.y.shape[2] == 1
        self.compiled = bool(self.clamp) and one_channel and has_compiler() and self._loop_is_forward()

    def __call__(self, moved: dict[str, Tensor]) -> Tensor:
        batch = next(iter(moved.values())).shape[:2]
        flat = {name: value.flatten(0, 1) for name, value in moved.items()}  # (networks, *shape)
        asked = any(value.requires_grad for value in flat.values())
        if asked and (self.norm == "mse" or len(self.x) <= FEW):  # every sequence may have its part in the gradient
            return self._swept(flat)[0].reshape(batch)
        with torch.no_grad():
            errors, witnesses = self._compiled(flat) if self.compiled else self._swept(flat)
        if asked:
            errors = errors + self._gradient_of(flat, errors, witnesses)
        return errors.reshape(batch)

    def _swept(self, flat: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        # errors, and for each the time and the sequences where value and slope are largest: (networks,), (networks, 3)
        per_network, n_networks = self._numbers(flat), len(next(iter(flat.values())))
        sequences = max(1, min(len(self.x), MOST_NUMBERS // per_network))
        most = MOST_NUMBERS if torch.is_grad_enabled() else IN_CACHE
        networks = max(1, most // (per_network * sequences)) if self.batchable else 1
        measure, found = self._measured, []
        if torch.is_grad_enabled() and CHECKPOINTS and n_networks * len(self.x) * per_network > MOST_NUMBERS:
            measure = functools.partial(checkpoint, measure, use_reentrant=False)  # the graph of one part at a time
        for at in range(0, n_networks, networks):
            some = {name: value[at : at + networks] for name, value in flat.items()}
            parts = [measure(some, i, sequences) for i in range(0, len(self.x), sequences)]
            if self.norm == "mse":
                error = torch.stack(parts).sum(0) / len(self.x)
                found.append((error, torch.zeros(len(error), 3, dtype=torch.int64)))
                continue
            gaps, of_gap, slopes, of_slope = (torch.stack(kind) for kind in zip(*parts, strict=True))
            (gap, k), (slope, j) = gaps.max(0), slopes.max(0)  # (networks, time)
            error, time = (gap + slope).max(1)
            of_gap, of_slope = of_gap.gather(0, k[None])[0], of_slope.gather(0, j[None])[0]
            witness = [time, *(of.gather(1, time[:, None])[:, 0] for of in (of_gap, of_slope))]
            found.append((error, torch.stack(witness, 1)))
        errors, witnesses = (torch.cat(kind) for kind in zip(*found, strict=True))
        return torch.where(torch.isfinite(errors), errors, torch.inf), witnesses

    def _measured(self, weights: dict[str, Tensor], start: int, sequences: int) -> Any:
        # of some sequences: the sum of their mean squares, or the largest value and slope at each time and whose it is
        part = slice(start, start + sequences)
        difference = self._outputs(weights, self.x[part]) - self.y[part]  # (networks, batch, time, d_out)
        if self.norm == "mse":
            return difference.abs().square().mean((2, 3)).sum(1)
        gap, slope = (v.amax(3).max(1) for v in self._value_and_slope(difference / self.size[part, None, None]))
        return gap.values, gap.indices + start, slope.values, slope.indices + start

    def _value_and_slope(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        # per unit of time, and 0 before the input begins
        if self.norm == "sup":
            return difference.abs(), torch.zeros_like(difference, dtype=self.size.dtype)
        before = nn.functional.pad(difference, (0, 0, 1, 0))[..., :-1, :]
        return difference.abs(), (difference - before).abs() / self.dt

    def _gradient_of(self, flat: dict[str, Tensor], errors: Tensor, witnesses: Tensor) -> Tensor:
        # 0 with the gradient of a supremum, which is that of the sequences and the time where it is reached
        per_network = 2 * self._numbers(flat)
        networks = max(1, MOST_NUMBERS // per_network) if self.batchable else 1
        measure, found = self._at, []
        if CHECKPOINTS and len(errors) * per_network > MOST_NUMBERS:
            measure = functools.partial(checkpoint, measure, use_reentrant=False)
        for at in range(0, len(errors), networks):
            some = {name: value[at : at + networks] for name, value in flat.items()}
            found.append(measure(some, witnesses[at : at + networks]))
        value = torch.where(torch.isfinite(errors), torch.cat(found), 0.0)
        return value - value.detach()

    def _at(self, weights: dict[str, Tensor], witnesses: Tensor) -> Tensor:
        time, sequences = witnesses[:, 0], witnesses[:, 1:] if self.norm == "w1" else witnesses[:, 1:2]
        # (networks, 1 or 2, time, d_out)
        difference = self._outputs(weights, self.x[sequences], each=True) - self.y[sequences]
        value, slope = self._value_and_slope(difference / self.size[sequences][..., None, None])
        every = torch.arange(len(time))
        return value[every, 0, time].amax(1) + slope[every, -1, time].amax(1)

    def _numbers(self, flat: dict[str, Tensor]) -> int:
        return self.x.shape[1] * max(max(value.shape[1:], default=1) for value in flat.values())

    def _outputs(self, weights: dict[str, Tensor], x: Tensor, each: bool = False) -> Tensor:
        # (networks, batch, time, d_out) of one batch of inputs, or of one for each network
        def outputs(one: dict[str, Tensor], x: Tensor) -> Tensor:
            return first(functional_call(self.model, one | self.buffers, (x,)))

        with evaluating(self.model), _plain_attention():
            if self.batchable:
                return vmap(outputs, in_dims=(0, 0 if each else None), randomness="error")(weights, x)
            return outputs({name: value[0] for name, value in weights.items()}, x[0] if each else x)[None]

    def _on_a_probe(self) -> tuple["SequenceDistance", dict[str, Tensor]]:
        # the same distance on the first steps of two sequences, and the model's own weights
        probe = copy.copy(self)
        probe.x, probe.size, probe.norm = self.x[:2, :PROBED], self.size[:2], "sup"
        probe.y, probe.batchable = torch.zeros_like(self.y[:2, :PROBED]), False
        return probe, {
            name: in_precision(w.detach().cpu(), torch.float64)[None] for name, w in self.model.named_parameters()
        }

    def _takes_a_batch(self) -> bool:
        # recurrent layers of torch do not, nor does a forward that looks at its numbers
        probe, weights = self._on_a_probe()
        probe.batchable = True
        try:
            with torch.no_grad():
                probe._outputs(weights, probe.x)
                probe._outputs(weights, probe.x[None], each=True)
        except RuntimeError:
            return False
        return True

    def _loop_is_forward(self) -> bool:
        # a subclass may have inherited the clamp and changed the step: then the loop is not its step
        model = self.model
        probe, weights = self._on_a_probe()
        if set(weights) != {model.recurrent_weight, model.input_weight, model.readout_weight, model.bias_weight}:
            return False
        with torch.no_grad():
            wanted = probe._swept(weights)[0]
        return bool(torch.isclose(probe._compiled(weights)[0], wanted, rtol=1e-9, atol=1e-12).all())

    def _compiled(self, flat: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        model = self.model
        flat = flat | {model.recurrent_weight: model.parameterization(flat[model.recurrent_weight])}
        names = (model.recurrent_weight, model.input_weight, model.bias_weight, model.readout_weight)
        rows = [flat[name].detach().reshape(len(flat[name]), -1) for name in names]
        missing = -rows[0].shape[1] % 4  # neurons that say nothing fill up the last four
        W, U, b, c = (nn.functional.pad(row, (0, missing)).contiguous().numpy() for row in rows)
        blocks = -(-len(self.x) // LANES)
        every = torch.arange(blocks * LANES)
        order = every.clamp(max=len(self.x) - 1)  # the last sequence fills the last block
        x, y = (v[order, :, 0].unflatten(0, (blocks, LANES)).mT.contiguous().numpy() for v in (self.x, self.y))
        scale = (every < len(self.x)).double() if self.norm == "mse" else 1 / self.size[order]
        scale = scale.unflatten(0, (blocks, LANES)).numpy()
        per_dt = 1 / self.dt if self.norm == "w1" else 0.0
        errors, squares, witnesses = np.empty(len(W)), np.empty(len(W)), np.empty((len(W), 3), np.int64)
        loop, threads = compiled(), torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:  # the loop holds no lock
            shares = [slice(i, None, threads) for i in range(threads)]
            arguments = [[v[i] for v in (W, U, b, c, errors, squares, witnesses)] for i in shares]
            list(pool.map(lambda share: loop(x, y, scale, model.dt, *self.clamp, per_dt, *share), arguments))
        if self.norm == "mse":
            errors = squares / len(self.x) / self.x.shape[1]
        witnesses[:, 1:] = witnesses[:, 1:].clip(max=len(self.x) - 1)
        return torch.from_numpy(errors), torch.from_numpy(witnesses)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    # the fused ones know no batch of networks
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
