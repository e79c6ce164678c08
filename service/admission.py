"""A complete study into the queue: its score, its job and the audit row in the caller's transaction (I5)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service import engine
from service.engine import Pool
from service.store import audit, jobs
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
