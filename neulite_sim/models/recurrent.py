"""LSTMs in operators that can be seen: oneDNN's fused one keeps a workspace that no fake step knows.

On a processor PyTorch hands an LSTM to oneDNN whole. Its fake twin has neither the workspace, which is most of what the
step keeps, nor operations that could be counted; and a device with another build of PyTorch has no such operator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_IS_PLAIN = "_neulite_sim_is_plain"


def switches_onednn(module: nn.Module) -> bool:
    """Return whether a module switches oneDNN off, for the whole process, while it computes."""
    return any(getattr(part, _IS_PLAIN, False) for part in module.modules())


def in_plain_operators(module: nn.Module) -> None:
    """Let each LSTM of a module compute step by step, with and without numbers alike."""
    for part in module.modules():
        if isinstance(part, nn.LSTM) and not getattr(part, _IS_PLAIN, False):
            before: list[bool] = []

            def enter(_part: nn.Module, _inputs: Any, before: list[bool] = before) -> None:
                before.append(torch._C._get_mkldnn_enabled())
                torch._C._set_mkldnn_enabled(False)

            def leave(_part: nn.Module, _inputs: Any, _outputs: Any, before: list[bool] = before) -> None:
                torch._C._set_mkldnn_enabled(before.pop())

            part.register_forward_pre_hook(enter)
            part.register_forward_hook(leave, always_call=True)
            setattr(part, _IS_PLAIN, True)
