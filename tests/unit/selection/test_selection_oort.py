"""Oort: hand-worked scores, exploration, pacer, and the corners in which reference codes fail."""

import numpy as np
import pytest
from pydantic import ValidationError

from neulite_sim.methods.contract import Offers
from neulite_sim.registry import component
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Feedback, SelectorSetting
from neulite_sim.selection.oort import (
    Oort,
    OortOptions,
    exploration_share,
    normalised_utilities,
    paced,
    preferred_duration_s,
    speed_factor,
    staleness_bonus,
    statistical_utility,
)

UTILITIES = [10, 20, 30, 40, 50]
DURATIONS_S = [10, 20, 30, 40, 50]
LAST_ROUNDS = [9, 8, 5, 2, 1]
SCORES = [0.1602008, 0.4198410, 0.3176540, 0.2723424, 0.2367764]


def offers(expected_s, submodel="full", devices=None):
    count = len(expected_s)
    return Offers(
        devices=np.arange(count) if devices is None else np.array(devices),
        submodel_index=np.zeros(count, np.int16),
        submodels=(submodel,),
        expected_s=np.array(expected_s, dtype=np.float64),
    )


def told(device, utility, *, seconds=10.0, number=1, arrived=True, submodel="full", samples=1):
    """Feedback whose statistical utility is `utility`."""
    rms = None if utility is None else utility / samples
    return Feedback(device=device, submodel=submodel, round=number, duration_s=seconds, has_arrived=arrived,
                    num_samples=samples, loss=rms, loss_rms=rms)  # fmt: skip


def oort(num_devices=5, **options):
    return Oort(OortOptions(**options), num_devices)


def after_nine_rounds(**options):
    selector = oort(**options)
    for device, (utility, seconds, number) in enumerate(zip(UTILITIES, DURATIONS_S, LAST_ROUNDS, strict=True)):
        selector.observe([told(device, utility, seconds=seconds, number=number)])
    return selector


def choices(selector_of, offered, count, draws):
    """How often each device is the choice of a new selector."""
    counts = np.zeros(len(offered))
    for draw in range(draws):
        counts[selector_of().choose(offered, count, stream(0, "selection", draw))] += 1
    return counts


def test_scores_are_those_worked_out_by_hand():
    """T = 20 (30 %), U_min = 9.99, range = 40.01, clip = 50; alpha 2, round 10."""
    assert after_nine_rounds().scores(offers([1] * 5)) == pytest.approx(SCORES, abs=1e-7)


def test_parts_of_the_hand_worked_scores():
    durations_s = np.array(DURATIONS_S, dtype=float)
    assert preferred_duration_s(durations_s, 30) == 20
    assert normalised_utilities(np.array(UTILITIES, dtype=float), 0.95)[4] == pytest.approx((50 - 9.99) / 40.01)
    assert staleness_bonus(np.array(LAST_ROUNDS), 10)[4] == pytest.approx(np.sqrt(0.1 * np.log(10)))
    assert speed_factor(durations_s, 20, 2.0).tolist() == pytest.approx([1, 1, (2 / 3) ** 2, 0.25, 0.16])


def test_a_fast_device_of_middling_utility_beats_a_slow_one_of_high_utility():
    assert np.argsort(-after_nine_rounds().scores(offers([1] * 5))).tolist() == [1, 2, 3, 4, 0]


def test_twice_the_preferred_duration_costs_three_quarters_of_the_score():
    assert speed_factor(np.array([40.0, 20.0, 5.0]), 20.0, 2.0).tolist() == [0.25, 1.0, 1.0]
    assert speed_factor(np.array([40.0]), np.inf, 2.0).tolist() == [1.0]
    assert speed_factor(np.array([40.0]), 20.0, 0.0).tolist() == [1.0]


def test_utility_is_the_size_times_the_root_mean_square_of_losses():
    assert statistical_utility(3, np.sqrt((1 + 4 + 9) / 3)) == pytest.approx(6.480741, abs=1e-6)


@pytest.mark.parametrize(
    ("selections", "share"), [(1, 0.882), (10, 0.735366), (50, 0.327753), (74, 0.201824), (75, 0.2), (10**6, 0.2)]
)
def test_exploration_decays_with_each_selection_down_to_its_floor(selections, share):
    assert exploration_share(OortOptions(), selections) == pytest.approx(share, abs=1e-6)


