"""The configurations of SLT, and when a run goes from one to the next, as pure functions.

Pfeiffer, Khalili and Henkel, "Aggregating Capacity in FL through Successive Layer Training for
Computationally-Constrained Devices", NeurIPS 2023, section 3 and `memory/memory_configs_slt.py` of
https://github.com/k1l1/SLT. A configuration (s, d) of a network of K layers has the first int(K d) of them at full
width and the later ones at width s.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neulite_sim.models.names import FULL

_NAME = re.compile(r"s([0-9.e-]+?)-d([0-9.e-]+?)(?:-t([0-9]+))?")
_ROUNDING = 1e-9
"""Products of shares and whole numbers are meant exactly: 0.58 * 50 is 29, not 28.999999999999996."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One step of the staircase: width s in (0, 1], depth d in [0, 1), and how many layers are trained below it."""

    width: float
    depth: float
    training_depth: int = 1

    @property
    def name(self) -> str:
        """What the submodel is called: `full`, or `s0.2-d0.45`, with `-t4` behind it where four layers are trained."""
        if self.width == 1 and self.depth == 0:
            return FULL
        deeper = "" if self.training_depth == 1 else f"-t{self.training_depth}"
        return f"s{_shown(self.width)}-d{_shown(self.depth)}{deeper}"

    @classmethod
    def named(cls, name: str) -> Configuration:
        """Return the configuration of a submodel's name."""
        if name == FULL:
            return cls(width=1.0, depth=0.0)
        found = _NAME.fullmatch(name)
        assert found is not None, f"{name} is not the name of a configuration"
        width, depth, training_depth = found.groups(default="1")
        return cls(width=float(width), depth=float(depth), training_depth=int(training_depth))

    def threshold(self, num_layers: int) -> int:
        """Return int(K d): how many of the K layers are at full width."""
        return int(num_layers * self.depth + _ROUNDING)

    def num_frozen(self, num_layers: int) -> int:
        """Return how many of the K layers are frozen: those before the last `training_depth` of full width."""
        return max(0, self.threshold(num_layers) - self.training_depth)


def _shown(share: float) -> str:
    """Return a share in as few digits as say it exactly."""
    short = f"{share:g}"
    return short if float(short) == share else repr(share)


def thinned(channels: int, width: float) -> int:
    """Return max(int(s C), 1), the channels that a layer of C keeps at width s."""
    return max(int(channels * width + _ROUNDING), 1)


def depths_of(num_layers: int) -> tuple[float, ...]:
    """Return the depths at which one more of K layers is at full width, from one to K - 1: i / K, rounded up."""
    unit = 10 ** max(2, len(str(num_layers)))
    return tuple(math.ceil(unit * i / num_layers) / unit for i in range(1, num_layers))


def search(
    memory: Callable[[float, float], int], budget: int, depths: Sequence[float], *, step: float = 0.001
) -> tuple[Configuration, ...]:
    """Return the widest configuration of each depth whose memory is within a budget, and no wider than a later one.

    Widths are 1, 1 - `step`, 1 - 2 `step` and so on down to what is left above 0, depths rise. From the last depth to
    the first, each begins with the width of the one before; of the result nothing follows the first configuration of
    width 1, which trains the rest of the network. `memory(s, d)` must not fall where s rises, so that a few of its
    values decide what trying width after width would find.

    Raises:
        OverBudgetError: not even the thinnest configuration of some depth fits.
    """
    last = int((1 - _ROUNDING) / step)
    found: list[Configuration] = []
    place = 0
    for depth in reversed(depths):

        def need(place: int, depth: float = depth) -> int:
            return memory(_width(place, step), depth)

        if place == 0 and need(place) > budget:
            # Nothing was over before: from here on every depth is thinner, so each has to hold at all.
            _require_thinnest(memory, budget, depths, _width(last, step))
        place = _first_within(need, budget, place, last)
        found.append(Configuration(width=_width(place, step), depth=depth))
    found.reverse()
    is_whole = [configuration.width == 1 for configuration in found]
    return tuple(found[: is_whole.index(True) + 1] if any(is_whole) else found)


def _require_thinnest(
    memory: Callable[[float, float], int], budget: int, depths: Sequence[float], width: float
) -> None:
    needed, depth = max((memory(width, depth), depth) for depth in depths)
    if needed > budget:
        raise OverBudgetError(Configuration(width=width, depth=depth), needed)


class OverBudgetError(Exception):
    """The thinnest configuration of some depth needs more than the budget; of several that do, the one that needs most.

    `needed` is that, in the unit of the memory.
    """

    def __init__(self, thinnest: Configuration, needed: int) -> None:
        super().__init__(f"{thinnest.name} needs {needed}")
        self.thinnest, self.needed = thinnest, needed


def _width(place: int, step: float) -> float:
    return round(1 - place * step, 6)


def _first_within(need: Callable[[int], int], budget: int, first: int, last: int) -> int:
    """Return the first place from `first` to `last` whose need is within the budget, as that of `last` is.

    Needs fall along the places.

    By false position between a place over the budget and one within it, with the Illinois rule (Dowell and Jarratt,
    BIT 11, 1971): an end that stays twice counts half, so that the other one moves, too.
    """
    over, excess = first, float(need(first) - budget)
    if excess <= 0:
        return first
    within, room = last, float(budget - need(last))
    moved = 0
    while within - over > 1:
        guess = over + round(excess / (excess + room) * (within - over))
        guess = min(max(guess, over + 1), within - 1)
        found = need(guess) - budget
        if found > 0:
            over, excess, room = guess, float(found), room / 2 if moved == 1 else room
            moved = 1
        else:
            within, room, excess = guess, float(-found), excess / 2 if moved == -1 else excess
            moved = -1
    return within


def switch_rounds(trained: Sequence[int], first_width: float, num_rounds: int) -> tuple[int, ...]:
    """Return after how many rounds each configuration ends: the first one thin throughout, then each of the search.

    `trained[i]` is how many parameters configuration i trains. N_pre = int(s_1 N) rounds go to width s_1 throughout,
    the others are divided in proportion to `trained`, each end rounded down; the last is N.
    """
    before = int(first_width * num_rounds + _ROUNDING)
    total = sum(trained)
    return (before, *(before + so_far * (num_rounds - before) // total for so_far in itertools.accumulate(trained)))
