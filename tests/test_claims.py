import itertools
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from cmlib.chapter import claims

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from evidence import declared, evidence_of, tally, verdict  # noqa: E402


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path / "out"))
    return tmp_path / "out"


def records(output):
    return json.loads((output / "claims.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("value", "bounds", "passed"),
    [
        (0.5, {"below": 1.0}, True),
        (1.0, {"below": 1.0}, False),
        (math.nan, {"below": 1.0}, False),
        (math.inf, {"below": 1.0}, False),
        (math.inf, {"above": 1.0}, True),
        (-math.inf, {"below": 1.0}, True),
        (0.5, {"above": 0.0, "below": 1.0}, True),
        (2.0, {"above": 0.0, "below": 1.0}, False),
        (3, {"equal": 3}, True),
        (4, {"equal": 3}, False),
        (True, {"equal": True}, True),
        (False, {"equal": True}, False),
        (1.1, {"equal": 1.0, "within": 0.2}, True),
        (1.3, {"equal": 1.0, "within": 0.2}, False),
        (math.nan, {"equal": 1.0, "within": 0.2}, False),
        (np.float64(0.5), {"below": 1}, True),
        (torch.tensor(0.5), {"below": 1}, True),
    ],
)
def test_check_holds_within_its_bounds_alone(value, bounds, passed, output, capsys):
    found = claims.check("a-1", value, **bounds)
    assert found.passed is passed
    assert capsys.readouterr().out == f"{found}\n"
    assert records(output)[0]["passed"] is passed


def test_a_failing_claim_is_recorded_and_nothing_stops(output):
    assert claims.claim("a-1", 2.0, rival=3.0, below=1.0).verdict == "FAIL"
    assert [record["id"] for record in records(output)] == ["a-1"]


@pytest.mark.parametrize(
    ("value", "rival", "passed"),
    [
        (0.5, 2.0, True),
        (0.5, 0.7, False),  # the rival passes as well: no claim
        (0.5, 1.0, True),  # on the bound it does not
        (0.5, math.inf, True),
        (0.5, math.nan, False),  # a rival without a number shows nothing
        (2.0, 3.0, False),
    ],
)
def test_claim_holds_for_its_object_and_fails_for_its_rival(value, rival, passed):
    assert claims.claim("a-1", value, rival=rival, below=1.0).passed is passed


def sample_of(mean, spread, n):
    """n numbers with exactly this mean and standard deviation."""
    x = np.linspace(-1, 1, n)
    return mean + spread * x / x.std(ddof=1)


@pytest.mark.parametrize(
    ("mean", "spread", "n", "passed"),
    [(0.5, 0.4, 8, True), (0.5, 0.6, 8, False), (0.5, 0.1, 4, None), (1.5, 0.1, 8, False)],
)
def test_an_ensemble_holds_by_its_spread_and_needs_five_members(mean, spread, n, passed):
    found = claims.claim("a-1", sample_of(mean, spread, n), rival=2.0, below=1.0)
    assert found.passed is passed
    assert found.measured.n == n
    assert float(found.measured.spread) == pytest.approx(spread, rel=1e-3)


@pytest.mark.parametrize(("spread", "passed"), [(0.9, True), (1.1, False)])
def test_a_rival_that_is_an_ensemble_fails_by_its_own_spread(spread, passed):
    assert claims.claim("a-1", 0.5, rival=sample_of(2.0, spread, 8), below=1.0).passed is passed


@pytest.mark.parametrize(("hits", "n"), [(10, 10), (9, 10), (20, 20), (18, 20), (3, 20), (0, 10)])
@pytest.mark.parametrize("bound", [0.3, 0.5, 0.7])
def test_a_share_holds_as_an_exact_binomial_test_says(hits, n, bound):
    found = claims.claim("a-1", np.arange(n) < hits, rival=0.0, above=bound)
    exact = stats.binomtest(hits, n, bound, alternative="greater").pvalue < 1 - claims.CONFIDENCE
    assert found.passed == exact


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (2, 10), (9, 10)])
def test_the_share_of_a_rival_fails_as_an_exact_binomial_test_says(hits, n):
    found = claims.claim("a-1", 0.9, rival=np.arange(n) < hits, above=0.5)
    assert found.passed == (stats.binomtest(hits, n, 0.5, alternative="less").pvalue < 1 - claims.CONFIDENCE)


