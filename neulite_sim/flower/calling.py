"""Running the ClientApp of a node: its context, its random numbers, what it took, and what it answers.

Calls run in this process, one after another, in the order of the virtual clock. Each begins with random numbers of its
own, drawn from (seed, device, call), so that no result depends on who was called before; an app that seeds itself finds
what it seeded. What the ServerApp has drawn is put back afterwards: in Flower it runs in another process.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Context, Message, RecordDict
from torch.optim.optimizer import register_optimizer_step_post_hook

from neulite_sim.flower.app import Config
from neulite_sim.flower.tracking import Work, tracked
from neulite_sim.user_code.drawing import drawing

FIRST_NODE = 1_000_000
"""The id of device 0 as a node; Flower keeps small numbers for the server."""
SERVER_ROUND = "server-round"
"""What every strategy of Flower tells its clients in each round; alone it makes no other configuration."""
_SHORT = 60


def node_of(device: int) -> int:
    """Return the id that a device has as a node."""
    return FIRST_NODE + device


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call came to: a reply, or why there is none; `context` is what the node keeps if its work is not lost.

    `raised` is the exception of an app that raised one.
    """

    work: Work
    context: Context
    reply: Message | None = None
    raised: Exception | None = None


@dataclass(slots=True)
class _Known:
    """What the first call of a device took, and how many steps of an optimizer were in it."""

    work: Work
    num_steps: int


@dataclass(slots=True)
class Caller:
    """Calls the ClientApp on behalf of devices; `tracks_all` follows every call, not the first of each kind only."""

    client: Any
    run_id: int
    config: Config
    num_devices: int
    seed: int
    round_bytes: int = 1
    tracks_all: bool = False
    measures: bool = False
    slept_s: float = 0.0
    """What the call that is at work has slept; virtual."""
    is_calling: bool = False
    _contexts: dict[int, Context] = field(default_factory=dict)
    _known: dict[tuple[int, Any], _Known] = field(default_factory=dict)
    _num_calls: dict[int, int] = field(default_factory=dict)

    def context(self, device: int) -> Context:
        """Return what a node keeps between messages."""
        if device not in self._contexts:
            self._contexts[device] = Context(
                run_id=self.run_id,
                node_id=node_of(device),
                node_config={"partition-id": device, "num-partitions": self.num_devices},
                state=RecordDict(),
                run_config=dict(self.config),
            )
        return self._contexts[device]

    def keep(self, device: int, context: Context) -> None:
        """Keep what a call has changed in the context of its node."""
        self._contexts[device] = context

    def call(self, device: int, message: Message, key: Any) -> Answer:
        """Run the ClientApp on a copy of a message; `key` is equal for calls that do the same work on a device."""
        number = self._num_calls.get(device, 0)
        self._num_calls[device] = number + 1
        known = None if self.tracks_all else self._known.get((device, key))
        context, given = _copied_context(self.context(device)), copied(message)
        self.slept_s, self.is_calling = 0.0, True
        try:
            with drawing(self.seed, "flower-client", device, number), _counted_steps() as steps:
                began_s = time.process_time()
                if known is None:
                    with tracked(round_bytes=self.round_bytes) as tracer:
                        reply, raised = self._called(given, context)
                    work = tracer.work(slept_s=self.slept_s)
                else:
                    reply, raised = self._called(given, context)
                    work = _scaled(known, steps[0], self.slept_s)
                took_s = time.process_time() - began_s
        finally:
            self.is_calling = False
        if self.measures and not work.is_seen:
            work = Work(slept_s=self.slept_s + took_s)
        if raised is None and (known is None or known.num_steps != steps[0]):
            if known is None:
                self._known[device, key] = _Known(work, steps[0])
            else:
                # It did other work than the first time: the next call is followed again.
                del self._known[device, key]
        return Answer(work=work, context=context, reply=reply, raised=raised)

    def _called(self, message: Message, context: Context) -> tuple[Message | None, Exception | None]:
        before = dict(context.run_config)
        try:
            reply = self.client(message=message, context=context)
            if not isinstance(reply, Message):
                raise TypeError(f"the ClientApp returned {type(reply).__name__} and no Message")
            if dict(context.run_config) != before:
                raise ValueError("the ClientApp changed `run_config` of its Context, which Flower refuses")
        except Exception as error:
            return None, error
        # What a node keeps and what it has sent are no longer the same objects.
        return copied(reply), None


def copied(message: Message) -> Message:
    """Return a message whose records are its own, as if it had been sent; arrays, which nobody changes, are shared."""
    if message.has_error():
        return message
    return Message(content=_copied_records(message.content), metadata=copy.copy(message.metadata))


def _copied_records(content: RecordDict) -> RecordDict:
    found = RecordDict()
    for name, record in content.items():
        is_arrays = isinstance(record, ArrayRecord)
        found[name] = ArrayRecord(dict(record)) if is_arrays else type(record)(copy.deepcopy(dict(record)))
    return found


def _copied_context(context: Context) -> Context:
    return Context(
        run_id=context.run_id,
        node_id=context.node_id,
        node_config=dict(context.node_config),
        state=_copied_records(context.state),
        run_config=dict(context.run_config),
    )


def key_of(message: Message) -> Any:
    """Return what decides, beside the device, what work a message asks for: its kind, its shapes, its settings."""
    found: list[Any] = [message.metadata.message_type]
    for name, record in message.content.items():
        if hasattr(record, "to_numpy_ndarrays"):
            found.append((name, tuple((key, array.dtype, tuple(array.shape)) for key, array in record.items())))
        else:
            settings = ((key, _hashable(value)) for key, value in record.items() if key != SERVER_ROUND)
            found.append((name, tuple(settings)))
    return tuple(found)


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return value


def _scaled(known: _Known, num_steps: int, slept_s: float) -> Work:
    """Return the work of a call by that of the first one, in proportion to its optimizer steps."""
    share = num_steps / known.num_steps if known.num_steps else 1.0
    work = known.work
    operators = work.operators
    if share != 1.0:
        operators = {key: max(1, round(count * share)) for key, count in operators.items()}
    return Work(
        operators=operators,
        peak_bytes=work.peak_bytes,
        rounded_peak_bytes=work.rounded_peak_bytes,
        slept_s=slept_s,
    )


@contextmanager
def _counted_steps() -> Iterator[list[int]]:
    """Yield a list whose one number counts the steps of all optimizers of PyTorch inside."""
    count = [0]

    def step(*_: object) -> None:
        count[0] += 1

    handle = register_optimizer_step_post_hook(step)
    try:
        yield count
    finally:
        handle.remove()
