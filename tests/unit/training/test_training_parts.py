"""A local training in parts: one optimizer, one flight, and each part all epochs; charged as it is trained."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_flights import cost_of
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from neulite_sim.data.batches import batch_slices
from neulite_sim.methods.contract import LocalTask
from neulite_sim.models import step as step_module
from neulite_sim.models.trainee import Trainee
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.table import Population
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import CachingAllocator, Training
from neulite_sim.seeding import stream
from neulite_sim.training.local import train_locally

SPEC = InputSpec(shape=(1, 6, 6), num_classes=3)
SAMPLES = 9


class InTwo(Trainee):
    """Two convolutions with BatchNorm and a head: first the one before and the head, then the one behind and the head."""

    num_parts = 2

    def __init__(self, channels=(4, 3), parts=(0, 1)):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, channels[0], 3, padding=1), nn.BatchNorm2d(channels[0]), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(channels[0], channels[0], 3, padding=1), nn.BatchNorm2d(channels[0]))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[0], channels[1]))
        self.part = None
        self.entered = []
        self.parts = parts

    def enter(self, part):
        self.part = None if part is None else self.parts[part]
        self.entered.append(part)
        self.first.requires_grad_(self.part != 1)
        self.second.requires_grad_(self.part != 0)

    def forward(self, images_BCHW):
        blocks = (self.first,) if self.part == 0 else (self.first, self.second)
        return self.along(blocks, images_BCHW, head=self.head)

    def loss(self, images_BCHW, labels_B):
        logits_BK = self(images_BCHW)
        return F.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)


class OnlyFirst(InTwo):
    num_parts = 1

    def enter(self, part):
        super().enter(0)


def samples(count=SAMPLES, dtype=torch.float32):
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 3
    images = rng.normal(size=(count, 1, 6, 6)) + labels[:, None, None, None]
    return torch.from_numpy(images).to(dtype), torch.from_numpy(labels)


TASK = LocalTask(flight=1, cost=cost_of(0, "parts-2"), version=0, seed=5, learning_rate=0.05)


def made(kind=InTwo, dtype=torch.float32, **options):
    torch.manual_seed(1)
    return kind(**options).to(dtype)


def trained(trainee, dtype=torch.float32, **options):
    options = {"epochs": 2, "batch_size": 4, "weight_decay": 0.01, **options}
    return train_locally(trainee, *samples(dtype=dtype), task=TASK, training=Training(**options))


def twin(model, images, labels, *, epochs, batch_size, rate, momentum, decay):
    """Train as a plain script would: explicit momentum, nothing of the package but the order of the samples."""
    order = stream(5, "batches", 0, 1)
    speed = {}
    loss_of_last_epoch = 0.0
    for part in (0, 1):
        model.train()
        if part == 1:
            model.first.eval()
        names = [name for name, _ in model.named_parameters() if name.startswith((("first", "second")[part], "head"))]
        for _ in range(epochs):
            loss_of_last_epoch = 0.0
            for rows in batch_slices(len(labels), batch_size, order):
                maps = model.first(images[rows])
                maps = maps if part == 0 else model.second(maps.detach())
                loss = F.cross_entropy(model.head(maps), labels[rows])
                loss_of_last_epoch += loss.item() * len(rows) / len(labels)
                weights = [model.get_parameter(name) for name in names]
                for name, weight, slope in zip(names, weights, torch.autograd.grad(loss, weights), strict=True):
                    with torch.no_grad():
                        slope = slope + decay * weight
                        speed[name] = momentum * speed[name] + slope if name in speed else slope
                        weight -= rate * speed[name]
    return loss_of_last_epoch


def test_two_parts_train_as_their_plain_twin_in_double_precision():
    """The head's momentum goes on from the first part to the second; the first block stays where the first part left it."""
    found, plain = made(dtype=torch.float64), made(dtype=torch.float64)
    update = trained(found, dtype=torch.float64)
    loss = twin(plain, *samples(dtype=torch.float64), epochs=2, batch_size=4, rate=0.05, momentum=0.9, decay=0.01)
    wanted = {name: tensor for name, tensor in plain.state_dict().items() if tensor.is_floating_point()}
    assert update.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(update.tensors[name], tensor, rtol=1e-11, atol=1e-12)
    assert update.loss == pytest.approx(loss, rel=1e-11)
    assert found.entered == [None, 0, 1, None]


