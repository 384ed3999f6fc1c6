"""A device that keeps the features of its frozen prefix: it is charged for their bytes, and computes them once."""

import numpy as np
import pytest
import torch
from thin_models import blueprint

from neulite_sim.methods.contract import Setting
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.table import Population
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.profiling.profile import profile
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.registry import component
from neulite_sim.scenario.schema import CachingAllocator, Training

WIDTH, SIDE, BATCH = 0.25, 16, 8
CHANNELS = 32
"""Of the second block of ResNet18 at that width, whose maps have half the side of the first one's."""


def how(stage, cache, *, kind="neulite", model="resnet18", **options):
    plan, found = blueprint(model, (3, SIDE, SIDE), WIDTH, num_classes=10), component("method", kind)
    num_blocks = plan.build_meta().num_blocks
    method = found.build(found.options(), Setting(num_blocks=num_blocks, num_devices=3, max_rounds=8, seed=0))
    training = Training(**{"batch_size": BATCH, "epochs": 4, "prefix_cache": cache, **options})
    build = lambda: method.trainee(stage, plan)  # noqa: E731
    return {"build": build, "spec": plan.spec, "batch_size": BATCH, "training": training}


def profiled(stage, cache, allocator=None, **options):
    given = how(stage, cache, **options)
    return profile(stage, given.pop("build"), **given, **({"allocator": allocator} if allocator else {}))


def assert_equal(one, other):
    assert one.memory == other.memory
    assert np.array_equal(one.operator_flops, other.operator_flops)
    assert np.array_equal(one.operator_bytes, other.operator_bytes)


@pytest.mark.slow
def test_only_a_device_that_keeps_features_is_charged_for_them():
    plain, kept_here, kept_there = (profiled("stage-3", cache) for cache in ("none", "simulator", "device"))
    assert_equal(plain, kept_here)
    assert kept_here.kept_bytes_per_sample == 0
    assert kept_here.later_operator_flops is None
    # What is kept ends at the layer before the tail: one map of the second block.
    assert kept_there.kept_bytes_per_sample == 4 * CHANNELS * (SIDE // 2) ** 2


@pytest.mark.parametrize(("stage", "options"), [("stage-1", {}), ("stage-3", {"epochs": 1})])
def test_where_nothing_is_to_be_kept_the_device_is_charged_as_ever(stage, options):
    plain, kept = (profiled(stage, cache, **options) for cache in ("none", "device"))
    assert_equal(plain, kept)
    assert (kept.kept_bytes_per_sample, kept.later_operator_flops) == (0, None)


def test_a_later_step_has_all_but_the_prefix_and_the_first_one_two_rows_of_bytes_more():
    plain, kept = (profiled("stage-3", cache) for cache in ("none", "device"))
    assert kept.flops_per_step == plain.flops_per_step
    features = BATCH * kept.kept_bytes_per_sample
    # Reading and writing each number of a batch, and the place of each sample.
    assert kept.operator_bytes.sum() - plain.operator_bytes.sum() == 2 * features + 8 * BATCH
    maps, channels = SIDE**2, (16, 32)
    stem, first = 3 * channels[0] * 9 * maps, 4 * channels[0] ** 2 * 9 * maps
    down = (channels[0] * channels[1] * (9 + 1) + channels[1] ** 2 * 9) * maps // 4
    assert plain.flops_per_step - kept.later_operator_flops.sum() == 2 * BATCH * (stem + first + down)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"micro_batch_size": 3}, {"checkpointing": True}, {"precision": "bf16"}], ids=str
)
@pytest.mark.parametrize(("kind", "stage", "model"), [
    ("neulite", "stage-2", "resnet18"), ("neulite", "stage-4", "resnet18"), ("neulite", "stage-2", "cnn"),
])  # fmt: skip
def test_the_predicted_peak_is_that_of_real_steps_with_the_table_beside_them(kind, stage, model, options):
    torch.manual_seed(0)
    given = how(stage, "device", kind=kind, model=model, **options)
    predicted = profile(stage, **given)
    assert predicted.kept_bytes_per_sample > 0
    assert audit(**given).total == pytest.approx(predicted.memory.total, rel=0.001)


def test_an_allocator_rounds_the_table_apart_from_the_rest():
    rounded = profiled("stage-3", "device", CachingAllocator(kind="caching", round_bytes=512))
    plain = profiled("stage-3", "none", CachingAllocator(kind="caching", round_bytes=512))
    # Beside the step there are the places of the rows, a block of their own.
    assert 0 <= rounded.allocator_bytes - plain.allocator_bytes <= 512 + BATCH * rounded.kept_bytes_per_sample


def ledger(cache, num_samples, epochs):
    profiles = {"stage-3": profiled("stage-3", cache, epochs=epochs)}
    population = Population(
        classes=(device_class("jetson-nano-4gb"),),
        class_index=np.zeros(len(num_samples), dtype=np.int64),
        available_memory_bytes=np.full(len(num_samples), 2**30),
        downlink_bits_per_second=np.full(len(num_samples), 1e6),
        uplink_bits_per_second=np.full(len(num_samples), 1e6),
        latency_s=np.zeros(len(num_samples)),
        speed_jitter=0.0,
        availability=AlwaysOnline(num_devices=len(num_samples)),
    )
    return Ledger(profiles, population, np.array(num_samples), epochs=epochs)


def test_a_device_needs_the_features_of_all_its_samples_and_computes_them_in_one_epoch():
    samples = [16, 20, 80]
    plain, kept = (ledger(cache, samples, epochs=4) for cache in ("none", "device"))
    found = kept.profiles["stage-3"]
    assert list(kept.peak_memory_bytes("stage-3")) == [
        found.peak_memory_bytes + count * found.kept_bytes_per_sample for count in samples
    ]
    assert kept.least_peak_bytes("stage-3") == found.peak_memory_bytes + 16 * found.kept_bytes_per_sample
    assert kept.shortfall_bytes_of("stage-3", np.array([2])) == kept.shortfall_bytes("stage-3")[2]
    device = kept.population.classes[0]
    first_s, later_s = (2 * step_seconds(found, device, is_later=is_later) for is_later in (False, True))
    assert kept.compute_s("stage-3", np.array([0]))[0] == pytest.approx(first_s + 3 * later_s)
    assert (kept.compute_s("stage-3", np.arange(3)) < plain.compute_s("stage-3", np.arange(3))).all()
