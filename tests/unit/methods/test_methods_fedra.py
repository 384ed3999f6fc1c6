"""FedRA: which layers are drawn, whose weights stand in their places, and the mean of each layer by hand."""

from dataclasses import replace

import pytest
import torch
from thin_models import blueprint, method
from torch import nn

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.adapters import A, B
from neulite_sim.methods.contract import Update
from neulite_sim.methods.layer_row import layer_row
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.noise import noise
from neulite_sim.models.trainee import load_tensors
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training

OPTIONS = {"patch": 4, "dim": 8, "heads": 2, "depth": 6}
HALF = "layers-0.5"


def transformer():
    found = component("model", "vit")
    return Blueprint(
        architecture=found.build(found.options(**OPTIONS)), input_shape=(1, 8, 8), num_classes=3, name="vit"
    )


MODEL = transformer()


@pytest.fixture(scope="module")
def fedra():
    chosen = method("fedra", shares=(1, 0.5, 0.1), rank=2)
    return chosen, chosen.start(MODEL, 0, None)


def test_the_row_of_a_transformer_are_its_encoders_in_order():
    layers = layer_row(MODEL).layers
    assert layers == tuple(f"blocks.{block}.layer{layer}" for block in range(3) for layer in range(2))


def test_a_share_is_rounded_up_to_whole_layers(fedra):
    chosen, state = fedra
    assert [chosen.num_layers(name, state.extra) for name in chosen.submodels] == [6, 3, 1]


def test_layers_depend_on_round_and_device_and_are_drawn_once_each(fedra):
    chosen, state = fedra
    draws = {at: chosen.drawn(state.extra, HALF, *at) for at in ((0, 0), (0, 1), (1, 0), (2, 5))}
    assert len(set(draws.values())) > 1
    assert all(list(found) == sorted(set(found)) and len(found) == 3 for found in draws.values())
    assert chosen.drawn(state.extra, "layers-1", 7, 7) == tuple(range(6))
    # A smaller share is part of a larger one.
    assert set(chosen.drawn(state.extra, "layers-0.1", 0, 1)) <= set(draws[0, 1])


