"""The optimizer of real training takes the step of the plain one, whatever its gradients look like."""

import pytest
import torch
from torch import nn

from neulite_sim.models.optimizer import make_optimizer, take_step
from neulite_sim.scenario.schema import Training

OPTIONS = {
    "plain": {"momentum": 0.0, "weight_decay": 0.0},
    "momentum": {"momentum": 0.9, "weight_decay": 0.0},
    "decay": {"momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "weight_decay": 0.01},
}
SHAPES = ((8, 3, 3, 3), (7, 5), (13,), (2, 3, 3, 3, 3))


def in_turning_layouts(step, _number, parameter):
    """Return a gradient that lies in one layout in even steps and in another in odd ones."""
    values = torch.randn(parameter.shape)
    layout = (torch.contiguous_format, torch.channels_last)[step % 2]
    return values.contiguous(memory_format=layout) if values.ndim == 4 else values


def made(*, is_charged, laid_out=True, shapes=SHAPES, **options):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    if laid_out:
        parameters[0].data = parameters[0].data.contiguous(memory_format=torch.channels_last)
    optimizer = make_optimizer(parameters, Training(batch_size=1, **options), 0.1, is_charged=is_charged)
    return parameters, optimizer


def stepped(gradients_of, *, is_charged, **given):
    parameters, optimizer = made(is_charged=is_charged, **given)
    torch.manual_seed(1)
    for step in range(4):
        for number, parameter in enumerate(parameters):
            parameter.grad = gradients_of(step, number, parameter)
        take_step(optimizer, parameters)
    return parameters, optimizer


def compare(gradients_of, **given):
    """Rounding alone: a relative error of some units in the last place of float32."""
    plain, _ = stepped(gradients_of, is_charged=True, **given)
    quick, optimizer = stepped(gradients_of, is_charged=False, **given)
    for expected, found in zip(plain, quick, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-6)
    return optimizer


@pytest.mark.parametrize("name", OPTIONS)
def test_steps_are_those_of_the_plain_optimizer(name):
    optimizer = compare(lambda _step, _number, parameter: torch.randn(parameter.shape), **OPTIONS[name])
    assert optimizer.defaults["fused"]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_gradient_in_another_layout_than_its_parameter_is_read_where_it_belongs(name):
    compare(in_turning_layouts, **OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_parameter_that_gets_no_gradient_at_first_begins_later(name):
    compare(lambda step, number, parameter: None if (step + number) % 2 else torch.randn(parameter.shape),
            **OPTIONS[name])  # fmt: skip


def test_sparse_gradients_are_taken_after_dense_ones():
    def gradient(step, number, parameter):
        values = torch.randn(parameter.shape)
        return values.to_sparse() if number == 1 and step > 1 else values

    compare(gradient, momentum=0.9, weight_decay=0.0)


def test_a_parameter_with_gaps_in_memory_is_not_fused():
    """The fused step would write into the gaps."""
    whole = torch.ones(4, 6)
    parameter = nn.Parameter(whole[:, ::2])
    optimizer = make_optimizer([parameter], Training(batch_size=1, **OPTIONS["plain"]), 0.5, is_charged=False)
    assert not optimizer.defaults["fused"]
    parameter.grad = torch.ones(4, 3)
    take_step(optimizer, [parameter])
    assert (whole[:, ::2] == 0.5).all()
    assert (whole[:, 1::2] == 1).all()


def test_devices_are_charged_for_the_plain_one():
    _, optimizer = made(is_charged=True)
    assert not optimizer.defaults["fused"]
    assert not optimizer.defaults["foreach"]
