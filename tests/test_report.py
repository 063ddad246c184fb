"""report: it says of known models what is known of them, within its budget, and of wrong ones what is wrong."""

import copy
import functools
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import models, parameterizations
from cmlib.chapter.zoo import ZOO
from cmlib.loading import load_model
from cmlib.report import report

FEW = {"n_steps": 80, "n_directions": 1}


def drawn(module: nn.Module, size: float = 0.4) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for w in module.parameters():
            w.copy_(size * torch.randn(w.shape, generator=g, dtype=w.dtype) / w.shape[-1] ** 0.5)
    return module


def encoder(batch_first: bool = True) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=batch_first)
    return drawn(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), 1.0)


def leaky(x):
    k = torch.arange(x.shape[1], dtype=x.dtype)
    return cmlib.sequence_maps.causal_convolution(torch.exp(-0.1 * k), x[..., 0])[..., None]


def delay(x):
    return torch.cat([torch.zeros_like(x[:, :50]), x], 1)[:, : x.shape[1]]


# ---- known models --------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", [0.5, 1.0])
def test_linear_network_has_its_slowest_rate_and_radius(dt):
    found = report(
        models.LinearRNN([-0.1, -1.0], [1.0, 1.0], [1.0, 1.0], dt=dt), n_steps=200, budget=cmlib.Budget(calls=60)
    )
    for d in found.decays.values():
        assert d.kind == "exponential" and d.rate == pytest.approx(0.1, rel=1e-3)
    (inside,) = found.certificates
    assert inside.rate == pytest.approx(0.1) and inside.radius == pytest.approx(0.1) and inside.decides
    assert found.traits.linear and found.by_amplitude == {} and found.growing is None
    assert "forgets exponentially, at the rate 0.1" in str(found) and "per unit of time" in str(found)
    assert "The curve confirms the eigenvalues: 0.1 seen with the curve, 0.1 from the eigenvalues." in str(found)


def test_nonlinear_network_has_the_rate_of_its_steps():
    found = report(models.RNN(-0.3 * np.eye(3), np.ones(3), np.ones(3), dt=0.5), **FEW, inputs=["impulse"])
    assert found.certificates[0].rate == pytest.approx(-np.log(1 - 0.15) / 0.5)
    assert found.certificates[0].radius == pytest.approx(0.3)
    assert found.decays["impulse"].rate == pytest.approx(found.certificates[0].rate, rel=1e-3)


def test_stable_parameterization_cannot_be_upset():
    layer = models.SSM([0.0, -1.0], [1.0, 1.0], [1.0, 1.0], parameterization=parameterizations.exp)
    found = report(layer, **FEW, inputs=["impulse"])
    assert found.certificates[0].radius == np.inf and not any("parameterization" in s.text for s in found.advice)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_of_torch_forget_at_the_rate_of_their_linearisation(kind, batch_first):
    layer = drawn(kind(2, 4, batch_first=batch_first))
    before = copy.deepcopy(layer.state_dict())
    found = report(layer, **FEW, inputs=["impulse"], budget=cmlib.Budget(calls=60))
    assert found.name == kind.__name__ and found.settings["input channels"] == 2
    # late, an impulse dies as the slowest mode does; complex or equal modes make it a little slower to see
    if found.decays["impulse"].kind == "exponential":
        assert found.decays["impulse"].rate == pytest.approx(found.certificates[0].rate, rel=0.15)
    assert {d.kind for d in found.decays.values()} <= {"exponential", "undecided"}
    assert layer.training and all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    assert all(w.dtype == torch.float32 for w in layer.parameters()) and not layer._forward_pre_hooks


