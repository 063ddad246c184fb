"""Sequence maps (batch, time, d_in) -> (batch, time, d_out): evaluation, layout, causality; convolution and scan."""

import contextlib
import copy
import warnings
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cmlib.arguments import Inputs, sequences

# the rest is for the probes of the library
__all__ = ["SequenceMap", "evaluate", "linear_scan", "causal_convolution"]


@runtime_checkable
class SequenceMap(Protocol):
    """A callable (batch, time, d_in) -> (batch, time, d_out), or to a tuple headed by that; sequences are independent.

    `cmlib.testing.check_sequence_map` tells whether one is causal, and keeps nothing from call to call.

    Reference: wang2024inverse, Def. 2.1

    >>> layer = torch.nn.GRU(1, 2, batch_first=True)
    >>> isinstance(layer, sequence_maps.SequenceMap), isinstance(inputs.impulse(3), sequence_maps.SequenceMap)
    (True, False)
    """

    def __call__(self, x: Tensor) -> Any:
        """Return outputs, one for each step of the input."""


def first(y: Any) -> Any:
    """Return the outputs out of what a sequence map returns."""
    return y[0] if isinstance(y, tuple) else y


def evaluate(seq_map: Any, x: Inputs) -> Tensor:
    """Return the outputs (batch, time, d_out) of a map, without gradients, and leave it in the mode in which it was.

    Args:
        seq_map: (batch, time, d_in) -> (batch, time, d_out), or a tuple headed by that.
        x: (batch, time, d_in).

    Raises:
        ValueError: on what is no map, refuses x, or gives outputs of another shape or that are not finite; on x that is
            no floating-point tensor of this shape.

    >>> layer = torch.nn.Dropout(0.5)
    >>> sequence_maps.evaluate(layer, inputs.heaviside(3)).flatten().tolist(), layer.training
    ([1.0, 1.0, 1.0], True)
    """
    y = answer(seq_map, x)
    if not torch.isfinite(y).all():
        raise ValueError("expected finite outputs, got NaN or infinity: is the map stable?")
    return y


def answer(seq_map: Any, x: Inputs) -> Tensor:
    """Return the outputs of a map, finite or not."""
    if not callable(seq_map):
        raise ValueError(f"expected a map (batch, time, d_in) -> (batch, time, d_out), got {seq_map!r}")
    x = sequences("inputs", x)
    with torch.no_grad(), evaluating(seq_map), _explained(x):
        y = first(seq_map(x.clone()))  # some write into what they are given
    if not isinstance(y, Tensor) or y.ndim != 3 or y.shape[:2] != x.shape[:2] or not y.shape[2]:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"expected outputs (batch, time, d_out) for inputs {tuple(x.shape)}, got {got}")
    if not (y.is_floating_point() or y.is_complex()):
        raise ValueError(f"expected outputs of floating-point numbers, got {y.dtype}")
    return y


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout and the like off while we look, and leave each part's mode as it was."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextlib.contextmanager
def _explained(inputs: Tensor) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, IndexError, TypeError, AttributeError, AssertionError, torch.jit.Error) as error:
        said = str(error).strip()
        if "TorchScript" in said:  # the error is the last line of its trace
            said = said.splitlines()[-1]
        raise ValueError(f"expected a map of {inputs.dtype} inputs {tuple(inputs.shape)}: {said}") from error


class BatchFirst(nn.Module):
    """A layer of torch that has time before batch."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return first(self.layer(x.transpose(0, 1))).transpose(0, 1)


class Causal(nn.Module):
    """A transformer encoder that sees the past only."""

    def __init__(self, encoder: nn.TransformerEncoder):
        super().__init__()
        self.encoder, self.batch_first = encoder, _attention(encoder).batch_first

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.encoder(x, mask=mask, is_causal=False)
        return y if self.batch_first else y.transpose(0, 1)


def copied(model: Any) -> Any:
    """Return a copy of a module; what it holds that was computed from its weights is copied as numbers."""
    # torch.nn.utils.parametrize and its like leave such tensors in the layers of torch, and deepcopy refuses them
    held = [w for m in model.modules() for v in vars(m).values() for w in (v if isinstance(v, list) else [v])]
    return copy.deepcopy(model, {id(w): w.detach().clone() for w in held if isinstance(w, Tensor) and not w.is_leaf})


def in_double(model: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Return a copy in double or another precision on the host that takes (batch, time, d_in); no module as it is.

    Raises:
        ValueError: on a module that cannot be copied.
    """
    if not isinstance(model, nn.Module):
        return model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copies of traced modules look at gradients that are not there
            # .to(dtype) would drop the imaginary parts of complex weights, and .double() leaves them as they are
            model = copied(model).cpu()._apply(lambda w: in_precision(w, dtype))
            for part in model.modules():  # constants that are no buffers, which _apply leaves as they are
                known = {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}
                vars(part).update({name: in_precision(value.cpu(), dtype) for name, value in known.items()})
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"expected a model that copy.deepcopy copies: {error}") from error
    if isinstance(model, nn.RNNBase):
        return model if model.batch_first else BatchFirst(model)
    if isinstance(model, nn.TransformerEncoder):
        return Causal(model)
    return model


