"""What DICOMweb searches (`vigil db index` fills it for what was there), and the work items of UPS-RS."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "listed_study",
        sa.Column("study_id", sa.BigInteger(), sa.ForeignKey("vigil.study.id"), primary_key=True),
        sa.Column("date", sa.Text(collation="C"), nullable=False),  # searches compare days byte by byte
        *_texts("time", "number", "referring_physician"),
        schema="vigil",
    )
    op.create_index("ix_vigil_listed_study_date", "listed_study", ["date"], schema="vigil")
    op.create_index("ix_vigil_identity_patient_id", "identity", ["patient_id"], schema="vigil")
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
    op.create_index("ix_listed_series_modality", "listed_series", ["modality", "study_id"], schema="vigil")
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
    _create_workitems()


def downgrade() -> None:
    for table in (
        *("workitem_subscription", "workitem_event", "workitem"),
        *("listed_instance", "listed_series", "listed_study"),
    ):
        op.drop_table(table, schema="vigil")
    op.drop_index("ix_vigil_identity_patient_id", "identity", schema="vigil")


def _create_workitems() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "workitem",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("uid", sa.Text(), nullable=False, unique=True),
        sa.Column("study_id", sa.BigInteger(), sa.ForeignKey("vigil.study.id"), nullable=False),
        sa.Column("score_id", sa.BigInteger(), sa.ForeignKey("vigil.score.id"), nullable=False, unique=True),
        sa.Column("state", sa.Text(), nullable=False, server_default="SCHEDULED"),
        sa.Column("transaction_uid", sa.Text(), nullable=True),
        sa.Column("performer", sa.Text(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("progress_text", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("modified_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", at, nullable=True),
        sa.Column("ended_at", at, nullable=True),
        sa.CheckConstraint(
            "state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')",
            name="ck_workitem_state_is_known",
        ),
        sa.CheckConstraint(
            "(state = 'SCHEDULED') <= (transaction_uid IS NULL)", name="ck_workitem_unclaimed_has_no_lock"
        ),
        sa.CheckConstraint(
            "(state = 'IN PROGRESS') <= (transaction_uid IS NOT NULL)",
            name="ck_workitem_claimed_has_a_lock",
        ),
        sa.CheckConstraint(
            "(state IN ('COMPLETED', 'CANCELED')) = (ended_at IS NOT NULL)",
            name="ck_workitem_ended_has_a_time",
        ),
        schema="vigil",
    )
    op.create_index("ix_vigil_workitem_study_id", "workitem", ["study_id"], schema="vigil")
    op.create_index(
        "ix_workitem_scheduled",
        "workitem",
        ["id"],
        schema="vigil",
        postgresql_where=sa.text("state = 'SCHEDULED'"),
    )
    op.create_table(
        "workitem_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("workitem_id", sa.BigInteger(), sa.ForeignKey("vigil.workitem.id"), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("detail", JSONB(), nullable=False),
        sa.Column("at", at, nullable=False, server_default=sa.func.now()),
        schema="vigil",
    )
    for name in ("workitem_id", "at"):
        op.create_index(f"ix_vigil_workitem_event_{name}", "workitem_event", [name], schema="vigil")
    op.create_table(
        "workitem_subscription",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("workitem_id", sa.BigInteger(), sa.ForeignKey("vigil.workitem.id"), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("created_at", at, nullable=False, server_default=sa.func.now()),
        schema="vigil",
    )
    op.create_index(
        "uq_workitem_subscription_one",
        "workitem_subscription",
        ["subscriber", sa.text("coalesce(workitem_id, 0)")],
        unique=True,
        schema="vigil",
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer(), nullable=True) for name in names]
