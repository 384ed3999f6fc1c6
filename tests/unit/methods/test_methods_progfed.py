"""ProgFed: sizes, schedule, heads, warm-up, and what happens when the full model fits nobody."""

import pytest
import torch
from pydantic import ValidationError

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError, SimulationError
from neulite_sim.methods.contract import Setting, Update
from neulite_sim.methods.progfed import ProgFedOptions, growth_schedule
from neulite_sim.models.contract import Blueprint
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Scenario

SIZES = {"grow-1": 156_324, "grow-2": 688_292, "grow-3": 2_800_804, "full": 11_220_132}


def blueprint(width=0.0625, shape=(1, 16, 16), classes=10):
    found = component("model", "resnet18")
    return Blueprint(architecture=found.build(found.options()), input_shape=shape, num_classes=classes, width=width)


def progfed(rounds=16, **options):
    setting = Setting(num_blocks=4, num_devices=4, max_rounds=rounds, seed=3)
    return component("method", "progfed").build(ProgFedOptions(**options), setting)


def submodels_of(method, rounds):
    return [method.submodel_at(version) for version in range(rounds)]


def trained(method, state, submodel, amount, samples=1):
    names = method.trainee(submodel, blueprint()).upload_names()
    payload = method.payload(state, submodel)
    tensors = {name: payload[name] + amount for name in names}
    return Update(device=0, submodel=submodel, num_samples=samples, tensors=tensors, loss=0.0)


def changed(before, after):
    return {name for name in before.tensors if not torch.equal(before.tensors[name], after.tensors[name])}


def test_submodels_of_resnet18_have_the_published_sizes():
    with torch.device("meta"):
        method = progfed()
        models = {name: method.trainee(name, blueprint(1.0, (3, 32, 32), 100)) for name in method.submodels}
    assert {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()} == SIZES


def test_the_traffic_of_3000_rounds_is_two_thirds_of_end_to_end_training():
    method = progfed(rounds=3000)
    assert method.growth_rounds == (375, 750, 1125)
    sent = sum(SIZES[submodel] for submodel in submodels_of(method, 3000))
    assert sent / (3000 * SIZES["full"]) == pytest.approx(0.66561, abs=5e-6)


def test_the_network_grows_after_the_last_round_of_a_stage():
    method = progfed(rounds=3000)
    seen = submodels_of(method, 1126)
    assert [seen[375 * stage - 1] for stage in (1, 2, 3)] == ["grow-1", "grow-2", "grow-3"]
    assert [seen[375 * stage] for stage in (1, 2, 3)] == ["grow-2", "grow-3", "full"]


def test_short_runs_give_every_stage_a_round():
    assert growth_schedule(4, 4) == (1, 2, 3)
    assert growth_schedule(20, 4) == (2, 5, 7)
    assert growth_schedule(10, 1) == ()


def test_growth_rounds_can_be_given():
    assert submodels_of(progfed(growth_rounds=(1, 3, 4)), 6) == ["grow-1", "grow-2", "grow-2", "grow-3", "full", "full"]


def test_after_a_growth_the_warm_up_trains_the_newest_block_and_the_head():
    method = progfed(growth_rounds=(2, 4, 6), warmup_rounds=1)
    assert submodels_of(method, 8) == [
        "grow-1", "grow-1", "grow-2-warmup", "grow-2", "grow-3-warmup", "grow-3", "full-warmup", "full",
    ]  # fmt: skip
    warm = method.trainee("grow-3-warmup", blueprint())
    trainable = {name.split(".")[0] + "." + name.split(".")[1] for name in warm.upload_names()}
    assert trainable == {"blocks.2", "heads.3"}
    assert set(method.trainee("full-warmup", blueprint()).upload_names()) < set(
        method.trainee("full", blueprint()).upload_names()
    )


