"""memory: the three inputs agree on linear maps, and known nonlinear maps have the memory they should."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels
from cmlib.models import RNN, LinearRNN
from cmlib.sequence_maps import causal_convolution
from cmlib.targets import LinearFunctional

DT = 0.1


def cell_means(kernel: kernels.Kernel, n: int) -> np.ndarray:
    return -np.diff(kernel.tail(DT * np.arange(n + 1))) / DT


@pytest.mark.parametrize("inputs", ["heaviside", "impulse", "removed"])
@pytest.mark.parametrize("kernel", [kernels.Exponential(0.5), kernels.Airy(3.0)])
def test_memory_function_equals_kernel_when_linear(inputs, kernel):
    # the removed input needs a history longer than the memory; 400 steps leave less than 1e-8 of either kernel
    curve = cmlib.memory_function(LinearFunctional(kernel, dt=DT), 60, DT, inputs=inputs, history=400)
    assert np.allclose(curve.t, DT * np.arange(60))
    # values near 10 are differenced and divided by dt, and the history cut off is e^{-20}
    assert np.allclose(
        curve.values, np.abs(cell_means(kernel, 60)), rtol=0, atol=1e-8 if inputs == "removed" else 1e-12
    )


OWN = torch.randn(3, 700, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64).cumsum(1)


@pytest.mark.parametrize("inputs", ["random", "tokens", OWN], ids=["random", "tokens", "own"])
@pytest.mark.parametrize("kernel", [kernels.Exponential(0.5), kernels.Airy(3.0)])
def test_a_running_input_changes_nothing_when_linear(inputs, kernel):
    curve = cmlib.memory_function(LinearFunctional(kernel, dt=DT), 60, DT, inputs=inputs)
    # differences of outputs that are up to 100 times the impulse, divided by dt
    assert np.allclose(curve.values, np.abs(cell_means(kernel, 60)), rtol=0, atol=1e-10)
    assert curve.inputs == (inputs if isinstance(inputs, str) else "own")
    assert len(curve.by_amplitude) == len(curve.amplitudes) and curve.floor > 0


def integrator_with_gate(x):
    """Holds the last input that was at least 2 in size: what runs overwrites what was."""
    return torch.stack([held for held in hold(x)], 1)


def hold(x):
    h = torch.zeros_like(x[:, 0])
    for x_k in x.unbind(1):
        h = torch.where(x_k.abs() >= 2, x_k, h)
        yield h


@pytest.mark.parametrize("seed", range(3))
def test_a_running_input_shows_what_silence_hides(seed):
    # in silence the gate stays shut and the last large input is held for ever; noise overwrites it
    g = torch.Generator().manual_seed(seed)
    silent = cmlib.memory_function(integrator_with_gate, 200, inputs="impulse")
    running = cmlib.memory_function(integrator_with_gate, 200, inputs="random", generator=g)
    assert silent.values[-1] == 1.0 and running.values[-1] == 0.0 < running.values[0]


def test_a_longer_running_input_goes_on_where_the_shorter_one_ends():
    layer = nn.GRU(2, 4, batch_first=True).double()
    for inputs in ("random", "tokens"):
        g = torch.Generator().manual_seed(1)
        short = cmlib.memory_function(layer, 40, d_in=2, inputs=inputs, history=100, generator=g)
        long = short.longer(80)
        assert np.allclose(long.values[:40], short.values, rtol=1e-9, atol=1e-15) and len(long.values) == 80
        again = cmlib.memory_function(layer, 40, d_in=2, inputs=inputs, history=100, generator=g)
        assert not np.allclose(again.values, short.values, rtol=1e-3)  # the generator has gone on


def test_tokens_are_swapped_one_for_another():
    seen = []

    def keeps(x):
        seen.append(x)
        return x.cumsum(1)

    curve = cmlib.memory_function(keeps, 5, d_in=3, inputs="tokens", check=False)
    changed, running = seen[0][:-4], seen[0][-4:]
    assert changed.shape == (8, 10, 3) and ((seen[0] == 0) | (seen[0] == 1)).all() and (seen[0].sum(2) == 1).all()
    differs = (changed != running.repeat_interleave(2, 0)).any(2)
    assert differs[:, 5].all() and differs.sum() == 8
    assert (curve.values[0], curve.amplitudes.shape) == (1.0, (8, 3))
    assert np.array_equal(np.abs(curve.amplitudes).sum(1), np.full(8, 2.0))
    wide = cmlib.memory_function(lambda x: x.cumsum(1), 5, d_in=100, inputs="tokens")
    assert len(wide.amplitudes) == 32  # eight others for each


def test_own_data_are_probed_in_their_middle_at_their_own_size():
    seen = []

    def sees(x):
        seen.append(x)
        return x

    own = torch.cat([torch.arange(20.0), torch.zeros(1)])[None, :, None].expand(2, -1, 2) * torch.tensor([1.0, 100.0])
    curve = cmlib.memory_function(sees, 5, d_in=2, inputs=own, history=4, check=False)
    assert torch.equal(seen[0][-2:], own[:, 6:15].double())
    std = own.double().std((0, 1), correction=0).numpy()
    assert np.allclose(np.unique(np.abs(curve.amplitudes) / std), [0, 0.1, 1])
    curve = cmlib.memory_function(sees, 5, d_in=2, inputs=own, amplitudes=[3.0], check=False)
    assert np.array_equal(curve.amplitudes, [[3.0, 3.0]] * 2)
    assert len(curve.longer(1000).values) == 20 and curve.longer(1000).longer is None


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (OWN[:, :40], {"n_steps": 40}, "expected inputs of at least 1 steps of history and 40 more, got 40"),
        (OWN[:, :40], {"n_steps": 20, "history": 30}, "at least 30 steps of history and 20 more, got 40"),
        (OWN, {"d_in": 2}, r"expected inputs of shape \(batch, time, 2\), got \(3, 700, 1\)"),
        (OWN[0], {}, r"expected inputs of shape \(batch, time, 1\), got \(700, 1\)"),
        (OWN / 0, {}, "expected inputs of finite numbers"),
        (OWN[:0], {}, "expected inputs of finite numbers"),
        (OWN.long(), {}, "expected inputs of floating-point numbers, got torch.int64"),
        (0 * OWN + 1, {}, "expected inputs that vary"),
        ("tokens", {"amplitudes": [1.0]}, "expected no amplitudes for tokens"),
        ("noise", {}, "expected inputs among .*'random', 'tokens'"),
    ],
)
def test_running_inputs_that_do_not_fit_are_refused(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        cmlib.memory_function(lambda x: x, **({"n_steps": 5, "inputs": inputs} | options))


def test_what_preflight_refuses_is_measured_when_told():
    def peeks(x):
        return x.roll(-1, 1)

    with pytest.raises(ValueError, match="expected a causal model"):
        cmlib.memory_function(peeks, 5)
    assert cmlib.memory_function(peeks, 5, check=False).values[0] == 0.0


def test_memory_function_of_a_network_is_its_kernel():
    network = LinearRNN(*cmlib.exponential_sum(kernels.Polynomial(1.1), 4).realization(), dt=DT)
    means = cell_means(cmlib.exponential_sum(kernels.Polynomial(1.1), 4), 50)
    assert np.allclose(cmlib.memory_function(network, 50, DT).values, means, rtol=0, atol=1e-11)


def test_the_identity_forgets_at_once():
    curve = cmlib.memory_function(lambda x: x, 5)
    assert np.array_equal(curve.values, [1.0, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("inputs", ["heaviside", "impulse", "removed"])
def test_a_delay_remembers_exactly_one_time(inputs):
    def delay(x):
        return torch.cat([torch.zeros_like(x[:, :3]), x[:, :-3]], 1)

    curve = cmlib.memory_function(delay, 6, inputs=inputs)
    assert np.allclose(curve.values, [0, 0, 0, 1, 0, 0], atol=1e-15)


def test_a_quadratic_map_is_probed_at_its_largest_amplitude():
    # of the square of a linear map: a step x gives y_k = x^2 s_k^2, so |dy|/|x| is |x| (s_k^2 - s_{k-1}^2)
    smooth = LinearFunctional(kernels.Exponential(np.log(2.0)))
    s = np.cumsum(smooth.weights(6))
    expected = np.diff(s**2, prepend=0.0)
    for top in (10.0, 3.0):
        amplitudes = None if top == 10.0 else [1.0, -3.0]
        curve = cmlib.memory_function(lambda x: smooth(x) ** 2, 6, amplitudes=amplitudes)
        assert curve.values == pytest.approx(top * expected, rel=1e-12)


def test_each_direction_of_a_wide_input_is_tried():
    # only the difference of the channels passes: the diagonal alone would show no memory
    curve = cmlib.memory_function(lambda x: x[..., :1] - x[..., 1:], 3, d_in=2)
    assert curve.values[0] == 1.0
    signs = torch.Generator().manual_seed(0)
    both = cmlib.memory_function(lambda x: x[..., :1] - x[..., 1:], 3, d_in=2, generator=signs)
    assert both.values[0] == 2.0  # (1, -1) is a sign pattern


def test_of_a_wide_input_some_channels_are_tried_and_little_is_fed_at_once(monkeypatch):
    sizes = []

    def seq_map(x):
        sizes.append(x.numel())
        return x.cumsum(1).sum(2, keepdim=True)

    whole = cmlib.memory_function(seq_map, 20, d_in=100, inputs="impulse", check=False)
    assert len(whole.amplitudes) == 6 * 33 and (np.count_nonzero(whole.amplitudes, axis=1) == 1).sum() == 6 * 32
    assert np.allclose(whole.values, 100.0) and whole.amplitudes[0, 0] == whole.amplitudes[31, -1] == -10.0
    narrow = cmlib.memory_function(seq_map, 20, d_in=32, inputs="impulse", check=False)
    assert len(narrow.amplitudes) == 6 * 33 and len(sizes) == 2
    monkeypatch.setattr("cmlib.memory.BLOCK", 2**16)
    sizes.clear()
    parts = cmlib.memory_function(seq_map, 20, d_in=100, inputs="impulse", check=False)
    assert len(sizes) > 1 and max(sizes) <= 2**16 and np.array_equal(parts.values, whole.values)


class Leaky(nn.Module):
    """h <- f(h/2 + x + 3), a bias that moves the state away from its start at 0."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        h, outputs = torch.zeros_like(x[:, 0]), []
        for x_k in x.unbind(1):
            h = self.f(0.5 * h + x_k + 3.0)
            outputs.append(h)
        return torch.stack(outputs, 1)


