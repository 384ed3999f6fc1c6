"""Availability of a user's own, whose answers are looked at before they are believed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.errors import SimulationError
from neulite_sim.population.availability.contract import Availability, Followed, Stretch
from neulite_sim.user_code.drawing import drawing, key_of
from neulite_sim.user_code.origins import in_a_line

_HINT = "population/availability/contract.py says what each lookup returns; check_availability tests them all"


class Asked:
    """Passes questions on to `own`, and answers on to whoever asked.

    Each lookup raises:
        SimulationError: it fails, or its answer is no answer to the question; names the lookup and what it returned.
    """

    def __init__(self, own: Availability, name: str, num_devices: int, seed: int = 0) -> None:
        self._own = own
        self._seed = seed
        self._name = name
        self._num_devices = num_devices
        self.notes = tuple(getattr(own, "notes", ()))
        self._knows_horizon = _takes(own.online_until_s, 3)

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`."""
        found: Flags = self._answer("online", self._num_devices, at_s)
        if found.dtype != np.bool_:
            raise self._refused("online", f"returned {found.dtype}", "return True or False for each device")
        return found

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next, as `Availability` has it."""
        more = (horizon_s,) if self._knows_horizon else ()
        return self._moments("online_until_s", devices, at_s, *more)

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return when each of `devices` is online first, as `Availability` has it."""
        found = self._moments("next_online_s", devices, at_s)
        now = np.flatnonzero(found == at_s)
        if len(now) and not (is_online := self.online(at_s)[devices[now]]).all():
            device = devices[now[np.argmin(is_online)]]
            told = f"says that device {device} is online at {at_s:g} s, where online({at_s:g}) says that it is not"
            raise self._refused("next_online_s", told, "return a later moment, or inf for never")
        return found

    def forget(self) -> None:
        """Let go of what is held to answer faster, where it can."""
        forget: Callable[[], object] | None = getattr(self._own, "forget", None)
        if forget is not None:
            forget()

    def _moments(self, lookup: str, devices: Integers, at_s: float, *more: float) -> Floats:
        found = self._answer(lookup, len(devices), devices, at_s, *more)
        if found.dtype.kind not in "iuf":
            raise self._refused(lookup, f"returned {found.dtype}", "return a moment in seconds for each device")
        moments_s: Floats = found.astype(np.float64)
        is_right = moments_s >= at_s
        if not is_right.all():
            wrong = int(np.argmin(is_right))
            told = f"returned {moments_s[wrong]:g} s for device {devices[wrong]} at {at_s:g} s"
            raise self._refused(lookup, told, f"return {at_s:g} or later, or inf for never")
        return moments_s

    def _answer(self, lookup: str, count: int, *question: Any) -> Any:
        try:
            with drawing(self._seed, f"availability.{lookup}", *map(_key, question)):
                answer = getattr(self._own, lookup)(*question)
                found = np.asarray(answer)
        except SimulationError:
            raise
        except Exception as error:
            raise SimulationError(f"{self._name}.{lookup} fails: {in_a_line(error)}", hint=_HINT) from error
        if found.shape != (count,):
            told = f"returned {type(answer).__name__} of shape {found.shape} for {count} devices"
            raise self._refused(lookup, told, f"return one entry per device, ({count},)")
        return found

    def _refused(self, lookup: str, told: str, hint: str) -> SimulationError:
        return SimulationError(f"{self._name}.{lookup} {told}", hint=hint)


class AskedInStretches(Asked):
    """The same of one that tells its changes in the order of time."""

    def __init__(self, own: Availability, name: str, num_devices: int, seed: int = 0) -> None:
        super().__init__(own, name, num_devices, seed)
        assert isinstance(own, Followed), "only such a one is asked for stretches"
        self._followed: Followed = own

    def stretch(self, at_s: float) -> Stretch:
        """Return all changes of a stretch of time that holds `at_s`, as they are told."""
        with drawing(self._seed, "availability.stretch", _key(at_s)):
            return self._followed.stretch(at_s)


def asked(own: Availability, name: str, num_devices: int, seed: int = 0) -> Availability:
    """Return an availability that answers what `own` does, or refuses it.

    What it draws from the process depends on `seed` and on the question: who is asked for, and at which moment.
    """
    return (AskedInStretches if isinstance(own, Followed) else Asked)(own, name, num_devices, seed)


def _key(asked: Any) -> int:
    return key_of(np.asarray(asked).tobytes())


def _takes(lookup: Callable[..., object], count: int) -> bool:
    """Return whether a lookup takes so many arguments; one that cannot be looked at does."""
    try:
        inspect.signature(lookup).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True
