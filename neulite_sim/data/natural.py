"""The natural partition: each device is one owner that the dataset knows, a writer of FEMNIST for example.

S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, https://arxiv.org/abs/1812.01097.
"""

from __future__ import annotations

import numpy as np

from neulite_sim.data.contract import Partition
from neulite_sim.data.partition import Deal, Groups, Labels, partition_by_owner
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import Component, Options


class NaturalOptions(Options):
    """Options of `natural`: none."""


def deal_natural(
    labels: Labels, num_devices: int, rng: np.random.Generator, *, groups: Groups | None = None
) -> Partition:
    """Deal every device the samples of one group; with fewer devices than groups, of so many groups by chance.

    Which group becomes which device is drawn as well; the samples of groups that are not drawn belong to nobody.

    Raises:
        ScenarioError: the dataset knows no groups, or fewer than there are devices.
    """
    if groups is None:
        finding = "natural needs a dataset that knows the owner of each sample, as femnist does"
        hint = "use partition iid, dirichlet or shards with this one"
        raise ScenarioError([Problem.advising(key="data.partition", found=finding, hint=hint)])
    present = np.unique(groups)
    if num_devices > len(present):
        finding = f"{num_devices} is more than the {len(present)} natural groups of the {len(labels)} training samples"
        hint = f"use at most {len(present)}, or another data.partition"
        raise ScenarioError([Problem.advising(key="population.devices", found=finding, hint=hint)])
    device_of_group = np.full(len(present), num_devices, np.int64)
    device_of_group[rng.permutation(len(present))[:num_devices]] = np.arange(num_devices)
    # Whatever is left goes to one owner more, which is cut off.
    dealt = partition_by_owner(device_of_group[np.searchsorted(present, groups)], num_devices + 1)
    offsets = dealt.offsets[:-1]
    num_left = len(present) - num_devices
    left_out = (
        f"partition natural: {num_left:,} of {len(present):,} owners of samples are no device of this fleet, and "
        f"{len(labels) - offsets[-1]:,} of {len(labels):,} training samples belong to nobody",
    )
    return Partition(samples=dealt.samples[: offsets[-1]], offsets=offsets, left_out=left_out if num_left else ())


def _build(_options: NaturalOptions) -> Deal:
    return deal_natural


COMPONENT = Component(
    kind="natural",
    summary="each device is one natural owner of samples, such as a writer; needs a dataset that knows them",
    source="Caldas et al. (LEAF), 2018, https://arxiv.org/abs/1812.01097",
    options=NaturalOptions,
    build=_build,
)
