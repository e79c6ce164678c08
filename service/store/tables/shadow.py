"""What a model said that only watches."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Identity, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base
from service.study import State


class ShadowScoreRow(Base):
    """One shadow model on one revision: it has no result, delivery, message or place on the list."""

    __tablename__ = "shadow_score"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("vigil.revision.id"))
    model_hash: Mapped[str]
    model_name: Mapped[str] = mapped_column(server_default="")
    model_version: Mapped[str] = mapped_column(server_default="")
    state: Mapped[State] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str | None]
    detail: Mapped[str] = mapped_column(server_default="")
    study_score: Mapped[float | None] = mapped_column(Float)
    p_value: Mapped[float | None] = mapped_column(Float)
    group_key: Mapped[str] = mapped_column(server_default="")
    calibration_hash: Mapped[str] = mapped_column(server_default="")
    seconds: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # by stage, as of a score
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("revision_id", "model_hash"),
        CheckConstraint("(state = 'scored') = (p_value IS NOT NULL)", name="scored_has_a_p_value"),
        CheckConstraint("p_value > 0 AND p_value <= 1", name="p_value_is_a_probability"),
        CheckConstraint("(state = 'scored') <= (study_score IS NOT NULL)", name="scored_has_a_score"),
        CheckConstraint(
            "state NOT IN ('not_assessable', 'failed') OR reason IS NOT NULL", name="unscored_has_a_reason"
        ),
        CheckConstraint(
            "(state IN ('scored', 'not_assessable', 'failed')) = (ended_at IS NOT NULL)",
            name="ended_has_a_time",
        ),
        CheckConstraint("state NOT IN ('received', 'complete')", name="is_born_queued"),
        Index("ix_shadow_score_state", "model_hash", "state"),
    )
