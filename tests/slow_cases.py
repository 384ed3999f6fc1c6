"""Cases of a test of which some take so long that they are marked as slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def some_slow(cases: Iterable[Any], is_slow: Callable[[Any], bool]) -> list[Any]:
    """Return what `parametrize` takes: the cases in their order, the slow ones marked; a tuple is a case's arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow if is_slow(case) else ())
        for case in cases
    ]
