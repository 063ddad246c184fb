"""preflight: what is no causal map of independent sequences is named, and what is one passes, large or chaotic."""

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cmlib
from cmlib import kernels, models, targets
from cmlib.preflight import precise, preflight
from cmlib.sequence_maps import Causal, in_double


def drawn(module, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in module.parameters():
            w.copy_(torch.randn(w.shape, generator=g, dtype=w.dtype) / w.shape[-1] ** 0.5)
    return module


class TimeFirst(nn.Module):
    """A network whose layer was left time first, as they are by default."""

    def __init__(self, cell):
        super().__init__()
        self.layer, self.head = cell(2, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.layer(x)[0])


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_time_first_is_told_from_mixing(cell):
    model = drawn(TimeFirst(cell))
    with pytest.raises(ValueError, match=r"looks like \(time, batch, channels\).*adapt\(model, time_first=True\)"):
        preflight(model, 2)
    with pytest.raises(ValueError, match="looks like"):
        cmlib.memory_function(model, 20, d_in=2)
    with pytest.raises(ValueError, match="looks like"):
        cmlib.report(model, d_in=2)
    turned = preflight(cmlib.adapt(model, time_first=True), 2)
    assert (turned.d_in, turned.d_out) == (2, 1)


class Answer(nn.Module):
    """A function of x as a network."""

    def __init__(self, function):
        super().__init__()
        self.function, self.gain = function, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.gain * self.function(x)


def of_last(x):
    """All sequences but the last see the last; the first is looked at in vain."""
    return x + torch.cat([0 * x[:1], x[-1:].expand_as(x[1:])])


def late_row_peeks(x):
    """Only the last sequence of a batch sees its future."""
    return torch.cat([x[:-1], x[-1:].flip(1)])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x - x.mean(0), "expected sequences to be independent"),
        (lambda x: x.flip(0), "expected sequences to be independent"),
        (of_last, "expected sequences to be independent"),
        (lambda x: x + 1e-5 * x.roll(1, 0), "expected sequences to be independent"),
        (lambda x: x.flip(1), "causal model, but its output at step 0 depends on the input at step 1 or later"),
        (late_row_peeks, "expected a causal model"),
        (lambda x: x - x.mean(1, keepdim=True), "expected a causal model"),
        (lambda x: x + 1e-5 * x.roll(-1, 1), "expected a causal model"),
        (lambda x: 1e-9 * x + 1e-12 * x.roll(-1, 1), "expected a causal model"),
        (lambda x: x / x.shape[1], "causal model, but a shorter input gave other outputs"),
        (lambda x: x + torch.randn_like(x), "draws random numbers: switch off what .eval.. leaves on, or call it"),
        (lambda x: x + 1e-8 * torch.randn_like(x), "draws random numbers"),
        (lambda x: nn.functional.dropout(x, 0.5), "draws random numbers"),
        (lambda x: x + np.random.default_rng().normal(), "keeps something .* or draws random numbers of its own"),
        (lambda x: x[:, :-1], r"expected outputs \(batch, time, d_out\) for inputs \(5, 64, 1\), got \(5, 63, 1\)"),
        (lambda x: x[:, -1], r"expected outputs .* got \(5, 1\)"),
        (lambda x: x[..., 0], r"channels are missing: cmlib.adapt\(model, output=lambda y: y\[..., None\]\)"),
        (lambda x: x / 0, "expected finite outputs, got NaN or infinity"),
        (lambda x: x[..., :0], r"expected outputs .* got \(5, 64, 0\)"),
        (lambda x: x > 0, "expected outputs of floating-point numbers, got torch.bool"),
        (lambda x: x @ torch.ones(2, 2).to(x), "expected a map of torch.float64 inputs"),
        (lambda x: {"logits": x, "loss": x.mean()}, r"take one of \['logits', 'loss'\] .*output='logits'"),
        (lambda x: (x.mean(), x), r"take one of \[0, 1\] with cmlib.adapt\(model, output=1\)"),
        (lambda x: [x], r"cmlib.adapt\(model, output=0\)"),
        (lambda x: x.numpy(), r"it gives numpy arrays: cmlib.adapt\(f, input='numpy'\)"),
        (lambda x: "no", r"got str: cmlib.adapt\(model, output=\.\.\.\) says where the outputs are"),
    ],
)
def test_what_is_no_map_is_named(function, message):
    with pytest.raises(ValueError, match=message):
        preflight(function)


