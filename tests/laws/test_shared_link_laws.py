"""Laws of the shared link, and its equality with a slow twin that counts in fractions."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.shared_link import SharedLink

LAW = settings(max_examples=80, deadline=None, derandomize=True)
NO_LIMIT = 10**9
whole = st.integers(0, 12)
limits = st.integers(1, 20) | st.just(NO_LIMIT)
# (begin at, bits, limit, pause after, resume after that, cancel after that): an absent pause or cancel is None.
flows = st.tuples(whole, st.integers(1, 60), limits, st.none() | whole, whole, st.none() | whole)
scripts = st.lists(flows, min_size=1, max_size=7)
sizes = st.floats(1e-3, 1e9)
rates = st.floats(1e-3, 1e9)


def water_filling(capacity, wanted):
    """Return the max-min fair rates by the textbook's loop: raise all rates together, freeze each at its limit."""
    rate, left, open_ones = {}, Fraction(capacity), dict(wanted)
    while open_ones:
        share = left / len(open_ones)
        full = {key: limit for key, limit in open_ones.items() if limit <= share}
        if not full:
            rate |= dict.fromkeys(open_ones, share)
            break
        for key, limit in full.items():
            rate[key] = Fraction(limit)
            left -= limit
            del open_ones[key]
    return rate


# No end can fall on the moment of a pause or a cancellation, where a rounding of 1e-16 s would decide between two
# stories: each of these moments has a prime of its own in its denominator. Beginnings may coincide with anything.
PRIMES = [n for n in range(7000, 7300) if all(n % d for d in range(2, 86))]


def changes(script):
    """Return what a script does as (moment, flow, action), in the order in which it happens."""
    found = []
    for number, (begin, _, _, pause, resume, cancel) in enumerate(script):
        own = [Fraction(1, prime) for prime in PRIMES[3 * number : 3 * number + 3]]
        now = Fraction(begin)
        found.append((begin, number, "begin"))
        if pause is not None:
            found += [(now := now + pause + own[0], number, "pause"), (now := now + resume + own[1], number, "resume")]
        if cancel is not None:
            found.append((now + cancel + own[2], number, "cancel"))
    return sorted(found, key=lambda change: change[0])


def twin(capacity, script):
    """Return the exact end of each flow that ends, moving a fluid from change to change in fractions."""
    left, running, ended_s, now = {}, set(), {}, Fraction(0)
    todo = changes(script)
    while todo or running:
        rate = water_filling(capacity, {key: script[key][2] for key in running})
        ends = {key: now + left[key] / rate[key] for key in running}
        moment = min([*ends.values(), *(change[0] for change in todo[:1])])
        for key in running:
            left[key] -= rate[key] * (moment - now)
        now = moment
        for key in [key for key, end in ends.items() if end == moment]:
            ended_s[key] = moment
            running.discard(key)
        if todo and todo[0][0] == moment:
            _, key, action = todo.pop(0)
            if action == "begin":
                left[key] = Fraction(script[key][1])
            if key not in ended_s:
                (running.add if action in ("begin", "resume") else running.discard)(key)
    return ended_s


def simulated(capacity, script):
    """Return the end of each flow that ends on the link."""
    clock, transfers, ended_s = Clock(), {}, {}
    link = SharedLink(clock, capacity)

    def act(number, action):
        if action == "begin":
            transfers[number] = link.transfer(script[number][1], script[number][2])
            transfers[number].callbacks.append(lambda _: ended_s.update({number: clock.now}))
        elif action != "resume" or number not in ended_s:
            getattr(link, action)(transfers[number])

    for at_s, number, action in changes(script):
        clock.at(float(at_s)).callbacks.append(lambda _, number=number, action=action: act(number, action))
    clock.run(until=1e12)
    assert link.num_active == 0
    return ended_s


@LAW
@given(st.integers(1, 30), scripts)
def test_the_link_equals_a_fluid_counted_in_fractions(capacity, script):
    expected = twin(capacity, script)
    assert simulated(capacity, script) == pytest.approx(
        {key: float(end) for key, end in expected.items()}, rel=1e-9, abs=1e-9
    )


