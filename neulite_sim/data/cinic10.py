"""CINIC-10: 270000 images of 3x32x32 pixels in the classes of CIFAR-10, as folders of PNG files.

Source: L. N. Darlow, E. J. Crowley, A. Antoniou, A. J. Storkey, "CINIC-10 is not ImageNet or CIFAR-10", 2018,
https://arxiv.org/abs/1810.03505. Three parts of 90000 images each: train, valid and test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.image_files import Sentences, class_files, flattened, listed
from neulite_sim.data.pictures import PictureReader
from neulite_sim.data.preparation import prepared
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

MEAN = (0.4789, 0.4723, 0.4305)
STD = (0.2421, 0.2383, 0.2587)
"""As the authors publish them beside the data (https://github.com/BayesWatch/cinic-10), rounded."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ADVICE = (
    "data.root must be the unpacked CINIC-10.tar.gz with train, valid and test, each with one folder of PNG files for "
    "airplane to truck; it comes from https://datashare.ed.ac.uk/handle/10283/3192 (688 MB)"
)

Files = dict[str, list[Path]]


class Cinic10Options(ImageDatasetOptions):
    """Options of `cinic10`."""

    root: Annotated[PathText, input_folder("train", "valid", "test")] = "data/cinic-10"
    """Folder that holds `train`, `valid` and `test`; beside the scenario's file or in the current folder."""
    validation: Literal["unused", "train"] = "unused"
    """`train` adds the 90000 images of `valid` to the training part, as the authors propose for a larger one."""


def build(options: Cinic10Options, seed: int) -> Dataset:
    """Return CINIC-10 as uint8 images; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a part or a class is missing, or a file is no image.
        ScenarioError: images differ in size, or more samples are asked for than there are.
    """
    sentences = Sentences("cinic10")
    train, test = _parts(options, sentences)
    train_files, train_labels = flattened(train, CLASSES)
    test_files, test_labels = flattened(test, CLASSES)
    reader = PictureReader("cinic10", channels=3, side=options.image_size)
    train_images, test_images = reader.read(train_files), reader.read(test_files)
    reader.tell(sentences)
    native = Dataset(
        name="cinic10",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=len(CLASSES),
        mean=MEAN,
        std=STD,
        pixel_scale=255.0,
        left_out=tuple(sentences.told),
    )
    return prepared(native, options, seed)


def _parts(options: Cinic10Options, sentences: Sentences) -> tuple[Files, Files]:
    """Return the files of the training and of the test part by class."""
    root = user_path(options.root).absolute()
    train = _part(root / "train", sentences)
    if options.validation == "train":
        valid = _part(root / "valid", sentences)
        train = {name: [*train[name], *valid[name]] for name in CLASSES}
    return train, _part(root / "test", sentences)


def survey(options: Cinic10Options) -> tuple[str, ...]:
    """Return what the names of the files show. Raises what `build` raises of them."""
    sentences = Sentences("cinic10")
    _parts(options, sentences)
    return tuple(sentences.told)


def _part(folder: Path, sentences: Sentences) -> Files:
    found = class_files("cinic10", folder, ADVICE, sentences)
    missing = [name for name in CLASSES if not found.get(name)]
    if missing:
        raise DataNotFoundError(f"cinic10: {folder} has no images of {', '.join(missing)}", hint=ADVICE)
    if strange := [name for name in found if name not in CLASSES]:
        sentences.say(f"{folder} has folders that are no class, which are not looked at: {listed(strange)}")
    return found


COMPONENT = Component(
    kind="cinic10",
    summary="CINIC-10: 270000 photographs of 3x32x32 pixels in 10 classes, from a local folder",
    source="Darlow et al., 2018, https://arxiv.org/abs/1810.03505",
    options=Cinic10Options,
    build=build,
    survey=survey,
)
