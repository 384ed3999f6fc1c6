"""Offers that methods have in common: one submodel for all who fit it."""

from __future__ import annotations

import numpy as np

from neulite_sim.methods.contract import Denial, Offers, Proposal
from neulite_sim.population.table import Integers
from neulite_sim.profiling.ledger import Ledger

OUT_OF_MEMORY = "not enough memory"


def offer_one(ledger: Ledger, submodel: str, candidates: Integers, *, stage: str, enforce: bool = True) -> Proposal:
    """Return offers of `submodel` to the candidates that fit it, and a denial with the shortfall of the others.

    With `enforce` False every candidate gets an offer, whatever its memory.
    """
    fits = ledger.fits(submodel)[candidates] if enforce else np.ones(len(candidates), dtype=bool)
    able, unable = candidates[fits], candidates[~fits]
    offers = Offers(
        devices=able,
        submodel_index=np.zeros(len(able), dtype=np.int16),
        submodels=(submodel,),
        expected_s=ledger.total_s(submodel, able),
    )
    if not len(unable):
        return Proposal(stage=stage, offers=offers)
    shortfall = ledger.shortfall_bytes(submodel)[unable]
    denial = Denial(reason=OUT_OF_MEMORY, devices=unable, submodel=submodel, shortfall_bytes=shortfall)
    return Proposal(stage=stage, offers=offers, denials=(denial,))
