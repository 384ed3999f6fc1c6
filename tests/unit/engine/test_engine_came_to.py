"""What a replay has to come to is hashed as versions before did: the checkpoints that they wrote still go on."""

from __future__ import annotations

import json
from dataclasses import astuple

import pytest

from neulite_sim.engine.tracking import _plain
from neulite_sim.profiling.cost import Cost, Plan


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_a_cost_is_told_as_dataclasses_tell_it(micro_batch_size):
    plan = Plan(batch_size=16, micro_batch_size=micro_batch_size, checkpointing=True, precision="bf16")
    cost = Cost(submodel="s1", device=3, download_s=0.1, compute_s=1 / 3, upload_s=2.5, peak_memory_bytes=10**9,
                available_memory_bytes=7, plan=plan)  # fmt: skip
    assert json.dumps(_plain(cost)) == json.dumps(astuple(cost))


def test_what_stands_within_tuples_is_told_too():
    plan = Plan(batch_size=2)
    assert _plain((1, [plan], "x")) == [1, [[2, None, False, "fp32"]], "x"]