@pytest.mark.parametrize("inputs", ["heaviside", "impulse", "removed"])
def test_a_bias_is_no_memory(inputs):
    # linear: the answer to no input is subtracted, wherever the state starts; reversed needs x held for long
    curve = cmlib.memory_function(Leaky(lambda h: h), 8, inputs=inputs, history=60 if inputs == "removed" else 1)
    assert np.allclose(curve.values, 0.5 ** np.arange(8), atol=1e-12)


def test_a_nonlinear_map_is_probed_at_rest():
    # torch.tanh(h) saturates under the bias, so what an input does depends on whether the state has come to rest
    cold, settled = (cmlib.memory_function(Leaky(torch.tanh), 8, history=n).values for n in (1, 80))
    assert not np.allclose(cold, settled, rtol=0.1)
    assert np.allclose(settled, cmlib.memory_function(Leaky(torch.tanh), 8, history=160).values, rtol=1e-9)


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_torch_recurrent_layers_work_as_they_are(cell):
    layer = cell(2, 5, batch_first=True)
    curve = cmlib.memory_function(layer, 10, d_in=2)
    assert curve.values.shape == (10,) and np.isfinite(curve.values).all()


def test_the_callers_model_is_left_alone():
    model = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    model[0].eval()
    modes = [m.training for m in model.modules()]
    state = torch.random.get_rng_state()
    first, second = (cmlib.memory_function(model, 4).values for _ in range(2))
    assert np.array_equal(first, second)  # dropout was off
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert next(model.parameters()).dtype == torch.float32


