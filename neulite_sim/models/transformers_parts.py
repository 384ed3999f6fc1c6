"""A model of the package transformers, taken apart into what comes before its layers, the layers, and what comes after.

Nothing of its code is written again. What comes before is its own forward pass up to the first layer; what comes after
is its own forward pass in which one stand-in for all layers puts out the map that it is given. Beside its map a layer
is told masks and positions, which depend on the shape of a batch alone (there is no padding): they are asked of the
model once for each shape, on ids of zero.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.copying import copied
from neulite_sim.models.failures import failure_of
from neulite_sim.samples import InputSpec

_FEWEST_IDS = 2
_STRIDE = 7919
_LOOKS_FOR_PACKED = "find_packed_sequence_indices"


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Where the layers of a model are, how they answer, and which modules run before and after them."""

    layers: str
    answers_tuple: bool
    before: frozenset[str]
    after: frozenset[str]


class _CaughtError(Exception):
    """Carries the map that comes to the first layer out of a forward pass."""

    def __init__(self, features: Tensor) -> None:
        super().__init__("the first layer is reached")
        self.features = features


def _features_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    found = args[0] if args else kwargs["hidden_states"]
    assert isinstance(found, Tensor)
    return found


class _StandIn(nn.Module):
    """In the place of a layer, with what models look at before they call one: `told` by its name."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__()
        self.__dict__ |= told


class _Catch(_StandIn):
    """In the place of the first layer: ends the forward pass with what comes to it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Never returns."""
        raise _CaughtError(_features_of(args, kwargs))


class _Give(_StandIn):
    """In the place of all layers: puts out the map that it was given before."""

    def __init__(self, told: Mapping[str, Any], *, answers_tuple: bool) -> None:
        super().__init__(told)
        self._answers_tuple = answers_tuple
        self.features: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the map."""
        features, self.features = self.features, None
        return (features,) if self._answers_tuple else features


class _Nothing(nn.Module):
    """In the place of an embedding whose result nobody looks at."""

    def forward(self, ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return zero."""
        return torch.zeros((), device=ids.device)


class _AsIs(nn.Module):
    """In the place of a module whose result nobody looks at."""

    def forward(self, first: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what it was given."""
        return first


class _Tied(nn.Module):
    """A linear layer whose weight is that of an embedding, which it does not hold, nor does a copy made with that."""

    def __init__(self, embedding: nn.Embedding, bias: nn.Parameter | None) -> None:
        super().__init__()
        self._embedding = (embedding,)
        self.bias = bias

    def forward(self, features: Tensor) -> Tensor:
        """Return logits."""
        return F.linear(features, self._embedding[0].weight, self.bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        if id(self._embedding[0].weight) in memo:
            return _Tied(copy.deepcopy(self._embedding[0], memo), copy.deepcopy(self.bias, memo))
        weight = self._embedding[0].weight.detach()
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=self.bias is not None)
        made.weight = nn.Parameter(weight.clone())
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach().clone())
        return made


@contextmanager
def _nothing_packed() -> Iterator[None]:
    """Within, the package does not look at the numbers of positions for several sequences in one: there is one.

    Without numbers, on fake tensors, it would take a mask for granted that a real step does not have.
    """
    masks = importlib.import_module("transformers.masking_utils")
    theirs = getattr(masks, _LOOKS_FOR_PACKED, None)
    if theirs is None:
        yield
        return
    setattr(masks, _LOOKS_FOR_PACKED, lambda *_args, **_kwargs: None)
    try:
        yield
    finally:
        setattr(masks, _LOOKS_FOR_PACKED, theirs)


