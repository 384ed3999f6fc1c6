"""The timeline file: the rules of the Trace Event format, and what it says about flights and rounds."""

import tracemalloc

import pytest
from trace_rules import read

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.results.cells import FILES
from neulite_sim.results.flight_events import DEVICES_PID, FIRST_DEVICE_TID, Span, pauses_of, spans
from neulite_sim.results.folder import RunFolder, clear_cut_off
from neulite_sim.results.places import TIMELINE
from neulite_sim.results.rows import DenialRow, FlightRow, RoundRow
from neulite_sim.results.trace_events import _HELD_CHARACTERS, ROUNDS_TID, SERVER_PID, STAGES_TID, TimelineFile, rebuild


@pytest.fixture
def flight(make_row):
    def make(number, device, start_s, phases, *, round_number=1, **changes):
        waiting_s = sum(end_s - start_s for start_s, end_s in pauses_of(changes.get("pauses", ""), flight=number))
        names = dict(zip(("download_s", "compute_s", "upload_s"), phases, strict=True))
        given = {"outcome": "arrived", "reason": "", "ended_s": start_s + sum(phases) + waiting_s, **changes}
        return make_row(FlightRow, flight=number, round=round_number, device=device, dispatched_s=start_s, **names,
                        **given)  # fmt: skip

    return make


@pytest.fixture
def aggregation(make_row):
    def make(number, second, stage="full", **changes):
        return make_row(RoundRow, round=number, virtual_time_s=second, stage=stage, **changes)

    return make


@pytest.fixture
def written(tmp_path):
    def write(rows, name="timeline.json.gz"):
        timeline = TimelineFile(tmp_path / name)
        for row in rows:
            timeline.add(row)
        timeline.close()
        return read(tmp_path / name)

    return write


def on(events, pid, tid, letter="X"):
    return [event for event in events if (event["ph"], event["pid"], event["tid"]) == (letter, pid, tid)]


def of_device(events, device, letter="X"):
    return on(events, DEVICES_PID, FIRST_DEVICE_TID + device, letter)


def test_a_flight_is_a_span_per_phase_in_microseconds(written, flight):
    events = written([flight(7, 3, 10.0, (1.5, 20.000001, 2.0), device_class="phone", bytes_down=900)])
    assert [(event["name"], event["ts"], event["dur"]) for event in of_device(events, 3)] == [
        ("download", 10_000_000, 1_500_000),
        ("compute", 11_500_000, 20_000_001),
        ("upload", 31_500_001, 2_000_000),
    ]
    assert of_device(events, 3)[0]["args"] == {"flight": 7, "round": 1, "submodel": "text", "bytes": 900}
    (name, order) = of_device(events, 3, "M")
    assert (name["args"], order["args"]) == ({"name": "device 3 phone"}, {"sort_index": 3})


def test_only_devices_that_flew_have_a_track_and_each_has_one_name(written, flight):
    events = written([flight(number, device, 10.0 * number, (1, 1, 1)) for number, device in enumerate((9, 2, 9, 70))])
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert names == ["rounds", "stages", "device 9 text", "device 2 text", "device 70 text"]


def test_a_pause_splits_its_phase_by_hand(flight):
    """Ten seconds of compute from 2 s on, away from 5 to 9 s and from 10 to 11 s: 3 + 1 + 6 seconds of work."""
    row = flight(1, 0, 0.0, (2.0, 10.0, 1.0), pauses="5.0-9.0;10.0-11.0")
    assert spans(row) == [
        Span("download", 0.0, 2.0),
        Span("compute", 2.0, 5.0),
        Span("waiting", 5.0, 9.0),
        Span("compute", 9.0, 10.0),
        Span("waiting", 10.0, 11.0),
        Span("compute", 11.0, 17.0),
        Span("upload", 17.0, 18.0),
    ]


@pytest.mark.parametrize("begins", ["2.0", "1.9999999999999998", "2.0000000000000004"])
def test_a_pause_between_two_phases_leaves_no_crumb_of_either(flight, begins):
    row = flight(1, 0, 0.0, (2.0, 3.0, 1.0), pauses=f"{begins}-4.0", ended_s=8.0)
    assert [span.phase for span in spans(row)] == ["download", "waiting", "compute", "upload"]
    assert [span.end_s for span in spans(row)] == pytest.approx([2.0, 4.0, 7.0, 8.0])


def test_the_last_span_ends_with_the_flight_to_the_last_bit(flight):
    """0.1 + 0.2 + 0.3 is 0.6000000000000001; the next flight of the device may begin at 0.6."""
    assert spans(flight(1, 0, 0.0, (0.1, 0.2, 0.3), ended_s=0.6))[-1].end_s == 0.6


def test_a_flight_that_ends_while_it_waits_ends_with_waiting(flight):
    row = flight(1, 0, 0.0, (2.0, 1.0, 0.0), pauses="3.0-7.5", outcome="dropped", reason="timed out")
    assert spans(row) == [Span("download", 0.0, 2.0), Span("compute", 2.0, 3.0), Span("waiting", 3.0, 7.5)]


