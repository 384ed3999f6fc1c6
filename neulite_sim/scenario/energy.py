"""The section `energy` of a scenario: joules in the rows, and the watts of devices where they are known better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import MOST_ITEMS, Name, Share, ShareOrNone
from neulite_sim.registry import Options, refusal
from neulite_sim.units import DAY_S, Seconds

Watts = Annotated[float, Field(ge=1e-6, le=10_000)]
"""From a microcontroller asleep to a rack of servers."""

WattHours = Annotated[float, Field(ge=1e-6, le=10_000)]
"""Energy of a full battery: from a coin cell to a car's."""

STATES = ("idle_watts", "compute_watts", "receive_watts", "send_watts")
RADIO = "radio_watts"
TRANSFERS = ("receive_watts", "send_watts")


class DevicePower(Options):
    """What one kind of device draws in each state, all of it; what is left out is as in the table of devices."""

    idle_watts: Watts | None = None
    """While it waits: in the pauses of a flight."""
    compute_watts: Watts | None = None
    """While it trains."""
    radio_watts: Watts | None = None
    """While it receives or sends, whatever is not given apart."""
    receive_watts: Watts | None = None
    """While it receives."""
    send_watts: Watts | None = None
    """While it sends."""
    battery_watt_hours: WattHours | None = None
    """Energy of its full battery; acts with energy.battery."""

    @model_validator(mode="after")
    def _radio_acts(self) -> Self:
        if self.radio_watts is not None and self.receive_watts is not None and self.send_watts is not None:
            raise refusal(
                "stands for receive_watts and send_watts, and both are given; remove it", RADIO, given=self.radio_watts
            )
        return self

    def given(self) -> Iterator[tuple[str, float, str]]:
        """Yield the states whose watts are given, with the watts and the key that gives them."""
        for state in STATES:
            key = RADIO if state in TRANSFERS and getattr(self, state) is None else state
            watts = getattr(self, key)
            if watts is not None:
                yield state, float(watts), key


class FleetBattery(Options):
    """Batteries that flights drain by the joules they take: every device has one, and what it has left is remembered.

    It is plugged in once a day. With too little left it counts as offline until it is charged again, and a flight ends
    when its battery is empty.
    """

    capacity_watt_hours: WattHours | None = None
    """Energy of a full battery, of whatever is not told apart (energy.power, the table of devices)."""
    level: ShareOrNone | None = None
    """Share of a full battery that each has at virtual time 0; without it, what it has on any day without work."""
    charging_watts: Watts
    """Power that the charger delivers; what the device draws meanwhile comes out of it."""
    plugged_in_at: Annotated[Seconds, Field(lt=DAY_S)] = 22 * 3600.0
    """Clock time at which a device is plugged in, on average; virtual time 0 is midnight."""
    plugged_in_spread: Annotated[Seconds, Field(le=DAY_S / 2)] = 2 * 3600.0
    """Standard deviation of that clock time over the fleet; a device keeps its own."""
    plugged_in_for: Annotated[Seconds, Field(ge=60, lt=DAY_S)] = 8 * 3600.0
    """How long it stays plugged in each day."""
    minimum: Share = 0.2
    """Share of a full battery below which a device is offered no work, plugged in or not."""
    requires_charging: bool = False
    """Whether a device counts as online only while it is plugged in."""


class Energy(Options):
    """Joules in the rows of flights and rounds; without this section they are in the summary alone."""

    power: Annotated[Mapping[Name, DevicePower], Field(max_length=MOST_ITEMS)] = {}
    """Watts by the name of a device of `population.groups`, where they are not those of the table of devices."""
    battery: FleetBattery | None = None
    """Batteries that flights drain; devices have all the power they need without it."""

    @model_validator(mode="after")
    def _capacities_act(self) -> Self:
        if self.battery is None:
            for name, power in self.power.items():
                if power.battery_watt_hours is not None:
                    raise refusal(
                        "acts only with energy.battery; remove it, or set that",
                        "power", name, "battery_watt_hours", given=power.battery_watt_hours,
                    )  # fmt: skip
        return self
