"""Why flights end without an update being merged, as one word each: reasons are sentences, with phases and numbers."""

from __future__ import annotations

from collections.abc import Mapping

_CUT = "cut"
RUN_OVER = "run_over"
OTHER = "other"

_BEGINNINGS: Mapping[str, str] = {
    "went offline": "went_offline",
    "out of memory": "out_of_memory",
    "battery empty": "battery_empty",
    "failed": "failed",
    "timed out": "timed_out",
    "stalled": "stalled",
    "interrupted too often": "interrupted",
    "missed the deadline": "missed_deadline",
    "slower than": "too_slow",
    "the round was aborted": "round_aborted",
    "discarded": "discarded",
}
DROP_CAUSES = (*_BEGINNINGS.values(), RUN_OVER, OTHER)
"""Every cause: what a reason begins with, that the run was over, or a reason of somebody else's protocol."""


def cause_of(outcome: str, reason: str) -> str:
    """Return the cause, of `DROP_CAUSES`, of a flight that has not arrived."""
    if outcome == _CUT:
        return RUN_OVER
    return next((cause for words, cause in _BEGINNINGS.items() if reason.startswith(words)), OTHER)
