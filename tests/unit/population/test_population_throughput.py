"""Throughput: bits integrated over time, and the moment at which a transfer is done."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.population.link.throughput import ConstantRate, SteppedRate
from neulite_sim.seeding import stream
from neulite_sim.traces.steps import Steps, steps
from neulite_sim.traces.throughput import read_throughput

INF = math.inf


def made(*parts: tuple[float, float], start_s: float = 0.0) -> Steps:
    """Return steps from pairs of seconds and rate."""
    lengths, rates = zip(*parts, strict=True)
    return steps(start_s + np.concatenate([[0.0], np.cumsum(lengths)]), np.array(rates))


# 10 bit/s for 2 s, nothing for 3 s, 4 bit/s for 5 s: 40 bits in 10 s.
EXAMPLE = made((2, 10), (3, 0), (5, 4))


def test_bits_are_summed_over_the_steps_they_pass_in() -> None:
    rate = SteppedRate(steps=EXAMPLE)
    assert rate.bits(0, 2) == 20
    assert rate.bits(1, 6) == 10 + 4
    assert rate.bits(2, 5) == 0
    assert rate.bits(9, 11) == 4 + 10
    assert rate.bits(0, 1000) == 4000
    assert rate.mean_bits_per_second == 4


def test_a_transfer_waits_through_what_carries_nothing() -> None:
    rate = SteppedRate(steps=EXAMPLE)
    assert rate.ends_s(0, 15) == 1.5
    assert rate.ends_s(1, 10) == 2
    assert rate.ends_s(1, 11) == 5.25
    assert rate.ends_s(3, 4) == 6
    assert rate.ends_s(3, 0) == 3


def test_a_transfer_that_ends_with_a_step_does_not_wait_for_the_next() -> None:
    late = made((0.1, 3.3), (1000, 0), (0.7, 1.1))
    rate = SteppedRate(steps=late)
    assert rate.ends_s(0, 3.3 * 0.1) == pytest.approx(0.1)
    for k in range(50):
        start_s = k * late.span_s
        assert rate.ends_s(start_s, 0.33) - start_s == pytest.approx(0.1, abs=1e-9)


def test_rounding_does_not_send_a_transfer_through_the_stretch_behind_it() -> None:
    # All that is left of the first step, as a difference of floats: the sum may lie a bit above the step's end.
    trace = made((7.3, 1.1e6 / 3), (1000, 0), (0.7, 1.1))
    rng = stream(3, "test")
    for start_s in rng.uniform(0, 7.3, 300):
        left = trace.volume_bits[1] - trace.volume_until(start_s)
        for scale in (1.0, 0.3, 1 / 7):
            rate = SteppedRate(steps=trace, scale=scale)
            assert rate.ends_s(start_s, scale * left) == pytest.approx(7.3, rel=1e-12)


def test_a_transfer_over_many_repetitions_ends_in_the_right_one() -> None:
    rate = SteppedRate(steps=EXAMPLE)
    assert rate.ends_s(0, 40) == 10
    assert rate.ends_s(0, 40 * 7 + 20) == 72
    assert rate.ends_s(0, 40 * 7 + 24) == 76
    assert rate.ends_s(5, 40) == 12
    # A trace that begins with nothing: what ends with a repetition does not wait for the next.
    assert SteppedRate(steps=made((5, 0), (5, 2))).ends_s(0, 30) == 30


def test_an_offset_begins_within_the_trace_and_a_scale_multiplies_it() -> None:
    rate = SteppedRate(steps=EXAMPLE, offset_s=5, scale=0.5)
    assert rate.bits(0, 5) == 10
    assert rate.ends_s(0, 10) == 5
    assert rate.ends_s(0, 11) == 5.2
    assert rate.mean_bits_per_second == 2


def test_without_repetition_nothing_passes_after_the_end() -> None:
    rate = SteppedRate(steps=EXAMPLE, is_repeated=False)
    assert rate.bits(8, 1e9) == 8
    assert rate.ends_s(8, 8) == 10
    assert rate.ends_s(8, 8.001) == INF
    assert rate.ends_s(11, 1) == INF
    assert rate.bits(11, 12) == 0


def test_a_constant_rate_is_size_over_rate() -> None:
    rate = ConstantRate(8e6)
    assert rate.ends_s(3, 16e6) == 5
    assert rate.bits(3, 5) == 16e6


@pytest.mark.parametrize("rate", [ConstantRate(1.0), SteppedRate(steps=EXAMPLE)])
def test_moments_out_of_order_and_negative_sizes_are_refused(rate: ConstantRate | SteppedRate) -> None:
    with pytest.raises(ValueError, match=r"0 <= start <= end, found 3 s and 2 s"):
        rate.bits(3, 2)
    with pytest.raises(ValueError, match=r"found -1 s and 2 s"):
        rate.bits(-1, 2)
    with pytest.raises(ValueError, match=r"size of 0 or more, found 1 s and -5 bits"):
        rate.ends_s(1, -5)
    with pytest.raises(ValueError, match=r"found inf s and 5 bits"):
        rate.ends_s(INF, 5)


@pytest.mark.parametrize(
    ("at_s", "rates", "message"),
    [
        ([0, 1], [], "2 moments for 0 rates"),
        ([0, 1, 1], [1, 2], "must be finite and ascend"),
        ([0, INF], [1], "must be finite and ascend"),
        ([0, 1], [-1], "0 or more and finite"),
        ([0, 1, 2], [0, 0], "must carry something: all its rates are 0"),
    ],
)
def test_steps_that_are_none_are_refused(at_s: list[float], rates: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        steps(np.array(at_s, float), np.array(rates, float))


class Exact:
    """The slow twin: walks step by step in fractions."""

    def __init__(self, rate: SteppedRate) -> None:
        at_s = [Fraction(float(moment)) for moment in rate.steps.at_s]
        self.parts = [
            (after - before, Fraction(float(bps)) * Fraction(rate.scale))
            for before, after, bps in zip(at_s, at_s[1:], rate.steps.rates, strict=False)
        ]
        self.offset = Fraction(rate.offset_s)
        self.is_repeated = rate.is_repeated

    def walk(self, until: Fraction):
        """Yield (start, end, rate) of each step from the beginning of the trace to `until`."""
        at, place = Fraction(0), 0
        while at < until:
            if place >= len(self.parts) and not self.is_repeated:
                return
            length, rate = self.parts[place % len(self.parts)]
            yield at, at + length, rate
            at, place = at + length, place + 1

    def bits(self, start_s: float, end_s: float) -> Fraction:
        low, high = Fraction(start_s) + self.offset, Fraction(end_s) + self.offset
        return sum(
            (max(Fraction(0), min(end, high) - max(start, low)) * rate for start, end, rate in self.walk(high)),
            Fraction(0),
        )

    def ends_s(self, start_s: float, num_bits: float) -> float:
        left, low = Fraction(num_bits), Fraction(start_s) + self.offset
        for start, end, rate in self.walk(Fraction(10**7)):
            since = max(start, low)
            if end <= since or rate == 0:
                continue
            if left <= rate * (end - since):
                return float(since + left / rate - self.offset)
            left -= rate * (end - since)
        return INF


# Whole milliseconds and bits per second with room between them: the exact twin and floats then never disagree on
# which side of a step a transfer ends.
lengths = st.integers(1, 4000).map(lambda ms: ms / 1000)
rated = st.tuples(lengths, st.sampled_from([0.0, 0.0, 1.0, 7.0, 1000.0, 2.5e6]))
rates = st.builds(
    lambda parts, offset, scale, repeated: SteppedRate(
        steps=made(*parts), offset_s=offset * made(*parts).span_s, scale=scale, is_repeated=repeated
    ),
    st.lists(rated, min_size=1, max_size=6).filter(lambda parts: any(rate for _, rate in parts)),
    st.floats(0, 0.99),
    st.sampled_from([1.0, 0.3, 2.0]),
    st.booleans(),
)
moments = st.floats(0, 60)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rate=rates, start_s=moments, length_s=moments)
def test_bits_equal_an_exact_walk_over_the_steps(rate: SteppedRate, start_s: float, length_s: float) -> None:
    end_s = start_s + length_s
    # Rounding moves a moment by at most 1e-14 s here, within which the fastest link passes 5e-8 bits.
    assert rate.bits(start_s, end_s) == pytest.approx(float(Exact(rate).bits(start_s, end_s)), rel=1e-9, abs=1e-6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rate=rates, start_s=moments, share=st.floats(0.001, 3))
def test_a_transfer_ends_when_its_bits_have_passed_and_not_before(
    rate: SteppedRate, start_s: float, share: float
) -> None:
    num_bits = share * rate.scale * rate.steps.total_bits
    end_s = rate.ends_s(start_s, num_bits)
    if end_s == INF:
        assert float(Exact(rate).bits(start_s, 1e4)) < num_bits
        return
    assert rate.bits(start_s, end_s) == pytest.approx(num_bits, rel=1e-9)
    earlier_s = start_s + (end_s - start_s) * (1 - 1e-6)
    assert rate.bits(start_s, earlier_s) < num_bits


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rate=rates, start_s=moments, share=st.floats(0.01, 3))
def test_ends_equal_an_exact_walk_over_the_steps(rate: SteppedRate, start_s: float, share: float) -> None:
    num_bits = share * rate.scale * rate.steps.total_bits
    expected, found = Exact(rate).ends_s(start_s, num_bits), rate.ends_s(start_s, num_bits)
    near = Exact(rate).ends_s(start_s, num_bits * (1 - 1e-9)), Exact(rate).ends_s(start_s, num_bits * (1 + 1e-9))
    # Where a step carries nothing, a rounding error decides between its two ends; both are right then.
    assert min(near) - 1e-9 <= found <= max(near) + 1e-9 or found == expected == INF


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rate=rates, moments=st.lists(moments, min_size=3, max_size=8))
def test_any_order_of_questions_gives_the_same_answers_and_parts_add_up(
    rate: SteppedRate, moments: list[float]
) -> None:
    ordered = sorted(moments)
    parts = [rate.bits(*pair) for pair in itertools.pairwise(ordered)]
    assert sum(parts) == pytest.approx(rate.bits(ordered[0], ordered[-1]), rel=1e-9, abs=1e-6)
    answers = {at_s: rate.ends_s(at_s, 100.0) for at_s in moments}
    assert {at_s: rate.ends_s(at_s, 100.0) for at_s in reversed(moments)} == answers


# Files.


def written(folder: Path, *lines: str, header: str = "trace,t_s,bits_per_second") -> Path:
    path = folder / "rates.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_file_of_traces_counts_time_from_each_first_line(tmp_path: Path) -> None:
    found = read_throughput(written(tmp_path, "a,100,8", "b,0,1", "a,102,0", "b,1,", "a,105,"))
    assert found.labels == ("a", "b")
    assert found.traces[0].at_s.tolist() == [0, 2, 5]
    assert found.traces[0].rates.tolist() == [8, 0]
    assert found.traces[1].total_bits == 1


def test_comments_above_the_table_are_skipped_and_lines_still_count(tmp_path: Path) -> None:
    path = written(tmp_path, "trace,t_s,bits_per_second", "a,0,x", header="# neulite-sim trace 1 kind=throughput\n# so")
    with pytest.raises(ScenarioError, match=r"rates\.csv:4: path: bits_per_second 'x' is not a rate"):
        read_throughput(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,0,1"], r"csv:2: path: trace 'a' has no end; add a last line a,T, with the time T and no rate"),
        (["a,0,0", "a,1,"], r"csv:3: path: trace 'a' carries nothing"),
        (["a,0,1", "a,0,2", "a,3,"], r"csv:3: path: t_s 0 is not after 0 of line 2"),
        (["a,0,1", "a,3,", "a,4,1"], r"csv:4: path: follows the end of its trace, line 3"),
        (["a,-1,1", "a,3,"], r"csv:2: path: t_s '-1' is not a number of seconds from 0 up"),
        (["a,0,-1", "a,3,"], r"csv:2: path: bits_per_second '-1' is not a rate of 0 or more"),
        (["a,0,inf", "a,3,"], r"csv:2: path: bits_per_second 'inf' is not a rate"),
        (["a,0"], r"csv:2: path: 'a,0' is not trace,t_s,bits_per_second"),
        ([], r"csv:1: path: holds no rate; expected a CSV file"),
    ],
)
def test_wrong_lines_are_refused_with_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        read_throughput(written(tmp_path, *lines))


def test_another_header_kind_or_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"csv:1: path: the header is 'a,b'; write trace,t_s,bits_per_second"):
        read_throughput(written(tmp_path, header="a,b"))
    with pytest.raises(ScenarioError, match=r"csv:1: path: is a trace of kind availability; path names one of kind th"):
        read_throughput(written(tmp_path, header="# neulite-sim trace 1 kind=availability\ndevice,start_s,end_s"))
    with pytest.raises(ScenarioError, match=r"is a trace of version 2; this neulite-sim reads version 1"):
        read_throughput(written(tmp_path, header="# neulite-sim trace 2 kind=throughput\ntrace"))


def test_a_missing_file_names_its_key_and_form(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no throughput trace at .*no\.csv; population\.link\.downlink\.trace"):
        read_throughput(tmp_path / "no.csv", "population.link.downlink.trace")
