"""decay: a curve made by a known law is told to follow it, or that the window does not show it; never another law."""

import dataclasses

import numpy as np
import pytest

import cmlib

T = np.arange(400.0)


def curve(M, floor=1e-16, dt=1.0, errors=None, longer=None):
    M = np.abs(np.asarray(M, dtype=float))
    return cmlib.MemoryCurve(dt * np.arange(len(M)), M, "impulse", floor, errors, longer=longer)


def verdict(M, floor=1e-16, dt=1.0, errors=None, **options):
    return cmlib.decay(curve(M, floor, dt, errors), **options)


def normal(seed, n=400):
    return np.random.default_rng(seed).normal(size=n)


def to_be_asked(kernel, n, floor=1e-16):
    """Return the first n lags of a kernel, which can be measured longer, and the lengths that were asked for."""
    asked = []

    def longer(m):
        asked.append(m)
        return curve(kernel(np.arange(float(m))), floor, longer=longer)

    return curve(kernel(np.arange(float(n))), floor, longer=longer), asked


# --- each law is found, with its numbers


@pytest.mark.parametrize("rate", [0.03, 0.3, 2.0])
@pytest.mark.parametrize("dt", [0.25, 1.0])
def test_decay_recovers_a_rate(rate, dt):
    found = verdict(3.0 * np.exp(-rate * dt * T), dt=dt)
    assert found.kind == "exponential" and found.possible == ("exponential",) and np.isnan(found.exponent)
    assert found.rate == pytest.approx(rate, rel=1e-6)  # what no kernel is exact to
    assert found.rate_interval[0] <= rate <= found.rate_interval[1] < 1.001 * rate
    assert found.window[1] <= dt * T[-1] and found.n_steps == len(T)


@pytest.mark.parametrize("exponent", [0.3, 1.1, 3.0])
def test_decay_recovers_an_exponent(exponent):
    found = verdict((1 + T) ** -exponent)
    assert found.kind == "polynomial" and np.isnan(found.rate)
    assert found.exponent == pytest.approx(exponent, rel=1e-5)
    assert found.exponent_interval[0] <= exponent <= found.exponent_interval[1]


@pytest.mark.parametrize("power", [0.4, 0.7])
def test_decay_recovers_a_stretched_exponential(power):
    found = verdict(np.exp(-((T / 5) ** power)))
    assert found.kind == "stretched" and found.exponent == pytest.approx(power, rel=1e-5)


@pytest.mark.parametrize("level", [1e-6, 0.1, 1.0])
def test_what_stays_is_a_plateau(level):
    # e^{-0.05 t} is below 1e-6 for the last 123 of 400 lags
    found = verdict(np.exp(-0.05 * T) + level if level < 1 else np.ones(200))
    assert found.kind == "plateau" and found.level == pytest.approx(level, rel=1e-5)


@pytest.mark.parametrize("lag", [0, 9, 50, 150])
def test_delays_and_averages_end(lag):
    for M in (lag == T, (lag >= T) / (lag + 1), np.maximum(lag + 1 - T, 0)):
        found = verdict(M)
        assert found.kind == "finite" and found.lag == lag


def test_network_of_convolutions_ends_at_its_receptive_field():
    taps = np.abs(normal(0, 127)) * np.exp(-0.02 * T[:127])
    assert verdict(np.append(taps, np.zeros(200))).lag == 126
    # as deep networks do, it may taper off: by a factor of 15 from the last tap but one
    tapering = np.append(np.exp(-0.0005 * T[:256] ** 2 / 2), np.zeros(400)) * np.append(
        np.ones(255), np.full(401, 1 / 15)
    )
    assert verdict(tapering).lag == 255
    # nor does it say before it has seen as much without memory as with
    assert verdict(np.append(taps, np.zeros(73))).kind == "undecided"


@pytest.mark.parametrize("period", [2 * np.pi / 0.1, 8.0])
def test_what_repeats_itself_is_periodic(period):
    found = verdict(np.cos(2 * np.pi * T / period))
    assert found.kind == "periodic" and found.period == pytest.approx(period / 2, rel=0.01)
    assert verdict(T % 50 == 0).period == 50


def test_noise_does_not_decay():
    kinds = [verdict(normal(seed)).kind for seed in range(10)]
    assert set(kinds) <= {"none", "undecided"} and kinds.count("none") > 5


def test_chaos_and_growth_do_not_decay():
    x = [0.3]
    for _ in T[1:]:
        x.append(3.97 * x[-1] * (1 - x[-1]))
    for M in (x, np.exp(0.03 * T)):
        assert verdict(M).kind == "none"
    # what grows for a while may be on its way to a fall
    for M in (1 + T, T * np.exp(-1e-4 * T), T**3 * np.exp(-1e-3 * T), np.exp(0.005 * T)):
        assert verdict(M).kind == "undecided"


