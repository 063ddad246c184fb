"""loading: what goes wrong in a module or a factory that is not ours is a ValueError that names it."""

import sys

import pytest
import torch
from torch import nn

from cmlib import load_model

FACTORY = """
import sys
from torch import nn

def raises():
    return {}["weight"]

def late():
    import beside_the_factory
    return beside_the_factory.model

def tidies():
    sys.path.clear()
    return nn.Linear(1, 1)

def plain():
    return abs

class Network(nn.Linear):
    def __init__(self):
        super().__init__(2, 3)

def kind():
    return Network
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "factories_of_mine.py").write_text(FACTORY)
    (tmp_path / "beside_the_factory.py").write_text("from torch import nn\nmodel = nn.Linear(4, 4)\n")
    (tmp_path / "broken_module_of_mine.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("factories_of_mine", "beside_the_factory"):
        sys.modules.pop(name, None)


def test_class_is_a_factory_of_its_instances(folder):
    assert load_model("factories_of_mine:Network").weight.shape == (3, 2)


def test_factory_may_import_what_stands_beside_it(folder):
    before = list(sys.path)
    assert load_model("factories_of_mine:late").weight.shape == (4, 4)
    assert sys.path == before


def test_factory_that_changes_the_path_is_left_to_it(folder):
    assert isinstance(load_model("factories_of_mine:tidies"), nn.Linear) and sys.path == []


def test_checkpoint_may_be_a_path(folder):
    torch.save({"weight": torch.full((3, 2), 2.0), "bias": torch.zeros(3)}, folder / "weights.pt")
    assert (load_model("factories_of_mine:Network", folder / "weights.pt").weight == 2).all()


@pytest.mark.parametrize(
    ("module", "checkpoint", "message"),
    [
        (3, None, 'expected module="package.module:factory", got 3'),
        ("broken_module_of_mine:make", None, "that can be imported, got ZeroDivisionError: division by zero"),
        (".relative:make", None, "expected a module '.relative' that can be imported, got TypeError"),
        ("factories_of_mine:raises", None, "to work without arguments, got KeyError: 'weight'"),
        ("factories_of_mine:kind", None, "to return a model, got the class Network"),
        ("factories_of_mine:Network", 0, "expected a checkpoint, got 0"),
        ("factories_of_mine:Network", ".", "expected a checkpoint, got '.'"),
        ("factories_of_mine:plain", "weights.pt", "expected an nn.Module for the checkpoint, got builtin_function"),
    ],
)
def test_wrong_calls_say_what_was_expected(folder, module, checkpoint, message):
    with pytest.raises(ValueError, match=message):
        load_model(module, checkpoint)
