"""Follows channels through what a network computes, from the tensors that write them to those that read them.

`RULES` has a function per operator that is not pointwise (`following_rules`). An operator that is not known stops it,
unless no channels pass through: where they lie afterwards is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from neulite_sim.methods.channels import Channels, Label, is_fixed
from neulite_sim.methods.operators import Course, Seen, Step, UnclearError

Labels: TypeAlias = "Sequence[Label | None]"
Rule: TypeAlias = "Callable[[Following, Step], Labels]"


class Following:
    """What is known of where channels lie, in the tensors of a network and in those that it makes.

    A dimension of one size at every width has no label: all of it is held everywhere.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.channels = Channels()
        self._rules = rules
        self._labels: dict[int, list[Label | None]] = {}
        self._unknown: set[int] = set()

    def follow(self, course: Course) -> None:
        """Follow a forward pass.

        Raises:
            UnclearError: where channels lie cannot be told; it names the operator.
        """
        # What a pass makes itself has numbers of its own; only the network's tensors are the same in every pass.
        state = {seen.number for seen in course.state.values()}
        self._labels = {number: labels for number, labels in self._labels.items() if number in state}
        self._unknown = set()
        for step in course.steps:
            try:
                self._take(step)
            except UnclearError as unclear:
                raise UnclearError(f"{unclear} (operator {step.name})") from None

    def _take(self, step: Step) -> None:
        met = [*step.inputs, *step.outs]
        if all(is_fixed(size) for seen in met for size in seen.sizes):
            return
        rule = self._rules.get(step.name)
        if rule is not None:
            labels = rule(self, step)
        elif step.is_pointwise:
            labels = self.aligned(step.inputs, step.outs[0])
        else:
            raise UnclearError("it is not known what it does with channels")
        if step.outs:
            self.put(step.outs[0], labels)
        self._unknown |= {out.number for out in step.outs[1:] if out.number not in self._labels}

    def of(self, seen: Seen) -> list[Label | None]:
        """Return the label of each dimension of a tensor; channels that were not met before are a run of their own."""
        if seen.number in self._unknown and not all(map(is_fixed, seen.sizes)):
            raise UnclearError("it uses something of which it is not known where its channels come from")
        if seen.number not in self._labels:
            self._labels[seen.number] = self.new(seen)
        return self._labels[seen.number]

    def new(self, seen: Seen) -> list[Label | None]:
        """Return labels of their own for a tensor's dimensions."""
        return [None if is_fixed(size) else self.channels.run(size) for size in seen.sizes]

    def put(self, seen: Seen, labels: Labels) -> None:
        """Say what lies along each dimension of a tensor; of one that was there before, in addition to what is known.

        Raises:
            UnclearError: a dimension that changes with the width has no label, or one of another size.
        """
        found: list[Label | None] = []
        for label, size in zip(labels, seen.sizes, strict=True):
            if is_fixed(size):
                found.append(None)
                continue
            if label is None or self.channels.size(label) != size:
                raise UnclearError("where its channels come from cannot be told")
            found.append(label)
        for old, label in zip(self._labels.get(seen.number, found), found, strict=True):
            self.join(old, label)
        self._labels[seen.number] = found

    def join(self, *labels: Label | None) -> Label | None:
        """Make dimensions one that hold the same channels; one without a label has nothing to say."""
        given = [label for label in labels if label is not None]
        for other in given[1:]:
            if self.channels.size(given[0]) != self.channels.size(other):
                raise UnclearError("it uses two tensors together whose numbers of channels differ")
            self.channels.join(given[0], other)
        return given[0] if given else None

    def aligned(self, tensors: Sequence[Seen], out: Seen) -> list[Label | None]:
        """Return the labels of a result whose inputs are aligned by their last dimensions."""
        labels: list[Label | None] = [None] * out.ndim
        for tensor in tensors:
            if tensor.ndim > out.ndim:
                raise UnclearError("it is not known what it does with channels")
            first = out.ndim - tensor.ndim
            for place, (label, size) in enumerate(zip(self.of(tensor), tensor.sizes, strict=True), start=first):
                if label is None and size == (1,) * len(size):
                    continue
                if size != out.sizes[place]:
                    raise UnclearError("some width has one channel where another has several, and repeats it")
                labels[place] = self.join(labels[place], label)
        return labels
