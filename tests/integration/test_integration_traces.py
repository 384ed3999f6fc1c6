"""From a foreign file to a run: what flights take is what their traces say, at the moment at which they fly."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.traces.importers.running import import_trace

LATENCY_S = 0.01


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link that carries bits in every third tenth of a second, and phones of two speeds."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{tenth / 10} {0.4 if tenth % 3 == 0 else 0}" for tenth in range(30)]
    Path("bus.log").write_text("\n".join(lines) + "\n")
    import_trace("throughput-csv", [Path("bus.log")], out=Path("bus.csv"))
    Path("phones.txt").write_text("model,ram_bytes,CPU_F_AI_Score\na,1e9,100\nb,4e9,400\n")
    import_trace("ai-benchmark", [Path("phones.txt")], out=Path("phones.csv"))
    return tmp_path


TRACED = (
    "backend=dry-run",
    "population.speed_jitter=0",
    f"population.link={{downlink: {{trace: bus.csv}}, uplink: {{trace: bus.csv, scale: 0.5}}, latency: {LATENCY_S}}}",
)


def test_every_transfer_of_a_run_takes_what_the_trace_passes_from_its_beginning_on() -> None:
    scenario = tiny(*TRACED, "stop.rounds=6")
    costing = assemble(scenario)
    traces, profile = costing.population.throughput, costing.ledger.profiles["full"]
    assert traces is not None
    flights = simulate(scenario).flights
    assert len(flights) == 18
    means = []
    for flight in flights:
        down, up = (traces.of(flight["device"], way) for way in ("down", "up"))
        starts_s = flight["dispatched_s"]
        ends_s = starts_s + flight["download_s"]
        assert down.bits(starts_s + LATENCY_S, ends_s) == pytest.approx(8 * profile.bytes_down, rel=1e-6)
        upload_s = ends_s + flight["compute_s"]
        assert flight["ended_s"] == pytest.approx(upload_s + flight["upload_s"])
        assert up.bits(upload_s + LATENCY_S, flight["ended_s"]) == pytest.approx(8 * profile.bytes_up, rel=1e-6)
        means.append(costing.ledger.cost("full", flight["device"]).download_s)
    # Averaged rates would give every flight of a device the same seconds.
    assert len({round(flight["download_s"], 6) for flight in flights}) > 6
    assert [flight["download_s"] for flight in flights] != pytest.approx(means, rel=0.05)


def test_a_trace_that_never_changes_is_a_constant_link() -> None:
    Path("steady.csv").write_text("trace,t_s,bits_per_second\na,0,300000\na,7,\n")
    link = "population.link={{downlink: {}, uplink: {}, latency: 10ms}}"
    traced = simulate(tiny("backend=dry-run", link.format("{trace: steady.csv}", "{trace: steady.csv, scale: 0.5}")))
    constant = simulate(tiny("backend=dry-run", link.format("300kbps", "150kbps")))
    for one, other in zip(traced.flights, constant.flights, strict=True):
        for column in ("dispatched_s", "download_s", "compute_s", "upload_s", "ended_s"):
            assert one[column] == pytest.approx(other[column], rel=1e-9)


def test_the_same_seed_gives_the_same_run_on_traces_and_another_one_another() -> None:
    digests = [simulate(tiny(*TRACED, f"seed={seed}")).summary["digest"] for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_compute_seconds_follow_the_phone_that_was_drawn() -> None:
    settings = ("backend=dry-run", "population.speed_jitter=0")
    plain = simulate(tiny(*settings)).flights
    drawn = simulate(tiny(*settings, "population.groups.0.individuals={path: phones.csv}")).flights
    # The reference is the median of 100 and 400: speeds of 0.4 and 1.6.
    ratios = {round(one["compute_s"] / other["compute_s"], 6) for one, other in zip(drawn, plain, strict=True)}
    assert ratios == {2.5, 0.625}


def test_a_link_that_ends_drops_what_it_never_carries_and_says_so() -> None:
    Path("short.csv").write_text("trace,t_s,bits_per_second\na,0,300000\na,1,\n")
    rate = "{trace: short.csv, repeat: false, start: beginning}"
    link = f"population.link={{downlink: {rate}, uplink: {rate}}}"
    last = simulate(tiny("backend=dry-run", "stop.rounds=8", link)).flights[-1]
    assert last["outcome"] == "dropped"
    assert "stalled" in last["reason"]
    assert "during download" in last["reason"]


def test_flights_of_an_imported_table_fly_while_their_devices_are_online(folder: Path) -> None:
    lines = [f"2026-03-01T00:00:{second:02d}Z,phone-{device},{'on' if (second // 10 + device) % 2 else 'off'}"
             for device in range(6) for second in range(0, 60, 10)]  # fmt: skip
    Path("seen.csv").write_text("\n".join(["timestamp,host,online", *lines]) + "\n")
    import_trace("table", [Path("seen.csv")], settings={"last": "10s"}, out=Path("own.csv"))
    scenario = tiny("backend=dry-run", "population.availability={kind: trace, path: own.csv}", "stop.rounds=6")
    flights = simulate(scenario).flights
    assert flights
    for flight in flights:
        assert (int(flight["dispatched_s"] % 60) // 10 + flight["device"]) % 2 == 1
