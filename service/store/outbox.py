"""The outbox as rows: written in the transaction of what it tells, sent later, in the order of each lane.

A message goes out only while no earlier one of its channel and lane waits. One that was given up and is sent
again after a newer one went out would undo it: it ends *stale* instead.
"""

import hashlib
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, any_, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from dicom_node.channel import OF_STUDIES
from service.store.tables import ChannelRow, MessageRow, ParkedDestinationRow
from service.study import MessageStatus

ID_LENGTH = 20  # characters: as many as MSH-10 of HL7 v2.5.1 takes
KEEP = timedelta(days=30)  # of messages that are over; the dead stay until a person has decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be sent.

    Attributes
    ----------
    row_id : int
        Grows within a channel: what has the larger one is newer.
    message_id : str
        The same at every attempt.
    channel, lane, event : str
    content : mapping
        As it was when it happened.
    attempt, priority : int
    """

    row_id: int
    message_id: str
    channel: str
    lane: str
    event: str
    content: Mapping[str, Any]
    attempt: int
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One message as an operator sees it."""

    row_id: int
    message_id: str
    channel: str
    lane: str
    event: str
    status: MessageStatus
    attempts: int
    answer: str
    error: str
    created_at: datetime
    next_attempt_at: datetime
    ended_at: datetime | None


def follow(session: Session, channels: Mapping[str, frozenset[str]]) -> bool:
    """Let the table of channels say what the peers file says; return whether it said something else.

    Parameters
    ----------
    channels : mapping of str to frozenset of str
        Name to the events it is told.
    """
    known = {row.name: frozenset(row.events) for row in session.scalars(select(ChannelRow))}
    if known == channels:
        return False
    session.execute(delete(ChannelRow).where(ChannelRow.name.not_in(channels)))
    for name, events in channels.items():
        row = {"name": name, "events": sorted(events)}
        added = insert(ChannelRow).values(row)
        session.execute(added.on_conflict_do_update(index_elements=["name"], set_={"events": row["events"]}))
    return True


def has_channel(session: Session) -> bool:
    """Whether anybody is told anything: most sites ask no more than this."""
    return bool(session.scalar(select(exists(ChannelRow.name))))


def tell(
    session: Session,
    event: str,
    *,
    lane: str,
    mark: str,
    content: Mapping[str, Any],
    priority: int,
) -> list[int]:
    """Write one message for every channel that is told such events; return their ids.

    Parameters
    ----------
    event : str
    lane : str
        Messages of one lane keep their order.
    mark : str
        What tells this happening from every other: the same one told twice is one message.
    content : mapping
        JSON without identity.
    priority : int
    """
    names = session.scalars(select(ChannelRow.name).where(literal(event) == any_(ChannelRow.events))).all()
    if not names:
        return []
    rows = [
        {
            "message_id": _message_id(name, event, lane, mark),
            "channel": name,
            "lane": lane,
            "event": event,
            "content": dict(content),
            "priority": priority,
        }
        for name in sorted(names)
    ]
    added = insert(MessageRow).values(rows).on_conflict_do_nothing(index_elements=["message_id"])
    return list(session.scalars(added.returning(MessageRow.id)))


def find(session: Session, row_id: int) -> Outgoing | None:
    """Return a message that waits, without counting; None where it is over or its channel is parked."""
    row = session.scalar(
        select(MessageRow).where(
            MessageRow.id == row_id,
            MessageRow.status == MessageStatus.WAITING,
            MessageRow.channel.not_in(select(ParkedDestinationRow.name)),
        )
    )
    return _outgoing(row) if row else None


def begin(session: Session, row_id: int) -> Outgoing | None:
    """Count one attempt and return what to send; None where it is over or an earlier one goes first.

    One that would undo a newer message ends *stale* here.
    """
    row = _locked(session, row_id)
    if row is None or row.status is not MessageStatus.WAITING or _has_earlier(session, row):
        return None
    if _is_overtaken(session, row):
        row.status, row.ended_at = MessageStatus.STALE, datetime.now(UTC)
        return None
    row.attempts += 1
    row.began_at = row.began_at or datetime.now(UTC)
    return _outgoing(row)


def record(
    session: Session,
    row_id: int,
    status: MessageStatus,
    *,
    answer: str = "",
    error: str = "",
    next_attempt_at: datetime | None = None,
) -> bool:
    """Store how an attempt ended; False where another had ended it before."""
    row = _locked(session, row_id)
    if row is None or row.status is not MessageStatus.WAITING:
        return False
    row.status, row.answer, row.error = status, answer, error
    if next_attempt_at is not None:
        row.next_attempt_at = next_attempt_at
    if status is not MessageStatus.WAITING:
        row.ended_at = datetime.now(UTC)
    return True


def lane_of_stale(session: Session, row_id: int) -> tuple[str, str] | None:
    """Channel and lane of a message that ended stale; None for any other."""
    row = session.get(MessageRow, row_id)
    return (row.channel, row.lane) if row and row.status is MessageStatus.STALE else None


def next_of_lane(session: Session, channel: str, lane: str) -> tuple[int, int] | None:
    """Id and priority of the message of a lane that goes next; None where none waits."""
    found = session.execute(
        select(MessageRow.id, MessageRow.priority)
        .where(
            MessageRow.channel == channel,
            MessageRow.lane == lane,
            MessageRow.status == MessageStatus.WAITING,
        )
        .order_by(MessageRow.id)
        .limit(1)
    ).first()
    return (found.id, found.priority) if found else None


