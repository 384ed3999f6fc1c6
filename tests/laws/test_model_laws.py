"""What holds for every architecture at every input shape, width and number of classes."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.output import OutputModule
from neulite_sim.registry import component

KINDS = ("resnet18", "resnet34", "cnn", "lenet", "logistic")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """More threads only slow such small maps down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


shapes = st.tuples(st.integers(1, 4), st.sampled_from([4, 8, 16, 28]), st.sampled_from([4, 7, 8, 32]))
widths = st.sampled_from([0.0625, 0.125, 0.2])


def blueprint(kind, shape=(3, 16, 16), width=0.125, num_classes=10):
    chosen = component("model", kind)
    return Blueprint(
        architecture=chosen.build(chosen.options()), input_shape=shape, num_classes=num_classes, width=width
    )


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), shapes, widths, st.integers(2, 20))
def test_every_block_puts_out_the_shape_it_states_and_the_head_one_logit_per_class(kind, shape, width, num_classes):
    model = blueprint(kind, shape, width, num_classes).build()
    features = torch.randn(2, *shape)
    for block, stated in zip(model.blocks, model.block_shapes, strict=True):
        features = block(features)
        assert features.shape == (2, *stated)
    assert model.head(features).shape == (2, num_classes)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(KINDS), shapes, st.sampled_from(["conv", "conv-bn-relu"]), st.data())
def test_every_stage_trains_every_parameter_it_holds(kind, shape, surrogate, data):
    model = blueprint(kind, shape).build()
    stage = data.draw(st.integers(1, model.num_blocks))
    output = OutputModule(model, stage, surrogate=surrogate, projection=True)
    features = torch.randn(3, *shape)
    for block in model.blocks[:stage]:
        features = block(features)
    logits, final_map = output(features)
    (logits.square().sum() + output.project(final_map).square().sum()).backward()
    for part in (*model.blocks[:stage], output):
        assert all(parameter.grad is not None for parameter in part.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_width_one_is_the_most_and_no_width_loses_the_last_channel(kind):
    counts = [
        sum(p.numel() for p in blueprint(kind, width=width).build().parameters()) for width in (0.001, 0.125, 0.5, 1)
    ]
    assert counts == sorted(counts)
    assert counts[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_blueprint_travels_and_builds_the_same_weights_there(kind):
    here = blueprint(kind)
    there = pickle.loads(pickle.dumps(here))
    ours, theirs = here.build_seeded(7).state_dict(), there.build_seeded(7).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone(kind):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, other = (blueprint(kind).build_seeded(seed).state_dict() for seed in (7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = blueprint(kind).build_seeded(7).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_models_and_output_modules_can_be_built_without_memory(kind):
    with torch.device("meta"):
        model = blueprint(kind, width=1.0).build()
        output = OutputModule(model, 1, projection=True)
    assert all(tensor.is_meta for module in (model, output) for tensor in module.state_dict().values())


@pytest.mark.parametrize("kind", KINDS)
def test_models_and_output_modules_train_on_fake_tensors(kind):
    """The memory model runs them so: nothing in them may look at a value."""
    with FakeTensorMode():
        model = blueprint(kind, width=1.0).build()
        for stage in range(1, model.num_blocks + 1):
            output = OutputModule(model, stage, surrogate="conv-bn-relu", projection=True)
            features = torch.randn(4, 3, 16, 16)
            for block in model.blocks[:stage]:
                features = block(features)
            logits, final_map = output(features)
            (logits.sum() + output.project(final_map).sum()).backward()
            assert all(parameter.grad.shape == parameter.shape for parameter in output.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_relu_works_in_place_so_that_no_map_is_stored_twice(kind):
    model = blueprint(kind).build()
    parts = [model, OutputModule(model, 1, surrogate="conv-bn-relu", projection=True, projection_relu=True)]
    assert all(layer.inplace for part in parts for layer in part.modules() if isinstance(layer, nn.ReLU))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 5))
def test_samples_do_not_see_each_other_in_evaluation(kind, batch):
    model = blueprint(kind).build().eval()
    images = torch.randn(batch, 3, 16, 16)
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