def test_three_devices_at_exploration_0_882_are_two_explored_and_one_exploited():
    """int(3 * 0.882) = 2; the other rounding of the reference codes would exploit none."""
    selector = oort(20)
    selector.observe([told(device, 5.0) for device in range(10)])
    chosen = selector.choose(offers([10] * 20), 3, stream(0, "selection"))
    assert (chosen < 10).sum() == 1


def test_clipping_takes_an_observed_quantile():
    clipped = normalised_utilities(np.array([1.0, 2.0, 3.0, 1000.0]), 0.5)
    assert clipped[3] == clipped[2]


def test_equal_utilities_do_not_divide_by_zero():
    assert normalised_utilities(np.array([0.0, 0.0]), 0.95).tolist() == [0.0, 0.0]
    assert normalised_utilities(np.array([7.0]), 0.95)[0] == pytest.approx(0.007 / 0.007)


@pytest.mark.parametrize(
    ("before", "now", "percentile", "after"),
    [
        (10.0, 10.9, 30, 35),
        (10.0, 9.1, 30, 35),
        (10.0, 10.0, 98, 100),
        (10.0, 60.0, 30, 25),
        (10.0, 60.0, 8, 5),
        (10.0, 60.0, 3, 3),
        (10.0, 20.0, 30, 30),
        (10.0, 0.0, 30, 30),
        (0.0, 10.0, 30, 30),
        (0.0, 0.0, 30, 30),
    ],
)
def test_the_pacer_relaxes_when_utility_stays_and_tightens_when_it_leaps(before, now, percentile, after):
    assert paced(percentile, [before] * 20 + [now] * 20, window=20, step=5) == after


def test_the_pacer_acts_at_the_end_of_a_window_only():
    for rounds in (0, 1, 20, 39, 41, 59):
        assert paced(30, [1.0] * rounds, window=20, step=5) == 30
    assert paced(30, [1.0] * 60, window=20, step=5) == 35


def test_the_pacer_counts_what_was_exploited():
    selector = oort(4, exploration=0.0, exploration_floor=0.0, pacer_rounds=2)
    for number in range(1, 7):
        chosen = selector.choose(offers([10] * 4), 4, stream(0, "selection", number))
        selector.observe([told(int(device), 5.0, number=number) for device in chosen])
    assert selector.preferred_percentile == 35, "rounds 3 and 4 against 5 and 6; round 1 exploited nobody"


def percentiles_at_window_ends(selector, count, worth):
    """Percentile after each 20th of 120 rounds in which device d's flight of round n brings worth(n), None if lost."""
    found, offered = {}, offers([10] * 1000)
    for number in range(1, 121):
        before = selector.preferred_percentile
        chosen = selector.choose(offered, count, stream(0, "selection", number))
        utility = worth(number)
        selector.observe([told(int(d), utility, number=number, arrived=utility is not None) for d in chosen])
        if number % 20 == 0:
            found[number] = selector.preferred_percentile
        else:
            assert selector.preferred_percentile == before, f"it moved in round {number}"
    return found


def test_where_every_device_is_always_worth_100_the_pacer_relaxes_after_each_window():
    """Windows of means: 19 * 100 (nobody was exploited in round 1), then 20 * 100 each."""
    found = percentiles_at_window_ends(oort(1000), 10, lambda number: 100.0)
    assert found == {20: 30, 40: 35, 60: 40, 80: 45, 100: 50, 120: 55}


def test_a_pacer_of_sums_takes_falling_exploration_for_growth():
    """Of 10, 2 are exploited from round 2, 3 from 6, 4 from 13, 5 from 21, 6 from 30, 7 from 41, 8 from 55 on.

    So the windows add up to 61, 111, 146, 160, 160 and 160 times 100; only the last three are within 10 %.
    """
    found = percentiles_at_window_ends(oort(1000, pacer_utility="sum"), 10, lambda number: 100.0)
    assert found == {20: 30, 40: 30, 60: 30, 80: 35, 100: 40, 120: 45}


