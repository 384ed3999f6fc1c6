"""`check_partition` passes for what keeps the contract and names the law that is broken."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from neulite_sim.data.conformance import check_partition
from neulite_sim.data.partition import deal_iid
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import component, names
from neulite_sim.seeding import stream


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in names("partition") if kind not in ("flwr-datasets", "table")),
        ("dirichlet", {"alpha": 0.01}),
        ("shards", {"shards_per_device": 90}),
    ],
)
def test_every_registered_partition_keeps_the_contract(kind, options):
    found = component("partition", kind)
    check_partition(found.build(found.options(**options)))


def changed(**changes):
    """Return a way to deal that does as `iid`, with columns of the partition replaced by what comes of them."""

    def deal(labels, num_devices, rng, *, groups=None):
        dealt = deal_iid(labels, num_devices, rng)
        return replace(dealt, **{name: change(getattr(dealt, name)) for name, change in changes.items()})

    return deal


moods = itertools.count()


def moody(labels, num_devices, rng, *, groups=None):
    return deal_iid(labels, num_devices, stream(0, "mood", next(moods)))


def sorts_labels(labels, num_devices, rng, *, groups=None):
    labels.sort()
    return deal_iid(labels, num_devices, rng)


def refuses(labels, num_devices, rng, *, groups=None):
    raise ScenarioError([Problem(key="data.partition", message="not today")])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (moody, "equal generators dealt otherwise"),
        (sorts_labels, "changed the labels"),
        (refuses, "refuses 600 samples for 12 devices: data.partition: not today"),
        (changed(samples=lambda column: column.astype(np.int32)), "samples: must be int64, are int32"),
        (changed(offsets=lambda column: column.astype(np.float64)), "offsets: must be int64, are float64"),
        (changed(offsets=lambda column: column[:-1]), r"12 devices have 13, found \(12,\)"),
        (changed(offsets=lambda column: column + 1), "must begin at 0, begin at 1"),
        (changed(offsets=lambda column: np.sort(-column) % 601), "must not fall|must begin at 0"),
        (changed(offsets=lambda column: column // 2), "end at the number of samples dealt, 600, end at 300"),
        (changed(samples=lambda column: column + 1), "must be 0 to 599, reach from 1 to 600"),
        (changed(samples=lambda column: column // 2 * 2), "belong to more than one device"),
        (changed(samples=lambda column: column[::-1].copy()), "must ascend within a device, those of 0 begin"),
        (
            changed(samples=lambda column: column[:50], offsets=lambda column: np.minimum(column, 50)),
            "550 samples belong to nobody, and nothing is said",
        ),
    ],
)
def test_a_broken_partition_is_found(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_partition(broken)
