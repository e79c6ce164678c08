"""People, their sessions and tokens; whom a study is about; who has seen it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "person",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True, unique=True),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", at, nullable=True),
        schema="vigil",
    )
    op.create_table(
        "invitation",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), sa.ForeignKey("vigil.person.id"), nullable=True),
        sa.Column("expires_at", at, nullable=False),
        schema="vigil",
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("person_id", sa.BigInteger(), sa.ForeignKey("vigil.person.id"), nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("used_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", at, nullable=False),
        schema="vigil",
    )
    op.create_table(
        "token",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, unique=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", at, nullable=True),
        sa.Column("revoked_at", at, nullable=True),
        schema="vigil",
    )


def downgrade() -> None:
    for table in ("token", "session", "invitation", "person"):
        op.drop_table(table, schema="vigil")
