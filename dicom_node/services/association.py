"""One association with a peer, as a context: opened, used, released, its socket closed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import evt

from dicom_node.certificates import context_for, demand_certificate
from dicom_node.contexts import MAX_PDU_BYTES, application_entity, prepare_pynetdicom
from dicom_node.errors import DeliveryError, DestinationBusyError, NotOfferedError
from dicom_node.line import Line

SUCCESS = 0x0000
IDLE_S = 60.0  # an association nobody speaks on
PAUSE_S = 2.0  # pynetdicom's own thread pauses within milliseconds


@contextmanager
def association(
    line: Line, contexts: Sequence[Any], *, roles: Sequence[Any] = (), handlers: Sequence[Any] = ()
) -> Iterator[Any]:
    """Association that is released, and its socket closed, however the block ends.

    Parameters
    ----------
    line : Line
    contexts : sequence of PresentationContext
    roles : sequence of SCP_SCU_RoleSelectionNegotiation
    handlers : sequence of tuple
        Of pynetdicom: event and handler.

    Raises
    ------
    DestinationBusyError
        If there is none: nobody listens, or the peer rejects it. Both may pass.
    NotOfferedError
        If the peer accepts none of the contexts.
    """
    prepare_pynetdicom()
    entity = application_entity(line.calling_aet)
    entity.connection_timeout = line.timeouts.connect_s
    entity.acse_timeout = line.timeouts.association_s
    entity.dimse_timeout = line.timeouts.answer_s
    entity.network_timeout = max(IDLE_S, line.timeouts.answer_s)
    sockets: list[Any] = []  # pynetdicom leaves one open where the peer went first
    keep_socket = (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket))
    tls = context_for(line.certificate)
    try:
        opened = entity.associate(
            line.host,
            line.port,
            ae_title=line.called_aet,
            max_pdu=MAX_PDU_BYTES,
            contexts=list(contexts),
            ext_neg=list(roles),
            evt_handlers=[keep_socket, *handlers],
            tls_args=None if tls is None else (tls, line.host),
        )
        error = _rejection(opened)
        if error is not None:
            raise error
        demand_certificate(opened.dul.socket.socket, line.certificate)
        try:
            yield opened
        finally:
            if opened.is_established:
                _release(opened)
    except OSError as error:  # a host name that cannot be resolved
        raise DestinationBusyError("The peer's host cannot be reached.") from error
    except RuntimeError as error:  # pynetdicom: the association is gone
        raise DestinationBusyError("The association ended early.") from error
    finally:
        for connection in sockets:
            connection.close()


def _release(opened: Any) -> None:
    """Release as pynetdicom's `Association.release` does, which waits without limit for its thread to pause.

    A thread that has served an event report of the peer says that this one runs, also where it has paused
    meanwhile: both would wait for ever. pynetdicom is pinned below its next minor version.
    """
    checkpoint = opened._reactor_checkpoint  # noqa: SLF001 - as above
    checkpoint.clear()
    deadline = time.monotonic() + PAUSE_S
    while not opened._is_paused and time.monotonic() < deadline:  # noqa: SLF001 - as above
        time.sleep(0.001)
    opened.acse.negotiate_release()
    checkpoint.set()


def _rejection(opened: Any) -> DeliveryError | None:
    if opened.is_established:
        return None
    answer = opened.acceptor.primitive
    if opened.is_rejected:
        return DestinationBusyError(f"The peer rejected the association: {answer.reason_str}.")
    if answer is not None and not opened.accepted_contexts:
        return NotOfferedError("The peer accepts none of the proposed services.")
    return DestinationBusyError("The peer cannot be reached, or ended the association at once.")
