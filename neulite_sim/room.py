"""Whether this machine has room for what is about to be allocated, asked before it is.

Numbers within their bounds can have products that no machine holds. Whoever allocates what a scenario decides the
size of asks here first, so that a run ends in a sentence and not in the middle of something.
"""

from __future__ import annotations

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.machine import free_memory_bytes
from neulite_sim.units import format_bytes

ALWAYS_THERE_BYTES = 2**26
"""What every machine that gets so far has; below it nothing is asked."""


def require_room(needed_bytes: float, what: str, *, key: str, advice: str) -> None:
    """Refuse an allocation that the free memory of this machine, and of its control group, does not hold.

    Args:
        needed_bytes: about what `what` will take.
        what: words for it, as in "needs about 7.45 GB for the synthetic images".
        key: the key of the scenario that asks for it.
        advice: what to do, as in "lower data.samples".

    Raises:
        ScenarioError: with the bytes needed and those that are free.
    """
    if needed_bytes <= ALWAYS_THERE_BYTES:
        return
    free = free_memory_bytes()
    if free is not None and needed_bytes > free:
        finding = f"needs about {format_bytes(needed_bytes)} for {what}, {format_bytes(free)} are free"
        raise ScenarioError([Problem.advising(key=key, found=finding, hint=advice)])
