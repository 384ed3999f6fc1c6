"""Width scaling as pure functions: which scalars of the global model a thin one holds, and means over what overlaps.

A thin model keeps k of the n channels of each layer, the same ones wherever that layer's output is read: the leading
ones (HeteroFL, Diao, Ding and Tarokh, ICLR 2021, section 3, https://arxiv.org/abs/2010.01264) or a window that rolls
over all of them (FedRolex, Alam et al., NeurIPS 2022, section 3, https://arxiv.org/abs/2212.01548). A tensor's slice
is the product of one index set per dimension; dimensions of equal size (image channels, classes) stay whole.

Of the architectures here it is known how their channels lie. Any other network is followed (`thin_axes`): maps side by
side, fused projections, gates and heads have places of their own, and a network that cannot be followed is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from neulite_sim.later import Tensor, nn, torch
from neulite_sim.methods.dimension import Axis, Dimension

if TYPE_CHECKING:
    from neulite_sim.methods.logits import Classifier
    from neulite_sim.models.contract import Blueprint

Indices: TypeAlias = "tuple[Tensor | None, ...]"
"""Per dimension the positions that are held, in the order of the slice; None for all of them."""

THINNEST = 1e-9
"""A width at which every scaled layer is down to one channel, so that sizes show what does not scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the tensors of thin models lie in those of the global one.

    `axes[name]` has a `Dimension` each, `shapes[submodel][name]` is the thin tensor's shape. `classifier` names the
    tensors whose rows are classes: weight and bias of the layers that make the logits. There are none where these read
    the weight of another layer, as with a tied embedding.
    """

    axes: Mapping[str, tuple[Axis, ...]]
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
    classifier: frozenset[str]

    def indices(self, submodel: str, name: str, offset: int = 0) -> Indices:
        """Return which scalars of the global tensor `name` the submodel holds, its window starting at `offset`."""
        shape = self.shapes[submodel][name]
        return tuple(axis.held(size, offset) for axis, size in zip(self.axes[name], shape, strict=True))

    def taken(self, tensors: Mapping[str, Tensor], submodel: str, offset: int = 0) -> dict[str, Tensor]:
        """Return the submodel's tensors out of the global ones."""
        return {name: take(tensors[name], self.indices(submodel, name, offset)) for name in self.shapes[submodel]}


def layout(blueprint: Blueprint, rates: Mapping[str, float]) -> Layout:
    """Return where the submodels of `rates`, widths relative to the blueprint's own, lie in its model.

    Raises:
        ScenarioError: that cannot be told.
    """
    if is_ours(blueprint):
        axes = _known_axes(blueprint)
    else:
        from neulite_sim.methods.thin_axes import axes_of

        axes = axes_of(blueprint, tuple(rates.values()))
    shapes = {submodel: _shapes(blueprint.at_width(blueprint.width * rate).look()) for submodel, rate in rates.items()}
    return Layout(axes=axes, shapes=shapes, classifier=classifier_of(blueprint).rows)


def is_ours(blueprint: Blueprint) -> bool:
    """Return whether an architecture is one of those here, and not a network that was handed over."""
    from neulite_sim.models.given import GivenArchitecture

    architecture: object = blueprint.architecture
    while isinstance(architecture, functools.partial):
        architecture = architecture.func
    return architecture.__module__.startswith("neulite_sim.") and not isinstance(architecture, GivenArchitecture)


