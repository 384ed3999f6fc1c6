"""Parameters that lie together take the step of those that do not, whatever their gradients look like."""

import functools

import pytest
import torch
from test_models_optimizer import OPTIONS, SHAPES, in_turning_layouts
from thin_models import blueprint
from torch import nn

from neulite_sim.models.optimizer import make_optimizer, take_step
from neulite_sim.models.step import Stepper
from neulite_sim.models.together import Together, clip, pack
from neulite_sim.models.trainee import FullModel, lay_out
from neulite_sim.scenario.schema import Training


class Some(nn.Module):
    def __init__(self, frozen=()):
        super().__init__()
        torch.manual_seed(0)
        self.held = nn.ParameterList(
            nn.Parameter(torch.randn(shape), requires_grad=number not in frozen) for number, shape in enumerate(SHAPES)
        )
        self.held[0].data = self.held[0].data.contiguous(memory_format=torch.channels_last)

    def trainable(self):
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def test_packing_keeps_values_strides_and_identity_and_leaves_one_run():
    module = Some()
    before = [(parameter, parameter.detach().clone(), parameter.stride()) for parameter in module.parameters()]
    pack(module)
    for (parameter, values, stride), now in zip(before, module.parameters(), strict=True):
        assert now is parameter
        assert now.stride() == stride
        assert torch.equal(now, values)
    (run,) = Together(module.trainable()).runs
    assert run.numel() == sum(parameter.numel() for parameter in module.parameters())
    run.data.zero_()
    assert all((parameter == 0).all() for parameter in module.parameters())


def test_what_is_frozen_between_or_lies_elsewhere_ends_a_run():
    module = Some()
    pack(module)
    module.held[1].requires_grad_(False)
    assert [len(run) for run in Together(module.trainable()).runs] == [216, 13 + 162]
    module.held[2].data = module.held[2].data.clone()
    assert [len(run) for run in Together(module.trainable()).runs] == [216, 13, 162]
    kept = module.held[1].detach().clone()
    for run in Together(module.trainable()).runs:
        run.data.fill_(7)
    assert torch.equal(module.held[1], kept)


def test_parameters_with_gaps_are_not_taken_together():
    whole = torch.ones(4, 6)
    assert Together.of([nn.Parameter(whole[:, ::2])]) is None
    assert Together.of([]) is None


@pytest.mark.parametrize(("numbers", "is_worth_it"), [(500_000, True), (500_001, False)])
def test_large_networks_spend_no_memory_on_a_second_copy_of_their_gradients(numbers, is_worth_it):
    assert (Together.of([nn.Parameter(torch.zeros(numbers))]) is not None) is is_worth_it


def stepped(gradients_of, *, together, clip_norm=None, steps=4, **options):
    """Return parameters after some steps: of a stepper that takes them together, or one by one as devices do."""
    module = Some()
    if together:
        pack(module)
    make = functools.partial(
        make_optimizer, training=Training(batch_size=1, **options), learning_rate=0.1, is_charged=not together
    )
    trainable = module.trainable()
    runs = Together(trainable) if together else None
    optimizer = make(runs.runs if runs else trainable)
    torch.manual_seed(1)
    for step in range(steps):
        for number, parameter in enumerate(trainable):
            parameter.grad = gradients_of(step, number, parameter)
        if runs is not None and not runs.gather():
            optimizer, runs = runs.apart(optimizer, make), None
        held = trainable if runs is None else runs.runs
        if clip_norm is not None:
            (clip if runs is not None else nn.utils.clip_grad_norm_)(held, clip_norm)
        take_step(optimizer, held)
    return trainable


def compare(gradients_of, **given):
    found = [stepped(gradients_of, together=together, **given) for together in (False, True)]
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("clip_norm", [None, 3.0, 1e6])
@pytest.mark.parametrize("name", OPTIONS)
def test_steps_are_those_of_the_plain_optimizer(name, clip_norm):
    compare(lambda _step, _number, parameter: torch.randn(parameter.shape), clip_norm=clip_norm, **OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_gradient_in_another_layout_than_its_parameter_is_read_where_it_belongs(name):
    compare(in_turning_layouts, **OPTIONS[name])


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_from_the_first_step_without_some_gradient_on_each_goes_by_itself_with_its_state(name, first):
    """Momentum and counts of steps that were taken together go on, and one without a gradient stays where it is."""
    compare(lambda step, number, parameter: None if (step >= first and (step + number) % 2)
            else torch.randn(parameter.shape), clip_norm=5.0, steps=6, **OPTIONS[name])  # fmt: skip


def test_sparse_gradients_are_taken_after_dense_ones():
    def gradient(step, number, parameter):
        values = torch.randn(parameter.shape)
        return values.to_sparse() if number == 1 and step > 1 else values

    compare(gradient, momentum=0.9, weight_decay=0.0)


@pytest.mark.parametrize("numbers", [5, 4096, 4097, 3_000_000])
def test_the_norm_of_many_numbers_is_exact_to_single_precision(numbers):
    torch.manual_seed(numbers)
    run = nn.Parameter(torch.zeros(numbers))
    run.grad = torch.randn(numbers)
    exact = run.grad.double().norm()
    clip([run], 1.0)
    assert run.grad.double().norm().item() == pytest.approx(1.0, rel=1e-5)
    expected = 1 / (exact.item() + 1e-6)
    torch.manual_seed(numbers)
    assert (run.grad[0] / torch.randn(numbers)[0]).item() == pytest.approx(expected, rel=5e-7)


def test_a_norm_that_is_no_number_spoils_every_gradient_as_it_does_apart():
    runs = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    for run, values in zip(runs, ([1.0, float("nan"), 0.0], [1.0, 1.0]), strict=True):
        run.grad = torch.tensor(values)
    clip(runs, 1.0)
    assert all(run.grad.isnan().all() for run in runs)


def test_a_stepper_that_is_charged_takes_each_by_itself_and_one_of_a_worker_all_together():
    model = FullModel(blueprint("resnet18", width=0.05))
    lay_out(model)
    pack(model)
    training = Training(batch_size=2)
    charged, own = (Stepper(model, training, learning_rate=0.1, is_charged=is_charged) for is_charged in (True, False))
    assert len(charged.optimizer.param_groups[0]["params"]) == len(list(model.parameters()))
    assert len(own.optimizer.param_groups[0]["params"]) == 1
