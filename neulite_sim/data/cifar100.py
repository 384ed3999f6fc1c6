"""CIFAR-100: 50000 training and 10000 test images of 3x32x32 pixels in 100 classes, read by torchvision.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The labels are the 100 fine ones.
The files are pickles; torchvision checks the MD5 sum of every one against the published value before it opens it.
"""

from __future__ import annotations

import functools
from typing import Annotated

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset
from neulite_sim.data.torchvision_dataset import Source, TorchvisionOptions, load, survey
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)
"""Per channel over all pixels of the 50000 training images, each divided by 255."""

FOLDER = "cifar-100-python"
SOURCE = Source(
    kind="cifar100",
    name="CIFAR100",
    folder=FOLDER,
    contents="train, test and meta of the python version of CIFAR-100",
    size="169 MB",
    files=("train", "test", "meta"),
    num_train=50000,
    num_test=10000,
    num_classes=100,
    mean=MEAN,
    std=STD,
)


class Cifar100Options(TorchvisionOptions):
    """Options of `cifar100`."""

    root: Annotated[PathText, input_folder(FOLDER)] = "data"
    """Folder that holds `cifar-100-python`; beside the scenario's file or in the current folder."""
    download: bool = False
    """Fetch the files into `root` where they are not there yet (169 MB from cs.toronto.edu)."""


def build(options: Cifar100Options, seed: int) -> Dataset:
    """Return CIFAR-100 with its fine labels as uint8 images; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: the files are missing or damaged, or could not be downloaded.
        ScenarioError: more samples are asked for than there are.
    """
    return load(SOURCE, options, seed)


COMPONENT = Component(
    kind="cifar100",
    summary="CIFAR-100: 60000 photographs of 3x32x32 pixels in 100 classes, from a local folder",
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    options=Cifar100Options,
    build=build,
    survey=functools.partial(survey, SOURCE),
)
