"""The outbox: what is told to other systems besides DICOM."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0012"
down_revision = "0011"

STATUSES = ("waiting", "sent", "dead", "stale")


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "channel",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("events", ARRAY(sa.Text()), nullable=False),
        schema="vigil",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("message_id", sa.Text(), nullable=False, unique=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("content", JSONB(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(*STATUSES, name="messagestatus", native_enum=False, length=20, create_constraint=True),
            nullable=False,
            server_default="waiting",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_attempt_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("answer", sa.Text(), nullable=False, server_default=""),
        sa.Column("error", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", at, nullable=False, server_default=sa.func.now()),
        sa.Column("began_at", at, nullable=True),
        sa.Column("ended_at", at, nullable=True),
        sa.CheckConstraint("(status = 'waiting') = (ended_at IS NULL)", name="ended_has_a_time"),
        sa.CheckConstraint("status <> 'dead' OR error <> ''", name="dead_has_a_reason"),
        schema="vigil",
    )
    op.create_index("ix_outbox_lane", "outbox", ["channel", "lane", "id"], schema="vigil")
    op.create_index(
        "ix_outbox_waiting", "outbox", ["id"], schema="vigil", postgresql_where=sa.text("status = 'waiting'")
    )
    op.create_index("ix_outbox_ended", "outbox", ["ended_at"], schema="vigil")
    op.create_table(
        "awaited_order",
        sa.Column("mark", sa.Text(), primary_key=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("noted_at", at, nullable=False, server_default=sa.func.now()),
        schema="vigil",
    )


def downgrade() -> None:
    for table in ("awaited_order", "outbox", "channel"):
        op.drop_table(table, schema="vigil")
