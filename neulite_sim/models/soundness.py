"""What somebody's module must be to be trained here: its tensors, and what it makes of samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.copying import copied
from neulite_sim.models.failures import failure_of
from neulite_sim.models.fakes.mode import FakeMode
from neulite_sim.models.traced import BATCHES
from neulite_sim.models.tracing import samples_without_numbers, without_numbers
from neulite_sim.samples import InputSpec

SHOWN = 3
"""Names of tensors that a message lists."""


def require_sound(module: nn.Module, name: str, device: torch.device) -> None:
    """Refuse a module whose tensors cannot be trained as they are; they should be on `device`.

    Raises:
        ScenarioError: it has lazy layers, no parameter, frozen ones, or tensors that are sparse, of another type or
            elsewhere.
    """
    lazy = [path for path, part in module.named_modules() if _is_lazy(part)]
    if lazy:
        finding = f"{name} has lazy layers whose shapes are not known yet: {_listed(lazy)}"
        raise refused(finding, "call it on a batch once before it is given, or give a function that does")
    parameters = dict(module.named_parameters())
    if not parameters:
        raise refused(f"{name} has no parameters, so there is nothing to train", "give a network with weights")
    frozen = [path for path, parameter in parameters.items() if not parameter.requires_grad]
    if frozen:
        finding = f"{len(frozen)} of the {len(parameters)} parameters of {name} are frozen: {_listed(frozen)}"
        hint = "what is frozen and when, the method decides; call requires_grad_(True) on them, or make them buffers"
        raise refused(finding, hint)
    elsewhere = [(path, tensor) for path, tensor in _tensors(module) if tensor.device != device]
    if elsewhere:
        path, tensor = elsewhere[0]
        finding = f"{path} of {name} is on {tensor.device}, and models are built on {device}"
        has_values = not tensor.is_meta
        raise refused(finding, f'move it with .to("{device}") before' if has_values else "give it with its numbers")
    loose = [(path, tensor) for path, tensor in _tensors(module) if tensor.layout != torch.strided]
    if loose:
        path, tensor = loose[0]
        kind = str(tensor.layout).removeprefix("torch.")
        raise refused(
            f"{path} of {name} is a {kind} tensor, and tensors of models are dense here", "give its to_dense()"
        )
    others = [(path, tensor) for path, tensor in parameters.items() if tensor.dtype != torch.float32]
    if others:
        path, tensor = others[0]
        finding = f"{path} of {name} is of {tensor.dtype}, and weights are float32 here"
        raise refused(finding, "call .float() on it; training.precision chooses the type of a step")


def _is_lazy(module: nn.Module) -> bool:
    held = (*module._parameters.values(), *module._buffers.values())
    return any(tensor is not None and is_lazy(tensor) for tensor in held)


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _listed(names: list[str]) -> str:
    return ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])


def require_logits(module: nn.Module, spec: InputSpec, name: str) -> tuple[str, ...]:
    """Refuse a module on the meta device that makes no logits of samples; return what else is to be said of it.

    It is called on samples without numbers, in training and in evaluation.

    Raises:
        ScenarioError: it fails on them, saying where, or puts out something else than `[B, classes, *target_shape]`.
    """
    said: tuple[str, ...] = ()
    for mode in (False, True):
        watch = SoftmaxWatch()
        module.train(mode)
        found = _called(module, spec, name, watch)
        require_shape(found, spec, name)
        said = watch.remarks(found, name)
    return said


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep PyTorch from logging a stack of its own about an error that is told in a sentence."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _called(module: nn.Module, spec: InputSpec, name: str, watch: SoftmaxWatch) -> Any:
    try:
        with without_numbers(), watch, _unlogged():
            return module(samples_without_numbers(spec, BATCHES[0]))
    except Exception as failure:
        # On the meta device even a number that was just written down cannot be read; a fake step may know it.
        found = _called_on_fakes(module, spec)
        if found is not None:
            return found
        told = failure_of(failure, module)
        shape = (BATCHES[0], *spec.shape)
        if "meta tensor" in str(failure):
            place = ", ".join(filter(None, (told.module, told.line)))
            finding = f"the forward of {name} looks at the numbers of a tensor{f' ({place})' if place else ''}"
            hint = "what a step needs is predicted on tensors without numbers: decide by shapes, or with torch.where"
            raise refused(finding, hint) from failure
        finding = f"{name} fails on a batch of shape {shape} ({spec}): {told}"
        raise refused(finding, "give a network that reads such samples, or other data") from failure


def _called_on_fakes(module: nn.Module, spec: InputSpec) -> Any:
    try:
        with _unlogged(), unset_fake_temporarily(), torch.random.fork_rng(devices=[]), FakeMode(), torch.device("cpu"):
            fake = copied(module, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
            return fake(samples_without_numbers(spec, BATCHES[0]))
    except Exception:
        return None


def require_shape(found: Any, spec: InputSpec, name: str) -> None:
    """Refuse what is no logits of a batch of the first of `BATCHES`.

    Raises:
        ScenarioError: saying what it is in their place.
    """
    wanted = (BATCHES[0], spec.num_classes, *spec.target_shape)
    described = "[B, classes]" if not spec.target_shape else f"[B, classes, {', '.join(map(str, spec.target_shape))}]"
    if not isinstance(found, Tensor):
        finding = f"the output of {name} is {_kind(found)}, not logits {described}"
        raise refused(finding, "let its forward return the logits alone, in training too")
    shape = tuple(found.shape)
    if shape == wanted:
        return
    shown = f"[B, {', '.join(map(str, shape[1:]))}]" if shape[:1] == wanted[:1] else str(list(shape))
    if len(shape) == len(wanted) and shape[2:] == wanted[2:] and shape[0] == wanted[0]:
        finding = f"the output of {name} has {shape[1]} classes, and the data have {spec.num_classes}"
        hint = "give a network for as many, or a function with a parameter num_classes, which is told"
        raise refused(finding, hint)
    if len(shape) == 3 and spec.target_shape and (shape[0], shape[2], shape[1]) == wanted:
        finding = f"the output of {name} is {shown}, classes last, not logits {described}"
        raise refused(finding, "return logits.transpose(1, 2)")
    finding = f"the output of {name} is {shown} for {spec}, not logits {described} with {spec.num_classes} classes"
    raise refused(finding, "let its forward return one row of logits per target")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


class SoftmaxWatch(TorchFunctionMode):
    """Within, remembers the tensors that softmax and sigmoid put out."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[tuple[Tensor, str]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("softmax", "sigmoid"):
            self._made.append((found, func.__name__))
        return found

    def remarks(self, output: Any, name: str) -> tuple[str, ...]:
        """Return what is to be said of a network that puts out what a softmax or a sigmoid made."""
        kind = next((kind for made, kind in self._made if made is output), None)
        if kind is None:
            return ()
        what = f"{name} ends in a {kind}, but cross-entropy expects logits and takes the softmax itself"
        return (f"{what}: gradients will be small; leave it out",)


def refused(finding: str, hint: str, key: str = "model") -> ScenarioError:
    """Return the error with what was found and what to do."""
    return ScenarioError([Problem.advising(key=key, found=finding, hint=hint)])
