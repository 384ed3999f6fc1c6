"""Updates that become one weighted mean per submodel and version."""

import pickle
from dataclasses import replace

import pytest
import torch

from neulite_sim.errors import SimulationError
from neulite_sim.methods.aggregation import weighted_mean
from neulite_sim.methods.contract import FoldOrder, State, Update
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.methods.folding import Fold, weighting_of

GENERATOR = torch.Generator().manual_seed(1)


def update(device, submodel="full", version=3, names=("w",)):
    tensors = {name: torch.randn(4, generator=GENERATOR) for name in names}
    return Update(device=device, submodel=submodel, num_samples=10 + device, tensors=tensors, loss=1.0, version=version)


UPDATES = [
    *(update(device) for device in range(4)),
    *(update(device, "half", names=("v", "w")) for device in range(4, 7)),
    update(7, version=2),
]


def folded(weighting, *parts):
    order = FoldOrder(number=1, weighting=weighting, most_weight=sum(int(item.weight(weighting)) for item in UPDATES))
    folds = []
    for part in parts:
        folds.append(Fold(order))
        for item in part:
            folds[-1].add(item)
    whole = folds.pop()
    for fold in folds:
        whole.merge(pickle.loads(pickle.dumps(fold)))
    return whole


@pytest.mark.parametrize("weighting", ["samples", "uniform"])
def test_each_submodel_and_version_becomes_its_mean(weighting):
    fold = folded(weighting, UPDATES)
    assert fold.num_updates == len(UPDATES)
    found = {(item.submodel, item.version): item for item in fold.updates()}
    assert list(found) == [("full", 2), ("full", 3), ("half", 3)]
    for (submodel, version), item in found.items():
        own = [each for each in UPDATES if (each.submodel, each.version) == (submodel, version)]
        assert item.num_updates == len(own)
        assert item.num_samples == sum(each.num_samples for each in own)
        for name, tensor in weighted_mean(own, weighting).items():
            torch.testing.assert_close(item.tensors[name].float(), tensor, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weighting", ["samples", "uniform"])
def test_a_mean_over_means_is_the_mean_over_all(weighting):
    found = weighted_mean(folded(weighting, UPDATES).updates(), weighting)
    for name, tensor in weighted_mean(UPDATES, weighting).items():
        torch.testing.assert_close(found[name].float(), tensor, rtol=1e-6, atol=1e-9)


def test_who_folded_what_leaves_no_trace():
    whole = folded("samples", UPDATES).updates()
    parted = folded("samples", UPDATES[5:], UPDATES[:2], [], UPDATES[4:1:-1]).updates()
    for one, other in zip(whole, parted, strict=True):
        assert replace(one, tensors={}, loss=0.0) == replace(other, tensors={}, loss=0.0)
        assert all(torch.equal(one.tensors[name], tensor) for name, tensor in other.tensors.items())


def test_an_update_comes_back_without_its_tensors():
    assert folded("samples", []).add(UPDATES[0]) == replace(UPDATES[0], tensors={})


def test_updates_of_a_submodel_that_hold_different_tensors_are_refused():
    message = (
        r"^the update of device 9 \(full\) and one before it differ in what they hold: v; a method that folds "
        r"\(Method\.folds_by\) uploads the same tensors of a submodel always$"
    )
    with pytest.raises(SimulationError, match=message):
        folded("samples", UPDATES[:4]).add(update(9, names=("v", "w")))
    other_shape = replace(UPDATES[0], device=9, tensors={"w": torch.ones(3)})
    with pytest.raises(SimulationError, match=r"device 9 .* differ in what they hold: w; "):
        folded("samples", UPDATES[:4]).add(other_shape)


class Median(FedAvg):
    """What a plug-in written before there was folding may be: it wants to see every update."""

    def digest(self, state, updates):
        tensors = {"w": torch.stack([item.tensors["w"] for item in updates]).median(dim=0).values}
        return State(version=state.version + 1, tensors=tensors)


class Trimmed(Median):
    """One that is content with means after all."""

    folds_by = "uniform"


@pytest.mark.parametrize(("kind", "wanted"), [(FedAvg, "samples"), (Median, None), (Trimmed, "uniform")])
def test_folding_holds_for_the_digest_that_it_was_said_of(kind, wanted):
    assert weighting_of(kind(memory_limit=True, weighting="samples")) == wanted