def waiting(session: Session, *, channel: str | None = None) -> dict[int, tuple[int, datetime]]:
    """Messages that a job should be working on: the first of each lane, with priority and due time.

    None of a parked channel.
    """
    first = (
        select(func.min(MessageRow.id))
        .where(
            MessageRow.status == MessageStatus.WAITING,
            MessageRow.channel.not_in(select(ParkedDestinationRow.name)),
            *([] if channel is None else [MessageRow.channel == channel]),
        )
        .group_by(MessageRow.channel, MessageRow.lane)
    )
    rows = session.execute(
        select(MessageRow.id, MessageRow.priority, MessageRow.next_attempt_at).where(MessageRow.id.in_(first))
    )
    return {row_id: (priority, due) for row_id, priority, due in rows}


def revive(session: Session, conditions: Sequence[ColumnElement[bool]]) -> dict[int, int]:
    """Let messages that are over wait again, with all attempts before them; return ids and priorities."""
    rows = session.scalars(
        select(MessageRow)
        .where(MessageRow.status.in_((MessageStatus.DEAD, MessageStatus.SENT)), *conditions)
        .order_by(MessageRow.id)
        .with_for_update()
    ).all()
    for row in rows:
        row.status, row.attempts, row.error, row.answer = MessageStatus.WAITING, 0, "", ""
        row.ended_at, row.next_attempt_at = None, datetime.now(UTC)
    return {row.id: row.priority for row in rows}


def waive(session: Session, conditions: Sequence[ColumnElement[bool]], reason: str) -> int:
    """End messages that were given up and that nobody is to be told any more; return how many."""
    done = session.execute(
        update(MessageRow)
        .where(MessageRow.status == MessageStatus.DEAD, *conditions)
        .values(status=MessageStatus.STALE, error=reason, ended_at=datetime.now(UTC))
        .returning(MessageRow.id)
    )
    return len(done.all())


def dead(channel: str | None = None) -> tuple[ColumnElement[bool], ...]:
    """Build the condition for what was given up, of one channel or of all."""
    only = () if channel is None else (MessageRow.channel == channel,)
    return (MessageRow.status == MessageStatus.DEAD, *only)


def named(message_id: str) -> tuple[ColumnElement[bool], ...]:
    """Build the condition for one message."""
    return (MessageRow.message_id == message_id,)


def listed(
    session: Session, *, status: MessageStatus | None = None, channel: str | None = None, limit: int
) -> tuple[Listed, ...]:
    """Messages, newest first."""
    query = select(MessageRow).order_by(MessageRow.id.desc()).limit(limit)
    if status is not None:
        query = query.where(MessageRow.status == status)
    if channel is not None:
        query = query.where(MessageRow.channel == channel)
    return tuple(
        Listed(
            row_id=row.id,
            message_id=row.message_id,
            channel=row.channel,
            lane=row.lane,
            event=row.event,
            status=row.status,
            attempts=row.attempts,
            answer=row.answer,
            error=row.error,
            created_at=row.created_at.astimezone(UTC),
            next_attempt_at=row.next_attempt_at.astimezone(UTC),
            ended_at=row.ended_at.astimezone(UTC) if row.ended_at else None,
        )
        for row in session.scalars(query)
    )


def count(session: Session) -> dict[tuple[str, MessageStatus], int]:
    """Messages by channel and status; every status of a channel that is named."""
    names = session.scalars(select(ChannelRow.name)).all()
    found = session.execute(
        select(MessageRow.channel, MessageRow.status, func.count()).group_by(
            MessageRow.channel, MessageRow.status
        )
    )
    empty = dict.fromkeys(((name, status) for name in names for status in MessageStatus), 0)
    return empty | {(channel, status): number for channel, status, number in found}


def oldest_s(session: Session) -> dict[str, float]:
    """Age in seconds of the oldest message that waits, by channel; 0 where none does."""
    age_s = func.extract("epoch", func.max(func.now() - MessageRow.created_at))
    found = session.execute(
        select(MessageRow.channel, age_s)
        .where(MessageRow.status == MessageStatus.WAITING)
        .group_by(MessageRow.channel)
    )
    names = session.scalars(select(ChannelRow.name)).all()
    return dict.fromkeys(names, 0.0) | {channel: float(age) for channel, age in found}


def purge(session: Session, *, now: datetime) -> None:
    """Remove messages that were sent, ended stale or were waived, longer than `KEEP` ago."""
    session.execute(
        delete(MessageRow).where(
            MessageRow.status.in_((MessageStatus.SENT, MessageStatus.STALE)), MessageRow.ended_at < now - KEEP
        )
    )


def _message_id(*parts: str) -> str:
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return b32encode(digest)[:ID_LENGTH].decode()


def _locked(session: Session, row_id: int) -> MessageRow | None:
    return session.scalar(select(MessageRow).where(MessageRow.id == row_id).with_for_update())


def _has_earlier(session: Session, row: MessageRow) -> bool:
    other = aliased(MessageRow)
    return bool(
        session.scalar(
            select(
                exists().where(
                    other.channel == row.channel,
                    other.lane == row.lane,
                    other.id < row.id,
                    other.status == MessageStatus.WAITING,
                )
            )
        )
    )


def _is_overtaken(session: Session, row: MessageRow) -> bool:
    """Whether a newer message about the study's state went out before."""
    other = aliased(MessageRow)
    return bool(
        session.scalar(
            select(
                exists().where(
                    other.channel == row.channel,
                    other.lane == row.lane,
                    other.id > row.id,
                    other.event.in_(sorted(OF_STUDIES)),
                    other.status == MessageStatus.SENT,
                )
            )
        )
    )


def _outgoing(row: MessageRow) -> Outgoing:
    return Outgoing(
        row_id=row.id,
        message_id=row.message_id,
        channel=row.channel,
        lane=row.lane,
        event=row.event,
        content=row.content,
        attempt=row.attempts,
        priority=row.priority,
    )
