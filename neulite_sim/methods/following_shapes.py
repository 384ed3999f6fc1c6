"""What operators that move numbers about do with channels: shapes, slices, concatenations, and what picks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulite_sim.methods.channels import Label, is_fixed
from neulite_sim.methods.following import Following, Labels, Rule
from neulite_sim.methods.operators import Sizes, Step, UnclearError, at_each


def _reshaped(known: Following, step: Step) -> Labels:
    """Merge and split dimensions."""
    source, out = step.get("self"), step.outs[0]
    before = known.of(source)
    labels: list[Label | None] = [None] * out.ndim
    for old, new in _groups(source.sizes, out.sizes):
        scaling = [place for place in old if before[place] is not None]
        if len(scaling) > 1:
            raise UnclearError("it merges two dimensions that both change with the width")
        if not scaling:
            continue
        place = old.index(scaling[0])
        outer, inner = (math.prod(source.sizes[each][0] for each in part) for part in (old[:place], old[place + 1 :]))
        merged = known.channels.merged(before[scaling[0]] or (), outer, inner)
        for target, label in zip(new, known.channels.split(merged, [out.sizes[each] for each in new]), strict=True):
            labels[target] = label
    return labels


def _groups(old: Sequence[Sizes], new: Sequence[Sizes]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest groups of dimensions, before and after, that hold the same numbers at every width."""
    before = after = 0
    while before < len(old) and after < len(new):
        first, second, products = [before], [after], [old[before], new[after]]
        while products[0] != products[1]:
            grows_first = next(x < y for x, y in zip(*products, strict=True) if x != y)
            part, sizes, at = (first, old, 0) if grows_first else (second, new, 1)
            part.append(part[-1] + 1)
            if part[-1] >= len(sizes):
                raise UnclearError("it reshapes in another way at every width")
            products[at] = tuple(x * y for x, y in zip(products[at], sizes[part[-1]], strict=True))
        yield first, second
        before, after = first[-1] + 1, second[-1] + 1


def _permuted(known: Following, step: Step) -> Labels:
    labels = known.of(step.get("self"))
    return [labels[place] for place in step.get("dims")]


