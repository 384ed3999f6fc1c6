"""The networks of the public measurements as torchvision and timm build them, and the profiles of their steps."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from neulite_sim.models.trainee import Trainee, lay_out
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.profiling.tracer import StepTracer
from neulite_sim.scenario.schema import Training
from neulite_sim.torchvision_compat import torchvision_module

SHAPE = (3, 224, 224)
IMAGENET, IMAGENET_22K = 1000, 21841
HAS_TIMM = importlib.util.find_spec("timm") is not None
_OF_TIMM = {
    **{f"efficientvit_b{size}": f"efficientvit_b{size}" for size in range(4)},
    **{f"mobilevitv2_{width}": f"mobilevitv2_{width}" for width in ("050", "100", "200")},
    **{f"ghostnetv2_{width}": f"ghostnetv2_{width}" for width in ("100", "130", "160")},
    **{f"edgenext_{size}": f"edgenext_{size}" for size in ("x_small", "small", "base")},
    **{name: name for name in ("fastvit_t8", "fastvit_t12", "efficientformer_l1", "efficientformer_l3")},
    **{name: name for name in ("inception_next_tiny", "inception_next_small")},
    "maxvit_tiny": "maxvit_tiny_tf_224",
}
"""What timm calls a network of the measurements whose stated parameters it has."""


@dataclass(frozen=True)
class Network:
    """A network of the measurements, how it is built, and what networks are left out together with it."""

    build: Callable[..., nn.Module]
    settings: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""


def networks() -> dict[str, Network]:
    """Return the networks that torchvision has, and timm where it is installed, by the name of the measurements."""
    found = _of_torchvision()
    if HAS_TIMM:
        for name, its_name in _OF_TIMM.items():
            found[name] = Network(_made_by_timm, {"name": its_name})
    return {name: replace(network, family=network.family or name) for name, network in found.items()}


def _of_torchvision() -> dict[str, Network]:
    models = torchvision_module("models")

    def transformer(num_heads: int) -> dict[str, int]:
        dim = 64 * num_heads
        shape = {"image_size": 224, "patch_size": 16, "num_layers": 12}
        return {**shape, "num_heads": num_heads, "hidden_dim": dim, "mlp_dim": 4 * dim}

    found = {name: Network(getattr(models, name)) for name in ("resnet18", "resnet34", "resnet50")}
    for width in (50, 100):
        found[f"mobilenetv2_{width:03}"] = Network(models.mobilenet_v2, {"width_mult": width / 100})
    for size in ("small", "large"):
        for width in (75, 100):
            build = getattr(models, f"mobilenet_v3_{size}")
            found[f"mobilenetv3_{size}_{width:03}"] = Network(build, {"width_mult": width / 100})
    for size, num_heads in (("tiny", 3), ("small", 6), ("base", 12)):
        for name in ("vit", "deit"):  # The same network, trained in another way.
            found[f"{name}_{size}"] = Network(models.VisionTransformer, transformer(num_heads), f"vit_{size}")
    for number in range(4):
        found[f"efficientnet_b{number}"] = Network(getattr(models, f"efficientnet_b{number}"))
    for name, built, classes in (
        ("convnext_tiny", models.convnext_tiny, IMAGENET_22K),
        ("convnext_small", models.convnext_small, IMAGENET_22K),
        ("convnext_base", models.convnext_base, IMAGENET),
        ("swin_tiny", models.swin_t, IMAGENET_22K),
        ("swin_small", models.swin_s, IMAGENET),
        ("mnasnet_050", models.mnasnet0_5, IMAGENET),
        ("mnasnet_075", models.mnasnet0_75, IMAGENET),
        ("mnasnet_100", models.mnasnet1_0, IMAGENET),
    ):  # The stated numbers of parameters tell with how many classes a network came.
        found[name] = Network(built, {"num_classes": classes})
    return found


def _made_by_timm(name: str) -> nn.Module:
    """Return timm's network; some read what they compute while they are built, so that is done on real tensors."""
    with unset_fake_temporarily():
        network: nn.Module = importlib.import_module("timm").create_model(name, pretrained=False)
    for module in network.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[key] = nn.Parameter(torch.empty(parameter.shape))
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = torch.zeros(buffer.shape, dtype=buffer.dtype)
    return network


class Classifier(Trainee):
    """A network, all of it trained or only its last linear layer."""

    def __init__(self, network: Network, *, head_only: bool) -> None:
        super().__init__()
        with _without_reading():
            self.network = network.build(**network.settings)
        if head_only:
            self.requires_grad_(False)
            [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)][-1].requires_grad_(True)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        return F.cross_entropy(self.network(images_BCHW), labels_B), {}


def _without_reading() -> Any:
    """Leave out the one initialisation that reads what it drew, which a fake tensor cannot; no cost depends on it."""
    return patch.object(nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor)


def step_of(network: Network, training: Training, *, head_only: bool = False) -> Profile:
    """Return the profile of one training step on images of 224 pixels."""
    return profile(
        "", lambda: Classifier(network, head_only=head_only), input_shape=SHAPE, batch_size=training.batch_size,
        training=training,
    )  # fmt: skip


def forward_of(name: str, batch_size: int) -> StepTracer:
    """Return the operators of a forward pass of torchvision's network `name` in evaluation mode."""
    tracer = StepTracer()
    with FakeTensorMode(), torch.no_grad(), _without_reading():
        network = torchvision_module("models").get_model(name, weights=None).eval()
        lay_out(network)
        images = torch.empty(batch_size, *SHAPE)
        with tracer:
            network(images)
    return tracer
