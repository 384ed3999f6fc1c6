"""Offers that methods have in common: one submodel for all who fit it."""

from __future__ import annotations

from functools import partial

import numpy as np

from neulite_sim.arrays import Flags, Integers
from neulite_sim.methods.contract import Denial, Offers, Proposal
from neulite_sim.profiling.ledger import Ledger

OUT_OF_MEMORY = "not enough memory"


def offer_largest(ledger: Ledger, submodels: tuple[str, ...], candidates: Integers, *, stage: str) -> Proposal:
    """Return for each candidate an offer of the first of `submodels` (largest first) that fits it.

    Who fits none is denied with the shortfall to the last, the smallest.
    """
    chosen = np.full(len(candidates), -1, dtype=np.int16)
    for index in reversed(range(len(submodels))):
        chosen[ledger.fits(submodels[index])[candidates]] = index
    fits = chosen >= 0
    able, unable = split(candidates, fits)
    chosen = chosen[fits]
    expected_s = np.zeros(len(able))
    for index, submodel in enumerate(submodels):
        takers = np.flatnonzero(chosen == index)
        expected_s[takers] = ledger.total_s(submodel, able[takers])
    offers = Offers(devices=able, submodel_index=chosen, submodels=submodels, expected_s=expected_s)
    return Proposal(stage=stage, offers=offers, denials=_out_of_memory(ledger, submodels[-1], unable))


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
