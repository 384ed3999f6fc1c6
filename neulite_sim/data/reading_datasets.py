"""Reads a `torch.utils.data.Dataset`, or anything with a length and numbered items, once into arrays.

An item is a pair of input and target, or a mapping that holds both. Inputs may be tensors, arrays, numbers, lists or
Pillow's images. Nothing of PyTorch is needed for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neulite_sim.data.handing import Array, Handed, array_of, refusal
from neulite_sim.data.image_files import Sentences
from neulite_sim.data.resampling import resample
from neulite_sim.outside import printable

INPUT_KEYS = ("image", "img", "pixel_values", "input_ids", "inputs", "input", "features", "x", "data")
TARGET_KEYS = ("label", "labels", "target", "targets", "class", "fine_label", "y")
_SILENT_S = 5.0


def is_dataset(value: Any) -> bool:
    """Return whether a value has a length and numbered items, and is no array, list or mapping of its own kind."""
    has_items = hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__")
    is_plain = isinstance(value, Sequence | Mapping) or hasattr(value, "__array__") or hasattr(value, "toarray")
    return has_items and not is_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What the parts of an item that is a mapping are called, None where it is found by `INPUT_KEYS` and the like."""

    input: str | None = None
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Inputs and targets of a dataset's items in their order, and their owners where the items name them."""

    inputs: Any
    targets: Any
    groups: Any = None


def handed_of_items(train: Items, test: Items) -> Handed:
    """Return two parts as what was handed over; owners are those of the training part."""
    return Handed(
        train_inputs=train.inputs,
        train_labels=train.targets,
        test_inputs=test.inputs,
        test_labels=test.targets,
        groups=train.groups,
    )


def read_items(
    dataset: Any, part: str, sentences: Sentences, *, side: int | None = None, keys: Keys | None = None
) -> Items:
    """Return what a dataset's items hold; pictures are resampled to `side` where it is given.

    Raises:
        ScenarioError: an item is neither a pair nor a mapping with both, cannot be read, or differs in shape.
    """
    name, count, keys = sentences.kind, len(dataset), keys or Keys()
    if not count:
        raise refusal(name, f"the {part} dataset is empty", "give at least one sample")
    inputs: list[Any] = []
    targets: list[Any] = []
    owners: list[Any] = []
    told_s = time.monotonic()
    for number in range(count):
        item = _item(name, part, number, dataset)
        first, target = _pair(name, part, number, item, keys)
        inputs.append(_plain(first, side))
        targets.append(_plain(target, None))
        if keys.group is not None and part == "train":
            owners.append(_named(name, part, number, item, keys.group, "group"))
        if time.monotonic() - told_s > _SILENT_S:
            told_s = time.monotonic()
            sys.stderr.write(f"reading {part} samples of {printable(name)}: {number + 1:,} of {count:,}\n")
    _tell_random(name, part, dataset, inputs[0], side, keys, sentences)
    return Items(
        inputs=_stacked(name, f"{part} inputs", inputs),
        targets=_stacked(name, f"{part} labels", targets),
        groups=_stacked(name, "groups", owners) if owners else None,
    )


def _item(name: str, part: str, number: int, dataset: Any) -> Any:
    try:
        return dataset[number]
    except Exception as failure:
        found = f"{part} item {number:,} cannot be read ({type(failure).__name__}: {failure})"
        raise refusal(name, found, "see that dataset[number] works for all of len(dataset)") from failure


def _pair(name: str, part: str, number: int, item: Any, keys: Keys) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        first, second = (
            _named(name, part, number, item, wished or next((key for key in usual if key in item), None), what)
            for wished, usual, what in ((keys.input, INPUT_KEYS, "input"), (keys.label, TARGET_KEYS, "label"))
        )
        return first, second
    if keys != Keys():
        given = next(option for option in ("input", "label", "group") if getattr(keys, option) is not None)
        hint = f"remove {given}, or give mappings"
        raise refusal(name, f"{part} item {number:,} has no parts with names", hint, key=f"data.{given}")
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    what = f"a {type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
    raise refusal(name, f"{part} item {number:,} is {what}", "each item must be a pair of input and target")


def _named(name: str, part: str, number: int, item: Any, key: str | None, what: str) -> Any:
    if isinstance(item, Mapping) and key in item:
        return item[key]
    keys = ", ".join(map(str, item))
    found = f"{part} item {number:,} has the keys {keys}, and none is {f'{key!r}' if key else f'plainly the {what}'}"
    raise refusal(name, found, f"say which one with the option {what}, or give pairs of input and target")


def _plain(value: Any, side: int | None) -> Any:
    """Return a value as NumPy has it: tensors and pictures as arrays, anything else as it is."""
    if hasattr(value, "convert") and hasattr(value, "getbands"):
        return picture_array(value, side)
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return np.asarray(value) if isinstance(value, list | tuple) else value


def picture_array(picture: Any, side: int | None) -> Array:
    """Return one of Pillow's images as bytes `[H, W]` or `[H, W, 3]`, resampled to a square where `side` is given."""
    is_grey = picture.mode in ("1", "L")
    pixels = np.asarray(picture.convert("L" if is_grey else "RGB"), np.uint8)
    if side is None:
        return pixels
    first = pixels[None, None] if is_grey else np.moveaxis(pixels, 2, 0)[None]
    squared = resample(first, side)[0]
    return squared[0] if is_grey else np.ascontiguousarray(np.moveaxis(squared, 0, 2))


def _stacked(name: str, what: str, values: list[Any]) -> Array:
    if np.ndim(values[0]) == 0:
        return array_of(name, what, _objects(values))
    shape, kind = np.shape(values[0]), np.asarray(values[0]).dtype
    other = next((place for place, value in enumerate(values) if np.shape(value) != shape), None)
    if other is not None:
        found = f"{what} have different shapes: number 0 is {shape}, number {other:,} is {np.shape(values[other])}"
        raise refusal(name, found, "pad or cut them to one shape, or resample pictures with image_size")
    if kind.hasobject:
        return array_of(name, what, _objects(values))
    return np.stack(values)


def _objects(values: list[Any]) -> Array:
    # Numbers of one item each may be NumPy's or PyTorch's; what they are is looked at all together.
    items = [value.item() if hasattr(value, "item") else value for value in values]
    objects = np.empty(len(items), object)
    objects[:] = items
    return objects


def _tell_random(
    name: str, part: str, dataset: Any, first: Any, side: int | None, keys: Keys, sentences: Sentences
) -> None:
    """Say so where a sample is another one each time it is read: what is trained is what was read once."""
    again = _plain(_pair(name, part, 0, _item(name, part, 0, dataset), keys)[0], side)
    if np.shape(again) != np.shape(first) or not np.array_equal(np.asarray(again), np.asarray(first)):
        sentences.say(
            f"the {part} dataset gives another sample each time (a random transform?); each was read once and stays"
        )
