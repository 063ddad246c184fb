"""Modes: rates of sums of damped oscillations that swing too seldom for their peaks, and what is none."""

import numpy as np
import pytest
import torch

import cmlib
from cmlib import models, modes

T = np.arange(400.0)


def swinging(rates, frequencies, weights, t=T):
    return sum(
        w * np.exp(-r * t) * np.cos(f * t + 0.3 * k)
        for k, (r, f, w) in enumerate(zip(rates, frequencies, weights, strict=True))
    )


@pytest.mark.parametrize("frequency", [0.0, 0.02, 0.3, 3.0])
def test_one_mode_to_rounding(frequency):
    found = modes.slowest(swinging([0.05], [frequency], [1.0]), 1e-14)
    assert found.rate == pytest.approx(0.05, rel=1e-6)
    assert found.interval[0] < 0.05 < found.interval[1]
    assert found.time_scales > 15


def test_few_swings_of_many_modes():
    rng = np.random.default_rng(1)
    for _ in range(10):
        rates = 0.06 * np.append(1.0, rng.uniform(1.15, 4.0, 5))
        found = modes.slowest(swinging(rates, rng.uniform(0, 0.5, 6), rng.normal(size=6)), 1e-14)
        assert found.interval[0] < 0.06 < found.interval[1]
        assert found.rate == pytest.approx(0.06, rel=0.05)


@pytest.mark.parametrize(
    "fall",
    [lambda t: (1 + t) ** -1.5, lambda t: (1 + t) ** -0.5, lambda t: np.exp(-((t / 4) ** 0.6)), lambda t: 1 / (2 + t)],
)
@pytest.mark.parametrize("frequency", [0.05, 0.7])
def test_what_falls_ever_more_slowly_is_no_sum_of_modes(fall, frequency):
    y = fall(np.arange(2000.0)) * np.cos(frequency * np.arange(2000.0))
    curve = cmlib.MemoryCurve(np.arange(2000.0), np.abs(y), "impulse", 1e-16, responses=[y])
    assert cmlib.decay(curve).kind != "exponential"


def test_noise_has_no_slowest_mode():
    rng = np.random.default_rng(0)
    assert modes.slowest(rng.normal(size=400), 1.0) is None
    assert modes.slowest(np.zeros(400), 1e-16) is None
    y = swinging([0.02], [0.1], [1.0]) + 1e-3 * rng.normal(size=400)
    found = modes.slowest(y, 1e-3)
    assert found is None or found.interval[0] < 0.02 < found.interval[1]


def test_responses_decide_where_peaks_are_too_few():
    y = swinging([0.06, 0.09], [0.1, 0.17], [1.0, 0.8])
    curve = cmlib.MemoryCurve(T, np.abs(y), "impulse", 1e-16)
    assert cmlib.decay(curve).kind == "undecided"
    found = cmlib.decay(cmlib.MemoryCurve(0.5 * T, np.abs(y), "impulse", 1e-16, responses=[y]))
    assert found.kind == "exponential"
    assert found.rate == pytest.approx(0.12, rel=0.02)  # per unit of time, two steps


def test_responses_of_a_network():
    network = models.LinearRNN([[-0.1, 0.4], [-0.4, -0.1]], [1.0, 0.0], [1.0, 0.0])
    curve = cmlib.memory_function(
        lambda x: torch.cat([1e-3 * network(x), -network(x)], 2), 60, inputs="impulse", amplitudes=[2.0, -1.0]
    )
    assert curve.responses.shape == (2, 60)
    np.testing.assert_array_equal(np.abs(curve.responses), curve.by_amplitude)  # of the second channel
    assert curve.responses[1, 0] > 0 > curve.responses[0, 0]
    np.testing.assert_array_equal(curve.of_size(1.0).responses, curve.responses[1:])
    with pytest.raises(ValueError, match="expected responses at 60 times"):
        cmlib.MemoryCurve(curve.t, curve.values, "impulse", responses=curve.responses[:, 1:])
