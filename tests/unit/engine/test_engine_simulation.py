"""A whole run: its result in memory and on disk, and what a broken one leaves behind."""

import gc
import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_scenarios import ScriptedBackend, tiny, waves

from neulite_sim import load_scenario, simulate
from neulite_sim.engine import building
from neulite_sim.engine.simulation import describe_proxy
from neulite_sim.errors import BackendUnavailableError, InfeasibleError, OutputError, ScenarioError, SimulationError
from neulite_sim.results.rows import RoundRow, RunStarted
from neulite_sim.scenario.loading import parse_scenario

FILES = {"scenario.yaml", "provenance.json", "rounds.csv", "flights.csv", "denials.csv", "summary.json",
         "model.safetensors", "SHA256SUMS", "COMPLETE", "timeline.json.gz", "journal", "devices.csv"}  # fmt: skip
SUMMARY = {
    "rounds", "virtual_time_s", "final_accuracy", "tail_accuracy", "best_accuracy", "time_to_accuracy_s",
    "participation_rate", "data_share", "peak_memory_bytes", "bytes_down", "bytes_up", "flights_arrived",
    "flights_dropped", "proxy", "wall_time_s", "digest",
}  # fmt: skip
SHORT = ("stop.rounds=3", "evaluation.every_rounds=2", "model=lenet", "method=fedavg", "data.image_size=8",
         "population.available_memory={kind: explicit, values: [2.6MB, 9MB, 9MB, 2.3MB, 9MB, 9MB, 9MB, 9MB]}")  # fmt: skip


def timeless(rows):
    return [{key: value for key, value in row.items() if key != "wall_time_s"} for row in rows]


@pytest.fixture(scope="module")
def scenario():
    return waves(*SHORT)


@pytest.fixture(scope="module")
def in_memory(scenario):
    return simulate(scenario)


@pytest.fixture(scope="module")
def on_disk(scenario, tmp_path_factory):
    return simulate(
        scenario, out=tmp_path_factory.mktemp("results") / "run", command=["neulite-sim", "run", "a b.yaml"]
    )


def test_rows_in_memory_and_rows_of_the_folder_are_the_same(in_memory, on_disk):
    assert timeless(on_disk.rounds) == timeless(in_memory.rounds)
    assert on_disk.flights == in_memory.flights
    assert on_disk.denials == in_memory.denials
    assert len(in_memory.rounds) == 3
    assert in_memory.denials


def test_a_run_in_memory_has_no_folder(in_memory):
    assert in_memory.run_dir is None


def test_a_complete_run_folder_holds_every_file_and_says_which_digest(on_disk):
    assert {path.name for path in on_disk.run_dir.iterdir()} == FILES
    assert (on_disk.run_dir / "COMPLETE").read_text().strip() == on_disk.summary["digest"]


def test_the_summary_has_the_keys_that_scripts_rely_on_and_is_what_the_folder_holds(on_disk):
    assert on_disk.summary.keys() >= SUMMARY
    assert json.loads((on_disk.run_dir / "summary.json").read_text()) == on_disk.summary


def test_the_model_of_the_folder_is_the_one_that_was_trained(in_memory, on_disk):
    kept = load_file(on_disk.run_dir / "model.safetensors")
    assert kept.keys() == in_memory.memory.weights.keys()
    assert all(torch.equal(kept[name], in_memory.memory.weights[name]) for name in kept)


def test_the_provenance_says_what_was_typed(on_disk):
    found = json.loads((on_disk.run_dir / "provenance.json").read_text())
    assert (found["command"], found["seed"]) == ("neulite-sim run 'a b.yaml'", 3)


def test_the_scenario_of_a_folder_runs_again_to_the_same_digest(in_memory, on_disk):
    again = load_scenario(on_disk.run_dir / "scenario.yaml")
    assert again == waves(*SHORT)
    assert simulate(again).summary["digest"] == on_disk.summary["digest"] == in_memory.summary["digest"]


def test_a_folder_is_made_under_runs_where_one_is_asked_for_without_a_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dirs = [simulate(tiny("backend=dry-run", "stop.rounds=1"), keeps_folder=True).run_dir for _ in range(2)]
    assert [str(path) for path in dirs] == ["runs/tiny-3", "runs/tiny-3-2"]


