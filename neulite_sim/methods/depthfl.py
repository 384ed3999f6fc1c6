"""DepthFL: each device trains as many blocks as it has memory for, with a classifier on every block.

Kim, Yu, Lee and Moon, "DepthFL: Depthwise Federated Learning for Heterogeneous Clients", ICLR 2023.
https://openreview.net/forum?id=pf8RIZTMU58. The server takes the mean of every tensor over the devices that have it;
the global model is the ensemble of its classifiers. With `extended: false` each depth has only its last classifier:
InclusiveFL (Liu et al., KDD 2022, without its momentum distillation).

FedDyn (Acar et al., ICLR 2021), off by default: after training, device n has g_n <- g_n - alpha (theta_n - theta_t);
for each weight with c reporters among N devices the server has h <- h - alpha c (mean - theta_t) / N and
theta <- mean - h / alpha. The server keeps the g_n of every device that took part: a model each.

Where the sources differ. Paper and first author's code train with FedDyn, alpha 0.1; here it is off unless asked for,
as it has nothing to do with depth: it would go with any method, charges a device for two more copies of its weights,
so that a comparison of memory would measure it rather than the depths, needs a state per device, and cannot follow
updates of older versions (`fedasync`, `fedbuff`). `scenarios/paper/` has it on. The code always tests all classifiers,
which its fleet of equal quarters trains; where nobody holds the deepest blocks, `ensemble: trained` leaves out those
that never were. The code matches tensors by their place in a list, here it is by name, and it steps h with alpha 0.1
without FedDyn too; weights, the mean without samples, the ramp and the temperature are the code's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from neulite_sim.bounds import Coefficient, RoundsOrNone
from neulite_sim.later import Tensor, nn, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.depth_plan import DISTILLATION_WEIGHT, DRIFT, Classifier, DepthPlan
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options, inert, refuse_inert
from neulite_sim.seeding import integer_seed

if TYPE_CHECKING:
    from neulite_sim.methods.depth import DepthModel
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee


_HARDLY = 0.1
"""Below this weight in the last round a run says that distillation hardly acts."""


class DepthFLOptions(Options):
    """Options of `depthfl`."""

    classifier: Classifier = "attention"
    """Auxiliary classifiers: an attention gate and separable convolutions, or one pooled `linear` layer."""
    extended: bool = True
    """False: a depth has only its last classifier, and the deepest one is tested alone (InclusiveFL)."""
    distillation: bool = True
    """Whether the classifiers of a device learn from each other."""
    ramp_rounds: RoundsOrNone = 300
    """R: the weight of distillation rises as exp(-5 (1 - min(r, R) / R)^2) over the first R rounds; 0: it is 1."""
    feddyn_alpha: Coefficient = 0.0
    """FedDyn's alpha (0.1 in the paper); 0 is off. A device then holds two more copies of its weights."""
    ensemble: Literal["trained", "all"] = "trained"
    """Test the classifiers up to the deepest that was ever trained, or all, as the reference code does."""
    weighting: Weighting = "uniform"
    """`uniform` as the reference code; `samples` weighs an update by the device's samples."""

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """Refuse options of a distillation that does not happen: one classifier has nobody to learn from."""
        conditions = {} if self.distillation else {"ramp_rounds": "distillation true"}
        if not self.extended:
            conditions = dict.fromkeys(("distillation", "ramp_rounds"), "extended true")
        refuse_inert(self, conditions)
        return self

    def remarks_beside(self, scenario: Any) -> tuple[str, ...]:
        """Return that one classifier makes no ensemble, or that distillation is hardly ramped up by the run's end."""
        if not self.extended:
            return inert("method", self, {"ensemble": "extended true"})
        rounds = scenario.stop.rounds
        weight = ramp(rounds - 1, self.ramp_rounds)
        # Of a ramp that is a wish it is told that it outlasts the run.
        if not self.distillation or self.is_wish("ramp_rounds") or weight >= _HARDLY:
            return ()
        return (
            f"method.ramp_rounds is {self.ramp_rounds} and stop.rounds {rounds}: distillation hardly acts, its weight "
            f"rises to {weight:.2g} of 1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What DepthFL remembers beside its tensors. FedDyn alone uses `server` (h by name) and `devices` (g_n)."""

    weights: frozenset[str]
    deepest: int = 0
    server: Mapping[str, Tensor] = field(default_factory=dict)
    devices: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


class DepthFL(Method):
    """Every device is offered the deepest submodel that it can hold."""

    trains_blocks: ClassVar[bool] = True

    def __init__(self, options: DepthFLOptions, *, num_blocks: int, num_devices: int) -> None:
        self._options = options
        self._num_blocks = num_blocks
        self._num_devices = num_devices
        self.submodels = tuple(f"depth-{depth}" for depth in range(num_blocks, 0, -1))
        self.needs_current_version = f"feddyn_alpha: {options.feddyn_alpha:g}" if options.feddyn_alpha else ""

    def _depth_of(self, submodel: str) -> int:
        return self._num_blocks - self.submodels.index(submodel)

    def _numbers(self, depth: int) -> range:
        """Return which classifiers a depth has."""
        return range(1 if self._options.extended else depth, depth + 1)

    def _distills(self, depth: int) -> bool:
        return self._options.distillation and len(self._numbers(depth)) > 1

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean; with FedDyn the server learns from each device by itself."""
        return None if self._options.feddyn_alpha else self._options.weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model of a depth."""
        depth = self._depth_of(submodel)
        return self._model(blueprint, depth, distills=self._distills(depth), alpha=self._options.feddyn_alpha)

    def _model(self, blueprint: Blueprint, depth: int, *, distills: bool, alpha: float) -> DepthModel:
        from neulite_sim.methods.depth import DepthModel

        plan = DepthPlan(
            depth=depth,
            classifier=self._options.classifier,
            is_extended=self._options.extended,
            distills=distills,
            feddyn_alpha=alpha,
        )
        return DepthModel(blueprint, plan)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the full model and all auxiliary classifiers, freshly initialised."""
        from neulite_sim.methods.depth import auxiliary_classifier
        from neulite_sim.models.trainee import float_tensors

        model = blueprint.build_seeded(seed)
        tensors = float_tensors(model)
        weights = {name for name, _ in model.named_parameters()}
        for number in range(1, self._num_blocks):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(integer_seed(seed, "auxiliary-classifier", number))
                own = auxiliary_classifier(model, number, self._options.classifier, blueprint.spec)
            prefix = f"classifiers.{number}."
            tensors.update((prefix + name, tensor) for name, tensor in float_tensors(own).items())
            weights.update(prefix + name for name, _ in own.named_parameters())
        return State(version=0, tensors=tensors, extra=_Memory(weights=frozenset(weights)))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the deepest submodel that fits; who cannot hold one block is denied."""
        return Offering(stage=FULL, submodels=self.submodels)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the blocks and classifiers of a depth, and the weight of distillation in this round."""
        depth = self._depth_of(submodel)
        tensors = self._tensors_of(state, depth)
        if self._distills(depth):
            tensors[DISTILLATION_WEIGHT] = torch.tensor(ramp(state.version, self._options.ramp_rounds))
        return tensors

    def _tensors_of(self, state: State, depth: int) -> dict[str, Tensor]:
        prefixes = (
            *(f"blocks.{block}." for block in range(depth)),
            *("head." if n == self._num_blocks else f"classifiers.{n}." for n in self._numbers(depth)),
        )
        return {name: tensor for name, tensor in state.tensors.items() if name.startswith(prefixes)}

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return FedDyn's g_n of the device, zero for one that has not taken part yet."""
        if not self._options.feddyn_alpha:
            return {}
        from neulite_sim.methods.proximal import buffer_name

        memory: _Memory = state.extra
        own = memory.devices.get(device, {})
        return {
            f"{DRIFT}.{buffer_name(name)}": own[name] if name in own else torch.zeros_like(tensor)
            for name, tensor in self._tensors_of(state, self._depth_of(submodel)).items()
            if name in memory.weights
        }

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the state with every tensor that somebody reported replaced by its mean.

        With FedDyn, theta_t is the state's own: updates must come from its version, as in synchronous rounds.
        """
        memory: _Memory = state.extra
        alpha = self._options.feddyn_alpha
        reporters: Counter[str] = Counter()
        devices = dict(memory.devices)
        deepest = memory.deepest

        def noted() -> Iterator[Update]:
            nonlocal deepest
            for update in updates:
                deepest = max(deepest, self._depth_of(update.submodel))
                reporters.update(update.tensors.keys())
                if alpha:
                    devices[update.device] = _drifted(state, devices.get(update.device, {}), update, alpha)
                yield update

        mean = weighted_mean(noted(), self._options.weighting)
        server = memory.server
        if alpha:
            server = {**server, **self._server_steps(state, mean, reporters)}
            mean = {name: tensor - server[name] / alpha if name in server else tensor for name, tensor in mean.items()}
        kept = _Memory(weights=memory.weights, deepest=deepest, server=server, devices=devices)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean), extra=kept)

    def _server_steps(
        self, state: State, mean: Mapping[str, Tensor], reporters: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Return the new h of every weight that was reported."""
        memory: _Memory = state.extra
        steps = {}
        for name in (name for name in mean if name in memory.weights):
            share = self._options.feddyn_alpha * reporters[name] / self._num_devices
            before = memory.server.get(name)
            step = (mean[name] - state.tensors[name]) * -share
            steps[name] = step if before is None else before + step
        return steps

    def _tested_depth(self, state: State) -> int:
        everything = self._options.ensemble == "all" or state.extra.deepest == 0
        return self._num_blocks if everything else int(state.extra.deepest)

    def evaluated(self, state: State) -> str:
        """Return the depth whose classifiers are tested."""
        return f"depth-{self._tested_depth(state)}"

    def evaluation_model(self, name: str, blueprint: Blueprint) -> nn.Module:
        """Return the module that averages the logits of a depth's classifiers."""
        return self._model(blueprint, self._depth_of(name), distills=False, alpha=0.0)

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the blocks and classifiers that are tested."""
        return self._tensors_of(state, self._tested_depth(state))


def ramp(round_index: int, ramp_rounds: int) -> float:
    """Return w(r) = exp(-5 (1 - min(r, R) / R)^2), in (0, 1]; the first round has r = 0."""
    if not ramp_rounds:
        return 1.0
    return math.exp(-5 * (1 - min(round_index, ramp_rounds) / ramp_rounds) ** 2)


def _drifted(state: State, drift: Mapping[str, Tensor], update: Update, alpha: float) -> dict[str, Tensor]:
    """Return g_n - alpha (theta_n - theta_t) of one device, for the weights that it trained."""
    result = dict(drift)
    for name in (name for name in update.tensors if name in state.extra.weights):
        step = (update.tensors[name] - state.tensors[name]) * -alpha
        result[name] = result[name] + step if name in result else step
    return result


def _build(options: DepthFLOptions, setting: Setting) -> DepthFL:
    return DepthFL(options, num_blocks=setting.num_blocks, num_devices=setting.num_devices)


COMPONENT = Component(
    kind="depthfl",
    summary="each device trains as many blocks as it can hold, with a classifier on every block; an ensemble is tested",
    source="Kim et al., DepthFL, ICLR 2023; FedDyn: Acar et al., ICLR 2021",
    options=DepthFLOptions,
    build=_build,
)
