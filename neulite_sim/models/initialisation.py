"""Initial weights, alike for every architecture here.

Convolutions: normal with variance 2 / fan-out (He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 14, which
keeps the size of gradients through ReLU layers) and zero bias, as torchvision does for ResNets. BatchNorm: weight one,
bias zero. Everything else keeps PyTorch's default: linear layers uniform within 1 / sqrt(fan-in). A layer of another
class (a subclass of PyTorch's convolution as well, but for the pointwise one here) draws its weights in its own
`reset_parameters`.
"""

from __future__ import annotations

from torch import nn

from neulite_sim.models.pointwise import PointwiseConvolution


def initialise(module: nn.Module) -> None:
    """Draw all weights below `module` anew from PyTorch's current generator, in the order of its submodules.

    Buffers start anew as well. Parameters that no layer of PyTorch's owns stay as they are. On the meta device nothing
    happens.
    """
    # Without values there is nothing to draw, and PyTorch imports its compiler to draw nothing.
    if all(parameter.is_meta for parameter in module.parameters()):
        return
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
        if type(layer) is nn.Conv2d or type(layer) is PointwiseConvolution:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
