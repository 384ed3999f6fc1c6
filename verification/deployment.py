"""Run a real federation beside the simulated one: processes that talk over TCP, and the same scenario on the clock.

    python verification/deployment.py [--scenarios equal,mixed,churn] [--small] [--pace stated] [--method fedavg]

A server and six devices are processes of this machine. Messages pass the loopback through throttled links with the
scenario's rates and latency. Each device trains for real, by the function that an actor calls, on one thread, pinned
to a core, and slowed down by a factor. The processes' clocks and sockets alone decide who arrives when. What the server
shares with the simulator is the method, the selector and the streams of random numbers.

Before the rounds, the slowed devices train with batches of other sizes than the scenario's. Two constants of the time
model are fitted to what that took, seconds per operation and per operator, and the scenario is simulated with them.
Compared are the seconds of every round, the order of arrivals, the bytes, and the accuracy after each round; the
weights at the end are the same to the bit where the same devices arrived in each round.

What it shows: that downloads, steps, uploads, shared links, departures, rounds and aggregation add up in the simulator
as they do between processes. With `--pace stated`, the default, a step takes the time that the device is said to take,
whatever else this machine is doing: it does not show that a board's steps last as long as predicted, for which there is
verification/time_model.py. With `--pace measured` a step takes a multiple of the processor time that it really took;
on a busy machine that wanders by a tenth and more, and so does the error. Neither shows a radio, a kernel's network
stack under load, or thousands of connections.

The exit code is 0 where bytes are equal, the mean round time is within 5 %, and, where the same devices arrived, the
weights are equal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from loopback.client import Device, Pace, Post, Quiet, Speed, Timed, serve, sizes_of
from loopback.link import Direction, SharedLink
from loopback.server import RealRound, Server, accuracies
from safetensors.torch import load_file
from scipy.optimize import nnls

from neulite_sim.engine import assembly, building
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.contract import LocalTask
from neulite_sim.profiling.plans import Plan
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Scenario
from neulite_sim.training.worker import Worker

GOAL = 0.05
TIE_S = 0.05
"""Arrivals that are predicted so close together have no order that means anything."""
CALIBRATION_BATCHES = (8, 24)
"""Other sizes than the scenario's 16."""
QUIET_TRAININGS = 3
START_S = 0.5
FOR_EVER_S = 1e6
PATIENCE_S = 120.0
FAST, SLOW = 20.0, 60.0
"""So many times slower than this machine: all devices together keep less than one core busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The devices of a scenario: how slow, over which link; whether some leave; and the server's own link."""

    factors: tuple[float, ...]
    links: tuple[str, ...]
    leaves: bool = False
    server: str | None = None
    chosen: int | None = None
    """How many train in a round; all where it is None."""
    samples: int | None = None
    """Of the data, all by default."""


FLEETS = {
    "equal": Fleet(factors=(FAST,) * 6, links=("fast",) * 6, chosen=4),
    "mixed": Fleet(
        factors=(FAST, FAST, 30.0, 40.0, SLOW, SLOW), links=("fast", "slow", "fast", "slow", "fast", "slow"),
        server="8Mbps",
    ),
    "churn": Fleet(factors=(FAST, 30.0, 30.0, 40.0, 40.0, SLOW), links=("fast",) * 6, leaves=True),
}  # fmt: skip
SMALL = {
    "equal": Fleet(factors=(10.0,) * 3, links=("fast",) * 3, chosen=2, samples=300),
    "mixed": Fleet(factors=(10.0, 20.0, 30.0), links=("slow", "fast", "fast"), server="8Mbps", samples=300),
    "churn": Fleet(factors=(20.0, 20.0, 30.0, 40.0), links=("fast",) * 4, leaves=True, samples=400),
}
LINKS = {
    "fast": {"downlink": "8Mbps", "uplink": "4Mbps", "latency": "20ms"},
    "slow": {"downlink": "4Mbps", "uplink": "1Mbps", "latency": "80ms"},
}


