"""targets: a linear functional is causal, time-homogeneous, and the network whose kernel it has."""

import numpy as np
import pytest
import torch

from cmlib import inputs, kernels
from cmlib.models import LinearRNN
from cmlib.targets import LinearFunctional


def noise(n: int = 200) -> torch.Tensor:
    return inputs.white_noise(n, batch=2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dt", [0.05, 1.0])
def test_functional_with_an_exponential_kernel_is_a_network_of_one_neuron(dt):
    functional = LinearFunctional(kernels.Exponential(0.3), dt=dt)
    assert torch.allclose(functional(noise()), LinearRNN([-0.3], [1.0], [1.0], dt=dt)(noise()), atol=1e-13)


def test_weights_are_integrals_of_the_kernel_over_each_step():
    kernel = kernels.Polynomial(2.0)
    weights = LinearFunctional(kernel, dt=0.5).weights(400)
    assert weights.sum() == pytest.approx(kernel.tail(0.0) - kernel.tail(200.0), rel=1e-13)
    t = 0.5 * np.arange(400)
    assert (weights <= 0.5 * kernel(t)).all() and (weights >= 0.5 * kernel(t + 0.5)).all()


def test_the_future_changes_nothing_and_a_shift_shifts():
    functional, x = LinearFunctional(kernels.Airy(4.0), dt=0.1), noise()
    changed = x.clone()
    changed[:, 120:] = 7.0
    assert torch.allclose(functional(changed)[:, :120], functional(x)[:, :120], atol=1e-13)
    later = torch.cat([torch.zeros(2, 30, 1, dtype=x.dtype), x[:, :-30]], 1)
    assert torch.allclose(functional(later)[:, 30:], functional(x)[:, :-30], atol=1e-13)


def test_functional_rejects():
    with pytest.raises(ValueError, match="expected a Kernel"):
        LinearFunctional("exponential")
    with pytest.raises(ValueError, match="expected a time step dt > 0"):
        LinearFunctional(kernels.Exponential(1.0), dt=-1.0)
    with pytest.raises(ValueError, match="expected an input of shape"):
        LinearFunctional(kernels.Exponential(1.0))(torch.zeros(1, 5, 2))
