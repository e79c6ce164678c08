"""What DICOMweb searches. `vigil db index` fills it for studies from before."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "listed_study",
        sa.Column("study_id", sa.BigInteger(), sa.ForeignKey("vigil.study.id"), primary_key=True),
        *_texts("date", "time", "number", "referring_physician"),
        schema="vigil",
    )
    op.create_index("ix_vigil_listed_study_date", "listed_study", ["date"], schema="vigil")
    op.create_table(
        "listed_series",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("study_id", sa.BigInteger(), sa.ForeignKey("vigil.study.id"), nullable=False),
        *_texts("series_uid", "modality", "description", "body_part", "began_date", "began_time"),
        *_numbers("number"),
        sa.UniqueConstraint("study_id", "series_uid", name="uq_listed_series_study_id_series_uid"),
        schema="vigil",
    )
    op.create_index("ix_vigil_listed_series_series_uid", "listed_series", ["series_uid"], schema="vigil")
    op.create_table(
        "listed_instance",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("study_id", sa.BigInteger(), sa.ForeignKey("vigil.study.id"), nullable=False),
        sa.Column("series_id", sa.BigInteger(), sa.ForeignKey("vigil.listed_series.id"), nullable=False),
        sa.Column("received_id", sa.BigInteger(), sa.ForeignKey("vigil.instance.id"), nullable=True),
        sa.Column("result_id", sa.BigInteger(), sa.ForeignKey("vigil.result.id"), nullable=True),
        *_texts("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid"),
        *_numbers("number", "frames", "rows", "columns", "bits_allocated"),
        sa.UniqueConstraint(
            "study_id", "sop_instance_uid", name="uq_listed_instance_study_id_sop_instance_uid"
        ),
        sa.CheckConstraint(
            "(received_id IS NULL) <> (result_id IS NULL)", name="ck_listed_instance_is_received_or_made"
        ),
        schema="vigil",
    )
    for name in ("series_id", "received_id", "result_id", "sop_instance_uid"):
        op.create_index(f"ix_vigil_listed_instance_{name}", "listed_instance", [name], schema="vigil")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer(), nullable=True) for name in names]
