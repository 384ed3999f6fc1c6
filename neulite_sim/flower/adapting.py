"""The few places where Flower's own server waits in wall time or keeps its results to itself, changed for one run.

Each is a name in a module of Flower 1.42 that is put back afterwards; no file of Flower or of an app is touched:

* strategies sleep while they wait for nodes: their sleep is virtual;
* what a strategy returns (`Result`, or the `History` of older servers) is kept when it is made;
* an older server asks its clients from a pool of threads, as many at a time as this machine has processors, and takes
  the results in the order of a set: here all are asked at the same virtual moment, and results come as they arrive;
* its clients are looked up by a thread every five wall seconds: here whenever the server asks.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import flwr.server.client_manager as client_managers
import flwr.server.compat.app as compat_app
import flwr.server.compat.legacy_context as legacy_context
import flwr.server.server as old_server
import flwr.server.workflow.default_workflows as workflows
import flwr.serverapp.strategy.strategy as strategies
import flwr.serverapp.strategy.strategy_utils as strategy_utils
from flwr.app import Message, RecordDict
from flwr.server.compat.grid_client_proxy import GridClientProxy

from neulite_sim.flower.grid import FleetGrid
from neulite_sim.flower.waits import virtual_sleep

_POLL_S = 5.0
"""How often an older server looks for new clients."""


class Kept:
    """What strategies have returned, or are about to."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.histories: list[Any] = []
        self.strategies: list[str] = []
        self.servers: list[Any] = []


