"""`vit`: parameters by hand, attention against PyTorch's own, width by leading channels of heads, output modules."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Setting
from neulite_sim.methods.neulite import COMPONENT as NEULITE
from neulite_sim.methods.width import layout
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.output import OutputModule
from neulite_sim.models.trainee import FullModel
from neulite_sim.models.vit import COMPONENT, Attention, Encoder, Encoders
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training

CIFAR = (3, 32, 32)


def build(shape=CIFAR, classes=10, width=1.0, **options):
    return COMPONENT.build(COMPONENT.options(**options))(shape, classes, width)


def meta(shape=CIFAR, classes=10, width=1.0, **options):
    with torch.device("meta"):
        return build(shape, classes, width, **options)


SMALL = {"patch": 8, "dim": 12, "heads": 3, "depth": 3}


def num_parameters(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def encoder_parameters(dim, hidden):
    """Two LayerNorms, four square layers of the attention, two of the MLP, all with bias."""
    return 2 * 2 * dim + 4 * (dim * dim + dim) + (dim * hidden + hidden) + (hidden * dim + dim)


def test_it_is_registered_under_its_name():
    assert component("model", "vit") is COMPONENT


@pytest.mark.parametrize(
    ("preset", "side", "patch", "dim", "grid"), [("cifar", 32, 4, 192, 8), ("mini-imagenet", 84, 12, 384, 7)]
)
def test_parameters_of_the_presets(preset, side, patch, dim, grid):
    model = meta((3, side, side), preset=preset)
    assert model.block_shapes == ((dim, grid, grid),) * 3
    encoder = encoder_parameters(dim, 4 * dim)
    stem = 3 * patch**2 * dim + dim + dim * grid**2
    assert [num_parameters(block) for block in model.blocks] == [stem + 4 * encoder, 4 * encoder, 4 * encoder]
    assert num_parameters(model.head) == 2 * dim + dim * 10 + 10


def test_an_encoder_has_as_many_parameters_as_pytorchs():
    theirs = nn.TransformerEncoderLayer(12, 3, 48, norm_first=True)
    assert num_parameters(Encoder(12, 3, 48)) == num_parameters(theirs) == encoder_parameters(12, 48)


def by_head(weight):
    """Reorder rows from "head fastest" to "head slowest", the order of PyTorch's attention, for 3 heads."""
    return weight.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)


def test_attention_is_pytorchs_with_the_channels_in_another_order():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    layers = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([by_head(layer.weight) for layer in layers]))
        theirs.in_proj_bias.copy_(torch.cat([by_head(layer.bias) for layer in layers]))
        theirs.out_proj.weight.copy_(by_head(ours.out.weight.T).T)
        theirs.out_proj.bias.copy_(ours.out.bias)
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens, need_weights=False)[0])


def test_a_thin_model_holds_the_leading_channels_of_every_head():
    """12 channels in 3 heads, interleaved: at half the width each head keeps the first two of its four."""
    plan = Blueprint(architecture=COMPONENT.build(COMPONENT.options(**SMALL)), input_shape=CIFAR, num_classes=10)
    tensors = plan.build().state_dict()
    thin = layout(plan, {"half": 0.5}).taken(tensors, "half")
    plan.at_width(0.5).build().load_state_dict(thin)
    for name, tensor in thin.items():
        leading = tuple(slice(size) for size in tensor.shape)
        torch.testing.assert_close(tensor, tensors[name][leading], msg=name)
    full, half = Attention(12, 3), Attention(6, 3)
    channels = torch.arange(12.0).view(1, 1, 12)
    torch.testing.assert_close(full._by_head(channels)[..., :2], half._by_head(channels[..., :6]))


def test_width_keeps_the_heads():
    model = meta(width=0.3)
    # ceil(0.3 * 64) = 20 channels in each of 3 heads.
    assert model.block_shapes[0] == (60, 8, 8)
    assert model.blocks[1].layer0.attention.heads == 3
    assert model.blocks[1].layer0.fc1.out_features == 231


