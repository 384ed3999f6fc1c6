"""Room on this machine: asked before the allocation, in one sentence with the bytes needed and those that are free."""

from __future__ import annotations

import pytest
from tiny_scenarios import tiny

from neulite_sim import room
from neulite_sim.data.partition import SHARDS
from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.capacity import check_costs
from neulite_sim.engine.compatibility import require_training
from neulite_sim.errors import ScenarioError
from neulite_sim.room import require_room
from neulite_sim.seeding import stream
from neulite_sim.training.inprocess import COMPONENT as INPROCESS

pytestmark = pytest.mark.usefixtures("shared_profiles")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10**8)


def test_what_fits_passes_and_what_does_not_is_refused_with_both_figures(free: None) -> None:
    require_room(10**8, "a map", key="data", advice="lower it")
    with pytest.raises(ScenarioError) as refused:
        require_room(7.45e9, "the maps", key="data", advice="lower data.samples")
    assert str(refused.value) == "data: needs about 7.45 GB for the maps, 100 MB are free; lower data.samples"


def test_nothing_is_refused_where_the_system_does_not_say_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: None)
    require_room(1e30, "a map", key="data", advice="lower it")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("data.image_size=4000",),
            "data.image_size: needs about 1.44 GB for 90 images of 4000 x 4000, 100 MB are free",
        ),
        (
            ("proxy.image_size=4000",),
            "data.image_size: needs about 1.44 GB for 90 images of 4000 x 4000, 100 MB are free",
        ),
        (("population.devices=9000000",), "population.devices: needs about 2.7 GB for the table of 9000000 devices"),
        (
            ("data={kind: synthetic, shape: [1, 8, 8], classes: 1000000}",),
            "data: needs about 1.792 GB for 6000 synthetic images of 1000000 classes, 64 pixels each, 100 MB are free",
        ),
    ],
)
def test_a_scenario_with_too_large_a_product_is_refused(free: None, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        prepare(tiny(*overrides))
    assert message in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("data={kind: synthetic, shape: [1, 400, 400], classes: 200, samples: 12, test_samples: 4}",),
            "model: needs about 384.0 MB for the 32,000,200 weights of logistic, 200 MB are free; choose a smaller model",
        ),
        (
            ("model=resnet18", "data={kind: synthetic, shape: [1, 128, 128], classes: 2, samples: 60, test_samples: 4}",
             "training.batch_size=60", "population.devices=1"),
            "for the activations of a batch of 60 on resnet18, 200 MB are free; lower it, or set proxy.batch_size",
        ),
        (
            ("model=resnet18", "data={kind: synthetic, shape: [1, 128, 128], classes: 2, samples: 6, test_samples: 90}"),
            "for a test batch of 90 on resnet18, 200 MB are free; lower it",
        ),
    ],
)  # fmt: skip
def test_training_that_does_not_fit_is_refused_before_it_begins(
    overrides: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = prepare(tiny(*overrides))
    backend = INPROCESS.build(INPROCESS.options())
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 2 * 10**8)
    with pytest.raises(ScenarioError) as refused:
        require_training(parts, trains=backend.trains)
    assert message in str(refused.value)


def test_a_dataset_without_given_sizes_is_measured_once_it_is_read(free: None) -> None:
    with pytest.raises(ScenarioError) as refused:
        prepare(tiny("data={kind: digits, image_size: 2000, partition: iid}"))
    assert "data.image_size: needs about 28.75 GB for 1797 images of digits, 2000 x 2000 pixels each" in str(
        refused.value
    )


def test_costs_and_shards_beyond_the_memory_are_refused(free: None) -> None:
    with pytest.raises(ScenarioError, match=r"needs about 1\.024 GB for the costs of 64 submodels on 1000000 devices"):
        check_costs(1_000_000, 64)
    labels = stream(1, "labels").integers(0, 3, 10)
    with pytest.raises(
        ScenarioError, match="shards_per_device: needs about 160 GB for 1000000000 shards for each of 10"
    ):
        SHARDS.build(SHARDS.options(shards_per_device=10**9))(labels, 10, stream(1, "deal"))
