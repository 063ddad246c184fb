"""report: it says of known models what is known of them, and of wrong ones what is wrong."""

import copy
import sys

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import models, parameterizations, rest
from cmlib.loading import load_model
from cmlib.report import report

FEW = {"n_steps": 80, "n_directions": 2, "radii": [0.0, 0.01, 0.1, 1.0]}


def drawn(module: nn.Module, size: float = 0.4) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for w in module.parameters():
            w.copy_(size * torch.randn(w.shape, generator=g, dtype=w.dtype) / w.shape[-1] ** 0.5)
    return module


def encoder(batch_first: bool = True) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=batch_first)
    return drawn(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), 1.0)


@pytest.mark.parametrize("dt", [0.5, 1.0])
def test_linear_network_has_its_slowest_rate_and_radius(dt):
    found = report(models.LinearRNN([-0.1, -1.0], [1.0, 1.0], [1.0, 1.0], dt=dt), **FEW | {"n_steps": 200})
    for d in found.decays.values():
        assert d.kind == "exponential" and d.rate == pytest.approx(0.1, rel=1e-3)
    assert found.rest == rest.Rest("flow", pytest.approx(0.1), pytest.approx(0.1))
    assert "forgets exponentially" in str(found) and "0.1 per unit of time" in str(found)
    assert found.perturbation.errors[0] == 0 and (np.diff(found.perturbation.errors) > 0).all()


def test_nonlinear_network_has_the_rate_of_its_steps():
    found = report(models.RNN(-0.3 * np.eye(3), np.ones(3), np.ones(3), dt=0.5), **FEW)
    assert found.rest.rate == pytest.approx(-np.log(1 - 0.15) / 0.5)
    assert found.rest.radius == pytest.approx(0.3)
    assert found.decays["impulse"].rate == pytest.approx(found.rest.rate, rel=1e-3)


def test_stable_parameterization_cannot_be_upset():
    layer = models.SSM([0.0, -1.0], [1.0, 1.0], [1.0, 1.0], parameterization=parameterizations.exp)
    found = report(layer, **FEW)
    assert found.rest.radius == np.inf and "no push to the raw weights" in str(found)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_of_torch_forget_at_the_rate_of_their_linearisation(kind, batch_first):
    layer = drawn(kind(2, 4, num_layers=2, batch_first=batch_first))
    before = copy.deepcopy(layer.state_dict())
    found = report(layer, **FEW)
    assert found.name == kind.__name__ and found.rest.kind == "steps"
    assert {d.kind for d in found.decays.values()} == {"exponential"}
    # late, an impulse dies as the slowest mode does; complex or equal modes make it a little slower to see
    assert found.decays["impulse"].rate == pytest.approx(found.rest.rate, rel=0.15)
    assert layer.training and all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    assert all(w.dtype == torch.float32 for w in layer.parameters())


def test_single_layer_is_linearised_where_it_rests():
    layer = drawn(nn.RNN(1, 3)).double()
    h = torch.zeros(3, dtype=torch.float64)
    W, b = layer.weight_hh_l0.detach(), (layer.bias_hh_l0 + layer.bias_ih_l0).detach()
    for _ in range(2000):
        h = torch.tanh(W @ h + b)
    expected = (1 - h**2)[:, None] * W
    assert np.abs(rest._step_at_rest(layer) - expected.numpy()).max() < 1e-10


def test_a_layer_that_does_not_settle_has_no_rest():
    layer = nn.RNN(1, 2, bias=False)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(3.0 * torch.tensor([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]]))
    layer.bias = True
    oscillates = drawn(nn.RNN(1, 2))
    with torch.no_grad():
        oscillates.weight_hh_l0.copy_(layer.weight_hh_l0)
    assert rest._step_at_rest(oscillates.double()) is None


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_is_made_causal_and_does_not_forget(batch_first):
    found = report(encoder(batch_first), **FEW | {"n_steps": 40})
    assert found.rest is None and {d.kind for d in found.decays.values()} == {"none"}
    assert "does not decay" in str(found) and "no recurrent network" in str(found)


