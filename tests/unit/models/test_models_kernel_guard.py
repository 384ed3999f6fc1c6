"""Backward passes on a processor: no kernel crashes, whatever the layout of maps and whichever gradients are wanted."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from thin_models import blueprint
from torch import nn
from torch.nn import functional as F

from neulite_sim.methods.variables import PartialModel
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.kernel_guard import KernelGuard, may_have_channels_last
from neulite_sim.models.shortcuts import take_shortcuts
from neulite_sim.models.step import Stepper
from neulite_sim.models.trainee import Trainee, in_layout, lay_out
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

GROUP_NORM_BACKWARD = torch.ops.aten.native_group_norm_backward.default


class Scaled(nn.Module):
    """A function of a weight and its maps, such as a network calls without a layer for it."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.full((1,), 1.5))

    def forward(self, maps):
        return self.function(maps, self.weight)


def resized(mode):
    return lambda maps, weight: F.interpolate(maps, size=(5, 7), mode=mode) * weight


def sampled(mode):
    def function(maps, weight):
        turned = torch.eye(2, 3, dtype=maps.dtype).expand(len(maps), 2, 3) * weight
        return F.grid_sample(maps, F.affine_grid(turned, list(maps.shape), align_corners=False), mode=mode)

    return Scaled(function)


MAPS, LINES, SPACES, IDS = (3, 4, 6, 6), (3, 4, 6), (3, 4, 3, 3, 3), (3, 5)
LAYERS = {
    **{f"group norm {groups}": (lambda groups=groups: nn.GroupNorm(groups, 4), MAPS) for groups in (1, 2, 4)},
    **{f"group norm of {shape}": (lambda: nn.GroupNorm(2, 4), shape) for shape in (
        LINES, SPACES, (3, 4), (3, 4, 1, 1), (3, 4, 1, 6), (3, 4, 6, 1), (1, 4, 6, 6))},
    "group norm of one channel": (lambda: nn.GroupNorm(1, 1), (3, 1, 6, 6)),
    "group norm as a function": (lambda: Scaled(lambda maps, weight: F.group_norm(maps, 2, weight.expand(4))), MAPS),
    "group norm without weights": (lambda: Scaled(lambda maps, weight: F.group_norm(maps * weight, 2)), MAPS),
    "batch norm": (lambda: nn.BatchNorm2d(4), MAPS),
    "batch norm of its statistics": (lambda: nn.BatchNorm2d(4).eval(), MAPS),
    "batch norm without statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), MAPS),
    "batch norm of lines": (lambda: nn.BatchNorm1d(4), LINES),
    "batch norm of spaces": (lambda: nn.BatchNorm3d(4), SPACES),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), MAPS),
    "instance norm of spaces": (lambda: nn.InstanceNorm3d(4, affine=True), SPACES),
    "layer norm": (lambda: nn.LayerNorm([4, 6, 6]), MAPS),
    "layer norm of rows": (lambda: nn.LayerNorm(6), MAPS),
    "RMS norm": (lambda: nn.RMSNorm(6), MAPS),
    "PReLU": (lambda: nn.PReLU(4), MAPS),
    "PReLU of spaces": (lambda: nn.PReLU(4), SPACES),
    "linear": (lambda: nn.Linear(6, 5), MAPS),
    "convolution": (lambda: nn.Conv2d(4, 5, 3, stride=2, padding=1), MAPS),
    "convolution in groups": (lambda: nn.Conv2d(4, 4, 3, groups=4), MAPS),
    "strided 1x1 convolution": (lambda: nn.Conv2d(4, 5, 1, stride=2), MAPS),
    "convolution of lines": (lambda: nn.Conv1d(4, 5, 3), LINES),
    "convolution of spaces": (lambda: nn.Conv3d(4, 5, 3), SPACES),
    "transposed convolution": (lambda: nn.ConvTranspose2d(4, 5, 3, stride=2), MAPS),
    "transposed convolution of spaces": (lambda: nn.ConvTranspose3d(4, 5, 3), SPACES),
    **{f"bags of {mode}": (lambda mode=mode: nn.EmbeddingBag(9, 4, mode=mode), IDS) for mode in ("sum", "mean", "max")},
    **{f"resized {mode}": (lambda mode=mode: Scaled(resized(mode)), MAPS) for mode in ("nearest", "bilinear", "bicubic")},
    **{f"sampled {mode}": (lambda mode=mode: sampled(mode), MAPS) for mode in ("nearest", "bilinear", "bicubic")},
    "highest of windows": (lambda: Scaled(lambda maps, weight: F.max_pool2d(maps * weight, 3, 2, 1)), MAPS),
    "highest of spaces": (lambda: Scaled(lambda maps, weight: F.max_pool3d(maps * weight, 2)), SPACES),
    "means of windows": (lambda: Scaled(lambda maps, weight: F.avg_pool2d(maps * weight, 3, 2, 1)), MAPS),
    "means of parts": (lambda: Scaled(lambda maps, weight: F.adaptive_avg_pool2d(maps * weight, 4)), MAPS),
    "highest of parts": (lambda: Scaled(lambda maps, weight: F.adaptive_max_pool2d(maps * weight, 4)), MAPS),
    "mirrored edges": (lambda: Scaled(lambda maps, weight: F.pad(maps * weight, (1, 2, 1, 2), mode="reflect")), MAPS),
}  # fmt: skip


