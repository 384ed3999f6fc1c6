"""The rules of the Trace Event format that viewers insist on, and a reader that checks them.

From the format's description ("Trace Event Format", Google) and from what Perfetto says of it
(https://perfetto.dev/docs/faq): spans of one track must nest; here they must not even overlap.
"""

from __future__ import annotations

import gzip
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

# What an event of each phase letter must have: the tables of the format's description.
REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"},
    "i": {"name", "cat", "ts", "pid", "tid", "s"},
    "C": {"name", "ts", "pid", "args"},
    "M": {"name", "pid", "tid", "args"},
}
METADATA = {
    "process_name": ("name", str),
    "thread_name": ("name", str),
    "process_sort_index": ("sort_index", int),
    "thread_sort_index": ("sort_index", int),
}


def check_rules(trace: dict[str, Any]) -> None:
    """Assert that a trace is one that viewers take: required keys, finite numbers, tracks with names and no overlap."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    named: set[tuple[int, int]] = set()
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in trace["traceEvents"]:
        assert event.keys() >= REQUIRED[event["ph"]], event
        assert all(type(event[key]) is int for key in ("pid", "tid"))
        if event["ph"] == "M":
            key, kind = METADATA[event["name"]]
            assert type(event["args"][key]) is kind
            named |= {(event["pid"], event["tid"])} if event["name"] == "thread_name" else set()
            continue
        assert type(event["ts"]) is int
        assert event["ts"] >= 0
        if event["ph"] == "C":
            assert event["args"]
            assert all(math.isfinite(value) and not isinstance(value, bool) for value in event["args"].values())
        if event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        if event["ph"] == "X":
            assert type(event["dur"]) is int
            assert event["dur"] > 0
            tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    assert named >= tracks.keys()
    for track in tracks.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(track)))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events of a timeline, after checking the rules."""
    trace = json.loads(gzip.decompress(path.read_bytes()), parse_constant=lambda name: pytest.fail(name))
    check_rules(trace)
    events: list[dict[str, Any]] = trace["traceEvents"]
    return events