def test_a_failing_map_leaves_the_modes_as_they_were():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("broken")

    model = Broken().train()
    with pytest.raises(KeyError):
        cmlib.memory_function(model, 3)
    assert model.training


@pytest.mark.parametrize(
    "seq_map, options, message",
    [
        (lambda x: x, {"inputs": "ramp"}, "expected inputs among"),
        (lambda x: x, {"n_steps": 0}, "expected n_steps to be an integer >= 1"),
        (lambda x: x, {"d_in": 0}, "expected d_in to be an integer >= 1"),
        (lambda x: x, {"dt": 0.0}, "expected dt > 0"),
        (lambda x: x, {"check": 1}, "expected check to be True, False or a Preflight, got 1"),
        (lambda x: x, {"history": 0}, "expected history to be an integer >= 1"),
        (lambda x: x, {"amplitudes": [[1.0, 2.0]]}, "expected amplitudes of shape"),
        (lambda x: x, {"amplitudes": [0.0]}, "expected finite amplitudes that are not zero"),
        (lambda x: x, {"amplitudes": [np.inf]}, "expected amplitudes to hold finite real numbers"),
        (lambda x: x[:, 0], {}, "expected outputs"),
        (lambda x: x.numpy(), {}, "got ndarray"),
        (lambda x: x / 0.0, {}, "expected finite outputs, got NaN or infinity"),
    ],
)
def test_memory_function_rejects(seq_map, options, message):
    with pytest.raises(ValueError, match=message):
        cmlib.memory_function(seq_map, **({"n_steps": 4} | options))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_memory_function_knows_its_floor(dtype, tolerance):
    # 4 modes 1/4 apart: the tail has rate 1/4, and float32 sees 5 decades of it at most
    weights = -np.expm1(-0.25) * np.exp(-0.25 * np.arange(200))
    smooth = torch.as_tensor(weights, dtype=torch.float64)

    class Map(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones((), dtype=dtype))

        def forward(self, x):
            y = self.gain * causal_convolution(smooth.to(dtype), x[..., 0])
            return y[..., None]

    curve = cmlib.memory_function(Map(), 199, history=1)
    found = cmlib.decay(curve)
    assert curve.floor == pytest.approx(torch.finfo(dtype).eps, rel=0.1)  # |y| up to |x|, for each x
    assert found.kind == "exponential" and found.rate == pytest.approx(0.25, rel=max(tolerance, 0.02))
    assert found.window[1] < np.log(1 / found.floor) / 0.25 + 10


