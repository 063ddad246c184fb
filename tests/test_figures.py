import base64
import hashlib
import json
import struct
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without windows

from cmlib import figures


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
    assert metadata == {"cmlib": {"figure": "a", "alt": "a line falls"}, "image/png": {"alt": "a line falls"}}


def test_picture_has_at_most_100_dots_per_inch_and_an_opaque_white_ground(output):
    figures.save(drawn(), "a", data={"x": [1]}, alt="a line")
    png = (output / "a.png").read_bytes()
    width, height = figures.STYLE["figure.figsize"]
    assert struct.unpack(">II", png[16:24]) == (round(100 * width), round(100 * height))
    assert (plt.imread(output / "a.png")[0, 0] == 1.0).all()


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


def test_importing_the_library_loads_neither_pyplot_nor_ipython():
    heavy = ("matplotlib.pyplot", "IPython")
    code = f"import sys, cmlib, cmlib.figures; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
