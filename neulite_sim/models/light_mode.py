"""Dispatch modes that need nothing of PyTorch's compiler."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class LightMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`TorchDispatchMode` without the mark against compiling, for which PyTorch imports its compiler: two seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do without the mark, as PyTorch's own modes may."""
        return False
