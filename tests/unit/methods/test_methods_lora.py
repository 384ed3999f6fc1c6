"""LoRA: what the server makes of factors, by hand; what is sent, kept and owed; and which layers are adapted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_models import blueprint, method
from torch import nn
from torch.nn import functional as F

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.adapters import A, AdaptedModel, B, adapted_layers, first_factors, product, with_adapters
from neulite_sim.methods.contract import Setting, Update
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.trainee import load_tensors
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Training

LAYER, WEIGHT = "blocks.0.fc", "blocks.0.fc.weight"


def one_weight(input_shape, num_classes, width):
    """Return a layer of one weight and a head: the oracle by hand."""
    del input_shape, num_classes, width
    block = nn.Sequential()
    block.add_module("fc", nn.Linear(1, 1, bias=False))
    return BlockModel([block], nn.Linear(1, 2), tails=((),), block_shapes=((1, 1, 1),))


HAND = Blueprint(architecture=one_weight, input_shape=(1, 1, 1), num_classes=2, name="one weight")


def transformer():
    found = component("model", "vit")
    options = found.options(patch=4, dim=32, heads=2, depth=3)
    return Blueprint(architecture=found.build(options), input_shape=(1, 16, 16), num_classes=3, name="vit")


VIT = transformer()


def lora(**options):
    return method("lora", **{"alpha": options.get("ranks", (1,))[0] or 1, "ranks": (1,), **options})


def update(device, factor_A, factor_B, submodel="rank-1", samples=1, **more):
    tensors = {LAYER + A: torch.tensor(factor_A), LAYER + B: torch.tensor(factor_B), **more}
    return Update(device=device, submodel=submodel, num_samples=samples, tensors=tensors, loss=0.0)


def weight_after(chosen, *updates):
    """Return how far the only weight of the tested model has moved."""
    state = chosen.start(HAND, 0, None)
    after = chosen.digest(state, iter(updates))
    return float(chosen.evaluation_tensors(after)[WEIGHT] - state.tensors[WEIGHT])


FIRST, SECOND = update(0, [[1.0]], [[2.0]]), update(1, [[3.0]], [[4.0]])
"""A = (1), (3); B = (2), (4): the mean of the products is (2 + 12) / 2 = 7, the product of the means 2 * 3 = 6."""


def test_flora_is_exact_and_fedit_is_not_on_the_oracle_by_hand():
    assert weight_after(lora(aggregation="flora"), FIRST, SECOND) == pytest.approx(7)
    assert weight_after(lora(aggregation="fedit"), FIRST, SECOND) == pytest.approx(6)


def test_ffa_takes_the_mean_of_b_with_the_a_that_all_have():
    chosen = lora(aggregation="ffa")
    state = chosen.start(HAND, 0, None)
    fixed = float(state.tensors[LAYER + A])
    sent = [replace(each, tensors={LAYER + B: each.tensors[LAYER + B]}) for each in (FIRST, SECOND)]
    assert weight_after(chosen, *sent) == pytest.approx(3 * fixed)
    assert chosen.trainee("rank-1", HAND).upload_names() == (LAYER + B, "head.weight", "head.bias")


def test_hetlora_fills_up_with_zeros_and_cuts_down_for_three_devices_by_hand():
    chosen = lora(aggregation="hetlora", ranks=(3, 2, 1))
    state = chosen.start(HAND, 0, None)
    updates = [
        update(0, [[6.0], [6.0], [6.0]], [[3.0, 3.0, 3.0]], "rank-3", samples=1),
        update(1, [[3.0], [9.0]], [[0.0, 6.0]], "rank-2", samples=1),
        update(2, [[9.0]], [[3.0]], "rank-1", samples=1),
    ]
    after = chosen.digest(state, iter(updates))
    assert after.tensors[LAYER + A].tolist() == [[6.0], [5.0], [2.0]]
    assert after.tensors[LAYER + B].tolist() == [[2.0, 3.0, 1.0]]
    cut = chosen.payload(after, "rank-2")
    assert (cut[LAYER + A].tolist(), cut[LAYER + B].tolist()) == ([[6.0], [5.0]], [[2.0, 3.0]])


def test_hetlora_leaves_alone_what_lies_above_the_ranks_that_came():
    """With zeros in both factors a rank has no gradient, and would never be trained again."""
    chosen = lora(aggregation="hetlora", ranks=(3, 2, 1))
    first = chosen.start(HAND, 0, None)
    full = update(0, [[6.0], [6.0], [6.0]], [[3.0, 3.0, 3.0]], "rank-3")
    state = chosen.digest(first, iter([full]))
    low = [update(1, [[3.0], [9.0]], [[0.0, 6.0]], "rank-2"), update(2, [[9.0]], [[3.0]], "rank-1")]
    after = chosen.digest(state, iter(low))
    assert after.tensors[LAYER + A].tolist() == [[6.0], [4.5], [6.0]]
    assert after.tensors[LAYER + B].tolist() == [[1.5, 3.0, 3.0]]
    assert chosen.digest(state, iter([low[1]])).tensors[LAYER + A].tolist() == [[9.0], [6.0], [6.0]]


def test_hetlora_moves_what_it_fills_up_by_the_rate_of_the_update():
    chosen = lora(aggregation="hetlora", ranks=(2, 1))
    state = chosen.digest(chosen.start(HAND, 0, None), iter([update(0, [[6.0], [6.0]], [[4.0, 4.0]], "rank-2")]))
    same = update(0, [[6.0], [6.0]], [[4.0, 4.0]], "rank-2")
    low = replace(update(1, [[6.0]], [[4.0]], "rank-1"), rate=0.25)
    after = chosen.digest(state, iter([same, low]))
    assert after.tensors[LAYER + A].tolist() == [[6.0], [(6.0 + 0.75 * 6.0) / 2]]
    assert after.tensors[LAYER + B].tolist() == [[4.0, (4.0 + 0.75 * 4.0) / 2]]


def test_fedsa_averages_a_and_gives_every_device_its_own_b_again():
    chosen = lora(aggregation="fedsa")
    state = chosen.start(HAND, 0, None)
    assert float(chosen.personal_payload(state, 0, "rank-1")[LAYER + B]) == 0
    after = chosen.digest(state, iter((FIRST, SECOND)))
    assert float(after.tensors[LAYER + A]) == 2
    own = [float(chosen.personal_payload(after, device, "rank-1")[LAYER + B]) for device in range(3)]
    assert own == [2, 4, 0]
    # What is tested stands for all: the mean of A with that of B.
    assert weight_after(chosen, FIRST, SECOND) == pytest.approx(2 * 3)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=3), st.integers(0, 99))
def test_the_product_of_the_stacks_is_the_weighted_sum_of_the_products(devices, seed):
    """FLoRA's law, on the stacks as the paper writes them, for any ranks and weights."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [(torch.randn(5, rank, generator=generator), torch.randn(rank, 7, generator=generator), samples)
             for rank, samples in devices]  # fmt: skip
    whole = sum(samples for *_, samples in pairs)
    stacked = (
        torch.cat([b for b, _, _ in pairs], dim=1).double()
        @ torch.cat([a * (samples / whole) for _, a, samples in pairs]).double()
    )
    added = sum(product(b, a) * samples / whole for b, a, samples in pairs)
    torch.testing.assert_close(stacked, added, rtol=1e-5, atol=1e-5)
    chosen = lora(aggregation="flora", ranks=(4, 3, 2, 1), alpha=4.0)
    scales = {rank: 4.0 / rank for rank in (1, 2, 3, 4)}
    updates = [
        Update(device=n, submodel=f"rank-{len(a)}", num_samples=samples, loss=0.0,
               tensors={LAYER + A: a[:, :1], LAYER + B: b[:1]})
        for n, (b, a, samples) in enumerate(pairs)
    ]  # fmt: skip
    wanted = sum(scales[len(a)] * float(product(b[:1], a[:, :1])) * samples / whole for b, a, samples in pairs)
    assert weight_after(chosen, *updates) == pytest.approx(wanted, abs=1e-4)