def test_the_model_of_a_device_is_what_its_layers_do_one_after_the_other(fedra):
    chosen, state = fedra
    trainee = chosen.trainee(HALF, MODEL)
    load_tensors(trainee, {**chosen.payload(state, HALF), **chosen.personal_payload(state, 3, HALF)})
    whole = MODEL.build_seeded(0)
    for number, name in enumerate(layer_row(MODEL).layers):
        if number not in chosen.drawn(state.extra, HALF, 0, 3):
            path, _, own = name.rpartition(".")
            setattr(whole.get_submodule(path), own, torch.nn.Identity())
    inputs = noise(MODEL.spec, 2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(trainee(inputs), whole(inputs))


def test_each_layer_becomes_the_plain_mean_over_the_devices_that_held_it():
    chosen = method("fedra", shares=(1, 0.5), rank=1)
    state = chosen.start(MODEL, 0, None)
    names = {layer: f"{name}.fc1{A}" for layer, name in enumerate(state.extra.layers)}
    held = {device: chosen.drawn(state.extra, HALF, 0, device) for device in (0, 1, 2)}
    updates = [
        Update(
            device=device,
            submodel=HALF,
            num_samples=10 * device + 1,
            tensors={names[place]: torch.full_like(state.tensors[names[place]], 10.0**device) for place in range(3)},
            loss=0.0,
        )
        for device in held
    ]
    after = chosen.digest(state, iter(updates)).tensors
    for layer, name in names.items():
        values = [10.0**device for device, layers in held.items() if layer in layers]
        wanted = sum(values) / len(values) if values else None
        if wanted is None:
            assert torch.equal(after[name], state.tensors[name])
        else:
            assert after[name].unique().tolist() == [pytest.approx(wanted)]


def test_an_update_of_an_older_version_counts_for_the_layers_drawn_then(fedra):
    chosen, state = fedra
    name = f"{state.extra.layers[0]}.fc2{B}"
    later = replace(state, version=4)
    change = Update(device=1, submodel=HALF, num_samples=1, loss=0.0, version=2,
                    tensors={name: torch.ones_like(state.tensors[name])})  # fmt: skip
    after = chosen.digest(later, iter((change,))).tensors
    (changed,) = (key for key, tensor in after.items() if not torch.equal(tensor, state.tensors[key]))
    assert changed == f"{state.extra.layers[chosen.drawn(state.extra, HALF, 2, 1)[0]]}.fc2{B}"


@pytest.mark.slow
def test_fewer_layers_hold_fewer_activations_weights_and_bytes(fedra):
    chosen, _ = fedra
    how = {"spec": MODEL.spec, "batch_size": 4, "training": Training(batch_size=4)}
    whole, half = (profile(name, lambda name=name: chosen.trainee(name, MODEL), **how) for name in ("layers-1", HALF))
    assert half.memory.activations < 0.7 * whole.memory.activations
    assert half.parameters < whole.parameters
    head = sum(4 * p.numel() for p in MODEL.build_meta().head.parameters())
    assert half.bytes_up - head == (whole.bytes_up - head) / 2
    assert half.bytes_down == half.bytes_up
    sent = method("fedra", shares=(1,), base="sent").trainee("layers-1", MODEL)
    assert len(sent.download_names()) == len(list(sent.travelling()))


class Named(nn.Module):
    """Is called by names alone."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, *, rows, scale):
        return self.fc(rows) * scale


class NamedRow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Named() for _ in range(3))

    def forward(self, rows):
        for layer in self.layers:
            rows = layer(rows=rows, scale=2.0)
        return rows


class PairedRow(nn.Module):
    """Its layers put out two things, of which one goes on."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"fc": nn.GRU(8, 8, batch_first=True)}) for _ in range(3))
        for layer in self.layers:
            layer.forward = layer["fc"].forward

    def forward(self, rows):
        for layer in self.layers:
            rows, _ = layer(rows)
        return rows


def encoders():
    """PyTorch's own, which hands each of its layers more than the rows."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 3)


def own(block):
    def built(input_shape, num_classes, width):
        del input_shape, width
        head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 8, num_classes))
        layers = tuple((f"layers.{number}",) for number in range(3))
        return BlockModel([nn.Flatten(1, 2), block()], head, tails=((), layers[-1]), layers=((), layers),
                          block_shapes=((8, 4, 1),) * 2)  # fmt: skip

    return Blueprint(architecture=built, input_shape=(1, 4, 8), num_classes=3, name="mine")


@pytest.mark.parametrize("block", [encoders, NamedRow])
def test_layers_of_anybodys_are_left_out_however_they_are_called(block):
    model = own(block)
    chosen = method("fedra", shares=(1, 0.5), rank=2)
    state = chosen.start(model, 0, None)
    trainee = chosen.trainee(HALF, model)
    load_tensors(trainee, {**chosen.payload(state, HALF), **chosen.personal_payload(state, 0, HALF)})
    inputs = noise(model.spec, 3, generator=torch.Generator().manual_seed(2))
    rows = inputs.flatten(1, 2)
    for layer in trainee.blocks[1].layers[:2]:
        rows = layer(rows) if block is encoders else layer(rows=rows, scale=2.0)
    torch.testing.assert_close(trainee(inputs), trainee.head(rows))


def test_layers_that_put_out_more_than_they_read_cannot_be_left_out():
    with pytest.raises(ScenarioError, match="mine has no two alike that put out the shape they read"):
        layer_row(own(PairedRow))


def test_blocks_that_are_layers_themselves_are_a_row():
    def built(input_shape, num_classes, width):
        del input_shape, width
        blocks = [nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(3)]
        head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 8, num_classes))
        return BlockModel([nn.Flatten(1, 2), *blocks], head, tails=((), *[("",)] * 3),
                          layers=((), *[(("",),)] * 3), block_shapes=((8, 4, 1),) * 4)  # fmt: skip

    model = Blueprint(architecture=built, input_shape=(1, 4, 8), num_classes=3, name="mine")
    assert layer_row(model).layers == ("blocks.1", "blocks.2", "blocks.3")
    trainee = method("fedra", shares=(1, 0.5), rank=2).trainee(HALF, model)
    assert trainee(torch.randn(2, 1, 4, 8)).shape == (2, 3)


@pytest.mark.parametrize("kind", ["cnn", "resnet18", "logistic"])
def test_networks_whose_layers_cannot_be_left_out_are_refused(kind):
    found = f"method fedra leaves out whole layers, and {kind} has no two alike that put out the shape they read"
    with pytest.raises(ScenarioError, match=found):
        method("fedra").trainee("layers-1", blueprint(kind))
