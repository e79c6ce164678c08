"""What runs here, and what happened."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class ParkedDestinationRow(Base):
    """A destination that a person put aside: its deliveries wait."""

    __tablename__ = "parked_destination"

    name: Mapped[str] = mapped_column(primary_key=True)
    parked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HeartbeatRow(Base):
    """When a loop looked last."""

    __tablename__ = "heartbeat"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class AuditRow(Base):
    """One event, chained to the one before. Append-only by trigger."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    study_key: Mapped[str | None]
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str]
    hash: Mapped[str]

    __table_args__ = (Index(None, "study_key"), Index(None, "actor", "at"))


class AuditExportRow(Base):
    """How far the audit trail has been told elsewhere."""

    __tablename__ = "audit_export"

    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, server_default="0")  # newest row that arrived
    told_at: Mapped[datetime | None]
