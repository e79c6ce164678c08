"""Hosts and URLs as people write them, refused where they can lead nowhere."""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

_FORBIDDEN = re.compile(r"[\s/:\\@\[\]]|[\x00-\x1f]")

LONGEST_HOST = 253  # RFC 1035 2.3.4, without the dots of the wire


def checked_host(host: str) -> str:
    """Return a host name, an address or a network.

    Parameters
    ----------
    host : str

    Raises
    ------
    ValueError
        If it is none: a label is empty or above 63 characters (RFC 1035 2.3.4), or a character is of no name.
    """
    try:
        ip_network(host, strict=False) if "/" in host else ip_address(host)
    except ValueError:
        try:
            host.encode("idna")  # the labels, as whoever calls will look them up
        except UnicodeError:
            is_name = False
        else:
            is_name = not _FORBIDDEN.search(host) and len(host) <= LONGEST_HOST
        if not is_name:
            raise ValueError("is no host name or address; write pacs.hospital.example or 10.1.2.3") from None
    return host


def checked_url(url: str) -> str:
    """Return a URL whose host and port there may be.

    Parameters
    ----------
    url : str
        With its scheme.

    Raises
    ------
    ValueError
        If its brackets, its port or its host are wrong.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise ValueError("leads nowhere; write https://HOST[:PORT]/PATH with a port of 1 to 65535")
    checked_host(host)
    return url


Url = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s?#@]{1,500}$"), AfterValidator(checked_url)
]  # neither credentials nor a query
