"""Offers that change from round to round of one stage are priced by the rounds of the run, others once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tiny_scenarios import TINY
from whatif_fleet import entrant, written_profiles

from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.contract import Method
from neulite_sim.methods.heterofl import HeteroFL
from neulite_sim.methods.offering import Offering, offer_chosen
from neulite_sim.methods.zeroth_order import ZerothOrder
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.seeding import uniforms
from neulite_sim.studies import whatif_offered
from neulite_sim.studies.whatif import BudgetedLedger, Budgets, Entrant, costings, least_peaks, study
from neulite_sim.studies.whatif_offered import RoundOffers, StageRounds
from neulite_sim.studies.whatif_rounds import rounds_of

OWNERS = np.arange(6)
COSTS = ("round_s", "bytes_down_per_round", "bytes_up_per_round")


def drawing(method, state, ledger, candidates):
    """Offer each candidate any of the submodels, drawn anew by the version, all under one stage name."""
    drawn = uniforms(5, "drawn-offer", np.full_like(candidates, state.version), candidates)
    chosen = (drawn * len(method.submodels)).astype(np.int16)
    names = method.submodels
    return offer_chosen(ledger, names, candidates, chosen, stage="drawn", smallest=names[-1])


def alternating(method, state, ledger):
    """Offer everybody the first submodel in even rounds and the last in odd ones, all under one stage name."""
    return Offering(stage="both", submodels=(method.submodels[-(state.version % 2)],))


def tight(method):
    """Return a scenario of six equal devices that hold some submodels and not others, all of them in every round."""
    data = {"kind": "digits", "image_size": 8, "train_samples": 60, "test_samples": 30, "partition": "iid"}
    population = {**TINY["population"], "devices": 6, "speed_jitter": 0, "link": {"downlink": "2Mbps", "uplink": "1Mbps"},
                  "groups": [{"device": "raspberry-pi-4-4gb", "share": 1}]}  # fmt: skip
    mapping = {**TINY, "data": data, "model": "lenet", "population": population, "backend": "dry-run"}
    overrides = [f"method={method}", "selection.devices_per_round=6", "stop.rounds=9"]
    ((_, costing),), _ = costings([Entrant(method=method, variant="it", scenario=parse_scenario(mapping, overrides))])
    needs = sorted(int(least_peaks(costing, name).max()) for name in costing.method.submodels)
    memory_bytes = needs[-2] if method == "cocofl" else needs[-1]
    given = f"population.available_memory={{kind: explicit, values: {[memory_bytes] * 6}}}"
    return parse_scenario(mapping, [*overrides, given])


@pytest.mark.usefixtures("shared_profiles")
@pytest.mark.parametrize(
    ("method", "patched", "name", "offers"),
    [
        pytest.param("cocofl", None, "", None, id="cocofl draws"),
        pytest.param("heterofl", HeteroFL, "offers", drawing, id="another draws"),
        pytest.param("heterofl", HeteroFL, "offering", alternating, id="a stage alternates"),
        pytest.param("{kind: zeroth-order, steps: 2}", ZerothOrder, "offers", drawing, id="and lets devices catch up"),
    ],
)
def test_a_study_says_what_a_dry_run_takes_where_offers_change_from_round_to_round(
    method, patched, name, offers, monkeypatch
):
    chosen = tight(method)
    if patched:
        monkeypatch.setattr(patched, name, offers)
    rounds = simulate(chosen).memory.rounds
    if method in ("cocofl", "heterofl"):
        assert len({row["bytes_up"] for row in rounds}) > 1
    means = [sum(row[name] for row in rounds) / len(rounds) for name in ("bytes_down", "bytes_up")]
    (row,) = study([Entrant(method=method, variant="it", scenario=chosen)], Budgets(kind="scale", values=(1.0,)))[
        "rows"
    ]
    assert [row[cost] for cost in COSTS] == pytest.approx(
        [rounds[-1]["virtual_time_s"] / len(rounds), *means], rel=1e-9
    )


def costed(method):
    with written_profiles():
        ((_, costing),), _ = costings([entrant(method)])
    return costing, BudgetedLedger(costing.ledger, np.full(6, 10_000))


def rounds(costing, ledger, *, num_rounds, drawn):
    given = {"seed": 3, "num_rounds": num_rounds, "devices_per_round": drawn}
    return rounds_of(costing.method, ledger, costing.charged, **given)


def test_with_some_drawn_each_round_is_the_mean_over_the_sets_of_its_own_offers(monkeypatch):
    monkeypatch.setattr(HeteroFL, "offers", drawing)
    costing, ledger = costed("heterofl")
    found = rounds(costing, ledger, num_rounds=7, drawn=2)
    state, wanted = costing.method.start(costing.charged, 3, ledger), []
    for _ in range(7):
        offers = drawing(costing.method, state, ledger, OWNERS).offers
        pairs = list(itertools.combinations(offers.expected_s, 2))
        wanted.append(sum(map(max, pairs)) / len(pairs))
        state = costing.method.follow(state, {})
    assert len(set(wanted)) > 1
    assert found.round_s == pytest.approx(sum(wanted) / 7)
    assert [(stage.stage, stage.rounds, stage.able_devices) for stage in found.stages] == [("drawn", 7, 6)]


def test_of_a_larger_fleet_other_devices_are_looked_at_in_each_round(monkeypatch):
    monkeypatch.setattr(HeteroFL, "offers", drawing)
    costing, ledger = costed("heterofl")
    whole = rounds(costing, ledger, num_rounds=600, drawn=2)
    monkeypatch.setattr(whatif_offered, "MOST_LISTED", 4)
    part = rounds(costing, ledger, num_rounds=600, drawn=2)
    assert part != whole
    assert (part.round_s, part.bytes_up) == pytest.approx((whole.round_s, whole.bytes_up), rel=0.03)
    assert [stage.rounds for stage in part.stages] == [600]


def listing(method, state, ledger, candidates):
    """List the offers of `offering`, as a method with offers of its own that draws nothing."""
    return method.offering(state, ledger).to(ledger, candidates)


@pytest.mark.parametrize("most_listed", [10_000, 2])
@pytest.mark.parametrize("memory", [10_000, 460, 120])
def test_what_draws_nothing_is_priced_once_and_to_the_byte_as_before(most_listed, memory, monkeypatch):
    costing, _ = costed("heterofl")
    ledger = BudgetedLedger(costing.ledger, np.array([memory, 150, 10, 460, 900, 5000]))
    wanted = rounds(costing, ledger, num_rounds=5, drawn=2)
    monkeypatch.setattr(whatif_offered, "MOST_LISTED", most_listed)
    monkeypatch.setattr(HeteroFL, "offers", listing)
    priced = []
    plainly = whatif_offered.stage_round
    monkeypatch.setattr(whatif_offered, "stage_round", lambda *given: priced.append(1) or plainly(*given))
    assert rounds(costing, ledger, num_rounds=5, drawn=2) == wanted
    assert priced == [1]


@pytest.mark.parametrize("method", ["fedavg", "neulite", "progfed", "heterofl", "cocofl"])
def test_offers_of_rounds_are_those_of_the_method(method):
    costing, ledger = costed(method)
    state, offers = costing.method.start(costing.charged, 3, ledger), RoundOffers(
        costing.method, ledger, OWNERS, seed=1, most_drawn=2)  # fmt: skip
    for _ in range(5):
        found, wanted = offers.after(state), costing.method.offers(state, ledger, OWNERS)
        assert found.stage == wanted.stage
        assert found.offers.submodels == wanted.offers.submodels
        assert np.array_equal(found.offers.submodel_index, wanted.offers.submodel_index)
        state = costing.method.follow(state, costing.method.progress(state))


def test_a_method_that_says_what_it_offers_lists_nobody_twice(monkeypatch):
    costing, ledger = costed("fedavg")
    asked = []
    plainly = Offering.to
    monkeypatch.setattr(Offering, "to", lambda *given: asked.append(1) or plainly(*given))
    rounds(costing, ledger, num_rounds=50, drawn=2)
    assert asked == [1]
    assert type(costing.method).offers is Method.offers


def test_the_mean_counts_rounds_with_the_first_offers_by_their_number():
    _, ledger = costed("heterofl")
    full, half = (Offering(stage="both", submodels=(name,)).to(ledger, OWNERS) for name in ("full", "width-0.5"))
    stage = StageRounds(full, ledger, 6)
    for proposal in (full, full, half):
        stage.add(proposal)
    mean = stage.mean()
    assert (mean.rounds, stage.always_the_same) == (3, False)
    assert mean.bytes_down == pytest.approx(6 * (900 + 900 + 450) / 3)
