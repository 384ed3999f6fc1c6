"""The pool of actors under backend `ray`: how they start, get what they need, and are stopped with their cluster."""

from __future__ import annotations

import contextlib
import math
import pickle
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from neulite_sim.arrays import Integers
from neulite_sim.errors import BackendUnavailableError
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.methods.folding import Fold
from neulite_sim.training.carrying import let_travel
from neulite_sim.training.contract import Workplace
from neulite_sim.training.evaluation import EvaluationResult
from neulite_sim.training.pinning import pinned_torch
from neulite_sim.training.ray_arrays import Arrays, as_arrays, as_readonly_tensors
from neulite_sim.training.ray_cluster import LOOK_S, Cluster
from neulite_sim.training.ray_nodes import NodeLedger, Sent, own_node, size_of
from neulite_sim.training.ray_options import RayOptions
from neulite_sim.training.worker import Worker
from neulite_sim.user_code.holding import modules_that_travel
from neulite_sim.user_code.origins import in_a_line

REPLACED_AT_START = "an actor died as it started and was replaced"
GRACE_S = 2.0
"""How long a run waits for further actors once it has one."""
NO_NODE_PATIENCE_S = 60.0
"""How long a pool without any actor waits for a node that can hold one."""
IN_USE_PATIENCE_S = 600.0
"""How long it waits for processors that others use."""
_TRAVEL_HINT = "make such a value inside of the function that needs it, or use backend inprocess"


class DeviceActor:
    """The Ray side of a worker: arrays in, arrays out."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._folds: dict[int, Fold] = {}
        self._pinned = contextlib.ExitStack()

    def equip(self, workplace: Workplace) -> str:
        """Set up the worker, and return the node that it is on."""
        # What a plug-in set as it was imported ends here; this process has no other host.
        self._pinned.enter_context(pinned_torch())
        self._worker = Worker(workplace)
        return own_node()

    def train(self, task: LocalTask, payload: Arrays, personal: Arrays) -> tuple[Update, Arrays]:
        """Return an update without its tensors, and those as arrays, or none where they went into a fold."""
        assert self._worker is not None, "equip comes before the first task"
        update = self._worker.train(task, as_readonly_tensors(payload), as_readonly_tensors(personal))
        if task.fold is None:
            return replace(update, tensors={}), as_arrays(update.tensors)
        return self._folds.setdefault(task.fold.number, Fold(task.fold)).add(update), {}

    def take_fold(self, number: int, *others: Fold) -> Fold | None:
        """Return and forget what was folded by an order, with what `others` of this node have; None for nothing."""
        own = self._folds.pop(number, None)
        if own is not None:
            for other in others:
                own.merge(other)
        return own

    def evaluate(
        self, name: str, tensors: Arrays, devices: Integers | None = None, number: int = 0
    ) -> EvaluationResult:
        """Return the test result of a global model."""
        assert self._worker is not None, "equip comes before the first task"
        return self._worker.evaluate(name, as_readonly_tensors(tensors), devices, number)


@dataclass(slots=True, eq=False)
class Slot:
    """A place for an actor, how many jobs it holds, and on which node it is.

    `starting` is the answer of one that is not equipped yet: it waits for a processor, imports, or takes the workplace.
    """

    actor: Any
    load: int = 0
    starting: Any = None
    node: str = ""
    stillborn: int = 0
    """How many actors in a row died in this place before they were equipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorPool:
    """A started pool, and the cluster that it runs on."""

    options: RayOptions
    slots: list[Slot]
    new_actor: Callable[[], Any]
    cluster: Cluster
    ledger: NodeLedger
    workplace: Sent | None = None

    @property
    def open(self) -> list[Slot]:
        """The places whose actors take jobs."""
        return [slot for slot in self.slots if slot.starting is None]

    @property
    def starting(self) -> dict[Any, Slot]:
        """The places whose actors do not take jobs yet, by the answer that is waited for."""
        return {slot.starting: slot for slot in self.slots if slot.starting is not None}

    def begin(self, slot: Slot) -> None:
        """Send the workplace to the actor of a place, which takes jobs from `admit` on."""
        assert self.workplace is not None, "equip comes before the first task"
        slot.load, slot.starting = 0, slot.actor.equip.remote(self.workplace.reference)

    def refill(self, slot: Slot) -> None:
        """Put a new actor in a place; it starts when and where there is room for it."""
        ray.kill(slot.actor)
        slot.actor, slot.node = self.new_actor(), ""
        self.begin(slot)

    def grow(self) -> None:
        """Add actors for the processors of nodes that have joined, where their number is left to the cluster."""
        if self.options.num_workers is not None or self.cluster.is_local:
            return
        for _ in range(_num_places(self.options) - len(self.slots)):
            self.slots.append(Slot(self.new_actor()))
            self.begin(self.slots[-1])

    def admit(self, slot: Slot) -> bool:
        """Take in the answer of an actor that was being equipped; False where it died and another starts in its place.

        Raises:
            RayActorError: the second in a row that died as it started, or one that cannot be made.
            RayTaskError: it cannot take the workplace.
        """
        try:
            slot.node = str(self.cluster.get(slot.starting) or "")
        except RayActorError as death:
            self.cluster.require_alive()
            slot.stillborn += 1
            if death.actor_init_failed or slot.stillborn > 1:
                raise
            self.refill(slot)
            return False
        slot.starting, slot.stillborn = None, 0
        assert self.workplace is not None, "equip comes before the first task"
        self.ledger.welcome(self.workplace, slot.node)
        return True