def test_mode_that_saturation_hides_gives_the_rate():
    # held at 10 the cell grows by .2 a step, its tanh saturates like exp(-.4 t), and the gate forgets at log(1 + e^-8)
    layer = nn.LSTM(1, 1, batch_first=True)
    with torch.no_grad():
        for w in layer.parameters():
            _ = w.zero_()
        layer.weight_ih_l0.copy_(torch.tensor([[0.0], [0.8], [1.0], [0.0]]))  # of the gates i, f, g, o
        layer.bias_ih_l0[0] = np.log(0.25)
    found = report(layer, inputs=["heaviside", "impulse"], budget=cmlib.Budget(seconds=600, calls=50))
    d, slow = found.conclusion, np.log1p(np.exp(-8.0))
    assert d.kind == "exponential" and d.rate == pytest.approx(slow, rel=1e-4) and 0.3 < d.rate_interval[1] < 0.5
    assert str(found).startswith("LSTM forgets exponentially, as slowly as 0.000335 per step where x = 10 is held (")
    assert found.decays["heaviside"] == d and found.by_amplitude["heaviside"][10.0].rate == d.rate
    assert found.decays["impulse"].rate == pytest.approx(np.log(2.0), rel=0.05)


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_is_made_causal_and_nothing_is_claimed_of_its_late_memory(batch_first):
    found = report(encoder(batch_first), **FEW | {"n_steps": 40}, inputs=["impulse"], budget=cmlib.Budget(calls=60))
    assert found.certificates == () and not {d.kind for d in found.decays.values()} & {"exponential", "finite"}
    assert found.traits.time_invariant is not True
    assert not any(a.status == "checked" for a in found.assumptions if a.hypothesis == "time-homogeneous")
    assert found.conclusion.kind == "undecided"


def test_any_callable_has_a_memory_and_no_weights():
    found = report(leaky, d_in=1, n_steps=200)
    assert found.name == "leaky" and found.sensitivity == () and found.certificates == ()
    assert {d.kind for d in found.decays.values()} == {"exponential"}
    assert found.decays["impulse"].rate == pytest.approx(0.1, rel=1e-3)
    assert len(found.plot().axes) == 1


def test_delay_is_a_memory_that_ends_and_not_one_of_rate_infinity():
    found = report(delay, d_in=1, n_steps=200)
    assert found.conclusion.kind == "finite" and found.conclusion.lag == 50 and found.traits.lag == 50
    assert "delay remembers 50 steps and nothing before them." in str(found)


def test_integrator_and_average_are_linear_and_their_inputs_do_not_disagree():
    def average(x):
        weights = torch.zeros(x.shape[1], dtype=x.dtype)
        weights[:20] = 0.05
        return cmlib.sequence_maps.causal_convolution(weights, x[..., 0])[..., None]

    summed = report(lambda x: x.cumsum(1), d_in=1, n_steps=200)
    assert summed.traits.linear and summed.conclusion.kind == "plateau" and "never forgets" in str(summed)
    mean = report(average, d_in=1, n_steps=200)
    assert mean.traits.linear and mean.conclusion.kind == "finite" and mean.conclusion.lag == 19
    for found in (summed, mean):
        assert "could not" not in str(found) and "depends on the kind of input" not in str(found)


def test_memoryless_and_chaotic_maps_are_recognised():
    assert "Tanh has no memory" in str(report(nn.Tanh(), d_in=1, n_steps=64))
    wild = nn.RNN(1, 60, bias=False, batch_first=True)
    with torch.no_grad():
        wild.weight_hh_l0.copy_(3 * torch.randn(60, 60, generator=torch.Generator().manual_seed(1)) / 60**0.5)
    found = report(wild, n_steps=100, inputs=["impulse"], n_directions=1, budget=cmlib.Budget(calls=40))
    assert found.traits.chaotic and str(found).startswith("RNN is chaotic") and "Theorem 3.9" in str(found)
    assert {a.hypothesis: a.status for a in found.assumptions}["decaying memory"] == "fails"


