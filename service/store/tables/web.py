"""What DICOMweb searches: attributes of studies, series and instances that are in hand, received or made."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class ListedStudyRow(Base):
    """What a search shows of a study besides whom it is about; it goes when the study's bytes go."""

    __tablename__ = "listed_study"

    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"), primary_key=True)
    date: Mapped[str] = mapped_column(Text(collation="C"))  # YYYYMMDD, or empty; compared byte by byte
    time: Mapped[str]
    number: Mapped[str]  # Study ID (0020,0010)
    referring_physician: Mapped[str]

    __table_args__ = (Index(None, "date"),)


class ListedSeriesRow(Base):
    """One series."""

    __tablename__ = "listed_series"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"))
    series_uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    number: Mapped[int | None]
    description: Mapped[str]
    body_part: Mapped[str]
    began_date: Mapped[str]  # of the performed procedure step
    began_time: Mapped[str]

    __table_args__ = (
        UniqueConstraint("study_id", "series_uid"),
        Index("ix_listed_series_modality", "modality", "study_id"),
    )


class ListedInstanceRow(Base):
    """One instance: a received one, or a result."""

    __tablename__ = "listed_instance"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"))
    series_id: Mapped[int] = mapped_column(ForeignKey("vigil.listed_series.id"), index=True)
    received_id: Mapped[int | None] = mapped_column(ForeignKey("vigil.instance.id"), index=True)
    result_id: Mapped[int | None] = mapped_column(ForeignKey("vigil.result.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(index=True)
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    number: Mapped[int | None]
    frames: Mapped[int | None]
    rows: Mapped[int | None]
    columns: Mapped[int | None]
    bits_allocated: Mapped[int | None]

    __table_args__ = (
        UniqueConstraint("study_id", "sop_instance_uid"),
        CheckConstraint("(received_id IS NULL) <> (result_id IS NULL)", name="is_received_or_made"),
    )