@pytest.mark.parametrize("options", [
    {}, {"optimizer": "adam"}, {"micro_batch_size": 3}, {"checkpointing": True}, {"precision": "bf16"},
    {"clip_norm": 0.1}, {"epochs": 1},
], ids=str)  # fmt: skip
def test_a_frozen_prefix_that_is_kept_within_its_part_changes_no_bit(options):
    kept, plain = (trained(made(), prefix_cache=cache, **options) for cache in ("simulator", "none"))
    assert kept.loss == plain.loss
    assert all(torch.equal(kept.tensors[name], plain.tensors[name]) for name in plain.tensors)


def test_each_part_keeps_the_features_of_its_own_prefix():
    """In the second part the first block is asked once per batch of the first epoch, in the first part always."""
    trainee, calls = made(), []
    # A hook of the layer's own could be anybody's code, and would have it tried out.
    watch = register_module_forward_pre_hook(
        lambda layer, _: calls.append(trainee.part) if layer is trainee.first else None
    )
    trained(trainee, epochs=3, prefix_cache="simulator")
    watch.remove()
    assert {part: calls.count(part) for part in (0, 1)} == {0: 3 * 2, 1: 2}


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_small_and_merged_last_batches_train_in_every_part(batch_size):
    """Nine samples: eight and one are one batch of nine; batches of one sample use running statistics."""
    update = trained(made(), batch_size=batch_size)
    assert all(torch.isfinite(tensor).all() for tensor in update.tensors.values())


def test_what_no_part_trains_is_not_sent_back_and_the_next_flight_starts_whole():
    trainee = made()
    first = trained(trainee)
    assert set(first.tensors) == {name for name, _ in trainee.travelling()}
    start = copy.deepcopy(trainee.state_dict())
    again = trained(trainee)
    trainee.load_state_dict(start)
    trainee.enter(1)
    after_a_failure = trained(trainee)
    assert all(torch.equal(after_a_failure.tensors[name], tensor) for name, tensor in again.tensors.items())


def test_the_first_backward_pass_of_each_part_looks_for_convolutions_that_overrun(monkeypatch):
    asked = []
    guarded = step_module.guarded
    monkeypatch.setattr(step_module, "guarded", lambda loss, *, is_needed: (
        asked.append((trainee.part, is_needed)), guarded(loss, is_needed=is_needed))[1])  # fmt: skip
    trainee = made()
    trained(trainee, epochs=1)
    assert asked == [(0, True), (0, False), (1, True), (1, False)]


def profiled(kind=InTwo, batch_size=4, allocator=None, given=None, **options):
    training = Training(batch_size=batch_size, **{"epochs": 3, **options})
    more = {} if allocator is None else {"allocator": allocator}
    return profile("any", lambda: kind(**(given or {})), spec=SPEC, batch_size=batch_size, training=training, **more)


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {}, {"optimizer": "adam"}, {"micro_batch_size": 3}, {"checkpointing": True}, {"precision": "bf16"},
    {"prefix_cache": "device"}, {"momentum": 0.0},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("channels", [(4, 3), (40, 3)])
def test_the_predicted_peak_is_that_of_the_largest_part_and_of_real_steps(options, channels):
    predicted = profiled(given={"channels": channels}, **options)
    training = Training(batch_size=4, epochs=3, **options)
    torch.manual_seed(0)
    real = audit(lambda: InTwo(channels=channels), spec=SPEC, batch_size=4, training=training)
    assert predicted.memory.total == max(predicted.part_peaks_bytes)
    assert real.total == pytest.approx(predicted.memory.total, rel=0.01)


