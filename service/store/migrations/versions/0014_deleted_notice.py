"""Those who watch the list are told when the images of a study go, or come again."""

from alembic import op

revision = "0014"
down_revision = "0013"

SHOWN = (
    "state, reason, detail, priority, parked_at, seen_at, assigned_to, band, score_id, p_value,"
    " study_score, is_pending, flag, modality, description, sender"
)


def upgrade() -> None:
    _watch(f"{SHOWN}, bytes_are")


def downgrade() -> None:
    _watch(SHOWN)


def _watch(shown: str) -> None:
    """Let the trigger look at these columns of a study."""
    before, after = (
        ", ".join(f"{row}.{column.strip()}" for column in shown.split(",")) for row in ("OLD", "NEW")
    )
    op.execute("DROP TRIGGER study_has_changed ON vigil.study")
    op.execute(
        "CREATE TRIGGER study_has_changed AFTER UPDATE ON vigil.study FOR EACH ROW"
        f" WHEN (({before}) IS DISTINCT FROM ({after})) EXECUTE FUNCTION vigil.note_study()"
    )
