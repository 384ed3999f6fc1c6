"""The squared loss that learning selectors need: right, only where it is wanted, and without any effect."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from neulite_sim.methods.contract import Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.registry import component

SETTING = Setting(num_blocks=4, num_devices=2, max_rounds=8, seed=0)


def blueprint():
    found = component("model", "resnet18")
    return Blueprint(
        architecture=found.build(found.options()), input_shape=(1, 8, 8), num_classes=3, width=0.125, name="resnet18"
    )


def batch():
    torch.manual_seed(0)
    return torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])


def test_losses_1_2_3_have_the_mean_square_14_thirds():
    """Two classes: a margin of ln(e^l - 1) against the label gives the loss l."""
    losses = torch.tensor([1.0, 2.0, 3.0])
    logits = torch.stack([torch.zeros(3), torch.log(torch.expm1(losses))], dim=1)
    trainee = Trainee()
    trainee.reports_squared_loss = True
    assert cross_entropy(logits, torch.zeros(3, dtype=torch.int64), reduction="none").tolist() == pytest.approx(
        [1, 2, 3], rel=1e-6
    )
    found = trainee.squared_loss(logits, torch.zeros(3, dtype=torch.int64))["squared_loss"]
    assert 3 * found.sqrt().item() == pytest.approx(6.480741, rel=1e-6)


def test_the_full_model_reports_the_square_of_each_sample():
    model, (images, labels) = FullModel(blueprint()), batch()
    model.reports_squared_loss = True
    model.eval()
    each = cross_entropy(model(images), labels, reduction="none")
    assert model.loss(images, labels)[1]["squared_loss"].item() == pytest.approx(each.square().mean().item())


@pytest.mark.parametrize("curriculum", [True, False])
def test_a_stage_reports_the_square_of_its_cross_entropy(curriculum):
    found = component("method", "neulite")
    method = found.build(found.options(curriculum=curriculum), SETTING)
    trainee, (images, labels) = method.trainee("stage-1", blueprint()), batch()
    assert "squared_loss" not in trainee.loss(images, labels)[1]
    trainee.reports_squared_loss = True
    loss, scalars = trainee.loss(images, labels)
    mean = scalars["cross_entropy"] if curriculum else loss
    assert scalars["squared_loss"].item() >= mean.item() ** 2
    assert not scalars["squared_loss"].requires_grad


def test_it_is_left_out_where_nobody_asks_and_changes_no_gradient():
    model, (images, labels) = FullModel(blueprint()), batch()
    gradients = []
    for model.reports_squared_loss in (False, True):
        model.zero_grad()
        loss, scalars = model.loss(images, labels)
        assert ("squared_loss" in scalars) == model.reports_squared_loss
        loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
