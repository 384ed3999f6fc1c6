"""Checksums of what a run folder holds: what was changed or cut is told from what was written.

A sealed mapping carries the SHA-256 of its own content; a chain carries with each line a check of all lines before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

SEAL = "sha256"

_AS_JSON = json.JSONEncoder(separators=(",", ":"), sort_keys=True)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with their seal; keys become text, as JSON has them."""
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != SEAL}, default=_plain))
    return {**plain, SEAL: _seal_of(plain)}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Return whether a mapping read from JSON is what was sealed."""
    plain = {key: value for key, value in content.items() if key != SEAL}
    return content.get(SEAL) == _seal_of(plain)


def _seal_of(plain: Mapping[str, Any]) -> str:
    return sha256(_AS_JSON.encode(plain).encode("ascii", "backslashreplace"))


class Chain:
    """Checks of lines in their order: each covers the name of the file and every line up to it. 128 bits."""

    def __init__(self, name: str, last: str = "") -> None:
        self._name = name
        self.last = last

    def link(self, line: bytes) -> str:
        """Return the check of the next line, 32 hexadecimal digits."""
        return self.links([line])[0].decode()

    def links(self, lines: Iterable[bytes]) -> list[bytes]:
        """Return the checks of the next lines."""
        found, new, name = [], hashlib.sha256, self._name.encode()
        last = self.last.encode()
        for line in lines:
            last = new(b"%s %s %s" % (name, last, line)).hexdigest()[:32].encode()
            found.append(last)
        self.last = last.decode()
        return found
