"""Own networks under NeuLite with a memory wall: every stage trains, and the loss falls."""

import functools

import pytest
from given_models import HANDED_OVER, Mlp, SmallResNet, digits_net, with_given
from tiny_scenarios import TINY
from torch import nn

from neulite_sim import registry
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.scenario.loading import parse_scenario


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(registry, "_entry_points", with_given(registry._entry_points))
    monkeypatch.setitem(HANDED_OVER, "residual", SmallResNet(4))
    monkeypatch.setitem(HANDED_OVER, "mlp", functools.partial(Mlp, features=64))
    monkeypatch.setitem(HANDED_OVER, "wide", digits_net)


def scenario(*overrides, model="residual", method="neulite"):
    memory = {"kind": "uniform", "low": "10MB", "high": "20MB"}
    changed = {
        **TINY,
        "data": {"kind": "digits", "train_samples": 240, "test_samples": 60, "partition": "iid"},
        "model": {"kind": "handed-over", "name": model},
        "method": method,
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.05},
        "population": {**TINY["population"], "available_memory": memory},
        "backend": "inprocess",
    }
    return parse_scenario(changed, overrides)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["residual", "mlp"])
def test_every_stage_of_an_own_network_trains_and_its_loss_falls(model, tmp_path):
    chosen = scenario("stop.rounds=8", "evaluation.every_rounds=8", model=model)
    result = simulate(chosen, out=tmp_path / "run")
    by_stage = {}
    for flight in result.flights:
        by_stage.setdefault(flight["submodel"], []).append(flight["loss"])
    num_stages = {"residual": 4, "mlp": 3}[model]
    assert len(by_stage) == num_stages
    for losses in by_stage.values():
        half = len(losses) // 2
        assert sum(losses[half:]) / (len(losses) - half) < sum(losses[:half]) / half


@pytest.mark.slow
def test_behind_a_memory_wall_a_stage_fits_where_the_full_model_does_not():
    peaks = {name: found.peak_memory_bytes for name, found in assemble(scenario()).ledger.profiles.items()}
    least = min(peaks, key=peaks.get)
    assert peaks[least] < peaks["full"]
    wall = (peaks[least] + peaks["full"]) // 2
    ledger = assemble(scenario(f"population.available_memory={{kind: uniform, low: {wall}, high: {wall}}}")).ledger
    assert ledger.fits(least).all()
    assert not ledger.fits("full").any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedavg", "progfed", "depthfl", "cocofl", "fedepth", "profl", "partial-variables"])
def test_other_methods_train_its_blocks_too(method, tmp_path):
    options = {"depthfl": "method={kind: depthfl, classifier: linear}"}.get(method, f"method={method}")
    result = simulate(scenario(options, "stop.rounds=2", "data.train_samples=60"), out=tmp_path / "run")
    assert result.summary["flights_arrived"] > 0


@pytest.mark.slow
def test_a_model_of_one_width_is_refused_where_several_are_wanted_and_told_how_to_have_them():
    with pytest.raises(ScenarioError, match="method heterofl trains handed-over at several widths, but no width makes "
                                            "it thinner; SmallResNet has one width; give a function with a parameter "
                                            "width, or a method that needs one width"):  # fmt: skip
        assemble(scenario(method="heterofl"))
    with pytest.raises(
        ScenarioError, match=r"proxy\.width: 0\.5 leaves handed-over as it is; SmallResNet has one width"
    ):
        assemble(scenario("proxy.width=0.5"))


@pytest.mark.slow
def test_a_function_with_a_width_is_trained_at_several(tmp_path):
    result = simulate(scenario("stop.rounds=2", model="wide", method="heterofl"), out=tmp_path / "run")
    assert result.summary["flights_arrived"] > 0


def test_what_a_model_says_of_itself_is_said_by_the_run():
    network = HANDED_OVER["mlp"]
    HANDED_OVER["mlp"] = functools.partial(_with_softmax, network)
    said = assemble(scenario(model="mlp")).left_out
    assert any("ends in a softmax, but cross-entropy expects logits" in sentence for sentence in said)


def _with_softmax(network, num_classes):
    return nn.Sequential(network(num_classes=num_classes), nn.Softmax(dim=1))
