"""`flwr-datasets:NAME`: the package's own partitioners deal, where it is installed; else the line that installs it."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from neulite_sim.data import flwr_partitions
from neulite_sim.data.conformance import check_partition
from neulite_sim.errors import NeuliteError, ScenarioError
from neulite_sim.registry import ComponentField
from neulite_sim.seeding import stream

LABELS = np.arange(200) % 5


def deal_of(name, **options):
    choice = ComponentField("partition")._validate({"kind": f"flwr-datasets:{name}", "options": options})
    return flwr_partitions.COMPONENT.build(choice.options, name)


def dealt(name, num_devices=4, groups=None, **options):
    return deal_of(name, **options)(LABELS, num_devices, stream(0, "tests"), groups=groups)


def test_without_the_package_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr_datasets.partitioner", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    words = (
        "partition flwr-datasets:IidPartitioner needs flwr-datasets, which is not installed; install it: python -m pip"
    )
    with pytest.raises(NeuliteError, match=re.escape(f"{words} install 'neulite-sim[flwr-datasets]'")):
        dealt("IidPartitioner")


def test_samples_with_several_targets_are_refused():
    with pytest.raises(ScenarioError, match="deals by the class of a sample, and each of these has several; use iid"):
        deal_of("IidPartitioner")(np.zeros((4, 2), np.int64), 2, stream(0, "tests"))


@pytest.fixture
def partitioners():
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    return pytest.importorskip("flwr_datasets.partitioner", reason="flwr-datasets is not installed")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("IidPartitioner", {}),
        ("DirichletPartitioner", {"alpha": 0.5, "min_partition_size": 1}),
        ("PathologicalPartitioner", {"num_classes_per_partition": 2}),
        ("ShardPartitioner", {"num_shards_per_partition": 2}),
        ("LinearPartitioner", {}),
    ],
)
def test_its_partitioners_keep_the_contract(partitioners, name, options):
    check_partition(deal_of(name, **options))


def test_a_partitioner_deals_what_it_deals_by_itself(partitioners):
    datasets = pytest.importorskip("datasets")
    own = partitioners.LinearPartitioner(num_partitions=4)
    own.dataset = datasets.Dataset.from_dict({"sample": list(range(200))})
    found = dealt("LinearPartitioner")
    assert [found.of(device).tolist() for device in range(4)] == [
        own.load_partition(each)["sample"][:] for each in range(4)
    ]
    assert found.sizes.tolist() == sorted(found.sizes.tolist())


def test_owners_are_what_natural_ids_go_by(partitioners):
    found = dealt("NaturalIdPartitioner", groups=np.arange(200) // 50)
    assert sorted(found.sizes.tolist()) == [50] * 4


def test_pathological_devices_have_the_classes_they_are_given(partitioners):
    found = dealt("PathologicalPartitioner", num_classes_per_partition=2)
    assert {len(np.unique(LABELS[found.of(device)])) for device in range(4)} == {2}


def test_what_it_refuses_is_named(partitioners):
    for words, name, options in (
        ("flwr-datasets has no partitioner 'DirichletPartitoner'; did you mean 'DirichletPartitioner'", "DirichletPartitoner", {}),
        ("DirichletPartitioner takes no 'alhpa'; did you mean 'alpha'?; it takes num_partitions", "DirichletPartitioner", {"alhpa": 1}),
        ("DirichletPartitioner refuses its options (", "DirichletPartitioner", {}),
        ("SizePartitioner makes 2 partitions for 4 devices; set population.devices to 2", "SizePartitioner", {"partition_sizes": [100, 100]}),
        ("PathologicalPartitioner failed (", "PathologicalPartitioner", {"num_classes_per_partition": 9}),
    ):  # fmt: skip
        with pytest.raises(ScenarioError, match=re.escape(words)):
            dealt(name, **options)


class Fake:
    """A partitioner as the package has them: of `lists` it gives each device its own."""

    lists = ([0, 1], [2, 3])

    def __init__(self, num_partitions: int, partition_by: str = "", seed: int = 0, wish: object = None) -> None:
        self.num_partitions, self.given, self.dataset = num_partitions, (partition_by, seed, wish), None
        made.append(self)

    def load_partition(self, device):
        return {"sample": [self.dataset["sample"][each] for each in self.lists[device]]}


class Table:
    from_dict = staticmethod(dict)


made: list[Fake] = []


@pytest.fixture
def fakes(monkeypatch):
    """Stand-ins for the two packages, so that what is asked of them is tested without them."""
    made.clear()
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(Dataset=Table))
    known = SimpleNamespace(__all__=["Partitioner", "Fake", "FakeNatural"], Fake=Fake, FakeNatural=Fake)
    monkeypatch.setitem(sys.modules, "flwr_datasets.partitioner", known)
    return known


def test_a_partitioner_is_given_what_it_takes_and_what_nobody_gets_is_said(fakes):
    first, again = (dealt("Fake", num_devices=2, wish=[1, 2]) for _ in range(2))
    assert [first.of(device).tolist() for device in range(2)] == [[0, 1], [2, 3]]
    assert first.left_out == ("partition flwr-datasets:Fake: 196 of 200 training samples belong to nobody",)
    assert made[0].given == made[1].given == ("label", made[0].given[1], [1, 2])
    assert sorted(made[0].dataset) == ["label", "sample"]
    assert again.samples.tolist() == first.samples.tolist()
    dealt("FakeNatural", num_devices=2, groups=np.arange(200))
    assert made[2].given[0] == "group"
    assert "group" in made[2].dataset


def test_what_a_partitioner_does_wrong_is_named(fakes, monkeypatch):
    monkeypatch.setattr(Fake, "lists", ([0, 1], [1]))
    with pytest.raises(ScenarioError, match="Fake gives sample 1 to devices 0 and 1; a sample belongs to one device"):
        dealt("Fake", num_devices=2)
    with pytest.raises(ScenarioError, match=r"Fake makes 3 partitions for 2 devices; set population\.devices to 3"):
        dealt("Fake", num_devices=2, num_partitions=3)
    monkeypatch.setattr(Fake, "lists", ([0, 1], [2]))
    with pytest.raises(
        ScenarioError, match=r"Fake failed \(IndexError: tuple index out of range\); change its options"
    ):
        dealt("Fake", num_devices=3)
    with pytest.raises(ScenarioError, match="flwr-datasets has no partitioner 'Fakes'; did you mean 'Fake'"):
        dealt("Fakes")
    with pytest.raises(ScenarioError, match="Fake takes no 'wihs'; did you mean 'wish'"):
        dealt("Fake", wihs=1)
