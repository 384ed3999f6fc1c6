"""`cifar100` and `fashion-mnist`: files of the real formats, small, that the tests write."""

import hashlib
import pickle
import struct
import urllib.error

import numpy as np
import pytest

from neulite_sim.data import cifar100, fashion_mnist
from neulite_sim.data.conformance import check_dataset
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.registry import component
from neulite_sim.torchvision_compat import torchvision_module


@pytest.fixture
def cifar_root(tmp_path, monkeypatch):
    """Image i of 120 is filled with i; its fine label is i modulo 100. The last 20 are the test part."""
    folder = tmp_path / cifar100.FOLDER
    folder.mkdir()
    sums = {}
    for name, start, stop in (("train", 0, 100), ("test", 100, 120), ("meta", 0, 0)):
        numbers = np.arange(start, stop)
        content = {"data": np.repeat(numbers[:, None], 3072, axis=1).astype(np.uint8),
                   "fine_labels": (numbers % 100).tolist(), "coarse_labels": [0] * len(numbers)}  # fmt: skip
        if name == "meta":
            content = {"fine_label_names": [str(label) for label in range(100)]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        sums[name] = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    loader = torchvision_module("datasets").CIFAR100
    monkeypatch.setattr(loader, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(loader, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": sums["meta"]})
    return tmp_path


def idx(array):
    """The IDX format: two zeros, type 8 (unsigned bytes), number of dimensions, each as four bytes, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion_root(tmp_path):
    """Image i of 30 is filled with i; its label is i modulo 10. The last 10 are the test part."""
    folder = tmp_path / fashion_mnist.FOLDER
    folder.mkdir(parents=True)
    numbers = np.arange(30)
    images = np.broadcast_to(numbers[:, None, None], (30, 28, 28))
    for name, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images[part]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(numbers[part] % 10))
    return tmp_path


def load(module, root, **options):
    return module.build(module.COMPONENT.options(root=str(root), **options), seed=0)


def test_they_are_registered_under_their_names():
    assert component("data", "cifar100") is cifar100.COMPONENT
    assert component("data", "fashion-mnist") is fashion_mnist.COMPONENT


def test_cifar100_comes_with_its_fine_labels(cifar_root):
    dataset = load(cifar100, cifar_root)
    check_dataset(dataset)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((100, 3, 32, 32), (20, 3, 32, 32))
    np.testing.assert_array_equal(dataset.train_labels, np.arange(100))
    np.testing.assert_array_equal(dataset.test_images[:, 1, 3, 4], np.arange(100, 120))
    assert (dataset.num_classes, dataset.mean, dataset.std) == (100, cifar100.MEAN, cifar100.STD)


def test_fashion_mnist_comes_with_one_channel(fashion_root):
    dataset = load(fashion_mnist, fashion_root)
    check_dataset(dataset)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((20, 1, 28, 28), (10, 1, 28, 28))
    np.testing.assert_array_equal(dataset.train_images[:, 0, 27, 0], np.arange(20))
    np.testing.assert_array_equal(dataset.test_labels, np.arange(20, 30) % 10)
    assert dataset.num_classes == 10


def test_the_common_options_act(fashion_root):
    dataset = load(fashion_mnist, fashion_root, image_size=8, train_samples=6, test_samples=4)
    assert (dataset.train_images.shape, len(dataset.test_labels)) == ((6, 1, 8, 8), 4)
    with pytest.raises(ScenarioError, match="21 is more than the 20 training samples of fashion-mnist"):
        load(fashion_mnist, fashion_root, train_samples=21)


@pytest.mark.parametrize(
    ("module", "contents"),
    [(cifar100, "train, test and meta"), (fashion_mnist, "train-images-idx3-ubyte")],
    ids=["cifar100", "fashion-mnist"],
)
def test_a_missing_folder_is_named_with_what_belongs_there(module, contents, tmp_path):
    with pytest.raises(DataNotFoundError) as refused:
        load(module, tmp_path / "nowhere")
    assert f"{module.COMPONENT.kind}: there is no folder {tmp_path / 'nowhere' / module.FOLDER}" in str(refused.value)
    assert contents in str(refused.value)
    assert "data.download: true" in str(refused.value)


def test_a_damaged_cifar_file_is_named(cifar_root):
    (cifar_root / cifar100.FOLDER / "train").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match=r"cifar100: .* is incomplete or damaged: train \(wrong checksum\);"):
        load(cifar100, cifar_root)


def test_a_missing_idx_file_is_named(fashion_root):
    (fashion_root / fashion_mnist.FOLDER / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataNotFoundError, match=r"damaged: t10k-labels-idx1-ubyte \(missing\);"):
        load(fashion_mnist, fashion_root)


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"no IDX file at all", idx(np.zeros((20, 28, 28)))[:-1]])
def test_an_idx_file_that_is_cut_off_or_something_else_is_reported(fashion_root, content):
    (fashion_root / fashion_mnist.FOLDER / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataNotFoundError, match=r"fashion-mnist: .*FashionMNIST.raw cannot be read"):
        load(fashion_mnist, fashion_root)


def test_download_fills_the_folder(fashion_root, tmp_path, monkeypatch):
    def copy(self):
        target = tmp_path / self.root / fashion_mnist.FOLDER
        target.mkdir(parents=True)
        for file in (fashion_root / fashion_mnist.FOLDER).iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        (target / "train-images-idx3-ubyte.gz").write_bytes(b"packed")

    monkeypatch.setattr(torchvision_module("datasets").FashionMNIST, "download", copy)
    target = tmp_path / "new"
    assert len(load(fashion_mnist, target, download=True).train_labels) == 20
    assert len(list((target / fashion_mnist.FOLDER).iterdir())) == 4


def test_a_failed_download_names_address_and_folder(tmp_path, monkeypatch):
    def fail(self):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torchvision_module("datasets").FashionMNIST, "download", fail)
    with pytest.raises(DataNotFoundError, match=r"http://fashion-mnist\.s3.* no route to host"):
        load(fashion_mnist, tmp_path / "new", download=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.r_[np.zeros(19), 10], "label 10 of image 19; labels are 0 to 9; data.root must"),
        ("train-labels-idx1-ubyte", np.zeros(7), "it holds 20 images and 7 labels in one part"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 28, 27)), "its training and test images differ in size: 1x28x28 and "),
    ],
)
def test_files_that_do_not_go_together_are_refused(fashion_root, name, array, message):
    (fashion_root / fashion_mnist.FOLDER / name).write_bytes(idx(array))
    with pytest.raises(DataNotFoundError, match=f"fashion-mnist: .*raw is damaged: .*{message}"):
        load(fashion_mnist, fashion_root)
