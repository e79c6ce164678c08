"""Signing in at an identity provider; how far the audit trail was told elsewhere; who looked lately."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "sign_in",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("expires_at", at, nullable=False),
        schema="vigil",
    )
    op.create_table(
        "audit_export",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("told_at", at, nullable=True),
        schema="vigil",
    )
    op.create_index(op.f("ix_vigil_audit_actor"), "audit", ["actor", "at"], schema="vigil")


def downgrade() -> None:
    op.drop_index(op.f("ix_vigil_audit_actor"), "audit", schema="vigil")
    for table in ("audit_export", "sign_in"):
        op.drop_table(table, schema="vigil")
