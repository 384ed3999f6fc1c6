"""Which memory a number is: said in the same words wherever one is shown."""

from __future__ import annotations

ON_THE_BOARD = "on the board"
"""Head of the column with the peak of the whole process."""

_SHORT = {
    "tensor_bytes": "of tensors",
    "allocator_bytes": "that the allocator takes",
    "process_bytes": "of the whole process",
}
_WHOLE = {
    "tensor_bytes": "that of the tensors of a training step at its peak, not of the process around them",
    "allocator_bytes": "what the device's allocator takes for a training step at its peak",
    "process_bytes": "that of the whole process at its peak in a training step, its runtime included",
}


def short_kind(kind: str | None) -> str:
    """Return what follows a size; `kind` is `compared_with_memory` of a report or a summary, None in an old one."""
    return _SHORT.get(kind or "tensor_bytes", "")


def memory_sentence(kind: str | None) -> str:
    """Return the sentence that stands once below a table."""
    return f"Memory is {_WHOLE[kind or 'tensor_bytes']}."


def process_sentence() -> str:
    """Return what the column of the whole process says."""
    return f"{ON_THE_BOARD}: predicted peak of the whole process on a processor, its runtime included."
