"""How a delivery was confirmed, what fell back, and whose study it is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("confirmed_by", "fallback", "transaction_uid"):
        op.add_column("delivery", sa.Column(name, sa.Text(), nullable=True), schema="vigil")
    op.add_column(
        "delivery", sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True), schema="vigil"
    )
    op.add_column(
        "delivery",
        sa.Column("confirm_attempts", sa.Integer(), server_default="0", nullable=False),
        schema="vigil",
    )
    # What was delivered before confirmation existed has ended, whatever the peers file says now.
    op.execute("UPDATE vigil.delivery SET ended_at = now() WHERE status = 'delivered' AND ended_at IS NULL")
    op.add_column("study", sa.Column("flag", sa.Text(), nullable=True), schema="vigil")
    for name in ("series", "patient"):
        op.add_column(
            "instance", sa.Column(name, sa.Text(), server_default="", nullable=False), schema="vigil"
        )


def downgrade() -> None:
    for table, names in (
        ("instance", ("series", "patient")),
        ("study", ("flag",)),
        ("delivery", ("confirmed_by", "fallback", "transaction_uid", "asked_at", "confirm_attempts")),
    ):
        for name in names:
            op.drop_column(table, name, schema="vigil")
