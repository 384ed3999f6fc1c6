"""The pool of actors under backend `ray`: how they start, get what they need, and are stopped with their cluster."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from neulite_sim.arrays import Integers
from neulite_sim.errors import BackendUnavailableError
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.methods.folding import Fold
from neulite_sim.training.contract import Payload, Workplace
from neulite_sim.training.evaluation import EvaluationResult
from neulite_sim.training.pinning import pinned_torch
from neulite_sim.training.ray_cluster import Cluster, start_cluster
from neulite_sim.training.ray_options import RayOptions
from neulite_sim.training.worker import Worker
from neulite_sim.user_code.holding import modules_that_travel
from neulite_sim.user_code.origins import in_a_line

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


_TRAVEL_HINT = "make such a value inside of the function that needs it, or use backend inprocess"


class DeviceActor:
    """The Ray side of a worker: arrays in, arrays out."""

    def __init__(self) -> None:
        # The first optimizer of a process imports PyTorch's compiler, which takes a second: now rather than later.
        torch.optim.SGD([torch.zeros(1)])
        self._worker: Worker | None = None
        self._folds: dict[int, Fold] = {}
        self._pinned = contextlib.ExitStack()

    def equip(self, workplace: Workplace) -> None:
        """Set up the worker."""
        # What a plug-in set as it was imported ends here; this process has no other host.
        self._pinned.enter_context(pinned_torch())
        self._worker = Worker(workplace)

    def train(self, task: LocalTask, payload: Arrays, personal: Arrays) -> tuple[Update, Arrays]:
        """Return an update without its tensors, and those as arrays, or none where they went into a fold."""
        assert self._worker is not None, "equip comes before the first task"
        update = self._worker.train(task, as_readonly_tensors(payload), as_readonly_tensors(personal))
        if task.fold is None:
            return replace(update, tensors={}), as_arrays(update.tensors)
        return self._folds.setdefault(task.fold.number, Fold(task.fold)).add(update), {}

    def take_fold(self, number: int) -> Fold | None:
        """Return and forget what was folded by an order; None where nothing was."""
        return self._folds.pop(number, None)

    def evaluate(self, name: str, tensors: Arrays, devices: Integers | None = None) -> EvaluationResult:
        """Return the test result of a global model."""
        assert self._worker is not None, "equip comes before the first task"
        return self._worker.evaluate(name, as_readonly_tensors(tensors), devices)


def as_arrays(tensors: Payload) -> Arrays:
    """Return the arrays of tensors, which share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def as_tensors(arrays: Arrays) -> Payload:
    """Return tensors with what arrays of the object store hold; these are read-only, so it is copied."""
    return {name: torch.from_numpy(array if array.flags.writeable else array.copy()) for name, array in arrays.items()}


def as_readonly_tensors(arrays: Arrays) -> Payload:
    """Return tensors over arrays of the object store: for whoever is certain not to write to them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(slots=True)
class Slot:
    """An actor and how many jobs it holds."""

    actor: Any
    load: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorPool:
    """A started pool, and the cluster that it runs on."""

    slots: list[Slot]
    new_actor: Callable[[], Any]
    cluster: Cluster


def start_pool(options: RayOptions) -> ActorPool:
    """Return a pool whose actors start, on the user's cluster or on one of this machine.

    Raises:
        BackendUnavailableError: there is no cluster, or it takes no actors.
    """
    cluster = start_cluster(options.address, dashboard=options.dashboard)
    try:
        actor_class = ray.remote(DeviceActor).options(
            num_cpus=options.threads_per_worker if options.workers is None else 0,
            num_gpus=options.gpus_per_worker,
            # Actors that ask for no processor would all be put on the first node.
            scheduling_strategy="SPREAD",
        )
        slots = [Slot(actor_class.remote()) for _ in range(options.workers or _num_workers(options))]
    except Exception as cause:
        cluster.stop()
        raise BackendUnavailableError(f"Ray cannot start actors: {cause}; use --backend inprocess") from cause
    return ActorPool(slots=slots, new_actor=actor_class.remote, cluster=cluster)


def equip_pool(actors: ActorPool, workplace: Workplace, notify: Callable[[str], None]) -> ActorPool:
    """Return the pool once every actor has the workplace; an actor that replaces one gets it, too.

    One that is killed as it starts is replaced once; one whose start fails would fail again.

    Raises:
        BackendUnavailableError: an actor cannot start, or a part of the workplace cannot be sent there.
    """
    _let_travel(modules_that_travel())
    try:
        reference = actors.cluster.put(workplace)
    except (TypeError, AttributeError, RecursionError, pickle.PicklingError) as cause:
        raise BackendUnavailableError(_cannot_travel(workplace, cause)) from cause

    def new_actor() -> Any:
        actor = actors.new_actor()
        actor.equip.remote(reference)
        return actor

    try:
        for slot, is_equipped in [(slot, slot.actor.equip.remote(reference)) for slot in actors.slots]:
            try:
                actors.cluster.get(is_equipped)
            except RayActorError as death:
                actors.cluster.require_alive()
                if death.actor_init_failed:
                    raise
                slot.actor = actors.new_actor()
                actors.cluster.get(slot.actor.equip.remote(reference))
                notify("an actor died as it started and was replaced")
    except RayActorError as death:
        raise BackendUnavailableError(cannot_start(reason_of(death))) from death
    except RayTaskError as failure:
        raise BackendUnavailableError(cannot_start(f"{type(failure.cause).__name__}: {failure.cause}")) from failure
    return replace(actors, new_actor=new_actor)


def _let_travel(modules: Iterable[ModuleType]) -> None:
    """Send the code of these modules with what it made: actors need not find them, nor find them unchanged."""
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]


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


def stop_pool(started: Future[ActorPool]) -> None:
    """End the actors, and the cluster where this process started it; nothing where the pool never came about."""
    if started.exception() is not None:
        return
    actors = started.result()
    if not actors.cluster.is_local:
        for slot in actors.slots:
            ray.kill(slot.actor)
    actors.cluster.stop()


def reason_of(death: RayActorError) -> str:
    """Return the telling line of Ray's report: the last of a traceback, else the first that is no list of ids."""
    lines = [line for line in str(death).splitlines() if line.strip()]
    telling = lines[-1:] if death.actor_init_failed else [line for line in lines[1:] if not line.startswith("\t")]
    return (telling or lines)[0].strip().rstrip(".")


def _num_workers(options: RayOptions) -> int:
    """Return how many workers the cluster's processors (and GPUs, where workers ask for a share) hold, at least one."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    held = int(resources.get("CPU", 1)) // options.threads_per_worker
    if options.gpus_per_worker > 0:
        held = min(held, int(resources.get("GPU", 0) / options.gpus_per_worker))
    return max(1, held)