def _known_axes(blueprint: Blueprint) -> dict[str, tuple[Axis, ...]]:
    """Return the dimensions of the tensors of an architecture of those here.

    What of a dimension does not scale shows in the thinnest model. It lies around the channels where a convolution
    reads maps side by side, and within them everywhere else: flattened pixels, and heads, which `vit` interleaves.
    """
    thinnest = _shapes(blueprint.at_width(THINNEST).look())
    axes: dict[str, tuple[Axis, ...]] = {}
    for name, shape in _shapes(blueprint.look()).items():
        pairs = zip(shape, thinnest[name], strict=True)
        axes[name] = tuple(
            _axis(size, fixed, is_concatenated=dimension == 1 and len(shape) == 4)
            for dimension, (size, fixed) in enumerate(pairs)
        )
    return axes


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def _axis(size: int, fixed: int, *, is_concatenated: bool) -> Dimension:
    if size % fixed:
        return Dimension(size)
    return Dimension(size // fixed, outer=fixed) if is_concatenated else Dimension(size // fixed, inner=fixed)


def classifier_of(blueprint: Blueprint) -> Classifier:
    """Return the layers that make the logits: the last one of an architecture here, found by following any other.

    Raises:
        ScenarioError: a network of others cannot be followed.
    """
    from neulite_sim.methods import logits, thin_axes

    if not is_ours(blueprint):
        found: Classifier = thin_axes.classifier_of(blueprint)
        return found
    model = blueprint.look()
    path = classifier_path(model)
    if not path:
        return logits.Classifier(layers=frozenset(), rows=frozenset())
    tensors = dict(model.get_submodule(path).named_parameters(recurse=False))
    rows = (f"{path}.{name}" for name, tensor in tensors.items() if tensor.shape[0] == blueprint.num_classes)
    return logits.Classifier(layers=frozenset({path}), rows=frozenset(rows))


def classifier_path(model: nn.Module) -> str:
    """Return the path of the layer that makes the logits: the last linear or convolutional one of the head.

    That of the model where the head has no weights at all; "" where it has some, but reads those of another layer.
    """
    from neulite_sim.methods import logits

    paths: list[str] = [path for path, layer in model.named_modules() if isinstance(layer, logits.LAYERS)]
    head = model.get_submodule("head") if hasattr(model, "head") else None
    if head is not None and any(True for _ in head.parameters()):
        paths = [path for path in paths if f"{path}.".startswith("head.")]
    return paths[-1] if paths else ""


def take(tensor: Tensor, indices: Indices) -> Tensor:
    """Return the slice of `tensor` at the product of `indices`; the tensor itself where it is held whole."""
    for dimension, held in enumerate(indices):
        if held is not None:
            tensor = tensor.index_select(dimension, held)
    return tensor


def _advanced(tensor: Tensor, indices: Indices) -> tuple[Tensor, ...]:
    """Return index tensors that broadcast to the product of `indices`; trailing whole dimensions are left out."""
    num_indexed = max((dimension + 1 for dimension, held in enumerate(indices) if held is not None), default=0)
    every = (
        torch.arange(size) if held is None else held
        for size, held in zip(tensor.shape[:num_indexed], indices, strict=False)
    )
    return tuple(held.view(-1, *[1] * (num_indexed - 1 - dimension)) for dimension, held in enumerate(every))


class OverlapMean:
    """Running mean per scalar over the slices that hold it, in double precision and in the order given.

    Memory is two models, however many slices are added. Scalars that no slice held keep their old value.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._old = tensors
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(self, name: str, indices: Indices, part: Tensor, weight: float = 1.0) -> None:
        """Add the slice `part` of tensor `name`, whose scalars lie at the product of `indices`."""
        old = self._old[name]
        if name not in self._sums:
            self._sums[name] = torch.zeros(old.shape, dtype=torch.float64)
            self._weights[name] = torch.zeros(old.shape, dtype=torch.float64)
        where = _advanced(old, indices)
        if not where:
            self._sums[name].add_(part, alpha=weight)
            self._weights[name].add_(weight)
        else:
            self._sums[name][where] += part.double() * weight
            self._weights[name][where] += weight

    def weights(self, name: str) -> Tensor:
        """Return the total weight that each scalar of a tensor has received so far, in the tensor's shape."""
        return self._weights.get(name, torch.zeros(self._old[name].shape, dtype=torch.float64))

    def result(self) -> dict[str, Tensor]:
        """Return the tensors with every held scalar replaced by its mean, in the old order and types."""
        return {name: self._mean(name) if name in self._sums else old for name, old in self._old.items()}

    def _mean(self, name: str) -> Tensor:
        old, weights = self._old[name], self._weights[name]
        return torch.where(weights > 0, self._sums[name] / weights, old.double()).to(old.dtype)


def with_rows(indices: Indices, part: Tensor, rows: Sequence[int]) -> tuple[Indices, Tensor]:
    """Return a slice reduced to some rows of its first dimension, which must be whole: a classifier's owned labels."""
    assert indices[0] is None, "rows can be chosen only where all are there"
    chosen = torch.tensor(rows, dtype=torch.int64)
    return (chosen, *indices[1:]), part[chosen]
