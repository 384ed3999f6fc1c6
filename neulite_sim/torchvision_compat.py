"""Importing torchvision beside a CPU-only PyTorch; the only place that imports it.

torchvision's wheel from the package registry is compiled for CUDA. Beside a CPU-only PyTorch its compiled operators
cannot be loaded, which torchvision tolerates, but then it attaches shape rules to two of them, and that fails:
"operator torchvision::nms does not exist". Declaring the two schemas first (names and types without any code) lets the
import pass. Datasets, transforms and classifiers use neither operator; calling one still fails, with torchvision's own
message. Where the compiled operators do load, nothing is declared. May go once the registry's wheel imports as it is.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

from neulite_sim.later import torch

OPERATORS = ("torchvision::nms", "torchvision::qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
"""Of both, as torchvision's C++ sources declare them."""


def torchvision_module(name: str) -> ModuleType:
    """Return `torchvision.<name>`, for example `torchvision_module("datasets")`. The first call takes a second."""
    _declare_missing_operators()
    return importlib.import_module(f"torchvision.{name}")


@functools.cache
def _declare_missing_operators() -> None:
    _load_compiled_operators()
    for operator in OPERATORS:
        if not hasattr(torch.ops.torchvision, operator.removeprefix("torchvision::")):
            torch.library.define(operator, SCHEMA)


def _load_compiled_operators() -> None:
    """Load torchvision's extension as its own import would: a schema declared before it would clash with it."""
    operators: Any = torch.ops  # PyTorch leaves its loader without types.
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations if package else None
    candidates = [Path(folder) / f"_C{suffix}" for folder in folders or () for suffix in EXTENSION_SUFFIXES]
    for extension in filter(Path.is_file, candidates):
        with contextlib.suppress(OSError):
            operators.load_library(str(extension))
