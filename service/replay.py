"""A person's second chance: a failed study is queued again, undelivered results are sent again."""

from dataclasses import dataclass

from service import engine
from service.engine import Pool
from service.store import Store, audit, revival

ACTOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was put back to work.

    Attributes
    ----------
    scores, deliveries : int
        How many; both 0 where nothing had failed.
    """

    scores: int
    deliveries: int


def replay(store: Store, key: str) -> Replayed:
    """Queue again whatever of a study ended without success. What succeeded stays as it is.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    with store.transaction() as session:
        revived = revival.revive(session, key)
        for score_id in revived.score_ids:
            engine.enqueue(session, Pool.INFER, score_id, priority=revived.priority)
        for delivery_id in revived.delivery_ids:
            engine.enqueue(session, Pool.DELIVER, delivery_id, priority=revived.priority)
        replayed = Replayed(scores=len(revived.score_ids), deliveries=len(revived.delivery_ids))
        if replayed.scores or replayed.deliveries:
            audit.append(
                session,
                "study.replayed",
                actor=ACTOR,
                study_key=key,
                scores=replayed.scores,
                deliveries=replayed.deliveries,
            )
    return replayed
