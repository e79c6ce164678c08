"""Where a study stands on the list is kept beside it, so that a page of the list is an index scan."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    for column in (
        sa.Column("seen_at", at, nullable=True),
        sa.Column("seen_by", sa.Text(), nullable=True),
        sa.Column("assigned_to", sa.Text(), nullable=True),
    ):
        op.add_column("study", column, schema="vigil")
