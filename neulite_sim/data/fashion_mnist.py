"""Fashion-MNIST: 60000 training and 10000 test images of 28x28 grey pixels in 10 classes, read by torchvision.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017, https://arxiv.org/abs/1708.07747. The files have the IDX format of MNIST.
"""

from __future__ import annotations

import functools
from typing import Annotated

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset
from neulite_sim.data.torchvision_dataset import Source, TorchvisionOptions, load, survey
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

MEAN = (0.2860,)
STD = (0.3530,)
"""Over all pixels of the 60000 training images, each divided by 255."""

FOLDER = "FashionMNIST/raw"
SOURCE = Source(
    kind="fashion-mnist",
    name="FashionMNIST",
    folder=FOLDER,
    contents="train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
    "unpacked",
    size="31 MB",
    files=("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    num_train=60000,
    num_test=10000,
    num_classes=10,
    mean=MEAN,
    std=STD,
)


class FashionMnistOptions(TorchvisionOptions):
    """Options of `fashion-mnist`."""

    root: Annotated[PathText, input_folder(FOLDER)] = "data"
    """Folder that holds `FashionMNIST/raw`; beside the scenario's file or in the current folder."""
    download: bool = False
    """Fetch the files into `root` where they are not there yet (31 MB from the authors' storage)."""


def build(options: FashionMnistOptions, seed: int) -> Dataset:
    """Return Fashion-MNIST as uint8 images of one channel; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: the files are missing or damaged, or could not be downloaded.
        ScenarioError: more samples are asked for than there are.
    """
    return load(SOURCE, options, seed)


COMPONENT = Component(
    kind="fashion-mnist",
    summary="Fashion-MNIST: 70000 articles of clothing of 28x28 grey pixels in 10 classes, from a local folder",
    source="Xiao et al., 2017, https://arxiv.org/abs/1708.07747",
    options=FashionMnistOptions,
    build=build,
    survey=functools.partial(survey, SOURCE),
)
