"""Commands that end in a moment."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_SELDOM = 20_000


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within, nothing looks for cycles: where hundreds of classes are made, that takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():
                # From the youngest to the oldest: else the next object would have all that was made looked through.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """Within, cycles are looked for when thirty times as many objects are new: where much is imported and stays."""
    before = gc.get_threshold()
    gc.set_threshold(_SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
