"""FedProx: the proximal term of `fedavg`, its gradient, and the one copy of the weights that it costs."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from neulite_sim.methods.contract import Setting
from neulite_sim.methods.proximal import SentCopy
from neulite_sim.models.contract import Blueprint
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

SHAPE = (1, 8, 8)


def blueprint(kind="resnet18", width=0.0625):
    found = component("model", kind)
    return Blueprint(architecture=found.build(found.options()), input_shape=SHAPE, num_classes=10, width=width)


def trainee(mu, **which):
    found = component("method", "fedavg")
    setting = Setting(num_blocks=4, num_devices=2, max_rounds=2, seed=0)
    return found.build(found.options(proximal_mu=mu), setting).trainee("full", blueprint(**which))


def batch():
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


def test_the_term_and_its_gradient_are_those_worked_by_hand():
    module, anchor = nn.Linear(1, 1, bias=False), SentCopy()
    nn.init.constant_(module.weight, 1.0)
    anchor.hold(module)
    nn.init.constant_(module.weight, 1.5)
    term = 0.01 * anchor.half_squared_distance(module)
    term.backward()
    assert term.item() == pytest.approx(0.00125)
    assert module.weight.grad.item() == pytest.approx(0.005)


def test_the_term_is_zero_at_the_start_and_grows_with_the_distance():
    model = trainee(0.5)
    model.prepare()
    loss, scalars = model.loss(*batch())
    assert scalars["proximal"].item() == 0.0
    assert loss.item() == scalars["cross_entropy"].item()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    expected = 0.5 / 2 * 0.01 * sum(parameter.numel() for parameter in model.parameters())
    assert model.loss(*batch())[1]["proximal"].item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_the_loss_is_that_of_cross_entropy_plus_mu_times_the_distance():
    model = trainee(0.5, kind="logistic")
    model.prepare()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    loss, _ = model.loss(*batch())
    loss.backward()
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    nn.functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
    for mine, parameter in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad + 0.5 * 0.1)


def test_a_task_that_begins_anew_is_tied_to_its_own_start():
    model = trainee(0.5, kind="logistic")
    model.prepare()
    nn.init.constant_(model.head.fc.weight, 3.0)
    model.prepare()
    assert model.loss(*batch())[1]["proximal"].item() == 0.0


def test_nothing_of_the_copy_travels():
    plain, tied = trainee(0.0), trainee(0.1)
    tied.prepare()
    assert [name for name, _ in tied.travelling()] == [name for name, _ in plain.travelling()]
    assert tied.upload_names() == plain.upload_names()


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 32])
def test_the_profile_charges_one_more_copy_of_the_weights_and_no_more(batch_size):
    given = {"spec": InputSpec(shape=SHAPE, num_classes=10), "batch_size": batch_size, "training": Training()}
    plain = profile("full", lambda: trainee(0.0), **given)
    tied = profile("full", lambda: trainee(0.1), **given)
    assert tied.bytes_down == plain.bytes_down
    assert tied.bytes_up == plain.bytes_up
    assert tied.memory.parameters - plain.memory.parameters == 4 * plain.parameters
    # Beside the copy: scalars of the terms, and at small batches the difference of the largest tensor.
    largest = max(4 * parameter.numel() for parameter in trainee(0.0).parameters())
    extra = tied.peak_memory_bytes - plain.peak_memory_bytes - 4 * plain.parameters
    assert 0 <= extra <= 2 * largest + 4096


@pytest.mark.slow
def test_the_prediction_is_what_a_real_step_holds():
    given = {"spec": InputSpec(shape=SHAPE, num_classes=10), "batch_size": 4, "training": Training()}
    predicted = profile("full", lambda: trainee(0.1), **given).peak_memory_bytes
    assert audit(lambda: trainee(0.1), **given).total == pytest.approx(predicted, rel=0.01)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        component("method", "fedavg").options(proximal_mu=-0.1)