def test_all_blocks_that_are_there_train_and_the_head_of_a_stage_is_its_own():
    method = progfed(growth_rounds=(1, 2, 3))
    state = method.start(blueprint(), 0, None)
    first = method.digest(state, [trained(method, state, "grow-1", 1.0)])
    second = method.digest(first, [trained(method, first, "grow-2", 1.0)])
    assert {name.rsplit(".", 1)[0] for name in changed(state, first) if "heads" in name} == {"heads.1.2"}
    grown = changed(first, second)
    assert any(name.startswith("blocks.0.") for name in grown)
    assert any(name.startswith("blocks.1.") for name in grown)
    assert {name for name in grown if "head" in name} == {"heads.2.2.weight", "heads.2.2.bias"}


def test_the_test_is_of_the_stage_that_was_trained_last():
    method = progfed(growth_rounds=(2, 4, 6), warmup_rounds=1)
    state = method.start(blueprint(), 0, None)
    tested = []
    for _ in range(8):
        state = method.digest(state, [])
        tested.append(method.evaluated(state))
        model = method.evaluation_model(tested[-1], blueprint())
        wanted = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        assert method.evaluation_tensors(state).keys() == wanted
    assert tested == ["grow-1", "grow-1", "grow-2", "grow-2", "grow-3", "grow-3", "full", "full"]


def test_the_whole_model_has_the_logits_of_the_model_itself():
    method = progfed()
    state = method.start(blueprint(), 0, None)
    grown, plain = method.evaluation_model("full", blueprint()), blueprint().build()
    for model in (grown, plain):
        model.load_state_dict(method.payload(state, "full"), strict=False)
        model.eval()
    images = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(grown(images), plain(images))


def test_aggregation_weighs_by_samples_or_alike():
    for weighting, expected in (("samples", 1.75), ("uniform", 1.5)):
        method = progfed(weighting=weighting)
        state = method.start(blueprint(), 0, None)
        updates = [trained(method, state, "grow-1", 1.0, 100), trained(method, state, "grow-1", 2.0, 300)]
        difference = method.digest(state, updates).tensors["heads.1.2.bias"] - state.tensors["heads.1.2.bias"]
        torch.testing.assert_close(difference, torch.full_like(difference, expected))


def scenario(memory, **method):
    return Scenario.model_validate(
        {
            "name": "growth",
            "data": {"kind": "synthetic", "shape": [1, 8, 8], "classes": 2, "samples": 32, "test_samples": 8},
            "model": {"kind": "lenet"},
            "training": {"epochs": 1, "batch_size": 8},
            "population": {
                "devices": 2,
                "groups": [{"device": "jetson-nano-4gb", "share": 1.0}],
                "available_memory": {"kind": "explicit", "values": [memory, memory]},
            },
            "method": {"kind": "progfed", **method},
            "selection": {"kind": "uniform", "devices_per_round": 2},
            "stop": {"rounds": 4},
            "backend": {"kind": "dry-run"},
        }
    )


def test_a_fleet_without_room_for_the_full_model_is_told_when_growth_gets_there():
    with pytest.raises(SimulationError, match=r"round 2, full\): 2 devices denied: not enough memory for full, 585"):
        simulate(scenario(600_000))


def test_staying_below_the_full_model_is_a_matter_of_the_schedule():
    result = simulate(scenario(600_000, growth_rounds=[4]))
    assert {row["stage"] for row in result.rounds} == {"grow-1"}


def test_growth_rounds_that_do_not_suit_the_model_are_refused():
    with pytest.raises(ScenarioError, match="has 2 rounds, but a model of 4 blocks grows 3 times"):
        progfed(growth_rounds=(1, 2))


def test_growth_rounds_that_fall_are_refused():
    with pytest.raises(ValidationError, match="must rise from 1 on, but 3 follows 3"):
        ProgFedOptions(growth_rounds=(3, 3))
    with pytest.raises(ValidationError, match="but 0 follows 0"):
        ProgFedOptions(growth_rounds=(0,))
