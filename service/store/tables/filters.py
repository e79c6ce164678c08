"""Filters that people gave a name."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class SavedFilterRow(Base):
    """One filter of one person; where nobody signs in, all share them."""

    __tablename__ = "saved_filter"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    query: Mapped[str]  # query string of the list's address, normalised
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("owner", "name"),)