class LRU(nn.Module):
    """A layer of somebody else's: eigenvalues of moduli .9 to .999 on a circle, all of them driven and read alike."""

    def eigenvalues(self):
        return torch.polar(
            *torch.stack([torch.linspace(a, b, 16, dtype=torch.float64) for a, b in ((0.9, 0.999), (0, 3))])
        )

    def forward(self, x):
        h, outputs = torch.zeros(len(x), 16, dtype=torch.complex128), []
        for x_k in x.unbind(1):
            h = self.eigenvalues() * h + x_k
            outputs.append(h.sum(-1, keepdim=True).real)
        return torch.stack(outputs, 1)


def test_registered_layer_is_certified_where_its_curve_cannot_decide(monkeypatch):
    monkeypatch.setattr(cmlib.parts, "REGISTERED", dict(cmlib.parts.REGISTERED))
    options = {"d_in": 1, "n_steps": 32, "inputs": ["impulse"], "budget": 600}
    alone = report(LRU(), **options)
    cmlib.parts.register(LRU, LRU.eigenvalues)
    found = report(LRU(), **options)
    assert alone.decays == found.decays and alone.conclusion.kind != "polynomial"
    assert found.conclusion.kind == "exponential" and found.conclusion.rate == pytest.approx(-np.log(0.999))
    assert "LRU forgets exponentially, at the rate 0.001 per step" in str(found)


class Selective(nn.Module):
    """h = A h + (1 - A) x with A = exp(-s(x)), s(x) = softplus(x) / 2, which a constant input holds."""

    def forward(self, x):
        A = torch.exp(-0.5 * nn.functional.softplus(x))
        return cmlib.sequence_maps.linear_scan(A, (1 - A) * x)


def test_selective_layer_is_exponential_on_bounded_inputs_and_a_power_over_those_that_grow():
    found = report(Selective(), d_in=1, amplitudes=[-2.0, -1.0, 1.0, 2.0], inputs=["heaviside"])
    held = 0.5 * np.log1p(np.exp(-2.0))
    assert found.conclusion.kind == "exponential" and found.conclusion.rate == pytest.approx(held, rel=1e-3)
    assert found.growing is None and set(found.by_amplitude["heaviside"]) == {1.0, 2.0}
    found = report(Selective(), d_in=1, inputs=["heaviside"])
    curve, d = found.growing
    assert d.kind == "polynomial" and d.exponent == pytest.approx(1.0, abs=0.02)
    late = (curve.t >= 20) & (curve.t < 200)
    # the largest of s e^{-st} over all s, of steps: at the middle of each
    assert curve.values[late] * (curve.t[late] + 0.5) == pytest.approx(np.exp(-1), rel=0.01)
    assert "falls like a power of time, about 0.36" in str(found)


# ---- what it is asked ----------------------------------------------------------------------------


