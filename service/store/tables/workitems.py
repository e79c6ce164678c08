"""Work items of UPS-RS: a study that waits for reading, whose it is, and what its watchers are told."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class WorkitemRow(Base):
    """One study, as one score left it, to be read (PS3.3 C.30)."""

    __tablename__ = "workitem"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"), index=True)
    score_id: Mapped[int] = mapped_column(ForeignKey("vigil.score.id"), unique=True)
    state: Mapped[str] = mapped_column(server_default="SCHEDULED")
    transaction_uid: Mapped[str | None]  # the lock of who has claimed it; never told to anybody
    performer: Mapped[str | None]
    progress: Mapped[float | None] = mapped_column(Float)  # percent
    progress_text: Mapped[str] = mapped_column(server_default="")
    reason: Mapped[str] = mapped_column(server_default="")  # why it was cancelled
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            "state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')", name="state_is_known"
        ),
        CheckConstraint("(state = 'SCHEDULED') <= (transaction_uid IS NULL)", name="unclaimed_has_no_lock"),
        CheckConstraint(
            "(state = 'IN PROGRESS') <= (transaction_uid IS NOT NULL)", name="claimed_has_a_lock"
        ),
        CheckConstraint(
            "(state IN ('COMPLETED', 'CANCELED')) = (ended_at IS NOT NULL)", name="ended_has_a_time"
        ),
        Index("ix_workitem_scheduled", "id", postgresql_where=text("state = 'SCHEDULED'")),
    )


class WorkitemEventRow(Base):
    """One report about a work item to those who subscribed (PS3.4 CC.2.4)."""

    __tablename__ = "workitem_event"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    workitem_id: Mapped[int] = mapped_column(ForeignKey("vigil.workitem.id"), index=True)
    kind: Mapped[int]  # event type id
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class SubscriptionRow(Base):
    """Somebody who is told of a work item, or of all."""

    __tablename__ = "workitem_subscription"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    subscriber: Mapped[str]  # AE title
    workitem_id: Mapped[int | None] = mapped_column(ForeignKey("vigil.workitem.id"))  # None: all
    made_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index(
            "uq_workitem_subscription_one",
            "subscriber",
            text("coalesce(workitem_id, 0)"),
            unique=True,
        ),
    )
