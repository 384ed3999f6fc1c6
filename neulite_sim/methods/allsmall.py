"""AllSmall: one thin model that fits everybody, trained with FedAvg.

The baseline of that name in NeuLite, section "Baselines" (https://arxiv.org/abs/2408.10826): the global model is scaled
down until the device with the least memory can train it. Everyone takes part, and everyone is held to the smallest.

No code of it is public. The widths to choose from are HeteroFL's five levels (`rates`), which the paper does not name;
a script of its authors' earlier work has half the width, whatever the fleet. Updates are weighed by samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from neulite_sim.later import Tensor, nn
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.rates import LEVELS, Rates, names_of
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee


class AllSmallOptions(Options):
    """Options of `allsmall`."""

    rates: Rates = Field(LEVELS, validate_default=True)
    """Widths to choose from, relative to the full model, largest first, beginning with 1."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


class AllSmall(Method):
    """The largest width that fits every device that owns data, chosen once; it is the global model."""

    scales_width: ClassVar[bool] = True

    def __init__(self, options: AllSmallOptions) -> None:
        self._options = options
        self._rates = names_of(options.rates)
        self.submodels = tuple(self._rates)

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._options.weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model at the submodel's width."""
        from neulite_sim.models.trainee import FullModel

        return FullModel(self._thin(submodel, blueprint))

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised thin model; `extra` is its name."""
        from neulite_sim.models.trainee import float_tensors

        name = self.choose(ledger)
        return State(version=0, tensors=float_tensors(self._thin(name, blueprint).build_seeded(seed)), extra=name)

    def choose(self, ledger: Ledger) -> str:
        """Return the largest width whose peak fits every device that owns data, the smallest where none does."""
        fitting = (name for name in self.submodels if ledger.fits(name)[ledger.owns_data].all())
        return next(fitting, self.submodels[-1])

    def _thin(self, name: str, blueprint: Blueprint) -> Blueprint:
        return blueprint.at_width(blueprint.width * self._rates[name])

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the thin model to whoever fits it."""
        return Offering(stage=state.extra, submodels=(state.extra,))

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the global model, which is the thin one."""
        return state.tensors

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the weighted mean of the updates as the next global model."""
        mean = weighted_mean(updates, self._options.weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean), extra=state.extra)

    def evaluated(self, state: State) -> str:
        """Return the name of the chosen width."""
        return str(state.extra)

    def evaluation_model(self, name: str, blueprint: Blueprint) -> nn.Module:
        """Return the model at the width called `name`."""
        return self._thin(name, blueprint).build()


def _build(options: AllSmallOptions, setting: Setting) -> AllSmall:
    return AllSmall(options)


COMPONENT = Component(
    kind="allsmall",
    summary="FedAvg on the widest model that the device with the least memory can train",
    source="baseline of NeuLite, arXiv 2408.10826, section Baselines",
    options=AllSmallOptions,
    build=_build,
)
