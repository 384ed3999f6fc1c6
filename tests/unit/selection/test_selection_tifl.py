"""TiFL: tiers, probabilities and credits worked out by hand, and the corners in which reference codes fail."""

import numpy as np
import pytest
from pydantic import ValidationError

from neulite_sim.methods.contract import Offers
from neulite_sim.registry import component
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Feedback, SelectorSetting
from neulite_sim.selection.latency_tiers import tiers_by_latency
from neulite_sim.selection.tifl import (
    Tifl,
    TiflOptions,
    adaptive_probabilities,
    equal_credits,
    static_probabilities,
)

LATENCIES_S = [5, 1, 4, 2, 3, 6]


def offers(expected_s, submodel="full", devices=None):
    count = len(expected_s)
    return Offers(
        devices=np.arange(count) if devices is None else np.array(devices),
        submodel_index=np.zeros(count, np.int16),
        submodels=(submodel,),
        expected_s=np.array(expected_s, dtype=np.float64),
    )


def tifl(num_devices=6, rounds=500, **options):
    return Tifl(TiflOptions(**options), SelectorSetting(num_devices=num_devices, max_rounds=rounds))


def ended(device, seconds, *, number=1, arrived=True, submodel="full"):
    return Feedback(device=device, submodel=submodel, round=number, duration_s=seconds, has_arrived=arrived,
                    num_samples=1)  # fmt: skip


def play(selector, offered, rounds, *, count=2, accuracies=None):
    """Run rounds and return the devices chosen in each."""
    found = []
    for number in range(rounds):
        chosen = offered.devices[selector.choose(offered, count, stream(0, "selection", number))]
        selector.observe([ended(int(device), 1.0, number=number + 1) for device in chosen])
        groups = selector.groups_to_test()
        if groups and accuracies is not None:
            selector.observe_accuracies(accuracies)
        found.append(chosen.tolist())
    return found


def test_the_worst_tier_gets_the_largest_probability():
    found = adaptive_probabilities(np.array([0.7, 0.5, 0.6, 0.8, 0.9]), np.ones(5, dtype=np.int64))
    assert found == pytest.approx([0.2, 1 / 3, 4 / 15, 2 / 15, 1 / 15])


def test_an_exhausted_tier_gets_nothing_and_the_others_share_all():
    found = adaptive_probabilities(np.array([0.7, 0.5, 0.6, 0.8, 0.9]), np.array([1, 1, 0, 1, 1]))
    assert found == pytest.approx([0.3, 0.4, 0.0, 0.2, 0.1])


def test_no_credits_at_all_give_no_probability_and_no_division_by_zero():
    assert adaptive_probabilities(np.array([0.7, 0.5]), np.zeros(2, dtype=np.int64)).tolist() == [0, 0]


def test_a_tier_of_unknown_accuracy_counts_as_the_best():
    assert adaptive_probabilities(np.array([np.nan, 0.9]), np.ones(2, dtype=np.int64)) == pytest.approx([1 / 3, 2 / 3])


def test_credits_are_the_rounds_divided_and_rounded_up():
    assert equal_credits(500, 5) == (100,) * 5
    assert equal_credits(7, 3) == (3,) * 3


def test_tiers_are_equal_groups_by_latency():
    found = tiers_by_latency(np.array(LATENCIES_S, dtype=float), 3)
    assert [group.tolist() for group in found] == [[1, 3], [4, 2], [0, 5]]


def test_tiers_need_not_divide_the_devices_and_may_be_empty():
    assert [len(group) for group in tiers_by_latency(np.arange(7.0), 3)] == [3, 2, 2]
    assert [len(group) for group in tiers_by_latency(np.arange(2.0), 3)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("adaptive", [0.2] * 5),
        ("uniform", [0.2] * 5),
        ("random", [0.7, 0.1, 0.1, 0.05, 0.05]),
        ("fast", [1, 0, 0, 0, 0]),
        ("slow", [0, 0, 0, 0, 1]),
    ],
)
def test_static_policies_are_those_of_the_paper(policy, expected):
    assert static_probabilities(TiflOptions(policy=policy)).tolist() == pytest.approx(expected)


