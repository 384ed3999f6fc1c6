"""Every script of `benchmarks/` in a tiny configuration: it runs, and what it prints is well-formed.

Their numbers mean nothing here. What a script does in child processes is done in this one, so that nothing has to be
imported again; the talk between the processes of the limit is tested with children that only talk.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_scenarios import TINY

from neulite_sim.cli import app
from neulite_sim.scenario.loading import load_scenario

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
TINY_JOB = ["--rounds", "2", "--threads", "1", "--devices-per-round", "1", "--devices", "2", "--repeats", "1"]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts find one another, as they do when they are run; what they do to the process is undone."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    if cores is not None:
        os.sched_setaffinity(0, cores)


def script(name: str) -> ModuleType:
    """Return a script as a fresh module."""
    path = BENCHMARKS / name
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_positive(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value) and value > 0


# throughput.py


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script with devices of one batch, next to no tests, and calls for children; Ray is left out."""
    module = script("throughput.py")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(module.SCENARIO.read_text(encoding="utf-8").replace("test_samples: 1000", "test_samples: 10"))
    monkeypatch.setattr(module, "SCENARIO", scenario)
    monkeypatch.setattr(module, "SAMPLES", module.BATCH)

    def simulated(job: Any) -> dict[str, float]:
        told = module.simulate_here("inprocess", job)
        waits = {"training_s": told["started_at"], "first_round_s": told["first_at"]}
        return {**module.round_times(told["walls"]), **waits}

    limits = {
        name: partial(module.limit_part, part=0, channels_last=channels_last, foreach=foreach)
        for name, (channels_last, foreach) in module.LIMITS.items()
    }
    runners = {module.PLAIN: lambda job: module.plain_loop(*job), "inprocess": simulated, **limits}
    monkeypatch.setattr(module, "RUNNERS", runners)
    return module


def test_throughput_tells_speeds_ratios_and_the_share_of_the_limit(throughput, capsys) -> None:
    throughput.main([*TINY_JOB, "--json"])
    told = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == list(throughput.RUNNERS)
    for name, row in rows.items():
        numbers = ("samples_per_s", "steady_samples_per_s", "ratio", "steady_ratio", "limit_share")
        assert all(is_positive(row[key]) for key in numbers), name
    assert rows["plain loop"]["ratio"] == rows["plain loop"]["steady_ratio"] == 1
    assert rows[throughput.LIMIT]["limit_share"] == 1
    assert rows["inprocess"]["to_first_round_s"] > rows["inprocess"]["to_training_s"]
    assert told["machine"]
    assert {name: len(runs) for name, runs in told["runs"].items()} == dict.fromkeys(rows, 1)


def test_the_table_of_throughput_has_medians_of_ratios_of_the_same_repeat(throughput, capsys) -> None:
    job = throughput.Job(rounds=2, threads=1, devices_per_round=2, devices=4)
    found = {
        "plain loop": [{"rounds_s": seconds, "steady_s": seconds} for seconds in (10.0, 20.0, 40.0)],
        throughput.LIMIT: [{"rounds_s": seconds, "steady_s": seconds} for seconds in (5.0, 8.0, 10.0)],
    }
    throughput.report(found, job, as_json=False)
    machine, head, plain, limit = capsys.readouterr().out.splitlines()
    assert machine.endswith("; 1 threads, 40 samples, 3 repeats")
    assert head.split("  ")[-1].strip() == "to first round"
    assert plain.split() == ["plain", "loop", "2", "2", "1.00", "1.00", "0.40"]
    assert limit.removeprefix(throughput.LIMIT).split() == ["5", "5", "2.50", "2.50", "1.00"]


def test_a_child_of_throughput_is_one_runner(throughput, capsys) -> None:
    throughput.main([*TINY_JOB, "--child", "plain loop"])
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"rounds_s", "steady_s"}
    assert all(map(is_positive, told.values()))


def test_the_processes_of_the_limit_start_together_and_their_speeds_are_added(throughput, monkeypatch) -> None:
    waits = "import sys; print('ready', flush=True); assert sys.stdin.readline() == 'go\\n'; part = int(sys.argv[-1])\n"
    tells = 'print(\'{"rounds_s": %d, "steady_s": %d}\' % (6 * (part + 1), 4))'
    monkeypatch.setattr(throughput, "_child", lambda name, job: [sys.executable, "-S", "-c", waits + tells])
    times = throughput.limit(throughput.LIMIT, throughput.Job(threads=2, devices_per_round=3))
    # The first trains two of the three devices in 6 s, the second one in 12 s: 3 / (2/6 + 1/12).
    assert times == pytest.approx({"rounds_s": 7.2, "steady_s": 4.0})


