"""What a scenario says and cannot be as it says: no mistake that would be refused, but nothing to pass over either."""

from __future__ import annotations

from neulite_sim.scenario.schema import Scenario


def remarks(scenario: Scenario) -> tuple[str, ...]:
    """Return a sentence for each value of a scenario that acts as another one."""
    found = []
    options, devices = scenario.selection.options, scenario.population.devices
    usual = type(options).model_fields["devices_per_round"].default
    wanted = options.devices_per_round
    # The default is nobody's wish.
    if devices < wanted != usual:
        found.append(
            f"selection.devices_per_round is {wanted}, more than the fleet of {devices}: no more than these take part "
            "in a round"
        )
    in_flight = getattr(scenario.protocol.options, "concurrency", None)
    if in_flight is not None and in_flight > devices:
        found.append(f"protocol.concurrency is {in_flight}, more than the fleet of {devices}: never more are in flight")
    return tuple(found)
