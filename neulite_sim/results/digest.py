"""The digest of a run: SHA-256 over everything that equal runs share, taken while the run happens.

Rows of each kind are hashed in their own order, each row as one line of JSON (floats as their shortest exact text,
None as null, text escaped), so no two different rows look alike and how the kinds interleave does not matter.
Wall-clock columns stay out. The final weights follow by name: name, type, shape, raw little-endian bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from neulite_sim.results.cells import FILES, decisive
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import FlightRow, Row, columns, later_columns

# Kept, because `json.dumps` with separators makes a new one for every row.
_AS_JSON = json.JSONEncoder(separators=(",", ":"))


def _line(content: object) -> bytes:
    return _AS_JSON.encode(content).encode("ascii") + b"\n"


def _begun(kind: type[Row]) -> hashlib._Hash:
    # What came later is not in this line, so that runs which do without keep their digests.
    known = (name for name in columns(kind) if name not in later_columns(kind))
    return hashlib.sha256(_line([kind.__name__, *known]))


class Digest:
    """Running hashes of a run's rows, in constant memory."""

    def __init__(self) -> None:
        self._hashes = {kind: _begun(kind) for kind in FILES}

    def add(self, row: Row) -> None:
        """Take in one row; its wall-clock columns do not count."""
        if type(row) not in self._hashes:
            # Tables that not every run has: runs without them keep their digests.
            self._hashes[type(row)] = _begun(type(row))
        self._hashes[type(row)].update(_line(decisive(row)))

    def add_flights(self, rows: FlightRows) -> None:
        """Take in rows of flights."""
        self._hashes[FlightRow].update(rows.as_json().encode("ascii"))

    def rows_hexdigest(self) -> str:
        """Return the digest of the rows so far alone: 64 hexadecimal digits."""
        return self._whole_of_rows().hexdigest()

    def _whole_of_rows(self) -> hashlib._Hash:
        whole = hashlib.sha256()
        for kind, rows in self._hashes.items():
            whole.update(_line([kind.__name__, rows.hexdigest()]))
        return whole

    def hexdigest(self, weights: Mapping[str, Tensor]) -> str:
        """Return the digest of the rows so far and these weights: 64 hexadecimal digits."""
        whole = self._whole_of_rows()
        for name in sorted(weights):
            tensor = weights[name].detach().cpu().contiguous()
            whole.update(_line([name, str(tensor.dtype), list(tensor.shape)]))
            whole.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()
