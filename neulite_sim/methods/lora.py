"""LoRA: devices train low-rank adapters beside frozen weights, and these alone travel.

Adapters: Hu et al., ICLR 2022, https://arxiv.org/abs/2106.09685 (`adapters.py`). What the server makes of the factors
A_k, B_k of devices k with weights p_k is `aggregation`:

- `fedit` (Zhang et al., FedIT, ICASSP 2024, https://arxiv.org/abs/2305.05644): the mean of each factor. Inexact: the
  product of the means is not the mean of the products.
- `flora` (Wang et al., FLoRA, NeurIPS 2024, https://arxiv.org/abs/2409.05976): the factors are stacked, so that
  B A = sum p_k s_k B_k A_k exactly, and merged into the frozen weights; every round begins with fresh factors. A device
  receives the stacks of all rounds since its last, whose size grows with the sum of their ranks, or the adapted weights
  where these are smaller.
- `hetlora` (Cho et al., HetLoRA, EMNLP 2024, https://arxiv.org/abs/2401.06432): factors of smaller ranks are filled up
  with zeros to the largest rank among the updates, and the mean is cut down to a device's rank. What lies above that
  rank stays as it is: with zeros in both factors it could never be trained again. Its pruning of ranks and its weights
  by norm are not built.
- `ffa` (Sun et al., FFA-LoRA, ICLR 2024, https://arxiv.org/abs/2403.12313): A stays as it was drawn, which every device
  can do by itself; B is trained and sent, so the mean is exact.
- `fedsa` (Guo et al., FedSA-LoRA, ICLR 2025, https://arxiv.org/abs/2410.01463): both are trained, A is sent and every
  device keeps its own B. What is tested is one model for all, with the mean of the devices' B, which no server has.

A device trains the largest of `ranks` that fits it; rank 0 is the head alone. Activations are there as with the full
model, so what a smaller rank saves is gradients and optimizer states. The scale of the adapters is alpha / r with the
device's own rank, except for `hetlora`, whose ranks are parts of one adapter: there r is the largest.

Where this differs from the papers: weights p_k are over the devices that hold adapters. The head, which these papers
train or not by their task, is averaged like everything else. The frozen weights are those that the model starts with:
random ones, unless the model brings its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from neulite_sim.arrays import Integers
from neulite_sim.bounds import MOST_CHANNELS
from neulite_sim.later import Tensor, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.catching_up import Attendance
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options, inert, refusal

if TYPE_CHECKING:
    from neulite_sim.methods.adapters import AdapterPlan
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

Aggregation = Literal["fedit", "flora", "hetlora", "ffa", "fedsa"]
Rank = Annotated[int, Field(ge=0, le=MOST_CHANNELS)]
MOST_RANKS = 16
"""Each rank is a submodel that is profiled."""
_MIXES_RANKS = ("flora", "hetlora")
_FLOAT_BYTES = 4


class LoraOptions(Options):
    """Options of `lora`."""

    aggregation: Aggregation = "fedit"
    """What the server makes of the devices' factors: `fedit`, `flora`, `hetlora`, `ffa` or `fedsa`."""
    ranks: tuple[Rank, ...] = Field((8,), min_length=1, max_length=MOST_RANKS)
    """Ranks that are offered, largest first; 0 is the head alone. Several above 0 only with `flora` and `hetlora`."""
    alpha: float = Field(16.0, gt=0, le=1e6)
    """What is added to a frozen weight is alpha / r times the product of the factors."""
    adapters: Literal["auto", "linear", "convolutions"] = "auto"
    """Which layers of the blocks get one; `auto`: the linear ones where there are any, else the convolutions."""
    head: Literal["trained", "frozen"] = "trained"
    """Whether the head is trained, whole, beside the adapters."""
    base: Literal["installed", "sent"] = "installed"
    """`installed`: devices have the frozen weights from before the run. `sent`: each flight downloads them."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""

    @field_validator("ranks")
    @classmethod
    def _ranks_fall(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if any(after >= before for before, after in itertools.pairwise(given)):
            raise ValueError(f"ranks is {list(given)}, but ranks must fall; for example [16, 8, 4]")
        return given

    @model_validator(mode="after")
    def _goes_together(self) -> LoraOptions:
        above = [rank for rank in self.ranks if rank]
        if len(above) > 1 and self.aggregation not in _MIXES_RANKS:
            message = f"{self.aggregation} takes the mean of factors of one rank, found {above}; use hetlora or flora"
            raise refusal(message, "ranks", given=list(self.ranks))
        if self.head == "frozen" and 0 in self.ranks:
            raise refusal("of rank 0 the head alone is trained, and head is frozen; remove it", "ranks", given=0)
        return self

    def remarks_beside(self, scenario: Any) -> tuple[str, ...]:
        """Return what the head alone leaves without effect, and that one rank leaves nothing to mix."""
        del scenario
        if not any(self.ranks):
            return inert("method", self, dict.fromkeys(("aggregation", "alpha", "adapters"), "a rank above 0"))
        is_mixed = self.aggregation != "hetlora" or len(self.ranks) > 1
        return () if is_mixed else ("method.aggregation is hetlora, and does what fedit does with one of method.ranks",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What is remembered beside the tensors: the devices' own factors, or what they have missed."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of the weights that are adapted, by layer."""
    kept: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    attendance: Attendance | None = None


