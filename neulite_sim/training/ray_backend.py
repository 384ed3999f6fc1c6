"""Backend `ray`: a pool of actors, each a worker that takes on the identity of any device.

The global state travels once per version and submodel through Ray's object store; updates come back as arrays that
the driver reads without copying. Tasks go to whichever actor is free, which changes nothing in the results: they
depend on the task alone and are reduced in the order of devices.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from neulite_sim.arrays import Integers
from neulite_sim.errors import BackendLostError, BackendUnavailableError, NeuliteError, SimulationError
from neulite_sim.later import homes
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.methods.folding import Fold
from neulite_sim.training import ray_ahead
from neulite_sim.training.contract import Payload, Workplace
from neulite_sim.training.evaluation import EvaluationResult
from neulite_sim.training.ray_arrays import Packed, as_arrays, as_tensors
from neulite_sim.training.ray_cluster import LOOK_S
from neulite_sim.training.ray_folds import HeldFolds
from neulite_sim.training.ray_nodes import Sent
from neulite_sim.training.ray_options import RayOptions
from neulite_sim.training.ray_pool import (
    REPLACED_AT_START,
    ActorPool,
    Slot,
    await_actor,
    cannot_start,
    equip_pool,
    reason_of,
    start_pool,
    stop_pool,
)

__getattr__ = homes(__name__, COMPONENT="neulite_sim.training.ray_component")

MAX_ATTEMPTS = 3
GROW_S = 2.0
"""How often the cluster is asked whether a node has joined."""
TASKS_PER_ACTOR = 2
"""One that runs and one that waits, so that an actor never idles while the driver is busy."""


@dataclass(slots=True, kw_only=True)
class _Job:
    """A task or an evaluation on its way: `call` is the actor's method, `arguments` may hold object references."""

    call: str
    what: str
    arguments: tuple[Any, ...]
    sent: Sent
    own_bytes: int = 0
    """Bytes of arguments that are sent with this job alone."""
    fold: int | None = None
    ticket: int = 0
    attempts: int = 0
    is_repeated: bool = False
    """Whether its result is known, and only its part of a fold is still to come."""


@dataclass(slots=True)
class _Running:
    """Where a submitted job runs, and how much of its actor's load it is."""

    job: _Job
    slot: Slot
    load: int


