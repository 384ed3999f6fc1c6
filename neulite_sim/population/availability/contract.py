"""What the wing of availability answers: who is online, until when, and when again.

`conformance.check_availability` tests what is promised here for one of your own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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

    # It may also have `forget()`, which lets go of what it holds to answer faster. The answers stay the same.


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Who comes online and who goes offline in a stretch of time `[begins_s, ends_s)`, in the order of time.

    From `moments_s[i]` on `devices[i]` is online where `comes[i]`, offline where not; of one device these alternate.
    """

    begins_s: float
    ends_s: float
    moments_s: Floats
    devices: Integers
    comes: Flags


@runtime_checkable
class Followed(Protocol):
    """Availability that tells its changes in the order of time; optional, for speed.

    Without it, whoever wants to know who has come or gone looks at everybody.
    """

    def stretch(self, at_s: float) -> Stretch:
        """Return all changes of a stretch of time that holds `at_s`; the next one begins where it ends."""
        ...


AvailabilityFactory = Callable[[int, int], Availability]
"""What a component's `build(options)` returns: `(num_devices, seed) -> Availability`."""
