"""Plain values from a pickle that is not trusted: nothing is looked up, called or built but containers and numbers.

A pickle is a program for a stack machine. This machine knows only the instructions that put numbers, strings, lists,
tuples and dicts together; it has none that could name or call anything, so there is nothing to switch off. What a
pickle would have asked for is told from the instruction at which it is refused. The instructions are described in
the `pickletools` module of the standard library, up to protocol 5.
"""

from __future__ import annotations

import ast
import pickletools
import struct
from collections.abc import Callable
from typing import Any

HIGHEST_PROTOCOL = 5
_STOP = ord(".")
_INT32, _FLOAT64 = struct.Struct("<i"), struct.Struct(">d")
_INSTRUCTIONS = {found.code: found for found in pickletools.opcodes}
_MARK = object()
_SCALARS = {str, int, float, bool, type(None)}

_BROKEN = (IndexError, KeyError, TypeError, ValueError, struct.error, SyntaxError, RecursionError)


class PickleRefusedError(ValueError):
    """A pickle that is broken, or asks for more than plain values; the message says for what."""


def plain_values(data: bytes) -> Any:
    """Return the value in a pickle made of numbers, strings, True, False, None, lists, tuples and dicts.

    Raises:
        PickleRefusedError: it asks for anything else, names a protocol that does not exist, or is cut off.
    """
    machine = _Machine(data)
    try:
        return machine.run()
    except PickleRefusedError:
        raise
    except _BROKEN:
        raise PickleRefusedError(f"is not a whole pickle: broken at byte {machine.at} of {len(data)}") from None


class _Machine:
    """The stack, the memo and the place in the data."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self.stack: list[Any] = []
        # A dict, not a list: a pickle may claim any place in the memo without costing memory.
        self.memo: dict[int, Any] = {}
        self._data = data

    def run(self) -> Any:
        data, act = self._data, _ACTS
        while True:
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                (value,) = self.stack
                if value is _MARK:
                    raise ValueError
                return value
            if code not in act:
                raise self.refusal(code)
            act[code](self)

    def take(self, count: int) -> bytes:
        """Return the next bytes of the data, exactly so many."""
        found = self._data[self.at : self.at + count]
        if len(found) < count:
            raise IndexError
        self.at += count
        return found

    def size(self, num_bytes: int) -> int:
        return int.from_bytes(self.take(num_bytes), "little")

    def line(self) -> str:
        end = self._data.index(b"\n", self.at)
        found = self._data[self.at : end]
        self.at = end + 1
        return found.decode("latin-1")

    def since_mark(self) -> list[Any]:
        """Return what lies above the last mark, and take it off with the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            if place == 0:
                raise IndexError
            place -= 1
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def refusal(self, code: int) -> PickleRefusedError:
        """Return the refusal of an instruction that is not for plain values, naming what it asks for."""
        found = _INSTRUCTIONS.get(chr(code))
        where = f"at byte {self.at - 1}"
        if found is None:
            return PickleRefusedError(f"is not a pickle: byte {code:#04x} {where} is no instruction")
        wish = "only numbers, strings, lists, tuples and dicts are read from a pickle; nothing of it was run"
        if found.name in ("GLOBAL", "INST"):
            module, name = self.line(), self.line()
            return PickleRefusedError(f"asks for {module}.{name} {where}; {wish}")
        if found.name == "STACK_GLOBAL":
            named = [str(item) for item in self.stack[-2:] if isinstance(item, str)]
            return PickleRefusedError(f"asks for {'.'.join(named) or 'a global'} {where}; {wish}")
        return PickleRefusedError(f"holds more than plain values (instruction {found.name}) {where}; {wish}")


def _protocol(machine: _Machine) -> None:
    version = machine.size(1)
    if version > HIGHEST_PROTOCOL:
        raise PickleRefusedError(f"is a pickle of protocol {version}; protocols 0 to {HIGHEST_PROTOCOL} exist")


