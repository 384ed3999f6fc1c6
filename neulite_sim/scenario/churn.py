"""The section `churn` of a scenario: what happens to devices and flights between dispatch and arrival."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import DeviceCount, Duration
from neulite_sim.registry import Options, refusal
from neulite_sim.units import DAY_S, Seconds

Watts = Annotated[float, Field(ge=1e-6, le=1000)]


class Outages(Options):
    """Times at which all devices of a group are offline together, each group on its own."""

    mean_between: Duration
    """Mean time from the end of an outage to the start of the group's next, such as 12h; exponential."""
    mean_length: Duration
    """Mean length of an outage, such as 10min; exponential."""
    groups: Literal["device-class"] | DeviceCount = "device-class"
    """Who fails together: all devices of one class, or so many groups of equal size drawn from the seed."""


class Battery(Options):
    """The battery of every device: it is plugged in once a day, and work ends when it is empty."""

    capacity_watt_hours: float = Field(ge=1e-6, le=10_000)
    """Energy of a full battery; 15 is a large phone."""
    idle_watts: Watts
    """Power of a device that does not train."""
    working_watts: Watts
    """Power of a device during a flight, in all its phases."""
    charging_watts: Watts
    """Power that the charger delivers; what the device draws meanwhile comes out of it."""
    plugged_in_at: Annotated[Seconds, Field(lt=DAY_S)] = 22 * 3600.0
    """Clock time at which a device is plugged in, on average; virtual time 0 is midnight."""
    plugged_in_spread: Annotated[Seconds, Field(le=DAY_S / 2)] = 2 * 3600.0
    """Standard deviation of that clock time over the fleet; a device keeps its own."""
    plugged_in_for: Annotated[Seconds, Field(ge=60, lt=DAY_S)] = 8 * 3600.0
    """How long it stays plugged in each day."""
    minimum: float = Field(default=0.2, gt=0, le=1)
    """Share of a full battery below which a device counts as offline, plugged in or not."""
    requires_charging: bool = False
    """Whether a device counts as online only while it is plugged in."""

    @model_validator(mode="after")
    def _a_battery_charges(self) -> Self:
        if self.charging_watts <= self.idle_watts:
            raise refusal(
                f"is {self.charging_watts:g} W, and an idle device draws {self.idle_watts:g} W: no battery would ever "
                f"charge; use more than {self.idle_watts:g}",
                "charging_watts",
                given=self.charging_watts,
            )
        if self.working_watts < self.idle_watts:
            raise refusal(
                f"is {self.working_watts:g} W, less than the {self.idle_watts:g} W of an idle device; use "
                f"{self.idle_watts:g} or more",
                "working_watts",
                given=self.working_watts,
            )
        if self.highest_charge < self.minimum:
            raise refusal(
                f"is {self.minimum:g}, but a day's charging never gets an empty battery above "
                f"{self.highest_charge:.3g}: no device would ever be online; lower it, or raise charging_watts or "
                "plugged_in_for",
                "minimum",
                given=self.minimum,
            )
        return self

    @property
    def highest_charge(self) -> float:
        """Share of a full battery with which an idle device is unplugged, day after day."""
        gained = (self.charging_watts - self.idle_watts) * self.plugged_in_for / 3600 / self.capacity_watt_hours
        lost = self.idle_watts * (DAY_S - self.plugged_in_for) / 3600 / self.capacity_watt_hours
        return 1.0 if lost <= min(gained, 1.0) else min(gained, 1.0)


class Churn(Options):
    """What may interrupt or end a flight, beside memory. Without any of it only `offline` acts."""

    offline: Literal["abort", "pause"] = "abort"
    """What going offline does to a flight: `abort` drops it at once, with `pause` it waits and goes on later."""
    failures_per_hour: float = Field(default=0.0, ge=0, le=3600)
    """Hazard of a flight from its dispatch on, pauses included: 1 - exp(-rate) of flights of an hour fail; 0: none."""
    timeout: Duration | None = None
    """How long after its dispatch the server gives up on a flight; it waits for ever without it."""
    outages: Outages | None = None
    """Times at which whole groups of devices are offline; none without it."""
    battery: Battery | None = None
    """Charge of the devices' batteries, which gates when they are online; no limit without it."""
