"""verdict: each kind of finding has its sentence, and none says more than was found."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cmlib import MemoryCurve, Traits
from cmlib.certificates import ALONE, Certificate
from cmlib.decay import Decay
from cmlib.parts import Part
from cmlib.report import Report
from cmlib.verdict import ORDER, THEOREM, from_inside, held_longer, overtaken, questioned

NONLINEAR = Traits(False, False, None, True, False, np.nan)
LINEAR = Traits(True, False, None, True, False, np.nan)
SETTLING = Traits(True, False, None, None, False, np.nan)
SETTINGS = {"unit": "step", "time per step": 1.0, "dtype": "float64", "greatest length": None}


def fallen(kind, **fields):
    """A decay of one kind, seen to t = 200."""
    possible = (kind,) if kind != "undecided" else ("exponential", "polynomial")
    rate = fields.get("rate", np.nan)
    exponent = fields.get("exponent", np.nan)
    between = {"rate_interval": (0.95 * rate, 1.05 * rate), "exponent_interval": (0.95 * exponent, 1.05 * exponent)}
    seen = {"window": (10.0, 200.0), "floor": 1e-13, "n_steps": 200, "reason": "so it was seen"}
    return Decay(**{"kind": kind, "possible": possible} | between | seen | fields)


def exponential(rate):
    return fallen("exponential", rate=rate)


def power(exponent):
    return fallen("polynomial", exponent=exponent)


def certificate(rate, decides=False, kind="steps", **fields):
    part = Part("core", "GRU", kind, {}, module=SimpleNamespace(dt=0.5))
    known = {"gap": np.inf, "radius": 0.5, "growth": 1.0, "assumes": ("small signals",), "covers": True}
    return Certificate(part, np.zeros(1, complex), rate, decides=decides, **known | fields)


def report(decays=None, **fields):
    decays = {"heaviside": exponential(0.1), "impulse": exponential(0.1)} if decays is None else decays
    empty = {"memory": {}, "by_amplitude": {}, "growing": None, "certificates": (), "sensitivity": ()}
    empty |= {"perturbation": None, "left_out": {}, "notes": (), "settings": SETTINGS, "traits": NONLINEAR}
    return Report(**{"name": "M", "decays": decays} | empty | fields)


T = np.arange(1.0, 201.0)
SIZES = {0.1: exponential(0.43), 1.0: exponential(0.37), 10.0: exponential(0.084)}
GROWN = MemoryCurve(T, np.exp(-1) / T, "heaviside", amplitudes=[[-50.0], [50.0]], by_amplitude=[np.exp(-1) / T] * 2)
HIDDEN = fallen("exponential", rate=0.017, rate_interval=(0.017, 0.07))
BROKEN = {
    "heaviside": fallen("plateau", level=1.0),
    "impulse": fallen("plateau", level=1.0),
    "removed": fallen("finite", lag=0.0),
}
ALL_SIZES = {"heaviside": fallen("plateau", level=1.0), "impulse": exponential(0.1)}

# name -> findings, what is said, what is not
TOLD = {
    "exponential": (
        report(),
        ["M forgets exponentially, at the rate 0.1 (0.095 to 0.105) per step, to 1/e in 10 steps."],
        ["linear"],
    ),
    "linear": (report(traits=LINEAR), ["M is linear: all inputs have one memory"], ["depends on"]),
    "memoryless": (
        report({"heaviside": fallen("finite", lag=0.0)}, traits=Traits(False, True, 0, True, False, np.nan)),
        ["M has no memory: its output at a step depends on the input of that step alone."],
        ["remembers", "forgets expo"],
    ),
    "finite": (
        report({"impulse": fallen("finite", lag=126.0)}),
        ["M remembers 126 steps and nothing before them."],
        ["forgets expo"],
    ),
    "finite by the traits": (
        report({"impulse": fallen("undecided")}, traits=Traits(False, False, 126, True, False, np.nan)),
        ["M remembers 126 steps"],
        ["undecided"],
    ),
    "one step": (report({"impulse": fallen("finite", lag=1.0)}), ["M remembers 1 step and"], []),
    "stretched": (
        report({"impulse": fallen("stretched", exponent=0.5)}),
        ["like exp(-(t/tau)^b) with b = 0.5"],
        ["forgets fast enough"],
    ),
    "periodic": (
        report({"impulse": fallen("periodic", period=11.0)}),
        ["never forgets: its memory repeats every 11 steps"],
        ["forgets fast enough"],
    ),
    "plateau": (
        report({"impulse": fallen("plateau", level=0.25)}),
        ["never forgets: its memory stays at 0.25"],
        ["forgets fast enough"],
    ),
    "none": (report({"impulse": fallen("none")}), ["M does not forget"], ["forgets fast enough"]),
    "time-varying": (
        report(traits=Traits(False, False, None, False, False, np.nan)),
        [
            "M changes with time",
            f"{THEOREM} says nothing about it, as not all that it asks for holds: time-homogeneous.",
        ],
        ["forgets fast enough"],
    ),
    "chaotic": (
        report(traits=Traits(False, False, None, None, True, 0.28)),
        [
            "M is chaotic",
            "at the rate 0.28 per step",
            "says nothing about it, as not all that it asks for holds: decaying memory.",
        ],
        ["forgets exponentially", "forgets fast enough"],
    ),
    "inputs disagree": (
        report({"heaviside": exponential(0.1), "removed": fallen("plateau", level=1.0)}),
        [
            "M never forgets",
            "depends on the kind of input (heaviside: exponential at the rate 0.1; removed: level at 1)",
        ],
        ["could not", "linear"],
    ),
    "inputs of a linear map disagree": (
        report(BROKEN, traits=LINEAR),
        ["M never forgets", "differ by how they were taken, not by what it remembers"],
        ["could not", "depends on"],
    ),
    "linear, and perhaps not the same at all times": (
        report({"heaviside": fallen("undecided"), "impulse": exponential(0.1)}, traits=SETTLING),
        ["M is linear: sizes make no difference.", "How M forgets is undecided", "Not every kind of input was decided"],
        ["all inputs have one memory", "differ by how they were taken", "not linear", "depends on the kind"],
    ),
    "rates of inputs disagree": (
        report({"heaviside": exponential(0.02), "impulse": exponential(0.5)}),
        ["at the rate 0.02 (", "depends on the kind of input (heaviside: exponential at the rate 0.02;"],
        [],
    ),
    "rates of inputs nearly agree": (
        report({"heaviside": exponential(0.1), "impulse": exponential(0.101)}),
        [],
        ["depends on"],
    ),
    "size matters": (
        report(
            {"heaviside": exponential(0.084)}, by_amplitude={"heaviside": SIZES}, certificates=(certificate(0.435),)
        ),
        [
            "Its rate depends on the size of the input: 0.43 at |x| = 0.1, 0.37 at |x| = 1, "
            "0.084 at |x| = 10, 0.435 at rest.",
            "The curve confirms the eigenvalues: 0.43 seen with inputs of size 0.1, 0.435 from the eigenvalues.",
        ],
        ["depends on the kind"],
    ),
    "size matters, and the kind of input as far as it is large": (
        report(
            {"heaviside": exponential(0.084), "impulse": exponential(0.435)},
            by_amplitude={"heaviside": SIZES},
            certificates=(certificate(0.435),),
        ),
        ["M forgets exponentially, at the rate 0.084", "Its rate depends on the size of the input: 0.43 at |x| = 0.1"],
        ["depends on the kind"],
    ),
    "size matters, and the kind of input": (
        report({"heaviside": exponential(0.084), "impulse": exponential(0.2)}, by_amplitude={"heaviside": SIZES}),
        ["Its rate depends on the size of the input", "How it forgets depends on the kind of input"],
        [],
    ),
    "a rate that rounding hides": (
        report(
            {"heaviside": HIDDEN, "impulse": exponential(0.4)},
            by_amplitude={"heaviside": {0.1: exponential(0.42), 10.0: HIDDEN}},
            certificates=(certificate(0.43, driven={-10.0: 0.017, 10.0: 0.4}),),
        ),
        [
            "M forgets exponentially, as slowly as 0.017 per step where x = -10 is held (eigenvalues); what 200 lags "
            "show is a rate of up to 0.07.",
            "depends on the size of the input: 0.42 at |x| = 0.1, 0.017 (eigenvalues) at |x| = 10, 0.43 at rest.",
        ],
        ["to 1/e in", "An input held at"],
    ),
    "a rate that rounding hides where all is said with one size": (
        report({"impulse": HIDDEN}, certificates=(certificate(0.017),)),
        ["as slowly as 0.017 per step at rest (eigenvalues)"],
        ["confirms"],
    ),
    "size matters to the law": (
        report(ALL_SIZES, by_amplitude={"heaviside": {1.0: exponential(0.1), 10.0: fallen("plateau", level=1.0)}}),
        [
            "How it forgets depends on the size of the input: exponential at the rate 0.1 at |x| = 1, "
            "level at 1 at |x| = 10."
        ],
        [],
    ),
    "size may matter": (
        report(by_amplitude={"heaviside": {1.0: exponential(0.1), 10.0: fallen("undecided")}}),
        ["Not every size of the input was decided: exponential at the rate 0.1 at |x| = 1, undecided at |x| = 10."],
        ["depends on the size"],
    ),
    "inputs that grow": (
        report(growing=(GROWN, power(1.0))),
        [
            "Over inputs of all sizes up to 50 its memory falls like a power of time, about 0.368 t^-1;",
            "M forgets exponentially",
        ],
        [],
    ),
    "inputs that grow, and the theorem": (
        report(growing=(GROWN, power(1.0))),
        ["With a bound on the inputs it forgets fast enough"],
        ["If it goes on"],
    ),
    "inputs that grow, undecided": (report(growing=(GROWN, fallen("undecided"))), [], ["all sizes"]),
    "undecided": (
        report({"heaviside": fallen("undecided"), "impulse": exponential(0.1)}),
        ["How M forgets is undecided: what was seen allows an exponential or a power of time."],
        [THEOREM, "forgets exponentially"],
    ),
    "undecided, and perhaps slower": (
        report({"heaviside": exponential(0.5), "impulse": fallen("undecided", possible=("exponential",))}),
        ["How M forgets is undecided: what was seen allows an exponential."],
        ["M forgets exponentially"],
    ),
    "undecided, but one is never forgotten": (
        report({"heaviside": fallen("undecided"), "impulse": fallen("plateau", level=1.0)}),
        ["M never forgets"],
        ["How M forgets is undecided"],
    ),
    "held": (
        report({"heaviside": fallen("undecided")}, certificates=(certificate(0.5, driven={0.1: 0.49, 10.0: 0.002}),)),
        ["An input held at x = 10 slows GRU core: its rate is 0.002 there, 0.5 at rest."],
        [],
    ),
    "held, and nothing but an exponential": (
        report(
            {"heaviside": fallen("undecided", possible=("exponential",)), "impulse": exponential(0.5)},
            certificates=(certificate(0.5, driven={0.1: 0.49, 10.0: 0.002}),),
        ),
        ["M forgets exponentially, at the rate 0.002 per step or faster by its eigenvalues, to 1/e in 500 steps."],
        ["How M forgets is undecided"],
    ),
    "held where it is not stable": (
        report(
            {"heaviside": fallen("undecided", possible=("exponential",))},
            certificates=(certificate(0.5, driven={0.1: 0.49, 10.0: -0.1}),),
        ),
        ["How M forgets is undecided"],
        [],
    ),
    "hardly held": (report(certificates=(certificate(0.5, driven={1.0: 0.45, 2.0: np.nan}),)), [], ["slows"]),
    "undecided, but of faster kinds": (
        report({"heaviside": power(1.5), "impulse": fallen("undecided", possible=("finite", "exponential"))}),
        ["M forgets like a power of time, t^-p with p = 1.5"],
        ["How M forgets is undecided"],
    ),
    "power": (
        report({"impulse": fallen("polynomial", exponent=1.5, exponent_interval=(1.4, 1.6))}, traits=LINEAR),
        ["t^-p with p = 1.5 (1.4 to 1.6)", f"no tanh or hardtanh network approximates it stably ({THEOREM})"],
        ["says nothing"],
    ),
    "power without an integral": (
        report({"impulse": power(0.5)}, traits=LINEAR),
        [f"{THEOREM} says nothing about it, as not all that it asks for holds: bounded."],
        ["approximates it stably"],
    ),
    "eigenvalues decide": (
        report({"impulse": fallen("undecided")}, certificates=(certificate(0.00128, decides=True),)),
        [
            "M forgets exponentially, at the rate 0.00128 per step or faster by its eigenvalues, to 1/e in 781 steps.",
            "GRU 'core' is linear",
        ],
        ["undecided", "confirms"],
    ),
    "eigenvalues of parts beside which something else remembers": (
        report(
            {"impulse": fallen("undecided", possible=("exponential",))}, certificates=(certificate(0.1, covers=False),)
        ),
        ["How M forgets is undecided: what was seen allows an exponential."],
        ["by its eigenvalues"],
    ),
    "eigenvalues of parts that hold all memory": (
        report({"impulse": fallen("undecided", possible=("exponential",))}, certificates=(certificate(0.1),)),
        ["at the rate 0.1 per step or faster by its eigenvalues"],
        ["undecided"],
    ),
    "eigenvalues bound, and what is seen may be faster": (
        report({"impulse": power(1.0)}, certificates=(certificate(0.1, decides=True),)),
        ["at the rate 0.1 per step or faster"],
        ["power"],
    ),
    "eigenvalues against a memory that outlives them": (
        report(
            {"impulse": power(1.0)},
            memory={"impulse": MemoryCurve(T, 1 / T, "impulse")},
            certificates=(certificate(0.2, decides=True),),
        ),
        ["M forgets like a power of time"],
        ["or faster"],
    ),
    "a power that the eigenvalues leave room for": (
        report(
            {"impulse": power(1.0)},
            memory={"impulse": MemoryCurve(T, 1 / T, "impulse")},
            certificates=(certificate(0.02, decides=True),),
        ),
        ["at the rate 0.02 per step or faster"],
        ["power"],
    ),
    "chaos of which the rate is not seen": (
        report(traits=Traits(False, False, None, None, True, np.nan)),
        ["M is chaotic: runs that differ by next to nothing part."],
        ["nan"],
    ),
    "the end of a memory that comes back": (
        report(
            {"impulse": fallen("undecided")},
            memory={"impulse": MemoryCurve(T, np.where(T == 150, 1e-3, T < 6), "impulse", 1e-14)},
            traits=Traits(False, False, 5, True, False, np.nan, 64),
        ),
        ["How M forgets is undecided"],
        ["nothing before them"],
    ),
    "the end of a memory": (
        report(
            {"impulse": fallen("undecided")},
            memory={"impulse": MemoryCurve(T, np.where(T < 6, 1.0, 1e-13), "impulse", 1e-14)},
            traits=Traits(False, False, 5, True, False, np.nan, 64),
        ),
        ["M remembers 5 steps and nothing before them."],
        ["undecided"],
    ),
    "the end of a memory at one moment": (
        report({"impulse": fallen("finite", lag=49.0)}, traits=Traits(True, False, 27, False, False, np.nan)),
        ["M remembers 49 steps", "M changes with time"],
        ["27"],
    ),
    "eigenvalues against a power": (
        report({"impulse": power(1.0)}, certificates=(certificate(0.00128, decides=True),)),
        ["at the rate 0.00128"],
        ["power"],
    ),
    "eigenvalues that would have been seen": (
        report({"impulse": exponential(0.5)}, certificates=(certificate(0.05, decides=True),)),
        ["M forgets exponentially, at the rate 0.5 (", "The curve falls faster than the eigenvalues say"],
        ["confirms"],
    ),
    "eigenvalues of a part alone do not decide": (
        report({"impulse": fallen("undecided")}, certificates=(certificate(0.1, decides=True), certificate(0.2))),
        ["How M forgets is undecided"],
        [],
    ),
    "slower than the eigenvalues": (
        report({"impulse": exponential(0.1)}, certificates=(certificate(0.5),)),
        ["The curve falls more slowly than the eigenvalues say: 0.1 seen with the curve, 0.5 from the eigenvalues."],
        ["confirms"],
    ),
    "faster than the eigenvalues": (
        report({"impulse": exponential(0.5)}, certificates=(certificate(0.1),)),
        ["The curve falls faster than the eigenvalues say: 0.5 seen with the curve, 0.1 from the eigenvalues."],
        ["confirms"],
    ),
    "a flow has its own step": (
        report({"impulse": exponential(0.1)}, certificates=(certificate(0.2, kind="flow"),)),
        ["The curve confirms the eigenvalues: 0.1 seen with the curve, 0.1 from"],
        [],
    ),
    "nothing measured": (report({}), ["The memory of M was not measured."], [THEOREM]),
    "notes": (report(notes=("It takes 512 steps at most.",)), ["It takes 512 steps at most."], []),
    "something left out": (report(left_out={"sensitivity": "too long"}), ["Left out: sensitivity."], []),
}


@pytest.mark.parametrize(("found", "said", "unsaid"), TOLD.values(), ids=TOLD)
def test_findings_have_their_sentences(found, said, unsaid):
    text = str(found)
    assert [line for line in said if line not in text] == [] and [line for line in unsaid if line in text] == []
    assert all(sentence.reason for sentence in found.verdict)


@pytest.mark.parametrize("found", [found for found, *_ in TOLD.values()], ids=TOLD)
def test_theorem_is_cited_with_all_of_its_hypotheses_or_not_at_all(found):
    named = " ".join(a.hypothesis for a in found.assumptions)
    for hypothesis in (
        "bounded",
        "causal",
        "continuous",
        "regular",
        "time-homogeneous",
        "decaying memory",
        "approximants",
    ):
        assert hypothesis in named
    assert all(a.status in ("checked", "assumed", "fails") and a.how for a in found.assumptions)
    citing = [s for s in found.verdict if THEOREM in s.text]
    failing = any(a.status == "fails" for a in found.assumptions)
    assert len(citing) <= 1 and all(("says nothing about it" in s.text) == failing for s in citing)


def test_what_was_not_settled_is_assumed_and_not_checked():
    settled = {a.hypothesis: a.status for a in report().assumptions}
    open_one = report({"impulse": fallen("undecided")}, traits=None)
    unsettled = {a.hypothesis: a.status for a in open_one.assumptions}
    assert settled["time-homogeneous"] == settled["decaying memory"] == "checked"
    assert unsettled["time-homogeneous"] == unsettled["decaying memory"] == "assumed"


@pytest.mark.parametrize("kind", ORDER)
def test_slowest_input_gives_the_verdict(kind):
    fields = {"exponential": {"rate": 0.1}, "polynomial": {"exponent": 1.0}, "stretched": {"exponent": 0.5}}
    known = {k: fallen(k, lag=3.0, period=2.0, level=1.0, **fields.get(k, {})) for k in ORDER}
    faster = {k: known[k] for k in ORDER[: ORDER.index(kind) + 1]}
    assert report(faster).conclusion.kind == kind
    assert report(dict(reversed(faster.items()))).conclusion.kind == kind


def test_slower_of_two_of_a_kind_gives_the_verdict():
    assert report({"a": exponential(0.1), "b": exponential(0.2)}).conclusion.rate == 0.1
    assert report({"a": power(2.0), "b": power(1.0)}).conclusion.exponent == 1.0
    assert report({"a": fallen("finite", lag=3.0), "b": fallen("finite", lag=9.0)}).conclusion.lag == 9.0


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.exp(-0.5 * T), "exponential"),  # in rounding before all others
        (np.exp(-0.5 * T) + 1e-9 * np.exp(-0.08 * T), "undecided"),  # and before it is, slower
        (np.exp(-0.12 * T), "undecided"),  # not followed into rounding
    ],
)
def test_random_inputs_that_no_law_fits_leave_the_verdict_to_the_others_if_they_are_forgotten_no_later(values, kind):
    curve = MemoryCurve(T, values, "random", 1e-16)
    last = float(T[values > 1e-14][-1])
    own = fallen("undecided", possible=("stretched",), window=(0.0, last), floor=1e-14, reason="no law fits")
    decays = {"heaviside": exponential(0.1), "impulse": exponential(0.4)}
    found = report(decays | {"mine": own}, memory={"mine": curve})
    assert found.conclusion.kind == kind and (kind == "undecided" or found.conclusion.rate == 0.1)
    assert "mine: undecided" in str(found)
    sizes = {"mine": {1.0: own, 10.0: exponential(0.1)}}
    agreeing = report({"heaviside": exponential(0.1), "mine": own}, memory={"mine": curve}, by_amplitude=sizes)
    assert ("Not every size" in str(agreeing)) == (kind == "undecided")
    (why,) = [s.reason for s in agreeing.verdict if s.text.startswith("Not every kind of input was decided (")]
    assert why == "mine: no law fits" + ", but it fell into rounding no more slowly" * (kind == "exponential")
    # the sequences of which it is made out of silence say what the law is
    step = report(decays | {"mine": own}, memory={"mine": replace(curve, inputs="heaviside")})
    assert step.conclusion.kind == "undecided"


OF_SIZES = np.stack([np.exp(-0.05 * T), 1e-6 * np.exp(-0.001 * T)])  # of the larger size it shows later
CURVE = MemoryCurve(T, OF_SIZES.max(0), "heaviside", 1e-16, amplitudes=[[1.0], [10.0]], by_amplitude=OF_SIZES)
FAST, SLOW, OPEN = exponential(0.05), exponential(0.001), fallen("undecided", possible=("exponential",))


@pytest.mark.parametrize(
    ("d", "large", "last"),
    [
        (FAST, SLOW, "exponential"),
        (FAST, OPEN, "undecided"),
        (FAST, fallen("plateau", level=1e-6), "plateau"),
        (fallen("plateau", level=1.0), SLOW, "exponential"),
        (fallen("plateau", level=1.0), OPEN, "undecided"),
    ],
)
def test_size_that_is_forgotten_last_decides_though_it_is_not_the_largest_yet(d, large, last):
    found = overtaken(CURVE, d, {1.0: FAST, 10.0: large})
    assert found.kind == last and found.reason.startswith("inputs of size 10 are forgotten last: ")
    assert last != "exponential" or found.rate == 0.001


def test_slower_eigenvalue_questions_a_curve_that_has_not_been_followed_to_the_floor():
    fast, rates = fallen("exponential", rate=0.05, floor=1e-13), {"at rest": 0.5, "where x = 10 is held": 0.002}
    curve = MemoryCurve(T, np.exp(-0.05 * T), "heaviside")  # to e^-10
    found = questioned(curve, fast, rates)
    assert found.kind == "undecided" and found.possible == ("exponential",) and np.isnan(found.rate)
    assert found.reason == (
        "up to t = 200 the rate is 0.05, but the eigenvalues where x = 10 is held have a slower one, 0.002"
    )
    for other in ({"at rest": 0.5}, {"at rest": 0.0499}, {"at rest": -0.1}, {"at rest": np.nan}, {}):
        assert questioned(curve, fast, other) is fast
    level = fallen("plateau", level=1.0)
    assert questioned(curve, level, rates) is level


def test_slower_eigenvalue_is_the_rate_where_rounding_has_hidden_its_mode():
    steep, rates = fallen("exponential", rate=0.2, floor=1e-13), {"at rest": 0.5, "where x = 10 is held": 0.002}
    curve = MemoryCurve(T, np.exp(-0.2 * T), "heaviside")  # to e^-40
    found = questioned(curve, steep, rates)
    assert found.kind == "exponential" and found.rate == 0.002
    assert found.rate_interval == (0.002, steep.rate_interval[1])
    assert found.reason == (
        "0.2 (0.19 to 0.21) is the rate up to t = 200, where rounding ends the curve; the eigenvalues where x = 10 is "
        "held have a slower one, 0.002, of which less than 1.0e-13 is seen"
    )
    # of a linear map the curve shows all that is driven and read out
    assert questioned(curve, steep, rates, linear=True) is steep
    for other in ({"at rest": 0.5}, {"at rest": 0.199}, {"at rest": -0.1}, {"at rest": np.nan}, {}):
        assert questioned(curve, steep, other) is steep


def test_step_that_is_not_what_the_model_repeats_gives_no_rate():
    alone = certificate(0.5, driven={10.0: 0.01}, assumes=(f"{ALONE}, though its own input depends on its state",))
    rates = from_inside([alone, certificate(0.2)], 1.0, ["heaviside", "impulse"])
    assert set(rates) == {"where x = 10 is held", "at rest"} and np.isnan(list(rates.values())).all()
    found = report({"heaviside": exponential(0.084)}, certificates=(alone,), by_amplitude={"heaviside": SIZES})
    assert not any(word in str(found) for word in ("confirms", "falls faster", "slows", "at rest."))


def test_each_kind_of_input_has_its_eigenvalues():
    part = certificate(0.5, driven={-10.0: 0.02, 10.0: 0.01, 1.0: 0.4}, driven_rate=0.3)
    flow = certificate(2.0, kind="flow")  # of steps of half a unit
    assert from_inside([part], 1.0, ["heaviside"], 10.0) == {
        "where x = -10 is held": 0.02,
        "where x = 10 is held": 0.01,
    }
    assert set(from_inside([part], 1.0, ["heaviside"])) == {f"where x = {x} is held" for x in (-10, 10, 1)}
    assert from_inside([part], 1.0, ["random"]) == {"under random input": 0.3}
    assert from_inside([part, certificate(0.2)], 1.0, ["impulse"]) == {"at rest": 0.2}
    assert from_inside([part], 0.1, ["removed"]) == {"at rest": 5.0}
    assert from_inside([flow], 0.5, ["removed"]) == {"at rest": 2.0} and from_inside([flow], 1.0, ["own"]) == {}


def test_size_that_is_forgotten_before_the_others_decides_nothing():
    assert overtaken(CURVE, SLOW, {1.0: FAST, 10.0: SLOW}) is SLOW
    faster = MemoryCurve(T, OF_SIZES.max(0), "impulse", 1e-16, amplitudes=[[1.0], [10.0]], by_amplitude=OF_SIZES[::-1])
    assert overtaken(faster, SLOW, {1.0: SLOW, 10.0: OPEN}) is SLOW
    level = fallen("plateau", level=1.0)
    assert overtaken(CURVE, level, {1.0: FAST, 10.0: level}) is level
    # not all of the sizes were judged, or their supremum has a law of its own
    assert overtaken(CURVE, level, {1.0: FAST}) is level
    assert overtaken(CURVE, power(1.0), {1.0: FAST, 10.0: OPEN}).kind == "polynomial"


@pytest.mark.parametrize(
    ("found", "advised"),
    [
        (report({"impulse": fallen("undecided")}), "Measure longer: n_steps=400."),
        (report({"impulse": fallen("undecided", window=(0.0, 48.0))}), "A longer window would show no more."),
        (
            report({"impulse": fallen("undecided")}, settings=SETTINGS | {"greatest length": 300}),
            "Look inside: longer windows than this model takes would decide.",
        ),
        (
            report({"impulse": fallen("undecided")}, traits=Traits(False, False, None, False, False, np.nan)),
            "Ask at the moment that matters",
        ),
        (report(left_out={"sensitivity": "it takes about 9 s, and 1 s were left"}), "Allow more"),
        (report(settings=SETTINGS | {"dtype": "float32"}), "Evaluate in double precision"),
        (report(by_amplitude={"heaviside": SIZES}), "Say how large your inputs are"),
        (report(certificates=(certificate(0.4, radius=0.01),)), "Give GRU core a stable parameterization."),
        (report(certificates=(certificate(0.001, radius=0.001),)), "Give GRU core a stable parameterization."),
        (report(certificates=(certificate(-0.1, radius=0.0),)), "Lower the recurrent weights of GRU core."),
        (
            report(certificates=(certificate(0.4, growth=100.0),)),
            "Keep the recurrent weights of GRU core closer to normal.",
        ),
        (report({"impulse": power(1.5)}), "spread initial rates from 0.005 to 1 per step"),
    ],
)
def test_advice_has_its_occasion_and_its_reason(found, advised):
    assert [s.reason for s in found.advice if advised in s.text] != []
    assert not any(advised in s.text for s in report().advice)


def test_more_of_the_budget_is_no_advice_where_it_was_not_what_lacked():
    failed = report(left_out={"certificates": "expected two dtypes to be one"})
    assert not any("Allow more" in s.text for s in failed.advice)


def test_nothing_to_do_for_a_model_that_has_nothing_amiss():
    healthy = report(certificates=(certificate(0.1, radius=np.inf),))
    assert healthy.advice == () and len(healthy.doubts) == 3


@pytest.mark.parametrize("kind", [*ORDER, "undecided"])
def test_every_verdict_has_its_doubts(kind):
    assert report({"impulse": fallen(kind)}).doubts[0].reason


def test_rate_of_eigenvalues_has_doubts_of_its_own():
    assert not any("slower mode" in s.text for s in report({"impulse": HIDDEN}).doubts)
    assert any("slower mode" in s.text for s in report().doubts)


def test_size_matters_only_where_larger_inputs_are_held_longer():
    assert held_longer(SIZES) and held_longer({0.1: exponential(0.4), 10.0: fallen("undecided")})
    assert not held_longer({0.1: exponential(0.1), 10.0: exponential(0.5)})
    assert not held_longer({1.0: exponential(0.1)}) and not held_longer({})
