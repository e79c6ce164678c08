"""Orders as the command line gives them: each in a transaction of its own."""

from collections.abc import Callable
from typing import Any, TypeVar

from service.orders_cli import ACTOR
from service.store import Store

T = TypeVar("T")


def ordered(store: Store, order: Callable[..., T], *what: Any) -> T:
    """Give an order and return what it changed."""
    with store.transaction() as session:
        return order(session, *what, actor=ACTOR)
