"""Random numbers that code of others draws from the process: from Python's, NumPy's and PyTorch's own generators.

Before each call into such code all three begin at a seed of that call: the run's seed, what the call is for, and the
numbers that name it. So what it draws depends on no number that anybody drew before: not in this process, not in
another worker, not before a run was resumed. Afterwards the generators go on where they were, if anybody still needs
that: whoever called a run, or code of others that is being called itself.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from neulite_sim.later import torch
from neulite_sim.seeding import integer_seed


class _Here(threading.local):
    """What is known of the generators, by thread: one that is new has to leave them as it finds them."""

    are_needed = True
    """Whether anybody goes on from where they are now. NumPy takes long to say where that is."""


_here = _Here()
_starting: list[concurrent.futures.Future[Any]] = []
"""What other threads are at that draw from Python's generator as well."""


def seed_process(seed: int) -> None:
    """Let the generators of the process begin at a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    # `torch.manual_seed` would keep a note for accelerators that nobody uses, which takes a hundred times as long.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Within, nobody needs the generators as they are; afterwards they are where they were, if anybody did before."""
    were_needed, in_torch = _here.are_needed, torch.get_rng_state()
    others = (random.getstate(), np.random.get_state()) if were_needed else None  # noqa: NPY002
    _here.are_needed = False
    try:
        yield
    finally:
        _here.are_needed = were_needed
        torch.set_rng_state(in_torch)
        if others is not None:
            random.setstate(others[0])
            np.random.set_state(others[1])  # noqa: NPY002


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, code that draws from the generators of the process finds them at a seed; afterwards as `put_back`."""
    while _starting:
        concurrent.futures.wait([_starting.pop()])
    with put_back():
        _here.are_needed = True
        seed_process(seed)
        yield


def drawing(root_seed: int, purpose: str, *keys: int) -> contextlib.AbstractContextManager[None]:
    """Return the context of one call of code of others: `seeded` from (root seed, purpose, keys).

    Raises:
        ValueError: a key outside [0, 2**32).
    """
    return seeded(integer_seed(root_seed, purpose, *keys))


def drawing_where(
    is_of_others: bool, root_seed: int, purpose: str, *keys: int
) -> contextlib.AbstractContextManager[None]:
    """Return the same where the code is not this project's; what is draws nothing from the process by itself."""
    return drawing(root_seed, purpose, *keys) if is_of_others else contextlib.nullcontext()


def key_of(content: bytes | str) -> int:
    """Return a key that stands for what has no number of its own."""
    return zlib.crc32(content.encode() if isinstance(content, str) else content)


def wait_before_drawing(starting: concurrent.futures.Future[Any]) -> None:
    """Let nobody be `seeded` before another thread is done that draws from Python's generator as well."""
    _starting.append(starting)


def drawing_again() -> contextlib.AbstractContextManager[None]:
    """Return a context in which Python's and NumPy's generators are where they are now; PyTorch looks after its own."""
    return _again(random.getstate(), np.random.get_state())  # noqa: NPY002


@contextlib.contextmanager
def _again(in_python: Any, in_numpy: Any) -> Iterator[None]:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.setstate(in_python)
    np.random.set_state(in_numpy)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def where_they_are() -> tuple[object, ...]:
    """Return what changes with each number that Python or NumPy draws."""
    kind, words, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), kind, np.asarray(words).tobytes(), *rest
