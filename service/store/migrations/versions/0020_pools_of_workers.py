"""A worker's row says which pools it works for; of a release before, it says nothing."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    # The engine writes its row as it always did: the connection of the worker says what it is for.
    op.execute(
        "ALTER TABLE procrastinate.procrastinate_workers"
        " ADD COLUMN vigil_pools text DEFAULT current_setting('vigil.pools', true)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE procrastinate.procrastinate_workers DROP COLUMN vigil_pools")
