"""What a function does not take is refused in a sentence with the argument, its value and what is taken."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from tiny_scenarios import TINY, tiny

import neulite_sim
from neulite_sim.arguments import ArgumentError
from neulite_sim.errors import NeuliteError
from neulite_sim.methods.fedavg import FedAvg


class Deaf:
    """Has no `notify`."""


class Told:
    """An observer."""

    def notify(self, event):
        del event


ODD = [5, 2.5, b"x", True, object(), [5], {"a": 1}, (), Deaf, np.int64(3), "\0", "x" * 5000, None]
DRY = {**TINY, "backend": "dry-run"}
CALLS = {
    "observers": lambda odd: neulite_sim.simulate(DRY, observers=odd),
    "fleet": lambda odd: neulite_sim.simulate(DRY, fleet=odd),
    "out": lambda odd: neulite_sim.simulate(DRY, out=odd),
    "run_dir": neulite_sim.load_run,
    "run_dir of resume": neulite_sim.resume,
    "observers of resume": lambda odd: neulite_sim.resume("gone", observers=odd),
    "path": neulite_sim.load_scenario,
    "overrides": lambda odd: neulite_sim.profile(DRY, overrides=odd),
    "grid": lambda odd: neulite_sim.sweep(DRY, odd, out="gone", jobs=1),
    "out of sweep": lambda odd: neulite_sim.sweep(DRY, out=odd, jobs=0),
    "seed": lambda odd: neulite_sim.profile(DRY, seed=odd),
    "budget": lambda odd: neulite_sim.compare("gone", view="quality-under-budget", budget=odd),
    "memory": lambda odd: neulite_sim.whatif(DRY, memory=odd, methods="fedavg"),
    "runs": neulite_sim.compare,
    "field": lambda odd: neulite_sim.register(odd, "a-name", FedAvg),
    "name": lambda odd: neulite_sim.register("method", odd, FedAvg),
    "summary": lambda odd: neulite_sim.register("method", "a-name", FedAvg, summary=odd),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_function_ends_in_an_error_of_python_whatever_it_is_called_with(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for odd in ODD:
        with contextlib.suppress(NeuliteError):
            CALLS[call](odd)


@pytest.mark.parametrize(
    ("call", "odd", "said"),
    [
        ("observers", 5, "observers is 5, of type int; give a list of objects with a method notify(event)"),
        (
            "observers",
            [5],
            "an item of observers is 5, of type int; give a list of objects with a method notify(event)",
        ),
        ("observers", [Told], "of type type; give a list of objects with a method notify(event)"),
        ("observers of resume", [Deaf()], "an item of observers is <"),
        ("fleet", 3, "fleet is 3, of type int; give the fleet of this scenario as draw_fleet returns it, or None"),
        ("out", 5, "out is 5, of type int; give the path of a run folder, or None"),
        ("out", "a/\0", r"out is 'a/\x00', of type str; give the path of a run folder, or None"),
        ("run_dir", 5, "run_dir is 5, of type int; give the path of a run folder"),
        ("run_dir", "x" * 300, "give the path of a run folder whose names have at most 255 bytes"),
        ("run_dir of resume", b"x", "run_dir is b'x', of type bytes; give the path of a run folder"),
        ("path", None, "path is None, of type NoneType; give the path of a scenario file"),
        ("overrides", 5, "overrides is 5, of type int; give a mapping of keys to values, or a list of key=value texts"),
        ("overrides", [5], "an item of overrides is 5, of type int; give a mapping"),
        ("grid", 5, "grid is 5, of type int; give a mapping of keys to their values, or a list of key=v1,v2 texts"),
        ("budget", 5, 'budget is 5, of type int; give a text such as "memory=300MB,time=2h", or a mapping of that'),
        ("field", 5, "field is 5, of type int; give a text"),
        ("name", ["a"], "name is ['a'], of type list; give a text"),
        ("summary", None, "summary is None, of type NoneType; give a text"),
    ],
)
def test_an_argument_is_named_with_its_value_and_what_is_taken(call, odd, said):
    with pytest.raises(ArgumentError) as caught:
        CALLS[call](odd)
    assert said in str(caught.value)


@pytest.mark.parametrize("field", ["model", "data", "partition", "method", "selector", "protocol", "availability"])
def test_what_can_never_be_a_component_is_not_registered(field):
    for odd in (None, 5, 2.5, True, b"x", object(), np.float32(1)):
        with pytest.raises(ArgumentError, match=r"^value is .*; give .*, or a Component$"):
            neulite_sim.register(field, "no-component", odd)


@pytest.mark.parametrize("field", ["method", "selector", "protocol", "availability"])
def test_what_holds_data_is_no_code(field):
    for odd in ("fedavg", [1], (1,), {"a": 1}, np.zeros(3)):
        with pytest.raises(ArgumentError, match=r"^value is "):
            neulite_sim.register(field, "no-component", odd)


def test_a_name_of_a_component_is_no_longer_than_one_in_a_scenario():
    with pytest.raises(NeuliteError, match="can be no name of a component"):
        neulite_sim.register("method", "x" * 300, FedAvg)


def test_a_study_without_a_budget_is_refused():
    with pytest.raises(NeuliteError, match=r"^--memory: has no value in it, found \(\); name one, or leave it out$"):
        neulite_sim.whatif(DRY, memory=(), methods="fedavg")


def test_what_is_taken_still_is(tmp_path):
    told = Told()
    for observers in ([told], (told,), iter([told]), []):
        neulite_sim.simulate(tiny("backend=dry-run"), observers=observers)
    whole = neulite_sim.simulate(DRY, out=Path(tmp_path) / "run")
    assert neulite_sim.load_run(str(tmp_path / "run")).summary == whole.summary
    assert neulite_sim.profile(DRY, overrides=("training.batch_size=4",), seed=np.int64(4)).rows
