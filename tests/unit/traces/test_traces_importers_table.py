"""Any table of devices and times becomes a trace of availability, or is refused with file and line."""

import re

import numpy as np
import pytest

from neulite_sim.errors import ScenarioError
from neulite_sim.traces.availability import read_trace
from neulite_sim.traces.importers.running import import_trace

EVENTS = """\
timestamp,host,online
2026-03-01T08:00:00Z,phone-1,true
2026-03-01T09:00:00Z,phone-2,true
2026-03-01T08:30:00Z,phone-1,false
2026-03-01T10:30:00Z,phone-1,true
2026-03-01T12:00:00Z,phone-2,false
2026-03-01T12:00:00Z,phone-3,false
"""
ONLINE_S = {"phone-1": [(0, 1800), (9000, 14400)], "phone-2": [(3600, 14400)], "phone-3": []}


@pytest.fixture
def imported(tmp_path):
    """Import a text and return its intervals by device, and the report."""

    def run(text, **settings):
        path, out = tmp_path / "own.csv", tmp_path / "out.csv"
        path.write_text(text)
        out.unlink(missing_ok=True)
        report = import_trace("table", [path], settings=settings, out=out)
        trace = read_trace(out)
        offsets = trace.intervals.offsets
        spans = list(zip(trace.intervals.start_s, trace.intervals.end_s, strict=True))
        found = {label: [(float(a), float(b)) for a, b in spans[offsets[row] : offsets[row + 1]]]
                 for row, label in enumerate(trace.labels)}  # fmt: skip
        return found, report

    return run


def test_a_table_of_events_is_read_without_any_option(imported):
    found, report = imported(EVENTS)
    assert found == ONLINE_S
    assert "virtual time 0 is 2026-03-01T08:00:00Z of the table" in report["notes"]
    assert (report["devices"], report["never_online"]) == (3, 1)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (EVENTS.replace("timestamp,host,online", "a,b,c"), {"time": "a", "device": "b", "state": "c"}),
        (EVENTS.replace(",", ";"), {}),
        (EVENTS.replace("true", "1").replace("false", "0"), {}),
        (EVENTS.replace("true", "Online").replace("false", "OFFLINE"), {}),
        (EVENTS.replace("true", "idle").replace("false", "busy"), {"online": ["idle", "charging"]}),
        ("extra," + EVENTS.replace("\n2026", "\nx,2026"), {}),
        (EVENTS + EVENTS.partition("\n")[2], {}),  # each line twice
        ("\n".join([EVENTS.splitlines()[0], *sorted(EVENTS.splitlines()[1:], reverse=True)]), {}),
        (EVENTS.replace("Z,", ","), {}),  # no zone
    ],
)  # fmt: skip
def test_the_same_table_in_other_words_gives_the_same_trace(imported, text, settings):
    assert imported(text, **settings)[0] == ONLINE_S


def test_zones_are_heeded(imported):
    found, _ = imported("time,id,state\n2026-03-01T09:00:00+01:00,a,on\n2026-03-01T08:30:00Z,a,off\n")
    assert found == {"a": [(0.0, 1800.0)]}


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 1000), ("us", 10**6)])
def test_seconds_since_1970_count_from_the_first_and_units_are_heeded(imported, unit, scale):
    moments = ((0, 1), (60, 0), (120, 1), (300, 0))
    lines = [f"{(1_580_428_800 + second) * scale},a,{state}" for second, state in moments]
    found, _ = imported("\n".join(["t,device,up", *lines]), unit=unit)
    np.testing.assert_allclose(found["a"], [(0, 60), (120, 300)], atol=1e-3)


def test_small_numbers_stay_as_they_are_and_origins_move_them(imported):
    text = "t,device,up\n100,a,1\n200,a,0\n"
    assert imported(text)[0] == {"a": [(100.0, 200.0)]}
    assert imported(text, origin="first")[0] == {"a": [(0.0, 100.0)]}
    assert imported(text, origin=40)[0] == {"a": [(60.0, 160.0)]}
    assert imported(EVENTS, origin="2026-03-01T00:00:00Z")[0]["phone-2"] == [(9 * 3600.0, 12 * 3600.0)]


def test_states_before_the_first_line_and_after_the_last_are_options(imported):
    text = "t,device,up\n100,a,0\n200,a,1\n"
    with pytest.raises(ScenarioError, match="nobody is ever online in it"):
        imported(text)
    assert imported(text, last="50s")[0] == {"a": [(200.0, 250.0)]}
    assert imported(text, before="opposite", last="50s")[0] == {"a": [(0.0, 100.0), (200.0, 250.0)]}
    assert imported(text, before="online")[0] == {"a": [(0.0, 100.0)]}
    _, report = imported(text, before="online")
    assert "nobody is online at its end; to repeat it after that, set span: 200 beside the path" in report["notes"]


def test_a_period_goes_with_each_device(imported, tmp_path):
    imported("t,device,up\n0,a,1\n10,a,0\n", period="1h")
    assert read_trace(tmp_path / "out.csv").period_s.tolist() == [3600.0]


