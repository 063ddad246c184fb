"""Negative controls of the chapter on memory in applications, and the chapter on an archive of reviews."""

import io
import tarfile

import controls
import numpy as np
import pytest
import torch
import yaml

import cmlib
from cmlib import reviews

CHAPTER = "nonlinear/memory-in-applications"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return controls.run(CHAPTER, tmp_path_factory.mktemp("memory-in-applications"))


def untrained(v):
    return {"train": lambda model, rate: model.eval()}


def a_model_that_counts(v):
    s = np.log(np.arange(1.0, 200))
    never = cmlib.decay(cmlib.MemoryCurve(np.arange(1.0, 199), np.abs(np.diff(s)), "repeated", 1e-16))
    return {"decays": v["decays"] | {("BiLSTM", "good"): never}}


def recurrent_in_place_of_attention(v):
    return {"memories": v["memories"] | {("transformer", w): v["memories"]["BiLSTM", w] for w in v["asked"]}}


def a_settled_transformer(v):
    return {"answers": v["answers"] | {("transformer", w): np.linspace(0, 1, 200) for w in v["asked"]}}


def another_word(v):
    right = v["slowest_rate"]
    return {"slowest_rate": lambda lstm, e, side: 2 * right(lstm, e, side)}


CONTROLS = {
    "reviews-learned": untrained,
    "B-F5-exponential": a_model_that_counts,
    "B-F6-still-moving": recurrent_in_place_of_attention,
    "B-F6-fluctuates": a_settled_transformer,
    "B-F5-fixed-point": another_word,
}


def test_every_claim_has_a_control():
    assert sorted(CONTROLS) == controls.claimed(CHAPTER)


@pytest.mark.parametrize("claim", CONTROLS)
def test_on_a_wrong_object_the_claim_fails(claim, before):
    controls.assert_fails(CHAPTER, before, claim, CONTROLS[claim])


def test_the_same_cells_train_on_an_archive(tmp_path, monkeypatch):
    # made reviews in the archive's own form: the reader's route gives the same quality as the default one
    path = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for seed, split in enumerate(("train", "test")):
            made = reviews.made_reviews(2200 - 1800 * seed, torch.Generator().manual_seed(seed))
            for i, (text, verdict) in enumerate(zip(made.texts, made.verdicts.tolist(), strict=True)):
                info = tarfile.TarInfo(f"aclImdb/{split}/{'pos' if verdict else 'neg'}/{i}_{9 if verdict else 2}.txt")
                info.size = len(text)
                file.addfile(info, io.BytesIO(text.encode()))
    smoke = yaml.safe_load((controls.ROOT / "workflow" / "presets.yml").read_text())["smoke"][CHAPTER]
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path / "out"))
    variables = {}
    for cell in controls.code_cells(CHAPTER):
        source = "".join(cell["source"])
        exec(source, variables)
        if "parameters" in cell["metadata"].get("tags", []):
            variables |= smoke | {"archive": str(path), "n_reviews": 2000}
        if "reviews-learned" in source:
            break
    assert len(variables["training"].texts) == 2000 and sum(variables["training"].verdicts) == 1000
    assert min(variables["right"].values()) > 0.8
