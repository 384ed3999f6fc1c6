"""A step whose alike micro-batches are traced once costs what the whole step does, to the byte and the operation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from thin_models import blueprint

from neulite_sim.models.step import micro_batch_sizes
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling import profile as profile_module
from neulite_sim.profiling.micro_batches import MicroBatches
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import CachingAllocator, Training


@pytest.mark.parametrize(
    ("batch", "largest", "traced"),
    [
        (12, None, (12,)), (12, 12, (12,)), (12, 6, (6, 6)), (12, 4, (4, 4)), (128, 2, (2, 2)), (13, 4, (4, 4, 3, 2)),
        (14, 4, (4, 4, 2)), (9, 2, (2, 2, 1)), (5, 1, (1, 1)), (7, 3, (3, 2, 2)), (1, 4, (1,)),
    ],
)  # fmt: skip
def test_alike_micro_batches_are_traced_twice_at_most(batch: int, largest: int | None, traced: tuple[int, ...]) -> None:
    found = MicroBatches.of(batch, largest)
    assert (found.sizes, found.traced) == (tuple(micro_batch_sizes(batch, largest)), traced)
    assert (found.num_traced, found.num_left_out) == (sum(traced), batch - sum(traced))


def test_every_batch_can_be_traced_so() -> None:
    for batch in range(1, 70):
        for largest in range(1, 70):
            found = MicroBatches.of(batch, largest)
            assert tuple(micro_batch_sizes(found.num_traced, largest)) == found.traced
            counts = found.counts(range(1, len(found.traced) + 1), len(found.traced) + 1)
            # One operator per micro-batch, and one of the optimizer.
            assert (len(found.traced) + 1 if counts is None else sum(counts)) == len(found.sizes) + 1
            if counts is not None:
                total = sum(size * count for size, count in zip(found.traced, counts, strict=False))
                assert total == batch


def profiled(batch: int, options: Mapping[str, object]) -> Profile:
    plan = blueprint("resnet18", (3, 8, 8), 0.0625)
    return profile(
        "full", lambda: FullModel(plan), spec=InputSpec(shape=(3, 8, 8), num_classes=3), batch_size=batch,
        training=Training.model_validate({"batch_size": batch, "epochs": 2, **options}), allocator=CachingAllocator(),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (21, {"micro_batch_size": 4}),
        (8, {"micro_batch_size": 1, "optimizer": "adam", "clip_norm": 1.0}),
        (16, {"micro_batch_size": 4, "checkpointing": True}),
        (13, {"micro_batch_size": 3, "precision": "fp16"}),
        (12, {"micro_batch_size": 3, "prefix_cache": "device"}),
    ],
)
def test_the_profile_is_that_of_the_whole_step(
    batch: int, options: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = profiled(batch, options)

    class Whole:
        @staticmethod
        def of(batch_size: int, largest: int | None) -> MicroBatches:
            sizes = tuple(micro_batch_sizes(batch_size, largest))
            return MicroBatches(sizes=sizes, traced=sizes)

    monkeypatch.setattr(profile_module, "MicroBatches", Whole)
    whole = profiled(batch, options)
    assert whole.operator_counts is None
    assert short.operator_counts is not None
    assert len(short.operator_flops) < len(whole.operator_flops)
    assert (short.memory, short.allocator_bytes) == (whole.memory, whole.allocator_bytes)
    assert (short.micro_batch_sizes, short.flops_per_step) == (whole.micro_batch_sizes, whole.flops_per_step)
    counts = short.operator_counts.astype(np.int64)
    # As many of each kind: the order of micro-batches that are alike does not matter.
    repeated = np.repeat(np.stack([short.operator_flops, short.operator_bytes, short.operator_kinds]), counts, axis=1)
    expected = np.stack([whole.operator_flops, whole.operator_bytes, whole.operator_kinds])
    assert (np.sort(repeated, axis=1) == np.sort(expected, axis=1)).all()
