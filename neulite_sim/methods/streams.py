"""Which axes of a model's tensors are the same channels: what one layer puts out and what others read of it.

Channels that pass from layer to layer, through BatchNorm, additions and concatenations, are one *stream*; the axes of
all tensors that write to it, read it or act on it must hold the same ones. They are found by running the model once
and following each axis through every operator (below autograd, where there are few kinds).
Where an operator is met that does with channels what is not known here, all axes of equally many channels are taken
for one stream: coarser, but as consistent as FedRolex's windows, which have one place for each number of channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from neulite_sim.methods.dimension import Joined
from neulite_sim.models.light_mode import LightMode
from neulite_sim.models.noise import noise

if TYPE_CHECKING:
    from neulite_sim.methods.dimension import Axis, Dimension
    from neulite_sim.models.contract import Blueprint

Streams: TypeAlias = "dict[str, tuple[tuple[int, ...], ...]]"
"""Per tensor and dimension the streams of the maps that lie side by side in it; none for one that does not scale."""

_Label: TypeAlias = "tuple[int, ...] | None"
_Labels: TypeAlias = "tuple[_Label, ...]"
_Arguments: TypeAlias = "Mapping[str, Any]"

_NUM_SAMPLES = 2
"""More than one, so that the batch is told from dimensions of one."""


def streams(blueprint: Blueprint, axes: Mapping[str, tuple[Axis, ...]]) -> tuple[Streams, tuple[int, ...]]:
    """Return the streams of a model whose tensors have these axes, and how many channels each stream has.

    They are numbered in the order of the tensors. Axes that were followed already say whose channels they have. On the
    meta device, where nobody is ever sent anything, all axes of equally many channels of the others are one stream.
    """
    known = {name: tuple(axis.streams for axis in each) for name, each in axes.items()}
    if any(itertools.chain.from_iterable(known.values())):
        every = itertools.chain.from_iterable(axes.values())
        channels = {
            run: count for axis in every for run, count in zip(axis.streams, axis.channels_of_maps, strict=False)
        }
        return _numbered(known, lambda number: number, channels.__getitem__)
    return _streams_in(blueprint, {name: tuple(map(_plain, each)) for name, each in axes.items()})


def _plain(axis: Axis) -> Dimension:
    assert not isinstance(axis, Joined), "only what was followed has maps that differ"
    return axis


def _streams_in(blueprint: Blueprint, axes: Mapping[str, tuple[Dimension, ...]]) -> tuple[Streams, tuple[int, ...]]:
    tracer = _Tracer()
    model = blueprint.build_seeded(0).eval()
    own = model.state_dict(keep_vars=True)
    by_number = {name: tuple(map(_by_number, axis)) for name, axis in axes.items()}
    if any(tensor.is_meta for tensor in own.values()):
        # For a forward pass without real tensors PyTorch imports its compiler, which takes far longer.
        return _numbered(by_number, lambda number: number, lambda number: number)
    nodes = {name: tracer.begin(own[name], axis) for name, axis in axes.items()}
    # In PyTorch's default layout: in others some kernels restride their results, which cannot be followed.
    inputs = noise(blueprint.spec, _NUM_SAMPLES, generator=torch.Generator()).contiguous()
    if not tracer.follows(model, inputs):
        return _numbered(by_number, lambda number: number, lambda number: number)
    return _numbered(nodes, tracer.root, tracer.channels.__getitem__)


def _by_number(axis: Dimension) -> tuple[int, ...]:
    return (axis.channels,) * axis.outer if axis.channels > 1 else ()


def _numbered(
    nodes: Mapping[str, tuple[tuple[int, ...], ...]], root: Callable[[int], int], channels: Callable[[int], int]
) -> tuple[Streams, tuple[int, ...]]:
    numbers: dict[int, int] = {}
    found = {
        name: tuple(tuple(numbers.setdefault(root(node), len(numbers)) for node in axis) for axis in labels)
        for name, labels in nodes.items()
    }
    return found, tuple(map(channels, numbers))


class _UnclearError(Exception):
    """An operator does with channels what is not known here."""


class _Tracer(LightMode):
    """Dispatch mode that labels the dimensions of tensors: each may be a row of maps, and each map is of one stream."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.channels: list[int] = []
        self._parents: list[int] = []
        self._labels: dict[int, tuple[Tensor, _Labels]] = {}

    def begin(self, tensor: Tensor, axes: Sequence[Dimension]) -> tuple[tuple[int, ...], ...]:
        """Label a parameter or buffer, each map of each axis that scales as a stream of its own; return the labels."""
        labels = [self._fresh(axis.channels, axis.outer) if axis.channels > 1 else () for axis in axes]
        self._put(tensor, [label or None for label in labels])
        return tuple(labels)

    def _fresh(self, channels: int, count: int) -> tuple[int, ...]:
        nodes = range(len(self._parents), len(self._parents) + count)
        self._parents += nodes
        self.channels += [channels] * count
        return tuple(nodes)

    def root(self, node: int) -> int:
        """Return the node that stands for the stream of a node."""
        while self._parents[node] != node:
            node = self._parents[node]
        return node

    def _put(self, tensor: Tensor, labels: Sequence[_Label]) -> None:
        # Together with the tensor, so that no other takes its id.
        self._labels[id(tensor)] = tensor, tuple(labels)

    def of(self, tensor: Tensor) -> _Labels:
        """Return the label of each dimension of a tensor."""
        found = self._labels.get(id(tensor))
        return found[1] if found else (None,) * tensor.ndim

    def width(self, label: tuple[int, ...]) -> int:
        """Return how many channels lie in a dimension."""
        return sum(self.channels[node] for node in label)

    def join(self, *labels: _Label) -> _Label:
        """Make dimensions one that hold the same channels; one without a label has nothing to say."""
        given = [label for label in labels if label is not None]
        for other in given[1:]:
            if [self.channels[node] for node in given[0]] != [self.channels[node] for node in other]:
                raise _UnclearError
            for pair in zip(map(self.root, given[0]), map(self.root, other), strict=True):
                self._parents[max(pair)] = min(pair)
        return given[0] if given else None

    def read(self, one: _Label, two: _Label) -> None:
        """Make two dimensions one that are multiplied and summed over: both are labelled, or neither is."""
        if (one is None) != (two is None):
            raise _UnclearError
        self.join(one, two)

    def aligned(self, tensors: Sequence[Tensor], out: Tensor) -> Sequence[_Label]:
        """Return the labels of a result whose inputs are aligned by their last dimensions."""
        labels: list[_Label] = [None] * out.ndim
        for tensor in tensors:
            if tensor.ndim > out.ndim:
                raise _UnclearError
            for place, label in enumerate(self.of(tensor), start=out.ndim - tensor.ndim):
                labels[place] = self.join(labels[place], label)
        return labels

    def follows(self, model: nn.Module, inputs: Tensor) -> bool:
        """Follow a forward pass; return whether every operator in it was understood."""
        try:
            with torch.no_grad(), self:
                model(inputs)
        except _UnclearError:
            return False
        return True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operator and label what it puts out first, which is all that the next ones read."""
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        inputs, outs = (
            [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)] for given in ((args, kwargs), result)
        )
        if outs and any(label is not None for tensor in inputs for label in self.of(tensor)):
            out = outs[0]
            labels = self._after(func, args, kwargs, inputs, out)
            for label, size in zip(labels, out.shape, strict=True):
                if label is not None and size % self.width(label):
                    raise _UnclearError
            self._put(out, labels)
        return result

    def _after(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor], out: Tensor
    ) -> Sequence[_Label]:
        rule = _RULES.get(func._overloadpacket.__name__)
        if rule is not None:
            names = (argument.name for argument in func._schema.arguments)
            return rule(self, {**dict(zip(names, args, strict=False)), **kwargs}, out)
        if torch.Tag.pointwise in func.tags:
            return self.aligned(inputs, out)
        raise _UnclearError(str(func))


def _alike(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    return known.aligned([of.get("self", of.get("input"))], out)


def _convolution(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Let the weight's first dimension be written, its second one be read; a depthwise one reads what it writes."""
    maps, weight, groups = known.of(of["input"]), known.of(of["weight"]), of["groups"]
    is_depthwise = groups == of["input"].shape[1] == out.shape[1]
    if of["transposed"] or (groups > 1 and not is_depthwise):
        raise _UnclearError
    known.read(maps[1], weight[0] if groups > 1 else weight[1])
    bias = known.of(of["bias"])[0] if of.get("bias") is not None else None
    return (maps[0], known.join(weight[0], bias), *[None] * (out.ndim - 2))


