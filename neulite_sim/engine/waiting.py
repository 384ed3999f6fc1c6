"""When somebody can be offered work again, or why nobody ever can: availability and memory decide together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.memory_ahead import Chance, MemoryAhead
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import Denial, Proposal
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.population.table import Population
from neulite_sim.units import format_bytes, format_seconds

MOST_CHANGES = 10_000
"""How many changes of memory are looked at where nothing says how much memory a device lacks."""


def next_chance(
    population: Population,
    idle: Integers,
    offers_at: Callable[[float], Proposal],
    at_s: float,
    *,
    until_s: float = math.inf,
) -> Chance:
    """Return the first moment after `at_s` at which one of the `idle` devices is online and is offered work.

    `offers_at(moment_s)` are the offers to them with the memory of a moment. The moment is `inf` where there is none,
    as far as changes of memory until `until_s` tell; beside it stand the offers that were looked at last.
    """
    moment_s, motion = float(np.nextafter(at_s, math.inf)), population.memory_motion
    if motion is not None and not hasattr(motion, "enough_from_s"):
        return _by_changes(population, idle, offers_at, moment_s, until_s)
    proposal = offers_at(moment_s)
    able_s = population.availability.next_online_s(proposal.offers.devices, moment_s).min(initial=math.inf)
    if motion is None or able_s < motion.next_change_s(moment_s):
        return Chance(at_s=float(able_s), proposal=proposal)
    ahead = MemoryAhead(population, idle, proposal, moment_s)
    found = ahead.chance(offers_at, proposal, until_s)
    return found if ahead.is_understood else _by_changes(population, idle, offers_at, moment_s, until_s)


def _by_changes(
    population: Population, idle: Integers, offers_at: Callable[[float], Proposal], moment_s: float, until_s: float
) -> Chance:
    """Return the same, with a look at the offers at each change of memory."""
    assert population.memory_motion is not None
    for _ in range(MOST_CHANGES):
        proposal = offers_at(moment_s)
        change_s = population.memory_motion.next_change_s(moment_s)
        able_s = population.availability.next_online_s(proposal.offers.devices, moment_s).min(initial=math.inf)
        if able_s < change_s:
            return Chance(at_s=float(able_s), proposal=proposal)
        # Until somebody is online at all, memory may change as it will.
        anybody_s = float(population.availability.next_online_s(idle, moment_s).min(initial=math.inf))
        moment_s = max(change_s, anybody_s)
        if moment_s == math.inf or moment_s > until_s:
            break
    return Chance(at_s=math.inf, proposal=proposal, looked_until_s=moment_s)


RAISE_MEMORY = "raise population.available_memory or lower the batch size that is charged (workload.batch_size)"
COME_BACK = "let devices come online for longer (population.availability; a trace can be repeated with `repeat`)"
STOP_BEFORE = "stop before (stop.rounds or stop.virtual_time)"


def nobody_left(population: Population, chance: Chance, at_s: float, *, round_number: int) -> SimulationError:
    """Return the error that nobody can be offered work any more after `at_s`, and why; see `why_nobody`."""
    where = f"after virtual time {format_seconds(at_s)} (round {round_number}, {chance.proposal.stage})"
    return SimulationError(f"nobody can be offered work any more {where}{why_nobody(population, chance, at_s)}")


def nobody_before_the_end(population: Population, chance: Chance, at_s: float, stop_s: float) -> str:
    """Return the notice that nothing happens any more until the virtual time at which a run stops, and why."""
    why, _ = _reasons(population, chance.proposal, at_s)
    return (
        f"nobody can be offered work any more from virtual time {format_seconds(at_s)} to {format_seconds(stop_s)} "
        f"(stop.virtual_time), where the run ends: {why}"
    )


def why_nobody(population: Population, chance: Chance, at_s: float) -> str:
    """Return in words why nobody can ever be offered work again, and what to do about those very reasons.

    Its proposal holds the offers and denials of all that own data; none of those that are offered anything comes online
    again after `at_s`, or not with the memory.
    """
    moves = ""
    if population.memory_motion is not None:
        until = format_seconds(chance.looked_until_s) if chance.looked_until_s < math.inf else ""
        ahead = f" and was looked at until virtual time {until}" if until else ""
        moves = f", although memory moves (population.memory_motion){ahead}"
    why, advice = _reasons(population, chance.proposal, at_s)
    return f"{moves}: {why}; {', or '.join([*advice, STOP_BEFORE])}"


def _reasons(population: Population, proposal: Proposal, at_s: float) -> tuple[str, list[str]]:
    """Return why nobody can be offered work, and what to do about those very reasons, in their order."""
    able, denials = proposal.offers.devices, proposal.denials
    reasons, advice = [], []
    back = [_that_return(population, denial.devices, at_s) for denial in denials]
    num_gone = sum(len(denial.devices) - len(devices) for denial, devices in zip(denials, back, strict=True))
    num_apart = len(_that_return(population, able, at_s))
    if num_lost := len(able) - num_apart:
        reasons.append(f"{_devices(num_lost)} that {_fit(num_lost)} never {_come(num_lost)} online again")
        advice.append(COME_BACK)
    if num_apart:
        reasons.append(f"{_devices(num_apart)} had the memory only while offline")
        advice.append(RAISE_MEMORY)
    for denial, devices in zip(denials, back, strict=True):
        if len(devices):
            reasons.append(_denied(denial, devices))
            advice += [RAISE_MEMORY] if denial.reason == OUT_OF_MEMORY else []
    if num_gone:
        reasons.append(
            f"{_devices(num_gone)} that could be offered nothing either never {_come(num_gone)} online again"
        )
        advice.append(COME_BACK)
    return "; ".join(reasons) or "no device owns data", list(dict.fromkeys(advice))


def _that_return(population: Population, devices: Integers, at_s: float) -> Integers:
    """Return those of `devices` that are online now or come online again."""
    return devices[np.flatnonzero(np.isfinite(population.availability.next_online_s(devices, at_s)))]


def _denied(denial: Denial, devices: Integers) -> str:
    """Return in words why `devices`, some of the denied, are offered nothing."""
    what = f"{_devices(len(devices))} denied: {denial.reason}" + (f" for {denial.submodel}" if denial.submodel else "")
    if denial.shortfall is None:
        return what
    missing = denial.shortfall()[np.isin(denial.devices, devices)]
    return f"{what}, {format_bytes(int(missing.min()))} at least"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _fit(count: int) -> str:
    return "fits" if count == 1 else "fit"


def _come(count: int) -> str:
    return "comes" if count == 1 else "come"