def test_a_bidirectional_layer_is_not_causal():
    with pytest.raises(ValueError, match="expected a causal model"):
        preflight(drawn(nn.LSTM(1, 4, bidirectional=True, batch_first=True)))


class Keeps(nn.Module):
    """A recurrent network that goes on from where the last call ended."""

    def __init__(self, buffer):
        super().__init__()
        self.cell = drawn(nn.GRUCell(1, 4).double())
        if buffer:
            self.register_buffer("h", torch.zeros(5, 4, dtype=torch.float64))
        else:
            self.h = None

    def forward(self, x):
        h, outputs = self.h, []
        for x_k in x.unbind(1):
            h = self.cell(x_k, h)
            outputs.append(h)
        self.h = h
        return torch.stack(outputs, 1)


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def test_noise_is_heard_in_compiled_modules_and_above_coarse_rounding():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that the compiler is old
        compiled = torch.jit.script(Noisy())
    for model in (compiled, nn.Sequential(nn.Linear(1, 1), Noisy()).bfloat16()):
        with pytest.raises(ValueError, match="draws random numbers: switch off"):
            preflight(model)


@pytest.mark.parametrize("buffer", [True, False])
def test_what_is_kept_from_call_to_call_is_named(buffer):
    with pytest.raises(ValueError, match="starts anew with each call, but it keeps h from call to call"):
        preflight(Keeps(buffer))


def test_callers_generator_is_left_alone():
    layer, state = nn.Linear(1, 1), torch.random.get_rng_state()
    preflight(layer)
    with pytest.raises(ValueError, match="draws random numbers of its own"):  # after a try with another seed
        preflight(lambda x: x + np.random.default_rng().normal())
    assert torch.equal(torch.random.get_rng_state(), state)


# --- length


class Positions(nn.Module):
    """A network with a table of positions."""

    def __init__(self, n, d=4):
        super().__init__()
        self.table, self.readin = nn.Embedding(n, d), nn.Linear(1, d)
        self.d_in = 1

    def forward(self, x):
        k = torch.arange(x.shape[1], device=x.device)
        z = self.readin(x) + self.table(k)
        return z.cumsum(1) / (1 + k[:, None])


def refuses_beyond(n):
    def seq_map(x):
        if x.shape[1] > n:
            raise ValueError(f"at most {n} steps")
        return x.cumsum(1)

    return seq_map


@pytest.mark.parametrize("greatest", [7, 40, 64, 65, 512])
def test_greatest_length_is_found(greatest):
    model = Positions(greatest)
    found = preflight(model, n_steps=1000)
    assert found.longest == greatest and f"at most {greatest} steps" not in found.notes
    assert any(f"{greatest} steps at most" in note for note in found.notes)
    assert preflight(model, n_steps=greatest).longest is None
    assert preflight(refuses_beyond(greatest), n_steps=1000).longest == greatest
    assert preflight(lambda x: x[:, :greatest].cumsum(1), n_steps=1000).longest == greatest  # cuts the rest off


def test_memory_respects_the_greatest_length():
    model = in_double(Positions(512))
    curve = cmlib.memory_function(model, 400)
    assert len(curve.values) == 400
    assert np.array_equal(curve.values, cmlib.memory_function(model, 400, history=112).values)
    assert np.array_equal(curve.values, cmlib.memory_function(model, 400, check=preflight(model, 1, 1000)).values)
    with pytest.raises(ValueError, match="expected n_steps < 512, since a step of history comes before them, got 512"):
        cmlib.memory_function(model, 512)
    longest = curve.longer(800)
    assert len(longest.values) == 511 and longest.longer is None


def test_a_map_of_one_length_passes_at_that_length():
    weights = torch.rand(200, 1, dtype=torch.float64)

    def seq_map(x):
        return (weights * x).cumsum(1)

    assert preflight(seq_map, n_steps=200).longest is None
    assert len(cmlib.memory_function(seq_map, 199, history=1).values) == 199
    with pytest.raises(ValueError, match="expected a map of"):
        preflight(seq_map, n_steps=100)


def test_one_that_overflows_late_is_not_short():
    with pytest.raises(ValueError, match="expected finite outputs"):
        preflight(lambda x: torch.exp(10 * x.abs().cumsum(1)), n_steps=1000)


def test_pieces_of_equal_length_are_no_greatest_length():
    def in_eights(x):
        return x.reshape(len(x), -1, 8, 1).cumsum(2).reshape(x.shape)

    assert preflight(in_eights, n_steps=1000).longest is None
    with pytest.raises(ValueError, match="of any length, but it takes 960 steps, and not 959 or 1001"):
        preflight(in_eights, n_steps=1001)


