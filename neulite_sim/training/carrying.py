"""Values of users' own on their way to another process of this program: by value, code included."""

from __future__ import annotations

import functools
import pickle
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from neulite_sim.errors import NeuliteError
from neulite_sim.user_code.origins import in_a_line, is_users_module


def let_travel(modules: Iterable[ModuleType]) -> None:
    """Send the code of these modules with what it made: other processes need not find them, nor find them unchanged.

    What Python itself puts into classes and functions, and cannot be pickled, travels as what it is made of.
    """
    from ray import cloudpickle

    for module in modules:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    reducers = cloudpickle.Pickler.dispatch_table
    reducers[functools._lru_cache_wrapper] = _cache
    reducers[functools.cached_property] = lambda value: (_cached_property, (value.func, value.attrname))
    reducers[weakref.WeakKeyDictionary] = lambda value: (type(value), (dict(value),))
    reducers[weakref.WeakValueDictionary] = lambda value: (type(value), (dict(value),))
    reducers[weakref.WeakSet] = lambda value: (type(value), (list(value),))


def _cache(value: Any) -> Any:
    if not is_users_module(value.__module__):
        return value.__reduce__()
    return _cached, (value.__wrapped__, value.cache_parameters())


def _cached(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _cached_property(function: Callable[[Any], Any], name: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    if name is not None:
        made.__set_name__(object, name)
    return made


def packed(values: Any, modules: Iterable[ModuleType]) -> bytes:
    """Return values with what the given modules define, which nobody else need find.

    Raises:
        NeuliteError: they hold what no other process can have.
    """
    from ray import cloudpickle

    let_travel(modules)
    try:
        content: bytes = cloudpickle.dumps(values)  # type: ignore[no-untyped-call]
    except (TypeError, AttributeError, RecursionError, pickle.PicklingError) as error:
        found = f"what was given from Python cannot be sent to the processes of the runs: {in_a_line(error)}"
        raise NeuliteError(found, hint="make such a value inside of the function that needs it") from error
    return content


def unpacked(content: bytes) -> Any:
    """Return values that another process of this program packed; foreign bytes could run code, and are none."""
    from ray import cloudpickle

    return cloudpickle.loads(content)
