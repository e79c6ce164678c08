"""The anomaly map behind a score, which the page lays over the images."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class MapRow(Base):
    """One anomaly map; its file is ``results/<path>`` and goes with the results of its study."""

    __tablename__ = "map"

    score_id: Mapped[int] = mapped_column(ForeignKey("vigil.score.id"), primary_key=True)
    path: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    voxels: Mapped[int] = mapped_column(BigInteger)
    curve: Mapped[dict[str, Any]]  # peaks by slice, and the bands they are read against
