"""A run of operations of somebody's module as a module of its own: it holds their submodules under their own names."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from unittest.mock import patch

from torch import Tensor, fx, nn

Program = Callable[[nn.Module, Any], Tensor]
_PROGRAMS = "programs of a stretch"
"""A name that no attribute of somebody's module has."""


class Stretch(nn.Module):
    """What `programs[training]` does with the modules and tensors of `root` at `paths`, which become this one's.

    `layer1.0` is `layer1.0` here as well, alone in a container if the rest of `layer1` is not in `paths`.
    """

    def __init__(self, root: nn.Module, paths: Iterable[str], programs: Mapping[bool, Program]) -> None:
        super().__init__()
        vars(self)[_PROGRAMS] = dict(programs)
        for path in _outermost(tuple(paths)):
            _attach(self, root, path)
        self.train(root.training)

    def forward(self, features: Tensor) -> Tensor:
        """Return what the operations come to, in training or in evaluation."""
        found: Tensor = vars(self)[_PROGRAMS][self.training](self, features)
        return found


def program_of(graph: fx.Graph) -> Program:
    """Return a function that does what a graph says with the modules of its first argument."""
    with patch.object(fx.graph, "_format_target", _place):
        code = graph.python_code("self")
    space = dict(code.globals)
    exec(compile(code.src, "<operations of a module>", "exec"), space)
    program: Program = space["forward"]
    return program


def _place(base: str, path: str) -> str:
    """Return code for what lies at a path; a name may be any text, as a key of an `nn.ModuleDict` is."""
    for name in path.split("."):
        is_plain = name.isidentifier() and not keyword.iskeyword(name)
        base = f"{base}.{name}" if is_plain else f"getattr({base}, {name!r})"
    return base


def _outermost(paths: tuple[str, ...]) -> Iterator[str]:
    """Yield each path once, but those below another one."""
    known = set(paths)
    for path in dict.fromkeys(paths):
        parents = path.split(".")[:-1]
        if not any(".".join(parents[: length + 1]) in known for length in range(len(parents))):
            yield path


def _attach(place: nn.Module, root: nn.Module, path: str) -> None:
    *parents, name = path.split(".")
    owner = root
    for parent in parents:
        owner = owner.get_submodule(parent)
        if parent not in place._modules:
            place.add_module(parent, nn.Module())
        place = place.get_submodule(parent)
    if name in owner._modules:
        place.add_module(name, owner._modules[name])
    elif name in owner._parameters:
        place.register_parameter(name, owner._parameters[name])
    elif name in owner._buffers:
        place.register_buffer(name, owner._buffers[name], persistent=name not in owner._non_persistent_buffers_set)
    else:
        setattr(place, name, getattr(owner, name))