def test_what_writes_into_its_input_is_measured_as_what_it_is():
    def writes(x):
        x[:, 1:] += 1.0
        return x.cumsum(1)

    x = torch.zeros(1, 3, 1)
    assert cmlib.sequence_maps.evaluate(writes, x).flatten().tolist() == [0.0, 1.0, 2.0] and not x.any()
    assert preflight(writes).d_out == 1


# --- dtype


class Floats(nn.Module):
    """A network that holds its state in single precision, whatever it is given."""

    def __init__(self, back):
        super().__init__()
        self.w, self.back, self.d_in = nn.Parameter(torch.full((), 0.9)), back, 1

    def forward(self, x):
        h, outputs = torch.zeros(x.shape[0], x.shape[2]), []
        for x_k in x.float().unbind(1):
            h = torch.tanh(self.w.float() * h + x_k)
            outputs.append(h)
        y = torch.stack(outputs, 1)
        return y.to(x.dtype) if self.back else y


class Strict(Floats):
    """One that takes single precision alone."""

    def forward(self, x):
        return torch.matmul(torch.eye(1), super().forward(x.clone()).transpose(1, 2).to(x.dtype)).transpose(1, 2)


def test_precision_is_that_of_the_lowest_seen():
    single = torch.finfo(torch.float32).eps
    assert preflight(lambda x: 2 * x).rounding == torch.finfo(torch.float64).eps
    outputs = preflight(in_double(Floats(False)))
    assert outputs.rounding == single and "Its outputs come as torch.float32" in outputs.notes[0]
    inside = preflight(in_double(Floats(True)))
    assert inside.dtype == torch.float64 and single / 8 < inside.rounding < 8 * single
    assert "lower precision than it takes" in inside.notes[0]
    # the floor of a memory function knows it
    floor = cmlib.memory_function(in_double(Floats(True)), 20).floor
    assert floor > 1e7 * cmlib.memory_function(lambda x: x, 20).floor


def test_dtype_that_it_takes_is_found():
    refused = nn.Sequential(Strict(True))
    found = preflight(refused)
    assert found.dtype == torch.float32 and "It takes torch.float32" in found.notes[0]
    assert preflight(lambda x: refused(x)).dtype == torch.float32
    with pytest.raises(ValueError, match="expected a map of torch.float64 inputs, but it takes torch.float32"):
        preflight(refused, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected dtype to be a torch.dtype"):
        preflight(refused, dtype="double")
    assert next(precise(refused, 1).parameters()).dtype == torch.float32  # in double precision it would refuse
    assert next(precise(Floats(True), 1).parameters()).dtype == torch.float64
    curve = cmlib.memory_function(lambda x: refused(x), 20)
    assert np.isfinite(curve.values).all() and curve.floor > 1e-8


class HalfInside(nn.Module):
    def forward(self, x):
        return x.bfloat16().cumsum(1).to(x.dtype)


def test_half_precision_inside_a_single_one_is_seen():
    found = preflight(HalfInside(), dtype=torch.float32)
    half = torch.finfo(torch.bfloat16).eps
    assert half / 16 < found.rounding < 2 * half and "lower precision" in found.notes[0]
    assert preflight(lambda x: x.cumsum(1), dtype=torch.float32).rounding == torch.finfo(torch.float32).eps


class LRU(nn.Module):
    def __init__(self):
        super().__init__()
        moduli, angles = torch.linspace(0.9, 0.99, 4), torch.linspace(0.0, 3.0, 4)
        self.eigenvalues = nn.Parameter(torch.polar(moduli, angles))

    def forward(self, x):
        h, outputs = torch.zeros(len(x), 4, dtype=self.eigenvalues.dtype), []
        for x_k in x.unbind(1):
            h = self.eigenvalues * h + x_k
            outputs.append(h.sum(1, keepdim=True).real)
        return torch.stack(outputs, 1)


def test_complex_weights_take_real_inputs():
    layer = LRU()
    assert preflight(layer).dtype == torch.float32
    doubled = in_double(layer)
    assert doubled.eigenvalues.dtype == torch.complex128
    assert torch.equal(doubled.eigenvalues.to(torch.complex64), layer.eigenvalues)
    expected = (doubled.eigenvalues.detach() ** torch.arange(20)[:, None]).sum(1).real.abs()
    assert np.allclose(cmlib.memory_function(doubled, 20).values, expected, atol=1e-12)


# --- what wants something else than sequences of numbers


class Tokens(nn.Module):
    """A language model with few positions, which it looks up first, and the outputs of a dictionary."""

    def __init__(self, n=50, d=4, longest=32):
        super().__init__()
        self.positions, self.embed = nn.Embedding(longest, d), nn.Embedding(n, d)
        self.layer, self.head = nn.GRU(d, d, batch_first=True), nn.Linear(d, n)

    def forward(self, ids):
        z = self.positions(torch.arange(ids.shape[1]))
        return {"loss": None, "logits": self.head(self.layer(z + self.embed(ids))[0])}


def test_models_of_tokens_are_told_where_to_be_probed():
    says = r"it takes token ids, so probe it after the embedding: cmlib.adapt\(model, input=model.embed\)"
    model = Tokens()
    for probe in (preflight, lambda model, d_in: cmlib.memory_function(model, 8, d_in=d_in)):
        with pytest.raises(ValueError, match=says):
            probe(model, 4)
    with pytest.raises(ValueError, match=says):
        cmlib.report(model, d_in=4)
    assert not any(part._forward_hooks for part in model.modules())
    table = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"it takes token ids.*input=its nn.Embedding"):
        preflight(lambda ids: nn.functional.embedding(ids, table), 4)