def test_any_callable_has_a_memory_and_no_weights():
    def leaky_mean(x):
        k = torch.arange(x.shape[1], dtype=x.dtype)
        return cmlib.sequence_maps.causal_convolution((1 + k) ** -1.5, x[..., 0])[..., None]

    found = report(leaky_mean, d_in=1, n_steps=400)
    assert found.name == "leaky_mean" and found.perturbation is None and found.rest is None
    assert {d.kind for d in found.decays.values()} == {"polynomial"} and "like a power" in str(found)
    assert found.plot().axes.__len__() == 1


def test_page_is_one_file_that_asks_for_nothing(tmp_path):
    found = report(models.LinearRNN([-0.5], [1.0], [1.0]), **FEW)
    path = cmlib.Report.save(found, tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert all(line in page for line in found.verdict)
    assert "http" not in page and "<script" not in page and page.count("data:image/png;base64,") == 1
    with pytest.raises(ValueError, match="expected a path that ends in .html"):
        found.save(tmp_path / "report.pdf")


class Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.d_in, self.w = function, 1, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.function(self.w * x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.flip(1), "expected a causal model, but its output at step 0 depends on the input at step 40"),
        (lambda x: x - x.mean(1, keepdim=True), "expected a causal model"),
        (lambda x: x - x.mean(0), "expected sequences to be independent"),
        (lambda x: x[:, :-1], r"expected outputs \(batch, time, d_out\) for inputs \(24, 80, 1\), got \(24, 79, 1\)"),
        (lambda x: "no", "got str"),
        (lambda x: x / 0 * 0, "expected finite outputs"),
        (lambda x: x @ torch.ones(2, 2), "expected a map of"),
    ],
)
def test_wrong_models_get_a_clear_message(function, message):
    with pytest.raises(ValueError, match=message):
        report(Module(function), **FEW)


def test_a_bidirectional_layer_is_not_causal_and_channels_have_to_be_known():
    with pytest.raises(ValueError, match="expected a causal model"):
        report(nn.LSTM(1, 2, bidirectional=True, batch_first=True), **FEW)
    with pytest.raises(ValueError, match="expected d_in, the number of input channels, for a Linear"):
        report(nn.Linear(2, 2))


FACTORY = """
import torch
from torch import nn

def make():
    return nn.Linear(2, 3)

def needs(n):
    return nn.Linear(n, n)

def nothing():
    return None

def plain():
    return abs

number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "models_of_mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("models_of_mine", None)


def test_model_is_loaded_from_the_working_directory_with_its_weights(folder):
    before = list(sys.path)
    state = {"weight": torch.full((3, 2), 2.0), "bias": torch.zeros(3)}
    torch.save(state, folder / "weights.pt")
    model = load_model("models_of_mine:make", "weights.pt")
    assert torch.equal(model.weight, state["weight"]) and sys.path == before
    assert isinstance(load_model("models_of_mine:make"), nn.Linear)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("models_of_mine", "expected module="),
        (":make", "expected module="),
        ("models_of_nobody:make", "expected a module 'models_of_nobody' that can be imported"),
        ("models_of_mine:made", "expected a function or class 'made' in models_of_mine, got None"),
        ("models_of_mine:number", "expected a function or class 'number'"),
        ("models_of_mine:needs", "expected models_of_mine:needs to work without arguments"),
        ("models_of_mine:nothing", "expected models_of_mine:nothing to return a model, got NoneType"),
        ("sys:exit", "expected sys:exit to return a model, but it ends the process"),
    ],
)
def test_wrong_modules_get_a_clear_message(folder, module, message):
    with pytest.raises(ValueError, match=message):
        load_model(module)


def test_wrong_checkpoints_get_a_clear_message(folder):
    with pytest.raises(ValueError, match="expected a checkpoint, got"):
        load_model("models_of_mine:make", "weights.pt")
    (folder / "weights.pt").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="expected a state dict of tensors alone in weights.pt"):
        load_model("models_of_mine:make", "weights.pt")
    torch.save({"weight": torch.ones(1)}, folder / "weights.pt")
    with pytest.raises(ValueError, match="expected the weights of Linear in weights.pt"):
        load_model("models_of_mine:make", "weights.pt")
    with pytest.raises(ValueError, match=r"expected an nn.Module for the checkpoint"):
        load_model("models_of_mine:plain", "weights.pt")
    torch.save(nn.Linear(2, 3), folder / "weights.pt")  # a whole module, which could run code when loaded
    with pytest.raises(ValueError, match="expected a state dict of tensors alone"):
        load_model("models_of_mine:make", "weights.pt")
