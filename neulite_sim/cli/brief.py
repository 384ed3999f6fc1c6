"""Commands that end in a moment."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


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
