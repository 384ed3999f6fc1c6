"""What an ATen operator computes: its floating-point operations and its kind, from the shapes of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from neulite_sim.profiling.roofline import OperatorKind

_CONVOLUTION = torch.ops.aten.convolution.default
_CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward.default
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_CPU_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
_TAKE_ROWS = torch.ops.aten.index_select.default
_PUT_ROWS = torch.ops.aten.index_copy_.default
_PLACE_OF_GROUPS = {_CONVOLUTION: 8, _CONVOLUTION_BACKWARD: 9}
_PLACE_OF_WEIGHT = 1


def flops_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> int:
    """Return the floating-point operations of a call by PyTorch's counter, mended in two places.

    Each gradient of a convolution takes as many operations as its forward pass: it sums the same products over other
    indices. The counter multiplies those of the weights by the number of groups. It knows no attention on a CPU.
    """
    if func is _CONVOLUTION_BACKWARD:
        output, images, weight = args[:3]
        is_transposed, is_wanted = args[7], args[10]
        flops = int(conv_flop_count(images.shape, weight.shape, output.shape, is_transposed))
        return flops * int(sum(is_wanted[:2]))
    if func is _CPU_ATTENTION:
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))  # type: ignore[no-untyped-call]
    if func is _CPU_ATTENTION_BACKWARD:
        return int(sdpa_backward_flop_count(*(tensor.shape for tensor in args[:4])))  # type: ignore[no-untyped-call]
    count = flop_registry.get(func._overloadpacket)
    return int(count(*args, **kwargs, out_val=result)) if count is not None else 0


def bytes_moved(func: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Return the bytes of an operator's inputs and outputs; of a table that rows are taken from or put into, of these.

    Only the two operators by which features are kept count in that way.
    """
    if func is _TAKE_ROWS or func is _PUT_ROWS:
        rows = outputs[0] if func is _TAKE_ROWS else inputs[2]
        return 2 * _num_bytes(rows) + _num_bytes(inputs[1])
    return sum(map(_num_bytes, (*inputs, *outputs)))


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def kind_of(func: Any, args: tuple[Any, ...]) -> OperatorKind:
    """Return what an operator is to the time model."""
    place = _PLACE_OF_GROUPS.get(func)
    if place is None:
        return OperatorKind.OTHER
    is_backward = func is _CONVOLUTION_BACKWARD
    if args[place] > 1:
        return OperatorKind.GROUPED_BACKWARD if is_backward else OperatorKind.GROUPED
    is_of_one_point = not is_backward and math.prod(args[_PLACE_OF_WEIGHT].shape[2:]) == 1
    return OperatorKind.POINTWISE if is_of_one_point else OperatorKind.CONVOLUTION
