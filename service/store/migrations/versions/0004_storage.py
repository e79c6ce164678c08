"""Packs of revisions, and what retention knows of a study: whether its bytes are here, holds, waivers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("revision", sa.Column("pack", sa.String(length=20), nullable=True), schema="vigil")
    op.add_column("revision", sa.Column("pack_sha256", sa.Text(), nullable=True), schema="vigil")
    op.add_column("revision", sa.Column("pack_bytes", sa.BigInteger(), nullable=True), schema="vigil")
    op.add_column("revision", sa.Column("pack_reason", sa.Text(), nullable=True), schema="vigil")
    op.create_check_constraint(
        op.f("ck_revision_packstate"),
        "revision",
        "pack IN ('wanted', 'confirmed', 'lost', 'deleted')",
        schema="vigil",
    )
    op.create_check_constraint(
        op.f("ck_revision_confirmed_pack_has_a_hash"),
        "revision",
        "(pack = 'confirmed') <= (pack_sha256 IS NOT NULL AND pack_bytes IS NOT NULL)",
        schema="vigil",
    )
    op.create_index(
        "ix_revision_pack_wanted",
        "revision",
        ["id"],
        schema="vigil",
        postgresql_where=sa.text("pack = 'wanted'"),
    )
    op.add_column(
        "instance",
        sa.Column("is_deleted", sa.Boolean(), server_default="false", nullable=False),
        schema="vigil",
    )
    op.add_column(
        "study",
        sa.Column("bytes_are", sa.String(length=20), server_default="here", nullable=False),
        schema="vigil",
    )
    op.create_check_constraint(
        op.f("ck_study_whereabouts"), "study", "bytes_are IN ('here', 'deleting', 'deleted')", schema="vigil"
    )
    op.add_column("study", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True), schema="vigil")
    op.add_column(
        "study",
        sa.Column("is_on_node", sa.Boolean(), server_default="true", nullable=False),
        schema="vigil",
    )
    for name in ("hold", "waived"):
        op.add_column("study", sa.Column(name, sa.Text(), nullable=True), schema="vigil")
    op.create_index("ix_study_bytes_are", "study", ["bytes_are", "ended_at"], schema="vigil")


def downgrade() -> None:
    for table, names in (  # checks and indexes go with their columns
        ("study", ("bytes_are", "deleted_at", "is_on_node", "hold", "waived")),
        ("instance", ("is_deleted",)),
        ("revision", ("pack", "pack_sha256", "pack_bytes", "pack_reason")),
    ):
        for name in names:
            op.drop_column(table, name, schema="vigil")
