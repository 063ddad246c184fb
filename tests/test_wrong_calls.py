"""Wrong calls: each is refused with a ValueError that names what was expected and what came."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib import inputs, kernels, models, parameterizations, sequence_maps, targets, testing
from cmlib.chapter import Lorenz96

CURVE = cmlib.MemoryCurve(np.arange(20.0), np.exp(-np.arange(20.0)), "heaviside")
MODEL = models.LinearRNN([-1.0, -2.0], [1.0, 1.0], [1.0, 1.0])
RNN = models.RNN([-1.0, -2.0], [1.0, 1.0], [1.0, 1.0], dt=0.1)
KERNEL = kernels.Exponential(1.0)
X = torch.ones(3, 5, 1, dtype=torch.float64)
Y = torch.zeros(3, 5, 1, dtype=torch.float64)
PUSHED = cmlib.perturbation_error(MODEL, KERNEL, [0.0, 0.1])


def push(**changed):
    return cmlib.perturbation_error(**({"model": MODEL, "target": KERNEL, "radii": [0.1]} | changed))


def train(**changed):
    return cmlib.fit(**({"models": RNN, "inputs": X, "outputs": Y, "steps": 1, "lr": 0.1} | changed))


def remember(**changed):
    return cmlib.memory_function(**({"seq_map": RNN, "n_steps": 20} | changed))


def remembered(**changed):
    return cmlib.MemoryCurve(**({"t": [0.0, 1.0], "values": [1.0, 0.5], "inputs": "heaviside"} | changed))


def pushed(**changed):
    curve = {"radii": [0.0, 0.1], "errors": [1.0, math.inf], "method": "random", "stability_radius": math.nan}
    return cmlib.PerturbationCurve(**(curve | {"is_lower_bound": True} | changed))


# name -> (call, what the message says: expected, got)
WRONG = {
    # kernels
    "rate of zero": (lambda: kernels.Exponential(0), "expected rate > 0, got 0"),
    "rate as text": (lambda: kernels.Exponential("1"), "expected rate .*, got '1'"),
    "rate nan": (lambda: kernels.Exponential(math.nan), "expected rate .*, got nan"),
    "rate True": (lambda: kernels.Exponential(True), "expected rate .*, got True"),
    "rate as list": (lambda: kernels.Exponential([1.0, 2.0]), r"expected rate .*, got \[1.0, 2.0\]"),
    "exponent as text": (lambda: kernels.Polynomial("2"), "expected exponent .*, got '2'"),
    "exponent of zero": (lambda: kernels.Polynomial(0.0), "expected exponent .*, got 0.0"),
    "negative scale": (lambda: kernels.Polynomial(2.0, scale=-1.0), "expected scale > 0, got -1.0"),
    "time before 0": (lambda: kernels.Polynomial(2.0)(-1.0), "expected .*t.* >= 0.*, got -1"),
    "times before 0": (lambda: kernels.Exponential(2.0)(np.array([-3.0, 1.0])), "expected .* >= 0.*, got -3"),
    "mixture upside down": (lambda: kernels.ExponentialMixture(2.0, 1.0), "expected fastest > 2, got 1.0"),
    "shift too far": (lambda: kernels.Airy(2000.0), "expected shift <= 1000, got 2000.0"),
    "flat bump": (lambda: kernels.Bump(1.0, 0.0), "expected width > 0, got 0.0"),
    "delay before 0": (lambda: kernels.Shifted(KERNEL, -1.0), "expected delay >= 0, got -1.0"),
    "shifted number": (lambda: kernels.Shifted(3.0, 1.0), "expected kernel to be a Kernel, got 3.0"),
    "sum of nothing": (lambda: kernels.Sum([], []), "expected at least one kernel"),
    "weights too few": (
        lambda: kernels.Sum([KERNEL, KERNEL], [1.0]),
        "expected one weight for each of 2 kernels",
    ),
    "sum of a class": (
        lambda: kernels.Sum([kernels.Exponential], [1.0]),
        "expected kernels.0. .*, got <class",
    ),
    "sum with nan": (lambda: kernels.Sum([KERNEL], [math.nan]), "expected weights.0. .*, got nan"),
    "kernel times text": (lambda: KERNEL * "2", "expected .*, got '2'"),
    "custom of a number": (lambda: kernels.Custom(3.0), "expected .*, got 3.0"),
    "distance to horizon 0": (lambda: kernels.l1_distance(KERNEL, KERNEL, 0.0), "expected horizon > 0, got 0.0"),
    "distance to a number": (lambda: kernels.l1_distance(KERNEL, 1.0), "expected .* to be a Kernel, got 1.0"),
    "mass of a long memory": (lambda: kernels.Polynomial(0.8).l1_norm(), "horizon"),
    "tail that is no function": (lambda: kernels.Custom(KERNEL, tail=1.0), "expected tail to be a function, got 1.0"),
    "transform before 0": (lambda: KERNEL.laplace(-1.0), "expected s >= 0, got -1.0"),
    # exponential sums
    "no modes": (lambda: cmlib.exponential_sum(KERNEL, 0), "expected .*m.* >= 1, got 0"),
    "half a mode": (lambda: cmlib.exponential_sum(KERNEL, 1.5), "expected .*m.*, got 1.5"),
    "fit to a number": (lambda: cmlib.exponential_sum(2.0, 1), "expected kernel to be a Kernel, got 2.0"),
    "margin below 0": (lambda: cmlib.exponential_sum(KERNEL, 1, margin=-1.0), "expected margin > 0, got -1.0"),
    "rates and margin": (lambda: cmlib.exponential_sum(KERNEL, 1, rates=[1.0], margin=1.0), "got both"),
    "rates too few": (lambda: cmlib.exponential_sum(KERNEL, 2, rates=[1.0]), r"expected m = 2 rates, got shape \(1,\)"),
    "growing rate": (lambda: cmlib.exponential_sum(KERNEL, 1, rates=[-1.0]), "expected every rate .*positive"),
    "times too few": (lambda: cmlib.exponential_sum(KERNEL, 3, times=[1.0, 2.0]), "expected at least 2 m"),
    "times unequal": (lambda: cmlib.exponential_sum(KERNEL, 1, times=[0, 1, 2, 4, 8]), "expected equally spaced"),
    "horizon of the fit": (lambda: cmlib.exponential_sum(KERNEL, 1, horizon=-1.0), "expected horizon > 0, got -1.0"),
    "sum that grows": (lambda: cmlib.ExponentialSum([-1.0], [1.0]), "expected every rate .*positive"),
    "lone complex rate": (lambda: cmlib.ExponentialSum([1 + 1j], [1.0]), "expected complex rates in conjugate pairs"),
    "ragged sum": (lambda: cmlib.ExponentialSum([1.0, 2.0], [1.0]), "expected rates and weights of one shape"),
    "singular values of text": (
        lambda: cmlib.hankel_singular_values("k", 3),
        "expected kernel to be a Kernel, got 'k'",
    ),
    "no singular values": (lambda: cmlib.hankel_singular_values(KERNEL, 0), "expected .* >= 1, got 0"),
    "too few nodes": (lambda: cmlib.hankel_singular_values(KERNEL, 9, n_nodes=3), "expected n_nodes .* >= 9, got 3"),
    "truncated to nothing": (lambda: cmlib.balanced_truncation(KERNEL, 0), "expected .* >= 1, got 0"),
    # inputs
    "no steps": (lambda: inputs.heaviside(0), "expected n_steps to be an integer >= 1, got 0"),
    "steps as float": (lambda: inputs.impulse(2.5), "expected n_steps to be an integer >= 1, got 2.5"),
    "amplitude as text": (lambda: inputs.heaviside(3, "loud"), "expected a numeric amplitude, got 'loud'"),
    "heaviside of integers": (
        lambda: inputs.heaviside(3, dtype=torch.int64),
        "expected dtype .* floating-point numbers, got torch.int64",
    ),
    "input on no device": (lambda: inputs.heaviside(3, device="nowhere"), "expected device .*, got 'nowhere'"),
    "noise on no device": (lambda: inputs.white_noise(3, device=[1]), r"expected device .*, got \[1\]"),
    "impulse of a word": (lambda: inputs.impulse(3, dtype="float"), "expected dtype .*, got 'float'"),
    "noise of integers": (lambda: inputs.white_noise(3, dtype=torch.int64), "expected dtype .*, got torch.int64"),
    "no history": (lambda: inputs.removed(3, history=0), "expected history to be an integer >= 1, got 0"),
    "noise from 0": (lambda: inputs.white_noise(3, generator=0), "expected generator to be a torch.Generator, got 0"),
    # parameterizations
    "unstable eigenvalue": (lambda: parameterizations.exp.inverse(0.5), "expected finite eigenvalues < 0, got 0.5"),
    "out of range": (lambda: parameterizations.inverse_square.inverse(-3.0), "expected eigenvalues >= .*, got -3.0"),
    "nan to invert": (lambda: parameterizations.exp.right_inverse(math.nan), "expected finite eigenvalues, got nan"),
    "a of zero": (lambda: parameterizations.InverseSquare(a=0.0), "expected a > 0, got 0.0"),
    "raw weight as text": (lambda: parameterizations.exp("a"), "expected w to hold real numbers, got 'a'"),
    "raw weight missing": (lambda: parameterizations.softplus(None), "expected w to hold real numbers, got None"),
    "raw weight of integers": (
        lambda: parameterizations.inverse_square(torch.tensor([1])),
        "expected w of floating-point numbers, got torch.int64",
    ),
    "eigenvalue as text": (lambda: parameterizations.direct.inverse("a"), "expected eigenvalues to hold .*, got 'a'"),
    "raw row of matrices": (
        lambda: parameterizations.dissipative(torch.ones(3)),
        r"expected M of shape .*, got \(3,\)",
    ),
    "exponential of a number": (lambda: parameterizations.matrix_exponential(3.0), "expected A to be .*, got 3.0"),
    "exponential of a row": (
        lambda: parameterizations.matrix_exponential(torch.ones(2, 3)),
        r"expected A of shape \(\*batch, m, m\), got \(2, 3\)",
    ),
    "oblong matrix": (
        lambda: parameterizations.dissipative.inverse(np.ones((2, 3))),
        "expected W to be a square matrix",
    ),
    "growing matrix": (lambda: parameterizations.dissipative.inverse([[1.0]]), r"expected W \+ W\^T .*, got one of 2"),
    # models
    "oblong W": (lambda: models.LinearRNN(np.ones((2, 3)), [1, 1], [1, 1]), r"expected W of shape .*, got \(2, 3\)"),
    "long U": (lambda: models.LinearRNN([-1.0], [1.0, 1.0], [1.0]), r"expected U and c of shape \(1,\), got \(2,\)"),
    "gamma too long": (
        lambda: models.NormalizedRNN([-1.0], [1.0], [1.0, 1.0]),
        r"expected W, U and gamma of one shape \(m,\), got \[\(1,\), \(1,\), \(2,\)\]",
    ),
    "dense W to normalise": (
        lambda: models.NormalizedRNN(-np.eye(2), [1, 1], [1, 1]),
        r"expected W, U and gamma of one shape \(m,\), got",
    ),
    "mode without a norm": (lambda: models.NormalizedRNN([0.5], [1.0], [1.0]), "expected eigenvalues < 0, .* got 0.5"),
    "another norm of modes": (
        lambda: models.NormalizedRNN([-1.0], [1.0], [1.0], norm="l3"),
        "expected norm among .*, got 'l3'",
    ),
    "W of words": (lambda: models.LinearRNN(["a"], [1.0], [1.0]), "expected W to hold finite numbers"),
    "W with nan": (lambda: models.RNN([math.nan], [1.0], [1.0]), "expected W to hold finite numbers"),
    "dt of zero": (lambda: models.RNN([-1.0], [1.0], [1.0], dt=0), "expected dt > 0, got 0"),
    "bad rule": (lambda: models.LinearRNN([-1.0], [1.0], [1.0], discretization="rk4"), "expected discretization among"),
    "bad activation": (
        lambda: models.RNN([-1.0], [1.0], [1.0], activation="gelu"),
        "expected activation .*'gelu'",
    ),
    "named parameterization": (
        lambda: models.LinearRNN([-1.0], [1.0], [1.0], parameterization="softplus"),
        "expected a parameterization, .*, got 'softplus'",
    ),
    "plain function": (
        lambda: models.SSM([-1.0], [1.0], [1.0], parameterization=lambda w: w),
        "expected a parameterization, .*, got <function",
    ),
    "elementwise on dense": (
        lambda: models.LinearRNN(-np.eye(2), [1, 1], [1, 1], parameterization=parameterizations.exp),
        "expected a diagonal W",
    ),
    "matrices on a diagonal": (
        lambda: models.RNN([-1.0], [1.0], [1.0], parameterization=parameterizations.dissipative),
        "expected a dense W",
    ),
    "dense layer": (lambda: models.SSM(-np.eye(2), [1, 1], [1, 1]), r"expected W of shape \(m,\), got \(2, 2\)"),
    "kernel before 0": (lambda: MODEL.kernel([-1.0]), "expected t >= 0, got -1.0"),
    "kernel at no time": (lambda: MODEL.kernel("now"), "expected t to hold real numbers, got 'now'"),
    "kernel at the end of time": (lambda: MODEL.kernel(math.inf), "expected finite times, got inf"),
    "layer with one step": (lambda: models.S4D(1, steps=3), r"expected steps \(smallest, largest\), got 3"),
    "layer with three steps": (lambda: models.S4D(1, steps=(1, 2, 3)), r"expected steps .*, got \(1, 2, 3\)"),
    "layer of integers": (lambda: models.S4D(1, dtype=torch.int64), "expected dtype .*, got torch.int64"),
    "no channels": (lambda: models.S4D(0), "expected channels to be an integer >= 1, got 0"),
    "steps upside down": (lambda: models.S4D(1, steps=(0.1, 0.01)), "expected steps with smallest <= largest"),
    "input of two channels": (
        lambda: MODEL(torch.ones(1, 4, 2)),
        r"expected an input of shape .* got",
    ),
    "input of integers": (
        lambda: RNN(torch.ones(1, 4, 1, dtype=torch.long)),
        "expected .*, got torch.int64",
    ),
    "input as array": (lambda: RNN(np.ones((1, 4, 1))), "expected an input to be a tensor"),
    "bad route": (lambda: MODEL(X, route="guess"), "expected route among .*, got 'guess'"),
    # targets
    "functional of a number": (lambda: targets.LinearFunctional(1.0), "expected .*Kernel, got 1.0"),
    "functional with dt 0": (lambda: targets.LinearFunctional(KERNEL, dt=0.0), "expected .*dt > 0, got 0.0"),
    "few waves": (lambda: Lorenz96(n_fast=3), "expected n_fast to be an integer >= 4, got 3"),
    "map at a word": (lambda: sequence_maps.evaluate(RNN, "x"), "expected inputs to be a tensor .*, got 'x'"),
    "map at a row": (lambda: sequence_maps.evaluate(RNN, X[0]), r"expected inputs of shape .*, got \(5, 1\)"),
    "scan of unequal lengths": (
        lambda: sequence_maps.linear_scan(X[:, :3], X),
        r"expected A of the shape of drive, \(3, 5, 1\), got \(3, 3, 1\)",
    ),
    "scan by a number": (lambda: sequence_maps.linear_scan(0.5, X), "expected A to be a tensor .*, got 0.5"),
    "convolution of unequal lengths": (
        lambda: sequence_maps.causal_convolution(X[0, :3, 0], X[..., 0]),
        r"expected x of shape \(batch, 3\) for these weights, got \(3, 5\)",
    ),
    "convolution with a number": (
        lambda: sequence_maps.causal_convolution(0.5, X[..., 0]),
        "expected weights to be a tensor .*, got 0.5",
    ),
    "convolution over no time": (
        lambda: sequence_maps.causal_convolution(X[0, :0, 0], X[:, :0, 0]),
        "expected weights to be a tensor .* got tensor",
    ),
    "map of a number": (lambda: sequence_maps.evaluate(3, X), "expected a map .*, got 3"),
    # training
    "nothing to train": (lambda: train(models=[]), r"expected one or more nn.Module, got \[\]"),
    "a number to train": (lambda: train(models=3), r"expected one or more nn.Module, got \[3\]"),
    "two kinds": (lambda: train(models=[RNN, MODEL]), "expected models that differ in their weights alone"),
    "no training": (lambda: train(steps=0), "expected steps to be an integer >= 1, got 0"),
    "rate of learning": (lambda: train(lr=-1.0), "expected lr > 0, got -1.0"),
    "no rate of learning": (lambda: train(lr=None), "expected lr .*, got None"),
    "unknown optimizer": (lambda: train(optimizer="sgd"), "expected optimizer among .*, got 'sgd'"),
    "flat inputs": (lambda: train(inputs=X[0]), "expected inputs"),
    "outputs of others": (lambda: train(outputs=Y[:, :3]), r"expected outputs of shape \(3, 5, 1\), got \(3, 3, 1\)"),
    "outputs of fewer": (lambda: train(outputs=Y[:2]), "expected outputs .*, got 2 for 3"),
    "outputs of fewer, in batches": (lambda: train(outputs=Y[:2], batch=2), "expected outputs .*, got 2 for 3"),
    "nothing to train on": (lambda: train(inputs=X[:0], outputs=Y[:0]), "expected outputs .* one input, got 0 for 0"),
    "batch of many": (lambda: train(batch=9), "expected batch between 1 and the 3 sequences, got 9"),
    "order from 0": (lambda: train(batch=2, generator=0), "expected generator to be a torch.Generator, got 0"),
    "lbfgs with lr": (lambda: train(optimizer="lbfgs"), "expected no lr and no batch with lbfgs"),
    "loss of Airy": (lambda: cmlib.KernelLoss(kernels.Airy(1.0)), "expected a sum of exponentials"),
    "flow past zero": (
        lambda: cmlib.gradient_flow(KERNEL, [1.0], [-1.0]),
        "expected finite weights and pos",
    ),
    # memory
    "memory of a number": (lambda: remember(seq_map=3), "expected a map .*, got 3"),
    "unknown inputs": (lambda: remember(inputs="reversed"), "expected inputs among .*'removed'.*, got 'reversed'"),
    "no lags": (lambda: remember(n_steps=0), "expected n_steps to be an integer >= 1, got 0"),
    "lags as float": (lambda: remember(n_steps=10.0), "expected n_steps to be an integer >= 1, got 10.0"),
    "memory with dt 0": (lambda: remember(dt=0.0), "expected dt > 0, got 0.0"),
    "silent amplitudes": (lambda: remember(amplitudes=[0.0]), "expected finite amplitudes that are not zero"),
    "other channels": (lambda: remember(d_in=2), r"expected .* \(batch, time, 1\), got \(.*, 2\)"),
    "signs from 0": (lambda: remember(generator=0), "expected generator to be a torch.Generator, got 0"),
    "map that drops time": (lambda: remember(seq_map=lambda x: x[:, -1]), "expected outputs .*, got"),
    "map that overflows": (lambda: remember(seq_map=lambda x: x / 0), "expected finite outputs"),
    "decay of an array": (lambda: cmlib.decay(np.ones(20)), "expected a MemoryCurve, got array"),
    "decay of a number": (lambda: cmlib.decay(3), "expected a MemoryCurve, got 3"),
    "more times than values": (lambda: remembered(t=[0.0, 1.0, 2.0]), "expected as many values as times, 3, got 2"),
    "curve of a number": (lambda: remembered(t=0.0), r"expected t of 1 dimension, got shape \(\)"),
    "times in a square": (lambda: remembered(t=[[0.0]]), r"expected t of 1 dimension, got shape \(1, 1\)"),
    "curve without end": (lambda: remembered(t=[0.0, math.inf]), r"expected t to hold finite .*, got \[0.0, inf\]"),
    "curve of words": (lambda: remembered(values="no"), "expected values to hold real numbers, got 'no'"),
    "floor below 0": (lambda: remembered(floor=-1.0), "expected floor >= 0, got -1.0"),
    "floor as text": (lambda: remembered(floor="low"), "expected floor to be a finite number, got 'low'"),
    "short curve": (
        lambda: cmlib.decay(cmlib.MemoryCurve(np.arange(3.0), np.ones(3), "heaviside")),
        "expected at least 16 increasing times",
    ),
    # stability
    "radius of a row": (
        lambda: cmlib.stability_radius([1.0, 2.0]),
        r"expected W to be .*, got shape \(2,\)",
    ),
    "radius of nan": (lambda: cmlib.stability_radius([[math.nan]]), "expected W to hold finite real numbers"),
    "radius of complex": (lambda: cmlib.stability_radius([[1j]]), "expected W to hold finite real numbers"),
    "radius of words": (lambda: cmlib.stability_radius("W"), "expected W to hold finite real numbers, got 'W'"),
    "another field": (lambda: cmlib.stability_radius([[-1.0]], field="rational"), "expected field among .*'rational'"),
    "another time": (lambda: cmlib.stability_radius([[-1.0]], time="noon"), "expected time among .*'noon'"),
    # perturbation
    "negative radius": (lambda: push(radii=[-0.1]), "expected finite radii >= 0"),
    "radii in a square": (lambda: push(radii=[[0.1]]), "expected finite radii >= 0 of shape"),
    "no radii": (lambda: push(radii=[]), "expected finite radii >= 0 of shape"),
    "hopeful method": (lambda: push(method="hope"), "expected method among .*'hope'"),
    "another norm": (lambda: push(norm="l2"), "expected norm among .*'l2'"),
    "mean over no inputs": (lambda: push(norm="mse"), "expected inputs for the norm 'mse'"),
    "round ball": (lambda: push(ball="round"), "expected ball among .*'round'"),
    "no directions": (lambda: push(n_directions=0), "expected n_directions to be an integer >= 1, got 0"),
    "directions from 3": (lambda: push(generator=3), "expected generator to be a torch.Generator, got 3"),
    "unknown weights": (lambda: push(weights=["V"]), "expected weights out of"),
    "push of a number": (lambda: push(model=3), "expected model to be an nn.Module, got 3"),
    "target in words": (lambda: push(target="polynomial"), "expected .*Kernel, got 'polynomial'"),
    "layer without inputs": (lambda: push(model=nn.Linear(1, 1)), "expected inputs, or a model that declares"),
    "kernel over inputs": (lambda: push(model=RNN, inputs=X), "expected a target that maps sequences, and no kernel"),
    "silent inputs": (lambda: push(model=RNN, target=RNN, inputs=0 * X), "expected inputs of which no sequence is 0"),
    "inputs and horizon": (lambda: push(model=RNN, target=RNN, inputs=X, horizon=3.0), "expected no horizon"),
    "curves that do not start apart": (
        lambda: cmlib.crossing(PUSHED, PUSHED),
        "expected the wider model to",
    ),
    "radius at level 0": (
        lambda: cmlib.stable_perturbation_radius(PUSHED, 0.0),
        "expected level > 0, got 0.0",
    ),
    "more errors than radii": (lambda: pushed(radii=[0.1]), r"expected errors .* each of 1 radii, got \[ 1. inf\]"),
    "curve of negative radii": (lambda: pushed(radii=[-0.1, 0.1]), "expected finite radii >= 0 .*, got"),
    "curve of infinite radii": (lambda: pushed(radii=[0.1, math.inf]), "expected radii to hold finite .*, got"),
    "errors below 0": (lambda: pushed(errors=[1.0, -1.0]), r"expected errors >= 0, .*, got \[ 1. -1.\]"),
    "errors nan": (lambda: pushed(errors=[1.0, math.nan]), "expected errors >= 0, .*, got"),
    "error of a number": (lambda: pushed(errors=1.0), r"expected errors of 1 dimension, got shape \(\)"),
    "curve by hope": (lambda: pushed(method="hope"), "expected method among .*, got 'hope'"),
    "radius in words": (lambda: pushed(stability_radius="far"), "expected stability_radius to hold .*, got 'far'"),
    "crossing of numbers": (lambda: cmlib.crossing(3, 4), "expected a PerturbationCurve, got 3"),
    "crossing with a number": (lambda: cmlib.crossing(PUSHED, 4), "expected a PerturbationCurve, got 4"),
    "radius at a word": (
        lambda: cmlib.stable_perturbation_radius(PUSHED, level="a"),
        "expected level to be a finite number, got 'a'",
    ),
    "radius of an array": (lambda: cmlib.stable_perturbation_radius([1.0]), "expected a PerturbationCurve, got"),
    # conformance
    "check of one step": (
        lambda: testing.check_sequence_map(RNN, n_steps=1),
        "expected n_steps to be an integer >= 2, got 1",
    ),
    "model over one step": (lambda: testing.check_recurrent_model(RNN, n_steps=1), "expected n_steps .* >= 2, got 1"),
    "raw number": (
        lambda: testing.check_parameterization(parameterizations.exp, raw=3),
        r"expected raw of 1 dimension, got shape \(\)",
    ),
    "raw row": (
        lambda: testing.check_parameterization(parameterizations.dissipative, raw=torch.ones(3)),
        r"expected raw to be a square matrix, got shape \(3,\)",
    ),
    "no raw weights": (
        lambda: testing.check_parameterization(parameterizations.exp, raw=[]),
        "expected raw weights, got none",
    ),
    # report
    "report of a number": (lambda: cmlib.report(3, d_in=1), "expected a map .*, got 3"),
    "report without channels": (lambda: cmlib.report(nn.Linear(1, 1)), "expected d_in, the number of input channels"),
    "short report": (lambda: cmlib.report(RNN, n_steps=4), "expected n_steps to be an integer >= 16, got 4"),
    "report as text": (lambda: cmlib.report(RNN, d_in="1"), "expected d_in to be an integer >= 1, got '1'"),
    "model of nowhere": (lambda: cmlib.load_model("nowhere.at_all:make"), "expected a module 'nowhere.at_all'"),
    "model without colon": (lambda: cmlib.load_model("json"), "expected module=.*, got 'json'"),
    "model of a constant": (lambda: cmlib.load_model("math:pi"), "expected a function or class 'pi' in math, got 3.14"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_call_says_what_was_expected_and_what_came(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_there_are_enough_of_them():
    assert len(WRONG) >= 80


def test_a_wrong_call_leaves_the_callers_model_as_it_was():
    before, mode = {name: w.clone() for name, w in RNN.state_dict().items()}, RNN.training
    for name in ("silent inputs", "outputs of others", "other channels"):
        with pytest.raises(ValueError):
            WRONG[name][0]()
    assert RNN.training == mode and all(torch.equal(before[name], w) for name, w in RNN.state_dict().items())
