"""Another backend, put into a scenario: what the command line and `resume` do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import component
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Scenario

WorkerCount = int | Literal["auto"]
"""A number of Ray actors or of threads, or as many as the processors hold."""


def with_backend(
    scenario: Scenario, *, kind: str | None = None, workers: WorkerCount | None = None, address: str | None = None
) -> Scenario:
    """Return the scenario with another backend; what the old and the new one have in common is kept.

    Raises:
        ScenarioError: no such backend, or `workers` or `address` for one that has none.
    """
    section: dict[str, Any] = scenario.backend.dump()
    if kind is not None and kind != section["kind"]:
        threads = section.get("threads_per_worker")
        section = {"kind": kind}
        if threads is not None and kind != "dry-run":
            section["threads_per_worker"] = threads
    asked = {"workers": workers, "address": address}
    changes = {name: value for name, value in asked.items() if value is not None}
    act_with = {"workers": ("ray", "inprocess"), "address": ("ray",)}
    if idle := [name for name in changes if section["kind"] not in act_with[name]]:
        options = {"workers": "--workers", "address": "--ray-address"}
        raise ScenarioError(
            Problem.advising(
                key=options[name],
                found=f"{changes[name]!r} acts only with backend {' or '.join(act_with[name])}, not with "
                f"{section['kind']!r}",
                hint="add --backend ray or leave it out",
            )
            for name in idle
        )
    if kind is None and not changes:
        return scenario
    changed = parse_scenario({**scenario.dump(), "backend": {**section, **changes}})
    return changed.written_in(scenario.written.without("backend"))


def begun_backend(scenario: Scenario) -> AbstractContextManager[None]:
    """Begin what takes long as the scenario's backend starts, for whoever loads the engine and runs it within."""
    begun = component("backend", scenario.backend.kind).begun
    return nullcontext() if begun is None else begun(scenario.backend.options)
