"""A message as a flight: its bytes down, the work of its call on the device's hardware, the bytes of its reply up.

Everything random about it is drawn by the planner of every other run (`engine.planning`), which finds here, in the
place of a ledger of submodels, the one call that is about to leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from neulite_sim.arrays import Integers, Repeated
from neulite_sim.engine.building import server_rates
from neulite_sim.engine.planning import Dispatch, Planner
from neulite_sim.errors import NeuliteError
from neulite_sim.flower.tracking import Work
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.hardware.power import Power, powers_of
from neulite_sim.population.link.network import transfer_s
from neulite_sim.population.table import Population
from neulite_sim.profiling.cost import Costs
from neulite_sim.profiling.plans import Plan
from neulite_sim.scenario.schema import CachingAllocator, Scenario
from neulite_sim.timeline.flights import Flight
from neulite_sim.units import MOST_BYTES, format_bytes, parse_budget_bytes, parse_seconds

MEASURED = "measured"
USUAL_STEP_S = 1.0
_PLAN = Plan(batch_size=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What a call is charged in which no operator of PyTorch was seen.

    `step_s` is on the fastest hardware of the fleet, and longer on slower in proportion; None: the seconds that this
    machine's processor took, as if it were that hardware. `memory_bytes` None: the bytes of message and reply.
    """

    step_s: float | None = USUAL_STEP_S
    memory_bytes: int | None = None

    @classmethod
    def of(cls, step: str | None, memory: str | None) -> Unseen:
        """Return what two options of the command line say.

        Raises:
            NeuliteError: one is no duration or no size.
        """
        try:
            step_s = USUAL_STEP_S if step is None else None if step == MEASURED else parse_seconds(step)
            if step_s is not None and not 0 <= step_s < 1e9:
                raise ValueError(step)
        except ValueError:
            hint = f"write a duration such as 500ms or 2s, or {MEASURED}"
            raise NeuliteError(f"--step: {step!r} is no duration", hint=hint) from None
        try:
            memory_bytes = None if memory is None else parse_budget_bytes(memory)
        except ValueError:
            hint = f"write one such as 200MB, at most {format_bytes(MOST_BYTES)}"
            raise NeuliteError(f"--memory: {memory!r} is no size", hint=hint) from None
        return cls(step_s=step_s, memory_bytes=memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One call as the planner is to charge it."""

    name: str
    device: int
    bytes_down: int
    bytes_up: int
    work: Work
    peak_bytes: int


@dataclass(slots=True)
class CallLedger:
    """What the call that is about to leave costs; the ledger of a run of which nobody knows the calls before.

    `peaks` is by name the least peak of all that were seen, which is what a device needs at the least.
    """

    population: Population
    unseen: Unseen
    context_bytes: int = 0
    rounds_blocks: bool = False
    peaks: dict[str, int] = field(default_factory=dict)
    profiles: dict[str, Any] = field(default_factory=dict)
    _load: Load | None = None
    _fastest: float = 1.0

    def __post_init__(self) -> None:
        self._fastest = max(map(_speed, self.population.classes))

    @property
    def available_memory_bytes(self) -> Integers:
        """Nominal memory of every device."""
        return self.population.available_memory_bytes

    def available_at(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the memory that devices have at a moment."""
        motion = self.population.memory_motion
        if motion is None:
            return self.available_memory_bytes[devices]
        return motion.available_bytes_of(devices, at_s, round_number)

    def take(self, load: Load) -> None:
        """Charge this call from now on."""
        self._load = load
        self.profiles[load.name] = SimpleNamespace(bytes_down=load.bytes_down, bytes_up=load.bytes_up)

    def peak_of(self, work: Work, message_bytes: int) -> int:
        """Return what a device must hold for a call, as its memory is compared: tensor bytes, or those of blocks."""
        if work.is_seen:
            return self.context_bytes + (work.rounded_peak_bytes if self.rounds_blocks else work.peak_bytes)
        return message_bytes if self.unseen.memory_bytes is None else self.unseen.memory_bytes

    def note_peak(self, name: str, peak_bytes: int) -> None:
        """Take note of a peak that was seen."""
        self.peaks[name] = min(peak_bytes, self.peaks.get(name, peak_bytes))

    def peak_memory_bytes_of(self, name: str, devices: Integers | None) -> Integers:
        """Return what each device needs for a kind of message; 0 for one that nobody was sent."""
        num = self.population.num_devices if devices is None else len(devices)
        return np.full(num, self.peaks.get(name, 0), np.int64)

    def compute_s(self, work: Work, device: int) -> float:
        """Return the seconds of a call on a device, before jitter."""
        population = self.population
        hardware = population.classes[int(population.class_index[device])]
        if work.is_seen:
            seconds = work.seconds_on(hardware)
        else:
            step_s = 0.0 if self.unseen.step_s is None else self.unseen.step_s
            seconds = step_s * self._fastest / _speed(hardware)
        speed = 1.0 if population.speed_factor is None else float(population.speed_factor[device])
        if not work.is_seen and self.unseen.step_s is None:
            return work.slept_s * self._fastest / _speed(hardware) / speed
        return seconds / speed + work.slept_s

    def costs_at(self, submodels: Sequence[str], devices: Integers, at_s: float, round_number: int) -> Costs:
        """Return what the call costs its device."""
        load, population = self._load, self.population
        assert load is not None, "no call was taken"
        latency_s = population.latency_s[devices]
        return Costs(
            submodels=Repeated(load.name, 1),
            devices=devices,
            download_s=np.asarray(transfer_s(load.bytes_down, population.downlink_bits_per_second[devices], latency_s)),
            compute_s=np.array([self.compute_s(load.work, load.device)]),
            upload_s=np.asarray(transfer_s(load.bytes_up, population.uplink_bits_per_second[devices], latency_s)),
            peak_memory_bytes=np.array([load.peak_bytes], np.int64),
            available_memory_bytes=self.available_at(devices, at_s, round_number),
            plan_index=np.zeros(1, np.int16),
            plans=(_PLAN,),
        )


def _speed(hardware: DeviceClass) -> float:
    return float(hardware.peak_flops_per_second * hardware.efficiency)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The fleet of a run as the planner and the writers of rows look at it; it has the names of a `Costing`."""

    scenario: Scenario
    population: Population
    ledger: CallLedger
    samples: Integers
    """Samples of each device, as its replies tell; 0 before the first."""
    chooses_plans: bool = False

    @property
    def method(self) -> Any:
        """What stands for a method: memory is heeded, and the kinds of messages are its submodels."""
        return SimpleNamespace(enforces_memory=True, submodels=tuple(self.ledger.peaks) or ("train",))

    @property
    def asked_method(self) -> Any:
        """The same: nobody asks it anything that it could draw for."""
        return self.method

    @property
    def timing(self) -> Any:
        """What stands for the timing: the rates of the server's link."""
        return SimpleNamespace(rates=server_rates(self.scenario))

    @property
    def partition(self) -> Any:
        """What stands for a partition: its sizes."""
        return SimpleNamespace(sizes=self.samples)

    @property
    def powers(self) -> Mapping[str, Power]:
        """Watts of the devices by the name of their class, of those that are known."""
        return powers_of((each.name for each in self.population.classes), self.scenario.energy)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was noted while the fleet was drawn."""
        return self.population.notes


def fleet_of(scenario: Scenario, population: Population, unseen: Unseen) -> Fleet:
    """Return the fleet of a scenario, nothing known yet of what the app asks of it."""
    allocator = scenario.allocator
    is_caching = isinstance(allocator, CachingAllocator)
    context_bytes = allocator.context if isinstance(allocator, CachingAllocator) else 0
    return Fleet(
        scenario=scenario,
        population=population,
        ledger=CallLedger(population, unseen, context_bytes=context_bytes, rounds_blocks=is_caching),
        samples=np.zeros(population.num_devices, np.int64),
    )


class Flying:
    """Plans the flights of a fleet, one call at a time."""

    def __init__(self, fleet: Fleet) -> None:
        given: Any = fleet
        self._ledger = fleet.ledger
        self._planner = Planner(given)

    def flight(self, load: Load, *, at_s: float, round_number: int, number: int) -> Flight:
        """Return the flight of a call that leaves now, with its planned outcome."""
        self._ledger.take(load)
        dispatch = Dispatch(at_s=at_s, round=round_number, version=round_number, stage=load.name, first_flight=number)
        return self._planner.flights(dispatch, np.array([load.device], np.int64), Repeated(load.name, 1))[0]
