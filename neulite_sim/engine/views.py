"""Views: what the server sees of the fleet at a moment, and the one that lists everybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from neulite_sim.arrays import Flags, Integers
from neulite_sim.methods.offering import Denial, Offers, Proposal

IN_FLIGHT = "in flight"
OFFLINE = "offline"
NO_DATA = "no data"
NOBODY: Integers = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """When the server looked: a moment, a mark of `Whereabouts`, and the memory of every device then.

    Where nobody was listed `unable` says for every device whether it owns data and was too small for all offers.
    """

    at_s: float
    mark: int
    memory_bytes: Integers
    unable: Flags | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The proposal of a moment with a denial for every device that was offered nothing, and how many were online."""

    proposal: Proposal
    num_online: int
    look: Look | None = None


class View(Protocol):
    """What the server sees at a moment."""

    @property
    def at_s(self) -> float:
        """The moment."""
        ...

    @property
    def memory_bytes(self) -> Integers:
        """What every device has then."""
        ...

    @property
    def stage(self) -> str:
        """What the method is at."""
        ...

    @property
    def offers(self) -> Offers:
        """What those who own data, are online and free are offered."""
        ...

    def report(self) -> Report:
        """Return how it stands with everybody: a row per round needs that, a dispatch does not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A view of which all candidates were listed; the proposal says nothing of devices that were none."""

    at_s: float
    proposal: Proposal
    owns: Flags
    online: Flags
    candidates: Integers
    look: Look | None = None

    @property
    def memory_bytes(self) -> Integers:
        """What every device has then."""
        return NOBODY if self.look is None else self.look.memory_bytes

    @property
    def stage(self) -> str:
        """What the method is at."""
        return self.proposal.stage

    @property
    def offers(self) -> Offers:
        """What the candidates are offered."""
        return self.proposal.offers

    def report(self) -> Report:
        """Return how it stands with everybody."""
        # Whoever owns data, is online and was no candidate is in flight: nobody else is left.
        is_busy = self.owns & self.online
        is_busy[self.candidates] = False
        others = (
            Denial(reason=IN_FLIGHT, devices=np.flatnonzero(is_busy)),
            Denial(reason=OFFLINE, devices=np.flatnonzero(self.owns & ~self.online)),
            Denial(reason=NO_DATA, devices=np.flatnonzero(~self.owns)),
        )
        denials = (*self.proposal.denials, *(denial for denial in others if len(denial)))
        proposal = replace(self.proposal, denials=denials)
        return Report(proposal=proposal, num_online=int(np.count_nonzero(self.online)), look=self.look)


_NOWHERE: Flags = np.zeros(0, np.bool_)
NOTHING_SEEN = Listed(
    at_s=0.0,
    proposal=Proposal(
        stage="",
        offers=Offers(
            devices=NOBODY, submodel_index=NOBODY.astype(np.int16), submodels=(), expected_s=NOBODY.astype(np.float64)
        ),
    ),
    owns=_NOWHERE,
    online=_NOWHERE,
    candidates=NOBODY,
)
"""The view before the first dispatch."""