def test_the_site_works_out_the_same_verdict_from_the_numbers(output):
    samples = [0.5, 1.0, 2.0, math.inf, -math.inf, math.nan, 1, True, sample_of(0.4, 0.1, 6), sample_of(1.5, 1.0, 6)]
    samples += [sample_of(0.5, 0.1, 3), np.arange(10) < 9, np.arange(10) < 1]
    bounds = [{"below": 1.0}, {"above": 0.6}, {"above": 0.4, "below": 1.0}, {"equal": 1}, {"equal": 1.0, "within": 0.5}]
    seen = set()
    for value, rival, bound in itertools.product(samples, samples, bounds):
        if "equal" in bound and any(np.ndim(v) and v.dtype.kind == "b" for v in (value, rival)):
            continue  # refused
        found = claims.claim("a-1", value, rival=rival, **bound)
        assert verdict(json.loads(json.dumps(asdict(found)))) == found.passed, found
        seen.add(found.passed)
        if np.ndim(value) == 0:
            found = claims.check("a-1", value, **bound)
            assert verdict(json.loads(json.dumps(asdict(found)))) == found.passed, found
    assert seen == {True, False, None}


def test_a_reader_with_one_seed_gets_an_open_claim_and_a_check_not_computed_stays_open(capsys):
    assert claims.claim("a-1", np.array([0.5]), rival=np.array([2.0]), below=1.0).verdict == "OPEN"
    found = claims.check("a-2", None, below=4)
    assert found.verdict == "OPEN" and verdict(json.loads(json.dumps(asdict(found)))) is None


def test_numbers_are_judged_in_full_and_rounded_for_print_alone():
    assert not claims.check("a-1", 1.0004, equal=1.0, within=1e-9).passed
    assert not claims.check("a-1", 100049.0, equal=1e5, within=1).passed
    assert claims.check("a-1", 0.99996, below=1).passed


def test_a_rival_that_blows_up_for_every_seed_fails_the_claim():
    assert claims.claim("a-1", np.full(8, 0.1), rival=np.full(8, np.inf), below=1).passed
    assert not claims.claim("a-1", np.full(8, 0.1), rival=np.append(np.full(7, np.inf), 0.1), below=1).passed


def test_a_share_has_to_have_room_for_its_interval():
    with pytest.raises(ValueError, match="expected a share to be judged by above or below, got equal=1.0"):
        claims.claim("a-1", [True] * 5, rival=[False] * 5, equal=1.0)


def test_second_check_of_an_id_replaces_the_first_in_place(output):
    claims.check("a-1", 0.5, below=1)
    claims.check("a-2", 0.5, below=1)
    claims.check("a-1", 2, below=1)
    assert [(record["id"], record["passed"]) for record in records(output)] == [("a-1", False), ("a-2", True)]


