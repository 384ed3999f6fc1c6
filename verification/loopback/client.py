"""A device: a process that receives a model, trains it as an actor would, at a stated speed, and sends what it learned.

Two ways to be slow. `stated`: each step takes the time that the device is said to take for a step of so many samples;
the processor computes it sooner and the process sleeps for the rest, so that a busy machine is not seen. `measured`:
each step takes `factor` times the processor time that this very step took.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from loopback.link import Direction, OfflineError, packed, receive, wait_until
from neulite_sim.data.batches import batch_slices
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import LocalTask
from neulite_sim.profiling.plans import Plan
from neulite_sim.training.worker import Worker

Pace = Literal["stated", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Processor seconds of a step of a submodel on this machine: `step_s + sample_s * samples`."""

    step_s: float
    sample_s: float

    def of(self, samples: int) -> float:
        """Return processor seconds of a step."""
        return self.step_s + self.sample_s * samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How many times slower than this machine a device is, and how it is made so."""

    factor: float
    pace: Pace
    quiet: Mapping[str, Quiet]


class Brake:
    """Holds up the training of this process after each step of its optimizer."""

    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._leaves_s = float("inf")
        self._due_s: list[float] = []
        self._release: Any = None

    def begin(self, submodel: str, sizes: Sequence[int], leaves_s: float) -> None:
        """Begin a training with batches of these sizes now; it breaks off when the device leaves."""
        self._leaves_s = leaves_s
        quiet = self._speed.quiet[submodel]
        self._due_s = [self._speed.factor * quiet.of(size) for size in reversed(sizes)]
        self._wall_s, self._cpu_s = time.monotonic(), time.thread_time()
        self._release = register_optimizer_step_post_hook(lambda *_: self._hold())

    def end(self) -> None:
        """End the training; what came after its last step is held up as well."""
        self._release.remove()
        if self._speed.pace == "measured" and time.monotonic() < self._leaves_s:
            self._hold()

    def _hold(self) -> None:
        if self._speed.pace == "stated":
            self._wall_s += self._due_s.pop()
        else:
            self._wall_s += self._speed.factor * (time.thread_time() - self._cpu_s)
        wait_until(self._wall_s, self._leaves_s)
        if self._speed.pace == "measured":
            self._wall_s, self._cpu_s = time.monotonic(), time.thread_time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """How long a training took on a slowed device."""

    submodel: str
    factor: float
    sizes: tuple[int, ...]
    seconds: float


class Device:
    """What one process is: a device of the scenario's fleet, slowed down."""

    def __init__(self, number: int, costing: Costing, worker: Worker, speed: Speed) -> None:
        self._number = number
        self._costing = costing
        self._worker = worker
        self._speed = speed
        self._brake = Brake(speed)

    def train(self, task: LocalTask, payload: Mapping[str, torch.Tensor], leaves_s: float = float("inf")) -> Any:
        """Return the update of a task, after as long as the device takes for it."""
        try:
            self._brake.begin(task.submodel, sizes_of(self._costing, task), leaves_s)
            return self._worker.train(task, payload)
        except RuntimeError as failure:
            # A worker tells what went wrong within a step in words of its own.
            if isinstance(failure.__cause__, OfflineError):
                raise failure.__cause__ from None
            raise
        finally:
            self._brake.end()

    def task(self, header: Mapping[str, Any]) -> LocalTask:
        """Return what a header orders."""
        batch_size = header.get("batch_size")
        return LocalTask(
            flight=header["flight"],
            cost=self._costing.ledger.cost(header["submodel"], self._number),
            version=header["version"],
            seed=header["seed"],
            learning_rate=header["learning_rate"],
            plan=None if batch_size is None else Plan(batch_size=batch_size),
        )

    def calibrate(self, state: Any, batch_sizes: Sequence[int]) -> list[Timed]:
        """Return how long trainings with batches of these sizes take."""
        found = []
        for submodel in self._speed.quiet:
            payload = self._costing.method.payload(state, submodel)
            for number, size in enumerate(batch_sizes):
                header = {"flight": 10**6 + number, "submodel": submodel, "version": 0, "seed": 0}
                task = self.task({**header, "learning_rate": 1e-3, "batch_size": size})
                began_s = time.monotonic()
                self.train(task, payload)
                seconds = time.monotonic() - began_s
                sizes = sizes_of(self._costing, task)
                found.append(Timed(submodel=submodel, factor=self._speed.factor, sizes=sizes, seconds=seconds))
        return found


def sizes_of(costing: Costing, task: LocalTask) -> tuple[int, ...]:
    """Return how many samples each step of a task has."""
    training = costing.trained_training
    count = int(costing.partition.sizes[task.device])
    size = training.batch_size if task.plan is None else task.plan.batch_size
    batches = batch_slices(count, size, np.random.default_rng(0))
    return tuple(len(batch) for batch in batches) * (task.epochs or training.epochs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Where a device stands: its link, the server's address, when it is there, and on which core it computes."""

    address: tuple[str, int]
    up: Direction
    presence: tuple[tuple[float, float], ...]
    """Seconds after the start at which it comes and leaves, in order."""
    core: int | None


def serve(device: Device, number: int, post: Post, start: Any, calibration: Any) -> None:
    """Be a device until the server says that all is over; `calibration` is a pair of a state and a pipe, or None."""
    if post.core is not None:
        os.sched_setaffinity(0, {post.core})
    if calibration is not None:
        state, batch_sizes, pipe = calibration
        pipe.send(device.calibrate(state, batch_sizes))
        pipe.close()
    for comes_s, leaves_s in post.presence:
        if comes_s > 0:
            start.event.wait()
            wait_until(start.at_s.value + comes_s)
        with socket.create_connection(post.address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(packed({"device": number}))
            with contextlib.suppress(OfflineError, TimeoutError):
                if not _work(device, connection, post.up, start, leaves_s):
                    return


def _work(device: Device, connection: socket.socket, up: Direction, start: Any, leaves_after_s: float) -> bool:
    """Do what the server asks for until the device leaves; return False where nothing more will come.

    Raises:
        OfflineError, TimeoutError: the device leaves.
    """
    leaves_s = float("inf")
    if leaves_after_s < float("inf"):
        start.event.wait()
        leaves_s = start.at_s.value + leaves_after_s
    while True:
        left_s = leaves_s - time.monotonic()
        if left_s <= 0:
            raise OfflineError
        connection.settimeout(left_s if left_s < float("inf") else None)
        try:
            message = receive(connection)
        except ConnectionError:
            return False
        if "flight" not in message.header:
            return False
        task = device.task(message.header)
        update = device.train(task, message.tensors, leaves_s)
        answer = {"loss": update.loss, "samples": update.num_samples, "classes": update.classes}
        connection.settimeout(None)
        up.send(connection, packed(answer, update.tensors), leaves_s=leaves_s)
