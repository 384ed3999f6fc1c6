"""Sums that Ray's actors hold: of which jobs, and how they come to the driver, one from each node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ray.exceptions import ObjectLostError, RayActorError, RayError

from neulite_sim.methods.folding import Fold
from neulite_sim.training.ray_pool import ActorPool, Slot

Job = TypeVar("Job")
Loss = RayActorError | ObjectLostError
Replace = Callable[[Slot, Loss], None]
"""Puts a new actor in a place, and queues again what the one before it had."""


class HeldFolds(Generic[Job]):
    """What actors have folded and not handed over yet: by the number of the order, and by ticket."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, tuple[Slot, Job]]] = {}

    def note(self, number: int, ticket: int, slot: Slot, job: Job) -> None:
        """Note that the update of a job went into a sum that an actor holds."""
        self._parts.setdefault(number, {})[ticket] = (slot, job)

    def holders(self, number: int) -> list[Slot]:
        """Return the places of actors that hold a part of a fold."""
        return list({id(slot): slot for slot, _ in self._parts.get(number, {}).values()}.values())

    def lost_with(self, slot: Slot) -> list[Job]:
        """Return the jobs whose updates an actor had folded and not handed over yet, and forget where they were."""
        return [
            parts.pop(ticket)[1]
            for parts in self._parts.values()
            for ticket in [ticket for ticket, (place, _) in parts.items() if place is slot]
        ]

    def give_up(self, ticket: int) -> None:
        """Let the actors forget the fold of a ticket."""
        for number, parts in list(self._parts.items()):
            if ticket in parts:
                for slot, _ in self._parts.pop(number).values():
                    slot.actor.take_fold.remote(number)

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()

    def collected(self, number: int, pool: ActorPool, replace: Replace) -> list[Fold]:
        """Return what actors hold of a fold, as far as it is still there, and forget that.

        It comes from each other node as one sum, and from each actor of the driver's node as its own.
        """
        asked = [_asked(number, group) for group in pool.ledger.together(self.holders(number))]
        found = [fold for folds in asked for fold in self._taken(number, folds, pool, replace)]
        if not self._parts.get(number):
            self._parts.pop(number, None)
        return found

    def _taken(self, number: int, asked: Sequence[tuple[Slot, Any]], pool: ActorPool, replace: Replace) -> list[Fold]:
        """Return what a group has folded: the sum of its last actor, or what is left where that is lost."""
        *others, (last, reference) = asked
        try:
            whole = pool.cluster.get(reference)
            if whole is None:
                raise ObjectLostError(reference.hex(), None, "")
        except RayError as loss:
            pool.cluster.require_alive()
            if not others and isinstance(loss, Loss):
                replace(last, loss)
            elif not others:
                raise
            # What the others handed over may have survived. The last one still has its own, unless it died.
            return [fold for one in others for fold in self._taken(number, [one], pool, replace)]
        pool.ledger.bring_back(reference, last.node, jobs=0)
        for slot, _ in asked:
            self._forget(number, slot)
        return [whole]

    def _forget(self, number: int, slot: Slot) -> None:
        parts = self._parts[number]
        self._parts[number] = {ticket: part for ticket, part in parts.items() if part[0] is not slot}


def _asked(number: int, group: Sequence[Slot]) -> list[tuple[Slot, Any]]:
    """Ask the actors of a group for what they folded; the last is given what the others have, and adds it."""
    *others, last = group
    asked = [(slot, slot.actor.take_fold.remote(number)) for slot in others]
    parts = [reference for _, reference in asked]
    return [*asked, (last, last.actor.take_fold.remote(number, *parts))]
