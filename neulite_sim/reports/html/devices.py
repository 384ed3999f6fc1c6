"""The devices of a run, from the table that it keeps of them: added up in one pass, and a table to sort and search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.errors import DataNotFoundError
from neulite_sim.reports.html.blocks import Block, Grid, Prose
from neulite_sim.reports.html.wording import NONE, count, listed, percent, size
from neulite_sim.reports.table import TextTable
from neulite_sim.results.cells import DEVICES_CSV, DEVICES_PARQUET
from neulite_sim.results.device_rows import find_devices, scan_columns
from neulite_sim.results.stored import require_kept

_REASONS = ("denied_not_enough_memory", "denied_offline", "denied_in_flight", "denied_no_data", "denied_other")
_SHOWN = (
    "device", "hardware", "available_memory_bytes", "fits", "samples", "online_share", "flights", "arrived", "dropped",
    "denied_rounds", "shortfall_bytes",
)  # fmt: skip
_READ = (*_SHOWN, *_REASONS, "needed_memory_bytes", "lowest_memory_bytes")
_WHY = {
    "denied_not_enough_memory": "not enough memory",
    "denied_offline": "offline",
    "denied_in_flight": "in flight",
    "denied_no_data": "no data",
    "denied_other": "other reasons",
}
_NEVER_ASKED = "never drawn"
_LOST = "no flight arrived"


_MEANT = {
    "not enough memory": "mostly for want of memory",
    "offline": "mostly offline",
    "in flight": "still in flight",
    "no data": "without data",
    _NEVER_ASKED: "were never drawn",
    _LOST: "whose flights were lost",
}


@dataclass(slots=True, kw_only=True)
class Needs:
    """What a submodel needs on the devices of a fleet: the least and the most bytes, and how many have it."""

    least: int
    most: int
    holders: int = 0


@dataclass(slots=True, kw_only=True)
class Devices:
    """What the table of devices adds up to, and `sample`, some of its rows, evenly by number."""

    path: Path
    num_devices: int
    available: Integers
    num_samples: int = 0
    moves: bool = False
    is_over: bool = True
    """Whether the run has counted; until it ends it has not."""
    needs: dict[str, Needs] = field(default_factory=dict)
    absent: Counter[str] = field(default_factory=Counter)
    """Of devices of which nothing arrived, how many by their most frequent reason."""
    sample: list[Mapping[str, Any]] = field(default_factory=list)


def read_devices(run_dir: Path, *, num_devices: int, most_rows: int) -> Devices | None:
    """Return the devices of a run folder; None where it keeps none.

    Raises:
        DataNotFoundError: the table is damaged, was there and is gone, or is not of so many devices.
    """
    require_kept(run_dir, DEVICES_CSV, DEVICES_PARQUET)
    path = find_devices(run_dir)
    if path is None:
        return None
    found = Devices(path=path, num_devices=num_devices, available=np.zeros(num_devices, np.int64))
    wanted = {int(place) for place in np.linspace(0, num_devices - 1, min(most_rows, num_devices))}
    first = 0
    for block in scan_columns(path, *_READ):
        after = first + len(block["device"])
        if block["device"] != list(range(first, after)) or after > num_devices:
            raise _damaged(path, f"does not hold devices 0 to {num_devices - 1}, a row each")
        found.available[first:after] = block["available_memory_bytes"]
        _add(found, block, first)
        found.sample += [{name: block[name][place - first] for name in _READ} for place in range(first, after)
                         if place in wanted]  # fmt: skip
        first = after
    if first != num_devices:
        raise _damaged(path, f"holds {first} devices, but the scenario has {num_devices}")
    return found


def _damaged(path: Path, why: str) -> DataNotFoundError:
    return DataNotFoundError(f"{path}: {why}", hint="the file was changed or cut, so run the scenario again")


def _add(found: Devices, block: Mapping[str, Sequence[Any]], first: int) -> None:
    found.num_samples += sum(block["samples"])
    found.moves = found.moves or any(least is not None for least in block["lowest_memory_bytes"])
    available = found.available[first : first + len(block["device"])]
    texts = np.array(block["needed_memory_bytes"], dtype=object)
    # Devices of one class and plan share a text: each is read once.
    for text in dict.fromkeys(block["needed_memory_bytes"]):
        memory = available[texts == text]
        for name, need in _needs(text, found.path).items():
            known = found.needs.setdefault(name, Needs(least=need, most=need))
            known.least, known.most = min(known.least, need), max(known.most, need)
            known.holders += int((memory >= need).sum())
    if any(cell is None for cell in block["arrived"]):
        found.is_over = False
        return
    for place, arrived in enumerate(block["arrived"]):
        if not arrived:
            found.absent[_why(block, place)] += 1


def _needs(text: str, path: Path) -> dict[str, int]:
    found = {}
    for part in text.split(";") if text else ():
        name, _, number = part.rpartition("=")
        if not number.isascii() or not number.isdigit():
            raise _damaged(path, f"needed_memory_bytes is {text[:80]!r}, not submodel=bytes joined by semicolons")
        found[name] = int(number)
    return found


def _why(row: Mapping[str, Any], place: int | None = None) -> str:
    """Return why nothing of a device arrived: lost flights, or the reason that kept it from most rounds."""
    cells = {name: row[name] if place is None else row[name][place] for name in (*_REASONS, "flights")}
    if cells["flights"]:
        return _LOST
    most = max(_REASONS, key=lambda name: cells[name] or 0)
    return _WHY[most] if cells[most] else _NEVER_ASKED


def devices_blocks(devices: Devices | None) -> tuple[Block, ...]:
    """Return who never took part and why, and the table; a sentence where the run keeps none."""
    if devices is None:
        why = f"This run has no table of its devices ({DEVICES_CSV}): it was made by an older version."
        return (Prose(paragraphs=(why,), is_note=True),)
    said = _absent(devices)
    if len(devices.sample) < devices.num_devices:
        said += (f" The table is a sample of {len(devices.sample):,} of {count(devices.num_devices, 'device')}, evenly "
                 f"by number; all are in {devices.path.name}.")  # fmt: skip
    return (Prose(paragraphs=(said,)), _table(devices))


def _absent(devices: Devices) -> str:
    if not devices.is_over:
        return "What became of each device is counted when the run ends."
    total = sum(devices.absent.values())
    if not total:
        return "Of every device at least one update was merged."
    parts = [f"{number:,} {_MEANT.get(reason, 'for other reasons')}" for reason, number in devices.absent.most_common()]
    return f"Of {total:,} of {count(devices.num_devices, 'device')} no update was merged: {listed(parts)}."


def _table(devices: Devices) -> Grid:
    heads = ("device", "hardware", "memory", "holds", "samples", "online", "flights", "arrived", "dropped",
             "rounds denied", "mostly", "lacks")  # fmt: skip
    rows, values = [], []
    for row in devices.sample:
        reason, lacks = max(_REASONS, key=lambda name: row[name] or 0), row["shortfall_bytes"]
        holds = _holds(row["fits"], row["needed_memory_bytes"])
        rows.append((
            str(row["device"]), row["hardware"], size(row["available_memory_bytes"]), holds, f"{row['samples']:,}",
            percent(row["online_share"]), *(_whole(row[name]) for name in _SHOWN[6:10]),
            _WHY[reason] if row[reason] else NONE, size(lacks) if lacks else NONE,
        ))  # fmt: skip
        values.append((
            row["device"], None, row["available_memory_bytes"], None, row["samples"], row["online_share"],
            *(row[name] for name in _SHOWN[6:10]), None, row["shortfall_bytes"],
        ))  # fmt: skip
    numeric = frozenset(head for head in heads if head not in ("hardware", "holds", "mostly"))
    notes = ("Memory is what training may use. Lacks: bytes missing for the submodel that needs least. On paper the "
             "table ends after 40 rows." if len(rows) > 40 else
             "Memory is what training may use. Lacks: bytes missing for the submodel that needs least.",)  # fmt: skip
    table = TextTable(headers=heads, rows=tuple(rows), numeric=numeric, notes=notes)
    return Grid(table=table, is_tool=True, values=tuple(values))


def _holds(fits: str, needed: str) -> str:
    """Return how many submodels a device holds, of how many; of many the table itself says no more."""
    if " of " in fits:
        return fits
    return f"{len(fits.split(';')) if fits else 0} of {len(needed.split(';'))}" if needed else NONE


def _whole(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"
