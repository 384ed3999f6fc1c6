"""Mini-ImageNet: 100 classes of ImageNet with 600 images each, resampled to 84x84 pixels, as folders of images.

O. Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016, https://arxiv.org/abs/1606.04080, with the
class list of S. Ravi and H. Larochelle, ICLR 2017. Those works split by class, for few-shot learning. Here all 100
classes are learned, so each class is split: of its images in the order of their names, the last sixth (100 of 600)
is the test part. That split is part of the dataset: it is the same in every run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from neulite_sim.bounds import PathText, ResampledSide
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.image_files import NAMED, Sentences, class_files, entries, flattened, is_hidden, listed
from neulite_sim.data.pictures import PictureReader
from neulite_sim.data.preparation import prepared
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training images, as torchvision's models use them."""

NUM_CLASSES = 100
TEST_DIVISOR = 6
PARTS = ("train", "val", "test")
ADVICE = (
    f"data.root must hold one folder of images ({NAMED}) per class, either directly or below train, val and test as "
    "the few-shot split has them (both are put together again); the images are a part of ImageNet "
    "(https://image-net.org) and the lists of Ravi and Larochelle name them (https://github.com/twitter-research/"
    "meta-learning-lstm)"
)


class MiniImagenetOptions(ImageDatasetOptions):
    """Options of `mini-imagenet`."""

    root: Annotated[PathText, input_folder()] = "data/mini-imagenet"
    """Folder that holds the class folders, or `train`, `val` and `test` with them."""
    image_size: ResampledSide = 84
    """Side of the square images after area resampling; images that are not square are stretched."""


def build(options: MiniImagenetOptions, seed: int) -> Dataset:
    """Return Mini-ImageNet as uint8 images, 500 training and 100 test images per class; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a folder is missing, there are not 100 classes of six images or more, or a file is no image.
        ScenarioError: more samples are asked for than there are.
    """
    sentences = Sentences("mini-imagenet")
    files = _files(options, sentences)
    classes = sorted(files)
    cuts = {name: len(files[name]) - len(files[name]) // TEST_DIVISOR for name in classes}
    train_files, train_labels = flattened({name: files[name][: cuts[name]] for name in classes}, classes)
    test_files, test_labels = flattened({name: files[name][cuts[name] :] for name in classes}, classes)
    reader = PictureReader("mini-imagenet", channels=3, side=options.image_size)
    train_images, test_images = reader.read(train_files), reader.read(test_files)
    reader.tell(sentences)
    native = Dataset(
        name="mini-imagenet",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=NUM_CLASSES,
        mean=MEAN,
        std=STD,
        pixel_scale=255.0,
        left_out=tuple(sentences.told),
    )
    return prepared(native, options, seed)


def _files(options: MiniImagenetOptions, sentences: Sentences) -> dict[str, list[Path]]:
    root = user_path(options.root).absolute()
    parts = [root / part for part in PARTS if (root / part).is_dir()]
    if parts:
        others = [place.name for place in entries("mini-imagenet", root, ADVICE) if place.name not in PARTS]
        if others := [name for name in others if not is_hidden(name)]:
            sentences.say(f"{root} holds more than train, val and test, which is not looked at: {listed(others)}")
    together: dict[str, list[Path]] = {}
    for folder in parts or [root]:
        for name, found in class_files("mini-imagenet", folder, ADVICE, sentences).items():
            together.setdefault(name, []).extend(found)
    files = {name: sorted(found, key=lambda file: file.name) for name, found in together.items() if found}
    classes = sorted(files)
    scarce = [name for name in classes if len(files[name]) < TEST_DIVISOR]
    if len(classes) != NUM_CLASSES or scarce:
        wrong = f"only {len(files[scarce[0]])} images of {scarce[0]}" if scarce else f"{len(classes)} classes"
        raise DataNotFoundError(
            f"mini-imagenet: {root} has {wrong}; it must have {NUM_CLASSES} classes of at least {TEST_DIVISOR} images "
            f"(600 in the published set)",
            hint=ADVICE,
        )
    return files


def survey(options: MiniImagenetOptions) -> tuple[str, ...]:
    """Return what the names of the files show. Raises what `build` raises of them."""
    sentences = Sentences("mini-imagenet")
    _files(options, sentences)
    return tuple(sentences.told)


COMPONENT = Component(
    kind="mini-imagenet",
    summary="Mini-ImageNet: 60000 photographs of 3x84x84 pixels in 100 classes, from a local folder",
    source="Vinyals et al., NeurIPS 2016, https://arxiv.org/abs/1606.04080",
    options=MiniImagenetOptions,
    build=build,
    survey=survey,
)
