"""Co-adaptation of NeuLite part by part: the co-trained tail and the surrogates, alone and together."""

import pytest
import torch
import yaml
from pydantic import ValidationError
from thin_models import TOY, blueprint, method
from tiny_scenarios import tiny

from neulite_sim.engine import assembly
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.conformance import check_method
from neulite_sim.methods.contract import Setting
from neulite_sim.methods.neulite import NeuLiteOptions
from neulite_sim.registry import component
from neulite_sim.scenario.loading import dump_scenario, parse_scenario, scenario_hash

SURROGATES = ("none", "conv", "conv-bn-relu")
TAILS = (False, True, 2)
OTHERS = {"vgg11_bn": (3, 32, 32), "squeezenet": (3, 32, 32), "vit": (3, 48, 48)}


def thin(kind):
    return blueprint(kind, OTHERS.get(kind, (3, 16, 16)), width=0.0625)


def co_trained(kind, stage, **options):
    """Which parameters of the block before a stage are trained with it, and which of earlier ones."""
    trainee = method("neulite", **options).trainee(f"stage-{stage}", thin(kind))
    prefix = f"blocks.{stage - 2}."
    trained = {name for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    assert not [name for name in trained if name.startswith("blocks.0.")] or stage == 2
    return {name.removeprefix(prefix).rsplit(".", 1)[0] for name in trained if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (False, set()),
        (True, {"layer1.conv2", "layer1.bn2"}),
        (2, {"layer1.conv1", "layer1.bn1", "layer1.conv2", "layer1.bn2"}),
        (3, {"layer0.conv2", "layer0.bn2", "layer1.conv1", "layer1.bn1", "layer1.conv2", "layer1.bn2"}),
    ],
)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_tail_is_the_last_layers_of_the_block_before_whatever_the_surrogate(tail, expected, surrogate):
    """A convolution and its BatchNorm are one layer of a ResNet. Two stages: `thin_models` says two blocks."""
    options = {} if tail or surrogate != "none" else {"coadaptation": False}
    given = options or {"tail": tail, "surrogate": surrogate}
    assert co_trained("resnet18", 2, **given) == expected


@pytest.mark.parametrize(
    ("kind", "last", "last_two"),
    [
        ("cnn", {"conv2"}, {"conv1", "conv2"}),
        ("lenet", {"conv"}, {"conv"}),
        ("vgg11_bn", {"conv2", "bn2"}, {"conv1", "bn1", "conv2", "bn2"}),
        ("squeezenet", {"fire4.expand1x1", "fire4.expand3x3"},
         {"fire4.squeeze", "fire4.expand1x1", "fire4.expand3x3"}),
    ],
)  # fmt: skip
def test_layers_side_by_side_are_one_and_a_shorter_block_is_trained_whole(kind, last, last_two):
    assert co_trained(kind, 2, tail=True) == last
    assert co_trained(kind, 2, tail=2) == last_two


def test_of_a_transformer_a_layer_is_an_encoder():
    assert {name.split(".")[0] for name in co_trained("vit", 2, tail=2)} == {"layer2", "layer3"}


def test_a_tail_of_all_layers_is_the_block_before_with_its_stem_and_shortcuts():
    for kind in ("resnet18", "squeezenet", "vit", "vgg11_bn", "cnn"):
        model = thin(kind).build_meta()
        with torch.device("meta"):
            trainee = method("neulite", tail=99).trainee("stage-2", thin(kind))
        assert all(parameter.requires_grad for parameter in trainee.parameters()), kind
        assert len(model.layers[0]) > 1


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("tail", [False, True])
def test_the_output_module_depends_on_the_surrogate_alone(surrogate, tail):
    output = method("neulite", tail=tail, surrogate=surrogate).trainee("stage-1", thin("lenet")).outputs["1"]
    names = [[name for name, _ in layer.named_children() if name != "pool"] for layer in output.surrogates]
    assert names == {"none": [], "conv": [["conv"]], "conv-bn-relu": [["conv", "bn", "relu"]]}[surrogate]


