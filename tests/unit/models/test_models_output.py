"""Output modules: the published parameter counts of every stage, shapes, names and fresh weights."""

import pytest
import torch
from torch import nn

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.depth import auxiliary_classifier
from neulite_sim.methods.parted import make_link
from neulite_sim.models.cnn import cnn
from neulite_sim.models.contract import BlockModel
from neulite_sim.models.lenet import lenet
from neulite_sim.models.logistic import logistic
from neulite_sim.models.output import OutputModule, pooled_head, simplest_head
from neulite_sim.models.resnet import resnet
from neulite_sim.samples import InputSpec

CIFAR = (3, 32, 32)
LAYERS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def num_parameters(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture(scope="module", params=sorted(LAYERS))
def full_model(request):
    return request.param, resnet(CIFAR, 10, 1.0, layers=LAYERS[request.param])


DOWNLOAD = {
    "resnet18": [1_703_242, 2_155_082, 3_959_882, 11_173_962],
    "resnet34": [1_777_226, 2_819_914, 9_347_402, 21_282_122],
}
UPLOAD = {
    "resnet18": [1_703_242, 2_042_250, 3_432_202, 8_989_194],
    "resnet34": [1_777_226, 2_633_098, 8_154_890, 13_709_834],
}


def test_a_stage_holds_its_blocks_and_its_output_module(full_model):
    name, model = full_model
    totals = [num_parameters(*model.blocks[:stage], OutputModule(model, stage)) for stage in (1, 2, 3, 4)]
    assert totals == DOWNLOAD[name]


def test_a_stage_trains_its_block_the_tail_before_it_and_its_output_module(full_model):
    name, model = full_model
    trained = []
    for stage in (1, 2, 3, 4):
        parts = [model.blocks[stage - 1], OutputModule(model, stage)]
        if stage > 1:
            parts += [model.blocks[stage - 2].get_submodule(path) for path in model.tails[stage - 2]]
        trained.append(num_parameters(*parts))
    assert trained == UPLOAD[name]


def tiny_resnet(input_shape=CIFAR, num_classes=10):
    return resnet(input_shape, num_classes, 0.0625, layers=LAYERS["resnet18"])


def test_surrogates_of_resnet_are_strided_convolutions_without_bias():
    output = OutputModule(resnet(CIFAR, 10, 1.0, layers=LAYERS["resnet18"]), 1)
    assert [num_parameters(surrogate) for surrogate in output.surrogates] == [73_728, 294_912, 1_179_648]
    for surrogate in output.surrogates:
        assert [name for name, _ in surrogate.named_children()] == ["conv"]
        assert (surrogate.conv.kernel_size, surrogate.conv.stride, surrogate.conv.padding) == ((3, 3), (2, 2), (1, 1))
        assert surrogate.conv.bias is None


def test_the_last_stage_has_a_head_only():
    output = OutputModule(tiny_resnet(), 4)
    assert len(output.surrogates) == 0
    assert {name.split(".")[0] for name in output.state_dict()} == {"head"}


def test_surrogates_may_carry_batch_norm_and_relu():
    output = OutputModule(tiny_resnet(), 3, surrogate="conv-bn-relu")
    assert [type(layer) for layer in output.surrogates[0]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    _, final_map = output(torch.randn(2, 16, 8, 8))
    assert (final_map >= 0).all()


def test_names_of_the_parts():
    output = OutputModule(tiny_resnet(), 2, projection=True)
    assert {name.rsplit(".", 1)[0] for name in output.state_dict()} == {
        "surrogates.0.conv", "surrogates.1.conv", "head.fc", "projection.fc1", "projection.fc2", "projection.fc3"
    }  # fmt: skip


def test_projection_of_resnet18_is_512_2048_1024_512():
    """1,050,624 + 2,098,176 + 524,800; with the reference code's 2056 in place of 2048 it is 3,685,896."""
    model = resnet(CIFAR, 10, 1.0, layers=LAYERS["resnet18"])
    projection = OutputModule(model, 4, projection=True).projection
    by_hand = (512 * 2048 + 2048) + (2048 * 1024 + 1024) + (1024 * 512 + 512)
    assert num_parameters(projection) == by_hand == 3_673_600
    assert (512 * 2056 + 2056) + (2056 * 1024 + 1024) + (1024 * 512 + 512) == 3_685_896


def test_the_projection_is_linear_without_relu_and_not_with_it():
    torch.manual_seed(0)
    for relu in (False, True):
        output = OutputModule(tiny_resnet(), 4, projection=True, projection_relu=relu).double()
        maps = torch.randn(2, 3, 32, 4, 4, dtype=torch.float64)
        at_zero = output.project(torch.zeros(3, 32, 4, 4, dtype=torch.float64))
        parts = output.project(maps[0]) + output.project(maps[1]) - at_zero
        assert torch.allclose(output.project(maps[0] + maps[1]), parts) is not relu


def test_relu_stands_between_the_layers_of_the_projection_only():
    projection = OutputModule(tiny_resnet(), 4, projection=True, projection_relu=True).projection
    assert [name for name, _ in projection.named_children()] == ["fc1", "relu1", "fc2", "relu2", "fc3"]


def test_the_projection_sees_the_mean_over_pixels():
    output = OutputModule(tiny_resnet(), 4, projection=True)
    final_map = torch.randn(5, 32, 4, 4)
    expected = output.projection(torch.nn.functional.adaptive_avg_pool2d(final_map, 1).flatten(1))
    assert output.project(final_map).shape == (5, 32)
    torch.testing.assert_close(output.project(final_map), expected)


@pytest.mark.parametrize(
    "model",
    [tiny_resnet((1, 28, 28)), tiny_resnet((1, 5, 9)), cnn((3, 30, 28), 10, 0.5), lenet((1, 28, 28), 10, 1.0),
     logistic((1, 8, 8), 10, 1.0)],
    ids=["resnet28", "resnet5x9", "cnn30x28", "lenet28", "logistic"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["conv", "conv-bn-relu"])
def test_every_stage_ends_in_a_map_of_the_last_blocks_shape(model, kind):
    for stage in range(1, model.num_blocks + 1):
        output = OutputModule(model, stage, surrogate=kind)
        logits, final_map = output(torch.randn(3, *model.block_shapes[stage - 1]))
        assert logits.shape == (3, 10)
        assert final_map.shape == (3, *model.block_shapes[-1])


@pytest.mark.parametrize(
    ("model", "stride", "pooled"),
    [
        pytest.param(tiny_resnet((1, 28, 28)), 2, False, id="7 to 4"),
        pytest.param(cnn((1, 30, 30), 10, 1.0), 2, True, id="15 to 7"),
        pytest.param(lenet((1, 28, 28), 10, 1.0), 3, False, id="14 to 5"),
    ],
)
def test_strides_hit_the_blocks_shape_or_stay_above_it_and_are_pooled(model, stride, pooled):
    output = OutputModule(model, model.num_blocks - 1)
    assert output.surrogates[0].conv.stride == (stride, stride)
    assert hasattr(output.surrogates[0], "pool") is pooled


def test_the_head_has_the_models_structure_and_weights_of_its_own():
    torch.manual_seed(0)
    model = cnn((1, 8, 8), 7, 1.0)
    output = OutputModule(model, 2)
    for (name, ours), (model_name, theirs) in zip(
        output.head.named_parameters(), model.head.named_parameters(), strict=True
    ):
        assert (name, ours.shape) == (model_name, theirs.shape)
        assert not torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


def test_without_surrogates_the_given_head_reads_the_blocks_own_map():
    model = tiny_resnet()
    output = OutputModule(model, 2, head=pooled_head(8, 7), surrogate="none", projection=True)
    logits, final_map = output(torch.ones(3, *model.block_shapes[1]))
    assert (logits.shape, final_map.shape) == ((3, 7), (3, 8, 16, 16))
    assert output.project(final_map).shape == (3, 8)
    assert num_parameters(output.head) == 8 * 7 + 7


def test_a_given_head_is_kept_made_trainable_and_initialised():
    model = tiny_resnet().requires_grad_(False)
    nn.init.constant_(model.head.fc.weight, 9.0)
    output = OutputModule(model, 2, head=model.head)
    assert output.head is model.head
    assert output.head.fc.weight.requires_grad
    assert not (output.head.fc.weight == 9).any()


def test_a_copied_head_leaves_the_models_own_alone():
    model = tiny_resnet().requires_grad_(False)
    before = model.head.fc.weight.clone()
    assert OutputModule(model, 2).head is not model.head
    assert torch.equal(model.head.fc.weight, before)
    assert not model.head.fc.weight.requires_grad


def test_a_frozen_model_still_gets_a_trainable_output_module():
    output = OutputModule(tiny_resnet().requires_grad_(False), 2, projection=True)
    assert all(parameter.requires_grad for parameter in output.parameters())


def test_one_seed_gives_one_output_module():
    model = tiny_resnet()
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(OutputModule(model, 1, projection=True).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("stage", [0, 5])
def test_a_stage_the_model_does_not_have_is_a_programming_error(stage):
    with pytest.raises(AssertionError, match=f"stage {stage} of a model of 4 blocks"):
        OutputModule(tiny_resnet(), stage)


def chain(*shapes):
    """Return a chain of blocks that put out maps of these shapes; its output modules look at nothing else."""
    return BlockModel(
        [nn.Identity() for _ in shapes], nn.Flatten(), tails=tuple(() for _ in shapes), block_shapes=shapes
    )


@pytest.mark.parametrize("kind", ["conv", "conv-bn-relu"])
@pytest.mark.parametrize("after", range(1, 10))
def test_a_surrogate_hits_any_shape_from_any_other_be_it_larger_or_smaller(kind, after):
    for before in range(1, 10):
        model = chain((1, before, after), (2, after, before))
        surrogate = OutputModule(model, 1, surrogate=kind).surrogates[0]
        strides = [max(s for s in range(1, one + 1) if s == 1 or -(-one // s) >= other)
                   for one, other in ((before, after), (after, before))]  # fmt: skip
        exact = [next((s for s in range(1, one + 1) if -(-one // s) == other), None)
                 for one, other in ((before, after), (after, before))]  # fmt: skip
        wanted = [at_most if hit is None else hit for hit, at_most in zip(exact, strides, strict=True)]
        assert list(surrogate.conv.stride) == wanted
        assert surrogate(torch.randn(2, 1, before, after)).shape == (2, 2, after, before)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_empty_map_is_refused_by_whatever_would_read_it(stage):
    model = chain((2, 4, 4), (2, 0, 4), (3, 4, 4))
    message = (
        "model: a block puts out maps of shape (2, 0, 4), which hold nothing: no layer or head can stand on them; let "
        "its layers leave at least one place, or choose a method that trains the full model"
    )
    spec = InputSpec(shape=(1, 8, 8), num_classes=3)
    refusing = [
        lambda: OutputModule(model, stage),
        lambda: simplest_head(model.block_shapes[1], spec),
        lambda: make_link(model, 2, "pad"),
        lambda: auxiliary_classifier(model, 2, "attention", spec),
    ]
    for build in refusing if stage < 3 else refusing[1:]:
        with pytest.raises(ScenarioError) as refusal:
            build()
        assert str(refusal.value) == message


def test_attention_says_which_maps_are_not_those_of_images():
    model, spec = chain((2, 4, 4), (8,), (3, 4, 4)), InputSpec(shape=(1, 8, 8), num_classes=3)
    with pytest.raises(
        ScenarioError, match=r"attention looks at maps of images, and a block puts out \(8,\); use linea"
    ):
        auxiliary_classifier(model, 1, "attention", spec)
