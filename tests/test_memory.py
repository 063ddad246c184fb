"""memory: the three inputs agree on linear maps, and known nonlinear maps have the memory they should."""

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import kernels
from cmlib.models import LinearRNN
from cmlib.targets import LinearFunctional

DT = 0.1


def cell_means(kernel: kernels.Kernel, n: int) -> np.ndarray:
    return -np.diff(kernel.tail(DT * np.arange(n + 1))) / DT


@pytest.mark.parametrize("inputs", ["heaviside", "impulse", "reversed"])
@pytest.mark.parametrize("kernel", [kernels.Exponential(0.5), kernels.Airy(3.0)])
def test_memory_function_equals_kernel_when_linear(inputs, kernel):
    # the reversed input needs a history longer than the memory; 400 steps leave less than 1e-8 of either kernel
    curve = cmlib.memory_function(LinearFunctional(kernel, dt=DT), 60, DT, inputs=inputs, history=400)
    assert np.allclose(curve.t, DT * np.arange(60))
    # values near 10 are differenced and divided by dt, and the history cut off is e^{-20}
    assert np.allclose(
        curve.values, np.abs(cell_means(kernel, 60)), rtol=0, atol=1e-8 if inputs == "reversed" else 1e-12
    )


def test_memory_function_of_a_network_is_its_kernel():
    network = LinearRNN(*cmlib.exponential_sum(kernels.Polynomial(1.1), 4).realization(), dt=DT)
    means = cell_means(cmlib.exponential_sum(kernels.Polynomial(1.1), 4), 50)
    assert np.allclose(cmlib.memory_function(network, 50, DT).values, means, rtol=0, atol=1e-11)


def test_the_identity_forgets_at_once():
    curve = cmlib.memory_function(lambda x: x, 5)
    assert np.array_equal(curve.values, [1.0, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("inputs", ["heaviside", "impulse", "reversed"])
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


def test_a_bias_is_no_memory():
    # from a state of 0 the bias alone moves the output; with history the map is at rest when the input comes
    class Leaky(nn.Module):
        def forward(self, x):
            h, outputs = torch.zeros_like(x[:, 0]), []
            for x_k in x.unbind(1):
                h = 0.5 * h + x_k + 3.0
                outputs.append(h)
            return torch.stack(outputs, 1)

    settled = cmlib.memory_function(Leaky(), 8, history=80, amplitudes=[1.0])
    assert np.allclose(settled.values, 0.5 ** np.arange(8), atol=1e-12)
    cold = cmlib.memory_function(Leaky(), 8, history=1, amplitudes=[1.0])
    assert not np.allclose(cold.values, settled.values, atol=0.1)


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
        (lambda x: x, {"n_steps": 0}, "expected n_steps >= 1"),
        (lambda x: x, {"d_in": 0}, "expected n_steps >= 1 and d_in >= 1"),
        (lambda x: x, {"dt": 0.0}, "expected a time step dt > 0"),
        (lambda x: x, {"history": 0}, "at least one step of history"),
        (lambda x: x, {"amplitudes": [[1.0, 2.0]]}, "expected amplitudes of shape"),
        (lambda x: x, {"amplitudes": [0.0]}, "expected finite amplitudes that are not zero"),
        (lambda x: x, {"amplitudes": [np.inf]}, "expected finite amplitudes"),
        (lambda x: x[:, 0], {}, "expected the map to return"),
        (lambda x: x.numpy(), {}, "got ndarray"),
        (lambda x: x / 0.0, {}, "expected finite outputs, got NaN or infinity"),
    ],
)
def test_memory_function_rejects(seq_map, options, message):
    with pytest.raises(ValueError, match=message):
        cmlib.memory_function(seq_map, **({"n_steps": 4} | options))
