"""Comings and goings: who is online from when to when, followed once from the beginning of a run to its end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.population.availability.contract import Availability

MOST_QUESTIONS = 100_000
"""So many questions about one device are asked at most of an availability that does not tell its changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Some changes in the order of time: `signs` is 1 where a device comes online, -1 where it goes offline."""

    moments_s: Floats
    devices: Integers
    signs: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """For how many seconds each device was online until a moment, and when last; NaN where it never was."""

    online_s: Floats
    last_seen_s: Floats

    def part(self, span: slice) -> Presence:
        """Return that of some of the devices."""
        return Presence(online_s=self.online_s[span], last_seen_s=self.last_seen_s[span])


class Comings:
    """Follows an availability that tells its changes. `online` is who is online at `at_s`, the moment come to."""

    def __init__(self, whereabouts: Whereabouts) -> None:
        self._whereabouts = whereabouts
        self.at_s = 0.0
        self.online: Flags = whereabouts.online(0.0).copy()
        # Who is online has the moments at which it came taken off: what is added when it goes is the stay.
        self._online_s: Floats = np.zeros(len(self.online))
        self._left_s: Floats = np.full(len(self.online), math.nan)

    def until(self, at_s: float) -> Iterator[Changes]:
        """Yield all changes after the moment come to and up to `at_s`, and come to that.

        `online` is brought up to each part once the next one is asked for.
        """
        asks_at_s = self.at_s
        while asks_at_s <= at_s:
            stretch = self._whereabouts.stretch(asks_at_s)
            assert stretch is not None, "an availability that tells its changes tells them all"
            # None of those at the beginning of time: who is online then was asked.
            first = int(stretch.moments_s.searchsorted(self.at_s, side="right"))
            after = int(stretch.moments_s.searchsorted(at_s, side="right"))
            comes, devices = stretch.comes[first:after], stretch.devices[first:after]
            found = Changes(
                moments_s=stretch.moments_s[first:after], devices=devices, signs=np.where(comes, 1, -1).astype(np.int64)
            )
            if len(devices):
                yield found
                self._take(found, comes)
            asks_at_s = stretch.ends_s
        self.at_s = at_s

    def _take(self, changes: Changes, comes: Flags) -> None:
        # Moments lie on a grid on which sums are exact, so that the order of these sums does not matter.
        np.add.at(self._online_s, changes.devices, -changes.signs * changes.moments_s)
        # Of a device that changes twice the later one stands.
        self.online[changes.devices] = comes
        self._left_s[changes.devices[~comes]] = changes.moments_s[~comes]

    def presence(self, span: slice) -> Presence:
        """Return how long, and when last, each device of a span was online up to the moment come to."""
        online = self.online[span]
        online_s = self._online_s[span] + np.where(online, self.at_s, 0.0)
        return Presence(online_s=online_s, last_seen_s=np.where(online, self.at_s, self._left_s[span]))


def asked_presence(availability: Availability, num_devices: int, until_s: float) -> Presence | None:
    """Return the same of an availability that does not tell its changes: each device is asked again and again.

    None where that takes too many questions.
    """
    online_s, last_seen_s = np.zeros(num_devices), np.full(num_devices, math.nan)
    # The first two questions are asked of all devices at once.
    now_s = availability.next_online_s(np.arange(num_devices), 0.0)
    asked = 0
    for device in np.flatnonzero(now_s < until_s).tolist():
        one, begins_s = np.array([device]), float(now_s[device])
        while begins_s < until_s:
            ends_s = float(availability.online_until_s(one, begins_s)[0])
            online_s[device] += min(ends_s, until_s) - begins_s
            last_seen_s[device] = min(ends_s, until_s)
            if ends_s >= until_s:
                break
            begins_s = float(availability.next_online_s(one, ends_s)[0])
            asked += 1
            if asked > MOST_QUESTIONS:
                return None
    return Presence(online_s=online_s, last_seen_s=last_seen_s)
