"""`femnist` and partition `natural`: files as LEAF writes them, small."""

import json
import os

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
    [("{", "Expecting property name"), ("[]", "no object with users and user_data but a list"), ('{"users": []}', "no 'user_data'"),
     ('{"users": ["a"], "user_data": {}}', "differ in 1 names, the first: 'a'"), ('{"users": ["a"], "user_data": {"a": {"x": []}}}', "no 'y'")],
)  # fmt: skip
def test_files_of_another_format_are_named(root, content, reason):
    (root / "train" / "all_data_1.json").write_text(content)
    with pytest.raises(DataNotFoundError, match=rf"all_data_1.json is not a file of LEAF's format: .*{reason}"):
        load(root)


def test_images_of_another_size_are_refused_with_the_shapes(root):
    content = {"users": ["a"], "num_samples": [2], "user_data": {"a": {"x": [[0.0] * 9] * 2, "y": [1, 2]}}}
    (root / "train" / "all_data_1.json").write_text(json.dumps(content))
    with pytest.raises(DataNotFoundError, match="of writer a has pixels of shape 2x9 for 2 labels; 2x784 is needed"):
        load(root)


@pytest.mark.parametrize(("grey", "label", "found"), [(10, 62, "label 62 of image 0; labels are whole, 0 to 61"), (510, 1, "pixel 0 of image 0 2.0; pixels are numbers from 0 to 1")],
)  # fmt: skip
def test_labels_and_pixels_out_of_range_are_refused(root, grey, label, found):
    leaf(root / "train" / "all_data_1.json", {"f03": [(grey, label)]})
    with pytest.raises(DataNotFoundError, match=rf"all_data_1.json of writer f03 has {found}"):
        load(root)


def _set(user, *path, value):
    """Return a change of a file's content: what stands at `path` below a user becomes `value`."""

    def change(content):
        place = content["user_data"][user]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


NAN, INF = float("nan"), float("inf")
DAMAGES = {
    "label 3.7 of image 1": _set("f02", "y", 1, value=3.7),
    "label '3' of image 0": _set("f02", "y", 0, value="3"),
    "label True of image 0": _set("f02", "y", 0, value=True),
    "label 3.0 of image 0": _set("f02", "y", 0, value=3.0),
    "label None of image 0": _set("f02", "y", 0, value=None),
    "label -1 of image 0": _set("f02", "y", 0, value=-1),
    "label 1" + 39 * "0" + " of image 0": _set("f02", "y", 0, value=10**50),
    "NaN is not a number": _set("f02", "x", 1, 3, value=NAN),
    "-Infinity is not a number": _set("f02", "x", 0, 0, value=-INF),
    "pixel 5 of image 1 1.01;": _set("f02", "x", 1, 5, value=1.01),
    "pixel 783 of image 0 -1e-09;": _set("f02", "x", 0, 783, value=-1e-9),
    "pixel 7 of image 0 True;": _set("f02", "x", 0, 7, value=True),
    "pixel 7 of image 0 '0.5';": _set("f02", "x", 0, 7, value="0.5"),
    r"pixel 7 of image 0 \[0.5\];": _set("f02", "x", 0, 7, value=[0.5]),
    r"pixels of shape 2x3 or 784 for 2 labels": _set("f02", "x", 0, value=[0.0] * 3),
    r"pixels of shape 2x\? for 2 labels": _set("f02", "x", 0, value=0.5),
    "num_samples 2 for 1 labels": _set("f02", "y", value=[1]),
    "y must be a list, found a text": _set("f02", "y", value="12"),
    "x must be a list, found an object": _set("f02", "x", value={}),
    "num_samples 2.5 for 2 labels": lambda content: content["num_samples"].__setitem__(0, 2.5),
    "num_samples has 4 numbers for 3 users": lambda content: content["num_samples"].append(1),
    "users must be names, each once": lambda content: content["users"].__setitem__(0, "f01"),
    "users and user_data differ in 1 names, the first: 'g'": lambda content: content["user_data"].update(g={}),
    "a user has no x and y but a list": lambda content: content["user_data"].update(f02=[]),
    "users must be a list, found null": lambda content: content.update(users=None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_label_or_pixel_is_refused_with_file_writer_and_place(root, damage):
    file = root / "train" / "all_data_0.json"
    content = json.loads(file.read_text())
    DAMAGES[damage](content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataNotFoundError, match=rf"^femnist: \S*all_data_0\.json .*{damage}"):
        load(root)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[" * 5000 + "]" * 5000, "nested too deeply"), ('{"users": [], "users": []}', "'users' stands twice"),
     ('{"user_data": {"a": ' + "9" * 5000 + "}}", "integer string conversion"), ('{"users": ["\\ud800"]}', "no 'user_data'"),
     ('{"users": [], "user_data": {"\\ud800": 0}}', r"differ in 1 names, the first: '\\+ud800'")],
)  # fmt: skip
def test_texts_that_json_readers_stumble_over_are_refused_in_words(root, text, reason):
    (root / "train" / "all_data_1.json").write_text(text)
    with pytest.raises(DataNotFoundError, match=rf"all_data_1.json is not a file of LEAF's format: .*{reason}"):
        load(root)


def test_a_pipe_in_the_place_of_a_file_is_refused(root):
    os.mkfifo(root / "test" / "all_data_7.json")
    with pytest.raises(DataNotFoundError, match=r"all_data_7.json cannot be read \(is not a regular file\)"):
        load(root)


def test_what_is_left_out_is_said(root):
    (root / "train" / "readme.txt").write_text("")
    (root / "train" / ".DS_Store").write_text("")
    content = {"users": ["z"], "num_samples": [1], "user_data": {"z": {"x": [[0.5] * 784], "y": [1]}}}
    (root / "train" / "z.json").write_text(json.dumps(content))
    train = root / "train"
    assert load(root).left_out == (
        f"femnist: {train} holds more than .json files, which is not looked at: readme.txt",
        f"femnist: 1 of 5 writers in {train} have no image and are left out",
        f"femnist: 1 of 7 images in {train} have pixels between grey levels, now rounded",
    )


GROUPS = np.array([7, 3, 3, 9, 7, 3, 5])


def deal(num_devices, seed=0, groups=GROUPS):
    rng = stream(seed, "test-natural")
    return natural.COMPONENT.build(natural.NaturalOptions())(np.zeros(7, np.int64), num_devices, rng, groups=groups)


def test_each_device_is_one_group():
    dealt = deal(4)
    assert dealt.left_out == ()
    assert sorted(dealt.of(device).tolist() for device in range(4)) == [[0, 4], [1, 2, 5], [3], [6]]


@pytest.mark.parametrize("seed", range(5))
def test_with_fewer_devices_a_seeded_choice_of_groups_takes_part(seed):
    dealt = deal(2, seed)
    assert dealt.num_devices == 2
    assert dealt.left_out == (
        f"partition natural: 2 of 4 owners of samples are no device of this fleet, and {7 - len(dealt.samples)} of 7 "
        "training samples belong to nobody",
    )
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
