"""What a device trains: a module with its own loss, some parameters frozen, and names that travel.

The names of a trainee's parameters and buffers are those of the global state, so that a payload loads into it and
its update aggregates without any translation.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.prefix import Features, PrefixKeeper
from neulite_sim.models.recurrent import in_plain_operators
from neulite_sim.models.statistics import both_passes
from neulite_sim.models.targets import cross_entropy, puts_classes_last
from neulite_sim.models.walk import layers_of, parameters_of, set_training, state_of
from neulite_sim.scenario.schema import Training


class Trainee(nn.Module):
    """Base of everything that is trained, profiled or audited.

    A subclass marks frozen parameters with `requires_grad_(False)` in its constructor and implements `loss`, in which
    it applies the blocks of its model with `along`, or each by itself with `through`. One that trains part by part has
    `num_parts` and `enter`.
    With `frozen_batch_norm` "eval", BatchNorm layers without a trainable parameter use their running statistics;
    with "train" they go on collecting them. `uploads_everything` sends the whole state back.
    """

    frozen_batch_norm: str = "eval"
    uploads_everything: bool = False
    compares_samples: bool = False
    """Whether `loss` compares samples of a batch with each other, so that its work grows faster than the batch."""
    reports_squared_loss: bool = False
    """Set by workers: selectors learn from it. Profiles leave it out: devices are not charged for it."""
    takes_shortcuts: bool = False
    """Set by workers: `loss` may compute the same in fewer operators than devices are charged for."""
    checkpoints_blocks: bool = False
    """Set by whoever takes steps: whether `through` keeps only a block's input for the backward pass."""
    needs_guard: bool | None = None
    """Set by whoever takes steps: whether a backward pass met an operator that a `KernelGuard` took another way."""
    guard_known_for: tuple[str, ...] = ()
    """The trained parameters that `needs_guard` was found out with: with others, other gradients are wanted."""
    keeper: PrefixKeeper | None = None
    """Set for a flight by whoever trains: what keeps the features of a frozen prefix from epoch to epoch."""
    stored_away: Mapping[str, Tensor] = {}
    """Frozen matrices that are held in fewer bytes (`stored_weights`), by name, without their numbers."""
    num_blocks_applied: int = 0
    """How often `through` was called; a trainee that never does cannot be checkpointed."""
    num_parts: int = 1
    """Parts of a local training: each goes through all epochs before the next begins, under one optimizer for all."""

    def cross_entropy(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Return the mean cross-entropy over all targets of a batch, as `targets.cross_entropy` takes it."""
        return cross_entropy(logits_BK, labels_B, classes_last=self._puts_classes_last)

    @functools.cached_property
    def _puts_classes_last(self) -> bool:
        return puts_classes_last(self)

    def squared_loss(self, logits_BK: Tensor, labels_B: Tensor) -> Mapping[str, Tensor]:
        """Return `squared_loss`, the mean over the batch of each sample's squared cross-entropy, where it is wanted.

        That of a sample with several targets is their mean. For `loss` to put among its scalars: a learning selector
        takes its root. Without gradient.
        """
        if not self.reports_squared_loss:
            return {}
        with torch.no_grad():
            losses = cross_entropy(logits_BK, labels_B, reduction="none", classes_last=self._puts_classes_last)
            losses_B = losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses
            return {"squared_loss": losses_B.square().mean()}

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss to minimise and further scalars to report, averaged over batches by their size.

        Among the scalars belong those of `squared_loss`.
        """
        raise NotImplementedError

    def along(self, blocks: Iterable[nn.Module], inputs: Tensor, *, head: nn.Module | None = None) -> Tensor:
        """Return what blocks, one after the other, and then a head make of the inputs of `loss`.

        Each block is applied with `through`, the head as it is. Where there is a `keeper` it leads the way through
        those that are frozen: it may know what they make of these samples.
        """
        chain = tuple(blocks) if head is None else (*blocks, head)
        features: Any = inputs
        left = chain
        if self.keeper is not None:
            features, left = self.keeper.lead(inputs, chain)
        num_blocks = len(left) - (head is not None)
        for module in left[:num_blocks]:
            features = self.through(module, features)
        for module in left[num_blocks:]:
            features = module(features)
        return features  # type: ignore[no-any-return]

    def through(self, block: nn.Module, features_BCHW: Features) -> Tensor:
        """Return what a block makes of its input, in place of `block(features_BCHW)`.

        With `checkpoints_blocks` the block's activations are dropped and computed again in the backward pass, with the
        same dropout and without a second update of BatchNorm's statistics (T. Chen et al., "Training Deep Nets with
        Sublinear Memory Cost", 2016, https://arxiv.org/abs/1604.06174). A frozen block that needs no gradient of its
        input has none to drop. A block of layers that say so (`checkpoints_alone`), such as those of transformers, is
        checkpointed layer by layer.
        """
        if self.checkpoints_blocks and type(block) is nn.Sequential and any(map(_is_checkpointed_alone, block)):
            for part in block:
                features_BCHW = (
                    self.through(part, features_BCHW) if _is_checkpointed_alone(part) else part(features_BCHW)
                )
            assert isinstance(features_BCHW, Tensor)
            return features_BCHW
        self.num_blocks_applied += 1
        if not self.checkpoints_blocks or self._keeps_nothing(block, features_BCHW) or not torch.is_grad_enabled():
            result: Tensor = block(features_BCHW)
            return result
        return checkpoint(  # type: ignore[no-any-return]
            block, features_BCHW, use_reentrant=False, context_fn=functools.partial(both_passes, block)
        )

    def _keeps_nothing(self, block: nn.Module, features_BCHW: Tensor | tuple[Tensor, ...]) -> bool:
        needs_gradient = isinstance(features_BCHW, Tensor) and features_BCHW.requires_grad
        return not (needs_gradient or any(map(_requires_grad, block.parameters())))

    def enter(self, part: int | None) -> None:
        """Be told which part of the local training comes next, from 0 on; None: none of them, as at first and at last.

        For trainees of several parts: each part leaves trainable only what it trains, None all that any of them does.
        So the optimizer, the bytes sent back and the trainable parameters are those of the whole training.
        """

    def each_part(self, *, has_batch_statistics: bool = True) -> Iterator[int]:
        """Enter and prepare each part in turn, and leave the last when all are through.

        Whoever trains makes the optimizer before, and a new `keeper` for each part: another prefix is frozen in it.
        """
        for part in range(self.num_parts):
            self.enter(part)
            if part and self.needs_guard is False:
                # So far only the operators of the parts before were met.
                self.needs_guard = None
            self.prepare(has_batch_statistics=has_batch_statistics)
            yield part
        self.enter(None)

    def see_labels(self, labels_N: Tensor) -> None:
        """Be told the labels of the device that trains next; for losses that depend on which classes it owns."""
        # Plug-ins of the first version know it by this name.
        if (meet := getattr(self, "meet", None)) is not None:
            meet(labels_N)

    def at_worst(self, training: Training) -> Trainee | None:
        """Return what no state of this trainee outweighs when it steps as `training` says; None where it has but one.

        For trainees that train other parameters in each flight: its peak is predicted and tracked in their place.
        """
        return None

    def prepare(self, *, has_batch_statistics: bool = True) -> None:
        """Set every layer to training mode, frozen BatchNorm as `frozen_batch_norm` says.

        Without batch statistics (batches of one sample have no variance) every BatchNorm uses its running ones.
        """
        set_training(self)
        self.use_batch_statistics(has_batch_statistics)

    def use_batch_statistics(self, is_on: bool) -> None:
        """Let every BatchNorm that is not frozen use the statistics of its batch, or its running ones."""
        for path, layer in layers_of(self):
            if isinstance(layer, _BatchNorm):
                is_frozen = self.frozen_batch_norm == "eval" and not self._learns(path, layer)
                wanted = is_on and not is_frozen
                if layer.training is not wanted:
                    layer.train(wanted)

    def freezes_batch_norm(self) -> bool:
        """Return whether there is a BatchNorm layer that `frozen_batch_norm` acts on, in the present part."""
        layers = layers_of(self)
        return any(isinstance(layer, _BatchNorm) and not self._learns(path, layer) for path, layer in layers)

    def travelling(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what a device downloads: every parameter and buffer but the integer batch counters."""
        for name, tensor in state_of(self).items():
            if tensor.is_floating_point():
                yield name, tensor
        yield from self.stored_away.items()

    def download_names(self) -> tuple[str, ...]:
        """Return what of `travelling` a device is charged for as it receives it; all of it by default.

        A trainee leaves out what a device has from before, or makes by itself.
        """
        return tuple(name for name, _ in self.travelling())

    def sent_names(self) -> tuple[str, ...]:
        """Return what of `upload_names` a device is charged for as it sends it; all of it by default.

        A trainee leaves out what a device keeps for its next training, of which the simulator takes care.
        """
        return self.upload_names()

    def stepper(self, training: Training, **how: Any) -> Any:
        """Return what takes optimizer steps on this trainee in a way of its own, as `models.step.stepper_of` does.

        None, as by default: steps along the gradient of `loss`.
        """
        del training, how
        return None

    def upload_names(self) -> tuple[str, ...]:
        """Return what a device sends back: trainable parameters, and the buffers of the layers that learn.

        A layer learns that has a trainable parameter. One without parameters learns where what it is part of does.
        """
        if self.uploads_everything:
            return tuple(name for name, _ in self.travelling())
        sent = {name for name, parameter in parameters_of(self).items() if parameter.requires_grad}
        for path, layer in layers_of(self):
            if layer._buffers and self._learns(path, layer):
                sent.update(f"{path}.{name}" if path else name for name in layer._buffers)
        return tuple(name for name, _ in self.travelling() if name in sent)

    def _learns(self, path: str, layer: nn.Module) -> bool:
        """Return whether a layer learns: as its own parameters do, or those around it where it has none."""
        parameters: Iterable[nn.Parameter | None] = layer._parameters.values()
        around = path
        while around and not any(parameter is not None for parameter in parameters):
            around = around.rpartition(".")[0]
            parameters = parameters_of(self.get_submodule(around)).values()
        return any(parameter is not None and parameter.requires_grad for parameter in parameters)


def _is_checkpointed_alone(part: nn.Module) -> bool:
    return getattr(part, "checkpoints_alone", False) is True


def _requires_grad(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad


LAYOUT = torch.channels_last
"""Memory layout of images and convolutions in training, prediction and audit alike.

Convolutions on a CPU run 1.1 to 1.4 times as fast as in PyTorch's default layout, and hold the same bytes.
"""


def lay_out(module: nn.Module) -> None:
    """Put the weights of a module's convolutions into `LAYOUT`, and LSTMs into operators that can be seen.

    Values and names stay.
    """
    in_plain_operators(module)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=LAYOUT)


def in_layout(samples: Tensor) -> Tensor:
    """Return a batch in the layout that networks read: `LAYOUT` where samples have three dimensions, else rows."""
    return samples.contiguous(memory_format=LAYOUT if samples.ndim == 4 else torch.contiguous_format)


def flattened(maps: Tensor) -> Tensor:
    """Return a batch of samples or maps as rows `[B, D]`; images without a copy: channels come last in `LAYOUT`."""
    return maps.permute(0, 2, 3, 1).flatten(1) if maps.ndim == 4 else maps.flatten(1)


class FullModel(Trainee):
    """The whole model, every parameter trainable, trained with cross-entropy."""

    def __init__(self, blueprint: Blueprint) -> None:
        super().__init__()
        model = blueprint.build()
        self.blocks = model.blocks
        self.head = model.head

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        return self.along(self.blocks, images_BCHW, head=self.head)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(images_BCHW)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into the parameters and buffers of the same names; batch counters stay as they are.

    What has two names is loaded by the first; what `tensors` has for the other is left aside.
    """
    own = state_of(module)
    missing = [name for name, tensor in own.items() if tensor.is_floating_point() and name not in tensors]
    assert not missing, f"no value for {missing[:3]}"
    if not tensors.keys() <= own.keys():
        others = module.state_dict(keep_vars=True).keys() - own.keys()
        tensors = {name: tensor for name, tensor in tensors.items() if name not in others}
    with torch.no_grad():
        torch._foreach_copy_([own[name] for name in tensors], list(tensors.values()))


def float_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's parameters and buffers, each once, without the integer batch counters."""
    return {name: tensor.detach().clone() for name, tensor in state_of(module).items() if tensor.is_floating_point()}
