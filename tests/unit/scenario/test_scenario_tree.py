"""Laying one scenario over another, and setting single values."""

from __future__ import annotations

from typing import Any

import pytest

from neulite_sim.scenario.tree import Node, Place, as_node, assign, overlay

BASE, OVER, SET = Place("base.yaml", 1), Place("over.yaml", 2), Place("--set")


def laid(base: Any, over: Any) -> Any:
    return overlay(as_node(base, BASE), as_node(over, OVER)).plain()


def after(plain: Any, *settings: tuple[str, Any]) -> Any:
    tree = as_node(plain, BASE)
    for key, value in settings:
        tree = assign(tree, key.split("."), as_node(value, SET))
    return tree.plain()


def test_mappings_merge_deeply() -> None:
    assert laid({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}}) == {"a": {"b": 1, "c": {"d": 2, "e": 3}}}


def test_lists_and_scalars_replace() -> None:
    assert laid({"a": [1, 2, 3], "b": 1}, {"a": [4], "b": None}) == {"a": [4], "b": None}


def test_another_kind_replaces_the_inherited_mapping() -> None:
    base = {"method": {"kind": "neulite", "curriculum": False}, "seed": 3}
    assert laid(base, {"method": {"kind": "fedavg"}}) == {"method": {"kind": "fedavg"}, "seed": 3}


def test_the_same_kind_keeps_the_inherited_options() -> None:
    base = {"method": {"kind": "neulite", "curriculum": False}}
    over = {"method": {"kind": "neulite", "schedule": "sequential"}}
    assert laid(base, over) == {"method": {"kind": "neulite", "curriculum": False, "schedule": "sequential"}}


def test_options_without_a_kind_keep_the_inherited_kind_even_a_bare_one() -> None:
    assert laid({"m": {"kind": "neulite"}}, {"m": {"a": 1}}) == {"m": {"kind": "neulite", "a": 1}}
    assert laid({"m": "neulite"}, {"m": {"a": 1}}) == {"m": {"kind": "neulite", "a": 1}}


def test_a_bare_kind_replaces_the_inherited_mapping() -> None:
    assert laid({"m": {"kind": "neulite", "a": 1}}, {"m": "neulite"}) == {"m": "neulite"}


def test_values_remember_where_they_were_written() -> None:
    tree = overlay(as_node({"a": {"b": 1, "c": 2}}, BASE), as_node({"a": {"c": 3}}, OVER))
    assert tree.nearest(("a", "b")).place == BASE
    assert tree.nearest(("a", "c")).place == OVER
    assert tree.nearest(("a", "missing", 7)) is tree.nearest(("a",))
    assert list(dict.fromkeys(tree.files())) == ["over.yaml", "base.yaml"]


def test_setting_a_value_leaves_the_rest_alone() -> None:
    given = {"a": {"b": 1, "c": [5, {"d": 6}]}}
    assert after(given, ("a.c.1.d", 7)) == {"a": {"b": 1, "c": [5, {"d": 7}]}}
    assert given == {"a": {"b": 1, "c": [5, {"d": 6}]}}


def test_setting_creates_the_mappings_on_the_way() -> None:
    assert after({}, ("a.b.c", 1)) == {"a": {"b": {"c": 1}}}
    assert after({"a": None}, ("a.b", 1)) == {"a": {"b": 1}}


def test_setting_a_mapping_replaces_it_whole() -> None:
    assert after({"a": {"b": 1}}, ("a", {"c": 2})) == {"a": {"c": 2}}


def test_setting_another_kind_drops_the_options_of_the_old_one() -> None:
    given = {"method": {"kind": "neulite", "curriculum": False}}
    assert after(given, ("method.kind", "fedavg")) == {"method": {"kind": "fedavg"}}
    assert after(given, ("method.kind", "neulite")) == given


def test_setting_another_kind_keeps_what_was_itself_set() -> None:
    given = {"method": {"kind": "neulite", "curriculum": False}}
    settings = [("method.memory_limit", False), ("method.kind", "fedavg")]
    assert after(given, *settings) == {"method": {"kind": "fedavg", "memory_limit": False}}


def test_setting_an_option_of_a_bare_kind_spells_it_out() -> None:
    assert after({"m": "neulite"}, ("m.a", 1)) == {"m": {"kind": "neulite", "a": 1}}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("items.2", r"there is no item '2' in a list of 2 items \(numbered 0 to 1\); set the whole list"),
        ("items.-1", "there is no item '-1' in a list of 2 items"),
        ("items.x.y", "there is no item 'x' in a list of 2 items"),
        ("none.0", r"there is no item '0' in a list of 0 items \(none yet\)"),
        ("seed.x", "'x' cannot be set inside 42, which is neither a mapping nor a list"),
    ],
)
def test_keys_that_lead_nowhere_are_refused(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(as_node({"items": [1, 2], "none": [], "seed": 42}, BASE), key.split("."), Node(1, SET))
