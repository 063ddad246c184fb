"""One figure with other values: the cells it needs, and what becomes of them."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

import own_values  # noqa: E402
from chapters import chapters, typed_values  # noqa: E402
from compare import allowed, columns_apart, known_moves  # noqa: E402
from figure import ATLAS, Log, cells_of, figures, known_figure, quoted  # noqa: E402
from figure_data import gathered, kept  # noqa: E402
from notebooks import code_cells, figures_of, read_notebook, source  # noqa: E402
from slices import needed  # noqa: E402

from cmlib.chapter import ensemble  # noqa: E402

IMPORTS = """import math
import numpy as np
import torch
import matplotlib.pyplot as plt
from cmlib.chapter import claims
"""
# what it shows -> cells after cell 0, which imports, and the numbers of those that the last one needs to make `found`
SLICES = {
    "a name read": (["a = 1", "b = 2", "found = a"], [1, 3]),
    "bound anew": (["a = 1", "a = 2", "found = a"], [2, 3]),
    "one of two in a tuple": (["a, b = 1, 2", "b = 3", "found = a, b"], [1, 2, 3]),
    "augmented assignment": (["a = [1]", "a += [2]", "found = a"], [1, 2, 3]),
    "augmented union": (["a = {1: 1}", "b = a", "b |= {2: 2}", "found = a"], [1, 2, 3, 4]),
    "a loop may leave a name as it was": (["a = 1", "for i in []:\n    a = i", "found = a"], [1, 2, 3]),
    "a loop's own names": (["k = x = 1", "for k in [2]:\n    x = k\n    y = x", "found = [k for k in [3]]"], [3]),
    "names of a loop after it": (["a = 1", "for a in [2]:\n    pass", "found = a"], [1, 2, 3]),
    "both branches": (["a = 1", "if math.pi > 3:\n    a = 2\nelse:\n    a = 3", "found = a"], [0, 2, 3]),
    "one branch": (["a = 1", "if math.pi < 3:\n    a = 2", "found = a"], [0, 1, 2, 3]),
    "while": (["a = [2]", "while a[0]:\n    a[0] -= 1", "found = a"], [1, 2, 3]),
    "with": (["with np.errstate() as e:\n    a = 1", "b = 1", "found = a"], [0, 1, 3]),
    "with what ends it early": (
        ["import contextlib\na = 1", "with contextlib.suppress(ZeroDivisionError):\n    a = 1 / 0", "found = a"],
        [1, 2, 3],
    ),
    "a name of Python's own": (["sum = [1]", "sum.append(2)", "found = sum"], [1, 2, 3]),
    "try": (["a = 1", "try:\n    a = 1 / 0\nexcept ZeroDivisionError as e:\n    a = 5", "found = a"], [1, 2, 3]),
    "a walrus": (["a = 1", "b = [(a := k) for k in (3, 4)]", "found = a"], [1, 2, 3]),
    "match": (["a = 1", "match a:\n    case 1:\n        b = 2", "found = b"], [1, 2, 3]),
    "item stored": (["a = [1]", "a[0] = 2", "b = a[0]", "found = a"], [1, 2, 4]),
    "attribute stored": (["class A: pass", "a = A()", "a.x = 2", "found = a.x"], [1, 2, 3, 4]),
    "item deleted": (["a = {1: 1, 2: 2}", "del a[1]", "found = a"], [1, 2, 3]),
    "name deleted and bound again": (["a = 1", "del a", "a = 2", "found = a"], [3, 4]),
    "method called for its effect": (["a = []", "a.append(1)", "len(a)", "found = a"], [1, 2, 3, 4]),
    "method whose result is kept": (["a = [1, 2]", "b = a.pop()", "c = a.index(1)", "found = a"], [1, 2, 4]),
    "result thrown at _": (["a = [2, 1]", "_, _ = a.sort(), 1", "found = a"], [1, 2, 3]),
    "in place, of torch": (["a = torch.ones(2)", "b = a.data.mul_(2)", "found = a.tolist()"], [0, 1, 2, 3]),
    "function called for its effect": (["a = np.eye(2)", "np.fill_diagonal(a, 3)", "found = a.tolist()"], [0, 1, 2, 3]),
    "a part changes its whole": (["a = [[0]]", "b = a[0]", "b.append(1)", "found = a"], [1, 2, 3, 4]),
    "a loop over parts": (["a = [[0]]", "for b in a:\n    b.append(1)", "found = a"], [1, 2, 3]),
    "a loop over two": (
        ["a, b = [[0]], [1]", "for x, y in zip(a, b):\n    x.append(y)", "found = a"],
        [1, 2, 3],
    ),
    "a container changes alone": (["a = [1]", "b = {'a': a}", "b['c'] = 2", "found = a"], [1, 4]),
    "what a container holds": (["a = [1]", "b = {'a': a}", "b['a'].append(2)", "found = a"], [1, 2, 3, 4]),
    "two names of one object": (["a = [1]", "b = a", "c = a", "b.append(2)", "found = c"], [1, 2, 3, 4, 5]),
    "changed after it was put away": (["a = [1]", "b = {'a': a}", "a.append(2)", "found = b"], [1, 2, 3, 4]),
    "a view": (["a = np.zeros(2)", "b = a[:1]", "a[0] = 5", "found = b.tolist()"], [0, 1, 2, 3, 4]),
    "what is drawn is new": (
        ["g = torch.Generator().manual_seed(1)", "a = torch.rand(1, generator=g)", "b = torch.rand(1, generator=g)"]
        + ["found = a"],
        [0, 1, 2, 4],
    ),
    "a helper that stands below": (
        ["def f(x):\n    return g(x)", "b = 1", "def g(x):\n    x.append(1)", "a = []", "c = f(a)", "found = a"],
        [1, 3, 4, 5, 6],
    ),
    "a function that calls itself": (
        ["def f(x, n):\n    x.append(n)\n    return f(x, n - 1) if n else 0", "a = []", "b = f(a, 2)", "found = a"],
        [1, 2, 3, 4],
    ),
    "made by another": (
        [
            "a = torch.nn.Linear(1, 1)",
            "a.weight.data[:], a.bias.data[:] = 1, 1",
            "o = torch.optim.SGD(a.parameters(), 0.5)",
            "_ = a(torch.ones(1)).sum().backward()",
            "o.step()",
            "found = a.bias.item()",
        ],
        [0, 1, 2, 3, 4, 5, 6],
    ),
    "unpacked on the spot": (["a, b = (k for k in (1, 2))", "c = a", "found = a"], [1, 3]),
    "a function's globals": (["n = 1", "def f():\n    return n", "n = 2", "found = f()"], [2, 3, 4]),
    "a function through another": (
        ["def g():\n    return h() + n", "def f():\n    return g()", "def h():\n    return 1", "n = 2", "found = f()"],
        [1, 2, 3, 4, 5],
    ),
    "a default is read once": (["n = 1", "def f(x=n):\n    return x", "n = 2", "found = f()"], [1, 2, 4]),
    "an object with a function in it": (
        ["n = 1", "class F:\n    def __call__(self):\n        return n", "f = F()", "n = 2", "found = f()"],
        [1, 2, 3, 4, 5],
    ),
    "a lambda kept in a list": (["n = 1", "f = [lambda: n]", "n = 2", "found = f[0]()"], [1, 2, 3, 4]),
    "a lazy generator": (
        ["n = 1", "g = (n for _ in range(2))", "n = 2", "a = next(g)", "found = list(g)"],
        [1, 2, 3, 4, 5],
    ),
    "argument changed by a function": (["def f(x):\n    x.append(1)", "a = []", "b = f(a)", "found = a"], [1, 2, 3, 4]),
    "argument left alone": (["def f(x):\n    y = []\n    y.append(x)", "a = [1]", "b = f(a)", "found = a"], [2, 4]),
    "changed by a function's function": (
        ["def f(x):\n    x[0] = 5", "def g(x):\n    return f(x)", "a = [1]", "b = g(x=a)", "found = a"],
        [1, 2, 3, 4, 5],
    ),
    "a global changed by a function": (["a = []", "def f():\n    a.append(1)", "b = f()", "found = a"], [1, 2, 3, 4]),
    "an object that counts its calls": (
        ["class F:\n    n = 0\n    def __call__(self):\n        self.n += 1\n        return self.n", "f = F()"]
        + ["a = f()", "found = f()"],
        [1, 2, 3, 4],
    ),
    "a method that changes its object": (
        ["class F:\n    n = 0\n    def up(self):\n        self.n += 1", "f = F()", "a = f.up()", "found = f.n"],
        [1, 2, 3, 4],
    ),
    "a generator that has been drawn from": (
        [
            "g = torch.Generator().manual_seed(1)",
            "a = torch.rand(1, generator=g)",
            "found = torch.rand(1, generator=g)",
        ],
        [0, 1, 2, 3],
    ),
    "a generator of numpy": (
        ["g = np.random.default_rng(1)", "a = g.random()", "b = 2", "found = g.random()"],
        [0, 1, 2, 4],
    ),
    "a generator passed on": (
        ["def draw(n, g):\n    return torch.rand(n, generator=g)", "g = torch.Generator().manual_seed(1)"]
        + ["a = draw(1, g)", "found = draw(1, g)"],
        [0, 1, 2, 3, 4],
    ),
    "generators of their own": (
        ["def g(k):\n    return torch.Generator().manual_seed(k)", "a = torch.rand(1, generator=g(1))"]
        + ["found = torch.rand(1, generator=g(2))"],
        [0, 1, 3],
    ),
    "a generator in an object": (
        [
            "class F:\n    def __init__(self):\n        self.g = np.random.default_rng(1)\n"
            "    def draw(self):\n        return self.g.random()",
            "f = F()",
            "a = f.draw()",
            "found = f.draw()",
        ],
        [0, 1, 2, 3, 4],
    ),
    "an iterator": (["a = iter([1, 2])", "b = next(a)", "found = next(a)"], [1, 2, 3]),
    "what a function yields": (
        ["def f():\n    yield 1\n    yield 2", "a = f()", "b = next(a)", "found = next(a)"],
        [1, 2, 3, 4],
    ),
    "a drawing": (
        ["fig, axes = plt.subplots(1, 2)", "for ax, n in zip(axes, (1, 2)):\n    line = ax.plot([n])", "b = 1"]
        + ["found = len(axes[0].lines)"],
        [0, 1, 2, 4],
    ),
    "claims change nothing": (["a = [1]", "claims.check('one', len(a), equal=1)", "print(a)", "found = a"], [1, 4]),
    "claims that bind": (["a = [1]", "b = 2\n_ = claims.check('one', b, equal=2)", "found = a, b"], [0, 1, 2, 3]),
    "a setting of a package": (["a = 1", "np.set_printoptions(2)", "found = str(np.ones(1) / 3)"], [0, 2, 3]),
    "a setting stored": (
        ["a = 1", "plt.rcParams['lines.linewidth'] = 9", "found = plt.Line2D([], []).get_lw()"],
        [0, 2, 3],
    ),
    "star import": (["a = 1", "b = 2", "from math import *", "c = 3", "found = pi"], [0, 1, 2, 3, 5]),
    "exec": (["a = 1", "exec('a = 2')", "b = 1", "found = a"], [0, 1, 2, 4]),
    "a global statement": (["a = 1", "def f():\n    global a\n    a = 2", "f()", "found = a"], [1, 2, 3, 4]),
    "numbers from a hidden state": (
        ["torch.manual_seed(1)", "a = torch.rand(1)", "b = 1", "found = torch.rand(1)"],
        [0, 1, 2, 3, 4],
    ),
}


def last(cells, numbers, monkeypatch, tmp_path):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = {"__name__": "__main__"}
    for number in numbers:
        exec(cells[number], names)
    return names["found"]


@pytest.mark.parametrize("name", SLICES)
def test_slice_holds_what_the_last_cell_needs(name, monkeypatch, tmp_path):
    cells, expected = [IMPORTS, *SLICES[name][0]], SLICES[name][1]
    found = needed(cells, len(cells) - 1)
    assert found == expected
    whole = last(cells, range(len(cells)), monkeypatch, tmp_path)
    assert last(cells, found, monkeypatch, tmp_path) == whole


def test_cell_with_a_magic_keeps_all_that_stands_before_it():
    assert needed(["a = 1", "b = 2", "%time a", "c = 3", "found = 1"], 4) == [0, 1, 2, 4]


def test_every_figure_is_found_by_each_of_its_names():
    known = figures()
    for chapter in chapters():
        for number, cell in enumerate(code_cells(read_notebook(ROOT / "book" / f"{chapter}.ipynb"))):
            for shown in figures_of(cell):
                figure = known[shown["figure"]]
                assert (figure.chapter, figure.cell) == (chapter, number)
                assert known[cell["metadata"]["mystnb"]["figure"]["name"]] == figure
    assert known_figure("FIG-b-f2") == known_figure("b-f2") == known["B-F2"]


def test_every_card_of_the_atlas_with_a_picture_draws_it_with_the_values_it_proposes():
    cards = [card for card in yaml.safe_load(ATLAS.read_text(encoding="utf-8")) if "picture" in card]
    assert cards
    for card in cards:
        figure = known_figure(card["id"])
        assert figure.name == card["picture"], card["id"]
        typed_values(figure.chapter, card.get("vary", {}))


def test_slice_of_a_figure_has_the_parameters_and_leaves_out_claims_and_other_figures():
    cells, chosen = cells_of(known_figure("B-F12"))
    assert chosen[0] == 0 and chosen[-1] == known_figure("B-F12").cell
    left_out = "".join(source(cell) for number, cell in enumerate(cells) if number not in chosen)
    for name in (
        'figures.save(fig, "B-F2"',
        'claims.claim("B-F2-widths"',
        'ensemble("B-windows"',
        "class ContinuousGRU",
    ):
        assert name in left_out


def run(*arguments, out):
    """Call workflow/figure.py with another folder than _build/figure, where a site would find what it leaves."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); import figure; from pathlib import Path; "
    code += f"figure.OWN = figure.beside.__globals__['OWN'] = Path({str(out)!r}); sys.exit(figure.main())"
    hidden = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=out, env=hidden, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["B-F2", "known-memories", "fixed-rates"])
