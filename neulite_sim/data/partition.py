"""How training samples are dealt to devices: at random, by Dirichlet shares per class, or in shards of sorted labels.

Every way first decides the owner of each sample and then groups samples by owner, so none is lost or doubled.
`Component.build(options)` returns a `Deal`. The engine's assembly calls it as `deal(labels, num_devices, rng)`, with
`groups=...` as well where the dataset knows the natural owner of each sample. `data.conformance.check_partition` tests
one of your own.
"""

from __future__ import annotations

import functools
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import MOST_SAMPLES, SampleCount
from neulite_sim.data.contract import Partition
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import Component, Options
from neulite_sim.room import require_room

Labels = NDArray[np.int64]
Groups = NDArray[np.int64]

MAX_DRAWS = 200
"""Dirichlet draws before `min_samples` counts as out of reach."""


class Deal(Protocol):
    """How a partition deals samples; `groups` is `Dataset.groups`, which only `natural` looks at."""

    def __call__(
        self, labels: Labels, num_devices: int, rng: np.random.Generator, /, *, groups: Groups | None = None
    ) -> Partition:
        """Return which of the `len(labels)` samples each of `num_devices` devices owns."""


class IidOptions(Options):
    """Options of `iid`: none."""


class DirichletOptions(Options):
    """Options of `dirichlet`."""

    alpha: float = Field(0.5, ge=1e-6, le=1e6)
    """Concentration: small values give devices few classes, large ones approach equal shares."""
    min_samples: int = Field(0, ge=0, le=MOST_SAMPLES)
    """Shares are drawn anew until every device owns this many samples."""


class ShardsOptions(Options):
    """Options of `shards`."""

    shards_per_device: SampleCount = 2
    """How many runs of consecutive labels a device owns."""


def partition_by_owner(owners: NDArray[np.int64], num_devices: int) -> Partition:
    """Return the partition in which device `owners[i]` owns sample i. Owners are in 0 to `num_devices` - 1."""
    offsets = np.zeros(num_devices + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=num_devices), out=offsets[1:])
    return Partition(samples=np.argsort(owners, kind="stable").astype(np.int64, copy=False), offsets=offsets)


