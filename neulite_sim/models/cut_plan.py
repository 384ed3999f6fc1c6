"""A module's course as a chain of parts and a head, and the `BlockModel` that it is when cut between some of them.

A part begins where a layer with weights does; what normalises, activates or pools stays with the layer before. The head
begins with the last classifier: its pooling and flattening, and its linear layers, the hidden ones too where they read
vectors and something else comes before them (docs/decisions/0044).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from neulite_sim.models.balancing import balanced_cuts, burden
from neulite_sim.models.basic_layer import BasicLayer, block_model
from neulite_sim.models.chain_layers import layers_of
from neulite_sim.models.contract import BlockModel, Layers
from neulite_sim.models.cutting import Course, Leaf, Level, course_of
from neulite_sim.models.failures import failure_of
from neulite_sim.models.heads import begin_of_head, keeps_tensors_apart, may_be_cut
from neulite_sim.models.map_axes import inverse
from neulite_sim.models.soundness import SoftmaxWatch, refused, require_logits, require_shape
from neulite_sim.models.stretch import Program, Stretch, program_of
from neulite_sim.models.traced import BATCHES, OpaqueError, value_of
from neulite_sim.models.tracer import holds_tensors
from neulite_sim.models.tracing import samples_without_numbers, without_numbers
from neulite_sim.samples import InputSpec, Shape


@dataclass(frozen=True, slots=True)
class Places:
    """Where a network was cut, for others of its kind to be cut alike: what was looked into, and the ends of parts."""

    looked_into: tuple[str, ...]
    num_leaves: int
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CutPlan:
    """Where a module can be cut, for samples of one kind; it holds none of the module's tensors.

    Part p is leaves `ends[p - 1]` to `ends[p]` - 1; the head is what is left. Without a course the module is one block.
    """

    spec: InputSpec
    course: Course | None
    ends: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...] = ()
    """For each leaf, the order of dimensions that makes a map of what it puts out; empty where it is one."""
    remarks: tuple[str, ...] = ()
    programs: dict[tuple[int, int], tuple[tuple[str, ...], dict[bool, Program]]] = field(default_factory=dict)

    @property
    def num_parts(self) -> int:
        """Number of parts, without the head."""
        return len(self.ends)

    @property
    def places(self) -> Places:
        """Where it is cut, for the same network with other samples or at another width."""
        if self.course is None:
            return Places((), 0, self.ends)
        return Places(tuple(span.path for span in self.course.spans), len(self.course.leaves), self.ends)

    def model(self, module: nn.Module, cuts: Sequence[int]) -> BlockModel:
        """Return `module`, which is built as the one of this plan, cut behind so many parts each; it keeps its tensors.

        Its submodules become those of the blocks and the head, so it is not to be used any more.
        """
        logits = (self.spec.num_classes, *self.spec.target_shape)
        if self.course is None:
            layers = layers_of(module)
            tail = layers[-1] if layers else ()
            return BlockModel([module], nn.Identity(), tails=(tail,), layers=(layers,), block_shapes=(logits,),
                              basic_layer=BasicLayer)  # fmt: skip
        bounds = (0, *(self.ends[cut - 1] for cut in cuts), self.ends[-1])
        blocks = [self._stretch(module, *pair) for pair in itertools.pairwise(bounds)]
        shapes = tuple(self._map_shape(end) for end in bounds[1:])
        head = self._stretch(module, self.ends[-1], len(self.course.leaves))
        layers_by_block = tuple(
            self._layers(block, *pair) for block, pair in zip(blocks, itertools.pairwise(bounds), strict=True)
        )
        return block_model(blocks, head, layers_by_block, shapes)

    def balanced(self, module: nn.Module, num_blocks: int, *, batch_size: int, state_copies: int) -> tuple[int, ...]:
        """Return the cuts into so many blocks whose largest stage takes least memory; `module` is used up.

        To be called `without_numbers`, of a module on the meta device.
        """
        if self.course is None or num_blocks == 1:
            return ()
        bounds = (0, *self.ends, len(self.course.leaves))
        modules = [self._stretch(module, *pair).train() for pair in itertools.pairwise(bounds)]
        samples = samples_without_numbers(self.spec, max(batch_size, 2))
        found = burden(modules, samples, state_copies=state_copies)
        return balanced_cuts(found.num_parts, num_blocks, found.peak_bytes)

    def _map_shape(self, end: int) -> Shape:
        """Return the shape of what the first `end` leaves put out, channels first."""
        assert self.course is not None, "there are leaves"
        if end == 0:
            return self.spec.shape
        leaf = self.course.leaves[end - 1]
        if end == len(self.course.leaves):
            return leaf.shape[1:]
        order = self.orders[end - 1] or tuple(range(len(leaf.shape)))
        return tuple(leaf.shape[axis] for axis in order[1:])

    def _stretch(self, module: nn.Module, begin: int, end: int) -> nn.Module:
        if begin == end:
            return nn.Identity()
        if (begin, end) not in self.programs:
            self.programs[begin, end] = self._program(begin, end)
        paths, programs = self.programs[begin, end]
        return Stretch(module, paths, programs)

    def _program(self, begin: int, end: int) -> tuple[tuple[str, ...], dict[bool, Program]]:
        assert self.course is not None, "there are leaves"
        graphs = {mode: _graph(self, self.course, begin, end, is_training=mode) for mode in (True, False)}
        paths = tuple(
            dict.fromkeys(str(node.target) for node in graphs[True].nodes if node.op in ("call_module", "get_attr"))
        )
        return paths, {mode: program_of(graph) for mode, graph in graphs.items()}

    def _layers(self, block: nn.Module, begin: int, end: int) -> Layers:
        assert self.course is not None, "there are leaves"
        layers: list[tuple[str, ...]] = []
        for leaf in self.course.leaves[begin:end]:
            held = [path for path in dict.fromkeys(leaf.modules) if any(True for _ in _parameters(block, path))]
            if len(held) == 1 and len(leaf.modules) == 1:
                found = [tuple(f"{held[0]}.{path}" if path else held[0] for path in layer)
                         for layer in layers_of(block.get_submodule(held[0]))]  # fmt: skip
            else:
                found = [tuple(held)] if held else []
            if layers and found and not leaf.begins_layer:
                layers[-1] += tuple(itertools.chain(*found))
            else:
                layers += found
        return _without_doubt(block, layers)


def plan_of(module: nn.Module, spec: InputSpec, name: str, like: Places | None = None) -> CutPlan:
    """Return where a module on the meta device can be cut; in the places of another one where `like` is given.

    It is followed in training and evaluation mode, on samples of `spec`.

    Raises:
        ScenarioError: it makes no logits of such samples, or has no such places.
    """
    with without_numbers(), SoftmaxWatch() as watch:
        inputs = tuple(samples_without_numbers(spec, size) for size in BATCHES)
        try:
            if like is not None and not like.num_leaves:
                raise OpaqueError("neither is that of what is charged")
            course = course_of(module, (inputs[0], inputs[1]), None if like is None else like.looked_into)
        except Exception as failure:  # Whatever it is, the module stays whole.
            told = failure_of(failure, module)
            if "meta tensor" in told.reason:
                told = replace(told, reason="it looks at the numbers of a tensor")
            course = None
    if course is None:
        said = require_logits(module, spec, name)
        remark = f"{name} stays one block, since its forward cannot be taken apart: {told}"
        return CutPlan(spec=spec, course=None, ends=(1,), remarks=(*said, remark))
    require_shape(course.outputs[0], spec, name)
    leaves = course.leaves
    if like is not None:
        if len(leaves) != like.num_leaves:
            finding = f"the forward of {name} does other things with {spec} than with what is charged"
            raise refused(finding, "use the same samples for both, or a network that treats them alike")
        light = replace(course, outputs=(None, None))
        return CutPlan(spec=spec, course=light, ends=like.ends, orders=course.orders())
    begin = begin_of_head(leaves, spec)
    if not keeps_tensors_apart(leaves, begin):
        # What the head shares with a block cannot be trained apart from it.
        begin = len(leaves)
    ends = [position for position in range(1, begin) if may_be_cut(leaves, position)]
    remarks = (*watch.remarks(course.outputs[0], name), *_remarks(module, name, course, begin, len(ends) + 1))
    light = replace(course, outputs=(None, None))
    return CutPlan(spec=spec, course=light, ends=(*ends, begin), orders=course.orders(), remarks=remarks)


def _remarks(module: nn.Module, name: str, course: Course, begin: int, num_parts: int) -> tuple[str, ...]:
    whole = sum(parameter.numel() for parameter in module.parameters())
    large = [
        f"{name}: {path} is not cut, since its forward cannot be taken apart: {failure}"
        for path, failure in course.closed
        if 2 * sum(parameter.numel() for parameter in module.get_submodule(path).parameters()) > whole
    ]
    if num_parts > 1 or large:
        return tuple(large)
    leaves = course.leaves
    if not any(leaf.has_weights for leaf in leaves[:begin]):
        return (f"{name} is one block: there are no weights before its classifier",)
    if any(leaf.begins_layer and not keeps_tensors_apart(leaves, place) for place, leaf in enumerate(leaves) if place):
        return (f"{name} stays one block: its first and last layers share parameters",)
    if sum(leaf.begins_layer for leaf in leaves[:begin]) == 1:
        return (f"{name} is one block: only one layer, or one that cannot be parted, comes before its classifier",)
    return (f"{name} stays one block: nowhere in its forward does one tensor alone pass between two layers",)


def _parameters(block: nn.Module, path: str) -> Any:
    return block.get_submodule(path).parameters()


def _without_doubt(block: nn.Module, layers: list[tuple[str, ...]]) -> Layers:
    """Return the layers, or the last one alone where they share parameters or leave some out."""
    held = [id(parameter) for layer in layers for path in layer for parameter in _parameters(block, path)]
    known = {id(parameter) for parameter in block.parameters()}
    if len(held) == len(set(held)) and set(held) == known:
        return tuple(layers)
    return tuple(layers[-1:])


def _graph(plan: CutPlan, course: Course, begin: int, end: int, *, is_training: bool) -> fx.Graph:
    """Return the graph of leaves `begin` to `end` - 1: whole modules where they are all of one."""
    graph = fx.Graph()
    current = graph.placeholder("features")
    if begin and (order := plan.orders[begin - 1]):
        current = graph.call_method("permute", (current, inverse(order)))
    place = begin
    while place < end:
        fitting = [span for span in course.spans if span.begin == place and span.end <= end]
        if fitting:
            largest = max(fitting, key=lambda span: (span.end, -len(span.path)))
            current, place = graph.call_module(largest.path, (current,)), largest.end
        else:
            current, place = _copied(graph, course.leaves[place], current, is_training), place + 1
    if end < len(course.leaves) and (order := plan.orders[end - 1]):
        current = graph.call_method("permute", (current, order))
    graph.output(current)
    return graph


def _copied(graph: fx.Graph, leaf: Leaf, current: fx.Node, is_training: bool) -> fx.Node:
    level: Level = leaf.level
    recording = level.recordings[is_training]
    source = recording.source if leaf.source < 0 else recording.operations[leaf.source]
    prefix = f"{level.path}." if level.path else ""
    known: dict[fx.Node, fx.Node] = {source: current}
    batch = next(axis for axis, size in enumerate(leaf.shape_before) if size == BATCHES[0])

    def here(node: fx.Node) -> fx.Node:
        if node not in known:
            values = value_of(node)
            if node.op == "get_attr":
                known[node] = graph.get_attr(prefix + str(node.target))
            elif values == BATCHES:
                known[node] = graph.call_method("size", (current, batch))
            else:
                assert not holds_tensors(values[0]), "a segment reads one tensor"
                name = "device" if isinstance(values[0], torch.device) else "dtype"
                known[node] = graph.call_function(getattr, (current, name))
        return known[node]

    for node in recording.operations[leaf.begin : leaf.end]:
        # First what it reads, so that it stands before it in the graph.
        for read in node.all_input_nodes:
            here(read)
        known[node] = graph.node_copy(node, here)
        if node.op == "call_module":
            known[node].target = prefix + str(node.target)
    return known[recording.operations[leaf.result]]
