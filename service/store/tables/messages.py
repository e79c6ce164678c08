"""What is told to other systems besides DICOM: the outbox."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base
from service.study import MessageStatus


class ChannelRow(Base):
    """A channel as the peers file named it last: whoever changes a study's state asks no file for it."""

    __tablename__ = "channel"

    name: Mapped[str] = mapped_column(primary_key=True)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))


class MessageRow(Base):
    """One message on its way through one channel: the outbox. It holds nothing of who the patient is.

    Messages of one lane of a channel go out in the order of their ids.
    """

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    message_id: Mapped[str] = mapped_column(unique=True)  # what the receiver knows it by, at every attempt
    channel: Mapped[str]
    lane: Mapped[str]  # study key; or the name of another stream that has an order
    event: Mapped[str]
    content: Mapped[dict[str, Any]]
    priority: Mapped[int]
    status: Mapped[MessageStatus] = mapped_column(server_default="waiting")
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answer: Mapped[str] = mapped_column(server_default="")  # of the last attempt: HTTP status, HL7 code
    error: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    began_at: Mapped[datetime | None]  # of the first attempt
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_outbox_lane", "channel", "lane", "id"),
        Index("ix_outbox_waiting", "id", postgresql_where=text("status = 'waiting'")),
        Index("ix_outbox_ended", "ended_at"),
        CheckConstraint("(status = 'waiting') = (ended_at IS NULL)", name="ended_has_a_time"),
        CheckConstraint("status <> 'dead' OR error <> ''", name="dead_has_a_reason"),
    )


class AwaitedRow(Base):
    """An order whose study may not have come yet, by a pseudonym of what it is for."""

    __tablename__ = "awaited_order"

    mark: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int]
    noted_at: Mapped[datetime] = mapped_column(server_default=func.now())
