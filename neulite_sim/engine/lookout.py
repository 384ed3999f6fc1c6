"""The lookout: what the server sees at a moment, without listing devices that nobody asks for.

A dispatch asks how many offers there are and for some of them by rank, a row per round how many devices were denied for
which reason and what they lack. Both are answered from candidates that are kept up to date; devices are listed where
somebody asks for them, or where a method makes its offers in a form of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Floats, Integers, Repeated
from neulite_sim.engine.candidates import Candidates, Whereabouts
from neulite_sim.engine.views import IN_FLIGHT, NO_DATA, NOBODY, OFFLINE, Listed, Look, Report, View
from neulite_sim.methods.contract import Method, State
from neulite_sim.methods.drawn import has_own_offers
from neulite_sim.methods.offering import OUT_OF_MEMORY, Denial, Offer, Offering, Offers, Proposal
from neulite_sim.profiling.ledger import Ledger

MOST_STANDINGS = 4
"""So many offerings are kept up to date beside each other: the stages of a method that takes them in turn."""


class Lookout:
    """Looks at the fleet of a ledger for the offers of a method; `owns` says who owns data."""

    def __init__(self, method: Method, ledger: Ledger, whereabouts: Whereabouts, owns: Flags) -> None:
        self._method = method
        self._ledger = ledger
        self._is_listed = has_own_offers(method)
        self._fleet = _Fleet(whereabouts, owns)
        self._standings: OrderedDict[tuple[tuple[str, ...], bool], _Standing] = OrderedDict()

    def stage(self, state: State) -> str:
        """Return the stage that a state is at."""
        if self._is_listed:
            return self._method.offers(state, self._ledger, NOBODY).stage
        return self._method.offering(state, self._ledger).stage

    def offer(self, state: State, at_s: float, round_number: int, devices: Integers) -> Proposal:
        """Return what some devices, wherever they are, are offered with the memory of a moment."""
        return self._method.offers(state, self._ledger.at(at_s, round_number), devices)

    def look(self, state: State, at_s: float, round_number: int) -> View:
        """Return what is offered now, at `at_s`, to whoever owns data, is online and is not in flight."""
        ledger, mark = self._ledger.at(at_s, round_number), self._fleet.whereabouts.mark
        look = Look(at_s=at_s, mark=mark, memory_bytes=ledger.available_memory_bytes)
        if self._is_listed:
            return self._fleet.listed(lambda free: self._method.offers(state, ledger, free), look)
        offering = self._method.offering(state, ledger)
        return _Kept(self._fleet, self._standing(offering, ledger), offering.stage, look)

    def _standing(self, offering: Offering, ledger: Ledger) -> _Standing:
        """Return who can take an offering, as long as memory stays as it is."""
        key = offering.submodels, offering.enforces_memory
        found = self._standings.get(key)
        if found is None or found.memory_bytes is not ledger.available_memory_bytes:
            found = self._standings[key] = _Standing(self._fleet, offering, ledger)
        self._standings.move_to_end(key)
        if len(self._standings) > MOST_STANDINGS:
            self._standings.popitem(last=False)
        return found


class _Fleet:
    """Where the devices are, and which of them own data."""

    def __init__(self, whereabouts: Whereabouts, owns: Flags) -> None:
        self.whereabouts = whereabouts
        self.owns = owns
        self.num_owners = int(np.count_nonzero(owns))
        self._strangers = None if owns.all() else Candidates(whereabouts, ~owns)

    def num_strangers_online(self, at_s: float, mark: int) -> int:
        """Return how many devices without data are online."""
        if self._strangers is None:
            return 0
        self._strangers.move(at_s, mark)
        return self._strangers.num_online

    def listed(self, offers_to: Callable[[Integers], Proposal], look: Look) -> Listed:
        """Return the view of a look in which all candidates are listed."""
        online = self.whereabouts.online(look.at_s)
        candidates = np.flatnonzero(self.whereabouts.free(look.mark) & online)
        return Listed(
            at_s=look.at_s,
            proposal=offers_to(candidates),
            owns=self.owns,
            online=online,
            candidates=candidates,
            look=look,
        )


class _Standing:
    """Who of a fleet is able to take an offering, and who is not, with the memory of a ledger."""

    def __init__(self, fleet: _Fleet, offering: Offering, ledger: Ledger) -> None:
        self.memory_bytes = ledger.available_memory_bytes
        self.offering = offering
        self.ledger = ledger
        self._fleet = fleet
        self._choices = offering.choices(ledger)
        self.able = Candidates(fleet.whereabouts, fleet.owns & (self._choices >= 0))
        self._num_reports = 0
        self.unable: Candidates | None = None
        """Those who are denied, in the order of what they lack; None as long as they were listed once at most."""
        self.missing_bytes: Integers = NOBODY
        self.is_unable: Flags = np.zeros(0, np.bool_)

    def submodel_of(self, device: int) -> str:
        """Return what an able device is offered."""
        return self.offering.submodels[int(self._choices[device])]

    def submodels_of(self, devices: Integers) -> Sequence[str]:
        """Return what each of some able devices is offered."""
        names = self.offering.submodels
        if len(names) == 1:
            return Repeated(names[0], len(devices))
        return [names[index] for index in self._choices[devices].tolist()]

    def expected_s(self, submodel: str, device: int) -> float:
        """Return the seconds that a device would take."""
        return float(self.ledger.total_s(submodel, np.array([device]))[0])

    def count_report(self) -> None:
        """Put the unable in order when it pays: memory that moves at each dispatch would make it vain."""
        self._num_reports += 1
        if self._num_reports != 2:
            return
        devices = np.flatnonzero(self._fleet.owns & (self._choices < 0))
        missing_bytes = self.ledger.shortfall_bytes_of(self.offering.submodels[-1], devices)
        order = np.argsort(missing_bytes, kind="stable")
        self.missing_bytes = missing_bytes[order]
        self.is_unable = np.zeros(len(self._fleet.owns), np.bool_)
        self.is_unable[devices] = True
        self.unable = Candidates(self._fleet.whereabouts, self.is_unable, ordered=devices[order])


class _Kept:
    """A view whose answers come from candidates that are kept up to date, as long as these stand at it."""

    def __init__(self, fleet: _Fleet, standing: _Standing, stage: str, look: Look) -> None:
        self._fleet = fleet
        self._standing = standing
        self._look = look
        self._mark = look.mark
        self.at_s = look.at_s
        self.memory_bytes = look.memory_bytes
        self.stage = stage
        standing.able.move(look.at_s, look.mark)
        self.num_offers = len(standing.able)
        self._num_able_online = standing.able.num_online
        self.submodels = standing.offering.submodels
        self.offers: Offers = KeptOffers(self)

    @cached_property
    def listed(self) -> Listed:
        """The same view with all candidates listed."""
        standing = self._standing
        return self._fleet.listed(lambda free: standing.offering.to(standing.ledger, free), self._look)

    @cached_property
    def listed_report(self) -> Report:
        """How it stands with everybody, with all devices listed."""
        return self.listed.report()

    def offer(self, rank: int) -> Offer:
        """Return the offer to the able candidate of a rank."""
        standing = self._standing
        if not standing.able.is_at(self.at_s, self._mark):
            return self.listed.offers[rank]
        device = standing.able.nth(rank)
        submodel = standing.submodel_of(device)
        return Offer(device=device, submodel=submodel, expected_s=standing.expected_s(submodel, device))

    def taken(self, ranks: Integers) -> tuple[Integers, Sequence[str]]:
        """Return the able candidates of some ranks, and what each is to train."""
        standing = self._standing
        if not standing.able.is_at(self.at_s, self._mark):
            return self.listed.offers.taken(ranks)
        devices = standing.able.taken(ranks)
        return devices, standing.submodels_of(devices)

    def report(self) -> Report:
        """Return how it stands with everybody."""
        self._standing.count_report()
        unable = self._standing.unable
        if unable is None:
            return self.listed_report
        unable.move(self.at_s, self._mark)
        num_owners_online = self._num_able_online + unable.num_online
        num_unable, num_owners = len(unable), self._fleet.num_owners
        counts = {
            IN_FLIGHT: num_owners_online - self.num_offers - num_unable,
            OFFLINE: num_owners - num_owners_online,
            NO_DATA: len(self._fleet.owns) - num_owners,
        }
        denials: list[Denial] = []
        if num_unable:
            denials.append(_KeptDenial(self, OUT_OF_MEMORY, num_unable, self._standing.offering.submodels[-1]))
        denials += [_KeptDenial(self, reason, count) for reason, count in counts.items() if count]
        return Report(
            proposal=Proposal(stage=self.stage, offers=self.offers, denials=tuple(denials)),
            num_online=num_owners_online + self._fleet.num_strangers_online(self.at_s, self._mark),
            look=replace(self._look, unable=self._standing.is_unable),
        )

    def shortfall_range(self) -> tuple[int, int, int] | None:
        """Return the least, median and most bytes that the unable candidates lack; None where these have moved on."""
        unable = self._standing.unable
        if unable is None or not unable.is_at(self.at_s, self._mark):
            return None
        most = len(unable) - 1
        ranks = (0, most // 2, (most + 1) // 2, most)
        least, below, above, largest = (int(self._standing.missing_bytes[unable.place(rank)]) for rank in ranks)
        return least, int((below + above) / 2), largest


class KeptOffers(Offers):
    """The offers of a view: their number and each by its rank are known, the columns are listed for whoever asks."""

    def __init__(self, view: _Kept) -> None:
        object.__setattr__(self, "_view", view)

    _view: _Kept

    def __len__(self) -> int:
        return self._view.num_offers

    def __getitem__(self, position: int) -> Offer:
        return self._view.offer(position)

    def taken(self, positions: Integers) -> tuple[Integers, Sequence[str]]:
        """Return the devices of some offers, and what each is to train."""
        return self._view.taken(positions)

    @property
    def devices(self) -> Integers:
        """As columns have it."""
        return self._view.listed.offers.devices

    @property
    def submodel_index(self) -> NDArray[np.int16]:
        """As columns have it."""
        return self._view.listed.offers.submodel_index

    @property
    def submodels(self) -> tuple[str, ...]:
        """The names that are offered."""
        return self._view.submodels

    @property
    def expected_s(self) -> Floats:
        """As columns have it."""
        return self._view.listed.offers.expected_s


class _KeptDenial(Denial):
    """A denial of a view: how many devices, and what they lack, is known; they are listed for whoever asks."""

    def __init__(self, view: _Kept, reason: str, count: int, submodel: str = "") -> None:
        for name, value in {"_view": view, "_count": count, "reason": reason, "submodel": submodel}.items():
            object.__setattr__(self, name, value)

    _view: _Kept
    _count: int

    def __len__(self) -> int:
        return self._count

    @property
    def _listed(self) -> Denial:
        return next(item for item in self._view.listed_report.proposal.denials if item.reason == self.reason)

    @property
    def devices(self) -> Integers:
        """Numbers of the devices, ascending."""
        return self._listed.devices

    @property
    def shortfall(self) -> Callable[[], Integers] | None:
        """What returns the bytes that each lacks."""
        return self._listed.shortfall

    def shortfall_range(self) -> tuple[int, int, int] | None:
        """Return the least, the median (rounded down) and the most bytes missing; None where memory is not it."""
        if self.reason != OUT_OF_MEMORY:
            return None
        return self._view.shortfall_range() or super().shortfall_range()