def test_own_sequences_and_amplitudes_are_what_is_measured():
    tokens = report(leaky, d_in=3, n_steps=32, inputs=["tokens"], amplitudes=[1.0])
    assert tokens.memory["tokens"].inputs == "tokens" and tokens.memory["tokens"].sizes == [1.0]
    own = torch.randn(3, 200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = report(leaky, d_in=1, n_steps=40, inputs={"mine": own}, amplitudes=[0.5, -2.0], history=100)
    assert list(found.memory) == ["mine"] and found.settings["kinds of input"] == ["mine"]
    assert found.memory["mine"].inputs == "own" and found.settings["steps before the input changes"] == 100
    assert sorted({abs(float(x)) for x in found.memory["mine"].amplitudes[:, 0]}) == [0.5, 2.0]
    assert found.decays["mine"].rate == pytest.approx(0.1, rel=1e-3)


def test_single_precision_is_evaluated_in_and_said():
    found = report(nn.GRU(1, 3, batch_first=True), n_steps=40, dtype=torch.float32, inputs=["impulse"], n_directions=1)
    assert found.settings["dtype"] == "float32" and found.memory["impulse"].floor > 1e-9
    assert any("double precision" in s.text for s in found.advice)


def test_greatest_length_is_respected():
    class Short(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.positions, self.w = nn.Embedding(n, 1), nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.w * leaky(x) + self.positions(torch.arange(x.shape[1]))

    found = report(Short(40), d_in=1, n_steps=32, n_directions=1)
    assert found.traits.n_steps == 13 and found.left_out == {}
    found = report(Short(20), d_in=1, n_steps=16, n_directions=1)
    assert found.traits is None and found.left_out["traits"].startswith("they take 24 steps")
    found = report(Short(128), d_in=1, n_steps=64, n_directions=1)
    assert found.settings["greatest length"] == 128 and found.settings["steps before the input changes"] == 64
    assert found.traits.linear and found.conclusion.rate == pytest.approx(0.1, rel=1e-2)
    assert any("128" in note for note in found.notes)
    # one that takes fewer steps than the lags asked for, and curves that are followed as far as it goes
    found = report(Short(128), d_in=1, inputs=["impulse"], n_directions=1)
    assert found.settings["lags asked for"] == 64 and found.conclusion.rate == pytest.approx(0.1, rel=1e-2)
    found = report(Short(60), d_in=1, n_steps=16, inputs=["impulse"], n_directions=1)
    assert found.decays["impulse"].n_steps == 30 and "more than" not in " ".join(found.left_out)
    with pytest.raises(ValueError, match="expected the greatest length that the model takes to be .* >= 32, got 20"):
        report(Short(20), d_in=1)


def test_radii_ask_for_the_perturbation_error():
    found = report(models.LinearRNN([-0.5], [1.0], [1.0]), **FEW, radii=[0.0, 0.1, 0.2])
    assert found.perturbation.errors[0] == 0 and (np.diff(found.perturbation.errors) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "heaviside"}, "expected inputs as a list out of .*, or name -> tensor, got 'heaviside'"),
        ({"inputs": ["steps"]}, "expected inputs among"),
        ({"inputs": []}, "expected inputs as a list"),
        ({"inputs": {"mine": torch.zeros(3)}}, r"expected inputs\['mine'\] of shape"),
        ({"inputs": {"mine": torch.randn(2, 50, 1)}}, "of at least"),
        ({"dtype": torch.int64}, "expected dtype to be a torch.dtype of floating-point numbers"),
        ({"budget": 0}, "expected seconds > 0, got 0"),
        ({"progress": "yes"}, "expected progress to be True, False or a function of a line, got 'yes'"),
        ({"history": 0}, "expected history to be an integer >= 1"),
        ({"amplitudes": [0.0]}, "expected finite amplitudes that are not zero"),
    ],
)
def test_wrong_options_are_said(options, message):
    with pytest.raises(ValueError, match=message):
        report(models.LinearRNN([-0.5], [1.0], [1.0]), **FEW | {"n_steps": 64} | options)


# ---- what it may cost ----------------------------------------------------------------------------


def test_calls_that_do_not_suffice_leave_the_last_stages_out():
    network, all_of_it = models.RNN(-0.3 * np.eye(2), np.ones(2), np.ones(2)), 1000
    seen = {}
    for calls in (4, 30, all_of_it):
        found = report(network, **FEW, inputs=["heaviside"], budget=cmlib.Budget(seconds=600, calls=calls))
        assert found.settings["evaluations"] <= calls and all(found.left_out.values())
        seen[calls] = found
    assert seen[all_of_it].left_out == {} and seen[all_of_it].sensitivity
    assert "sensitivity" in seen[30].left_out and seen[30].memory and seen[30].traits is not None
    assert "traits" in seen[4].left_out and "Left out: traits" in str(seen[4])
    # what is there is the same number, whatever was left out
    few, many = (seen[calls].memory["heaviside"].values for calls in (4, all_of_it))
    assert np.array_equal(few, many[: len(few)])
    assert any("Allow more" in s.text for s in seen[4].advice)
    # and what comes later is not on this budget
    assert len(seen[4].memory["heaviside"].longer(120).t) == 120


