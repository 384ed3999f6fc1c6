"""Calls of code of others begin at seeds of their own, and leave the generators of the process as they were."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neulite_sim.engine.charging import profile_submodel
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.registry import component
from neulite_sim.samples import spec_of
from neulite_sim.scenario.schema import Training
from neulite_sim.user_code.drawing import drawing, put_back, wait_before_drawing


def drawn() -> tuple[float, ...]:
    """Return numbers of each generator; half of a pair of normal ones waits for who asks next."""
    return random.gauss(0, 1), float(np.random.normal()), float(torch.randn(1))  # noqa: NPY002


def of_a_call(*keys: int, purpose: str = "call") -> tuple[float, ...]:
    with drawing(*keys[:1], purpose, *keys[1:]):
        return drawn()


def test_equal_calls_draw_the_same_and_others_do_not() -> None:
    calls = [(1, 0), (1, 1), (2, 0), (1, 0, 0)]
    first = [of_a_call(*call) for call in calls]
    drawn()
    assert [of_a_call(*call) for call in calls] == first
    assert len({*first, of_a_call(1, 0, purpose="another")}) == len(calls) + 1


@pytest.mark.parametrize("in_a_run", [True, False])
def test_who_is_at_work_goes_on_where_it_was_whatever_is_called_meanwhile(in_a_run: bool) -> None:
    def outer(calls: bool) -> list[tuple[float, ...]]:
        with drawing(1, "outer"):
            before = drawn()
            if calls:
                of_a_call(1, 5)
                with put_back():
                    drawn()
            return [before, drawn()]

    random.seed(3)
    drawn()
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    if in_a_run:
        with put_back():
            found = [outer(calls) for calls in (True, False)]
    else:
        found = [outer(calls) for calls in (True, False)]
    assert found[0] == found[1]
    assert (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()) == before  # noqa: NPY002


def test_the_generators_come_back_after_an_error() -> None:
    before = random.getstate()
    with pytest.raises(RuntimeError, match="broken off"), drawing(1, "call"):
        raise RuntimeError("broken off")
    assert random.getstate() == before


def test_nobody_draws_while_another_thread_is_told_to_draw() -> None:
    wanted = of_a_call(1, 2)
    with ThreadPoolExecutor(1) as thread:
        starting = thread.submit(lambda: [random.random() for _ in range(200_000)])
        wait_before_drawing(starting)
        assert of_a_call(1, 2) == wanted
        assert starting.done()


class Deep(nn.Module):
    """As deep as Python's generator says."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(64, 64), nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> Any:
        hidden = images.flatten(1)
        for _ in range(random.randrange(1, 9)):
            hidden = self.inner(hidden).relu()
        return self.last(hidden)


def test_a_network_that_draws_how_deep_it_is_is_charged_for_the_same_step_each_time() -> None:
    architecture = given_architecture(Deep)
    blueprint = Blueprint(architecture=architecture, spec=spec_of(None, (1, 8, 8), 10), name="deep")
    found = component("method", "fedavg")
    method = found.build(found.options(), None)
    peaks = set()
    for seed in range(4):
        random.seed(seed)
        peaks.add(profile_submodel(method, "full", blueprint, Training()).peak_memory_bytes)
    assert len(peaks) == 1
