"""The timeline against queueing theory: the shared link, devices in flight, drop-outs, and asynchronous throughput.

    python verification/queueing.py [--quick] [--seed N]

Each line is a mean over independent replications (or, where it says so, independent samples), the value that theory
gives, and the tolerance: four standard errors. The error is that of the replications' mean, or theory's own where the
distribution is known. A normal mean misses by more once in 16,000. Seeds are fixed: a line holds always or never.
The exit code is 1 where one does not hold.

Sources of the values:

- processor sharing, M/G/1-PS: E[T] = E[S] / (1 - rho) for every distribution of sizes, E[T / S] = 1 / (1 - rho), and
  an arrival finds the link empty with probability 1 - rho (Kleinrock, Queueing Systems volume 2, 1976, chapter 4;
  Sakata, Noguchi and Oizumi, Operations Research 19, 1971). M/M/1 served in order of arrival has the same E[T] for
  exponential sizes, and neither the other sizes nor E[T / S].
- limits: m equal limits of capacity / m make the link serve n transfers at min(n, m) limits in all. The number of
  transfers is then distributed as in M/M/m for every distribution of sizes (Cohen, Acta Informatica 12, 1979; Kelly,
  Reversibility and Stochastic Networks, 1979, section 3.3), so E[T] = E[S] + ErlangC(m, a) / (m / E[S] - lambda).
- devices in flight, M/G/infinity: Poisson with mean lambda E[S] (Takacs, Introduction to the Theory of Queues, 1962).
- drop-outs: what ends flights at a constant rate h, a device that leaves or a failure, ends a flight of D seconds with
  probability 1 - exp(-h D).
- asynchronous protocols, everybody online: Little's law, N in flight = arrivals per second x mean flight time (Little,
  Operations Research 9, 1961). Where all of a fleet fly all the time each device is a renewal process of mean mu and
  variance sigma^2, so arrivals per second are sum 1 / mu, with variance sum sigma^2 / (mu^3 t) (Cox, Renewal Theory,
  1962, section 4.2).
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import simpy
from theory.checks import (
    SIZES,
    Check,
    Draw,
    Floats,
    deterministic,
    exponential,
    of_counts,
    of_replications,
    uniform,
)

from neulite_sim import simulate
from neulite_sim.engine.assembly import assemble
from neulite_sim.population.availability.kinds import MARKOV
from neulite_sim.profiling.ledger import Cost
from neulite_sim.profiling.plans import Plan
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Scenario
from neulite_sim.seeding import stream
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.endings import LoneLanding
from neulite_sim.timeline.flights import Conditions, Flight, planned_outcome
from neulite_sim.timeline.legs import Steady
from neulite_sim.timeline.shared_link import SharedLink

CAPACITY = 8e6
MEAN_BITS = 8e6
"""A transfer of mean size takes one second alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What was seen of one run of a link: of each transfer after the warm-up, in the order of arrival."""

    response_s: Floats
    size_s: Floats
    found_empty: Floats


def poisson_link(load: float, draw: Draw, num_limits: int, num_transfers: int, numbers: np.random.Generator) -> Passed:
    """Run a link under Poisson arrivals and return what became of all transfers but a first fifth.

    `load` is lambda E[S]; every transfer is limited to the capacity over `num_limits`.
    """
    gaps_s = numbers.exponential(1 / load, size=num_transfers)
    sizes = draw(numbers, num_transfers)
    clock = Clock()
    link = SharedLink(clock, CAPACITY)
    ended_s, found_empty = np.full(num_transfers, np.nan), np.zeros(num_transfers)
    arrived_s = np.cumsum(gaps_s)

    def note_end(number: int, _: simpy.Event) -> None:
        ended_s[number] = clock.now

    def arrivals() -> Generator[simpy.Event, object, None]:
        for number in range(num_transfers):
            yield clock.at(float(arrived_s[number]))
            found_empty[number] = link.num_active == 0
            callbacks = link.transfer(MEAN_BITS * float(sizes[number]), CAPACITY / num_limits).callbacks
            assert callbacks is not None
            callbacks.append(partial(note_end, number))

    clock.process(arrivals())
    clock.run()
    kept = slice(num_transfers // 5, None)
    return Passed(response_s=(ended_s - arrived_s)[kept], size_s=sizes[kept], found_empty=found_empty[kept])


def processor_sharing(loads: list[float], num_replications: int, num_transfers: int, seed: int) -> Iterator[Check]:
    """Yield the checks of the link without limits against M/G/1-PS."""
    for load in loads:
        for index, (name, draw) in enumerate(SIZES.items()):
            streams = (stream(seed, "sharing", int(1000 * load), index, run) for run in range(num_replications))
            runs = [poisson_link(load, draw, 1, num_transfers, numbers) for numbers in streams]
            what, slower = f"PS rho={load:g} {name}", 1 / (1 - load)
            yield of_replications(f"{what}: E[T] s", [float(run.response_s.mean()) for run in runs], slower)
            if draw is not deterministic:  # where the slowdown is the response
                slowdowns = [float((run.response_s / run.size_s).mean()) for run in runs]
                yield of_replications(f"{what}: E[T/S]", slowdowns, slower)
            yield of_replications(f"{what}: found empty", [float(run.found_empty.mean()) for run in runs], 1 - load)


def erlang_c(num_servers: int, load: float) -> float:
    """Return the probability of waiting in M/M/m at `load` Erlang, below m (Erlang 1917)."""
    terms = [load**n / math.factorial(n) for n in range(num_servers + 1)]
    waiting = terms[-1] * num_servers / (num_servers - load)
    return waiting / (sum(terms[:-1]) + waiting)


def limited_sharing(num_limits: int, num_replications: int, num_transfers: int, seed: int) -> Iterator[Check]:
    """Yield the checks of the link at 0.7 of its capacity under limits of a share of it against M/M/m."""
    load = 0.7
    service_s = float(num_limits)
    expected = service_s + erlang_c(num_limits, load * num_limits) / (num_limits / service_s - load)
    for index, (name, draw) in enumerate(SIZES.items()):
        streams = (stream(seed, "limited-sharing", num_limits, index, run) for run in range(num_replications))
        runs = [poisson_link(load, draw, num_limits, num_transfers, numbers) for numbers in streams]
        means = [float(run.response_s.mean()) for run in runs]
        yield of_replications(f"limits of 1/{num_limits}, rho={load:g} {name}: E[T] s", means, expected)


def _always(value: float) -> Callable[[float], float]:
    return lambda _: value


def flight_of(number: int, dispatched_s: float, seconds: float, conditions: Conditions) -> Flight:
    """Return a flight that lasts `seconds`: a tenth of it download, a fifth upload."""
    legs = (Steady(0.1 * seconds), Steady(0.7 * seconds), Steady(0.2 * seconds))
    cost = Cost(
        device=number,
        submodel="full",
        download_s=0.1 * seconds,
        compute_s=0.7 * seconds,
        upload_s=0.2 * seconds,
        peak_memory_bytes=1,
        available_memory_bytes=1,
        plan=Plan(batch_size=1),
    )
    planned = planned_outcome(dispatched_s, legs=legs, conditions=conditions)
    return Flight(
        number=number, round=1, version=0, stage="full", dispatched_s=dispatched_s, cost=cost, planned=planned
    )


ALWAYS_ONLINE = Conditions(online_until_s=_always(math.inf), next_online_s=lambda at_s: at_s)


def counts_in_flight(rate: float, spacing_s: float, draw: Draw, num_samples: int, seed: int, index: int) -> Floats:
    """Return how many devices are in flight at moments `spacing_s` apart, under Poisson dispatches of `rate` per s."""
    numbers = stream(seed, "in-flight", index)
    clock, in_flight, counts = Clock(), 0, []

    def landed(_: simpy.Event) -> None:
        nonlocal in_flight
        in_flight -= 1

    def dispatches() -> Generator[simpy.Event, object, None]:
        nonlocal in_flight
        number = 0
        while True:
            gaps_s, durations_s = numbers.exponential(1 / rate, size=1000).tolist(), draw(numbers, 1000).tolist()
            for gap_s, seconds in zip(gaps_s, durations_s, strict=True):
                yield clock.at(clock.now + gap_s)
                number += 1
                in_flight += 1
                process = LoneLanding(clock, flight_of(number, float(clock.now), seconds, ALWAYS_ONLINE))
                assert process.callbacks is not None
                process.callbacks.append(landed)

    def samples() -> Generator[simpy.Event, object, None]:
        for _ in range(num_samples):
            yield clock.at(clock.now + spacing_s)
            counts.append(in_flight)

    clock.process(dispatches())
    clock.run(until=clock.process(samples()))
    return np.array(counts, dtype=np.float64)


def devices_in_flight(rate: float, num_samples: int, seed: int) -> Iterator[Check]:
    """Yield the checks of the number of devices in flight against M/G/infinity.

    Samples lie further apart than a flight can last, so they are independent: of exponential flights, one in 3
    million lasts longer. Errors are those of the mean and the variance of independent Poisson numbers of mean m:
    sqrt(m / n) and sqrt((m + 2 m^2) / n).
    """
    cases = (("deterministic", deterministic, 1.01), ("uniform", uniform, 1.51), ("exponential", exponential, 15.0))
    for index, (name, draw, spacing_s) in enumerate(cases):
        counts = counts_in_flight(rate, spacing_s, draw, num_samples, seed, index)
        what = f"in flight, m={rate:g} {name}"
        mean_error, variance_error = math.sqrt(rate / num_samples), math.sqrt((rate + 2 * rate**2) / num_samples)
        mean, variance = float(counts.mean()), float(counts.var(ddof=1))
        yield Check(name=f"{what}: mean", measured=mean, expected=rate, standard_error=mean_error)
        yield Check(name=f"{what}: variance", measured=variance, expected=rate, standard_error=variance_error)


def dropped_by_leaving(num_devices: int, num_moments: int, seed: int) -> Iterator[Check]:
    """Yield the checks of flights that drop because their device leaves, under the availability `markov`.

    Times online are exponential of mean 1 / h, and so is what is left of them at any moment: a flight of D seconds
    drops with probability 1 - exp(-h D). Moments lie ten cycles of the chain apart.
    """
    mean_s = 1000.0
    for share in (0.1, 0.7, 2.0):
        options = MARKOV.options.model_validate({"mean_on": mean_s, "mean_off": mean_s})
        availability = MARKOV.build(options)(num_devices, seed)
        flights = dropped = 0
        for moment in range(num_moments):
            at_s = 20.0 * mean_s * (1 + moment)
            devices = np.flatnonzero(availability.online(at_s))
            until_s = availability.online_until_s(devices, at_s)
            for device, leaves_s in zip(devices.tolist(), until_s.tolist(), strict=True):
                conditions = replace(ALWAYS_ONLINE, online_until_s=_always(leaves_s))
                flights += 1
                dropped += not flight_of(device, at_s, share * mean_s, conditions).planned.has_arrived
        yield of_counts(f"left during {share:g} mean times online", dropped, flights, 1 - math.exp(-share))


def failing_fleet(failures_per_hour: float, num_rounds: int, seed: int) -> Scenario:
    """Return a scenario of 200 equal devices in rounds of all of them; nothing is trained.

    Half an hour of latency is what a flight takes, but for 9 ms.
    """
    link = {"downlink": "20Mbps", "uplink": "8Mbps", "latency": "15min"}
    return parse_scenario(
        {
            "name": "failures",
            "seed": seed,
            "data": {"kind": "digits", "train_samples": 1000, "test_samples": 10, "partition": "iid"},
            "model": "logistic",
            "training": {"epochs": 1, "batch_size": 5, "learning_rate": 0.05},
            "population": {
                "devices": 200,
                "groups": [{"device": "jetson-nano-4gb", "share": 1}],
                "available_memory": {"kind": "installed", "share": 1.0},
                "speed_jitter": 0.0,
                "link": link,
            },
            "churn": {"failures_per_hour": failures_per_hour},
            "method": "fedavg",
            "selection": {"kind": "uniform", "devices_per_round": 200},
            "stop": {"rounds": num_rounds},
            "backend": "dry-run",
        }
    )


def dropped_by_failure(rates_per_hour: list[float], num_rounds: int, seed: int) -> Iterator[Check]:
    """Yield the checks of whole runs whose flights fail at a rate h: the share that does, and when it does.

    A flight of D fails with probability 1 - exp(-h D). The time to a failure is an exponential below D, of mean
    1 / h - D / (exp(h D) - 1) and variance 1 / h^2 - D^2 exp(h D) / (exp(h D) - 1)^2.
    """
    for rate_per_hour in rates_per_hour:
        flights = simulate(failing_fleet(rate_per_hour, num_rounds, seed)).flights
        spent_s = np.array([row["download_s"] + row["compute_s"] + row["upload_s"] for row in flights])
        has_failed = np.array([row["reason"].startswith("failed during") for row in flights])
        (duration_s,) = {float(arrived_s) for arrived_s in spent_s[~has_failed]}
        mean_s = 3600 / rate_per_hour
        odds = math.expm1(duration_s / mean_s)
        name = f"failures, {rate_per_hour:g} per h"
        yield of_counts(f"{name}: share", int(has_failed.sum()), len(flights), odds / (odds + 1))
        variance = mean_s**2 - duration_s**2 * (odds + 1) / odds**2
        yield Check(
            name=f"{name}: mean time to it, s",
            measured=float(spent_s[has_failed].mean()),
            expected=mean_s - duration_s / odds,
            standard_error=math.sqrt(variance / int(has_failed.sum())),
        )


ASYNCHRONOUS_FLEETS = {
    "equal": [{"device": "jetson-nano-4gb", "share": 1}],
    "mixed": [{"device": "jetson-nano-4gb", "share": 1}, {"device": "raspberry-pi-4-4gb", "share": 1}],
    "one slow link": [
        {"device": "jetson-nano-4gb", "share": 9},
        {"device": "jetson-nano-4gb", "share": 1, "link": {"downlink": "50kbps", "uplink": "50kbps"}},
    ],
}


def asynchronous_fleet(groups: list[dict[str, Any]], buffer_size: int, num_arrivals: int, seed: int) -> Scenario:
    """Return a scenario of ten devices that all fly all the time; nothing is trained."""
    return parse_scenario(
        {
            "name": "asynchronous",
            "seed": seed,
            "data": {"kind": "digits", "train_samples": 500, "test_samples": 10, "partition": "iid"},
            "model": "logistic",
            "training": {"epochs": 5, "batch_size": 5, "learning_rate": 0.05},
            "population": {
                "devices": 10,
                "groups": groups,
                "available_memory": {"kind": "installed", "share": 1.0},
                "speed_jitter": 0.6,
                "link": {"downlink": "20Mbps", "uplink": "8Mbps", "latency": "1ms"},
            },
            "method": "fedavg",
            "protocol": {"kind": "fedbuff", "concurrency": 10, "buffer_size": buffer_size},
            "evaluation": {"every_rounds": 10**6},
            "stop": {"rounds": num_arrivals // buffer_size},
            "backend": "dry-run",
        }
    )


def asynchronous_throughput(buffer_sizes: list[int], num_arrivals: int, seed: int) -> Iterator[Check]:
    """Yield the checks of Little's law: nobody waits for a buffer, so arrivals per second know nothing of its size."""
    for (fleet, groups), buffer_size in itertools.product(ASYNCHRONOUS_FLEETS.items(), buffer_sizes):
        scenario = asynchronous_fleet(groups, buffer_size, num_arrivals, seed)
        costs = [assemble(scenario).ledger.cost("full", device) for device in range(10)]
        means_s = np.array([cost.download_s + cost.compute_s + cost.upload_s for cost in costs])
        variances = np.array([cost.compute_s**2 for cost in costs]) * math.expm1(0.6**2)
        result = simulate(scenario)
        until_s = result.summary["virtual_time_s"]
        arrived = sum(row["outcome"] == "arrived" for row in result.flights)
        name = f"fedbuff of {buffer_size}, {fleet}"
        yield Check(
            name=f"{name}: arrivals per s",
            measured=arrived / until_s,
            expected=float((1 / means_s).sum()),
            standard_error=math.sqrt(float((variances / means_s**3).sum()) / until_s),
        )


