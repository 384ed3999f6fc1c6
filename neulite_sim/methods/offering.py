"""Offers: what a method could give to which device, and why not to others; and the form that most methods' offers have.

Nearly every method offers each device the first of some submodels, largest first, that its memory holds. A method that
says so by an `Offering` leaves it to the engine whom to look at; any other looks at all candidates itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Integers
from neulite_sim.profiling.ledger import Ledger

OUT_OF_MEMORY = "not enough memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Device `device` could train `submodel` now, in about `expected_s` seconds."""

    device: int
    submodel: str
    expected_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Devices that cannot be offered work, all for one reason.

    `shortfall()` returns the bytes that each is missing, where memory is the reason. It is worked out when somebody
    asks: the engine looks after every arrival, and writes one row per round. A run that waits takes it that a device is
    denied as long as it has not so many more.
    """

    reason: str
    devices: Integers
    submodel: str = ""
    shortfall: Callable[[], Integers] | None = None

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def shortfall_bytes(self) -> Integers | None:
        """Bytes that each device is missing; None where memory is not the reason."""
        return None if self.shortfall is None else self.shortfall()

    def shortfall_range(self) -> tuple[int, int, int] | None:
        """Return the least, the median (rounded down) and the most bytes missing; None as above."""
        missing = self.shortfall_bytes
        return None if missing is None else (int(missing.min()), int(np.median(missing)), int(missing.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """Offers as columns, at most one per device, ascending by device; `offers[i]` is the i-th as a value."""

    devices: Integers
    submodel_index: NDArray[np.int16]
    submodels: tuple[str, ...]
    expected_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.devices)

    def __getitem__(self, position: int) -> Offer:
        return Offer(
            device=int(self.devices[position]),
            submodel=self.submodels[self.submodel_index[position]],
            expected_s=float(self.expected_s[position]),
        )

    def taken(self, positions: Integers) -> tuple[Integers, Sequence[str]]:
        """Return the devices of some offers, and what each is to train."""
        return self.devices[positions], [self.submodels[index] for index in self.submodel_index[positions].tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a method can offer to the candidates of a moment, and why not to the others."""

    stage: str
    """What the method is at now, in words: the stage of a staged method, `FULL` otherwise."""
    offers: Offers
    denials: tuple[Denial, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """What a method offers at a stage: the first of `submodels` (largest first) that fits, whoever the device is.

    Who fits none is denied with the shortfall to the last, the smallest. Without `enforces_memory` everybody is
    offered the first, whatever its memory.
    """

    stage: str
    submodels: tuple[str, ...]
    enforces_memory: bool = True

    def choices(self, ledger: Ledger) -> NDArray[np.int16]:
        """Return for every device of the fleet which of `submodels` it is offered; -1 where none fits."""
        fits = [ledger.fits(submodel) for submodel in self.submodels] if self.enforces_memory else []
        chosen = np.full(ledger.population.num_devices, -1 if fits else 0, np.int16)
        for index in reversed(range(len(fits))):
            chosen[fits[index]] = index
        return chosen

    def to(self, ledger: Ledger, candidates: Integers) -> Proposal:
        """Return an offer or a denial for each of some devices, given ascending."""
        if not self.enforces_memory:
            return offer_one(ledger, self.submodels[0], candidates, stage=self.stage, enforce=False)
        if len(self.submodels) == 1:
            return offer_one(ledger, self.submodels[0], candidates, stage=self.stage)
        return offer_largest(ledger, self.submodels, candidates, stage=self.stage)


def offer_largest(ledger: Ledger, submodels: tuple[str, ...], candidates: Integers, *, stage: str) -> Proposal:
    """Return for each candidate an offer of the first of `submodels` (largest first) that fits it.

    Who fits none is denied with the shortfall to the last, the smallest.
    """
    chosen = np.full(len(candidates), -1, dtype=np.int16)
    for index in reversed(range(len(submodels))):
        chosen[ledger.fits(submodels[index])[candidates]] = index
    return offer_chosen(ledger, submodels, candidates, chosen, stage=stage, smallest=submodels[-1])


def offer_chosen(
    ledger: Ledger,
    submodels: tuple[str, ...],
    candidates: Integers,
    chosen: NDArray[np.int16],
    *,
    stage: str,
    smallest: str,
) -> Proposal:
    """Return for each candidate an offer of the submodel at its place in `submodels`; -1 for who can hold none.

    Who can hold none is denied with the shortfall to `smallest`.
    """
    fits = chosen >= 0
    able, unable = split(candidates, fits)
    chosen = chosen[fits]
    expected_s = np.zeros(len(able))
    for index, submodel in enumerate(submodels):
        takers = np.flatnonzero(chosen == index)
        expected_s[takers] = ledger.total_s(submodel, able[takers])
    offers = Offers(devices=able, submodel_index=chosen, submodels=submodels, expected_s=expected_s)
    return Proposal(stage=stage, offers=offers, denials=_out_of_memory(ledger, smallest, unable))


def split(candidates: Integers, fits: Flags) -> tuple[Integers, Integers]:
    """Return the candidates that fit and those that do not, each ascending.

    By number: of many candidates that is several times faster than by flag.
    """
    return candidates[np.flatnonzero(fits)], candidates[np.flatnonzero(~fits)]


def _out_of_memory(ledger: Ledger, submodel: str, devices: Integers) -> tuple[Denial, ...]:
    if not len(devices):
        return ()
    shortfall = partial(ledger.shortfall_bytes_of, submodel, devices)
    return (Denial(reason=OUT_OF_MEMORY, devices=devices, submodel=submodel, shortfall=shortfall),)


def offer_one(ledger: Ledger, submodel: str, candidates: Integers, *, stage: str, enforce: bool = True) -> Proposal:
    """Return offers of `submodel` to the candidates that fit it, and a denial with the shortfall of the others.

    With `enforce` False every candidate gets an offer, whatever its memory.
    """
    able, unable = split(candidates, ledger.fits(submodel)[candidates]) if enforce else (candidates, candidates[:0])
    offers = Offers(
        devices=able,
        submodel_index=np.zeros(len(able), dtype=np.int16),
        submodels=(submodel,),
        expected_s=ledger.total_s(submodel, able),
    )
    return Proposal(stage=stage, offers=offers, denials=_out_of_memory(ledger, submodel, unable))
