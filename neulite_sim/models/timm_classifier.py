"""Any classifier of timm, `timm:NAME`, cut into blocks as a network of a user's own is (`given`, `cutting`).

The network comes as timm builds it, with its own initial weights; nothing is downloaded. It is told the classes, the
channels and, where it asks for it, the sides of the images. timm imports torchvision, beside a CPU-only PyTorch through
the same stand-in for its missing operators (`torchvision_compat`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neulite_sim.bounds import LayerCount
from neulite_sim.errors import Problem, ScenarioError, UnknownComponentError, close_matches
from neulite_sim.registry import Component, Options
from neulite_sim.samples import Shape
from neulite_sim.torchvision_compat import torchvision_module

if TYPE_CHECKING:
    from neulite_sim.models.given import GivenArchitecture

INSTALL = "pip install 'neulite-sim[timm]'"
SIDES = 2


class TimmOptions(Options):
    """Options of `timm:NAME`."""

    blocks: LayerCount | None = None
    """Into how many blocks the network is cut, so that the largest stage takes least memory; four if not given."""


def timm_network(name: str, input_shape: Shape, num_classes: int) -> Any:
    """Return timm's classifier for images of a shape.

    Raises:
        ScenarioError: samples are no images, or the network takes none of this shape.
    """
    channels, *sides = input_shape
    if len(sides) != SIDES:
        finding = f"timm:{name} reads images only, and samples are of shape {tuple(input_shape)}"
        raise ScenarioError([Problem.advising(key="model", found=finding, hint="choose a model for them")])
    create = functools.partial(
        _timm().create_model, name, pretrained=False, num_classes=num_classes, in_chans=channels
    )  # fmt: skip
    try:
        try:
            return create(img_size=tuple(sides))
        except TypeError as failure:
            if "img_size" not in str(failure):
                raise
            return create()
    except (RuntimeError, ValueError, AssertionError) as failure:
        shape = "x".join(map(str, input_shape))
        finding = f"timm:{name} cannot take images of {shape}: {str(failure).splitlines()[0]}"
        hint = "use other images (data.image_size, data.shape or workload.input_shape) or another model"
        raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)]) from failure


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds the network of a name; two of one name are equal, as two of `functools.partial` are not."""

    name: str

    def __call__(self, input_shape: Shape, num_classes: int) -> Any:
        return timm_network(self.name, input_shape, num_classes)


def _timm() -> ModuleType:
    if importlib.util.find_spec("timm") is None:
        raise UnknownComponentError("timm:NAME needs the package timm", hint=INSTALL)
    torchvision_module("models")
    return importlib.import_module("timm")


def _build(options: Options, name: str) -> GivenArchitecture:
    from neulite_sim.models.given import given_architecture

    known = _timm().list_models()
    if name not in known:
        # With the name of its weights behind a dot timm would look for them; none are loaded here.
        plain = name.partition(".")[0]
        if plain in known:
            raise UnknownComponentError(f"timm:{name} names weights, and none are loaded", hint=f"use timm:{plain}")
        raise UnknownComponentError(
            f"timm:{name} is none of the {len(known):,} classifiers of timm{close_matches(name, known)}"
        )
    return given_architecture(_Builder(name), blocks=getattr(options, "blocks", None), name=f"timm:{name}")


COMPONENT = Component(
    kind="timm",
    summary="any classifier of timm by its name, cut into blocks: four, or as many as wished (extra timm)",
    source="R. Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models",
    options=TimmOptions,
    build=_build,
    takes_argument=True,
)
