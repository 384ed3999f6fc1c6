"""The laws of the backend contract as assertions, for tests of any backend, in this package or in another.

In a test of yours:

    from neulite_sim.training.conformance import check_backend
    check_backend(lambda: COMPONENT.build(COMPONENT.options()))

It trains and tests a network of a few hundred weights on six devices of a few made-up samples. Results are compared
bit for bit, which only the CPU promises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from neulite_sim.arrays import Integers
from neulite_sim.contracts import held_to
from neulite_sim.data.contract import Dataset, Partition
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import FoldOrder, LocalTask, Update
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.methods.folding import Fold
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.names import FULL
from neulite_sim.models.trainee import float_tensors
from neulite_sim.profiling.ledger import Cost
from neulite_sim.profiling.plans import Plan
from neulite_sim.scenario.schema import Evaluation, Training
from neulite_sim.seeding import stream
from neulite_sim.training.contract import Backend, Payload, Workplace
from neulite_sim.turns import my_turn

SIZES = (2, 9, 4, 12, 3, 6)
"""Training samples of each device."""
NUM_TEST_SAMPLES = 10
SEED = 3
_CLASSES = 3
_SHAPE = (1, 6, 6)
_NOTHING: Payload = {}
_PERSONAL = "head.3.bias"


@held_to("neulite_sim.training.contract.Backend")
@my_turn()
def check_backend(factory: Callable[[], Backend]) -> None:
    """Pass where the backend that `factory` returns keeps the contract of `neulite_sim.training.contract.Backend`.

    One backend is built, given work in several orders, set up anew, and closed. One that does not train (`trains`
    False) is asked for updates alone.

    Raises:
        AssertionError: the first law that is broken, with the flight that it is about.
    """
    threads_before = torch.get_num_threads()
    backend = factory()
    assert isinstance(backend.trains, bool), f"trains: must be True or False, is {backend.trains!r}"
    place = _workplace()
    bench = _Bench(backend, place, float_tensors(place.blueprint.build_seeded(SEED)))
    backend.equip(place)
    wanted = bench.updates(bench.tasks)
    for update in wanted.values():
        _check_update(update, bench)
    bench.check_again(wanted, "in another order, beside other work")
    if backend.trains:
        _check_payloads(bench, wanted)
        _check_folds(bench, wanted)
        _check_tests(bench)
        _check_failure(bench)
        bench.check_again(wanted, "after a failure")
    _check_new_place(bench, wanted)
    backend.notices()
    told = backend.notices()
    assert told == [], f"notices: tells {told} again; what was told is forgotten"
    bench.submit(bench.tasks[:2])
    backend.close()
    threads = torch.get_num_threads()
    assert threads == threads_before, (
        f"close: PyTorch has {threads} threads, before the backend it had {threads_before}"
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """A backend with what it works on."""

    backend: Backend
    place: Workplace
    tensors: Payload
    """The global model that devices are sent."""

    @property
    def tasks(self) -> tuple[LocalTask, ...]:
        """One task for each device; they are submitted again and again."""
        return tuple(_task(device) for device in range(len(SIZES)))

    def submit(
        self, tasks: Iterable[LocalTask], payload: Payload | None = None, personal: Payload = _NOTHING
    ) -> list[int]:
        """Submit tasks, and return their tickets."""
        sent = self.tensors if payload is None else payload
        before = {name: tensor.clone() for name, tensor in sent.items()}
        tickets = [self.backend.submit_training(task, sent, personal) for task in tasks]
        assert len(set(tickets)) == len(tickets), f"submit_training: tickets must differ, are {tickets}"
        changed = [name for name, tensor in sent.items() if not torch.equal(tensor, before[name])]
        assert not changed, f"submit_training: changed {changed[:3]} of the payload"
        return tickets

    def collect(self, ticket: int, task: LocalTask) -> Update:
        """Return the update of a ticket."""
        where = f"collect_update: flight {task.flight} (device {task.device})"
        before = {name: tensor.clone() for name, tensor in self.tensors.items()}
        try:
            update = self.backend.collect_update(ticket)
        except Exception as error:
            raise AssertionError(f"{where} cannot be collected ({type(error).__name__}: {error})") from error
        found = (update.device, update.submodel, update.version)
        wanted = (task.device, task.submodel, task.version)
        assert found == wanted, f"{where}: device, submodel and version must be {wanted}, are {found}"
        changed = [name for name, tensor in self.tensors.items() if not torch.equal(tensor, before[name])]
        assert not changed, f"{where}: training changed {changed[:3]} of the payload; others are sent the same tensors"
        return update

    def updates(
        self, tasks: Sequence[LocalTask], payload: Payload | None = None, personal: Payload = _NOTHING
    ) -> dict[int, Update]:
        """Return the updates of tasks by device, collected in the order of submission."""
        tickets = self.submit(tasks, payload, personal)
        return {task.device: self.collect(ticket, task) for ticket, task in zip(tickets, tasks, strict=True)}

    def check_again(self, wanted: Mapping[int, Update], when: str) -> None:
        """Check that the same tasks come to the same, submitted backwards and collected in yet another order."""
        tasks = self.tasks[::-1]
        tickets = dict(zip((task.device for task in tasks), self.submit(tasks), strict=True))
        test = self.backend.submit_evaluation(FULL, self.tensors) if self.backend.trains else None
        unwanted, left_over = self.submit(self.tasks[:2])
        self.backend.discard(unwanted)
        for device in (3, 0, 5, 1, 4, 2):
            is_done = self.backend.is_done(tickets[device])
            assert isinstance(is_done, bool), f"is_done: must be True or False, is {is_done!r}"
            _check_same(self.collect(tickets[device], _task(device)), wanted[device], when)
        _check_same(self.collect(left_over, _task(1)), wanted[1], "beside a ticket that was discarded")
        if test is not None:
            self.backend.collect_evaluation(test)


def _task(device: int, *, version: int = 0, available_memory_bytes: int = 10**6) -> LocalTask:
    cost = Cost(
        submodel=FULL,
        device=device,
        download_s=1.0,
        compute_s=1.0,
        upload_s=1.0,
        peak_memory_bytes=10**5,
        available_memory_bytes=available_memory_bytes,
        plan=Plan(batch_size=3),
    )
    return LocalTask(flight=device + 1, cost=cost, version=version, seed=SEED, learning_rate=0.1)


def _check_update(update: Update, bench: _Bench) -> None:
    where = f"collect_update: device {update.device}"
    num_samples = int(bench.place.partition.sizes[update.device])
    assert update.num_samples == num_samples, (
        f"{where} owns {num_samples} samples, the update says {update.num_samples}"
    )
    if not bench.backend.trains:
        assert math.isnan(update.loss), f"{where}: nothing is trained, so the loss must be NaN, is {update.loss}"
        return
    assert math.isfinite(update.loss), f"{where}: the loss is {update.loss}"
    names = bench.place.method.trainee(FULL, bench.place.blueprint).upload_names()
    odd = sorted(set(names) ^ set(update.tensors))
    assert not odd, f"{where}: the tensors must be those that the trainee uploads; {odd[:3]} are in one of them only"
    trained = [name for name, tensor in update.tensors.items() if not torch.equal(tensor, bench.tensors[name])]
    assert trained, f"{where}: returns what it was sent; nothing was trained"


def _check_same(update: Update, wanted: Update, when: str) -> None:
    where = f"collect_update: device {update.device}"
    hint = "results must depend on the task alone, not on where or when it ran"
    changed = sorted(
        name
        for name in update.tensors.keys() | wanted.tensors.keys()
        if name not in update.tensors
        or name not in wanted.tensors
        or not torch.equal(update.tensors[name], wanted.tensors[name])
    )
    assert not changed, f"{where}: {changed[:3]} came out otherwise {when}; {hint}"
    for name in ("num_samples", "classes", "loss"):
        one, other = getattr(update, name), getattr(wanted, name)
        is_same = one == other or (one != one and other != other)
        assert is_same, f"{where}: {name} came out as {one} {when}, before as {other}; {hint}"


def _check_payloads(bench: _Bench, wanted: Mapping[int, Update]) -> None:
    """Check that a device trains what it is sent, shared and personal tensors together."""
    moved = {name: tensor + 0.25 for name, tensor in bench.tensors.items()}
    tasks = [_task(device, version=1) for device in (1, 3)]
    found = bench.updates(tasks, moved)
    for device, update in found.items():
        same = all(torch.equal(tensor, wanted[device].tensors[name]) for name, tensor in update.tensors.items())
        assert not same, f"submit_training: device {device} was sent another payload, and its update is the same"
    shared = {name: tensor for name, tensor in moved.items() if name != _PERSONAL}
    parted = bench.updates([_task(device, version=2) for device in (1, 3)], shared, {_PERSONAL: moved[_PERSONAL]})
    for device, update in parted.items():
        _check_same(update, found[device], f"with {_PERSONAL} as what only this device is sent")


def _check_folds(bench: _Bench, wanted: Mapping[int, Update]) -> None:
    """Check that a backend that folds hands over, once, the sum of all that was trained by an order."""
    collect = getattr(bench.backend, "collect_fold", None)
    if collect is None:
        return
    orders = [FoldOrder(number=number, weighting="samples", most_weight=sum(SIZES)) for number in (1, 2)]
    given_up = bench.submit([replace(task, fold=orders[0]) for task in bench.tasks])
    tasks = [replace(task, fold=orders[1]) for task in bench.tasks]
    tickets = bench.submit(tasks)
    for ticket in given_up:
        bench.backend.discard(ticket)
    direct = Fold(orders[1])
    for ticket, task in zip(tickets, tasks, strict=True):
        light, own = bench.collect(ticket, task), wanted[task.device]
        assert not light.tensors, f"collect_update: device {task.device} was folded, and its update has tensors"
        _check_same(light, replace(own, tensors={}), "with a fold")
        direct.add(own)
    whole = Fold(orders[1])
    for part in collect(2):
        whole.merge(part)
    assert whole.num_updates == len(tasks), (
        f"collect_fold: {len(tasks)} updates were trained, it has {whole.num_updates}"
    )
    for found, other in zip(whole.updates(), direct.updates(), strict=True):
        changed = [name for name, tensor in other.tensors.items() if not torch.equal(found.tensors[name], tensor)]
        assert not changed, f"collect_fold: the means of {changed[:3]} are not those of the updates"
    left = [part.num_updates for number in (1, 2) for part in collect(number)]
    assert not left, f"collect_fold: holds {sum(left)} more updates; a fold is handed over once, or given up as a whole"


def _check_tests(bench: _Bench) -> None:
    """Check tests on all test samples and on the samples of some devices."""
    backend, tensors = bench.backend, bench.tensors
    devices: tuple[Integers | None, ...] = (None, np.array([1, 4]), None)
    tickets = [backend.submit_evaluation(FULL, tensors, some) for some in devices]
    last, some, first = (backend.collect_evaluation(ticket) for ticket in reversed(tickets))
    for result, count in ((first, NUM_TEST_SAMPLES), (some, SIZES[1] + SIZES[4])):
        assert result.num_samples == count, f"collect_evaluation: {count} samples to test, {result.num_samples} were"
        assert 0 <= result.accuracy <= 1, f"collect_evaluation: accuracy must be in [0, 1], is {result.accuracy}"
        assert math.isfinite(result.loss), f"collect_evaluation: the loss is {result.loss}"
    assert first == last, f"collect_evaluation: the same model gave {first} and {last}"


def _check_failure(bench: _Bench) -> None:
    """Check that a task that breaks the memory promise fails, and is told by its device and its flight."""
    task = _task(2, available_memory_bytes=10)
    (ticket,) = bench.submit([task])
    message = ""
    try:
        bench.backend.collect_update(ticket)
    except SimulationError as failure:
        message = str(failure)
    assert message, (
        f"collect_update: flight {task.flight} needs {task.cost.peak_memory_bytes} bytes of "
        f"{task.cost.available_memory_bytes} and was trained; memory is a promise (training.worker.Worker keeps it)"
    )
    missing = [what for what in (f"device {task.device}", f"flight {task.flight}") if what not in message]
    assert not missing, f"collect_update: of a task that failed the message must name {missing}: {message}"


def _check_new_place(bench: _Bench, wanted: Mapping[int, Update]) -> None:
    """Check that a second `equip` replaces what the first one gave, and a third brings it back."""
    place = bench.place
    other = replace(bench, place=replace(place, partition=_partition(SIZES[::-1])))
    bench.backend.equip(other.place)
    for update in other.updates(bench.tasks).values():
        _check_update(update, other)
    bench.backend.equip(place)
    bench.check_again(wanted, "after the backend was set up anew")


def _workplace() -> Workplace:
    return Workplace(
        dataset=_dataset(),
        partition=_partition(SIZES),
        method=FedAvg(memory_limit=True, weighting="samples"),
        blueprint=Blueprint(architecture=_network, input_shape=_SHAPE, num_classes=_CLASSES, name="conformance"),
        training=Training(epochs=1, batch_size=3, momentum=0.9),
        evaluation=Evaluation(),
        seed=SEED,
        threads=1,
    )


def _dataset() -> Dataset:
    rng = stream(SEED, "conformance")
    count = sum(SIZES)
    return Dataset(
        name="conformance",
        train_images=rng.random((count, *_SHAPE), dtype=np.float32),
        train_labels=np.arange(count, dtype=np.int64) % _CLASSES,
        test_images=rng.random((NUM_TEST_SAMPLES, *_SHAPE), dtype=np.float32),
        test_labels=np.arange(NUM_TEST_SAMPLES, dtype=np.int64) % _CLASSES,
        num_classes=_CLASSES,
        mean=(0.5,),
        std=(0.3,),
    )


def _partition(sizes: Sequence[int]) -> Partition:
    return Partition(samples=np.arange(sum(sizes), dtype=np.int64), offsets=np.cumsum([0, *sizes], dtype=np.int64))


def _network(input_shape: tuple[int, int, int], num_classes: int, _width: float) -> BlockModel:
    """Return a convolution with statistics of its batch, and a head with dropout: both remember, or draw, if let."""
    channels, height, side = input_shape
    block = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, num_classes))
    return BlockModel([block], head, tails=(("0",),), block_shapes=((4, height, side),))
