"""What assembly hands to components beyond their options: natural groups to a partition, the name to torchvision."""

import json

import pytest

from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.scenario.schema import Scenario

SYNTHETIC = {"kind": "synthetic", "shape": [3, 8, 8], "classes": 2, "samples": 24, "test_samples": 6}


def scenario(data, model, *, devices=2, method="fedavg", backend="dry-run"):
    return Scenario.model_validate(
        {
            "name": "arguments",
            "data": data,
            "model": model,
            "training": {"epochs": 1, "batch_size": 6, "learning_rate": 0.01},
            "population": {
                "devices": devices,
                "groups": [{"device": "jetson-nano-4gb", "share": 1.0}],
                "available_memory": {"kind": "installed", "share": 0.9},
            },
            "method": {"kind": method},
            "selection": {"kind": "uniform", "devices_per_round": 2},
            "stop": {"rounds": 1},
            "backend": {"kind": backend},
        }
    )


@pytest.fixture
def femnist(tmp_path):
    for part in ("train", "test"):
        data = {f"f{user}": {"x": [[0.5] * 784] * (user + 1), "y": [user] * (user + 1)} for user in range(4)}
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.json").write_text(json.dumps({"users": list(data), "user_data": data}))
    return {"kind": "femnist", "root": str(tmp_path), "partition": "natural"}


def test_writers_become_devices(femnist):
    parts = prepare(scenario(femnist, {"kind": "logistic"}, devices=3))
    labels = [set(parts.dataset.train_labels[parts.partition.of(device)]) for device in range(3)]
    assert all(len(owned) == 1 for owned in labels)
    assert len(set.union(*labels)) == 3


def test_more_devices_than_writers_are_refused(femnist):
    with pytest.raises(ScenarioError, match=r"population.devices: 5 is more than the 4 natural groups of the 10"):
        prepare(scenario(femnist, {"kind": "logistic"}, devices=5))


def test_natural_is_refused_for_a_dataset_without_groups():
    with pytest.raises(ScenarioError, match=r"data.partition: natural needs a dataset that knows the owner"):
        prepare(scenario(SYNTHETIC | {"partition": "natural"}, {"kind": "logistic"}))


def test_torchvision_gets_its_name():
    data = SYNTHETIC | {"shape": [3, 24, 24]}
    parts = prepare(scenario(data, {"kind": "torchvision:squeezenet1_1"}))
    model = parts.charged.build_meta()
    assert model.num_blocks == 3
    assert {"blocks.0.features_0.0.weight", "head.classifier.1.weight"} <= model.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "method"),
    [({"kind": "vit", "patch": 4, "dim": 6, "heads": 2, "depth": 3}, "neulite"), ({"kind": "squeezenet"}, "heterofl")],
    ids=["vit", "squeezenet"],
)
def test_the_new_models_train_in_parts(model, method):
    result = simulate(scenario(SYNTHETIC, model, method=method, backend="inprocess"))
    assert len(result.rounds) == 1
