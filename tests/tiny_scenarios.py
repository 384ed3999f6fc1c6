"""Scenarios small enough to run within a test, and a backend whose answers a test writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Scenario
from neulite_sim.training.contract import Payload, Workplace
from neulite_sim.training.evaluation import EvaluationResult

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "digits", "train_samples": 60, "test_samples": 30, "partition": "iid"},
    "model": "logistic",
    "training": {"epochs": 1, "batch_size": 5, "learning_rate": 0.05},
    "population": {
        "devices": 6,
        "groups": [{"device": "jetson-nano-4gb", "share": 1}],
        "available_memory": {"kind": "uniform", "low": "10MB", "high": "20MB"},
        "speed_jitter": 0.2,
    },
    "method": "fedavg",
    "selection": {"kind": "uniform", "devices_per_round": 3},
    "stop": {"rounds": 4},
    "backend": "inprocess",
}
"""Six devices of ten samples; a flight of the full logistic model takes about a tenth of a virtual second."""

WAVES: dict[str, Any] = {
    **TINY,
    "name": "waves",
    "data": {
        "kind": "digits",
        "image_size": 12,
        "train_samples": 96,
        "test_samples": 40,
        "partition": {"kind": "dirichlet", "alpha": 0.1},
    },
    "model": "lenet",
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.05, "learning_rate_schedule": "cosine"},
    "population": {
        "devices": 8,
        "groups": [{"device": "jetson-nano-4gb", "share": 1}, {"device": "raspberry-pi-4-4gb", "share": 1}],
        "available_memory": {"kind": "uniform", "low": "2.5MB", "high": "2.8MB"},
        "availability": {"kind": "markov", "mean_on": "2s", "mean_off": "1s"},
        "link": {"downlink": "20Mbps", "uplink": "8Mbps"},
        "speed_jitter": 0.3,
    },
    "method": "neulite",
    "selection": {"kind": "uniform", "devices_per_round": 4},
    "evaluation": {"every_rounds": 2},
    "stop": {"rounds": 6},
    "workload": {"batch_size": 32},
    "proxy": {"width": 0.5},
}
"""Devices come and go every few seconds and have unequal data, so that flights drop and classes are missing."""


def tiny(*overrides: str) -> Scenario:
    """Return `TINY` with each `key=value` applied."""
    return parse_scenario(TINY, overrides)


def waves(*overrides: str) -> Scenario:
    """Return `WAVES` with each `key=value` applied."""
    return parse_scenario(WAVES, overrides)


def online_trace(folder: Path, *intervals: tuple[int, float, float], devices: int = 6) -> str:
    """Write a trace of (device, start, end) intervals and return the override that makes a scenario use it.

    A device that is not named comes online after a hundred days, for a second.
    """
    path = folder / "trace.csv"
    others = set(range(devices)) - {device for device, _, _ in intervals}
    late = [(device, 8_640_000.0, 8_640_001.0) for device in others]
    rows = "".join(f"{device},{start_s},{end_s}\n" for device, start_s, end_s in sorted([*intervals, *late]))
    path.write_text(f"device,start_s,end_s\n{rows}", encoding="utf-8")
    return f"population.availability={{kind: trace, path: '{path}', repeat: false}}"


class ScriptedBackend:
    """Trains nothing, tests with the accuracies it is given by version, and notes what it was asked for.

    The version that is tested is the one after that of the latest update to be collected.
    An evaluation counts as done only after it was asked for `patience` times: 0 answers at once, as `inprocess` does,
    a large number is a backend that is always late.
    """

    trains = True

    def __init__(self, accuracies: tuple[float, ...] = (), *, patience: int = 0, loss: float = 1.5) -> None:
        self._accuracies = accuracies
        self._patience = patience
        self._loss = loss
        self._jobs: dict[int, LocalTask | int] = {}
        self._version = 0
        self.tasks: list[LocalTask] = []
        self.collected: list[int] = []
        self.tested: list[int] = []
        self.open_evaluations: set[int] = set()
        self.most_open_evaluations = 0
        self.told: list[str] = []
        self.is_closed = False

    def equip(self, workplace: Workplace) -> None:
        del workplace

    def submit_training(self, task: LocalTask, payload: Payload, personal: Payload) -> int:
        self.tasks.append(task)
        self._jobs[len(self._jobs)] = task
        return len(self._jobs) - 1

    def submit_evaluation(self, name: str, tensors: Payload, devices: object = None) -> int:
        ticket, version = len(self._jobs), self._version
        self._jobs[ticket] = version
        self.tested.append(version)
        self.open_evaluations.add(ticket)
        self.most_open_evaluations = max(self.most_open_evaluations, len(self.open_evaluations))
        self._asked = 0
        return ticket

    def collect_update(self, ticket: int) -> Update:
        task = self._jobs[ticket]
        assert isinstance(task, LocalTask)
        self.collected.append(task.device)
        self._version = task.version + 1
        return Update(device=task.device, submodel=task.submodel, num_samples=1 + task.device, tensors={},
                      loss=self._loss + task.device, metrics={"num_skipped_terms": 2.0})  # fmt: skip

    def collect_evaluation(self, ticket: int) -> EvaluationResult:
        version = self._jobs[ticket]
        assert isinstance(version, int)
        self.open_evaluations.remove(ticket)
        accuracy = self._accuracies[min(version, len(self._accuracies)) - 1] if self._accuracies else 0.0
        return EvaluationResult(loss=2.0 - accuracy, accuracy=accuracy, num_samples=10)

    def discard(self, ticket: int) -> None:
        """Nothing is kept of a task but what `collect_update` makes up."""

    def is_done(self, ticket: int) -> bool:
        self._asked += 1
        return self._asked > self._patience

    def notices(self) -> list[str]:
        told, self.told = self.told, []
        return told

    def close(self) -> None:
        self.is_closed = True
