"""Calibration documents, and what people decided about them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class CalibrationRow(Base):
    """One document; it never changes, what is decided about it does."""

    __tablename__ = "calibration"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int]
    model_sha256: Mapped[str]
    document: Mapped[dict[str, Any]]
    state: Mapped[str]
    origin: Mapped[str]  # how its studies were chosen
    author: Mapped[str]
    reason: Mapped[str]
    proposed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    scanner: Mapped[str | None]  # key of the scanner that it commissions
    before: Mapped[str | None]  # hash of what it was made to replace; accepted: of what was in force

    __table_args__ = (
        CheckConstraint("state IN ('proposed', 'accepted', 'retired', 'refused')", name="state"),
        CheckConstraint(
            "origin IN ('folder', 'file', 'commissioning', 'archive', 'received')", name="origin"
        ),
        CheckConstraint(
            "(state = 'proposed') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)",
            name="decided_by_somebody",
        ),
        Index(
            "ix_calibration_accepted",
            "model_sha256",
            unique=True,
            postgresql_where=text("state = 'accepted'"),
        ),
    )
