"""Who may send to us, and where results go: the peers file.

``peers.yaml``::

    peers:
      - {name: scanner-1, aet: MR1, host: 10.1.2.3, roles: [sender], quiet_s: 120}
      - {name: archive, aet: PACS, host: pacs.example.org, port: 104, roles: [destination]}

An AE title is no proof of identity, so a sender is bound to its address: a literal, a network
(``10.1.0.0/16``) or a host name. Without the file any AE title is accepted, from this machine alone.

The file is read again when it changes. A new file that is not valid changes nothing but the log.
"""

import hashlib
import ipaddress
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Self

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from dicom_node.certificates import is_shown
from dicom_node.channel import Channel, Hl7Channel, Hl7Role
from dicom_node.errors import PeersError, UnknownPeerError
from dicom_node.peer import Confirm, Peer, Role

__all__ = ["Confirm", "Peer", "Peers", "Role"]

LONGEST_FILE = 1_000_000  # bytes
LOOK_AGAIN_S = 1.0  # between two looks at the file

log = structlog.get_logger(__name__)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    peers: tuple[Peer, ...]
    channels: tuple[Channel, ...] = ()

    @model_validator(mode="after")
    def _has_unique_names(self) -> Self:
        names = [peer.name for peer in self.peers] + [channel.name for channel in self.channels]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"name {twice[0]} is used twice")
        return self


@dataclass(frozen=True, slots=True)
class _Read:
    """What the file said, and how to see that it has changed."""

    peers: tuple[Peer, ...] | None
    stamp: tuple[int, int, int] | None  # time of change, size, inode; None: no file
    sha256: str
    channels: tuple[Channel, ...] = ()


