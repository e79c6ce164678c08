"""Scratch that several studies in hand share."""

import threading
from pathlib import Path

import pytest

from service.errors import ScratchFullError
from service.storage.scratch import Scratch


def test_who_waits_gets_room_when_the_others_have_let_go(tmp_path: Path) -> None:
    """A study that fits alone does not fail because another is in hand."""
    scratch = Scratch(tmp_path, most_bytes=100)
    got = threading.Event()

    def second() -> None:
        with scratch.folder(80, waits=True):
            got.set()

    with scratch.folder(80, waits=True):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not got.wait(0.2)
    waiting.join(60)

    assert got.is_set()


def test_a_small_wish_does_not_pass_a_large_one(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, most_bytes=100)
    order: list[int] = []

    def wish(size: int) -> None:
        with scratch.folder(size, waits=True):
            order.append(size)

    with scratch.folder(50, waits=True):
        threads = []
        for size in (90, 20):  # more than there is room for at once
            threads.append(threading.Thread(target=wish, args=(size,)))
            threads[-1].start()
            while len(scratch._row) < len(threads):
                threads[-1].join(0.01)
        threads[-1].join(0.2)
        assert order == []
    for thread in threads:
        thread.join(60)

    assert order == [90, 20]


@pytest.mark.parametrize("waits", [True, False])
def test_what_would_not_fit_alone_is_refused_at_once(tmp_path: Path, waits: bool) -> None:
    with pytest.raises(ScratchFullError), Scratch(tmp_path, most_bytes=100).folder(101, waits=waits):
        pass


def test_who_does_not_wait_is_refused_while_another_holds_the_room(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, most_bytes=100)

    with scratch.folder(80), pytest.raises(ScratchFullError), scratch.folder(80):
        pass