def test_tokens_lie_where_their_patches_lie():
    model = build((3, 16, 24), **SMALL)
    assert model.block_shapes[0] == (12, 2, 3)
    stem = model.blocks[0].stem
    nn.init.zeros_(stem.position.embedding)
    images = torch.zeros(1, 3, 16, 24)
    images[:, :, 8:, 16:] = 1
    tokens = stem(images) - stem.conv.bias[:, None, None]
    assert tokens.abs().sum(1)[0].gt(1e-6).tolist() == [[False, False, False], [False, False, True]]


def test_encoders_know_no_order_of_places_but_every_place_sees_every_other():
    torch.manual_seed(0)
    encoders = Encoders(6, depth=2, heads=2, hidden=8)
    maps = torch.randn(1, 6, 2, 3)
    torch.testing.assert_close(encoders(maps)[..., [2, 1, 0]], encoders(maps[..., [2, 1, 0]]))
    other = maps.clone()
    other[:, :2, 0, 0] += 1
    assert ((encoders(other) - encoders(maps)).abs().amax(dim=1) > 1e-6).all()


def test_positions_start_with_a_deviation_of_two_hundredths_in_the_finished_model():
    torch.manual_seed(0)
    positions = build(**SMALL | {"dim": 384}).blocks[0].stem.position.embedding
    # 6144 values: the estimate is good to about 1 per cent.
    assert positions.std().item() == pytest.approx(0.02, rel=0.05)


def test_a_later_block_is_replaced_by_one_encoder():
    model = build(**SMALL)
    for stage in (1, 2, 3):
        output = OutputModule(model, stage)
        encoder = encoder_parameters(12, 48)
        assert [num_parameters(surrogate) for surrogate in output.surrogates] == [encoder] * (3 - stage)
        logits, final_map = output(torch.randn(2, 12, 4, 4))
        assert (logits.shape, final_map.shape) == ((2, 10), (2, 12, 4, 4))
    assert len(OutputModule(model, 1, surrogate="none").surrogates) == 0


def test_the_tail_is_the_last_encoder_of_a_block():
    model = meta(depth=12)
    assert model.tails == (("layer3",),) * 3
    assert isinstance(model.blocks[0].get_submodule("layer3"), Encoder)


def test_a_patch_that_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(ScenarioError, match=r"patches of 4x4, which do not fit the input of 1x28x30; .* 28 and 30"):
        build((1, 28, 30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 100}, "100 is not a multiple of the 3 heads; use 99"),
        ({"heads": 500}, "192 is not a multiple of the 500 heads"),
        ({"depth": 10}, "multiple of 3"),
        ({"patch": 0}, "greater than or equal to 1"),
        (
            {"preset": "mini-imagenet", "patch": 4, "dim": 12, "heads": 3},
            "acts only with patch, dim or heads left to it, found mini-imagenet; remove it",
        ),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        COMPONENT.options(**options)


@pytest.mark.slow
def test_neulite_stages_cost_what_they_must_in_encoders():
    """In forward passes of an encoder, a backward pass being 2, the full model of two encoders a block costs 6 * 3.

    Stage 1 trains a block and two encoders that stand for the others, 4 * 3. Stage 2: a frozen forward pass of 2,
    gradients of the tail before it (2), its block and one encoder (3 * 3). Stage 3: 4 + 2 + 2 * 3. Kept for the
    backward pass are the maps of 4, 4 and 3 of 6 encoders. (With 12 encoders: 6, 6 and 5 of 12.)
    """
    plan = Blueprint(
        architecture=COMPONENT.build(COMPONENT.options(dim=48, depth=6)), input_shape=CIFAR, num_classes=10
    )
    neulite = NEULITE.build(
        NEULITE.options(curriculum=False), Setting(num_blocks=3, num_devices=1, max_rounds=1, seed=0)
    )
    training = Training(epochs=1, batch_size=16)
    profiles = [
        profile(name, lambda name=name: neulite.trainee(name, plan) if name else FullModel(plan),
                input_shape=CIFAR, batch_size=16, training=training)
        for name in ("", *neulite.submodels)
    ]  # fmt: skip
    flops = [found.flops_per_step / profiles[0].flops_per_step for found in profiles[1:]]
    assert flops == pytest.approx([12 / 18, 13 / 18, 12 / 18], rel=0.01)
    kept = [found.memory.activations / profiles[0].memory.activations for found in profiles[1:]]
    assert kept == pytest.approx([4 / 6, 4 / 6, 3 / 6], abs=0.03)