def start_pool(options: RayOptions, started: Future[Cluster]) -> ActorPool:
    """Return a pool whose actors start, on a cluster that has started.

    Every actor asks for the processors of its threads, so that Ray deals actors out over nodes as these have room.
    Those that find none start as soon as there is some: the pool works with the others until then.

    Raises:
        BackendUnavailableError: there is no cluster, or it takes no actors.
    """
    wanted, cluster = options.num_workers, started.result()
    try:
        actor_class = ray.remote(DeviceActor).options(
            num_cpus=options.threads_per_worker,
            num_gpus=options.gpus_per_worker,
            scheduling_strategy="SPREAD",
        )
        slots = [Slot(actor_class.remote()) for _ in range(wanted or max(1, _num_places(options)))]
    except Exception as cause:
        raise BackendUnavailableError(f"Ray cannot start actors: {cause}; use --backend inprocess") from cause
    return ActorPool(
        options=options, slots=slots, new_actor=actor_class.remote, cluster=cluster, ledger=NodeLedger(own_node())
    )


def equip_pool(actors: ActorPool, workplace: Workplace, notify: Callable[[str], None]) -> ActorPool:
    """Return the pool once an actor has the workplace, and a little later; others get it as soon as they are there.

    One that is killed as it starts is replaced once; one whose start fails would fail again.

    Raises:
        BackendUnavailableError: an actor cannot start, or a part of the workplace cannot be sent there.
    """
    let_travel(modules_that_travel())
    try:
        reference = actors.cluster.put(workplace)
    except (TypeError, AttributeError, RecursionError, pickle.PicklingError) as cause:
        raise BackendUnavailableError(_cannot_travel(workplace, cause)) from cause
    # A pool that runs one scenario after another counts each on its own.
    actors = replace(actors, workplace=Sent(reference, size_of(reference)), ledger=NodeLedger(own_node()))
    try:
        for slot in actors.slots:
            actors.begin(slot)
        until_s = math.inf
        while actors.starting and (found := await_actor(actors, until_s)):
            if not actors.admit(found):
                notify(REPLACED_AT_START)
            elif until_s == math.inf:
                until_s = time.monotonic() + GRACE_S
    except RayActorError as death:
        raise BackendUnavailableError(cannot_start(reason_of(death))) from death
    except RayTaskError as failure:
        raise BackendUnavailableError(cannot_start(f"{type(failure.cause).__name__}: {failure.cause}")) from failure
    return actors