def scenario_of(fleet: Fleet, *, rounds: int, method: str, folder: Path, trace: Path | None = None) -> Scenario:
    """Return the scenario of a fleet, whose hardware stands in the folder."""
    groups = [
        {"device": device_name(factor), "share": 1, "link": LINKS[link]}
        for factor, link in zip(fleet.factors, fleet.links, strict=True)
    ]
    limits = {} if fleet.samples is None else {"train_samples": fleet.samples, "test_samples": 200}
    plain: dict[str, Any] = {
        "name": "deployment",
        "seed": 7,
        "data": {"kind": "digits", "image_size": 16, "partition": {"kind": "dirichlet", "alpha": 2.0}, **limits},
        "model": "lenet",
        "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.05, "momentum": 0.9},
        "population": {
            "devices": len(groups),
            "hardware": str(folder / "hardware.toml"),
            "groups": groups,
            "available_memory": {"kind": "uniform", "low": "100MB", "high": "200MB"},
            "speed_jitter": 0,
        },
        "method": method,
        "selection": {"kind": "uniform", "devices_per_round": fleet.chosen or len(groups)},
        "stop": {"rounds": rounds},
        "evaluation": {"every_rounds": 1},
        "backend": "inprocess",
    }
    if fleet.server is not None:
        plain["server"] = {"downlink": fleet.server, "uplink": fleet.server}
    if trace is not None:
        plain["population"]["availability"] = {"kind": "trace", "path": str(trace), "repeat": False}
    return parse_scenario(plain)


