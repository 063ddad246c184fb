import math

import pytest
import torch

from cmlib.inputs import heaviside, impulse, removed, white_noise

STEPS = {"heaviside": heaviside, "impulse": impulse, "removed": removed}


@pytest.fixture(params=STEPS.values(), ids=STEPS.keys())
def make(request):
    return request.param


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_heaviside_is_zero_before_time_zero_and_the_amplitude_after():
    assert heaviside(3, 2.0, history=2)[0, :, 0].tolist() == [0, 0, 2, 2, 2]


def test_impulse_is_the_amplitude_at_time_zero_only():
    assert impulse(3, 2.0, history=2)[0, :, 0].tolist() == [0, 0, 2, 0, 0]


def test_removed_is_the_amplitude_before_time_zero_and_zero_after():
    assert removed(3, 2.0, history=2)[0, :, 0].tolist() == [2, 2, 0, 0, 0]


def test_heaviside_and_removed_add_to_a_constant():
    total = heaviside(4, [1.0, -2.0], history=3) + removed(4, [1.0, -2.0], history=3)
    assert torch.equal(total, torch.tensor([1.0, -2.0], dtype=torch.float64).expand(1, 7, 2))


def test_impulse_is_the_difference_of_two_heavisides():
    later = heaviside(3, history=3)
    assert torch.equal(impulse(4, history=2), heaviside(4, history=2) - later)


@pytest.mark.parametrize(
    "amplitude, batch, d_in",
    [
        (1, 1, 1),
        ([1.0, 2.0, 3.0], 1, 3),
        ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], 2, 3),
        ([[1.0], [2.0]], 2, 1),
    ],
)
def test_shape_is_batch_time_d_in_with_time_history_plus_n_steps(make, amplitude, batch, d_in):
    x = make(5, amplitude, history=2)
    assert x.shape == (batch, 7, d_in)
    on = x[:, 2 if make is not removed else 1]
    assert torch.equal(on, torch.as_tensor(amplitude, dtype=torch.float64).expand(batch, d_in))


def test_dtype_is_float64_unless_told(make):
    assert make(2, torch.ones(3)).dtype == torch.float64
    assert make(2, torch.ones(3), dtype=torch.float32).dtype == torch.float32


def test_device_is_the_one_told(make):
    assert make(2).device.type == "cpu"
    assert make(2, device="cpu").device.type == "cpu"


def test_gradient_reaches_the_amplitude(make):
    amplitude = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    make(4, amplitude, history=3).sum().backward()
    on = {heaviside: 4.0, impulse: 1.0, removed: 3.0}[make]
    assert amplitude.grad.tolist() == [on, on]


def test_white_noise_has_unit_intensity(generator):
    # sum_t x_t^2 dt^2 / (n dt) has mean 1 and standard deviation sqrt(2/n)
    for dt in (1.0, 0.01):
        x = white_noise(1000, batch=20, d_in=5, dt=dt, generator=generator)
        assert x.shape == (20, 1000, 5) and x.dtype == torch.float64
        assert abs((x**2).mean().item() * dt - 1.0) < 5 * math.sqrt(2 / x.numel())
        neighbours = (x[:, 1:] * x[:, :-1]).mean().item() * dt
        assert abs(neighbours) < 5 / math.sqrt(x.numel())


def test_white_noise_is_fixed_by_its_generator_alone(generator):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = white_noise(7, generator=generator, dtype=torch.float32)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, white_noise(7, generator=torch.Generator().manual_seed(0), dtype=torch.float32))
    assert not torch.equal(first, white_noise(7, generator=generator, dtype=torch.float32))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda make: make(0), r"expected n_steps to be an integer >= 1, got 0"),
        (lambda make: make(2.5), r"expected n_steps to be an integer >= 1, got 2\.5"),
        (lambda make: make(True), r"expected n_steps to be an integer >= 1, got True"),
        (lambda make: make(2, history=-1), r"expected history to be an integer >= [01], got -1"),
        (lambda make: make(2, math.nan), r"expected a finite amplitude, got nan"),
        (lambda make: make(2, "loud"), r"expected a numeric amplitude, got 'loud'"),
        (lambda make: make(2, []), r"expected an amplitude of shape .* got shape \(0,\)"),
        (
            lambda make: make(2, torch.ones(1, 2, 3)),
            r"expected an amplitude of shape .* got shape \(1, 2, 3\)",
        ),
    ],
)
def test_bad_steps_say_what_was_expected_and_what_came(make, call, message):
    with pytest.raises(ValueError, match=message):
        call(make)


def test_removed_needs_a_history():
    with pytest.raises(ValueError, match=r"expected history to be an integer >= 1, got 0"):
        removed(3, history=0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_steps": 0}, r"expected n_steps to be an integer >= 1, got 0"),
        ({"batch": 0}, r"expected batch to be an integer >= 1, got 0"),
        ({"d_in": 1.5}, r"expected d_in to be an integer >= 1, got 1\.5"),
        ({"dt": 0.0}, r"expected dt > 0, got 0\.0"),
        ({"dt": math.nan}, r"expected dt to be a finite number, got nan"),
        ({"generator": 0}, r"expected generator to be a torch\.Generator, got 0"),
    ],
)
def test_bad_white_noise_says_what_was_expected_and_what_came(generator, change, message):
    with pytest.raises(ValueError, match=message):
        white_noise(**({"n_steps": 3, "generator": generator} | change))