def test_an_explicit_policy_takes_its_own_probabilities():
    selector = tifl(tiers=3, policy="explicit", probabilities=[0, 1, 0])
    assert {tuple(chosen) for chosen in play(selector, offers(LATENCIES_S), 20)} == {(2, 4)}


def test_the_devices_of_a_round_are_of_one_tier_and_without_repetition():
    chosen = play(tifl(tiers=3), offers(LATENCIES_S), 60)
    assert {tuple(devices) for devices in chosen} == {(1, 3), (2, 4), (0, 5)}


def test_a_tier_smaller_than_the_round_gives_all_it_has():
    chosen = play(tifl(tiers=3), offers(LATENCIES_S), 10, count=5)
    assert {len(devices) for devices in chosen} == {2}


def test_inside_a_tier_every_device_is_equally_likely():
    """2000 draws of one of four in a single tier: 500 each, with a deviation of 19.4."""
    selector, counts = tifl(4, tiers=1, rounds=2000), np.zeros(4)
    for devices in play(selector, offers([1, 2, 3, 4]), 2000, count=1):
        counts[devices] += 1
    assert np.abs(counts - 500).max() < 4 * 19.4


def test_the_expected_round_time_is_that_of_the_tiers_weighted_by_probability():
    """Policy random on five tiers of 1 to 5 s: .7 + .2 + .3 + .2 + .25 = 1.65 s a round; deviation 1.195."""
    selector = tifl(5, policy="random")
    chosen = play(selector, offers([1, 2, 3, 4, 5]), 1000, count=1)
    assert np.mean([devices[0] + 1 for devices in chosen]) == pytest.approx(1.65, abs=4 * 1.195 / np.sqrt(1000))


def test_each_round_takes_one_credit_of_its_tier():
    selector = tifl(tiers=3, rounds=7)
    assert selector.credits_left.tolist() == [3, 3, 3]
    tiers = [{1: 0, 4: 1, 5: 2}[max(set(devices) & {1, 4, 5})] for devices in play(selector, offers(LATENCIES_S), 6)]
    assert selector.credits_left.tolist() == [3 - tiers.count(tier) for tier in range(3)]


def test_a_tier_without_credits_is_not_drawn():
    chosen = play(tifl(tiers=3, credits=[0, 5, 0]), offers(LATENCIES_S), 5)
    assert chosen == [[2, 4]] * 5


def test_credits_are_dealt_anew_when_all_are_gone():
    selector = tifl(tiers=3, credits=[1, 1, 1])
    assert len(play(selector, offers(LATENCIES_S), 7)) == 7
    assert selector.credits_left.sum() == 2


def test_dealing_anew_gives_probabilities_back_to_exhausted_tiers():
    selector = tifl(tiers=2, credits=[1, 3], interval=1, waits_for_stall=False, num_devices=2)
    play(selector, offers([1, 2]), 4, count=1, accuracies=[0.1, 0.9])
    assert selector.probabilities.tolist() == [0, 0]
    selector.choose(offers([1, 2]), 1, stream(0, "selection"))
    assert selector.probabilities == pytest.approx([2 / 3, 1 / 3])
    assert selector.credits_left.sum() == 3


def test_where_only_tiers_without_credits_are_online_they_train_without_charge():
    selector = tifl(tiers=2, credits=[0, 5], num_devices=4)
    play(selector, offers([1, 2, 3, 4]), 1)
    fast_only = offers([1, 2], devices=[0, 1])
    assert selector.choose(fast_only, 2, stream(0, "selection")).tolist() == [0, 1]
    assert selector.credits_left.tolist() == [0, 4]


