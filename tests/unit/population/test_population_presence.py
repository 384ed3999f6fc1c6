"""Who is online in a chunk, kept up while the moment moves, equals a look at all intervals."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.population.availability.presence import Presence, inside
from neulite_sim.traces.intervals import TICKS_PER_SECOND, Intervals

LENGTH = 20

# Whole seconds, so that questions meet starts and ends exactly.
rows_of_changes = st.lists(st.sets(st.integers(0, LENGTH), max_size=8), min_size=1, max_size=6)
moments = st.lists(st.sampled_from([step / 2 for step in range(2 * LENGTH)]), min_size=1, max_size=12)


def intervals(rows: list[set[int]]) -> Intervals:
    """The first change of a row begins an interval, the next ends it, and so on; an odd one is left out."""
    ordered = [sorted(changes)[: len(changes) // 2 * 2] for changes in rows]
    offsets = np.cumsum([0, *(len(changes) // 2 for changes in ordered)])
    return Intervals(
        offsets=offsets,
        start_s=np.array([start for changes in ordered for start in changes[::2]], np.float64),
        end_s=np.array([end for changes in ordered for end in changes[1::2]], np.float64),
    )


def one_by_one(chunk: Intervals, at_s: float) -> list[bool]:
    spans = [range(chunk.offsets[row], chunk.offsets[row + 1]) for row in range(chunk.num_rows)]
    return [any(chunk.start_s[place] <= at_s < chunk.end_s[place] for place in span) for span in spans]


def test_a_row_is_online_from_its_start_until_its_end() -> None:
    chunk = intervals([{2, 5}, set(), {0, 2, 3, 9}])
    assert inside(chunk, 2.0).tolist() == [True, False, False]
    assert inside(chunk, 5.0).tolist() == [False, False, True]


@given(rows=rows_of_changes, asked=moments, stretch_s=st.sampled_from([0.5, 3.0, 40.0]), forward=st.booleans())
def test_the_answers_are_those_of_a_look_at_every_interval(
    rows: list[set[int]], asked: list[float], stretch_s: float, forward: bool
) -> None:
    chunk = intervals(rows)
    presence = Presence(chunk, stretch_s=stretch_s)
    for at_s in sorted(asked) if forward else asked:
        assert presence.online(at_s).tolist() == inside(chunk, at_s).tolist() == one_by_one(chunk, at_s)


def test_an_answer_is_the_callers_own() -> None:
    presence = Presence(intervals([{2, 5}]), stretch_s=1.0)
    presence.online(3.0)[:] = False
    assert presence.online(3.0).tolist() == [True]


@given(
    stretch=st.integers(1, 2**46),
    beyond=st.lists(st.tuples(st.integers(0, 65534), st.integers(-2, 2)), min_size=1, max_size=20),
)
def test_a_change_lies_in_the_stretch_that_whole_ticks_say(stretch: int, beyond: list[tuple[int, int]]) -> None:
    """A tick before a stretch begins is not in it, however long stretches are."""
    ticks = sorted({number * stretch + more for number, more in beyond if 0 <= number * stretch + more < 2**52})
    ends = [tick + 1 for tick in ticks]
    chunk = Intervals(
        offsets=np.arange(len(ticks) + 1),
        start_s=np.array(ticks, np.float64) / TICKS_PER_SECOND,
        end_s=np.array(ends, np.float64) / TICKS_PER_SECOND,
    )
    presence = Presence(chunk, stretch_s=stretch / TICKS_PER_SECOND)
    for number in sorted({tick // stretch for tick in (*ticks, *ends) if tick // stretch < 65536}):
        notes = presence.notes((number + 0.5) * stretch / TICKS_PER_SECOND)
        inside_it = [tick for tick in (*ticks, *ends) if tick // stretch == number and (tick or tick in ends)]
        assert sorted((notes.moments_s * TICKS_PER_SECOND).astype(np.int64).tolist()) == sorted(inside_it)
