"""An availability of a user's own is believed as far as its answers are answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import TINY

import neulite_sim
from neulite_sim.errors import NeuliteError, SimulationError
from neulite_sim.population.availability.asked import asked
from neulite_sim.population.availability.contract import Followed

DEVICES = np.array([0, 2, 3])


class Always:
    """Everybody is online, in the plainest writing: no horizon, lists, whole numbers."""

    def __init__(self, num_devices: int = 4, seed: int = 0) -> None:
        del seed
        self.count = num_devices

    def online(self, at_s: float) -> Any:
        del at_s
        return [True] * self.count

    def online_until_s(self, devices: Any, at_s: float) -> Any:
        del at_s
        return [10**9] * len(devices)

    def next_online_s(self, devices: Any, at_s: float) -> Any:
        return [at_s] * len(devices)


def own(**lookups: Callable[..., Any]) -> Any:
    value: Any = Always()
    for name, lookup in lookups.items():
        setattr(value, name, lookup)
    return value


def failing(*_: Any) -> Any:
    raise ValueError("no idea")


def test_plain_answers_are_answers_and_nobody_has_to_know_of_a_horizon() -> None:
    availability = asked(own(), "Mine", 4)
    assert availability.online(3.0).tolist() == [True] * 4
    assert availability.online_until_s(DEVICES, 3.0, 5.0).tolist() == [1e9] * 3
    assert availability.next_online_s(DEVICES, 3.0).tolist() == [3.0] * 3
    assert not isinstance(availability, Followed)


def test_who_knows_of_a_horizon_is_told_it_and_who_tells_changes_is_asked_for_them() -> None:
    told = []

    def until(devices: Any, at_s: float, horizon_s: float) -> Any:
        told.append((at_s, horizon_s))
        return np.full(len(devices), np.inf)

    availability = asked(own(online_until_s=until, stretch=lambda at_s: ("a stretch", at_s)), "Mine", 4)
    availability.online_until_s(DEVICES, 1.0, 7.0)
    assert told == [(1.0, 7.0)]
    assert isinstance(availability, Followed)
    assert availability.stretch(2.0) == ("a stretch", 2.0)


WRONG: dict[str, Any] = {
    "Mine.online returned list of shape (3,) for 4 devices; return one entry per device, (4,)": own(
        online=lambda at_s: [True] * 3
    ),
    "Mine.online returned float64; return True or False for each device": own(online=lambda at_s: np.ones(4)),
    "Mine.online fails: ": own(online=failing),
    "Mine.online_until_s returned float of shape () for 3 devices": own(online_until_s=lambda devices, at_s: 9.0),
    "Mine.online_until_s returned object; return a moment in seconds": own(
        online_until_s=lambda devices, at_s: [None] * 3
    ),
    "Mine.online_until_s returned 4 s for device 2 at 5 s; return 5 or later, or inf for never": own(
        online_until_s=lambda devices, at_s: [6.0, 4.0, 7.0]
    ),
    "Mine.next_online_s returned nan s for device 3 at 5 s; return 5 or later": own(
        next_online_s=lambda devices, at_s: [6.0, 8.0, np.nan]
    ),
    "Mine.next_online_s says that device 0 is online at 5 s, where online(5) says that it is not; return a later": own(
        online=lambda at_s: [False] * 4
    ),
    "Mine.next_online_s fails: ": own(next_online_s=failing),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_answer_is_refused_by_the_name_of_the_lookup(words: str) -> None:
    availability = asked(WRONG[words], "Mine", 4)
    with pytest.raises(SimulationError, match=re.escape(words)):
        ask_all(availability)


def ask_all(availability: Any) -> None:
    availability.online_until_s(DEVICES, 5.0)
    availability.next_online_s(DEVICES, 5.0)
    availability.online(5.0)


@pytest.mark.parametrize("lookup", ["online", "online_until_s", "next_online_s"])
@pytest.mark.parametrize("answer", [None, "soon", 1.5, -1.0, [1], np.nan, {}], ids=str)
def test_a_run_ends_in_words_whatever_a_lookup_returns(lookup: str, answer: Any) -> None:
    class Mine(Always):
        pass

    setattr(Mine, lookup, lambda self, *question: answer)
    scenario = {**TINY, "backend": "dry-run", "stop": {"rounds": 2}}
    with pytest.raises(NeuliteError, match="Mine"):
        neulite_sim.simulate(scenario, availability=Mine)
