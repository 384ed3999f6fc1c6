"""CIFAR-10: 50000 training and 10000 test images of 3x32x32 pixels in 10 classes, read by torchvision.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The files are pickles; torchvision
checks the MD5 sum of every one against the published value before it opens it.
"""

from __future__ import annotations

import functools
from typing import Annotated

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset
from neulite_sim.data.torchvision_dataset import Source, TorchvisionOptions, load, survey
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Per channel over all pixels of the 50000 training images, each divided by 255."""

FOLDER = "cifar-10-batches-py"
SOURCE = Source(
    kind="cifar10",
    name="CIFAR10",
    folder=FOLDER,
    contents="data_batch_1 to data_batch_5, test_batch and batches.meta of the python version of CIFAR-10",
    size="170 MB",
    files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    num_train=50000,
    num_test=10000,
    num_classes=10,
    mean=MEAN,
    std=STD,
)


class Cifar10Options(TorchvisionOptions):
    """Options of `cifar10`."""

    root: Annotated[PathText, input_folder(FOLDER)] = "data"
    """Folder that holds `cifar-10-batches-py`; beside the scenario's file or in the current folder."""
    download: bool = False
    """Fetch the files into `root` where they are not there yet (170 MB from cs.toronto.edu)."""


def build(options: Cifar10Options, seed: int) -> Dataset:
    """Return CIFAR-10 as uint8 images; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: the files are missing or damaged, or could not be downloaded.
        ScenarioError: more samples are asked for than there are.
    """
    return load(SOURCE, options, seed)


COMPONENT = Component(
    kind="cifar10",
    summary="CIFAR-10: 60000 photographs of 3x32x32 pixels in 10 classes, from a local folder",
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    options=Cifar10Options,
    build=build,
    survey=functools.partial(survey, SOURCE),
)
