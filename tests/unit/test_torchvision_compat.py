"""torchvision imports on this machine, whatever PyTorch it has."""

import re
from pathlib import Path

import pytest
import torch

import neulite_sim
from neulite_sim.torchvision_compat import OPERATORS, torchvision_module


@pytest.mark.parametrize(
    ("module", "name"), [("models", "resnet18"), ("datasets", "CIFAR10"), ("transforms", "Resize")]
)
def test_models_datasets_and_transforms_import(module, name):
    assert hasattr(torchvision_module(module), name)


def test_asking_twice_gives_the_same_module():
    assert torchvision_module("models") is torchvision_module("models")


def test_a_classifier_runs():
    model = torchvision_module("models").squeezenet1_1(num_classes=4).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_the_operators_exist_afterwards():
    torchvision_module("models")
    assert all(hasattr(torch.ops.torchvision, operator.split("::")[1]) for operator in OPERATORS)


def test_no_file_imports_torchvision_by_itself():
    """Only through this module, which does so when asked: it takes a second and may need the declarations."""
    package = Path(neulite_sim.__file__).parent
    statement = re.compile(r"^\s*(import|from) torchvision\b", re.MULTILINE)
    assert [file.name for file in package.rglob("*.py") if statement.search(file.read_text())] == []
