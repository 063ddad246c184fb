"""parts: each layer with a state is found where it is, with its own step, and one that is not alone is told apart."""

import numpy as np
import pytest
import torch
from torch import nn

from cmlib import models, parameterizations
from cmlib.parts import REGISTERED, memoryless_around, parts, register, watch


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(module: nn.Module, seed=0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in module.double().parameters():
            w.copy_(torch.randn(w.shape, generator=g, dtype=w.dtype) / w.shape[-1] ** 0.5)
    return module


class Head(nn.Module):
    """A layer of torch and what reads it; the layer may want time first."""

    def __init__(self, layer, time_first=False):
        super().__init__()
        self.layer, self.time_first = layer, time_first
        self.head = nn.Linear(layer.proj_size or layer.hidden_size, 1)

    def forward(self, x):
        if self.time_first:
            return self.head(self.layer(x.transpose(0, 1))[0].transpose(0, 1))
        return self.head(self.layer(x)[0])


class Loop(nn.Module):
    """A cell in a loop, which may feed its output back, shrink its state between steps, or look every other step."""

    def __init__(self, cell, feeds_back=False, shrinks=False, every=1):
        super().__init__()
        self.cell, self.feeds_back, self.shrinks, self.every = cell, feeds_back, shrinks, every

    def forward(self, x):
        h = x.new_zeros(len(x), self.cell.hidden_size)
        state, outputs = (h, h) if isinstance(self.cell, nn.LSTMCell) else h, []
        for k, u in enumerate(x.unbind(1)):
            if k % self.every == 0:
                state = self.cell(torch.cat([u, h], 1) if self.feeds_back else u, state)
            h = state[0] if isinstance(state, tuple) else state
            state = 0.5 * state if self.shrinks else state
            outputs.append(h)
        return torch.stack(outputs, 1)


class LRU(nn.Module):
    """Diagonal and complex, as it is usually written."""

    def __init__(self, moduli, phases=0.3, channels=1):
        super().__init__()
        moduli = torch.as_tensor(moduli, dtype=torch.float64)
        self.nu_log = nn.Parameter(torch.log(-torch.log(moduli)))
        self.theta_log = nn.Parameter(torch.full_like(moduli, float(np.log(phases))))
        self.B, self.C = (nn.Parameter(noise(len(moduli), channels, 2, seed=s)) for s in (1, 2))

    def forward(self, x):
        eigenvalues = torch.exp(-torch.exp(self.nu_log) + 1j * torch.exp(self.theta_log))
        B, C = torch.view_as_complex(self.B), torch.view_as_complex(self.C)
        h, outputs = x.new_zeros(len(x), len(B)), []
        for u in x.unbind(1):
            h = eigenvalues * h + u.to(B.dtype) @ B.mT
            outputs.append((h @ C).real)
        return torch.stack(outputs, 1)


LAYERS = [
    (kind, options)
    for kind in (nn.RNN, nn.GRU, nn.LSTM)
    for options in ({}, {"bias": False}, {"num_layers": 3}, {"batch_first": True, "num_layers": 2})
]
LAYERS += [(nn.LSTM, {"proj_size": 2, "num_layers": 2}), (nn.RNN, {"nonlinearity": "relu"})]


@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_steps_of_layers_of_torch_are_those_that_torch_takes(kind, options):
    layer = drawn(kind(2, 4, **options))
    model, x = Head(layer, not options.get("batch_first")), noise(3, 7, 2)
    found = parts(model.double())
    assert len(found) == layer.num_layers and {part.kind for part in found} == {"steps"}
    seen = watch(model, found, x)
    outputs = layer(x if layer.batch_first else x.transpose(0, 1))[0].detach()
    outputs = outputs.transpose(0, 1) if layer.batch_first else outputs
    for part in found:
        state, says = torch.zeros_like(seen[part.name].state), []
        for u in seen[part.name].inputs:
            state = part.step(state, u)
            says.append(state[:, : outputs.shape[-1]])
        assert torch.allclose(state, seen[part.name].state, rtol=0, atol=1e-14) and seen[part.name].apart == ()
    assert torch.allclose(torch.stack(says), outputs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
@pytest.mark.parametrize("bias", [True, False])
def test_cells_in_a_loop_are_found_and_stepped(kind, bias):
    model, x = Loop(drawn(kind(2, 4, bias=bias))), noise(3, 7, 2)
    (part,) = parts(model)
    seen = watch(model, [part], x)["cell"]
    state = torch.zeros_like(seen.state)
    for u in seen.inputs:
        state = part.step(state, u)
    assert part.name == "cell" and seen.apart == () and torch.allclose(state, seen.state, rtol=0, atol=1e-14)
    assert torch.equal(seen.inputs, x.transpose(0, 1))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Loop(drawn(nn.GRUCell(6, 4)), feeds_back=True), "its own input depends on its state"),
        (Loop(drawn(nn.GRUCell(2, 4)), shrinks=True), "its state is changed between its steps"),
        (Loop(drawn(nn.GRUCell(2, 4)), every=2), "it takes 4 steps where the model takes 7"),
    ],
)
def test_a_cell_that_is_not_alone_is_told_apart(model, why):
    assert why in watch(model, parts(model), noise(3, 7, 2))["cell"].apart


