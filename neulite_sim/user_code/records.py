"""What the provenance of a run says of users' own code: what files imported, and what a program registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neulite_sim.registry import GIVEN, PYTHON, Choice, Component, load, registered_sha256
from neulite_sim.scenario.inputs import Record, input_records
from neulite_sim.scenario.schema import Scenario
from neulite_sim.user_code.files import files_beside
from neulite_sim.user_code.holding import Given, Holder


def is_of_a_user(field: str, choice: Choice) -> bool:
    """Return whether a component is in a user's own file, was given from Python, or was registered by the program."""
    return choice.kind in (PYTHON, GIVEN) or registered_sha256(field, choice.kind) is not None


def read_records(scenario: Scenario) -> dict[str, Record]:
    """Return `input_records` of a scenario; those of Python files that were run name what they imported, too."""
    records = input_records(scenario)
    for record in records.values():
        if beside := files_beside(record["path"]):
            record["beside"] = beside
    return records


def registered_records(scenario: Scenario) -> dict[str, str]:
    """Return the SHA-256 of the components that a program registered, by the keys at which the scenario names them."""
    found = {key: registered_sha256(field, choice.kind) for key, field, choice in _choices(scenario)}
    return {key: sha256 for key, sha256 in found.items() if sha256 is not None}


def given_values(scenario: Scenario) -> list[Holder]:
    """Return what a scenario was given from Python."""
    return [
        holder
        for _, _, choice in _choices(scenario)
        if isinstance(choice.options, Given)
        for holder in choice.options.holders
    ]


def registered_components(scenario: Scenario) -> list[tuple[str, str, Component, str]]:
    """Return what of a scenario a program registered: field, name, component, and the SHA-256 of its code and data."""
    found = []
    for _, field, choice in _choices(scenario):
        name = choice.kind.partition(":")[0]
        sha256 = registered_sha256(field, name)
        if sha256 is not None:
            found.append((field, name, load(field, name), sha256))
    return found


def _choices(scenario: Scenario) -> Iterator[tuple[str, str, Choice]]:
    for field in ("data", "model", "method", "selection", "protocol"):
        yield field, field, getattr(scenario, field)
    partition = getattr(scenario.data.options, "partition", None)
    if isinstance(partition, Choice):
        yield "data.partition", "partition", partition
    if scenario.workload.model is not None:
        yield "workload.model", "model", scenario.workload.model
    yield "population.availability", "availability", scenario.population.availability


def differing(scenario: Scenario, recorded: Mapping[str, Any]) -> list[str]:
    """Return in words which registered components are not those that a run was made with, by `registered_records`."""
    now = registered_records(scenario)
    return [f"{key}: what is registered now has other code or data" for key in now if recorded.get(key) != now[key]]
