import base64
import hashlib
import io
import json
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without windows

from cmlib import chapter
from cmlib.chapter import figures


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    return tmp_path / "figures"


def drawn():
    with plt.style.context(figures.STYLE):
        fig, ax = plt.subplots()
        ax.plot([0, 1], [1, 0], label=r"$\rho$")
        ax.legend()
    return fig


def test_save_writes_picture_data_and_provenance(output):
    data = {"t": torch.tensor([0.0, 0.1]), "rho": np.array([1.0, 0.3])}
    figures.save(drawn(), "B-F1a", data=data, alt="a line", parameters={"m": np.int64(4), "t": np.inf}, seed=3)
    assert {p.name for p in output.iterdir()} == {f"B-F1a.{kind}" for kind in ("png", "svg", "csv", "json")}
    rows = np.genfromtxt(output / "B-F1a.csv", delimiter=",", names=True)
    assert rows.dtype.names == ("t", "rho") and rows["rho"].tolist() == [1.0, 0.3]
    provenance = json.loads((output / "B-F1a.json").read_text(encoding="utf-8"))
    assert provenance["parameters"] == {"m": 4, "t": "Infinity"} and provenance["seed"] == 3
    assert provenance["data_sha256"] == hashlib.sha256((output / "B-F1a.csv").read_bytes()).hexdigest()
    assert set(provenance["versions"]) == {"python", "cmlib", "torch", "numpy", "scipy", "matplotlib"}
    assert {"alt", "commit", "seconds_since_start"} <= set(provenance)


def test_arrays_of_other_shapes_go_into_an_npz_and_leave_no_stale_csv(output):
    figures.save(drawn(), "a", data={"x": [1.0, 2.0]}, alt="a line")
    figures.save(drawn(), "a", data={"x": np.arange(3), "y": np.eye(2)}, alt="a line")
    assert not (output / "a.csv").exists()
    with np.load(output / "a.npz") as saved:
        assert np.array_equal(saved["y"], np.eye(2)) and saved["x"].tolist() == [0, 1, 2]


def test_same_figure_gives_the_same_bytes(output):
    def files():
        figures.save(drawn(), "a", data={"x": np.arange(3), "y": np.eye(2)}, alt="a line")
        return [(output / f"a.{kind}").read_bytes() for kind in ("png", "svg", "npz")]

    assert files() == files()


def test_saved_figure_is_closed_and_shows_itself_once_with_its_alternative_text():
    fig = drawn()
    saved = figures.save(fig, "a", data={"x": [1]}, alt="a line falls")
    assert not plt.fignum_exists(fig.number)
    data, metadata = saved._repr_mimebundle_()
    assert data["text/plain"] == "Figure a" and base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    shown = {"alt": "a line falls", "width": 560, "height": 360}
    assert metadata == {"cmlib": {"figure": "a", "alt": "a line falls"}, "image/png": shown}


def test_picture_is_twice_as_sharp_as_shown_on_white_and_says_how_small_its_words_are(output):
    figures.save(drawn(), "a", data={"x": [1]}, alt="a line")
    with Image.open(output / "a.png") as picture:
        assert picture.size == (1120, 720) and picture.info["dpi"] == pytest.approx((200, 200), rel=1e-4)
        assert picture.info["Smallest text"] == "10"
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_picture_of_256_colours_moves_none_of_them_far(output):
    fig = drawn()
    fig.axes[0].imshow(np.arange(400.0).reshape(20, 20), cmap="twilight")  # more colours than there is room for
    drawing = io.BytesIO()
    fig.savefig(drawing, dpi=200)
    figures.save(fig, "a", data={"x": [1]}, alt="colours")
    with Image.open(drawing) as before, Image.open(output / "a.png") as after:
        few = np.asarray(after.convert("RGB")).astype(int)
        assert np.abs(few - np.asarray(before.convert("RGB"))).max() <= 0.1 * 255


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "expected name of letters"),
        ({"alt": " "}, "expected alt to describe"),
        ({"alt": None}, "expected alt to describe"),
        ({"data": {}}, "expected data as a dict"),
        ({"data": [1, 2]}, "expected data as a dict"),
    ],
)
def test_save_refuses_a_figure_without_name_data_or_words(change, message):
    arguments = {"name": "a", "data": {"x": [1]}, "alt": "a line"} | change
    with pytest.raises(ValueError, match=message):
        figures.save(drawn(), arguments.pop("name"), **arguments)
    plt.close("all")


