"""Full model where it fits, otherwise its last block: a device takes the largest part that its memory holds."""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
from pydantic import Field
from torch import Tensor

from neulite_sim.methods.aggregation import Weighting, merged, weighted_mean
from neulite_sim.methods.contract import Denial, Method, Offers, Proposal, Setting, State, Update
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel, Trainee, float_tensors
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options


class LastBlockOptions(Options):
    """Options of `lastblock`."""

    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""
    blocks: int = Field(1, ge=1)
    """How many blocks at the end are trained where the full model does not fit."""


class LastBlock(Method):
    """Two submodels: the full model, and the same with all but its last blocks frozen."""

    submodels = ("full", "last-block")

    def __init__(self, options: LastBlockOptions) -> None:
        self._options = options

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        model = FullModel(blueprint)
        if submodel == "last-block":
            model.blocks[: -self._options.blocks].requires_grad_(False)
        return model

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        return State(version=0, tensors=float_tensors(blueprint.build_seeded(seed)))

    def offers(self, state: State, ledger: Ledger, candidates: np.ndarray) -> Proposal:
        fits = np.array([ledger.fits(name)[candidates] for name in self.submodels])
        largest, fits_any = fits.argmax(axis=0).astype(np.int16), fits.any(axis=0)
        able, unable = candidates[fits_any], candidates[~fits_any]
        seconds = np.array([ledger.total_s(name, able) for name in self.submodels])
        chosen = largest[fits_any]
        offers = Offers(
            devices=able,
            submodel_index=chosen,
            submodels=self.submodels,
            expected_s=seconds[chosen, np.arange(len(able))],
        )
        if not len(unable):
            return Proposal(stage="full", offers=offers)
        missing = partial(ledger.shortfall_bytes_of, "last-block", unable)
        denial = Denial(reason=OUT_OF_MEMORY, devices=unable, submodel="last-block", shortfall=missing)
        return Proposal(stage="full", offers=offers, denials=(denial,))

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        return state.tensors

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        mean = weighted_mean(updates, self._options.weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean))


def build(options: LastBlockOptions, setting: Setting) -> LastBlock:
    return LastBlock(options)


COMPONENT = Component(
    kind="lastblock",
    summary="the full model where it fits, otherwise its last block",
    source="this page",
    options=LastBlockOptions,
    build=build,
)