def checks(*, quick: bool, seed: int) -> Iterator[Check]:
    """Yield every check; quick ones are smaller and have wider tolerances."""
    replications, transfers, samples = (20, 2_000, 500) if quick else (40, 40_000, 10_000)
    yield from processor_sharing([0.3, 0.5, 0.8] if not quick else [0.3, 0.7], replications, transfers, seed)
    yield from limited_sharing(4, replications, transfers, seed)
    yield from devices_in_flight(20.0, samples, seed)
    yield from dropped_by_leaving(1_000, 2 if quick else 40, seed)
    yield from dropped_by_failure([1.0] if quick else [0.2, 1.0, 4.0], 5 if quick else 100, seed)
    yield from asynchronous_throughput([1, 7, 25], 700 if quick else 10_000, seed)


def main() -> None:
    """Run the checks and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, with wider tolerances")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{'':<46}{'measured':>10}{'theory':>10}{'tolerance':>11}{'errors':>8}")
    num_failed = 0
    for check in checks(quick=arguments.quick, seed=arguments.seed):
        num_failed += not check.holds
        values = f"{check.measured:>10.4f}{check.expected:>10.4f}{check.tolerance:>11.4f}{check.num_errors:>8.2f}"
        print(f"{check.name:<46}{values}{'' if check.holds else '  DOES NOT HOLD'}", flush=True)
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
