"""From labels as people have them to classes 0 to C - 1: numbers, texts, truth values, whole floats, one-hot rows.

Numbers 0 to C - 1 of which the training part has each stay as they are; any others are numbered in sorted order.
What cannot be a class (regression targets, soft labels, several classes at a time) is refused with its sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.bounds import MOST_CLASSES
from neulite_sim.data.handing import Array, Place, array_of, refusal
from neulite_sim.data.image_files import Sentences, listed
from neulite_sim.outside import printable

_SUSPICIOUS_SHARE = 0.5
_MOST_WHOLE = 2.0**53
"""Beyond it, floats have no neighbours that are whole numbers."""
_MANY = 20
"""From so many classes on, more of them than half the samples look like quantities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Classes of both parts, int64; `test` is None where there is no test part."""

    train: NDArray[np.int64]
    test: NDArray[np.int64] | None
    num_classes: int


def labels_of(
    train: object, test: object, *, classes: int | None, per_place: bool, place: Place, sentences: Sentences
) -> Labels:
    """Return the classes that labels stand for; what was done to them is told to `sentences`.

    Args:
        train: labels of the training part.
        test: labels of the test part, or None.
        classes: how many classes there are, where that is known; labels are then 0 to `classes` - 1 as they stand.
        per_place: whether each token of a sample has a label.
        place: what a user calls a sample.
        sentences: takes the notices, and knows the name of the data.

    Raises:
        ScenarioError: labels are no classes, or the test part has one that the training part has not.
    """
    reader = _Reader(sentences, place, per_place)
    first = reader.plain("train", train)
    second = None if test is None else reader.plain("test", test)
    reader.tell()
    if second is not None and (first.dtype.kind == "U") != (second.dtype.kind == "U"):
        raise refusal(sentences.kind, "labels of one part are texts and those of the other numbers", "give one kind")
    if classes is not None:
        for part, labels in (("train", first), ("test", second)):
            if labels is not None:
                _require_declared(sentences.kind, part, labels, classes, place)
        return Labels(train=_int64(first), test=None if second is None else _int64(second), num_classes=classes)
    return _numbered(first, second, place, sentences)


class _Reader:
    """Makes whole numbers or texts of labels, and remembers what had to be done."""

    def __init__(self, sentences: Sentences, place: Place, per_place: bool) -> None:
        self._sentences, self._place, self._per_place = sentences, place, per_place
        self._done: dict[str, None] = {}

    def tell(self) -> None:
        for sentence in self._done:
            self._sentences.say(sentence)

    def plain(self, part: str, given: object) -> Array:
        name = self._sentences.kind
        labels = array_of(name, f"{part} labels", given)
        if labels.ndim == 2 and not self._per_place:
            labels = self._one_per_sample(part, labels)
        if labels.ndim != 1 + self._per_place:
            raise refusal(name, f"{part} labels have shape {labels.shape}", "give one class per sample")
        if labels.dtype.kind == "b":
            self._done["labels are truth values: false is 0 and true is 1"] = None
            return labels.astype(np.int64)
        if labels.dtype.kind == "S":
            labels = np.char.decode(labels, "utf-8", "backslashreplace")
        if labels.dtype.kind == "f":
            return self._whole(part, labels)
        if labels.dtype.kind not in "iuU":
            raise refusal(name, f"{part} labels are {labels.dtype}", "give whole numbers or texts, a class each")
        return labels

    def _one_per_sample(self, part: str, labels: Array) -> Array:
        name = self._sentences.kind
        if labels.shape[1] == 1:
            self._done["labels are a column, taken as one per sample"] = None
            return labels[:, 0]
        if labels.dtype.kind not in "biuf":
            raise refusal(name, f"{part} labels have shape {labels.shape}", "give one class per sample")
        is_one_hot = ((labels == 0) | (labels == 1)).all(axis=1) & (labels.sum(axis=1) == 1)
        if not is_one_hot.all():
            wrong = int(np.argmin(is_one_hot))
            row = ", ".join(f"{value:g}" for value in labels[wrong, :5].astype(float))
            more = ", ..." if labels.shape[1] > 5 else ""
            raise refusal(
                name,
                f"the label of {self._place(part, wrong)} is a row of {labels.shape[1]} numbers that is not one-hot: "
                f"[{row}{more}]",
                "each sample has one class here: give its number, as in labels.argmax(axis=1)",
            )
        self._done[f"labels are one-hot rows of {labels.shape[1]}: the place of the 1 is the class"] = None
        classes: Array = labels.argmax(axis=1)
        return classes

    def _whole(self, part: str, labels: Array) -> Array:
        name = self._sentences.kind
        for is_right, hint in (
            (np.isfinite(labels), "remove the sample or give its class"),
            (
                (labels == np.rint(labels)) & (np.abs(labels.astype(np.float64)) < _MOST_WHOLE),
                "only classification is simulated: give classes, not quantities (regression); np.digitize makes "
                "classes of quantities",
            ),
        ):
            if not is_right.all():
                wrong = int(np.flatnonzero(~is_right.reshape(len(labels), -1).all(axis=1))[0])
                value = np.ravel(labels[wrong])[0]
                raise refusal(name, f"the label of {self._place(part, wrong)} is {value:g}, no class", hint)
        self._done["labels are whole floats, taken as whole numbers"] = None
        return labels.astype(np.int64)


def _int64(labels: Array) -> NDArray[np.int64]:
    return np.ascontiguousarray(labels).astype(np.int64, copy=False)


def _require_declared(name: str, part: str, labels: Array, classes: int, place: Place) -> None:
    if labels.dtype.kind == "U":
        raise refusal(name, f"{part} labels are texts", "leave out classes: texts are numbered in sorted order")
    is_outside = ((labels < 0) | (labels >= classes)).reshape(len(labels), -1).any(axis=1)
    if is_outside.any():
        wrong = int(np.argmax(is_outside))
        row = np.ravel(labels[wrong])
        value = int(row[(row < 0) | (row >= classes)][0])
        what = "has no label (-1)" if value == -1 else f"has label {value}"
        raise refusal(name, f"{place(part, wrong)} {what}, and there are {classes} classes", f"use 0 to {classes - 1}")


def _numbered(train: Array, test: Array | None, place: Place, sentences: Sentences) -> Labels:
    name = sentences.kind
    values = np.unique(train)
    if len(values) < 2:
        shown = ", ".join(map(str, values))
        raise refusal(name, f"the training part has one class, {shown}", "a classifier needs two")
    if len(values) > MOST_CLASSES:
        raise refusal(name, f"the labels have {len(values):,} classes", f"use at most {MOST_CLASSES:,}")
    if test is not None:
        is_known = np.isin(test, values)
        if not is_known.all():
            wrong = int(np.flatnonzero(~is_known.reshape(len(test), -1).all(axis=1))[0])
            row = np.ravel(test[wrong])
            value = row[~np.isin(row, values)][0]
            hint = "remove it or add training samples of this class" + (
                "" if values.dtype.kind == "U" else "; with classes: N, all labels from 0 to N - 1 are right"
            )
            raise refusal(name, f"{place('test', wrong)} has class {value}, of which there is no training sample", hint)
        if missing := len(values) - len(np.unique(test)):
            sentences.say(f"{missing} of {len(values)} classes have no test sample")
    if len(values) >= _MANY and len(values) > _SUSPICIOUS_SHARE * train.size:
        sentences.say(f"{len(values):,} classes for {train.size:,} training labels: quantities, not classes?")
    if values.dtype.kind != "U" and values[0] == 0 and values[-1] == len(values) - 1:
        return Labels(train=_int64(train), test=None if test is None else _int64(test), num_classes=len(values))
    mapped = listed(f"{printable(str(value))[:40]} is {number}" for number, value in enumerate(values))
    sentences.say(f"labels are numbered in sorted order: {mapped}")
    codes = [None if part is None else np.searchsorted(values, part).astype(np.int64) for part in (train, test)]
    assert codes[0] is not None
    return Labels(train=codes[0], test=codes[1], num_classes=len(values))