def test_figure_from_the_cells_it_needs_has_the_numbers_of_the_book(name, tmp_path):
    done = run(name, out=tmp_path)
    assert done.returncode == 0, done.stderr
    figure, moves = known_figure(name), known_moves()
    books, ours = kept(figure.chapter)[name], gathered(tmp_path / name)[name]
    for place, by in columns_apart(name, books, ours).items():
        assert by <= allowed(moves, place), place


@pytest.fixture(scope="module")
def fewer_seeds(tmp_path_factory):
    out = tmp_path_factory.mktemp("figure")
    return out, run("fig-b-f2", "-p", "n_seeds", "4", out=out)


def test_figure_with_other_values_lies_beside_the_books(fewer_seeds):
    out, done = fewer_seeds
    assert done.returncode == 0, done.stderr
    lines, folder = done.stdout.splitlines(), out / "B-F2"
    steps = [line for line in lines if line.startswith("B-F2  cell ")]
    n = len(cells_of(known_figure("B-F2"))[1])
    assert [line.split("  ")[1] for line in steps] == [f"cell {i} of {n}" for i in range(1, n + 1)]
    assert lines[-1].endswith(f"{folder / 'compare.html'}")
    names = {path.name for path in folder.iterdir()}
    assert names == {"B-F2.csv", "B-F2.json", "B-F2.png", "B-F2.svg", "compare.html", "log.txt", "run.json"}
    provenance = json.loads((folder / "B-F2.json").read_text())
    assert provenance["parameters"]["n_seeds"] == 4 and provenance["run"]["preset"] == "own values"
    made = json.loads((folder / "run.json").read_text())
    assert made["command"] == 'make figure ID=B-F2 ARGS="-p n_seeds 4"'
    assert ["n_seeds", 8, 4] in made["parameters"]
    moved = dict(made["moved"])
    assert moved["polynomial, m=4, seed 3"] == 0 and moved["polynomial, m=4, seed 4"] == "only in the book"
    page = (folder / "compare.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "n_seeds = 4 (in the book 8)" in page
    # four widths of two targets, as they were but for four seeds; and the radii
    assert "<td>exponential, m=16, seed 0 and 32 more</td><td>not at all</td>" in page
    assert "<td>exponential, m=16, seed 4 and 31 more</td><td>only in the book</td>" in page
    assert "://" not in page  # it asks no other host for anything


def test_numbers_that_moved_are_told_farthest_first_and_others_in_one_row_for_each_kind():
    moved = [
        ["far", "infinite"],
        ["a", 0.5],
        *([f"b{i}", 0.1] for i in range(12)),
        ["s", 1e-9],
        ["t", 0.0],
        ["u", 0.0],
        ["v", "only here"],
    ]
    _, _, rows = own_values.tables_of({"parameters": [], "moved": moved})[1]
    assert rows[:2] == [["a", "50.00%"], ["b0", "10.00%"]]
    assert rows[12:] == [
        ["and 1 more", "less"],
        ["far", "infinite"],
        ["s", "less than 0.01%"],
        ["t and 1 more", "not at all"],
        ["v", "only here"],
    ]


@pytest.mark.parametrize("words", [["-p", "n", "4"], ["-p", "widths", "[4, 8]"], ["-p", "kinds", "['a', \"b\"]"]])
def test_command_said_is_the_command_given(words):
    assert shlex.split(f"ARGS={quoted(words)}") == [f"ARGS={shlex.join(words)}"]


def test_training_on_the_spot_is_told_before_it_is_done(tmp_path, capsys):
    told = []

    def experiment(*, seed):
        told.append(capsys.readouterr().out)
        return [{"loss": 1.0}]

    with Log(tmp_path / "log.txt") as log, contextlib.redirect_stdout(log):
        ensemble("B-F2", experiment, 8)
    said = "B-F2: no rows for these values in results/; 1 of 8 seeds computed here"
    assert log.notes == [said] and told == [f"{said}  "]
    assert (tmp_path / "log.txt").read_text() == f"{said}\n"


def test_own_values_are_a_page_of_a_site_of_ones_own_and_of_no_other(fewer_seeds, tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    contents = (ROOT / "_toc.yml").read_text()
    (tmp_path / "_toc.yml").write_text(contents)
    monkeypatch.setattr(own_values, "OWN", tmp_path / "none")
    own_values.stage_page(tmp_path)
    assert (tmp_path / "_toc.yml").read_text() == contents and not list((tmp_path / "book").iterdir())
    monkeypatch.setattr(own_values, "OWN", fewer_seeds[0])
    own_values.stage_page(tmp_path)
    staged = yaml.safe_load((tmp_path / "_toc.yml").read_text())
    assert staged["parts"][-1]["chapters"][-1] == {"file": own_values.PAGE}
    page = (tmp_path / "book" / "own-values.md").read_text()
    assert "## B-F2" in page and "n_seeds = 4 (in the book 8)" in page and "make figure ID=B-F2" in page
    for name in ("B-F2.png", "B-F2-book.png", "B-F2.csv"):
        assert f"own-values.files/{name}" in page and (tmp_path / "book" / "own-values.files" / name).stat().st_size
    record = fewer_seeds[0] / "B-F2" / "run.json"
    gone = tmp_path / "gone" / "B-F2"
    gone.mkdir(parents=True)
    (gone / "run.json").write_text(record.read_text().replace("nonlinear/nonlinear-rnns", "nonlinear/gone"))
    monkeypatch.setattr(own_values, "OWN", gone.parent)
    assert own_values.runs() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["B-F22"], r"no figure 'B-F22'; near it are: B-F2, "),
        (["b-def2.1"], "B-Def2.1, Definition 2.1 of B, has a card in the atlas, but no picture"),
        (["B-F2", "-p", "exponant", "2"], "nonlinear/nonlinear-rnns has no parameter 'exponant'; its parameters are: "),
        (["B-F2", "-p", "widths", "4"], r"parameter 'widths' expects list[int], got 4"),
    ],
)
def test_wrong_name_is_one_clear_line(arguments, said, tmp_path):
    done = run(*arguments, out=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    assert done.stderr.count("\n") == 1 and said in done.stderr


def test_cell_that_goes_wrong_is_named(tmp_path):
    done = run("fixed-rates", "-p", "degrees", "[]", out=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "figure: FAILED in code cell [" in done.stderr and "Traceback" in (tmp_path / "fixed-rates/log.txt").read_text()
    )
