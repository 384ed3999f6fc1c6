"""What of a scenario acts on nothing beside its model, its method and its rounds: said by a run and a deep validation.

Only what is not at its default is a wish that could go unheeded; a method that never gets to what it is for is told in
any case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from neulite_sim.engine.building import keeps_in_vain
from neulite_sim.engine.parts import Costing

if TYPE_CHECKING:
    from neulite_sim.models.trainee import Trainee

_MOST_NAMED = 4


def idle(costing: Costing) -> tuple[str, ...]:
    """Return a sentence for each key that acts on nothing, and one for the stages that a run has no rounds for."""
    return (
        *_late_stages(costing),
        *_kept_features(costing),
        *_frozen_batch_norm(costing),
        *_other_stages(costing),
    )


def _late_stages(costing: Costing) -> Iterator[str]:
    method, rounds = costing.method, costing.scenario.stop.rounds
    late = {name: before for name, before in method.rounds_before(costing.ledger).items() if before >= rounds}
    if not late:
        return
    first, least = min(late.items(), key=lambda item: item[1])
    why = f"stop.rounds is {rounds:,}, and {first} comes after {least:,.0f} at the earliest"
    if math.isinf(least):
        why = f"with stop.rounds {rounds:,} no round is left for that"
    by = f" ({method.rounds_go_by})" if method.rounds_go_by else ""
    yield f"{costing.scenario.method.label} never trains {_listed(list(late))}: {why}{by}"


def _kept_features(costing: Costing) -> Iterator[str]:
    """Yield that features of a frozen prefix are to be kept, and there are none."""
    training = costing.scenario.training
    wish = training.prefix_cache
    # Whoever wants none has them; augmentation is told by the assembly, with what becomes of the charge.
    if wish == "none" or not training.is_wish("prefix_cache") or keeps_in_vain(training, costing.dataset):
        return
    epochs = max(costing.method.own_training(name).epochs or costing.charged_training.epochs
                 for name in costing.method.submodels)  # fmt: skip
    profiles = costing.ledger.profiles.values()
    if epochs == 1:
        why = "a device goes through its samples once in a flight (epochs is 1)"
    elif any(found.kept_bytes_per_sample or any(found.part_kept_bytes_per_sample) for found in profiles):
        return
    else:
        why = f"{costing.scenario.method.label} keeps no leading part of {costing.charged.name} frozen"
    yield f"training.prefix_cache is {wish}, and {why}: it has no effect, as nothing is kept in any case"


def _frozen_batch_norm(costing: Costing) -> Iterator[str]:
    choice = costing.scenario.method
    if choice.is_brought or "bn_frozen" not in type(choice.options).model_fields:
        return
    if not choice.options.is_wish("bn_frozen") or _freezes_batch_norm(costing):
        return
    yield (
        f"method.bn_frozen is {choice.options.bn_frozen}, and {choice.label} freezes no BatchNorm layer of "
        f"{costing.trained.name}: it has no effect"
    )


def _freezes_batch_norm(costing: Costing) -> bool:
    import torch

    blueprints = [costing.charged] + [costing.trained] * (costing.trained != costing.charged)
    with torch.device("meta"):
        return any(
            _has_frozen_batch_norm(costing.method.trainee(name, blueprint))
            for blueprint in blueprints
            for name in costing.method.submodels
        )


def _has_frozen_batch_norm(trainee: Trainee) -> bool:
    return any(trainee.freezes_batch_norm() for _ in trainee.each_part())


def _other_stages(costing: Costing) -> Iterator[str]:
    """Yield what tells updates of several stages apart, where a method has one, or a round has those of one."""
    scenario, stages = costing.scenario, costing.method.rounds_before(costing.ledger)
    kind, protocol = scenario.method.label, scenario.protocol
    # Of a method that is not this project's nobody knows whether it has stages.
    is_own = not scenario.method.is_brought and type(costing.method).__module__.startswith("neulite_sim.")
    if is_own and len(stages) < 2 and getattr(protocol.options, "other_stage", "merge") != "merge":
        yield (
            f"protocol.other_stage is {protocol.options.other_stage}, and {kind} has one stage: no update is ever of "
            "another, so it has no effect"
        )
    if not is_own or getattr(scenario.method.options, "averaged_over", "holders") == "holders":
        return
    if len(costing.method.submodels) == len(stages) and not costing.timing.protocol.mixes_versions:
        yield (
            f"method.averaged_over is {scenario.method.options.averaged_over}, and all devices of a round train the "
            "same layers (method.training_depths): no holder of theirs has them frozen, so it has no effect"
        )


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMED:
        return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"
    *firsts, last = names
    return f"{', '.join(firsts)} and {last}" if firsts else last