class _Client(GridClientProxy):  # type: ignore[misc]
    """A client of an older server: what it would send is collected, and what came back is handed to it."""

    def __init__(self, node_id: int, grid: FleetGrid, run_id: int) -> None:
        super().__init__(node_id=node_id, grid=grid, run_id=run_id)
        self.grid: Any = grid
        self.collected: Message | None = None
        self.answer: list[Message] | None = None
        self.is_collecting = False

    def get_parameters(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        """Return the first parameters of a run; of the next node that is online where this one cannot be asked.

        Raises:
            ValueError: nobody who is online can give them.
        """
        try:
            return super().get_parameters(ins, timeout, group_id)
        except ValueError as refused:
            for node_id in self.grid.get_node_ids():
                if node_id != self.node_id:
                    other = GridClientProxy(node_id=node_id, grid=self.grid, run_id=self.run_id)
                    with contextlib.suppress(ValueError):
                        return other.get_parameters(ins, timeout, group_id)
            raise refused from None

    def _send_receive_recorddict(
        self, recorddict: RecordDict, message_type: str, timeout: float | None, group_id: int | None
    ) -> RecordDict:
        if self.is_collecting:
            self.collected = Message(
                content=recorddict,
                message_type=message_type,
                dst_node_id=self.node_id,
                group_id=str(group_id) if group_id else "",
                ttl=timeout,
            )
            raise _Collected
        if self.answer is None:
            return super()._send_receive_recorddict(recorddict, message_type, timeout, group_id)
        answer, self.answer = self.answer, None
        before, self.grid = self.grid, _Answered(answer)
        try:
            return super()._send_receive_recorddict(recorddict, message_type, timeout, group_id)
        finally:
            self.grid = before


class _Collected(BaseException):
    """A message was collected instead of being sent."""


class _Answered:
    """Stands for the grid where the answer is already there."""

    def __init__(self, answer: list[Message]) -> None:
        self._answer = answer

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        """Return the answer."""
        del messages, timeout
        return self._answer


def _collected(client: Any, ask: Callable[[], Any]) -> Message | None:
    if not isinstance(client, _Client):
        return None
    client.is_collecting = True
    try:
        ask()
    except _Collected:
        return client.collected
    finally:
        client.is_collecting = False
    return None


def _together(grid: FleetGrid, ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return what asks clients all at once, in the place of a pool of threads that asks them by `ask`."""

    def asked(
        client_instructions: Sequence[tuple[Any, Any]], max_workers: int | None, timeout: float | None, group_id: int
    ) -> tuple[list[Any], list[Any]]:
        del max_workers
        jobs = [(client, functools.partial(ask, client, ins, timeout, group_id)) for client, ins in client_instructions]
        messages = [_collected(client, job) for client, job in jobs]
        sent = [message for message in messages if message is not None]
        replies = list(grid.send_and_receive(sent))
        order = {reply.metadata.reply_to_message_id: place for place, reply in enumerate(replies)}
        ids = [None if message is None else message.metadata.message_id for message in messages]
        places = sorted(range(len(jobs)), key=lambda place: (order.get(ids[place], len(order)), place))
        results: list[Any] = []
        failures: list[Any] = []
        for place in places:
            client, job = jobs[place]
            if ids[place] is not None:
                client.answer = [replies[order[ids[place]]]] if ids[place] in order else []
            try:
                result = job()
            except Exception as failure:
                failures.append(failure)
                continue
            is_ok = result[1].status.code == old_server.Code.OK
            (results if is_ok else failures).append(result)
        return results, failures

    return asked


def _start_client_manager(grid: FleetGrid) -> Callable[..., Any]:
    """Return what keeps a client manager up to date whenever it is asked, in the place of a thread."""

    def start(given: Any, manager: Any) -> tuple[Any, threading.Event, threading.Event]:
        registered: dict[int, _Client] = {}

        def look() -> None:
            online = list(given.get_node_ids())
            for node_id in sorted(set(registered) - set(online)):
                manager.unregister(registered.pop(node_id))
            for node_id in online:
                if node_id not in registered:
                    client = _Client(node_id, grid, given.run.run_id)
                    if manager.register(client):
                        registered[node_id] = client

        def looking(method: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                look()
                return method(*args, **kwargs)

            return wrapped

        for name in ("num_available", "all", "sample"):
            setattr(manager, name, looking(getattr(manager, name)))
        done = threading.Event()
        done.set()
        idle = threading.Thread(target=lambda: None)
        idle.start()
        return idle, threading.Event(), done

    return start


def _waiting(grid: FleetGrid) -> Callable[..., bool]:
    """Return what waits for clients in virtual time."""

    def wait_for(self: Any, num_clients: int, timeout: int = 86400) -> bool:
        until_s = grid.now_s + timeout
        while self.num_available() < num_clients:
            if grid.now_s >= until_s:
                return False
            grid.patience.wanted = num_clients
            grid.sleep(_POLL_S)
        return True

    return wait_for


def _keeping(made: Callable[..., Any], kept: list[Any]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        found = made(*args, **kwargs)
        kept.append(found)
        return found

    return make


@contextmanager
def adapted(grid: FleetGrid, sleep: Callable[[float], None]) -> Iterator[Kept]:
    """Change Flower for the time of a run on a grid, and yield what its strategies return; `sleep` is that of apps."""
    kept = Kept()
    start, fit = strategies.Strategy.start, old_server.Server.fit

    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        kept.strategies.append(type(self).__name__)
        return start(self, *args, **kwargs)

    def fitted(self: Any, *args: Any, **kwargs: Any) -> Any:
        kept.strategies.append(type(self.strategy).__name__)
        kept.servers.append(self)
        return fit(self, *args, **kwargs)

    def sleeping(seconds: float) -> None:
        sleep(seconds)

    changes = (
        (strategy_utils, "sleep", sleeping),
        (strategies, "Result", _keeping(strategies.Result, kept.results)),
        (strategies.Strategy, "start", started),
        (old_server, "History", _keeping(old_server.History, kept.histories)),
        (legacy_context, "History", _keeping(legacy_context.History, kept.histories)),
        (old_server.Server, "fit", fitted),
        (old_server, "fit_clients", _together(grid, old_server.fit_client)),
        (old_server, "evaluate_clients", _together(grid, old_server.evaluate_client)),
        (compat_app, "start_update_client_manager_thread", _start_client_manager(grid)),
        (workflows, "start_update_client_manager_thread", _start_client_manager(grid)),
        (client_managers.SimpleClientManager, "wait_for", _waiting(grid)),
    )
    with ExitStack() as stack:
        for place, name, new in changes:
            stack.enter_context(mock.patch.object(place, name, new))
        stack.enter_context(virtual_sleep(sleep))
        yield kept
