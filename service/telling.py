"""Settings to the parts that tell other systems what happened, and that take their orders."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from dicom_node.errors import PortInUseError
from dicom_node.peers import Peers
from dicom_node.spool import Spool
from service.messages import Senders
from service.messages.hl7v2.server import serving
from service.messenger import Messenger
from service.ordering import Ordering
from service.reception import open_peers, open_tls
from service.settings import Settings
from service.store import Store


@contextmanager
def taking_orders(settings: Settings, store: Store, spool: Spool, peers: Peers) -> Iterator[None]:
    """Take HL7 orders on a thread until the block ends, where a port is set for them.

    Raises
    ------
    PortInUseError
        If it cannot be had.
    """
    if settings.hl7_port is None:
        yield
        return
    ordering = Ordering(store=store, key_of=spool.key_of, sender=peers.ordering)
    with ExitStack() as stack:
        try:
            server = serving(
                settings.host,
                settings.hl7_port,
                answer=ordering.answer,
                is_welcome=lambda address: bool(peers.ordering_from(address)),
                tls=open_tls(settings),
            )
            stack.enter_context(server)
        except OSError as error:
            raise PortInUseError(
                f"The node cannot take HL7 orders on {settings.host}:{settings.hl7_port}: {error.strerror}. "
                "Stop what uses the port, or set VIGIL_HL7_PORT."
            ) from error
        yield


def open_messenger(settings: Settings, store: Store) -> Messenger:
    """Return what tells other systems."""
    peers = open_peers(settings)
    return Messenger(
        store=store,
        senders=Senders(peers),
        channels=lambda: {channel.name: channel.told for channel in peers.channels},
        attempts=settings.deliver_attempts,
    )
