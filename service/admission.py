"""A complete study into the queue: its score, its job and the audit row in the caller's transaction (I5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service import engine
from service.engine import Pool
from service.store import audit, jobs, newcomers
from service.store.audit import AuditEvent
from service.store.newcomers import Newcomer
from service.store.studies import Revision

ACTOR = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Queues revisions for one model.

    Attributes
    ----------
    model_hash : callable
        Of the model that is in service now.
    config_digest : callable
        Given the transaction and that model: of everything besides it that shapes a result.
    """

    model_hash: Callable[[], str]
    config_digest: Callable[[Session, str], str]

    def admit(
        self,
        session: Session,
        key: str,
        revision: Revision,
        *,
        completed_by: str,
        now: datetime,
        actor: str = ACTOR,
    ) -> int | None:
        """Queue a revision; return its score, None where it has one for this model already."""
        model_hash = self.model_hash()
        score_id = jobs.queue(
            session,
            revision.id,
            model_hash=model_hash,
            config_digest=self.config_digest(session, model_hash),
            run_at=now.astimezone(UTC).replace(microsecond=0),
        )
        if score_id is None:
            return None
        engine.enqueue(session, Pool.INFER, score_id, priority=revision.priority)
        audit.append(
            session,
            "study.queued",
            actor=actor,
            study_key=key,
            revision=revision.number,
            completed_by=completed_by,
            content_hash=revision.content_hash,
            model_hash=model_hash,
        )
        return score_id

    def admit_all(
        self,
        session: Session,
        found: Sequence[Newcomer],
        *,
        priority: int,
        completed_by: str,
        now: datetime,
        actor: str = ACTOR,
    ) -> frozenset[str]:
        """Queue studies nobody knew, whole at once; return the keys of those that were queued here."""
        model_hash = self.model_hash()
        scores = newcomers.enter(
            session,
            found,
            model_hash=model_hash,
            config_digest=self.config_digest(session, model_hash),
            priority=priority,
            completed_by=completed_by,
            now=now,
            run_at=now.astimezone(UTC).replace(microsecond=0),
        )
        if not scores:
            return frozenset()
        engine.enqueue_all(session, Pool.INFER, list(scores.values()), priority=priority)
        events = []
        for newcomer in sorted(found, key=lambda one: one.key):
            if newcomer.key not in scores:
                continue
            queued = {
                "revision": 1,
                "completed_by": completed_by,
                "content_hash": newcomer.content_hash,
                "model_hash": model_hash,
            }
            for action, detail in (
                ("study.received", {"sender": newcomer.arrivals[0].sender}),
                ("study.queued", queued),
            ):
                events.append(AuditEvent(action=action, actor=actor, study_key=newcomer.key, detail=detail))
        audit.append_all(session, events)
        return frozenset(scores)
