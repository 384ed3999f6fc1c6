"""Low-rank adapters beside frozen weights: W + s B A, of which A and B are trained.

E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, https://arxiv.org/abs/2106.09685: A
(r x in) starts as a linear layer does (Kaiming), B (out x r) at zero, s = alpha / r. A convolution is adapted as the
matrix that it is: A is a convolution of the same kernel to r channels, B one of 1x1. Names are those of the layer:
`blocks.0.fc.weight` is adapted by `blocks.0.fc.lora_A` and `blocks.0.fc.lora_B`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.layer_uses import called_alone
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.standing_in import StandIn, is_plain
from neulite_sim.models.trainee import Trainee
from neulite_sim.seeding import integer_seed

Adapted = Literal["auto", "linear", "convolutions"]
A, B = ".lora_A", ".lora_B"
"""How the names of the two factors end."""


class AdaptedLinear(StandIn):
    """A linear layer whose weight is frozen, and its adapter."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(layer)
        self.weight, self.bias, self._adapter_scale = layer.weight, layer.bias, scale
        channels_out, channels_in = layer.weight.shape
        self.lora_A = nn.Parameter(torch.zeros(rank, channels_in))
        self.lora_B = nn.Parameter(torch.zeros(channels_out, rank))

    def forward(self, input: Tensor) -> Tensor:
        """Return what the layer makes of its input, which has the name that it had, and what the adapter adds."""
        added = F.linear(F.linear(input, self.lora_A), self.lora_B)
        return torch.add(F.linear(input, self.weight, self.bias), added, alpha=self._adapter_scale)


