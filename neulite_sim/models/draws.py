"""Whether a `forward` draws random numbers of Python's or NumPy's own: what it does is not known from one call."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
from torch import nn


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