def test_intervals_are_joined_and_an_open_one_ends_with_the_file(imported):
    found, report = imported("host\tfrom\tto\na\t100\t200\na\t150\t300\na\t100\t200\nb\t10\t\n")
    assert found == {"a": [(100.0, 300.0)], "b": [(10.0, 300.0)]}
    assert "1 line: each overlaps the interval before; joined" in report["notes"]
    assert report["doubled_lines"] == 1


def test_intervals_may_have_a_state(imported):
    found, _ = imported("host,from,to,what\na,0,10,off\na,10,30,on\n", state="what")
    assert found == {"a": [(10.0, 30.0)]}


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ("", {}, "own.csv: is empty; expected a header and a line per event or interval"),
        ("t,host,up\n", {}, "own.csv:1: holds a header and no line below it"),
        ("x,y,z\n1,a,1\n", {}, "own.csv:1: it is not plain which column holds the device; say which one with "
                               "--set device=COLUMN (columns: x, y, z)"),
        ("t,host,up\n1,a,1\n", {"device": "hst"}, "own.csv:1: has no column 'hst', which device names; "
                                                 "did you mean 'host'? (columns: t, host, up)"),
        ("t,host,host\n1,a,1\n", {}, "own.csv:1: has two columns called 'host'; rename one"),
        ("t,host,up\n1,a\n", {}, "own.csv:2: has 2 columns where the header has 3"),
        ("t,host,up\n1,a,1\n1,a,0\n", {}, "own.csv:3: device 'a' is online and offline at one time, by lines 2 and 3; "
                                          "keep one"),
        ("host,from,to,up\na,0,9,1\na,5,7,0\n", {"state": "up"}, "own.csv:3: device 'a' is online and offline at one "
                                                                 "time, by lines 2 and 3; keep one"),
        ("host,from,to\na,9,9\n", {}, "own.csv:2: ends at '9', not after its start '9'"),
        ("t,host,up\n1,a,idle\n", {}, "say which values mean online, as in --set 'online=[idle, charging]'"),
        ("t,host,up\n1,a,2\n", {}, "own.csv:2: the state '2' is none of 1, true, yes"),
        ("t,host,up\n1,a,1\nsoon,a,0\n", {}, "own.csv:3: t 'soon' is not a number from 0 up, as the first line has one"),
        ("t,host,up\n2026-03-01,a,1\n7,a,0\n", {}, "own.csv:3: t '7' is not a number or an ISO date such as"),
        ("t,host,up\n01/03/2026,a,1\n", {}, "own.csv:2: t '01/03/2026' is not a number or an ISO date"),
        ("t,host,up\n2026-03-01,a,1\n2026-03-02T00:00Z,a,0\n", {}, "own.csv:3: t '2026-03-02T00:00Z' and earlier ones: "
                                                                  "some have a time zone, some none; write one way"),
        ("t,host,up\n1580428800000,a,1\n", {}, "own.csv:2: t '1580428800000' s lies beyond 2^33 s (272 years); "
                                               "set unit=ms if it is in ms"),
        ("t,host,up\n1950-01-01,a,1\n", {}, "own.csv:2: t '1950-01-01' is not a date from 1970 to 2242"),
        ("t,host,up\n5,a,1\n", {"origin": 7}, "own.csv:2: lies before the origin 7.0; use first"),
        ("t,host,up\n0,a,1\n", {}, "own.csv: lasts 0 s from virtual time 0; set last to how long a state holds"),
        ("t,host,up\n0,a,1\n9,a,0\n", {"period": 5}, "own.csv: lasts 9 s from virtual time 0; set period to that or more"),
        ("t,host,up\n0,a,0\n9,a,0\n", {}, "nobody is ever online in it; look at the states, or set online"),
        ("t,,up\n0,,1\n", {"device": "t"}, "own.csv:1: it is not plain which column holds the time"),
        ("t,host,up\n1,,1\n", {}, "own.csv:2: a name is empty"),
        ("t,host,up\n1,a,1\n", {"time": "t", "start": "t"}, "time is for lines of events, start and end for lines of"),
        ("t,host,up\n1,a,1\n", {"before": "online", "start": "t"}, "before acts only on lines of events"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_line(imported, text, settings, says):
    with pytest.raises(ScenarioError, match=re.escape(says)):
        imported(text, **settings)


def test_a_table_named_where_a_trace_belongs_is_shown_the_way(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(EVENTS)
    with pytest.raises(ScenarioError) as error:
        read_trace(path)
    command = f"neulite-sim traces import table {path} --set device=host --set time=timestamp --set state=online"
    assert str(error.value).endswith(f"write device,start_s,end_s, or turn the table into such a file: {command}")
    path.write_text("host,from,to,colour\na,1,2,red\n")
    with pytest.raises(ScenarioError, match=r"import table \S+ --set device=host --set start=from --set end=to$"):
        read_trace(path)
    path.write_text("when,what\n1,2\n")
    with pytest.raises(ScenarioError, match=r"--set device=COLUMN --set time=COLUMN --set state=COLUMN$"):
        read_trace(path)
