"""What a network computes at several widths, operator by operator, found without numbers.

The network is run on the meta device under a mode that notes every operator below autograd, where there are few kinds.
The notes of all widths are then laid side by side: they must agree in everything but sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.light_mode import LightMode
from neulite_sim.models.tracing import samples_without_numbers

Sizes = tuple[int, ...]
"""A number per width; the first one is the full width."""

_NUM_SAMPLES = 2
"""More than one, so that the batch is told from dimensions of one."""
_KEEPS = frozenset({"detach", "alias", "clone", "contiguous", "lift_fresh", "_to_copy", "to"})
"""What changes neither the numbers nor where they lie along each dimension, and is left out."""
_TURNS = frozenset({"permute", "transpose", "t", "swapaxes", "swapdims"})
_RESHAPE_IN_PLACE = frozenset({"transpose_", "t_", "squeeze_", "unsqueeze_", "swapdims_", "swapaxes_"})


class UnclearError(Exception):
    """Which channels lie where cannot be told; the message says why."""


class UnlikeError(UnclearError):
    """A network does other things at one width than at another."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A tensor as it is met at every width: equal numbers are the same tensor. `sizes[d]` are those of dimension d."""

    number: int
    sizes: tuple[Sizes, ...]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.sizes)


@dataclass(frozen=True, slots=True)
class Varying:
    """An argument that differs from width to width."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """An operator at every width: arguments by name, what of them differs as `Varying`, and the tensors it put out."""

    name: str
    arguments: Mapping[str, Any]
    outs: tuple[Seen, ...]
    is_pointwise: bool

    @property
    def inputs(self) -> list[Seen]:
        """The tensors among the arguments."""
        return [leaf for leaf in tree_leaves(dict(self.arguments)) if isinstance(leaf, Seen)]

    def get(self, *names: str) -> Any:
        """Return the first of some arguments that is given, None where none is."""
        return next((self.arguments[name] for name in names if self.arguments.get(name) is not None), None)


@dataclass(frozen=True, slots=True)
class Course:
    """All steps of one forward pass; `state` has the tensors of the network by name, `result` is what it returned."""

    steps: tuple[Step, ...]
    state: Mapping[str, Seen]
    source: Seen
    result: Seen


@dataclass(frozen=True, slots=True)
class _Value:
    number: int
    shape: tuple[int, ...]


_Noted = tuple[str, Mapping[str, Any], tuple[_Value, ...], bool]
Run = tuple[list[_Noted], dict[str, _Value], _Value, _Value]
"""What one forward pass did, in order, the tensors of the network by name, what it read, and what it returned."""


class _Notes(LightMode):
    """Dispatch mode that notes operators, with numbers for tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noted: list[_Noted] = []
        self._numbers: dict[int, tuple[Tensor, int]] = {}
        self._turned: dict[int, tuple[_Value, tuple[int, ...]]] = {}
        self._count = 0

    def value(self, tensor: Tensor) -> _Value:
        """Return a tensor's number, a new one where it was not met."""
        if id(tensor) not in self._numbers:
            self._put(tensor, self._count)
            self._count += 1
        return _Value(self._numbers[id(tensor)][1], tuple(tensor.shape))

    def _put(self, tensor: Tensor, number: int) -> None:
        # Together with the tensor, so that no other takes its id.
        self._numbers[id(tensor)] = tensor, number

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and note it."""
        name = func._overloadpacket.__name__
        names = (argument.name for argument in func._schema.arguments)
        given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        arguments = tree_map_only(Tensor, self.value, given)
        result = func(*args, **(kwargs or {}))
        outs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if name in _KEEPS and outs[0].shape == args[0].shape:
            self._put(outs[0], self.value(args[0]).number)
            return result
        if name == "as_strided_" and outs[0].shape == arguments["self"].shape and self._is_latest(arguments["self"]):
            return result
        if name in _RESHAPE_IN_PLACE:
            del self._numbers[id(outs[0])]
        if name.rstrip("_") in _TURNS:
            return self._after_turn(arguments, outs[0])
        values = tuple(map(self.value, outs))
        self.noted.append((name.rstrip("_"), arguments, values, torch.Tag.pointwise in func.tags))
        return result

    def _is_latest(self, value: _Value) -> bool:
        """Return whether a tensor was put out just now: operators lay their results out in memory as they like."""
        return bool(self.noted) and value in self.noted[-1][2]

    def _after_turn(self, arguments: Mapping[str, Any], out: Tensor) -> Tensor:
        """Note in which order a tensor has the dimensions of one that was not turned; not at all where in the same."""
        source = arguments["self"]
        first, order = self._turned.get(source.number, (source, tuple(range(len(source.shape)))))
        dims = _turned(arguments, len(order))
        order = tuple(order[place] for place in dims)
        if order == tuple(range(len(order))):
            self._put(out, first.number)
            return out
        value = self.value(out)
        self._turned[value.number] = first, order
        self.noted.append(("permute", {"self": first, "dims": order}, (value,), False))
        return out

    def needed(self, result: int) -> Iterator[_Noted]:
        """Yield what was noted without turns of which nothing came."""
        used = {leaf.number for step in self.noted for leaf in tree_leaves(dict(step[1])) if isinstance(leaf, _Value)}
        return (step for step in self.noted if step[0] != "permute" or step[2][0].number in {*used, result})


def _turned(arguments: Mapping[str, Any], ndim: int) -> list[int]:
    """Return which dimension of a tensor each one of a permuted or transposed one is."""
    if "dims" in arguments:
        return [place % ndim for place in arguments["dims"]]
    dims = list(range(ndim))
    if ndim > 1:
        one, two = arguments.get("dim0", 0), arguments.get("dim1", 1)
        dims[one], dims[two] = dims[two], dims[one]
    return dims


def _renumbered(steps: Iterable[_Noted], state: Mapping[str, _Value], source: _Value, result: _Value) -> Run:
    """Return a run with numbers in the order in which tensors are met, those of the network first."""
    numbers: dict[int, int] = {}

    def new(value: _Value) -> _Value:
        return _Value(numbers.setdefault(value.number, len(numbers)), value.shape)

    own = {name: new(value) for name, value in state.items()}
    first = new(source)
    noted = [(step[0], *tree_map_only(_Value, new, step[1:3]), step[3]) for step in steps]
    return noted, own, first, new(result)


def recorded(blueprint: Blueprint, *, is_training: bool = False) -> Run:
    """Return what a network does at one width while it is tested, or while it is trained.

    Raises:
        UnclearError: it fails without numbers.
    """
    with _disable_current_modes(), torch.random.fork_rng(devices=[]):
        return _recorded(blueprint.build_meta().train(is_training), blueprint)


def _recorded(network: nn.Module, blueprint: Blueprint) -> Run:
    notes = _Notes()
    state = {name: notes.value(tensor) for name, tensor in network.state_dict(keep_vars=True).items()}
    with torch.device("meta"):
        inputs = samples_without_numbers(blueprint.spec, _NUM_SAMPLES)
        source = notes.value(inputs)
        try:
            with torch.no_grad(), _in_plain_operators(), notes:
                result = network(inputs)
        except Exception as failure:
            reason = (str(failure).splitlines() or [type(failure).__name__])[0]
            raise UnclearError(f"it cannot be run without numbers at width {blueprint.width:g}: {reason}") from failure
    end = notes.value(result)
    return _renumbered(notes.needed(end.number), state, source, end)


def used(run: Run) -> set[int]:
    """Return the numbers of the network's own tensors that a forward pass reads."""
    read = {leaf.number for step in run[0] for leaf in tree_leaves(dict(step[1])) if isinstance(leaf, _Value)}
    return read & {value.number for value in run[1].values()}


