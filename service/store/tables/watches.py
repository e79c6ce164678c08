"""What watches whether the images of a scanner still are what its calibration was made of."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from service.store.tables.base import Base


class GroupWatchRow(Base):
    """One scanner under one model and one calibration; another of either begins another watch."""

    __tablename__ = "group_watch"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_sha256: Mapped[str]
    calibration_sha256: Mapped[str]
    group_key: Mapped[str]  # of the scanner: a group of any age
    state: Mapped[dict[str, Any]] = mapped_column(JSONB)  # models.drift.GroupWatch
    seen: Mapped[int] = mapped_column(server_default="0")  # studies, those after an alarm too
    begun_at: Mapped[datetime] = mapped_column(server_default=func.now())
    alarmed_at: Mapped[datetime | None]  # since when the percentile is withdrawn
    alarms: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")  # numbers that raised it
    changed_number: Mapped[int | None]  # of the first study that is probably of the changed scanner
    turns: Mapped[int] = mapped_column(server_default="0")  # times it was withdrawn or given back

    __table_args__ = (
        UniqueConstraint("model_sha256", "calibration_sha256", "group_key", name="uq_group_watch_of"),
        CheckConstraint(
            "(alarmed_at IS NOT NULL) = (cardinality(alarms) > 0)"
            " AND (alarmed_at IS NULL) = (changed_number IS NULL)",
            name="alarm_is_whole",
        ),
    )


class WatchedRow(Base):
    """A score that is to be watched, or was: as what number of which watch. Written with the score."""

    __tablename__ = "watched"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)  # the order of the watch
    score_id: Mapped[int] = mapped_column(ForeignKey("vigil.score.id", ondelete="CASCADE"), unique=True)
    is_waiting: Mapped[bool] = mapped_column(server_default="true")
    watch_id: Mapped[int | None] = mapped_column(ForeignKey("vigil.group_watch.id"))
    number: Mapped[int | None]  # None: passed over, for its study counts in the watch already

    __table_args__ = (
        UniqueConstraint("watch_id", "number"),
        CheckConstraint("number IS NULL OR watch_id IS NOT NULL", name="number_is_of_a_watch"),
        CheckConstraint("is_waiting = (watch_id IS NULL)", name="waiting_has_none"),
        Index("ix_watched_waiting", "id", postgresql_where=text("is_waiting")),
    )
