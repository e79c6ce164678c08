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


def test_one_account_is_tried_thirty_times_from_however_many_addresses() -> None:
    assert allowed(lambda _: tries.count_account("ada"), 50) == 30


def test_the_addresses_that_one_machine_may_take_count_as_one() -> None:
    assert allowed(lambda number: tries.count_address(of(f"2001:db8::{number:x}")), 20) == 10
    tries.count_address(of("2001:db8:0:1::1"))


def test_memory_is_bounded_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "BUCKETS", 8)
    for number in range(200):
        allowed(lambda _, name=f"name {number}": tries.count_account(name), 1)  # type: ignore[misc]
    assert len(tries._STORAGE.events) <= 8
    assert all(len(hits) <= 30 for hits in tries._STORAGE.events.values())
