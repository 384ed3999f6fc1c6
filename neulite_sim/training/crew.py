"""A crew: several workers in one process, each in a thread of its own.

PyTorch lets go of Python's lock while a kernel computes, so that threads train beside each other nearly as processes
do, and nothing is started, copied or sent. What they share is what a process has once: PyTorch's own generator and its
switches. Results must not depend on who trains when, so

* a job that draws from that generator or throws a switch runs *alone*: no other job runs, and whoever gave the jobs
  waits for one of them, so that nothing of his runs either;
* all others run *beside* each other. The first job with each model runs alone, to see whether it draws. Should the
  generator have moved all the same when a job ends, it is done again, alone, as are those that ran beside it and all
  that come after.
"""

from __future__ import annotations

import heapq
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neulite_sim.models.recurrent import switches_onednn
from neulite_sim.training.contract import Workplace
from neulite_sim.training.floor import Floor
from neulite_sim.training.worker import Abandoned, Worker

AHEAD = 2
"""So many jobs for each worker are done before anybody asks for them: what they came to has to be kept meanwhile."""
SWITCH_INTERVAL_S = 0.0001
"""How long a thread waits for Python's lock before it asks for it. Python's own 5 ms are 50 thin kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to do for a worker. Of two that wait, that with the smaller `place` is begun first.

    `build(worker)` returns the network that the job needs, which a worker builds once for each `model`. What
    `work(worker, alone)` returns does not depend on who did it before; where it is not `alone`, nothing is drawn from
    PyTorch's own generator.
    """

    model: tuple[str, str]
    place: tuple[int, ...]
    build: Callable[[Worker], nn.Module]
    work: Callable[[Worker, bool], Any]


class Single:
    """One worker, which works in the calling thread when a job is collected."""

    def __init__(self, workplace: Workplace) -> None:
        self._worker = Worker(workplace)
        self._jobs: dict[int, Job] = {}

    def submit(self, ticket: int, job: Job) -> None:
        """Keep a job until it is collected."""
        self._jobs[ticket] = job

    def collect(self, ticket: int) -> Any:
        """Do a job now, and return what it comes to."""
        return self._jobs.pop(ticket).work(self._worker, True)

    def is_done(self, ticket: int) -> bool:
        """Return True: nothing is gained by waiting."""
        del ticket
        return True

    def discard(self, ticket: int) -> None:
        """Forget a job."""
        self._jobs.pop(ticket, None)

    def close(self) -> None:
        """Forget what was never collected."""
        self._jobs.clear()


class Crew:
    """So many workers of a workplace; what comes out is what one would return."""

    def __init__(self, workplace: Workplace, num_workers: int) -> None:
        self._workplace = workplace
        self._changed = threading.Condition()
        self._floor = Floor(self._changed)
        self._drawn_from = torch.get_rng_state()
        self._most_ahead = AHEAD * num_workers
        self._waiting: dict[int, Job] = {}
        self._queue: list[tuple[tuple[int, ...], int]] = []
        self._working: set[int] = set()
        self._found: dict[int, Any] = {}
        self._wanted: int | None = None
        self._is_beside: dict[tuple[str, str], bool] = {}
        self._takes_turns = workplace.takes_turns
        workers = [Worker(workplace, go_on=self._floor.check) for _ in range(num_workers)]
        self._threads: list[threading.Thread] = []
        self._interval_before_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            for number, worker in enumerate(workers, start=1):
                thread = threading.Thread(target=self._serve, args=(worker,), name=f"worker {number}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            # Who asked for the crew never gets it, and could not close it.
            self.close()
            raise

    def submit(self, ticket: int, job: Job) -> None:
        """Take a job."""
        with self._changed:
            self._waiting[ticket] = job
            heapq.heappush(self._queue, (job.place, ticket))
            self._changed.notify_all()

    def collect(self, ticket: int) -> Any:
        """Wait for a job, and return what it came to; what it raised is raised here."""
        with self._changed:
            self._wanted = ticket
            self._changed.notify_all()
            try:
                self._floor.wait_for(lambda: ticket in self._found)
            finally:
                self._wanted = None
            found = self._found.pop(ticket)
            self._changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        return found

    def is_done(self, ticket: int) -> bool:
        """Whether nothing is gained by collecting a job later."""
        with self._changed:
            return ticket in self._found

    def discard(self, ticket: int) -> None:
        """Forget a job."""
        with self._changed:
            self._waiting.pop(ticket, None)
            self._found.pop(ticket, None)
            self._working.discard(ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """End all work: it returns when every thread has ended, which takes a training step at most."""
        self._floor.close()
        for thread in self._threads:
            thread.join()
        sys.setswitchinterval(self._interval_before_s)
        self._waiting.clear()
        self._found.clear()

    def _serve(self, worker: Worker) -> None:
        built: set[tuple[str, str]] = set()
        # What the process was told holds for threads that PyTorch has met.
        torch.set_num_threads(self._workplace.threads)
        try:
            while True:
                ticket, job = self._next()
                try:
                    if job.model not in built:
                        self._build(worker, job)
                        built.add(job.model)
                    found = self._done(worker, job)
                except Abandoned:
                    raise
                except BaseException as error:
                    found = error
                with self._changed:
                    if ticket in self._working:
                        self._working.remove(ticket)
                        self._found[ticket] = found
                    self._changed.notify_all()
        except Abandoned:
            pass

    def _next(self) -> tuple[int, Job]:
        """Wait for a job, and return it: the one that is asked for, else the first that may be done ahead."""
        with self._changed:
            self._changed.wait_for(lambda: self._floor.is_closed or self._has_next())
            self._floor.check()
            ticket = self._wanted if self._wanted in self._waiting else None
            while ticket is None:
                _, first = heapq.heappop(self._queue)
                ticket = first if first in self._waiting else None
            self._working.add(ticket)
            return ticket, self._waiting.pop(ticket)

    def _has_next(self) -> bool:
        is_ahead = len(self._working) + len(self._found) < self._most_ahead
        return self._wanted in self._waiting or (is_ahead and bool(self._waiting))

    def _build(self, worker: Worker, job: Job) -> None:
        """Let a worker build a network, whose first weights are drawn, and see whether it throws switches."""
        with self._floor.alone():
            if switches_onednn(job.build(worker)):
                self._is_beside[job.model] = False

    def _done(self, worker: Worker, job: Job) -> Any:
        if self._is_beside.get(job.model) and not self._takes_turns:
            with self._floor.beside():
                found = job.work(worker, False)
                if self._has_moved():
                    # Others may have drawn, or have read what was drawn here.
                    self._takes_turns = True
            if not self._takes_turns:
                return found
        with self._floor.alone():
            if job.model not in self._is_beside and not self._takes_turns:
                found = job.work(worker, False)
                self._is_beside[job.model] = not self._has_moved()
                if self._is_beside[job.model]:
                    return found
            if not self._workplace.takes_turns:
                torch.set_rng_state(self._drawn_from)
            return job.work(worker, True)

    def _has_moved(self) -> bool:
        return not torch.equal(torch.get_rng_state(), self._drawn_from)
