import ast
import json
import shutil
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
    columns = ensembles._columns(walk, range(6), {}, VALUES)
    files = write_columns(tmp_path / "walk", columns)
    jobs = {str(seed): {"seconds": 1.0, "rows": 2} for seed in range(6)}
    record = {"values": VALUES, "parts": {}, "jobs": jobs, "files": [file.name for file in files]}
    (tmp_path / "walk.json").write_text(json.dumps(record))
    return tmp_path


def test_table_that_was_written_is_read_as_it_was(results):
    written = ensembles._columns(walk, range(6), {}, VALUES)
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


def table_of(results, parts, jobs):
    """Put a table of these jobs of `stride` there."""
    columns = ensembles._columns(stride, jobs, parts, {"scale": 0.5})
    files = write_columns(results / "stride", columns)
    about = {str(job): {"seconds": 1.0, "rows": 1} for job in jobs}
    record = {"values": {"scale": 0.5}, "parts": parts, "jobs": about, "files": [file.name for file in files]}
    (results / "stride.json").write_text(json.dumps(record))


def stride(*, seed, m, target, scale):
    return [{"m": m, "target": target, "error": scale * (100.0 * seed + m + len(target))}]


PARTS = {"m": [2, 4], "target": ["a", "bc", "def"]}


def test_parts_are_all_combinations_and_a_job_is_one_of_one_seed():
    given = ensembles.combinations(PARTS)
    assert [tuple(part.values()) for part in given[:4]] == [(2, "a"), (2, "bc"), (2, "def"), (4, "a")]
    assert ensembles.combinations({}) == [{}]
    columns = ensembles._columns(stride, [4, 9], PARTS, {"scale": 1.0})
    assert columns["seed"].tolist() == [0, 1] and columns["m"].tolist() == [4, 4]
    assert columns["target"].tolist() == ["bc", "a"] and columns["error"].tolist() == [6.0, 105.0]


def test_table_that_is_not_finished_is_read_and_says_so(results, capsys):
    table_of(results, PARTS, [0, 1, 2, 3, 4, 5, 6, 7])  # one seed and a part of the next
    rows = ensemble("stride", stride, 3, parts=PARTS, scale=0.5)
    said = "stride: 8 of 18 jobs from results/stride.csv; make lab computes the rest"
    assert len(rows) == 8 and rows.origin == said and capsys.readouterr().out == said + "\n"
    assert rows.by_seed("error").shape == (1, 6)  # a seed that lacks rows is left out
    assert rows.by_seed("error", m=2, target="bc").shape == (2, 1)
    rows = ensemble("stride", stride, 3, parts=PARTS, live=2, scale=0.5)
    assert rows.live_gap <= 1 and ", 2 of them computed again here; make lab" in rows.origin
    ensemble("stride", stride, 1, parts=PARTS, scale=0.5)
    assert "stride: 1 seeds of 6 parts from results/stride.csv\n" in capsys.readouterr().out


def test_other_parts_have_no_rows_and_a_whole_seed_is_computed_here(results, capsys):
    table_of(results, PARTS, range(6))
    rows = ensemble("stride", stride, 3, parts=PARTS | {"m": [2, 8]}, scale=0.5)
    assert len(rows) == 6 and "no rows for these values" in capsys.readouterr().out


def test_device_is_passed_to_experiments_that_take_one(monkeypatch):
    def on(*, seed, device):
        return [{"device": device, "x": 1.0}]

    assert ensembles._columns(on, [0], {}, {})["device"].tolist() == ["cpu"]
    monkeypatch.setenv("CMLIB_DEVICE", "cuda")
    assert ensembles._columns(on, [0], {}, {})["device"].tolist() == ["cuda"]
    assert len(ensembles._columns(walk, [0], {}, VALUES)["seed"]) == 2  # and not to others


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


def test_job_of_the_training_stage_computes_its_part_of_its_seed_and_ends(monkeypatch):
    monkeypatch.setenv("CMLIB_ENSEMBLE", json.dumps({"name": "walk", "job": 4}))
    with pytest.raises(Done) as ended:
        ensemble("walk", walk, 6, **VALUES)
    columns, values, parts, device = ended.value.args
    assert columns["seed"].tolist() == [4, 4] and values == VALUES and parts == {} and device is None
    monkeypatch.setenv("CMLIB_ENSEMBLE", json.dumps({"name": "stride", "job": 9}))
    with pytest.raises(Done) as ended:
        ensemble("stride", stride, 6, parts=PARTS, scale=1.0)
    assert ended.value.args[0]["error"].tolist() == [105.0]


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
    assert lab.ensembles()[name].state in ("fresh", "partial")  # rows are committed as they come


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
    monkeypatch.delenv("CMLIB_DEVICE", raising=False)
    return found


