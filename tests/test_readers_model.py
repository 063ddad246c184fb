"""The chapter on the reader's own model, run on one from the reader's folder."""

from pathlib import Path

import papermill
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.filterwarnings("ignore")  # those of the kernel's own machinery
def test_chapter_reports_on_a_model_of_the_reader(tmp_path, monkeypatch):
    monkeypatch.setenv("CMLIB_RESULTS", str(ROOT / "results"))
    (tmp_path / "models_of_a_reader.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.LSTM(2, 3, batch_first=True)\n"
    )
    torch.save(torch.nn.LSTM(2, 3).state_dict(), tmp_path / "weights.pt")
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    run = papermill.execute_notebook(
        str(ROOT / "book" / "stable" / "your-model.ipynb"),
        None,
        {"module": "models_of_a_reader:make", "checkpoint": "weights.pt", "live": 0},
        cwd=str(tmp_path),
        progress_bar=False,
    )
    said = "".join("".join(out.get("text", "")) for cell in run.cells for out in cell.get("outputs", []))
    assert "LSTM, where it rests, forgets small disturbances at the rate" in said
    assert list(tmp_path.rglob("your-model*"))
