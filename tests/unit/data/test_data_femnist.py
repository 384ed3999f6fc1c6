"""`femnist` and partition `natural`: files as LEAF writes them, small."""

import json

import numpy as np
import pytest

from neulite_sim.data import femnist, natural
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.partition import DIRICHLET, IID, SHARDS
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.registry import component
from neulite_sim.seeding import stream


def leaf(file, users):
    """Write a file of LEAF's format: user -> [(grey level, label), ...], images filled with their grey level."""
    data = {user: {"x": [[grey / 255] * 784 for grey, _ in samples], "y": [label for _, label in samples]}
            for user, samples in users.items()}  # fmt: skip
    content = {"users": list(users), "num_samples": [len(samples) for samples in users.values()], "user_data": data}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    leaf(tmp_path / "train" / "all_data_0.json", {"f02": [(10, 1), (11, 2)], "f01": [(20, 3)], "f09": []})
    leaf(tmp_path / "train" / "all_data_1.json", {"f03": [(30, 61), (31, 0), (255, 7)]})
    leaf(tmp_path / "test" / "all_data_0.json", {"f02": [(40, 5)], "f04": [(41, 6)]})
    return tmp_path


def load(root, **options):
    return femnist.build(femnist.COMPONENT.options(root=str(root), **options), seed=0)


def test_they_are_registered_under_their_names():
    assert component("data", "femnist") is femnist.COMPONENT
    assert component("partition", "natural") is natural.COMPONENT


def test_writers_come_in_the_order_of_their_names_with_their_samples(root):
    dataset = load(root)
    check_dataset(dataset)
    assert dataset.train_images.shape == (6, 1, 28, 28)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.groups.tolist() == [0, 1, 1, 2, 2, 2]
    assert dataset.train_labels.tolist() == [3, 1, 2, 61, 0, 7]
    assert dataset.train_images[:, 0, 13, 7].tolist() == [20, 10, 11, 30, 31, 255]
    assert dataset.test_images[:, 0, 0, 0].tolist() == [40, 41]
    assert dataset.num_classes == 62


def test_rows_of_an_image_follow_each_other(root):
    file = root / "train" / "all_data_0.json"
    content = json.loads(file.read_text())
    content["user_data"]["f01"]["x"] = [[(i % 256) / 255 for i in range(784)]]
    file.write_text(json.dumps(content))
    np.testing.assert_array_equal(load(root).train_images[0, 0], np.arange(784).reshape(28, 28) % 256)


def test_mean_and_deviation_are_measured_on_the_training_part(root):
    dataset = load(root)
    assert dataset.mean == pytest.approx((np.mean([20, 10, 11, 30, 31, 255]) / 255,))
    assert dataset.std == pytest.approx((np.std([20, 10, 11, 30, 31, 255]) / 255,))


def test_groups_follow_a_subset(root):
    dataset = load(root, train_samples=3, image_size=4)
    assert dataset.groups.shape == (3,)
    assert dataset.train_images.shape == (3, 1, 4, 4)


def test_missing_files_are_named_with_where_they_come_from(root, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"femnist: there is no folder .*nowhere.train; .*TalwalkarLab/leaf"):
        load(tmp_path / "nowhere")
    (root / "test" / "all_data_0.json").unlink()
    with pytest.raises(DataNotFoundError, match=r"femnist: .*test has no \.json file; data\.root must hold"):
        load(root)
    leaf(root / "test" / "all_data_0.json", {"f01": []})
    with pytest.raises(DataNotFoundError, match=r"the files in .*test hold no image"):
        load(root)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "Expecting property name"), ("[]", "list indices"), ('{"users": []}', "no 'user_data'"),
     ('{"users": ["a"], "user_data": {}}', "no 'a'"), ('{"users": ["a"], "user_data": {"a": {"x": []}}}', "no 'y'")],
)  # fmt: skip
def test_files_of_another_format_are_named(root, content, reason):
    (root / "train" / "all_data_1.json").write_text(content)
    with pytest.raises(DataNotFoundError, match=rf"all_data_1.json is not a file of LEAF's format: .*{reason}"):
        load(root)


def test_images_of_another_size_are_refused_with_the_shapes(root):
    content = {"users": ["a"], "num_samples": [2], "user_data": {"a": {"x": [[0.0] * 9] * 2, "y": [1, 2]}}}
    (root / "train" / "all_data_1.json").write_text(json.dumps(content))
    with pytest.raises(DataNotFoundError, match="pixels of shape 2x9 for the 2 labels of writer a; 2x784 is needed"):
        load(root)


@pytest.mark.parametrize(("grey", "label", "found"), [(10, 62, "labels from 62 to 62"), (510, 1, "from 2 to 2 for")])
def test_labels_and_pixels_out_of_range_are_refused(root, grey, label, found):
    leaf(root / "train" / "all_data_1.json", {"f03": [(grey, label)]})
    with pytest.raises(DataNotFoundError, match=rf"{found}.* labels are 0 to 61 and pixels 0 to 1"):
        load(root)


GROUPS = np.array([7, 3, 3, 9, 7, 3, 5])


def deal(num_devices, seed=0, groups=GROUPS):
    rng = stream(seed, "test-natural")
    return natural.COMPONENT.build(natural.NaturalOptions())(np.zeros(7, np.int64), num_devices, rng, groups=groups)


def test_each_device_is_one_group():
    dealt = deal(4)
    assert sorted(dealt.of(device).tolist() for device in range(4)) == [[0, 4], [1, 2, 5], [3], [6]]


@pytest.mark.parametrize("seed", range(5))
def test_with_fewer_devices_a_seeded_choice_of_groups_takes_part(seed):
    dealt = deal(2, seed)
    assert dealt.num_devices == 2
    assert len(dealt.samples) == dealt.offsets[-1] == dealt.sizes.sum()
    owned = [set(GROUPS[dealt.of(device)]) for device in range(2)]
    assert all(len(groups) == 1 for groups in owned)
    assert owned[0] != owned[1]
    assert all(
        np.count_nonzero(next(iter(groups)) == GROUPS) == size for groups, size in zip(owned, dealt.sizes, strict=True)
    )


def test_the_choice_depends_on_the_stream():
    assert deal(2, 1).samples.tolist() == deal(2, 1).samples.tolist()
    assert len({tuple(deal(2, seed).samples.tolist()) for seed in range(10)}) > 1


def test_more_devices_than_groups_are_refused_with_both_numbers():
    with pytest.raises(ScenarioError, match="5 is more than the 4 natural groups of the 7 training samples") as refused:
        deal(5)
    assert refused.value.problems[0].key == "population.devices"


def test_a_dataset_without_groups_is_refused():
    with pytest.raises(ScenarioError, match="natural needs a dataset that knows the owner of each sample, as femnist"):
        deal(2, groups=None)


@pytest.mark.parametrize("chosen", [IID, DIRICHLET, SHARDS], ids=lambda chosen: chosen.kind)
def test_the_other_partitions_take_groups_and_do_not_look_at_them(chosen):
    rule, labels = chosen.build(chosen.options()), np.arange(7) % 2
    plain = rule(labels, 3, stream(0, "test"))
    grouped = rule(labels, 3, stream(0, "test"), groups=GROUPS)
    assert plain.samples.tolist() == grouped.samples.tolist()
