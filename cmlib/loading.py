"""Loading: a model of your own from a factory and a checkpoint."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn


def load_model(module: str, checkpoint: Any = None) -> Any:
    """Return what a factory makes, with the weights of a checkpoint.

    Args:
        module: "package.module:factory"; the working directory is searched as well. The factory is called without
            arguments.
        checkpoint: of a state dict, read with weights_only=True; None or "" takes the weights of the factory.

    Raises:
        ValueError: that says which of the steps went wrong.
    """
    package, colon, factory = str(module).partition(":")
    if not (package and colon and factory):
        raise ValueError(f'expected module="package.module:factory", got {module!r}')
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(package)
    except (ImportError, SystemExit) as error:
        raise ValueError(f"expected a module {package!r} that can be imported: {error}") from error
    finally:
        sys.path.remove(here)
    make = getattr(found, factory, None)
    if not callable(make):
        raise ValueError(f"expected a function or class {factory!r} in {package}, got {make!r}")
    try:
        model = make()
    except TypeError as error:
        raise ValueError(f"expected {module} to work without arguments: {error}") from error
    except SystemExit as error:
        raise ValueError(f"expected {module} to return a model, but it ends the process") from error
    if not callable(model):
        raise ValueError(f"expected {module} to return a model, got {type(model).__name__}")
    if checkpoint:
        _load(model, Path(checkpoint))
    return model


def _load(model: Any, path: Path) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected an nn.Module for the checkpoint, got {type(model).__name__}")
    if not path.is_file():
        raise ValueError(f"expected a checkpoint, got {str(path)!r}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise ValueError(f"expected a state dict of tensors alone in {path.name}: {error}") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"expected the weights of {type(model).__name__} in {path.name}: {error}") from error