def test_flora_begins_every_round_with_fresh_factors_whose_product_is_zero():
    chosen = lora(aggregation="flora")
    state = chosen.start(HAND, 0, None)
    after = chosen.digest(state, iter((FIRST,)))
    assert float(after.tensors[LAYER + B]) == 0
    assert float(after.tensors[LAYER + A]) != float(state.tensors[LAYER + A])


def test_flora_owes_the_stacks_of_the_rounds_that_a_device_has_missed():
    """A stack has rank (1 + 1) floats of 4 bytes per device; no more than the adapted weight is worth it."""
    chosen = method("lora", aggregation="flora", ranks=(2, 1))
    state = chosen.start(VIT, 0, None)
    per_rank = sum(4 * (shape[0] + shape[1]) for shape in state.extra.shapes.values())
    everybody = np.arange(3)
    assert chosen.owed_bytes(state, everybody, ["rank-2"] * 3).tolist() == [0, 0, 0]

    def empty(device, rank, version):
        return Update(device=device, submodel=f"rank-{rank}", num_samples=1, tensors={}, loss=0.0, version=version)

    state = chosen.digest(state, iter((empty(0, 2, 0), empty(1, 1, 0))))
    assert chosen.owed_bytes(state, everybody, ["rank-2"] * 3).tolist() == [3 * per_rank] * 3
    state = chosen.digest(state, iter((empty(0, 2, 1),)))
    # The first was brought to version 1 before it trained from there.
    assert chosen.owed_bytes(state, everybody, ["rank-2"] * 3).tolist() == [2 * per_rank, 5 * per_rank, 5 * per_rank]
    for version in range(2, 1000):
        state = chosen.follow(state, {"came": [[0, version]], "bytes": 2 * per_rank})
    weights = sum(4 * shape[0] * shape[1] for shape in state.extra.shapes.values())
    assert chosen.owed_bytes(state, everybody[1:], ["rank-2"] * 2).tolist() == [weights, weights]


