"""Scenarios with values given from Python: models, data and code of a user's own take the place of components."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neulite_sim.arguments import wrong
from neulite_sim.data import of_users as data
from neulite_sim.data.contract import DatasetOptions
from neulite_sim.errors import Problem, ScenarioError, UnknownComponentError, close_matches
from neulite_sim.methods import of_users as methods
from neulite_sim.models import of_users as models
from neulite_sim.population.availability import of_users as availability
from neulite_sim.registry import GIVEN, Options, register_component
from neulite_sim.scenario.loading import Replacing
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sources import AnyScenario, Replaced, Source, scenario_from
from neulite_sim.selection import of_users as selection
from neulite_sim.selection.contract import SelectorOptions
from neulite_sim.timeline import of_users as timeline
from neulite_sim.user_code.components import Adapt, registered
from neulite_sim.user_code.fingerprint import Fingerprint, NotTrackedError, fingerprint
from neulite_sim.user_code.holding import MOST_NAME, Holder, held


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in a scenario a value given from Python stands, and what makes a component of it."""

    group_field: str
    keys: tuple[str, ...]
    base: type[Options]
    adapt: Adapt

    @property
    def kept(self) -> tuple[str, ...]:
        """The options that stay when the component is replaced: those that all of its field have."""
        return tuple(self.base.model_fields)


_PLACES: Mapping[str, _Place] = {
    "model": _Place(group_field="model", keys=("model",), base=models.ModelOptions, adapt=models.architecture_of),
    "data": _Place(group_field="data", keys=("data",), base=DatasetOptions, adapt=data.dataset_of),
    "partition": _Place(group_field="partition", keys=("data", "partition"), base=Options, adapt=data.deal_of),
    "method": _Place(group_field="method", keys=("method",), base=Options, adapt=methods.method_of),
    "selector": _Place(
        group_field="selection", keys=("selection",), base=SelectorOptions, adapt=selection.selector_of
    ),
    "protocol": _Place(group_field="protocol", keys=("protocol",), base=Options, adapt=timeline.protocol_of),
    "availability": _Place(
        group_field="availability", keys=("population", "availability"), base=Options,
        adapt=availability.availability_of,
    ),
}  # fmt: skip
"""By the names of arguments, in the order in which they are put into a scenario."""


def with_given(
    scenario: AnyScenario, overrides: Sequence[str] = (), *, seed: int | None = None, **values: Any
) -> Scenario:
    """Return a scenario with values in the place of its components.

    `values` are any of model, data, partition, method, selector, protocol and availability, None for those that stay.
    What the file or the mapping says at their places is not needed; the partition of its data, and how many devices a
    selector chooses, stay. `overrides` are `key=value` as of `--set`.

    Raises:
        ScenarioError: with every problem found, each with its file, line and dotted key.
    """
    return scenario_from(in_place(scenario, **values), overrides, seed=seed)


def in_place(scenario: AnyScenario, **values: Any) -> Source:
    """Return a scenario that is still to be read, with values in the place of its components, for `scenario_from`.

    Raises:
        TypeError: a value of another name.
        ScenarioError: a value holds what can neither be told from another nor sent to another process.
    """
    holders = held_values(**values)
    if not holders:
        return scenario
    replacing = (
        Replacing(
            keys=_PLACES[name].keys,
            component={"kind": GIVEN, "name": holder.name, "sha256": holder.sha256},
            keeps=_PLACES[name].kept,
        )
        for name, holder in holders.items()
    )
    return Replaced(scenario=scenario, replacing=tuple(replacing), held=tuple(holders.values()))


def held_values(**values: Any) -> dict[str, Holder]:
    """Return the holders of values given from Python, by the names of arguments; None stands for no value.

    As long as a holder lives, scenarios find its value.

    Raises:
        TypeError: an argument of another name.
        ScenarioError: a value holds what can neither be told from another nor sent to another process.
    """
    for name in values:
        if name not in _PLACES and values[name] is not None:
            raise TypeError(f"nothing is given as {name!r}{close_matches(name, _PLACES)}")
    return {name: _holder(name, values[name]) for name in _PLACES if values.get(name) is not None}


