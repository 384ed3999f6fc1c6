"""A memory-budget study read back from what `whatif --json` or `whatif --csv` wrote, checked before it is believed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TEXT_BYTES, read_regular
from neulite_sim.reports.run_names import variant_name
from neulite_sim.scenario.problems import in_words

Name = Annotated[str, Field(max_length=400)]
Variant = Annotated[Name, AfterValidator(variant_name)]
"""A method of the study and how it is varied, called as papers call it."""
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e18)]
Sizes = Annotated[dict[Variant, int], Field(max_length=10_000)]
_WISH = "give a file that `neulite-sim whatif --json` or `--csv` wrote"
MOST_ROWS = 20_000


class _Outside(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class BudgetRow(_Outside):
    """One method at one budget. `scale` is the factor where the fleet's own budgets are scaled."""

    method: Name
    variant: Variant
    budget_bytes: Amount
    scale: Amount | None = None
    participation_rate: Share
    data_share: Share
    binding_submodel: Name | None = None
    shortfall_bytes_median: Amount | None = None
    round_s: Amount | None = None
    bytes_per_round: Amount | None = None
    ends_after_rounds: int | None = None
    tail_accuracy: Share | None = None
    final_perplexity: float | None = None


class ClassRow(_Outside):
    """What a class of devices lacks to train a submodel, from its own memory."""

    variant: Variant
    device_class: Name
    devices: int
    submodel: Name
    needed_bytes: Amount
    memory_bytes_min: Amount
    memory_bytes_median: Amount
    missing_bytes_min: Amount
    missing_bytes_median: Amount


class _Content(_Outside):
    scenario: Name = ""
    model: Name = ""
    devices: int | None = None
    budget_kind: Literal["memory", "scale", "cap"]
    devices_per_round: int | None = None
    rows: Annotated[tuple[BudgetRow, ...], Field(min_length=1, max_length=MOST_ROWS)]
    device_classes: Annotated[tuple[ClassRow, ...], Field(max_length=MOST_ROWS)] = ()
    includes_everyone_at_bytes: Sizes = {}
    trains_everything_at_bytes: Sizes = {}
    not_applicable: dict[Variant, str] = {}
    notes: tuple[str, ...] = ()
    command: Annotated[str, Field(max_length=20_000)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study. `lines` are the rows of each variant, one per budget, in the same rising order for all."""

    path: Path
    content: _Content
    lines: Mapping[str, Sequence[BudgetRow]]
    is_whole: bool
    """Whether it holds more than its rows: `--csv` keeps nothing else."""

    @property
    def budgets(self) -> list[float]:
        """The budgets in bytes, or the factors, of every line."""
        return [_budget(row) for row in next(iter(self.lines.values()))]

    @property
    def has_learning(self) -> bool:
        """Whether anything was trained for it."""
        return any(row.tail_accuracy is not None for row in self.content.rows)


def _budget(row: BudgetRow) -> float:
    return row.budget_bytes if row.scale is None else row.scale


def read_study(path: Path) -> Study:
    """Return the study in a file: JSON where it begins as JSON does, CSV else.

    Raises:
        DataNotFoundError: the file cannot be read, or holds no study.
    """
    try:
        text = read_regular(path, most_bytes=TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DataNotFoundError(f"{path}: cannot be read: {reason}", hint=_WISH) from None
    is_json = text.lstrip()[:1] in ("{", "[")
    return study_of(_of_json(text, path) if is_json else _of_csv(text, path), path, is_whole=is_json)


def study_of(found: Mapping[str, Any], path: Path, *, is_whole: bool = True) -> Study:
    """Return the study in a mapping, which is checked; `path` is the file that it is in, or would be in.

    Raises:
        DataNotFoundError: it holds no study.
    """
    try:
        content = _Content.model_validate(found)
    except ValidationError as error:
        where, why = in_words(error, found, _Content)[0]
        raise _no_study(path, f"{'.'.join(map(str, where))}: {why}") from None
    lines: dict[str, list[BudgetRow]] = {}
    for row in content.rows:
        lines.setdefault(row.variant, []).append(row)
    budgets = [[_budget(row) for row in rows] for rows in lines.values()]
    for name, own in zip(lines, budgets, strict=True):
        if own != budgets[0] or sorted(set(own)) != own:
            raise _no_study(path, f"the rows of {name!r} are not one for each budget, in rising order")
    return Study(path=path, content=content, lines=lines, is_whole=is_whole)


def _no_study(path: Path, why: str) -> DataNotFoundError:
    return DataNotFoundError(f"{path}: holds no study of memory budgets: {why}", hint=_WISH)


def _of_json(text: str, path: Path) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _no_study(path, "it is not valid JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        raise _no_study(path, "it has no list of rows")
    return found


def _of_csv(text: str, path: Path) -> dict[str, Any]:
    try:
        rows = [
            {key: value or None for key, value in row.items() if key is not None}
            for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)
        ]
    except csv.Error as error:
        raise _no_study(path, f"it is not valid CSV ({error})") from None
    if not rows or "budget_bytes" not in rows[0]:
        raise _no_study(path, "it has no column budget_bytes, or no rows")
    return {"budget_kind": "scale" if rows[0].get("scale") else "memory", "rows": rows}
