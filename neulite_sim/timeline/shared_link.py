"""A link of limited capacity that many transfers share fairly, each also limited by the rate of its own device.

At every moment the rates are the max-min fair ones (Bertsekas and Gallager, Data Networks, 2nd edition, 1992, section
6.5.2, for a single link): transfer i passes `min(limit_i, level)`, where the water level is such that all rates
together are the capacity, or every transfer runs at its own limit. Without limits this is egalitarian processor
sharing (Kleinrock, Queueing Systems volume 2, 1976, chapter 4).

Nothing is stepped. Transfers in order of their limits are a prefix that runs at its own limits (each ends at a moment
known since it began to) and a rest that runs at the level (these end in the order of the bits that every one of them
still lacks, whatever the level does). A change costs a few bisections, and one more for each transfer that the level
passes. Sums of limits are exact integers: rates depend on the transfers that are active, never on their history.

Order at equal times: transfers that end at one moment end in the order of their numbers, which is that in which they
were begun, and before anything of SimPy's normal priority at that moment: a device that leaves at the very moment at
which its last bit passes has passed it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from itertools import takewhile
from operator import attrgetter
from typing import cast

from simpy.events import URGENT, Event

from neulite_sim.timeline.clock import Clock

_UNIT = 2**1074
"""Every finite float is a whole multiple of 1 / _UNIT."""


class Transfer(Event):
    """Bits on their way over a link: an event that happens when the last of them has passed.

    Made by `SharedLink.transfer`; `number` counts from 0 in the order of the calls. A cancelled transfer never
    happens.
    """

    def __init__(self, clock: Clock, *, number: int, num_bits: float, limit_bits_per_second: float) -> None:
        super().__init__(clock)
        self.number = number
        self.limit_bits_per_second = limit_bits_per_second
        # `_left_bits` were missing at `_mark`: a moment of the clock at the own limit, bits of the meter at the level.
        self._left_bits = num_bits
        self._mark = 0.0
        self._exact_limit = _exact(limit_bits_per_second)
        self._state = "new"


class SharedLink:
    """A link of `capacity_bits_per_second`, a finite number above zero, on a virtual clock.

    Raises:
        ValueError: a capacity that is not a finite number above zero.
    """

    def __init__(self, clock: Clock, capacity_bits_per_second: float) -> None:
        if not 0 < capacity_bits_per_second < math.inf:
            raise ValueError(f"the capacity of a link is {capacity_bits_per_second} bits/s; give a finite rate above 0")
        self.capacity_bits_per_second = float(capacity_bits_per_second)
        self._clock = clock
        self._num_begun = 0
        self._exact_capacity = _exact(self.capacity_bits_per_second)
        # Active transfers as (limit, number); the first `_num_limited` run at their limits, `_exact_limits` together.
        self._by_limit: list[tuple[float, int]] = []
        self._num_limited = 0
        self._exact_limits = 0
        self._active: dict[int, Transfer] = {}
        # Those at their limits as (moment of the end, number), the others as (meter at the end, number).
        self._ends_s: list[tuple[float, int]] = []
        self._ends_bits: list[tuple[float, int]] = []
        # What each transfer at the level has passed until `_since_s`, counted from when there was none.
        self._meter_bits = 0.0
        self._level = math.inf
        self._since_s = clock.now
        self._next_s = math.inf
        self._wake: Event | None = None
        self._wake_s = math.inf

    @property
    def num_active(self) -> int:
        """Number of transfers that are passing bits now."""
        return len(self._active)

    def transfer(self, num_bits: float, rate_limit_bits_per_second: float = math.inf) -> Transfer:
        """Begin a transfer now and return it: an event that happens when `num_bits` have passed.

        Raises:
            ValueError: bits that are not a finite number from zero, or a limit that is not above zero.
        """
        if not 0 <= num_bits < math.inf:
            raise ValueError(f"a transfer has {num_bits} bits; give a finite number from 0")
        if not rate_limit_bits_per_second > 0:
            raise ValueError(f"the rate limit of a transfer is {rate_limit_bits_per_second} bits/s; give one above 0")
        # Nothing passes faster than the link: a higher limit never acts.
        limit = min(float(rate_limit_bits_per_second), self.capacity_bits_per_second)
        begun = Transfer(self._clock, number=self._num_begun, num_bits=float(num_bits), limit_bits_per_second=limit)
        self._num_begun += 1
        self._advance()
        self._enter(begun)
        self._replan()
        return begun

    def pause(self, transfer: Transfer) -> float:
        """Stop a transfer, give its rate to the others, and return the bits that it still lacks.

        One that has ended stays ended, and lacks 0.

        Raises:
            ValueError: the transfer is paused already or was cancelled.
        """
        return self._stop(transfer, "paused")

    def resume(self, transfer: Transfer) -> None:
        """Go on with a paused transfer from where it was stopped.

        Raises:
            ValueError: the transfer is not paused.
        """
        if transfer._state != "paused":
            raise ValueError(f"transfer {transfer.number} is {transfer._state}; only a paused one can be resumed")
        self._advance()
        self._enter(transfer)
        self._replan()

    def cancel(self, transfer: Transfer) -> float:
        """End a transfer for good, paused or not, without its event; return the bits that had not passed.

        One that has ended stays ended, and lacks 0.

        Raises:
            ValueError: the transfer was cancelled already.
        """
        if transfer._state == "paused":
            transfer._state = "cancelled"
            return transfer._left_bits
        return self._stop(transfer, "cancelled")

    def rate_bits_per_second(self, transfer: Transfer) -> float:
        """Return the rate at which a transfer passes bits now; 0 for one that is paused or over."""
        return min(transfer.limit_bits_per_second, self._level) if transfer._state == "active" else 0.0

    def left_bits(self, transfer: Transfer) -> float:
        """Return the bits that a transfer lacks now, from 0 to its size."""
        if transfer._state != "active":
            return transfer._left_bits
        if self._is_limited(transfer):
            passed = transfer.limit_bits_per_second * (self._clock.now - transfer._mark)
        else:
            passed = self._meter_bits + self._level * (self._clock.now - self._since_s) - transfer._mark
        return max(0.0, transfer._left_bits - passed)

    def _is_limited(self, transfer: Transfer) -> bool:
        """Whether an active transfer runs at its own limit and not at the level."""
        key = (transfer.limit_bits_per_second, transfer.number)
        return self._num_limited > 0 and key <= self._by_limit[self._num_limited - 1]

    def _stop(self, transfer: Transfer, state: str) -> float:
        if transfer._state == "done":
            return 0.0
        if transfer._state != "active":
            raise ValueError(f"transfer {transfer.number} is {transfer._state}; it cannot be {state}")
        self._advance()
        self._leave(transfer)
        transfer._state = state
        self._replan()
        return transfer._left_bits

    def _advance(self) -> None:
        """Bring the meter of the level to now; rates have been the same since it was last read."""
        if len(self._by_limit) > self._num_limited:
            self._meter_bits += self._level * (self._clock.now - self._since_s)
        else:
            self._meter_bits = 0.0
        self._since_s = self._clock.now

    def _enter(self, transfer: Transfer) -> None:
        """Add a transfer on the side of the level on which its neighbours by limit are."""
        transfer._state = "active"
        self._active[transfer.number] = transfer
        key = (transfer.limit_bits_per_second, transfer.number)
        place = bisect_left(self._by_limit, key)
        self._by_limit.insert(place, key)
        if place < self._num_limited:
            self._num_limited += 1
            self._run_at_limit(transfer)
        else:
            self._run_at_level(transfer)

    def _leave(self, transfer: Transfer) -> None:
        """Take an active transfer out and leave in it the bits that it lacks."""
        if self._is_limited(transfer):
            self._settle_at_limit(transfer)
            self._num_limited -= 1
        else:
            self._settle_at_level(transfer)
        _remove(self._by_limit, (transfer.limit_bits_per_second, transfer.number))
        del self._active[transfer.number]

    def _run_at_limit(self, transfer: Transfer) -> None:
        transfer._mark = self._since_s
        insort(self._ends_s, (_end_at_limit(transfer), transfer.number))
        self._exact_limits += transfer._exact_limit

    def _settle_at_limit(self, transfer: Transfer) -> None:
        _remove(self._ends_s, (_end_at_limit(transfer), transfer.number))
        self._exact_limits -= transfer._exact_limit
        passed_bits = transfer.limit_bits_per_second * (self._since_s - transfer._mark)
        transfer._left_bits = max(0.0, transfer._left_bits - passed_bits)

    def _run_at_level(self, transfer: Transfer) -> None:
        transfer._mark = self._meter_bits
        insort(self._ends_bits, (transfer._mark + transfer._left_bits, transfer.number))

    def _settle_at_level(self, transfer: Transfer) -> None:
        _remove(self._ends_bits, (transfer._mark + transfer._left_bits, transfer.number))
        transfer._left_bits = max(0.0, transfer._left_bits - (self._meter_bits - transfer._mark))

    def _replan(self) -> None:
        """Plan for the transfers that are active now; a wake that is set for too early a moment is left to happen."""
        self._plan()
        if self._next_s < self._wake_s:
            self._set_wake()

    def _plan(self) -> None:
        """Find the level, and when the next transfer ends."""
        self._find_level()
        self._next_s = self._ends_s[0][0] if self._ends_s else math.inf
        if self._ends_bits:
            self._next_s = min(self._next_s, self._end_at_level(self._ends_bits[0][0]))

    def _find_level(self) -> None:
        """Move transfers across the level until those below it are limited and those above are not; set the level.

        Both loops compare exactly, and a move of the first raises the level to below that limit, one of the second
        raises it or leaves it: neither undoes the other.
        """
        left = self._exact_capacity - self._exact_limits
        while self._num_limited:
            highest = self._active[self._by_limit[self._num_limited - 1][1]]
            if highest._exact_limit * (len(self._by_limit) - self._num_limited) <= left:
                break
            self._num_limited -= 1
            self._settle_at_limit(highest)
            self._run_at_level(highest)
            left += highest._exact_limit
        while self._num_limited < len(self._by_limit):
            lowest = self._active[self._by_limit[self._num_limited][1]]
            if lowest._exact_limit * (len(self._by_limit) - self._num_limited) > left:
                break
            self._num_limited += 1
            self._settle_at_level(lowest)
            self._run_at_limit(lowest)
            left -= lowest._exact_limit
        num_at_level = len(self._by_limit) - self._num_limited
        self._level = left / (num_at_level * _UNIT) if num_at_level else math.inf

    def _end_at_level(self, end_bits: float) -> float:
        """Return when a transfer ends that runs at the level and ends at `end_bits` of the meter."""
        return max(self._since_s, self._since_s + (end_bits - self._meter_bits) / self._level)

    def _set_wake(self) -> None:
        self._wake_s = self._next_s
        self._wake = self._clock.at(self._wake_s, priority=URGENT)
        cast("list[object]", self._wake.callbacks).append(self._on_wake)

    def _on_wake(self, wake: Event) -> None:
        """End what ends now. A wake that came too early, because rates fell since it was set, is set again."""
        if wake is not self._wake:
            return
        self._wake, self._wake_s = None, math.inf
        now_s = self._clock.now
        ended: list[Transfer] = []
        while self._next_s <= now_s:
            due = self._due(now_s)
            self._advance()
            for transfer in due:
                self._leave(transfer)
            ended += due
            self._plan()
        if self._next_s < math.inf:
            self._set_wake()
        for transfer in sorted(ended, key=attrgetter("number")):
            self._end(transfer)

    def _due(self, now_s: float) -> list[Transfer]:
        """Return what ends now: told by the plan, and not by what is left, which rounding may leave above zero."""
        limited = takewhile(lambda end: end[0] <= now_s, self._ends_s)
        at_level = takewhile(lambda end: self._end_at_level(end[0]) <= now_s, self._ends_bits)
        return [self._active[number] for _, number in (*limited, *at_level)]

    def _end(self, transfer: Transfer) -> None:
        transfer._state = "done"
        transfer._left_bits = 0.0
        transfer._ok, transfer._value = True, None
        self._clock.schedule(transfer, priority=URGENT)


def _end_at_limit(transfer: Transfer) -> float:
    """Return when a transfer ends that runs at its limit: to the last bit as if it had the link to itself."""
    return transfer._mark + transfer._left_bits / transfer.limit_bits_per_second


def _exact(rate: float) -> int:
    """Return a finite rate in units of 1 / _UNIT bits per second."""
    numerator, denominator = rate.as_integer_ratio()
    return numerator * (_UNIT // denominator)


def _remove(entries: list[tuple[float, int]], entry: tuple[float, int]) -> None:
    """Take an entry out of a sorted list."""
    del entries[bisect_left(entries, entry)]
