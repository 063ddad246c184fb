"""Negative controls of the chapter Plateaus."""

import controls
import numpy as np
import pytest

from cmlib import fitting

CHAPTER = "linear/plateaus"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("chapter"))


def curve(v, loss):
    """A training in which every network has the same given loss at each step."""
    return fitting.FitResult(np.repeat(np.asarray(loss)[:, None], v["n_networks"], 1), [])


def late_exponentials(v):
    return {"trained": v["trained"] | {"exponentials": v["trained"][f"Airy, s = {v['shifts'][-1]:g}"]}}


def one_airy_kernel(v):
    first = v["trained"][f"Airy, s = {v['shifts'][0]:g}"]
    return {"trained": v["trained"] | {name: first for name in v["trained"] if name.startswith("Airy")}}


def plateaus_without_end(v):
    def cut(result):
        # the last tenth of the fall is missing in one network; the plateaus are as they were
        losses = result.losses.copy()
        losses[-1, 0] = 0.1 * losses[0, 0]
        return fitting.FitResult(losses, result.models)

    return {"trained": {name: cut(result) for name, result in v["trained"].items()}}


def steady_decline(v):
    return {"on_lorenz": v["on_lorenz"] | {"tanh": curve(v, np.geomspace(1.0, 1e-3, v["adam_steps"] + 1))}}


def linear_networks_that_end_lower(v):
    linear = v["on_lorenz"]["linear"]
    return {"on_lorenz": v["on_lorenz"] | {"linear": fitting.FitResult(linear.losses / 2, linear.models)}}


def a_loss_of_other_weights(v):
    return {"J": fitting.KernelLoss(v["target"](12.1))}


def column(i):
    def control(v):
        # one column of the table is a per cent off
        ours = {x: (*v["at_start"](x), v["tau"][x], v["tau_loss"][x]) for x in v["memories"]}
        ours = {x: [y * (1.01 if j == i else 1.0) for j, y in enumerate(row)] for x, row in ours.items()}
        return {
            "at_start": lambda x: tuple(ours[x][:2]),
            "tau": {x: row[2] for x, row in ours.items()},
            "tau_loss": {x: row[3] for x, row in ours.items()},
        }

    return control


def powers(name):
    # times that grow like a power of the memory and not exponentially
    return lambda v: {name: {x: x**3 for x in v[name]}}


def of_steps(v, name, row):
    return {"steps": v["steps"] | {name: dict(zip(v["descent_memories"], row, strict=True))}}


def no_ridge(v):
    # along the path itself, and not straight
    return {"along": 0 * v["along"]}


def newton_for_gradient_descent(v):
    return {"steps": v["steps"] | {"gradient descent": v["steps"]["Newton"]}}


CONTROLS = {
    "A-F1a-trains-fast": late_exponentials,
    "A-F1b-plateau-grows": one_airy_kernel,
    "A-F1b-then-drops": plateaus_without_end,
    "A-F1b-adam-grows-less": lambda v: {"with_adam": v["trained"]},
    "A-F1c-plateau": steady_decline,
    "A-F1c-linear-level": linear_networks_that_end_lower,
    "A-LOSS-two-routes": a_loss_of_other_weights,
    "A-PLATEAU-table-loss": column(0),
    "A-PLATEAU-table-gradient": column(1),
    "A-PLATEAU-table-tau": column(2),
    "A-PLATEAU-table-tau-loss": column(3),
    "A-PLATEAU-slope-tau": powers("tau"),
    "A-PLATEAU-slope-tau-loss": powers("tau_loss"),
    "A-PLATEAU-slope-tau-small-delta": powers("tau_small"),
    "A-PLATEAU-order": lambda v: {"tau_loss": v["tau"]},
    # a bump as wide as its memory is long is seen through an open window
    "A-PLATEAU-gradient": lambda v: {"at_start": lambda x: (1.0, x**-2.0)},
    "A-PLATEAU-bound": lambda v: {"flow_until": lambda kernel, events, m: (None, [1.0])},
    "landscape-ridge": no_ridge,
    "landscape-hidden-descent": lambda v: {"landscape": SteepSaddle(v["landscape"])},
    "landscape-late-speed": lambda v: {"last": 0.5 * v["tau_loss"][v["seen"]]},
    "A-optimisers-counts": lambda v: of_steps(v, "Adam", [1000] * len(v["descent_memories"])),
    "A-optimisers-descent": newton_for_gradient_descent,
    "A-optimisers-adam": lambda v: {"steps": v["steps"] | {"Adam": v["steps"]["gradient descent"]}},
    "A-optimisers-newton": lambda v: {"steps": v["steps"] | {"Newton": v["steps"]["heavy ball"]}},
    "A-optimisers-reach": lambda v: {"reached": {name: {8.0: 0.1} for name in v["reached"]}},
    "A-optimisers-complex": lambda v: {
        "reached": v["reached"] | {"complex rates": {x: 1.0 for x in v["reached"]["complex rates"]}}
    },
}


class SteepSaddle:
    """The loss with as much curvature down as up."""

    def __init__(self, loss):
        self.loss = loss

    def hessian(self, weights, rates):
        H = self.loss.hessian(weights, rates)
        return H - H[::-1, ::-1]

    def __getattr__(self, name):
        return getattr(self.loss, name)


def test_every_claim_of_the_chapter_has_a_control():
    assert controls.claimed(CHAPTER) == sorted(CONTROLS)


@pytest.mark.parametrize("claim", list(CONTROLS))
def test_claim_fails_on_a_wrong_object(before, claim, tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])