def device_name(factor: float) -> str:
    """Return what a device so many times slower than this machine is called."""
    return f"this-machine-{factor:g}-times-slower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What was fitted: operations per second and seconds per operator of this machine, and how well that fits."""

    flops_per_second: float
    overhead_s: float
    median_error: float

    def write(self, folder: Path, factors: Sequence[float]) -> None:
        """Write the hardware of devices that are so many times slower."""
        lines = ["schema_version = 1"]
        for factor in sorted(set(factors)):
            numbers = {
                "installed_memory_bytes": 1_000_000_000,
                "usable_memory_bytes": 1_000_000_000,
                "peak_flops_per_second": self.flops_per_second / factor,
                # Two constants are fitted; the time of a byte is in the time of an operation.
                "memory_bytes_per_second": 1e13,
                "efficiency": 1.0,
                "operator_overhead_s": self.overhead_s * factor,
                "downlink_bits_per_second": 1e8,
                "uplink_bits_per_second": 1e8,
            }
            lines += ["", f"[devices.{device_name(factor)}]", 'family = "computer"', 'compute_unit = "slowed process"']
            lines += [
                f'{name} = {{ value = {value!r}, status = "measured", source = "verification/deployment.py" }}'
                for name, value in numbers.items()
            ]
        (folder / "hardware.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


GUESSED = Constants(flops_per_second=1e10, overhead_s=2e-5, median_error=0.0)
"""Until something is measured: memory and bytes do not depend on it."""


def fitted(costing: Costing, timed: Sequence[Timed]) -> Constants:
    """Return the constants that predict the trainings of slowed devices best, each relative to what it took."""
    rows = []
    for item in timed:
        profile = costing.ledger.profiles[item.submodel]
        share = sum(item.sizes) / profile.batch_size
        counts = np.ones(len(profile.operator_flops)) if profile.operator_counts is None else profile.operator_counts
        rows.append([(profile.operator_flops * counts).sum() * share, counts.sum() * len(item.sizes)])
    wanted = np.array([item.seconds / item.factor for item in timed])
    columns = np.array(rows)
    per_operation, per_operator = nnls(columns / wanted[:, None], np.ones(len(wanted)))[0]
    errors = np.abs(columns @ (per_operation, per_operator) / wanted - 1)
    return Constants(
        flops_per_second=float(1 / max(per_operation, 1e-15)),
        overhead_s=float(max(per_operator, 1e-9)),
        median_error=float(np.median(errors)),
    )


def quiet_steps(costing: Costing, worker: Worker, state: Any) -> Mapping[str, Quiet]:
    """Return the processor seconds of steps here, those of the fastest of several trainings: the least disturbed."""
    quiet = {}
    for submodel in costing.method.submodels:
        payload = costing.method.payload(state, submodel)
        least = {}
        for size in CALIBRATION_BATCHES:
            task = LocalTask(
                flight=1, cost=costing.ledger.cost(submodel, 0), version=0, seed=0, learning_rate=1e-3,
                plan=Plan(batch_size=size),
            )  # fmt: skip
            taken = []
            for _ in range(QUIET_TRAININGS):
                began_s = time.thread_time()
                worker.train(task, payload)
                taken.append(time.thread_time() - began_s)
            sizes = sizes_of(costing, task)
            least[size] = min(taken) / len(sizes)
        small, large = CALIBRATION_BATCHES
        sample_s = max(0.0, (least[large] - least[small]) / (large - small))
        quiet[submodel] = Quiet(step_s=max(0.0, least[small] - small * sample_s), sample_s=sample_s)
    return quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """What the processes did."""

    rounds: list[RealRound]
    constants: Constants
    presence: tuple[tuple[tuple[float, float], ...], ...]
    cpu_s: float
    wall_s: float
    quiet_step_s: float


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
    server = Server(costing, downs)
    start = SimpleNamespace(event=processes.Event(), at_s=processes.Value("d", 0.0))
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


def presences(
    fleet: Fleet, scenario: Scenario, constants: Constants, folder: Path
) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return when each device is there. Where some leave, they do so in the middle of flights as these are predicted.

    The slowest leaves for good, one is away for a round, one comes late, and one more leaves where there are enough. A
    moment close to the end of a round would make the comparison one of milliseconds.
    """
    found: list[tuple[tuple[float, float], ...]] = [((0.0, FOR_EVER_S),) for _ in fleet.factors]
    if not fleet.leaves:
        return tuple(found)
    constants.write(folder, fleet.factors)
    flights = list(simulate(scenario).flights)

    def within(number: int, device: int, share: float) -> float:
        (row,) = [row for row in flights if (row["round"], row["device"]) == (number, device)]
        return float(row["dispatched_s"] + share * (row["ended_s"] - row["dispatched_s"]))

    first = [row for row in flights if row["round"] == 1]
    *others, slow = [row["device"] for row in sorted(first, key=lambda row: row["ended_s"])]
    found[slow] = ((0.0, within(4, slow, 0.6)),)
    found[others[0]] = ((0.0, within(2, others[0], 0.6)), (within(3, others[0], 0.5), FOR_EVER_S))
    found[others[1]] = ((within(2, others[1], 0.4), FOR_EVER_S),)
    for device in others[3:4]:
        found[device] = ((0.0, within(3, device, 0.5)),)
    return tuple(found)


def write_trace(path: Path, presence: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Write who is there when, as a trace of availability."""
    lines = ["device,start_s,end_s"]
    for device, intervals in enumerate(presence):
        lines += [f"device-{device},{start},{end}" for start, end in intervals]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(name: str, real: Real, accuracy: Mapping[int, float], simulated: Any, weights: Any) -> dict[str, Any]:
    """Return both runs side by side."""
    rounds, flights = list(simulated.rounds), list(simulated.flights)
    ends_s = [0.0, *(item.ended_s for item in real.rounds)]
    predicted_ends_s = [0.0, *(row["virtual_time_s"] for row in rounds)]
    lines, same_order, same_arrivals = [], True, True
    for item, row in zip(real.rounds, rounds, strict=True):
        planned = [flight for flight in flights if flight["round"] == item.number]
        planned.sort(key=lambda flight: flight["ended_s"])
        arrived = [landing.device for landing in item.landings if landing.has_arrived]
        expected = [flight["device"] for flight in planned if flight["outcome"] == "arrived"]
        at_s = {flight["device"]: flight["ended_s"] for flight in planned}
        is_alike = sorted(arrived) == sorted(expected)
        # Whoever came earlier was also predicted earlier, or so close that it does not count.
        is_ordered = is_alike and all(
            at_s[one] < at_s[other] + TIE_S for place, one in enumerate(arrived) for other in arrived[place + 1 :]
        )
        same_arrivals, same_order = same_arrivals and is_alike, same_order and is_ordered
        lines.append({
            "round": item.number,
            "real_s": ends_s[item.number] - ends_s[item.number - 1],
            "simulated_s": predicted_ends_s[item.number] - predicted_ends_s[item.number - 1],
            "real_at_s": item.ended_s,
            "simulated_at_s": row["virtual_time_s"],
            "arrived": arrived,
            "predicted": expected,
            "dropped": [landing.device for landing in item.landings if not landing.has_arrived],
            "predicted_dropped": sorted(flight["device"] for flight in planned if flight["outcome"] == "dropped"),
            "same_order": is_ordered,
            "accuracy": accuracy[item.number],
            "simulated_accuracy": row["test_accuracy"],
        })  # fmt: skip
    landings = [landing for item in real.rounds for landing in item.landings]
    took_s = {flight["flight"]: flight["ended_s"] - flight["dispatched_s"] for flight in flights}
    errors = [
        abs((landing.ended_s - landing.dispatched_s) / took_s[landing.flight] - 1)
        for landing in landings
        if landing.flight in took_s
    ]
    real_s, simulated_s = (np.array([line[key] for line in lines]) for key in ("real_s", "simulated_s"))
    state = real.rounds[-1].state
    return {
        "scenario": name,
        "rounds": lines,
        "mean_round_s": {"real": float(real_s.mean()), "simulated": float(simulated_s.mean())},
        "mean_error": float(simulated_s.mean() / real_s.mean() - 1),
        "worst_round_error": float(np.abs(simulated_s / real_s - 1).max()),
        "bytes": {
            "down": {
                "real": sum(landing.bytes_down for landing in landings),
                "simulated": sum(flight["bytes_down"] for flight in flights),
            },
            "up": {
                "real": sum(landing.bytes_up for landing in landings),
                "simulated": sum(flight["bytes_up"] for flight in flights),
            },
            "headers": sum(landing.other_bytes for landing in landings),
        },
        "flights": [
            {
                "flight": landing.flight,
                "device": landing.device,
                "has_arrived": landing.has_arrived,
                "real_s": landing.ended_s - landing.dispatched_s,
                "simulated_s": took_s.get(landing.flight),
            }
            for landing in landings
        ],
        "median_flight_error": float(np.median(errors)),
        "same_arrivals": same_arrivals,
        "same_order": same_order,
        "same_weights": all(torch.equal(state.tensors[key], weights[key]) for key in weights),
        "same_accuracy": all(line["accuracy"] == line["simulated_accuracy"] for line in lines),
        "constants": {
            "flops_per_second": real.constants.flops_per_second,
            "operator_overhead_s": real.constants.overhead_s,
            "median_error": real.constants.median_error,
            "step_cpu_s": real.quiet_step_s,
        },
        "devices_cpu_share": real.cpu_s / real.wall_s,
        "load": os.getloadavg()[0],
    }


def run(name: str, fleet: Fleet, *, rounds: int, method: str, pace: Pace, pins: bool) -> dict[str, Any]:
    """Return the comparison of one scenario."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        GUESSED.write(folder, fleet.factors)
        scenario = scenario_of(fleet, rounds=rounds, method=method, folder=folder)
        real, accuracy = real_run(fleet, scenario, folder, pace=pace, pins=pins)
        real.constants.write(folder, fleet.factors)
        trace = None
        if fleet.leaves:
            trace = folder / "presence.csv"
            write_trace(trace, real.presence)
        again = scenario_of(fleet, rounds=rounds, method=method, folder=folder, trace=trace)
        simulated = simulate(again, out=folder / "run")
        weights = load_file(folder / "run" / "model.safetensors")
        return compare(name, real, accuracy, simulated, weights)


def is_right(found: Mapping[str, Any]) -> bool:
    """Whether a comparison is as it should be."""
    bytes_equal = all(pair["real"] == pair["simulated"] for way, pair in found["bytes"].items() if way != "headers")
    agrees = found["same_weights"] and found["same_accuracy"] and bytes_equal
    return abs(found["mean_error"]) <= GOAL and (agrees or not found["same_arrivals"])


def shown(found: Mapping[str, Any]) -> str:
    """Return a comparison as a table."""
    lines = [
        f"{found['scenario']}: round by round",
        f"{'round':>5} {'real s':>8} {'simulated':>9} {'error':>7}  {'arrived, in order':<22}{'predicted':<22}"
        f"{'left':<8}{'accuracy':>9} {'simulated':>9}",
    ]
    for line in found["rounds"]:
        left = ",".join(map(str, line["dropped"])) or "-"
        lines.append(
            f"{line['round']:>5} {line['real_s']:>8.3f} {line['simulated_s']:>9.3f} "
            f"{line['simulated_s'] / line['real_s'] - 1:>+7.1%}  {' '.join(map(str, line['arrived'])):<22}"
            f"{' '.join(map(str, line['predicted'])):<22}{left:<8}{line['accuracy']:>9.4f} "
            f"{line['simulated_accuracy']:>9.4f}"
        )
    mean, constants, sent = found["mean_round_s"], found["constants"], found["bytes"]
    says = {True: "the same", False: "DIFFERENT"}
    lines += [
        f"mean round {mean['real']:.3f} s, simulated {mean['simulated']:.3f} s: {found['mean_error']:+.1%} "
        f"(worst round {found['worst_round_error']:.1%}, flights {found['median_flight_error']:.1%} in the median)",
        f"bytes down {sent['down']['real']:,} and {sent['down']['simulated']:,}, up {sent['up']['real']:,} and "
        f"{sent['up']['simulated']:,}; headers {sent['headers']:,} more",
        f"arrivals {says[found['same_arrivals']]}, order {says[found['same_order']]}, accuracies "
        f"{says[found['same_accuracy']]}, weights {says[found['same_weights']]} to the bit",
        f"calibrated: {constants['flops_per_second'] / 1e9:.2f} GFLOP/s, "
        f"{constants['operator_overhead_s'] * 1e6:.1f} us per operator, median error {constants['median_error']:.1%}; "
        f"the devices took {found['devices_cpu_share']:.0%} of a core, load {found['load']:.1f}",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparisons; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(FLEETS), help=", ".join(FLEETS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--method", default="fedavg")
    parser.add_argument("--pace", default="stated", choices=("stated", "measured"))
    parser.add_argument("--no-pinning", action="store_true", help="let the system choose the cores of devices")
    parser.add_argument("--small", action="store_true", help="a few rounds on three devices, in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found")
    given = parser.parse_args(arguments)
    fleets, rounds = (SMALL, min(given.rounds, 4)) if given.small else (FLEETS, given.rounds)
    wrong, found = 0, []
    for name in given.scenarios.split(","):
        how = {"rounds": rounds, "method": given.method, "pace": given.pace, "pins": not given.no_pinning}
        found.append(run(name, fleets[name], **how))
        print(shown(found[-1]), flush=True)
        wrong += not is_right(found[-1])
    if given.json is not None:
        given.json.write_text(json.dumps({"pace": given.pace, "scenarios": found}, indent=1), encoding="utf-8")
    print(f"{wrong} of {len(found)} scenarios are off by more than {GOAL:.0%}, or differ where they should not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
