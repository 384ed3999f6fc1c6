"""The check of backends: every built-in passes, and each law is missed by something broken."""

from dataclasses import replace

import pytest
import torch
from slow_cases import some_slow

from neulite_sim.errors import SimulationError
from neulite_sim.registry import component, names
from neulite_sim.training.conformance import check_backend
from neulite_sim.training.inprocess import InProcess

pytestmark = pytest.mark.usefixtures("shared_profiles")

OPTIONS = {"ray": {"workers": 2}}


@pytest.mark.parametrize("kind", some_slow(names("backend"), lambda kind: kind == "ray"))
def test_every_registered_backend_keeps_the_contract(kind):
    found = component("backend", kind)
    check_backend(lambda: found.build(found.options(**OPTIONS.get(kind, {}))))


class CountsTasks(InProcess):
    """Adds a little for every task before."""

    def collect_update(self, ticket):
        update = super().collect_update(ticket)
        return replace(update, tensors={name: tensor + 1e-6 * ticket for name, tensor in update.tensors.items()})


class Drifts(InProcess):
    def collect_update(self, ticket):
        update = super().collect_update(ticket)
        return replace(update, loss=update.loss + ticket)


class KeepsTheLastOnly(InProcess):
    def submit_training(self, task, payload, personal):
        self._tasks.clear()
        return super().submit_training(task, payload, personal)


class OneTicket(InProcess):
    def submit_training(self, task, payload, personal):
        self._tickets = 0
        return super().submit_training(task, payload, personal)


class OthersUpdate(InProcess):
    def collect_update(self, ticket):
        update = super().collect_update(ticket)
        return replace(update, device=(update.device + 1) % 6)


class MiscountsSamples(InProcess):
    def collect_update(self, ticket):
        return replace(super().collect_update(ticket), num_samples=9)


class KeepsWhatItIsSent(InProcess):
    def __init__(self):
        super().__init__()
        self.sent = {}

    def submit_training(self, task, payload, personal):
        ticket = super().submit_training(task, payload, personal)
        self.sent[ticket] = payload, personal
        return ticket


class TrainsNothing(KeepsWhatItIsSent):
    def collect_update(self, ticket):
        payload, personal = self.sent[ticket]
        update = super().collect_update(ticket)
        return replace(update, tensors={name: ({**payload, **personal})[name] for name in update.tensors})


class TrainsInPlace(KeepsWhatItIsSent):
    def collect_update(self, ticket):
        payload, _ = self.sent[ticket]
        update = super().collect_update(ticket)
        for name, tensor in update.tensors.items():
            payload[name].copy_(tensor)
        return update


class SaysItTrainsNothing(InProcess):
    trains = False


class OnePayload(InProcess):
    """Keeps the first payload for ever."""

    first = None

    def submit_training(self, task, payload, personal):
        self.first = self.first or {name: tensor.clone() for name, tensor in payload.items()}
        return super().submit_training(task, self.first, personal)


class NothingPersonal(InProcess):
    def submit_training(self, task, payload, personal):
        return super().submit_training(task, payload, {name: tensor * 0 for name, tensor in personal.items()})


class TestsAll(InProcess):
    __test__ = False

    def submit_evaluation(self, name, tensors, devices=None):
        return super().submit_evaluation(name, tensors, None)


class BreaksThePromise(InProcess):
    def submit_training(self, task, payload, personal):
        return super().submit_training(replace(task, enforces_memory=False), payload, personal)


class FailsWithoutAName(InProcess):
    def collect_update(self, ticket):
        try:
            return super().collect_update(ticket)
        except SimulationError as error:
            raise SimulationError("it failed") from error


class EquippedOnce(InProcess):
    def equip(self, workplace):
        if self._workers is None:
            super().equip(workplace)


class Repeats(InProcess):
    def notices(self):
        return ["an actor died"]


class KeepsTheThreads(InProcess):
    def close(self):
        torch.set_num_threads(3)


class DiscardsAll(InProcess):
    def discard(self, ticket):
        self._tasks.clear()


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (CountsTasks, "device 3: .* came out otherwise in another order, beside other work; results must depend on"),
        (Drifts, "device 3: loss came out as .* in another order, beside other work, before as"),
        (KeepsTheLastOnly, r"flight 1 \(device 0\) cannot be collected \(KeyError: 1\)"),
        (OneTicket, r"tickets must differ, are \[1, 1, 1, 1, 1, 1\]"),
        (OthersUpdate, r"device, submodel and version must be \(0, 'full', 0\), are \(1, 'full', 0\)"),
        (MiscountsSamples, "device 0 owns 2 samples, the update says 9"),
        (TrainsNothing, "device 0: returns what it was sent; nothing was trained"),
        (TrainsInPlace, "training changed .* of the payload; others are sent the same tensors"),
        (SaysItTrainsNothing, "nothing is trained, so the loss must be NaN"),
        (OnePayload, "device 1 was sent another payload, and its update is the same"),
        (NothingPersonal, "came out otherwise with head.3.bias as what only this device is sent"),
        (TestsAll, "12 samples to test, 10 were"),
        (BreaksThePromise, "flight 3 needs 100000 bytes of 10 and was trained; memory is a promise"),
        (FailsWithoutAName, r"the message must name \['device 2', 'flight 3'\]: it failed"),
        (EquippedOnce, "device 0 owns 6 samples, the update says 2"),
        (Repeats, r"tells \['an actor died'\] again"),
        (KeepsTheThreads, "close: PyTorch has 3 threads"),
        (DiscardsAll, "cannot be collected"),
    ],
)
def test_a_broken_backend_is_found(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_backend(broken)
