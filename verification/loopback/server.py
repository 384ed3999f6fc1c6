"""A server: sends its model to whoever is connected, waits for all of them, and lets the method digest what came.

The method, the selector and their streams are the project's; who comes when is decided by sockets and clocks alone.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopback.link import Direction, has_left, packed, receive
from neulite_sim.engine import building
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import FoldOrder, State, Update
from neulite_sim.methods.folding import Fold, weighting_of
from neulite_sim.seeding import brief_stream
from neulite_sim.training.learning_rate import learning_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """How a participation ended, in seconds after the start, and the bytes that really passed."""

    flight: int
    round: int
    device: int
    submodel: str
    dispatched_s: float
    ended_s: float
    has_arrived: bool
    bytes_down: int
    bytes_up: int
    other_bytes: int
    update: Update | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRound:
    """A round as it happened."""

    number: int
    began_s: float
    ended_s: float
    landings: tuple[Landing, ...]
    """In the order in which they ended."""
    state: State


class Server:
    """Listens on the loopback, and runs the rounds of a scenario with whoever is connected."""

    def __init__(self, costing: Costing, downs: Sequence[Direction]) -> None:
        self._costing = costing
        self._downs = downs
        self._connected: dict[int, socket.socket] = {}
        self._news = threading.Condition()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._started_s = 0.0
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where devices find it."""
        host, port = self._listening.getsockname()
        return host, port

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            device = receive(connection).header["device"]
            with self._news:
                self._connected[device] = connection
                self._news.notify_all()

    def await_devices(self, count: int, timeout_s: float) -> None:
        """Wait until so many devices are connected."""
        with self._news:
            if not self._news.wait_for(lambda: len(self._connected) >= count, timeout_s):
                raise TimeoutError(f"{len(self._connected)} of {count} devices came within {timeout_s:.0f} s")

    def _present(self) -> list[int]:
        """Return who is connected, ascending, as soon as anybody is."""
        while True:
            with self._news:
                for device, connection in list(self._connected.items()):
                    if has_left(connection):
                        connection.close()
                        del self._connected[device]
                if self._connected:
                    return sorted(self._connected)
                self._news.wait()

    def run(self, started_s: float, state: State) -> list[RealRound]:
        """Return the rounds of the scenario, begun at a moment of the monotonic clock."""
        self._started_s = started_s
        time.sleep(max(0.0, started_s - time.monotonic()))
        rounds: list[RealRound] = []
        selector = building.build_selector(self._costing.scenario)
        selector.register(self._costing.partition.sizes)
        num_flights = 0
        with ThreadPoolExecutor(max_workers=len(self._downs)) as threads:
            for number in range(1, self._costing.scenario.stop.rounds + 1):
                present = np.array(self._present())
                began_s = self._now_s()
                offers = self._costing.method.offers(state, self._costing.ledger, present).offers
                rng = brief_stream(self._costing.scenario.seed, "selection", number - 1, num_flights)
                wanted = self._costing.scenario.selection.options.devices_per_round
                chosen = selector.choose(offers, wanted, rng)
                flights = [
                    threads.submit(self._fly, num_flights + place, number, offers[int(position)], state)
                    for place, position in enumerate(chosen, start=1)
                ]
                num_flights += len(flights)
                landings = sorted((flight.result() for flight in flights), key=lambda landing: landing.ended_s)
                state = self._digested(state, landings)
                # The round is over when the last of its flights is: what the server computes is not modelled.
                ended_s = landings[-1].ended_s
                rounds.append(
                    RealRound(number=number, began_s=began_s, ended_s=ended_s, landings=tuple(landings), state=state)
                )
        return rounds

    def _now_s(self) -> float:
        return time.monotonic() - self._started_s

    def _fly(self, flight: int, number: int, offer: Any, state: State) -> Landing:
        """Send a device its model and wait for what it learned, or until it is gone."""
        device, submodel, scenario = offer.device, offer.submodel, self._costing.scenario
        training = self._costing.method.own_training(submodel).applied(self._costing.trained_training)
        rate = learning_rate(training, number, scenario.stop.rounds)
        header = {"flight": flight, "submodel": submodel, "version": state.version, "seed": scenario.seed}
        payload = self._costing.method.payload(state, submodel)
        message = packed({**header, "learning_rate": rate}, payload)
        connection = self._connected[device]
        dispatched_s, update, up, other = self._now_s(), None, 0, 0
        down = sum(tensor.nbytes for tensor in payload.values())
        try:
            self._downs[device].send(connection, message)
            answer = receive(connection)
        except OSError:
            # The device has left: its socket says so.
            pass
        else:
            up, other = answer.tensor_bytes, answer.other_bytes + len(message) - down
            update = Update(
                device=device, submodel=submodel, num_samples=answer.header["samples"], tensors=answer.tensors,
                loss=answer.header["loss"], classes=tuple(answer.header["classes"]), version=state.version,
            )  # fmt: skip
        return Landing(
            flight=flight, round=number, device=device, submodel=submodel, dispatched_s=dispatched_s,
            ended_s=self._now_s(), has_arrived=update is not None, bytes_down=down, bytes_up=up, other_bytes=other,
            update=update,
        )  # fmt: skip

    def _digested(self, state: State, landings: Sequence[Landing]) -> State:
        """Return what the method makes of the updates, in the order of devices; the same state where none came."""
        method, found = self._costing.method, sorted(landings, key=lambda landing: landing.device)
        updates = [landing.update for landing in found if landing.update is not None]
        if not updates:
            return state
        weighting = weighting_of(method)
        if weighting is None:
            return method.digest(state, updates)
        samples = sum(update.num_samples for update in updates)
        most = samples if weighting == "samples" else len(updates)
        fold = Fold(FoldOrder(number=0, weighting=weighting, most_weight=most))
        for update in updates:
            fold.add(update)
        return method.digest(state, fold.updates())

    def close(self) -> None:
        """Tell every device that all is over, and stop listening."""
        self._listening.close()
        for connection in self._connected.values():
            with connection:
                try:
                    connection.sendall(packed({}))
                except OSError:
                    continue


def accuracies(costing: Costing, worker: Any, rounds: Sequence[RealRound]) -> Mapping[int, float]:
    """Return the accuracy of the model after each round, by its number."""
    method = costing.method
    return {
        item.number: worker.evaluate(method.evaluated(item.state), method.evaluation_tensors(item.state)).accuracy
        for item in rounds
    }