def test_curve_that_cannot_be_followed_is_decided_as_it_is_and_said_to_be_short():
    slow = models.LinearRNN([-0.001], [1.0], [1.0])
    short = report(slow, n_steps=64, inputs=["impulse"], budget=cmlib.Budget(calls=5))
    assert short.decays["impulse"].kind == "undecided" and len(short.memory["impulse"].t) == 64
    assert "more than 64 lags of impulse" in short.left_out and "traits" in short.left_out
    # the eigenvalue decides where the curve could not
    assert short.conclusion.kind == "exponential" and short.conclusion.rate == pytest.approx(0.001)


def test_attention_is_followed_only_as_far_as_its_pairs_of_steps_fit(monkeypatch):
    monkeypatch.setattr("cmlib.memory.BLOCK", 2**12)
    monkeypatch.setattr(sys.modules["cmlib.report"], "LARGEST", 350**2)
    options = {"d_in": 1, "n_steps": 32, "inputs": ["impulse"], "budget": cmlib.Budget(seconds=600, calls=200)}
    found = report(ZOO["attention, linear biases"].make(0), **options)
    assert found.decays["impulse"].n_steps == 64  # of 5 times as many steps
    why = found.left_out["more than 64 lags of impulse"]
    assert why == "one sequence of 640 steps takes 4e+05 numbers at once, as attention does"
    assert report(ZOO["RG-LRU"].make(0), **options).decays["impulse"].n_steps == 256


