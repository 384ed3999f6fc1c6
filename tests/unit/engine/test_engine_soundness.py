"""Numbers that are not finite are told of whoever made them: a method of a user's own, or the training."""

from __future__ import annotations

import math

import pytest
import torch
from broken_runs import BreakAfter, Broken
from listeners import Listener
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.engine.soundness import soundness
from neulite_sim.errors import SimulationError
from neulite_sim.methods.conformance import check_method
from neulite_sim.methods.contract import State
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.methods.finite import unsound
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.lenet import lenet
from neulite_sim.registry import Component, Options

FIRST = r"first in '(blocks|head)\.[\w.]+' \(digest\)"


def mean(updates, name):
    return sum(update.tensors[name] for update in updates) / len(updates)


def aggregate(spoil):
    def own(current, updates):
        return {name: spoil(mean(updates, name)) for name in updates[0].tensors}

    return own


class FromRoundTwo(FedAvg):
    """Spoils one tensor of its second digest."""

    def digest(self, state, updates):
        after = super().digest(state, updates)
        if after.version < 2:
            return after
        *_, last = after.tensors
        return State(version=after.version, tensors={**after.tensors, last: after.tensors[last] / 0.0})


class Sending(FedAvg):
    """Sends a spoilt payload of a sound state."""

    def payload(self, state, submodel):
        return {name: tensor * math.nan for name, tensor in super().payload(state, submodel).items()}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_function_that_makes_numbers_that_are_not_finite_is_named_with_the_round_and_the_tensor(bad):
    with pytest.raises(SimulationError, match=rf"^round 1: method own made numbers that are not finite .*{FIRST}"):
        neulite_sim.simulate(tiny(), method=aggregate(lambda tensor: torch.full_like(tensor, bad)))


def test_a_class_is_named_with_its_line_and_the_round_in_which_it_spoils_the_model():
    said = rf"^round 2: method FromRoundTwo.* \(.*test_engine_soundness\.py:\d+\) made numbers .*{FIRST}"
    with pytest.raises(SimulationError, match=said):
        neulite_sim.simulate(tiny(), method=FromRoundTwo)


def test_a_payload_is_looked_at_before_it_is_sent():
    with pytest.raises(
        SimulationError, match=r"^round 1: method Sending.* sends numbers .* for full, first in .*payload"
    ):
        neulite_sim.simulate(tiny(), method=Sending)


@pytest.mark.parametrize("method", [None, aggregate(lambda tensor: tensor), FedAvg])
def test_a_training_that_diverges_is_still_told_as_that(method):
    scenario = tiny("training.learning_rate=1000", "training.epochs=10", "model=lenet", "training.clip_norm=null")
    listener = Listener()
    values = {} if method is None else {"method": method}
    neulite_sim.simulate(scenario, observers=[listener], **values)
    assert any("local training diverged on" in told for told in listener.told)


def test_a_method_that_leaves_diverged_updates_out_goes_on_and_is_looked_at_again():
    class Calls:
        rounds = 0

    def careful(current, updates):
        Calls.rounds += 1
        assert all(unsound(update.tensors) is None for update in updates) or Calls.rounds > 0
        return {} if Calls.rounds < 3 else {name: tensor * math.nan for name, tensor in current.items()}

    with pytest.raises(SimulationError, match=r"^round 3: method careful made numbers that are not finite"):
        neulite_sim.simulate(tiny(), method=careful)


def test_a_training_that_diverged_before_a_checkpoint_is_not_blamed_on_the_method_after_it(tmp_path):
    scenario = tiny("checkpoint.every_rounds=1", "training.learning_rate=1000", "training.epochs=10", "model=lenet")
    own = aggregate(lambda tensor: tensor)
    whole = neulite_sim.simulate(scenario, method=own)
    assert any("local training diverged" in told for told in whole.notices)
    with pytest.raises(Broken):
        neulite_sim.simulate(scenario, method=own, out=tmp_path / "run", observers=[BreakAfter(2)])
    assert neulite_sim.resume(tmp_path / "run", method=own).summary["digest"] == whole.summary["digest"]


def test_a_check_of_a_method_finds_numbers_that_are_not_finite():
    class Spoiling(FedAvg):
        def digest(self, state, updates):
            after = super().digest(state, updates)
            is_changed = any(not torch.equal(state.tensors[name], after.tensors[name]) for name in state.tensors)
            tensors = {name: tensor * (math.nan if is_changed else 1) for name, tensor in after.tensors.items()}
            return State(version=after.version, tensors=tensors)

    component = Component(kind="x", summary="s", source="s", options=Options, build=lambda _, __: Spoiling())
    with pytest.raises(AssertionError, match=r"round 0: digest made numbers that are not finite of updates that were"):
        check_method(component, Blueprint(architecture=lenet, input_shape=(1, 8, 8), num_classes=3))


def test_a_finite_tensor_whose_sum_is_not_is_sound():
    largest = torch.full((4,), torch.finfo(torch.float32).max)
    assert unsound({"a": largest, "b": torch.zeros(0)}) is None
    assert unsound({"a": largest, "b": torch.tensor([1.0, math.nan])}) == "b"


def test_built_in_methods_are_not_looked_at(monkeypatch):
    from neulite_sim.engine.assembly import assemble

    assert soundness(assemble(tiny()), []) is None