@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell])
def test_a_subclass_with_a_step_of_its_own_is_told_apart(kind):
    class Leaky(kind):
        def forward(self, x, state=None):
            found = super().forward(torch.tanh(x), state)
            return found if isinstance(found, tuple) else 0.5 * found

    layer = drawn(Leaky(2, 4, **({"batch_first": True} if kind is nn.GRU else {})))
    model = layer if kind is nn.GRU else Loop(layer)
    (seen,) = watch(model, parts(model), noise(3, 7, 2)).values()
    assert seen.apart == ("its class takes another",)


def test_a_layer_called_step_by_step_is_one_part():
    class Stepwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = drawn(nn.LSTM(2, 4, num_layers=2, batch_first=True))

        def forward(self, x):
            state, outputs = None, []
            for k in range(x.shape[1]):
                y, state = self.layer(x[:, k : k + 1], state)
                outputs.append(y)
            return torch.cat(outputs, 1)

    x = noise(3, 7, 2)
    model = Stepwise()
    seen, at_once = watch(model, parts(model), x), watch(model.layer, parts(model.layer), x)
    assert list(seen) == ["layer.l0", "layer.l1"]
    for k in range(2):
        assert torch.allclose(seen[f"layer.l{k}"].state, at_once[f"l{k}"].state) and seen[f"layer.l{k}"].apart == ()


def test_weights_have_their_parts_in_it():
    model = Head(nn.LSTM(1, 4, num_layers=2, proj_size=2))
    first, second = parts(model)
    assert first.weights["layer.weight_hh_l0"] == "recurrent" and second.weights["layer.weight_ih_l1"] == "input"
    assert second.weights["layer.weight_hr_l1"] == "readout" and second.weights["layer.bias_ih_l1"] == "bias"
    assert not set(first.weights) & set(second.weights) and len(second.weights) == 5
    (part,) = parts(models.RNN(-np.eye(2), [1.0, 1.0], [1.0, 1.0]))
    assert part.weights == {"W": "recurrent", "U": "input", "b": "bias", "c": "readout"}
    (part,) = parts(LRU([0.9, 0.99]))
    assert part.weights == {"nu_log": "recurrent", "theta_log": "recurrent", "B": "other", "C": "other"}
    (part,) = parts(models.S4D(2, 3))
    assert {n for n, role in part.weights.items() if role == "recurrent"} == {"log_step", "W", "frequency"}


def test_weights_that_are_computed_from_others_keep_their_roles_and_their_values():
    layer = drawn(nn.GRU(1, 3, batch_first=True))
    nn.utils.parametrizations.spectral_norm(layer, "weight_hh_l0")
    x = noise(2, 9, 1)
    (part,) = parts(layer.eval())
    assert part.weights["parametrizations.weight_hh_l0.original"] == "recurrent"
    seen = watch(layer, [part], x)[""]
    state = torch.zeros_like(seen.state)
    for u in seen.inputs:
        state = part.step(state, u)
    assert torch.allclose(state, seen.state, rtol=0, atol=1e-14)


