"""memory: the three inputs agree on linear maps, and known nonlinear maps have the memory they should."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels
from cmlib.models import LinearRNN
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
    assert curve.floor == pytest.approx(torch.finfo(dtype).eps * 10 / 0.1, rel=0.1)  # |y| up to 10, over |x| = 0.1
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
    assert cmlib.decay(measured).kind == "polynomial"
    bounded = cmlib.memory_function(model, 6000, 0.01, amplitudes=[-1.0, 1.0], history=1)
    assert cmlib.decay(bounded).rate == pytest.approx(0.5, rel=0.01)
