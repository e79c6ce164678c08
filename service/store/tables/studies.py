"""A study and all that hangs on it, down to the way of each result."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    FetchedValue,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.store.tables.base import Base
from service.study import DeliveryStatus, PackState, RetractionState, State, Whereabouts

_NUMBERS = (
    text("coalesce(p_value, 0)"),
    text("coalesce(tail, p_value, 0)"),
    text("coalesce(-study_score, 0)"),
)
_UNSEEN = text("seen_at IS NULL")


class StudyRow(Base):
    """One study, by its pseudonymous key."""

    __tablename__ = "study"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    state: Mapped[State]
    reason: Mapped[str | None]
    detail: Mapped[str] = mapped_column(server_default="")
    priority: Mapped[int] = mapped_column(Integer, server_default="10")
    modality: Mapped[str] = mapped_column(server_default="")
    description: Mapped[str] = mapped_column(server_default="")
    sender: Mapped[str] = mapped_column(server_default="")
    received_at: Mapped[datetime]
    last_instance_at: Mapped[datetime]
    is_pending: Mapped[bool]  # instances arrived that no revision holds yet
    completed_at: Mapped[datetime | None]
    completed_by: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    flag: Mapped[str | None]  # code of what a person must look at, whatever the state
    bytes_are: Mapped[Whereabouts] = mapped_column(server_default="here")
    deleted_at: Mapped[datetime | None]
    is_on_node: Mapped[bool] = mapped_column(server_default="true")  # received files, besides the pack
    hold: Mapped[str | None]  # why nothing of it may be deleted
    waived: Mapped[str | None]  # why it may be deleted without every result confirmed
    parked_at: Mapped[datetime | None]  # a person put it aside: nobody scores it
    # Triggers write these six (0015), whatever else is written to them.
    band: Mapped[int] = mapped_column(SmallInteger, server_default=FetchedValue())
    score_id: Mapped[int | None] = mapped_column(BigInteger)  # the score that counts: newest of the newest
    p_value: Mapped[float | None] = mapped_column(Float)  # of that score, in the ranked band alone
    study_score: Mapped[float | None] = mapped_column(Float)  # of it, also in the uncalibrated band
    tail: Mapped[float | None] = mapped_column(Float)  # orders equal percentiles; shown to nobody
    model_name: Mapped[str] = mapped_column(server_default="")
    seen_at: Mapped[datetime | None]  # a reader has seen it as it stands; a new state takes the mark away
    seen_by: Mapped[str | None]
    first_seen_at: Mapped[datetime | None]  # by any reader; stays
    assigned_to: Mapped[str | None]  # account that has claimed it
    assigned_by: Mapped[str | None]
    assigned_at: Mapped[datetime | None]
    assignment_version: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        CheckConstraint(
            "(state = 'not_assessable') <= (reason IS NOT NULL)", name="not_assessable_has_a_reason"
        ),
        CheckConstraint("(state = 'failed') <= (reason IS NOT NULL)", name="failed_has_a_reason"),
        CheckConstraint(
            "(state IN ('scored', 'not_assessable', 'failed')) = (ended_at IS NOT NULL)",
            name="ended_has_a_time",
        ),
        CheckConstraint("state = 'received' OR completed_at IS NOT NULL", name="complete_has_a_time"),
        Index(None, "state"),
        Index("ix_study_bytes_are", "bytes_are", "ended_at"),
        Index("ix_study_pending", "id", postgresql_where=text("is_pending")),
        CheckConstraint("(band = 1) = (p_value IS NOT NULL)", name="ranked_has_numbers"),
        CheckConstraint("(band IN (1, 3)) = (study_score IS NOT NULL)", name="unranked_has_none"),
        CheckConstraint("tail IS NULL OR band = 1", name="tail_is_of_the_ranked"),
        CheckConstraint("priority IN (0, 10, 20, 30)", name="priority_is_known"),
        CheckConstraint("(seen_at IS NULL) = (seen_by IS NULL)", name="seen_by_somebody"),
        CheckConstraint("seen_at IS NULL OR first_seen_at IS NOT NULL", name="seen_was_seen_first"),
        # What `service.store.order` walks along, segment by segment.
        Index(
            "ix_study_triage", "band", "priority", *_NUMBERS, "received_at", "id", postgresql_where=_UNSEEN
        ),
        Index(
            "ix_study_overdue",
            "band",
            text("(priority >= 30)"),
            "received_at",
            "id",
            postgresql_where=text("seen_at IS NULL AND priority > 0"),
        ),
        Index("ix_study_seen", "band", "seen_at", "id", postgresql_where=text("seen_at IS NOT NULL")),
        Index("ix_study_percentile", "band", *_NUMBERS, "received_at", "id"),
        Index("ix_study_received", "band", "received_at", "id"),
        # Where a filter leaves few.
        Index("ix_study_modality", "modality"),
        Index("ix_study_sender", "sender"),
        Index("ix_study_unusual_priority", "priority", postgresql_where=text("priority <> 10")),
    )

    instances: Mapped[list["InstanceRow"]] = relationship(order_by="InstanceRow.file_name")
    revisions: Mapped[list["RevisionRow"]] = relationship(
        order_by="RevisionRow.number", back_populates="study"
    )


class InstanceRow(Base):
    """One received instance; its file is ``spool/<study key>/<file_name>``."""

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"))
    file_name: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sop_class_uid: Mapped[str]
    is_own: Mapped[bool]
    sender: Mapped[str]
    received_at: Mapped[datetime]
    series: Mapped[str] = mapped_column(server_default="")  # pseudonym of its series
    patient: Mapped[str] = mapped_column(server_default="")  # pseudonyms of what says who the patient is
    first_revision: Mapped[int | None]  # number of the first revision that holds it
    is_deleted: Mapped[bool] = mapped_column(server_default="false")  # by retention; sent again, it is new

    __table_args__ = (UniqueConstraint("study_id", "file_name"),)


class RevisionRow(Base):
    """A study with a given set of instances."""

    __tablename__ = "revision"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"))
    number: Mapped[int]
    content_hash: Mapped[str]
    completed_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    pack: Mapped[PackState | None]  # None: workers read the spool
    pack_sha256: Mapped[str | None]
    pack_bytes: Mapped[int | None] = mapped_column(BigInteger)
    pack_reason: Mapped[str | None]  # code of why it is to be made again, or cannot be

    __table_args__ = (
        UniqueConstraint("study_id", "content_hash"),
        UniqueConstraint("study_id", "number"),
        CheckConstraint(
            "(pack = 'confirmed') <= (pack_sha256 IS NOT NULL AND pack_bytes IS NOT NULL)",
            name="confirmed_pack_has_a_hash",
        ),
        Index("ix_revision_pack_wanted", "id", postgresql_where=text("pack = 'wanted'")),
    )

    study: Mapped[StudyRow] = relationship(back_populates="revisions")
    scores: Mapped[list["ScoreRow"]] = relationship(order_by="ScoreRow.id", back_populates="revision")


class ScoreRow(Base):
    """One model on one revision: made with its job, filled when the job ends."""

    __tablename__ = "score"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("vigil.revision.id"))
    model_hash: Mapped[str]
    config_digest: Mapped[str]
    run_at: Mapped[datetime]  # stored when the job is made: results are a pure function of it (I4)
    state: Mapped[State]
    attempts: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str | None]
    detail: Mapped[str] = mapped_column(server_default="")
    study_score: Mapped[float | None] = mapped_column(Float)
    p_value: Mapped[float | None] = mapped_column(Float)
    model_name: Mapped[str] = mapped_column(server_default="")
    model_version: Mapped[str] = mapped_column(server_default="")
    reference_group: Mapped[str] = mapped_column(server_default="")
    reference_n: Mapped[int | None]
    calibration_hash: Mapped[str] = mapped_column(server_default="")
    scored_series: Mapped[str] = mapped_column(server_default="")
    series: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")
    heads: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    regions: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")
    pictures: Mapped[int] = mapped_column(server_default="0")  # slices in the strip
    began_at: Mapped[datetime | None]  # of the newest attempt
    seconds: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # of that attempt, by stage
    ended_at: Mapped[datetime | None]
    # What the model said, whether or not there is a percentile of it.
    group_key: Mapped[str | None]  # narrowest group of the scored series
    looks: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # what its images are like
    peak: Mapped[float | None] = mapped_column(Float)  # of the map
    tail: Mapped[float | None] = mapped_column(Float)  # estimated share of normals that score higher
    provider: Mapped[str | None]  # what ran the network
    preprocessing: Mapped[str | None]  # version
    software: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # versions of what shapes a score
    retraction: Mapped[RetractionState | None]  # of earlier results, where it has none itself

    __table_args__ = (
        UniqueConstraint("revision_id", "model_hash", "config_digest"),
        CheckConstraint("(state = 'scored') = (p_value IS NOT NULL)", name="scored_has_a_p_value"),
        CheckConstraint("p_value > 0 AND p_value <= 1", name="p_value_is_a_probability"),
        CheckConstraint(
            "CASE WHEN state = 'scored' THEN study_score IS NOT NULL ELSE study_score IS NULL"
            " OR (state = 'not_assessable' AND reason IN ('uncalibrated', 'drifted')) END",
            name="scored_has_a_score",
        ),
        CheckConstraint(
            "state NOT IN ('not_assessable', 'failed') OR reason IS NOT NULL", name="unscored_has_a_reason"
        ),
        CheckConstraint(
            "(state IN ('scored', 'not_assessable', 'failed')) = (ended_at IS NOT NULL)",
            name="ended_has_a_time",
        ),
        CheckConstraint("state NOT IN ('received', 'complete')", name="is_born_queued"),
        Index("ix_score_retraction_wanted", "id", postgresql_where=text("retraction = 'wanted'")),
        Index(None, "state"),
    )

    revision: Mapped[RevisionRow] = relationship(back_populates="scores")
    results: Mapped[list["ResultRow"]] = relationship(order_by="ResultRow.id", back_populates="score")


class ResultRow(Base):
    """One DICOM object we made; its file is ``results/<path>``."""

    __tablename__ = "result"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    score_id: Mapped[int] = mapped_column(ForeignKey("vigil.score.id"))
    kind: Mapped[str]
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (UniqueConstraint("score_id", "kind"),)

    score: Mapped[ScoreRow] = relationship(back_populates="results")
    deliveries: Mapped[list["DeliveryRow"]] = relationship(order_by="DeliveryRow.id", back_populates="result")


class DeliveryRow(Base):
    """One result on its way to one destination."""

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("vigil.result.id"))
    destination: Mapped[str]
    status: Mapped[DeliveryStatus]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answer: Mapped[int | None]  # DIMSE status of the last attempt
    error: Mapped[str] = mapped_column(server_default="")
    ended_at: Mapped[datetime | None]  # nothing more is done; until then a delivered one is to be confirmed
    confirmed_by: Mapped[str | None]  # what made it stored: commitment or query
    fallback: Mapped[str | None]  # code of why another way than the wanted one was taken
    transaction_uid: Mapped[str | None]  # of the commitment request that is open
    asked_at: Mapped[datetime | None]
    confirm_attempts: Mapped[int] = mapped_column(server_default="0")
    began_at: Mapped[datetime | None]  # of the first attempt
    delivered_at: Mapped[datetime | None]  # the destination answered success
    seconds: Mapped[float] = mapped_column(Float, server_default="0")  # spent sending, all attempts

    __table_args__ = (
        UniqueConstraint("result_id", "destination"),
        Index(None, "status"),
        CheckConstraint("status <> 'waiting' OR ended_at IS NULL", name="waiting_has_no_end"),
        CheckConstraint(
            "status NOT IN ('stored', 'undelivered', 'withdrawn') OR ended_at IS NOT NULL",
            name="ended_has_a_time",
        ),
        CheckConstraint(
            "status <> 'undelivered' OR error <> '' OR fallback IS NOT NULL", name="undelivered_has_a_reason"
        ),
    )

    result: Mapped[ResultRow] = relationship(back_populates="deliveries")
