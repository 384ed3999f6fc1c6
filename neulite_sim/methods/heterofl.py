"""HeteroFL: every device trains the leading channels of the global model that fit it.

Diao, Ding and Tarokh, "HeteroFL: Computation and Communication Efficient Federated Learning for Heterogeneous
Clients", ICLR 2021, https://arxiv.org/abs/2010.01264: slices and their mean in section 3 (eq. 2-6), scaler, masked
cross-entropy and static BatchNorm under "Static batch normalization" and "Scaler" there.

Static BatchNorm: devices normalise with the statistics of their batch, and the global model is tested with statistics
rebuilt from training data, `evaluation.batch_norm: recalibrated`. Running statistics are averaged here as well, so
that `running` can be reported beside it. Channels beyond the widest trained slice keep their initial weights: where no
device holds the full model, the full model stays near chance.

Where this differs from the authors' code: that gives each device a level by a list of proportions, once or anew in
each round (`fix`, `dynamic`), here a device gets the widest that its memory holds; that tests with static BatchNorm
always, here `evaluation.batch_norm` is `running` unless the scenario says so; that clips gradients to a norm of 1, here
`training.clip_norm` is off unless given. Slices, plain means, owned rows, scaler and mask are the code's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor
from neulite_sim.methods.contract import Setting, State, Update, Weighting
from neulite_sim.methods.sliced import SlicedMethod, SlicedOptions
from neulite_sim.methods.width import Indices, Layout, is_ours, with_rows
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint


class HeteroFLOptions(SlicedOptions):
    """Options of `heterofl`; the defaults are the authors'."""

    classifier_rows: bool = True
    """Average a class's row of the classifier only over devices that own samples of it; not of a tied embedding."""


class HeteroFL(SlicedMethod):
    """The largest leading slice that fits, on each device."""

    def __init__(self, options: HeteroFLOptions) -> None:
        super().__init__(options)
        self._counts_owned_rows = options.classifier_rows

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the means; none where rows of the classifier depend on each device's classes."""
        return None if self._counts_owned_rows else self._weighting

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised full model.

        Raises:
            ScenarioError: rows of classes are asked for, and no layer has them; or as for every slice.
        """
        state = super().start(blueprint, seed, ledger)
        slices: Layout = state.extra
        # A tied embedding has no rows of classes: it is averaged as any tensor.
        if self._counts_owned_rows and not slices.classifier and not is_ours(blueprint):
            name = blueprint.name or "the model"
            found = f"{name} has no linear or convolutional layer at its end with a row for each of the classes"
            hint = "set it to false, or let such a layer make the logits"
            raise ScenarioError([Problem.advising(key="method.classifier_rows", found=found, hint=hint)])
        return state

    def counted(self, slices: Layout, update: Update, name: str) -> tuple[Indices, Tensor]:
        """Return the slice of an update; of the classifier only the rows of classes that the device owns."""
        indices, part = super().counted(slices, update, name)
        if self._counts_owned_rows and name in slices.classifier:
            return with_rows(indices, part, update.classes)
        return indices, part


def _build(options: HeteroFLOptions, setting: Setting) -> HeteroFL:
    del setting
    return HeteroFL(options)


COMPONENT = Component(
    kind="heterofl",
    summary="each device trains the leading channels that fit it; meant for evaluation.batch_norm: recalibrated",
    source="Diao, Ding and Tarokh, ICLR 2021, arXiv 2010.01264",
    options=HeteroFLOptions,
    build=_build,
)
