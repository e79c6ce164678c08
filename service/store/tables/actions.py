"""What people said of studies, and what they were answered."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base
from service.study import State, Verdict


class FeedbackRow(Base):
    """One version of what a reader said, with what Vigil had said. Append-only by trigger.

    The numbers are copied: a later score must not change what a verdict was about.
    """

    __tablename__ = "feedback"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"))
    number: Mapped[int]  # within the study
    version: Mapped[int]  # from 1; a correction is another version
    verdict: Mapped[Verdict]
    note: Mapped[str] = mapped_column(server_default="")
    region: Mapped[int | None]  # index among the score's regions
    slice_index: Mapped[int | None]
    conspicuity: Mapped[int | None] = mapped_column(SmallInteger)  # of a confirmed finding, 1 to 3
    by: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    score_id: Mapped[int | None] = mapped_column(ForeignKey("vigil.score.id"))
    revision: Mapped[int | None]
    state: Mapped[State]  # of the study at the first version
    model_hash: Mapped[str | None]
    calibration_hash: Mapped[str | None]
    study_score: Mapped[float | None] = mapped_column(Float)
    percentile: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (
        UniqueConstraint("study_id", "number", "version"),
        CheckConstraint("version >= 1 AND number >= 1", name="counts_from_one"),
        CheckConstraint("length(note) <= 1000", name="note_is_bounded"),
        CheckConstraint(
            "conspicuity IS NULL OR (verdict = 'confirmed_finding' AND conspicuity BETWEEN 1 AND 3)",
            name="conspicuity_is_of_a_finding",
        ),
        CheckConstraint("region >= 0 AND slice_index >= 0", name="places_count_from_zero"),
        CheckConstraint("(percentile IS NULL) = (study_score IS NULL)", name="numbers_come_together"),
        Index(None, "score_id"),
    )


class AnswerRow(Base):
    """What a request that carried an idempotency key was answered, kept for a while."""

    __tablename__ = "answer"

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str]  # hash of method, address and body
    body: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "at"),)
