import threading
import time
from collections.abc import Callable
from contextlib import suppress

from service.shares import Shares


class Holder:
    """Holds a share in a thread of its own until it is let go."""

    def __init__(self, shares: Shares, size: int, priority: int = 10) -> None:
        self.has, self._done = threading.Event(), threading.Event()

        def hold() -> None:
            with shares.take(size, priority):
                self.has.set()
                self._done.wait(60)

        before = len(shares._row)
        self._thread = threading.Thread(target=hold)
        self._thread.start()
        until(lambda: self.has.is_set() or len(shares._row) > before)

    def let_go(self) -> None:
        self._done.set()
        self._thread.join()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_holders_share_what_there_is_and_no_more() -> None:
    shares = Shares(10)
    one, other, third = Holder(shares, 6), Holder(shares, 4), Holder(shares, 1)

    assert (one.has.is_set(), other.has.is_set(), third.has.is_set()) == (True, True, False)
    other.let_go()
    assert third.has.wait(60)
    one.let_go()
    third.let_go()


def test_a_wish_larger_than_all_is_held_alone() -> None:
    shares = Shares(10)
    small = Holder(shares, 1)
    huge = Holder(shares, 1000)
    late = Holder(shares, 1)

    assert (huge.has.is_set(), late.has.is_set()) == (False, False)
    small.let_go()
    assert huge.has.wait(60)
    assert not late.has.is_set()
    huge.let_go()
    assert late.has.wait(60)
    late.let_go()


def test_the_urgent_wish_passes_those_that_wait() -> None:
    shares = Shares(1)
    first, routine, stat = Holder(shares, 1), Holder(shares, 1, 10), Holder(shares, 1, 30)

    first.let_go()
    assert stat.has.wait(60)
    assert not routine.has.is_set()
    stat.let_go()
    assert routine.has.wait(60)
    routine.let_go()


def test_an_error_gives_the_share_back() -> None:
    shares = Shares(1)
    with suppress(ValueError), shares.take(1, 10):
        raise ValueError

    with shares.take(1, 10):
        pass
