"""Who may send to us, and where results go: the peers file.

``peers.yaml``::

    peers:
      - {name: scanner-1, aet: MR1, host: 10.1.2.3, roles: [sender], quiet_s: 120}
      - {name: archive, aet: PACS, host: pacs.example.org, port: 104, roles: [destination]}

An AE title is no proof of identity, so a sender is bound to its address: a literal, a network
(``10.1.0.0/16``) or a host name. Without the file any AE title is accepted, from this machine alone.
"""

import ipaddress
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from dicom_node.errors import PeersError

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\x20-\x5b\x5d-\x7e]{1,16}$")
]  # PS3.5 table 6.2-1: no backslash, no control characters
LONGEST_FILE = 1_000_000  # bytes


class Role(StrEnum):
    """What a peer does."""

    SENDER = "sender"  # may open associations to us
    DESTINATION = "destination"  # is sent every result


class Peer(BaseModel):
    """One system on the other end of an association.

    Attributes
    ----------
    name : str
        What people call it; appears in the worklist, in metrics and in the audit trail.
    aet : str
        AE title, up to 16 characters.
    host : str
        Address, network or host name.
    port : int, optional
        Needed by destinations.
    roles : frozenset of Role
    quiet_s : float, optional
        Seconds without an instance after which this sender's study is complete.
    protocol : str
        How results go there: a key of `dicom_node.delivery.DESTINATIONS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    aet: AeTitle
    host: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    quiet_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    protocol: Literal["dimse"] = "dimse"

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if Role.DESTINATION in self.roles:
            if self.port is None:
                raise ValueError("a destination needs a port")
            if "/" in self.host:
                raise ValueError("a destination needs one host, not a network")
        return self

    def is_at(self, address: str) -> bool:
        """Whether an address is this peer's; a host name that cannot be resolved is nobody's."""
        remote = _address(address)
        try:
            return remote in ipaddress.ip_network(self.host, strict=False)
        except ValueError:
            return remote in _resolve(self.host)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    peers: tuple[Peer, ...]

    @model_validator(mode="after")
    def _has_unique_names(self) -> Self:
        names = [peer.name for peer in self.peers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"name {twice[0]} is used twice")
        return self


class Peers:
    """Every peer, or the rule for a machine that has no peers file.

    Parameters
    ----------
    peers : tuple of Peer or None
        None: any AE title is a sender, from this machine alone, and there is no destination.
    """

    def __init__(self, peers: tuple[Peer, ...] | None = None) -> None:
        self._peers = peers

    @classmethod
    def load(cls, path: Path) -> Self:
        """Peers of a file; a file that is not there is the rule for none.

        Raises
        ------
        PeersError
            Naming the field and what is wrong with it.
        """
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST_FILE + 1)
        except FileNotFoundError:
            return cls(None)
        except OSError as error:
            raise PeersError(f"{path.name} cannot be read: {error.strerror}.") from error
        if len(content) > LONGEST_FILE:
            raise PeersError(f"{path.name} is longer than {LONGEST_FILE} bytes.")
        try:
            parsed = _File.model_validate(yaml.safe_load(content))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            raise PeersError(f"{path.name} is not YAML{place}.") from error
        except ValidationError as error:
            raise PeersError("; ".join(_told(path, item) for item in error.errors())) from error
        return cls(parsed.peers)

    @property
    def destinations(self) -> tuple[Peer, ...]:
        """Peers that get every result, in the order of the file."""
        return tuple(peer for peer in self._peers or () if Role.DESTINATION in peer.roles)

    def accepts(self, calling_aet: str, address: str) -> bool:
        """Whether a sender with this AE title and address may open an association."""
        if self._peers is None:
            return _address(address).is_loopback
        return any(peer.is_at(address) for peer in self._senders(calling_aet))

    def quiet_s(self, sender: str, *, default: float) -> float:
        """Seconds without an instance after which a sender's study is complete.

        Parameters
        ----------
        sender : str
            AE title. Peers that share one share the longest period.
        default : float
            For senders that state none.
        """
        stated = [peer.quiet_s for peer in self._senders(sender) if peer.quiet_s is not None]
        return max(stated, default=default)

    def _senders(self, aet: str) -> list[Peer]:
        wanted = aet.strip()
        return [peer for peer in self._peers or () if Role.SENDER in peer.roles and peer.aet == wanted]


def _told(path: Path, item: ErrorDetails) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "peers"
    return f"{path.name}: {field}: {item['msg']}"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Address as a value; IPv4 inside IPv6 and IPv6 zones come down to the address itself."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _resolve(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {_address(str(entry[4][0])) for entry in found}
