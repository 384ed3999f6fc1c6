"""The nHSIC plane of a tested model, on numbers worked out by hand (design notes of the estimator, sigma 5)."""

import pytest
import torch
from torch import nn

from neulite_sim.errors import SimulationError
from neulite_sim.samples import InputSpec
from neulite_sim.training.diagnostics import nhsic_plane

IMAGES = torch.arange(4.0).reshape(4, 1, 1, 1)
LABELS = torch.tensor([0, 0, 1, 1])
OTHER = torch.tensor([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0], [3.0, 3.0]]).reshape(4, 2, 1, 1)
SPEC = InputSpec(shape=(1, 1, 1), num_classes=2)


class Gives(nn.Module):
    """A block that puts out what it is told to, whatever it is given."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, _features):
        return self.output


class Stack(nn.Module):
    def __init__(self, *blocks, repeats=1):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.repeats = repeats

    def forward(self, features):
        for block in list(self.blocks) * self.repeats:
            features = block(features)
        return features


def plane(*blocks, images=IMAGES, labels=LABELS):
    found = nhsic_plane(Stack(*blocks), images, labels, spec=SPEC)
    return [(item.name, item.block, item.value) for item in found]


def test_a_block_that_passes_everything_on_keeps_all_of_the_images():
    assert plane(nn.Identity()) == [
        ("nhsic_x", 1, pytest.approx(1.0, abs=1e-14)),
        ("nhsic_y", 1, pytest.approx(0.8091876945, abs=1e-9)),
    ]


def test_every_block_is_measured_at_its_own_output_in_order():
    found = plane(nn.Identity(), Gives(OTHER), nn.Identity())
    assert [(name, block) for name, block, _ in found] == [(f"nhsic_{axis}", b) for b in (1, 2, 3) for axis in "xy"]
    assert [value for _, _, value in found[2:]] == pytest.approx([0.1449800656, 0.0317807823] * 2, abs=1e-9)


def test_features_in_single_precision_are_measured_in_double():
    """A large constant beside the features cancels exactly in double precision; squares of it would not in single."""
    assert plane(Gives(IMAGES + 4096))[0][2] == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize(
    "output", [torch.ones(4, 3), torch.full((4, 3), torch.nan), torch.tensor([[0.0], [1], [2], [torch.inf]])]
)
def test_what_is_undefined_is_none(output):
    assert [value for _, _, value in plane(Gives(output))] == [None, None]


def test_a_sample_of_one_class_leaves_only_the_label_term_undefined():
    values = [value for _, _, value in plane(nn.Identity(), labels=torch.zeros(4, dtype=torch.int64))]
    assert values == [pytest.approx(1.0, abs=1e-14), None]


def test_the_model_stays_as_it_was():
    model = Stack(nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (nhsic_plane(model, IMAGES, LABELS, spec=SPEC) for _ in range(2))
    assert first == second
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert not model.blocks[0]._forward_hooks


def test_a_model_without_blocks_is_refused():
    with pytest.raises(SimulationError, match=r"blocks of the tested model, and Linear has none; remove nhsic_plane"):
        nhsic_plane(nn.Linear(1, 2), IMAGES, LABELS, spec=SPEC)


def test_a_block_that_runs_twice_is_refused():
    with pytest.raises(SimulationError, match=r"evaluation.diagnostics: block 1 of Stack ran 2 times in one forward"):
        nhsic_plane(Stack(nn.Identity(), repeats=2), IMAGES, LABELS, spec=SPEC)
