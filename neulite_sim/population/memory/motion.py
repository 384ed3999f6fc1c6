"""How available memory moves while other programs take and free theirs: `constant`, `redrawn`, `walk` and `trace`.

A component's `build(options)` returns a factory `(memory, seed) -> MemoryMotion`, or None where nothing ever moves.
What was drawn from `available_memory` is each device's nominal memory; motion never exceeds its usable memory. All
lookups are pure: asking in any order, sparsely or backwards, gives the same answers.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from neulite_sim.bounds import Duration
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.outside import user_path
from neulite_sim.population.memory.contract import FleetMemory, MemoryMotion, MotionFactory
from neulite_sim.population.memory.distributions import varies
from neulite_sim.population.memory.steps import Redraws, RoundMemory, SteppedMemory, StepSource, Walk
from neulite_sim.population.memory.traced import TraceMemory
from neulite_sim.registry import Component, Options
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.traces.intervals import LAST_S, nearest_tick
from neulite_sim.traces.labels import rows_for
from neulite_sim.traces.memory import read_memory_trace
from neulite_sim.traces.origin import OriginOption
from neulite_sim.units import MOST_SECONDS, Seconds, format_seconds, seconds_or

KEY = "population.memory_motion"
StepLength = Annotated[Seconds, Field(ge=1)]
_Seconds = Annotated[float, Field(ge=1, le=MOST_SECONDS)]


class ConstantOptions(Options):
    """Nothing to set."""


class RedrawnOptions(Options):
    """Each device's memory is drawn anew, again and again, at moments of its own."""

    every: Annotated[
        Literal["round"] | Annotated[float, Field(ge=1, le=MOST_SECONDS)], BeforeValidator(seconds_or("round"))
    ] = 600.0
    """How long a draw holds, such as 10min; or `round` for one draw per round, which holds until a flight ends."""
    spread: float | None = Field(default=None, ge=1e-6, le=3)
    """Draw around each device's nominal memory instead, times exp(spread z), z near normal; by default each draw comes
    from `available_memory`, the first one being the nominal memory."""


class WalkOptions(Options):
    """A random walk of the logarithm of available memory, drawn back to the nominal memory."""

    step: float = Field(ge=1e-6, le=1)
    """Standard deviation of one step of the logarithm; 0.1 is about a tenth."""
    every: StepLength = 60.0
    """How long a step takes, such as 1min."""
    reversion: float = Field(default=0.1, ge=0.001, le=1)
    """Share of the way back to the nominal memory per step. The deviation in the long run is
    step / sqrt(1 - (1 - reversion)^2), and what happened is half forgotten after about 0.7 / reversion steps."""


class TraceOptions(Options):
    """What each device has, from a CSV file with the header `device,t_s,available_bytes` or `device,t_s,share`."""

    path: InputFile
    """The file (`.csv` or `.csv.gz`), beside the scenario's file or in the current folder."""
    repeat_every: Annotated[Duration, Field(le=LAST_S)] | None = None
    """The trace begins again after so long, such as 24h; without it, its last values hold for ever."""
    origin: OriginOption = 0.0
    """Time of the file that becomes virtual time 0: seconds, or `first` for the earliest in it, where its times are
    Unix time stamps for example. No time of the file may lie before it."""


def _build_constant(_options: ConstantOptions) -> MotionFactory:
    return lambda _memory, _seed: None


def _build_redrawn(options: RedrawnOptions) -> MotionFactory:
    def factory(memory: FleetMemory, seed: int) -> MemoryMotion:
        source: StepSource
        if options.spread is not None:
            source = Walk(memory, step=options.spread, reversion=1.0, seed=seed)
        else:
            _require_variety(memory)
            source = Redraws(memory, seed=seed)
        if options.every == "round":
            return RoundMemory(source, num_devices=memory.num_devices)
        return SteppedMemory(source, num_devices=memory.num_devices, every_s=float(options.every), seed=seed)

    return factory


def _require_variety(memory: FleetMemory) -> None:
    """Refuse redraws that would always give the same."""
    used = [memory.choices[int(index)] for index in np.unique(memory.choice_index)]
    if any(map(varies, used)):
        return
    kinds = " and ".join(dict.fromkeys(chosen.kind for chosen in used))
    finding = f"redrawn draws from population.available_memory, and every draw from {kinds} is the same"
    hint = f"set {KEY}.spread, or use available_memory uniform, lognormal or choice with different values"
    raise ScenarioError([Problem.advising(key=KEY, found=finding, hint=hint)])


def _build_walk(options: WalkOptions) -> MotionFactory:
    def factory(memory: FleetMemory, seed: int) -> MemoryMotion:
        source = Walk(memory, step=options.step, reversion=options.reversion, seed=seed)
        return SteppedMemory(source, num_devices=memory.num_devices, every_s=options.every, seed=seed)

    return factory


def _build_trace(options: TraceOptions) -> MotionFactory:
    def factory(memory: FleetMemory, seed: int) -> MemoryMotion:
        path = user_path(options.path)
        trace = read_memory_trace(path, options.origin)
        repeat_s = math.inf if options.repeat_every is None else nearest_tick(options.repeat_every)
        if repeat_s <= trace.last_s:
            finding = (
                f"{format_seconds(repeat_s)} ({repeat_s:g} s) is not after the last line of {options.path}, at "
                f"{trace.last_s:g} s"
            )
            hint = "make it longer"
            raise ScenarioError([Problem.advising(key=f"{KEY}.repeat_every", found=finding, hint=hint)])
        rows = rows_for(memory.num_devices, num_labels=len(trace.labels), seed=seed)
        return TraceMemory(trace, memory, rows=rows, repeat_s=repeat_s, path=path)

    return factory


CONSTANT = Component(
    kind="constant",
    summary="available memory stays as it is drawn",
    source="this project",
    options=ConstantOptions,
    build=_build_constant,
)
REDRAWN = Component(
    kind="redrawn",
    summary="available memory drawn anew every so often, or for every round",
    source="after the dynamic setting of HeteroFL: Diao, Ding and Tarokh, ICLR 2021, section 4",
    options=RedrawnOptions,
    build=_build_redrawn,
)
WALK = Component(
    kind="walk",
    summary="available memory a mean-reverting random walk around the nominal one",
    source="Ornstein-Uhlenbeck process at discrete times: Uhlenbeck and Ornstein, Physical Review 36, 1930",
    options=WalkOptions,
    build=_build_walk,
)
TRACE = Component(
    kind="trace",
    summary="available memory from a CSV file with the header device,t_s,available_bytes or device,t_s,share",
    source="the file that the scenario names",
    options=TraceOptions,
    build=_build_trace,
)
