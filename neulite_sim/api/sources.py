"""Values given from Python, put into a scenario before anything else is made of it, or among the values of a grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypedDict

from neulite_sim.registry import GIVEN
from neulite_sim.scenario.loading import unchecked_values
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sources import AnyScenario, Replaced, Settings, Source, setting_texts
from neulite_sim.scenario.sweep_files import load_sweep


class Values(TypedDict, total=False):
    """What may be given from Python in the place of a component of the scenario."""

    model: Any
    data: Any
    partition: Any
    method: Any
    selector: Any
    protocol: Any
    availability: Any


def source_of(scenario: AnyScenario, values: Values) -> Source:
    """Return a scenario with values in the place of its components; itself where there are none.

    Raises:
        ScenarioError: a value can neither be told from another nor sent to another process.
    """
    if not values:
        return scenario
    from neulite_sim.engine.given import in_place

    return in_place(scenario, **values)


class Chosen:
    """Values that a grid or a list of methods chooses from, as plain ones; what was given is held as long as this is.

    `source` and `overrides` are those of the sweep: options that are the same for all components of a field stay.
    """

    def __init__(self, source: Source, overrides: Settings = ()) -> None:
        self._source = source
        self._overrides = overrides
        self._held: list[Any] = []

    def plain(self, key: str, value: Any) -> Any:
        """Return a value for a dotted key as a scenario file would have it.

        Raises:
            ScenarioError: it can neither be told from another nor sent to another process.
        """
        if isinstance(value, str | float | Mapping | list | tuple | os.PathLike) or value is None:
            return value
        if hasattr(value, "tolist") and not callable(value):
            return value
        from neulite_sim.engine.given import held_at

        found = held_at(key, value)
        if found is None:
            return value
        holder, kept = found
        self._held.append(holder)
        return {**self._kept(key, kept), "kind": GIVEN, "name": holder.name, "sha256": holder.sha256}

    def _kept(self, key: str, names: tuple[str, ...]) -> Mapping[str, Any]:
        if not names:
            return {}
        section: Any = self._said()
        for part in key.split("."):
            section = section.get(part) if isinstance(section, Mapping) else None
        return {name: section[name] for name in names if name in section} if isinstance(section, Mapping) else {}

    def _said(self) -> Any:
        """Return what the scenario says, of which the grid may still have to say a part."""
        source = load_sweep(self._source).scenario
        plain = source.scenario if isinstance(source, Replaced) else source
        return unchecked_values(plain.dump() if isinstance(plain, Scenario) else plain, setting_texts(self._overrides))
