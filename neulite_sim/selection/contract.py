"""The contract of a selector: it chooses among offers, and may learn from what became of them.

The engine calls `choose` once per dispatch with the offers of that moment, and `observe` after each aggregation; any
selector works with any method, because it sees devices, submodels, seconds and losses and nothing else. A selector
lives in the driver alone and may keep state; equal calls in equal order must give equal choices.
`selection.conformance.check_selector` tests all of this for a selector of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Integers
from neulite_sim.bounds import DeviceCount
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import Offers
from neulite_sim.registry import Options
from neulite_sim.user_code.origins import place_of


class SelectorOptions(Options):
    """Options that every selector has."""

    devices_per_round: DeviceCount = 10
    """How many devices train in a round; fewer where fewer can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorSetting:
    """What a selector may know of the run when it is built: `Component.build(options, setting)` returns the selector.

    `max_rounds` is the scenario's `stop.rounds`; a run may end earlier.
    """

    num_devices: int
    max_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What became of one flight, as the server sees it when the flight's round has been aggregated.

    `duration_s` runs from dispatch to the end, of a dropped flight too. `num_samples` is the size of the device's
    own data. `loss` is the mean and `loss_rms` the root mean square of the losses of its samples in the last local
    epoch; None where nothing arrived, nothing was trained, training diverged or the submodel does not report it.
    """

    device: int
    submodel: str
    round: int
    duration_s: float
    has_arrived: bool
    num_samples: int
    loss: float | None = None
    loss_rms: float | None = None


class Selector:
    """Base of every selector."""

    chooses_afresh: bool = False
    """Whether `choose` keeps nothing of its calls: the same offers, count and stream give the same choice, however
    often. The engine may then ask for moments that are still to come, and again when they have. It counts for the
    `choose` of the class that says it: a subclass with another says it again."""

    def register(self, num_samples: Integers) -> None:
        """Learn the size of each device's own data, once and before anything else; learns nothing by default."""

    def num_to_choose(self, count: int, num_offers: int) -> int:
        """Return how many of `num_offers` offers to ask for where the scenario wants `count`; at least one."""
        del num_offers
        return count

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions of at most `count` offers, ascending and without repetition.

        Where anything is offered, at least one must be chosen: nothing else moves the run on. `rng` is the stream of
        this dispatch, the only randomness a selector may use, and of no use after the return. The columns of `offers`
        are listed when they are asked for; their number, and a few offers by position, come without it.
        """
        raise NotImplementedError

    def observe(self, feedback: Sequence[Feedback]) -> None:
        """Learn from the flights of an aggregation, in the order in which they ended; learns nothing by default."""

    def groups_to_test(self) -> Sequence[Integers]:
        """Return groups of devices on whose own samples the new global model is to be tested; none by default.

        The engine asks after each `observe`, unless the run is over, and answers with `observe_accuracies` at once.
        """
        return ()

    def observe_accuracies(self, accuracies: Sequence[float]) -> None:
        """Learn the accuracy, in [0, 1], on each of the groups asked for; never called where nothing is trained."""


def may_ask_again(selector: Selector) -> bool:
    """Return whether a selector says `chooses_afresh` of the `choose` that it has."""
    kinds = type(selector).__mro__
    choosing = next(place for place, kind in enumerate(kinds) if "choose" in vars(kind))
    saying = next(place for place, kind in enumerate(kinds) if "chooses_afresh" in vars(kind))
    return selector.chooses_afresh and saying <= choosing


def is_count(found: object) -> TypeGuard[int]:
    """Return whether a value is a whole number, of Python or of NumPy."""
    return isinstance(found, int | np.integer) and not isinstance(found, bool)


def checked_count(selector: Selector, found: int, num_offers: int) -> int:
    """Return how many of `num_offers` offers a selector asks for.

    Raises:
        SimulationError: it is no whole number, or none.
    """
    if type(found) is int and found >= 1:
        return found
    if not is_count(found) or found < 1:
        raise SimulationError(
            f"selection {_called(selector)} returned {found!r} from num_to_choose, of {num_offers} offers; it must "
            "return a whole number, an int of at least 1"
        )
    return int(found)


def checked_choice(selector: Selector, chosen: Integers, num_offers: int, count: int) -> NDArray[np.int64]:
    """Return the positions that a selector chose among `num_offers` offers, where at most `count` may be.

    Raises:
        SimulationError: they are not ascending positions of offers, too many, or none: a device would fly twice, say,
            or the run would never go on.
    """
    positions = np.asarray(chosen)
    if not num_offers and not positions.size:
        return np.zeros(0, np.int64)
    if positions.shape == (1,) and positions.dtype == np.int64 and 0 <= positions[0] < num_offers:
        # Nearly all that an asynchronous protocol asks for.
        return positions
    wish = f"it must return positions from 0 to {num_offers - 1} (not device numbers), ascending, none twice"
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        what = type(chosen).__name__ if positions.ndim != 1 else f"numbers of type {positions.dtype}"
        raise SimulationError(f"selection {_called(selector)} returned {what}; {wish}")
    if not positions.size:
        raise SimulationError(
            f"selection {_called(selector)} chose none of {num_offers} offers; nothing else moves the run on, so at "
            "least one must be chosen"
        )
    positions = positions.astype(np.int64, copy=False)
    if positions[0] < 0 or positions[-1] >= num_offers or (positions[1:] <= positions[:-1]).any():
        shown = f"{', '.join(map(str, positions[:8]))}{', ...' if len(positions) > 8 else ''}"
        raise SimulationError(f"selection {_called(selector)} chose the offers {shown} of {num_offers}; {wish}")
    if len(positions) > count:
        raise SimulationError(
            f"selection {_called(selector)} chose {len(positions)} offers where at most {count} are wanted"
        )
    return positions


def _called(selector: Selector) -> str:
    """Return the name of a selector, with the file and line of a user's own class."""
    kind = type(selector)
    return f"{getattr(selector, 'name', None) or kind.__name__}{place_of(kind)}"
