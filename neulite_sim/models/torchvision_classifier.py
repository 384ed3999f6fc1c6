"""Any classifier of torchvision, `torchvision:NAME`, as one block: for methods that train the full model.

The network comes as torchvision builds it, with its own initial weights and no pretrained ones; auxiliary classifiers
of the inception family are left out. It has no width: a scenario's width leaves it as it is. Many of these networks
are made for 224 pixels; `resnet18` here, for one, shrinks a 32x32 image to 1x1 and needs a tenth of the memory of this
project's `resnet18`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from neulite_sim.errors import Problem, ScenarioError, UnknownComponentError, close_matches
from neulite_sim.later import nn, torch
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape
from neulite_sim.torchvision_compat import torchvision_module

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture

RGB = 3
WITH_AUXILIARY = ("googlenet", "inception_v3")


class TorchvisionOptions(Options):
    """Options of `torchvision:NAME`: none."""


def classifier(input_shape: ImageShape, num_classes: int, _width: float, *, name: str) -> BlockModel:
    """Return torchvision's classifier `name` as one block that puts out the logits as a map `(classes, 1, 1)`.

    Raises:
        ScenarioError: it cannot take images of this shape.
    """
    from neulite_sim.models.contract import BlockModel

    network = _network(name, input_shape, num_classes)
    unmapped = nn.Unflatten(1, (num_classes, 1, 1))
    return BlockModel(
        [nn.Sequential(network, unmapped)],
        nn.Flatten(),
        tails=(("0",),),
        block_shapes=((num_classes, 1, 1),),
    )


def _network(name: str, input_shape: ImageShape, num_classes: int) -> nn.Module:
    channels, height, side = input_shape
    if channels != RGB:
        raise _refused(name, input_shape, f"it reads {RGB} channels", "images in colour")
    settings: dict[str, object] = {"weights": None, "num_classes": num_classes}
    if name in WITH_AUXILIARY:
        settings.update(aux_logits=False, init_weights=True)
    if name.startswith("vit_"):
        settings["image_size"] = height
    if name.startswith("maxvit"):
        settings["input_size"] = (height, side)
    models = torchvision_module("models")
    try:
        _try_on_nothing(name, input_shape, tuple(settings.items()))
        network: nn.Module = models.get_model(name, **settings)
    except (RuntimeError, ValueError, AssertionError) as failure:
        raise _refused(name, input_shape, str(failure), "larger images") from failure
    return network


@functools.cache
def _try_on_nothing(name: str, input_shape: ImageShape, settings: tuple[tuple[str, object], ...]) -> None:
    """Build and run the network without memory, which fails where the images do not fit it; also amid a fake step."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily(), torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        torchvision_module("models").get_model(name, **dict(settings)).eval()(torch.empty(1, *input_shape))


def _refused(name: str, input_shape: ImageShape, reason: str, wish: str) -> ScenarioError:
    shape = "x".join(map(str, input_shape))
    finding = f"torchvision:{name} cannot take images of {shape}: {reason}"
    hint = f"use {wish} (data.image_size, data.shape or workload.input_shape) or another model"
    return ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])


def _build(_options: TorchvisionOptions, name: str) -> ImageArchitecture:
    models = torchvision_module("models")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownComponentError(
            f"torchvision:{name} is not a classifier of torchvision{close_matches(name, known)} "
            f"(choices: {', '.join(known)})"
        )
    return functools.partial(classifier, name=name)


COMPONENT = Component(
    kind="torchvision",
    summary="any classifier of torchvision by its name, as one block, for methods that train the full model",
    source="torchvision, https://docs.pytorch.org/vision/stable/models.html#classification",
    options=TorchvisionOptions,
    build=_build,
    takes_argument=True,
)
