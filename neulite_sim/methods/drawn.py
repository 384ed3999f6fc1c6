"""A method of others as the server calls it: what a call draws from the process depends on the call alone.

That is the run's seed, which function is called, and with what: the version of the state, the device, the submodel. So
the k-th digest draws the same whether or not the run was resumed before it, and whoever trained what it digests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from neulite_sim.methods.contract import Method, State
from neulite_sim.user_code.drawing import drawing, key_of

_CALLS = frozenset({
    "digest", "evaluated", "evaluation_tensors", "follow", "offering", "offers", "owed_bytes", "payload",
    "personal_payload", "progress", "start",
})  # fmt: skip
"""What the server asks of a method in the course of a run. Networks are built where they are trained."""


def drawn(method: Method, seed: int, *, is_of_others: bool) -> Method:
    """Return a method whose functions draw what their arguments say; itself where it is this project's."""
    return cast("Method", _Drawn(method, seed)) if is_of_others else method


def has_own_offers(method: Method) -> bool:
    """Return whether a method makes its offers in a form of its own, which may mean anything by them."""
    kind = type(method._method) if isinstance(method, _Drawn) else type(method)
    return kind.offers is not Method.offers


class _Drawn:
    """What a method is, but for what its functions draw."""

    def __init__(self, method: Method, seed: int) -> None:
        self._method = method
        self._seed = seed

    def __getattr__(self, name: str) -> Any:
        """Return what the method has of that name."""
        found = getattr(self._method, name)
        return self._seeded(name, found) if name in _CALLS else found

    def _seeded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            keys = [key for argument in (*args, *kwargs.values()) for key in _keys(argument)]
            with drawing(self._seed, f"method.{name}", *keys):
                return function(*args, **kwargs)

        return call


def _keys(argument: Any) -> tuple[int, ...]:
    """Return what of an argument names a call; nothing of what only goes with it."""
    if isinstance(argument, State):
        return (argument.version,)
    if isinstance(argument, str):
        return (key_of(argument),)
    if isinstance(argument, np.ndarray):
        return (key_of(argument.tobytes()),)
    return (int(argument) % 2**32,) if isinstance(argument, int | np.integer) else ()
