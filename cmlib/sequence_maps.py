"""Sequence maps (batch, time, d_in) -> (batch, time, d_out): evaluation, layout, causality; convolution and scan."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@contextlib.contextmanager
def evaluating(model: Callable) -> Iterator[None]:
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


def linear_scan(A: Float[Tensor, "batch time m"], drive: Float[Tensor, "batch time m"]) -> Tensor:
    """Return h_k = A_k h_{k-1} + drive_k from h_{-1} = 0, in log2(time) steps that double what each h has seen.

    Reference: blelloch1990prefix
    """
    h, reach = drive, 1
    while reach < drive.shape[1]:
        h = torch.cat([h[:, :reach], h[:, reach:] + A[:, reach:] * h[:, :-reach]], 1)
        A = torch.cat([A[:, :reach], A[:, reach:] * A[:, :-reach]], 1)
        reach *= 2
    return h


def causal_convolution(weights: Float[Tensor, "*channels time"], x: Float[Tensor, "batch *channels time"]) -> Tensor:
    """Return y_k = sum_{j <= k} weights_j x_{k-j}, by FFT."""
    n = x.shape[-1]
    length = 2 * n  # zero padding keeps the circular product causal
    return torch.fft.irfft(torch.fft.rfft(weights, length) * torch.fft.rfft(x, length), length)[..., :n]


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
        self.encoder, self.batch_first = encoder, encoder.layers[0].self_attn.batch_first

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.encoder(x, mask=mask, is_causal=False)
        return y if self.batch_first else y.transpose(0, 1)


def in_double(model: Any) -> Any:
    # a copy in double precision that takes (batch, time, d_in)
    if not isinstance(model, nn.Module):
        return model
    model = copy.deepcopy(model).cpu().double()
    if isinstance(model, nn.RNNBase):
        return model if model.batch_first else BatchFirst(model)
    if isinstance(model, nn.TransformerEncoder):
        return Causal(model)
    return model


def channels_of(model: Any) -> int:
    """Return the number of input channels that a model declares as `d_in`, or that a layer of torch has.

    Raises:
        ValueError: when it says nothing of the kind.
    """
    if isinstance(model, nn.RNNBase):
        return model.input_size
    if isinstance(model, nn.TransformerEncoder):
        return model.layers[0].self_attn.embed_dim
    channels = getattr(model, "d_in", None)
    if isinstance(channels, int) and channels > 0:
        return channels
    raise ValueError(f"expected d_in, the number of input channels, for a {type(model).__name__}")


def first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


def preflight(seq_map: Any, inputs: Tensor) -> None:
    later, others = inputs.clone(), inputs.clone()
    half = inputs.shape[1] // 2
    later[:, half:] += 1.0
    others[1:] += 1.0
    with torch.no_grad(), evaluating(seq_map), _explained(inputs):
        y, y_later, y_others = (first(seq_map(x)) for x in (inputs, later, others))
    if not isinstance(y, Tensor) or y.ndim != 3 or y.shape[:2] != inputs.shape[:2]:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"expected outputs (batch, time, d_out) for inputs {tuple(inputs.shape)}, got {got}")
    if not torch.isfinite(y).all():
        raise ValueError("expected finite outputs, got NaN or infinity: is the model stable?")
    rounding = 1e-9 * max(1.0, float(y.abs().max()))
    early = (y_later - y)[:, :half].abs().amax((0, 2))
    if early.max() > rounding:
        step = int((early > rounding).nonzero()[0])
        raise ValueError(f"expected a causal model, but its output at step {step} depends on the input at step {half}")
    if (y_others - y)[0].abs().max() > rounding:
        raise ValueError("expected sequences to be independent, but one output depends on the others in its batch")


@contextlib.contextmanager
def _explained(inputs: Tensor) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, IndexError, TypeError, AssertionError) as error:
        raise ValueError(f"expected a model of inputs {tuple(inputs.shape)} in double precision: {error}") from error