def test_the_pacer_follows_120_rounds_worked_out_by_hand():
    """Nothing arrives in rounds 1 to 6, as where Oort's code exploits nobody yet: its first relaxation is at round 60.

    Windows of means: 1400, 2000 (+43 %), 2000 (relaxed), 2600 (+30 %), 15600 (five times more: tightened), 14400 (-8 %).
    """
    worth = [None] * 6 + [100.0] * 54 + [130.0] * 20 + [780.0] * 20 + [720.0] * 20
    found = percentiles_at_window_ends(oort(1000), 5, lambda number: worth[number - 1])
    assert found == {20: 30, 40: 30, 60: 35, 80: 35, 100: 30, 120: 35}


def test_a_lost_flight_is_left_out_of_the_mean_of_what_was_exploited():
    """Rounds of two exploited devices worth 5, one of them lost in rounds 5 and 6: the mean stays 5, a sum would halve."""
    for utility, after in (("mean", 35), ("sum", 30)):
        options = {"exploration": 0.0, "exploration_floor": 0.0, "pacer_rounds": 2, "pacer_utility": utility}
        selector = oort(2, **options)
        for number in range(1, 7):
            selector.choose(offers([10] * 2), 2, stream(0, "selection", number))
            is_lost = number in (5, 6)
            selector.observe([told(0, 5.0, number=number), told(1, 5.0, number=number, arrived=not is_lost)])
        assert selector.preferred_percentile == after


def test_every_flight_of_a_device_that_was_exploited_twice_counts():
    """As where it flew again before its first update was merged: 5 + 5, then 10, so that the third round relaxes."""
    options = {"exploration": 0.0, "exploration_floor": 0.0, "pacer_rounds": 1, "pacer_utility": "sum"}
    selector = oort(1, **options)
    for number, worth in ((1, [5.0]), (2, [5.0, 5.0]), (3, [10.0])):
        for flight in range(len(worth)):
            selector.choose(offers([10]), 1, stream(0, "selection", number, flight))
        before = selector.preferred_percentile
        selector.observe([told(0, utility, number=number) for utility in worth])
    assert selector.preferred_percentile == before + 5


def test_registered_devices_are_normalised_with_as_if_of_loss_1():
    """U = 10, 20, 30 and 5 and 50 samples never asked: U_min 4.995, range 45.005. Explored ones alone: 9.99, 20.01."""
    scores = {}
    for over in ("registered", "explored"):
        selector = oort(5, normalise_over=over)
        selector.register(np.array([1, 1, 1, 5, 50]))
        selector.observe([told(device, utility) for device, utility in enumerate([10, 20, 30])])
        scores[over] = selector.scores(offers([10] * 5)) - np.sqrt(0.1 * np.log(2))
    assert scores["registered"][:3] == pytest.approx([5.005 / 45.005, 15.005 / 45.005, 25.005 / 45.005])
    assert scores["explored"][:3] == pytest.approx([0.01 / 20.01, 10.01 / 20.01, 20.01 / 20.01])
    assert np.isnan(scores["registered"][3:]).all()


def test_only_what_is_on_offer_is_normalised_with():
    """Device 3 with its 1000 samples is away."""
    selector = oort(4)
    selector.register(np.array([1, 1, 5, 1000]))
    selector.observe([told(0, 10.0), told(1, 20.0)])
    found = selector.scores(offers([10] * 3, devices=[0, 1, 2])) - np.sqrt(0.1 * np.log(2))
    assert found[:2] == pytest.approx([5.005 / 15.005, 1.0])


def test_a_pacer_without_step_is_off():
    """Two windows of 20 rounds of equal utility would ask for more patience."""
    selector = oort(1, pacer_step=0, exploration=0.0, exploration_floor=0.0)
    for number in range(1, 42):
        selector.choose(offers([10]), 1, stream(0, "selection", number))
        selector.observe([told(0, 5.0, number=number)])
    assert selector.preferred_percentile == 30


def test_the_preferred_duration_is_unbounded_from_the_hundredth_percentile_on():
    assert preferred_duration_s(np.array([1.0, 2.0]), 100) == np.inf
    assert preferred_duration_s(np.array([1.0, 2.0]), 99.9) == 2.0
    assert preferred_duration_s(np.array([]), 30) == np.inf


def test_the_first_round_is_random_whatever_the_speed():
    """2000 draws of one out of 4, one a hundred times slower: 500 each, with a deviation of 19.4."""
    counts = choices(lambda: oort(4), offers([1000, 10, 10, 10]), 1, 2000)
    assert np.abs(counts - 500).max() < 4 * 19.4