def laid_out(tensor):
    """Yield a tensor in each layout that PyTorch's kernels know or that a network's views come to."""
    yield tensor
    if tensor.ndim > 2 and tensor.is_floating_point():
        innermost = tensor.movedim(1, -1).contiguous().movedim(-1, 1)
        # A side of one leaves the strides open; a kernel goes by them.
        strides = [innermost.stride(axis) for axis in range(tensor.ndim)]
        for axis in range(2, tensor.ndim):
            strides[axis] = max(strides[axis], tensor.shape[1])
        yield torch.as_strided(innermost, innermost.shape, strides) if 1 in tensor.shape[2:] else innermost
        yield torch.cat([innermost, innermost], 2)[:, :, : tensor.shape[2]]
        yield tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
        yield tensor.movedim(0, -1).contiguous().movedim(-1, 0)


def gradients(make, seen, wanted, guard):
    """Return the result of a layer and the gradients that are wanted: of its parameters, and last of what it reads."""
    torch.manual_seed(0)
    layer = make().to(seen.dtype if seen.is_floating_point() else torch.float32)
    seen = seen.detach()
    leaves = [leaf.requires_grad_(flag) for leaf, flag in zip((*layer.parameters(), seen), wanted, strict=True)]
    result = layer(seen)
    if not result.requires_grad:
        return []
    grad = torch.linspace(-1, 2, result.numel(), dtype=torch.float64).sin().reshape(result.shape).to(result.dtype)
    with guard():
        result.backward(grad)
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf.requires_grad)]


def look_through():
    torch.set_num_threads(1)
    for name, (make, shape) in LAYERS.items():
        torch.manual_seed(1)
        seen = torch.randint(9, shape) if shape == IDS else torch.randn(shape)
        flags = [(False, True)] * len(list(make().parameters())) + [(False, True)[: 1 + seen.is_floating_point()]]
        for number, tensor in enumerate(laid_out(seen)):
            for wanted in itertools.product(*flags):
                print(name, number, wanted, flush=True)
                found = gradients(make, tensor, wanted, KernelGuard)
                exact = gradients(make, seen.double() if seen.is_floating_point() else seen, wanted, KernelGuard)
                for ours, theirs in zip(found, exact, strict=True):
                    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-3, atol=1e-3)
    print("all is well")


def test_no_layer_crashes_whatever_the_layout_and_whichever_gradients_are_wanted():
    """In a process of its own: a kernel that writes beside its memory ends it."""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, __file__], env=paths, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout.splitlines()[-1:]) == (0, ["all is well"]), told.stderr[-2000:]


