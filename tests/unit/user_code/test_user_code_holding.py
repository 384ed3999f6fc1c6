"""Values given from Python: of equal ones the last that was given is meant, as long as it is there."""

import gc
import sys
import threading

import four_devices
import numpy as np
import pytest
import torch

import neulite_sim
from neulite_sim.engine.given import held_values
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.user_code.holding import Given, Holder, held

FLEET = {**four_devices.FLEET, "stop": {"rounds": 2}}


def collecting():
    """Return a function that collects, and where: its code is the same each time."""
    seen = []

    def aggregate(current, updates):
        seen.append(len(updates))
        return current

    return aggregate, seen


def given(holder):
    return Given(name=holder.name, sha256=holder.sha256)


def test_of_equal_values_the_last_one_given_is_found_and_who_holds_an_earlier_one_keeps_it():
    first, second = collecting()[0], collecting()[0]
    holder = held_values(method=first)["method"]
    earlier = given(holder)
    later_holder = held_values(method=second)["method"]
    assert holder.sha256 == later_holder.sha256
    later = given(later_holder)
    assert later.found("method").value is second
    assert earlier.found("method").value is first
    assert [each.value for each in later.holders] == [second]


def test_an_earlier_one_is_found_again_when_the_last_one_is_gone_and_none_when_both_are():
    first = collecting()[0]
    holder = held_values(method=first)["method"]
    held_values(method=collecting()[0])
    gc.collect()
    stands_for_it = given(holder)
    assert stands_for_it.found("method").value is first
    name, sha256 = holder.name, holder.sha256
    del holder, stands_for_it
    gc.collect()
    with pytest.raises(ScenarioError, match="was given from Python, and aggregate is not here"):
        Given(name=name, sha256=sha256).found("method")


def aggregator():
    aggregate, seen = collecting()
    return {"method": aggregate}, seen


def method_class():
    seen = []

    class Mine(FedAvg):
        def digest(self, state, updates):
            seen.append(state.version)
            return super().digest(state, updates)

    return {"method": Mine}, seen


def selector():
    seen = []

    def choose(offers, count, rng):
        seen.append(count)
        return np.arange(min(count, len(offers)))

    return {"selector": choose}, seen


def model():
    seen = []

    def build(num_classes):
        seen.append(num_classes)
        return torch.nn.Linear(5, num_classes)

    return {"model": build}, seen


def data():
    seen = []

    def make():
        seen.append(1)
        return np.ones((40, 5), dtype="float32"), np.arange(40) % 3

    return {"data": make}, seen


@pytest.mark.parametrize("make", [aggregator, method_class, selector, model, data])
def test_what_a_call_collects_is_its_own_though_an_equal_one_ran_before(make):
    arrays = np.random.default_rng(0).normal(size=(40, 5)).astype("float32"), np.arange(40) % 3
    kept = []
    for seed in (1, 2):
        values, seen = make()
        kept.append(neulite_sim.simulate({**FLEET, "seed": seed}, **{"data": arrays, **values}))
        assert seen, seed


def test_values_are_found_while_other_threads_are_given_some():
    is_over = threading.Event()

    def give():
        kept = []
        while not is_over.is_set():
            kept.append(held(Holder(field="method", name="other", sha256="0" * 64, value=None)))
            if len(kept) > 50:
                kept.clear()

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=give)
    thread.start()
    try:
        holder = held_values(method=FedAvg)["method"]
        found = [given(holder).found("method").value for _ in range(10_000)]
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(before_s)
    assert set(found) == {FedAvg}
