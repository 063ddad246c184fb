"""Negative controls of the chapter for a reader's own model, and the chapter on one."""

import dataclasses
import os
from types import SimpleNamespace

import controls
import papermill
import pytest
import torch

CHAPTER = "stable/your-model"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("your-model"))


def changed(name, of, /, **values):
    def control(v):
        found = v["reports"][name]
        decays = {k: dataclasses.replace(d, **values) if k == of else d for k, d in found.decays.items()}
        return {"reports": v["reports"] | {name: dataclasses.replace(found, decays=decays)}}

    return control


def every_model_is_taken(v):
    return {"cmlib": SimpleNamespace(report=lambda model, **options: "a report")}


CONTROLS = {
    "your-model-rates": changed("nn.GRU", "impulse", rate=0.3),
    "your-model-linear": changed("linear", "reversed", rate=0.11),
    "your-model-recurrent": changed("nn.LSTM", "impulse", kind="polynomial"),
    "your-model-transformer": changed("transformer", "heaviside", kind="exponential"),
    "your-model-refuses": every_model_is_taken,
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])


@pytest.mark.filterwarnings("ignore")  # those of the kernel's own machinery
def test_chapter_reports_on_a_model_of_the_reader(tmp_path):
    (tmp_path / "models_of_a_reader.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.LSTM(2, 3, batch_first=True)\n"
    )
    torch.save(torch.nn.LSTM(2, 3).state_dict(), tmp_path / "weights.pt")
    here = os.environ.get("CMLIB_OUTPUT")
    os.environ["CMLIB_OUTPUT"] = str(tmp_path)
    try:
        run = papermill.execute_notebook(
            str(controls.ROOT / "book" / f"{CHAPTER}.ipynb"),
            None,
            {"module": "models_of_a_reader:make", "checkpoint": "weights.pt", "n_directions": 1},
            cwd=str(tmp_path),
            progress_bar=False,
        )
    finally:
        os.environ.pop("CMLIB_OUTPUT") if here is None else os.environ.update(CMLIB_OUTPUT=here)
    said = "".join("".join(out.get("text", "")) for cell in run.cells for out in cell.get("outputs", []))
    assert "LSTM forgets exponentially" in said or "disagree about LSTM" in said
    assert (tmp_path / "figures").exists() or list(tmp_path.rglob("your-model*"))
