"""Orders that come in by HL7: they make studies more urgent, those that are here and those that will come.

An order is acknowledged once it is committed, so a sender that hears nothing sends it again, and nothing is
lost. Nothing is ever made less urgent (I12).
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from dicom_node.channel import Hl7Channel
from service import urgency
from service.engine import DATABASE_AWAY
from service.messages.hl7v2.order import (
    INTERNAL,
    Envelope,
    Order,
    OrderError,
    answer_to_message,
    envelope_of,
    orders_of,
    read_message,
)
from service.store import Store, audit, awaited, identities, studies
from service.study import Priority

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Takes orders.

    Attributes
    ----------
    store : Store
    key_of : callable
        Pseudonym of a UID or of anything else.
    sender : callable
        Channel of an address and a certificate's fingerprint; None where it may send no orders.
    """

    store: Store
    key_of: Callable[[str], str]
    sender: Callable[[str, str | None], Hl7Channel | None]

    def answer(self, frame: bytes, address: str, fingerprint: str | None) -> bytes | None:
        """Answer one message; None closes the connection of somebody who may send none."""
        channel = self.sender(address, fingerprint)
        if channel is None:
            log.warning("HL7 message refused: no channel has this address and certificate")
            return None
        envelope = Envelope()
        try:
            message = read_message(frame)
            envelope = envelope_of(message)
            orders = orders_of(message, channel.accession_field)
            raised = self._take(orders, channel.name)
        except OrderError as error:
            log.warning("order refused", channel=channel.name, error=error.error, reason=str(error))
            return answer_to_message(envelope, error=error).encode()
        except DATABASE_AWAY:
            log.warning("order refused: the database is away", channel=channel.name)
            away = OrderError("AR", INTERNAL, "Vigil cannot store it now. Send it again.")
            return answer_to_message(envelope, error=away).encode()
        log.info("order taken", channel=channel.name, orders=len(orders), studies=raised)
        return answer_to_message(envelope).encode()

    def _take(self, orders: list[Order], channel: str) -> int:
        """Keep what orders say, in one transaction; return how many studies became more urgent."""
        raised = 0
        with self.store.transaction() as session:
            # All studies before the first row of the trail, in one order: whoever holds one of them may wait
            # for the trail.
            studies.lock(session, [key for order in orders for key in self._keys(session, order)])
            for order in orders:
                marks = marks_of(
                    self.key_of,
                    accession_number=order.accession_number,
                    key=self.key_of(order.study_uid) if order.study_uid else "",
                )
                if order.is_cancelled:
                    awaited.forget(session, marks)
                elif order.priority > Priority.ROUTINE:
                    awaited.note(session, marks, order.priority)
                    raised += self._raise(session, order, channel)
        return raised

    def _raise(self, session: Session, order: Order, channel: str) -> int:
        keys = self._keys(session, order)
        actor = f"hl7:{channel}"
        if not keys:
            audit.append(session, "order.awaited", actor=actor, priority=order.priority.name.lower())
        return sum(urgency.raise_priority(session, key, order.priority, actor=actor) for key in sorted(keys))

    def _keys(self, session: Session, order: Order) -> set[str]:
        """Studies that are here of an order."""
        keys = set(awaited.keys_of(session, order.accession_number)) if order.accession_number else set()
        if order.study_uid:
            key = self.key_of(order.study_uid)
            keys |= {key} if awaited.is_known(session, key) else set()
        return keys


def ordered_before(session: Session, key: str, key_of: Callable[[str], str]) -> Priority | None:
    """Return how urgent a study was ordered before it came; None where nobody said."""
    identity = identities.of_studies(session, [key]).get(key)
    accession_number = identity.accession_number if identity else ""
    found = awaited.priority_of(session, marks_of(key_of, accession_number=accession_number, key=key))
    return None if found is None else Priority(found)


def marks_of(key_of: Callable[[str], str], *, accession_number: str, key: str) -> list[str]:
    """Pseudonyms under which an order is kept until its study comes."""
    marks = [key_of(f"accession {accession_number}")] if accession_number else []
    return [*marks, key] if key else marks
