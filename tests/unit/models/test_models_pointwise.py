"""Strided 1x1 convolutions: which ones oneDNN may overrun on, and that thinned maps give the same without it."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_models import blueprint
from torch import nn
from torch.nn import functional as F

from neulite_sim.models import kernel_guard, pointwise
from neulite_sim.models.kernel_guard import KernelGuard
from neulite_sim.models.pointwise import PointwiseConvolution, overruns
from neulite_sim.models.resnet import BasicBlock
from neulite_sim.models.step import Stepper
from neulite_sim.models.trainee import FullModel, Trainee, lay_out
from neulite_sim.profiling.profile import profile
from neulite_sim.scenario.schema import Training

PLAIN = {"stride": (2, 2), "padding": (0, 0), "groups": 1}
BACKWARD = torch.ops.aten.convolution_backward.default


@pytest.mark.parametrize(
    ("weight", "large", "small", "changed", "expected"),
    [
        ((8, 5, 1, 1), (8, 8), (4, 4), {}, True),
        ((8, 15, 1, 1), (8, 8), (4, 4), {}, True),
        ((8, 16, 1, 1), (8, 8), (4, 4), {}, False),
        ((8, 5, 1, 1), (7, 8), (4, 4), {}, False),
        ((8, 5, 1, 1), (8, 4), (8, 2), {"stride": (1, 2)}, True),
        ((8, 5, 1, 1), (8, 8), (8, 8), {"stride": (1, 1)}, False),
        ((8, 5, 1, 3), (8, 8), (4, 4), {}, False),
        ((8, 5, 1, 1), (8, 8), (5, 5), {"padding": (1, 1)}, False),
        ((8, 2, 1, 1), (8, 8), (4, 4), {"groups": 2}, False),
        ((8, 5, 1), (9,), (3,), {"stride": (3,), "padding": (0,)}, True),
        ((8, 5, 1, 1, 1), (4, 4, 4), (2, 2, 2), {"stride": (2, 2, 2), "padding": (0, 0, 0)}, False),
    ],
)
def test_what_may_overrun(weight, large, small, changed, expected):
    assert overruns(weight, large, small, **{**PLAIN, **changed}) is expected


class Kernels(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes each weight gradient of a convolution that would reach the kernel that overruns."""

    def __init__(self):
        super().__init__()
        self.overrunning = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is BACKWARD and any(args[10][1:]):
            grad, maps, weight, _, stride, padding, _, is_transposed, _, groups, _ = args
            sides = (grad.shape[2:], maps.shape[2:]) if is_transposed else (maps.shape[2:], grad.shape[2:])
            self.overrunning += overruns(weight.shape, *sides, stride=stride, padding=padding, groups=groups)
        return func(*args, **(kwargs or {}))


def gradients(run, *operands):
    leaves = [tensor.detach().requires_grad_() for tensor in operands]
    result = run(*leaves)
    grad = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).reshape(result.shape)
    with KernelGuard() as guard:
        result.backward(grad)
    return [result.detach(), *(leaf.grad for leaf in leaves)], guard


