"""A protocol of a user's own ends in words, whatever its process does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tiny_scenarios import TINY

import neulite_sim
from neulite_sim.errors import SimulationError
from neulite_sim.timeline.watched import MOST_AT_A_MOMENT

Process = Callable[[Any, Any, Any], Any]


def protocol(process: Process) -> Any:
    class Mine:
        mixes_versions = False

        def process(self, clock: Any, server: Any, launch: Any) -> Any:
            return process(clock, server, launch)

    return Mine()


def run(process: Process) -> Any:
    return neulite_sim.simulate({**TINY, "backend": "dry-run", "stop": {"rounds": 2}}, protocol=protocol(process))


def one_round(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    flights = server.dispatch(clock.now)
    server.train(flights)
    landings = [launch(flight) for flight in flights]
    for landing in landings:
        if not landing.processed:
            yield landing
    server.digest([neulite_sim_ending(landing) for landing in landings], clock.now)


def neulite_sim_ending(landing: Any) -> Any:
    from neulite_sim.timeline.endings import ending_of

    return ending_of(landing.flight, landing)


def rounds(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    while not server.is_over():
        yield from one_round(clock, server, launch)


def still(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    del launch
    while not server.is_over():
        yield clock.after_all()


def resting(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    del server, launch
    while True:
        yield clock.timeout(0)


def many_moments(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    for _ in range(2 * MOST_AT_A_MOMENT):
        yield clock.timeout(1e-3)
    yield from rounds(clock, server, launch)


def patient(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    failing = clock.event()
    failing.fail(ValueError("it never came"))
    try:
        yield failing
    except ValueError:
        yield from rounds(clock, server, launch)


def raising(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    raise ValueError("lost")
    yield


def backwards(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    yield clock.at(-5.0)


def number(clock: Any, server: Any, launch: Any) -> Iterator[Any]:
    yield 5


@pytest.mark.parametrize("process", [rounds, many_moments, patient])
def test_a_process_that_does_its_work_is_let_alone(process: Process) -> None:
    assert run(process).summary["rounds"] == 2


WRONG: dict[str, Process] = {
    "Mine.process returns NoneType, and is no generator; write it as a function that yields events": lambda *_: None,
    "Mine.process yields 5, which is no event": number,
    "ValueError: lost": raising,
    "AssertionError: -5.0 s lies before now, 0 s": backwards,
    "Mine.process lets no time pass: it waited 10,000 times at 0 s; wait for a landing": still,
    "Mine.process lets no time pass: it waited 10,000 times at 0 s; wait for": resting,
}


@pytest.mark.parametrize("words", WRONG)
def test_what_a_process_does_wrong_is_told_by_its_name(words: str) -> None:
    with pytest.raises(SimulationError, match=re.escape(words)) as refused:
        run(WRONG[words])
    assert "Mine" in str(refused.value)