def sup_of_one_neuron(t, w, largest):
    # z = -w h + x obeys dz/dt = -w tanh z, so sinh z = e^{-wt} sinh x, and dh/dt = tanh z
    x = np.linspace(1e-3, largest, 4000)[:, None]
    s = np.exp(x - w * t) * -np.expm1(-2 * x) / 2
    return (s / np.sqrt(1 + s**2) / x).max(0)


def test_one_stable_neuron_remembers_like_one_over_t():
    # over unbounded inputs w t M(t) -> 1 from below: the larger x, the longer tanh stays saturated
    t = np.array([50.0, 100.0, 200.0])
    M = sup_of_one_neuron(t, 0.5, largest=200.0)
    assert ((0.5 * t * M > 0.75) & (0.5 * t * M < 1)).all()
    assert (np.diff(0.5 * t * M) > 0).all()
    model = cmlib.models.RNN([[-0.5]], [1.0], [1.0], dt=0.01)
    measured = cmlib.memory_function(model, 6000, 0.01, amplitudes=np.linspace(0.5, 60, 120), history=1)
    exact = sup_of_one_neuron(measured.t + 0.005, 0.5, 60.0)
    assert measured.values[1000::1000] == pytest.approx(exact[1000::1000], rel=0.01)  # Euler, and 120 amplitudes
    # a power up to t = 120, where the largest input leaves saturation, so that these 60 cannot be the last word
    assert cmlib.decay(measured, max_steps=6000).kind == "undecided"
    bounded = cmlib.memory_function(model, 6000, 0.01, amplitudes=[-1.0, 1.0], history=1)
    assert cmlib.decay(bounded).rate == pytest.approx(0.5, rel=0.01)


def test_each_size_of_input_has_a_curve_of_its_own_which_can_be_longer():
    network = RNN([-0.5], [1.0], [1.0])
    curve = cmlib.memory_function(network, 30, amplitudes=[-2.0, 1.0, 2.0])
    assert curve.sizes == [1.0, 2.0]
    small, large = curve.of_size(1.0), curve.of_size(2.0)
    assert small.amplitudes.tolist() == [[1.0]] and np.array_equal(np.maximum(small.values, large.values), curve.values)
    alone = cmlib.memory_function(network, 30, amplitudes=[-2.0, 2.0])
    assert np.array_equal(large.values, alone.values) and not np.array_equal(large.values, small.values)
    longer = large.longer(60)
    assert len(longer.t) == 60 and np.abs(longer.values[:30] - large.values).max() < 1e-12
    with pytest.raises(ValueError, match=r"expected a size out of \[1.0, 2.0\], got 3"):
        curve.of_size(3.0)
    assert cmlib.MemoryCurve(np.arange(20.0), np.ones(20), "impulse").sizes == []


class OfTorch(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 2, batch_first=True)

    def forward(self, x):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=later)[0]


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Linear(2, 4)

    def forward(self, x):
        q, k = self.read(x).unflatten(2, (2, 2)).transpose(1, 2), x[:, None]  # of two heads
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return (torch.softmax((q @ k.mT).masked_fill(later, -np.inf), -1) @ k).mean(1)


def fed(model, monkeypatch):
    """How many sequences of how many steps a model is fed while 19 of 100 are measured."""
    monkeypatch.setattr("cmlib.memory.BLOCK", 2**16)
    check, seen = cmlib.preflight(model.double(), 2), []
    handle = model.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[:2]))
    _ = cmlib.memory_function(model, 50, d_in=2, inputs="impulse", history=50, check=check)
    handle.remove()
    return [batch for batch, n_steps in seen if n_steps == 100]


@pytest.mark.parametrize("kind", [OfTorch, ByHand])
def test_attention_is_fed_few_sequences_at_once(kind, monkeypatch):
    # of which each takes 20000 numbers of the 65536
    assert fed(kind(), monkeypatch) == [3] * 6 + [1]
    compiled = torch.compile(kind(), backend="eager")
    assert fed(compiled, monkeypatch) == [3] * 6 + [1]


@pytest.mark.parametrize("model", [nn.GRU(2, 3, batch_first=True), nn.Sequential(nn.Linear(2, 100), nn.Tanh())])
def test_what_holds_nothing_for_pairs_of_steps_is_fed_all_at_once(model, monkeypatch):
    assert fed(model, monkeypatch) == [19]
