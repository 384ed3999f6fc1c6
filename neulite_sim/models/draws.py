"""Whether a `forward` draws random numbers of Python's or NumPy's own, which no run seeds."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
from torch import nn


def drawn_so_far() -> tuple[Any, str]:
    """Return what changes with each number that Python or NumPy draws."""
    return random.getstate(), repr(np.random.get_state())  # noqa: NPY002


def draws(module: nn.Module, inputs: Any) -> bool:
    """Return whether a `forward` itself draws numbers of Python's or NumPy's, and not another thread meanwhile.

    Ray, say, does so while it starts. Calls are watched in this thread alone.
    """
    found: list[object] = []

    def watch(_frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and isinstance(getattr(function, "__self__", None), random.Random | np.random.RandomState):
            found.append(function)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        module.forward(inputs)
    except Exception:
        return True
    finally:
        sys.setprofile(before)
    return bool(found)