def test_unexplored_devices_are_drawn_by_speed_and_not_by_their_number():
    """Four of weight 1 and, shuffled, one of the four of weight 0.25 enter a window of five."""

    def explored_one():
        selector = oort(9, exploration=1.0, exploration_decay=1.0, exploration_window=5, preferred_percentile=40)
        selector.observe([told(0, 1.0, seconds=10)])
        return selector

    counts = choices(explored_one, offers([10, 20, 20, 10, 10, 10, 10, 20, 20]), 1, 1000)
    assert counts[0] == 0
    assert np.abs(counts[3:7] - 1000 / 4.25).max() < 4 * 13.4
    assert np.abs(counts[[1, 2, 7, 8]] - 250 / 4.25 / 4).max() < 4 * 3.8


def test_exploited_devices_are_drawn_by_score_among_those_near_the_cut():
    """Scores .420 and .318 alone reach 0.7 times .420: they are drawn 57 and 43 times in 100."""
    counts = choices(
        lambda: after_nine_rounds(exploration=0.0, exploration_floor=0.0, cut_off=0.7), offers([1] * 5), 1, 1000
    )
    assert counts[[0, 3, 4]].tolist() == [0, 0, 0]
    assert counts[1] / 1000 == pytest.approx(SCORES[1] / (SCORES[1] + SCORES[2]), abs=4 * 0.0157)


def test_exploiting_every_explored_device_stays_within_the_ranking():
    selector = after_nine_rounds(exploration=0.0, exploration_floor=0.0)
    assert selector.choose(offers([1] * 5), 5, stream(0, "selection")).tolist() == [0, 1, 2, 3, 4]


def test_too_few_explored_devices_are_filled_up_with_others_and_the_reverse():
    few = oort(6, exploration=0.0, exploration_floor=0.0)
    few.observe([told(0, 1.0)])
    assert len(few.choose(offers([10] * 6), 4, stream(0, "selection"))) == 4
    many = oort(6, exploration=1.0, exploration_floor=1.0)
    many.observe([told(device, 1.0) for device in range(5)])
    assert len(many.choose(offers([10] * 6), 4, stream(0, "selection"))) == 4


def test_a_lost_flight_gets_the_average_utility_and_counts_as_explored():
    selector = oort(3)
    selector.observe([told(0, 4.0), told(1, 8.0), told(2, None, arrived=False)])
    found = selector.scores(offers([10] * 3))
    assert found[2] == pytest.approx((found[0] + found[1]) / 2)


def test_a_lost_flight_is_not_taken_for_a_fast_one():
    """Device 0 was expected to take 100 s and vanished after 1 s: it counts as 100 s, five times T = 20."""
    selector = oort(2, exploration=1.0)
    offered = offers([100, 20])
    selector.choose(offered, 2, stream(0, "selection"))
    selector.observe([told(0, None, seconds=1.0, arrived=False), told(1, 6.0, seconds=20.0)])
    found = selector.scores(offered)
    assert found[0] / found[1] == pytest.approx(0.04)


def test_where_no_loss_is_known_the_size_stands_for_utility():
    selector = oort(2)
    selector.observe([told(0, None, samples=10), told(1, None, samples=40)])
    found = selector.scores(offers([10] * 2))
    bonus = np.sqrt(0.1 * np.log(2))
    assert found.tolist() == pytest.approx([0.01 / 30.01 + bonus, 1 + bonus])


def test_a_mean_loss_stands_in_for_its_root_mean_square_and_is_never_negative():
    selector = oort(2)
    shared = {"submodel": "full", "round": 1, "duration_s": 10.0, "has_arrived": True, "num_samples": 10}
    selector.observe([Feedback(device=0, loss=-3.0, **shared), Feedback(device=1, loss=2.0, **shared)])
    assert selector.scores(offers([10] * 2)) == pytest.approx(np.array([0, 1]) + np.sqrt(0.1 * np.log(2)))


def test_utility_is_replaced_and_not_compounded():
    selector = oort(2)
    for number in range(1, 6):
        selector.observe([told(0, 2.0, number=number), told(1, 4.0, number=number)])
    again = oort(2)
    again.observe([told(0, 2.0, number=5), told(1, 4.0, number=5)])
    assert selector.scores(offers([10] * 2)).tolist() == again.scores(offers([10] * 2)).tolist()