def test_a_place_that_is_taken_is_refused_before_a_backend_starts(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(building, "build_backend", lambda _: pytest.fail("built"))
    with pytest.raises(OutputError, match=r"already holds other files \(notes\.txt\)"):
        simulate(tiny(), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_dry_run_of_a_method_that_decides_by_trained_weights_is_refused(tmp_path):
    """Weights that never move would look converged; a folder is not made for that."""
    message = (
        r"^--set: backend: dry-run trains nothing, and with schedule: sequential method neulite decides by trained weights what "
        r"comes next; use backend inprocess or ray, or another value of that option$"
    )
    with pytest.raises(ScenarioError, match=message):
        simulate(waves("method.schedule=sequential", "backend=dry-run"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_leaves_its_rows_but_no_complete_file(tmp_path, run_with):
    class Failing(ScriptedBackend):
        def collect_update(self, ticket):
            if len(self.collected) == 4:
                raise SimulationError("lost an actor")
            return super().collect_update(ticket)

    backend = Failing()
    with pytest.raises(SimulationError, match="lost an actor"):
        run_with(tiny(), backend, out=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"FAILED", *FILES} - {
        "COMPLETE", "SHA256SUMS", "summary.json", "model.safetensors"}  # fmt: skip
    assert (tmp_path / "run" / "FAILED").read_text() == "simulation: lost an actor\n"
    assert len((tmp_path / "run" / "flights.csv").read_text().splitlines()) == 1 + 3
    assert backend.is_closed


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("population.available_memory={kind: uniform, low: 1kB, high: 1kB}", InfeasibleError),
        ("population.groups.0.device=jetson-nano-5gb", ScenarioError),
        ("data.train_samples=9999", ScenarioError),
        ("backend={kind: ray, address: 'localhost:nowhere'}", BackendUnavailableError),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(override, error, tmp_path):
    with pytest.raises(error):
        simulate(tiny(override), out=tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_observers_are_told_the_start_and_every_round_in_order(run_with):
    events = []

    class Keeping:
        def notify(self, event):
            events.append(event)

    run_with(
        tiny("stop={rounds: 3, target_accuracy: 0.75, virtual_time: 1h}"), ScriptedBackend(), observers=[Keeping()]
    )
    started = events[0]
    assert isinstance(started, RunStarted)
    assert (started.name, started.num_devices, started.max_rounds, started.max_virtual_time_s) == ("tiny", 6, 3, 3600)
    assert (started.stop_accuracy, started.targets) == (0.75, (0.5, 0.6, 0.7, 0.75, 0.8, 0.9))
    assert started.thresholds == (("full", 11_680),)
    assert (len(started.available_memory_bytes), started.participation_rate) == (6, 1.0)
    assert (started.proxy, started.run_dir) == (None, None)
    assert [event.round for event in events if isinstance(event, RoundRow)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), None),
        (("proxy={width: 0.5, epochs: 2}",), "trained: cnn on digits with width 0.5, epochs 2; charged: cnn on digits images, batch 5"),
        (("workload={input_shape: [3, 32, 32], batch_size: 128}",), "trained: cnn on digits; charged: cnn on 3x32x32, batch 128"),
    ],
)  # fmt: skip
def test_a_proxy_is_named_in_words(overrides, words):
    assert describe_proxy(tiny("model=cnn", *overrides)) == words


TEXTS = "data={kind: synthetic-text, samples: 60, test_samples: 10, sequence_length: 8}"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("model=gpt", "gpt gpt-0.8m"),
        ("model={kind: gpt, preset: gpt2}", "gpt gpt2"),
        ("model={kind: gpt, depth: 2, dim: 16, heads: 2}", "gpt gpt-0.8m with depth 2, dim 16, heads 2"),
        ("model={kind: gpt, preset: gpt2, kv_heads: 4}", "gpt gpt2 with kv heads 4"),
        ("model={kind: bert, depth: 1}", "bert bert-0.4m with depth 1"),
        ("model=vit", "vit cifar"),
        ("model={kind: vit, depth: 6}", "vit cifar with depth 6"),
        ("model=lenet", "lenet"),
    ],
)
def test_a_charged_model_is_named_by_what_it_is_however_much_of_it_is_written_out(model, words):
    texts = () if "vit" in words or "lenet" in words else (TEXTS,)
    scenario = tiny(model, *texts, "workload={batch_size: 8}", "proxy={}", "method=fedavg")
    what = "synthetic-text sequences" if texts else "digits images"
    told = f"charged: {words} on {what}, batch 8"
    written = parse_scenario(scenario.dump())
    assert describe_proxy(scenario).endswith(told)
    assert describe_proxy(written) == describe_proxy(scenario)
    assert describe_proxy(parse_scenario(written.dump())) == describe_proxy(scenario)


class _Frozen:
    """An observer that notes how much is kept from the garbage collector."""

    def __init__(self):
        self.counts = []

    def notify(self, event):
        if isinstance(event, RoundRow):
            self.counts.append(gc.get_freeze_count())


def test_what_is_there_at_the_start_is_kept_from_the_collector_until_the_end():
    frozen = _Frozen()
    simulate(tiny("backend=dry-run"), observers=[frozen])
    assert min(frozen.counts) > 0
    assert gc.get_freeze_count() == 0


def test_what_the_caller_has_frozen_stays_frozen():
    gc.freeze()
    try:
        simulate(tiny("backend=dry-run"))
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
