"""How often somebody may ask, counted in bounded memory.

Each process counts for itself, so a site with several API processes lets through that many times as much.
"""

import hashlib
import ipaddress
import secrets

from fastapi import Request
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.access import Caller
from service.api.problems import too_many_requests

OF_ADDRESS = RateLimitItemPerMinute(10)  # argon2 makes a try expensive for us as well
OF_ACCOUNT = RateLimitItemPerMinute(30, 15)  # from however many addresses
OF_CALLER = RateLimitItemPerMinute(300)  # changes; nobody presses a key five times a second
BUCKETS = 2**14  # counters at most, of each kind; two that share one share its limit
HOST_BITS = 64  # of an IPv6 address that one machine changes at will

_STORAGE = MemoryStorage()
_WINDOW = MovingWindowRateLimiter(_STORAGE)
_SALT = secrets.token_bytes(16)  # nobody can find out whose counter they share


def address_of(request: Request) -> str:
    """Network address of who asks; of a proxy's client where the proxy is one of ours."""
    return request.client.host if request.client else ""


def count_address(request: Request) -> None:
    """Let one address try a few times a minute."""
    _hit(OF_ADDRESS, "address", _network(address_of(request)))


def count_account(name: str) -> None:
    """Let an account's password be tried a few times, wherever from."""
    _hit(OF_ACCOUNT, "account", name.strip())


def count_change(caller: Caller) -> None:
    """Let one caller change things as fast as a person can, and some."""
    _hit(OF_CALLER, "caller", caller.name)


def forget() -> None:
    """Start counting anew."""
    _STORAGE.reset()


def _hit(limit: RateLimitItem, kind: str, who: str) -> None:
    digest = hashlib.blake2s(f"{kind} {who}".encode(), key=_SALT).digest()
    if not _WINDOW.hit(limit, kind, str(int.from_bytes(digest[:8], "big") % BUCKETS)):
        raise too_many_requests(limit.get_expiry())


def _network(address: str) -> str:
    """Return the address, or of IPv6 the part that its owner cannot change."""
    try:
        version = ipaddress.ip_address(address)
    except ValueError:
        return address
    if version.version == 4:  # noqa: PLR2004 - of the Internet Protocol
        return address
    return str(ipaddress.ip_network((version, 128 - HOST_BITS), strict=False))
