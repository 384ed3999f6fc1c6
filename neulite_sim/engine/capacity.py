"""What a scenario will allocate on this machine, as far as it can be told before anything is read or trained.

Each figure is a lower bound: what passes may still not fit, but what is refused never would.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neulite_sim.profiling.plans import rungs_of
from neulite_sim.room import require_room
from neulite_sim.scenario.schema import Scenario, Training

if TYPE_CHECKING:
    from neulite_sim.engine.parts import Parts

FLOAT_BYTES = 4
WEIGHT_COPIES = 3
"""The global model, and the weights and gradients of the one that trains."""
SUBMODEL_BYTES_PER_DEVICE = 16
"""Seconds and bytes of a submodel on a device."""


def check_data(scenario: Scenario) -> None:
    """Refuse data that this machine does not hold, where the scenario alone says how much it is.

    Raises:
        ScenarioError: with the bytes needed and those that are free.
    """
    options = scenario.data.options
    if scenario.proxy.image_size is not None and "image_size" in type(options).model_fields:
        options = options.model_copy(update={"image_size": scenario.proxy.image_size})
    if hasattr(options, "require_room"):
        options.require_room()


def check_training(parts: Parts) -> None:
    """Refuse a model that is really trained, or a batch of it, that this machine does not hold.

    Raises:
        ScenarioError: with the bytes needed and those that are free.
    """
    trained, training, model = parts.trained, parts.trained_training, parts.trained.look()
    weights = sum(parameter.numel() for parameter in model.parameters())
    require_room(
        FLOAT_BYTES * WEIGHT_COPIES * weights,
        f"the {weights:,} weights of {trained.name}",
        key="model",
        advice="choose a smaller model or input, or set proxy.width",
    )
    sample_bytes = trained.spec.num_bytes
    maps_bytes = [FLOAT_BYTES * math.prod(shape) for shape in model.block_shapes]
    batch = min(_fewest_at_once(training), int(parts.partition.sizes.max()))
    # Without checkpointing every map waits for the backward pass; of a test only what one block reads and writes.
    kept_bytes = sample_bytes + (max(maps_bytes) if training.checkpointing else sum(maps_bytes))
    require_room(
        batch * kept_bytes,
        f"the activations of a batch of {batch} on {trained.name}",
        key="training.batch_size",
        advice="lower it, or set proxy.batch_size or training.micro_batch_size",
    )
    tested = min(parts.scenario.evaluation.batch_size, len(parts.dataset.test_labels))
    require_room(
        tested * max(sample_bytes, *maps_bytes),
        f"a test batch of {tested} on {trained.name}",
        key="evaluation.batch_size",
        advice="lower it",
    )


def _fewest_at_once(training: Training) -> int:
    """Return the fewest samples that somebody passes through the model at once."""
    smallest = rungs_of(training)[-1][-1]
    return smallest.micro_batch_size or smallest.batch_size


def check_costs(num_devices: int, num_submodels: int) -> None:
    """Refuse a table of costs, a column per submodel, that this machine does not hold.

    Raises:
        ScenarioError: with the bytes needed and those that are free.
    """
    require_room(
        SUBMODEL_BYTES_PER_DEVICE * num_devices * num_submodels,
        f"the costs of {num_submodels} submodels on {num_devices} devices",
        key="population.devices",
        advice="lower it, or choose a method with fewer submodels",
    )
