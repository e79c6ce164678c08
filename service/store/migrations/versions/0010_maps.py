"""The anomaly map of a score is kept, for the page."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "map",
        sa.Column("score_id", sa.BigInteger(), sa.ForeignKey("vigil.score.id"), primary_key=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("voxels", sa.BigInteger(), nullable=False),
        sa.Column("curve", JSONB(), nullable=False),
        schema="vigil",
    )


def downgrade() -> None:
    op.drop_table("map", schema="vigil")
