"""What stands in for a layer answers as that layer does to all that code around it may ask."""

import pytest
import torch
from torch import nn

from neulite_sim.methods.adapters import AdaptedConvolution, AdaptedLinear
from neulite_sim.methods.frozen_layers import FoldedNorm, PassingConvolution
from neulite_sim.models.standing_in import is_plain


class Named(nn.Linear):
    """A linear layer with more to say."""

    unit = "metres"

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.role = "query"

    @property
    def ratio(self):
        return self.out_features / self.in_features

    def told(self, prefix):
        return f"{prefix} {self.role} {tuple(self.weight.shape)}"

    @classmethod
    def kind(cls):
        return cls.__name__


STAND_INS = [
    (nn.Linear(3, 5), lambda layer: AdaptedLinear(layer, 2, 0.5), (3,)),
    (nn.Linear(3, 5, bias=False), lambda layer: AdaptedLinear(layer, 2, 0.5), (4, 3)),
    (Named(3, 5), lambda layer: AdaptedLinear(layer, 2, 0.5), (3,)),
    (nn.Conv2d(4, 6, (3, 1), stride=2, padding="valid"), lambda layer: AdaptedConvolution(layer, 2, 0.5), (4, 7, 7)),
    (nn.Conv2d(4, 6, 3, groups=2, dilation=2), PassingConvolution, (4, 7, 7)),
    (nn.Conv1d(4, 6, 3, bias=False), PassingConvolution, (4, 7)),
    (nn.BatchNorm2d(4, eps=1e-3, momentum=None), FoldedNorm, (4, 3, 3)),
    (nn.BatchNorm1d(4, affine=False), FoldedNorm, (4,)),
]
"""A layer, what stands in for it, and the shape of a sample."""


def asked(layer):
    """Return the public names of a layer's own that hold no module's machinery, and what they come to."""
    names = {*vars(layer), *layer._parameters, *layer._buffers, *getattr(layer, "__constants__", ())}
    return {name: getattr(layer, name) for name in names if not name.startswith("_")}


@pytest.mark.parametrize(("layer", "standing_in", "shape"), STAND_INS, ids=range(len(STAND_INS)))
def test_a_stand_in_has_what_its_layer_has(layer, standing_in, shape):
    del shape
    expected = asked(layer)
    assert len(expected) > 3
    found = standing_in(layer)
    for name, value in expected.items():
        assert getattr(found, name) is value or getattr(found, name) == value, name
    if layer.weight is not None:
        assert (found.weight.dtype, found.weight.device) == (torch.float32, torch.device("cpu"))
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        found.missing  # noqa: B018


def test_a_stand_in_has_the_properties_and_methods_of_its_layers_class():
    layer = Named(3, 5)
    found = AdaptedLinear(layer, 2, 0.5)
    for each in (layer, found):
        assert (each.ratio, each.unit, each.told("a"), each.kind()) == (5 / 3, "metres", "a query (5, 3)", "Named")


@pytest.mark.parametrize(("layer", "standing_in", "shape"), STAND_INS, ids=range(len(STAND_INS)))
def test_a_stand_in_reads_its_input_by_the_name_that_it_had(layer, standing_in, shape):
    found = standing_in(layer)
    if isinstance(found, FoldedNorm):
        found.fold()
    layer.eval()
    maps = torch.randn(2, *shape)
    torch.testing.assert_close(found(input=maps), layer(input=maps))


def test_what_hangs_on_a_layer_is_no_part_of_a_plain_one():
    assert is_plain(nn.Linear(2, 2))
    assert is_plain(nn.BatchNorm2d(2))
    for change in (
        lambda layer: layer.register_forward_hook(print),
        lambda layer: layer.register_full_backward_pre_hook(print),
        lambda layer: layer.register_buffer("mask", torch.ones(1)),
        lambda layer: layer.register_module("inner", nn.ReLU()),
        lambda layer: setattr(layer, "forward", torch.tanh),
        lambda layer: setattr(layer, "extra", nn.Parameter(torch.ones(1))),
    ):
        layer = nn.Linear(2, 2)
        change(layer)
        assert not is_plain(layer)
