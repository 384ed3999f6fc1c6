"""Kernels of this machine's processor that crash or write past their memory, and what stands in for them.

Training on real tensors meets them in backward passes, where a `KernelGuard` sees each operator, whatever module,
function or script it comes from:

* weight gradients of strided 1x1 convolutions of few channels (`pointwise.py`);
* the gradients of GroupNorm's scale and shift where those of its maps are not wanted, because nothing before is
  trained, and channels are innermost: PyTorch's kernel (seen in 2.13) writes the latter all the same, to nowhere. The
  way out is to want them as well and drop them: the bits that the others have wherever something before is trained.

What devices are charged does not depend on this machine: fake steps are not guarded.
`tests/unit/models/test_models_kernel_guard.py` looks through other layers for more such places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from neulite_sim.models.light_mode import LightMode
from neulite_sim.models.pointwise import CONVOLUTION_BACKWARD, is_real, thinned_gradients

_GROUP_NORM_BACKWARD = torch.ops.aten.native_group_norm_backward.default


class KernelGuard(LightMode):
    """Dispatch mode for backward passes: what would reach such a kernel is taken another way.

    `num_met` counts those operators.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_met = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operator, or what stands in for it."""
        stand_in = _STAND_INS.get(func)
        if stand_in is not None and not kwargs and is_real(args[2]):
            found = stand_in(args)
            if found is not None:
                self.num_met += 1
                return found
        return func(*args, **(kwargs or {}))


def _with_those_of_maps(args: Sequence[Any]) -> tuple[None, Tensor | None, Tensor | None] | None:
    """Return what `native_group_norm_backward` returns of these arguments, of which the first result is not wanted.

    None where it is, or where the kernel is another one: that for channels outermost.
    """
    *given, wanted = args
    if wanted[0] or not may_have_channels_last(given[1]):
        return None
    # Whoever counts what a step holds need not know of the gradient that is dropped.
    with torch._C._DisableTorchDispatch():
        results = _GROUP_NORM_BACKWARD(*given, [True, *wanted[1:]])[1:]
    scale, shift = (each.clone() if is_wanted else None for each, is_wanted in zip(results, wanted[1:], strict=True))
    return None, scale, shift


_STAND_INS = {CONVOLUTION_BACKWARD: thinned_gradients, _GROUP_NORM_BACKWARD: _with_those_of_maps}
"""For each operator what returns its results another way, or None where the operator may run as it is."""


def may_have_channels_last(maps: Tensor) -> bool:
    """Return whether PyTorch may take maps for such with channels innermost.

    It goes by strides: maps of one pixel or one channel can be contiguous at the same time.
    """
    return maps.ndim > 3 and maps.stride(1) <= maps.stride(-1)


def guarded(loss: Tensor, *, is_needed: bool = True) -> AbstractContextManager[Any]:
    """Return the context for `loss.backward()`: a `KernelGuard` where it is needed and `loss` is a real one.

    It is needed in the first backward pass through a network that trains these parameters, after it met an operator
    that needs another way, and where the network `holds_overrunning`: it may not have come to that one yet. It costs a
    fifth or more of a small network's step, hence not always. Fake steps are not guarded.
    """
    return KernelGuard() if is_needed and is_real(loss) else nullcontext()
