"""What Vigil says of a study to other systems: one score as a value, free of identity.

The outbox keeps it as it was when it happened; FHIR reads it as it is now. Either way one value makes every
resource and message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session, aliased

from service.store.rows import Assessment, assessment_of
from service.store.tables import RevisionRow, ScoreRow, StudyRow
from service.study import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One score of one revision of a study.

    Attributes
    ----------
    study_key : str
    score_id, revision : int
    state : State
        Of the score.
    reason : str or None
        Code of why there is no number.
    detail : str
        The same for people.
    assessment : Assessment or None
        Only of a scored one: the number, and what it means (I10).
    model_name, model_version, model_sha256 : str
        Who judged, or declined; name and version are empty until the worker has said so.
    modality : str
    priority : int
    received_at, run_at : datetime
    ended_at : datetime or None
    is_current : bool
        Whether it is the newest score of the newest revision.
    flag : str or None
        Code of why its results must not be used before somebody has looked.
    """

    study_key: str
    score_id: int
    revision: int
    state: State
    reason: str | None
    detail: str
    assessment: Assessment | None
    model_name: str
    model_version: str
    model_sha256: str
    modality: str
    priority: int
    received_at: datetime
    run_at: datetime
    ended_at: datetime | None
    is_current: bool = True
    flag: str | None = None

    @property
    def percentile(self) -> float | None:
        """Normality percentile, low is unusual; None where nothing was scored."""
        return self.assessment.percentile if self.assessment else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStudy:
    """A study as other systems ask for it.

    Attributes
    ----------
    key : str
    modality : str
    report : Report or None
        Of the newest score; None where there is none yet.
    number : int
        Grows with every study.
    instances : int or None
        Received so far; None where it does not matter.
    is_complete : bool
        Whether every instance that came is part of a revision.
    """

    key: str
    modality: str
    report: Report | None
    number: int = 0
    instances: int | None = None
    is_complete: bool = True

    @property
    def holds(self) -> bool:
        """Whether the report is about all that came."""
        return self.is_complete and self.report is not None and self.report.is_current


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one message is about.

    Attributes
    ----------
    report : Report
    happened_at : datetime
    kind, destination : str or None
        Of a result that was delivered.
    """

    report: Report
    happened_at: datetime
    kind: str | None = None
    destination: str | None = None

    def content(self) -> dict[str, Any]:
        """JSON of it, for the outbox."""
        return dict(_TOLD.dump_python(self, mode="json"))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Told":
        """What `content` wrote."""
        return _TOLD.validate_python(content)

    def mark(self) -> str:
        """What tells one happening from every other."""
        ended = self.report.ended_at.isoformat() if self.report.ended_at else ""
        return "|".join((str(self.report.score_id), ended, self.kind or "", self.destination or ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftAlarm:
    """A scanner whose images have changed; what is told of it is about no study.

    Attributes
    ----------
    watch_id : int
    group, group_key : str
        The scanner in words, and as it is named everywhere.
    model_sha256, calibration_sha256 : str
        Whose percentile is withdrawn.
    alarms : tuple of str
        Numbers that moved.
    studies, studies_since_change : int
        Watched in all, and since the change as it is estimated.
    happened_at : datetime
    """

    watch_id: int
    group: str
    group_key: str
    model_sha256: str
    calibration_sha256: str
    alarms: tuple[str, ...]
    studies: int
    studies_since_change: int
    happened_at: datetime

    def content(self) -> dict[str, Any]:
        """JSON of it, for the outbox."""
        return dict(_ALARM.dump_python(self, mode="json"))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "DriftAlarm":
        """What `content` wrote."""
        return _ALARM.validate_python(content)


_TOLD = TypeAdapter(Told)
_ALARM = TypeAdapter(DriftAlarm)


def newest_report(session: Session, key: str) -> Report | None:
    """Report of the newest score of a study; None where it has none."""
    query = _scores().where(StudyRow.key == key).order_by(RevisionRow.number.desc(), ScoreRow.id.desc())
    found = session.execute(query.limit(1)).first()
    return _report(*found) if found else None


def report_of(session: Session, score_id: int) -> Report | None:
    """Report of one score; None where nobody knows it."""
    found = session.execute(_scores().where(ScoreRow.id == score_id)).first()
    return _report(*found) if found else None


def _scores() -> Select[ScoreRow, RevisionRow, StudyRow, bool]:
    score, revision = aliased(ScoreRow), aliased(RevisionRow)
    is_outdated = exists().where(revision.study_id == StudyRow.id, revision.number > RevisionRow.number)
    is_replaced = exists().where(score.revision_id == RevisionRow.id, score.id > ScoreRow.id)
    return (
        select(ScoreRow, RevisionRow, StudyRow, ~(is_outdated | is_replaced))
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
    )


def _report(score: ScoreRow, revision: RevisionRow, study: StudyRow, is_current: bool) -> Report:
    return Report(
        study_key=study.key,
        score_id=score.id,
        revision=revision.number,
        state=score.state,
        reason=score.reason,
        detail=score.detail,
        assessment=assessment_of(score),
        model_name=score.model_name,
        model_version=score.model_version,
        model_sha256=score.model_hash,
        modality=study.modality,
        priority=study.priority,
        received_at=study.received_at.astimezone(UTC),
        run_at=score.run_at.astimezone(UTC),
        ended_at=score.ended_at.astimezone(UTC) if score.ended_at else None,
        is_current=is_current,
        flag=study.flag,
    )