def _channel_norm(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Let BatchNorm and GroupNorm act on the second dimension."""
    maps = known.of(of["input"])
    own = (of.get(name) for name in ("weight", "bias", "running_mean", "running_var"))
    label = known.join(maps[1], *(known.of(tensor)[0] for tensor in own if tensor is not None))
    return (maps[0], label, *maps[2:])


def _layer_norm(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    tensors = (of.get(name) for name in ("input", "weight", "bias"))
    return known.aligned([tensor for tensor in tensors if tensor is not None], out)


def _product(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Sum over the last dimension of one matrix and the last but one of the other."""
    one, two = (of.get("mat1", of.get("batch1")), of.get("mat2", of.get("batch2")))
    factors = [of["self"], two] if one is None else [one, two]
    first, second = map(known.of, factors)
    known.read(first[-1], second[-2])
    batch = (known.join(*pair) for pair in zip(first[:-2], second[:-2], strict=True))
    labels = (*batch, first[-2], second[-1])
    added = (None,) * out.ndim if one is None else known.of(of["self"])
    added = (None,) * (out.ndim - len(added)) + added
    return [known.join(*pair) for pair in zip(labels, added, strict=True)]


def _embedding(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    rows, channels = known.of(of["weight"])
    if rows is not None:
        raise _UnclearError
    return (*[None] * (out.ndim - 1), channels)


def _attention(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Sum over the last dimension of queries and keys and keep that of values."""
    query, key, value = (known.of(of[name]) for name in ("query", "key", "value"))
    known.read(query[-1], key[-1])
    return (*query[:-1], value[-1])


def _reshaped(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Merge or split dimensions; of those that are, channels must lie outermost."""
    shape, before = of["self"].shape, known.of(of["self"])
    labels: list[_Label] = [None] * out.ndim
    for group in _groups(shape, out.shape):
        pairs = zip(group, (shape, out.shape), strict=True)
        old, new = ([place for place in part if size[place] > 1] for part, size in pairs)
        label = before[old[0]] if old else None
        if any(before[place] is not None for place in old[1:]):
            raise _UnclearError
        if label is None:
            continue
        is_split, is_merged = len(new) > 1, len(old) > 1
        if (is_split and out.shape[new[0]] != known.width(label)) or ((is_split or is_merged) and len(label) > 1):
            raise _UnclearError
        labels[new[0]] = label
    return labels


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest groups of dimensions, before and after, that hold the same numbers."""
    before = after = 0
    while before < len(old) and after < len(new):
        first, second, products = [before], [after], [old[before], new[after]]
        while products[0] != products[1]:
            if products[0] < products[1]:
                first.append(first[-1] + 1)
                products[0] *= old[first[-1]]
            else:
                second.append(second[-1] + 1)
                products[1] *= new[second[-1]]
        yield first, second
        before, after = first[-1] + 1, second[-1] + 1


def _permuted(known: _Tracer, of: _Arguments, _out: Tensor) -> Sequence[_Label]:
    labels = list(known.of(of["self"]))
    if "dims" in of:
        return [labels[place] for place in of["dims"]]
    one, two = of.get("dim0", 0), of.get("dim1", -1)
    labels[one], labels[two] = labels[two], labels[one]
    return labels


def _reduced(known: _Tracer, of: _Arguments, _out: Tensor) -> Sequence[_Label]:
    """Leave out the dimensions that are summed over."""
    labels = known.of(of["self"])
    given = of.get("dim")
    gone = range(len(labels)) if given is None or given == [] else [given] if isinstance(given, int) else given
    places = {place % len(labels) for place in gone}
    if of.get("keepdim", False):
        return [None if place in places else label for place, label in enumerate(labels)]
    return [label for place, label in enumerate(labels) if place not in places]


def _windowed(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Let pooling and slices change the sizes of some dimensions and leave the channels as they are."""
    labels = known.of(of["self"])
    sizes = zip(labels, of["self"].shape, out.shape, strict=True)
    if any(label is not None and before != after for label, before, after in sizes):
        raise _UnclearError
    return labels


def _concatenated(known: _Tracer, of: _Arguments, out: Tensor) -> Sequence[_Label]:
    """Return the labels of maps side by side in one dimension; all others are the same channels in each."""
    tensors, place = of["tensors"], of.get("dim", 0) % out.ndim
    columns = list(zip(*map(known.of, tensors), strict=True))
    labels = [None if number == place else known.join(*column) for number, column in enumerate(columns)]
    parts = [label for label in columns[place] if label is not None]
    if parts:
        widths = [tensor.shape[place] for tensor in tensors]
        if len(parts) < len(tensors) or widths != [known.width(label) for label in parts]:
            raise _UnclearError
        labels[place] = tuple(itertools.chain.from_iterable(parts))
    return labels


_Rule: TypeAlias = "Callable[[_Tracer, _Arguments, Tensor], Sequence[_Label]]"
_NAMES: Mapping[_Rule, str] = {
    _alike: "_softmax _log_softmax native_dropout clone alias detach expand contiguous copy_ _to_copy hardswish",
    _convolution: "convolution",
    _channel_norm: "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "_native_batch_norm_legit_functional _batch_norm_no_update cudnn_batch_norm native_group_norm",
    _layer_norm: "native_layer_norm",
    _product: "mm bmm addmm baddbmm",
    _embedding: "embedding",
    _attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_fused_attention_overrideable",
    _reshaped: "view _unsafe_view reshape unsqueeze squeeze flatten",
    _permuted: "permute transpose t",
    _reduced: "mean sum amax",
    _windowed: "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d max_pool2d slice "
    "constant_pad_nd upsample_nearest2d upsample_bilinear2d",
    _concatenated: "cat",
}
_RULES: Mapping[str, _Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""What is known of operators that are not pointwise: the labels of what they put out, by their arguments."""