def test_a_policy_whose_tier_is_offline_takes_another():
    selector = tifl(tiers=2, policy="fast", num_devices=4)
    play(selector, offers([1, 2, 3, 4]), 1)
    assert selector.choose(offers([3, 4], devices=[2, 3]), 2, stream(0, "selection")).tolist() == [0, 1]


def test_tiers_hold_all_devices_seen_so_far_and_not_those_online():
    """Devices 4 and 5 alone are online: both are slow among the six, so both are of the third tier."""
    selector = tifl(tiers=3, credits=[0, 0, 9])
    play(selector, offers([1, 2, 3, 4, 5, 6]), 1)
    assert selector.choose(offers([5, 6], devices=[4, 5]), 2, stream(0, "selection")).tolist() == [0, 1]


def test_tiers_follow_the_submodel_that_is_offered():
    selector = tifl(tiers=2, credits=[9, 0], num_devices=4)
    first = selector.choose(offers([1, 2, 3, 4], "stage-1"), 2, stream(0, "selection"))
    second = selector.choose(offers([4, 3, 2, 1], "stage-2"), 2, stream(0, "selection"))
    assert (first.tolist(), second.tolist()) == ([0, 1], [2, 3])


def test_tiers_are_tested_every_interval_on_their_own_members():
    selector = tifl(tiers=3, interval=4)
    offered, asked = offers(LATENCIES_S), []
    for number in range(1, 9):
        selector.choose(offered, 2, stream(0, "selection", number))
        selector.observe([])
        groups = selector.groups_to_test()
        asked.append(len(groups))
        if groups:
            assert [group.tolist() for group in groups] == [[1, 3], [2, 4], [0, 5]]
    assert asked == [0, 0, 0, 3, 0, 0, 0, 3]


def test_a_test_takes_so_many_members_spread_over_the_tier():
    selector = tifl(1000, tiers=1, interval=1, test_devices=4)
    play(selector, offers(np.arange(1000)), 1)
    assert selector.groups_to_test()[0].tolist() == [0, 333, 666, 999]


def test_empty_tiers_are_not_tested():
    selector = tifl(2, tiers=3, interval=1, waits_for_stall=False, credits=[9, 9, 9])
    play(selector, offers([1, 2]), 1)
    assert len(selector.groups_to_test()) == 2
    selector.observe_accuracies([0.4, 0.3])
    assert selector.probabilities == pytest.approx([1 / 3, 1 / 2, 1 / 6])


def test_probabilities_change_only_when_the_current_tier_stalls():
    selector = tifl(tiers=2, interval=1, credits=[99, 99], num_devices=2)
    accuracies = iter([[0.5, 0.3], [0.6, 0.4], [0.6, 0.4]])
    found = []
    for number in range(3):
        selector.choose(offers([1, 2]), 1, stream(0, "selection", number))
        selector.observe([])
        assert len(selector.groups_to_test()) == 2
        selector.observe_accuracies(next(accuracies))
        found.append(selector.probabilities.tolist())
    assert found[:2] == [[0.5, 0.5], [0.5, 0.5]]
    assert found[2] == pytest.approx([1 / 3, 2 / 3])


def test_without_waiting_probabilities_change_at_every_test():
    selector = tifl(tiers=2, interval=1, credits=[99, 99], waits_for_stall=False, num_devices=2)
    play(selector, offers([1, 2]), 1, accuracies=[0.5, 0.3])
    assert selector.probabilities == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("policy", ["uniform", "fast", "slow"])
def test_static_policies_test_nothing_and_spend_no_credits(policy):
    """Ten rounds: the interval after which `adaptive` tests."""
    selector = tifl(tiers=2, policy=policy, rounds=4)
    play(selector, offers(LATENCIES_S), 10, accuracies=None)
    assert not len(selector.groups_to_test())
    assert selector.credits_left.tolist() == [2, 2]


