"""Values given from Python, put into a scenario before anything else is made of it."""

from __future__ import annotations

from typing import Any, TypedDict

from neulite_sim.scenario.sources import Source


class Values(TypedDict, total=False):
    """What may be given from Python in the place of a component of the scenario."""

    model: Any
    data: Any
    partition: Any
    method: Any
    selector: Any
    protocol: Any
    availability: Any


def source_of(scenario: Source, values: Values) -> Source:
    """Return a scenario with values in the place of its components; itself where there are none."""
    if not values:
        return scenario
    from neulite_sim.engine.given import with_given

    return with_given(scenario, **values)
