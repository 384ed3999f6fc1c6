"""What modules remember beside their parameters and buffers, at this moment: lists, counters, generators, globals."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from neulite_sim.user_code.fingerprint import NotTrackedError, Walk
from neulite_sim.user_code.origins import is_users_module

_OF_TENSORS = frozenset({"_parameters", "_buffers", "_modules"})
_OF_MODULES = frozenset(vars(nn.Module())) - _OF_TENSORS
"""What every module has and PyTorch looks after."""
_PLAIN = (type(None), bool, int, float, str)


def remembered(module: nn.Module) -> dict[str, Any]:
    """Return what a module and those below it remember, by places in words: equal ones as long as nothing changes."""
    found: dict[str, Any] = {}
    parts = dict(module.named_modules())
    for path, part in parts.items():
        for name, value in vars(part).items():
            if name not in _OF_MODULES:
                found[f"{path}.{name}" if path else name] = _held(value) if name in _OF_TENSORS else _moment(value)
    kinds = dict.fromkeys(base for kind in {type(part) for part in parts.values()} for base in kind.__mro__)
    own = [kind for kind in kinds if is_users_module(kind.__module__)]
    return found | {f"what {kind.__name__} and its functions name": _moment(kind) for kind in own}


def _held(members: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return which parameters, buffers or submodules these are; changes in place are found out elsewhere."""
    return tuple((name, id(member)) for name, member in members.items())


def _moment(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) in (tuple, list) and all(type(item) in _PLAIN for item in value):
        return repr(value)
    return _Moment().result(value)


class _Moment(Walk):
    """One way through what a value holds at this moment, of tensors and modules only which they are."""

    def _compound(self, value: Any) -> None:
        if issubclass(type(value), fx.Proxy | nn.Module):
            self._note("this", id(value))
        else:
            super()._compound(value)

    def _tensor(self, value: Tensor) -> None:
        self._note("tensor", id(value), 0 if value.is_inference() else value._version)

    def _generator(self, value: Any) -> None:
        if isinstance(value, random.Random):
            self._note("generator", value.getstate())
        elif isinstance(value, np.random.RandomState):
            self._note("generator", value.get_state())
        elif isinstance(value, torch.Generator):
            self._note("generator", value.get_state().tolist())
        else:
            self._note("generator", value.bit_generator.state)

    def _instance(self, value: Any) -> None:
        frame = getattr(value, "gi_frame", None)
        if frame is not None:
            self._note("at", id(value), frame.f_lasti)
            self._of(dict(frame.f_locals))
            return
        try:
            super()._instance(value)
        except NotTrackedError:
            # A lock or a file: it is at least the same one.
            self._note("this", type(value).__qualname__, id(value))