VALUES = np.arange(1.0, 6.0)
TIMES = np.linspace(0.1, 8.0, 60)
HEIGHTS = np.exp(-TIMES / VALUES[:, None]) - 0.1  # below zero at the end, where a logarithmic axis has nothing
HEIGHTS[:, 20:24] = np.nan


def two_panels():
    with plt.style.context(figures.STYLE):
        fig, (above, below) = plt.subplots(2, 1)
        plain, log = above.plot(TIMES, HEIGHTS[0], label="plain")[0], below.loglog(TIMES, HEIGHTS[0])[0]
        _ = above.set(ylim=(-0.2, 0.5)), below.set(xlim=(0.1, 20.0), ylim=(1e-3, 2.0)), above.legend()
    return fig, plain, log


def movable(name="B-F1.x", fig=None, **change):
    fig, plain, log = fig or two_panels()
    across = np.sqrt(VALUES)[:, None] * TIMES, HEIGHTS
    arguments = {"frames": {plain: HEIGHTS, log: across}, "values": VALUES, "label": r"memory $1/\omega$"}
    return chapter.movable(fig, name, **(arguments | {"alt": "curves move", "default": 3} | change))


def frames_of(figure):
    """(values, the steps of each moving element) as the page's script has them."""
    stem, values, moves = json.loads(re.search(r"= (\[.*\]);\n  const root", figure.fragment)[1])
    assert stem == f"{figure.name}-moves-"
    return values, moves


def corners(d):
    """The points of a path whose every step, M or L, is absolute, or, l, relative to the last."""
    points = []
    for kind, x, y in re.findall(r"([MLl]) ?(-?[\d.]+) ?(-?[\d.]+)", d):
        points.append((float(x), float(y)) if kind != "l" else (points[-1][0] + float(x), points[-1][1] + float(y)))
    return np.array(points)


@pytest.mark.parametrize("frame", range(len(VALUES)))
def test_each_frame_of_a_movable_figure_is_the_one_that_matplotlib_draws(output, frame):
    _, moves = frames_of(movable())
    fig, plain, log = two_panels()
    plain.set_ydata(HEIGHTS[frame])
    log.set_data(np.sqrt(VALUES[frame]) * TIMES, HEIGHTS[frame])
    plain.set_gid("plain"), log.set_gid("log")
    figures.save(fig, "still", data={"x": [1]}, alt="a line")
    svg = (output / "still.svg").read_text()
    for line, steps in zip(("plain", "log"), moves, strict=True):
        d = re.search(rf'<g id="{line}">\s*<path d="([^"]*)"', svg)[1]
        ours, theirs = corners(steps[frame]), corners(d)
        assert len(ours) == len(theirs) and steps[frame].count("M") == d.count("M")
        assert np.abs(ours - theirs).max() <= 0.05 + 1e-5  # rounded to tenths


def test_movable_figure_is_saved_like_any_and_shown_still_without_a_script(output):
    figure = movable(data={"extra": [1.0]}, parameters={"m": 4})
    data, metadata = figure._repr_mimebundle_()
    assert set(data) == {"image/png", "text/html", "text/plain"} and data["text/plain"] == "Figure B-F1.x"
    shown = {"alt": "curves move", "width": 560, "height": 360}
    assert metadata == {"cmlib": {"figure": "B-F1.x", "alt": "curves move"}, "image/png": shown}
    assert {p.name for p in output.iterdir()} == {f"B-F1.x.{kind}" for kind in ("png", "svg", "npz", "json")}
    with np.load(output / "B-F1.x.npz") as saved:
        assert np.array_equal(saved["value"], VALUES) and np.array_equal(saved["plain, x"], TIMES)
        assert np.array_equal(saved["plain, y"], HEIGHTS, equal_nan=True) and saved["extra"].tolist() == [1.0]
        assert np.array_equal(saved["line 1, x"], np.sqrt(VALUES)[:, None] * TIMES)
    values, moves = frames_of(figure)
    assert values == ["1", "2", "3", "4", "5"]
    before_the_script = figure.fragment.split("<script>")[0]
    assert all(f'd="{steps[2]}"' in before_the_script for steps in moves)
    assert 'aria-label="curves move"' in before_the_script and r"\(1/\omega\)" in before_the_script


