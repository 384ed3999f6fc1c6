"""Items that are made while the one before is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from neulite_sim.ahead import made_ahead


def test_all_items_come_in_order_each_made_before_the_one_before_is_given_back() -> None:
    made = [threading.Event() for _ in range(5)]

    def numbers() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    seen = []
    for number in made_ahead(numbers()):
        # Would wait for ever if the next one were only made when it is asked for.
        assert number == 4 or made[number + 1].wait(10)
        seen.append(number)
    assert seen == [0, 1, 2, 3, 4]


def test_nothing_comes_of_nothing() -> None:
    assert list(made_ahead(iter(()))) == []


def test_an_error_comes_where_its_item_would() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("gone")

    items = made_ahead(broken())
    assert next(items) == 1
    with pytest.raises(LookupError, match="gone"):
        next(items)


def test_whoever_stops_early_leaves_no_thread() -> None:
    items = made_ahead(iter(range(100)))
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("makes-ahead")] == []
