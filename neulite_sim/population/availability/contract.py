"""What the wing of availability answers: who is online, until when, and when again.

`conformance.check_availability` tests what is promised here for one of your own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from neulite_sim.arrays import Flags, Floats, Integers


class Availability(Protocol):
    """When devices are online. Pure lookups: any order of queries gives the same answers.

    Being online is a half-open interval: online at its start, offline at its end.
    """

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`."""
        ...

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now.

        Nobody asks what comes after `horizon_s`: any moment from there on may stand for another.
        """
        ...

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online; `inf` where that never happens."""
        ...


AvailabilityFactory = Callable[[int, int], Availability]
"""What a component's `build(options)` returns: `(num_devices, seed) -> Availability`."""
