"""Whatever a plug-in returns, a check answers with an assertion, and a run with an error that names what it was."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.contracts import held_to, is_own
from neulite_sim.data.conformance import check_dataset, check_partition
from neulite_sim.data.contract import Partition
from neulite_sim.data.partition import deal_iid
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import NeuliteError, ScenarioError, SimulationError
from neulite_sim.population.availability.asked import Asked
from neulite_sim.population.availability.conformance import check_availability
from neulite_sim.population.memory.asked import AskedMotion
from neulite_sim.population.memory.conformance import check_memory_distribution, check_memory_motion
from neulite_sim.population.memory.distributions import draw_memory
from neulite_sim.registry import Choice, Component, Options, component
from neulite_sim.selection.conformance import check_selector
from neulite_sim.selection.contract import Selector, checked_count
from neulite_sim.timeline.conformance import check_protocol

ANSWERS = [
    None, 5, 2.5, "text", [], [None], [1.5], {"a": 1}, object(), math.nan, float("nan"), (1, 2),
    np.array([[1, 2]]), np.array([math.nan] * 40), np.array(["a"]), np.zeros(3, bool), np.int64(3),
]  # fmt: skip


class Always:
    """Online always; one lookup answers with something else."""

    def __init__(self, count, answers=None):
        self.count, self.answers = count, answers or {}

    def online(self, at_s):
        del at_s
        return self.answers.get("online", np.ones(self.count, bool))

    def online_until_s(self, devices, at_s, horizon_s=math.inf):
        del at_s, horizon_s
        return self.answers.get("online_until_s", np.full(len(devices), math.inf))

    def next_online_s(self, devices, at_s):
        return self.answers.get("next_online_s", np.full(len(devices), float(at_s)))


class Still:
    """Memory that never moves; one lookup answers with something else."""

    def __init__(self, memory, answers=None):
        self.memory, self.answers = memory, answers or {}

    def available_bytes(self, at_s, round_number):
        del at_s, round_number
        return self.answers.get("available_bytes", self.memory.nominal_bytes.copy())

    def available_bytes_of(self, devices, at_s, round_number):
        del at_s, round_number
        return self.answers.get("available_bytes_of", self.memory.nominal_bytes[devices])

    def short_from_s(self, device, needed_bytes, at_s, until_s):
        del device, needed_bytes, at_s, until_s
        return self.answers.get("short_from_s", math.inf)

    def next_change_s(self, at_s):
        del at_s
        return self.answers.get("next_change_s", math.inf)


class First(Selector):
    """Takes the first offers; one call answers with something else."""

    answers: ClassVar = {}

    def num_to_choose(self, count, num_offers):
        del num_offers
        return self.answers.get("num_to_choose", count)

    def choose(self, offers, count, rng):
        del rng
        return self.answers.get("choose", np.arange(min(count, len(offers))))

    def groups_to_test(self):
        return self.answers.get("groups_to_test", ())


def first(lookup, answer):
    found = First()
    found.answers = {lookup: answer}
    return found


CHECKS = {
    "online": lambda answer: check_availability(lambda count, _: Always(count, {"online": answer})),
    "online_until_s": lambda answer: check_availability(lambda count, _: Always(count, {"online_until_s": answer})),
    "next_online_s": lambda answer: check_availability(lambda count, _: Always(count, {"next_online_s": answer})),
    "availability": lambda answer: check_availability(lambda _, __: answer),
    "memory": lambda answer: check_memory_distribution(lambda *_: answer, varies=False),
    "available_bytes": lambda answer: check_memory_motion(lambda memory, _: Still(memory, {"available_bytes": answer})),
    "available_bytes_of": lambda answer: check_memory_motion(
        lambda memory, _: Still(memory, {"available_bytes_of": answer})
    ),
    "short_from_s": lambda answer: check_memory_motion(lambda memory, _: Still(memory, {"short_from_s": answer})),
    "next_change_s": lambda answer: check_memory_motion(lambda memory, _: Still(memory, {"next_change_s": answer})),
    "num_to_choose": lambda answer: check_selector(lambda _: first("num_to_choose", answer)),
    "choose": lambda answer: check_selector(lambda _: first("choose", answer)),
    "groups_to_test": lambda answer: check_selector(lambda _: first("groups_to_test", answer)),
    "selector": lambda answer: check_selector(lambda _: answer),
    "deal": lambda answer: check_partition(lambda *_, **__: answer),
    "samples": lambda answer: check_partition(lambda *_, **__: Partition(samples=answer, offsets=np.zeros(13, int))),
    "offsets": lambda answer: check_partition(lambda *_, **__: Partition(samples=np.arange(9), offsets=answer)),
    "dataset": check_dataset,
    "protocol": lambda answer: check_protocol(lambda: answer),
}
# What is right, or as good as that: fewer devices than wanted, no groups, and a group of two devices.
RIGHT = {"num_to_choose": (5, np.int64(3)), "groups_to_test": ([], {}, np.zeros((1, 2)))}


@pytest.mark.parametrize("lookup", CHECKS)
def test_a_check_answers_with_an_assertion_whatever_is_returned(lookup):
    for answer in ANSWERS:
        if type(answer) in map(type, RIGHT.get(lookup, ())):
            continue
        with pytest.raises(AssertionError, match=r"^(neulite_sim\.[a-z_.]+[A-Z]\w+ is not kept: |[a-z_]+: )"):
            CHECKS[lookup](answer)


def test_lists_of_a_selector_are_taken_as_a_run_takes_them():
    class Listing(First):
        def choose(self, offers, count, rng):
            return super().choose(offers, count, rng).tolist()

    check_selector(lambda _: Listing())


def test_a_selector_draws_from_its_rng_before_it_returns():
    class Hoarding(First):
        rng = None

        def choose(self, offers, count, rng):
            self.rng = self.rng or rng
            return np.sort(self.rng.choice(len(offers), min(count, len(offers)), replace=False))

    with pytest.raises(AssertionError, match=r"choose: the rng of round 1 was drawn from after the return; it is"):
        check_selector(lambda _: Hoarding())


def test_a_check_names_what_it_was_given_where_arrays_are_asked_for():
    for lookup, said in (
        ("online", "online: must be an array of true or false, is of type list"),
        ("online_until_s", "online_until_s: must be an array of seconds, is of type list"),
        ("available_bytes", "bytes, is of type list"),
        ("deal", "deal: must return a Partition (neulite_sim.data.contract), returned list"),
        ("samples", "samples: must be int64, are list"),
    ):
        with pytest.raises(AssertionError) as caught:
            CHECKS[lookup]([1])
        assert said in str(caught.value)
    with pytest.raises(AssertionError, match=r"^num_to_choose: must be a whole number, an int, is 2\.5 for 1 of 21 "):
        CHECKS["num_to_choose"](2.5)
    with pytest.raises(AssertionError, match=r"choose: must return positions of offers, an array of int64, returned N"):
        CHECKS["choose"](None)


@held_to("a.Contract")
def fail():
    raise KeyError("b")


def test_an_error_within_a_check_names_the_contract_and_project_errors_pass():
    with pytest.raises(AssertionError, match=r"^a\.Contract is not kept: KeyError: 'b'; it says what each call is "):
        fail()
    with pytest.raises(ScenarioError), held_to("a.Contract"):
        raise ScenarioError([])


# What plug-ins of a run are asked: their answers are refused before anything comes of them.


def plug_in(value):
    return Component(kind="odd", summary="s", source="s", options=Options, build=lambda _: value)


@pytest.fixture
def odd(monkeypatch):
    """Return a function that lets the component `odd` of a group be what it is given."""

    def placed(group, value, module):
        found = plug_in(value)

        def one(name, kind):
            return found if (name, kind) == (group, "odd") else component(name, kind)

        monkeypatch.setattr(f"neulite_sim.{module}.component", one)

    return placed


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (np.full(4, -7), "odd drew -7 bytes for device 0 of 4; return one whole number of bytes for each of 4 devices"),
        (np.ones(4), "odd drew numbers of type float64"),
        (np.full(4, math.nan), "odd drew numbers of type float64"),
        (np.ones(3, int), "odd drew ndarray of shape (3,) for 4 devices"),
        (None, "odd drew NoneType of shape ()"),
    ],
)
def test_memory_that_a_plug_in_draws_is_refused_where_it_is_none(odd, drawn, said):
    odd("available_memory", lambda *_: drawn, "population.memory.distributions")
    installed = np.full(4, 10**9)
    with pytest.raises(ScenarioError) as caught:
        draw_memory(Choice("odd", Options()), installed_memory_bytes=installed, usable_memory_bytes=installed,
                    rng=np.random.default_rng(0))  # fmt: skip
    assert said in str(caught.value)
    assert caught.value.problems[0].key == "available_memory"


def test_memory_of_a_plug_in_may_be_a_list_of_bytes(odd):
    odd("available_memory", lambda *_: [1, 2, 3, 4], "population.memory.distributions")
    installed = np.full(4, 10**9)
    found, _ = draw_memory(Choice("odd", Options()), installed_memory_bytes=installed, usable_memory_bytes=installed,
                           rng=np.random.default_rng(0))  # fmt: skip
    assert found.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("lookup", "answer", "said"),
    [
        ("available_bytes", np.full(4, -1), "m.available_bytes returned -1 bytes"),
        ("available_bytes", np.ones(4), "m.available_bytes returned numbers of type float64"),
        ("available_bytes", np.ones(3, int), "m.available_bytes returned ndarray of shape (3,)"),
        ("available_bytes_of", [-1], "m.available_bytes_of returned -1 bytes"),
        ("next_change_s", 5.0, "m.next_change_s returned 5 s at 5 s; return a later moment, or inf for never"),
        ("next_change_s", math.nan, "m.next_change_s returned nan s at 5 s"),
        ("next_change_s", None, "m.next_change_s returned NoneType; return a moment in seconds"),
        ("short_from_s", 4.0, "m.short_from_s returned 4 s; return 5 or later, or inf for never"),
    ],
)
def test_motion_of_a_plug_in_is_refused_where_it_is_none(lookup, answer, said):
    class Memory:
        nominal_bytes = np.arange(4)

    asked = AskedMotion(Still(Memory, {lookup: answer}), "m", 4)
    ask = {
        "available_bytes": lambda: asked.available_bytes(5.0, 1),
        "available_bytes_of": lambda: asked.available_bytes_of(np.array([2]), 5.0, 1),
        "next_change_s": lambda: asked.next_change_s(5.0),
        "short_from_s": lambda: asked.short_from_s(1, 5, 5.0, 9.0),
    }
    with pytest.raises(SimulationError) as caught:
        ask[lookup]()
    assert said in str(caught.value)


def test_a_run_looks_at_what_plug_ins_of_population_and_data_answer(odd):
    odd("availability", lambda count, _: Always(count, {"online_until_s": np.full(count, math.nan)}),
        "population.sampling")  # fmt: skip
    scenario = tiny("backend=dry-run").model_copy()
    object.__setattr__(scenario, "population", scenario.population.model_copy(
        update={"availability": Choice("odd", Options())}))  # fmt: skip
    with pytest.raises(NeuliteError, match=r"odd\.online_until_s returned .*; return "):
        simulate(scenario)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda labels, count: Partition(samples=np.tile(np.arange(len(labels)), count),
                                         offsets=np.arange(count + 1) * len(labels)), "belong to more than one device"),
        (lambda labels, count: Partition(samples=np.arange(len(labels)), offsets=np.array([0, len(labels)])),
         "offsets: 6 devices have 7, found (2,)"),
        (lambda labels, count: [np.arange(3)] * count, "deal: must return a Partition"),
        (lambda labels, count: Partition(samples=np.arange(3) - 1, offsets=np.array([0, 3, 3, 3, 3, 3, 3])),
         "samples: must be 0 to 59, reach from -1 to 1"),
    ],
)  # fmt: skip
def test_a_run_refuses_a_partition_of_a_plug_in_that_breaks_a_law(monkeypatch, made, said):
    def deal(labels, num_devices, rng, *, groups=None):
        del rng, groups
        return made(labels, num_devices)

    monkeypatch.setattr("neulite_sim.engine.building._built", lambda *_: deal)
    with pytest.raises(ScenarioError) as caught:
        simulate(tiny("backend=dry-run"))
    assert said in str(caught.value)
    assert caught.value.problems[0].key == "data.partition"


@pytest.mark.parametrize("answer", [2.5, 0, -1, None, True, "3"])
def test_a_run_refuses_another_number_to_choose_than_a_whole_one(answer):
    with pytest.raises(SimulationError, match=r"returned .* from num_to_choose, of 9 offers; it must return a whole n"):
        checked_count(First(), answer, 9)
    assert [checked_count(First(), count, 9) for count in (3, np.int64(4))] == [3, 4]


def test_a_run_refuses_a_float_from_num_to_choose():
    class Half(First):
        def num_to_choose(self, count, num_offers):
            return count * 1.5

    with pytest.raises(SimulationError, match=r"Half \(.*returned 4\.5 from num_to_choose"):
        neulite_sim.simulate(tiny("backend=dry-run"), selector=Half)


def test_what_is_this_projects_own_is_not_looked_at_again():
    assert is_own(deal_iid)
    assert is_own(component("available_memory", "uniform").build)
    assert not is_own(First())
    assert not is_own(lambda: None)
    assert isinstance(Asked(Always(3), "a", 3).notes, tuple)