def await_actor(actors: ActorPool, until_s: float = math.inf) -> Slot | None:
    """Return the place of the first actor that has answered, of those that are starting; None where none has by then.

    Raises:
        BackendUnavailableError: no node has room for an actor, and none got any for as long as this waits.
    """
    began_s = time.monotonic()
    while True:
        actors.cluster.require_alive()
        actors.grow()
        starting = actors.starting
        patience_s = max(0.0, min(LOOK_S, until_s - time.monotonic()))
        answered, _ = ray.wait(list(starting), num_returns=1, timeout=patience_s)
        if answered:
            return starting[answered[0]]
        if time.monotonic() >= until_s:
            return None
        waited_s = time.monotonic() - began_s
        if waited_s > NO_NODE_PATIENCE_S:
            _require_room(actors.options, waited_s)


def _require_room(options: RayOptions, waited_s: float) -> None:
    """Refuse to wait on for a processor.

    Raises:
        BackendUnavailableError: no node has as many as an actor asks for, or others have used them for too long.
    """
    if _num_places(options) and waited_s < IN_USE_PATIENCE_S:
        return
    held, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    asked = {"CPU": options.threads_per_worker, "GPU": options.gpus_per_worker}
    wanted = " and ".join(f"{amount:g} {name}" for name, amount in asked.items() if amount)
    found = " and ".join(
        f"{free.get(name, 0):g} of {held.get(name, 0):g} {name}" for name, amount in asked.items() if amount
    )
    raise BackendUnavailableError(
        f"no actor found room on the cluster in {waited_s:.0f} s: each asks for {wanted} on one node, and {found} are "
        "free on all of them; wait for whoever uses them, add a node (`ray start --address ...`), or use "
        "--backend inprocess"
    )


def _cannot_travel(workplace: Workplace, cause: Exception) -> str:
    """Return what is said where a part of the workplace holds what no other process can have."""
    names = {"blueprint": "the model", "method": "the method", "dataset": "the data", "partition": "the partition"}
    for name, what in names.items():
        try:
            ray.cloudpickle.dumps(getattr(workplace, name))  # type: ignore[no-untyped-call]
        except Exception as error:
            return f"{what} cannot be sent to Ray's actors: {in_a_line(error)}; {_TRAVEL_HINT}"
    return f"what is to be trained cannot be sent to Ray's actors: {in_a_line(cause)}; {_TRAVEL_HINT}"


def cannot_start(reason: str) -> str:
    """Return what is said where actors cannot start."""
    return (
        f"Ray's actors cannot start: {reason}; install neulite-sim, and whatever registers the scenario's components, "
        "wherever the cluster runs, or use --backend inprocess"
    )


def stop_pool(cluster: Future[Cluster], started: Future[ActorPool], equipped: Future[ActorPool]) -> None:
    """End the actors, and the cluster where this process started it; what equips actors is waited for."""
    equipped.exception()
    if cluster.exception() is not None:
        return
    if started.exception() is None and not cluster.result().is_local:
        for slot in started.result().slots:
            ray.kill(slot.actor)
    cluster.result().stop()


def reason_of(death: RayActorError | ObjectLostError) -> str:
    """Return the telling line of Ray's report: the last of a traceback, else the first that is no list of ids.

    Without the causes that Ray lists where it knows of none: it does not learn by which signal a process ended.
    """
    if isinstance(death, ObjectLostError):
        return "what it returned is lost with its node"
    lines = [line for line in str(death).splitlines() if line.strip()]
    telling = lines[-1:] if death.actor_init_failed else [line for line in lines[1:] if not line.startswith("\t")]
    return (telling or lines)[0].partition(" Some common causes include")[0].strip().rstrip(".")


def _num_places(options: RayOptions) -> int:
    """Return how many actors the nodes' processors (and GPUs, where actors ask for a share) hold, used or free."""
    asked = {"CPU": options.threads_per_worker, "GPU": options.gpus_per_worker}
    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
    return sum(
        min(int(resources.get(name, 0) / amount) for name, amount in asked.items() if amount) for resources in nodes
    )
