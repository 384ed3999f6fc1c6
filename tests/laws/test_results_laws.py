"""Laws of rows on disk and of the digest, over rows of any content."""

import functools
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neulite_sim.results.cells import FILES, OPTIONAL_FILES, column_types, record
from neulite_sim.results.digest import Digest
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.memory import MemorySink, read_rows
from neulite_sim.results.rows import EVERYTHING, WALL_CLOCK, DenialRow, DiagnosticRow, FlightRow, RoundRow, columns

CELLS = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
}


# What the timeline of a run folder reads: only real devices have a track, and pauses have a form.
SPECIAL = {"device": st.integers(0, 10**6), "pauses": st.sampled_from(["", "1.5-2.0", "1e-05-2.0;3.0-1e+16"])}


@functools.cache
def types_of(kind):
    return column_types(kind, asked=EVERYTHING)


def cells(kind, column):
    if column in SPECIAL:
        return SPECIAL[column]
    cast, optional = types_of(kind)[column]
    return st.none() | CELLS[cast] if optional else CELLS[cast]


def rows(kind):
    return st.builds(kind, **{column: cells(kind, column) for column in columns(kind)})


ANY_ROW = st.one_of(*(rows(kind) for kind in (*FILES, *OPTIONAL_FILES)))
WEIGHTS = st.dictionaries(st.text(max_size=5), st.lists(st.floats(width=32), max_size=4).map(torch.tensor), max_size=3)


def digest(happened, weights=None):
    running = Digest()
    for row in happened:
        running.add(row)
    return running.hexdigest(weights or {})


@given(st.lists(ANY_ROW, max_size=8))
@settings(max_examples=30, deadline=None)
def test_rows_come_back_from_the_folder_as_they_were(happened):
    sink = MemorySink()
    with tempfile.TemporaryDirectory() as place:
        with RunFolder.create(Path(place), name="job", seed=1, scenario_yaml="", provenance={}) as folder:
            for row in happened:
                folder.write(row)
                sink.write(row)
        for kind, kept in ((RoundRow, sink.rounds), (FlightRow, sink.flights), (DenialRow, sink.denials)):
            back = read_rows(Path(place) / FILES[kind], kind)
            assert repr(back) == repr(kept) == repr([record(row) for row in happened if isinstance(row, kind)])
        measured = [record(row) for row in happened if isinstance(row, DiagnosticRow)]
        path = Path(place) / OPTIONAL_FILES[DiagnosticRow]
        assert path.exists() == bool(measured)
        assert repr(sink.diagnostics) == repr(measured) == repr(read_rows(path, DiagnosticRow) if measured else [])


@given(st.lists(ANY_ROW, max_size=6), WEIGHTS)
@settings(max_examples=30, deadline=None)
def test_equal_runs_have_equal_digests(happened, weights):
    copies = {name: weight.clone() for name, weight in reversed(weights.items())}
    assert digest(happened, weights) == digest([replace(row) for row in happened], copies)


@given(st.lists(ANY_ROW, min_size=1, max_size=6), st.data())
@settings(max_examples=100, deadline=None)
def test_any_changed_cell_changes_the_digest_unless_it_is_wall_clock_or_follows_from_others(happened, data):
    place = data.draw(st.integers(0, len(happened) - 1))
    column = data.draw(st.sampled_from(fields(happened[place])))
    value = data.draw(cells(type(happened[place]), column.name))
    assume(repr(value) != repr(getattr(happened[place], column.name)))
    changed = [*happened[:place], replace(happened[place], **{column.name: value}), *happened[place + 1 :]]
    assert (digest(changed) == digest(happened)) == (column.metadata == WALL_CLOCK or "asked" in column.metadata)


@given(WEIGHTS.filter(bool), st.data())
@settings(max_examples=30, deadline=None)
def test_any_changed_weight_changes_the_digest(weights, data):
    name = data.draw(st.sampled_from(sorted(weights)))
    weight = weights[name]
    changed = torch.cat([weight, torch.zeros(1)])
    if len(weight):
        changed = weight.clone()
        changed.view(torch.int32)[data.draw(st.integers(0, len(weight) - 1))] ^= 1
    assert digest([], {**weights, name: changed}) != digest([], weights)


@given(st.lists(ANY_ROW, min_size=1, max_size=6), st.data())
@settings(max_examples=40, deadline=None)
def test_lost_and_doubled_rows_change_the_digest(happened, data):
    place = data.draw(st.integers(0, len(happened) - 1))
    assert digest([*happened[:place], *happened[place + 1 :]]) != digest(happened)
    assert digest([*happened[:place], happened[place], *happened[place:]]) != digest(happened)


@given(st.lists(ANY_ROW, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_how_kinds_interleave_does_not_count(happened, random):
    lanes = {kind: [row for row in happened if isinstance(row, kind)] for kind in (*FILES, *OPTIONAL_FILES)}
    order = [kind for kind, lane in lanes.items() for _ in lane]
    random.shuffle(order)
    shuffled = [lanes[kind].pop(0) for kind in order]
    assert digest(shuffled) == digest(happened)
