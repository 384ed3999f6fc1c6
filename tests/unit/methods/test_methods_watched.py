"""A method or selector of a user's own that returns the wrong thing ends in one sentence that names its class."""

import copy

import numpy as np
import pytest
import torch
from four_devices import FLEET

import neulite_sim
from neulite_sim.errors import NeuliteError, SimulationError
from neulite_sim.methods.contract import Method, Setting, State
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.methods.of_users import method_of
from neulite_sim.models.trainee import FullModel
from neulite_sim.registry import Options
from neulite_sim.training.carrying import packed, unpacked
from neulite_sim.user_code.calls import Found

DATA = np.random.default_rng(0).normal(size=(40, 5)).astype("float32"), np.arange(40) % 3


class NoState(FedAvg):
    def digest(self, state, updates):
        return None


class PlainMapping(FedAvg):
    def digest(self, state, updates):
        return dict(state.tensors)


class Frozen(FedAvg):
    def digest(self, state, updates):
        state.version += 1
        return state


class LosesOne(FedAvg):
    def digest(self, state, updates):
        tensors = dict(super().digest(state, updates).tensors)
        tensors.pop("head.fc.weight")
        return State(version=state.version + 1, tensors=tensors)


class OfNumPy(FedAvg):
    def digest(self, state, updates):
        made = super().digest(state, updates)
        return State(version=made.version, tensors={name: each.numpy() for name, each in made.tensors.items()})


class OffersNothing(FedAvg):
    def offering(self, state, ledger):
        return None


class TrainsALayer(FedAvg):
    def trainee(self, submodel, blueprint):
        return torch.nn.Linear(5, 3)


class SendsNothing(FedAvg):
    def payload(self, state, submodel):
        return None


class Broken(FedAvg):
    def trainee(self, submodel, blueprint):
        raise RuntimeError("no trainee today")


class Unmade(FedAvg):
    def __init__(self):
        pass


class Nameless(FedAvg):
    submodels = ()


class OneText(FedAvg):
    submodels = "full"


class Empty(Method):
    pass


class OnlyNames(Method):
    submodels = ("full",)


class LossAlone(FullModel):
    def loss(self, images, labels):
        return super().loss(images, labels)[0]


class LossOfEach(FullModel):
    def loss(self, images, labels):
        return self(images), {}


class LossDetached(FullModel):
    def loss(self, images, labels):
        return super().loss(images, labels)[0].detach(), {}


class LossOfNone(FullModel):
    def loss(self, images, labels):
        return None


def trained_as(kind):
    class Own(FedAvg):
        def trainee(self, submodel, blueprint):
            return kind(blueprint)

    return Own


def returning(value):
    def aggregate(current, updates):
        return {name: value(tensor) for name, tensor in current.items()}

    return aggregate


def choosing(value):
    def choose(offers, count, rng):
        return value

    return choose


HERE = r"(?: \([^ ]+test_methods_watched\.py:\d+\))"
CASES = {
    "none": ({"method": NoState}, rf"NoState\.digest{HERE} returns None, not a State"),
    "dict": ({"method": PlainMapping}, rf"PlainMapping\.digest{HERE} returns a dict, not a State"),
    "frozen": ({"method": Frozen}, rf"Frozen\.digest{HERE} fails: .*: FrozenInstanceError"),
    "lost": ({"method": LosesOne}, rf"LosesOne\.digest{HERE} returns a State without 'head.fc.weight'"),
    "numpy state": ({"method": OfNumPy}, rf"OfNumPy\.digest{HERE} returns a NumPy array, not a torch.Tensor; torch.from_"),
    "offering": ({"method": OffersNothing}, rf"OffersNothing\.offering{HERE} returns None, not an Offering"),
    "trainee": ({"method": TrainsALayer}, rf"TrainsALayer\.trainee{HERE} returns a Linear, not a Trainee"),
    "payload": ({"method": SendsNothing}, rf"SendsNothing\.payload{HERE} returns None, not a Mapping"),
    "broken": ({"method": Broken}, rf"Broken\.trainee{HERE} fails: .*: RuntimeError: no trainee today"),
    "unmade": ({"method": Unmade}, rf"Unmade\.trainee{HERE} fails: AttributeError"),
    "nameless": ({"method": Nameless}, r"Nameless\.submodels is \(\); name what devices train"),
    "text": ({"method": OneText}, r"OneText\.submodels is 'full'; name what devices train"),
    "empty": ({"method": Empty}, r"Empty\.submodels is not there; name what devices train"),
    "names": ({"method": OnlyNames}, rf"OnlyNames\.\w+{HERE} is missing, and every method needs it"),
    "loss": ({"method": trained_as(LossAlone)}, rf"LossAlone\.loss{HERE} returns a Tensor; return a tensor of one"),
    "losses": ({"method": trained_as(LossOfEach)}, rf"LossOfEach\.loss{HERE} returns a loss of shape \(\d+, 3\)"),
    "detached": ({"method": trained_as(LossDetached)}, rf"LossDetached\.loss{HERE} returns a loss that has no gradient"),
    "no loss": ({"method": trained_as(LossOfNone)}, rf"LossOfNone\.loss{HERE} returns None"),
    "arrays": ({"method": returning(lambda each: each.numpy())}, "method aggregate returns a NumPy array, not a torch.Tensor"),
    "shape": ({"method": returning(lambda each: each[:1])}, r"returns a tensor of shape \(1, 5\), not \(3, 5\), for"),
    "meta": ({"method": returning(lambda each: each.to("meta"))}, "on meta, not one of plain numbers, for 'head"),
    "complex": ({"method": returning(lambda each: each + 1j)}, "a tensor of torch.complex64 and .*, not one of plain"),
    "chosen none": ({"selector": choosing(None)}, "selection choose returned nothing; it must return a list or an array"),
    "chosen set": ({"selector": choosing({0, 1})}, "selection choose returned one set; it must return a list"),
    "chosen one": ({"selector": choosing(0)}, "selection choose returned one int; it must return a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_wrong_thing_is_told_with_the_class_and_what_it_should_be(name):
    values, said = CASES[name]
    with pytest.raises(NeuliteError, match=said):
        neulite_sim.simulate(FLEET, data=DATA, **values)


def test_a_watched_method_travels_and_stays_watched():
    class Own(FedAvg):
        def payload(self, state, submodel):
            return None

    found = Found(value=Own, name="Own", key="method")
    setting = Setting(num_blocks=1, num_devices=4, max_rounds=1, seed=0)
    there = unpacked(packed(method_of(found, Options(), setting), ()))
    with pytest.raises(SimulationError, match=r"Own\.payload.* returns None, not a Mapping"):
        there.payload(State(version=0, tensors={}), "full")
    assert copy.deepcopy(there).digest._method is not there


class Right(FedAvg):
    def digest(self, state, updates):
        return super().digest(state, updates)


@pytest.mark.parametrize("value", [Right, Right()])
def test_a_right_one_computes_what_it_computes_unwatched(value):
    found, usual = (neulite_sim.simulate(FLEET, data=DATA, method=method) if method else
                    neulite_sim.simulate(FLEET, data=DATA) for method in (value, None))  # fmt: skip
    assert found.rounds[0]["test_accuracy"] == usual.rounds[0]["test_accuracy"]
    assert found.rounds[0]["train_loss"] == usual.rounds[0]["train_loss"]
