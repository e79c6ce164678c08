"""Cohorts that are screened, and what became of the findings that came up."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    Float,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base
from service.study import CohortState, MemberState, ReferralState


class CohortRow(Base):
    """One screening. Where its studies come from is kept as a digest alone: a path may name a patient."""

    __tablename__ = "cohort"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    source: Mapped[str]  # keyed digest of the folder, address or list
    q: Mapped[float] = mapped_column(Float)  # false-discovery rate of its list
    state: Mapped[CohortState]
    by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    files: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # counts: what became of the files

    __table_args__ = (
        UniqueConstraint("source", "name"),
        CheckConstraint("q > 0 AND q < 1", name="q_is_a_rate"),
        CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended_has_a_time"),
    )


class CohortStudyRow(Base):
    """One study of a cohort, known to Vigil or not yet."""

    __tablename__ = "cohort_study"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cohort_id: Mapped[int] = mapped_column(ForeignKey("vigil.cohort.id", ondelete="CASCADE"))
    mark: Mapped[str]  # pseudonym of what names it in the source: the study's key, or an accession number's
    study_key: Mapped[str | None] = mapped_column(index=True)
    instances: Mapped[int | None]  # that the source holds; the study is whole with so many
    state: Mapped[MemberState]
    reason: Mapped[str | None]  # code of why it was left out
    at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("cohort_id", "mark"),
        Index("ix_cohort_study_state", "cohort_id", "state"),
        CheckConstraint("(state = 'left_out') = (reason IS NOT NULL)", name="left_out_has_a_reason"),
        CheckConstraint("state = 'left_out' OR study_key IS NOT NULL", name="here_has_a_key"),
    )


class ReferralRow(Base):
    """One version of what became of an incidental finding. Append-only by trigger."""

    __tablename__ = "referral"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"))
    number: Mapped[int]  # within the study
    version: Mapped[int]  # from 1; a change is another version
    state: Mapped[ReferralState]
    due: Mapped[date] = mapped_column(Date)  # by when it is to be closed
    note: Mapped[str] = mapped_column(server_default="")  # may name a patient: it stays here
    by: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("study_id", "number", "version"),
        CheckConstraint("version >= 1 AND number >= 1", name="counts_from_one"),
        CheckConstraint("length(note) <= 1000", name="note_is_bounded"),
        CheckConstraint("version > 1 OR state = 'reported'", name="begins_reported"),
    )
