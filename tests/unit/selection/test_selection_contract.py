"""The selector contract: its conformance check passes for what keeps it and fails for what breaks it."""

import itertools

import numpy as np
import pytest

from neulite_sim.registry import component, names
from neulite_sim.seeding import stream
from neulite_sim.selection.conformance import check_selector
from neulite_sim.selection.contract import Selector, SelectorSetting, may_ask_again
from neulite_sim.selection.drawing import draw_weighted
from neulite_sim.selection.uniform import Uniform


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in names("selection")),
        ("oort", {"blacklist_after": 2, "over_commit": 1.3, "fairness": 0.5, "pacer_rounds": 3, "clip": 0.5}),
        ("oort", {"exploration": 0.0, "exploration_floor": 0.0, "cut_off": 0.0}),
        ("tifl", {"tiers": 3, "interval": 1, "waits_for_stall": False}),
        ("tifl", {"policy": "fast", "tiers": 1}),
        ("tifl", {"policy": "random", "profiling_rounds": 2, "time_out": 20}),
        ("tifl", {"tiers": 200, "credits": [1] * 200}),
    ],
)
def test_every_registered_selector_keeps_the_contract(kind, options):
    found = component("selection", kind)
    check_selector(lambda setting: found.build(found.options(**options), setting))


class Repeats(Uniform):
    def choose(self, offers, count, rng):
        return np.repeat(super().choose(offers, count, rng), 2)[:count]


class Greedy(Selector):
    def choose(self, offers, count, rng):
        return np.arange(len(offers), dtype=np.int64)


class Idle(Selector):
    def choose(self, offers, count, rng):
        return np.empty(0, dtype=np.int64)


class OffByOne(Uniform):
    def choose(self, offers, count, rng):
        return super().choose(offers, count, rng) + 1


class Moody(Selector):
    moods = itertools.count()

    def __init__(self):
        self.rng = stream(0, "mood", next(self.moods))

    def choose(self, offers, count, rng):
        return Uniform().choose(offers, count, self.rng)


class Forgetful(Selector):
    chooses_afresh = True

    def __init__(self):
        self.num_calls = 0

    def choose(self, offers, count, rng):
        self.num_calls += 1
        return (
            np.arange(len(offers), dtype=np.int64)[self.num_calls % 2 :][:1]
            if len(offers) > 1
            else np.arange(len(offers))
        )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Forgetful, "chooses_afresh: asked twice for one dispatch, choose returned \\[1\\] and then \\[0\\]"),
        (Repeats, "must ascend without repetition"),
        (Greedy, "at most 1 were wanted"),
        (Idle, "none was chosen"),
        (OffByOne, "the last is"),
        (Moody, "must be the only randomness"),
    ],
)
def test_the_check_finds_a_selector_that_breaks_the_contract(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_selector(lambda setting: broken())


def test_whether_it_may_be_asked_again_is_said_by_the_class_that_chooses():
    class Renamed(Uniform):
        pass

    class Resaid(OffByOne):
        chooses_afresh = True

    found = [may_ask_again(kind()) for kind in (Uniform, Renamed, OffByOne, Resaid, Greedy)]
    assert found == [True, True, False, True, False]


def test_a_selector_learns_nothing_and_asks_for_what_is_wanted_by_default():
    selector = Selector()
    assert selector.num_to_choose(7, 100) == 7
    assert selector.observe([]) is None
    assert len(selector.groups_to_test()) == 0


def test_uniform_takes_a_setting_as_every_selector_does():
    found = component("selection", "uniform")
    assert isinstance(found.build(found.options(), SelectorSetting(num_devices=3, max_rounds=4)), Uniform)


def test_a_weighted_draw_follows_its_weights():
    """4000 first draws with weights 1, 2, 5: expected 500, 1000, 2500, with deviations of at most 31."""
    counts = np.zeros(3)
    for number in range(4000):
        counts[draw_weighted(np.array([1.0, 2.0, 5.0]), 1, stream(0, "draw", number))] += 1
    assert np.abs(counts - [500, 1000, 2500]).max() < 4 * 31


def test_a_second_draw_follows_the_weights_that_are_left():
    """P(first 2, then 1) + P(first 1, then 2) = 5/8 * 2/3 + 2/8 * 5/6 = 0.625 for weights 1, 2, 5."""
    pairs = [
        set(draw_weighted(np.array([1.0, 2.0, 5.0]), 2, stream(1, "draw", number)).tolist()) for number in range(4000)
    ]
    assert pairs.count({1, 2}) / 4000 == pytest.approx(0.625, abs=4 * 0.0077)


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1e-300, 1.0, 1e300]])
def test_a_weighted_draw_never_runs_out_of_candidates(weights):
    drawn = draw_weighted(np.array(weights), 5, stream(2, "draw"))
    assert sorted(drawn) == [0, 1, 2]
    assert len(draw_weighted(np.array([]), 5, stream(2, "draw"))) == 0


def test_weights_of_zero_come_last():
    assert all(draw_weighted(np.array([0.0, 1.0, 0.0]), 1, stream(3, "draw", number))[0] == 1 for number in range(200))
