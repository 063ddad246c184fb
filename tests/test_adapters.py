"""adapt: models that take and give something else are measured as what they are behind it."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import cmlib
from cmlib.adapters import adapt
from cmlib.sequence_maps import evaluate, in_double

X = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0))


class ModelOutput(OrderedDict):
    """As a well-known library has it: keys and attributes are the same, and integers count through them."""

    def __getattr__(self, name):
        return self[name]

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


class Language(nn.Module):
    """Token ids in, or vectors in their place; positions, padding that is masked, and outputs by name."""

    def __init__(self, tokens=20, d=4, longest=512, padding=None):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.embed = nn.Embedding(tokens, d, padding_idx=padding)
        self.body = nn.ModuleDict({"positions": nn.Embedding(longest, d), "layer": nn.GRU(d, d, batch_first=True)})
        self.head = nn.Linear(d, tokens)
        with torch.no_grad():
            for w in self.parameters():
                w.copy_(0.5 * torch.randn(w.shape, generator=g))

    def forward(self, ids=None, inputs_embeds=None):
        vectors = self.embed(ids) if inputs_embeds is None else inputs_embeds
        kept = 1 if ids is None or self.embed.padding_idx is None else (ids != self.embed.padding_idx)[..., None]
        z = vectors + self.body["positions"](torch.arange(vectors.shape[1]))
        return ModelOutput(loss=None, logits=self.head(self.body["layer"](kept * z)[0]))


@pytest.mark.parametrize("padding", [None, 0])
def test_vectors_go_in_where_the_embedding_gives_its_own(padding):
    model = Language(padding=padding)
    before = copy.deepcopy(model.state_dict())
    adapted = adapt(model, input=model.embed, output="logits")
    expected = model(inputs_embeds=X)["logits"]
    assert torch.equal(adapted(X), expected)
    assert adapted.d_in == 4 and cmlib.sequence_maps.channels_of(adapted) == 4
    size = float((model.embed.weight.detach() ** 2).mean() ** 0.5)
    assert f"token embedding embed gives vectors of entries of size {size:.2g}" in adapted.note
    assert adapted.note in cmlib.preflight(adapted, 4).notes
    assert not model.embed._forward_hooks and all(torch.equal(w, before[k]) for k, w in model.state_dict().items())
    # a copy has an embedding of its own
    assert torch.allclose(in_double(adapted)(X.double()), expected.double(), atol=1e-6)
    assert not model.embed._forward_hooks and model.embed.weight.dtype == torch.float32
    assert {id(w) for w in adapted.parameters()} == {id(w) for w in model.parameters()}


def test_the_hook_is_gone_after_an_error():
    model = Language(longest=5)
    with pytest.raises(ValueError, match="expected a map of"):
        evaluate(adapt(model, input=model.embed, output="logits"), X)
    assert not model.embed._forward_hooks


def test_an_embedding_that_is_none_of_tokens_is_refused():
    model = Language()
    with pytest.raises(ValueError, match="expected body.positions to give vectors of shape .* does it embed tokens"):
        adapt(model, input=model.body["positions"], output="logits")(X)
    with pytest.raises(ValueError, match="expected an nn.Embedding of the model, got one that is no part of it"):
        adapt(model, input=nn.Embedding(2, 2))
    unused = nn.Sequential(nn.Linear(1, 1))
    unused.embed = nn.Embedding(2, 4)
    unused.forward = lambda ids: ids[..., None].float()
    with pytest.raises(ValueError, match="expected a model that calls embed, but it did not"):
        adapt(unused, input=unused.embed)(X)


def test_arguments_and_outputs_go_by_name_place_or_function():
    model = Language()
    expected = model(inputs_embeds=X)["logits"]
    ways = [
        adapt(model, input="inputs_embeds", output="logits"),
        adapt(model, input="inputs_embeds", output=1),
        adapt(model, input="inputs_embeds", output=lambda found: found.logits),
        adapt(model, input=lambda x: {"inputs_embeds": x}, output="logits"),
        adapt(model, input=lambda x: (None, x), output="logits"),
    ]
    assert all(torch.equal(way(X), expected) for way in ways)
    shifted = adapt(nn.Identity(), input=lambda x: x + 1)
    assert torch.equal(shifted(X), X + 1)


class Outputs:
    def __init__(self, x):
        self.hidden = x


def test_outputs_may_be_attributes_or_arrays():
    assert torch.equal(adapt(Outputs, output="hidden")(X), X)
    assert torch.equal(adapt(lambda x: (x, 1))(X), X)
    cumulated = adapt(lambda x: np.cumsum(x, 1), input="numpy")
    assert torch.allclose(cumulated(X), X.cumsum(1)) and cumulated.__name__ == "<lambda>"
    assert cmlib.memory_function(cumulated, 5, inputs="impulse").values.tolist() == [1.0] * 5


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_time_first_layers_are_turned_both_ways(kind):
    layer = kind(4, 3)
    turned = kind(4, 3, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    adapted = adapt(layer, time_first=True)
    assert torch.allclose(adapted(X), turned(X)[0], atol=1e-6) and adapted.d_in == 4
    curves = [cmlib.memory_function(each, 20, d_in=4).values for each in (adapted, turned)]
    assert np.allclose(*curves, atol=1e-6)


def test_time_first_token_models_get_ids_of_their_layout():
    model = nn.Sequential(nn.Embedding(9, 4), nn.GRU(4, 3))
    adapted = adapt(model, input=model[0], time_first=True)
    assert torch.equal(adapted(X), model[1](X.transpose(0, 1))[0].transpose(0, 1))


def test_memory_and_report_of_a_language_model_stay_within_its_positions():
    model = Language(longest=60)
    adapted = adapt(model, input=model.embed, output="logits")
    found = cmlib.report(adapted, n_steps=16, n_directions=1, radii=[0.0, 0.1])
    assert 16 <= len(found.memory["impulse"].values) < 60
    assert cmlib.memory_function(adapted, 59, d_in=4).values.shape == (59,)
    with pytest.raises(ValueError, match="expected n_steps < 60"):
        cmlib.memory_function(adapted, 60, d_in=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adapt(3), "expected a model that can be called, got 3"),
        (lambda: adapt(abs, input=3), "expected input to be None, a name, an nn.Embedding or a function, got 3"),
        (lambda: adapt(abs, output=1.5), "expected output to be None, a key, an index or a function, got 1.5"),
        (lambda: adapt(abs, output=True), "expected output to be None, .* got True"),
        (lambda: adapt(Language(), "inputs_embeds", "scores")(X), "expected outputs at 'scores', got the keys"),
        (lambda: adapt(nn.Identity(), output="scores")(X), "expected outputs at 'scores', got Tensor"),
        (lambda: adapt(lambda x: (x,), output=2)(X), "expected outputs at 2, got tuple"),
    ],
)
def test_what_is_not_there_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