def test_known_layouts_have_the_eigenvalues_of_their_formulas():
    moduli = np.array([0.9, 0.95, 0.999])
    (part,) = parts(LRU(moduli, phases=0.3))
    assert part.linear and np.abs(part.eigenvalues - moduli * np.exp(0.3j)).max() < 1e-14

    class Kernel(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_dt = nn.Parameter(torch.log(torch.tensor([0.1, 0.2], dtype=torch.float64)))
            self.log_A_real = nn.Parameter(torch.full((2, 3), np.log(0.5), dtype=torch.float64))
            self.A_imag = nn.Parameter(torch.arange(3.0, dtype=torch.float64).repeat(2, 1))

    expected = np.exp(np.outer([0.1, 0.2], -0.5 + 1j * np.arange(3)))
    assert np.abs(parts(nn.Sequential(Kernel()))[0].eigenvalues - expected.ravel()).max() < 1e-15


def test_declared_networks_have_those_of_their_steps():
    W = torch.tensor([[-0.5, 0.2], [-0.2, -0.5]], dtype=torch.float64)
    (flow,) = parts(models.LinearRNN(W, [1.0, 1.0], [1.0, 1.0], dt=0.5))
    assert np.abs(np.sort_complex(flow.eigenvalues) - [-0.5 - 0.2j, -0.5 + 0.2j]).max() < 1e-14 and flow.linear
    (euler,) = parts(models.RNN(W, [1.0, 1.0], [1.0, 1.0], dt=0.5))
    assert np.abs(np.exp(0.5 * euler.eigenvalues) - (1 + 0.5 * flow.eigenvalues)).max() < 1e-14 and not euler.linear
    (stable,) = parts(models.SSM([0.0], [1.0], [1.0], parameterization=parameterizations.exp))
    assert stable.eigenvalues.tolist() == [-1.0] and stable.kind == "flow"


class Selective(nn.Module):
    """h' = e^{-softplus(w x)} h + x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        h, outputs = torch.zeros_like(x[:, 0]), []
        for u in x.unbind(1):
            h = torch.exp(-nn.functional.softplus(self.w * u)) * h + u
            outputs.append(h)
        return torch.stack(outputs, 1)


@pytest.fixture
def registered():
    before = dict(REGISTERED)
    register(Selective, lambda layer, x: torch.exp(-nn.functional.softplus(layer.w * x)), selective=True)
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


def test_layers_that_users_register_are_found_with_their_subclasses(registered):
    class Mine(Selective):
        pass

    model, x = nn.Sequential(nn.Linear(1, 1), Mine()).double(), noise(2, 5, 1)
    (part,) = parts(model)
    assert part.name == "1" and part.selective and not part.linear and part.eigenvalues is None
    seen = watch(model, [part], x)["1"]
    assert torch.allclose(seen.inputs, model[0](x).transpose(0, 1))
    assert np.abs(part.spectrum(torch.zeros(4, 1)) - 0.5).max() < 1e-7


def test_what_lies_inside_a_part_is_no_part_again(registered):
    class Wraps(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.rate = nn.GRU(1, 2), nn.Parameter(torch.tensor(0.5))

    register(Wraps, lambda layer: torch.exp(-layer.rate))
    assert [part.layer for part in parts(nn.ModuleList([Wraps(), nn.GRU(1, 2)]))] == ["Wraps", "GRU"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LRU([0.5]), len), "expected a class of nn.Module"),
        ((int, len), "expected a class of nn.Module"),
        ((LRU, 0.5), "expected a function from the layer to its eigenvalues"),
    ],
)
def test_what_cannot_be_registered_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        register(*arguments)
    with pytest.raises(ValueError, match="expected kind among"):
        register(LRU, len, kind="jumps")


def test_a_layer_that_reads_backwards_is_refused_and_what_has_no_state_has_no_parts():
    with pytest.raises(ValueError, match="expected layers that read forwards, got a bidirectional GRU 'layer'"):
        parts(Head(nn.GRU(1, 2, bidirectional=True)))
    assert parts(nn.Sequential(nn.Linear(1, 1), nn.Conv1d(1, 1, 3))) == [] == parts(lambda x: x)


class Running(nn.Module):
    """The mean of all inputs so far."""

    def forward(self, x):
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]


@pytest.mark.parametrize(
    ("layers", "alone"),
    [
        ([LRU([0.9])], True),
        ([nn.Linear(1, 1), LRU([0.9]), nn.LayerNorm(1), LRU([0.8]), nn.Tanh()], True),
        ([Running(), LRU([0.9])], False),
        ([LRU([0.9]), Running()], False),
        ([LRU([0.9]), Running(), LRU([0.8])], False),
    ],
)
def test_memory_outside_the_parts_is_noticed(layers, alone):
    model = nn.Sequential(*layers).double()
    assert memoryless_around(model, parts(model), noise(2, 12, 1)) is alone


def test_watching_leaves_no_hooks_and_no_modes_behind():
    model = Head(nn.GRU(2, 4, batch_first=True)).double()
    watch(model, parts(model), noise(3, 7, 2))
    assert model.training and not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match=r"expected a model of torch.float64 inputs \(3, 7, 5\)"):
        watch(model, parts(model), noise(3, 7, 5))
    assert not any(module._forward_hooks for module in model.modules())
