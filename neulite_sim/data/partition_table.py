"""A partition that stands in a file: a CSV of `sample,device`, or a JSON object of device to sample numbers.

    sample,device
    0,3
    1,0

Samples are the training samples as the scenario has them, counted from 0; devices are those of the fleet. What no line
names belongs to nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neulite_sim.data.contract import Partition
from neulite_sim.data.given_partition import owned
from neulite_sim.data.partition import Deal, Groups, Labels
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.outside import TABLE_BYTES, plain_json, printable, read_regular, user_path
from neulite_sim.registry import Component, Options
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.traces.tables import TraceKind, first_problems, problem, read_table

KEY = "data.partition.path"
HEADER = ("sample", "device")
_FORM = "a CSV file of sample,device, or a JSON object of device to a list of samples"
_TABLE = TraceKind(name="partition", noun="table of samples and devices", key=KEY, form=_FORM)
_MOST_DIGITS = 9
"""Of a whole number in a cell: there are at most 10^9 samples and 10^7 devices."""


class TableOptions(Options):
    """Options of `table`."""

    path: InputFile
    """CSV file with the columns sample and device, or JSON file of device to samples; beside the scenario's file."""


def deal_table(
    labels: Labels, num_devices: int, rng: np.random.Generator, *, path: str, groups: Groups | None = None
) -> Partition:
    """Deal samples as a file says; nothing is drawn.

    Raises:
        DataNotFoundError: there is no such file, or it is not text.
        ScenarioError: a line names a sample or device that is not there, or a sample twice; all problems at once.
    """
    place = user_path(path).absolute()
    pairs = _of_json(place) if place.suffix == ".json" else _of_csv(place)
    owners = np.full(len(labels), -1, np.int64)
    named_at: dict[int, int | None] = {}
    problems: list[Problem] = []
    for line, sample, device in pairs:
        found = _wrong(sample, device, len(labels), num_devices)
        if not found and sample in named_at:
            before = named_at[sample]
            at = f", as line {before} does" if before is not None else " twice"
            found = f"names sample {sample} again{at}; a sample belongs to one device at most"
        if found:
            problems.append(Problem(key=KEY, message=found, file=str(place), line=line))
            continue
        named_at[sample] = line
        owners[sample] = device
    if problems:
        raise ScenarioError(first_problems(problems, _TABLE, place))
    return owned(owners, num_devices, name="table")


def _wrong(sample: int, device: int, num_samples: int, num_devices: int) -> str:
    if not 0 <= sample < num_samples:
        return f"sample {sample} is not there; training samples are 0 to {num_samples - 1}"
    if not 0 <= device < num_devices:
        return f"device {device} is not there; devices are 0 to {num_devices - 1}"
    return ""


def _of_csv(path: Path) -> Iterator[tuple[int, int, int]]:
    table = read_table(path, _TABLE)
    if table.header != HEADER:
        shown = ",".join(table.header)[:60]
        message = f"has the header {shown!r}; it must be {','.join(HEADER)}"
        raise ScenarioError([problem(_TABLE, path, table.header_line, message)])
    problems: list[Problem] = []
    pairs: list[tuple[int, int, int]] = []
    for line, cells in table.rows:
        if len(cells) != len(HEADER):
            problems.append(problem(_TABLE, path, line, f"has {len(cells)} columns where there are {len(HEADER)}"))
            continue
        wrong = next((place for place, cell in enumerate(cells) if not _is_whole(cell)), None)
        if wrong is not None:
            message = f"{HEADER[wrong]} {cells[wrong][:40]!r} is no whole number from 0 up"
            problems.append(problem(_TABLE, path, line, message))
            continue
        pairs.append((line, int(cells[0]), int(cells[1])))
    if problems:
        raise ScenarioError(first_problems(problems, _TABLE, path))
    return iter(pairs)


def _is_whole(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) <= _MOST_DIGITS


def _of_json(path: Path) -> Iterator[tuple[None, int, int]]:
    try:
        content = plain_json(read_regular(path, most_bytes=TABLE_BYTES))
    except OSError as failure:
        why = f"{printable(str(path))} cannot be read ({failure.strerror or failure})"
        raise DataNotFoundError(why, hint=f"{KEY} names {_FORM}") from None
    except ValueError as failure:
        raise _damaged(path, f"is not JSON ({printable(str(failure))})") from None
    lists = dict(enumerate(content)) if isinstance(content, list) else content
    if not isinstance(lists, dict):
        raise _damaged(path, "holds no object of device to samples")
    for device, samples in lists.items():
        if not _is_whole(str(device)):
            raise _damaged(path, f"names device {str(device)[:40]!r}, which is no whole number from 0 up")
        if not isinstance(samples, list):
            raise _damaged(path, f"gives device {device} no list of samples")
        wrong = next((each for each in samples if type(each) is not int or abs(each) >= 10**_MOST_DIGITS), None)
        if wrong is not None:
            raise _damaged(path, f"gives device {device} the sample {wrong!r:.40}, which is no whole number")
    return ((None, sample, int(device)) for device, samples in lists.items() for sample in samples)


def _damaged(path: Path, message: str) -> ScenarioError:
    return ScenarioError([Problem(key=KEY, message=f"{message}; {KEY} names {_FORM}", file=str(path))])


def _build(options: TableOptions) -> Deal:
    return functools.partial(deal_table, path=options.path)


COMPONENT = Component(
    kind="table",
    summary="as a file says: a CSV of sample,device, or JSON of device to samples",
    source="a file of your own",
    options=TableOptions,
    build=_build,
)