class RayBackend:
    """Deals jobs to actors; replaces an actor that died and runs its jobs again."""

    trains = True

    def __init__(self, options: RayOptions) -> None:
        self._computes_on_gpu = options.gpus_per_worker > 0
        # The processors are the actors': sums in the driver that wait for a second thread hold up everybody.
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)
        self._training: deque[_Job] = deque()
        self._evaluations: deque[_Job] = deque()
        self._running: dict[Any, _Running] = {}
        self._results: dict[int, Any] = {}
        self._discarded: set[int] = set()
        self._folds: HeldFolds[_Job] = HeldFolds()
        self._payloads: dict[tuple[int, str], Sent] = {}
        self._looked_s = time.monotonic()
        self._notices: list[str] = []
        self._tickets = 0
        # Ray and its actors take seconds to start; the driver has data to read and models to profile meanwhile.
        self._ray_thread, self._cluster = ray_ahead.taken(options)
        # Ray numbers alike what is put and called by threads that have connected, now or before; this one never does.
        self._pool_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray-pool")
        self._started: Future[ActorPool] = self._pool_thread.submit(start_pool, options, self._cluster)
        self._equipped: Future[ActorPool] = self._started
        self._ready: ActorPool | None = None

    def equip(self, workplace: Workplace) -> None:
        """Send the workplace to every actor, as soon as it has started; does not wait for that."""
        placed = replace(workplace, device="cuda") if self._computes_on_gpu else workplace
        notify = self._notices.append
        self._ready = None
        self._equipped = self._pool_thread.submit(lambda: equip_pool(self._started.result(), placed, notify))

    @property
    def _pool(self) -> ActorPool:
        # Asked for anything before its start is over, Ray would start another, default cluster.
        if self._ready is None:
            self._ready = self._equipped.result()
        return self._ready

    def submit_training(self, task: LocalTask, payload: Payload, personal: Payload) -> int:
        """Queue a task; its payload goes to the object store once per version and submodel."""
        key = (task.version, task.submodel)
        if key not in self._payloads:
            self._payloads = {known: ref for known, ref in self._payloads.items() if known[0] == task.version}
            self._payloads[key] = self._put(payload)
        what = f"local training in flight {task.flight} (device {task.device}, {task.submodel})"
        sent, own = self._payloads[key], as_arrays(personal)
        job = _Job(
            call="train", what=what, arguments=(task, sent.reference, own), sent=sent,
            own_bytes=sum(array.nbytes for array in own.values()), fold=task.fold.number if task.fold else None,
        )  # fmt: skip
        return self._submit(self._training, job)

    def submit_evaluation(self, name: str, tensors: Payload, devices: Integers | None = None, number: int = 0) -> int:
        """Queue an evaluation; it starts when no training waits."""
        what = f"evaluation of the global model ({name})"
        sent = self._put(tensors)
        own_bytes = 0 if devices is None else devices.nbytes
        job = _Job(
            call="evaluate",
            what=what,
            arguments=(name, sent.reference, devices, number),
            sent=sent,
            own_bytes=own_bytes,
        )
        return self._submit(self._evaluations, job)

    def _put(self, tensors: Payload) -> Sent:
        packed = Packed(as_arrays(tensors))
        return Sent(self._pool.cluster.put(packed), packed.nbytes)

    def _submit(self, queue: deque[_Job], job: _Job) -> int:
        self._tickets += 1
        job.ticket = self._tickets
        queue.append(job)
        self._deal()
        return job.ticket

    def _deal(self) -> None:
        """Hand waiting jobs to the least loaded actors."""
        pool = self._pool
        while self._training or self._evaluations:
            slot = min(pool.open, key=lambda item: item.load, default=None)
            if slot is None or slot.load >= TASKS_PER_ACTOR:
                return
            job = (self._training or self._evaluations).popleft()
            pool.cluster.require_alive()
            pool.ledger.send(job.sent, slot.node)
            pool.ledger.send_once(job.own_bytes, slot.node)
            reference = getattr(slot.actor, job.call).remote(*job.arguments)
            # A test fills its actor: training that is dealt after it goes elsewhere or waits for whoever is free first.
            load = TASKS_PER_ACTOR if job.call == "evaluate" else 1
            slot.load += load
            self._running[reference] = _Running(job, slot, load)

    def _settle(self, timeout_s: float | None) -> None:
        """Take in what has finished; wait for at least one result, or actor, where `timeout_s` is None."""
        pool = self._pool
        for reference in self._next_finished(timeout_s):
            if reference not in self._running:
                self._admit(pool.starting[reference])
                continue
            running = self._running[reference]
            try:
                result = pool.cluster.get(reference)
            except (RayActorError, ObjectLostError) as loss:
                # What an actor returned is kept on its node, and gone with that.
                pool.cluster.require_alive()
                self._replace(running.slot, loss)
                continue
            except RayTaskError as failure:
                result = _explained(running.job, failure)
            except RayError as failure:
                pool.cluster.require_alive()
                result = SimulationError(f"{running.job.what} failed in Ray: {failure}")
            else:
                pool.ledger.bring_back(reference, running.slot.node)
            del self._running[reference]
            running.slot.load -= running.load
            self._take_in(running, result)
        self._deal()

    def _next_finished(self, timeout_s: float | None) -> list[Any]:
        """Return the one reference that is answered first, of jobs and of actors that start; none after `timeout_s`.

        Raises:
            BackendLostError: there is no actor any more, and no room for one.
        """
        pool = self._pool
        finished: list[Any] = []
        while not finished:
            if not (self._running or pool.open):
                return [self._next_actor()]
            pool.cluster.require_alive()
            if time.monotonic() - self._looked_s > GROW_S:
                self._looked_s = time.monotonic()
                pool.grow()
            # Actors first: where results never stop coming, one that is new would wait for ever.
            waiting = [*pool.starting, *self._running]
            finished, _ = ray.wait(waiting, num_returns=1, timeout=LOOK_S if timeout_s is None else timeout_s)
            if timeout_s is not None:
                break
        return finished

    def _next_actor(self) -> Any:
        try:
            found = await_actor(self._pool)
        except BackendUnavailableError as full:
            raise BackendLostError(str(full)) from full
        assert found is not None, "waited for as long as it takes"
        return found.starting

    def _admit(self, slot: Slot) -> None:
        """Let an actor that was being equipped take jobs.

        Raises:
            SimulationError: it cannot start.
        """
        try:
            if not self._pool.admit(slot):
                self._notices.append(REPLACED_AT_START)
        except RayActorError as death:
            raise SimulationError(cannot_start(reason_of(death))) from death
        except RayTaskError as failure:
            raise SimulationError(cannot_start(f"{type(failure.cause).__name__}: {failure.cause}")) from failure

    def _take_in(self, running: _Running, result: Any) -> None:
        """Keep the result of a job that has ended, and where its part of a fold lies."""
        job = running.job
        if job.ticket in self._discarded:
            self._discarded.remove(job.ticket)
            return
        if job.fold is not None and not isinstance(result, NeuliteError):
            self._folds.note(job.fold, job.ticket, running.slot, job)
        if not job.is_repeated:
            self._results[job.ticket] = result
        elif isinstance(result, NeuliteError):
            raise result

    def _replace(self, slot: Slot, death: RayActorError | ObjectLostError) -> None:
        """Put a new actor in the place of a dead one and queue its jobs again, in their order and before all others."""
        if isinstance(death, RayActorError) and death.actor_init_failed:
            # It would fail again.
            raise SimulationError(cannot_start(reason_of(death)))
        self._pool.refill(slot)
        lost = {reference: running.job for reference, running in self._running.items() if running.slot is slot}
        self._running = {reference: item for reference, item in self._running.items() if reference not in lost}
        again = self._folds.lost_with(slot)
        for job in again:
            job.is_repeated = True
        # Actors work in order, so it died of the first; what only waited behind it has had no attempt.
        first, waiting = next(iter(lost.values()), None), list(lost.values())[1:]
        during = first.what if first else f"the folding of {len(again)} updates"
        self._notices.append(f"an actor died during {during} and was replaced; its work runs again")
        if first is not None and self._may_try_again(first, death):
            waiting.insert(0, first)
        for job in reversed([*again, *waiting]):
            (self._training if job.call == "train" else self._evaluations).appendleft(job)

    def _may_try_again(self, job: _Job, death: RayActorError | ObjectLostError) -> bool:
        """Count an attempt at a job of which an actor died, and return whether it has another; nobody waits for some.

        Raises:
            SimulationError: the last attempt at what was done once.
        """
        job.attempts += 1
        if job.ticket in self._discarded:
            self._discarded.remove(job.ticket)
            return False
        if job.attempts < MAX_ATTEMPTS:
            return True
        given_up = SimulationError(
            f"{job.what} was given up: the actor died {job.attempts} times ({reason_of(death)}); "
            "either the machine ran out of memory, then use fewer workers (backend.workers), or the code that trains "
            "crashes its process, then this work ends a run with --backend inprocess as well"
        )
        if job.is_repeated:
            raise given_up
        self._results[job.ticket] = given_up
        return False

    def _collect(self, ticket: int) -> Any:
        while ticket not in self._results:
            self._settle(None)
        result = self._results.pop(ticket)
        if isinstance(result, NeuliteError):
            raise result
        return result

    def collect_update(self, ticket: int) -> Update:
        """Return the update of a training ticket."""
        update, arrays = self._collect(ticket)
        filled: Update = replace(update, tensors=as_tensors(arrays))
        return filled

    def collect_fold(self, number: int) -> list[Fold]:
        """Return what the actors have folded by an order, and forget it; what an actor that died had is made again."""
        found: list[Fold] = []
        while True:
            while any(job.fold == number for job in self._unfinished()):
                self._settle(None)
            if not self._folds.holders(number):
                return found
            found += self._folds.collected(number, self._pool, self._replace)
            self._deal()

    def _unfinished(self) -> Iterator[_Job]:
        yield from self._training
        yield from (running.job for running in self._running.values())

    def collect_evaluation(self, ticket: int) -> EvaluationResult:
        """Return the result of an evaluation ticket."""
        result: EvaluationResult = self._collect(ticket)
        return result

    def discard(self, ticket: int) -> None:
        """Take the task out of the queue; one that an actor holds already runs, and its result is dropped."""
        self._training = deque(job for job in self._training if job.ticket != ticket)
        is_known = self._results.pop(ticket, None) is not None
        for running in self._running.values():
            if running.job.ticket == ticket and not is_known:
                self._discarded.add(ticket)
                if running.job.fold is not None:
                    # Behind the job, so that its actor forgets what comes of it.
                    running.slot.actor.take_fold.remote(running.job.fold)
        self._folds.give_up(ticket)

    def is_done(self, ticket: int) -> bool:
        """Whether the ticket's result has come in; takes in what has finished."""
        if ticket not in self._results and (self._running or self._pool.starting):
            self._settle(0)
        return ticket in self._results

    def notices(self) -> list[str]:
        """Return and forget which actors were replaced."""
        told = list(self._notices)
        self._notices.clear()
        return told

    def nodes(self) -> list[dict[str, Any]]:
        """Return a row per node that had an actor: its jobs, and the bytes that went there and came back.

        Nothing where all were on the driver's own node.
        """
        rows = self._pool.ledger.rows()
        return rows if any(not row["is_driver"] for row in rows) else []

    def close(self) -> None:
        """Stop the actors, and the local cluster if this backend started it; give PyTorch its threads back."""
        torch.set_num_threads(self._threads_before)
        self._running.clear()
        self._results.clear()
        self._folds.clear()
        # Linux ends a local cluster together with the thread that started it, so that thread must still be there.
        stopped = self._ray_thread.submit(stop_pool, self._cluster, self._started, self._equipped)
        ray_ahead.wait_for(stopped)
        self._pool_thread.shutdown()
        self._ray_thread.shutdown()


def _explained(job: _Job, failure: RayTaskError) -> NeuliteError:
    cause = failure.cause
    if isinstance(cause, NeuliteError):
        return cause
    return SimulationError(f"{job.what} failed: {type(cause).__name__}: {cause}")
