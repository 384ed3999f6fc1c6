"""The backend in the driver itself: what it leaves as it found it, and how it fails."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_flights import cost_of
from tiny_scenarios import tiny

from neulite_sim.engine import assembly, building
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import LocalTask

pytestmark = pytest.mark.usefixtures("shared_profiles")


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


def test_an_update_does_not_depend_on_how_the_images_of_one_channel_lie_in_memory():
    """A channel made with `[:, None]` has a stride of 0, until the images are pickled on their way to a worker of Ray."""
    parts = assembly.prepare(tiny("model=cnn"))
    images = parts.dataset.train_images
    odd = images[:, 0].copy()[:, None]
    strides = (odd.strides[0], 0, *odd.strides[2:])
    odd = np.lib.stride_tricks.as_strided(odd, strides=strides)
    assert odd.strides != images.strides
    found = []
    for given in (images, odd):
        backend = equipped(replace(parts, dataset=replace(parts.dataset, train_images=given)))
        state = parts.method.start(parts.trained, 3, None)
        task = LocalTask(flight=1, cost=cost_of(), version=0, seed=3, learning_rate=0.05)
        found.append(backend.collect_update(backend.submit_training(task, state.tensors, {})))
        backend.close()
    assert all(torch.equal(tensor, found[1].tensors[name]) for name, tensor in found[0].tensors.items())
