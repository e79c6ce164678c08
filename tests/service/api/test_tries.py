from collections.abc import Callable, Iterator

import pytest
from starlette.requests import Request

from service.api import tries
from service.api.problems import ProblemError


@pytest.fixture(autouse=True)
def _no_tries_yet() -> Iterator[None]:
    tries.forget()
    yield
    tries.forget()


def of(address: str) -> Request:
    return Request({"type": "http", "client": (address, 1), "headers": []})


def allowed(attempt: Callable[[int], None], most: int) -> int:
    """How many attempts are let through before one is refused."""
    for number in range(most):
        try:
            attempt(number)
        except ProblemError:
            return number
    return most


def test_one_address_tries_ten_times_a_minute() -> None:
    assert allowed(lambda _: tries.count_address(of("192.0.2.1")), 20) == 10
    tries.count_address(of("192.0.2.2"))


def wrong(name: str, address: str) -> None:
    """A try with a wrong password."""
    tries.require_tries(name, of(address))
    tries.note_wrong(name, of(address))


def right(name: str, address: str) -> None:
    """A try with the right one."""
    tries.require_tries(name, of(address))
    tries.note_right(name, of(address))


def test_one_account_is_tried_wrongly_thirty_times_from_however_many_addresses() -> None:
    assert allowed(lambda number: wrong("ada", f"192.0.2.{number}"), 50) == 30
    wrong("eve", "192.0.2.1")


def test_the_right_password_is_not_counted() -> None:
    assert allowed(lambda _: right("ada", "192.0.2.1"), 50) == 50
    assert allowed(lambda _: wrong("ada", "192.0.2.2"), 50) == 30


def test_a_strangers_tries_keep_nobody_out_of_where_they_work() -> None:
    right("ada", "192.0.2.1")
    assert allowed(lambda _: wrong("ada", "198.51.100.1"), 50) == 30
    right("ada", "192.0.2.1")
    assert allowed(lambda _: right("ada", "192.0.2.3"), 1) == 0  # nobody entered it from there
    assert allowed(lambda _: wrong("ada", "192.0.2.1"), 50) == 30  # one's own place is bounded too


def test_a_place_is_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    right("ada", "192.0.2.1")
    assert allowed(lambda _: wrong("ada", "198.51.100.1"), 50) == 30
    monkeypatch.setattr(tries, "KNOWN_S", 0.0)
    assert allowed(lambda _: right("ada", "192.0.2.1"), 1) == 0


def test_the_addresses_that_one_machine_may_take_count_as_one() -> None:
    assert allowed(lambda number: tries.count_address(of(f"2001:db8::{number:x}")), 20) == 10
    tries.count_address(of("2001:db8:0:1::1"))


def test_memory_is_bounded_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "BUCKETS", 8)
    monkeypatch.setattr(tries, "MOST_KNOWN", 8)
    for number in range(20):
        right(f"name {number}", "192.0.2.1")
    assert len(tries._KNOWN) == 8
    for number in range(200):
        allowed(lambda _, name=f"name {number}": wrong(name, "198.51.100.1"), 1)  # type: ignore[misc]
    assert len(tries._STORAGE.events) <= 8
    assert all(len(hits) <= 30 for hits in tries._STORAGE.events.values())
