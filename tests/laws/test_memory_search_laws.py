"""Laws of searches in memory that moves: they find what a look at every step finds, however far away it is."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_scenarios import tiny

from neulite_sim import simulate
from neulite_sim.engine.memory_watch import MemoryWatch
from neulite_sim.engine.waiting import next_chance
from neulite_sim.errors import SimulationError
from neulite_sim.methods.offering import OUT_OF_MEMORY, Denial, Offers, Proposal
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.memory.contract import FleetMemory
from neulite_sim.population.memory.distributions import CHOICE, LOGNORMAL, UNIFORM
from neulite_sim.population.memory.motion import REDRAWN, WALK
from neulite_sim.population.memory.steps import PARTS, Redraws, SteppedMemory, Walk
from neulite_sim.population.memory.traced import TraceMemory
from neulite_sim.population.sampling import build_population
from neulite_sim.registry import Choice
from neulite_sim.traces.memory import MemoryFile

DEVICES = 6
CHOICES = (
    Choice("uniform", UNIFORM.options(low=100, high=1000)),
    Choice("choice", CHOICE.options(values=(300, 500), weights=(1, 30))),
    Choice("lognormal", LOGNORMAL.options(median=500, sigma=0.2)),
)
SOURCES = {
    "slow walk": lambda seed: Walk(fleet(seed), step=0.002, reversion=0.001, seed=seed),
    "quick walk": lambda seed: Walk(fleet(seed), step=0.2, reversion=0.3, seed=seed),
    "wild walk": lambda seed: Walk(fleet(seed), step=1.0, reversion=0.01, seed=seed),
    "no memory of before": lambda seed: Walk(fleet(seed), step=0.3, reversion=1.0, seed=seed),
    "redrawn": lambda seed: Redraws(fleet(seed), seed=seed),
}


def fleet(seed: int) -> FleetMemory:
    rng = np.random.default_rng(seed)
    return FleetMemory(
        nominal_bytes=rng.integers(0, 1000, DEVICES) * rng.choice([1, 1000]),
        installed_bytes=np.full(DEVICES, 2_000_000),
        usable_bytes=np.full(DEVICES, rng.choice([700, 10**6])),
        choices=CHOICES,
        choice_index=np.arange(DEVICES, dtype=np.int16) % len(CHOICES),
    )


def questions(source: object, seed: int):
    """Yield a device, an amount near what it has at some time or far from it, and a beginning."""
    rng = np.random.default_rng(seed)
    for device in range(DEVICES):
        has = int(source.bytes_at(np.array([device]), rng.integers(0, 3000, 1))[0])
        for amount in (has - 1, has, has + 1, int(has * rng.uniform(0.3, 3)), 0, 10**9):
            yield device, max(0, amount), float(rng.integers(0, 5000)) / 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", SOURCES)
def test_a_search_finds_the_step_that_a_look_at_every_step_finds(kind: str, seed: int) -> None:
    source, length = SOURCES[kind](seed), 4000
    motion = SteppedMemory(source, num_devices=DEVICES, every_s=1.0, seed=seed)
    part_s = motion.next_change_s(0.0)
    table = {device: source.bytes_at(np.full(length, device), np.arange(length)) for device in range(DEVICES)}
    for device, amount, at_s in questions(source, seed):
        until_s = at_s + 2000.5
        ahead = int(motion._ahead[device])
        now, last = ((int(moment_s // part_s) + ahead) // PARTS for moment_s in (at_s, until_s))
        for is_short in (True, False):
            met = np.flatnonzero((table[device][now : last + 1] < amount) == is_short)
            expected_s = math.inf
            if len(met):
                expected_s = at_s if met[0] == 0 else ((now + int(met[0])) * PARTS - ahead) * part_s
            if is_short:
                found_s = motion.short_from_s(device, amount, at_s, until_s)
            else:
                one = np.array([device]), np.array([amount]), np.array([at_s])
                found_s = float(motion.enough_from_s(*one, until_s)[0])
            assert found_s == expected_s, (kind, device, amount, at_s, is_short)


@pytest.mark.parametrize("kind", ["slow walk", "wild walk", "redrawn"])
def test_who_is_searched_together_is_told_what_each_is_told_alone(kind: str) -> None:
    source = SOURCES[kind](5)
    motion = SteppedMemory(source, num_devices=DEVICES, every_s=1.0, seed=5)
    devices, amounts, at_s = (np.array(column) for column in zip(*questions(source, 5), strict=True))
    together = motion.enough_from_s(devices, amounts, at_s, 3000.0)
    alone = [motion.enough_from_s(devices[[i]], amounts[[i]], at_s[[i]], 3000.0)[0] for i in range(len(devices))]
    assert list(together) == alone
    assert np.isfinite(together).any()
    assert np.isinf(together).any()


def test_no_flight_is_too_long_for_a_search() -> None:
    """The first shortness of a slow walk lies far beyond 100,000 steps: a look at each step finds it there."""
    memory = FleetMemory(
        nominal_bytes=np.array([10**8]), installed_bytes=np.array([4 * 10**8]), usable_bytes=np.array([2 * 10**8]),
        choices=CHOICES[:1], choice_index=np.zeros(1, np.int16),
    )  # fmt: skip
    walk = Walk(memory, step=2e-5, reversion=0.001, seed=9)
    motion = SteppedMemory(walk, num_devices=1, every_s=1.0, seed=9)
    has_bytes = walk.bytes_at(np.zeros(400_000, np.int64), np.arange(400_000))
    # As much as it always has in the first 150,000 steps.
    needed = int(has_bytes[:150_000].min())
    short = np.flatnonzero(has_bytes < needed)
    assert len(short) == 0 or short[0] > 110_000
    found_s = motion.short_from_s(0, needed, 1000.0, 399_990.0)
    assert found_s == (math.inf if not len(short) else (int(short[0]) * PARTS - int(motion._ahead[0])) / PARTS)
    assert len(short), "choose another seed"


def test_a_rare_draw_is_found_wherever_it_is() -> None:
    rare = Choice("choice", CHOICE.options(values=(100, 500, 900), weights=(1, 8000, 1)))
    memory = FleetMemory(
        nominal_bytes=np.full(3, 500), installed_bytes=np.full(3, 2000), usable_bytes=np.full(3, 1000),
        choices=(rare,), choice_index=np.zeros(3, np.int16),
    )  # fmt: skip
    source, steps = Redraws(memory, seed=1), np.arange(20_000)
    motion = SteppedMemory(source, num_devices=3, every_s=1.0, seed=1)
    for device in range(3):
        has_bytes = source.bytes_at(np.full(20_000, device), steps)
        for needed, met in ((500, has_bytes < 500), (501, has_bytes >= 501)):
            expected_s = math.inf
            if met.any():
                expected_s = (int(np.argmax(met)) * PARTS - int(motion._ahead[device])) / PARTS
            one = np.array([device]), np.array([needed]), np.zeros(1)
            found_s = motion.short_from_s(device, needed, 0.0, 19_990.0) if needed == 500 else float(
                motion.enough_from_s(*one, 19_990.0)[0]
            )  # fmt: skip
            assert found_s == expected_s


def traced(seed: int, repeat_s: float) -> TraceMemory:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, 3)
    found = MemoryFile(
        labels=("a", "b", "c"), is_share=False, offsets=np.cumsum([0, *counts]),
        time_s=np.concatenate([np.sort(rng.choice(300, count, replace=False)) for count in counts]).astype(float),
        values=rng.integers(0, 1000, counts.sum()).astype(float),
    )  # fmt: skip
    return TraceMemory(found, fleet(seed), rows=np.arange(DEVICES) % 3, repeat_s=repeat_s)


@pytest.mark.parametrize("repeat_s", [math.inf, 300.0, 310.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_search_in_a_trace_finds_the_line_that_a_look_at_every_line_finds(seed: int, repeat_s: float) -> None:
    motion, rng = traced(seed, repeat_s), np.random.default_rng(seed)
    needed, at_s, until_s = rng.integers(0, 1000, DEVICES), rng.uniform(0, 900, DEVICES), 1000.0
    expected_s = np.full(DEVICES, math.inf)
    for device in range(DEVICES):
        moment_s = float(at_s[device])
        while moment_s <= until_s and expected_s[device] == math.inf:
            if motion.available_bytes_of(np.array([device]), moment_s, 1)[0] >= needed[device]:
                expected_s[device] = moment_s
            moment_s = motion.next_change_s(moment_s)
    assert list(motion.enough_from_s(np.arange(DEVICES), needed, at_s, until_s)) == list(expected_s)


class Windows:
    """Availability in which device d is online from 100 d to 100 d + 40 s, again and again."""

    def next_online_s(self, devices, at_s):
        since_s = (at_s - 100.0 * np.asarray(devices)) % 700.0
        return np.where(since_s < 40.0, at_s, at_s + 700.0 - since_s)


@pytest.mark.parametrize("availability", [AlwaysOnline(num_devices=DEVICES), Windows()], ids=["always", "windows"])
@pytest.mark.parametrize("motion", ["slow", "wild", "redrawn", "trace"])
@pytest.mark.parametrize("seed", range(3))
def test_a_wait_ends_at_the_first_moment_at_which_a_look_at_every_change_finds_somebody(motion, availability, seed):
    memory = fleet(seed)
    moving = {
        "slow": lambda: WALK.build(WALK.options(step=0.01, every=20, reversion=0.01))(memory, seed),
        "wild": lambda: WALK.build(WALK.options(step=0.3, every=20, reversion=0.5))(memory, seed),
        "redrawn": lambda: REDRAWN.build(REDRAWN.options(every=20))(memory, seed),
        "trace": lambda: traced(seed, 310.5),
    }[motion]()
    needed = np.maximum(moving.available_bytes(50.0, 1) + 1, 2)
    fleet_now = SimpleNamespace(memory_motion=moving, availability=availability)
    everyone = np.arange(DEVICES)

    def offers_at(at_s: float) -> Proposal:
        has = moving.available_bytes_of(everyone, at_s, 1)
        able, unable = np.flatnonzero(has >= needed), np.flatnonzero(has < needed)
        missing = (needed - has)[unable]
        denials = (Denial(reason=OUT_OF_MEMORY, devices=unable, shortfall=lambda: missing),) if len(unable) else ()
        offers = Offers(devices=able, submodel_index=np.zeros(len(able), np.int16), submodels=("full",),
                        expected_s=np.zeros(len(able)))  # fmt: skip
        return Proposal(stage="full", offers=offers, denials=denials)

    until_s, moment_s, expected_s = 20_000.0, float(np.nextafter(50.0, math.inf)), math.inf
    while moment_s <= until_s and expected_s == math.inf:
        change_s = moving.next_change_s(moment_s)
        able_s = availability.next_online_s(offers_at(moment_s).offers.devices, moment_s).min(initial=math.inf)
        expected_s = float(able_s) if able_s < change_s else math.inf
        moment_s = change_s
    found = next_chance(fleet_now, everyone, offers_at, 50.0, until_s=until_s)
    assert found.at_s == expected_s
    assert expected_s < math.inf or found.looked_until_s >= until_s


LONG_WAIT = (
    "population.memory_motion={kind: walk, step: 0.0004, every: 1s, reversion: 0.001}",
    "population.available_memory={kind: explicit, values: [11700, 1kB, 1kB, 1kB, 1kB, 1kB]}",
    "backend=dry-run",
    "stop.rounds=1",
)
PEAK_BYTES = 11_680


def test_a_wait_for_memory_is_as_long_as_it_takes() -> None:
    """Nobody fits for longer than ten thousand changes of memory take; then somebody does."""
    scenario = tiny(*LONG_WAIT, "seed=33")
    memory = build_population(scenario.population, scenario.seed).memory_motion
    steps = np.arange(2000)
    has_bytes = memory._source.bytes_at(np.zeros(2000, np.int64), steps)
    part = int(np.argmax(has_bytes >= PEAK_BYTES)) * PARTS - int(memory._ahead[0])
    assert part > 10_000
    assert [row["dispatched_s"] for row in simulate(scenario).flights] == [part * memory.next_change_s(0.0)]


def test_a_wait_that_finds_nobody_says_how_far_it_has_looked(tmp_path) -> None:
    path = tmp_path / "memory.csv"
    path.write_text("device,t_s,share\na,0,0.000001\na,5,0.000002\n")
    motion = f"population.memory_motion={{kind: trace, path: '{path}', repeat_every: 60s}}"
    message = (
        r"nobody can be offered work any more after virtual time 0s \(round 1, full\), although memory moves "
        r"\(population\.memory_motion\) and was looked at until virtual time \d+d \d\dh: 6 devices denied: .* or stop "
        r"before \(stop\.rounds or stop\.virtual_time\)$"
    )
    with pytest.raises(SimulationError, match=message):
        simulate(tiny("backend=dry-run", motion))


def test_what_a_watch_has_looked_at_it_does_not_look_at_again() -> None:
    class Noting:
        def __init__(self):
            self.asked = []

        def short_from_s(self, device, needed_bytes, at_s, until_s):
            self.asked.append((at_s, until_s))
            return 70.0 if at_s <= 70.0 <= until_s else math.inf

    motion = Noting()
    watch = MemoryWatch(motion, 3, peak_bytes=10, dispatched_s=5.0)
    assert [watch.short_by(until_s) for until_s in (20.0, 10.0, 60.0, 80.0, 65.0, 70.0, 90.0)] == [
        math.inf, math.inf, math.inf, 70.0, math.inf, 70.0, 70.0,
    ]  # fmt: skip
    assert motion.asked == [(5.0, 20.0), (20.0, 60.0), (60.0, 80.0)]


LINKS = {"alone": "server={}", "wide": "server={downlink: 1Gbps, uplink: 1Gbps}",
         "narrow": "server={downlink: 6kbps, uplink: 3kbps}"}  # fmt: skip


@pytest.mark.parametrize("offline", ["abort", "pause"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    "motion", ["{kind: walk, step: 0.03, every: 5s, reversion: 0.05}", "{kind: redrawn, every: 9s, spread: 0.05}"]
)
def test_a_flight_is_dropped_at_the_first_moment_at_which_its_memory_is_below_its_peak(motion, link, offline):
    budgets = "population.available_memory={kind: explicit, values: [12200, 12300, 12400, 12500, 12000, 12600]}"
    online = "population.availability={kind: markov, mean_on: 60s, mean_off: 8s}"
    scenario = tiny("backend=dry-run", "stop.rounds=20", f"population.memory_motion={motion}", budgets, LINKS[link],
                    "population.link={downlink: 8kbps, uplink: 4kbps, latency: 100ms}", online,
                    f"churn={{offline: {offline}, timeout: 200s}}")  # fmt: skip
    memory = build_population(scenario.population, scenario.seed).memory_motion
    reasons = set()
    for row in simulate(scenario).flights:
        device, moment_s = np.array([row["device"]]), row["dispatched_s"]
        while moment_s < row["ended_s"]:
            assert memory.available_bytes_of(device, moment_s, 1)[0] >= row["peak_memory_bytes"], row
            moment_s = memory.next_change_s(moment_s)
        cause = row["reason"].split(" during ")[0]
        reasons.add(cause)
        if cause == "out of memory":
            assert memory.available_bytes_of(device, row["ended_s"], 1)[0] < row["peak_memory_bytes"]
    assert {"", "out of memory"} <= reasons


@pytest.mark.parametrize("link", ["wide", "narrow"])
def test_a_flight_over_a_shared_link_looks_hardly_further_than_it_flies(monkeypatch, link):
    looked = []
    original = SteppedMemory.short_from_s

    def counted(self, device, needed_bytes, at_s, until_s):
        looked.append(until_s - at_s)
        return original(self, device, needed_bytes, at_s, until_s)

    monkeypatch.setattr(SteppedMemory, "short_from_s", counted)
    motion = "population.memory_motion={kind: redrawn, every: 10s, spread: 0.001}"
    budgets = "population.available_memory={kind: explicit, values: [1MB, 1MB, 1MB, 1MB, 1MB, 1MB]}"
    result = simulate(tiny("backend=dry-run", "stop.rounds=4", motion, budgets, LINKS[link]))
    flown_s = sum(row["ended_s"] - row["dispatched_s"] for row in result.flights)
    assert sum(looked) <= 4 * flown_s + 10 * len(result.flights)
