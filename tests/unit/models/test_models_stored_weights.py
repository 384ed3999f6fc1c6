"""Frozen weights in fewer bytes: what is stored, what is computed, and what a step of it holds."""

import pytest
import torch
from torch import nn

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.gpt import COMPONENT as GPT
from neulite_sim.models.stored_weights import has_frozen, restore, round_frozen, store_frozen, stored, stored_bytes
from neulite_sim.models.trainee import FullModel, float_tensors, load_tensors
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

SPEC = InputSpec(shape=(16,), vocabulary=40, num_classes=40, target_shape=(16,), predicts_tokens=True)
BLUEPRINT = Blueprint(architecture=GPT.build(GPT.options(dim=64, heads=4, depth=3)), spec=SPEC)
KINDS = ("bf16", "int8", "nf4")


class LastBlock(FullModel):
    """All but the last block frozen; the head is tied to the frozen embedding."""

    def __init__(self):
        super().__init__(BLUEPRINT)
        self.blocks[:-1].requires_grad_(False)


def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LastBlock()


@pytest.mark.parametrize(("kind", "worst"), [("bf16", 2**-8), ("int8", 0.5 / 127), ("nf4", 0.16)])
def test_a_stored_matrix_is_near_what_it_was_and_takes_the_bytes_that_are_said(kind, worst):
    weight = torch.randn(6, 128)
    codes, scales = stored(weight, kind)
    assert codes.nbytes + scales.nbytes == stored_bytes({"a": (6, 128)}, kind)
    back = restore(codes, scales, 6, torch.float32)
    assert float((back - weight).abs().max()) <= worst * float(weight.abs().max())
    again = restore(*stored(back, kind), 6, torch.float32)
    torch.testing.assert_close(again, back)


def test_numbers_that_are_levels_come_back_as_they_were():
    levels = torch.tensor([[-1.0, 0.0, 1.0, 0.7229568362236023] * 16])
    torch.testing.assert_close(restore(*stored(levels, "nf4"), 1, torch.float32), levels, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_stored_weights_computes_what_one_on_rounded_weights_does(kind):
    rounded, held = seeded(), seeded()
    load_tensors(held, float_tensors(rounded))
    round_frozen(rounded, kind)
    names = dict(held.travelling()).keys()
    held.stored_away = store_frozen(held, kind)
    assert dict(held.travelling()).keys() == names
    ids, targets = torch.randint(40, (2, 4, 16))
    losses = []
    for trainee in (rounded, held):
        loss, _ = trainee.loss(ids, targets)
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    first, other = (dict(trainee.named_parameters()) for trainee in (rounded, held))
    for name, parameter in other.items():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, first[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_step_holds_is_predicted_to_the_byte(kind, precision):
    training = Training(batch_size=4, frozen_weights=kind, precision=precision)
    found = profile("last", LastBlock, spec=SPEC, batch_size=4, training=training)
    assert found.memory.total == audit(LastBlock, spec=SPEC, batch_size=4, training=training).total
    plain = profile("last", LastBlock, spec=SPEC, batch_size=4, training=Training(batch_size=4, precision=precision))
    frozen = {
        f"{name}.weight": tuple(part.weight.shape)
        for name, part in LastBlock().named_modules()
        if isinstance(part, nn.Linear) and not part.weight.requires_grad
    }
    saved = stored_bytes(frozen, "fp32") - stored_bytes(frozen, kind) + 40 * 64 * 2
    assert plain.memory.parameters - found.memory.parameters == saved
    assert (plain.bytes_down, plain.bytes_up, plain.parameters) == (found.bytes_down, found.bytes_up, found.parameters)


def test_a_trained_matrix_is_not_stored():
    model = FullModel(BLUEPRINT)
    assert not has_frozen(model)
    assert store_frozen(model, "nf4") == {}


USES = {
    "by hand": lambda layer, x: nn.functional.linear(x, layer.weight / layer.weight.norm(), layer.bias),
    "by name": lambda layer, x: nn.functional.linear(x, weight=layer.weight, bias=layer.bias),
    "a product": lambda layer, x: x @ layer.weight.T + layer.bias,
    "as what is read": lambda layer, x: nn.functional.linear(layer.weight, x),
    "operators": lambda layer, x: x * (2 * layer.weight - 1)[0] + (layer.weight @ x.T).sum() - abs(layer.weight)[1],
    "type, device and sizes": lambda layer, x: (
        layer(x.to(layer.weight.dtype).to(layer.weight.device)) / layer.weight.shape[1] / layer.weight.size(0)
        / len(layer.weight)
    ),
    "a rule of einsum": lambda layer, x: torch.einsum("bi,oi->bo", x, layer.weight),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_stored_matrix_is_the_rounded_one_to_whatever_uses_it(use, kind):
    plain, held = (nn.Sequential(nn.Linear(64, 64)) for _ in range(2))
    held.load_state_dict(plain.state_dict())
    for model in (plain, held):
        model.requires_grad_(False)
    round_frozen(plain, kind)
    store_frozen(held, kind)
    results = []
    for model in (plain, held):
        rows = torch.linspace(-1, 1, 3 * 64).view(3, 64).requires_grad_()
        found = use(model[0], rows)
        found.square().sum().backward()
        results.append((found.detach(), rows.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
