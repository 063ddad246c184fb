"""decay: a curve made by a known law is told to follow it, and noise, growth and what is over at once are not."""

import numpy as np
import pytest

import cmlib


def verdict(M, floor=0.0, dt=1.0):
    M = np.asarray(M, dtype=float)
    return cmlib.decay(cmlib.MemoryCurve(dt * np.arange(len(M)), M, "heaviside", floor))


T = np.arange(400.0)


@pytest.mark.parametrize("rate", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("dt", [0.25, 1.0])
def test_decay_recovers_a_rate(rate, dt):
    found = verdict(3.0 * np.exp(-rate * dt * T), floor=1e-16, dt=dt)
    assert found.kind == "exponential" and np.isnan(found.exponent)
    assert found.rate == pytest.approx(rate, rel=1e-6)  # log M is a line to rounding
    assert found.r2 > 1 - 1e-9 and found.rival_r2 < 0.997
    assert found.window[1] <= dt * T[-1]


@pytest.mark.parametrize("exponent", [0.5, 1.1, 3.0])
def test_decay_recovers_an_exponent(exponent):
    found = verdict((1 + T) ** -exponent, floor=1e-16)
    assert found.kind == "polynomial" and np.isnan(found.rate)
    assert found.exponent == pytest.approx(exponent, rel=0.01)  # 1 + t is t to within 1/200 in the window


def test_decay_follows_the_slowest_part():
    # e^{-t} hides 1e-5 e^{-0.05 t} for the first 12 time units
    assert verdict(np.exp(-T) + 1e-5 * np.exp(-0.05 * T), 1e-16).rate == pytest.approx(0.05, rel=1e-6)
    assert verdict(np.exp(-T) + 1e-5, 1e-16).kind == "none"


@pytest.mark.parametrize("late", [1e-2, 1e-4, 1e-6, 1e-8])
def test_several_rates_are_no_power(late):
    # where one rate takes over from another, log M is nearly a line in log t for a while
    found = verdict(np.exp(-0.15 * T) + late * np.exp(-0.055 * T), 1e-16)
    assert found.kind == "exponential" and 0.055 < found.rate < 0.15


def test_a_power_law_may_begin_late():
    for scale in (1.0, 0.1, 0.03):
        assert verdict((1 + scale * T) ** -2.0, 1e-16).kind == "polynomial"


@pytest.mark.parametrize("frequency", [1.0, 0.1])
def test_zeros_of_an_oscillating_memory_are_no_end(frequency):
    wave = np.abs(np.cos(frequency * T))
    found = verdict(np.exp(-0.02 * T) * wave, 1e-16)
    assert found.kind == "exponential" and found.rate == pytest.approx(0.02, rel=0.02)
    assert verdict((1 + T) ** -1.1 * wave, 1e-16).kind == "polynomial"
    assert verdict(wave, 1e-16).kind == "none"


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_decay(seed):
    assert verdict(np.abs(np.random.default_rng(seed).normal(size=400))).kind == "none"


def test_growth_does_not_decay():
    assert verdict(1 + T).kind == "none"
    assert verdict(np.exp(0.01 * T)).kind == "none"


def test_what_is_over_at_once_has_an_infinite_rate():
    for M in (np.zeros(400), T == 0, T == 9):
        found = verdict(M, 1e-16)
        assert found.kind == "exponential" and found.rate == np.inf
    assert verdict(T == 399).kind == "none"  # not seen to end


def test_the_noise_floor_is_not_fitted():
    # rounding leaves a flat tail; without its floor the curve would not seem exponential
    M = np.exp(-0.5 * T) + 3e-16 * np.abs(np.random.default_rng(0).normal(size=400))
    found = verdict(M, floor=1e-16)
    assert found.kind == "exponential" and found.rate == pytest.approx(0.5, rel=1e-2)
    assert found.floor == pytest.approx(1e-14) and found.window[1] < np.log(1e14) / 0.5
    assert verdict(M, floor=0.0).kind != "exponential"


@pytest.mark.parametrize(
    "t, values, message",
    [
        (T[:10], T[:10], "at least 16 increasing times"),
        (T - 1, T, "times >= 0"),
        (T[::-1], T, "increasing"),
        (T, np.where(T == 3, np.nan, 1.0), "finite values"),
        (T, -T, "values >= 0"),
    ],
)
def test_decay_rejects(t, values, message):
    with pytest.raises(ValueError, match=message):
        cmlib.decay(cmlib.MemoryCurve(t, values, "heaviside"))