def evenly_ordered(labels: Labels, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return sample numbers in an order of which every run holds about the same mix of classes."""
    shuffled = rng.permutation(len(labels))
    if labels.ndim > 1:
        return shuffled
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, sizes = np.unique(labels[by_label], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, sizes)
    # Where a class begins is drawn: otherwise all classes would have their samples at the same places.
    spread = (place + np.repeat(rng.random(len(sizes)), sizes)) / np.repeat(sizes, sizes)
    return by_label[np.argsort(spread, kind="stable")]


def deal_iid(labels: Labels, num_devices: int, rng: np.random.Generator, *, groups: Groups | None = None) -> Partition:
    """Deal samples at random; device sizes differ by at most one, and chance says who has one more."""
    devices, samples = rng.permutation(num_devices), rng.permutation(len(labels))
    owners = np.empty(len(labels), np.int64)
    owners[samples] = devices[np.arange(len(labels)) % num_devices]
    return partition_by_owner(owners, num_devices)


def deal_dirichlet(
    labels: Labels,
    num_devices: int,
    rng: np.random.Generator,
    *,
    alpha: float,
    min_samples: int,
    groups: Groups | None = None,
) -> Partition:
    """Deal each class by shares over devices drawn from a symmetric Dirichlet distribution.

    The rule of NIID-Bench (Li et al., ICDE 2022, section "Label distribution skew"): shares are drawn per class over
    devices, not per device over classes (Hsu et al., 2019), so device sizes differ too. Their code also stops
    feeding a device that has its N/devices samples; this does not. Counts are rounded by largest remainder.

    Raises:
        ScenarioError: `min_samples` for every device is more than there is, or was not met in `MAX_DRAWS` draws; or
            samples have several targets.
    """
    _require_one_class(labels, "dirichlet")
    needed = min_samples * num_devices
    if needed > len(labels):
        raise _min_samples_error(
            f"{min_samples} for each of {num_devices} devices needs {needed} samples, there are {len(labels)}; "
            f"use at most {len(labels) // num_devices}"
        )
    best = -1
    for _ in range(MAX_DRAWS):
        partition = partition_by_owner(_dirichlet_owners(labels, num_devices, rng, alpha), num_devices)
        best = max(best, int(partition.sizes.min()))
        if best >= min_samples:
            return partition
    raise _min_samples_error(
        f"{min_samples} was not reached in {MAX_DRAWS} draws of alpha {alpha:g} over {num_devices} devices "
        f"(best: {best}); lower it, raise alpha or use fewer devices"
    )


def _dirichlet_owners(labels: Labels, num_devices: int, rng: np.random.Generator, alpha: float) -> NDArray[np.int64]:
    owners = np.empty(len(labels), np.int64)
    concentration = np.full(num_devices, alpha)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        counts = largest_remainder(rng.dirichlet(concentration), len(members))
        owners[members] = np.repeat(np.arange(num_devices), counts)
    return owners


def largest_remainder(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Return whole numbers that add up to `total`, each at most one away from its share of it."""
    exact = shares * total
    counts = np.floor(exact).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def _require_one_class(labels: Labels, kind: str) -> None:
    if labels.ndim > 1:
        shape = "x".join(map(str, labels.shape[1:]))
        message = (
            f"{kind} deals by the class of a sample, and each of these has targets of shape {shape}; use iid, or "
            "natural where the dataset knows the owners"
        )
        raise ScenarioError([Problem(key="data.partition", message=message)])


def _min_samples_error(message: str) -> ScenarioError:
    return ScenarioError([Problem(key="data.partition.min_samples", message=message)])


def deal_shards(
    labels: Labels,
    num_devices: int,
    rng: np.random.Generator,
    *,
    shards_per_device: int,
    groups: Groups | None = None,
) -> Partition:
    """Sort by label, cut into `num_devices * shards_per_device` shards and deal every device its number of shards.

    The pathological non-IID split of McMahan et al., AISTATS 2017, section 3. Shard sizes differ by at most one.

    Raises:
        ScenarioError: samples have several targets, or this machine does not hold so many shards.
    """
    _require_one_class(labels, "shards")
    num_shards = num_devices * shards_per_device
    require_room(
        16 * num_shards,
        f"{shards_per_device} shards for each of {num_devices} devices",
        key="data.partition.shards_per_device",
        advice="lower it",
    )
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    owner_of_shard = rng.permutation(num_shards) // shards_per_device
    owners = np.empty(len(labels), np.int64)
    owners[by_label] = owner_of_shard[np.arange(len(labels)) * num_shards // max(1, len(labels))]
    return partition_by_owner(owners, num_devices)


def _build_iid(_options: IidOptions) -> Deal:
    return deal_iid


def _build_dirichlet(options: DirichletOptions) -> Deal:
    return functools.partial(deal_dirichlet, alpha=options.alpha, min_samples=options.min_samples)


def _build_shards(options: ShardsOptions) -> Deal:
    return functools.partial(deal_shards, shards_per_device=options.shards_per_device)


IID = Component(
    kind="iid",
    summary="samples at random, device sizes equal to one sample",
    source="McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629",
    options=IidOptions,
    build=_build_iid,
)
DIRICHLET = Component(
    kind="dirichlet",
    summary="each class dealt by Dirichlet shares over devices: skewed labels and sizes",
    source="Li et al. (NIID-Bench), ICDE 2022, https://arxiv.org/abs/2102.02079",
    options=DirichletOptions,
    build=_build_dirichlet,
)
SHARDS = Component(
    kind="shards",
    summary="sorted by label and cut into shards, a few per device: each device sees few classes",
    source="McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629",
    options=ShardsOptions,
    build=_build_shards,
)
