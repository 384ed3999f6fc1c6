"""What a module's `forward` applies one after the other, found by calling it once on tensors without numbers.

Children are called whole; what `forward` does between them is recorded as PyTorch's own functions (`torch.fx`). Every
value is followed at two batch sizes: sizes that agree are plain numbers for `forward`, those that differ stand for the
batch and stay symbols. What could not be repeated faithfully is not guessed but refused (`OpaqueError`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from neulite_sim.models.draws import draws
from neulite_sim.models.remembering import remembered
from neulite_sim.models.traced import OpaqueError, Values, value_of
from neulite_sim.models.tracer import Answer, Recording, Tracer
from neulite_sim.samples import InputSpec
from neulite_sim.user_code.drawing import where_they_are


@contextmanager
def without_numbers() -> Iterator[None]:
    """Within, tensors are made on the meta device and generators stay as they were, also amid a fake step."""
    with unset_fake_temporarily(), torch.random.fork_rng(devices=[]), torch.device("meta"):
        # PyTorch looks its own factories up the first time it needs them: before any is replaced here.
        torch.empty(0)
        yield


def recorded(module: nn.Module, inputs: Values, answer: Answer) -> Recording:
    """Return what `module.forward` does with the first of two inputs, and with the second alike.

    To be called `without_numbers`, of a module and inputs on the meta device. `answer` may know what calls of
    submodules come to.

    Raises:
        OpaqueError: it looks at numbers or at the batch's size, draws random numbers of Python's, changes itself, or
            does what only a call of the whole repeats.
        Exception: whatever else goes wrong in it.
    """
    drawn, before = where_they_are(), remembered(module)
    tracer = Tracer(module, answer)
    source = tracer.start(inputs)
    with tracer.at_work():
        result = module.forward(source)
    if drawn != where_they_are() and draws(module, inputs[0]):
        raise OpaqueError(
            "it draws random numbers of Python's or NumPy's; where its layers depend on them, devices are charged for "
            "a step as one such draw has it"
        )
    if before != remembered(module):
        _require_constant(module, inputs)
    if not isinstance(result, fx.Proxy) or not isinstance(value_of(result.node)[0], Tensor):
        raise OpaqueError("it returns something else than one tensor")
    tracer.graph.output(result.node)
    return tracer.recording(source.node, result.node)


def _require_constant(module: nn.Module, inputs: Values) -> None:
    """Refuse a module that changes what it remembers between the calls of submodules, which may do so."""
    watching = _Watching(module, lambda node: None)
    source = watching.start(inputs)
    with watching.at_work():
        module.forward(source)
    watching.look()


class _Watching(Tracer):
    """Looks before each call of a submodule whether what the module remembers has changed since the one before."""

    def start(self, inputs: Values) -> Any:
        """Return the proxy of the module's input."""
        self._before = remembered(self.root)
        return super().start(inputs)

    def look(self) -> None:
        """Refuse a change.

        Raises:
            OpaqueError: there was one.
        """
        now = remembered(self.root)
        for place in sorted({*self._before, *now}):
            if self._before.get(place) != now.get(place):
                raise OpaqueError(f"it changes what it remembers beside its tensors ({place})")

    def _computed(self, node: fx.Node) -> Values:
        if node.op != "call_module":
            return super()._computed(node)
        self._is_computing = True
        self.look()
        try:
            return super()._computed(node)
        finally:
            self._is_computing = True
            self._before = remembered(self.root)
            self._is_computing = False


def samples_without_numbers(spec: InputSpec, num_samples: int) -> Tensor:
    """Return inputs `[B, *shape]` of the type that a network reads, for use `without_numbers`."""
    dtype = torch.float32 if spec.vocabulary is None else torch.int64
    return torch.zeros(num_samples, *spec.shape, dtype=dtype)
