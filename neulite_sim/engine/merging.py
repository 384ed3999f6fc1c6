"""How an update is let in: as it is, or as a step of the current model along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from neulite_sim.errors import SimulationError
from neulite_sim.later import Tensor
from neulite_sim.methods.contract import Method, State, Update, Weighting
from neulite_sim.timeline.endings import Mixing

STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeighedUpdate(Update):
    """An update that weighs `share` times as much in a mean; `asked` takes note of each time that its weight is."""

    share: float
    asked: list[int]

    def weight(self, weighting: Weighting) -> float:
        """Return its weight in a mean over updates."""
        self.asked.append(self.device)
        return Update.weight(self, weighting) * self.share


def mixed(method: Method, state: State, sent: State, update: Update, mixing: Mixing | None) -> Update:
    """Return the update that the method aggregates: x + rate * (update - anchor), tensor by tensor.

    x is what `state`, the current one, holds of the submodel; the anchor is x itself, or what `sent`, the state at
    dispatch, held of it. Without `mixing` the update counts as it is. A window that rolls with the version is that of
    the update's version in all of them, and what only one device is sent that of the update's device. What the update
    leaves out is the method's to move: it is told the rate.
    """
    if mixing is None:
        return update
    current = _sent_to(method, replace(state, version=update.version), update)
    anchor = current if mixing.anchor == "current" else _sent_to(method, sent, update)
    tensors = {}
    for name, tensor in update.tensors.items():
        if name.endswith(STATISTICS):
            tensors[name] = current[name] + min(mixing.rate, 1.0) * (tensor - current[name])
        else:
            tensors[name] = current[name] + mixing.rate * (tensor - anchor[name])
    update = replace(update, tensors=tensors, rate=mixing.rate)
    return update if mixing.weight == 1 else _weighed(update, mixing.weight)


def _weighed(update: Update, share: float) -> WeighedUpdate:
    known = {field.name: getattr(update, field.name) for field in fields(update)}
    return WeighedUpdate(**known, share=share, asked=[])


def require_weighed(name: str, updates: Sequence[WeighedUpdate]) -> None:
    """Check, after a digest, that a method has weighed what a protocol lets weigh less.

    Raises:
        SimulationError: it did not ask for the weights of updates.
    """
    if updates and not any(update.asked for update in updates):
        raise SimulationError(
            f"the protocol lets updates weigh {min(update.share for update in updates):.3g} times as much as others, "
            f"and method {name} takes no mean by their weights",
            hint="weigh them by update.weight(weighting), as neulite_sim.methods.aggregation.weighted_mean does, or "
            "leave out protocol.normalise",
        )


def _sent_to(method: Method, state: State, update: Update) -> Mapping[str, Tensor]:
    """Return what a state holds of the submodel that an update is of."""
    personal = method.personal_payload(state, update.device, update.submodel)
    return {**method.payload(state, update.submodel), **personal}