@pytest.mark.parametrize(("text", "pauses"), [("", []), ("1.5-2", [(1.5, 2.0)]), ("1e-05-2e-05", [(1e-05, 2e-05)])])
def test_pauses_are_read_as_they_are_written(text, pauses):
    assert pauses_of(text, flight=1) == pauses


@pytest.mark.parametrize("text", ["5", "1-2;", "a-b", "nan-1.0", "1.0-2.0,3.0-4.0"])
def test_pauses_that_are_none_are_refused(text):
    message = rf"^flight 4: pauses are '{text}', not start-end pairs joined by semicolons; flights\.csv was changed$"
    with pytest.raises(DataNotFoundError, match=message):
        pauses_of(text, flight=4)


def test_a_drop_is_one_instant_with_its_reason_where_the_flight_ended(written, flight):
    reason = 'went offline during "upload"'
    events = written(
        [flight(1, 5, 0.0, (1.0, 2.0, 0.25), outcome="dropped", reason=reason), flight(2, 6, 0, (1, 1, 1))]
    )
    (drop,) = [event for event in events if event["ph"] == "i"]
    assert (drop["name"], drop["cat"], drop["ts"], drop["s"]) == (reason, "dropped", 3_250_000, "t")
    assert drop["tid"] == FIRST_DEVICE_TID + 5
    assert sum(event["dur"] for event in of_device(events, 5)) == 3_250_000


def test_a_phase_that_took_no_time_has_no_span(written, flight):
    events = written([flight(1, 0, 0.0, (0.0, 2.0, 1e-9))])
    assert [event["name"] for event in of_device(events, 0)] == ["compute"]


def test_flights_that_follow_at_once_touch_and_do_not_overlap(written, flight):
    """A third of a microsecond is lost or won by rounding at each end, never an overlap (`check_rules`)."""
    rows, now_s = [], 0.0
    for number in range(1, 200):
        rows.append(flight(number, 0, now_s, (1 / 3e6 + number / 7e6, 0.1, 2 / 3e6)))
        now_s = rows[-1].ended_s
    assert sum(event["dur"] for event in of_device(written(rows), 0)) == round(now_s * 1e6)


def test_rounds_tile_the_time_of_the_server_and_stages_go_on_over_rounds(written, aggregation):
    rows = [aggregation(number, second, stage) for number, second, stage in
            ((1, 4.0, "stage-1"), (2, 6.5, "stage-1"), (3, 6.75, "stage-2"))]  # fmt: skip
    events = written(rows)
    rounds = [(event["name"], event["ts"], event["dur"]) for event in on(events, SERVER_PID, ROUNDS_TID)]
    assert rounds == [("round 1 stage-1", 0, 4_000_000), ("round 2 stage-1", 4_000_000, 2_500_000),
                      ("round 3 stage-2", 6_500_000, 250_000)]  # fmt: skip
    stages = [(event["name"], event["ts"], event["dur"]) for event in on(events, SERVER_PID, STAGES_TID)]
    assert stages == [("stage-1", 0, 6_500_000), ("stage-2", 6_500_000, 250_000)]


def test_a_round_at_the_moment_of_the_one_before_is_an_instant(written, aggregation):
    events = written([aggregation(1, 4.0), aggregation(2, 4.0), aggregation(3, 5.0)])
    (instant,) = on(events, SERVER_PID, ROUNDS_TID, "i")
    assert (instant["name"], instant["ts"]) == ("round 2 full", 4_000_000)
    assert [event["name"] for event in on(events, SERVER_PID, ROUNDS_TID)] == ["round 1 full", "round 3 full"]


def test_the_clock_on_the_wall_stays_out(written, aggregation):
    (event,) = on(written([aggregation(1, 4.0, train_loss=None)]), SERVER_PID, ROUNDS_TID)
    assert {"wall_time_s", "workers_replaced", "train_loss"}.isdisjoint(event["args"])
    assert {"arrived", "dropped", "discarded", "test_accuracy", "learning_rate"} <= event["args"].keys()


def counters(events, name):
    return [(event["ts"], event["args"]) for event in events if event["ph"] == "C" and event["name"] == name]


def test_counters_show_online_devices_tested_accuracy_and_bytes_so_far(written, flight, aggregation):
    counts = {"bytes_down": 100, "bytes_up": 40}
    events = written([
        flight(1, 0, 0.0, (1, 1, 1)),
        aggregation(1, 3.0, online=6, test_accuracy=None, **counts),
        flight(2, 0, 5.0, (1, 1, 1), round_number=2),
        aggregation(2, 8.0, online=4, test_accuracy=0.75, **counts),
    ])  # fmt: skip
    # Nobody was online at 3 s; the round's devices were counted when they left.
    assert counters(events, "online devices") == [(0, {"online": 6}), (5_000_000, {"online": 4})]
    assert counters(events, "test accuracy") == [(8_000_000, {"accuracy": 0.75})]
    assert counters(events, "bytes") == [(3_000_000, {"down": 100, "up": 40}), (8_000_000, {"down": 200, "up": 80})]


