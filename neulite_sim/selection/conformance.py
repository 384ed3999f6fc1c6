"""The laws of the selector contract as assertions, for tests of any selector, in this package or in another.

In a test of yours, with a factory that returns a new selector for a fleet of the size it is told:

    from neulite_sim.selection.conformance import check_selector
    check_selector(lambda setting: MySelector(setting.num_devices))
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.contracts import held_to
from neulite_sim.methods.contract import Offers
from neulite_sim.models.names import FULL
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Feedback, Selector, SelectorSetting, is_count, may_ask_again

NUM_DEVICES = 60
NUM_ROUNDS = 45
"""Long enough for windows of 20 rounds to close twice, and for credits to run out."""
COUNTS = (1, 3, 10, 100)


@held_to("neulite_sim.selection.contract.Selector")
def check_selector(factory: Callable[[SelectorSetting], Selector]) -> None:
    """Pass where the selectors that `factory` returns keep the contract of `neulite_sim.selection.contract.Selector`.

    They are driven through rounds in which devices come and go, submodels change and mix, flights are lost, losses
    are unknown, and now and then nobody or one device alone is offered.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    setting = SelectorSetting(num_devices=NUM_DEVICES, max_rounds=NUM_ROUNDS // 3)
    for count in COUNTS:
        first, again = (_story(factory(setting), count) for _ in range(2))
        assert first == again, f"choose: equal calls gave {first} and then {again}; `rng` must be the only randomness"


def _story(selector: Selector, wanted: int) -> list[list[int]]:
    """Return which devices were chosen in each round of one and the same story."""
    chosen: list[list[int]] = []
    spent: list[tuple[int, np.random.Generator, str]] = []
    selector.register(np.arange(NUM_DEVICES, dtype=np.int64) % 7 * 10)
    for number in range(1, NUM_ROUNDS + 1):
        rng = stream(0, "conformance", number)
        offers = _offers(number, rng)
        count = _count(selector, wanted, len(offers))
        own = stream(0, "selection", number)
        positions = _positions(selector.choose(offers, count, own))
        spent.append((number, own, repr(own.bit_generator.state)))
        _check_positions(positions, offers, count)
        if may_ask_again(selector):
            once_more = _positions(selector.choose(offers, count, stream(0, "selection", number)))
            assert np.array_equal(positions, once_more), (
                f"chooses_afresh: asked twice for one dispatch, choose returned {positions.tolist()} and then "
                f"{once_more.tolist()}; a selector that keeps something of its calls must leave it False"
            )
        chosen.append([int(device) for device in offers.devices[positions]])
        if len(positions):
            selector.observe(_feedback(offers, positions, number, rng))
            _answer(selector, rng)
    for number, own, left in spent:
        assert repr(own.bit_generator.state) == left, (
            f"choose: the rng of round {number} was drawn from after the return; it is another one in each dispatch, "
            "so draw from it before you return and keep nothing of it"
        )
    return chosen


def _count(selector: Selector, wanted: int, num_offers: int) -> int:
    count: object = selector.num_to_choose(wanted, num_offers)
    asked = f"for {wanted} of {num_offers} offers"
    assert is_count(count), f"num_to_choose: must be a whole number, an int, is {count!r} {asked}"
    assert count >= 1, f"num_to_choose: must be at least 1, is {count} {asked}"
    return int(count)


def _positions(chosen: Any) -> NDArray[Any]:
    """Return what was chosen as an array, where a run takes it: a list of whole numbers does as well."""
    if isinstance(chosen, np.ndarray):
        return chosen
    positions = np.asarray(chosen)
    is_list = positions.ndim == 1 and (positions.dtype.kind in "iu" or not positions.size)
    assert is_list, f"choose: must return positions of offers, an array of int64, returned {reprlib.repr(chosen)}"
    return positions.astype(np.int64)


def _offers(number: int, rng: np.random.Generator) -> Offers:
    """Return offers to some devices: to nobody in every 7th round, to one alone in every 5th, all in every 4th."""
    num_offers = 0 if number % 7 == 0 else 1 if number % 5 == 0 else NUM_DEVICES if number % 4 == 0 else None
    if num_offers is None:
        num_offers = int(rng.integers(2, NUM_DEVICES))
    devices = np.sort(rng.choice(NUM_DEVICES, size=num_offers, replace=False)).astype(np.int64)
    submodels = ((FULL,), ("stage-1",), ("stage-2",), ("width-1", "width-0.5"))[number % 4]
    expected_s = 1.0 + (devices * 7919 % NUM_DEVICES) * (1 + number % 4)
    index = (devices % len(submodels)).astype(np.int16)
    return Offers(devices=devices, submodel_index=index, submodels=submodels, expected_s=expected_s.astype(np.float64))


def _check_positions(positions: NDArray[Any], offers: Offers, count: int) -> None:
    assert positions.ndim == 1, f"choose: positions must be a row of numbers, have shape {positions.shape}"
    assert positions.dtype == np.int64, f"choose: positions must be int64, are {positions.dtype}"
    assert len(positions) <= count, f"choose: at most {count} were wanted, {len(positions)} were chosen"
    assert (np.diff(positions) > 0).all(), f"choose: positions must ascend without repetition, are {positions.tolist()}"
    if not len(offers):
        assert not len(positions), f"choose: nothing was offered, {positions.tolist()} were chosen"
        return
    assert len(positions), f"choose: {len(offers)} were offered, none was chosen"
    low, high = int(positions[0]), int(positions[-1])
    assert low >= 0, f"choose: positions must be 0 to {len(offers) - 1}, the first is {low}"
    assert high < len(offers), f"choose: positions must be 0 to {len(offers) - 1}, the last is {high}"


def _feedback(
    offers: Offers, positions: NDArray[np.int64], number: int, rng: np.random.Generator
) -> Sequence[Feedback]:
    """Return feedback in the order in which flights end; some are lost, and every 6th round tells no loss."""
    found = []
    for position in positions:
        offer = offers[int(position)]
        has_arrived = bool(rng.random() < 0.8)
        is_told = has_arrived and number % 6 != 0
        loss = float(rng.exponential()) if is_told else None
        found.append(
            Feedback(
                device=offer.device,
                submodel=offer.submodel,
                round=number,
                duration_s=offer.expected_s * (float(rng.uniform(0.8, 1.2)) if has_arrived else 0.5),
                has_arrived=has_arrived,
                num_samples=1 + offer.device % 9,
                loss=loss,
                loss_rms=None if loss is None else 1.1 * loss,
            )
        )
    return sorted(found, key=lambda item: (item.duration_s, item.device))


def _answer(selector: Selector, rng: np.random.Generator) -> None:
    groups = selector.groups_to_test()
    for group in groups:
        assert len(group), "groups_to_test: a group must hold at least one device"
        assert np.isin(group, np.arange(NUM_DEVICES)).all(), f"groups_to_test: no such devices, {list(group)}"
    if len(groups):
        selector.observe_accuracies([float(value) for value in rng.random(len(groups))])
