"""Names that protocols of version 0.1.0 import; `tests/plugin_of_0_1` holds one that runs."""

import pytest
import simpy

from neulite_sim.timeline import contract, endings, flights


def test_an_ending_of_before_is_an_ending_of_now():
    landing = simpy.Event(simpy.Environment())
    landing.flight = "the flight"
    outcome = flights.Outcome(kind="arrived", ended_s=1.0, download_s=0.5, compute_s=0.5, upload_s=0.0)
    landing.succeed(outcome)
    mixing = contract.Mixing(rate=0.5, anchor="own")
    given = contract.Ending(plan=contract.come_about(landing), mixing=mixing, refused="late")
    now = {"flight": "the flight", "outcome": outcome, "mixing": mixing, "refused": "late"}
    assert given == endings.Ending(**now) == contract.Ending(**now)


def test_names_for_annotations_are_still_there():
    assert flights.FlightPlan is flights.Flight
    assert flights.Launch


@pytest.mark.parametrize("module", [contract, flights])
def test_no_other_name_is_made_up(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'take_off'"):
        module.take_off  # noqa: B018
