"""Whom a study is about: the one table with identities."""

from datetime import date

from sqlalchemy import Date, Float, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables.base import Base


class IdentityRow(Base):
    """What the images of a study say of the patient; it goes when the study's bytes go."""

    __tablename__ = "identity"

    study_id: Mapped[int] = mapped_column(ForeignKey("vigil.study.id"), primary_key=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    patient_id: Mapped[str] = mapped_column(index=True)
    issuer: Mapped[str]
    accession_number: Mapped[str] = mapped_column(index=True)
    birth_date: Mapped[date | None] = mapped_column(Date)
    age_years: Mapped[float | None] = mapped_column(Float)
    sex: Mapped[str]
