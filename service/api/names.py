"""Under which names this server is asked, and whether another site's page asks."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from dicom_node.peer import is_loopback

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_USUAL = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Our own names.

    Attributes
    ----------
    hosts : frozenset of str or None
        Host names that are answered; None: any, for others reach us and know us by names of theirs.
    address : str or None
        Under which browsers know us, where a proxy stands in front.
    """

    hosts: frozenset[str] | None
    address: str | None

    @classmethod
    def of(cls, api_host: str, address: str | None) -> "KnownNames":
        """Names of a server that listens on a host.

        Parameters
        ----------
        api_host : str
        address : str or None
            By which the site calls its pages.
        """
        public = {(urlsplit(address).hostname or "")} if address is not None else set()
        hosts = _LOOPBACK_NAMES | {api_host} | public if is_loopback(api_host) else None
        return cls(hosts=hosts, address=address)

    def is_answered(self, headers: Headers) -> bool:
        """Whether a request calls us by a name of ours."""
        return self.hosts is None or _host(headers) in self.hosts

    def is_foreign(self, headers: Headers) -> bool:
        """Whether another site's page asks. Browsers always say; programs say nothing.

        RFC 6454 7, RFC 6455 10.2. A proxy may call us by another name than the browser called it.
        """
        origin = headers.get("origin")
        if origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower():
            return False
        return self.address is None or _origin(origin) != _origin(self.address)


def _host(headers: Headers) -> str:
    """Host name of a request, without port and brackets, lower case."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an address (RFC 6454 4); None where it has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _USUAL.get(parts.scheme)
    except ValueError:
        return None
