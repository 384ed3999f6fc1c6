"""What a message weighs on its way, and the numbers that a reply brings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

ENVELOPE_BYTES = 256
"""What goes with each message beside its content: ids, kind and times. A round number, because the ids of a real run
differ from time to time; a real one takes about as much."""


def content_bytes(content: RecordDict) -> int:
    """Return the bytes of a content as Flower sends it: each of its objects once, deflated."""
    return sum(len(part.deflate()) for part in get_all_nested_objects(content).values())


def message_bytes(message: Message) -> int:
    """Return the bytes of a message, or of an error in its place."""
    if message.has_error():
        return ENVELOPE_BYTES + len((message.error.reason or "").encode())
    return ENVELOPE_BYTES + content_bytes(message.content)


def held_bytes(message: Message) -> int:
    """Return the bytes of the arrays that a message holds."""
    if message.has_error():
        return 0
    return sum(len(array.data) for record in message.content.array_records.values() for array in record.values())


def numbers_of(content: RecordDict) -> dict[str, float]:
    """Return all single finite numbers of a content's metrics and settings, by the last part of their name."""
    found: dict[str, float] = {}
    for record in (*content.metric_records.values(), *content.config_records.values()):
        for key, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[key.rpartition(".")[2]] = float(value)
    return found


def loss_in(numbers: Mapping[str, Any]) -> float | None:
    """Return the loss among named numbers: the first of a name with `loss` in it."""
    return next(_named(numbers, "loss"), None)


def accuracy_in(numbers: Mapping[str, Any]) -> float | None:
    """Return the accuracy among named numbers, in [0, 1]: the first of a name with `acc` in it."""
    return next((value for value in _named(numbers, "acc") if 0 <= value <= 1), None)


def samples_in(numbers: Mapping[str, Any]) -> int:
    """Return the number of samples that a reply says it used; 0 where it says none."""
    found = next((value for name in ("num-examples", "num_examples") for value in _named(numbers, name)), 0.0)
    return max(0, min(int(found), 2**53))


def _named(numbers: Mapping[str, Any], part: str) -> Iterator[float]:
    for name, value in numbers.items():
        if part in name.lower() and isinstance(value, int | float) and math.isfinite(value):
            yield float(value)
