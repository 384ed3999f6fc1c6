"""What people call the columns of a table of devices and times, and how such a table is imported."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

# By option of the importer `table`, the names that a column may have; small letters, blanks and dashes as underscores.
NAMES: Mapping[str, tuple[str, ...]] = {
    "device": (
        "device", "device_id", "deviceid", "host", "hostname", "client", "client_id", "node", "node_id", "user",
        "user_id", "phone", "machine", "station", "uuid", "guid", "imei", "mac", "name", "id",
    ),
    "time": (
        "time", "timestamp", "time_s", "t_s", "t", "ts", "datetime", "date_time", "date", "epoch", "unix_time",
        "unixtime", "seconds", "event_time", "at",
    ),
    "state": (
        "state", "online", "is_online", "status", "available", "is_available", "availability", "up", "connected",
        "active", "event",
    ),
    "start": ("start", "start_s", "start_time", "begin", "from", "online_from", "connected_at", "login"),
    "end": ("end", "end_s", "end_time", "stop", "finish", "to", "until", "online_until", "disconnected_at", "logout"),
}  # fmt: skip
EVENTS, INTERVALS = ("device", "time", "state"), ("device", "start", "end")


def guessed(header: Sequence[str]) -> dict[str, str]:
    """Return which column of a header each option of the importer `table` most likely names, as far as one does."""
    plain = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(header)}
    found = {option: [plain[name] for name in names if name in plain] for option, names in NAMES.items()}
    return {option: columns[0] for option, columns in found.items() if columns}


def how_to_import(path: Path, header: Sequence[str]) -> str:
    """Return the command that turns a table with these columns into a trace of availability; "" for what is none."""
    if len(header) < 2:
        return ""
    found = guessed(header)
    options = INTERVALS if {"start", "end"} <= found.keys() and "state" not in found else EVENTS
    settings = [f"--set {option}={shlex.quote(found.get(option, 'COLUMN'))}" for option in options]
    command = " ".join(["neulite-sim traces import table", shlex.quote(str(path)), *settings])
    return f", or turn the table into such a file: {command}"
