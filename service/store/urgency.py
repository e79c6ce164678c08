"""How urgent each piece of waiting work is: its study's priority, raised by age so that nothing starves."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Float, Integer, Select, case, cast, func, select

from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import OVERDUE, DeliveryStatus, Priority, State

STEPS = 4  # an old job is raised this often on its way up, and not at every look


def wanted_scores(*conditions: ColumnElement[bool], longest_s: float) -> Select[int, int]:
    """Build the query for waiting scores with the priority that their jobs should have.

    Parameters
    ----------
    *conditions
        On study and score.
    longest_s : float
        Seconds after which a score passes all but STAT.
    """
    return (
        select(ScoreRow.id, _aged(ScoreRow.run_at, longest_s))
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(ScoreRow.state == State.QUEUED, *conditions)
    )


def wanted_deliveries(*conditions: ColumnElement[bool], longest_s: float) -> Select[int, int]:
    """Build the query for open deliveries with the priority that their jobs should have."""
    return (
        select(DeliveryRow.id, _aged(ScoreRow.ended_at, longest_s))
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            DeliveryRow.status.in_((DeliveryStatus.WAITING, DeliveryStatus.DELIVERED)),
            DeliveryRow.ended_at.is_(None),
            *conditions,
        )
    )


def of_study(key: str) -> Sequence[ColumnElement[bool]]:
    """Build the condition for the work of one study."""
    return (StudyRow.key == key,)


def _aged(since: Any, longest_s: float) -> ColumnElement[int]:
    """Build the priority of a study at its age: in steps from its own to `OVERDUE`; screening stays."""
    age_s = cast(func.extract("epoch", func.now() - cast(since, DateTime(timezone=True))), Float)
    climbed = func.floor(STEPS * func.least(func.greatest(age_s, 0.0) / longest_s, 1.0)) / STEPS
    raised = StudyRow.priority + func.floor((int(OVERDUE) - StudyRow.priority) * climbed)
    # A cohort of thousands is asked for at once: grown old, it would pass what comes today.
    own = case((StudyRow.priority <= Priority.SCREENING, StudyRow.priority), else_=raised)
    return cast(func.greatest(StudyRow.priority, own), Integer)
