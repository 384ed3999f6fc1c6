"""A throttled link: messages of tensors over a socket, at a rate, after a latency, maybe through a link that all share.

The sender is held back: it sends a message piece by piece, each when a link of that rate would have carried it, so that
the last byte leaves `latency + 8 * bytes / rate` seconds after the first was handed over. TCP over the loopback adds
tens of microseconds to that.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch

PIECE_S = 0.02
"""About how long a piece takes to pass."""
SHARED_PIECE_BYTES = 2048
"""Pieces of one size for all take turns on a shared link, so that each transfer gets as much of it as any other."""
_FRAME = struct.Struct("<IQ")


class OfflineError(Exception):
    """The device has left the network."""


def wait_until(moment_s: float, leaves_s: float = float("inf")) -> None:
    """Sleep until a moment of the monotonic clock.

    Raises:
        OfflineError: the device leaves before that; it has slept until then.
    """
    until_s = min(moment_s, leaves_s)
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(left_s)
    if moment_s > leaves_s:
        raise OfflineError


class SharedLink:
    """The server's own link in one direction: pieces of all transfers pass one after the other, in turn.

    Each transfer has one piece waiting at a time, so those that are not held back elsewhere get equal shares.
    """

    def __init__(self, bits_per_second: float, processes: BaseContext) -> None:
        self._bits_per_second = bits_per_second
        self._free_s = processes.Value("d", 0.0)

    def passes_at(self, num_bytes: int, ready_s: float) -> float:
        """Return when a piece will have passed that was there at `ready_s`, before a process woke up to send it."""
        with self._free_s.get_lock():
            self._free_s.value = max(ready_s, self._free_s.value) + 8 * num_bytes / self._bits_per_second
            return float(self._free_s.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a device's link, and the link of the server that it leads through, if that is a bottleneck."""

    bits_per_second: float
    latency_s: float
    shared: SharedLink | None = None

    def send(self, connection: socket.socket, message: bytes, *, leaves_s: float = float("inf")) -> None:
        """Send a message as fast as the link is.

        Raises:
            OfflineError: the device leaves at `leaves_s`, before all has passed.
            OSError: the other side has gone.
        """
        passes_s = time.monotonic() + self.latency_s
        wait_until(passes_s, leaves_s)
        piece = SHARED_PIECE_BYTES if self.shared else max(512, int(self.bits_per_second * PIECE_S / 8))
        for start in range(0, len(message), piece):
            part = message[start : start + piece]
            ready_s, passes_s = passes_s, passes_s + 8 * len(part) / self.bits_per_second
            if self.shared is not None:
                # What the server's link has held back is not caught up on: the device's own is no faster for it.
                passes_s = max(passes_s, self.shared.passes_at(len(part), ready_s))
            wait_until(passes_s, leaves_s)
            connection.sendall(part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What came over a link, and how many bytes of it were tensors, and how many all the rest."""

    header: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    tensor_bytes: int
    other_bytes: int


def packed(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None) -> bytes:
    """Return a message: a frame, a header in JSON that says what follows, and the numbers of the tensors."""
    arrays = {name: tensor.contiguous().numpy() for name, tensor in (tensors or {}).items()}
    described = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    head = json.dumps({**header, "tensors": described}).encode()
    body = b"".join(array.tobytes() for array in arrays.values())
    return _FRAME.pack(len(head), len(body)) + head + body


def receive(connection: socket.socket) -> Message:
    """Return the next message.

    Raises:
        OSError: the other side has gone, or the socket's time is up.
    """
    head_bytes, body_bytes = _FRAME.unpack(_exactly(connection, _FRAME.size))
    header = json.loads(_exactly(connection, head_bytes))
    body = _exactly(connection, body_bytes)
    tensors, offset = {}, 0
    for name, dtype, shape in header.pop("tensors"):
        count = int(np.prod(shape))
        array = np.frombuffer(body, dtype=dtype, count=count, offset=offset).reshape(shape)
        tensors[name] = torch.from_numpy(array.copy())
        offset += array.nbytes
    return Message(header=header, tensors=tensors, tensor_bytes=body_bytes, other_bytes=_FRAME.size + head_bytes)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = connection.recv(min(count, 1 << 16))
        if not part:
            raise ConnectionResetError("the other side has closed the connection")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def has_left(connection: socket.socket) -> bool:
    """Whether the other side of an idle connection has closed it."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
