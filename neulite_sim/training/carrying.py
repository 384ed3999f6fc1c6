"""Values of users' own on their way to another process of this program: by value, code included."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from neulite_sim.errors import NeuliteError
from neulite_sim.user_code.origins import in_a_line


def packed(values: Any, modules: Iterable[ModuleType]) -> bytes:
    """Return values with what the given modules define, which nobody else need find.

    Raises:
        NeuliteError: they hold what no other process can have.
    """
    from ray import cloudpickle

    for module in modules:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
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
