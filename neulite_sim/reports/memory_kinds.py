"""Which memory a number is: said in the same words wherever one is shown."""

from __future__ import annotations

_SHORT = {"tensor_bytes": "of tensors", "allocator_bytes": "that the allocator takes"}
_WHOLE = {
    "tensor_bytes": "that of the tensors of a training step at its peak, not of the process around them",
    "allocator_bytes": "what the device's allocator takes for a training step at its peak",
}


def short_kind(kind: str | None) -> str:
    """Return what follows a size; `kind` is `compared_with_memory` of a report or a summary, None in an old one."""
    return _SHORT.get(kind or "tensor_bytes", "")


def memory_sentence(kind: str | None) -> str:
    """Return the sentence that stands once below a table."""
    return f"Memory is {_WHOLE[kind or 'tensor_bytes']}."
