"""Data of a user's own, and how it is dealt to devices."""

from __future__ import annotations

import numpy as np

from neulite_sim.data.contract import AnyDataset, DatasetOptions, Partition
from neulite_sim.data.partition import Deal, Groups, Labels
from neulite_sim.registry import Options
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python


def dataset_of(found: Found, options: DatasetOptions, seed: int) -> AnyDataset:
    """Return the dataset that a user's value is or makes. Raises what `given_dataset` raises."""
    del options
    from neulite_sim.data.given import given_dataset

    return given_dataset(found.value, name=found.name, options=found.options, seed=seed)


def deal_of(found: Found, options: Options) -> Deal:
    """Return what deals samples as a user's value says. Raises, when it is called, what `given_partition` raises."""
    del options

    def deal(
        labels: Labels, num_devices: int, rng: np.random.Generator, /, *, groups: Groups | None = None
    ) -> Partition:
        from neulite_sim.data.given import given_partition

        value = found.value
        if callable(value):
            value = found.called({"labels": labels, "num_devices": num_devices, "rng": rng, "groups": groups})
        return given_partition(value, labels, num_devices, name=found.name)

    return deal


_DATA = "data of your own: arrays, PyTorch datasets, or a function that returns them"
PYTHON = python("data", _DATA, DatasetOptions, dataset_of)
GIVEN = given("data", _DATA, DatasetOptions, dataset_of)

_PARTITION = "a partition of your own: index arrays per device, an owner per sample, or a function"
PYTHON_PARTITION = python("data.partition", _PARTITION, Options, deal_of)
GIVEN_PARTITION = given("data.partition", _PARTITION, Options, deal_of)
