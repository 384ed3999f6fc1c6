"""The backend in the driver itself: what it leaves as it found it, and how it fails."""

import pytest
import torch
from tiny_scenarios import tiny

from neulite_sim.engine import assembly, building
from neulite_sim.errors import SimulationError


def equipped(parts):
    backend = building.build_backend(parts.scenario)
    backend.equip(building.workplace(parts))
    return backend


def test_pytorch_has_the_workers_threads_until_the_backend_closes():
    parts = assembly.prepare(tiny("backend={kind: inprocess, threads_per_worker: 3}"))
    before = torch.get_num_threads()
    backend = equipped(parts)
    assert torch.get_num_threads() == 3
    backend.close()
    assert torch.get_num_threads() == before


def test_a_failure_in_evaluation_is_told_with_the_version_and_the_cause():
    parts = assembly.prepare(tiny())
    backend = equipped(parts)
    wrong = {name: torch.zeros(7) for name in parts.method.start(parts.trained, 3, None).tensors}
    ticket = backend.submit_evaluation("full", wrong)
    with pytest.raises(SimulationError, match=r"^evaluation of the global model \(full\) failed: .*size"):
        backend.collect_evaluation(ticket)
    backend.close()
