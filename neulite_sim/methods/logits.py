"""Which layers of a network make its logits, found by going back from what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from neulite_sim.methods.operators import Course, Step

_WEIGHS: Mapping[str, tuple[str, ...]] = {
    "convolution": ("weight",),
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "embedding": ("weight",),
}
"""Operators that apply a weight, and which of their arguments may be it."""
LAYERS = (nn.Linear, _ConvNd)


@dataclass(frozen=True, slots=True)
class Classifier:
    """The last layers before the logits: `layers` are their paths, `rows` the tensors that have a row for each class.

    `rows` is empty where no plain layer has them.
    """

    layers: frozenset[str]
    rows: frozenset[str]


def classifier_in(course: Course, network: nn.Module, num_classes: int) -> Classifier:
    """Return what makes the logits in a forward pass of a network."""
    names: dict[int, list[str]] = {}
    for name, seen in course.state.items():
        names.setdefault(seen.number, []).append(name)
    applied = {number for weights in _Trace(course).last_weights() for number in weights if number in names}
    layers = {path for number in applied for name in names[number] if (path := _layer_of(network, name)) is not None}
    rows: set[str] = set()
    for path in layers:
        layer = network.get_submodule(path)
        own = [name for name in course.state if name.startswith(f"{path}.")]
        if isinstance(layer, _ConvTransposeNd) or _outputs_of(layer) != num_classes:
            continue
        for name in own:
            seen = course.state[name]
            if seen.ndim and set(seen.sizes[0]) == {num_classes}:
                rows.update(names[seen.number])
    return Classifier(layers=frozenset(layers), rows=frozenset(rows))


def _layer_of(network: nn.Module, name: str) -> str | None:
    """Return the path of the linear or convolutional layer that holds a tensor, None where none does."""
    path = name
    while path:
        path = path.rpartition(".")[0]
        if isinstance(network.get_submodule(path), LAYERS):
            return path
    return None


def _outputs_of(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


class _Trace:
    """Goes back through a forward pass."""

    def __init__(self, course: Course) -> None:
        self._result, self._source = course.result.number, course.source.number
        self._matrices = {seen.number for seen in course.state.values() if seen.ndim > 1}
        self._makers: dict[int, list[Step]] = {}
        for step in course.steps:
            for out in step.outs:
                self._makers.setdefault(out.number, []).append(step)

    def last_weights(self) -> Iterator[set[int]]:
        """Yield, for each way back from the logits, what the first weight on it is made of."""
        waiting, met = [self._result], {self._result}
        while waiting:
            for step in self._makers.get(waiting.pop(), ()):
                weights = self._weights_of(step)
                if weights:
                    yield weights
                    continue
                new = {seen.number for seen in step.inputs} - met
                met |= new
                waiting += new

    def _weights_of(self, step: Step) -> set[int]:
        """Return what the weight of an operator is made of; nothing where it applies none."""
        for key in _WEIGHS.get(step.name, ()):
            made_of = self._made_of(step.get(key).number)
            if self._source not in made_of and made_of & self._matrices:
                return made_of
        return set()

    def _made_of(self, number: int) -> set[int]:
        """Return all that a tensor was made of, itself included."""
        waiting, met = [number], {number}
        while waiting:
            for step in self._makers.get(waiting.pop(), ()):
                new = {seen.number for seen in step.inputs} - met
                met |= new
                waiting += new
        return met
