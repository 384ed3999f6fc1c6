"""`table`: a file says which device owns which sample; every problem is named by its line."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scenarios import tiny

from neulite_sim.data import partition_table
from neulite_sim.data.conformance import check_partition
from neulite_sim.data.given import given_dataset
from neulite_sim.data.given_partition import given_deal, given_partition
from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.given import with_given
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.seeding import stream

LABELS = np.zeros(6, np.int64)


def dealt(path, num_devices=3):
    deal = partition_table.COMPONENT.build(partition_table.TableOptions(path=str(path)))
    return deal(LABELS, num_devices, stream(0, "tests"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("owners.csv", "sample,device\n5,0\n0,2\n1,0\n3,2\n"),
        ("owners.json", '{"2": [3, 0], "0": [1, 5], "1": []}'),
        ("lists.json", "[[1, 5], [], [3, 0]]"),
    ],
)
def test_each_device_owns_what_the_file_gives_it(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    found = dealt(tmp_path / name)
    assert [found.of(device).tolist() for device in range(3)] == [[1, 5], [], [0, 3]]
    assert found.left_out == ("partition table: 2 of 6 training samples belong to nobody",)


def test_a_table_keeps_the_contract(tmp_path):
    (tmp_path / "a.csv").write_text("sample,device\n" + "".join(f"{each},{each % 12}\n" for each in range(600)))
    check_partition(partition_table.COMPONENT.build(partition_table.TableOptions(path=str(tmp_path / "a.csv"))))


WRONG = {
    "a.csv:3: data.partition.path: sample 6 is not there; training samples are 0 to 5": "sample,device\n0,0\n6,0\n",
    "a.csv:2: data.partition.path: device 3 is not there; devices are 0 to 2": "sample,device\n0,3\n",
    "a.csv:4: data.partition.path: names sample 0 again, as line 2 does; a sample belongs to one": "sample,device\n0,1\n1,1\n0,2\n",
    "a.csv:2: data.partition.path: sample '-1' is no whole number from 0 up": "sample,device\n-1,0\n",
    "a.csv:2: data.partition.path: device 'ann' is no whole number from 0 up": "sample,device\n1,ann\n",
    "a.csv:3: data.partition.path: has 1 columns where there are 2": "sample,device\n1,0\n2\n",
    "a.csv:1: data.partition.path: has the header 'device,sample'; it must be sample,device": "device,sample\n1,0\n",
    "data.partition: no training sample belongs to a device; give at least one": "sample,device\n",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named_by_its_line(words, tmp_path):
    (tmp_path / "a.csv").write_text(WRONG[words])
    with pytest.raises(ScenarioError) as wrong:
        dealt(tmp_path / "a.csv")
    assert words in str(wrong.value)


def test_all_problems_are_named_at_once(tmp_path):
    (tmp_path / "a.csv").write_text("sample,device\n9,0\n0,9\n")
    with pytest.raises(ScenarioError) as wrong:
        dealt(tmp_path / "a.csv")
    assert [problem.line for problem in wrong.value.problems] == [2, 3]


JSONS = {
    "is not JSON (": "{",
    "is not JSON (the key '1' stands twice": '{"1": [], "1": []}',
    "holds no object of device to samples": "3",
    "names device 'ann', which is no whole number from 0 up": '{"ann": [1]}',
    "gives device 1 no list of samples": '{"1": 3}',
    "gives device 1 the sample 1.5, which is no whole number": '{"1": [1.5]}',
    "gives device 1 the sample True, which is no whole number": '{"1": [true]}',
    "names sample 1 again twice; a sample belongs to one device at most": '{"1": [1], "2": [1]}',
}


@pytest.mark.parametrize("words", JSONS)
def test_what_is_wrong_with_json_is_named(words, tmp_path):
    (tmp_path / "a.json").write_text(JSONS[words])
    with pytest.raises(ScenarioError, match=re.escape(words)):
        dealt(tmp_path / "a.json")


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("none.csv", "none.json"):
        with pytest.raises(DataNotFoundError, match=re.escape("data.partition.path names a CSV file of sample,device")):
            dealt(tmp_path / name)


# ---- given from Python -----------------------------------------------------------------------------------------------


class Six:
    """As much of a dataset as a partition looks at."""

    name, train_labels, groups = "mine", LABELS, None


class Owned(Six):
    groups = np.array([0, 0, 1, 1, 2, 2])


LISTS = [[1, 5], [], [3, 0]]


@pytest.mark.parametrize(
    "value",
    [
        LISTS,
        [np.array(each, np.int32) for each in LISTS],
        {2: [0, 3], 0: (5, 1)},
        np.array([2, 0, -1, 2, -1, 0]),
        [2, 0, -1, 2, -1, 0],
        given_partition(LISTS, Six(), 3),
    ],
)
def test_lists_mappings_and_owners_say_the_same(value):
    found = given_partition(value, Six(), 3)
    assert [found.of(device).tolist() for device in range(3)] == [[1, 5], [], [0, 3]]
    assert found.left_out == ("partition given: 2 of 6 training samples belong to nobody",)


NUMBERED = np.repeat(np.arange(100.0)[:, None], 5, axis=1), np.arange(100) % 2


@pytest.mark.parametrize("options", [{}, {"train_samples": 60}], ids=["all", "some"])
@pytest.mark.parametrize("shape", ["lists", "owners"])
def test_samples_are_counted_as_they_were_given(shape, options):
    """Whatever was held out for tests or left out, device 0 owns nothing but samples that were dealt to it."""
    dataset = given_dataset(NUMBERED, name="mine", options={"normalise": False, **options})
    owners = np.arange(100) // 10 % 2
    value = owners if shape == "owners" else [np.flatnonzero(owners == device) for device in (0, 1)]
    found = given_partition(value, dataset, 2)
    for device in (0, 1):
        rows = dataset.train_inputs[found.of(device)][:, 0].astype(int)
        assert (owners[rows] == device).all()
    count = len(dataset.train_labels)
    assert found.sizes.sum() == count == options.get("train_samples", 80)
    words = "of the samples that it deals were held out for tests, or not chosen"
    assert found.left_out == (f"partition given: {100 - count} {words}",)


def test_a_function_counts_the_samples_that_it_is_shown():
    def of_evens(labels):
        return [np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)]

    partition = scenario_parts(of_evens)
    assert partition.sizes.sum() == 80
    assert not partition.left_out


def scenario_parts(partition):
    scenario = tiny()
    population = scenario.population.model_copy(update={"devices": 2})
    changed = scenario.model_copy(update={"population": population}).dump()
    return prepare(with_given(changed, data=NUMBERED, partition=partition)).partition


def test_a_tensor_says_who_owns_what():
    torch = pytest.importorskip("torch")
    assert given_partition(torch.tensor([0, 1, 2, 0, 1, 2]), Six(), 3).sizes.tolist() == [2, 2, 2]


def test_a_column_makes_each_device_one_of_its_values():
    found = given_partition("writer", Owned(), 3)
    assert sorted(found.of(device).tolist() for device in range(3)) == [[0, 1], [2, 3], [4, 5]]
    assert given_partition("writer", Owned(), 2, seed=1).sizes.tolist() == [2, 2]


GIVEN = {
    "2 lists of samples for 3 devices; give one per device, or set population.devices to 2": [[0], [1]],
    "a int is no partition; give a list of index arrays": 3,
    "4 devices for 6 training samples; give a device for each": [0, 1, 2, 0],
    "devices are bool; give whole numbers, -1 for nobody": np.zeros(6, bool),
    "training sample 4 belongs to device 3; devices are 0 to 2, -1 being nobody": [0, 1, 2, 0, 3, 1],
    "there is no device 'a'; devices are 0 to 2": {"a": [1]},
    "there is no device 3; devices are 0 to 2": {3: [1]},
    "the samples of device 1 are float64 of shape (1,); give one list of whole numbers": [[0], [1.5], []],
    "device 1 has sample 6; training samples are 0 to 5": [[0], [6], []],
    "device 1 has sample 2 twice; name it once": [[0], [2, 2], []],
    "devices 0 and 1 both have sample 0; a sample belongs to one device at most": [[0], [0], []],
    "no training sample belongs to a device; give at least one device samples": [[], [], []],
    "the data was not grouped by a column 'writer'; give the data with the option group: writer": "writer",
}


@pytest.mark.parametrize("words", GIVEN)
def test_what_is_wrong_with_a_given_partition_is_named(words):
    with pytest.raises(ScenarioError, match=re.escape(f"data.partition: {words}")):
        given_partition(GIVEN[words], Six(), 3)


@settings(max_examples=30, deadline=None)
@given(
    owners=st.lists(st.integers(-1, 4), min_size=1, max_size=40).filter(lambda each: max(each) >= 0),
    seed=st.integers(0, 9),
)
def test_every_way_to_write_who_owns_what_says_the_same(owners, seed, tmp_path_factory):
    folder, labels = tmp_path_factory.mktemp("owners"), np.zeros(len(owners), np.int64)
    order = stream(seed, "tests").permutation(len(owners)).tolist()
    lists = {device: [each for each in order if owners[each] == device] for device in range(5)}
    lines = [f"{each},{owners[each]}" for each in order if owners[each] >= 0]
    (folder / "a.csv").write_text("\n".join(["sample,device", *lines]))
    (folder / "a.json").write_text(json.dumps(lists))
    deals = [
        partition_table.COMPONENT.build(partition_table.TableOptions(path=str(folder / name)))
        for name in ("a.csv", "a.json")
    ]
    deals += [given_deal(value) for value in (np.array(owners), owners, lists, list(lists.values()))]
    found = [deal(labels, 5, stream(seed, "tests")) for deal in deals]
    assert len({(each.samples.tobytes(), each.offsets.tobytes()) for each in found}) == 1
    assert [found[0].of(device).tolist() for device in range(5)] == [sorted(lists[device]) for device in range(5)]
