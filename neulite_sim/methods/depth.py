"""The model of one DepthFL depth: blocks 1 to d, a classifier on each of them, and mutual distillation between these.

Kim, Yu, Lee and Moon, "DepthFL: Depthwise Federated Learning for Heterogeneous Clients", ICLR 2023; layer shapes and
loss follow the first author's reproduction in Flower's baselines. Loss of a depth d, with logits z_1 to z_d:

    sum_i CE(z_i, y) + w(r) / (d - 1) sum_i sum_{j != i} KL(softmax(z_j) + 1e-7 || softmax(z_i)),

the teacher z_j detached. With FedDyn (Acar et al., ICLR 2021) comes - <theta, g_n> + (alpha / 2) |theta - theta_t|^2.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.depth_plan import DISTILLATION_WEIGHT, DRIFT, Classifier, DepthPlan
from neulite_sim.methods.proximal import SentCopy, buffer_name
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.initialisation import initialise
from neulite_sim.models.normalisation import normalised_in_groups
from neulite_sim.models.output import pooled_head, require_places, simplest_head
from neulite_sim.models.trainee import Trainee
from neulite_sim.samples import InputSpec

_FLOOR = 1e-7


class DepthModel(Trainee):
    """Blocks 1 to d with their classifiers, ready to train; as a module it returns the mean of the logits."""

    distillation_weight: Tensor

    def __init__(self, blueprint: Blueprint, plan: DepthPlan) -> None:
        super().__init__()
        model = blueprint.build()
        self.blocks = model.blocks[: plan.depth]
        numbers = range(1, plan.depth + 1) if plan.is_extended else (plan.depth,)
        self.classifiers = nn.ModuleDict(
            {
                str(number): auxiliary_classifier(model, number, plan.classifier, blueprint.spec)
                for number in numbers
                if number < model.num_blocks
            }
        )
        if plan.depth == model.num_blocks:
            self.head = model.head
        self._paths = {number: "head" if number == model.num_blocks else f"classifiers.{number}" for number in numbers}
        self._alpha = plan.feddyn_alpha
        self._distills = plan.distills and len(self._paths) > 1
        if self._distills:
            self.register_buffer(DISTILLATION_WEIGHT, torch.zeros(()))
        if self._alpha:
            self.anchor = SentCopy()
            self.drift = _Drift(self)

    def prepare(self, *, has_batch_statistics: bool = True) -> None:
        """Set the layers to training mode and, with FedDyn, take the present weights as theta_t."""
        super().prepare(has_batch_statistics=has_batch_statistics)
        if self._alpha:
            self.anchor.hold(self)

    def travelling(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what a device downloads. FedDyn's g_n is not in it: a real device keeps its own."""
        return ((name, tensor) for name, tensor in super().travelling() if not name.startswith(f"{DRIFT}."))

    def all_logits(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return the logits `[B, classes]` of each classifier, the shallowest first."""
        features, logits = images_BCHW, []
        for number, block in enumerate(self.blocks, start=1):
            features = self.through(block, features)
            if number in self._paths:
                logits.append(self.get_submodule(self._paths[number])(features))
        return logits

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return the logits of the ensemble `[B, classes]`: the mean over the classifiers."""
        return torch.stack(self.all_logits(images_BCHW)).mean(dim=0)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss above.

        Reported: `cross_entropy` (summed over the classifiers), `distillation` without its weight, and `squared_loss`
        of the deepest classifier.
        """
        # Before the forward pass, so that these gradients come last and never meet the activations.
        regulariser = self._dynamic_regulariser() if self._alpha else None
        logits = self.all_logits(images_BCHW)
        cross_entropy = torch.stack([self.cross_entropy(logits_BK, labels_B) for logits_BK in logits]).sum()
        loss = cross_entropy
        scalars = {"cross_entropy": cross_entropy.detach(), **self.squared_loss(logits[-1], labels_B)}
        if self._distills:
            distillation = mutual_distillation(logits)
            loss = loss + self.distillation_weight * distillation
            scalars["distillation"] = distillation.detach()
        return loss if regulariser is None else loss + regulariser, scalars

    def _dynamic_regulariser(self) -> Tensor:
        drift = dict(self.drift.named_buffers())
        inner = [(parameter * drift[buffer_name(name)]).sum() for name, parameter in self.named_parameters()]
        return self._alpha * self.anchor.half_squared_distance(self) - torch.stack(inner).sum()


class _Drift(nn.Module):
    """g_n, a tensor per parameter of a module; zero until a payload fills it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, parameter in module.named_parameters():
            self.register_buffer(buffer_name(name), torch.zeros_like(parameter, requires_grad=False))


def mutual_distillation(logits: list[Tensor]) -> Tensor:
    """Return 1 / (d - 1) sum_i sum_{j != i} KL(softmax(z_j) + 1e-7 || softmax(z_i)) over two or more classifiers."""
    teachers = [F.softmax(logits_BK.detach(), dim=1) + _FLOOR for logits_BK in logits]
    students = [F.log_softmax(logits_BK, dim=1) for logits_BK in logits]
    num_targets = logits[0].numel() // logits[0].shape[1]
    terms = [F.kl_div(students[i], teachers[j], reduction="sum") / num_targets
             for i, j in itertools.permutations(range(len(logits)), 2)]  # fmt: skip
    return torch.stack(terms).sum() / (len(logits) - 1)


def auxiliary_classifier(model: BlockModel, number: int, kind: Classifier, spec: InputSpec) -> nn.Module:
    """Return the classifier on block `number` (1 to T - 1), freshly initialised.

    `attention`: a gate on the block's map, then one separable layer per later block that halves the sides and widens
    to that block's channels, then mean and linear layer. `linear`: mean and linear layer alone.

    Raises:
        ScenarioError: `attention` is asked for on maps that are not those of images, or a map is empty.
    """
    shapes = model.block_shapes[number - 1 :]
    require_places(shapes[:1])
    if kind == "linear":
        return simplest_head(shapes[0], spec)
    strange = next((shape for shape in shapes if len(shape) != 3), None)
    if strange is not None:
        made_of = f"the samples of data are {spec}" if len(spec.shape) != 3 else f"a block puts out {strange}"
        message = f"attention looks at maps of images, and {made_of}; use linear"
        raise ScenarioError([Problem(key="method.classifier", message=message)])
    channels = [shape[0] for shape in shapes]
    layers: OrderedDict[str, nn.Module] = OrderedDict(gate=AttentionGate(channels[0]))
    for index, (channels_in, channels_out) in enumerate(itertools.pairwise(channels)):
        layers[f"layer{index}"] = _separable(channels_in, channels_out)
    layers["head"] = pooled_head(channels[-1], spec.num_classes)
    classifier = nn.Sequential(layers)
    if model.norm == "group":
        normalised_in_groups(classifier)
    initialise(classifier)
    return classifier


class AttentionGate(nn.Module):
    """Multiplies a map by weights in (0, 1), computed at half its resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = _separable(channels, channels)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        squeezed = self.relu(self.bn(self.squeeze(features_BCHW)))
        gate_BCHW = F.interpolate(squeezed, size=features_BCHW.shape[-2:], mode="bilinear", align_corners=False)
        return features_BCHW * gate_BCHW.sigmoid_()


def _separable(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return two depthwise-separable 3x3 convolutions, the first of stride 2, each with BatchNorm and ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (channels, stride) in enumerate(((channels_in, 2), (channels_out, 1)), start=1):
        layers[f"depthwise{index}"] = nn.Conv2d(
            channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False
        )
        layers[f"pointwise{index}"] = nn.Conv2d(channels_in, channels, 1, bias=False)
        layers[f"bn{index}"] = nn.BatchNorm2d(channels)
        layers[f"relu{index}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)
