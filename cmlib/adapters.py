"""Adapters: a model that takes or gives something else becomes a map (batch, time, d_in) -> (batch, time, d_out)."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmlib.sequence_maps import channels_of, first

NOTE = "Sequences go in where the token embedding {} gives vectors of entries of size {:.2g}; tokens are not looked at."


class Adapted(nn.Module):
    """A model behind what turns its inputs and outputs; its weights are those of the model.

    Args:
        model: any nn.Module.
        run: (model, x) -> outputs.
        note: what a reader of its results should know, or "".
        d_in: its input channels, where they are known.

    >>> adapted = cmlib.adapt(torch.nn.GRU(2, 3), time_first=True)
    >>> adapted.d_in, adapted(inputs.impulse(5, [[1.0, 0.0]], dtype=torch.float32)).shape
    (2, torch.Size([1, 5, 3]))
    """

    def __init__(self, model: nn.Module, run: Callable[[Any, Tensor], Any], note: str = "", d_in: int | None = None):
        super().__init__()
        self.model, self.run, self.note, self.d_in = model, run, note, d_in

    def forward(self, x: Tensor) -> Any:
        """Return the outputs of the model, one for each step of x."""
        return self.run(self.model, x)


def adapt(model: Any, input: Any = None, output: Any = None, time_first: bool = False) -> Any:
    """Return a model as a map (batch, time, d_in) -> (batch, time, d_out), which every probe takes.

    Args:
        model: an nn.Module or another callable, which stays as it is.
        input: how it takes sequences: None as they are, the name of an argument, "numpy", one of its nn.Embedding, in
            place of whose output they go in, or a function of them that returns its argument, a tuple or a dict.
        output: where the outputs are in what it returns: None takes them as they are or as the head of a tuple, a key
            or the name of an attribute, an index, or a function.
        time_first: whether it takes and gives (time, batch, channels).

    Raises:
        ValueError: on an input or output that is none of these; when called, on outputs that are not there.

    >>> model = torch.nn.Sequential(torch.nn.Embedding(100, 4), torch.nn.Linear(4, 100))
    >>> adapted = cmlib.adapt(model, input=model[0])
    >>> adapted.d_in, adapted(inputs.heaviside(3, [[0.5] * 4], dtype=torch.float32)).shape
    (4, torch.Size([1, 3, 100]))
    """
    if not callable(model):
        raise ValueError(f"expected a model that can be called, got {model!r}")
    call, taken, note, d_in = _with(input), _out(output), "", None
    if isinstance(input, nn.Embedding):
        note = NOTE.format(_name(model, input), input.weight.detach().double().square().mean().sqrt())
        call, d_in = _after(model, input, time_first), input.embedding_dim
    elif input is None or isinstance(input, str):
        with contextlib.suppress(ValueError):  # of a model that does not say it
            d_in = channels_of(model)

    def run(model: Any, x: Tensor) -> Any:
        y = taken(call(model, x.transpose(0, 1) if time_first else x))
        return y.transpose(0, 1) if time_first and isinstance(y, Tensor) else y

    if isinstance(model, nn.Module):
        return Adapted(model, run, note, d_in)

    def adapted(x: Tensor) -> Any:
        return run(model, x)

    adapted.__name__ = getattr(model, "__name__", type(model).__name__)
    return adapted


def _with(input: Any) -> Callable[[Any, Tensor], Any]:
    # (model, x) -> what the model returns
    if input is None or isinstance(input, nn.Embedding):
        return lambda model, x: model(x)
    if input == "numpy":
        return lambda model, x: model(x.detach().cpu().numpy())
    if isinstance(input, str):
        return lambda model, x: model(**{input: x})
    if not callable(input):
        raise ValueError(f"expected input to be None, a name, an nn.Embedding or a function, got {input!r}")

    def call(model: Any, x: Tensor) -> Any:
        given = input(x)
        if isinstance(given, Mapping):
            return model(**given)
        return model(*given) if isinstance(given, tuple) else model(given)

    return call


def _after(model: Any, embedding: nn.Embedding, time_first: bool) -> Callable[[Any, Tensor], Any]:
    name = _name(model, embedding)
    token = 1 if embedding.padding_idx == 0 and embedding.num_embeddings > 1 else 0  # padding may be masked

    def call(model: Any, x: Tensor) -> Any:
        ids, seen = torch.full(x.shape[:2], token, dtype=torch.long, device=x.device), []

        def replaced(module: nn.Module, given: Any, vectors: Tensor) -> Tensor:
            if vectors.shape != x.shape:
                want, got = tuple(x.shape), tuple(vectors.shape)
                raise ValueError(f"expected {name} to give vectors of shape {want}, got {got}: does it embed tokens?")
            seen.append(module)
            return x

        # at the place of the embedding, so that it works in copies of the model
        hook = model.get_submodule(name).register_forward_hook(replaced)
        try:
            y = model(ids)
        finally:
            hook.remove()
        if not seen:
            raise ValueError(f"expected a model that calls {name}, but it did not")
        return y

    return call


def _name(model: Any, embedding: nn.Embedding) -> str:
    parts = model.named_modules() if isinstance(model, nn.Module) else ()
    for name, part in parts:
        if part is embedding:
            return name
    raise ValueError("expected an nn.Embedding of the model, got one that is no part of it")


def _out(output: Any) -> Callable[[Any], Any]:
    # what the model returns -> outputs
    if output is None:
        return lambda y: _tensor(first(y))
    if callable(output):
        return lambda y: _tensor(output(y))
    if not isinstance(output, str | int) or isinstance(output, bool):
        raise ValueError(f"expected output to be None, a key, an index or a function, got {output!r}")

    def taken(y: Any) -> Any:
        try:
            return _tensor(getattr(y, output) if isinstance(output, str) and not isinstance(y, Mapping) else y[output])
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            there = f"the keys {list(y)}" if isinstance(y, Mapping) else type(y).__name__
            raise ValueError(f"expected outputs at {output!r}, got {there}") from error

    return taken


def _tensor(y: Any) -> Any:
    return torch.as_tensor(y) if isinstance(y, np.ndarray) else y
