"""How an update is let in: as it is, or as a step of the current model along it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from neulite_sim.later import Tensor
from neulite_sim.methods.contract import Method, State, Update
from neulite_sim.timeline.endings import Mixing

STATISTICS = ("running_mean", "running_var")


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
    return replace(update, tensors=tensors, rate=mixing.rate)


def _sent_to(method: Method, state: State, update: Update) -> Mapping[str, Tensor]:
    """Return what a state holds of the submodel that an update is of."""
    personal = method.personal_payload(state, update.device, update.submodel)
    return {**method.payload(state, update.submodel), **personal}