class Before(nn.Module):
    """What a model does with ids before its first layer."""

    remembers = True

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        super().__init__()
        self.model = _skeleton(model)
        for path in anatomy.after:
            _put(self.model, path, nn.Identity())
        self._layers = anatomy.layers
        self._traits = [_traits(layer) for layer in model.get_submodule(anatomy.layers).children()]
        self._answers_tuple = anatomy.answers_tuple
        self._put_layers([_Catch(self._traits[0])])

    def _put_layers(self, layers: list[nn.Module]) -> None:
        _put(self.model, self._layers, nn.ModuleList(layers))

    def forward(self, ids_BN: Tensor) -> Tensor:
        """Return the map `[B, N, D]` that comes to the first layer."""
        try:
            with _nothing_packed():
                self.model(input_ids=ids_BN, use_cache=False)
        except _CaughtError as caught:
            return caught.features
        raise AssertionError("the model came to no layer")

    def told(self, features_BND: Tensor) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return what each layer is told beside its map, for batches of this shape, type and place."""
        noted: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        answers_tuple = self._answers_tuple

        class Note(_StandIn):
            def forward(self, *args: Any, **kwargs: Any) -> Any:
                features = _features_of(args, kwargs)
                named = {name: value for name, value in kwargs.items() if name != "hidden_states"}
                noted.append((args[1:], named))
                return (features,) if answers_tuple else features

        ids = torch.zeros(features_BND.shape[:2], dtype=torch.int64, device=features_BND.device)
        self._put_layers([Note(traits) for traits in self._traits])
        try:
            with torch.no_grad(), _nothing_packed():
                self.model(input_ids=ids, use_cache=False)
        finally:
            self._put_layers([_Catch(self._traits[0])])
        assert len(noted) == len(self._traits), f"{len(noted)} of {len(self._traits)} layers ran"
        return noted


class Told:
    """What the layers of one model are told for each shape of a batch, asked once."""

    def __init__(self, before: Before) -> None:
        self._before = before
        self._known: dict[Any, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def of(self, number: int, features_BND: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what layer `number` is told."""
        key = (type(features_BND), tuple(features_BND.shape), features_BND.dtype, features_BND.device)
        if key not in self._known:
            self._known[key] = self._before.told(features_BND)
        return self._known[key][number]


class Layer(nn.Module):
    """One layer of a model, from map to map."""

    checkpoints_alone = True

    def __init__(self, layer: nn.Module, number: int, told: Told) -> None:
        super().__init__()
        self.layer = layer
        self._number = number
        self._told = told

    def forward(self, features_BND: Tensor) -> Tensor:
        """Return a map of the same shape."""
        args, kwargs = self._told.of(self._number, features_BND)
        found = self.layer(features_BND, *args, **kwargs)
        features: Tensor = found[0] if isinstance(found, tuple) else found
        return features

    def again(self) -> Layer:
        """Return another layer that is told the same, with a copy of the weights."""
        return Layer(copied(self.layer, lambda tensor: tensor.detach().clone()), self._number, self._told)


