"""How an update is let in: as it is, or as a step of the current model along it."""

from __future__ import annotations

from dataclasses import replace

from neulite_sim.methods.contract import Method, State, Update
from neulite_sim.timeline.endings import Mixing

STATISTICS = ("running_mean", "running_var")


def mixed(method: Method, state: State, sent: State, update: Update, mixing: Mixing | None) -> Update:
    """Return the update that the method aggregates: x + rate * (update - anchor), tensor by tensor.

    x is what `state`, the current one, holds of the submodel; the anchor is x itself, or what `sent`, the state at
    dispatch, held of it. Without `mixing` the update counts as it is. A window that rolls with the version is that of
    the update's version in all of them.
    """
    if mixing is None:
        return update
    current = method.payload(replace(state, version=update.version), update.submodel)
    anchor = current if mixing.anchor == "current" else method.payload(sent, update.submodel)
    tensors = {}
    for name, tensor in update.tensors.items():
        if name.endswith(STATISTICS):
            tensors[name] = current[name] + min(mixing.rate, 1.0) * (tensor - current[name])
        else:
            tensors[name] = current[name] + mixing.rate * (tensor - anchor[name])
    return replace(update, tensors=tensors)
