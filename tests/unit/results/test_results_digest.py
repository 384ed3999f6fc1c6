import hashlib
import json
from dataclasses import replace

import torch

from neulite_sim.results.cells import values
from neulite_sim.results.digest import Digest
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import DenialRow, DiagnosticRow, FlightRow, RoundRow, columns, later_columns


def digest(*rows, **weights):
    running = Digest()
    for row in rows:
        running.add(row)
    return running.hexdigest(weights)


def test_digest_is_the_one_worked_out_by_hand(make_row):
    headers = {
        "RoundRow": '["RoundRow","round","virtual_time_s","stage","online","offered","selected","arrived","dropped",'
        '"discarded","denied","staleness_mean","train_loss","test_loss","test_accuracy","learning_rate","bytes_down","bytes_up","peak_memory_bytes",'
        '"skipped_terms","workers_replaced","wall_time_s"]\n',
        "FlightRow": '["FlightRow","flight","round","device","device_class","submodel","version","dispatched_s",'
        '"download_s","compute_s","upload_s","waiting_s","ended_s","outcome","reason","pauses","peak_memory_bytes",'
        '"available_memory_bytes","batch_size","samples","bytes_down","bytes_up","staleness","loss"]\n',
        "DenialRow": '["DenialRow","round","reason","submodel","devices","shortfall_bytes_min",'
        '"shortfall_bytes_median","shortfall_bytes_max"]\n[2,"memory","full",5,null,7,null]\n',
    }
    parts = [f'["{kind}","{hashlib.sha256(text.encode()).hexdigest()}"]\n' for kind, text in headers.items()]
    whole = "".join([*parts, '["w","torch.int16",[2]]\n']).encode() + bytes([1, 0, 2, 0])
    row = DenialRow(
        round=2, reason="memory", submodel="full", devices=5,
        shortfall_bytes_min=None, shortfall_bytes_median=7, shortfall_bytes_max=None,
    )  # fmt: skip
    assert digest(row, w=torch.tensor([1, 2], dtype=torch.int16)) == hashlib.sha256(whole).hexdigest()


def test_a_table_that_not_every_run_has_follows_the_others_where_there_are_rows_of_it(make_row):
    heads = [hashlib.sha256() for _ in range(4)]
    for head, kind in zip(heads, (RoundRow, FlightRow, DenialRow, DiagnosticRow), strict=True):
        known = [name for name in columns(kind) if name not in later_columns(kind)]
        head.update((json.dumps([kind.__name__, *known], separators=(",", ":")) + "\n").encode())
    heads[3].update(b'[2,1.5,"nhsic_x",1,0.25]\n')
    names = ("RoundRow", "FlightRow", "DenialRow", "DiagnosticRow")
    lines = [f'["{name}","{head.hexdigest()}"]\n' for name, head in zip(names, heads, strict=True)]
    row = DiagnosticRow(round=2, virtual_time_s=1.5, name="nhsic_x", block=1, value=0.25)
    assert digest(row) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest() == hashlib.sha256("".join(lines[:3]).encode()).hexdigest()


def test_a_column_that_came_later_counts_where_it_does_not_hold_its_default(make_row):
    row = make_row(FlightRow, plan="")
    assert digest(row) != digest(replace(row, plan="micro-batch 2"))
    assert json.loads(FlightRows.of([row]).as_json()) == values(row)[:-1]
    assert json.loads(FlightRows.of([replace(row, plan="micro-batch 2")]).as_json()) == [
        *values(row)[:-1],
        "micro-batch 2",
    ]


def test_wall_clock_does_not_count(make_row):
    row = make_row(RoundRow)
    assert digest(row) == digest(replace(row, wall_time_s=99.0))


def test_interleaving_of_kinds_does_not_count_but_order_within_a_kind_does(make_row):
    first, second, round_row = make_row(FlightRow, flight=1), make_row(FlightRow, flight=2), make_row(RoundRow)
    assert digest(first, round_row, second) == digest(round_row, first, second)
    assert digest(first, second) != digest(second, first)


def test_whole_number_in_a_float_column_is_the_same_cell(make_row):
    row = make_row(RoundRow)
    assert digest(replace(row, virtual_time_s=3)) == digest(replace(row, virtual_time_s=3.0))


def test_none_nan_and_zero_are_three_things(make_row):
    assert len({digest(make_row(RoundRow, train_loss=loss)) for loss in (None, float("nan"), 0.0, -0.0)}) == 4


def test_weights_count_by_name_type_shape_and_bytes():
    weight = torch.zeros(2, 3)
    variants = [{"a": weight}, {"b": weight}, {"a": weight.T}, {"a": weight.int()}, {"a": weight + 1e-45}, {}]
    assert len({digest(**weights) for weights in variants}) == len(variants)


def test_order_and_layout_of_weights_do_not_count():
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(True)
    strided = a.T.contiguous().T
    assert digest(a=a, b=b) == digest(b=b, a=strided)


def test_asking_for_the_digest_does_not_change_it(make_row):
    running = Digest()
    running.add(make_row(RoundRow))
    assert running.hexdigest({}) == running.hexdigest({})
