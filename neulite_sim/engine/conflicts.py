"""What a scenario and its fleet show before anything is built: parts that do not go together, data that is not there.

PyTorch is not needed for any of it, so that `validate` says at once what `run` would refuse.
"""

from __future__ import annotations

import numpy as np

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.population.table import Population
from neulite_sim.registry import component
from neulite_sim.scenario.schema import RateTrace, Scenario

# The backend that trains nothing, so that nothing is ever tested.
DRY_RUN = "dry-run"


def require_no_conflict(scenario: Scenario) -> None:
    """Refuse settings that exclude each other whatever model and data there are.

    Raises:
        ScenarioError: with a problem for each.
    """
    problems = [*_proxies(scenario), *_shared_links(scenario)]
    if scenario.backend.kind == DRY_RUN and scenario.evaluation.diagnostics:
        problems.append(nothing_to_measure(DRY_RUN))
    limits = getattr(scenario.method.options, "memory_limit", True)
    if scenario.training.shrink_batch is not None and limits is False:
        problems.append(nothing_to_shrink())
    if problems:
        raise ScenarioError(problems)


def nothing_to_measure(backend_kind: str) -> Problem:
    """Return the problem of diagnostics of a run that trains nothing."""
    finding = f"{backend_kind} trains nothing and tests nothing, so there is nothing to measure"
    hint = "remove it, or use backend inprocess or ray"
    return Problem.advising(key="evaluation.diagnostics", found=finding, hint=hint)


def nothing_to_shrink() -> Problem:
    """Return the problem of smaller batches for a method that heeds no memory."""
    finding = "acts only where memory limits who trains what, and method.memory_limit is false"
    return Problem.advising(key="training.shrink_batch", found=finding, hint="remove one of them")


def _proxies(scenario: Scenario) -> list[Problem]:
    if scenario.proxy.image_size is None or "image_size" in type(scenario.data.options).model_fields:
        return []
    wish = "set data.shape to what is trained and workload.input_shape to what is charged"
    return [Problem.advising(key="proxy.image_size", found=f"{scenario.data.label} has no image_size", hint=wish)]


def _shared_links(scenario: Scenario) -> list[Problem]:
    """Return what a link of the server cannot be combined with: flights that cannot be planned ahead."""
    if scenario.server.downlink is None and scenario.server.uplink is None:
        return []
    population = scenario.population
    links = [group.link or population.link for group in population.groups]
    is_traced = any(
        isinstance(rate, RateTrace) for link in links if link is not None for rate in (link.downlink, link.uplink)
    )
    others = {
        "links that follow a trace (population.link)": is_traced,
        "churn.battery": scenario.churn.battery is not None,
    }
    return [
        Problem.advising(
            key="server", found=f"a shared link of the server does not go with {other}", hint="leave out one of them"
        )
        for other, is_there in others.items()
        if is_there
    ]


def survey_data(scenario: Scenario) -> tuple[str, ...]:
    """Return what the names of a dataset's files show, a sentence each; no file is read.

    Raises:
        DataNotFoundError: files are missing, or are not those of this kind of dataset.
        ScenarioError: more samples are asked for than there are.
    """
    survey = component("data", scenario.data.kind).survey
    if survey is None:
        return ()
    notes: tuple[str, ...] = survey(scenario.data.options)
    return notes


def fleet_remarks(scenario: Scenario, population: Population) -> tuple[str, ...]:
    """Return a sentence for each wish that this fleet cannot fulfil, as nobody is there for it."""
    wanted, devices = scenario.selection.options.devices_per_round, scenario.population.devices
    if scenario.population.availability.kind != "trace":
        return ()
    everybody = np.arange(devices)
    until_s = np.inf if scenario.stop.virtual_time is None else scenario.stop.virtual_time
    come = population.availability.next_online_s(everybody, 0.0)
    online = int(np.count_nonzero(np.isfinite(come) & (come < until_s)))
    if online == devices or (wanted <= online and online):
        return ()
    when = "ever" if np.isinf(until_s) else "before stop.virtual_time"
    if not online:
        return (f"population.availability: no device is online {when}, so nothing will be trained",)
    return (
        f"selection.devices_per_round is {wanted}, but only {online} of {devices} devices are online {when}: no more "
        "than these take part in a round",
    )
