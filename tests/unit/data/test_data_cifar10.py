"""`cifar10`: files of the real format, small; the checksums are those of the files that the test writes.

torchvision compares each file with its published MD5 sum. The fixture writes files of the same names, keys, types and
layout with 20 images each and puts their sums in place of the published ones; everything else is the real path.
"""

import hashlib
import pickle
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from neulite_sim.data.cifar10 import COMPONENT, FOLDER, MEAN, STD, Cifar10Options, build
from neulite_sim.data.conformance import check_dataset
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.registry import component
from neulite_sim.torchvision_compat import torchvision_module

REAL_ROOT = Path(__file__).parents[4] / "shared" / "data"
TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]


def batch(start):
    """Image i is i in red, 100 + i in green, and its row numbers in blue; its label is i modulo 10."""
    numbers = np.arange(start, start + 20)
    planes = [np.repeat(numbers[:, None], 1024, axis=1), np.repeat(100 + numbers[:, None], 1024, axis=1)]
    rows = np.broadcast_to(np.arange(32).repeat(32), (20, 1024))
    data = np.concatenate([*planes, rows], axis=1).astype(np.uint8)
    return {"data": data, "labels": (numbers % 10).tolist(), "filenames": ["x.png"] * 20}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / FOLDER
    folder.mkdir()
    contents = {name: batch(20 * index) for index, name in enumerate([*TRAIN_FILES, "test_batch"])}
    contents["batches.meta"] = {"label_names": [str(label) for label in range(10)], "num_vis": 3072}
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        sums[name] = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    cifar = torchvision_module("datasets").CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, sums[name]] for name in TRAIN_FILES])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": sums["batches.meta"]})
    return tmp_path


def load(root, **options):
    return build(Cifar10Options(root=str(root), **options), seed=0)


def test_it_is_registered_under_its_name():
    assert component("data", "cifar10") is COMPONENT


def test_images_come_with_channels_first_and_their_own_labels(root):
    dataset = load(root)
    check_dataset(dataset)
    assert dataset.train_images.shape == (100, 3, 32, 32)
    assert dataset.test_images.shape == (20, 3, 32, 32)
    assert dataset.train_images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train_images[:, 0, 5, 9], np.arange(100))
    np.testing.assert_array_equal(dataset.test_images[:, 1, 31, 0], np.arange(200, 220))
    assert (dataset.train_images[:, 2] == np.arange(32)[:, None]).all()
    np.testing.assert_array_equal(dataset.train_labels, np.arange(100) % 10)
    assert (dataset.mean, dataset.std, dataset.pixel_scale) == (MEAN, STD, 255.0)


def test_the_common_options_act(root):
    dataset = load(root, image_size=8, train_samples=30, test_samples=4, augmentation="crop-flip")
    assert dataset.train_images.shape == (30, 3, 8, 8)
    assert len(dataset.test_labels) == 4
    assert dataset.augmentation == "crop-flip"


def test_more_samples_than_there_are_is_refused_with_both_numbers(root):
    with pytest.raises(ScenarioError, match="101 is more than the 100 training samples of cifar10"):
        load(root, train_samples=101)


def test_a_missing_folder_is_named_with_what_belongs_there_and_how_to_get_it(tmp_path):
    with pytest.raises(DataNotFoundError) as refused:
        load(tmp_path / "nowhere")
    text = str(refused.value)
    assert f"there is no folder {tmp_path / 'nowhere' / FOLDER}" in text
    assert "data_batch_1 to data_batch_5, test_batch and batches.meta" in text
    assert "data.download: true" in text
    assert not (tmp_path / "nowhere").exists()


def test_missing_and_damaged_files_are_named(root):
    (root / FOLDER / "data_batch_2").unlink()
    with (root / FOLDER / "test_batch").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DataNotFoundError, match=r"damaged: data_batch_2 \(missing\), test_batch \(wrong checksum\);"):
        load(root)


def test_a_damaged_file_is_never_unpickled(root):
    class Boom:
        def __reduce__(self):
            return (Path.touch, (root / "executed",))

    (root / FOLDER / "data_batch_1").write_bytes(pickle.dumps(Boom()))
    with pytest.raises(DataNotFoundError, match=r"data_batch_1 \(wrong checksum\)"):
        load(root)
    assert not (root / "executed").exists()


def test_a_damaged_list_of_names_is_reported_too(root):
    (root / FOLDER / "batches.meta").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match=r"batches.meta \(wrong checksum\)"):
        load(root)


def test_download_leaves_complete_files_alone(root, monkeypatch):
    monkeypatch.setattr(torchvision_module("datasets").CIFAR10, "download", pytest.fail)
    assert len(load(root, download=True).train_labels) == 100


def test_download_fills_the_folder(root, tmp_path, monkeypatch):
    def copy(self):
        (Path(self.root) / FOLDER).mkdir()
        for file in (root / FOLDER).iterdir():
            (Path(self.root) / FOLDER / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(torchvision_module("datasets").CIFAR10, "download", copy)
    target = tmp_path / "a" / "b"
    assert len(load(target, download=True).train_labels) == 100
    assert [entry.name for entry in target.iterdir()] == [FOLDER]


def test_a_failed_download_names_address_and_folder_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(self):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torchvision_module("datasets").CIFAR10, "download", fail)
    with pytest.raises(DataNotFoundError) as refused:
        load(tmp_path / "new", download=True)
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in str(refused.value)
    assert str(tmp_path / "new") in str(refused.value)
    assert "no route to host" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(not (REAL_ROOT / FOLDER).is_dir(), reason=f"no {FOLDER} in {REAL_ROOT}")
def test_the_real_files_have_the_published_sizes_and_the_stated_statistics():
    dataset = load(REAL_ROOT)
    assert dataset.train_images.shape == (50000, 3, 32, 32)
    assert np.bincount(dataset.train_labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    histogram = (
        np.stack([np.bincount(dataset.train_images[:, c].ravel(), minlength=256) for c in range(3)]) / 51_200_000
    )
    values = np.arange(256) / 255
    mean = histogram @ values
    std = np.sqrt(histogram @ values**2 - mean**2)
    np.testing.assert_allclose(mean, MEAN, atol=5e-5)
    np.testing.assert_allclose(std, STD, atol=5e-5)
