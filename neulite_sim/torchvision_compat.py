"""Importing torchvision beside a CPU-only PyTorch; the only place that imports it.

torchvision's wheel from the package registry is compiled for CUDA. Beside a CPU-only PyTorch its compiled operators
cannot be loaded, which torchvision tolerates, but then it attaches shape rules to two of them, and that fails:
"operator torchvision::nms does not exist". Declaring the two schemas first (names and types without any code) lets the
import pass. Datasets, transforms and classifiers use neither operator; calling one still fails, with torchvision's own
message. Where the compiled operators do load, nothing is declared. May go once the registry's wheel imports as it is.

Builders of classifiers look at values, which neither the meta device nor fake tensors have: RegNet's work out their
widths with tensors, others draw weights from a truncated normal distribution. `classifier_of` is the way around both.
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


def classifier_of(name: str, **settings: object) -> Any:
    """Return torchvision's classifier `name` on PyTorch's current default device, also on meta or as a fake one."""
    from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

    _let_regnet_read_its_widths()
    get_model = torchvision_module("models").get_model
    if not isinstance(torch.empty(0), FakeTensor):
        return get_model(name, **settings)
    with unset_fake_temporarily(), torch.device("meta"):
        network = get_model(name, **settings)
    return network._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))


@functools.cache
def _let_regnet_read_its_widths() -> None:
    """May go once torchvision works out the widths of RegNet without tensors."""
    params = torchvision_module("models.regnet").BlockParams
    theirs = params.from_init_params

    @functools.wraps(theirs)
    def on_cpu(*sizes: Any, **settings: Any) -> Any:
        with torch.device("cpu"):
            return theirs(*sizes, **settings)

    params.from_init_params = on_cpu


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
