"""Priorities, and the waiting jobs that follow them at once."""

from sqlalchemy.orm import Session

from service import engine
from service.engine import Pool
from service.store import audit, studies, urgency
from service.study import Priority


def raise_priority(session: Session, key: str, priority: Priority, *, actor: str) -> bool:
    """Make a study more urgent, with every job of it that waits; never lowers anything (I12).

    Returns
    -------
    bool
        False where it was as urgent before.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    if not studies.raise_priority(session, key, priority):
        return False
    session.flush()
    # Age counts from the reaper's next look on; what a person asks for cannot wait until then.
    ageless = float("inf")
    study = urgency.of_study(key)
    engine.hasten(session, Pool.INFER, urgency.wanted_scores(*study, longest_s=ageless))
    engine.hasten(session, Pool.DELIVER, urgency.wanted_deliveries(*study, longest_s=ageless))
    audit.append(session, "study.prioritised", actor=actor, study_key=key, priority=priority.name.lower())
    return True


def age(session: Session, *, longest_s: float) -> int:
    """Raise the jobs of work that waits long; return how many."""
    return engine.hasten(session, Pool.INFER, urgency.wanted_scores(longest_s=longest_s)) + engine.hasten(
        session, Pool.DELIVER, urgency.wanted_deliveries(longest_s=longest_s)
    )
