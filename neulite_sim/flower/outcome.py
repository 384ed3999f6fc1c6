"""What a strategy came to: Flower's own `Result`, or the `History` of an older server, as plain values and weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neulite_sim.flower.adapting import Kept
from neulite_sim.flower.sizes import accuracy_in, loss_in

_BY_ROUND = ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")


def outcome_json(kept: Kept) -> dict[str, Any]:
    """Return what strategies returned, the last one where there were several; metrics by round."""
    found: dict[str, Any] = {"strategy": kept.strategies[-1] if kept.strategies else None}
    if kept.results:
        result = kept.results[-1]
        found["result"] = {
            name: {str(number): dict(_plain(record)) for number, record in getattr(result, name).items()}
            for name in _BY_ROUND
        }
    if kept.histories:
        found["history"] = _plain(vars(kept.histories[-1]))
    return found


def test_of(kept: Kept, label: str | None) -> tuple[float | None, float | None]:
    """Return loss and accuracy of the server's own test after a round that the app calls `label`."""
    try:
        number = int(label or "")
    except ValueError:
        return None, None
    if kept.results:
        metrics = kept.results[-1].evaluate_metrics_serverapp.get(number)
        return (None, None) if metrics is None else (loss_in(metrics), accuracy_in(metrics))
    if kept.histories:
        history = kept.histories[-1]
        loss = next((value for at, value in history.losses_centralized if at == number), None)
        metrics = {
            name: value for name, values in history.metrics_centralized.items() for at, value in values if at == number
        }
        return (None if loss is None or not math.isfinite(loss) else float(loss)), accuracy_in(metrics)
    return None, None


def weights_of(kept: Kept, latest: Any) -> dict[str, Tensor]:
    """Return the final arrays by name: the strategy's own, else those that were sent out last; none where none were."""
    if kept.results and len(kept.results[-1].arrays):
        return _tensors(kept.results[-1].arrays)
    if kept.servers and kept.servers[-1].parameters.tensors:
        from flwr.common import parameters_to_ndarrays

        arrays = parameters_to_ndarrays(kept.servers[-1].parameters)
        return {f"{place:04d}": _tensor(array) for place, array in enumerate(arrays)}
    return {} if latest is None else _tensors(latest)


def _tensors(record: Any) -> dict[str, Tensor]:
    found = {}
    for name, array in record.items():
        # What is no array of numbers, such as the trees of a booster, has no place among weights.
        with contextlib.suppress(TypeError, ValueError):
            found[str(name)] = _tensor(array.numpy())
    return found


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).copy())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return float(value) if hasattr(value, "__float__") else str(value)
