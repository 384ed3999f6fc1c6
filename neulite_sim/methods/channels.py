"""Channels at several widths: which of those along one dimension are the same as those along another.

A *label* says what lies along a dimension: parts one behind the other, each a *run* of channels of which every thin
model holds some, times the scalars of a channel. What is not known yet is found by comparing labels: runs that must be
the same are made one, and where a border falls within a run, it falls apart into two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from neulite_sim.methods.operators import Sizes, UnclearError

Part = tuple[int, int]
"""A run, and how many scalars each of its channels has."""
Label = tuple[Part, ...]

_MOST_PARTS = 2**16
_OTHERWISE = "the channels of two tensors do not lie alike, and it uses them together"


def is_fixed(sizes: Sizes) -> bool:
    """Return whether a size is the same at every width."""
    return len(set(sizes)) == 1


class Channels:
    """All runs of a network, with what is known of them so far."""

    def __init__(self) -> None:
        self._sizes: list[Sizes] = []
        self._made_of: dict[int, Label] = {}

    def run(self, sizes: Sizes) -> Label:
        """Return the label of a new run of so many channels at each width."""
        if min(sizes) < 1 or max(sizes) > sizes[0]:
            raise UnclearError(f"{sizes[0]} channels would be {min(sizes)} or up to {max(sizes)} at other widths")
        self._sizes.append(sizes)
        return ((len(self._sizes) - 1, 1),)

    def channels(self, run: int) -> Sizes:
        """Return how many channels a run has at each width."""
        return self._sizes[run]

    def size(self, label: Label) -> Sizes:
        """Return how many scalars lie along a dimension at each width."""
        return tuple(map(sum, zip(*map(self._of_part, label), strict=True)))

    def _of_part(self, part: Part) -> Sizes:
        run, inner = part
        return tuple(channels * inner for channels in self._sizes[run])

    def parts(self, label: Label) -> Label:
        """Return a label in runs that did not fall apart."""
        stack, found = list(reversed(label)), []
        while stack:
            found.append(self._next(stack))
        return tuple(found)

    def _next(self, stack: list[Part]) -> Part:
        """Take the first part off a stack of parts, in runs that did not fall apart."""
        run, inner = stack.pop()
        while run in self._made_of:
            stack += [(below, inner * each) for below, each in reversed(self._made_of[run])]
            run, inner = stack.pop()
        return run, inner

    def join(self, one: Label, two: Label) -> None:
        """Make the channels of two dimensions the same.

        Raises:
            UnclearError: they cannot be.
        """
        left, right = list(reversed(one)), list(reversed(two))
        while left and right:
            a, b = self._next(left), self._next(right)
            if a == b:
                continue
            size_a, size_b = self._of_part(a), self._of_part(b)
            if size_a == size_b:
                self._make_one(a, b)
                continue
            if all(x <= y for x, y in zip(size_a, size_b, strict=True)):
                right += self._cut_part(b, size_a)
                left.append(a)
            elif all(x >= y for x, y in zip(size_a, size_b, strict=True)):
                left += self._cut_part(a, size_b)
                right.append(b)
            else:
                raise UnclearError(_OTHERWISE)
        if left or right:
            raise UnclearError(_OTHERWISE)

    def _make_one(self, a: Part, b: Part) -> None:
        size = self._of_part(a)
        if is_fixed(size):
            return
        (run_a, inner_a), (run_b, inner_b) = a, b
        inner = math.lcm(inner_a, inner_b)
        if any(each % inner for each in size):
            raise UnclearError(_OTHERWISE)
        if inner == inner_a:
            self._made_of[run_b] = ((run_a, inner // inner_b),)
        elif inner == inner_b:
            self._made_of[run_a] = ((run_b, inner // inner_a),)
        else:
            ((run, _),) = self.run(tuple(each // inner for each in size))
            self._made_of[run_a], self._made_of[run_b] = ((run, inner // inner_a),), ((run, inner // inner_b),)

    def _cut_part(self, part: Part, place: Sizes) -> list[Part]:
        """Let a part fall apart after `place` scalars; return it for a stack."""
        run, inner = part
        size = self._of_part(part)
        rest = tuple(each - before for each, before in zip(size, place, strict=True))
        if is_fixed(size):
            # All of it is held everywhere: nobody has to know which.
            return [*self.run(rest), *self.run(place)]
        if any(each % inner for each in place):
            raise UnclearError(_OTHERWISE)
        first, second = (self.run(tuple(each // inner for each in sizes)) for sizes in (place, rest))
        self._made_of[run] = (*first, *second)
        return [part]

    def cut(self, label: Label, place: Sizes) -> tuple[Label, Label]:
        """Return what lies before and after a place.

        Raises:
            UnclearError: at some width nothing does.
        """
        stack, before, reached = list(reversed(label)), list[Part](), (0,) * len(place)
        while reached != place:
            if not stack:
                raise UnclearError(_OTHERWISE)
            part = self._next(stack)
            after = tuple(map(sum, zip(reached, self._of_part(part), strict=True)))
            if all(x <= y for x, y in zip(after, place, strict=True)):
                before.append(part)
                reached = after
            else:
                stack += self._cut_part(part, tuple(y - x for x, y in zip(reached, place, strict=True)))
        return tuple(before), tuple(reversed(stack))

    def between(self, label: Label, start: Sizes, end: Sizes) -> Label:
        """Return what lies from one place to another."""
        return self.cut(self.cut(label, end)[0], start)[1]

    def merged(self, label: Label, before: int, after: int) -> Label:
        """Return the label of a dimension merged with others: so many scalars around it, and within it."""
        if before * len(label) > _MOST_PARTS:
            raise UnclearError(f"it flattens {before} times {len(label)} groups of channels")
        return tuple((run, inner * after) for run, inner in label) * before

    def split(self, label: Label, sizes: Sequence[Sizes]) -> list[Label | None]:
        """Return the labels of the dimensions into which one is split; one of them scales."""
        scaling = [place for place, each in enumerate(sizes) if not is_fixed(each)]
        if len(scaling) != 1:
            raise UnclearError("it splits channels into two dimensions that both change with the width")
        (place,) = scaling
        outer, inner = (math.prod(each[0] for each in part) for part in (sizes[:place], sizes[place + 1 :]))
        found: Label = label
        if outer * inner != 1:
            found = self.run(sizes[place])
            self.join(label, self.merged(found, outer, inner))
        return [found if number == place else None for number in range(len(sizes))]


def held_counts(
    channels: Channels,
    labels: Mapping[str, Sequence[Label | None]],
    shapes: Mapping[str, Sequence[Sizes]],
    followed: Sequence[int],
) -> dict[int, Sizes]:
    """Return how many channels each run has at all widths; `followed` are the places of those that were followed.

    At the others it follows from the sizes of the tensors, which are sums over the runs along a dimension.

    Raises:
        UnclearError: at one of them it does not follow.
    """
    rows = [
        (name, channels.parts(label) if label is not None else (), size)
        for name, dimensions in labels.items()
        for label, size in zip(dimensions, shapes[name], strict=True)
    ]
    runs = {run for _, parts, _ in rows for run, _ in parts}
    columns = []
    for place in range(len(next(iter(shapes.values()))[0]) if shapes else 0):
        if place in followed:
            columns.append({run: channels.channels(run)[followed.index(place)] for run in runs})
        else:
            known = {run: channels.channels(run)[0] for run in runs if is_fixed(channels.channels(run))}
            columns.append(_solved([(name, parts, size[0], size[place]) for name, parts, size in rows], known))
    return {run: tuple(column[run] for column in columns) for run in runs}


def _solved(rows: Sequence[tuple[str, Label, int, int]], known: dict[int, int]) -> dict[int, int]:
    """Return the channels of each run where the sizes of dimensions are sums over them, beginning with those known."""
    before = -1
    while len(known) > before:
        before = len(known)
        for name, parts, full, size in rows:
            open_runs = {run for run, _ in parts} - known.keys()
            left = (size if parts else size - full) - sum(known[run] * inner for run, inner in parts if run in known)
            if not open_runs and left:
                raise UnclearError(f"{name} does not have the channels that it has at other widths")
            if len(open_runs) == 1:
                (run,) = open_runs
                known[run], rest = divmod(left, sum(inner for other, inner in parts if other == run))
                if rest or known[run] < 1:
                    raise UnclearError(f"{name} does not have the channels that it has at other widths")
    if any(run not in known for _, parts, _, _ in rows for run, _ in parts):
        raise UnclearError("it does not do the same things at every width")
    return known
