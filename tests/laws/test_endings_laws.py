"""However a run ends, its flights are what they were until then: in seconds, in joules and in bytes, and none is lost."""

import itertools
import math
from dataclasses import replace

import pytest
from tiny_scenarios import ScriptedBackend, waves

from neulite_sim import simulate
from neulite_sim.engine import building
from neulite_sim.timeline.endings import Landings, Mixing

pytestmark = pytest.mark.usefixtures("shared_profiles")

PHASES = ("download_s", "compute_s", "upload_s")


class Loose:
    """A protocol of a user's own: it merges each two, and lets others fly on."""

    mixes_versions = True

    def process(self, clock, server, launch):
        out = Landings(clock)
        while not server.is_over():
            flights = server.dispatch(clock.now, wanted=4)
            server.train(flights)
            for flight in flights:
                out.watch(flight, launch(flight))
            if not out.num_flying:
                yield clock.at(server.next_chance_s(clock.now))
                continue
            ended = []
            while len(ended) < 2 and out.num_flying:
                yield out.next()
                ended += out.take()
            mixing = Mixing(rate=0.5, anchor="own")
            server.digest([replace(ending, mixing=mixing) for ending in ended], clock.now)


KINDS = {
    "synchronous": "{kind: synchronous}",
    "deadline": "{kind: deadline, over_selection: 2, maximum_wait: 400ms}",
    "fedasync": "{kind: fedasync, concurrency: 4}",
    "fedbuff": "{kind: fedbuff, concurrency: 5, buffer_size: 3}",
    "crowded": "{kind: fedasync, concurrency: 2}",
    "own": None,
}
# More are in flight than wanted: nobody leaves at an aggregation.
BESIDE = {"crowded": ("selection={kind: oort, devices_per_round: 2, over_commit: 2}",)}
LINKS = {"alone": (), "shared": ("server={downlink: 0.6Mbps, uplink: 0.4Mbps}",)}
CHURN = {"stays": ("population.availability=always",), "aborts": ("churn.offline=abort",),
         "pauses": ("churn={offline: pause, timeout: 3s}",)}  # fmt: skip
MEMORY = "{kind: explicit, values: [1kB, 9MB, 9MB, 9MB, 9MB, 9MB, 9MB, 9MB]}"
GIVEN = ("method=fedavg", "model=logistic", "proxy={}", f"population.available_memory={MEMORY}", "energy={}",
         "population.availability={kind: markov, mean_on: 900ms, mean_off: 300ms}", "backend=dry-run",
         "population.link={downlink: 500kbps, uplink: 300kbps, latency: 10ms}", "data.image_size=8",
         "workload={batch_size: 8, samples_per_device: 4000}", "stop.rounds=30")  # fmt: skip
CASES = list(itertools.product(KINDS, LINKS, CHURN))


def run(kind, link, churn, *changes, **arguments):
    """Run a fleet of which a flight takes about half a second of download, compute and upload each."""
    given = (*GIVEN, *LINKS[link], *CHURN[churn], *BESIDE.get(kind, ()))
    if KINDS[kind] is None:
        return simulate(waves(*given, *changes), protocol=Loose(), **arguments)
    return simulate(waves(*given, f"protocol={KINDS[kind]}", *changes), **arguments)


def spent_until(row, at_s):
    """Return the phases and the waiting of a flight until a moment, if it had gone on as its row says."""
    pauses = [tuple(map(float, pause.split("-"))) for pause in row["pauses"].split(";") if pause]
    waited = math.fsum(max(0.0, min(end_s, at_s) - start_s) for start_s, end_s in pauses if start_s < at_s)
    left_s, spent = min(at_s, row["ended_s"]) - row["dispatched_s"] - waited, []
    for name in PHASES:
        spent.append(min(row[name], left_s))
        left_s -= spent[-1]
    return [*spent, waited]