def _padded(known: Following, step: Step) -> Labels:
    """Put new channels around those that there are, or leave some out."""
    source, out, given = step.get("self"), step.outs[0], step.get("pad")
    labels = list(known.of(source))
    for number in range(len(given) // 2):
        place = out.ndim - 1 - number
        before, after = (at_each(each, len(out.sizes[0])) for each in given[2 * number : 2 * number + 2])
        if is_fixed(out.sizes[place]) or not any(before + after):
            continue
        label, size = labels[place], source.sizes[place]
        label = label if label is not None else known.channels.run(size)
        if min(before + after) < 0 < max(before + after):
            raise UnclearError("it pads channels at one end and cuts them off at the other")
        if min(before + after) < 0:
            end = tuple(map(sum, zip(size, after, strict=True)))
            labels[place] = known.channels.between(label, tuple(-each for each in before), end)
        else:
            sides = [known.channels.run(each) if any(each) else () for each in (before, after)]
            labels[place] = (*sides[0], *label, *sides[1])
    return labels


def _sliced(known: Following, step: Step) -> Labels:
    source = step.get("self")
    labels = list(known.of(source))
    place = step.arguments.get("dim", 0) % source.ndim
    label, size = labels[place], source.sizes[place]
    if label is None:
        labels[place] = known.new(step.outs[0])[place]
        return labels
    if step.arguments.get("step", 1) != 1:
        raise UnclearError("it leaves out every other channel")
    start, end = (_bounds(step.arguments.get(key), size, start=key == "start") for key in ("start", "end"))
    labels[place] = known.channels.between(label, start, end)
    return labels


def _bounds(given: Any, size: Sizes, *, start: bool) -> Sizes:
    """Return where a slice begins or ends at each width, counted from the front."""
    found = []
    for value, limit in zip(at_each(given, len(size)), size, strict=True):
        place = value if value is not None else 0 if start else limit
        found.append(max(0, min(limit, place + limit if place < 0 else place)))
    return tuple(found)


def _selected(known: Following, step: Step) -> Labels:
    source = step.get("self")
    labels = list(known.of(source))
    place = step.get("dim") % source.ndim
    label, size = labels.pop(place), source.sizes[place]
    if label is not None:
        start = _bounds(step.get("index"), size, start=True)
        known.channels.between(label, start, tuple(each + 1 for each in start))
    return labels


def _in_pieces(known: Following, step: Step) -> Labels:
    """Split a dimension into several tensors."""
    source = step.get("self")
    place = step.arguments.get("dim", 0) % source.ndim
    start, made = (0,) * len(source.sizes[place]), []
    for out in step.outs:
        labels = list(known.of(source))
        end = tuple(map(sum, zip(start, out.sizes[place], strict=True)))
        whole = labels[place]
        if whole is not None:
            labels[place] = known.channels.between(whole, start, end)
        start = end
        made.append(labels)
    for out, labels in zip(step.outs[1:], made[1:], strict=True):
        known.put(out, labels)
    return made[0]


def _unbound(known: Following, step: Step) -> Labels:
    labels = list(known.of(step.get("self")))
    gone = labels.pop(step.arguments.get("dim", 0) % len(labels))
    if gone is not None:
        raise UnclearError("it takes channels one by one")
    for out in step.outs[1:]:
        known.put(out, labels)
    return labels


def _concatenated(known: Following, step: Step) -> Labels:
    """Return the labels of maps side by side in one dimension; all others are the same channels in each."""
    out = step.outs[0]
    place = step.arguments.get("dim", 0) % out.ndim
    tensors = [tensor for tensor in step.get("tensors") if tensor.ndim == out.ndim]
    columns = list(zip(*map(known.of, tensors), strict=True))
    labels = [None if number == place else known.join(*column) for number, column in enumerate(columns)]
    if any(label is not None for label in columns[place]):
        sizes = (tensor.sizes[place] for tensor in tensors)
        parts = (label or known.channels.run(size) for label, size in zip(columns[place], sizes, strict=True))
        labels[place] = tuple(itertools.chain.from_iterable(parts))
    return labels


def _stacked(known: Following, step: Step) -> Labels:
    tensors, out = step.get("tensors"), step.outs[0]
    labels: list[Label | None] = [known.join(*column) for column in zip(*map(known.of, tensors), strict=True)]
    labels.insert(step.arguments.get("dim", 0) % out.ndim, None)
    return labels


def _repeated(known: Following, step: Step) -> Labels:
    """Repeat dimensions, or expand those of one scalar."""
    source, out = step.get("self"), step.outs[0]
    labels: list[Label | None] = [None] * out.ndim
    first = out.ndim - source.ndim
    for place, (size, label) in enumerate(zip(out.sizes, [None] * first + known.of(source), strict=True)):
        before = source.sizes[place - first] if place >= first else (1,) * len(size)
        if label is not None:
            times = tuple(after // each for after, each in zip(size, before, strict=True))
            if not is_fixed(times):
                raise UnclearError("how often it repeats channels changes with the width")
            labels[place] = known.channels.merged(label, times[0], 1)
        elif not is_fixed(size) and set(before) == {1}:
            labels[place] = known.channels.run(size)
    return labels


def _along(known: Following, step: Step) -> Labels:
    """Pick, sort or turn around along one dimension, which must hold no channels."""
    source = step.get("self")
    given = step.arguments.get("dim", step.arguments.get("dims", -1))
    places = [place % max(1, source.ndim) for place in ([given] if isinstance(given, int) else given)]
    labels = list(known.of(source))
    if not places or any(labels[place] is not None for place in places):
        raise UnclearError("it picks channels or changes their order")
    for key in ("index", "src", "source"):
        other = step.get(key)
        if other is not None and other.ndim == source.ndim and source.ndim > 1:
            pairs = enumerate(zip(labels, known.of(other), strict=True))
            labels = [label if place in places else known.join(label, also) for place, (label, also) in pairs]
    for out in step.outs[1:]:
        known.put(out, labels)
    return labels


def _indexed(known: Following, step: Step) -> Labels:
    """Pick by tensors along dimensions in a row that hold no channels."""
    labels, given = known.of(step.get("self")), step.get("indices")
    picked = [place for place, index in enumerate(given) if index is not None]
    is_in_a_row = picked == list(range(picked[0], picked[-1] + 1))
    if not is_in_a_row or any(labels[place] is not None for place in picked):
        raise UnclearError("it picks channels or changes their order")
    shape: list[Label | None] = [None] * max(given[place].ndim for place in picked)
    return [*labels[: picked[0]], *shape, *labels[picked[-1] + 1 :]]


def _as_reshaped(known: Following, label: Label | None, *, before: Sequence[Sizes], keep: int) -> Label | None:
    """Return the label of one of the dimensions into which another one is split."""
    return None if label is None else known.channels.split(label, before)[keep]


def _pixels_shuffled(known: Following, step: Step) -> Labels:
    labels = list(known.of(step.get("self")))
    factor, place = step.get("upscale_factor"), len(labels) - 3
    sizes = [step.outs[0].sizes[place], (factor**2,) * len(step.outs[0].sizes[place])]
    labels[place] = _as_reshaped(known, labels[place], before=sizes, keep=0)
    return labels


def _pixels_unshuffled(known: Following, step: Step) -> Labels:
    labels = list(known.of(step.get("self")))
    place, label = len(labels) - 3, labels[len(labels) - 3]
    labels[place] = label and known.channels.merged(label, 1, step.get("downscale_factor") ** 2)
    return labels


def _channels_shuffled(known: Following, step: Step) -> Labels:
    source, groups = step.get("self"), step.get("groups")
    labels = list(known.of(source))
    counts = at_each(groups, len(source.sizes[1]))
    within = tuple(size // count for size, count in zip(source.sizes[1], counts, strict=True))
    if labels[1] is not None:
        places = known.channels.split(labels[1], [counts, within])
        label = places[0] or places[1] or ()
        outer, inner = (1, counts[0]) if places[1] is not None else (within[0], 1)
        labels[1] = known.channels.merged(label, outer, inner)
    return labels


def _unfolded(known: Following, step: Step) -> Labels:
    """Let each channel be followed by the scalars of its window."""
    maps = known.of(step.get("self"))
    height, width = step.get("kernel_size")
    return (maps[0], maps[1] and known.channels.merged(maps[1], 1, height * width), None)


NAMES: Mapping[Rule, str] = {
    _reshaped: "view _unsafe_view reshape _reshape_alias unsqueeze squeeze flatten unflatten",
    _permuted: "permute",
    _padded: "constant_pad_nd",
    _sliced: "slice",
    _selected: "select",
    _in_pieces: "split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unsafe_chunk",
    _unbound: "unbind",
    _concatenated: "cat",
    _stacked: "stack",
    _repeated: "expand repeat",
    _along: "index_select gather scatter scatter_add index_add index_copy sort topk flip roll",
    _indexed: "index",
    _pixels_shuffled: "pixel_shuffle",
    _pixels_unshuffled: "pixel_unshuffle",
    _channels_shuffled: "channel_shuffle native_channel_shuffle",
    _unfolded: "im2col",
}
