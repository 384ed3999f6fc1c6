"""Changes of a shared link per second of real time, by the number of transfers that pass at once.

    python benchmarks/shared_link.py [--concurrency 10 100 1000 10000] [--changes 20000] [--repeats 3]

Every transfer that ends is followed by another of exponential size, so the number under way stays. A change is a
beginning or an end. Four fleets: without limits of their own; with limits that are all different (lognormal, sigma 1,
together twice the capacity); with one limit for all, together half the capacity; and the worst case, one limit for
all that the link can serve but for one transfer, while every hundredth end is followed by two and the next one by
none: each time all transfers change sides of the water level. The median of the repeats is printed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from neulite_sim.seeding import stream
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.shared_link import SharedLink

CAPACITY = 1e9
MEAN_BITS = 1e7
TURN = 100

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Limits = Callable[[int, np.random.Generator], Floats]


def _different(count: int, numbers: np.random.Generator) -> Floats:
    drawn = numbers.lognormal(size=count)
    return np.multiply(drawn, 2 * CAPACITY / float(drawn.sum()))


FLEETS: dict[str, Limits] = {
    "no limits": lambda count, _: np.full(count, math.inf),
    "all different": _different,
    "never full": lambda count, _: np.full(count, CAPACITY / (2 * count)),
    "worst case": lambda count, _: np.full(count, CAPACITY / (count - 0.5)),
}


def changes_per_second(fleet: str, concurrency: int, num_changes: int, seed: int) -> float:
    """Return how many beginnings and ends a link takes per second of real time, in steady operation."""
    numbers = stream(seed, "benchmark", concurrency)
    limits = FLEETS[fleet](concurrency, numbers).tolist()
    sizes = iter(numbers.exponential(MEAN_BITS, size=2 * num_changes + 2 * concurrency).tolist())
    clock, ended = Clock(), 0
    link = SharedLink(clock, CAPACITY)

    def begin(device: int) -> None:
        callbacks = link.transfer(next(sizes), limits[device]).callbacks
        assert callbacks is not None
        callbacks.append(lambda _: end(device))

    def end(device: int) -> None:
        nonlocal ended
        ended += 1
        followers = 1 if fleet != "worst case" else {0: 2, 1: 0}.get(ended % TURN, 1)
        for _ in range(followers):
            begin(device)

    for device in range(concurrency):
        begin(device)
    started_s = time.perf_counter()
    while 2 * ended < num_changes:
        clock.step()
    return 2 * ended / (time.perf_counter() - started_s)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--changes", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.changes:,} changes, {arguments.repeats} repeats: changes per second")
    print(f"{'transfers':>9}" + "".join(f"{fleet:>15}" for fleet in FLEETS))
    for concurrency in arguments.concurrency:
        found = [
            statistics.median(
                changes_per_second(fleet, concurrency, arguments.changes, seed) for seed in range(arguments.repeats)
            )
            for fleet in FLEETS
        ]
        print(f"{concurrency:>9,}" + "".join(f"{rate:>15,.0f}" for rate in found))


if __name__ == "__main__":
    main()
