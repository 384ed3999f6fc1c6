"""The contract of a method: it makes offers and payloads and digests updates.

A method never touches the clock, the selection or the backend. Its state is a frozen value: `digest` returns the
next one. The engine calls, per round: `offers` on the devices that are online and own data, `payload` for each
submodel that was chosen, and `digest` with the updates that arrived, in the order of their devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from neulite_sim.arrays import Integers
from neulite_sim.errors import SimulationError
from neulite_sim.later import Tensor, nn
from neulite_sim.methods.offering import Denial as Denial
from neulite_sim.methods.offering import Offer as Offer
from neulite_sim.methods.offering import Offering as Offering
from neulite_sim.methods.offering import Offers as Offers
from neulite_sim.methods.offering import Proposal as Proposal
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Cost, Ledger
from neulite_sim.profiling.plans import Plan

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee
    from neulite_sim.scenario.schema import Training


Weighting = Literal["samples", "uniform"]
"""How updates are weighed: by the number of their samples, or all alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A method between two rounds: `version` counts digests, `tensors` is all that is ever sent or tested."""

    version: int
    tensors: Mapping[str, Tensor]
    extra: Any = None
    """Whatever else a method remembers, as a frozen value of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOrder:
    """The order to add up updates as they come about: `number` tells folds apart, weights sum to `most_weight` or less.

    `methods.folding.Fold` carries it out.
    """

    number: int
    weighting: Weighting
    most_weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTask:
    """What one device is asked to train: a submodel of a state's version, and its own conditions.

    `cost` is what the device is charged; with `enforces_memory` its peak fits. With a `plan` the real training takes
    its steps so, and it lasts `epochs`; as the scenario says where they are None. It ends after `steps` where they are
    given, however many epochs that takes. With a `fold` nobody needs the update by itself.
    """

    flight: int
    cost: Cost
    version: int
    seed: int
    learning_rate: float
    enforces_memory: bool = True
    plan: Plan | None = None
    fold: FoldOrder | None = None
    epochs: int | None = None
    steps: int | None = None

    @property
    def device(self) -> int:
        """Number of the device."""
        return self.cost.device

    @property
    def submodel(self) -> str:
        """What is trained."""
        return self.cost.submodel


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a device returns: its tensors after training, how many samples they come from, and mean scalars.

    A folded one is the weighted mean of the `num_updates` updates of one submodel and version, in double precision. It
    comes from their `num_samples` samples together, from no `device` in particular, and has no scalars.
    """

    device: int
    submodel: str
    num_samples: int
    tensors: Mapping[str, Tensor]
    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[int, ...] = ()
    """The classes that the device owns samples of, ascending."""
    version: int = 0
    """The version of the state whose payload it was trained from."""
    num_updates: int = 1
    """How many updates it stands for."""
    rate: float = 1.0
    """How far the model moves along it. `tensors` are moved already; what a digest adds to them has to be as well."""
    learning_rate: float | None = None
    """That which the device trained with, of the round in which it left; None of what is folded or was not trained."""

    def weight(self, weighting: Weighting) -> float:
        """Return its weight in a mean over updates."""
        return float(self.num_samples if weighting == "samples" else self.num_updates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a method may know of the run when it is built: `Component.build(options, setting)` returns the method.

    `num_layers` is how many layers each block has; empty where that is not known.
    """

    num_blocks: int
    num_devices: int
    max_rounds: int
    seed: int
    num_layers: tuple[int, ...] = ()
    charged: Blueprint | None = None
    """What devices are charged for, and how they train it; None where that is not known."""
    training: Training | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTraining:
    """What a method has its own way with in the local training of a submodel; None: as the scenario says.

    A `learning_rate` is the same in every round. `epochs` are charged as they are trained, and so are `steps`, of which
    every device takes as many, whatever samples it owns: it goes through them again, or leaves some out.

    Raises:
        SimulationError: the learning rate is no positive number, there is less than one epoch or step, or both are
            given.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise SimulationError(f"learning_rate of OwnTraining must be a positive number, is {self.learning_rate}")
        for name, given in (("epochs", self.epochs), ("steps", self.steps)):
            if given is not None and (type(given) is not int or given < 1):
                raise SimulationError(f"{name} of OwnTraining must be a whole number from 1 on, is {given}")
        if self.epochs is not None and self.steps is not None:
            raise SimulationError(
                f"OwnTraining is told to last {self.epochs} epochs and {self.steps} steps; leave one of them out"
            )

    def applied(self, training: Training) -> Training:
        """Return the training of a scenario with what the method has its own way with."""
        changes: dict[str, Any] = {}
        if self.learning_rate is not None:
            constant = type(training).model_fields["learning_rate_schedule"].get_default()
            changes = {"learning_rate": self.learning_rate, "learning_rate_schedule": constant}
        if self.epochs is not None:
            changes["epochs"] = self.epochs
        return training.model_copy(update=changes) if changes else training


class Method:
    """Base of every method. A subclass names its `submodels` and implements what raises here."""

    submodels: tuple[str, ...]
    enforces_memory: bool = True
    """False only where a scenario says `memory_limit: false`."""
    skippable_submodels: ClassVar[bool] = False
    """Whether the method goes on without a submodel that no device fits."""
    scales_width: ClassVar[bool] = False
    """Whether submodels are the model at several widths; a model that no width makes thinner is refused then."""
    trains_blocks: ClassVar[bool] = False
    """Whether submodels are parts of the chain of blocks; on a model of one block a run says what that comes to."""
    takes_gradients: ClassVar[bool] = True
    """Whether devices take an optimizer's steps; a run says what of `training` has no effect where none does."""
    same_as: str = ""
    """Another way to write this very method in a scenario, which a run says; nothing where there is none."""
    decides_by_weights: str = ""
    """The option, as `key: value`, by which offers depend on trained weights; a dry run is refused then."""

    needs_current_version: str = ""
    """The option, as `key: value`, by which updates must come from the latest version: not with every protocol.

    Why, in words without a colon, where no other value of an option helps.
    """

    @property
    def shaped_by(self) -> Any:
        """What shapes submodels beside the options and the blueprint: plain values, by which kept profiles are known.

        Only a method that goes by `Setting.charged` or `Setting.training` needs it.
        """
        return ()

    rounds_go_by: str = ""
    """The keys, as in a scenario, that decide how many rounds a stage has; for a method of several stages."""

    def rounds_before(self, ledger: Ledger) -> Mapping[str, float]:
        """Return how many rounds come at least before each stage, by what it is called; nothing where there is one.

        Infinite for a stage that has no round however long a run is. A run says which stages it never comes to.
        """
        return {}

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting by which `digest` takes a mean, if it needs nothing of updates but that and their submodels.

        It is then given the mean of those of one submodel and version as one update, where that can be. None, as by
        default and wherever a subclass has a `digest` of its own: every update by itself, in the order of devices.
        """
        return None

    def settled(self, blueprint: Blueprint, ledger_of: Callable[[Method], Ledger]) -> Method:
        """Return the method with the submodels that it chooses by what they cost on the fleet; itself by default.

        Called before the ledger is made: `ledger_of(method)` is the one that another would have, on the models of
        `blueprint`, which devices are charged for. Workers train what both name before that: a name has to say enough.
        A study calls it once per budget, with fleets that differ in the memory that devices have and in nothing else.
        """
        del blueprint, ledger_of
        return self

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return what is trained as `submodel`; called for the workload and for the proxy alike."""
        raise NotImplementedError

    def own_training(self, submodel: str) -> OwnTraining:
        """Return how a submodel is trained otherwise than the scenario says; in nothing, by default."""
        return OwnTraining()

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the state before the first round; its weights depend on `seed` and on what fits the fleet."""
        raise NotImplementedError

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return what is offered to whoever asks, where that does not depend on who it is but for its memory.

        A method whose offers have another form implements `offers` in its place.
        """
        raise NotImplementedError

    def offers(self, state: State, ledger: Ledger, candidates: Integers) -> Proposal:
        """Return an offer or a denial for every one of `candidates` (device numbers, ascending).

        By default those of `offering`; only then the engine need not list all candidates at each dispatch.
        """
        return self.offering(state, ledger).to(ledger, candidates)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the tensors that a device needs to train `submodel`, under the trainee's names."""
        raise NotImplementedError

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the next state. `updates` is read once, in order, and need not fit in memory together."""
        raise NotImplementedError

    def progress(self, state: State) -> Mapping[str, Any]:
        """Return what offers depend on beside the version, as plain values for the journal; nothing by default."""
        return {}

    def follow(self, state: State, progress: Mapping[str, Any]) -> State:
        """Return the state after the next digest without its weights: it makes the same offers. For replays."""
        return replace(state, version=state.version + 1)

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return what only this device is sent beside the payload, under names of the trainee; nothing by default."""
        return {}

    def owed_bytes(self, state: State, devices: Integers, submodels: Sequence[str]) -> Integers | None:
        """Return what each of `devices` downloads beyond its submodel's own bytes before it trains `submodels[i]`.

        That is what it has missed since it took part last, or what grows with who takes part. A replay asks as well, so
        it may depend on what `follow` makes of `progress`. None, as by default: nobody downloads more.
        """
        return None

    def evaluated(self, state: State) -> str:
        """Return the name of the model that is tested, for `evaluation_model`; it may depend on the state."""
        return FULL

    def evaluation_model(self, name: str, blueprint: Blueprint) -> nn.Module:
        """Return the module that is tested as `name`; `evaluation_tensors` fits it."""
        return blueprint.build()

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the tensors of the global model that is tested and kept as the run's result."""
        return state.tensors