@given(
    channels=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    stride=st.sampled_from([(2,), (3,), (2, 2), (3, 3), (1, 2), (3, 1)]),
    left=st.integers(1, 5),
    batch=st.integers(1, 4),
    is_transposed=st.booleans(),
    is_last=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_the_guard_gives_the_gradients_of_double_precision(channels, stride, left, batch, is_transposed, is_last):
    torch.manual_seed(0)
    channels_in, channels_out = channels
    ones = (1,) * len(stride)
    whole = [left * step for step in stride]
    images = torch.randn(batch, channels_in, *([left] * len(stride) if is_transposed else whole))
    if is_last and len(stride) == 2:
        images = images.to(memory_format=torch.channels_last)
    weight = torch.randn(*((channels_in, channels_out) if is_transposed else (channels_out, channels_in)), *ones)
    rest = [step - 1 if is_transposed else 0 for step in stride]
    zeros = [0] * len(stride)

    def run(*leaves):
        return torch.ops.aten.convolution.default(*leaves, stride, zeros, ones, is_transposed, rest, 1)

    operands = (images, weight, torch.randn(channels_out))
    found, guard = gradients(run, *operands)
    expected, _ = gradients(run, *(tensor.double() for tensor in operands))
    assert guard.num_met == ((channels_out if is_transposed else channels_in) < pointwise.CHANNEL_BLOCK)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@given(
    channels=st.tuples(st.integers(1, 17), st.integers(1, 8)),
    stride=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    has_bias=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_a_pointwise_convolution_is_pytorchs_in_values_gradients_and_layout(channels, stride, sides, has_bias):
    """In double precision, which oneDNN leaves alone."""
    torch.manual_seed(0)
    ours = PointwiseConvolution(*channels, stride, bias=has_bias).double()
    theirs = nn.Conv2d(*channels, 1, stride, bias=has_bias).double()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(3, channels[0], *sides, dtype=torch.float64).to(memory_format=torch.channels_last)
    leaves = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    results = [layer(leaf) for layer, leaf in zip((ours, theirs), leaves, strict=True)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    assert leaves[0].grad.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def stepped(trainee, *, batch=4, shape=(3, 8, 8), steps=1, precision="fp32"):
    """Return how many weight gradients reached the kernel that overruns, and the guard's finding."""
    lay_out(trainee)
    trainee.prepare()
    stepper = Stepper(trainee, Training(batch_size=batch, precision=precision), learning_rate=0.1)
    images = torch.randn(batch, *shape).contiguous(memory_format=torch.channels_last)
    with Kernels() as kernels:
        for _ in range(steps):
            stepper.step(images, torch.arange(batch) % 2)
    return kernels.overrunning, trainee.needs_guard


class Stranger(Trainee):
    """A network of somebody else's, whose layers are what a test makes them."""

    def __init__(self, layer, *, function=None):
        super().__init__()
        self.layer, self.function = layer, function
        self.head = nn.LazyLinear(2)

    def loss(self, images_BCHW, labels_B):
        maps = self.layer(images_BCHW) if self.function is None else self.function(images_BCHW, self.layer.weight)
        return F.cross_entropy(self.head(maps.flatten(1)), labels_B), {}


STRANGERS = {
    "a layer": (nn.Conv2d(3, 4, 1, 2), None),
    "a function": (nn.Conv2d(3, 4, 1), lambda images, weight: F.conv2d(images, weight, stride=2)),
    "an operator": (nn.Conv2d(3, 4, 1), lambda images, weight: torch.ops.aten.convolution.default(
        images, weight, None, [2], [0], [1], False, [0], 1)),
    "a linear layer's weight": (nn.Linear(3, 4), lambda images, weight: F.conv2d(
        images, weight[..., None, None], stride=(1, 2))),
    "a sequence": (nn.Conv1d(3, 4, 1), lambda images, weight: F.conv1d(images.flatten(2), weight, stride=2)),
    "a transposed convolution": (nn.ConvTranspose2d(3, 4, 1, 2, output_padding=1), None),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_no_step_of_anybodys_network_reaches_the_kernel_that_overruns(name):
    layer, function = STRANGERS[name]
    trainee = Stranger(layer, function=function)
    with torch.no_grad():
        trainee.loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))
    assert stepped(trainee, steps=3) == (0, True)


@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}])
@pytest.mark.parametrize("width", [0.0156, 0.0625, 0.125])
def test_no_step_of_a_thin_resnet_does_and_it_needs_no_guard(width, options):
    assert stepped(FullModel(blueprint("resnet18", (3, 8, 8), width)), **options) == (0, False)


@contextmanager
def guards_counted(monkeypatch):
    made = []
    monkeypatch.setattr(kernel_guard, "KernelGuard", lambda: made.append(KernelGuard()) or made[-1])
    yield made


def test_a_layer_that_was_not_come_to_keeps_the_guard_until_it_is(monkeypatch):
    trainee = Stranger(nn.Conv2d(3, 4, 3), function=None)
    trainee.spare = nn.Conv2d(3, 4, 1, 2).requires_grad_(False)
    with torch.no_grad():
        trainee.loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))
    stepped(trainee)
    assert trainee.needs_guard is False
    assert pointwise.holds_overrunning(trainee)
    with guards_counted(monkeypatch) as guards:
        stepped(trainee)
        assert len(guards) == 1
        del trainee.spare
        stepped(trainee)
        assert len(guards) == 1


@pytest.mark.slow
def test_devices_are_charged_for_the_strided_convolution(monkeypatch):
    given = {"input_shape": (3, 16, 16), "batch_size": 4, "training": Training(batch_size=4)}
    small = blueprint("resnet18", (3, 16, 16), 0.0625)
    ours = profile("full", lambda: FullModel(small), **given)
    assert any(isinstance(layer, PointwiseConvolution) for layer in BasicBlock(4, 8, 2).modules())
    monkeypatch.setattr(PointwiseConvolution, "forward", nn.Conv2d.forward)
    plain = profile("full", lambda: FullModel(small), **given)
    assert ours.memory == plain.memory
    assert (ours.operator_flops == plain.operator_flops).all()
    assert (ours.operator_bytes == plain.operator_bytes).all()
