"""The tools around the evidence: numbers compared between runs, drift, broken libraries, digests of code."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

import compare  # noqa: E402
import digests  # noqa: E402
import drift  # noqa: E402
import sabotage  # noqa: E402


def printed(text):
    return [{"output_type": "stream", "name": "stdout", "text": text}]


@pytest.mark.parametrize(
    ("kept", "found", "same"),
    [
        ("⟨0.25⟩", "⟨0.25⟩", True),
        ("⟨0.25⟩", "⟨0.251⟩", True),
        ("⟨0.25⟩", "⟨0.27⟩", False),
        ("⟨0.25⟩", "⟨777⟩", False),
        ("⟨3e-15⟩", "⟨8e-14⟩", True),  # rounding errors both
        ("⟨3e-15⟩", "⟨8e-5⟩", False),
        ("⟨-1.27 ± 0.1 (n = 10)⟩", "⟨-1.27 ± 0.2 (n = 10)⟩", False),
        ("⟨-1.27 ± 0.1 (n = 10)⟩", "⟨-1.27 ± 0.1 (n = 9)⟩", False),
        ("⟨1.6e+08⟩", "⟨6.7e+09⟩", False),
        ("⟨nan⟩", "⟨nan⟩", True),
        ("⟨inf⟩", "⟨12⟩", False),
        ("⟨1⟩ ⟨2⟩", "⟨1⟩", False),
        ("check a · ⟨0.1⟩ · expected < 4 · PASS", "check a · ⟨3⟩ · expected < 4 · PASS", True),
        ("claim a · ⟨0.1⟩ · expected < 4 · PASS", "claim a · ⟨3⟩ · expected < 4 · PASS", False),
    ],
)
def test_masked_numbers_may_move_in_their_last_digits_only(kept, found, same):
    assert (compare.cells_apart("linear/one", 1, printed(kept), printed(found)) == []) is same


def test_a_number_may_move_as_far_as_twice_what_drift_saw(monkeypatch, tmp_path):
    moves = tmp_path / "moves.json"
    moves.write_text(json.dumps({"linear/one cell 1 number 0": 0.05}))
    monkeypatch.setattr(compare, "MOVES", moves)
    assert compare.cells_apart("linear/one", 1, printed("⟨1⟩"), printed("⟨1.09⟩")) == []
    assert compare.cells_apart("linear/one", 1, printed("⟨1⟩"), printed("⟨1.12⟩")) != []
    assert compare.cells_apart("linear/one", 2, printed("⟨1⟩"), printed("⟨1.09⟩")) != []


@pytest.mark.parametrize(
    ("found", "by"),
    [
        ({"t": ["1", "2"], "y": ["100", "1e-6"]}, 0),
        ({"t": ["1", "2"], "y": ["110", "1e-6"]}, 10 / 110),
        ({"t": ["1", "2"], "y": ["100", "2e-6"]}, 1e-8),  # far below the curve's height
        ({"t": ["1", "2"], "y": ["100"]}, np.inf),
        ({"t": ["1", "2"]}, np.inf),
        ({"t": ["1", "2"], "y": ["100", "nan"]}, np.inf),
        ({"t": ["1", "2"], "y": ["a", "b"]}, np.inf),
    ],
)
def test_columns_of_a_figure_are_compared(found, by):
    kept = {"t": ["1", "2"], "y": ["100", "1e-6"]}
    assert max(compare.columns_apart("A", kept, found).values()) == pytest.approx(by, rel=0.2, abs=1e-12)


def sample(value, spread=None, n=None):
    return {"value": value, "spread": spread, "n": n}


def row(value, verdict="PASS", spread=None):
    measured = sample(value, spread, 8 if spread else None)
    fixed = {"id": "a-1", "kind": "claim", "expected": "< 1", "bounds": {"below": 1.0}, "chapter": "linear/one"}
    return fixed | {"measured": measured, "rival": sample(2.0), "verdict": verdict}


def test_drift_table_has_range_margin_and_where_it_does_not_pass():
    runs = {
        "native": {"a-1": row(0.5, spread=0.1)},
        "seed 1": {"a-1": row(0.8, spread=0.1)},
        "seed 2": {"a-1": row(1.2, "FAIL", spread=0.1)},
        "avx2": {},
    }
    (found,) = drift.rows(runs)
    assert (found["least"], found["greatest"], found["runs"]) == ("0.5", "1.2", 4)
    assert found["not passed in"] == "seed-2 avx2"
    assert float(found["margin in spreads"]) == pytest.approx(-0.2 / np.std([0.5, 0.8, 1.2]), rel=0.01)


def test_drift_leaves_open_what_no_run_computed():
    open_check = row(None, "OPEN") | {"rival": None, "kind": "check"}
    (found,) = drift.rows({"native": {"a-1": open_check}, "seed 1": {"a-1": open_check}})
    assert found["not passed in"] == "" and found["least"] == ""


def test_every_variant_of_drift_changes_one_thing():
    for name, (environment, seed) in drift.VARIANTS.items():
        assert (bool(environment) + (seed is not None)) == (name != "native")


@pytest.fixture
def module(monkeypatch):
    """cmlib.stability, put back afterwards as it was everywhere."""
    import cmlib
    from cmlib import stability

    right = stability.stability_radius
    for owner in [m for n, m in sys.modules.items() if n == "cmlib" or n.startswith("cmlib.")]:
        if getattr(owner, "stability_radius", None) is right:
            monkeypatch.setattr(owner, "stability_radius", right)
    return cmlib


def test_a_defect_stands_in_under_every_name(module):
    W = -np.eye(2)
    assert module.stability_radius(W) == pytest.approx(1.0)
    wrong = sabotage.Defect("", "cmlib.stability.stability_radius", lambda right: lambda *a: 7 * right(*a), "")
    sabotage.put_in_place(wrong)
    assert module.stability_radius(W) == pytest.approx(7.0)
    assert module.stability.stability_radius is module.stability_radius


def test_a_defect_stands_in_within_tables_and_for_class_methods(monkeypatch):
    from cmlib import inputs, memory
    from cmlib.chapter import reviews

    monkeypatch.setattr(inputs, "impulse", inputs.impulse)
    monkeypatch.setitem(memory.INPUTS, "impulse", inputs.impulse)
    monkeypatch.setattr(reviews.Vocabulary, "of", vars(reviews.Vocabulary)["of"])
    sabotage.put_in_place(sabotage.Defect("", "cmlib.inputs.impulse", lambda right: lambda *a: "wrong", ""))
    assert memory.INPUTS["impulse"](1) == inputs.impulse(1) == "wrong"
    fewer = lambda right: lambda cls, texts: right(cls, texts, 1)  # noqa: E731
    sabotage.put_in_place(sabotage.Defect("", "cmlib.chapter.reviews.Vocabulary.of", fewer, ""))
    assert reviews.Vocabulary.of(["a a b"]).numbers == {"a": 2}


def test_a_defect_in_what_has_been_renamed_is_refused():
    with pytest.raises(ValueError, match=r"cmlib has no cmlib\.stability\.no_such"):
        sabotage.put_in_place(sabotage.Defect("", "cmlib.stability.no_such", lambda right: right, ""))


def test_there_are_defects_for_every_chapter_and_the_library_has_their_targets():
    from chapters import chapters

    known = sabotage.defects()
    assert {defect.chapter for defect in known.values()} == set(chapters())
    assert len(known) >= 40
    for defect in known.values():
        sabotage.place_of(defect.target)


OFFERED = {"decay": "memory", "kernels": "kernels", "models": "models", "models.RNN": "models.rnn"}


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("import cmlib\ncmlib.decay(1)", {"memory"}),
        ("from cmlib import kernels, decay\nkernels.Sum, decay()", {"kernels", "memory"}),
        ("from cmlib.training import fit\nfit()", {"training"}),
        ("import cmlib.inputs", {"inputs"}),
        ("from cmlib import models\nmodels.RNN(1)", {"models.rnn"}),
        ("from cmlib import models\nf(models)", {"models"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cmlib import kernels\n    x: kernels.Sum",
            set(),
        ),
        ("import torch", set()),
    ],
)
def test_modules_that_code_names(code, used):
    assert digests.modules_used(ast.parse(code), OFFERED) == used


@pytest.fixture
def package(tmp_path):
    files = {
        "__init__": "from cmlib import one, two\nfrom cmlib.one import f\n",
        "one": '"""Doc."""\nfrom cmlib import two\n\ndef f():\n    """Doc."""\n    return two.g()\n',
        "two": "def g():\n    return 1\n",
        "three": "x = 1\n",
    }
    (tmp_path / "cmlib").mkdir()
    for name, text in files.items():
        (tmp_path / "cmlib" / f"{name}.py").write_text(text)
    digests.library.cache_clear()
    yield tmp_path
    digests.library.cache_clear()


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("one", "Doc.", "Better.", True),
        ("one", "two.g()", "two.g()  # why", True),
        ("one", "two.g()", "2 * two.g()", False),
        ("two", "def g():", "def g() -> int:", True),
        ("two", "return 1", "return 2", False),  # reached through one
        ("three", "x = 1", "x = 2", True),  # not used
    ],
)
def test_a_run_depends_on_the_modules_it_uses_without_their_docstrings_and_types(package, name, old, new, same):
    code = "import cmlib\ncmlib.f()"
    before = digests.library_digest(code, package)
    path = package / "cmlib" / f"{name}.py"
    path.write_text(path.read_text().replace(old, new))
    digests.library.cache_clear()
    assert (digests.library_digest(code, package) == before) is same
