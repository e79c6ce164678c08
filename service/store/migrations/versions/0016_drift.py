"""Scanners are watched for drift; each score says with which software it was made."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "group_watch",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("calibration_sha256", sa.Text(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("state", JSONB(), nullable=False),
        sa.Column("seen", sa.Integer(), server_default="0", nullable=False),
        sa.Column("begun_at", at, server_default=sa.func.now(), nullable=False),
        sa.Column("alarmed_at", at, nullable=True),
        sa.Column("alarms", ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("changed_number", sa.Integer(), nullable=True),
        sa.Column("turns", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_watch")),
        sa.UniqueConstraint(
            "model_sha256", "calibration_sha256", "group_key", name=op.f("uq_group_watch_of")
        ),
        sa.CheckConstraint(
            "(alarmed_at IS NOT NULL) = (cardinality(alarms) > 0)"
            " AND (alarmed_at IS NULL) = (changed_number IS NULL)",
            name=op.f("ck_group_watch_alarm_is_whole"),
        ),
        schema="vigil",
    )
    op.create_table(
        "watched",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("score_id", sa.BigInteger(), nullable=False),
        sa.Column("is_waiting", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("watch_id", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watched")),
        sa.ForeignKeyConstraint(
            ["score_id"], ["vigil.score.id"], name=op.f("fk_watched_score_id_score"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["watch_id"], ["vigil.group_watch.id"], name=op.f("fk_watched_watch_id_group_watch")
        ),
        sa.UniqueConstraint("score_id", name=op.f("uq_watched_score_id")),
        sa.UniqueConstraint("watch_id", "number", name=op.f("uq_watched_watch_id_number")),
        sa.CheckConstraint(
            "number IS NULL OR watch_id IS NOT NULL", name=op.f("ck_watched_number_is_of_a_watch")
        ),
        sa.CheckConstraint("is_waiting = (watch_id IS NULL)", name=op.f("ck_watched_waiting_has_none")),
        schema="vigil",
    )
    op.execute("CREATE INDEX ix_watched_waiting ON vigil.watched (id) WHERE is_waiting")
    op.add_column(
        "score", sa.Column("software", JSONB(), server_default="{}", nullable=False), schema="vigil"
    )


def downgrade() -> None:
    op.drop_column("score", "software", schema="vigil")
    op.drop_table("watched", schema="vigil")
    op.drop_table("group_watch", schema="vigil")
