"""The nodes under backend `ray`: what went to each of them, counted once per node and not once per actor.

Ray keeps one copy of an object per node, which all actors there read; so an object counts for a node when the first
actor on it is given it, and for the driver's own node never. Sizes are those of the objects as Ray stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

import ray


class _Placed(Protocol):
    node: str


OnNode = TypeVar("OnNode", bound=_Placed)


@dataclass(slots=True, eq=False)
class Sent:
    """An object in the store, its bytes there, and the nodes that have a copy."""

    reference: Any
    num_bytes: int
    nodes: set[str] = field(default_factory=set)


@dataclass(slots=True)
class NodeTally:
    """What a node was given and did, in one run so far."""

    node: str
    address: str = ""
    is_driver: bool = False
    actors: int = 0
    """Actors that were equipped on it, replacements included."""
    jobs: int = 0
    """Trainings and tests that it returned."""
    bytes_sent: int = 0
    """Bytes of data, models and tasks that went there over the network; none to the driver's own node."""
    bytes_back: int = 0
    """Bytes of updates, sums and test results that came from there."""


class NodeLedger:
    """What each node was sent and returned."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._tallies: dict[str, NodeTally] = {}

    def _of(self, node: str) -> NodeTally:
        if node not in self._tallies:
            self._tallies[node] = NodeTally(node=node, is_driver=node == self._driver)
        return self._tallies[node]

    def together(self, slots: Sequence[OnNode]) -> list[list[OnNode]]:
        """Return actors in groups, whose sums travel as one: by node, each by itself on the driver's."""
        groups: dict[object, list[OnNode]] = {}
        for slot in slots:
            key = slot.node if slot.node and slot.node != self._driver else id(slot)
            groups.setdefault(key, []).append(slot)
        return list(groups.values())

    def welcome(self, workplace: Sent, node: str) -> None:
        """Count an actor on a node, and what it needs beside its tasks."""
        self._of(node).actors += 1
        self.send(workplace, node)

    def send(self, item: Sent, node: str) -> None:
        """Count an object for a node that it goes to for the first time."""
        tally = self._of(node)
        if node in item.nodes or tally.is_driver:
            return
        item.nodes.add(node)
        tally.bytes_sent += item.num_bytes

    def send_once(self, num_bytes: int, node: str) -> None:
        """Count what one job alone is sent."""
        tally = self._of(node)
        tally.bytes_sent += 0 if tally.is_driver else num_bytes

    def bring_back(self, reference: Any, node: str, *, jobs: int = 1) -> None:
        """Count what came of a job."""
        tally = self._of(node)
        tally.jobs += jobs
        tally.bytes_back += 0 if tally.is_driver else size_of(reference)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per node that had an actor: the driver's first, the others in the order in which they came."""
        addresses = {str(node["NodeID"]): str(node["NodeManagerAddress"]) for node in ray.nodes()}  # type: ignore[no-untyped-call]
        known = sorted(self._tallies.values(), key=lambda tally: not tally.is_driver)
        return [{**asdict(tally), "address": addresses.get(tally.node, "")} for tally in known]


def own_node() -> str:
    """Return the node that this process is on."""
    return str(ray.get_runtime_context().get_node_id())


def size_of(reference: Any) -> int:
    """Return the bytes of an object that this process put, or was answered; 0 where Ray does not know them."""
    found: Mapping[Any, Mapping[str, Any]] = ray.experimental.get_local_object_locations([reference])
    return int(found.get(reference, {}).get("object_size") or 0)