def test_the_bytes_do_not_depend_on_how_fast_a_test_was(tmp_path, flight, aggregation):
    one, two, three = (flight(number, number, 10.0 * number, (1, 1, 1), round_number=number) for number in (1, 2, 3))
    rounds = [aggregation(number, 10.0 * number + 5) for number in (1, 2, 3)]
    written = []
    for name, rows in (
        ("fast", [one, rounds[0], two, rounds[1], three, rounds[2]]),
        ("slow", [one, two, three, rounds[0], rounds[1], rounds[2]]),
    ):
        timeline = TimelineFile(tmp_path / name)
        for row in rows:
            timeline.add(row)
        timeline.close()
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    # RFC 1952, section 2.3: no flags, so no name of the file, and no time.
    assert written[0][3:8] == bytes(5)


def test_a_run_folder_writes_its_timeline_and_a_rebuilt_one_has_the_same_bytes(tmp_path, flight, aggregation, make_row):
    path = tmp_path / "run"
    with RunFolder.create(path, name="job", seed=1, scenario_yaml="", provenance={}) as folder:
        for number in (1, 2):
            folder.write(make_row(DenialRow, round=number))
            folder.write(
                flight(number, 4, 10.0 * number, (1, 2, 3), round_number=number, pauses=f"{number}1.5-{number}2.5")
            )
            folder.write(aggregation(number, 10.0 * number + 7))
        folder.write(flight(3, 5, 28.0, (1, 0, 0), round_number=3, outcome="cut", reason="over"))
    events = read(path / TIMELINE)
    assert len(of_device(events, 4)) == 2 * 5
    assert [event["name"] for event in of_device(events, 5, "i")] == ["over"]
    rebuild(path, tmp_path / "again.gz")
    assert (tmp_path / "again.gz").read_bytes() == (path / TIMELINE).read_bytes()


def test_a_run_without_rounds_has_an_empty_timeline(tmp_path):
    with RunFolder.create(tmp_path, name="job", seed=1, scenario_yaml="", provenance={}) as folder:
        folder.finish({"digest": None}, None)
    assert {event["ph"] for event in read(tmp_path / TIMELINE)} == {"M"}


def test_a_timeline_goes_with_its_folder(tmp_path):
    for name in ("gone", "cleared"):
        folder = RunFolder.create(tmp_path / name, name="job", seed=1, scenario_yaml="", provenance={})
        assert (tmp_path / name / TIMELINE).exists()
        folder.discard() if name == "gone" else folder.close()
    clear_cut_off(tmp_path / "cleared")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_under_the_timeline_is_told(tmp_path, monkeypatch, flight, aggregation):
    folder = RunFolder.create(tmp_path, name="job", seed=1, scenario_yaml="", provenance={})
    asked = []

    def refuse(*_):
        asked.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder._timeline._packed, "write", refuse)
    message = rf"{TIMELINE}: cannot write: No space left on device; make room or rights there, or choose another place"

    def play():
        for number in range(1, 1000):
            folder.write(flight(number, 0, 9.0 * number, (1, 1, 1), round_number=number))
            folder.write(aggregation(number, 9.0 * number + 3.0))

    with pytest.raises(OutputError, match=message):
        play()
    assert len(asked) == 1
    folder.close()
    assert folder._timeline._file.closed
    assert len(asked) == 1


def test_a_full_disk_under_the_end_of_a_timeline_is_told(tmp_path, monkeypatch, flight):
    folder = RunFolder.create(tmp_path, name="job", seed=1, scenario_yaml="", provenance={})

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder._timeline._packed, "write", refuse)
    folder.write(flight(1, 0, 0.0, (1, 1, 1)))
    with pytest.raises(OutputError, match=rf"{TIMELINE}: cannot write: No space left on device"):
        folder.finish({"digest": "0"}, {})
    folder.close()
    assert folder._timeline._file.closed


@pytest.mark.slow
def test_what_happened_is_written_soon_and_not_held(tmp_path, flight, aggregation):
    timeline = TimelineFile(tmp_path / "a")
    seen = []

    def play(numbers):
        for number in numbers:
            for device in range(5):
                timeline.add(flight(number, device, 10.0 * number, (1, 2, 3), round_number=number))
            timeline.add(aggregation(number, 10.0 * number + 9, stage=f"stage-{number % 4}"))
            seen.append(timeline._packed.size)

    play(range(1, 100))
    tracemalloc.start()
    play(range(100, 150))
    before, _ = tracemalloc.get_traced_memory()
    play(range(150, 250))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    timeline.close()
    whole = timeline._packed.size
    assert after - before < 4 * _HELD_CHARACTERS < whole / 2
    # What is held, what waits, and what is being written.
    assert all(place * whole / 249 - at < 5 * _HELD_CHARACTERS for place, at in enumerate(seen, start=1))
    timeline.close()


def test_rows_that_are_missing_are_told(tmp_path):
    with pytest.raises(DataNotFoundError, match=rf"{FILES[RoundRow]}: cannot be read|{FILES[FlightRow]}: cannot be"):
        rebuild(tmp_path, tmp_path / "a")
