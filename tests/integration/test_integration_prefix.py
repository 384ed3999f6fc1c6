"""A run is the same whoever keeps the features of frozen prefixes; only a device that does is charged for them."""

from __future__ import annotations

import pytest
from listeners import Listener
from tiny_scenarios import tiny

from neulite_sim.engine.run_result import RunResult
from neulite_sim.engine.simulation import simulate

STAGED = (
    "model=cnn", "data.image_size=12", "training.epochs=3", "training.batch_size=4", "stop.rounds=2",
    "population.available_memory={kind: uniform, low: 1GB, high: 2GB}", "proxy.width=0.2",
)  # fmt: skip

PROFL = "{kind: profl, shrinking_rounds: 1, distillation_learning_rate: 0.01}"


def run(cache: str, *options: str, listener: Listener | None = None) -> RunResult:
    observers = [listener] if listener else []
    return simulate(tiny(*STAGED, f"training.prefix_cache={cache}", *options), observers=observers)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["neulite", "{kind: progfed, growth_rounds: [1], warmup_rounds: 1}", PROFL])
def test_rows_and_digest_are_the_same_whether_or_not_the_simulator_keeps_features(method: str) -> None:
    plain, kept = (run(cache, f"method={method}") for cache in ("none", "simulator"))
    assert plain.summary["digest"] == kept.summary["digest"]


@pytest.mark.slow
def test_a_device_that_keeps_features_needs_more_memory_and_less_time_for_the_stages_that_have_some() -> None:
    plain, kept = (run(cache, "method=neulite", "selection.devices_per_round=6") for cache in ("simulator", "device"))
    pairs = [
        tuple({row["device"]: row for row in result.flights if row["round"] == 2}.values()) for result in (plain, kept)
    ]
    for ours, theirs in zip(*(sorted(rows, key=lambda row: row["device"]) for rows in pairs), strict=True):
        # Ten samples of 32 maps of 12 x 12: what the first layer of block 1 puts out, at full width.
        more = 4 * 10 * 32 * 12 * 12
        assert theirs["submodel"] == "stage-2"
        assert theirs["peak_memory_bytes"] - ours["peak_memory_bytes"] == pytest.approx(more, rel=0.01)
        assert theirs["compute_s"] < ours["compute_s"]
        assert theirs["loss"] == ours["loss"]


@pytest.mark.slow
def test_devices_keep_nothing_of_augmented_samples_and_a_run_says_so() -> None:
    options = ("method=neulite", "data.augmentation=crop-flip")
    silent, speaking = Listener(), Listener()
    plain, kept = run("none", *options, listener=silent), run("device", *options, listener=speaking)
    assert plain.summary["digest"] == kept.summary["digest"]
    said = "training.prefix_cache is device, but data.augmentation alters each sample anew in each epoch"
    assert any(message.startswith(said) for message in speaking.told)
    assert not any("prefix_cache" in message for message in silent.told)
