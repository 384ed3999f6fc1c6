"""The peak of the whole process: what operators take for themselves, the base, and steps that were measured."""

import json
from pathlib import Path

import pytest
import torch
from slow_cases import some_slow
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.torchvision_classifier import Classifier
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.allocations import GRAPH_FREED, AllocationLog, AllocationRecorder
from neulite_sim.profiling.operators import run
from neulite_sim.profiling.process import process_peaks
from neulite_sim.profiling.profile import profile
from neulite_sim.profiling.tracer import trace
from neulite_sim.scenario.schema import GlibcAllocator, Training

MEASURED = json.loads(
    (Path(__file__).parents[2] / "golden" / "memory" / "process_memory.json").read_text(encoding="utf-8")
)


def logged(module, images):
    log = AllocationLog()
    with AllocationRecorder(log):
        batch = images, torch.zeros(len(images), dtype=torch.int64)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def step(inputs, labels):
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()

    trace(module, optimizer, step, batch, log=log)
    log.end_part()
    return log


def test_every_block_is_allocated_before_it_is_freed_and_freed_once():
    with FakeTensorMode():
        log = logged(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), torch.rand(2, 3, 8, 8)
        )
    alive = set()
    for event in log.events:
        if event.block == GRAPH_FREED:
            continue
        assert (event.block in alive) == (event.num_bytes == 0)
        (alive.add if event.num_bytes else alive.discard)(event.block)
    assert sum(event.block == GRAPH_FREED for event in log.events) >= 1
    assert any(event.grows_graph for event in log.events)


def test_a_convolution_takes_its_weights_in_passing():
    with FakeTensorMode():
        log = AllocationLog()
        layer, images = nn.Conv2d(4, 8, 3, bias=False), torch.rand(2, 4, 8, 8)
        log.note([*layer.parameters(), images])
        before = len(log.events)
        settings = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        log.note_operator(run(torch.ops.aten.convolution.default, (images, layer.weight, *settings), {}))
    weight_bytes, map_bytes = 4 * 8 * 4 * 9, 4 * 2 * 8 * 36
    taken = [event.num_bytes for event in log.events[before:]]
    assert taken[:3] == [map_bytes, weight_bytes, 0]


def test_what_stands_on_the_meta_device_takes_nothing():
    log = AllocationLog()
    log.note([torch.empty(100, device="meta")])
    assert log.events == []


def profiled(network="squeezenet1_1", side=32, batch=2, **how):
    blueprint = Blueprint(
        architecture=Classifier(name=network), input_shape=(3, side, side), num_classes=10, name=network
    )
    training = Training(batch_size=batch)
    return profile(
        "full", lambda: FullModel(blueprint), spec=blueprint.spec, batch_size=batch, training=training, **how
    )


def test_the_process_is_compared_only_where_the_scenario_says_so():
    plain, board = profiled(), profiled(allocator=GlibcAllocator(base=100))
    assert plain.peak_memory_bytes == plain.tensor_bytes == board.tensor_bytes
    assert board.peak_memory_bytes == board.process_bytes > board.tensor_bytes
    assert plain.process_bytes - board.process_bytes == GlibcAllocator().base - 100
    assert (plain.compared_with_memory, board.compared_with_memory) == ("tensor_bytes", "process_bytes")


def test_blocks_that_are_mapped_leave_no_holes():
    plain = profiled(batch=16, side=64, allocator=GlibcAllocator(base=0))
    mapped = profiled(batch=16, side=64, allocator=GlibcAllocator(base=0, mmap_threshold=65536))
    assert plain.tensor_bytes < mapped.process_bytes < plain.process_bytes


def test_nothing_allocated_is_the_base_alone():
    log = AllocationLog()
    log.end_part()
    assert process_peaks(log, GlibcAllocator(base=7)) == (7,)


@pytest.mark.parametrize("name", some_slow(["squeezenet1_1", "alexnet", "resnet18"], lambda name: name == "resnet18"))
def test_measured_steps_are_met_within_a_fifth(name):
    case = MEASURED["steps"][f"torchvision:{name}"]
    found = profiled(name, case["side"], case["batch"], allocator=GlibcAllocator(base=MEASURED["base_bytes"]))
    measured = MEASURED["base_bytes"] + case["step_bytes"]
    assert found.process_bytes == pytest.approx(measured, rel=0.2)
    assert found.tensor_bytes < case["step_bytes"]
