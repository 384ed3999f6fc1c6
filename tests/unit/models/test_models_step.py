"""One optimizer step: micro-batches, checkpointing and lower precision against the plain step and against arithmetic."""

import pytest
import torch
from thin_models import TOY, blueprint
from torch import nn
from torch.nn import functional as F

from neulite_sim.errors import SimulationError
from neulite_sim.methods.fedavg import ProximalModel
from neulite_sim.methods.progfed import GrowingModel
from neulite_sim.models import step as step_module
from neulite_sim.models.step import LossScaler, Stepper, micro_batch_sizes, require_precision
from neulite_sim.models.trainee import FullModel, Trainee, lay_out
from neulite_sim.scenario.schema import Training

CPU = torch.device("cpu")


def trained(build, *, shape=(1, 8, 8), samples=7, steps=2, notes=None, **options):
    """Return the trainee after some steps on fixed noise, seeded alike whatever the options."""
    torch.manual_seed(0)
    trainee = build()
    lay_out(trainee)
    trainee.prepare()
    images = torch.randn(samples, *shape).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(samples) % 3
    stepper = Stepper(trainee, Training(batch_size=samples, **options), learning_rate=0.1)
    torch.manual_seed(1)
    for _ in range(steps):
        stepper.step(images, labels, notes)
    return trainee


def states(*trainees):
    return zip(*(trainee.state_dict().values() for trainee in trainees), strict=True)


@pytest.mark.parametrize(
    ("samples", "largest", "sizes"),
    [
        (8, None, [8]),
        (8, 8, [8]),
        (3, 8, [3]),
        (8, 3, [3, 3, 2]),
        (9, 4, [4, 3, 2]),
        (5, 2, [2, 2, 1]),
        (3, 1, [1] * 3),
    ],
)
def test_micro_batches_of_a_batch(samples, largest, sizes):
    assert micro_batch_sizes(samples, largest) == sizes


@pytest.mark.parametrize("largest", range(1, 9))
def test_no_micro_batch_is_larger_than_asked_for_and_one_sample_stands_alone_only_where_it_must(largest):
    for samples in range(1, 40):
        sizes = micro_batch_sizes(samples, largest)
        assert sum(sizes) == samples
        assert max(sizes) <= largest
        assert 1 not in sizes or largest <= 2 or samples == 1


@pytest.mark.parametrize("build", [lambda: FullModel(blueprint("lenet")), lambda: ProximalModel(blueprint("cnn"), 0.5)])
@pytest.mark.parametrize("largest", [1, 2, 3, 6])
def test_micro_batches_take_the_step_of_the_whole_batch(build, largest):
    """Seven samples in parts of unequal size; float32 sums in another order differ by rounding alone."""
    whole, parts = trained(build), trained(build, micro_batch_size=largest)
    for expected, found in states(whole, parts):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)


def test_clipping_sees_the_gradient_of_the_whole_batch():
    build = lambda: FullModel(blueprint("lenet"))  # noqa: E731
    options = {"clip_norm": 0.01, "momentum": 0.0, "weight_decay": 0.0}
    for expected, found in states(trained(build, **options), trained(build, micro_batch_size=3, **options)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)


def test_each_micro_batch_is_noted_with_its_size():
    seen = []
    trained(lambda: FullModel(TOY), steps=1, micro_batch_size=3, notes=lambda size, loss, _: seen.append((size, loss)))
    assert [size for size, _ in seen] == [3, 2, 2]
    assert all(loss.isfinite() for _, loss in seen)


