"""Laws of energy over whole runs: what it adds up to, that asking changes nothing, and batteries that a resume finds."""

from __future__ import annotations

import math

import pytest
from tiny_scenarios import tiny, waves

from neulite_sim import resume, simulate
from neulite_sim.engine import simulation
from neulite_sim.errors import ScenarioError
from neulite_sim.results.stored import energy_until, read_run, with_energy

pytestmark = pytest.mark.usefixtures("shared_profiles")

WATTS = "energy={power: {jetson-nano-4gb: {idle_watts: 1, compute_watts: 8, receive_watts: 2, send_watts: 3}}}"
DRAINED = ("energy={power: {jetson-nano-4gb: {compute_watts: 4000}}, battery: {capacity_watt_hours: 0.5, level: 1, "
           "charging_watts: 3, plugged_in_at: 12h, plugged_in_spread: 1min, minimum: 0.3}}")  # fmt: skip


@pytest.mark.parametrize("backend", ["dry-run", "{kind: inprocess, workers: 2}"])
@pytest.mark.parametrize("protocol", ["synchronous", "fedbuff"])
def test_flights_rounds_and_the_run_add_up_to_the_same(protocol, backend):
    """Also where the row of a round waits for its test, and flights of later rounds are written before it."""
    changes = (f"backend={backend}", WATTS, "churn.offline=pause", f"protocol={protocol}", "evaluation.every_rounds=1")
    result = simulate(waves(*changes))
    flights, rounds, summary = result.flights, result.rounds, result.summary
    for row in flights:
        if row["device_class"] == "jetson-nano-4gb":
            by_hand = row["download_s"] * 2 + row["compute_s"] * 8 + row["upload_s"] * 3 + row["waiting_s"]
            assert row["energy_j"] == pytest.approx(by_hand, rel=1e-9, abs=1e-10)
    assert math.fsum(row["energy_j"] for row in flights) == summary["energy_j"]
    lost = [row["energy_j"] for row in flights if row["outcome"] != "arrived"]
    assert math.fsum(lost) == summary["wasted_energy_j"]
    cut = [row["energy_j"] for row in flights if row["round"] > len(rounds)]
    assert math.fsum([*cut, *(row["energy_j"] for row in rounds)]) == summary["energy_j"]
    assert any(row["waiting_s"] for row in flights)
    assert lost or protocol == "synchronous"


def test_who_does_not_ask_has_the_files_and_the_digest_of_who_asks_but_for_the_columns(tmp_path):
    plain = simulate(waves("backend=dry-run"), out=tmp_path / "plain")
    asked = simulate(waves("backend=dry-run", "energy={}"), out=tmp_path / "asked")
    assert plain.summary["digest"] == asked.summary["digest"]
    assert plain.summary["energy_j"] == asked.summary["energy_j"] > 0
    assert "energy" not in (tmp_path / "plain" / "scenario.yaml").read_text()
    for name, more in (("flights.csv", 1), ("rounds.csv", 2)):
        lines = [(tmp_path / run / name).read_text().splitlines() for run in ("plain", "asked")]
        kept = [line.rsplit(",", more)[0] for line in lines[1]]
        if name == "flights.csv":
            assert kept == lines[0]
        assert "energy_j" not in lines[0][0]
        assert lines[1][0].endswith("energy_j")


def test_the_joules_of_a_run_of_an_older_version_are_found_afterwards(tmp_path):
    result = simulate(waves("backend=dry-run"), out=tmp_path / "run")
    run = read_run(tmp_path / "run")
    summary = {key: value for key, value in run.summary.items() if not key.endswith("energy_j")}
    found = with_energy(type(run)(path=run.path, summary=summary, scenario=run.scenario, is_complete=True))
    assert found.summary["energy_j"] == result.summary["energy_j"]
    assert found.summary["wasted_energy_j"] == result.summary["wasted_energy_j"]
    until = energy_until(run)
    assert until is not None
    assert list(until.values()) == sorted(until.values())
    assert until[max(until)] == result.summary["energy_j"]


