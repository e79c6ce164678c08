"""What those who watch the list are told, and the secret that its cursors are signed with."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Index, LargeBinary, Sequence, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import SCHEMA, Base

NUMBERS = Sequence("change_number", schema=SCHEMA, metadata=Base.metadata)


class ChangeRow(Base):
    """One notice that a study of the list changed; kept for a while (`service.store.changes`)."""

    __tablename__ = "change"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    number: Mapped[int | None] = mapped_column(BigInteger, unique=True)  # given once it is committed
    study_key: Mapped[str]
    change: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("ix_change_new", "study_key", postgresql_where=text("number IS NULL")),)


class SecretRow(Base):
    """A secret that all machines of a site share."""

    __tablename__ = "secret"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)
