"""The answering services beside storage, as the receiver registers them, and what each peer may propose."""

import weakref
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import structlog
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

from dicom_node.certificates import fingerprint_of
from dicom_node.contexts import NATIVE
from dicom_node.handlers import LIMIT_EXCEEDED
from dicom_node.peers import Confirm, Peer, Peers, Role
from dicom_node.places import Part
from dicom_node.pulls import Pulls
from dicom_node.services import availability, performed_steps
from dicom_node.services.association import SUCCESS
from dicom_node.services.commitment import Mailbox, take_report
from dicom_node.services.commitment_provider import CommitmentProvider
from dicom_node.signals import Signals
from dicom_node.spool import Spool

SERVICES = (ModalityPerformedProcedureStep, InstanceAvailabilityNotification)
# PS3.7 annex C.
PROCESSING_FAILURE, NO_SUCH_CLASS, NOT_AUTHORISED, OUT_OF_RESOURCES = 0x0110, 0x0118, 0x0124, 0x0213
IDLE = "Sta1"  # of the upper layer's state machine (PS3.8 9.2.1)

log = structlog.get_logger(__name__)


class Provider:
    """Performed steps, availability, commitment reports and, where it is switched on, commitment.

    Parameters
    ----------
    spool : Spool
    signals : Signals
        Where completeness messages go.
    mailbox : Mailbox
        Where commitment reports go.
    peers : Peers
    pulls : Pulls
        Where wishes for studies go that an archive announced.
    commitment : CommitmentProvider, optional
        Unset: storage commitment is not offered. A modality may delete what is committed to.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        signals: Signals,
        mailbox: Mailbox,
        peers: Peers,
        pulls: Pulls,
        commitment: CommitmentProvider | None = None,
    ) -> None:
        self._pulls = pulls
        self._spool = spool
        self._signals = signals
        self._mailbox = mailbox
        self._peers = peers
        self._commitment = commitment

    def contexts(self) -> list[Any]:
        """Presentation contexts beside those of storage and verification."""
        commitment = build_context(StorageCommitmentPushModel, list(NATIVE))
        commitment.scu_role = self._commitment is not None
        commitment.scp_role = True  # a destination that reports on an association of its own is the provider
        return [*(build_context(uid, list(NATIVE)) for uid in SERVICES), commitment]

    def observers(self, inside: Part) -> list[tuple[Any, Callable[[Any], None]]]:
        """Event and handler of what is only watched; bind them before others of the same event.

        Parameters
        ----------
        inside : Part
            Associations that are open.
        """
        return [
            (evt.EVT_REQUESTED, lambda event: self.admit(event.assoc, inside)),
            (evt.EVT_ACCEPTED, self._opened),
            (evt.EVT_FSM_TRANSITION, self._closed),
        ]

    def handlers(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        """Event and handler of every message that is answered."""
        return [
            (evt.EVT_N_CREATE, self._guarded(self._create)),
            (evt.EVT_N_SET, self._guarded(self._set)),
            (evt.EVT_N_ACTION, self._guarded(self._action)),
            (evt.EVT_N_EVENT_REPORT, self._guarded(self._report)),
        ]

    def admit(self, association: Any, inside: Part) -> None:
        """EVT_REQUESTED: hold a known peer to its profile; who is unknown is rejected elsewhere."""
        try:
            self._hold_to_profile(association, inside)
        except Exception as error:  # noqa: BLE001 - pynetdicom would swallow it and offer everything
            log.error("profile not applied, no service offered", error=type(error).__name__)  # noqa: TRY400 - the cause may quote the peer (I9)
            association.acceptor.supported_contexts = []

    def _hold_to_profile(self, association: Any, inside: Part) -> None:
        peers = self._calling(association)
        limit = max((peer.max_associations or 0 for peer in peers), default=0)
        if limit and inside.count(association.requestor.address_info.address) >= limit:
            log.warning("association rejected", reason="the peer has as many open as its profile allows")
            association.acse.send_reject(*LIMIT_EXCEEDED)
            association.kill()
            return
        if not self._peers.is_open:
            supported = association.acceptor.supported_contexts
            association.acceptor.supported_contexts = self._allowed(peers, supported)

    def _allowed(self, peers: Sequence[Peer], supported: Sequence[Any]) -> list[Any]:
        """Contexts that at least one of the peers may use."""
        senders = [peer for peer in peers if Role.SENDER in peer.roles]
        reports = any(peer.confirm is Confirm.COMMITMENT for peer in peers)
        named = {context.sop_class: context.syntaxes for peer in senders for context in peer.contexts}
        is_limited = bool(senders) and all(peer.contexts for peer in senders)
        allowed = []
        for context in supported:
            uid = str(context.abstract_syntax)
            if uid == StorageCommitmentPushModel:
                may = reports or (bool(senders) and self._commitment is not None)
            elif uid == Verification:
                may = True
            elif uid in SERVICES or not is_limited:
                may = bool(senders)
            else:
                may = uid in named
                if named.get(uid):
                    syntaxes = [syntax for syntax in context.transfer_syntax if str(syntax) in named[uid]]
                    may = bool(syntaxes)
                    context = copy(context)  # noqa: PLW2901 - another association may share it
                    context.transfer_syntax = syntaxes or context.transfer_syntax
            if may:
                allowed.append(context)
        return allowed

    def _opened(self, event: Any) -> None:
        association = event.assoc
        try:
            self._signals.association_opened(id(association), str(association.requestor.ae_title).strip())
        except OSError as error:  # only an early completion can follow from it
            log.warning("open association not noted", error=type(error).__name__)
            return
        # A peer may have gone before we noted it: then nothing else would take the note back.
        weakref.finalize(association, self._signals.association_closed, id(association))
        if association.dul.state_machine.current_state == IDLE:
            self._signals.association_closed(id(association))

    def _closed(self, event: Any) -> None:
        if event.next_state == IDLE:  # however a connection ends
            self._signals.association_closed(id(event.assoc))

    def _create(self, event: Any) -> Any:
        request = event.request
        if str(request.AffectedSOPClassUID) == InstanceAvailabilityNotification:
            return self._available(event)
        if str(request.AffectedSOPClassUID) == ModalityPerformedProcedureStep:
            uid = str(request.AffectedSOPInstanceUID or "")
            return performed_steps.create_step(uid, event.attribute_list, self._spool, self._signals)
        return NO_SUCH_CLASS

    def _available(self, event: Any) -> int:
        notice = event.attribute_list
        status = availability.notify(notice, self._spool, self._signals)
        if status == SUCCESS and availability.is_online(notice):
            for peer in self._calling(event.assoc):
                if peer.pull is not None:  # by somebody else: no association waits for another
                    self._pulls.ask(str(notice.StudyInstanceUID), peer.name)
        return status

    def _set(self, event: Any) -> Any:
        if str(event.request.RequestedSOPClassUID) != ModalityPerformedProcedureStep:
            return NO_SUCH_CLASS
        uid = str(event.request.RequestedSOPInstanceUID)
        return performed_steps.set_step(uid, event.modification_list, self._signals)

    def _action(self, event: Any) -> Any:
        if self._commitment is None:
            return NOT_AUTHORISED
        return self._commitment.take(event, self._calling(event.assoc))

    def _report(self, event: Any) -> Any:
        peers = [peer.name for peer in self._calling(event.assoc) if peer.confirm is Confirm.COMMITMENT]
        return take_report(event, self._mailbox, peers=peers)

    def _guarded(self, handle: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, None]]:
        """Answer a failure of ours with a status; no exception leaves the association's thread."""

        def run(event: Any) -> tuple[Any, None]:
            try:
                if not self._spool.has_room():
                    return OUT_OF_RESOURCES, None
                return handle(event), None
            except OSError as error:
                log.warning("message not kept", error=type(error).__name__)
                return OUT_OF_RESOURCES, None
            except Exception as error:  # noqa: BLE001 - the border between a peer and this process
                log.warning("message not understood", error=type(error).__name__)
                return PROCESSING_FAILURE, None

        return run

    def _calling(self, association: Any) -> tuple[Peer, ...]:
        requestor = association.requestor
        return self._peers.calling(
            str(requestor.primitive.calling_ae_title),
            requestor.address_info.address,
            fingerprint_of(association.dul.socket.socket),
        )
