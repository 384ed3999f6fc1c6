"""Orders of flights for tests that do not look at what is charged."""

from typing import Any

from neulite_sim.timeline.flights import Order


def order_of(flight: int = 1, *, device: int | None = None, at_s: float = 0.0, **given: Any) -> Order:
    """Return the order of a flight that leaves at `at_s`, of the device of its own number where none is named."""
    usual = {"round": 1, "version": 0, "submodel": "full", "stage": "full",
             "peak_memory_bytes": 1, "available_memory_bytes": 1, "batch_size": 1}  # fmt: skip
    number = flight if device is None else device
    return Order(flight=flight, device=number, dispatched_s=at_s, **{**usual, **given})