def test_what_may_differ_between_machines_stands_between_marks(capsys):
    claims.claim("a-1", 0.123456, rival=sample_of(2.0, 0.1, 5), below=1.0)
    claims.check("a-2", 3, equal=3)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "claim a-1 · ⟨0.123⟩ · expected < 1 · rival ⟨2 ± 0.1 (n = 5)⟩ · PASS"
    assert second == "check a-2 · 3 · expected = 3 · PASS"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "a 1"}, "expected id of letters"),
        ({"id": ""}, "expected id of letters"),
        ({"value": "1"}, "expected value to be one real number or a bool, got '1'"),
        ({"value": 1j}, "expected value to be one real number"),
        ({"below": None}, "expected a bound"),
        ({"below": math.nan}, "expected below to be a number, got nan"),
        ({"above": 2.0}, "expected above < below"),
        ({"equal": 1.0}, "expected either equal or below and above"),
        ({"within": 0.1}, "expected within >= 0, and only together with equal"),
        ({"below": None, "equal": 1.0, "within": -0.1}, "expected within >= 0"),
    ],
)
def test_arguments_that_state_nothing_are_refused(change, message, output):
    arguments = {"id": "a-1", "value": 0.5, "below": 1.0} | change
    with pytest.raises(ValueError, match=message):
        claims.check(arguments.pop("id"), arguments.pop("value"), **arguments)
    assert not output.exists()


@pytest.mark.parametrize("value", [[], [[1.0, 2.0]], ["a", "b"], [1j, 2j]])
def test_what_is_no_ensemble_is_refused(value):
    with pytest.raises(ValueError, match="expected value to be one number, or those of"):
        claims.claim("a-1", value, rival=2.0, below=1.0)


def test_output_folder_defaults_to_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("CMLIB_OUTPUT")
    monkeypatch.chdir(tmp_path)
    claims.check("a-1", 1, equal=1)
    assert (tmp_path / "cmlib-output" / "claims.json").exists()


TEXT = """Before.

| Claim | Fails for | Source |
|:--|:--|:--|
| **a-1** it falls like $1/m$ | the mixture | wang2024inverse, Fig. 1 |

| Check | Source |
|:--|:--|
| **a-2** two routes | glover1984optimal |

| Width | Error |
|:--|:--|
| 2 | 0.1 |
"""


def notebook(text, *found):
    record = {"claims": [json.loads(json.dumps(asdict(each))) for each in found]}
    return {"cells": [{"cell_type": "markdown", "source": text}], "metadata": {"cmlib": record}}


def test_tables_declare_and_the_run_measures():
    one, two = claims.claim("a-1", 0.5, rival=2, below=1), claims.check("a-2", 2.0, below=1)
    first, second = evidence_of(notebook(TEXT, one, two))
    assert (first["against"], first["source"], first["verdict"]) == ("the mixture", "wang2024inverse, Fig. 1", "PASS")
    assert (second["says"], second["verdict"]) == ("two routes", "FAIL")
    rows = evidence_of(notebook(TEXT, one))
    assert tally(rows) == "1 claim, 1 pass · 1 check, 0 pass, 1 NOT REACHED"


def test_what_is_measured_must_be_declared_as_its_kind():
    with pytest.raises(ValueError, match="check a-1 was measured, and no table"):
        evidence_of(notebook(TEXT, claims.check("a-1", 0.5, below=1)))
    with pytest.raises(ValueError, match="claim a-3 was measured, and no table"):
        evidence_of(notebook(TEXT, claims.claim("a-3", 0.5, rival=2, below=1)))


def test_tables_are_whole_unique_and_outside_of_code():
    with pytest.raises(ValueError, match="declared twice: a-1"):
        declared(notebook(TEXT + "\n" + TEXT.replace("a-2", "a-3")))
    with pytest.raises(ValueError, match=r"expected \|:--\|:--\| under"):
        declared(notebook("| Check | Source |\n| **a-1** it falls | x |"))
    assert declared(notebook("```markdown\n" + TEXT + "```\n")) == []


@pytest.mark.parametrize("row", ["| a-1 it falls | b | c |", "| **a-1** it falls | b |", "| **a-1** it falls | | c |"])
def test_a_claim_without_name_rival_or_source_is_refused(row):
    text = "| Claim | Fails for | Source |\n|:--|:--|:--|\n" + row
    with pytest.raises(ValueError, match="expected a claim as"):
        declared({"cells": [{"cell_type": "markdown", "source": text}]})