def check_sums(result):
    """Every flight's seconds add up to its time in the air, and the run's totals to those of its flights."""
    for row in result.flights:
        passed_s = math.fsum([*(row[name] for name in PHASES), row["waiting_s"]])
        assert row["dispatched_s"] + passed_s == pytest.approx(row["ended_s"], abs=1e-9)
        assert min(row[name] for name in (*PHASES, "waiting_s")) >= 0
    for name in ("energy_j", "bytes_down", "bytes_up"):
        assert result.summary[name] == math.fsum(row[name] for row in result.flights)


@pytest.mark.parametrize(("kind", "link", "churn"), CASES)
def test_a_run_that_ends_earlier_has_the_flights_of_a_longer_one_until_then(kind, link, churn):
    """Whether its time or its rounds are over: seconds, pauses and joules are those of the longer run up to the end."""
    long = run(kind, link, churn)
    check_sums(long)
    ends_s = [row["virtual_time_s"] for row in long.rounds]
    middle_s = (ends_s[10] + ends_s[11]) / 2
    for change, end_s in ((f"stop.virtual_time={middle_s!r}", middle_s), ("stop.rounds=11", ends_s[10])):
        short = run(kind, link, churn, change)
        check_sums(short)
        known = {row["flight"]: row for row in long.flights}
        found = {row["flight"]: row for row in short.flights}
        left = {number for number, row in known.items() if row["dispatched_s"] < end_s}
        assert found.keys() == left
        for number, row in found.items():
            assert row["ended_s"] <= end_s
            spent = [*(row[name] for name in PHASES), row["waiting_s"]]
            assert spent == pytest.approx(spent_until(known[number], end_s), abs=1e-9)
            assert row["bytes_down"] == known[number]["bytes_down"]
        if kind not in ("synchronous", "deadline"):
            assert any(row["outcome"] == "cut" for row in found.values())


@pytest.mark.parametrize(("kind", "link", "churn"), CASES)
def test_a_run_that_reaches_its_target_has_the_files_of_one_whose_rounds_are_over_then(
    kind, link, churn, tmp_path, monkeypatch
):
    """Also where the test that tells is late: what was in the air at the aggregation is cut, and nothing leaves after."""
    for name, change in (("target", "stop.target_accuracy=0.5"), ("rounds", "stop.rounds=7")):
        backend = ScriptedBackend((0.1,) * 6 + (0.9,) * 30, patience=100)
        with monkeypatch.context() as patch:
            patch.setattr(building, "build_backend", lambda scenario, backend=backend: backend)
            patch.setattr(backend, "collect_evaluation", _by_round(backend))
            found = run(kind, link, churn, "evaluation.every_rounds=1", change, out=tmp_path / name)
        check_sums(found)
        assert len(found.rounds) == 7
    files = [
        {name: (tmp_path / way / name).read_bytes() for name in ("flights.csv", "denials.csv", "devices.csv")}
        for way in ("target", "rounds")
    ]
    assert files[0] == files[1]


def _by_round(backend):
    """Return what answers the n-th test with the n-th accuracy."""
    tested = itertools.count(1)

    def collect(ticket):
        backend._jobs[ticket] = next(tested)
        return ScriptedBackend.collect_evaluation(backend, ticket)

    return collect


def test_a_flight_that_was_never_launched_over_a_shared_link_has_done_nothing():
    """A protocol that forgets it leaves it on the ground, and not where it would be if it flew alone."""

    class Forgets(Loose):
        def process(self, clock, server, launch):
            server.dispatch(clock.now, wanted=2)
            yield clock.at(0.5)
            yield from super().process(clock, server, launch)

    found = simulate(waves(*GIVEN, *LINKS["shared"], *CHURN["stays"], "stop.rounds=2"), protocol=Forgets())
    check_sums(found)
    forgotten = {row["flight"]: row for row in found.flights if row["flight"] in (1, 2)}
    assert len(forgotten) == 2
    for row in forgotten.values():
        assert [row[name] for name in (*PHASES, "waiting_s", "ended_s", "energy_j")] == [0.0] * 6
        assert (row["outcome"], row["reason"]) == ("cut", "the run had aggregated its last round")