BYTES = {
    "fedit": ("a + b + h", "a + b + h"),
    "hetlora": ("a + b + h", "a + b + h"),
    "flora": ("h", "a + b + h"),
    "ffa": ("b + h", "b + h"),
    "fedsa": ("a + h", "a + h"),
}


@pytest.mark.parametrize("aggregation", BYTES)
def test_only_what_travels_is_charged_as_traffic(aggregation):
    model = blueprint("lenet", num_classes=3)
    chosen = method("lora", aggregation=aggregation, ranks=(4,))
    state = chosen.start(model, 0, None)
    sizes = {
        "a": sum(4 * tensor.numel() for name, tensor in state.tensors.items() if name.endswith(A)),
        "b": sum(4 * tensor.numel() for name, tensor in state.tensors.items() if name.endswith(B)),
        "h": sum(4 * tensor.numel() for name, tensor in state.tensors.items() if name.startswith("head.")),
    }
    found = profile("rank-4", lambda: chosen.trainee("rank-4", model), spec=model.spec, batch_size=4,
                    training=Training(batch_size=4))  # fmt: skip
    wanted = [sum(sizes[part] for part in text.split(" + ")) for text in BYTES[aggregation]]
    assert [found.bytes_down, found.bytes_up] == wanted
    sent = method("lora", aggregation=aggregation, ranks=(4,), base="sent").trainee("rank-4", model)
    base = {name for name in state.tensors if not name.endswith((A, B))}
    assert base <= set(sent.download_names())


@pytest.mark.slow
def test_memory_falls_by_gradients_and_optimizer_states_and_not_by_activations():
    model = VIT
    how = {"spec": model.spec, "batch_size": 4, "training": Training(batch_size=4)}
    full = profile("full", lambda: method("fedavg").trainee("full", model), **how).memory
    found = profile("rank-2", lambda: method("lora", ranks=(2,)).trainee("rank-2", model), **how).memory
    assert found.optimizer < full.optimizer / 5
    assert found.parameters > full.parameters
    assert found.activations > 0.9 * full.activations


@pytest.mark.parametrize("model", [VIT, blueprint("lenet", num_classes=3)], ids=lambda model: model.name)
def test_the_merged_model_puts_out_what_the_adapted_one_does(model):
    chosen = method("lora", ranks=(3,))
    state = chosen.start(model, 0, None)
    generator = torch.Generator().manual_seed(1)
    trained = {name: torch.randn(tensor.shape, generator=generator) * 0.1 if name.endswith((A, B)) else tensor
               for name, tensor in state.tensors.items()}  # fmt: skip
    trainee = chosen.trainee("rank-3", model)
    load_tensors(trainee, trained)
    plain = model.build()
    load_tensors(plain, chosen.evaluation_tensors(replace(state, tensors=trained)))
    inputs = noise(model.spec, 2, generator=generator)
    torch.testing.assert_close(plain(inputs), trainee(inputs), rtol=1e-4, atol=1e-5)
    assert not torch.equal(plain(inputs), model.build_seeded(0)(inputs))