def test_seconds_follow_the_submodel_that_is_offered():
    """Measured 40 s with stage-1 where T = 10; stage-2 was never measured, so its expected seconds count."""
    selector = oort(2)
    selector.observe([told(0, 5.0, seconds=10, submodel="stage-1"), told(1, 5.0, seconds=40, submodel="stage-1")])
    same = selector.scores(offers([1, 1], "stage-1"))
    other = selector.scores(offers([7, 7], "stage-2"))
    assert same[1] / same[0] == pytest.approx(1 / 16)
    assert other[1] == other[0]


def test_over_commitment_is_rounded_down_without_rounding_errors():
    assert oort().num_to_choose(10, 99) == 10
    assert oort(over_commit=1.3).num_to_choose(5, 99) == 6
    assert oort(over_commit=1.1).num_to_choose(10, 99) == 11
    assert oort(over_commit=1.15).num_to_choose(100, 999) == 115


def test_devices_chosen_too_often_are_left_out_but_never_more_than_the_share():
    def tired():
        selector = oort(10, blacklist_after=1, blacklist_share=0.3)
        for number in (1, 2):
            selector.choose(offers([10] * 5), 5, stream(0, "selection", number))
            selector.observe([told(device, 50.0, number=number) for device in range(5)])
        return selector

    counts = choices(tired, offers([10] * 10), 7, 20)
    assert counts[:3].tolist() == [0, 0, 0], "five of ten are tired, three may be left out: the first of equals"
    assert counts[3:].tolist() == [20] * 7


def test_a_blacklist_leaves_as_many_as_are_wanted():
    selector = oort(3, blacklist_after=1, blacklist_share=1.0)
    for number in range(1, 5):
        assert len(selector.choose(offers([10] * 3), 3, stream(0, "selection", number))) == 3
        selector.observe([told(device, 5.0, number=number) for device in range(3)])


def test_full_fairness_takes_whoever_was_chosen_least():
    selector = oort(3, fairness=1.0, exploration=0.0, exploration_floor=0.0, cut_off=1.0)
    selector.observe([told(device, 10.0 * (3 - device)) for device in range(3)])
    chosen = [int(selector.choose(offers([10] * 3), 1, stream(0, "selection", draw))[0]) for draw in range(6)]
    assert sorted(chosen[:3]) == sorted(chosen[3:]) == [0, 1, 2]


def test_a_selection_without_offers_decays_nothing():
    selector, other = oort(20), oort(20)
    for _ in range(50):
        selector.choose(offers([]), 3, stream(0, "selection"))
    for item in (selector, other):
        item.observe([told(device, 5.0) for device in range(10)])
    both = [item.choose(offers([10] * 20), 10, stream(0, "selection")).tolist() for item in (selector, other)]
    assert both[0] == both[1]


@pytest.mark.parametrize(("key", "value"), [("over_commit", 0.9), ("exploration", 1.1), ("cut_off", -0.1)])
def test_options_out_of_range_are_refused(key, value):
    with pytest.raises(ValidationError, match=key):
        OortOptions(**{key: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exploration": 0.1}, r"exploration\n  is 0.1, below exploration_floor 0.2; lower that as well"),
        (
            {"exploration": 0.2, "exploration_decay": 0.5},
            "acts only with exploration above exploration_floor, found 0.5",
        ),
        ({"pacer_step": 0, "pacer_rounds": 5}, "acts only with pacer_step above 0, found 5"),
        ({"pacer_step": 0, "pacer_utility": "sum"}, "acts only with pacer_step above 0, found sum"),
        ({"speed_penalty": 0, "pacer_utility": "sum"}, "acts only with speed_penalty above 0, found sum"),
        ({"speed_penalty": 0, "preferred_percentile": 10}, "acts only with speed_penalty above 0, found 10"),
        ({"blacklist_share": 0.5}, "acts only with blacklist_after, found 0.5; remove it"),
    ],
)
def test_options_that_could_not_act_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        OortOptions(**options)


def test_the_component_builds_for_a_fleet():
    found = component("selection", "oort")
    selector = found.build(found.options(), SelectorSetting(num_devices=4, max_rounds=9))
    assert len(selector.choose(offers([1] * 4), 2, stream(0, "selection"))) == 2
