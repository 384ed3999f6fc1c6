"""What is written behind a run: in order, not far behind, and an error stops it and is told."""

import threading
import time
from contextlib import closing

import pytest

from neulite_sim.results.behind import Behind


def test_works_are_done_in_order_in_another_thread_before_the_end():
    done = []
    with closing(Behind()) as behind:
        for number in range(100):
            behind.do(lambda number=number: done.append((number, threading.current_thread())))
        behind.wait()
    assert [number for number, _ in done] == list(range(100))
    (thread,) = {thread for _, thread in done}
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


@pytest.mark.parametrize(("size", "most"), [({}, 2), ({"num_bytes": 2**23}, 2), ({"num_bytes": 2**19}, 8)])
def test_it_waits_where_too_much_is_left_to_do(size, most):
    """Two pieces of any size, or as many as are four mebibytes together."""
    may_go_on, asked, began = threading.Event(), [], []

    def slow(number):
        began.append(number)
        assert may_go_on.wait(60)

    def ask():
        for number in range(20):
            behind.do(slow, number, **size)
            asked.append(number)

    with closing(Behind()) as behind:
        asking = threading.Thread(target=ask)
        asking.start()
        while len(asked) < most:
            time.sleep(0.001)
        asking.join(0.2)
        assert asking.is_alive()
        assert len(asked) == most
        may_go_on.set()
        asking.join()
        behind.wait()
    assert began == asked == list(range(20))


def test_nothing_is_done_after_an_error_and_every_later_call_tells_it():
    done = []

    def fail():
        raise OSError("no room")

    def ask():
        for number in range(5):
            behind.do(done.append, number)

    behind = Behind()
    behind.do(fail)
    with pytest.raises(OSError, match="no room"):
        ask()
    told = list(done)
    for call in (behind.wait, lambda: behind.do(done.append, "more")):
        with pytest.raises(OSError, match="no room"):
            call()
    behind.close()
    assert done == told == []


def test_the_error_of_the_last_work_is_told_by_whoever_waits():
    with closing(Behind()) as behind:
        behind.do(int, "12")
        behind.do(int, "a")
        with pytest.raises(ValueError, match="'a'"):
            behind.wait()


def test_what_is_done_is_held_no_longer():
    done = []
    with closing(Behind()) as behind:
        for number in range(5):
            behind.do(done.append, number, num_bytes=1)
        behind._thread.submit(int).result()
        behind.do(done.append, 5, num_bytes=1)
        assert len(behind._left) == 1
        behind.wait()
    assert done == list(range(6))
