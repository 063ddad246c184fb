"""Parts: the recurrent and state-space layers inside a module, and what each of them sees while the module runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from cmlib.arguments import one_of
from cmlib.models.recurrent import is_recurrent
from cmlib.models.s4d import S4D
from cmlib.sequence_maps import copied, evaluating, first, named

if TYPE_CHECKING:
    Layer: TypeAlias = type[nn.Module]
    Values: TypeAlias = Callable[..., Any]
else:
    Layer = Values = Any
# the rest is for the probes of the library
__all__ = ["Part", "parts", "register"]
KICK = 1e-3  # of a state, to see whether the part's own input answers
REPLAYED, NEAR = 16, 1e-5  # first steps that are taken again, and how near their results are, in single precision


@dataclass(frozen=True)
class Part:
    """A layer with a state, inside a module.

    Args:
        name: its dotted name in the module, "" for the module itself; layer k of a stack of torch adds "lk".
        layer: the name of its class.
        kind: "flow" where eigenvalues are per unit of time and stable with real parts < 0, "steps" where they are those
            of one step and stable with moduli < 1.
        weights: names of its parameters in the module -> "recurrent", "input", "readout", "bias" or "other".
        linear: whether its state obeys a linear recurrence with constant coefficients, by its class's own word.
        step: (states (n, m), inputs (n, d)) -> states one step on; None where the state is not accessible.
        spectrum: () -> eigenvalues, or of a selective layer (inputs (n, d)) -> eigenvalues (n, m); None where only
            `step` knows.
        selective: whether the eigenvalues depend on the input.

    >>> from cmlib.parts import parts
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), models.SSM([-0.5, -2.0], np.eye(2), np.eye(2)))
    >>> [(part.name, part.layer, part.kind, part.eigenvalues.real.tolist()) for part in parts(model)]
    [('1', 'SSM', 'flow', [-0.5, -2.0])]
    """

    name: str
    layer: str
    kind: str
    weights: dict[str, str]
    linear: bool = False
    step: Any = field(default=None, repr=False)
    spectrum: Any = field(default=None, repr=False)
    selective: bool = False
    module: Any = field(default=None, repr=False)
    _reads: Any = field(default=None, repr=False)

    @property
    def eigenvalues(self) -> np.ndarray | None:
        """Those that its parameters fix alone; None where they depend on its state or its input."""
        return None if self.spectrum is None or self.selective else self.spectrum()


REGISTERED: dict[type, tuple[Callable, str, bool]] = {}


def register(layer: Layer, eigenvalues: Values, *, kind: str = "steps", selective: bool = False) -> None:
    """Tell how the eigenvalues of a diagonal state-space layer of your own, and of its subclasses, follow from it.

    Args:
        layer: an nn.Module class, (batch, time, d) -> (batch, time, d').
        eigenvalues: layer -> those of a step ("steps") or per unit of time ("flow"), of any shape, complex or real; of
            a selective layer (layer, inputs (n, d)) -> (n, m).
        kind: "steps" or "flow".
        selective: whether they depend on the layer's input.

    Raises:
        ValueError: unless it is such a class, a function and one of these kinds.

    >>> from cmlib.parts import parts, register
    >>> class Decays(torch.nn.Module):
    ...     log_rate = torch.tensor([-1.0, 0.0])
    >>> register(Decays, lambda layer: torch.exp(-torch.exp(layer.log_rate)))
    >>> parts(Decays())[0].eigenvalues.real.round(3).tolist()
    [0.692, 0.368]
    """
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise ValueError(f"expected a class of nn.Module, got {layer!r}")
    if not callable(eigenvalues):
        raise ValueError(f"expected a function from the layer to its eigenvalues, got {eigenvalues!r}")
    REGISTERED[layer] = (eigenvalues, one_of("kind", kind, ("steps", "flow")), bool(selective))


register(S4D, lambda layer: torch.exp(layer.eigenvalues()))

# layers that many repositories share under no common class, known by the names of their parameters
LAYOUTS: dict[tuple[str, ...], Callable[[Any], Tensor]] = {
    # orvieto2023resurrecting, Sec. 3.3
    ("nu_log", "theta_log"): lambda layer: torch.exp(torch.complex(-layer.nu_log.exp(), layer.theta_log.exp())),
    # gu2022parameterization: (channels, modes), and a step for each channel
    ("log_dt", "log_A_real", "A_imag"): lambda layer: torch.exp(
        layer.log_dt.exp()[..., None] * torch.complex(-layer.log_A_real.exp(), layer.A_imag)
    ),
}


def parts(model: Any) -> list[Part]:
    """Return the recurrent and state-space layers inside a module, in the order in which it lists them.

    Found are RNN, LSTM, GRU and their cells of torch, what declares itself a RecurrentModel, what is registered, and
    diagonal layers whose parameters are named as in the usual code of the LRU (nu_log, theta_log) and of S4D (log_dt,
    log_A_real, A_imag).

    Args:
        model: any nn.Module; what is none has no parts.

    Raises:
        ValueError: on a layer that reads backwards as well.

    >>> from cmlib.parts import parts
    >>> stack = torch.nn.ModuleDict({"body": torch.nn.GRU(1, 3, num_layers=2), "head": torch.nn.Linear(3, 1)})
    >>> [(part.name, part.weights[part.name.replace(".", ".weight_hh_")]) for part in parts(stack)]
    [('body.l0', 'recurrent'), ('body.l1', 'recurrent')]
    """
    found: list[Part] = []
    inside: list[str] = []  # what lies inside of a part is that part's own business
    with evaluating(model):  # a weight that is normalised as it trains would be changed by being read
        for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
            # what torch.compile wraps around a module has all that it has
            if any(name.startswith(outer) for outer in inside) or "_orig_mod" in module._modules:
                continue
            own = _parts_of(named(name), module)
            found += own
            inside += [f"{name}." if name else ""] * bool(own)
    return found


def _parts_of(name: str, module: nn.Module) -> list[Part]:
    label = type(module).__name__
    known = next((REGISTERED[kind] for kind in type(module).__mro__ if kind in REGISTERED), None)
    layout = next((LAYOUTS[names] for names in LAYOUTS if all(_holds(module, own) for own in names)), None)
    if known is None and layout is not None:
        known = (layout, "steps", False)
    if known is not None:
        eigenvalues, kind, selective = known
        spectrum = partial(_values, eigenvalues, module)
        roles = _roles_by_dependence(module, eigenvalues, selective)
        weights = {_join(name, own): role for own, role in roles.items()}
        reads = _read_layer if selective else None
        return [Part(name, label, kind, weights, not selective, None, spectrum, selective, module, reads)]
    if is_recurrent(module):
        declared: Any = module
        roles = {getattr(declared, f"{role}_weight"): role for role in ("recurrent", "input", "readout", "bias")}
        weights = {_join(name, own): roles.get(own, "other") for own, _ in declared.named_parameters()}
        # a step that is exact for held inputs is one of a linear flow
        linear = declared.discretization == "zoh" or hasattr(declared, "realization")
        return [Part(name, label, "flow", weights, linear, None, partial(_flow, declared), False, module)]
    if isinstance(module, nn.RNNBase):
        if module.bidirectional:
            raise ValueError(f"expected layers that read forwards, got a bidirectional {label} {name!r}")
        return [_layer_of_torch(name, module, k) for k in range(module.num_layers)]
    if isinstance(module, nn.RNNCellBase):
        weights = {_join(name, own): _role(own) for own, _ in module.named_parameters()}
        step = _step(module, "")
        reads = partial(_read_cell, step=step)
        return [Part(name, label, "steps", weights, False, step, module=module, _reads=reads)]
    return []


def _holds(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), Tensor)


def _join(outer: str, inner: str) -> str:
    return named(f"{outer}.{inner}") if outer else named(inner)


def _values(eigenvalues: Callable, module: nn.Module, *inputs: Tensor) -> np.ndarray:
    with torch.no_grad():
        found = torch.as_tensor(eigenvalues(module, *inputs)).cpu().to(torch.complex128)
    return (found.flatten(1) if inputs else found.flatten()).numpy()


def _flow(model: Any) -> np.ndarray:
    values = torch.linalg.eigvals(model.linearization().detach().double().cpu())
    if model.discretization == "euler":  # the flow of which its steps are exact
        values = torch.log(1 + model.dt * values) / model.dt
    return values.numpy()


def _roles_by_dependence(module: nn.Module, eigenvalues: Callable, selective: bool) -> dict[str, str]:
    # a parameter on which the eigenvalues depend is a recurrent one, trained or not
    weights = dict((module := copied(module).requires_grad_()).named_parameters())
    roles = {name: "bias" if name.split(".")[-1].startswith("bias") else "other" for name in weights}
    if selective or not weights:
        return roles
    with torch.enable_grad():
        values = eigenvalues(module)
    if isinstance(values, Tensor) and values.requires_grad:
        size = values.abs().sum() + values.real.sum()  # of a modulus, and of a real rate
        slopes = torch.autograd.grad(size, list(weights.values()), allow_unused=True)
        roles |= {name: "recurrent" for name, slope in zip(weights, slopes, strict=True) if slope is not None}
    return roles


def _plain(name: str) -> str:
    # of a weight that torch's parametrize, or a hook of the kind before it, computes from others
    name = name.removeprefix("parametrizations.").split(".")[0]
    return next((name.removesuffix(end) for end in ("_orig", "_g", "_v") if name.endswith(end)), name)


def _role(name: str) -> str:
    kinds = {"weight_hh": "recurrent", "weight_ih": "input", "weight_hr": "readout", "bias": "bias"}
    return next((role for start, role in kinds.items() if _plain(name).startswith(start)), "other")


def _layer_of_torch(name: str, stack: nn.RNNBase, k: int) -> Part:
    own = [n for n, _ in stack.named_parameters() if _plain(n).endswith(f"_l{k}")]
    name_k = name if stack.num_layers == 1 else _join(name, f"l{k}")
    weights = {_join(name, n): _role(n) for n in own}
    steps = [_step(stack, f"_l{layer}") for layer in range(stack.num_layers)]
    reads = partial(_read_stack, stack=stack, steps=steps, k=k)
    return Part(name_k, type(stack).__name__, "steps", weights, False, steps[k], module=stack, _reads=reads)


def _step(module: Any, suffix: str) -> Callable[[Tensor, Tensor], Tensor]:
    # written out, as the fused ones of torch cannot be differentiated forwards nor batched
    W, U = getattr(module, f"weight_ih{suffix}"), getattr(module, f"weight_hh{suffix}")
    b, c = (getattr(module, name + suffix, 0.0) for name in ("bias_ih", "bias_hh"))
    b, c = (0.0 if value is None else value for value in (b, c))  # a cell without bias has None, a layer nothing
    P = getattr(module, f"weight_hr{suffix}", None)

    def plain(h: Tensor, x: Tensor) -> Tensor:
        z = x @ W.mT + b + h @ U.mT + c
        return torch.relu(z) if module.nonlinearity == "relu" else torch.tanh(z)

    def gru(h: Tensor, x: Tensor) -> Tensor:
        (r, z, n), (hr, hz, hn) = (x @ W.mT + b).chunk(3, -1), (h @ U.mT + c).chunk(3, -1)
        z = torch.sigmoid(z + hz)
        return z * h + (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn)

    def lstm(state: Tensor, x: Tensor) -> Tensor:
        h, cell = state[..., : U.shape[1]], state[..., U.shape[1] :]
        i, f, g, o = (x @ W.mT + b + h @ U.mT + c).chunk(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(cell)
        return torch.cat([h if P is None else h @ P.mT, cell], -1)

    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return lstm
    return gru if isinstance(module, nn.GRU | nn.GRUCell) else plain


# --- what a part sees while the module runs


@dataclass(frozen=True)
class Seen:
    """What reached one part while its module ran.

    Args:
        inputs: (time, rows, d), its own; rows are the sequences, or what the module has made of them.
        state: (rows, m), in which the run left it; None where it is not accessible.
        apart: why its own step is not what the module repeats; empty where it is.
    """

    inputs: Tensor
    state: Any
    apart: tuple[str, ...]

    @property
    def rows(self) -> int:
        return self.inputs.shape[1]


@torch.no_grad()
def watch(model: nn.Module, found: list[Part], x: Tensor) -> dict[str, Seen]:
    """Return what parts see while their module maps x (batch, time, d_in), by their names; not those it does not call.

    >>> from cmlib.parts import parts, watch
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.GRU(2, 3, batch_first=True)).double()
    >>> seen = watch(model, parts(model), inputs.heaviside(5))["1"]
    >>> tuple(seen.inputs.shape), tuple(seen.state.shape), seen.apart
    ((5, 1, 2), (1, 3), ())
    """
    watched = {part.name: part for part in found if part._reads is not None}
    modules = {id(part.module): part.module for part in watched.values()}
    with _calls(modules.values()) as calls:
        _run(model, x)
    seen = {}
    for name, part in watched.items():
        if not calls[id(part.module)]:
            continue
        try:
            inputs, state, apart = part._reads(calls[id(part.module)])
        except RuntimeError:  # such tensors do not outlive their run
            inputs, state, apart = torch.empty(0, 1, 1), None, ("it runs under a transform of torch, as vmap is one",)
        if len(inputs) != x.shape[1]:
            apart += (f"it takes {len(inputs)} steps where the model takes {x.shape[1]}",)
        elif len(calls[id(part.module)]) > 1 and _answers(model, part, x, inputs):
            apart += ("its own input depends on its state",)
        seen[name] = Seen(inputs, state, apart)
    return seen


def _run(model: nn.Module, x: Tensor) -> Any:
    with torch.no_grad(), evaluating(model):
        try:
            return first(model(x))
        except (RuntimeError, IndexError, TypeError, AssertionError) as error:
            raise ValueError(f"expected a model of {x.dtype} inputs {tuple(x.shape)}: {error}") from error


@contextmanager
def _calls(modules: Any) -> Iterator[dict[int, list]]:
    calls: dict[int, list] = {id(module): [] for module in modules}

    def keep(module: nn.Module, args: tuple, options: dict, output: Any) -> None:
        named = {name: options[name] for name in ("input", "hx") if name in options} | options
        calls[id(module)].append(([*args, *named.values()], output))

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _answers(model: nn.Module, part: Part, x: Tensor, inputs: Tensor) -> bool:
    # whether what a loop feeds to a part changes when the state half way is kicked
    half, taken = inputs.shape[0] // 2, 0

    def kick(module: nn.Module, args: tuple, output: Any) -> Any:
        nonlocal taken
        taken += 1
        return _kicked(output) if taken == half else output

    handle = part.module.register_forward_hook(kick)
    try:
        with _calls([part.module]) as calls:
            _run(model, x)
    finally:
        handle.remove()
    return not torch.equal(part._reads(calls[id(part.module)])[0], inputs)


def _kicked(output: Any) -> Any:
    return tuple(map(_kicked, output)) if isinstance(output, tuple) else output + KICK


def memoryless_around(model: nn.Module, found: list[Part], x: Tensor) -> bool:
    """Return whether a model has no memory but in its parts: what one step changes around them shows at that step only.

    Args:
        x: (batch, time, d_in), on which it is tried; a memory that none of it sets off, or that comes back after three
            quarters of it, is not seen.

    >>> from cmlib.parts import memoryless_around, parts
    >>> model, x = torch.nn.Sequential(models.SSM([-0.5], [1.0], [1.0]), torch.nn.Tanh()), inputs.heaviside(9)
    >>> memoryless_around(model, parts(model), x)
    True
    """
    modules = list({id(part.module): part.module for part in found}.values())
    with _calls(modules) as calls:
        _run(model, x)
    outputs = [y for module in modules if (y := _output(module, calls[id(module)], x.shape[1])) is not None]
    if len(outputs) < len(modules):
        return False
    at = x.shape[1] // 4
    now = torch.arange(x.shape[1]) == at
    # a change of each channel by as much would not pass a norm over channels
    later, *moved = (torch.where(now[:, None], -y[:, -1:], y) for y in (x, *outputs))
    still = _around(model, modules, outputs, x)
    for changed in (_around(model, modules, outputs, later), _around(model, modules, moved, x)):
        for before, after in zip(still, changed, strict=True):
            if not isinstance(before, Tensor) or before.shape[:2] != x.shape[:2]:
                return False
            gap = (after - before).abs().flatten(2).amax((0, 2))
            gap[at] = 0.0
            if not gap.max() <= 1e4 * torch.finfo(gap.dtype).eps * (1 + before.abs().max()):
                return False
    return True


def _output(module: nn.Module, calls: list, n_steps: int) -> Tensor | None:
    y = _batched(module, first(calls[0][1])) if len(calls) == 1 else None
    return y if isinstance(y, Tensor) and y.ndim > 2 and y.shape[1] == n_steps else None


def _batched(module: nn.Module, y: Any) -> Any:
    # or back, as it is its own inverse
    return y.transpose(0, 1) if isinstance(module, nn.RNNBase) and not module.batch_first and y.ndim > 2 else y


def _around(model: nn.Module, modules: list[nn.Module], outputs: list[Tensor], x: Tensor) -> list[Tensor]:
    """Return what the parts read and what the model says, where the parts say what they are told to."""
    read = []

    def say(own: Tensor) -> Callable:
        def hook(module: nn.Module, args: tuple, options: dict, output: Any) -> Any:
            read.append(_batched(module, [*args, *options.values()][0]))
            y = _batched(module, own)
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return hook

    handles = [m.register_forward_hook(say(y), with_kwargs=True) for m, y in zip(modules, outputs, strict=True)]
    try:
        return [_run(model, x), *read]
    finally:
        for handle in handles:
            handle.remove()


Reading: TypeAlias = tuple[Tensor, Tensor | None, tuple[str, ...]]


def _read_layer(calls: list) -> Reading:
    return torch.cat([args[0] for args, _ in calls], 1).transpose(0, 1), None, ()


def _read_cell(calls: list, step: Callable) -> Reading:
    inputs = torch.stack([torch.atleast_2d(args[0]) for args, _ in calls])
    given, left = [_given(args) for args, _ in calls], [_tensors(output) for _, output in calls]
    start = [torch.zeros_like(h) for h in left[0]] if given[0] is None else given[0]
    replayed = _scan(step, _joined(start), inputs[:REPLAYED])
    apart = _handed_on(given, left) or _not_its_own(replayed, torch.stack([_joined(h) for h in left[:REPLAYED]]))
    return inputs, _joined(left[-1]), apart


def _read_stack(calls: list, stack: nn.RNNBase, steps: list, k: int) -> Reading:
    if not all(isinstance(args[0], Tensor) for args, _ in calls):
        return torch.empty(0, 1, stack.input_size), None, ("it reads packed sequences",)
    inputs = torch.cat([_time_first(args[0], stack.batch_first) for args, _ in calls])
    says = torch.cat([_time_first(output[0], stack.batch_first) for _, output in calls])
    given, left = [_given(args) for args, _ in calls], [_tensors(output[1]) for _, output in calls]
    start = [torch.zeros_like(h) for h in left[0]] if given[0] is None else given[0]
    replayed, size = inputs[:REPLAYED], says.shape[-1]
    for layer, step in enumerate(steps):  # each reads what the one below it says
        state = _joined([h[layer] for h in start])
        replayed = _scan(step, state, replayed)[..., :size]
        if layer < k:
            inputs = _scan(step, state, inputs)[..., :size]
    apart = _handed_on(given, left) or _not_its_own(replayed, says[:REPLAYED])
    return inputs, _joined([h[k] for h in left[-1]]), apart


def _scan(step: Callable, state: Tensor, inputs: Tensor) -> Tensor:
    states = []
    for x in inputs:
        state = step(state, x)
        states.append(state)
    return torch.stack(states)


def _not_its_own(replayed: Tensor, seen: Tensor) -> tuple[str, ...]:
    # a subclass may have another step, or another order
    same = torch.allclose(replayed, seen, rtol=0.0, atol=NEAR * (1 + float(seen.abs().max())))
    return () if same else ("its class takes another",)


def _time_first(x: Tensor, batch_first: bool) -> Tensor:
    return x[:, None] if x.ndim == 2 else x.transpose(0, 1) if batch_first else x


def _tensors(state: Any) -> list[Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


def _given(args: list) -> list[Tensor] | None:
    return None if len(args) < 2 or args[1] is None else _tensors(args[1])


def _joined(state: list[Tensor]) -> Tensor:
    return torch.cat([torch.atleast_2d(h) for h in state], -1)


def _handed_on(given: list, left: list) -> tuple[str, ...]:
    # from call to call, as it is
    same = (g is not None and all(map(torch.equal, g, h)) for g, h in zip(given[1:], left[:-1], strict=True))
    return () if all(same) else ("its state is changed between its steps",)
