"""Where the channels of any network lie in its tensors, and which layers make its logits, found by following it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.channels import Channels, Label, held_counts, is_fixed
from neulite_sim.methods.dimension import Axis, Dimension, Joined
from neulite_sim.methods.following import Following
from neulite_sim.methods.following_rules import RULES
from neulite_sim.methods.logits import Classifier, classifier_in
from neulite_sim.methods.operators import Run, Sizes, UnclearError, UnlikeError, recorded, side_by_side, used
from neulite_sim.models.contract import Blueprint

Axes = dict[str, tuple[Axis, ...]]

_PROBE = 0.5
"""The width at which it shows what scales, where nobody asks for a thin model."""
_HINT = (
    "use operators of which it is known what they do with channels (convolutions, linear layers, attention, recurrent "
    "layers, norms, concatenations, reshapes), or a method that trains one width (allsmall, fedavg)"
)


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a blueprint and more that remembers its latest results, where they can be remembered."""
    known = functools.lru_cache(maxsize=16)(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            hash(arguments)
        except TypeError:
            # An architecture of others need not be hashable.
            return function(*arguments)
        return known(*arguments)

    return call


@remembered
def axes_of(blueprint: Blueprint, rates: tuple[float, ...]) -> Axes:
    """Return the dimensions of the floating-point tensors of a network that is made thinner by `rates`.

    Raises:
        ScenarioError: it cannot be told which channels of the full network those of a thin one are.
    """
    thinner = sorted({rate for rate in rates if rate < 1}, reverse=True) or [_PROBE]
    blueprints = [blueprint, *(blueprint.at_width(blueprint.width * rate) for rate in thinner)]
    try:
        shapes = _shapes_at(blueprints)
        runs = [recorded(each) for each in blueprints]
        alike = [0, *(place for place in range(1, len(runs)) if _are_alike(runs[0], runs[place]))]
        if len(alike) == 1:
            raise UnclearError("it does not do the same things at every width")
        tested = side_by_side([runs[place] for place in alike])
        known = Following(RULES)
        known.follow(tested)
        if used(recorded(blueprint, is_training=True)) - used(runs[0]):
            # Layers of which only the loss has something are trained as well.
            known.follow(side_by_side([recorded(blueprints[place], is_training=True) for place in alike]))
        labels = {name: known.of(tested.state[name]) for name in shapes}
        counts = held_counts(known.channels, labels, shapes, alike)
        return {
            name: tuple(_axis(known.channels, *each, counts) for each in zip(labels[name], sizes, strict=True))
            for name, sizes in shapes.items()
        }
    except UnclearError as unclear:
        raise _refused(blueprint, str(unclear)) from None


def _shapes_at(blueprints: Sequence[Blueprint]) -> dict[str, tuple[Sizes, ...]]:
    """Return the sizes of each dimension of each floating-point tensor at all widths."""
    states = [blueprint.look().state_dict() for blueprint in blueprints]
    for state in states:
        odd = sorted(states[0].keys() ^ state.keys())
        odd += [name for name in state if name in states[0] and state[name].ndim != states[0][name].ndim]
        if odd:
            raise UnclearError(f"{odd[0]} is another tensor, or none, at another width")
    names = (name for name, tensor in states[0].items() if tensor.is_floating_point())
    return {name: tuple(zip(*(state[name].shape for state in states), strict=True)) for name in names}


def _are_alike(one: Run, two: Run) -> bool:
    try:
        side_by_side([one, two])
    except UnlikeError:
        return False
    return True


def _axis(channels: Channels, label: Label | None, size: Sizes, counts: Mapping[int, Sizes]) -> Axis:
    if label is None:
        return Dimension(1, inner=size[0])
    maps, held = [], []
    for run, inner in channels.parts(label):
        number, whole = counts[run], is_fixed(counts[run])
        maps.append(Dimension(1 if whole else number[0], inner=inner * number[0] if whole else inner, streams=(run,)))
        held.append((1,) * len(number) if whole else number)
    if len({(each, *numbers) for each, numbers in zip(maps, held, strict=True)}) == 1:
        runs = tuple(number for each in maps for number in each.streams)
        return Dimension(maps[0].channels, outer=len(maps), inner=maps[0].inner, streams=runs)
    held_of: dict[int, tuple[int, ...]] = {}
    for total, of_maps in zip(size, zip(*held, strict=True), strict=True):
        if held_of.setdefault(total, of_maps) != of_maps:
            raise UnclearError(f"{total} channels are shared out in different ways at two widths")
    return Joined(tuple(maps), held_of)


@remembered
def classifier_of(blueprint: Blueprint) -> Classifier:
    """Return the layers that make a network's logits.

    Raises:
        ScenarioError: it cannot be run without numbers.
    """
    try:
        tested = side_by_side([recorded(blueprint)])
    except UnclearError as unclear:
        raise _refused(blueprint, str(unclear)) from None
    return classifier_in(tested, blueprint.look(), blueprint.num_classes)


def _refused(blueprint: Blueprint, reason: str) -> ScenarioError:
    name = blueprint.name or "the model"
    finding = f"which channels of {name} its thinner models hold cannot be told: {reason}"
    return ScenarioError([Problem.advising(key="model", found=finding, hint=_HINT)])
