"""Frozen weights in fewer bytes: bf16, 8 bit or 4 bit, and the steps of a device that holds them so.

`training.frozen_weights` says how devices hold what they do not train. A weight is made whole again for one product and
freed after it, forward and backward, so that it is there once in its stored form and at most one at a time as numbers
(T. Dettmers et al., "QLoRA", NeurIPS 2023, https://arxiv.org/abs/2305.14314, eq. 5). Forms:

* `bf16`: all frozen matrices, two bytes a number;
* `int8`: linear layers of blocks, a byte a number and the largest of each row in fp32 (T. Dettmers et al.,
  "LLM.int8()", NeurIPS 2022, without its outliers); embeddings and the head are bf16;
* `nf4`: the same layers with half a byte a number, one of 16 levels, and the largest of each 64 in fp32 (NormalFloat
  without double quantisation: 4.5 bits a number); embeddings and the head are bf16.

Norms, biases and convolutions stay fp32, and so does whatever travels. Really trained are weights that were rounded in
this way and hold the same numbers (`round_frozen`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

FrozenWeights = Literal["fp32", "bf16", "int8", "nf4"]
GROUP = 64
"""Numbers that share a scale in `nf4`."""
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""NF4's, as QLoRA's appendix E lists them."""
_CODES, _SCALES = "stored_codes", "stored_scales"


