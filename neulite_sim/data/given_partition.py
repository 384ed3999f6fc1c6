"""A partition given from Python: lists of sample numbers, a device per sample, or the column that names the owners."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.contract import AnyDataset, Given, Partition
from neulite_sim.data.natural import deal_natural
from neulite_sim.data.partition import Deal, Groups, Labels, partition_by_owner
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.seeding import stream

FORMS = "give a list of index arrays (one per device), a mapping of device to indices, a device per sample, or a column"


def given_partition(
    value: Any, dataset: AnyDataset, num_devices: int, *, seed: int = 0, counts_left: bool = False
) -> Partition:
    """Return which training samples of a dataset each device owns.

    Samples are counted as they were given; those that were held out for tests, or not chosen, are nobody's. Where the
    value `counts_left`, it counts the training samples that are left. Raises what the deal of `given_deal` raises.
    """
    owners = {} if dataset.groups is None else {"groups": dataset.groups}
    given = None if counts_left else getattr(dataset, "given", None)
    return given_deal(value, given)(dataset.train_labels, num_devices, stream(seed, "partition"), **owners)


def given_deal(value: Any, given: Given | None = None) -> Deal:
    """Return what deals samples as a value given from Python says, counted among those that were `given`.

    `value` is one array of sample numbers per device, a mapping from device to such an array, an array of device
    numbers with one entry per training sample (-1: nobody's), or the name of the column by which the dataset was
    grouped; then each device is one of its values, as with partition `natural`.

    The deal raises:
        ScenarioError: a device or a sample is not there, or a sample belongs to two devices.
    """
    return functools.partial(_deal_given, value, given)


def _deal_given(
    value: Any,
    given: Given | None,
    labels: Labels,
    num_devices: int,
    rng: np.random.Generator,
    *,
    groups: Groups | None = None,
) -> Partition:
    if given is None or isinstance(value, Partition):
        given = Given(numbers=np.arange(len(labels)), count=len(labels))
    if isinstance(value, Partition):
        value = [value.of(device) for device in range(value.num_devices)]
    if isinstance(value, str):
        return _by_column(value, labels, num_devices, rng, groups)
    if isinstance(value, Mapping):
        return _owned(_by_lists(list(value.items()), given.count, num_devices), given, num_devices)
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    is_flat = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iub"
    is_flat |= isinstance(value, list | tuple) and bool(value) and isinstance(value[0], int | np.integer)
    if is_flat:
        return _owned(_by_owner(np.asarray(value), given.count, num_devices), given, num_devices)
    if isinstance(value, Sequence | np.ndarray):
        if len(value) != num_devices:
            raise _refused(
                f"{len(value)} lists of samples for {num_devices} devices",
                f"give one per device, or set population.devices to {len(value)}",
            )
        return _owned(_by_lists(list(enumerate(value)), given.count, num_devices), given, num_devices)
    raise _refused(f"a {type(value).__name__} is no partition", FORMS)


def _refused(found: str, hint: str) -> ScenarioError:
    return ScenarioError([Problem.advising(key="data.partition", found=found, hint=hint)])


def _by_column(
    column: str, labels: Labels, num_devices: int, rng: np.random.Generator, groups: Groups | None
) -> Partition:
    if groups is None:
        hint = f"give the data with the option group: {column}, and each sample of the training part a value there"
        raise _refused(f"the data was not grouped by a column {column!r}", hint)
    return deal_natural(labels, num_devices, rng, groups=groups)


def _by_owner(owners: NDArray[Any], num_samples: int, num_devices: int) -> NDArray[np.int64]:
    if owners.shape != (num_samples,):
        hint = "give a device for each, or one list of samples per device"
        raise _refused(f"{len(owners):,} devices for {num_samples:,} training samples", hint)
    if owners.dtype.kind not in "iu":
        raise _refused(f"devices are {owners.dtype}", "give whole numbers, -1 for nobody")
    is_right = (owners >= -1) & (owners < num_devices)
    if not is_right.all():
        wrong = int(np.argmin(is_right))
        found = f"training sample {wrong:,} belongs to device {owners[wrong]}"
        raise _refused(found, f"devices are 0 to {num_devices - 1}, -1 being nobody")
    return owners.astype(np.int64)


def _by_lists(lists: Sequence[tuple[Any, Any]], num_samples: int, num_devices: int) -> NDArray[np.int64]:
    owners = np.full(num_samples, -1, np.int64)
    for device, samples in lists:
        if not isinstance(device, int | np.integer) or not 0 <= device < num_devices:
            raise _refused(f"there is no device {device!r}", f"devices are 0 to {num_devices - 1}")
        numbers = np.asarray(samples.tolist() if hasattr(samples, "tolist") else samples)
        if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
            found = f"the samples of device {device} are {numbers.dtype} of shape {numbers.shape}"
            raise _refused(found, "give one list of whole numbers")
        numbers = numbers.astype(np.int64)
        wrong = numbers[(numbers < 0) | (numbers >= num_samples)]
        if len(wrong):
            raise _refused(f"device {device} has sample {wrong[0]:,}", f"training samples are 0 to {num_samples - 1:,}")
        values, times = np.unique(numbers, return_counts=True)
        if (times > 1).any():
            raise _refused(f"device {device} has sample {values[times > 1][0]:,} twice", "name it once")
        taken = numbers[owners[numbers] >= 0]
        if len(taken):
            other = owners[taken[0]]
            hint = "a sample belongs to one device at most"
            raise _refused(f"devices {other} and {device} both have sample {taken[0]:,}", hint)
        owners[numbers] = device
    return owners


def _owned(owners: NDArray[np.int64], given: Given, num_devices: int) -> Partition:
    """Return the partition of the training samples, where `owners` has the device of each sample that was given."""
    found = owned(owners[given.numbers], num_devices)
    num_lost = int((owners >= 0).sum()) - len(found.samples)
    said = f"partition given: {num_lost:,} of the samples that it deals were held out for tests, or not chosen"
    return replace(found, left_out=(*found.left_out, said)) if num_lost else found


def owned(owners: NDArray[np.int64], num_devices: int, *, name: str = "given") -> Partition:
    """Return the partition in which device `owners[i]` owns sample i, and nobody does where that is -1.

    Raises:
        ScenarioError: no sample belongs to anybody.
    """
    is_owned = owners >= 0
    if not is_owned.any():
        raise _refused("no training sample belongs to a device", "give at least one device samples")
    dealt = partition_by_owner(np.where(is_owned, owners, num_devices), num_devices + 1)
    offsets = dealt.offsets[:-1]
    num_left = len(owners) - int(offsets[-1])
    said = f"partition {name}: {num_left:,} of {len(owners):,} training samples belong to nobody"
    return Partition(samples=dealt.samples[: offsets[-1]], offsets=offsets, left_out=(said,) if num_left else ())
