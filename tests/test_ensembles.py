import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cmlib.chapter import ensembles
from cmlib.chapter.ensembles import Done, ensemble, read_columns, spreads_apart, write_columns

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

import lab  # noqa: E402
import train  # noqa: E402
from digests import _bound, _free, ensemble_digest, slice_of, tables_read  # noqa: E402


def walk(*, seed, widths, scale):
    """Two rows a seed: a number, its curve, and whether it is positive."""
    x = np.random.default_rng(seed).normal(size=len(widths))
    return [
        {"target": "a" if m == 2 else "b", "m": m, "error": float(scale * v), "curve": v * np.arange(3.0), "up": v > 0}
        for m, v in zip(widths, x, strict=True)
    ]


VALUES = {"widths": [2, 4], "scale": 0.5}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder with the table of `walk` for six seeds."""
    monkeypatch.setenv("CMLIB_RESULTS", str(tmp_path))
    columns = ensembles._columns(walk, range(6), VALUES)
    files = write_columns(tmp_path / "walk", columns)
    record = {"values": VALUES, "files": [file.name for file in files]}
    (tmp_path / "walk.json").write_text(json.dumps(record))
    return tmp_path


def test_table_that_was_written_is_read_as_it_was(results):
    written = ensembles._columns(walk, range(6), VALUES)
    read = read_columns(results / "walk")
    assert list(read) == ["seed", "target", "m", "error", "up", "curve"]
    for name, column in written.items():
        assert read[name].dtype.kind == column.dtype.kind and np.array_equal(read[name], column)


def test_rows_come_from_the_table_and_none_is_computed(results, capsys):
    rows = ensemble("walk", None, 6, **VALUES)
    assert len(rows) == 12 and rows.live_gap is None and rows.keys == ("seed", "target", "m")
    assert capsys.readouterr().out == "walk: 6 seeds from results/walk.csv\n"


def test_columns_by_seed(results):
    rows = ensemble("walk", None, 6, **VALUES)
    table = rows.by_seed("error")
    assert table.shape == (6, 2)
    assert [row["error"] for row in walk(seed=3, **VALUES)] == table[3].tolist()
    assert rows.by_seed("curve", m=4).shape == (6, 1, 3)
    with pytest.raises(ValueError, match="expected rows with {'m': 5}, found none among 12"):
        rows.where(m=5)


def test_seeds_computed_again_are_compared_with_the_ensemble(results):
    assert ensemble("walk", walk, 6, live=2, **VALUES).live_gap < 4

    def broken(*, seed, widths, scale):
        return [row | {"error": row["error"] + 20} for row in walk(seed=seed, widths=widths, scale=scale)]

    assert ensemble("walk", broken, 6, live=2, **VALUES).live_gap > 4


def test_other_values_have_no_rows_and_are_computed_here(results, capsys):
    rows = ensemble("walk", walk, 6, **VALUES | {"scale": 1.0})
    assert len(rows) == 2 and rows["error"].tolist() == [row["error"] for row in walk(seed=0, widths=[2, 4], scale=1.0)]
    assert "no rows for these values in results/; 1 of 6 seeds computed here" in capsys.readouterr().out


def test_outside_the_project_everything_is_computed(tmp_path, monkeypatch):
    monkeypatch.delenv("CMLIB_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert len(ensemble("walk", walk, 6, live=3, **VALUES)) == 6


def test_another_chapter_gathers_a_table_and_is_stale_when_it_changes(results, tmp_path):
    assert np.array_equal(ensembles.gathered("walk")["error"], ensemble("walk", None, 6, **VALUES)["error"])
    with pytest.raises(ValueError, match="expected the table results/run.csv of the book, found none"):
        ensembles.gathered("run")
    (tmp_path / "results").mkdir()
    table = tmp_path / "results" / "walk.csv"
    table.write_text("seed\n0\n")
    assert tables_read('rows = gathered("walk")["error"]', tmp_path) == {"walk": [table]}
    assert tables_read('gathered("walk")\nensemble("run", f, 3)', tmp_path) == {"walk": [table]}


def test_spreads_are_measured_per_row_and_what_never_varies_must_stay():
    rng = np.random.default_rng(0)
    table = {
        "seed": np.repeat(np.arange(50), 2),
        "m": np.tile([2, 4], 50),
        "x": rng.normal([0, 9], [1, 2], (50, 2)).ravel(),
    }
    table["same"] = np.ones(100)
    again = {"seed": np.zeros(2, int), "m": np.array([2, 4]), "x": np.array([0.0, 9.0]), "same": np.ones(2)}
    assert spreads_apart(again, table) < 0.5
    assert spreads_apart(again | {"x": np.array([9.0, 0.0])}, table) > 4
    assert spreads_apart(again | {"same": np.array([1.0, 1.001])}, table) > 4
    assert spreads_apart(again | {"m": np.array([2, 8])}, table) == np.inf


def test_a_verdict_that_turns_once_is_near_and_nan_is_far():
    table = {"seed": np.arange(8), "up": np.ones(8, bool), "x": np.arange(8.0)}
    again = {"seed": np.zeros(1, int), "up": np.zeros(1, bool), "x": np.array([3.0])}
    assert spreads_apart(again, table) <= 4
    assert spreads_apart(again | {"x": np.array([np.nan])}, table) == np.inf
    with pytest.raises(ValueError, match="expected the columns"):
        spreads_apart({"seed": np.zeros(1, int)}, table)


def test_fewer_seeds_are_the_first_of_the_table_and_numpy_values_are_values(results):
    rows = ensemble("walk", None, 3, widths=np.array([2, 4]), scale=np.float64(0.5))
    assert np.unique(rows["seed"]).tolist() == [0, 1, 2]


def test_curves_of_an_older_table_do_not_stay(results):
    columns = read_columns(results / "walk")
    del columns["curve"]
    write_columns(results / "walk", columns)
    assert "curve" not in read_columns(results / "walk")


def test_texts_that_read_as_numbers_are_refused(results):
    with pytest.raises(ValueError, match="expected texts that are no numbers in kind"):
        ensemble("other", lambda *, seed: [{"kind": "08", "x": 1.0}], 6)


def test_rows_of_different_columns_are_refused(results):
    with pytest.raises(ValueError, match="expected rows of the same columns"):
        ensemble("other", lambda *, seed: [{"a": 1.0}, {"b": 1.0}], 6)


def test_job_of_the_training_stage_computes_its_seed_and_ends(monkeypatch):
    monkeypatch.setenv("CMLIB_ENSEMBLE", json.dumps({"name": "walk", "seed": 4}))
    with pytest.raises(Done) as ended:
        ensemble("walk", walk, 6, **VALUES)
    columns, values, seeds = ended.value.args
    assert columns["seed"].tolist() == [4, 4] and values == VALUES and seeds == 6


CODE = '''
n_seeds: int = 6  # seeds
live: int = 1  # again
width: int = 4  # m
import numpy as np
from cmlib.chapter import ensemble
unused = np.ones(3)
sizes = {}
sizes["two"] = 2


sizes.update(three=3)


def walk(*, seed, width):
    """Rows."""
    return [{"m": width, "x": helper(seed)} for drawn, _ in [(1, 2)]]


def helper(seed):
    return np.random.default_rng(seed).normal() * sizes["two"]


for _ in range(2):
    drawn = 1


other = ensemble("other", walk, 3, width=2)
table = ensemble("walk", walk, n_seeds, live=live, width=width)
drawn = table["x"].mean()
'''


def test_slice_is_what_the_ensemble_needs_and_no_more():
    needed = slice_of(CODE, "walk")
    assert all(word in needed for word in ("def helper", "sizes.update(three=3)", "sizes['two'] = 2", "n_seeds"))
    assert not any(word in needed for word in ("unused", "drawn = ", "range(2)", "other"))
    with pytest.raises(ValueError, match="no ensemble 'none' in this chapter"):
        slice_of(CODE, "none")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("unused = np.ones(3)", "unused = np.ones(4)", True),
        ("n_seeds: int = 6", "n_seeds: int = 9", True),
        ("live: int = 1", "live: int = 0", True),
        ("def helper(seed):", "def helper(seed):  # said", True),
        ("drawn = table", "shown = table", True),
        ('"""Rows."""', '"""What it returns."""', True),
        ("three=3", "three=4", False),
        ("width: int = 4", "width: int = 5", False),
        ("normal()", "random()", False),
        ('sizes["two"] = 2', 'sizes["two"] = 3', False),
    ],
)
def test_rows_go_stale_with_what_they_depend_on_alone(old, new, same):
    assert old in CODE
    assert (ensemble_digest(CODE, "walk") == ensemble_digest(CODE.replace(old, new), "walk")) is same


def parameters_behind_the_back(code, name, parameters):
    """What functions of an ensemble use of the chapter's parameters, or of what is made from them, as globals."""
    statements, made, used = ast.parse(slice_of(code, name)).body, set(parameters), set()
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            used |= _free(statement)
        elif _free(statement) & made:
            made |= _bound(statement)
    return used & made


