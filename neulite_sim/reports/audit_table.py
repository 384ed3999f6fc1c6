"""Predicted and measured peaks of a run's submodels as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.reports.table import TextTable
from neulite_sim.units import format_bytes

FAR_OFF = 0.05
"""A larger error is pointed out."""


def audit_table(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return the rows of `audit.json` as a table; the column CUDA is there on a machine that has it."""
    has_plans = any(row["plan"] for row in rows)
    has_cuda = any("cuda_allocated_bytes" in row for row in rows)
    headers = (
        "ledger",
        "model",
        "submodel",
        "batch",
        *(["plan"] if has_plans else []),
        "predicted",
        "measured",
        "error",
        *(["CUDA"] if has_cuda else []),
    )
    skipped = tuple(dict.fromkeys(f"{row['submodel']} ({row['ledger']}): {row['skipped']}" for row in rows
                                  if row["skipped"]))  # fmt: skip
    return TextTable(
        title="audit: tensor bytes of a training step, predicted and tracked on real tensors",
        headers=headers,
        rows=tuple(_cells(row, has_cuda=has_cuda, has_plans=has_plans) for row in rows),
        numeric=frozenset(headers[3:]) - {"plan"},
        notes=(*skipped, *map(_told, filter(_is_far_off, rows))),
    )


def _is_far_off(row: Mapping[str, Any]) -> bool:
    return row["relative_error"] is not None and abs(row["relative_error"]) > FAR_OFF


def _told(row: Mapping[str, Any]) -> str:
    return (
        f"{row['submodel']} ({row['ledger']}): a real step takes {format_bytes(row['measured_bytes'])}, but "
        f"{format_bytes(row['predicted_bytes'])} are charged, so who can take part is told wrongly; an operator of "
        "this network keeps what its fake twin does not"
    )


def _cells(row: Mapping[str, Any], *, has_cuda: bool, has_plans: bool) -> tuple[str, ...]:
    measured = row["measured_bytes"]
    found = ("not measured", "") if measured is None else (format_bytes(measured), f"{row['relative_error']:+.2%}")
    cuda = row.get("cuda_allocated_bytes")
    last = ([format_bytes(cuda)] if cuda is not None else [""]) if has_cuda else []
    plan = [row["plan"]] if has_plans else []
    names = (row["ledger"], row["model"], row["submodel"], str(row["batch_size"]), *plan)
    return (*names, format_bytes(row["predicted_bytes"]), *found, *last)