def test_several_exponentials_are_told_by_the_slowest():
    # e^{-t} hides 1e-5 e^{-0.05 t} for the first 12 time units
    assert verdict(np.exp(-T) + 1e-5 * np.exp(-0.05 * T)).rate == pytest.approx(0.05, rel=1e-5)
    for late in (1e-2, 1e-4, 1e-6, 1e-8):  # where one takes over, log M is nearly a line in log t for a while
        found = verdict(np.exp(-0.15 * T) + late * np.exp(-0.055 * T))
        assert found.kind == "exponential" and found.rate_interval[0] <= 0.055 <= found.rate_interval[1]


def test_defective_and_opposed_modes_are_exponential():
    for M in (T * np.exp(-0.1 * T), (1 + T + T**2) * np.exp(-0.1 * T), np.exp(-0.1 * T) - 0.5 * np.exp(-0.3 * T)):
        found = verdict(M)
        assert found.kind == "exponential" and found.rate == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("frequency", [1.0, 0.1])
def test_zeros_of_an_oscillating_memory_are_no_end(frequency):
    t = np.arange(800.0)
    found = verdict(np.exp(-0.02 * t) * np.cos(frequency * t))
    # peaks are caught at whole lags, up to half a lag beside the top
    assert found.kind == "exponential" and found.rate == pytest.approx(0.02, rel=0.02)


# --- what has been wrong before


def test_bends_are_no_exponential():
    for M in (np.exp(-((T / 40) ** 2)), np.exp(-((T / 20) ** 1.5)), np.exp(-((T / 5) ** 0.8)) * np.cos(T)):
        assert verdict(M).kind == "undecided"


def test_networks_are_told_by_rates_within_their_intervals():
    # no law is exact for the largest of several outputs with many complex modes
    held = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        W = rng.normal(size=(16, 16)) / 4
        W *= np.exp(-0.08) / np.abs(np.linalg.eigvals(W)).max()
        h, M = rng.normal(size=16), []
        readout = rng.normal(size=(3, 16))
        for _ in range(400):
            M.append(np.abs(readout @ h).max())
            h = W @ h
        found = verdict(M)
        assert found.kind in ("exponential", "undecided")
        held += [found.rate_interval[0] <= 0.08 <= found.rate_interval[1]] if found.kind == "exponential" else []
    assert len(held) >= 6 and sum(held) >= len(held) - 1  # of 95 % intervals


@pytest.mark.parametrize("n, kind", [(200, "undecided"), (1600, "undecided"), (4000, "exponential")])
def test_many_modes_are_no_power(n, kind):
    # a linear recurrent unit with rates from 0.00128 to 0.1 falls like 1 / t until t is about 800
    modes = np.exp(-np.outer(np.arange(n), np.linspace(0.00128, 0.1, 32))).mean(1)
    found = verdict(modes)
    assert found.kind == kind and "polynomial" not in found.possible
    if kind == "exponential":
        assert found.rate == pytest.approx(0.00128, rel=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_noise_that_a_fall_ends_in_is_no_slower_memory(seed):
    # the measured noise of a fall over eight decades, and that of an impulse response fitted by least squares
    found = verdict(np.exp(-0.1 * T) + 1e-8 * normal(seed))
    assert found.kind == "exponential" and found.rate == pytest.approx(0.1, rel=1e-3)
    for size in (1e-3, 1e-2):
        for errors in (None, np.full(400, size)):
            found = verdict(np.exp(-0.05 * T) + size * normal(seed), floor=0.0, errors=errors)
            assert found.kind in ("exponential", "undecided") and "polynomial" not in found.possible


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2])
def test_late_powers_are_undecided(exponent, noise):
    found = verdict((1 + 0.01 * T[:200]) ** -exponent * (1 + noise * normal(0, 200)))
    assert found.kind == "undecided" and found.reason


def test_windows_shorter_than_the_time_scale_are_undecided():
    found = verdict(np.exp(-0.001 * np.arange(500.0)))
    assert found.kind == "undecided" and "1e+03" in found.reason
    assert verdict((1 + T) ** -0.3).kind == "polynomial"


def test_selective_layer_over_growing_inputs_is_a_power():
    assert verdict(1 / (np.e * (1 + T))).exponent == pytest.approx(1.0, rel=1e-5)


def test_the_noise_floor_is_not_fitted():
    # rounding leaves a flat tail, of which the floor tells, or else its roughness
    M = np.exp(-0.5 * T) + 3e-16 * np.abs(normal(0))
    for floor in (1e-16, 0.0):
        found = verdict(M, floor)
        assert found.kind == "exponential" and found.rate == pytest.approx(0.5, rel=1e-4)
    assert verdict(M, 1e-16).floor == pytest.approx(1e-14)


