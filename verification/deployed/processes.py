"""The real run: a server and its devices as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from loopback.client import Device, Pace, Post, Speed, serve
from loopback.link import Direction, SharedLink
from loopback.server import RealRound, Server, accuracies

from deployed.constants import CALIBRATION_BATCHES, Constants, fitted, quiet_steps
from deployed.fleets import Fleet
from deployed.presence import presences
from neulite_sim.engine import assembly, building
from neulite_sim.engine.parts import Costing
from neulite_sim.scenario.schema import Scenario
from neulite_sim.training.worker import Worker

START_S = 0.5
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """What the processes did."""

    rounds: list[RealRound]
    constants: Constants
    presence: tuple[tuple[tuple[float, float], ...], ...]
    cpu_s: float
    wall_s: float
    quiet_step_s: float


def directions(costing: Costing, processes: Any) -> tuple[list[Direction], list[Direction]]:
    """Return the throttled links of all devices, down and up, which may share one of the server's."""
    population, rates = costing.population, costing.timing.rates
    shared = (
        [None if rate is None else SharedLink(rate, processes) for rate in (rates.down, rates.up)]
        if rates
        else [None] * 2
    )
    downs, ups = (
        [
            Direction(bits_per_second=float(rate), latency_s=float(latency), shared=link)
            for rate, latency in zip(column, population.latency_s, strict=True)
        ]
        for column, link in zip(
            (population.downlink_bits_per_second, population.uplink_bits_per_second), shared, strict=True
        )
    )
    return downs, ups


def real_run(
    fleet: Fleet, scenario: Scenario, folder: Path, *, pace: Pace, pins: bool
) -> tuple[Real, Mapping[int, float]]:
    """Start the processes, calibrate, run the rounds, and return what happened and the accuracies."""
    torch.set_num_threads(1)
    costing = assembly.assemble(scenario)
    worker = Worker(building.workplace(costing))
    state = costing.method.start(costing.trained, scenario.seed, costing.ledger)
    quiet = quiet_steps(costing, worker, state)
    processes = multiprocessing.get_context("fork")
    downs, ups = directions(costing, processes)
    server = Server(costing, downs)
    start = SimpleNamespace(event=processes.Event(), at_s=processes.Value("d", 0.0))
    population = costing.population
    factors = [float(population.classes[index].name.split("-")[2]) for index in population.class_index]
    pipes = [processes.Pipe(duplex=False) for _ in factors]
    cores = sorted(os.sched_getaffinity(0))

    def begin(number: int, presence: tuple[tuple[float, float], ...], calibration: Any) -> Any:
        speed = Speed(factor=factors[number], pace=pace, quiet=quiet)
        post = Post(
            address=server.address, up=ups[number], presence=presence, core=cores[number % len(cores)] if pins else None
        )
        device = Device(number, costing, worker, speed)
        process = processes.Process(target=serve, args=(device, number, post, start, calibration), daemon=True)
        process.start()
        return process

    # Devices that only calibrate come and go at once: who leaves when is known after the constants.
    calibrating = [begin(number, (), (state, CALIBRATION_BATCHES, pipes[number][1])) for number in range(len(factors))]
    timed = [item for pipe, _ in pipes for item in pipe.recv()]
    for process in calibrating:
        process.join()
    constants = fitted(costing, timed)
    presence = presences(fleet, scenario, constants, folder)
    children_before, wall_before = _children_cpu_s(), time.monotonic()
    devices = [begin(number, presence[number], None) for number in range(len(factors))]
    try:
        server.await_devices(sum(1 for item in presence if item[0][0] == 0), PATIENCE_S)
        start.at_s.value = time.monotonic() + START_S
        start.event.set()
        rounds = server.run(start.at_s.value, state)
    finally:
        server.close()
        for process in devices:
            process.join(2)
            process.kill()
            process.join()
    if any(process.exitcode not in (0, -signal.SIGKILL) for process in devices):
        raise RuntimeError(f"devices ended with {[process.exitcode for process in devices]}")
    found = Real(
        rounds=rounds, constants=constants, presence=presence, cpu_s=_children_cpu_s() - children_before,
        wall_s=time.monotonic() - wall_before,
        quiet_step_s=next(iter(quiet.values())).of(scenario.training.batch_size),
    )  # fmt: skip
    return found, accuracies(costing, worker, rounds)


def _children_cpu_s() -> float:
    found = os.times()
    return found.children_user + found.children_system