def test_maps_of_numpy_and_of_other_layouts_are_told_how_to_adapt():
    with pytest.raises(ValueError, match=r"it takes numpy arrays: cmlib.adapt\(f, input='numpy'\)"):
        preflight(lambda x: np.cumsum(x.astype(float), axis=1))
    with pytest.raises(ValueError, match=r"it takes \(batch, channels, time\): cmlib.adapt\(model, input=lambda x"):
        preflight(nn.Conv1d(2, 3, 1), 2)
    with pytest.raises(ValueError, match=r"one that needs more arguments .*input=lambda x: \(x, mask\)"):
        preflight(nn.TransformerDecoderLayer(4, 1, 8), 4)


class Named:
    def __init__(self, y):
        self.last, self.logits = y[:, -1], y


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (Named, r"take one of \['last', 'logits'\] with cmlib.adapt\(model, output='logits'\)"),
        (
            lambda x: x[..., None] * torch.ones(2),
            r"several axes: .*output=lambda y: y.flatten\(2\)\)",
        ),
        (lambda x: x[:, -1], "one output for a whole sequence: probe the part of it that gives one for each step"),
    ],
)
def test_outputs_in_other_places_are_pointed_at(function, hint):
    with pytest.raises(ValueError, match=hint):
        preflight(function, 3)


def test_model_of_a_single_length_is_told_how_to_take_others():
    weights = torch.rand(200, 1, dtype=torch.float64)

    def model(x):
        return (weights * x).cumsum(1)

    with pytest.raises(
        ValueError, match=r"it takes 200 steps, so fill shorter .* 200 - x.shape\[1\]\)\)\)\[:, :x.shape"
    ):
        preflight(model, n_steps=100)
    fitted = preflight(lambda x: model(F.pad(x, (0, 0, 0, 200 - x.shape[1])))[:, : x.shape[1]], n_steps=1000)
    assert fitted.longest == 200


class Headed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.drop, self.head = nn.GRU(2, 4, batch_first=True), nn.Dropout(0.5), nn.Linear(4, 1)

    def forward(self, x):
        y, _ = self.layer(x)
        return self.head(self.drop(y))


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda m: torch.jit.trace(m.eval(), torch.ones(2, 5, 2))])
def test_compiled_modules_pass_and_say_what_is_wrong_in_a_line(compiled):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that the compiler is old
        model = compiled(drawn(Headed()))
    assert preflight(model, 2).dtype == torch.float32
    # tracing writes the precision of the state into the graph
    assert preflight(precise(model, 2), 2).dtype == (torch.float64 if compiled is torch.jit.script else torch.float32)
    with pytest.raises(ValueError) as refused:
        preflight(model, 3)
    assert "\n" not in str(refused.value) and "3" in str(refused.value)


def test_a_model_that_cannot_be_copied_says_so():
    model = nn.Linear(1, 1)
    model.lock = threading.Lock()
    with pytest.raises(ValueError, match="expected a model that copy.deepcopy copies: cannot pickle"):
        cmlib.report(model, d_in=1)


def test_mode_and_weights_stay_as_they_are():
    model = drawn(Headed())
    model.drop.eval()
    modes, before = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    preflight(model, 2)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