@torch.library.custom_op("neulite::restore", mutates_args=())
def restore(codes: Tensor, scales: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Return a stored matrix as numbers, one operator as it is one kernel on a device."""
    if codes.dtype == torch.int8:
        return (codes.float() * scales[:, None]).to(dtype)
    if codes.dtype == torch.uint8:
        levels = torch.tensor(LEVELS, device=codes.device)
        pairs = torch.stack((codes >> 4, codes & 15), dim=1).flatten()
        numbers = levels[pairs.long()].view(-1, GROUP) * scales[:, None]
        return numbers.view(rows, -1).to(dtype)
    return codes.to(dtype, copy=True)


@restore.register_fake
def _(codes: Tensor, scales: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    columns = codes.numel() * (2 if codes.dtype == torch.uint8 else 1) // rows
    return codes.new_empty((rows, columns), dtype=dtype)


def stored(weight: Tensor, kind: FrozenWeights) -> tuple[Tensor, Tensor]:
    """Return codes and scales of a matrix; `nf4` falls back to `int8` where rows are no whole groups.

    Of tensors without numbers they are of the right shapes.
    """
    if kind == "nf4" and weight.numel() % GROUP == 0:
        groups = weight.detach().float().reshape(-1, GROUP)
        scales = groups.abs().amax(dim=1)
        middles = torch.tensor([(one + other) / 2 for one, other in itertools.pairwise(LEVELS)])
        levels = torch.bucketize(groups / scales.clamp(min=1e-30)[:, None], middles.to(weight.device)).to(torch.uint8)
        pairs = levels.view(-1, 2)
        return (pairs[:, 0] << 4) | pairs[:, 1], scales
    if kind in ("int8", "nf4"):
        scales = weight.detach().float().abs().amax(dim=1) / 127
        codes = (weight.detach() / scales.clamp(min=1e-30)[:, None]).round().to(torch.int8)
        return codes, scales
    return weight.detach().to(torch.bfloat16), weight.new_empty(0)


class _Product(torch.autograd.Function):
    """x W' + b, with W made whole for the forward and again for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.rows, ctx.of_input, ctx.has_bias = rows, features.dtype, bias is not None
        whole = _whole(codes, scales, rows, dtype)
        return F.linear(features.to(dtype), whole, None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = gradients[0]
        codes, scales = ctx.saved_tensors
        before = None
        if ctx.needs_input_grad[0]:
            before = (gradient @ _whole(codes, scales, ctx.rows, gradient.dtype)).to(ctx.of_input)
        of_bias = gradient.flatten(0, -2).sum(dim=0) if ctx.has_bias and ctx.needs_input_grad[3] else None
        return before, None, None, of_bias, None, None


def _whole(codes: Tensor, scales: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    if codes.dtype == dtype:
        return codes
    whole: Tensor = restore(codes, scales, rows, dtype)
    return whole


class StoredWeight:
    """Stands where a layer looks for its weight; whatever is asked of it, or is given it, meets the whole matrix.

    `linear` makes it whole for the product alone, and `embedding` only the rows that are looked up.
    """

    dtype = torch.float32

    def __init__(self, holder: nn.Module, rows: int) -> None:
        # In a tuple, so that nothing takes the holder for a part of another module.
        self._holder, self._rows = (holder,), rows

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """Codes and scales."""
        return getattr(self._holder[0], _CODES), getattr(self._holder[0], _SCALES)

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return self._rows

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.parts[0].device

    @property
    def shape(self) -> torch.Size:
        """Rows and columns."""
        codes, _ = self.parts
        return torch.Size((self._rows, codes.numel() * (2 if codes.dtype == torch.uint8 else 1) // self._rows))

    @property
    def whole(self) -> Tensor:
        """The matrix as numbers."""
        return _whole(*self.parts, self._rows, self.dtype)

    def __getattr__(self, name: str) -> Any:
        """Return what the whole matrix has of this name."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self.whole, name)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Do what a function does with the matrix."""
        given = dict(kwargs or {})
        is_second = len(args) > 1 and isinstance(args[1], cls) and isinstance(args[0], Tensor)
        if func is F.linear and is_second:
            features, weight, *bias = args
            codes, scales = weight.parts
            device = features.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
            known = bias[0] if bias else given.get("bias")
            return _Product.apply(features, codes, scales, known, weight.rows, dtype)  # type: ignore[no-untyped-call]
        if func is F.embedding and is_second:
            codes, _ = args[1].parts
            return F.embedding(args[0], codes).float()
        whole = tree_map_only(cls, lambda weight: weight.whole, (tuple(args), given))
        return func(*whole[0], **whole[1])


def _on_the_whole(name: str) -> Callable[..., Any]:
    return lambda weight, *given: getattr(weight.whole, name)(*given)


for _name in (
    "abs", "add", "eq", "ge", "getitem", "gt", "le", "len", "lt", "matmul", "mul", "ne", "neg", "pow", "radd",
    "rmatmul", "rmul", "rsub", "rtruediv", "sub", "truediv",
):  # fmt: skip
    setattr(StoredWeight, f"__{_name}__", _on_the_whole(f"__{_name}__"))


@dataclass(frozen=True, slots=True)
class _Place:
    """A frozen matrix: the module that holds it as `weight`, and how it is stored."""

    path: str
    holder: nn.Module
    kind: FrozenWeights


def _places(module: nn.Module, kind: FrozenWeights) -> Iterator[_Place]:
    """Yield the frozen matrices of linear layers, of what stands in for them, and of embeddings."""
    for path, part in module.named_modules():
        weight = part._parameters.get("weight")
        if weight is None or weight.requires_grad or weight.ndim != 2:
            continue
        is_adapted = hasattr(part, "lora_A") and not getattr(part, "is_transposed", False)
        is_linear = isinstance(part, nn.Linear) or is_adapted
        is_table = isinstance(part, nn.Embedding) or getattr(part, "is_table", False) is True
        if is_linear or is_table:
            in_blocks = ".head." not in f".{path}." and not is_table
            yield _Place(path, part, kind if in_blocks else "bf16")


def has_frozen(module: nn.Module) -> bool:
    """Return whether a module has a frozen matrix that can be stored in fewer bytes."""
    return next(_places(module, "bf16"), None) is not None


def store_frozen(module: nn.Module, kind: FrozenWeights) -> dict[str, Tensor]:
    """Let a module hold its frozen matrices in a stored form, and return what they were by name, without numbers."""
    away: dict[str, Tensor] = {}
    if kind == "fp32":
        return away
    for place in list(_places(module, kind)):
        holder = place.holder
        weight = holder._parameters.pop("weight")
        assert weight is not None
        codes, scales = stored(weight, place.kind)
        holder.register_buffer(_CODES, codes, persistent=False)
        holder.register_buffer(_SCALES, scales, persistent=False)
        holder.__dict__["weight"] = StoredWeight(holder, weight.shape[0])
        away[f"{place.path}.weight"] = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
    return away


def round_frozen(module: nn.Module, kind: FrozenWeights) -> None:
    """Round the frozen matrices of a module in place to the numbers that their stored forms stand for."""
    if kind == "fp32":
        return
    with torch.no_grad():
        for place in _places(module, kind):
            weight = place.holder._parameters["weight"]
            assert weight is not None
            codes, scales = stored(weight, place.kind)
            weight.copy_(restore(codes, scales, weight.shape[0], weight.dtype))


def stored_bytes(shapes: Mapping[str, tuple[int, ...]], kind: FrozenWeights) -> int:
    """Return the bytes of matrices of these shapes in a stored form."""
    total = 0
    for rows, columns in shapes.values():
        numbers = rows * columns
        if kind == "nf4" and numbers % GROUP == 0:
            total += numbers // 2 + numbers // GROUP * 4
        elif kind in ("int8", "nf4"):
            total += numbers + 4 * rows
        else:
            total += numbers * (4 if kind == "fp32" else 2)
    return total
