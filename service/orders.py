"""What a person may order: more urgent, cancel, park, let go. Legal in any state, harmless twice, audited.

All of it happens in the caller's transaction.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from service import announce, engine, urgency
from service.engine import Pool
from service.store import audit, deliveries, orders, outbox
from service.study import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What an order changed.

    Attributes
    ----------
    changed : bool
        False where all was so before.
    scores, deliveries : int
        Pieces of work that it ended, put aside or put back to work.
    """

    changed: bool
    scores: int = 0
    deliveries: int = 0


def prioritise(session: Session, key: str, priority: Priority, *, actor: str) -> Ordered:
    """Make a study and its waiting jobs more urgent; never less.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    return Ordered(changed=urgency.raise_priority(session, key, priority, actor=actor))


def cancel(session: Session, key: str, *, actor: str) -> Ordered:
    """End what of a study waits or runs. `vigil studies replay` takes it up again.

    A worker that is at it finishes for nothing: its score has ended.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    touched = orders.cancel(session, key)
    session.flush()
    for pool, ids in ((Pool.INFER, touched.score_ids), (Pool.DELIVER, touched.delivery_ids)):
        for row_id in ids:
            engine.cancel(session, pool, row_id)
    ordered = Ordered(
        changed=bool(touched.score_ids or touched.delivery_ids or touched.packs),
        scores=len(touched.score_ids) + touched.packs,
        deliveries=len(touched.delivery_ids),
    )
    if ordered.changed:
        audit.append(
            session,
            "study.cancelled",
            actor=actor,
            study_key=key,
            scores=ordered.scores,
            deliveries=ordered.deliveries,
        )
    for score_id in touched.score_ids:
        announce.announce_end(session, score_id)
    return ordered


def park(session: Session, key: str, *, actor: str) -> Ordered:
    """Put a study aside: it is received and kept, and nobody scores it.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    touched = orders.park(session, key)
    if touched is None:
        return Ordered(changed=False)
    for score_id in touched.score_ids:
        engine.cancel(session, Pool.INFER, score_id)
    audit.append(session, "study.parked", actor=actor, study_key=key, scores=len(touched.score_ids))
    return Ordered(changed=True, scores=len(touched.score_ids))


def unpark(session: Session, key: str, *, actor: str) -> Ordered:
    """Let a parked study go on.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    touched = orders.unpark(session, key)
    if touched is None:
        return Ordered(changed=False)
    for score_id in touched.score_ids:
        engine.enqueue(session, Pool.INFER, score_id, priority=touched.priority)
    audit.append(session, "study.unparked", actor=actor, study_key=key, scores=len(touched.score_ids))
    return Ordered(changed=True, scores=len(touched.score_ids))


def park_destination(session: Session, name: str, *, actor: str) -> Ordered:
    """Let everything for a destination wait, without attempts."""
    if not orders.park_destination(session, name):
        return Ordered(changed=False)
    audit.append(session, "destination.parked", actor=actor, destination=name)
    return Ordered(changed=True)


def replay_messages(
    session: Session, *, actor: str, message: str | None = None, channel: str | None = None
) -> int:
    """Send messages again; return how many. One whose study a newer message went out for ends *stale*.

    Parameters
    ----------
    actor : str
    message : str, optional
        Id of one, sent or given up; unset, all that were given up.
    channel : str, optional
        Only those of it.
    """
    wanted = outbox.dead(channel) if message is None else outbox.named(message)
    revived = outbox.revive(session, wanted)
    for row_id, priority in revived.items():
        engine.enqueue(session, Pool.MESSAGE, row_id, priority=priority)
    if revived:
        audit.append(
            session, "messages.replayed", actor=actor, messages=len(revived), channel=channel, message=message
        )
    return len(revived)


def waive_messages(
    session: Session, *, actor: str, reason: str, message: str | None = None, channel: str | None = None
) -> int:
    """Take note that what was given up need not be told; return how many messages it was.

    Parameters
    ----------
    actor : str
    reason : str
        Kept with each message and in the audit trail.
    message : str, optional
        Id of one.
    channel : str, optional
        Only those of it.
    """
    wanted = outbox.dead(channel) if message is None else outbox.named(message)
    count = outbox.waive(session, wanted, reason)
    if count:
        audit.append(
            session,
            "messages.waived",
            actor=actor,
            messages=count,
            channel=channel,
            message=message,
            reason=reason,
        )
    return count


def unpark_destination(session: Session, name: str, *, actor: str) -> Ordered:
    """Let everything for a destination go on, at once."""
    if not orders.unpark_destination(session, name):
        return Ordered(changed=False)
    results = deliveries.waiting(session, destination=name)
    messages = outbox.waiting(session, channel=name)
    for pool, waiting in ((Pool.DELIVER, results), (Pool.MESSAGE, messages)):
        for row_id, (priority, _) in waiting.items():
            engine.cancel(session, pool, row_id)  # it would wait for its back-off
            engine.enqueue(session, pool, row_id, priority=priority)
    count = len(results) + len(messages)
    audit.append(session, "destination.unparked", actor=actor, destination=name, deliveries=count)
    return Ordered(changed=True, deliveries=count)