class Lora(Method):
    """Adapters of the largest rank that fits, on each device."""

    skippable_submodels: ClassVar[bool] = True

    def __init__(self, options: LoraOptions, setting: Setting) -> None:
        self._options = options
        self._seed = setting.seed
        self._num_devices = setting.num_devices
        self._charged = setting.charged
        self._ranks = {f"rank-{rank}" if rank else "head": rank for rank in options.ranks}
        self._most = options.ranks[0]
        self.submodels = tuple(self._ranks)
        if options.aggregation in ("flora", "fedsa"):
            self.needs_current_version = f"aggregation: {options.aggregation}"

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean where it needs nothing else of the updates."""
        return None if self._options.aggregation in ("flora", "fedsa") else self._options.weighting

    def _scale(self, rank: int) -> float:
        own = self._most if self._options.aggregation == "hetlora" else rank
        return self._options.alpha / own if own else 0.0

    def _plan(self, rank: int) -> AdapterPlan:
        """Return what is trained, received and sent at a rank."""
        from neulite_sim.methods.adapters import A, AdapterPlan, B

        both, options = (A, B), self._options
        # A that is fresh, or never changes, is drawn by the device itself.
        trained, down, up = {
            "fedit": (both, both, both),
            "hetlora": (both, both, both),
            "flora": (both, (), both),
            "ffa": ((B,), (B,), (B,)),
            "fedsa": (both, (A,), (A,)),
        }[options.aggregation]
        return AdapterPlan(
            adapted=options.adapters,
            rank=rank,
            scale=self._scale(rank),
            trains_head=options.head == "trained",
            trained=trained,
            down=down,
            up=up,
            sends_base=options.base == "sent",
        )

    def _shapes(self, blueprint: Blueprint) -> dict[str, tuple[int, ...]]:
        from neulite_sim.methods.adapters import adapted_shapes

        return adapted_shapes(blueprint, self._options.adapters) if self._most else {}

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the frozen model with adapters of the submodel's rank."""
        from neulite_sim.methods.adapters import AdaptedModel

        return AdaptedModel(blueprint, self._plan(self._ranks[submodel]))

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model, with factors whose product is zero."""
        from neulite_sim.methods.adapters import first_factors
        from neulite_sim.models.trainee import float_tensors

        shapes = self._shapes(blueprint)
        tensors = float_tensors(blueprint.build_seeded(seed))
        tensors.update(first_factors(shapes, self._most, self._seed, 0))
        attendance = Attendance.begin(self._num_devices) if self._owes else None
        return State(version=0, tensors=tensors, extra=_Memory(shapes=shapes, attendance=attendance))

    @property
    def _owes(self) -> bool:
        """Whether devices have to be told what was merged into the weights that they hold."""
        return self._options.aggregation == "flora" and self._options.base == "installed"

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the largest rank that fits."""
        return Offering(stage="adapters", submodels=self.submodels)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the model, with the factors cut down to the submodel's rank; without those that devices keep."""
        from neulite_sim.methods.adapters import A, B

        rank = self._ranks[submodel]
        held = {name: tensor for name, tensor in state.tensors.items() if not name.endswith((A, B))}
        for name, tensor in state.tensors.items() if rank else ():
            if name.endswith(A):
                held[name] = tensor[:rank]
            elif name.endswith(B) and self._options.aggregation != "fedsa":
                held[name] = tensor[:, :rank]
        return held

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return the factors that the device has kept of its last training; zeros where it has had none."""
        from neulite_sim.methods.adapters import B

        if self._options.aggregation != "fedsa" or not self._ranks[submodel]:
            return {}
        memory: _Memory = state.extra
        kept = memory.kept.get(device, {})
        return {name: kept.get(name, torch.zeros_like(tensor)) for name, tensor in state.tensors.items()
                if name.endswith(B)}  # fmt: skip

    def owed_bytes(self, state: State, devices: Integers, submodels: Sequence[str]) -> Integers | None:
        """Return the bytes of the stacks that each device has missed, the adapted weights at most."""
        memory: _Memory = state.extra
        if memory.attendance is None:
            return None
        weights = sum(_size(shape) for shape in self._charged_shapes(memory).values())
        return memory.attendance.missed_bytes(devices, most=_FLOAT_BYTES * weights)

    def _charged_shapes(self, memory: _Memory) -> Mapping[str, tuple[int, ...]]:
        return memory.shapes if self._charged is None else self._shapes(self._charged)

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return what the aggregation makes of the devices' factors, and the mean of their heads."""
        how = {"flora": self._stacked, "fedsa": self._shared, "hetlora": self._padded}
        return how.get(self._options.aggregation, self._averaged)(state, updates)

    def _averaged(self, state: State, updates: Iterable[Update]) -> State:
        """FedIT and FFA: the mean of each tensor over the devices that send it."""
        mean = weighted_mean(updates, self._options.weighting)
        return replace(state, version=state.version + 1, tensors=merged(state.tensors, mean))

    def _padded(self, state: State, updates: Iterable[Update]) -> State:
        """HetLoRA: the mean of factors that are filled up with zeros to the largest rank among them."""
        from neulite_sim.methods.padded_factors import filled, up_to_rank

        largest = 0

        def whole() -> Iterator[Update]:
            nonlocal largest
            for update in updates:
                largest = max(largest, self._ranks[update.submodel])
                sent = update.tensors.items()
                yield replace(update, tensors={n: filled(t, state.tensors[n], update.rate) for n, t in sent})

        after = self._averaged(state, whole())
        return replace(after, tensors=up_to_rank(after.tensors, state.tensors, largest))

    def _shared(self, state: State, updates: Iterable[Update]) -> State:
        """FedSA: the mean of what is sent; each device's own B is kept for it."""
        from neulite_sim.methods.adapters import B

        memory: _Memory = state.extra
        kept = dict(memory.kept)

        def sent() -> Iterable[Update]:
            for update in updates:
                own = {name: tensor for name, tensor in update.tensors.items() if name.endswith(B)}
                if own:
                    kept[update.device] = own
                yield replace(update, tensors={n: t for n, t in update.tensors.items() if n not in own})

        after = self._averaged(state, sent())
        return replace(after, extra=replace(memory, kept=kept))

    def _stacked(self, state: State, updates: Iterable[Update]) -> State:
        """FLoRA: W + sum p_k s_k B_k A_k, and fresh factors."""
        from neulite_sim.methods.adapters import A, first_factors

        memory: _Memory = state.extra
        stack = _Stack()
        ranks: list[int] = []
        came: list[tuple[int, int]] = []

        def heads() -> Iterable[Update]:
            for update in updates:
                rank = self._ranks[update.submodel]
                ranks.append(rank)
                came.append((update.device, update.version))
                stack.add(update, update.weight(self._options.weighting), self._scale(rank))
                yield replace(update, tensors={n: t for n, t in update.tensors.items() if "lora_" not in n})

        tensors = merged(state.tensors, weighted_mean(heads(), self._options.weighting))
        for name, added in stack.mean().items():
            weight = tensors[f"{name}.weight"]
            tensors[f"{name}.weight"] = (weight.double() + added).to(weight.dtype)
        version = state.version + 1
        if any(name.endswith(A) for name in tensors) and ranks:
            tensors.update(first_factors(memory.shapes, self._most, self._seed, version))
        attendance = memory.attendance
        if attendance is not None:
            per_rank = sum(_size(shape[1:]) + shape[0] for shape in self._charged_shapes(memory).values())
            attendance = attendance.noted(came, _FLOAT_BYTES * sum(ranks) * per_rank)
        return State(version=version, tensors=tensors, extra=replace(memory, attendance=attendance))

    def progress(self, state: State) -> Mapping[str, Any]:
        """Return who came into the last digest, where devices are told what they have missed."""
        memory: _Memory = state.extra
        return {} if memory.attendance is None else memory.attendance.progress

    def follow(self, state: State, progress: Mapping[str, Any]) -> State:
        """Return the state after the next digest without its weights."""
        memory: _Memory = state.extra
        if memory.attendance is not None:
            memory = replace(memory, attendance=memory.attendance.followed(progress))
        return replace(state, version=state.version + 1, extra=memory)

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the plain model whose weights hold what the adapters add; with the mean of B where devices keep it."""
        from neulite_sim.methods.adapters import with_adapters

        memory: _Memory = state.extra
        tensors = {**state.tensors, **_mean_of(memory.kept)}
        return with_adapters(tensors, self._scale(self._most))


class _Stack:
    """Stacked factors of the devices, as the weighted mean of their products: one weight per layer at a time."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weight = 0.0

    def add(self, update: Update, weight: float, scale: float) -> None:
        """Take in the factors of a device, where it has any."""
        from neulite_sim.methods.adapters import A, B, product

        layers = [name.removesuffix(A) for name in update.tensors if name.endswith(A)]
        self._weight += weight if layers else 0.0
        for layer in layers:
            made = product(update.tensors[layer + B], update.tensors[layer + A]).mul_(weight * scale)
            self._sums[layer] = self._sums[layer].add_(made) if layer in self._sums else made

    def mean(self) -> dict[str, Tensor]:
        """Return what is added to the weight of each layer, in double precision."""
        return {layer: total / self._weight for layer, total in self._sums.items()}