def test_a_lone_sample_uses_running_statistics_and_later_parts_do_not():
    """Maps of 1x1 pixels: BatchNorm refuses a batch of one sample there."""
    trainee = trained(lambda: FullModel(blueprint("resnet18", width=0.05)), samples=5, steps=1, micro_batch_size=2)
    norms = [layer for layer in trainee.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(layer.training and layer.num_batches_tracked == 2 for layer in norms)


class Dropping(Trainee):
    """Two blocks with BatchNorm of each kind of momentum, dropout, ReLU in place, and a frozen block before them."""

    def __init__(self):
        super().__init__()
        conv = lambda channels: nn.Conv2d(channels, 4, 3, padding=1)  # noqa: E731
        norms = nn.BatchNorm2d(4, momentum=0.3), nn.BatchNorm2d(4, momentum=None)
        blocks = [nn.Sequential(conv(4), norm, nn.ReLU(inplace=True), nn.Dropout(0.5)) for norm in norms]
        frozen = nn.Sequential(conv(1), nn.BatchNorm2d(4)).requires_grad_(False)
        self.blocks = nn.ModuleList([frozen, *blocks])
        self.head = nn.Linear(4, 3)
        self.num_calls = [0, 0, 0]
        for number, block in enumerate(self.blocks):
            block[0].register_forward_hook(lambda *_, number=number: self._count(number))

    def _count(self, number):
        self.num_calls[number] += 1

    def loss(self, images, labels):
        for block in self.blocks:
            images = self.through(block, images)
        return F.cross_entropy(self.head(images.mean(dim=(2, 3))), labels), {}


@pytest.mark.parametrize(
    "build",
    [
        Dropping,
        lambda: FullModel(blueprint("resnet18", width=0.05)),
        lambda: FullModel(blueprint("squeezenet", width=0.05)),
        lambda: GrowingModel(blueprint("vit", width=0.25), 2, is_warmup=True),
    ],
)
@pytest.mark.parametrize("options", [{}, {"precision": "bf16", "micro_batch_size": 3}])
def test_checkpointing_learns_the_same_bits_batch_norm_and_dropout_included(build, options):
    plain, again = (trained(build, samples=6, checkpointing=on, **options) for on in (False, True))
    assert all(torch.equal(expected, found) for expected, found in states(plain, again))


def test_what_is_computed_twice_is_each_trained_block_and_no_frozen_one():
    assert trained(Dropping, steps=1).num_calls == [1, 1, 1]
    assert trained(Dropping, steps=1, checkpointing=True).num_calls == [1, 2, 2]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_keeps_fp32_weights_and_learns_nearly_the_same(precision):
    build = lambda: FullModel(blueprint("lenet"))  # noqa: E731
    plain, lower = trained(build, steps=1), trained(build, steps=1, precision=precision)
    assert {parameter.dtype for parameter in lower.parameters()} == {torch.float32}
    differences = [(found - expected).abs().max().item() for expected, found in states(plain, lower)]
    assert 0 < max(differences) < 0.02


def test_the_loss_scale_halves_on_overflow_and_doubles_after_good_steps():
    scaler, parameter = LossScaler(8.0, growth_interval=2), nn.Parameter(torch.zeros(2))
    for gradient, is_taken, scale in (([8.0, 16.0], True, 8.0), ([torch.inf, 1.0], False, 4.0), ([torch.nan, 1.0], False, 2.0),
                                      ([1.0, 1.0], True, 2.0), ([1.0, 1.0], True, 4.0)):  # fmt: skip
        parameter.grad = torch.tensor(gradient)
        before = scaler.scale
        assert scaler.unscale([parameter]) is is_taken
        assert scaler.scale == scale
        if is_taken:
            torch.testing.assert_close(parameter.grad, torch.tensor(gradient) / before)
    assert scaler.num_skipped == 2


def test_a_step_that_overflows_changes_no_weight_and_is_counted():
    trainee = FullModel(blueprint("lenet"))
    trainee.prepare()
    stepper = Stepper(trainee, Training(batch_size=2, precision="fp16"), learning_rate=0.1)
    before = [parameter.clone() for parameter in trainee.parameters()]
    stepper.step(torch.full((2, 1, 8, 8), 1e9), torch.tensor([0, 1]))
    assert stepper.num_skipped_steps == 1
    assert all(map(torch.equal, before, trainee.parameters()))


def test_a_precision_that_the_machine_cannot_train_in_is_refused(monkeypatch):
    monkeypatch.setattr(step_module, "_problem", lambda *_: "slow_conv2d not implemented for 'Half'")
    words = r"training\.precision is fp16, but PyTorch .* on this cpu \(slow_conv2d not .*set proxy\.precision: fp32"
    with pytest.raises(SimulationError, match=words):
        require_precision("fp16", CPU)
    require_precision("fp32", CPU)


def test_what_pytorch_says_of_a_precision_is_its_first_line(monkeypatch):
    def refuse(*_):
        raise RuntimeError("not implemented\nsecond line")

    monkeypatch.setattr(step_module, "autocast", refuse)
    assert step_module._problem.__wrapped__("fp16", "cpu") == "not implemented"