# --- no false alarms


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(2 if k == 0 else 8, 8, 3, dilation=2**k) for k in range(5))

    def forward(self, x):
        z = x.transpose(1, 2)
        for k, layer in enumerate(self.layers):
            z = torch.relu(layer(nn.functional.pad(z, (2 * 2**k, 0))))
        return z.transpose(1, 2)


class Deep(nn.Module):
    def __init__(self, cell, size):
        super().__init__()
        self.layer, self.size = cell(2, 12, 4, batch_first=True, dropout=0.3), size
        self.norm, self.drop, self.head = nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 3)

    def forward(self, x):
        y = self.norm(self.layer(x)[0].transpose(1, 2)).transpose(1, 2)
        return self.size * self.head(self.drop(y))


class Chaotic(nn.Module):
    """h <- tanh(gain W h + U x), whose input comes through an FFT that smears rounding over all steps."""

    def __init__(self, gain):
        super().__init__()
        self.W, self.U, self.gain = nn.Parameter(torch.empty(100, 100)), nn.Parameter(torch.empty(100, 2)), gain
        self.smooth = targets.LinearFunctional(kernels.Exponential(0.1))

    def forward(self, x):
        u = torch.cat([self.smooth(x[..., k : k + 1].double()) for k in range(2)], -1).to(x.dtype)
        h, outputs = torch.zeros(len(x), 100, dtype=x.dtype), []
        for u_k in u.unbind(1):
            h = torch.tanh(self.gain * h @ self.W.T + u_k @ self.U.T)
            outputs.append(h)
        return torch.stack(outputs, 1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.readin = nn.Linear(2, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = Causal(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False))

    def forward(self, x):
        return self.encoder(self.readin(x))


RIVALS = {
    "linear": lambda: models.LinearRNN([-0.5, -0.01], [1.0, 1.0], [1e6, 1e6]),
    "growing": lambda: models.LinearRNN([0.2], [1.0], [1.0]),
    "s4d": lambda: models.S4D(2, 8, generator=torch.Generator().manual_seed(0)),
    "convolutional": Convolutional,
    "deep, tiny": lambda: Deep(nn.RNN, 1e-6),
    "deep, large": lambda: Deep(nn.LSTM, 1e9),
    "deep": lambda: Deep(nn.GRU, 1.0),
    "chaotic": lambda: Chaotic(1.5),
    "very chaotic": lambda: Chaotic(10.0),
    "attention": Attention,
}


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_maps_that_are_some_pass(name, precision):
    for seed in range(3):
        model = in_double(RIVALS[name](), precision)
        d_in = 1 if isinstance(model, models.LinearRNN) else 2
        model = model if d_in == 1 or name == "s4d" else drawn(model, seed)
        for n_steps in (1, 2, 5, 16, 200):
            found = preflight(model, d_in, n_steps)
            assert found.dtype == precision and found.longest is None
            assert found.rounding == torch.finfo(precision).eps


@pytest.mark.parametrize("name", RIVALS)
def test_what_peeks_a_little_is_caught(name):
    model = in_double(RIVALS[name]())
    d_in = 1 if isinstance(model, models.LinearRNN) else 2
    model = (model if d_in == 1 or name == "s4d" else drawn(model)).eval()
    for n_steps in (3, 16, 64):
        with pytest.raises(ValueError, match="expected a causal model"):
            preflight(lambda x: model(x + 1e-4 * x.roll(-1, 1)), d_in, n_steps)
        with pytest.raises(ValueError, match="expected sequences to be independent"):
            preflight(lambda x: model(x + 1e-4 * x.flip(0)), d_in, n_steps)


def test_complex_outputs_pass():
    assert preflight(lambda x: torch.complex(x, x.cumsum(1))).d_out == 1
    with pytest.raises(ValueError, match="expected a causal model"):
        preflight(lambda x: torch.complex(x, x.flip(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_in": 0}, "expected d_in to be an integer >= 1, got 0"),
        ({"n_steps": 0}, "expected n_steps to be an integer >= 1, got 0"),
        ({"generator": 0}, "expected generator to be a torch.Generator, got 0"),
    ],
)
def test_wrong_calls_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        preflight(lambda x: x, **options)
    with pytest.raises(ValueError, match=r"expected a map .*, got 3"):
        preflight(3)


def test_constants_that_are_no_buffers_follow_to_double_precision():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = torch.rand(2, 2)

        def forward(self, x):
            return x @ self.mix

    model = Constant()
    assert preflight(precise(model, 2), 2).dtype == torch.float64 and model.mix.dtype == torch.float32