def test_the_peak_of_a_part_by_hand():
    """Adam, whose state of the first part is still there in the second, and whose temporaries are small here."""
    found = profiled(optimizer="adam")
    second = profiled(given={"parts": (1, 1)}, optimizer="adam")
    # Two moments and a count of steps for each of the first part's four tensors that the second one does not train.
    weights = 4 * 9 + 4 + 4 + 4
    assert found.part_peaks_bytes[1] - second.part_peaks_bytes[1] == 4 * (2 * weights + 4)


def test_the_operators_are_those_of_one_step_of_each_part():
    first, both = profiled(OnlyFirst), profiled()
    assert first.part_peaks_bytes == ()
    assert np.array_equal(both.operator_flops[: len(first.operator_flops)], first.operator_flops)
    assert both.part_peaks_bytes[0] == first.peak_memory_bytes
    # Multiplications of the second part, twice: the first convolution forward only, the second forward and once back.
    macs = 4 * 36 * 4 * (1 * 9) + 2 * 4 * 36 * 4 * (4 * 9) + 3 * 4 * 4 * 3
    rest = both.operator_flops[len(first.operator_flops) :].sum()
    assert rest == 2 * macs


BOARD = DeviceClass(
    name="board", family="board", installed_memory_bytes=2**30, usable_memory_bytes=2**30,
    peak_flops_per_second=1e9, memory_bytes_per_second=1e9, efficiency=0.5, operator_overhead_s=1e-5,
    downlink_bits_per_second=1e7, uplink_bits_per_second=1e7,
)  # fmt: skip


def ledger(found, num_samples, *, epochs):
    count = len(num_samples)
    population = Population(
        classes=(BOARD,), class_index=np.zeros(count, dtype=np.int16),
        available_memory_bytes=np.full(count, 2**30), downlink_bits_per_second=np.full(count, 1e7),
        uplink_bits_per_second=np.full(count, 1e7), latency_s=np.zeros(count), speed_jitter=0.0,
        availability=AlwaysOnline(num_devices=count),
    )  # fmt: skip
    return Ledger({"any": found}, population, np.array(num_samples), epochs=epochs)


def test_seconds_are_the_sum_over_the_parts_by_hand():
    """Two epochs of two batches of one part, then as many of the other; each operator waits for its slower resource."""
    found = profiled()
    table = ledger(found, [8], epochs=2)
    operators = zip(found.operator_flops, found.operator_bytes, strict=True)
    steps_s = sum(max(flops / 0.5e9, num_bytes / 1e9) + 1e-5 for flops, num_bytes in operators)
    assert table.compute_s("any", np.array([0]))[0] == pytest.approx(4 * steps_s)
    twice = [ledger(profiled(given={"parts": (part, part)}), [8], epochs=2) for part in (0, 1)]
    assert 4 * steps_s == pytest.approx(sum(other.compute_s("any", np.array([0]))[0] for other in twice) / 2)


def test_a_device_that_keeps_features_needs_what_the_hungriest_part_needs():
    """The second part keeps a map of its prefix for each sample, the first one nothing."""
    found = profiled(given={"channels": (4, 3)}, prefix_cache="device", batch_size=8)
    assert found.part_kept_bytes_per_sample == (0, 4 * 4 * 36)
    one, other = found.part_peaks_bytes
    counts = [8, 16, 400]
    table = ledger(found, counts, epochs=3)
    expected = [max(one, other + 4 * 4 * 36 * count) for count in counts]
    assert table.peak_memory_bytes("any").tolist() == expected
    assert table.least_peak_bytes("any") == expected[0]
    first_s, later_s = found.operator_flops.sum(), found.later_operator_flops.sum()
    # A later step of the second part leaves out the first convolution.
    assert first_s - later_s == 2 * 8 * 36 * 4 * 9


def test_an_allocator_rounds_the_blocks_of_each_part():
    rounded = profiled(allocator=CachingAllocator(kind="caching", round_bytes=512, context=1000))
    assert rounded.allocator_bytes == max(rounded.part_peaks_bytes) >= 1000 + rounded.tensor_bytes
