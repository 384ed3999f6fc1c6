"""A study counts what devices download because they missed it, as a run charges them for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_cases import some_slow
from tiny_scenarios import TINY
from whatif_fleet import entrant, written_profiles

from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.zeroth_order import ZerothOrder
from neulite_sim.registry import names
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.studies import whatif_missed
from neulite_sim.studies.costs import cost_report
from neulite_sim.studies.whatif import BudgetedLedger, Budgets, Entrant, costings, study
from neulite_sim.studies.whatif_rounds import rounds_of

DATA = {"kind": "digits", "image_size": 8, "train_samples": 60, "test_samples": 30, "partition": "iid"}
POPULATION = {
    "devices": 6,
    "groups": [{"device": "raspberry-pi-4-4gb", "share": 1}],
    "available_memory": {"kind": "installed", "share": 0.5},
    "link": {"downlink": "2Mbps", "uplink": "1Mbps"},
    "speed_jitter": 0,
}
OWN_OPTIONS = {"profl": "{kind: profl, shrinking_rounds: 1, growing_rounds: 1}"}
VARIANTS = [
    "{kind: lora, aggregation: flora, ranks: [4]}",
    "{kind: lora, aggregation: flora, ranks: [4], base: sent}",
    "{kind: lora, aggregation: hetlora, ranks: [4, 1]}",
    "{kind: zo-warmup, warmup_rounds: 3}",
    "{kind: zo-warmup, warmup_rounds: 1, capable: first-order, steps: 2}",
    "{kind: zeroth-order, steps: 2, perturbations: 3}",
    "{kind: zeroth-order, pool: 7}",
]
LONG = ("fedra", "slt", "federated-dropout")


def scenario(method, *overrides):
    model = {"kind": "vit", "patch": 4, "dim": 8, "heads": 2, "depth": 3} if method == "fedra" else "lenet"
    mapping = {**TINY, "data": DATA, "model": model, "population": POPULATION, "backend": "dry-run"}
    return parse_scenario(
        mapping, [f"method={OWN_OPTIONS.get(method, method)}", "selection.devices_per_round=6", *overrides]
    )


def studied(chosen):
    entrants = [Entrant(method=chosen.method.kind, variant="it", scenario=chosen)]
    return study(entrants, Budgets(kind="scale", values=(1.0,)))


def of_a_run(chosen):
    """Return the mean seconds, and bytes down and up, of the rounds of a dry run."""
    rounds = simulate(chosen).memory.rounds
    down, up = (sum(row[name] for row in rounds) / len(rounds) for name in ("bytes_down", "bytes_up"))
    return rounds[-1]["virtual_time_s"] / len(rounds), down, up


@pytest.mark.usefixtures("shared_profiles")
@pytest.mark.parametrize("method", some_slow([*names("method"), *VARIANTS], lambda method: method in LONG))
def test_where_all_devices_take_part_a_study_says_what_a_dry_run_takes(method):
    chosen = scenario(method, "stop.rounds=6")
    (row,) = studied(chosen)["rows"]
    found = row["round_s"], row["bytes_down_per_round"], row["bytes_up_per_round"]
    assert found == pytest.approx(of_a_run(chosen), rel=1e-9)


def mean_missed(num_rounds, share):
    """Return how many rounds, beyond the last, a device has missed in the mean over its flights and over rounds.

    Before round t + 1 it holds version s with the chance that it took part in round s + 1 and in none since.
    """
    means = []
    for now in range(num_rounds):
        chances = {version: share * (1 - share) ** (now - 1 - version) for version in range(1, now)}
        chances[0] = 1 - sum(chances.values())
        means.append(sum(chance * max(now - version - 1, 0) for version, chance in chances.items()))
    return sum(means) / num_rounds


def rounds(method, *overrides, num_rounds=200, drawn=2):
    with written_profiles():
        ((_, costing),), _ = costings([entrant(method, *overrides)])
    ledger = BudgetedLedger(costing.ledger, np.full(6, 1000))
    return costing, rounds_of(
        costing.method, ledger, costing.charged, seed=3, num_rounds=num_rounds, devices_per_round=drawn
    )


@pytest.mark.parametrize("most_looked_at", [10_000, 1])
@pytest.mark.parametrize("num_rounds", [12, 400])
def test_with_some_drawn_the_mean_is_that_over_all_draws(num_rounds, most_looked_at, monkeypatch):
    monkeypatch.setattr(whatif_missed, "MOST_LOOKED_AT", most_looked_at)
    _, found = rounds("zeroth-order", num_rounds=num_rounds)
    (stage,) = found.stages
    # A step of a direction: a slope and a seed.
    wanted = 8 * mean_missed(num_rounds, share=2 / 6)
    assert stage.missed_bytes == found.missed_bytes == pytest.approx(wanted, rel=0.1)
    _, plain = rounds("{kind: zeroth-order, pool: 1}", num_rounds=num_rounds)
    assert plain.missed_bytes == 0
    assert stage.bytes_down == pytest.approx(plain.bytes_down + 2 * stage.missed_bytes)


class Reading(ZerothOrder):
    """Reads the weights that it digests."""

    def digest(self, state, updates):
        assert float(next(iter(state.tensors.values())).sum()) != 0
        return super().digest(state, updates)


def test_a_method_that_reads_its_weights_in_a_digest_is_given_some():
    costing, wanted = rounds("zeroth-order")
    method = costing.method
    method.__class__ = Reading
    ledger = BudgetedLedger(costing.ledger, np.full(6, 1000))
    with torch.device("meta"), pytest.raises((RuntimeError, NotImplementedError)):
        method.digest(method.start(costing.charged, 3, ledger), iter(()))
    found = rounds_of(method, ledger, costing.charged, seed=3, num_rounds=200, devices_per_round=2)
    assert found == wanted


@pytest.mark.usefixtures("shared_profiles")
def test_a_profile_says_how_much_its_download_leaves_out():
    (said,) = cost_report(assemble(scenario("{kind: zo-warmup, warmup_rounds: 1}", "stop.rounds=2")))["notices"]
    assert said.startswith("zo-warmup lets a device download what it missed since it took part last, here about ")
    assert said.endswith(" kB a flight: down, seconds and joules leave it out, whatif counts it")
    for same in ("zeroth-order", "fedavg"):
        # With all devices in every round nobody misses more than the round that the submodel counts.
        told = cost_report(assemble(scenario(same)))["notices"]
        assert not any("missed" in each for each in told)


def test_a_study_says_where_it_cannot_count_what_devices_miss(monkeypatch):
    chosen = entrant("zeroth-order")
    with written_profiles():
        plain = study([chosen], Budgets(kind="scale", values=(1.0,)))
        monkeypatch.setattr(ZerothOrder, "decides_by_weights", "appetite: null")
        report = study([chosen], Budgets(kind="scale", values=(1.0,)))
    said = (
        "zeroth-order: what devices download because they missed it is left out, since with appetite: null trained "
        "weights decide who takes part"
    )
    assert said in report["notes"]
    assert said not in plain["notes"]