class Refusing(torch.utils._python_dispatch.TorchDispatchMode):
    """Refuses what would reach the kernel that crashes."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is GROUP_NORM_BACKWARD:
            assert args[-1][0] or not may_have_channels_last(args[1]), "the process would end here"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_have_the_bits_that_they_have_where_that_of_the_maps_is_wanted(groups, layout):
    torch.manual_seed(0)
    images, weights = torch.randn(5, 8, 7, 7).contiguous(memory_format=layout), torch.randn(2, 8)
    found = []
    for is_wanted in (False, True):
        leaves = [weight.clone().requires_grad_() for weight in weights]
        result = F.group_norm(images.clone().requires_grad_(is_wanted), groups, *leaves)
        with Refusing(), KernelGuard() as guard:
            result.backward(torch.linspace(-1, 1, result.numel()).reshape(result.shape))
        assert guard.num_met == (layout is torch.channels_last and not is_wanted)
        found.append([leaf.grad for leaf in leaves])
    assert all(map(torch.equal, *found))


class Normed(Trainee):
    """Maps, a norm and a head; the first step may leave the norm out."""

    def __init__(self, *, is_layer=False, is_late=False, trains_maps=True):
        super().__init__()
        self.maps, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Linear(144, 2)
        self.maps.requires_grad_(trains_maps)
        self.is_layer, self.num_left_out = is_layer, int(is_late)

    def loss(self, images_BCHW, labels_B):
        maps = self.maps(images_BCHW)
        if self.num_left_out:
            self.num_left_out -= 1
        else:
            maps = self.norm(maps) if self.is_layer else F.group_norm(maps, 2, self.norm.weight, self.norm.bias)
        return F.cross_entropy(self.head(maps.flatten(1)), labels_B), {}


def stepped(trainee, *, steps=3, **options):
    trainee.prepare()
    stepper = Stepper(trainee, Training(batch_size=4, **options), learning_rate=0.1, is_charged=False)
    with Refusing():
        for _ in range(steps):
            stepper.step(in_layout(torch.randn(4, 3, 8, 8)), torch.arange(4) % 2)
    return trainee.needs_guard


def test_a_network_is_looked_at_again_once_it_trains_other_parameters():
    """Of maps that are frozen from now on no gradient is wanted any more."""
    trainee = Normed()
    lay_out(trainee)
    assert stepped(trainee) is False
    trainee.maps.requires_grad_(False)
    assert stepped(trainee) is True
    trainee.maps.requires_grad_(True)
    assert stepped(trainee) is False


def test_any_draw_of_variables_can_be_trained_with_group_norm():
    batch = blueprint("resnet20", (3, 8, 8), 0.25)
    thin = Blueprint(architecture=batch.architecture, input_shape=(3, 8, 8), num_classes=10, width=0.25, name="thin",
                     norm="group")  # fmt: skip
    trainee = PartialModel(thin, 0.25, frozen_batch_norm="eval")
    lay_out(trainee)
    count = len(list(trainee.parameters()))
    for first in (0, 1, 2, 4, 7, count // 2, count - 4):
        trainee.train_only(tuple(place >= first for place in range(count)))
        stepped(trainee, steps=2)


@pytest.mark.parametrize("options", [{}, {"checkpointing": True}, {"precision": "bf16"}, {"micro_batch_size": 2}])
def test_no_step_of_a_worker_needs_a_guard_for_a_layer_even_where_it_is_come_to_late(options):
    trainee = Normed(is_layer=True, is_late=True, trains_maps=False)
    lay_out(trainee)
    take_shortcuts(trainee)
    assert stepped(trainee, **options) is False
    assert trainee.norm.weight.grad is not None


@pytest.mark.parametrize("is_layer", [True, False])
def test_a_real_step_holds_what_is_predicted_without_the_gradient_that_is_dropped(is_layer):
    given = {"batch_size": 4, "training": Training(batch_size=4)}
    predicted = profile("full", lambda: Normed(is_layer=is_layer, trains_maps=False),
                        input_shape=(3, 8, 8), **given).memory  # fmt: skip
    spec = InputSpec(shape=(3, 8, 8), num_classes=2)
    with Refusing():
        assert audit(lambda: Normed(is_layer=is_layer, trains_maps=False), spec=spec, **given) == predicted


if __name__ == "__main__":
    look_through()
