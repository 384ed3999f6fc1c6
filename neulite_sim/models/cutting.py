"""Where somebody's module can be cut: the places in its `forward` at which one tensor holds all that is needed later.

A module is followed from the outside in (`tracing`): its own `forward` first, then those of the submodules that it
applies to nothing but the map before, as long as they are sequences or hold much of the network. What branches and
meets again, what is changed in place and what shares a parameter stays together. Nothing is rewritten that is not cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from neulite_sim.models.failures import Failure, failure_of
from neulite_sim.models.map_axes import Shapes, batch_axis, channels_of, map_order
from neulite_sim.models.traced import BATCHES, OpaqueError, Values, value_of
from neulite_sim.models.tracer import Recording, holds_tensors
from neulite_sim.models.tracing import recorded
from neulite_sim.samples import Shape

LARGE = 0.4
"""Share of a network's weights from which on a submodule is looked into though it is no sequence."""
_FOLLOWS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU, nn.Embedding)
"""Layers with weights that stay with the layer before; embeddings, as those of positions go with those of tokens."""
_PRODUCTS = frozenset({
    "addmm", "baddbmm", "bmm", "conv1d", "conv2d", "conv3d", "einsum", "linear", "matmul", "mm", "tensordot",
})  # fmt: skip
"""Functions that make a layer of a parameter which no submodule holds; one that is added joins the layer before."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A `forward` as it was recorded in training and in evaluation, operation for operation the same."""

    path: str
    recordings: dict[bool, Recording]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Leaf:
    """Operations `begin` to `end` - 1 of a level, between two places where one tensor is alive.

    They read the value of operation `source` (-1: the level's input) and put out that of `result`. `shapes` are those
    of the output with the batch, at both sizes. `layers` are the modules with weights.
    """

    level: Level
    begin: int
    end: int
    source: int
    result: int
    shapes: Shapes
    shape_before: Shape
    is_glued: bool
    """Whether it changes what it reads in place, so that it stays with the leaf before."""
    modules: tuple[str, ...]
    last_kind: str
    """Class of the last module called; empty where none was."""
    channels: tuple[int, bool] | None
    layers: tuple[nn.Module, ...]
    tensors: frozenset[int]
    has_own_parameters: bool
    multiplies: bool
    """Whether a parameter of its own may be a layer's matrix."""

    @property
    def shape(self) -> Shape:
        """Shape of the output with the first batch size."""
        return self.shapes[0]

    @property
    def has_weights(self) -> bool:
        """Whether it holds parameters."""
        return bool(self.layers) or self.has_own_parameters

    @property
    def begins_layer(self) -> bool:
        """Whether it holds more than what follows another layer, and may be parted from that."""
        is_more = any(not isinstance(layer, _FOLLOWS) for layer in self.layers)
        return not self.is_glued and (is_more or (self.has_own_parameters and self.multiplies))


@dataclass(frozen=True, slots=True)
class Span:
    """Leaves `begin` to `end` - 1 are all of the module at `path`: it may be called in their place."""

    path: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Course:
    """The leaves of a module in order, the submodules that they make up, and why others were not looked into."""

    leaves: tuple[Leaf, ...]
    spans: tuple[Span, ...]
    closed: tuple[tuple[str, Failure], ...]
    outputs: Values
    """What it comes to at both batch sizes, on the meta device."""

    def orders(self) -> tuple[tuple[int, ...], ...]:
        """Return, for each leaf, the order of dimensions that makes a map of its output; empty where it is one."""
        orders, channels = [], None
        for leaf in self.leaves:
            channels = leaf.channels or channels
            orders.append(map_order(leaf.shapes, channels))
        return tuple(orders)


def course_of(root: nn.Module, inputs: Values, looked_into: Collection[str] | None = None) -> Course:
    """Return the course of a module on the meta device, to be called within `without_numbers`.

    Where `looked_into` is given, it says which submodules are: as another network of the same kind was.

    Raises:
        Exception: its own `forward` cannot be followed.
    """
    require_plain(root)
    found = _Follower(root, looked_into).follow(root, "", inputs)
    for level in {leaf.level for leaf in found.leaves}:
        for recording in level.recordings.values():
            recording.let_go()
    return found


