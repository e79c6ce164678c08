"""One message to its channel: acknowledged, retried later, or left to a person.

At least once, in the order of each study: the receiver knows a message by its id, and a newer one never goes
out before an older one of the same study has gone out or was given up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from dicom_node.channel import Event
from dicom_node.errors import DeliveryError, DestinationRefusedError
from service import engine
from service.access import Identity
from service.engine import Pool
from service.errors import Answer, answer_to
from service.messages import Message, Sender
from service.store import Store, audit, identities, outbox
from service.store.outbox import Outgoing
from service.store.reports import DriftAlarm, Told
from service.study import MessageStatus
from service.turns import AT_ONCE, SPARE, Errand, Turns, pause_s

ACTOR = "delivery"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Messenger:
    """Brings messages to channels.

    Attributes
    ----------
    store : Store
    senders : mapping of str to Sender
        By the name in the peers file.
    channels : callable
        Name of every channel, as the peers file says it now, with the events it is told.
    attempts : int
        Attempts before a message is left to a person.
    """

    store: Store
    senders: Mapping[str, Sender]
    channels: Callable[[], Mapping[str, frozenset[str]]]
    attempts: int
    _turns: Turns = field(init=False, repr=False)

    def __post_init__(self) -> None:
        turns = Turns(store=self.store, pool=Pool.MESSAGE, attempt=self._attempt, failed=self.failed)
        object.__setattr__(self, "_turns", turns)  # as a frozen value sets what follows from the rest

    @property
    def slots(self) -> int:
        """Messages to send at once: where every channel but one hangs, that one has its places."""
        return AT_ONCE * (len(self.senders) + SPARE)

    def follow(self) -> None:
        """Let everybody who changes a study's state know which channels there are."""
        with self.store.transaction() as session:
            if outbox.follow(session, self.channels()):
                log.info("channels changed", channels=len(self.senders))

    def run(self, row_id: int) -> None:
        """Make one attempt on a message; harmless where it is over or an earlier one goes first.

        Raises
        ------
        DeliveryError
            As the receiver answered; hand it to `failed`.
        """
        with self.store.transaction() as session:
            waiting = outbox.find(session, row_id)
        if waiting is not None:
            self._turns.run(
                Errand(
                    row_id=row_id,
                    priority=waiting.priority,
                    destination=waiting.channel,
                    step=lambda: self._attempt(row_id),
                )
            )

    def _attempt(self, row_id: int) -> None:
        with self.store.transaction() as session:
            message = outbox.begin(session, row_id)
        if message is None:
            self._pass_on(row_id)
            return
        if message.attempt > self.attempts:
            raise DestinationRefusedError("Every attempt ended the delivery process.")
        sender = self.senders.get(message.channel)
        if sender is None:
            raise DestinationRefusedError("The channel is no longer in the peers file. Add it, then replay.")
        answer = sender.send(
            Message(
                message_id=message.message_id,
                sequence=row_id,
                event=Event(message.event),
                told=_told(message),
                identity=self._identity(message.lane) if sender.names_patient else None,
            )
        )
        with self.store.transaction() as session:
            if outbox.record(session, row_id, MessageStatus.SENT, answer=answer):
                _note(session, "message.sent", message)
                _next(session, message.channel, message.lane)
        log.info("message sent", study=message.lane, told=message.event, channel=message.channel)

    def failed(self, row_id: int, error: Exception) -> None:
        """Store a failed attempt: another one later, or the dead letter with its reason."""
        with self.store.transaction() as session:
            message = outbox.find(session, row_id)
            if message is None:
                return
            is_over = answer_to(error) is Answer.ASK or message.attempt >= self.attempts
            due = datetime.now(UTC) + timedelta(seconds=pause_s(message.attempt))
            is_recorded = outbox.record(
                session,
                row_id,
                MessageStatus.DEAD if is_over else MessageStatus.WAITING,
                answer=str(getattr(error, "status", None) or ""),
                error=str(error) if isinstance(error, DeliveryError) else type(error).__name__,
                next_attempt_at=None if is_over else due,
            )
            if not is_recorded:
                return
            if is_over:
                _note(session, "message.dead", message, error=type(error).__name__)
                _next(session, message.channel, message.lane)
            else:
                engine.enqueue(session, Pool.MESSAGE, row_id, priority=message.priority, not_before=due)
        log.warning(
            "message not sent",
            study=message.lane,
            told=message.event,
            channel=message.channel,
            attempt=message.attempt,
            is_over=is_over,
            exc_info=error,
        )

    def _identity(self, key: str) -> Identity | None:
        with self.store.transaction() as session:
            return identities.of_studies(session, [key]).get(key)

    def _pass_on(self, row_id: int) -> None:
        """Let the next of the lane go where this one turned out stale."""
        with self.store.transaction() as session:
            lane = outbox.lane_of_stale(session, row_id)
            if lane is not None:
                _next(session, *lane)


def _next(session: Session, channel: str, lane: str) -> None:
    """Put the message that was waiting for this one into the queue."""
    session.flush()
    following = outbox.next_of_lane(session, channel, lane)
    if following is not None:
        row_id, priority = following
        engine.cancel(session, Pool.MESSAGE, row_id)  # one job is enough
        engine.enqueue(session, Pool.MESSAGE, row_id, priority=priority)


def _told(message: Outgoing) -> Told | DriftAlarm:
    """What a message is about."""
    if message.event == Event.DRIFTED:
        return DriftAlarm.of(message.content)
    return Told.of(message.content)


def _note(session: Session, action: str, message: Outgoing, **detail: str) -> None:
    """Put an end into the audit trail: who was told what, and nothing of what the message held."""
    audit.append(
        session,
        action,
        actor=ACTOR,
        study_key=None if message.event == Event.DRIFTED else message.lane,
        channel=message.channel,
        event=message.event,
        message=message.message_id,
        attempt=message.attempt,
        **detail,
    )
