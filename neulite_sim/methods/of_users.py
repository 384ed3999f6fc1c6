"""A method of a user's own: a class, an object, or a function that says how updates become the next model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from neulite_sim.errors import SimulationError
from neulite_sim.later import Tensor
from neulite_sim.methods.aggregation import merged
from neulite_sim.methods.contract import Method, Setting, State, Update
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.methods.watched import mismatch, watched
from neulite_sim.registry import Options
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python
from neulite_sim.user_code.origins import in_a_line

Aggregate = Callable[..., Mapping[str, Tensor]]
"""`aggregate(current, updates)`: the next global model from the present one and the round's updates."""


class Aggregated(FedAvg):
    """FedAvg whose mean is replaced by a function. It holds all updates of a round at once."""

    def __init__(self, aggregate: Aggregate, name: str) -> None:
        super().__init__()
        self._aggregate = aggregate
        self._name = name

    @property
    def folds_by(self) -> None:
        """Every update by itself."""
        return None

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return what the function makes of the updates; names that it leaves out stay as they are."""
        try:
            made = self._aggregate(dict(state.tensors), list(updates))
        except Exception as error:
            raise SimulationError(f"method {self._name} fails: {in_a_line(error)}") from error
        return State(version=state.version + 1, tensors=merged(state.tensors, self._checked(made, state.tensors)))

    def _checked(self, made: Any, current: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if not isinstance(made, Mapping):
            raise SimulationError(
                f"method {self._name} returns {type(made).__name__}; it must return a mapping of tensors by the names "
                "of those that it is given"
            )
        for name, tensor in made.items():
            if name not in current:
                raise SimulationError(f"method {self._name} returns {name!r}, which the model has not")
            if told := mismatch(tensor, current[name]):
                raise SimulationError(f"method {self._name} returns {told} for {name!r}")
        return {name: tensor.detach().to(current[name].dtype) for name, tensor in made.items()}


def method_of(found: Found, options: Options, setting: Setting) -> Method:
    """Return the method that a user's value is or makes.

    Raises:
        ScenarioError: it is neither a method, nor a class of one, nor a function, or its submodels are no names.
    """
    del options
    if (made := found.object_of(Method, {"setting": setting})) is not None:
        return watched(made, found)
    if found.is_function:
        return Aggregated(found.with_options(2), found.name)
    raise found.refused(
        f"{found.name} is {_kind_of(found.value)}, which is no method",
        "give a function aggregate(current, updates) that returns the next global model, or a class that derives from "
        "neulite_sim.methods.contract.Method, for example by way of neulite_sim.methods.fedavg.FedAvg",
    )


def _kind_of(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


PYTHON = python("method", "a method of your own: a function of the updates, or a class", Options, method_of)
GIVEN = given("method", "a method of your own: a function of the updates, or a class", Options, method_of)
