"""Compatibility: whether the parts of a scenario go together, asked before anything is profiled or trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from neulite_sim.engine.building import build_method
from neulite_sim.engine.capacity import check_costs, check_training
from neulite_sim.engine.conflicts import nothing_to_measure, nothing_to_shrink, require_no_conflict
from neulite_sim.engine.parts import Costing, Parts
from neulite_sim.errors import InfeasibleError, Problem, ScenarioError
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.units import format_bytes

NARROW = 0.5
"""Any width far enough from 1 for every layer that scales to show it."""


def require_compatible(parts: Parts, charged_model: BlockModel) -> None:
    """Refuse parts that do not go together, or whose table of costs this machine does not hold.

    `charged_model` is what the charged blueprint builds on the meta device: shapes and names without memory.

    Raises:
        ScenarioError: with the keys of what does not go together.
    """
    require_no_conflict(parts.scenario)
    require_matching_models(parts, charged_model)
    _require_matching_protocol(parts)
    check_costs(parts.scenario.population.devices, len(parts.method.submodels))


def require_matching_models(parts: Parts, charged_model: BlockModel) -> None:
    """Refuse what does not act on this model and method, and a workload whose submodels are not those trained.

    Raises:
        ScenarioError: with a problem for each.
    """
    scenario, method, charged, trained = parts.scenario, parts.method, parts.charged, parts.trained
    problems = []
    trained_model = charged_model if trained == charged else trained.look()
    shapes = _shapes(trained_model)
    if scenario.evaluation.batch_norm == "recalibrated" and not any("running_mean" in name for name in shapes):
        finding = f"recalibrated acts on BatchNorm layers only, and {trained.name} has none"
        hint = "remove it"
        problems.append(Problem.advising(key="evaluation.batch_norm", found=finding, hint=hint))
    if trained.width < 1 and shapes == _shapes(trained.at_width(1.0).look()):
        wish = _width_hint(trained) or "remove it, or choose a model with layers that it makes thinner"
        problems.append(
            Problem.advising(key="proxy.width", found=f"{trained.width:g} leaves {trained.name} as it is", hint=wish)
        )
    if scenario.training.shrink_batch is not None and not method.enforces_memory:
        problems.append(nothing_to_shrink())
    if scenario.training.norm == "group" and not replace(trained, norm="batch").has_batch_norm:
        finding = f"group stands in for BatchNorm layers, and {trained.name} has none"
        problems.append(Problem.advising(key="training.norm", found=finding, hint="remove it"))
    if scenario.training.frozen_weights != "fp32" and not _freezes_matrices(parts):
        kind = scenario.training.frozen_weights
        finding = f"{kind} acts on frozen linear layers and embeddings, and {scenario.method.label} freezes none of "
        hint = "remove it, or use a method that freezes them (lora, neulite)"
        found = f"{finding}{charged.name}"
        problems.append(Problem.advising(key="training.frozen_weights", found=found, hint=hint))
    if method.scales_width:
        problems += _unscalable(scenario.method.label, {"workload.model": charged, "model": trained})
    num_charged, num_trained = charged_model.num_blocks, trained_model.num_blocks
    if num_charged != num_trained and build_method(scenario, trained_model).submodels != method.submodels:
        finding = f"{charged.name} has {num_charged} blocks, {trained.name} has {num_trained}"
        hint = (
            f"method {scenario.method.label} "
            f"trains block by block ({', '.join(method.submodels)}), so use a workload.model of {num_trained} blocks, "
            "or a method that trains the full model"
        )
        problems.append(Problem.advising(key="workload.model", found=finding, hint=hint))
    if problems:
        raise ScenarioError(problems)


def _freezes_matrices(parts: Parts) -> bool:
    """Return whether a submodel has a frozen matrix that devices could hold in fewer bytes."""
    import torch

    from neulite_sim.models.stored_weights import has_frozen

    with torch.device("meta"):
        return any(has_frozen(parts.method.trainee(name, parts.charged)) for name in parts.method.submodels)


def _unscalable(method_kind: str, blueprints: Mapping[str, Blueprint]) -> list[Problem]:
    """Return a problem for each model that stays as it is at any width; one for both where they are the same."""
    stiff = {
        blueprint.name: Problem.advising(
            key=key,
            found=f"method {method_kind} trains {blueprint.name} at several widths, but no width makes it thinner",
            hint=_width_hint(blueprint)
            or "choose a model with hidden layers (cnn, resnet18), or a method that trains the full model",
        )
        for key, blueprint in blueprints.items()
        if _shapes(blueprint.at_width(1.0).look()) == _shapes(blueprint.at_width(NARROW).look())
    }
    return list(stiff.values())


def _width_hint(blueprint: Blueprint) -> str:
    """Return what an architecture itself says to do where several widths are wanted, if it does."""
    return str(getattr(blueprint.architecture, "width_hint", ""))


def _shapes(model: BlockModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _require_matching_protocol(parts: Parts) -> None:
    """Refuse a protocol that merges old updates with a method that needs the latest."""
    scenario, option = parts.scenario, parts.method.needs_current_version
    if option and parts.timing.protocol.mixes_versions:
        finding = (
            f"{scenario.protocol.label} merges updates of older versions, and with {option} "
            f"method {scenario.method.label} needs those of the latest"
        )
        hint = "use synchronous or deadline" + (", or another value of that option" if ":" in option else "")
        raise ScenarioError([Problem.advising(key="protocol", found=finding, hint=hint)])


def require_somebody(costing: Costing) -> None:
    """Refuse a fleet in which no device that owns data can train any submodel.

    Raises:
        InfeasibleError: with the smallest shortfall, and what would help.
    """
    method, ledger = costing.method, costing.ledger
    if not method.enforces_memory or any(map(ledger.fits_somebody, method.submodels)):
        return
    owners = np.flatnonzero(ledger.owns_data)
    peaks = {name: ledger.least_peak_bytes(name) for name in method.submodels}
    smallest = min(peaks, key=lambda name: peaks[name])
    memory = costing.population.available_memory_bytes[owners]
    best = int(np.argmax(memory))
    needed = int(ledger.peak_memory_bytes(smallest)[owners[best]])
    plan = ledger.plans[ledger.chosen(smallest)[owners[best]]]
    way = f" ({plan.label}, the smallest peak of {len(ledger.plans)} plans)" if costing.chooses_plans else ""
    raise InfeasibleError(
        f"NA: no device can train anything with method {costing.scenario.method.label}: its smallest submodel "
        f"{smallest} needs {format_bytes(needed)} at batch {plan.batch_size}{way}; the largest "
        f"available memory is {format_bytes(int(memory[best]))} (device {int(owners[best])}), which is "
        f"{format_bytes(needed - int(memory[best]))} too little",
        hint="raise population.available_memory, lower the batch size that is charged (workload.batch_size), or choose "
        "a method with smaller submodels",
    )


def require_training(parts: Parts, *, trains: bool) -> None:
    """Refuse a run without training of a method whose offers depend on trained weights, or of what looks at these.

    Also one with training that this machine's memory does not hold.

    Raises:
        ScenarioError: with the option because of which they do, or with the bytes needed and those that are free.
    """
    if not trains and parts.scenario.evaluation.diagnostics:
        raise ScenarioError([nothing_to_measure(parts.scenario.backend.kind)])
    if trains:
        check_training(parts)
    if trains or not parts.method.decides_by_weights:
        return
    finding = (
        f"{parts.scenario.backend.kind} trains nothing, and with {parts.method.decides_by_weights} method "
        f"{parts.scenario.method.label} decides by trained weights what comes next"
    )
    hint = "use backend inprocess or ray, or another value of that option"
    raise ScenarioError([Problem.advising(key="backend", found=finding, hint=hint)])
