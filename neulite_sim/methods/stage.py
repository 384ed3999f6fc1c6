"""The model of one NeuLite stage: frozen prefix, tail of the previous block, block t, and its output module.

NeuLite (Wu et al., AAAI 2025, https://arxiv.org/abs/2408.10826): Theta_t = [theta_1^F, ..., theta_{t-1}^F, theta_t,
op_t], trained with eq. (4): CE - lambda_x nHSIC(X; Z_t) - lambda_y nHSIC(Y; Z_t).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neulite_sim.later import homes
from neulite_sim.methods import nhsic_host
from neulite_sim.methods.nhsic import (
    feature_kernel,
    input_exponents,
    input_kernel,
    label_exponents,
    label_kernel,
    nhsic,
)
from neulite_sim.methods.nhsic_ratio import weighted_ratios
from neulite_sim.methods.stage_plan import Curriculum, StagePlan
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.output import OutputModule, simplest_head
from neulite_sim.models.trainee import Trainee, flattened

__getattr__ = homes(__name__, **dict.fromkeys(("Operand", "ZSource"), "neulite_sim.methods.stage_plan"))


class StageTrainee(Trainee):
    """Stage t of a block model, ready to train."""

    def __init__(self, blueprint: Blueprint, plan: StagePlan) -> None:
        super().__init__()
        model = blueprint.build()
        self._spec = blueprint.spec
        self._curriculum = plan.curriculum
        # nHSIC's matrices have a cell for every two samples.
        self.compares_samples = plan.curriculum is not None
        self.frozen_batch_norm = plan.frozen_batch_norm
        self.uploads_everything = plan.uploads_everything
        self.blocks = model.blocks[: plan.stage]
        is_bare = plan.surrogate == "none" and plan.stage < model.num_blocks
        shape = model.block_shapes[plan.stage - 1]
        output = OutputModule(
            model,
            plan.stage,
            head=simplest_head(shape, blueprint.spec) if is_bare else model.head,
            surrogate=plan.surrogate,
            projection=plan.curriculum is not None,
            projection_relu=plan.projection_relu,
        )
        self.outputs = nn.ModuleDict({str(plan.stage): output})
        self._key = str(plan.stage)
        self.blocks[: plan.stage - 1].requires_grad_(False)
        if plan.stage > 1 and plan.tail_layers:
            for path in itertools.chain(*model.layers[plan.stage - 2][-plan.tail_layers :]):
                self.blocks[plan.stage - 2].get_submodule(path).requires_grad_(True)

    def loss(self, inputs: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the curriculum-aware loss (eq. 4), or cross-entropy alone without a curriculum.

        Reported scalars: `cross_entropy`, and with a curriculum `nhsic_x`, `nhsic_y` and how many of the
        two terms are undefined for this batch and count as zero, `num_skipped_terms`. Then those of `squared_loss`.
        """
        block_map = self.along(self.blocks, inputs)
        logits_BK, final_map = self._output()(block_map)
        cross_entropy = self.cross_entropy(logits_BK, labels_B)
        squared_loss = self.squared_loss(logits_BK, labels_B)
        if self._curriculum is None:
            return cross_entropy, squared_loss
        parts = (inputs, labels_B, block_map, final_map)
        loss, scalars = self._with_curriculum(cross_entropy, self._curriculum, parts)
        return loss, {**scalars, **squared_loss}

    def _output(self) -> OutputModule:
        output = self.outputs[self._key]
        assert isinstance(output, OutputModule)
        return output

    def _with_curriculum(
        self, cross_entropy: Tensor, rule: Curriculum, parts: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        inputs, labels_B, block_map, final_map = parts
        z_map = block_map if rule.z_source == "block" else final_map
        projected_BD = self._output().project(final_map)
        features_x_BD = projected_BD if rule.operand in ("x", "both") else flattened(z_map)
        features_y_BD = projected_BD if rule.operand in ("y", "both") else flattened(z_map)
        if self.takes_shortcuts and rule.form == "ratio" and features_x_BD is not features_y_BD:
            return self._with_ratios(cross_entropy, rule, (inputs, labels_B, features_x_BD, features_y_BD))
        with torch.no_grad():
            inputs_BB = input_kernel(flattened(inputs), self._spec.vocabulary, rule.sigma)
            labels_BB = label_kernel(labels_B, self._spec.num_classes, rule.sigma)
        kernel_x_BB = feature_kernel(features_x_BD, rule.sigma)
        kernel_y_BB = kernel_x_BB if features_x_BD is features_y_BD else feature_kernel(features_y_BD, rule.sigma)
        term_x, defined_x = nhsic(inputs_BB, kernel_x_BB, form=rule.form, epsilon=rule.epsilon)
        term_y, defined_y = nhsic(labels_BB, kernel_y_BB, form=rule.form, epsilon=rule.epsilon)
        loss = cross_entropy - (rule.lambda_x * term_x + rule.lambda_y * term_y).to(cross_entropy.dtype)
        return loss, {
            "cross_entropy": cross_entropy.detach(),
            "nhsic_x": term_x.detach(),
            "nhsic_y": term_y.detach(),
            "num_skipped_terms": 2.0 - defined_x - defined_y,
        }

    def _with_ratios(
        self, cross_entropy: Tensor, rule: Curriculum, parts: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        inputs, labels_B, features_x_BD, features_y_BD = parts
        weighted: Any = {"weights": (rule.lambda_x, rule.lambda_y), "sigma": rule.sigma}
        rows, vocabulary, num_classes = flattened(inputs), self._spec.vocabulary, self._spec.num_classes
        if rows.is_cpu:
            pairs = (
                nhsic_host.input_exponents(rows, vocabulary, rule.sigma),
                nhsic_host.label_exponents(labels_B, num_classes, rule.sigma),
            )
            terms, terms_2, defined_2 = nhsic_host.weighted_ratios(features_x_BD, features_y_BD, pairs, **weighted)
        else:
            with torch.no_grad():
                inputs_BB = input_exponents(rows, vocabulary, rule.sigma)
                others = torch.stack((inputs_BB, label_exponents(labels_B, num_classes, rule.sigma)))
            terms, terms_2, defined_2 = weighted_ratios(features_x_BD, features_y_BD, others, **weighted)
        return cross_entropy - terms.to(cross_entropy.dtype), {
            "cross_entropy": cross_entropy.detach(),
            "nhsic_x": terms_2[0],
            "nhsic_y": terms_2[1],
            "num_skipped_terms": 2.0 - defined_2.sum(),
        }
