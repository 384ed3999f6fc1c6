"""Availability from a file: what it means, how it repeats, and what is refused with its line."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import TRACE
from neulite_sim.seeding import stream
from neulite_sim.traces.availability import read_trace
from neulite_sim.traces.labels import rows_for

INF = math.inf


def written(folder: Path, *lines: str, header: str = "device,start_s,end_s") -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def fleet(path: Path, num_devices: int = 2, seed: int = 0, **options: Any) -> Availability:
    return TRACE.build(TRACE.options(path=str(path), **options))(num_devices, seed)


def test_devices_are_online_in_their_intervals_only(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,10", "b,5,20", "a,15,20"))
    assert [list(availability.online(at_s)) for at_s in (0, 5, 9.99, 10, 15)] == [
        [True, False], [True, True], [True, True], [False, True], [True, True],
    ]  # fmt: skip
    both = np.array([0, 1])
    assert list(availability.online_until_s(both, 5)) == [10, 20]
    assert list(availability.next_online_s(both, 12)) == [15, 12]
    assert list(availability.online_until_s(both, 12)) == [12, 20]


def test_a_trace_repeats_after_its_last_end(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,10", "b,5,20"))
    both = np.array([0, 1])
    assert list(availability.online(1e6 + 5)) == [True, True]
    assert list(availability.next_online_s(both, 1e6 + 12)) == [1e6 + 20, 1e6 + 12]
    # b is online to the end of the span and back only five seconds into the next.
    assert list(availability.online_until_s(both, 1e6 + 6)) == [1e6 + 10, 1e6 + 20]


def test_an_interval_to_the_end_of_the_span_goes_on_with_one_from_its_start(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,5", "a,90,100"), 1)
    one = np.array([0])
    assert availability.online_until_s(one, 95)[0] == 105
    assert availability.online_until_s(one, 995)[0] == 1005


def test_a_device_that_is_online_for_the_whole_span_never_goes_offline(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,100", "b,0,50"))
    assert list(availability.online_until_s(np.array([0, 1]), 30)) == [INF, 50]


def test_a_longer_span_leaves_everybody_offline_until_it_ends(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,10"), 1, span="1min")
    assert availability.next_online_s(np.array([0]), 10)[0] == 60
    assert availability.online_until_s(np.array([0]), 65)[0] == 70


def test_without_repetition_the_trace_ends_for_good(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,10", "b,5,20"), repeat=False)
    both = np.array([0, 1])
    assert list(availability.next_online_s(both, 12)) == [INF, 12]
    assert list(availability.online_until_s(both, 6)) == [10, 20]
    assert not availability.online(20).any()
    assert not availability.online(45).any()
    assert list(availability.next_online_s(both, 1e7)) == [INF, INF]


def test_the_trace_that_a_stateful_lookup_gets_wrong_is_right_in_any_order(tmp_path: Path) -> None:
    # Active at 3-4, 6-7 and 9-10 of a span of 10. FedScale's lookup moves one window per call: asked first at
    # t = 6 or t = 9 it answers "offline".
    path = written(tmp_path, "client,3,4", "client,6,7", "client,9,10")
    for at_s, expected in ((6, True), (9, True), (2, False), (8, False), (3.5, True), (10, False), (15, False)):
        assert fleet(path, 1).online(at_s)[0] == expected
        assert fleet(path, 1).online(at_s + 10_000)[0] == expected


def test_sparse_questions_to_a_long_trace_equal_a_plain_scan(tmp_path: Path) -> None:
    # Twenty windows per 100,000 s, asked every 20,000 s or so: the pattern in which stateful lookups were wrong.
    rng = stream(8, "test")
    edges = np.sort(rng.choice(100_000, 40, replace=False)).reshape(-1, 2)
    path = written(tmp_path, *(f"a,{start},{end}" for start, end in edges))
    availability = fleet(path, 1, span=100_000)
    for at_s in rng.uniform(0, 1e7, 400):
        expected = any(start <= at_s % 100_000 < end for start, end in edges)
        assert availability.online(at_s)[0] == expected


def test_decimal_times_are_kept_to_a_microsecond_and_stay_consistent_far_out(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0.1,0.7"), 1, span=3.3)
    one = np.array([0])
    for at_s in (0.0, 33.0, 3.3e6):
        start_s = availability.next_online_s(one, at_s)[0]
        assert availability.online(start_s)[0]
        end_s = availability.online_until_s(one, start_s)[0]
        assert end_s - start_s == pytest.approx(0.6, abs=2e-6)
        assert not availability.online(end_s)[0]


def test_lines_in_any_order_touching_intervals_and_blank_lines_are_fine(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "b,5,6", "", "a,2,3", "b,0,1", " b ,1,5"))
    assert trace.labels == ("b", "a")
    assert trace.intervals.start_s.tolist() == [0, 2]
    assert trace.intervals.end_s.tolist() == [6, 3]


def test_gzipped_traces_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(b"device,start_s,end_s\na,0,1\n"))
    assert read_trace(path).last_end_s == 1


def test_more_devices_than_labels_share_them_evenly_by_seed() -> None:
    rows = rows_for(100, num_labels=7, seed=1)
    assert sorted(np.bincount(rows)) == [14] * 5 + [15] * 2
    assert not np.array_equal(rows, rows_for(100, num_labels=7, seed=2))
    assert np.array_equal(rows, rows_for(100, num_labels=7, seed=1))


def test_with_enough_labels_device_d_takes_the_dth(tmp_path: Path) -> None:
    assert list(rows_for(3, num_labels=5, seed=1)) == [0, 1, 2]
    availability = fleet(written(tmp_path, "z,0,1", "a,1,2", "m,2,3"), 2)
    assert list(availability.online(0)) == [True, False]


def test_a_missing_trace_names_the_path_and_the_format(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no availability trace at .*none\.csv.*header device,start_s,end_s"):
        fleet(tmp_path / "none.csv")


def test_a_folder_or_a_binary_file_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"cannot be read .*directory"):
        read_trace(tmp_path)
    binary = tmp_path / "trace.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataNotFoundError, match="is not text"):
        read_trace(binary)
    fake = tmp_path / "trace.csv.gz"
    fake.write_bytes(b"device,start_s,end_s\n")
    with pytest.raises(DataNotFoundError, match=r"cannot be read .*[Nn]ot a gzipped file"):
        read_trace(fake)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,5,5"], r"csv:2: .*end_s 5 is not after start_s 5"),
        (["a,0,1", "a,9,3"], r"csv:3: .*end_s 3 is not after start_s 9"),
        (["a,0,10", "b,0,1", "a,5,15"], r"csv:4: .*device 'a': 5 to 15 overlaps 0 to 10 of line 2"),
        (["a,-1,10"], r"csv:2: .*start_s '-1' is not a number of seconds from 0 up"),
        (["a,0,soon"], r"csv:2: .*end_s 'soon' is not a number"),
        (["a,0,inf"], r"csv:2: .*end_s 'inf' is not a number"),
        (["a,0,1", "a,4"], r"csv:3: .*'a,4' is not device,start_s,end_s"),
        ([",0,1"], r"csv:2: .*',0,1' is not device,start_s,end_s"),
        ([], r"csv:1: .*holds no interval"),
    ],
)
def test_wrong_lines_are_refused_with_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        read_trace(written(tmp_path, *lines))


def test_all_wrong_lines_are_named_at_once_in_order(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_trace(written(tmp_path, "a,x,1", "a,3,2", "short", "a,0,1"))
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]


def test_a_flood_of_wrong_lines_is_cut_and_counted(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="and 80 more problems") as caught:
        read_trace(written(tmp_path, *["a,1,1"] * 100))
    assert len(caught.value.problems) == 21


def test_another_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"csv:1: .*header is 'id,from,to'; write device,start_s,end_s"):
        read_trace(written(tmp_path, "a,0,1", header="id,from,to"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ScenarioError, match="the header is 'nothing'"):
        read_trace(tmp_path / "empty.csv")


def test_a_span_that_cuts_the_trace_is_refused_with_both_times(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"span: 15s \(15 s\) ends before the last interval .* at 20 s"):
        fleet(written(tmp_path, "a,5,20"), span=15)