def _push(read: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(read(machine))


def _integer(machine: _Machine) -> int | bool:
    text = machine.line()
    # Protocols 0 and 1 write True as 01 and False as 00.
    return text == "01" if text in ("00", "01") else int(text)


def _text(num_bytes: int, encoding: str) -> Callable[[_Machine], None]:
    errors = "surrogatepass" if encoding == "utf-8" else "strict"
    return _push(lambda machine: machine.take(machine.size(num_bytes)).decode(encoding, errors))


def _quoted(machine: _Machine) -> str:
    value = ast.literal_eval(machine.line())
    if not isinstance(value, str):
        raise TypeError
    return value


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise TypeError
    target.extend(items)


def _set(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not dict or len(items) % 2 or not all(map(_is_key, items[::2])):
        raise TypeError
    target.update(zip(items[::2], items[1::2], strict=True))


def _is_key(value: Any) -> bool:
    """Return whether a value may be a key: one of tuples in tuples, each twice, would take for ever to hash."""
    return _SCALARS.issuperset(map(type, value)) if type(value) is tuple else type(value) in _SCALARS


def _dict(machine: _Machine) -> dict[Any, Any]:
    items = machine.since_mark()
    if not all(map(_is_key, items[::2])):
        raise TypeError
    return dict(zip(items[::2], items[1::2], strict=True))


def _popped(machine: _Machine, count: int) -> list[Any]:
    if len(machine.stack) < count or _MARK in machine.stack[-count:]:
        raise IndexError
    found = machine.stack[-count:]
    del machine.stack[-count:]
    return found


def _put(machine: _Machine, place: int) -> None:
    if machine.stack[-1] is _MARK:
        raise ValueError
    machine.memo[place] = machine.stack[-1]


_ACTS: dict[int, Callable[[_Machine], Any]] = {
    code[0]: act
    for code, act in {
        b"\x80": _protocol,
        b"\x95": lambda machine: machine.take(8),  # a frame is only a hint about sizes
        b"(": lambda machine: machine.stack.append(_MARK),
        b"0": lambda machine: machine.stack.pop(),
        b"1": lambda machine: machine.since_mark(),
        b"2": lambda machine: machine.stack.append(machine.stack[-1]),
        b"N": _push(lambda machine: None),
        b"\x88": _push(lambda machine: True),
        b"\x89": _push(lambda machine: False),
        b"I": _push(_integer),
        b"J": _push(lambda machine: _INT32.unpack(machine.take(4))[0]),
        b"K": _push(lambda machine: machine.size(1)),
        b"M": _push(lambda machine: machine.size(2)),
        b"L": _push(lambda machine: int(machine.line().removesuffix("L"))),
        b"\x8a": _push(lambda machine: int.from_bytes(machine.take(machine.size(1)), "little", signed=True)),
        b"\x8b": _push(lambda machine: int.from_bytes(machine.take(machine.size(4)), "little", signed=True)),
        b"F": _push(lambda machine: float(machine.line())),
        b"G": _push(lambda machine: _FLOAT64.unpack(machine.take(8))[0]),
        b"S": _push(_quoted),
        b"T": _text(4, "latin-1"),
        b"U": _text(1, "latin-1"),
        b"V": _push(lambda machine: machine.line().encode("latin-1").decode("raw-unicode-escape")),
        b"X": _text(4, "utf-8"),
        b"\x8c": _text(1, "utf-8"),
        b"\x8d": _text(8, "utf-8"),
        b"]": _push(lambda machine: []),
        b")": _push(lambda machine: ()),
        b"}": _push(lambda machine: {}),
        b"l": _push(lambda machine: machine.since_mark()),
        b"t": _push(lambda machine: tuple(machine.since_mark())),
        b"d": _push(_dict),
        b"\x85": _push(lambda machine: tuple(_popped(machine, 1))),
        b"\x86": _push(lambda machine: tuple(_popped(machine, 2))),
        b"\x87": _push(lambda machine: tuple(_popped(machine, 3))),
        b"a": lambda machine: _append(machine, _popped(machine, 1)),
        b"e": lambda machine: _append(machine, machine.since_mark()),
        b"s": lambda machine: _set(machine, _popped(machine, 2)),
        b"u": lambda machine: _set(machine, machine.since_mark()),
        b"g": _push(lambda machine: machine.memo[int(machine.line())]),
        b"h": _push(lambda machine: machine.memo[machine.size(1)]),
        b"j": _push(lambda machine: machine.memo[machine.size(4)]),
        b"p": lambda machine: _put(machine, int(machine.line())),
        b"q": lambda machine: _put(machine, machine.size(1)),
        b"r": lambda machine: _put(machine, machine.size(4)),
        b"\x94": lambda machine: _put(machine, len(machine.memo)),
    }.items()
}