def test_a_resumed_run_finds_its_batteries_as_they_were(tmp_path):
    scenario = tiny(DRAINED, "workload.epochs=20", "stop.rounds=9", "selection.devices_per_round=2",
                    "checkpoint.every_rounds=2")  # fmt: skip
    whole = simulate(scenario, out=tmp_path / "whole")
    assert any("battery empty" in row["reason"] for row in whole.flights)
    assert min(row["online"] for row in whole.rounds) < 6

    class StopError(Exception):
        pass

    class Breaks:
        def notify(self, event):
            if getattr(event, "virtual_time_s", 0) and getattr(event, "round", 0) == 6:
                raise StopError

    with pytest.raises(StopError):
        simulation.simulate(scenario, out=tmp_path / "cut", observers=[Breaks()])
    again = resume(tmp_path / "cut")
    assert again.summary["digest"] == whole.summary["digest"]
    assert again.summary["energy_j"] == whole.summary["energy_j"]
    assert (tmp_path / "cut" / "flights.csv").read_bytes() == (tmp_path / "whole" / "flights.csv").read_bytes()


REFUSED = {
    "energy={power: {toaster: {idle_watts: 1}}}": (
        "energy.power.toaster: no group of population.groups is of a device of that name; use jetson-nano-4gb, or "
    ),
    "energy={power: {jetson-nano-4gb: {compute_watts: 0.5}}}": (
        "energy.power.jetson-nano-4gb.compute_watts: compute_watts would be 0.5, less than the 1.022 W of an idle one; "
        "use 1.022 or more, or lower idle_watts"
    ),
    "energy={power: {jetson-nano-4gb: {idle_watts: 5}}}": (
        "energy.power.jetson-nano-4gb.idle_watts: receive_watts would be 1.822, less than the 5 W of an idle one"
    ),
    "energy={power: {jetson-nano-4gb: {radio_watts: 2, receive_watts: 2, send_watts: 2}}}": (
        "radio_watts: stands for receive_watts and send_watts, and both are given; remove it"
    ),
    "energy={power: {jetson-nano-4gb: {battery_watt_hours: 2}}}": (
        "energy.power.jetson-nano-4gb.battery_watt_hours: acts only with energy.battery; remove it, or set that"
    ),
    "energy={battery: {charging_watts: 10}}": (
        "energy.battery.capacity_watt_hours: nobody has told what the battery of a jetson-nano-4gb holds; give it, or "
        "energy.power.jetson-nano-4gb.battery_watt_hours"
    ),
    "energy={battery: {charging_watts: 1, capacity_watt_hours: 9}}": (
        "energy.battery.charging_watts: is 1 W, and an idle jetson-nano-4gb draws 1.022 W: its battery would never "
        "charge; use more than 1.022"
    ),
    "energy={battery: {charging_watts: 1.5, capacity_watt_hours: 90}}": (
        "energy.battery.minimum: is 0.2, but a day's charging never gets an empty battery of a jetson-nano-4gb above "
        "0.0425; lower it, or raise charging_watts or plugged_in_for"
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_watts_and_batteries_that_could_not_work_are_refused(change):
    with pytest.raises(ScenarioError) as refused:
        simulate(tiny("backend=dry-run", change))
    assert REFUSED[change] in str(refused.value)


def test_a_device_has_one_battery_and_a_link_of_the_server_goes_with_none():
    battery = "energy={battery: {charging_watts: 10, capacity_watt_hours: 9}}"
    other = "churn.battery={capacity_watt_hours: 10, idle_watts: 0.5, working_watts: 4, charging_watts: 3}"
    with pytest.raises(
        ScenarioError, match=r"energy\.battery: a device has one battery, and churn\.battery is set too"
    ):
        tiny(battery, other)
    with pytest.raises(ScenarioError, match=r"server: a shared link of the server does not go with energy\.battery"):
        simulate(tiny("backend=dry-run", battery, "server.downlink=1Mbps"))