def require_plain(module: nn.Module) -> None:
    """Refuse a module that does something beside its `forward`.

    Raises:
        OpaqueError: saying what.
    """
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        raise OpaqueError("it has hooks")
    if "forward" in vars(module):
        raise OpaqueError("its forward was replaced")
    if type(module).train is not nn.Module.train or type(module).__call__ is not nn.Module.__call__:
        raise OpaqueError("it has a train or a __call__ of its own")


class _Follower:
    """Follows a module from the outside in."""

    def __init__(self, root: nn.Module, looked_into: Collection[str] | None) -> None:
        self._root = root
        self._decided = looked_into
        self._whole = sum(parameter.numel() for parameter in root.parameters())

    def follow(self, module: nn.Module, path: str, inputs: Values) -> Course:
        """Return the course of a module of the root's that reads `inputs`."""
        calls: list[fx.Node] = []
        inner: dict[fx.Node, Course | Failure] = {}

        def look_into(node: fx.Node) -> Values | None:
            calls.append(node)
            child = module.get_submodule(str(node.target))
            read = node.args[0] if len(node.args) == 1 and not node.kwargs else None
            place = _below(path, str(node.target))
            if not self._looked_into(child, place):
                return None
            try:
                require_plain(child)
            except OpaqueError as failure:
                inner[node] = failure_of(failure)
                return None
            if not isinstance(read, fx.Node):
                inner[node] = Failure("it is called with something else than one tensor by its place")
                return None
            try:
                found = self.follow(child, place, value_of(read))
            except Exception as failure:  # Whatever goes wrong inside, the whole can be called.
                inner[node] = failure_of(failure)
                return None
            finally:
                child.train(True)
            inner[node] = found
            return found.outputs

        def as_in_training(node: fx.Node) -> Values | None:
            known = next(waiting, None)
            return value_of(known) if known is not None and known.target == node.target else None

        training = recorded(module.train(True), inputs, look_into)
        waiting = iter(calls)
        evaluation = recorded(module.train(False), inputs, as_in_training)
        if _outline(training) != _outline(evaluation):
            raise OpaqueError("it does something else in training than in evaluation")
        return self._parted(Level(path, {True: training, False: evaluation}), inner)

    def _parted(self, level: Level, inner: Mapping[fx.Node, Course | Failure]) -> Course:
        """Return the course of a level, with those of the submodules that are segments by themselves in their place."""
        training = level.recordings[True]
        leaves: list[Leaf] = []
        spans: list[Span] = []
        closed: list[tuple[str, Failure]] = []
        for segment in _segments(level.recordings):
            node = training.operations[segment.begin]
            found = inner.get(node) if segment.end == segment.begin + 1 and node.args == (segment.read,) else None
            if isinstance(found, Course):
                begin = len(leaves)
                leaves += [replace(leaf, is_glued=leaf.is_glued or (segment.is_glued and number == 0))
                           for number, leaf in enumerate(found.leaves)]  # fmt: skip
                spans += [Span(span.path, span.begin + begin, span.end + begin) for span in found.spans]
                spans.append(Span(_below(level.path, str(node.target)), begin, len(leaves)))
                closed += found.closed
                continue
            for closed_node in training.operations[segment.begin : segment.end]:
                if isinstance(failure := inner.get(closed_node), Failure):
                    closed.append((_below(level.path, str(closed_node.target)), failure))
            leaves.append(self._leaf(level, segment))
        if not leaves:
            raise OpaqueError("it does nothing")
        return Course(leaves=tuple(leaves), spans=tuple(spans), closed=tuple(closed), outputs=value_of(training.result))

    def _looked_into(self, module: nn.Module, path: str) -> bool:
        if self._decided is not None:
            return path in self._decided
        if type(module).forward is nn.Sequential.forward or isinstance(module, nn.TransformerEncoder):
            return any(True for _ in module.children())
        is_foreign = not type(module).__module__.startswith("torch.nn")
        own = sum(parameter.numel() for parameter in module.parameters())
        return is_foreign and any(True for _ in module.children()) and own > LARGE * self._whole

    def _leaf(self, level: Level, segment: _Segment) -> Leaf:
        recording = level.recordings[True]
        operations = recording.operations[segment.begin : segment.end]
        modules = tuple(_below(level.path, str(node.target)) for node in operations if node.op == "call_module")
        called = [self._root.get_submodule(path) for path in modules]
        read = [_tensor_at(self._root, _below(level.path, str(node.target))) for node in _read_by(operations)]
        first, second = recording.value(segment.result)
        # A buffer that is only read may be read in several blocks.
        own = [tensor for tensor in read if isinstance(tensor, nn.Parameter)]
        return Leaf(
            level=level,
            begin=segment.begin,
            end=segment.end,
            source=segment.source,
            result=segment.result,
            shapes=(tuple(first.shape), tuple(second.shape)),
            shape_before=tuple(recording.value(segment.source)[0].shape),
            is_glued=segment.is_glued,
            modules=modules,
            last_kind=type(called[-1]).__name__ if called else "",
            channels=next(filter(None, map(channels_of, reversed(called))), None),
            layers=tuple(part for module in called for part in module.modules() if part._parameters),
            tensors=frozenset(map(id, (*own, *(tensor for module in called for tensor in _held(module))))),
            has_own_parameters=bool(own),
            multiplies=any(_name(node) in _PRODUCTS for node in operations),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """Operations between two cuts, and the places of the value that they read and of the one that they put out."""

    begin: int
    end: int
    source: int
    result: int
    read: fx.Node
    is_glued: bool


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _outline(recording: Recording) -> list[tuple[str, str]]:
    return [(node.op, str(node.target)) for node in recording.operations]


def _segments(recordings: Mapping[bool, Recording]) -> Iterator[_Segment]:
    training = recordings[True]
    found, other = (_crossings(recordings[mode]) for mode in (True, False))
    begin, source, is_glued = 0, -1, False
    count = len(training.operations)
    for position in range(1, count + 1):
        crossing = found[position]
        if position == count:
            crossing = training.operations.index(training.result), False
        elif crossing is None or crossing != other[position]:
            continue
        read = training.source if source < 0 else training.operations[source]
        yield _Segment(begin, position, source, crossing[0], read, is_glued)
        begin, (source, is_glued) = position, crossing


def _crossings(recording: Recording) -> list[tuple[int, bool] | None]:
    """Return, for each number of operations, the only value of theirs that is needed behind them; None: several.

    With it, whether it is changed in place behind them.
    """
    nodes = (recording.source, *recording.operations)
    places = {node: place for place, node in enumerate(nodes, start=-1)}
    count = len(recording.operations)
    last_use = {place: max((places.get(user, -1) for user in node.users), default=-1) for node, place in places.items()}
    last_use[places[recording.result]] = count
    found: list[tuple[int, bool] | None] = [None] * (count + 1)
    for position in range(1, count):
        alive = [place for place in range(-1, position) if last_use[place] >= position]
        tensors = [place for place in alive if holds_tensors(recording.value(place)[0])]
        if len(tensors) != 1 or tensors[0] < 0:
            continue
        crossing = tensors[0]
        first, second = recording.value(crossing)
        others = (recording.value(place) for place in alive if place != crossing)
        if (
            isinstance(first, Tensor)
            and first.is_floating_point()
            and batch_axis((tuple(first.shape), tuple(second.shape))) is not None
            and all(_is_known_from(first, other) for other in others)
        ):
            found[position] = crossing, any(crossing in changed for changed in recording.changed[position:])
    return found


def _is_known_from(map_before: Tensor, values: Values) -> bool:
    """Return whether a value that is no tensor can be had from a map: the batch's size, its device or its type."""
    if values == BATCHES or isinstance(values[0], torch.device):
        return True
    return isinstance(values[0], torch.dtype) and values[0] == map_before.dtype


def _read_by(operations: Iterable[fx.Node]) -> list[fx.Node]:
    nodes = (node for operation in operations for node in operation.all_input_nodes if node.op == "get_attr")
    return list(dict.fromkeys(nodes))


def _tensor_at(root: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def _held(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