def test_training_leaves_the_frozen_weights_as_they_were():
    model = VIT
    trainee = method("lora").trainee("rank-8", model)
    trained = {name for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in trainee.named_parameters() if name.endswith((A, B)) or "head." in name}
    trainee.loss(noise(model.spec, 2), taking_turns(model.spec, 2, num_classes=3))[0].backward()
    assert all(p.grad is None for name, p in trainee.named_parameters() if name not in trained)


def test_transformers_are_adapted_in_their_linear_layers_and_others_in_their_convolutions():
    layers = adapted_layers(VIT.build_meta())
    assert len(layers) == 3 * 6
    assert all(isinstance(layer, nn.Linear) for layer in layers.values())
    assert {type(layer) for layer in adapted_layers(blueprint("resnet18").build_meta()).values()} == {nn.Conv2d}
    attention = nn.TransformerEncoderLayer(8, 2, 16)
    model = BlockModel([attention], nn.Linear(8, 2), tails=((),), block_shapes=((8, 1, 1),))
    # It applies the weights of its attention by itself, and would never meet an adapter beside them.
    assert list(adapted_layers(model)) == ["blocks.0.linear1", "blocks.0.linear2"]


class Functional(nn.Module):
    """Never calls its layer, but applies the weight itself."""

    def __init__(self, reads=lambda layer, x: F.linear(x, layer.weight / layer.weight.norm(), layer.bias)):
        super().__init__()
        self.fc, self.reads = nn.Linear(4, 4), [reads]

    def forward(self, x):
        return x + self.reads[0](self.fc, x)


def own(*blocks):
    def built(input_shape, num_classes, width):
        del input_shape, width
        return BlockModel([nn.Flatten(), *(block() for block in blocks)], nn.Linear(4, num_classes),
                          tails=((),) * (len(blocks) + 1), block_shapes=((4, 1, 1),) * (len(blocks) + 1))  # fmt: skip

    return Blueprint(architecture=built, input_shape=(1, 2, 2), num_classes=2, name="mine")


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.fc = self.other = nn.Linear(4, 4)

    def forward(self, x):
        return self.other(self.fc(x).tanh())


def hung_on(change):
    layer = nn.Linear(4, 4)
    change(layer)
    return nn.Sequential(layer)


NOT_ADAPTED = {
    "applied by hand": Functional,
    "its transpose": lambda: Functional(lambda layer, x: layer(x) @ layer.weight.T),
    "its numbers": lambda: Functional(lambda layer, x: layer(x) / layer.weight.detach().abs().max()),
    "never called": lambda: Functional(lambda layer, x: x),
    "its own forward by hand": lambda: Functional(lambda layer, x: type(layer).forward(layer, x)),
    "under two names": Twice,
    "with a hook": lambda: hung_on(lambda layer: layer.register_forward_hook(lambda *given: given[2] * 2)),
    "with a forward of its own": lambda: hung_on(lambda layer: setattr(layer, "forward", torch.tanh)),
    "with a buffer beside": lambda: hung_on(lambda layer: layer.register_buffer("mask", torch.ones(4))),
    "with a weight beside": lambda: hung_on(lambda layer: setattr(layer, "more", nn.Parameter(torch.ones(4)))),
    "parametrized": lambda: hung_on(lambda layer: nn.utils.parametrize.register_parametrization(
        layer, "weight", nn.Softsign())),
}  # fmt: skip
ADAPTED = {
    "called": lambda: Functional(lambda layer, x: layer(x)),
    "called by name": lambda: Functional(lambda layer, x: layer(input=x)),
    "called twice": lambda: Functional(lambda layer, x: layer(layer(x).tanh())),
    "type and device read": lambda: Functional(
        lambda layer, x: layer(x.to(layer.weight.dtype).to(layer.weight.device))
    ),
    "like the weight": lambda: Functional(lambda layer, x: layer(x.to(layer.weight)) + layer.weight.new_zeros(4)),
    "sizes read": lambda: Functional(lambda layer, x: layer(x) / layer.out_features / len(layer.weight)),
    "bias read": lambda: Functional(lambda layer, x: layer(x) - layer.bias),
}


def adapted_in(model):
    trainee = method("lora").trainee("rank-8", model)
    return [name.removesuffix(B) for name, _ in trainee.named_parameters() if name.endswith(B)]