def _mean_of(kept: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the factors that devices keep."""
    sums: dict[str, Tensor] = {}
    for device in sorted(kept):
        for name, tensor in kept[device].items():
            sums[name] = sums[name].add_(tensor) if name in sums else tensor.double()
    return {name: (total / len(kept)).float() for name, total in sums.items()}


def _size(shape: Sequence[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _build(options: LoraOptions, setting: Setting) -> Lora:
    return Lora(options, setting)


class HeadOnlyOptions(Options):
    """Options of `head-only`."""

    base: Literal["installed", "sent"] = "installed"
    """`installed`: devices have the frozen weights from before the run. `sent`: each flight downloads them."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


def _build_head_only(options: HeadOnlyOptions, setting: Setting) -> Lora:
    chosen = LoraOptions.model_validate({"ranks": (0,), "base": options.base, "weighting": options.weighting})
    return Lora(chosen, setting)


COMPONENT = Component(
    kind="lora",
    summary="devices train low-rank adapters beside frozen weights, of the largest rank that fits; these alone travel",
    source="Hu et al., LoRA, ICLR 2022, arXiv 2106.09685; FedIT, FLoRA, HetLoRA, FFA-LoRA, FedSA-LoRA",
    options=LoraOptions,
    build=_build,
)

HEAD_ONLY = Component(
    kind="head-only",
    summary="devices train the head on the features of a frozen model, as lora with rank 0",
    source="linear probing: Alain and Bengio, 2016, arXiv 1610.01644",
    options=HeadOnlyOptions,
    build=_build_head_only,
)
