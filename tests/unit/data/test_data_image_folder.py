"""Image folders (`image-folder`, `cinic10`, `mini-imagenet`): real PNG and JPEG files that the tests write."""

import re

import numpy as np
import pytest
from PIL import Image

from neulite_sim.data import cinic10, image_folder, mini_imagenet
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.image_files import channel_statistics
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.registry import component


def picture(file, colour, size=(8, 8)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


def load(module, root, **options):
    return module.build(module.COMPONENT.options(root=str(root), **options), seed=0)


@pytest.fixture
def root(tmp_path):
    """Two training images of each of two classes and one test image of each, in plain colours."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(2):
            picture(tmp_path / "train" / name / f"{number}.png", (label, number, 200))
        picture(tmp_path / "test" / name / "9.PNG", (label, 9, 100))
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_they_are_registered_under_their_names():
    kinds = ("image-folder", "cinic10", "mini-imagenet")
    assert [component("data", kind) for kind in kinds] == [m.COMPONENT for m in (image_folder, cinic10, mini_imagenet)]


def test_classes_and_images_come_in_the_order_of_their_names(root):
    dataset = load(image_folder, root)
    check_dataset(dataset)
    assert dataset.train_images.shape == (4, 3, 8, 8)
    assert dataset.train_labels.tolist() == [0, 0, 1, 1]
    assert dataset.test_labels.tolist() == [0, 1]
    assert dataset.train_images[:, :, 5, 2].tolist() == [[0, 0, 200], [0, 1, 200], [1, 0, 200], [1, 1, 200]]
    assert dataset.test_images[:, :, 0, 0].tolist() == [[0, 9, 100], [1, 9, 100]]


def test_rows_and_columns_stay_where_they_are(root):
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(root / "train" / "cat" / "0.png")
    np.testing.assert_array_equal(load(image_folder, root).train_images[0], pixels.transpose(2, 0, 1))


def test_mean_and_deviation_are_those_of_the_training_images(root):
    dataset = load(image_folder, root)
    assert dataset.mean == pytest.approx((0.5 / 255, 0.5 / 255, 200 / 255))
    assert dataset.std == pytest.approx((0.5 / 255, 0.5 / 255, 1.0))


def test_statistics_equal_those_of_numpy():
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 4, 4)).astype(np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 2, 3)))
    np.testing.assert_allclose(std, (images / 255).std((0, 2, 3)))


def test_images_can_be_read_as_grey(root):
    assert load(image_folder, root, channels=1).train_images.shape == (4, 1, 8, 8)


def test_images_of_different_sizes_need_an_image_size(root):
    picture(root / "test" / "dog" / "9.png", (1, 9, 100), size=(6, 10))
    with pytest.raises(
        ScenarioError, match=r"differ in size: .*0\.png is 8x8, .*9\.png is 6x10; give a side"
    ) as refused:
        load(image_folder, root)
    assert refused.value.problems[0].key == "data.image_size"
    assert load(image_folder, root, image_size=4).test_images.shape[1:] == (3, 4, 4)


def test_missing_folders_are_named_with_what_belongs_there(root, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"there is no folder .*nowhere.train; data.root must hold train/"):
        load(image_folder, tmp_path / "nowhere")
    (root / "test" / "cat" / "9.PNG").unlink()
    (root / "test" / "dog" / "9.PNG").unlink()
    with pytest.raises(DataNotFoundError, match=r"test has no class folder with an image \(.png, .*, .tif, .*\)"):
        load(image_folder, root)


def test_a_class_of_the_test_part_alone_is_refused(root):
    picture(root / "test" / "emu" / "0.png", (0, 0, 0))
    with pytest.raises(DataNotFoundError, match=r"has classes that .*train has no images of: emu; remove them"):
        load(image_folder, root)


def test_a_file_that_is_no_image_is_named(root):
    broken = root / "train" / "dog" / "1.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataNotFoundError, match=rf"{re.escape(str(broken))} cannot be read as an image"):
        load(image_folder, root)
    picture(broken, (1, 1, 1), size=(64, 64))
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataNotFoundError, match=rf"{re.escape(str(broken))} cannot be read as an image"):
        load(image_folder, root)


@pytest.fixture
def cinic_root(tmp_path):
    for shade, part in enumerate(("train", "valid", "test")):
        for label, name in enumerate(cinic10.CLASSES):
            picture(tmp_path / part / name / f"{part}-1.png", (label, shade, 0), size=(32, 32))
    return tmp_path


def test_cinic10_trains_on_train_and_tests_on_test(cinic_root):
    dataset = load(cinic10, cinic_root)
    check_dataset(dataset)
    assert dataset.train_images.shape == dataset.test_images.shape == (10, 3, 32, 32)
    np.testing.assert_array_equal(dataset.train_labels, np.arange(10))
    assert (dataset.train_images[:, 1] == 0).all()
    assert (dataset.test_images[:, 1] == 2).all()
    assert (dataset.mean, dataset.std) == (cinic10.MEAN, cinic10.STD)


def test_cinic10_may_train_on_valid_too(cinic_root):
    dataset = load(cinic10, cinic_root, validation="train")
    np.testing.assert_array_equal(dataset.train_labels, np.repeat(np.arange(10), 2))
    assert set(dataset.train_images[:, 1].ravel()) == {0, 1}
    np.testing.assert_array_equal(dataset.train_images[:, 0, 0, 0], dataset.train_labels)


def test_cinic10_names_missing_classes_and_where_the_data_comes_from(cinic_root):
    (cinic_root / "test" / "frog" / "test-1.png").unlink()
    with pytest.raises(DataNotFoundError, match=r"cinic10: .*test has no images of frog; .*datashare\.ed\.ac\.uk"):
        load(cinic10, cinic_root)
    with pytest.raises(DataNotFoundError, match=r"cinic10: there is no folder .*nowhere.train; .*688 MB"):
        load(cinic10, cinic_root / "nowhere")


def mini_classes():
    return [f"n{number:08d}" for number in range(100)]


@pytest.fixture
def mini_root(tmp_path):
    for label, name in enumerate(mini_classes()):
        for number in range(6):
            picture(tmp_path / name / f"{number}.png", (label, number, 0), size=(4, 4))
    return tmp_path


def test_mini_imagenet_tests_on_the_last_sixth_of_each_class(mini_root):
    dataset = load(mini_imagenet, mini_root, image_size=4)
    check_dataset(dataset)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((500, 3, 4, 4), (100, 3, 4, 4))
    np.testing.assert_array_equal(dataset.train_images[:, 0, 0, 0], dataset.train_labels)
    assert (dataset.test_images[:, 1] == 5).all()
    assert dataset.train_images[:, 1].max() == 4


def test_mini_imagenet_puts_the_few_shot_split_together_again(mini_root):
    whole = load(mini_imagenet, mini_root, image_size=4)
    for label, name in enumerate(mini_classes()):
        part = mini_root / ("train" if label % 5 else "val" if label % 2 else "test")
        part.mkdir(exist_ok=True)
        (mini_root / name).rename(part / name)
    split = load(mini_imagenet, mini_root, image_size=4)
    np.testing.assert_array_equal(split.train_images, whole.train_images)
    np.testing.assert_array_equal(split.test_labels, whole.test_labels)


def test_mini_imagenet_is_84_pixels_wide_unless_told_otherwise():
    assert mini_imagenet.COMPONENT.options().image_size == 84


def test_mini_imagenet_needs_100_classes_of_six_images(mini_root):
    (mini_root / "n00000007" / "3.png").unlink()
    with pytest.raises(
        DataNotFoundError, match="has only 5 images of n00000007; it must have 100 classes of at least 6"
    ):
        load(mini_imagenet, mini_root)
    for file in (mini_root / "n00000007").iterdir():
        file.unlink()
    with pytest.raises(DataNotFoundError, match=r"mini-imagenet: .* has 99 classes; .*image-net\.org"):
        load(mini_imagenet, mini_root)
    with pytest.raises(DataNotFoundError, match=r"there is no folder .*nowhere; data.root must hold"):
        load(mini_imagenet, mini_root / "nowhere")