def computed_here(tmp_path, monkeypatch, seeds=6):
    monkeypatch.setenv("CMLIB_ENSEMBLE", "")
    monkeypatch.setenv("CMLIB_RESULTS", str(tmp_path / "results"))
    return ensemble("walk", None, seeds, width=4)


def test_jobs_are_computed_gathered_and_found_fresh(project, tmp_path, monkeypatch):
    assert project.state == "missing"
    for seed in range(6):
        assert train.main("walk", seed) == 0
    assert lab.main(["walk"]) == 0
    assert project.state == "fresh" and project.left() == []
    assert len(computed_here(tmp_path, monkeypatch)) == 6
    assert train.today(3) == 0
    table = tmp_path / "results" / "walk.csv"
    good = table.read_text()
    table.write_text(good.replace("0,4,", "0,4,1"))
    assert project.state == "altered"
    table.write_text(good)
    assert lab.Ensemble("walk", "linear/one", CODE.replace("normal()", "random()"), 6).state == "stale"
    more = lab.Ensemble("walk", "linear/one", CODE, 7)  # more seeds than the table has
    assert more.state == "partial" and more.left() == [6]


def test_rows_come_in_pieces_and_those_of_a_table_stay(project, tmp_path, monkeypatch, capsys):
    for job in (4, 1):
        train.main("walk", job)
    assert lab.main([]) == 0 and project.state == "partial" and project.left() == [0, 2, 3, 5]
    assert "walk  2 of 6 jobs  results/walk.csv\n" in capsys.readouterr().out
    first = read_columns(tmp_path / "results" / "walk")
    shutil.rmtree(tmp_path / "_build")  # another clone, with the committed table alone
    train.main("walk", 0)
    lab.gather(project)
    table = read_columns(tmp_path / "results" / "walk")
    assert table["seed"].tolist() == [0, 1, 4] and list(project.record()["jobs"]) == ["0", "1", "4"]
    assert np.array_equal(table["x"][1:], first["x"])
    assert computed_here(tmp_path, monkeypatch).origin.startswith("walk: 3 of 6 jobs from results/walk.csv; make lab")
    for job in project.left():
        train.main("walk", job)
    lab.gather(project)
    assert project.state == "fresh"


def test_table_gathered_in_pieces_is_that_gathered_at_once(project, tmp_path):
    for jobs in ((3, 5), (0,), (1, 2, 4)):
        for job in jobs:
            train.main("walk", job)
        lab.gather(project)
    pieces = (tmp_path / "results" / "walk.csv").read_bytes()
    (tmp_path / "results" / "walk.csv").unlink()
    lab.gather(project)
    assert (tmp_path / "results" / "walk.csv").read_bytes() == pieces and project.state == "fresh"


def test_job_of_other_code_is_refused(project, tmp_path, capsys):
    for job in range(6):
        train.main("walk", job)
    path = tmp_path / "_build" / "train" / "walk" / "2.json"
    path.write_text(path.read_text().replace(project.digest, "0" * 16))
    capsys.readouterr()
    assert lab.main(["walk"]) == 0
    said = "walk  left out, as computed by other code than today's: jobs 2\nwalk  5 of 6 jobs  results/walk.csv\n"
    assert capsys.readouterr().out == said
    assert project.state == "partial" and project.left() == [2]
    assert 2 not in read_columns(tmp_path / "results" / "walk")["seed"]


def test_rows_of_a_table_that_was_altered_or_of_other_code_give_way(project, tmp_path):
    for job in range(3):
        train.main("walk", job)
    lab.gather(project)
    shutil.rmtree(tmp_path / "_build")
    table = tmp_path / "results" / "walk.csv"
    table.write_text(table.read_text().replace("0,4,", "0,4,1"))
    assert project.state == "altered" and project.left() == list(range(6))
    train.main("walk", 5)
    lab.gather(project)
    assert read_columns(tmp_path / "results" / "walk")["seed"].tolist() == [5] and project.state == "partial"