def test_movable_figures_on_one_page_share_nothing_and_ask_nobody():
    fragments = [movable(name).fragment for name in ("a", "b")]
    ids = [re.findall(r'\bid="([^"]+)"', fragment) for fragment in fragments]
    assert ids[0] and not set(ids[0]) & set(ids[1]) and all(len(set(x)) == len(x) for x in ids)
    for fragment, own in zip(fragments, ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', fragment)) <= set(own)
        addresses = set(re.findall(r"https?://[^\"']+", fragment))
        assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not asked for
        assert "<style" not in fragment and "src=" not in fragment


def test_movable_figure_is_the_same_bytes_twice_and_marked_for_comparison():
    assert (fragment := movable().fragment) == movable().fragment
    # tests/nbval_sanitize.cfg masks what stands between the marks
    assert re.sub("⟨[^⟩]*⟩", "", fragment) == "<!---->"


def test_movable_figure_of_25_frames_of_three_lines_stays_small():
    t, memory = np.linspace(0, 40, 200), np.arange(6.0, 31.0)
    with plt.style.context(figures.STYLE):
        fig, ax = plt.subplots()
        lines = ax.plot(t, np.cos(np.outer(t, [1, 2, 3])))
    frames = {line: np.cos(k * t - memory[:, None]) for k, line in enumerate(lines, start=1)}
    assert len(chapter.movable(fig, "a", frames, memory, label="phase", alt="waves").fragment.encode()) < 250_000


def test_words_of_a_movable_figure_move_with_it():
    fig, plain, log = two_panels()
    title = plain.axes.set_title("none", color="C1")
    plain.axes.set_xlabel("norm")  # needs glyphs that the title had first
    figure = movable(fig=(fig, plain, log), texts={title: [f"norm < {v:g} & </script>" for v in VALUES]})
    assert frames_of(figure)[1][2][0] == "norm < 1 & </script>"
    assert ">norm &lt; 3 &amp; &lt;/script&gt;</text>" in figure.fragment
    assert figure.fragment.count("</script>") == 1
    glyphs = set(re.findall(r'<path id="([^"]+)"', figure.fragment))
    assert set(re.findall(r'href="#(B-F1.x-DejaVu[^"]+)"', figure.fragment)) <= glyphs


def test_lines_of_the_same_label_are_both_written(output):
    fig, plain, log = two_panels()
    log.set_label("plain")
    movable(fig=(fig, plain, log))
    with np.load(output / "B-F1.x.npz") as saved:
        assert {"plain, y", "line 1, y"} <= set(saved)


def other_line():
    return plt.subplots()[1].plot([1, 2])[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [1.0]}, "expected values as two or more"),
        ({"values": [1.0, np.nan, 3, 4, 5]}, "expected values as two or more"),
        ({"values": "12345"}, "expected values as two or more"),
        ({"frames": {}}, "expected frames as a dict"),
        ({"frames": lambda line: {other_line(): HEIGHTS}}, "expected frames of visible lines of the figure"),
        ({"frames": lambda line: {"line": HEIGHTS}}, "expected frames of visible lines of the figure"),
        ({"frames": lambda line: {line: HEIGHTS[:3]}}, r"expected frames of shape \(5, 60\)"),
        ({"frames": lambda line: {line: HEIGHTS[:, :9]}}, r"expected frames of shape \(5, 60\)"),
        ({"frames": lambda line: {line: (TIMES[:9], HEIGHTS)}}, r"expected frames of shape \(5, 9\)"),
        ({"frames": lambda line: line.set_marker("o") or {line: HEIGHTS}}, "expected lines without markers"),
        ({"label": "memory $x"}, "expected label in words"),
        ({"label": " "}, "expected label in words"),
        ({"default": 7.0}, "expected default among"),
        ({"texts": lambda line: {line: ["a"] * 5}}, "expected texts of the figure"),
        ({"texts": lambda line: {line.axes.title: ["a"] * 4}}, "expected 5 texts in plain words"),
        ({"texts": lambda line: {line.axes.title: ["$a$"] * 5}}, "expected 5 texts in plain words"),
        ({"alt": ""}, "expected alt to describe"),
        ({"name": "a/b"}, "expected name of letters"),
    ],
)
def test_movable_refuses(change, message):
    fig = two_panels()
    change = {key: value(fig[1]) if callable(value) else value for key, value in change.items()}
    with pytest.raises(ValueError, match=message):
        movable(fig=fig, **change)
    plt.close("all")


def test_importing_the_library_loads_neither_pyplot_nor_ipython():
    heavy = ("matplotlib.pyplot", "IPython")
    code = f"import sys, cmlib, cmlib.chapter.figures; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
