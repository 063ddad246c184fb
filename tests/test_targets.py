"""targets: causal sequence maps, each held to an independent computation of the same output."""

import numpy as np
import pytest
import torch
from scipy import integrate

from cmlib import inputs, kernels
from cmlib.chapter import Lorenz96
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


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_a_functional_may_remember_for_ever(p):
    weights = LinearFunctional(kernels.Polynomial(p), dt=0.5).weights(200)
    expected = [integrate.quad(kernels.Polynomial(p), 0.5 * j, 0.5 * j + 0.5, epsrel=1e-13)[0] for j in range(200)]
    # differences of a growing antiderivative
    assert np.abs(weights - expected).max() < 8 * np.finfo(float).eps * sum(expected)


def test_a_plain_function_is_a_functional():
    by_function = LinearFunctional(lambda t: (1 + t) ** -0.7, dt=0.5)
    assert by_function.weights(100) == pytest.approx(
        LinearFunctional(kernels.Polynomial(0.7), 0.5).weights(100), rel=1e-9
    )


def test_the_future_changes_nothing_and_a_shift_shifts():
    functional, x = LinearFunctional(kernels.Airy(4.0), dt=0.1), noise()
    changed = x.clone()
    changed[:, 120:] = 7.0
    assert torch.allclose(functional(changed)[:, :120], functional(x)[:, :120], atol=1e-13)
    later = torch.cat([torch.zeros(2, 30, 1, dtype=x.dtype), x[:, :-30]], 1)
    assert torch.allclose(functional(later)[:, 30:], functional(x)[:, :-30], atol=1e-13)


def test_functional_rejects():
    with pytest.raises(ValueError, match="expected kernel to be a Kernel"):
        LinearFunctional("exponential")
    with pytest.raises(ValueError, match="expected dt > 0"):
        LinearFunctional(kernels.Exponential(1.0), dt=-1.0)
    with pytest.raises(ValueError, match="expected n to be an integer >= 1"):
        LinearFunctional(kernels.Exponential(1.0)).weights(0)
    with pytest.raises(ValueError, match=r"expected x of shape \(batch, time, 1\)"):
        LinearFunctional(kernels.Exponential(1.0))(torch.zeros(1, 5, 2))


def forcing(n: int = 60) -> torch.Tensor:
    t = 0.1 * torch.arange(n, dtype=torch.float64)
    return torch.stack([5 * torch.sin(t), 8 * torch.cos(2 * t), 3 + 0 * t])[..., None]


def velocity(t, s, x, speed):
    """The equations once more, component by component."""
    y, z = s[0], s[1:]
    n, dz = len(z), []
    for j in range(n):
        dz.append(speed * (-z[(j + 1) % n] * (z[(j + 2) % n] - z[j - 1]) - z[j] + y))
    return [-y + x - sum(z) / n, *dz]


@pytest.mark.parametrize("n_fast, speed", [(10, 2.0), (5, 1.0)])
def test_lorenz_system_is_what_scipy_integrates(n_fast, speed):
    x = forcing()
    coarse, y = Lorenz96(n_fast, speed, substeps=20)(x), Lorenz96(n_fast, speed, substeps=40)(x)
    assert y.shape == (3, 60, 1)
    error = (coarse - y).abs().max().item() / 15  # of the finer, by its order 4
    assert error < 1e-6
    for sample in range(3):
        state = np.append(0.0, 0.1 * np.cos(2 * np.pi * np.arange(n_fast) / n_fast))
        for k in range(60):
            options = {"args": (x[sample, k].item(), speed), "method": "DOP853", "rtol": 1e-11, "atol": 1e-12}
            state = integrate.solve_ivp(velocity, (0, 0.1), state, **options).y[:, -1]
            assert y[sample, k].item() == pytest.approx(state[0], abs=2 * error + 1e-9)


def test_lorenz_system_is_integrated_with_order_four():
    x, errors, counts = forcing(20), [], np.array([2, 4, 8, 16])
    exact = Lorenz96(substeps=128)(x)
    for n in counts:
        errors.append((Lorenz96(substeps=int(n))(x) - exact).abs().max().item())
    assert np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(-4.0, abs=0.25)


def test_lorenz_system_is_causal_and_not_linear():
    system, x = Lorenz96(), forcing()
    changed = x.clone()
    changed[:, 30:] = 0.0
    assert torch.equal(system(changed)[:, :30], system(x)[:, :30])
    assert (system(2 * x) - 2 * system(x)).abs().max() > 0.1


def test_terms_of_second_order_neither_make_nor_lose_energy():
    # sum_j z_j z_{j+1} (z_{j+2} - z_{j-1}) telescopes to 0, so that d/dt |z|^2 has no cubic part
    z = torch.randn(4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = torch.cat([torch.zeros_like(z[:, :1]), z], 1)
    dz = Lorenz96(speed=1.0).velocity(state, torch.zeros_like(z[:, :1]))[:, 1:]
    assert torch.allclose((z * dz).sum(1), -(z * z).sum(1), rtol=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_fast": 3}, "expected n_fast to be an integer >= 4"),
        ({"substeps": 0.5}, "expected substeps to be an integer >= 1"),
        ({"speed": 0.0}, "expected speed > 0"),
        ({"dt": -1.0}, "expected dt > 0"),
    ],
)
def test_lorenz_system_rejects(options, message):
    with pytest.raises(ValueError, match=message):
        Lorenz96(**options)


def test_lorenz_system_rejects_an_input_of_two_channels():
    with pytest.raises(ValueError, match="expected an input of shape"):
        Lorenz96()(torch.zeros(1, 5, 2))