def opened(capacity, wanted):
    """Return a link on which transfers of the given (bits, limit) have just begun."""
    clock = Clock()
    link = SharedLink(clock, capacity)
    return clock, link, [link.transfer(*each) for each in wanted]


@LAW
@given(rates, st.lists(st.tuples(sizes, rates | st.just(math.inf)), min_size=1, max_size=12))
def test_rates_are_max_min_fair_and_no_capacity_is_wasted(capacity, wanted):
    _, link, transfers = opened(capacity, wanted)
    found = [link.rate_bits_per_second(each) for each in transfers]
    limit = [min(capacity, each[1]) for each in wanted]
    assert all(rate <= top for rate, top in zip(found, limit, strict=True))
    assert math.fsum(found) == pytest.approx(min(capacity, math.fsum(limit)), rel=1e-12)
    # Who runs below the own limit gets as much as anybody: nobody could be given more but at the cost of a poorer one.
    assert all(rate == max(found) for rate, top in zip(found, limit, strict=True) if rate < top)


@LAW
@given(rates, st.lists(st.tuples(sizes, rates | st.just(math.inf)), min_size=1, max_size=8), st.randoms())
def test_the_order_of_transfers_that_begin_together_changes_nothing(capacity, wanted, random):
    shuffled = list(range(len(wanted)))
    random.shuffle(shuffled)
    ended_s = []
    for order in (range(len(wanted)), shuffled):
        clock, _, transfers = opened(capacity, [wanted[place] for place in order])
        ends = {}
        for place, each in zip(order, transfers, strict=True):
            each.callbacks.append(lambda _, ends=ends, place=place, clock=clock: ends.update({place: clock.now}))
        clock.run(until=clock.all_of(transfers))
        ended_s.append(ends)
    assert ended_s[0] == ended_s[1]


@LAW
@given(st.lists(st.tuples(st.floats(0, 100), sizes, st.floats(1, 1e6)), min_size=1, max_size=10))
def test_a_link_that_is_never_full_changes_nothing_to_the_last_bit(wanted):
    clock, ended_s = Clock(), {}
    link = SharedLink(clock, 1e8)

    def device(number, begin_s, num_bits, limit):
        yield clock.at(begin_s)
        yield link.transfer(num_bits, limit)
        ended_s[number] = clock.now

    for number, each in enumerate(wanted):
        clock.process(device(number, *each))
    clock.run(until=1e12)
    assert ended_s == {number: begin + bits / limit for number, (begin, bits, limit) in enumerate(wanted)}


@LAW
@given(st.floats(1, 1e3), scripts)
def test_bits_that_passed_are_the_integral_of_the_used_capacity(capacity, script):
    clock = Clock()
    link = SharedLink(clock, capacity)
    transfers, cancelled_bits, passed = {}, [], [0.0, 0.0, 0.0]

    def read(_):
        passed[0] += passed[2] * (clock.now - passed[1])
        running = [link.rate_bits_per_second(each) for each in transfers.values()]
        passed[1:] = [clock.now, math.fsum(running)]
        wanted = math.fsum(
            each.limit_bits_per_second for each, rate in zip(transfers.values(), running, strict=True) if rate
        )
        assert passed[2] == pytest.approx(min(capacity, wanted), rel=1e-12)

    def act(number, action):
        if action == "begin":
            transfers[number] = link.transfer(script[number][1], script[number][2])
            transfers[number].callbacks.append(read)
        elif action == "cancel":
            cancelled_bits.append(link.cancel(transfers[number]))
        elif not transfers[number].triggered:
            getattr(link, action)(transfers[number])
        read(None)

    for at_s, number, action in changes(script):
        clock.at(float(at_s)).callbacks.append(lambda _, number=number, action=action: act(number, action))
    clock.run(until=1e6)
    sent = sum(flow[1] for flow in script) - math.fsum(cancelled_bits)
    assert passed[0] == pytest.approx(sent, rel=1e-9, abs=1e-9)
