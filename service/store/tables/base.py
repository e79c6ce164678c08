"""What all tables share."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    DateTime,
    Enum,
    MetaData,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from service.study import (
    CohortState,
    DeliveryStatus,
    MemberState,
    MessageStatus,
    PackState,
    ReferralState,
    RetractionState,
    State,
    Verdict,
    Whereabouts,
)

SCHEMA = "vigil"


def _coded(kind: type[StrEnum]) -> Enum:
    """Text column with a check constraint: a new code needs a migration, not a type change."""
    return Enum(
        kind,
        native_enum=False,
        length=20,
        create_constraint=True,
        values_callable=lambda e: [m.value for m in e],
    )


class Base(DeclarativeBase):
    """All tables of Vigil's own; the engine's live in their own schema."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy as a class attribute
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        str: Text,
        State: _coded(State),
        DeliveryStatus: _coded(DeliveryStatus),
        MessageStatus: _coded(MessageStatus),
        PackState: _coded(PackState),
        Verdict: _coded(Verdict),
        Whereabouts: _coded(Whereabouts),
        CohortState: _coded(CohortState),
        MemberState: _coded(MemberState),
        ReferralState: _coded(ReferralState),
        RetractionState: _coded(RetractionState),
    }