def test_time_that_is_over_leaves_all_but_the_first_curve_undecided(monkeypatch):
    clock = [0.0]

    def late(curve, **options):
        clock[0] += 1000.0
        return cmlib.decay(curve, **options)

    monkeypatch.setattr("cmlib.budget.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(sys.modules["cmlib.report"], "decay", late)
    found = report(leaky, d_in=1, n_steps=200, inputs=["heaviside", "impulse"])
    assert found.decays["heaviside"].kind == "exponential" and found.decays["impulse"].kind == "undecided"
    assert "decay, impulse" in found.left_out and len(found.memory["impulse"].t) == 200
    assert found.conclusion.kind == "exponential"  # it is linear


def test_model_that_is_not_finite_so_late_is_followed_no_further():
    def grows(x):
        late = torch.arange(x.shape[1]) > 500
        return torch.where(late[:, None], torch.full_like(x, torch.inf), x.cumsum(1) ** 1)

    found = report(grows, d_in=1, n_steps=80, inputs=["impulse"])
    assert len(found.memory["impulse"].t) == 80


def test_progress_says_each_stage_and_nothing_otherwise(capsys):
    lines = []
    options = FEW | {"inputs": ["impulse"], "n_directions": 1}
    _ = report(models.LinearRNN([-0.5], [1.0], [1.0]), **options, progress=lines.append)
    assert [line.split(",")[0] for line in lines if not line.startswith("about")] == [
        "preflight",
        "traits",
        "memory",
        "certificates",
        "sensitivity",
    ]
    assert sum(line.startswith("about") and "of 60 s" in line for line in lines) == 1
    _ = report(models.LinearRNN([-0.5], [1.0], [1.0]), **options)
    assert capsys.readouterr() == ("", "")
    _ = report(models.LinearRNN([-0.5], [1.0], [1.0]), **options, progress=True)
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("cmlib: preflight\n")


# ---- what it writes ------------------------------------------------------------------------------


def strict(path):
    def refused(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)


def test_json_says_the_same_in_finite_numbers(tmp_path):
    layer = models.SSM([0.0, -1.0], [1.0, 1.0], [1.0, 1.0], parameterization=parameterizations.exp)
    found = report(layer, **FEW, inputs=["impulse"])
    read = strict(found.save(tmp_path / "report.json"))
    assert read["schema"] == 1 and [s["text"] for s in read["verdict"]] == [s.text for s in found.verdict]
    assert read["conclusion"]["rate"] == found.conclusion.rate and read["conclusion"]["lag"] is None
    assert read["certificates"][0]["radius"] == "inf" and read["certificates"][0]["part"]["name"] == ""
    assert read["memory"]["impulse"]["values"] == found.memory["impulse"].values.tolist()
    assert {row["status"] for row in read["assumptions"]} <= {"checked", "assumed", "fails"}
    assert read == json.loads(json.dumps(found.to_dict()))


def test_same_seed_gives_the_same_report():
    network = models.RNN(-0.3 * np.eye(2), np.ones(2), np.ones(2))
    options = FEW | {"inputs": ["random"], "amplitudes": [-1.0, 1.0], "budget": cmlib.Budget(calls=60)}
    first, again = (report(network, **options).to_dict() for _ in range(2))
    other = report(network, **options, generator=torch.Generator().manual_seed(1)).to_dict()
    assert first == again and first["settings"]["seed"] == 0 and other["settings"]["seed"] == 1
    assert first["memory"]["random"] != other["memory"]["random"]


def test_page_is_one_file_that_asks_for_nothing(tmp_path):
    found = report(
        models.RNN(-0.3 * np.eye(2), np.ones(2), np.ones(2)), **FEW, inputs=["heaviside"], amplitudes=[-1.0, -0.1, 1.0]
    )
    path = found.save(tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    for said in (*found.verdict, *found.advice, *found.doubts):
        assert said.text.replace("'", "&#x27;").replace("<", "&lt;") in text
    assert "http" not in text and "<script" not in text and "src=" not in text and text.count("<svg") == 4
    assert all(colour not in text for colour in ("#0101", "#0202", "#0303")) and "var(--line-0)" in text
    names = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(names) == len(set(names))
    with pytest.raises(ValueError, match=r"expected a path that ends in .html or .json, got '.*report.pdf'"):
        found.save(tmp_path / "report.pdf")


def test_name_of_a_model_is_text_on_the_page(tmp_path):
    class Odd(nn.Tanh):
        pass

    Odd.__name__ = "<b>$x & \\1"
    text = report(Odd(), d_in=1, n_steps=16).save(tmp_path / "odd.html").read_text(encoding="utf-8")
    assert "<b>" not in text and "&lt;b&gt;$x &amp; \\1 has no memory" in text


# ---- what is no such model -----------------------------------------------------------------------


class Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.d_in, self.w = function, 1, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.function(self.w * x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.flip(1), "expected a causal model, but its output at step 0 depends on the input at step"),
        (lambda x: x - x.mean(1, keepdim=True), "expected a causal model"),
        (lambda x: x - x.mean(0), "expected sequences to be independent"),
        (lambda x: x.cumsum(0), "time_first=True"),
        (lambda x: x[:, :-1], r"expected outputs \(batch, time, d_out\) for inputs"),
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


def test_report_is_named_after_what_the_user_knows():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that the compiler is old
        scripted = torch.jit.script(nn.Sequential(nn.Linear(1, 2)))
    compiled = torch.compile(nn.Tanh(), backend="eager")
    named = (functools.partial(torch.cumsum, dim=1), lambda x: x.cumsum(1), scripted, compiled)
    found = [report(model, d_in=1, n_steps=16, inputs=["impulse"]) for model in named]
    assert [one.name for one in found] == ["cumsum", "The map", "Sequential", "Tanh"]
    assert "TorchScript" in found[2].left_out["certificates and sensitivity"] and found[1].left_out == {}


def test_model_of_tokens_is_told_where_to_be_probed_before_its_channels_are_asked_for():
    model = nn.Sequential(nn.Embedding(10, 2), nn.GRU(2, 2, batch_first=True))
    with pytest.raises(ValueError, match=r"or cmlib.adapt\(model, input=model.get_submodule\('0'\)\) for"):
        report(model)