class Peers:
    """Every peer, or the rule for a machine that has no peers file.

    Any thread may ask. Peers that came from a file follow the file.

    Parameters
    ----------
    peers : tuple of Peer or None
        None: any AE title is a sender, from this machine alone, and there is no destination.
    channels : tuple of Channel
    """

    def __init__(self, peers: tuple[Peer, ...] | None = None, channels: tuple[Channel, ...] = ()) -> None:
        self._read = _Read(peers, None, "", channels)
        self._path: Path | None = None
        self._look_at = 0.0
        self._lock = Lock()

    @classmethod
    def load(cls, path: Path, *, must_be_there: bool = False) -> Self:
        """Peers of a file; a file that is not there is the rule for none.

        Parameters
        ----------
        path : Path
        must_be_there : bool
            Somebody named the file: without it a worker would score and send its results nowhere.

        Raises
        ------
        PeersError
            Naming the field and what is wrong with it.
        """
        peers = cls()
        peers._read = _read(path, must_be_there=must_be_there)
        peers._path = path
        peers._look_at = time.monotonic() + LOOK_AGAIN_S
        return peers

    def refresh(self) -> bool:
        """Read the file again if it changed; return whether there are new peers.

        A file that is not valid, or is gone, leaves the peers as they are and is told once in the log: a
        node that worked must not fall back to letting in whoever calls from its own machine.
        """
        path, before = self._path, self._read
        if path is None or _stamp(path) == before.stamp:
            return False
        with self._lock:
            before = self._read
            stamp = _stamp(path)
            if stamp == before.stamp:
                return False
            try:
                read = _read(path, must_be_there=True)
            except PeersError as error:
                log.error("peers file not taken over, the peers stay as they are", problem=str(error))  # noqa: TRY400 - the message is the whole story
                self._read = replace(before, stamp=stamp)
                return False
            self._read = read
        if read.sha256 == before.sha256:
            return False
        log.info("peers file read again", peers=len(read.peers or ()))
        return True

    @property
    def all(self) -> tuple[Peer, ...]:
        """Every peer, in the order of the file."""
        return self._current() or ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Where it is told what happened, in the order of the file."""
        self._current()
        return self._read.channels

    @property
    def destinations(self) -> tuple[Peer, ...]:
        """Peers that are sent results, in the order of the file."""
        return self.with_role(Role.DESTINATION)

    def with_role(self, role: Role) -> tuple[Peer, ...]:
        """Peers of one role, in the order of the file."""
        return tuple(peer for peer in self.all if role in peer.roles)

    def named(self, name: str) -> Peer:
        """Peer of a name.

        Raises
        ------
        UnknownPeerError
            If no peer is called so.
        """
        for peer in self.all:
            if peer.name == name:
                return peer
        raise UnknownPeerError(f"No peer is named {name}. See them with `vigil peers list`.")

    def ordering(self, address: str, fingerprint: str | None) -> Hl7Channel | None:
        """Channel that may send orders from an address with a certificate; None where none may.

        Parameters
        ----------
        address : str
        fingerprint : str or None
            Of the certificate that was shown; None: the connection is plain.
        """
        return next(
            (one for one in self.ordering_from(address) if is_shown(one.certificate, fingerprint)), None
        )

    def ordering_from(self, address: str) -> tuple[Hl7Channel, ...]:
        """Channels that may send orders from an address."""
        return tuple(
            one
            for one in self.channels
            if isinstance(one, Hl7Channel) and Hl7Role.ORDERS in one.roles and is_at(one, address)
        )

    def channel(self, name: str) -> Channel:
        """Channel of a name.

        Raises
        ------
        UnknownPeerError
            If no channel is called so.
        """
        for channel in self.channels:
            if channel.name == name:
                return channel
        raise UnknownPeerError(f"The peers file has no channel named {name}.")

    def destinations_of(self, kind: str) -> tuple[str, ...]:
        """Names of the destinations that are sent results of a kind."""
        return tuple(peer.name for peer in self.destinations if peer.wants(kind))

    def accepts(self, calling_aet: str, address: str, fingerprint: str | None = None) -> bool:
        """Whether a peer with this AE title and address may open an association.

        Senders may, and destinations that report on storage commitment. What each may do on it is decided
        by its presentation contexts.
        """
        if self._current() is None:
            return _address(address).is_loopback
        return bool(self.calling(calling_aet, address, fingerprint))

    def calling(self, calling_aet: str, address: str, fingerprint: str | None = None) -> tuple[Peer, ...]:
        """Peers that may open an association with this AE title, address and certificate.

        Parameters
        ----------
        calling_aet, address : str
        fingerprint : str, optional
            Of the certificate that was shown; unset, the connection is plain, and no peer whose profile
            demands a certificate is meant.
        """
        wanted = calling_aet.strip()
        return tuple(
            peer
            for peer in self.all
            if peer.aet == wanted
            and (Role.SENDER in peer.roles or peer.confirm is Confirm.COMMITMENT)
            and is_at(peer, address)
            and is_shown(peer.certificate, fingerprint)
        )

    @property
    def is_open(self) -> bool:
        """Whether there is no peers file: any AE title is a sender, from this machine alone."""
        return self._current() is None

    def quiet_s(self, sender: str, *, default: float) -> float:
        """Seconds without an instance after which a sender's study is complete.

        Parameters
        ----------
        sender : str
            AE title. Peers that share one share the longest period.
        default : float
            For senders that state none.
        """
        wanted = sender.strip()
        senders = [peer for peer in self.with_role(Role.SENDER) if peer.aet == wanted]
        return max((peer.quiet_s for peer in senders if peer.quiet_s is not None), default=default)

    def _current(self) -> tuple[Peer, ...] | None:
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_AGAIN_S
            self.refresh()
        return self._read.peers


def is_at(peer: Peer | Hl7Channel, address: str) -> bool:
    """Whether an address is a peer's; a host name that cannot be resolved is nobody's."""
    remote = _address(address)
    try:
        return remote in ipaddress.ip_network(peer.host, strict=False)
    except ValueError:
        return remote in _resolve(peer.host)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _read(path: Path, *, must_be_there: bool = False) -> _Read:
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            content = file.read(LONGEST_FILE + 1)
    except FileNotFoundError as error:
        if must_be_there:
            raise PeersError(
                f"{path.name} is not there. Put it there: only a site that names none is without one."
            ) from error
        return _Read(None, None, "")
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
    stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
    return _Read(parsed.peers, stamp, hashlib.sha256(content).hexdigest(), parsed.channels)


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
