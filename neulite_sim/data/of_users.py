"""Data of a user's own, and how it is dealt to devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neulite_sim.data.contract import AnyDataset, DatasetOptions, Partition
from neulite_sim.errors import NeuliteError
from neulite_sim.registry import GIVEN as GIVEN_KIND
from neulite_sim.registry import Choice, Options
from neulite_sim.seeding import stream
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python
from neulite_sim.user_code.origins import in_a_line

_PARTITION_KEY = "data.partition"


def dataset_of(found: Found, options: DatasetOptions, seed: int) -> AnyDataset:
    """Return the dataset that a user's value is or makes.

    Raises:
        ScenarioError: what `given_dataset` raises, or a function fails (with the line).
    """
    from neulite_sim.data.given import given_dataset

    try:
        return given_dataset(
            found.value, name=found.name, options=found.options, seed=seed, group=_column(options.partition)
        )
    except NeuliteError:
        raise
    except Exception as error:
        raise found.refused(f"calling {found.name} fails: {in_a_line(error)}") from error


def _column(partition: Choice) -> str | None:
    """Return the column that a partition given from Python names: data are grouped by it and not learned from it."""
    if partition.kind != GIVEN_KIND:
        return None
    value = partition.options.found(_PARTITION_KEY).value
    return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDeal:
    """Deals samples as a user's value says."""

    found: Found

    def of(self, dataset: AnyDataset, num_devices: int, seed: int) -> Partition:
        """Return which training samples each device owns. Raises what `given_partition` raises."""
        from neulite_sim.data.given_partition import given_partition

        value: Any = self.found.value
        if is_function := callable(value):
            value = self.found.called(
                {"labels": dataset.train_labels, "inputs": dataset.train_inputs, "groups": dataset.groups,
                 "num_devices": num_devices, "rng": stream(seed, "partition")}
            )  # fmt: skip
        # A function counts the samples that it was shown.
        return given_partition(value, dataset, num_devices, seed=seed, counts_left=is_function)


def deal_of(found: Found, options: Options) -> OwnDeal:
    """Return what deals samples as a user's value says."""
    del options
    return OwnDeal(found=found)


_DATA = "data of your own: arrays, PyTorch datasets, or a function that returns them"
PYTHON = python("data", _DATA, DatasetOptions, dataset_of)
GIVEN = given("data", _DATA, DatasetOptions, dataset_of)

_PARTITION = "a partition of your own: index arrays per device, an owner per sample, or a function"
PYTHON_PARTITION = python(_PARTITION_KEY, _PARTITION, Options, deal_of)
GIVEN_PARTITION = given(_PARTITION_KEY, _PARTITION, Options, deal_of)