@pytest.mark.parametrize("block", NOT_ADAPTED.values(), ids=NOT_ADAPTED)
def test_layers_that_are_not_called_or_whose_weight_is_read_otherwise_get_no_adapter(block):
    usual = lambda: Functional(lambda layer, x: layer(x))  # noqa: E731
    assert adapted_in(own(block, usual)) == ["blocks.2.fc"]
    wanted = "the blocks of mine have no linear layer or plain convolution to adapt"
    with pytest.raises(ScenarioError, match=wanted):
        adapted_in(own(block))


def test_a_refusal_says_that_there_are_layers_which_nothing_calls():
    told = "to adapt: they are never called, or their weights are read elsewhere as well; choose a transformer"
    with pytest.raises(ScenarioError, match=told):
        adapted_in(own(Functional))


@pytest.mark.parametrize("block", ADAPTED.values(), ids=ADAPTED)
def test_every_adapter_beside_a_layer_that_is_called_learns(block):
    trainee = method("lora").trainee("rank-8", own(block))
    tensors = {name: torch.randn_like(tensor) for name, tensor in trainee.state_dict().items()}
    load_tensors(trainee, tensors)
    trainee.loss(torch.randn(3, 1, 2, 2), torch.tensor([0, 1, 1]))[0].backward()
    factors = {name: parameter for name, parameter in trainee.named_parameters() if name.endswith((A, B))}
    assert len(factors) == 2
    assert all(parameter.grad.abs().max() > 0 for parameter in factors.values())


def test_first_factors_of_a_smaller_rank_are_part_of_those_of_a_larger_one():
    shapes = {"a": (5, 4), "b": (3, 2, 3, 3)}
    large, small = dict(first_factors(shapes, 4, 1, 0)), dict(first_factors(shapes, 2, 1, 0))
    assert all(torch.equal(large[name][:2], small[name]) for name in small if name.endswith(A))
    assert [tuple(small[name].shape) for name in ("a" + B, "b" + A, "b" + B)] == [(5, 2), (2, 2, 3, 3), (3, 2, 1, 1)]
    assert (
        with_adapters({"a.weight": torch.zeros(5, 4), **{f"a{end}": large[f"a{end}"] for end in (A, B)}}, 2.0)[
            "a.weight"
        ]
        .eq(0)
        .all()
    )


def test_rank_0_is_the_head_alone_and_head_only_is_that():
    model = blueprint("lenet", num_classes=3)
    for chosen in (lora(ranks=(0,)), method("head-only")):
        trainee = chosen.trainee("head", model)
        assert isinstance(trainee, AdaptedModel)
        assert all(name.startswith("head.") for name in trainee.upload_names())
        assert trainee.download_names() == trainee.upload_names()


REFUSED = {
    "method.ranks=[4, 8]": r"ranks is \[4, 8\], but ranks must fall; for example \[16, 8, 4\]",
    "method.ranks=[8, 4]": r"method\.ranks: fedit takes the mean of factors of one rank, found \[8, 4\]; use hetlora or flora",
    "method={kind: lora, ranks: [8, 0], head: frozen}": "of rank 0 the head alone is trained, and head is frozen; remove it",
}


@pytest.mark.parametrize("change", REFUSED)
def test_ranks_that_do_not_go_together_are_refused(change):
    with pytest.raises(ScenarioError, match=REFUSED[change]):
        parse_scenario({"method": {"kind": "lora"}, "model": "lenet", "data": "digits"}, [change])


def test_a_model_without_a_layer_to_adapt_is_refused():
    with pytest.raises(
        ScenarioError, match="the blocks of logistic have no linear layer or plain convolution to adapt"
    ):
        method("lora").trainee("rank-8", blueprint("logistic"))
    with pytest.raises(ScenarioError, match="the blocks of lenet have no linear layer to adapt; choose a transformer"):
        method("lora", adapters="linear").trainee("rank-8", blueprint("lenet"))


def test_what_is_owed_is_that_of_the_model_that_is_charged():
    found, tall = component("method", "lora"), VIT
    setting = Setting(num_blocks=3, num_devices=2, max_rounds=3, seed=0, charged=tall)
    chosen = found.build(found.options(aggregation="flora"), setting)
    state = chosen.start(blueprint("lenet", num_classes=3), 0, None)
    state = chosen.digest(state, iter((Update(device=0, submodel="rank-8", num_samples=1, tensors={}, loss=0.0),)))
    per_rank = sum(4 * sum(layer.weight.shape) for layer in adapted_layers(tall.build_meta()).values())
    assert chosen.owed_bytes(state, np.arange(1), ["rank-8"]).tolist() == [8 * per_rank]