def test_a_process_of_the_limit_that_dies_is_told(throughput, monkeypatch) -> None:
    monkeypatch.setattr(throughput, "_child", lambda name, job: [sys.executable, "-S", "-c", "pass"])
    with pytest.raises(RuntimeError, match="a process of the 'limit, channels-last' ended before it could start"):
        throughput.limit("limit, channels-last", throughput.Job())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rounds", "1"], "--rounds must be at least 2"),
        (["--threads", "3", "--devices-per-round", "2"], "--devices-per-round must be at least --threads"),
        (["--only", "flour"], "--only: no 'flour'; there are 'plain loop'"),
    ],
)
def test_a_job_that_is_none_is_refused(throughput, options, complaint, capsys) -> None:
    with pytest.raises(SystemExit):
        throughput.main(options)
    assert complaint in capsys.readouterr().err


# peers/compare.py


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The runner, with one peer that takes no time and needs no environment."""
    module = script("peers/compare.py")
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import json, sys, time, throughput\nprint(json.dumps({'ends_s': [2, 3], 'first_at': time.time()}))"
    )
    monkeypatch.setattr(module, "PEERS", {"peer": module.Peer(peer)})
    monkeypatch.setattr(module, "python_of", lambda peer, folder: Path(sys.executable))
    monkeypatch.setattr(module.throughput, "RUNNERS", {"plain loop": lambda job: {"rounds_s": 6.0, "steady_s": 1.0}})
    return module


def test_peers_stand_in_one_table_with_ratios_to_the_plain_loop(compare, capsys) -> None:
    compare.main([*TINY_JOB, "--json"])
    plain, peer = json.loads(capsys.readouterr().out)["rows"]
    assert (plain["name"], peer["name"]) == ("plain loop", "peer")
    assert (peer["ratio"], peer["steady_ratio"]) == (2, 0.5)
    assert is_positive(peer["to_first_round_s"])


def test_a_peer_that_does_not_end_its_rounds_is_told(compare) -> None:
    with pytest.raises(RuntimeError, match="peer ended 2 of 3 rounds"):
        compare.peer_times("peer", Path(sys.executable), compare.throughput.Job(rounds=3))


def test_a_peer_that_fails_is_told_with_what_it_said(compare, tmp_path) -> None:
    (tmp_path / "peer.py").write_text("raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="peer ended with exit code 1:\nno such thing"):
        compare.peer_times("peer", Path(sys.executable), compare.throughput.Job(rounds=2))


@pytest.mark.parametrize("name", ["flower", "pfl, threads"])
def test_a_peer_has_a_script_and_pinned_requirements_that_name_its_environment(name, tmp_path) -> None:
    peer = script("peers/compare.py").PEERS[name]
    for source in peer.script.parent.glob("*.py"):
        compile(source.read_text(encoding="utf-8"), source, "exec")
    assert all("==" in line for line in peer.requirements.read_text(encoding="utf-8").splitlines())


def test_other_requirements_are_another_environment(compare, tmp_path) -> None:
    peer, requirements = compare.PEERS["peer"], tmp_path / "requirements.txt"
    requirements.write_text("one==1\n")
    before = compare.environment_of(peer, tmp_path)
    assert before.parent == tmp_path
    assert compare.environment_of(peer, tmp_path) == before
    requirements.write_text("one==2\n")
    assert compare.environment_of(peer, tmp_path) != before


def test_a_peer_in_processes_gives_each_of_them_one_thread(compare) -> None:
    peer = compare.Peer(Path("train.py"), in_processes=True)
    words = peer.words(compare.throughput.Job(rounds=3, threads=4))
    assert words[words.index("--nproc-per-node") + 1] == "4"
    assert words[words.index("train.py") :][:5] == ["train.py", "--rounds", "3", "--threads", "1"]


# million_devices.py


@pytest.fixture
def million_devices(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a small network to profile, runs in this process and few bare events."""
    module = script("million_devices.py")
    monkeypatch.setattr(module, "SCENARIO", module.SCENARIO.replace("resnet18", "cnn"))
    monkeypatch.setattr(module, "in_own_process", module.measured)
    monkeypatch.setattr(module, "bare_events_per_s", partial(module.bare_events_per_s, num_events=200, in_flight=10))
    return module


@pytest.mark.usefixtures("shared_profiles")
def test_million_devices_tells_what_a_participation_costs(million_devices, capsys) -> None:
    million_devices.main(["--devices", "600", "--participations", "30", "--protocol", "fedasync", "--json"])
    told = json.loads(capsys.readouterr().out)
    numbers = ("preparation_s", "run_s", "participations", "participations_per_s", "events_per_participation")
    assert all(is_positive(told[key]) for key in (*numbers, "bare_events_per_s", "peak_memory_bytes"))
    assert told["events_per_participation"] == pytest.approx(told["bare_events_per_s"] / told["participations_per_s"])


@pytest.mark.usefixtures("shared_profiles")
def test_the_table_of_million_devices_has_every_fleet(million_devices, capsys) -> None:
    million_devices.main(["--table", "--scale", "0.0005"])
    machine, head, *rows = capsys.readouterr().out.splitlines()
    assert machine
    assert head.split()[:3] == ["devices", "protocol", "participations"]
    fleets = [tuple(row.split()[:2]) for row in rows]
    rest = [("66", "synchronous"), ("66", "fedasync"), ("66", "fedbuff")]
    assert fleets == [("500", "deadline"), ("500", "fedbuff"), *rest]