class After(nn.Module):
    """What a model does with the map of its last layer: logits `[B, V, N]` of next tokens, or `[B, classes]`."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, *, predicts_tokens: bool) -> None:
        super().__init__()
        self.model = _skeleton(model)
        self.classes_last = predicts_tokens
        tied = {id(part.weight): part for part in model.modules() if isinstance(part, nn.Embedding)}
        for path in anatomy.before:
            is_table = isinstance(model.get_submodule(path), nn.Embedding)
            _put(self.model, path, _Nothing() if is_table else _AsIs())
        for path, part in list(self.model.named_modules()):
            if isinstance(part, nn.Linear) and id(part.weight) in tied:
                _put(self.model, path, _Tied(tied[id(part.weight)], part.bias))
        first = next(model.get_submodule(anatomy.layers).children())
        self._give = _Give(_traits(first), answers_tuple=anatomy.answers_tuple)
        _put(self.model, anatomy.layers, nn.ModuleList([self._give]))

    def forward(self, features_BND: Tensor) -> Tensor:
        """Return logits."""
        give = next(part for part in self.model.modules() if isinstance(part, _Give))
        give.features = features_BND
        with _nothing_packed():
            logits: Tensor = self.model(inputs_embeds=features_BND.detach(), use_cache=False).logits
        return logits.movedim(-1, 1) if self.classes_last else logits


def anatomy_of(model: nn.Module, name: str, length: int) -> Anatomy:
    """Return where the layers of a model on the meta device are; its forward pass is watched once.

    Raises:
        ScenarioError: there is no list of layers that run one after the other, once each.
    """
    lists = {path: part for path, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part)}
    path = max(lists, key=lambda each: sum(p.numel() for p in lists[each].parameters()), default="")
    events: list[tuple[str, str]] = []
    answers: list[bool] = []
    layers = list(lists[path]) if path else []

    def watched(place: str) -> Callable[..., None]:
        return lambda _module, _args, _kwargs: events.append(("module", place))

    handles = [
        part.register_forward_pre_hook(watched(place), with_kwargs=True)
        for place, part in model.named_modules()
        if place and not any(place == root or place.startswith(f"{root}.") for root in (path,))
    ]
    told_weights: list[bool] = []

    def reached(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        events.append(("layer", ""))
        beside = (args[1:], kwargs) if args else {name: it for name, it in kwargs.items() if name != "hidden_states"}
        told_weights.append(any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(beside)))

    for layer in layers:
        handles.append(layer.register_forward_pre_hook(reached, with_kwargs=True))
        handles.append(layer.register_forward_hook(lambda _m, _i, found: answers.append(isinstance(found, tuple))))
    ids = torch.zeros((_FEWEST_IDS, length), dtype=torch.int64, device="meta")
    try:
        with _nothing_packed():
            model(input_ids=ids, use_cache=False)
    except Exception as failure:
        raise _refused(f"{name} cannot be taken apart: {failure_of(failure).reason}") from failure
    finally:
        for handle in handles:
            handle.remove()
    places = [place for place, (kind, _) in enumerate(events) if kind == "layer"]
    if not places or len(places) != len(layers) or len(set(answers)) != 1:
        raise _refused(f"{name} has no list of layers that run one after the other, once each")
    if any(told_weights):
        raise _refused(f"{name} tells its layers, beside their map, what hangs on weights outside of them")
    before = {where for kind, where in events[: places[0]] if kind == "module"}
    after = {where for kind, where in events[places[-1] :] if kind == "module"}
    around = {where for where in before | after if f"{path}.".startswith(f"{where}.")}
    return Anatomy(path, answers[0], _leaves(before - after - around), _leaves(after - before - around))


def check_parts(chain: nn.Module, model: nn.Module, name: str, spec: InputSpec) -> None:
    """Compare what the parts of a model answer, one after the other, with what it answers as a whole.

    On the meta device only the shapes can be compared.

    Raises:
        ScenarioError: the parts do not run, or answer otherwise.
    """
    device = next(model.parameters()).device
    length, vocabulary = spec.shape[0], spec.vocabulary
    assert vocabulary is not None
    ids = (torch.arange(_FEWEST_IDS * length, device=device) * _STRIDE % vocabulary).reshape(_FEWEST_IDS, length)
    chain.eval()
    model.eval()
    try:
        with torch.no_grad(), _nothing_packed():
            expected = model(input_ids=ids, use_cache=False).logits
            found = chain(ids)
    except Exception as failure:
        raise _refused(f"{name} cannot be taken apart: {failure_of(failure).reason}") from failure
    finally:
        chain.train()
        model.train()
    expected = expected.movedim(-1, 1) if spec.predicts_tokens else expected
    same = found.shape == expected.shape
    if not same or not (device.type == "meta" or torch.allclose(found, expected, atol=1e-5, equal_nan=True)):
        raise _refused(f"{name} cannot be taken apart: its parts answer otherwise than the whole")


def _traits(layer: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a layer, such as which kind of attention it has."""
    plain = (bool, int, float, str)
    return {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, plain) and not name.startswith("_") and name != "training"
    }


def _leaves(paths: set[str]) -> frozenset[str]:
    """Return the paths below which there are no others of them."""
    return frozenset(path for path in paths if not any(other.startswith(f"{path}.") for other in paths))


def _refused(finding: str) -> ScenarioError:
    hint = "use another configuration, or gpt or bert"
    return ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])


def _skeleton(module: nn.Module) -> nn.Module:
    """Return a module with the same tensors, whose own submodules can be replaced."""
    made = copy.copy(module)
    made._parameters = dict(module._parameters)
    made._buffers = dict(module._buffers)
    made._modules = {name: None if part is None else _skeleton(part) for name, part in module._modules.items()}
    return made


def _put(module: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, name, part)