class AdaptedProjection(StandIn):
    """GPT-2's linear layer in the package transformers, whose weight is W (in x out) and which puts out x W + b.

    As with any other layer W + s B A is what it comes to; here B is the factor that reads the input.
    """

    is_transposed = True

    def __init__(self, layer: nn.Module, rank: int, scale: float) -> None:
        super().__init__(layer)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, nn.Parameter), "a Conv1D has a weight and a bias"
        assert isinstance(bias, nn.Parameter), "a Conv1D has a weight and a bias"
        self.weight, self.bias, self._adapter_scale = weight, bias, scale
        channels_in, channels_out = weight.shape
        self.lora_A = nn.Parameter(torch.zeros(rank, channels_out))
        self.lora_B = nn.Parameter(torch.zeros(channels_in, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer makes of its input, which has the name that it had, and what the adapter adds."""
        added = x @ self.lora_B @ self.lora_A
        return torch.add(x @ self.weight + self.bias, added, alpha=self._adapter_scale)


class AdaptedConvolution(StandIn):
    """A convolution whose weight is frozen, and its adapter."""

    def __init__(self, layer: nn.Conv2d, rank: int, scale: float) -> None:
        super().__init__(layer)
        self.weight, self.bias, self._adapter_scale = layer.weight, layer.bias, scale
        channels_out, *kernel = layer.weight.shape
        self.lora_A = nn.Parameter(torch.zeros(rank, *kernel))
        self.lora_B = nn.Parameter(torch.zeros(channels_out, rank, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Return what the layer makes of maps `[B, C, H, W]`, whose name is what it was, and what the adapter adds."""
        added = F.conv2d(self._convolved(input, self.lora_A, None), self.lora_B)
        return torch.add(self._convolved(input, self.weight, self.bias), added, alpha=self._adapter_scale)

    def _convolved(self, maps_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(maps_BCHW, weight, bias, self.stride, self.padding, self.dilation)


def is_linear(layer: nn.Module) -> bool:
    """Return whether a layer is a linear one that does nothing else."""
    return isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward


def is_projection(layer: nn.Module) -> bool:
    """Return whether a layer is GPT-2's linear layer of the package transformers."""
    return type(layer).__name__ == "Conv1D" and type(layer).__module__.partition(".")[0] == "transformers"


def is_convolution(layer: nn.Module) -> bool:
    """Return whether a layer is a plain convolution: every output reads all channels, beyond the edge are zeros."""
    return type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"


def adapted_layers(
    model: BlockModel, adapted: Adapted = "auto", called: Collection[str] | None = None
) -> dict[str, nn.Module]:
    """Return the layers of a model's blocks that get an adapter, by name.

    `auto`: the linear layers where blocks have any, as those of transformers, else the plain convolutions. The head is
    trained as it is. Left out are layers that are not among those `called`, where it is given, and those whose weight
    something else reads, too: it would not know of the adapter.
    """
    found = dict(model.blocks.named_modules(prefix="blocks"))
    for name, attention in list(found.items()):
        if isinstance(attention, nn.MultiheadAttention):
            # It takes the weights of its last layer and applies them itself.
            found = {path: layer for path, layer in found.items() if not path.startswith(f"{name}.")}
    holders = [id(weight) for part in model.modules() for weight in part.parameters(recurse=False)]
    found = {name: layer for name, layer in found.items() if (called is None or name in called) and is_plain(layer)}
    linear = {name: layer for name, layer in found.items() if is_linear(layer) or is_projection(layer)}
    convolutions = {name: layer for name, layer in found.items() if is_convolution(layer)}
    linear, convolutions = (
        {name: layer for name, layer in layers.items() if holders.count(id(layer.weight)) == 1}
        for layers in (linear, convolutions)
    )
    return {"auto": linear or convolutions, "linear": linear, "convolutions": convolutions}[adapted]


def adapted_shapes(blueprint: Blueprint, adapted: Adapted) -> dict[str, tuple[int, ...]]:
    """Return the shape of the weight of each layer that gets an adapter, by the layer's name."""
    try:
        found = _known_shapes(blueprint, adapted)
    except TypeError:
        # An architecture of others need not be hashable.
        found = _known_shapes.__wrapped__(blueprint, adapted)
    return dict(found)


def unadaptable(blueprint: Blueprint, adapted: Adapted) -> ScenarioError:
    """Return the refusal of a model none of whose layers gets an adapter."""
    what = {"auto": "linear layer or plain convolution", "linear": "linear layer", "convolutions": "plain convolution"}
    finding = f"the blocks of {blueprint.name or 'the model'} have no {what[adapted]} to adapt"
    if adapted_layers(blueprint.look(), adapted):
        finding += ": they are never called, or their weights are read elsewhere as well"
    hint = "choose a transformer (gpt, vit) or a convolutional network, or method head-only"
    return ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])


@functools.lru_cache(maxsize=8)
def _known_shapes(blueprint: Blueprint, adapted: Adapted) -> tuple[tuple[str, tuple[int, ...]], ...]:
    layers = adapted_layers(blueprint.look(), adapted, called_alone(blueprint))
    return tuple((name, tuple(layer.weight.shape)) for name, layer in layers.items())  # type: ignore[arg-type]


def adapt(model: BlockModel, names: Collection[str], rank: int, scale: float) -> int:
    """Freeze a model, head and all, put adapters of a rank beside the named layers that it has, and return how many."""
    model.requires_grad_(False)
    held = dict(model.named_modules())
    found = [name for name in names if name in held]
    for name in found:
        path, _, own = name.rpartition(".")
        setattr(model.get_submodule(path), own, _adapted(held[name], rank, scale))
    return len(found)


def _adapted(layer: nn.Module, rank: int, scale: float) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        return AdaptedConvolution(layer, rank, scale)
    if isinstance(layer, nn.Linear):
        return AdaptedLinear(layer, rank, scale)
    return AdaptedProjection(layer, rank, scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """How a model is adapted, and what of it travels; rank 0 leaves the head alone to be trained.

    `down` and `up` are the endings of the names of factors that a device receives and sends; `trained` of those that it
    trains. With `sends_base` the frozen weights are received as well.
    """

    adapted: Adapted
    rank: int
    scale: float
    trains_head: bool
    trained: tuple[str, ...] = (A, B)
    down: tuple[str, ...] = (A, B)
    up: tuple[str, ...] = (A, B)
    sends_base: bool = False


class AdaptedModel(Trainee):
    """A frozen model, its adapters, and its head, which is trained whole where the plan says so.

    `prepare` changes the model before it is adapted.

    Raises:
        ScenarioError: the plan has a rank, and no layer gets an adapter.
    """

    def __init__(
        self, blueprint: Blueprint, plan: AdapterPlan, *, prepare: Callable[[BlockModel], None] | None = None
    ) -> None:
        super().__init__()
        model = blueprint.build()
        if prepare is not None:
            prepare(model)
        model.requires_grad_(False)
        if plan.rank and not adapt(model, adapted_shapes(blueprint, plan.adapted), plan.rank, plan.scale):
            raise unadaptable(blueprint, plan.adapted)
        self.plan = plan
        self.blocks = model.blocks
        self.head = model.head
        self.head.requires_grad_(plan.trains_head)
        for name, parameter in self.named_parameters():
            if name.endswith((A, B)):
                parameter.requires_grad_(name.endswith(plan.trained))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        return self.along(self.blocks, inputs, head=self.head)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(images_BCHW)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)

    def download_names(self) -> tuple[str, ...]:
        """Return the factors that travel and what of the head is trained; the frozen weights where they are sent."""
        sent = set(self.upload_names())
        return tuple(
            name
            for name, _ in self.travelling()
            if (name.endswith(self.plan.down) if name.endswith((A, B)) else name in sent or self.plan.sends_base)
        )

    def sent_names(self) -> tuple[str, ...]:
        """Return what is trained, but for factors that the device keeps."""
        return tuple(name for name in self.upload_names() if not name.endswith((A, B)) or name.endswith(self.plan.up))


def first_factors(
    layers: Mapping[str, tuple[int, ...]], rank: int, seed: int, version: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield A and B of each layer, by the shapes of their weights; A depends on seed, version and layer alone.

    The rows of a smaller rank's A are the first ones of a larger rank's.
    """
    for number, (name, (channels_out, *inner)) in enumerate(layers.items()):
        factor = torch.empty(rank, *inner)
        if not factor.is_meta:
            bound = 1 / math.sqrt(math.prod(inner))
            factor.uniform_(-bound, bound, generator=_generator(seed, version, number))
        yield name + A, factor
        yield name + B, torch.zeros(channels_out, rank, *(1 for _ in inner[1:]))


def _generator(seed: int, version: int, number: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(integer_seed(seed, "lora-A", version, number))


def product(factor_B: Tensor, factor_A: Tensor) -> Tensor:
    """Return B A in double precision, of the shape of the weight that it adapts."""
    made = factor_B.double().flatten(1) @ factor_A.double().flatten(1)
    return made.view(factor_B.shape[0], *factor_A.shape[1:])


def with_adapters(tensors: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the tensors of the plain model whose weights are W + s B A; `tensors` hold W, A and B."""
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith((A, B))}
    for name, factor in tensors.items():
        if name.endswith(A):
            layer = name.removesuffix(A)
            weight = plain[f"{layer}.weight"]
            added = scale * product(tensors[layer + B], factor)
            plain[f"{layer}.weight"] = (weight.double() + added).to(weight.dtype)
    return plain