def side_by_side(runs: Sequence[Run]) -> Course:
    """Return a forward pass at several widths as one.

    Raises:
        UnlikeError: other things are done at one width than at another.
    """
    noted, states, sources, results = zip(*runs, strict=True)
    if len({tuple(step[0] for step in steps) for steps in noted}) > 1:
        raise UnlikeError("it does not do the same things at every width")
    steps = []
    for same in zip(*noted, strict=True):
        arguments, outs = ([step[place] for step in same] for place in (1, 2))
        merged = {key: _merged([each.get(key) for each in arguments]) for key in arguments[0]}
        steps.append(Step(same[0][0], merged, tuple(_merged(outs)), same[0][3]))
    state = {name: _merged([each[name] for each in states]) for name in states[0]}
    return Course(tuple(steps), state, _merged(sources), _merged(results))


@contextmanager
def _in_plain_operators() -> Iterator[None]:
    """Within, layers of PyTorch that know a faster way are computed in operators that can be followed."""
    before = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, before)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


def _merged(values: Sequence[Any]) -> Any:
    """Return one value for all widths."""
    first = values[0]
    if all(isinstance(value, _Value) for value in values):
        shapes = [value.shape for value in values]
        if len({value.number for value in values}) > 1 or len(set(map(len, shapes))) > 1:
            raise UnlikeError("it does not do the same things at every width")
        return Seen(first.number, tuple(zip(*shapes, strict=True)))
    if all(isinstance(value, list | tuple) for value in values):
        if len(set(map(len, values))) > 1:
            raise UnlikeError("it makes more parts of something at one width than at another")
        return [_merged(items) for items in zip(*values, strict=True)]
    return first if all(value is first or value == first for value in values) else Varying(tuple(values))


def at_each(value: Any, num_widths: int) -> tuple[Any, ...]:
    """Return an argument at each width."""
    return value.values if isinstance(value, Varying) else (value,) * num_widths