@pytest.mark.parametrize("name", sorted(lab.ensembles()))
def test_experiments_take_the_parameters_of_their_chapter_through_the_call(name):
    from chapters import ROOT as PROJECT
    from notebooks import declared_parameters, read_notebook

    found = lab.ensembles()[name]
    parameters = set(declared_parameters(read_notebook(PROJECT / "book" / f"{found.chapter}.ipynb")))
    assert parameters_behind_the_back(found.code, name, parameters) == set()


def test_guard_of_parameters_speaks():
    behind = CODE.replace("* sizes", "* width * sizes")
    assert parameters_behind_the_back(behind, "walk", {"width", "n_seeds", "live"}) == {"width"}
    assert parameters_behind_the_back(CODE, "walk", {"width", "n_seeds", "live"}) == set()


@pytest.mark.parametrize("name", sorted(lab.ensembles()))
def test_committed_tables_are_those_of_the_committed_code(name):
    assert lab.ensembles()[name].state == "fresh"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One ensemble, of the chapter in CODE."""
    found = lab.Ensemble("walk", "linear/one", CODE, 6)
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(lab, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(lab, "ensembles", lambda: {"walk": found})
    monkeypatch.setattr(train, "ensembles", lambda: {"walk": found})
    monkeypatch.setattr(train, "TRAINED", tmp_path / "_build" / "train")
    monkeypatch.setattr(train, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("CMLIB_ENSEMBLE", "")
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    return found


def test_seeds_are_computed_gathered_and_found_fresh(project, tmp_path, monkeypatch):
    assert project.state == "missing"
    for seed in range(6):
        assert train.main("walk", seed) == 0
    assert lab.main("walk") == 0
    assert project.state == "fresh"
    monkeypatch.setenv("CMLIB_ENSEMBLE", "")
    monkeypatch.setenv("CMLIB_RESULTS", str(tmp_path / "results"))
    assert len(ensemble("walk", None, 6, width=4)) == 6
    assert train.today(3) == 0
    table = tmp_path / "results" / "walk.csv"
    good = table.read_text()
    table.write_text(good.replace("0,4,", "0,4,1"))
    assert project.state == "altered"
    table.write_text(good)
    assert lab.Ensemble("walk", "linear/one", CODE.replace("normal()", "random()"), 6).state == "stale"
    assert lab.Ensemble("walk", "linear/one", CODE, 7).state == "stale"  # of more seeds than the table has


def test_unknown_ensemble_is_named(project, capsys):
    assert train.main("wlak", 0) == 2
    assert capsys.readouterr().err == "train: no ensemble 'wlak'; the ensembles are: walk\n"