def test_what_ends_within_a_few_lags_or_is_not_seen_at_all_is_undecided():
    assert verdict(np.exp(-8 * T)).possible == ("finite", "exponential")
    assert verdict(0 * T).possible == ("finite",) and "longer" in verdict(0 * T).reason
    assert verdict(T == 399).kind == "undecided"  # not seen to end


# --- longer curves


def test_decay_asks_for_more_until_decided():
    late, asked = to_be_asked(lambda t: np.exp(-0.001 * t), 500)
    found = cmlib.decay(late)
    assert asked == [1000, 2000, 4000] and found.n_steps == 4000
    assert found.kind == "exponential" and found.rate == pytest.approx(0.001, rel=1e-5)


def test_decay_stops_asking_at_max_steps():
    late, asked = to_be_asked(lambda t: np.exp(-0.001 * t), 500)
    assert cmlib.decay(late, max_steps=1500).kind == "undecided" and asked == [1000, 1500]
    delay, asked = to_be_asked(lambda t: t == 150, 200)
    assert cmlib.decay(delay).lag == 150 and asked == [400]


def test_an_exponential_is_followed_to_the_floor():
    # the slower part is 1e-9 of M at first, and most of it only after t = 300
    both, asked = to_be_asked(lambda t: np.exp(-0.1 * t) + 1e-9 * np.exp(-0.03 * t), 200)
    found = cmlib.decay(both)
    assert asked[-1] <= 1600 and found.rate == pytest.approx(0.03, rel=1e-4)
    fast, asked = to_be_asked(lambda t: np.exp(-0.5 * t), 100)
    assert cmlib.decay(fast).kind == "exponential" and asked == []


def test_a_power_has_to_stand_on_twice_the_lags():
    power, asked = to_be_asked(lambda t: (1 + t) ** -1.5, 200)
    assert cmlib.decay(power).kind == "polynomial" and asked == [400]


@pytest.mark.parametrize("rate", [1e-3, 1e-4])
@pytest.mark.parametrize("n", [16, 32, 64])
def test_a_slow_fall_is_no_level(rate, n):
    assert verdict(np.exp(-rate * T[:n])).possible == ("exponential",)


def test_decay_stops_where_the_map_gives_no_more():
    short = curve(np.exp(-0.001 * T[:100]))
    assert cmlib.decay(dataclasses.replace(short, longer=lambda n: short)).n_steps == 100


# --- what must not change a verdict

LAWS = {
    "exponential": lambda t: np.exp(-0.03 * t) + 0.1 * np.exp(-0.3 * t),
    "polynomial": lambda t: (1 + t) ** -1.5,
    "stretched": lambda t: np.exp(-((t / 3) ** 0.5)),
    "plateau": lambda t: 0.01 + np.exp(-0.1 * t),
    "finite": lambda t: t <= 20,
}


@pytest.mark.parametrize("kind", LAWS)
def test_units_do_not_matter(kind):
    M = LAWS[kind](T)
    here, scaled, slower = verdict(M), verdict(1e5 * M, floor=1e-11), verdict(M, dt=50.0)
    assert here.kind == scaled.kind == slower.kind == kind
    for name, factor in (("rate", 1 / 50), ("exponent", 1.0), ("lag", 50.0)):
        if np.isfinite(getattr(here, name)):
            assert getattr(scaled, name) == pytest.approx(getattr(here, name), rel=1e-5)
            assert getattr(slower, name) == pytest.approx(factor * getattr(here, name), rel=1e-5)


@pytest.mark.parametrize("kind", LAWS)
def test_more_lags_never_overturn_a_verdict(kind):
    kinds = [verdict(LAWS[kind](np.arange(float(n)))).kind for n in (32, 64, 100, 200, 400, 1000, 4000)]
    assert set(kinds) <= {kind, "undecided"} and kinds[-1] == kind


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


@pytest.mark.parametrize(
    "options, message",
    [
        ({"confidence": 1.0}, "confidence < 1, got 1"),
        ({"confidence": 0.0}, "confidence > 0, got 0"),
        ({"max_steps": 0}, "max_steps to be an integer >= 1"),
    ],
)
def test_decay_rejects_options(options, message):
    with pytest.raises(ValueError, match=message):
        verdict(np.exp(-T), **options)


def test_what_alternates_before_it_is_exactly_level_is_a_plateau():
    t = np.arange(800.0)  # late on, all slopes are exactly 0
    found = cmlib.decay(cmlib.MemoryCurve(t, np.abs(0.1 + 0.1 * (-0.9) ** t), "impulse", floor=1e-16))
    assert found.kind == "plateau" and found.level == pytest.approx(0.1, rel=1e-6)