def in_precision(w: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in another precision: a complex one stays complex, and whole numbers whole."""
    if w.is_complex():
        return w.to(dtype.to_complex())
    return w.to(dtype) if w.is_floating_point() else w


def channels_of(model: Any) -> int:
    """Return the number of input channels that a model declares as `d_in`, or that a layer of torch has.

    Raises:
        ValueError: when it says nothing of the kind.
    """
    if isinstance(model, nn.RNNBase):
        return model.input_size
    if isinstance(model, nn.TransformerEncoder):
        return _attention(model).embed_dim
    channels = getattr(model, "d_in", None)
    if isinstance(channels, int) and channels > 0:
        return channels
    # what takes token ids is probed behind its embedding, which says how many channels that has
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    tokens = next((named(name) for name, part in modules if isinstance(part, nn.Embedding)), None)
    hint = "" if tokens is None else f", or cmlib.adapt(model, input={spelled(tokens)}) for one that takes token ids"
    raise ValueError(f"expected d_in, the number of input channels, for a {type(model).__name__}{hint}")


def named(name: str) -> str:
    """Return the dotted name of a part as its user knows it, without what torch.compile puts into it."""
    return ".".join(piece for piece in name.split(".") if piece != "_orig_mod")


def spelled(name: str) -> str:
    """Return how a part of a model is written, by its dotted name."""
    written = all(piece.isidentifier() for piece in name.split("."))
    return f"model.{name}" if written else f"model.get_submodule({name!r})"


def _attention(encoder: nn.TransformerEncoder) -> Any:
    return encoder.layers[0].self_attn


def linear_scan(A: Inputs, drive: Inputs) -> Float[Tensor, "batch time m"]:
    """Return h_k = A_k h_{k-1} + drive_k from h_{-1} = 0, in log2(time) steps that double what each h has seen.

    Args:
        A, drive: (batch, time, m).

    Raises:
        ValueError: on what are no floating-point tensors of one such shape.

    Reference: blelloch1990prefix

    >>> drive = inputs.heaviside(4)
    >>> sequence_maps.linear_scan(torch.full_like(drive, 0.5), drive).flatten().tolist()
    [1.0, 1.5, 1.75, 1.875]
    """
    A, drive = sequences("A", A), sequences("drive", drive)
    if A.shape != drive.shape:
        raise ValueError(f"expected A of the shape of drive, {tuple(drive.shape)}, got {tuple(A.shape)}")
    h, reach = drive, 1
    while reach < drive.shape[1]:
        h = torch.cat([h[:, :reach], h[:, reach:] + A[:, reach:] * h[:, :-reach]], 1)
        A = torch.cat([A[:, :reach], A[:, reach:] * A[:, :-reach]], 1)
        reach *= 2
    return h


def causal_convolution(weights: Inputs, x: Inputs) -> Float[Tensor, "batch *channels time"]:
    """Return y_k = sum_{j <= k} weights_j x_{k-j}, by FFT.

    Args:
        weights: (*channels, time).
        x: (batch, *channels, time); time comes last here.

    Raises:
        ValueError: on what are no floating-point tensors of such shapes.

    >>> x = torch.tensor([[1.0, 0.0, 2.0]])
    >>> sequence_maps.causal_convolution(torch.tensor([1.0, 0.5, 0.25]), x).round(decimals=3).tolist()
    [[1.0, 0.5, 2.25]]
    """
    for name, value in (("weights", weights), ("x", x)):
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim or not value.shape[-1]:
            raise ValueError(f"expected {name} to be a tensor of floating-point numbers, time last, got {value!r}")
    if x.shape[1:] != weights.shape:
        wanted = ", ".join(("batch", *map(str, weights.shape)))
        raise ValueError(f"expected x of shape ({wanted}) for these weights, got {tuple(x.shape)}")
    n = x.shape[-1]
    length = 2 * n  # zero padding keeps the circular product causal
    return torch.fft.irfft(torch.fft.rfft(weights, length) * torch.fft.rfft(x, length), length)[..., :n]