# starts.py


def test_starts_tells_multiples_of_the_import_beside_each(monkeypatch, capsys) -> None:
    module = script("starts.py")
    monkeypatch.setattr(module, "IMPORT", [sys.executable, "-S", "-c", "pass"])
    module.main(["--only", "help", "--repeats", "1", "--json"])
    told = json.loads(capsys.readouterr().out)
    (row,) = told["rows"]
    assert row["name"] == "help"
    (run,) = told["runs"]["help"]
    assert row["imports"] == pytest.approx(run["seconds"] / run["import_s"])
    assert is_positive(row["imports"])


def test_a_start_counts_up_to_its_first_round_and_a_failed_one_is_told(tmp_path) -> None:
    module = script("starts.py")
    says = f"import time; print({module.FIRST_ROUND!r}, flush=True); time.sleep(0.3)"
    to_first = module.seconds_of(module.Start(("-S", "-c", says), to_first_round=True), tmp_path)
    assert 0 < to_first < module.seconds_of(module.Start(("-S", "-c", says)), tmp_path) - 0.2
    with pytest.raises(RuntimeError, match=r"\['-c', 'pass'\] ended with exit code 0"):
        module.seconds_of(module.Start(("-c", "pass"), to_first_round=True), tmp_path)
    with pytest.raises(RuntimeError, match="ended with exit code 1:\ncannot start"):
        module.seconds_of(module.Start(("-c", "raise SystemExit('cannot start')")), tmp_path)


def test_a_start_says_when_its_first_round_has_ended(monkeypatch, tmp_path, capsys) -> None:
    module = script("starts.py")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(json.dumps(TINY), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["-c", str(scenario), str(tmp_path / "run"), "stop.rounds=2"])
    exec(compile(module.TO_FIRST_ROUND, "starts", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines().count(module.FIRST_ROUND) == 1


@pytest.mark.parametrize("name", ["validate", "compare", "dry run of 3 rounds, warm", "whatif of 12 budgets, cold"])
def test_a_start_is_a_command_that_the_command_line_has(name) -> None:
    module = script("starts.py")
    option, package, command, *rest = module.STARTS[name].words
    assert (option, package) == ("-m", "neulite_sim")
    assert command in {each.name or each.callback.__name__ for each in app.registered_commands}
    assert all(Path(word).is_file() for word in rest if word.endswith(".yaml"))


# neulite_cycle.py


def test_neulite_cycle_prints_ratios_to_the_official_loop(monkeypatch, capsys) -> None:
    module = script("neulite_cycle.py")
    for name, size in {"DEVICES_PER_ROUND": 1, "SAMPLES": 8, "BATCH": 4, "EPOCHS": 1}.items():
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(module, "plain_in_fresh_process", module.plain_loop)
    monkeypatch.setattr(module, "simulated", lambda backend, cycles, threads, *overrides: {"steady_s": 0.5})
    monkeypatch.setattr(sys, "argv", ["neulite_cycle.py", "--repeats", "1", "--threads", "1"])
    module.main()
    machine, head, *rows = capsys.readouterr().out.splitlines()
    assert "1 repeats" in machine
    assert head.split() == ["samples/s", "ratio"]
    assert rows[0].split()[::2] == ["official", "1.00"]
    assert [row.split()[0] for row in rows[1:]] == ["ray", "inprocess", "recompute"]
    assert all(is_positive(float(cell)) for row in rows for cell in row.split()[1:])


# shared_link.py


def test_shared_link_prints_a_rate_for_every_fleet(monkeypatch, capsys) -> None:
    module = script("shared_link.py")
    monkeypatch.setattr(sys, "argv", ["shared_link.py", "--concurrency", "10", "--changes", "40", "--repeats", "1"])
    module.main()
    *_, row = capsys.readouterr().out.splitlines()
    transfers, *rates = row.split()
    assert transfers == "10"
    assert len(rates) == len(module.FLEETS)
    assert all(is_positive(float(rate.replace(",", ""))) for rate in rates)


# All of them.


@pytest.mark.parametrize("name", ["federated_cnn.yaml", "neulite_cycle.yaml"])
def test_a_scenario_of_a_benchmark_is_valid_on_every_backend(name) -> None:
    for backend in ("{kind: ray, workers: 2}", "{kind: inprocess, threads_per_worker: 2}"):
        assert load_scenario(BENCHMARKS / name, [f"backend={backend}"]).name == Path(name).stem


def test_no_script_is_forgotten_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    scripts = [path.relative_to(BENCHMARKS).as_posix() for path in sorted(BENCHMARKS.rglob("*.py"))]
    peers = [name for name in scripts if name.startswith("peers/") and name != "peers/compare.py"]
    assert [name for name in scripts if name not in peers and f'script("{name}")' not in text] == []
    pages = (ROOT / "docs" / "background" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in scripts if name not in peers and f"`python benchmarks/{name}" not in pages] == []
