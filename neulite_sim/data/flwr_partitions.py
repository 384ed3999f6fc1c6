"""Partitions by the partitioners of Flower's package flwr-datasets, where it is installed.

`{kind: flwr-datasets:DirichletPartitioner, options: {alpha: 0.5, min_partition_size: 1}}`. A partitioner is given a
dataset of two columns, `label` and `sample` (and `group` where owners are known), and what of these it takes and is not
set: `num_partitions` the number of devices, `partition_by` label (group in partitioners of natural ids), `seed` a draw.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import warnings
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import MOST_ITEMS, MOST_NAME
from neulite_sim.data.contract import Partition
from neulite_sim.data.given_partition import owned
from neulite_sim.data.partition import Deal, Groups, Labels
from neulite_sim.errors import NeuliteError, Problem, ScenarioError, close_matches
from neulite_sim.registry import Component, Options

INSTALL = "python -m pip install 'neulite-sim[flwr-datasets]'"
KEY = "data.partition"
_Number = Annotated[float, Field(ge=-1e12, le=1e12)]
_Whole = Annotated[int, Field(ge=-(10**12), le=10**12)]
_Word = Annotated[str, Field(max_length=MOST_NAME)]
_Plain = bool | _Whole | _Number | _Word
_List = Annotated[list[_Plain | Annotated[list[_Plain], Field(max_length=MOST_ITEMS)]], Field(max_length=10**6)]
Arguments = Annotated[
    dict[Annotated[str, Field(max_length=MOST_NAME)], _Plain | _List | None], Field(max_length=MOST_ITEMS)
]


class FlwrOptions(Options):
    """Options of `flwr-datasets:NAME`."""

    options: Arguments = Field(default_factory=dict)
    """Arguments of the partitioner, by their names there."""


def deal_flwr(
    labels: Labels,
    num_devices: int,
    rng: np.random.Generator,
    *,
    partitioner: str,
    arguments: dict[str, Any],
    groups: Groups | None = None,
) -> Partition:
    """Deal samples as a partitioner of flwr-datasets does.

    Raises:
        NeuliteError: flwr-datasets is not installed.
        ScenarioError: there is no such partitioner, it refuses its arguments, or it does not deal to every device.
    """
    if labels.ndim > 1:
        raise _refused(f"{partitioner} deals by the class of a sample, and each of these has several", "use iid")
    datasets, made = _made(partitioner, arguments, num_devices, int(rng.integers(2**31)), groups is not None)
    columns = {"label": labels, "sample": np.arange(len(labels))}
    if groups is not None:
        columns["group"] = groups
    try:
        with warnings.catch_warnings():
            # What these packages will change in each other is nothing that a user of this one can mend.
            warnings.simplefilter("ignore")
            made.dataset = datasets.Dataset.from_dict({name: column.tolist() for name, column in columns.items()})
            owners = _owners(made, partitioner, len(labels), num_devices)
    except NeuliteError:
        raise
    except Exception as failure:
        raise _refused(f"{partitioner} failed ({type(failure).__name__}: {failure})", "change its options") from failure
    return owned(owners, num_devices, name=f"flwr-datasets:{partitioner}")


def _owners(made: Any, partitioner: str, num_samples: int, num_devices: int) -> NDArray[np.int64]:
    """Return the device of each sample, -1 for nobody."""
    owners = np.full(num_samples, -1, np.int64)
    count = int(made.num_partitions)
    if count != num_devices:
        hint = f"set population.devices to {count}, or another number of partitions"
        raise _refused(f"{partitioner} makes {count} partitions for {num_devices} devices", hint)
    for device in range(count):
        samples = np.asarray(made.load_partition(device)["sample"], np.int64)
        taken = samples[owners[samples] >= 0]
        if len(taken):
            hint = "a sample belongs to one device at most here"
            raise _refused(f"{partitioner} gives sample {taken[0]} to devices {owners[taken[0]]} and {device}", hint)
        owners[samples] = device
    return owners


def _refused(found: str, hint: str) -> ScenarioError:
    return ScenarioError([Problem.advising(key=KEY, found=found, hint=hint)])


def _made(
    partitioner: str, arguments: dict[str, Any], num_devices: int, seed: int, has_groups: bool
) -> tuple[Any, Any]:
    """Return the module `datasets` and a new partitioner."""
    # Flower's packages report their use to a server unless they are told not to; a simulation tells nobody.
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        datasets = importlib.import_module("datasets")
        known = importlib.import_module("flwr_datasets.partitioner")
    except ImportError:
        found = f"partition flwr-datasets:{partitioner} needs flwr-datasets, which is not installed"
        raise NeuliteError(found, hint=f"install it: {INSTALL}") from None
    names = [name for name in known.__all__ if name != "Partitioner"]
    if partitioner not in names:
        near = close_matches(partitioner, names)
        raise _refused(f"flwr-datasets has no partitioner {partitioner!r}{near}", f"it has {', '.join(names)}")
    kind = getattr(known, partitioner)
    parameters = inspect.signature(kind).parameters
    unknown = [name for name in arguments if name not in parameters]
    if unknown:
        near = close_matches(unknown[0], parameters)
        raise _refused(f"{partitioner} takes no {unknown[0]!r}{near}", f"it takes {', '.join(parameters)}")
    by = "group" if has_groups and "Natural" in partitioner else "label"
    usual = {"num_partitions": num_devices, "partition_by": by, "seed": seed}
    given = {name: value for name, value in usual.items() if name in parameters} | arguments
    try:
        return datasets, kind(**given)
    except Exception as failure:
        raise _refused(
            f"{partitioner} refuses its options ({failure})", f"it takes {', '.join(parameters)}"
        ) from failure


def _build(options: FlwrOptions, partitioner: str) -> Deal:
    return functools.partial(deal_flwr, partitioner=partitioner, arguments=dict(options.options))


COMPONENT = Component(
    kind="flwr-datasets",
    summary="any partitioner of Flower's package flwr-datasets, such as flwr-datasets:PathologicalPartitioner",
    source="https://flower.ai/docs/datasets (flwr-datasets, tested with 0.6)",
    options=FlwrOptions,
    build=_build,
    takes_argument=True,
)
