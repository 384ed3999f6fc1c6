"""Mahimahi's packet traces: a line per packet, the millisecond at which a link could deliver 1500 bytes.

R. Netravali et al., "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX ATC 2015, section 3. The last
millisecond is the length of the trace, after which it starts over. A direction is a file: import each on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from neulite_sim.arrays import Floats, Integers
from neulite_sim.registry import Component, Options
from neulite_sim.traces.importers.contract import Cells, Imported, ReadForeign, counted, label_of, read_text, refused
from neulite_sim.traces.intervals import LAST_S

PACKET_BITS = 1500 * 8
_MOST_MS = 1000 * int(LAST_S)
HEADER = ("trace", "t_s", "bits_per_second")


class MahimahiOptions(Options):
    """How finely packets are put together into a rate."""

    bin_ms: int = Field(default=1, ge=1, le=60_000)
    """Milliseconds over which packets become one rate; 1 keeps all that the trace says, more makes a smaller file."""


def _read(options: MahimahiOptions, paths: Sequence[Path]) -> Imported:
    rows: list[Cells] = []
    num_packets = 0
    seen: dict[str, Path] = {}
    for path in paths:
        if path.name in seen:
            raise refused(path, f"has the name of {seen[path.name]}; a trace is called after its file, rename one")
        seen[path.name] = path
        at_ms = _packets(path)
        num_packets += len(at_ms)
        starts_ms, rates = _rates(at_ms, options.bin_ms)
        label = label_of(path, path.name)
        rows += [(label, ms / 1000, float(rate)) for ms, rate in zip(starts_ms.tolist(), rates, strict=True)]
        rows.append((label, int(at_ms[-1]) / 1000, ""))
    notes = [f"{counted(num_packets, 'packet')} of 1500 bytes, as rates over {options.bin_ms} ms"]
    facts = {"packets": num_packets}
    return Imported(kind="throughput", header=HEADER, rows=rows, notes=tuple(notes), facts=facts)


def _packets(path: Path) -> Integers:
    """Return the milliseconds of a file, ascending, the last above 0."""
    found: list[int] = []
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        word = text.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdecimal()) or len(word) > 13 or int(word) > _MOST_MS:
            wish = f"a whole number of milliseconds up to {_MOST_MS:.3e}"
            raise refused(path, f"{word[:40]!r} is not {wish}", line)
        ms = int(word)
        if found and ms < found[-1]:
            raise refused(path, f"{ms} ms follows {found[-1]} ms; the lines of a packet trace ascend", line)
        found.append(ms)
    if not found or not found[-1]:
        raise refused(path, "lasts no time: it holds no packet after millisecond 0")
    return np.array(found, np.int64)


def _rates(at_ms: Integers, bin_ms: int) -> tuple[Integers, Floats]:
    """Return where each rate begins, in milliseconds, and the rates in bits per second.

    A packet at millisecond t passes in the bin that holds (t - 1, t]; one at 0 with those at 1. The last bin may be
    shorter than the others. Equal rates that follow each other are one.
    """
    length_ms = int(at_ms[-1])
    place = np.maximum(at_ms - 1, 0) // bin_ms
    used, counts = np.unique(place, return_counts=True)
    # Each bin with packets, and the empty stretch after it.
    begins = np.concatenate([used * bin_ms, np.minimum((used + 1) * bin_ms, length_ms), np.zeros(1, np.int64)])
    widths_ms = np.minimum((used + 1) * bin_ms, length_ms) - used * bin_ms
    rates = np.concatenate([counts * PACKET_BITS * 1000.0 / widths_ms, np.zeros(len(used) + 1)])
    # At equal beginnings the bin with packets is the first in `begins`, and the stable sort keeps it so.
    order = np.argsort(begins, kind="stable")
    begins, rates = begins[order], rates[order]
    first = np.ones(len(begins), np.bool_)
    first[1:] = begins[1:] != begins[:-1]
    begins, rates = begins[first & (begins < length_ms)], rates[first & (begins < length_ms)]
    changes = np.ones(len(rates), np.bool_)
    changes[1:] = rates[1:] != rates[:-1]
    return begins[changes], rates[changes]


def _build(options: MahimahiOptions) -> ReadForeign:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="mahimahi",
    summary="packet lines: a millisecond per 1500 bytes that a link could deliver; one trace per file",
    source="Netravali et al., Mahimahi, USENIX ATC 2015",
    options=MahimahiOptions,
    build=_build,
)
