"""The expected round: against all draws written out, and the rounds of staged methods counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from whatif_fleet import PEAKS, entrant, written_profiles

from neulite_sim.studies.whatif import BudgetedLedger, costings
from neulite_sim.studies.whatif_rounds import FirstStates, rounds_of
from neulite_sim.studies.whatif_stages import expected_maximum


@pytest.mark.parametrize("count", range(1, 7))
def test_the_expected_maximum_is_the_mean_over_all_draws(count):
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
    draws = list(itertools.combinations(values, count))
    assert expected_maximum(values, count) == pytest.approx(sum(map(max, draws)) / len(draws), rel=1e-12)


def test_with_fewer_devices_than_wanted_all_of_them_are_drawn():
    assert expected_maximum(np.array([2.0, 7.0, 5.0]), 10) == 7.0
    assert expected_maximum(np.array([4.0]), 1) == 4.0


def test_ten_of_a_million_devices_are_no_trouble():
    values = np.arange(1_000_000, dtype=np.float64)
    # The largest of K of 0 to n - 1 has the mean K (n + 1) / (K + 1) - 1.
    assert expected_maximum(values, 10) == pytest.approx(10 * 1_000_001 / 11 - 1, rel=1e-9)


def rounds(method, *overrides, memory=None, num_rounds=6):
    with written_profiles():
        ((_, costing),), _ = costings([entrant(method, *overrides)])
    own = costing.population.available_memory_bytes
    ledger = BudgetedLedger(costing.ledger, own if memory is None else np.full(6, memory))
    return ledger, rounds_of(
        costing.method, ledger, costing.charged, seed=3, num_rounds=num_rounds, devices_per_round=2
    )


def test_cyclic_stages_count_alike_and_each_draws_among_those_that_hold_it():
    """Of 200 to 1000 bytes, three devices hold stage 1 (500), five hold stage 2 (300)."""
    ledger, found = rounds("neulite")
    one, two = found.stages
    assert [(stage.stage, stage.rounds, stage.able_devices) for stage in found.stages] == [
        ("stage-1", 3, 3), ("stage-2", 3, 5),
    ]  # fmt: skip
    pairs = list(itertools.combinations(ledger.total_s("stage-1", np.array([3, 4, 5])), 2))
    assert one.round_s == pytest.approx(sum(map(max, pairs)) / 3)
    assert (one.bytes_down, one.bytes_up) == (2 * 500, 2 * 50)
    assert found.round_s == pytest.approx((one.round_s + two.round_s) / 2)
    assert (found.bytes_down, found.bytes_up) == (500 + 300, 50 + 30)
    assert found.ends_after is None


def test_a_stage_that_fits_nobody_is_skipped_by_neulite_and_ends_progfed():
    _, cyclic = rounds("neulite", memory=400)
    assert [stage.stage for stage in cyclic.stages] == ["stage-2"]
    _, growing = rounds("progfed", "stop.rounds=8", memory=400, num_rounds=8)
    assert [(stage.stage, stage.rounds) for stage in growing.stages] == [("grow-1", 2)]
    assert growing.ends_after == 2


def test_where_nobody_can_take_part_there_is_no_round():
    _, found = rounds("neulite", memory=299)
    assert (found.stages, found.ends_after, found.round_s, found.bytes_down) == ((), 0, None, None)


def test_where_weights_decide_when_a_stage_ends_each_counts_once():
    _, found = rounds("{kind: neulite, schedule: sequential}")
    assert [(stage.stage, stage.rounds) for stage in found.stages] == [("stage-1", 1), ("stage-2", 1)]


def test_devices_that_hold_different_widths_share_a_round():
    """900, 450, 260 and 150 bytes are offered to 1, 3, 1 and 1 of the devices; a draw of two takes two means."""
    _, found = rounds("heterofl")
    (stage,) = found.stages
    assert stage.able_devices == 6
    mean = (900 + 3 * 450 + PEAKS["width-0.25"] + 150) / 6
    assert stage.bytes_down == pytest.approx(2 * mean)


@pytest.mark.parametrize(("method", "starts"), [("fedavg", 1), ("neulite", 1), ("allsmall", 3)])
def test_a_method_starts_anew_only_where_it_asks_the_ledger(method, starts, monkeypatch):
    with written_profiles():
        ((_, costing),), _ = costings([entrant(method)])
    begun = []
    plainly = type(costing.method).start
    monkeypatch.setattr(type(costing.method), "start", lambda *given: begun.append(1) or plainly(*given))
    states = FirstStates(costing.method, costing.charged, 3)
    own = costing.population.available_memory_bytes
    for factor in (1, 2, 4):
        assert states.on(BudgetedLedger(costing.ledger, own * factor)) is not None
    assert len(begun) == starts
    assert states.on(BudgetedLedger(costing.ledger, own * 0)) is None
