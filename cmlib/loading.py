"""Loading: a model of your own from a factory and a checkpoint."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn


def load_model(module: str, checkpoint: str | os.PathLike[str] | None = None) -> Any:
    """Return what a factory makes, with the weights of a checkpoint.

    Args:
        module: "package.module:factory"; the working directory is searched as well. The factory is called without
            arguments.
        checkpoint: of a state dict, read with weights_only=True; None or "" takes the weights of the factory.

    Raises:
        ValueError: that says which of the steps went wrong.

    >>> cmlib.load_model("torch.nn:Tanh")
    Tanh()
    >>> cmlib.load_model("torch.nn:GRU")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: expected torch.nn:GRU to work without arguments, got ...
    """
    package, colon, factory = module.partition(":") if isinstance(module, str) else ("", "", "")
    if not (package and colon and factory):
        raise ValueError(f'expected module="package.module:factory", got {module!r}')
    with _working_directory_searched():
        model = _made(package, factory)
    if not callable(model) or isinstance(model, type):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"expected {module} to return a model, got {got}")
    if checkpoint is not None and checkpoint != "":
        _load(model, checkpoint)
    return model


@contextlib.contextmanager
def _working_directory_searched() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have tidied it away
            sys.path.remove(here)


def _made(package: str, factory: str) -> Any:
    # what it runs is not ours: it may raise anything
    try:
        found = importlib.import_module(package)
    except (Exception, SystemExit) as error:
        raise ValueError(f"expected a module {package!r} that can be imported, got {_named(error)}") from error
    make = getattr(found, factory, None)
    if not callable(make):
        raise ValueError(f"expected a function or class {factory!r} in {package}, got {make!r}")
    try:
        return make()
    except SystemExit as error:
        raise ValueError(f"expected {package}:{factory} to return a model, but it ends the process") from error
    except Exception as error:
        raise ValueError(f"expected {package}:{factory} to work without arguments, got {_named(error)}") from error


def _load(model: Any, checkpoint: str | os.PathLike[str]) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected an nn.Module for the checkpoint, got {type(model).__name__}")
    if not isinstance(checkpoint, str | os.PathLike) or not Path(checkpoint).is_file():
        raise ValueError(f"expected a checkpoint, got {checkpoint!r}")
    name = Path(checkpoint).name
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise ValueError(f"expected a state dict of tensors alone in {name}, got {_named(error)}") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"expected the weights of {type(model).__name__} in {name}, got {_named(error)}") from error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
