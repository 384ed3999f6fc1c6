"""Slices of the global model: index sets, flattened maps, the function they compute, and means over what overlaps."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from thin_models import CONV1, CONV2, HEAD, HEAD_BIAS, TOY, blueprint
from torch import nn

from neulite_sim.methods.dimension import Dimension, window
from neulite_sim.methods.rates import LEVELS, Rates, names_of
from neulite_sim.methods.thin import ThinTrainee, masked_cross_entropy, thinned
from neulite_sim.methods.width import OverlapMean, classifier_of, classifier_path, layout, take, with_rows
from neulite_sim.models.contract import Blueprint, scaled
from neulite_sim.models.trainee import float_tensors, load_tensors
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

HALF = {"full": 1.0, "width-0.5": 0.5}


def test_a_window_goes_on_at_the_first_channel_after_the_last():
    assert [window(4, 2, offset).tolist() for offset in range(5)] == [[0, 1], [1, 2], [2, 3], [3, 0], [0, 1]]
    assert [window(4, 2, -offset).tolist() for offset in range(5)] == [[0, 1], [3, 0], [2, 3], [1, 2], [0, 1]]


def test_widths_are_rounded_up_to_whole_channels():
    assert [scaled(channels, 0.0625) for channels in (64, 128, 256, 512)] == [4, 8, 16, 32]
    assert [scaled(channels, 0.5) for channels in (1, 3, 5)] == [1, 2, 3]


def test_pixels_of_a_flattened_map_follow_their_channel():
    """Three channels of two pixels: columns 0 1 | 2 3 | 4 5."""
    assert Dimension(3, inner=2).held(4).tolist() == [0, 1, 2, 3]
    assert Dimension(3, inner=2).held(4, offset=2).tolist() == [4, 5, 0, 1]


def test_each_of_two_maps_side_by_side_gives_its_own_channels():
    """Two maps of four channels: 0 1 2 3 | 4 5 6 7."""
    assert Dimension(4, outer=2).held(4).tolist() == [0, 1, 4, 5]
    assert Dimension(4, outer=2).held(4, offset=3).tolist() == [3, 0, 7, 4]


def test_a_dimension_of_equal_size_stays_whole_and_in_order():
    assert Dimension(4).held(4, offset=1) is None


def test_image_channels_kernels_and_classes_are_never_sliced():
    indices = layout(TOY, HALF).indices
    assert [held is None for held in indices("width-0.5", CONV1, 1)] == [False, True, True, True]
    assert [held is None for held in indices("width-0.5", CONV2, 1)] == [False, False, True, True]
    assert [held is None for held in indices("width-0.5", HEAD, 1)] == [True, False]
    assert indices("width-0.5", HEAD_BIAS, 1) == (None,)


def test_a_layer_reads_the_channels_that_the_one_before_puts_out():
    indices = layout(TOY, HALF).indices
    written, read = indices("width-0.5", CONV1, 3)[0], indices("width-0.5", CONV2, 3)[1]
    assert written.tolist() == read.tolist() == [3, 0]


def test_the_columns_of_a_flattened_head_are_grouped_by_channel():
    """64 channels of 2x2 pixels; the window of 32 channels from 63 on is 63, 0, 1, ..., 30."""
    columns = layout(blueprint("cnn"), HALF).indices("width-0.5", "head.fc1.weight", 63)[1]
    assert columns[:8].tolist() == [252, 253, 254, 255, 0, 1, 2, 3]
    assert len(columns) == 128


def test_a_fire_module_reads_both_halves_of_the_one_before():
    """Two maps of 64 channels, one behind the other; the window of 32 channels from 63 on is 63, 0, 1, ..., 30."""
    held = layout(blueprint("squeezenet", shape=(1, 32, 32)), HALF).indices(
        "width-0.5", "blocks.0.fire3.squeeze.weight", 63
    )
    assert held[1][[0, 1, 31, 32, 33, 63]].tolist() == [63, 0, 30, 127, 64, 94]


@pytest.mark.parametrize("offset", [0, 5])
def test_a_channel_of_a_transformer_stays_in_its_head(offset):
    """Channel c belongs to head c % 3, in the thin model as in the full one, and every head gives as many."""
    slices = layout(blueprint("vit", shape=(3, 32, 32)), HALF)
    held = slices.indices("width-0.5", "blocks.0.layer0.attention.query.weight", offset)[0]
    assert torch.equal(held % 3, torch.arange(len(held)) % 3)
    assert torch.bincount(held % 3).tolist() == [32, 32, 32]


@pytest.mark.parametrize("offset", [0, 3, -2])
@pytest.mark.parametrize(
    ("kind", "width"),
    [("cnn", 0.25), ("lenet", 1.0), ("resnet18", 0.0625), ("squeezenet", 0.1), ("vgg11_bn", 0.0625)],
)
def test_a_slice_computes_what_the_global_model_does_with_all_else_at_zero(kind, width, offset):
    """Holds only where every layer reads exactly the channels that were written, pixels and shortcuts included."""
    torch.manual_seed(5)
    full = blueprint(kind, shape=(1, 16, 16), width=width)
    slices, tensors = layout(full, HALF), float_tensors(full.build())
    thin, padded = thinned(full, 0.5).build().eval(), full.build().eval()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    sums = OverlapMean(zeros)
    for name, part in slices.taken(tensors, "width-0.5", offset).items():
        sums.add(name, slices.indices("width-0.5", name, offset), part)
    load_tensors(padded, sums.result())
    load_tensors(thin, slices.taken(tensors, "width-0.5", offset))
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(thin(images), padded(images), atol=1e-5, rtol=1e-4)


def test_the_full_submodel_is_the_global_model():
    tensors = float_tensors(TOY.build())
    taken = layout(TOY, HALF).taken(tensors, "full", 3)
    assert all(taken[name] is tensor for name, tensor in tensors.items())


def test_a_proxy_is_sliced_relative_to_its_own_width():
    slices = layout(blueprint("resnet18", width=0.125), HALF)
    assert slices.shapes["full"]["blocks.0.stem.conv.weight"] == (8, 1, 3, 3)
    assert slices.shapes["width-0.5"]["blocks.0.stem.conv.weight"] == (4, 1, 3, 3)


def test_the_classifier_is_the_last_layer_with_weights():
    assert layout(TOY, HALF).classifier == {HEAD, HEAD_BIAS}
    assert classifier_of(blueprint("lenet")).layers == {"head.fc3"}


def decoder(*, tied, dim=12):
    spec = InputSpec(shape=(8,), vocabulary=12, num_classes=12, target_shape=(8,), predicts_tokens=True)
    found = component("model", "gpt")
    options = found.options(dim=dim, heads=2, depth=2, vocabulary=12, tied=tied)
    return Blueprint(architecture=found.build(options), spec=spec)


def test_a_head_that_reads_the_embedding_has_no_rows_of_classes_and_no_other_layer_lends_it_some():
    """Also where another layer happens to have as many rows as there are classes."""
    assert layout(decoder(tied=False), HALF).classifier == {"head.classifier.out.weight"}
    assert layout(decoder(tied=True), HALF).classifier == frozenset()
    assert classifier_path(decoder(tied=True).build_meta()) == ""


def test_behind_a_head_without_weights_the_last_layer_makes_the_logits():
    model = nn.Module()
    model.blocks = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 3))
    model.head = nn.Flatten()
    assert classifier_path(model) == "blocks.1"
    model.head = nn.Linear(3, 3)
    assert classifier_path(model) == "head"


def factors(trainee):
    """Return by linear layer what its output is beside that of its weights alone."""
    found = {}

    def note(path):
        def hook(layer, given, output):
            found[path] = (output / nn.functional.linear(given[0], layer.weight, layer.bias)).median().item()

        return hook

    for path, layer in trainee.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(note(path))
    trainee.train()(torch.arange(8)[None])
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_the_scaler_divides_every_layer_but_the_one_that_makes_the_logits(tied):
    thin = factors(ThinTrainee(decoder(tied=tied), 0.5, scaler=True, masks_absent=False))
    assert thin == pytest.approx({path: 1.0 if path.startswith("head.") else 2.0 for path in thin})
    assert len(thin) == 12 + (not tied)


def test_a_mean_is_taken_over_the_slices_that_hold_a_scalar_and_the_rest_stays():
    mean = OverlapMean({"w": torch.full((4,), -1.0)})
    for value, count in ((3.0, 3), (6.0, 2)):
        mean.add("w", (torch.arange(count),), torch.full((count,), value))
    assert mean.weights("w").tolist() == [2, 2, 1, 0]
    assert mean.result()["w"].tolist() == [4.5, 4.5, 3, -1]


def test_a_mean_weighs_slices_as_told():
    mean = OverlapMean({"w": torch.zeros(2)})
    mean.add("w", (None,), torch.ones(2), weight=2.0)
    mean.add("w", (torch.tensor([1]),), torch.tensor([5.0]), weight=6.0)
    assert mean.result()["w"].tolist() == [1, 4]


def test_sums_are_kept_in_double_precision():
    """In single precision 1e8 + 1 is 1e8."""
    mean = OverlapMean({"w": torch.zeros(1)})
    for value in (1e8, 1.0, -1e8):
        mean.add("w", (None,), torch.tensor([value]))
    assert mean.result()["w"].item() == pytest.approx(1 / 3)


def test_untouched_tensors_are_those_of_before():
    old = {"w": torch.ones(2), "v": torch.ones(3)}
    mean = OverlapMean(old)
    mean.add("w", (None,), torch.zeros(2))
    assert mean.result()["v"] is old["v"]
    assert mean.weights("v").tolist() == [0, 0, 0]


def test_chosen_rows_keep_their_columns():
    part = torch.arange(6.0).reshape(3, 2)
    indices, rows = with_rows((None, torch.tensor([3, 0])), part, (0, 2))
    assert indices[0].tolist() == [0, 2]
    assert rows.tolist() == [[0, 1], [4, 5]]
    assert take(torch.arange(12.0).reshape(3, 4), indices).tolist() == [[3, 0], [11, 8]]


LOGITS, LABEL, ABSENT = (
    torch.tensor([[2.0, 1.0, 0.5, -1.0]]),
    torch.tensor([0]),
    torch.tensor([False, False, True, True]),
)


def test_masked_cross_entropy_sets_absent_logits_to_zero():
    assert masked_cross_entropy(LOGITS, LABEL, ABSENT).item() == pytest.approx(0.4938117, abs=1e-6)
    assert masked_cross_entropy(LOGITS, LABEL, ABSENT & False).item() == pytest.approx(0.4951819, abs=1e-6)
    # Of several targets of a sample the mean, each of them masked.
    twice = torch.stack([LOGITS, LOGITS], dim=2), torch.stack([LABEL, LABEL], dim=1)
    assert masked_cross_entropy(*twice, ABSENT).item() == pytest.approx(0.4938117, abs=1e-6)
    minus_infinity = LOGITS.masked_fill(ABSENT, -torch.inf)
    assert nn.functional.cross_entropy(minus_infinity, LABEL).item() == pytest.approx(0.3132617, abs=1e-6)


def test_absent_classes_get_no_gradient_and_present_ones_do():
    trainee = ThinTrainee(TOY, 1.0, scaler=True, masks_absent=True)
    trainee.see_labels(torch.tensor([0, 2, 0]))
    trainee.prepare()
    trainee.loss(torch.randn(4, 1, 4, 4), torch.tensor([0, 2, 0, 2]))[0].backward()
    assert trainee.get_parameter(HEAD_BIAS).grad.ne(0).tolist() == [True, False, True]


def test_a_device_that_comes_next_is_masked_by_its_own_classes():
    trainee = ThinTrainee(TOY, 1.0, scaler=True, masks_absent=True)
    trainee.see_labels(torch.tensor([0]))
    trainee.see_labels(torch.tensor([1, 2]))
    trainee.prepare()
    trainee.loss(torch.randn(4, 1, 4, 4), torch.tensor([1, 2, 1, 2]))[0].backward()
    assert trainee.get_parameter(HEAD_BIAS).grad.ne(0).tolist() == [False, True, True]


def test_without_masks_the_loss_is_plain():
    trainee = ThinTrainee(TOY, 1.0, scaler=True, masks_absent=False)
    trainee.see_labels(torch.tensor([0]))
    trainee.prepare()
    trainee.loss(torch.randn(4, 1, 4, 4), torch.tensor([0, 0, 0, 0]))[0].backward()
    assert trainee.get_parameter(HEAD_BIAS).grad.ne(0).all()


def test_the_scaler_divides_hidden_outputs_while_training_but_not_the_logits():
    """cnn has no BatchNorm: scaling conv k of 4 and fc1 by 2 is the plain network with these outputs doubled."""
    torch.manual_seed(2)
    thin = ThinTrainee(blueprint("cnn", width=0.125), 0.5, scaler=True, masks_absent=False)
    plain = thinned(blueprint("cnn", width=0.125), 0.5).build()
    load_tensors(plain, float_tensors(thin))
    images = torch.randn(2, 1, 8, 8)
    thin.eval()
    torch.testing.assert_close(thin(images), plain(images))
    with torch.no_grad():
        for path, layer in plain.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and path != "head.fc2":
                layer.weight.mul_(2)
                layer.bias.mul_(2)
    thin.prepare()
    torch.testing.assert_close(thin(images), plain(images))


def test_the_scaler_scales_gradients_too():
    torch.manual_seed(2)
    grads = []
    thin = ThinTrainee(blueprint("cnn", width=0.125), 0.5, scaler=True, masks_absent=False)
    plain = ThinTrainee(blueprint("cnn", width=0.125), 0.5, scaler=False, masks_absent=False)
    load_tensors(
        plain, {name: tensor * (2 if "fc2" not in name else 1) for name, tensor in float_tensors(thin).items()}
    )
    images = torch.randn(2, 1, 8, 8)
    for trainee in (thin, plain):
        trainee.prepare()
        trainee.loss(images, torch.tensor([1, 2]))[0].backward()
        grads.append(trainee.get_parameter("blocks.0.conv1.weight").grad)
    torch.testing.assert_close(grads[0], grads[1] * 2)


def peak(scaler):
    return profile(
        "width-0.5",
        lambda: ThinTrainee(blueprint("cnn"), 0.5, scaler=scaler, masks_absent=False),
        input_shape=(1, 8, 8),
        batch_size=8,
        training=Training(batch_size=8),
    )


def test_the_scaler_costs_operators_but_no_memory():
    scaled_profile, plain = peak(scaler=True), peak(scaler=False)
    assert scaled_profile.peak_memory_bytes == plain.peak_memory_bytes
    assert len(scaled_profile.operator_flops) > len(plain.operator_flops)


def test_the_mask_does_not_travel():
    trainee = ThinTrainee(TOY, 0.5, scaler=True, masks_absent=True)
    assert {name for name, _ in trainee.travelling()} == set(float_tensors(TOY.build()))


@pytest.mark.parametrize(
    ("rate", "parameters"),
    [(1.0, 11_173_962), (0.5, 2_797_610), (0.25, 701_466), (0.125, 176_402), (0.0625, 44_622)],
)
def test_a_thin_resnet18_has_as_many_parameters_as_the_reference_one(rate, parameters):
    """The authors' pre-activation counts, plus BatchNorm on three shortcuts: 1792 r."""
    model = thinned(blueprint("resnet18", shape=(3, 32, 32)), rate).build_meta()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_thinnest_levels_fit_the_smallest_device_of_the_published_pool():
    """79 MB at one eighth by hand, against 106 MB; batch 128."""
    full = blueprint("resnet18", shape=(3, 32, 32))
    found = profile(
        "width-0.125",
        lambda: ThinTrainee(full, 0.125, scaler=True, masks_absent=True),
        input_shape=(3, 32, 32),
        batch_size=128,
        training=Training(batch_size=128),
    )
    assert found.peak_memory_bytes == pytest.approx(79e6, rel=0.01)


def test_submodels_are_named_by_their_rate():
    assert tuple(names_of(LEVELS)) == ("full", "width-0.5", "width-0.25", "width-0.125", "width-0.0625")


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.5, 0.25), r"rates is \[0.5, 0.25\], but the first must be 1"),
        ((), r"rates is \[\], but the first must be 1"),
        ((1.0, 0.25, 0.5), r"rates is \[1, 0.25, 0.5\], but rates must fall and stay above 0"),
        ((1.0, 0.0), "greater than 0"),
        ((1.0, 0.3333333, 0.3333332), r"rates is \[1, 0.333333, 0.333333\], but two of them agree in six digits"),
    ],
)
def test_rates_that_do_not_fall_from_one_are_refused(rates, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Rates).validate_python(rates)
