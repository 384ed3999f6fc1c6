"""Availability of a user's own: an object with its lookups, or what makes one for a number of devices and a seed."""

from __future__ import annotations

import numpy as np

from neulite_sim.population.availability.asked import asked
from neulite_sim.population.availability.contract import Availability, AvailabilityFactory
from neulite_sim.registry import Options
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python
from neulite_sim.user_code.drawing import drawing
from neulite_sim.user_code.origins import in_a_line

_LOOKUPS = ("online", "online_until_s", "next_online_s")


def availability_of(found: Found, options: Options) -> AvailabilityFactory:
    """Return what makes the availability of a fleet of a user's value.

    Raises:
        ScenarioError: when it is called, and no availability comes of it.
    """
    del options

    def factory(num_devices: int, seed: int) -> Availability:
        with drawing(seed, "building.availability"):
            availability: Availability = found.object_like(
                _answers,
                {"num_devices": num_devices, "seed": seed},
                what="availability",
                hint=f"give an object with {', '.join(_LOOKUPS)}, or a class or function of (num_devices, seed) that "
                "makes one",
            )
        try:
            with drawing(seed, "availability.online", 0):
                count = np.size(availability.online(0.0))
        except Exception as error:
            raise found.refused(f"asking {found.name} who is online fails: {in_a_line(error)}") from error
        if count != num_devices:
            raise found.refused(f"{found.name} answers for {count} devices; population.devices is {num_devices}")
        return asked(availability, found.name, num_devices, seed)

    return factory


def _answers(value: object) -> bool:
    return not isinstance(value, type) and all(hasattr(value, name) for name in _LOOKUPS)


PYTHON = python("population.availability", "availability of your own", Options, availability_of)
GIVEN = given("population.availability", "availability of your own", Options, availability_of)
