"""What precision, micro-batches, checkpointing, clipping and an allocator do to a profile, against arithmetic."""

import pytest
import torch
from thin_models import blueprint, method
from torch import nn
from torch.nn import functional as F

from neulite_sim.errors import ScenarioError
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.profiling.profile import profile
from neulite_sim.profiling.tracer import StepTracer
from neulite_sim.scenario.schema import CachingAllocator, Training


def profiled(build, shape=(1, 8, 8), batch_size=12, allocator=None, **options):
    more = {} if allocator is None else {"allocator": allocator}
    training = Training(batch_size=batch_size, **options)
    return profile("full", build, input_shape=shape, batch_size=batch_size, training=training, **more)


def full(kind, shape=(1, 8, 8), width=1.0):
    return lambda: FullModel(blueprint(kind, shape, width))


def test_micro_batches_multiply_as_much_in_more_operators():
    whole, parts = profiled(full("lenet")), profiled(full("lenet"), micro_batch_size=5)
    assert (whole.micro_batch_sizes, parts.micro_batch_sizes) == ((12,), (5, 5, 2))
    assert parts.flops_per_step == whole.flops_per_step
    assert 2 * len(whole.operator_flops) < len(parts.operator_flops) < 3 * len(whole.operator_flops)


class TwoLinear(Trainee):
    """Blocks 16 -> 32 -> 8 without bias and a loss that multiplies nothing."""

    def __init__(self):
        super().__init__()
        hidden = nn.Sequential(nn.Flatten(), nn.Linear(16, 32, bias=False), nn.Tanh())
        self.blocks = nn.ModuleList([hidden, nn.Linear(32, 8, bias=False)])

    def loss(self, images, labels):
        for block in self.blocks:
            images = self.through(block, images)
        return F.cross_entropy(images, labels), {}


def test_checkpointing_adds_the_forward_flops_of_what_the_backward_pass_needs_again():
    """Of two linear layers the last product is not needed for any gradient: only the first is computed again."""
    forward = [2 * 12 * 16 * 32, 2 * 12 * 32 * 8]
    plain, again = (profiled(TwoLinear, (1, 4, 4), checkpointing=on).flops_per_step for on in (False, True))
    assert plain == 2 * forward[0] + 3 * forward[1]
    assert again == plain + forward[0]


def test_checkpointing_drops_activations_and_the_peak_split_still_adds_up():
    build = full("resnet18", (3, 32, 32), 0.25)
    plain, again = (profiled(build, (3, 32, 32), 64, checkpointing=on) for on in (False, True))
    assert again.peak_memory_bytes < 0.8 * plain.peak_memory_bytes
    assert again.memory.activations > 0.5 * again.memory.total
    stem, classifier = 2 * 64 * 32 * 32 * 16 * 3 * 9, 2 * 64 * 128 * 10
    forward = (plain.flops_per_step + stem) // 3
    assert again.flops_per_step == plain.flops_per_step + forward - classifier


def test_half_precision_halves_most_activations():
    build = full("resnet18", (3, 32, 32), 0.25)
    plain, half = (profiled(build, (3, 32, 32), 64, precision=kind) for kind in ("fp32", "bf16"))
    assert 0.5 < half.memory.activations / plain.memory.activations < 0.6
    assert (half.bytes_down, half.bytes_up) == (plain.bytes_down, plain.bytes_up)
    assert half.flops_per_step == plain.flops_per_step


def test_clipping_is_part_of_the_charged_step():
    plain, clipped = profiled(full("lenet")), profiled(full("lenet"), clip_norm=1.0)
    num_parameters = sum(1 for _ in full("lenet")().parameters())
    assert len(clipped.operator_bytes) >= len(plain.operator_bytes) + 2 * num_parameters


class Aloof(Trainee):
    """Applies its block by itself."""

    def __init__(self):
        super().__init__()
        self.block = nn.Linear(64, 3)

    def loss(self, images, labels):
        return F.cross_entropy(self.block(images.flatten(1)), labels), {}


def test_checkpointing_of_a_trainee_that_applies_no_block_through_it_is_refused():
    with pytest.raises(
        ScenarioError, match=r"training\.checkpointing: true has no effect on full: .* Trainee\.through"
    ):
        profiled(Aloof, checkpointing=True)
    assert profiled(Aloof).peak_memory_bytes > 0


def test_an_allocator_rounds_each_storage_and_forgets_it_as_a_whole():
    tracer = StepTracer(round_bytes=512)
    with tracer:
        small, large = torch.zeros(50), torch.zeros(200)
        assert tracer.rounded_peak_bytes == 512 + 1024
        del small
        tracer.reset()
        assert (tracer.rounded_peak_bytes, tracer.peak.total) == (1024, 800)
        tracer.mark([large], "inputs")
    assert tracer.rounded_peak_bytes == 1024


def test_an_allocator_is_compared_with_devices_and_tensor_bytes_stay_beside_it():
    plain = profiled(full("lenet"))
    rounded = profiled(full("lenet"), allocator=CachingAllocator(round_bytes=512, context=10**6))
    assert plain.allocator_bytes is None
    assert plain.peak_memory_bytes == plain.tensor_bytes == rounded.tensor_bytes
    assert rounded.peak_memory_bytes == rounded.allocator_bytes
    assert (rounded.allocator_bytes - 10**6) % 512 == 0
    assert 0 < rounded.allocator_bytes - 10**6 - rounded.tensor_bytes < 512 * 100


def test_rounding_to_single_bytes_adds_the_context_alone():
    found = profiled(full("lenet"), allocator=CachingAllocator(round_bytes=1, context=7))
    assert found.allocator_bytes == found.tensor_bytes + 7


def test_nhsic_of_micro_batches_needs_smaller_kernels():
    chosen = method("neulite")
    whole, parts = (
        profiled(lambda: chosen.trainee("stage-1", blueprint("lenet")), batch_size=32, **options)
        for options in ({}, {"micro_batch_size": 8})
    )
    assert parts.flops_per_step < whole.flops_per_step
