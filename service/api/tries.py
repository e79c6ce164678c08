"""How often somebody may ask, counted in bounded memory.

Of an account its wrong passwords are counted, and an address that it was entered from lately has a counter of
its own: a stranger's wrong tries keep nobody out of where they work. Each process counts for itself, so a
site with several API processes lets through that many times as much.
"""

import hashlib
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict

from fastapi import Request
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.access import Caller
from service.api.problems import too_many_requests

OF_ADDRESS = RateLimitItemPerMinute(10)  # argon2 makes a try expensive for us as well
OF_ACCOUNT = RateLimitItemPerMinute(30, 15)  # wrong ones, from however many addresses nobody entered it from
OF_CALLER = RateLimitItemPerMinute(300)  # changes; nobody presses a key five times a second
BUCKETS = 2**14  # counters at most, of each kind; two that share one share its limit
HOST_BITS = 64  # of an IPv6 address that one machine changes at will

_STORAGE = MemoryStorage()
_WINDOW = MovingWindowRateLimiter(_STORAGE)
_SALT = secrets.token_bytes(16)  # nobody can find out whose counter they share
KNOWN_S = 7 * 86400.0  # for how long an address is known to an account
MOST_KNOWN = 2**14  # the oldest is forgotten first; only who knows a password adds one
_KNOWN: OrderedDict[bytes, float] = OrderedDict()
_LOCK = threading.Lock()


def address_of(request: Request) -> str:
    """Network address of who asks; of a proxy's client where the proxy is one of ours."""
    return request.client.host if request.client else ""


def count_address(request: Request) -> None:
    """Let one address try a few times a minute."""
    _hit(OF_ADDRESS, "address", _network(address_of(request)))


def require_tries(name: str, request: Request) -> None:
    """Refuse to try an account's password where it was wrong too often.

    Raises
    ------
    ProblemError
        Then.
    """
    # Tries that are under way at once are all let in: as many as this process answers at a time, not more.
    if not _WINDOW.test(OF_ACCOUNT, *_counter(*_account(name, request))):
        raise too_many_requests(OF_ACCOUNT.get_expiry())


def note_wrong(name: str, request: Request) -> None:
    """Count a wrong password."""
    _WINDOW.hit(OF_ACCOUNT, *_counter(*_account(name, request)))


def note_right(name: str, request: Request) -> None:
    """Remember where an account was entered from."""
    known = _digest("known", _place(name, request))
    with _LOCK:
        _KNOWN[known] = time.monotonic()
        _KNOWN.move_to_end(known)
        if len(_KNOWN) > MOST_KNOWN:
            _KNOWN.popitem(last=False)


def count_change(caller: Caller) -> None:
    """Let one caller change things as fast as a person can, and some."""
    _hit(OF_CALLER, "caller", caller.name)


def forget() -> None:
    """Start counting anew."""
    _STORAGE.reset()
    with _LOCK:
        _KNOWN.clear()


def _account(name: str, request: Request) -> tuple[str, str]:
    """Kind and owner of the counter that wrong passwords from here go to."""
    place = _place(name, request)
    with _LOCK:
        entered_at = _KNOWN.get(_digest("known", place))
    if entered_at is not None and time.monotonic() - entered_at < KNOWN_S:
        return "place", place
    return "account", name.strip()


def _place(name: str, request: Request) -> str:
    return f"{_network(address_of(request))} {name.strip()}"


def _hit(limit: RateLimitItem, kind: str, who: str) -> None:
    if not _WINDOW.hit(limit, *_counter(kind, who)):
        raise too_many_requests(limit.get_expiry())


def _counter(kind: str, who: str) -> tuple[str, str]:
    return kind, str(int.from_bytes(_digest(kind, who)[:8], "big") % BUCKETS)


def _digest(kind: str, who: str) -> bytes:
    return hashlib.blake2s(f"{kind} {who}".encode(), key=_SALT).digest()


def _network(address: str) -> str:
    """Return the address, or of IPv6 the part that its owner cannot change."""
    try:
        version = ipaddress.ip_address(address)
    except ValueError:
        return address
    if version.version == 4:  # noqa: PLR2004 - of the Internet Protocol
        return address
    return str(ipaddress.ip_network((version, 128 - HOST_BITS), strict=False))