def test_profiling_asks_everybody_and_then_tiers_by_measured_latency():
    selector = tifl(tiers=2, profiling_rounds=2, credits=[9, 0], num_devices=4)
    offered = offers([10, 10, 10, 10])
    for seconds in ([1, 7, 2, 8], [3, 9, 2, 8]):
        assert selector.num_to_choose(2, 4) == 4
        assert len(selector.choose(offered, 4, stream(0, "selection"))) == 4
        selector.observe([ended(device, lasted) for device, lasted in enumerate(seconds)])
    assert selector.num_to_choose(2, 4) == 2
    assert selector.choose(offered, 2, stream(0, "selection")).tolist() == [0, 2]


def test_profiled_slowness_carries_over_to_other_submodels():
    """Device 0 took 5 times its 10 s, device 1 half: with 20 s expected of both, 100 s against 10 s."""
    selector = tifl(tiers=2, profiling_rounds=1, credits=[9, 0], num_devices=2)
    selector.choose(offers([10, 10]), 2, stream(0, "selection"))
    selector.observe([ended(0, 50), ended(1, 5)])
    assert selector.choose(offers([20, 20], "stage-2"), 1, stream(0, "selection")).tolist() == [1]


def test_a_device_that_never_was_in_time_is_left_out():
    selector = tifl(tiers=1, profiling_rounds=2, time_out=20, num_devices=4)
    offered = offers([10, 10, 10, 10])
    for first in (30, 10):
        selector.choose(offered, 4, stream(0, "selection"))
        selector.observe([ended(0, first), ended(1, 25), ended(2, 5, arrived=False), ended(3, 19)])
    assert selector.choose(offered, 4, stream(0, "selection")).tolist() == [0, 3]


def test_a_late_profiling_round_counts_as_the_time_out():
    """Device 0: (20 + 4) / 2 = 12 s, device 1: 13 s; uncut, device 0 would be slower."""
    selector = tifl(tiers=2, profiling_rounds=2, time_out=20, credits=[9, 0], num_devices=2)
    offered = offers([10, 10])
    for seconds in (100, 4):
        selector.choose(offered, 2, stream(0, "selection"))
        selector.observe([ended(0, seconds), ended(1, 13)])
    assert selector.choose(offered, 1, stream(0, "selection")).tolist() == [0]


def test_without_profiling_rounds_the_time_out_is_held_against_expected_seconds():
    selector = tifl(tiers=1, time_out="3s")
    assert selector.choose(offers(LATENCIES_S), 9, stream(0, "selection")).tolist() == [1, 3]


def test_where_everybody_is_given_up_they_train_all_the_same():
    assert len(tifl(time_out=0.5).choose(offers(LATENCIES_S), 2, stream(0, "selection"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "random", "tiers": 3}, "is 3, but policy random is made for 5 tiers"),
        ({"policy": "explicit"}, "go with policy explicit"),
        ({"probabilities": [0.2] * 5}, "go with policy explicit"),
        ({"policy": "explicit", "probabilities": [0.5, 0.5]}, "has 2 values for 5 tiers"),
        ({"policy": "explicit", "tiers": 2, "probabilities": [0.5, 0.6]}, "sum to 1, found the sum 1.1"),
        ({"policy": "explicit", "tiers": 2, "probabilities": [-0.5, 1.5]}, "greater than or equal to 0"),
        ({"credits": [1, 2]}, "has 2 values for 5 tiers"),
        ({"credits": [0] * 5}, "above 0 for some tier"),
        ({"credits": [-1, 1, 1, 1, 1]}, "greater than or equal to 0"),
        ({"policy": "fast", "credits": [1] * 5}, "act only with policy adaptive, found fast"),
        ({"policy": "fast", "interval": 5}, "acts only with policy adaptive, found 5; remove it"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        TiflOptions(**options)


def test_the_component_builds_for_a_run():
    found = component("selection", "tifl")
    selector = found.build(found.options(), SelectorSetting(num_devices=4, max_rounds=9))
    assert selector.credits_left.tolist() == [2] * 5