def test_both_off_is_coadaptation_off_and_both_on_is_coadaptation_on():
    off = NeuLiteOptions(coadaptation=False)
    assert (off.tail, off.surrogate) == (False, "none")
    assert off == NeuLiteOptions(tail=False, surrogate="none")
    assert off == NeuLiteOptions(coadaptation=False, tail=False, surrogate="none")
    assert NeuLiteOptions() == NeuLiteOptions(coadaptation=True, tail=1, surrogate="conv")
    assert NeuLiteOptions(tail=1).tail is True
    assert NeuLiteOptions(tail=0).tail is False


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_every_choice_survives_a_dump_and_has_one_hash(tail, surrogate):
    scenario = tiny(f"method={{kind: neulite, tail: {str(tail).lower()}, surrogate: {surrogate}}}")
    again = parse_scenario(yaml.safe_load(dump_scenario(scenario)))
    assert again == scenario
    assert scenario_hash(again) == scenario_hash(scenario)
    assert scenario.method.options.coadaptation is (bool(tail) or surrogate != "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coadaptation": False, "tail": True}, r"tail\n  acts only with coadaptation true, found true"),
        ({"coadaptation": False, "tail": 3}, r"tail\n  acts only with coadaptation true, found 3"),
        ({"coadaptation": False, "surrogate": "conv"}, r"surrogate\n  acts only with coadaptation true, found conv"),
        ({"coadaptation": False, "surrogate": "conv-bn-relu"}, "acts only with coadaptation true, found conv-bn-relu"),
        ({"coadaptation": True, "tail": False, "surrogate": "none"},
         r"coadaptation\n  is true, but tail is false and surrogate is none, which leaves nothing of it"),
        ({"surrogate": "none", "output_modules": "shared"}, "output_modules is 'shared' but surrogate is none"),
        ({"coadaptation": False, "output_modules": "shared"}, "'shared' but coadaptation is false"),
        ({"tail": -1}, "greater than or equal to 1"),
        ({"tail": 1.5}, "tail"),
        ({"surrogate": "encoder"}, "surrogate"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_both_keys(options, message):
    with pytest.raises(ValidationError, match=message):
        NeuLiteOptions(**options)


@pytest.mark.parametrize(
    ("model", "tail", "message"),
    [
        ("cnn", 3, "method.tail: is 3 layers, but blocks that come before another have 2 at most; use 1 to 2"),
        ("lenet", 2, "method.tail: is 2 layers, but blocks that come before another have 1 at most; use true"),
        ("logistic", 2, "method.tail: is 2 layers, but a model of one block has none before it; remove it"),
    ],
)
def test_a_tail_longer_than_every_block_is_refused_with_the_limit(model, tail, message):
    with pytest.raises(ScenarioError) as refused:
        assembly.prepare(tiny(f"model={model}", f"method={{kind: neulite, tail: {tail}}}"))
    assert message in str(refused.value)


def test_an_architecture_that_names_no_layers_has_the_tail_alone():
    assert TOY.build_meta().layers == ((), ())
    build = component("method", "neulite").build
    setting = Setting(num_blocks=2, num_layers=(1, 1), num_devices=1, max_rounds=1, seed=0)
    with pytest.raises(ScenarioError, match="is 2 layers, but blocks that come before another have 1 at most"):
        build(NeuLiteOptions(tail=2), setting)


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("tail", TAILS)
def test_every_combination_keeps_the_contract(tail, surrogate):
    found = component("method", "neulite")
    small = blueprint("cnn", (1, 8, 8), width=0.125, num_classes=3)
    check_method(found, small, found.options(tail=tail, surrogate=surrogate))


def test_coadaptation_true_starts_from_the_same_weights_as_before():
    """The switches draw nothing: a tail changes no initial weight."""
    states = [
        method("neulite", **options).start(blueprint("cnn"), 5, None).tensors
        for options in ({}, {"tail": False}, {"tail": 2})
    ]
    for other in states[1:]:
        assert states[0].keys() == other.keys()
        assert all(torch.equal(states[0][name], other[name]) for name in other)