def test_jobs_that_do_not_fit_together_leave_the_table_as_it_was(project, tmp_path, capsys):
    train.main("walk", 0)
    lab.gather(project)
    train.main("walk", 1)
    rows = tmp_path / "_build" / "train" / "walk" / "1.csv"
    rows.write_text(rows.read_text().replace("seed,m,x", "seed,m,y"))
    assert lab.main(["walk"]) == 1
    assert "job 1 has columns of other names, shapes or kinds than job 0" in capsys.readouterr().err
    assert project.state == "partial" and project.left() == [2, 3, 4, 5]


@pytest.mark.parametrize("after", range(4))
def test_gathering_that_is_killed_leaves_a_whole_table(project, tmp_path, monkeypatch, after):
    """Killed after any of its steps, it leaves the table of before, or one that the next gathering puts right."""
    for job in range(2):
        train.main("walk", job)
    lab.gather(project)
    train.main("walk", 2)
    steps, replace = iter(range(10)), Path.replace

    def dies(self, target):
        if next(steps) == after:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    if after < 3:  # the folder, the table, its record
        with pytest.raises(KeyboardInterrupt):
            lab.gather(project)
    else:
        lab.gather(project)
    monkeypatch.setattr(Path, "replace", replace)
    if after == 0:
        assert project.state == "partial" and list(project.record()["jobs"]) == ["0", "1"]
    lab.gather(project)
    assert project.state == "partial" and list(project.record()["jobs"]) == ["0", "1", "2"]
    assert read_columns(tmp_path / "results" / "walk")["seed"].tolist() == [0, 1, 2]


def test_estimate_is_by_part_and_unknown_where_nothing_was_timed(project, tmp_path):
    parted = lab.Ensemble("walk", "linear/one", CODE, 4, {"m": [2, 4]})
    assert parted.estimate(parted.left()) is None
    folder = tmp_path / "results"
    folder.mkdir()
    seconds = {"0": 1.0, "2": 3.0, "1": 10.0}
    record = {"jobs": {job: {"seconds": took, "rows": 1} for job, took in seconds.items()}}
    (folder / "walk.json").write_text(json.dumps(record))
    assert parted.estimate([4, 5, 7]) == 2 + 10 + 10
    del record["jobs"]["1"]
    (folder / "walk.json").write_text(json.dumps(record))
    assert parted.estimate([4, 5]) == 2 + 2  # of a part that was never timed, as of all


@pytest.mark.parametrize(
    ("call", "seeds", "parts"),
    [
        ('ensemble("walk", walk, 6)', 6, {}),
        (
            'ensemble("walk", walk, n, parts={"m": widths, "target": ["a", "b"]})',
            3,
            {"m": [2, 4], "target": ["a", "b"]},
        ),
        ('ensemble("walk", walk, seeds=n, parts=dict(m=widths))', None, "has no lists as parts: dict(m=widths)"),
        ('ensemble("walk", walk, 6, parts={"m": []})', None, "has no lists as parts"),
        ('ensemble("walk", walk, n + 1)', None, "has no number of seeds: n [+] 1"),
    ],
)
def test_seeds_and_parts_stand_in_the_call_or_in_a_parameter(call, seeds, parts):
    node = ast.parse(call, mode="eval").body
    values = {"n": 3, "widths": [2, 4]}
    if seeds is None:
        with pytest.raises(ValueError, match=parts.replace("(", "[(]").replace(")", "[)]")):
            lab.called("walk", "linear/one", CODE, node, values)
    else:
        found = lab.called("walk", "linear/one", CODE, node, values)
        assert (found.seeds, found.parts, len(found.jobs)) == (seeds, parts, seeds * max(1, 2 * len(parts)))


def test_unknown_ensemble_job_and_device_are_named(project, monkeypatch, capsys):
    assert train.main("wlak", 0) == 2
    assert capsys.readouterr().err == "train: no ensemble 'wlak'; the ensembles are: walk\n"
    assert train.main("walk", 6) == 2
    assert capsys.readouterr().err == "train: no job 6 of walk, which has 6\n"
    assert lab.main(["wlak"]) == 2
    assert capsys.readouterr().err == "lab: no ensemble 'wlak'; the ensembles are: walk\n"
    monkeypatch.setenv("CMLIB_DEVICE", "gpu")
    assert train.main("walk", 0) == 2
    assert capsys.readouterr().err == "train: expected DEVICE=cpu or DEVICE=cuda, got 'gpu'\n"
    monkeypatch.setenv("CMLIB_DEVICE", "cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert train.main("walk", 0) == 2
    assert "DEVICE=cuda was asked for, but torch" in capsys.readouterr().err