def held_at(key: str, value: Any) -> tuple[Holder, tuple[str, ...]] | None:
    """Return the holder of a value for the component at a dotted key, and which options of the present one stay.

    None where nothing is given at that key.

    Raises:
        ScenarioError: the value holds what can neither be told from another nor sent to another process.
    """
    for argument, place in _PLACES.items():
        if key in (argument, ".".join(place.keys)):
            return _holder(argument, value), place.kept
    return None


def _holder(argument: str, value: Any) -> Holder:
    key, name = ".".join(_PLACES[argument].keys), name_of(value, argument)
    traced = _traced(key, name, value)
    return held(
        Holder(
            field=key,
            name=name,
            sha256=traced.sha256,
            value=value,
            modules=traced.modules,
            generators=traced.generators,
        )
    )


def _traced(key: str, name: str, value: Any) -> Fingerprint:
    try:
        return fingerprint(value)
    except NotTrackedError as error:
        found = f"{name} {error}, which can neither be told from another nor be sent to worker processes"
        raise ScenarioError([Problem.advising(key=key, found=found, hint="make it inside of the function")]) from error
    except RecursionError:
        found = f"{name} holds values nested too deep to be told from another"
        raise ScenarioError([Problem.advising(key=key, found=found, hint="give a function that builds it")]) from None


def name_of(value: Any, argument: str) -> str:
    """Return what a value is called in its own code: a function or class by its name, an object of a class by that's.

    What has no code of its own, such as an array, is called as the argument that it is given as.
    """
    if isinstance(value, list | tuple | dict | str | np.ndarray):
        return "arrays" if argument == "data" else argument
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return str(name).rpartition("<locals>.")[2][:MOST_NAME]


_TAKEN = {
    "model": "a PyTorch module, a function that builds one, or blocks and a head",
    "data": "arrays, PyTorch datasets, or a function that returns them",
    "partition": "an array of sample numbers per device, the device of each sample, or a function that returns them",
    "method": "a function of the present model and the updates, a class of methods, or one of its objects",
    "selection": "a function of the offers, a class of selectors, or one of its objects",
    "protocol": "a class of protocols, one of its objects, or a function that makes one",
    "availability": "an object with its lookups, or a class or function that makes one",
}
_NUMBERS = (bool, int, float, complex, bytes, np.generic)
_HOLDERS = (str, list, tuple, set, Mapping, np.ndarray)


def _require_likely(group_field: str, value: Any) -> None:
    """Refuse what can never be a component of a field; what comes of others shows where a run calls them."""
    is_number = value is None or isinstance(value, _NUMBERS) or type(value) is object
    # What holds data may be data, and a network may be given as blocks and a head.
    holds = isinstance(value, _HOLDERS) and group_field not in ("data", "partition")
    if group_field == "model" and isinstance(value, tuple | list):
        holds = not value
    if is_number or holds:
        raise wrong("value", value, f"{_TAKEN[group_field]}, or a Component")


def register(field: str, name: str, value: Any, *, summary: str = "registered by a program") -> None:
    """Let scenarios of this process name a value of your own: `register("model", "my-net", build_my_net)`.

    `field` is model, data, partition, method, selection (or selector), protocol or availability. `value` is what
    `simulate` takes for it, or a `Component`; a later one of the same name replaces it. In a scenario, the parameters
    of a function or class are the options beside `kind`. Other processes do not know the name: for them, name a file
    with `kind: python`, or install a package.

    Raises:
        UnknownComponentError: there is no such field, or an installed component has this name.
        ArgumentError: `value` is nothing that `simulate` takes for it.
    """
    places = {place.group_field: place for place in _PLACES.values()} | dict(_PLACES)
    for argument, text in (("field", field), ("name", name), ("summary", summary)):
        if not isinstance(text, str):
            raise wrong(argument, text, "a text")
    if field not in places:
        known = ", ".join(dict.fromkeys(place.group_field for place in _PLACES.values()))
        raise UnknownComponentError(f"nothing is registered for {field!r}{close_matches(field, places)} ({known})")
    if not name or ":" in name or not name.isprintable() or len(name) > MOST_NAME:
        raise UnknownComponentError(f"{name!r} can be no name of a component", hint="use letters, digits and '-'")
    place = places[field]
    key = ".".join(place.keys)
    _require_likely(place.group_field, value)
    found = registered(key, name, value, summary, place.base, place.adapt)
    register_component(place.group_field, name, found, sha256=_traced(key, name, value).sha256)
