import json
import math

import numpy as np
import pytest
import torch

from cmlib import claims

WORDS = {"source": "wang2024inverse, Fig. 1b", "says": "the crossing point moves left"}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path / "out"))
    return tmp_path / "out"


def recorded(output):
    text = (output / "claims.json").read_text(encoding="utf-8")

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (-0.5, {"below": -0.3}, "< -0.3"),
        (2, {"above": 1}, "> 1"),
        (0.2, {"above": 0.1, "below": 0.5}, "in (0.1, 0.5)"),
        (3.14, {"equal": 3.0, "within": 0.2}, "= 3.0 ± 0.2"),
        (7, {"equal": 7}, "= 7"),
        (True, {"equal": True}, "= True"),
        (np.bool_(False), {"equal": False}, "= False"),
        (np.float32(0.25), {"below": 1.0}, "< 1"),
        (torch.tensor(0.25), {"below": 1.0}, "< 1"),
        (math.inf, {"above": 100.0}, "> 100"),
        (math.inf, {"equal": math.inf}, "= inf"),
    ],
)
def test_claim_that_holds_passes_and_is_recorded(output, value, bounds, expected):
    claim = claims.check("a-1", value, **bounds, **WORDS)
    assert claim.passed and claim.expected == expected
    (record,) = recorded(output)
    assert record | WORDS == record and record["id"] == "a-1" and record["passed"] is True
    assert record["measured"] == ("inf" if value == math.inf else value)


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (-0.3, {"below": -0.3}),
        (1.0, {"above": 1.0}),
        (0.6, {"above": 0.1, "below": 0.5}),
        (3.14, {"equal": 3.0, "within": 0.1}),
        (6, {"equal": 7}),
        (False, {"equal": True}),
        (math.nan, {"below": 1.0}),
        (math.nan, {"equal": 0.0, "within": math.inf}),
        (math.inf, {"below": 1e300}),
    ],
)
def test_claim_that_does_not_hold_is_recorded_and_raises(output, capsys, value, bounds):
    with pytest.raises(claims.ClaimFailed, match="a-1 .*FAIL"):
        claims.check("a-1", value, **bounds, **WORDS)
    assert recorded(output)[0]["passed"] is False
    assert capsys.readouterr().out.endswith("FAIL\n")


def test_printed_line_marks_numbers_that_drift_and_prints_exact_ones_in_full(capsys):
    claims.check("a-1", -1.23456, below=-0.3, **WORDS)
    claims.check("a-2", 0.1 + 0.2, below=1.0, exact=True, **WORDS)
    assert capsys.readouterr().out.splitlines() == [
        "a-1 · measured ⟨-1.23⟩ · expected < -0.3 · PASS",
        "a-2 · measured 0.30000000000000004 · expected < 1 · PASS",
    ]


def test_repeated_claim_replaces_the_record_in_its_place(output):
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        claims.check(name, value, above=0, **WORDS)
    assert [(r["id"], r["measured"]) for r in recorded(output)] == [("a", 3), ("b", 2)]
    assert [path.name for path in output.iterdir()] == ["claims.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"below": None}, "expected a bound"),
        ({"within": 0.1}, "within only together with equal"),
        ({"equal": 1.0}, "either equal or below and above"),
        ({"above": 2.0}, "expected above < below"),
        ({"below": math.nan}, "expected below to be a number, got nan"),
        ({"below": "1"}, "expected below to be one real number"),
        ({"below": None, "equal": 0.0, "within": -1.0}, "expected within >= 0"),
        ({"below": None, "equal": True}, "a bool to be compared with a bool"),
        ({"value": True}, "for a bool"),
        ({"value": "0.5"}, "expected value to be one real number"),
        ({"value": 1j}, "expected value to be one real number"),
        ({"value": np.zeros(2)}, "expected value to be one real number"),
        ({"id": "a b"}, "expected id of letters"),
        ({"source": " "}, "expected source to be one line"),
        ({"says": "two\nlines"}, "expected says to be one line"),
    ],
)
def test_check_refuses_arguments_that_state_no_claim(output, change, message):
    arguments = {"id": "a-1", "value": 0.5, "below": 1.0} | WORDS | change
    with pytest.raises(ValueError, match=message):
        claims.check(arguments.pop("id"), arguments.pop("value"), **arguments)
    assert not output.exists()


def test_output_folder_defaults_to_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("CMLIB_OUTPUT")
    monkeypatch.chdir(tmp_path)
    claims.check("a-1", 1, equal=1, **WORDS)
    assert (tmp_path / "cmlib-output" / "claims.json").exists()
