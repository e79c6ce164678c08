"""Whom to call, as whom, and how long to wait: what every calling side needs to know of a peer."""

from dataclasses import dataclass, field

from dicom_node.peer import Certificate, Peer, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Whom to call, as whom, and how long to wait.

    Attributes
    ----------
    host : str
    port : int
    calling_aet, called_aet : str
    timeouts : Timeouts
    certificate : Certificate, optional
        Calls go over TLS where it names our own.
    """

    host: str
    port: int
    calling_aet: str
    called_aet: str
    timeouts: Timeouts = field(default_factory=Timeouts)
    certificate: Certificate | None = None


def line_to(peer: Peer, *, calling_aet: str) -> Line:
    """Line to a peer.

    Raises
    ------
    ValueError
        If the peer has no port; the peers file does not allow it for whoever is called.
    """
    if peer.port is None:
        raise ValueError(f"peer {peer.name} has no port")
    return Line(
        host=peer.host,
        port=peer.port,
        calling_aet=calling_aet,
        called_aet=peer.aet,
        timeouts=peer.timeouts,
        certificate=peer.certificate,
    )
