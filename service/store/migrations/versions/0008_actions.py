"""What people do to studies: assignments, feedback; and what a repeated request was answered."""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

# As `service.study` had them when this was written; a test compares what PostgreSQL allows with it.
DELIVERY_MOVES = (
    ("waiting", "delivered"),
    ("waiting", "undelivered"),
    ("delivered", "stored"),
    ("delivered", "waiting"),
    ("delivered", "undelivered"),
    ("stored", "waiting"),
    ("undelivered", "waiting"),
)
VERDICTS = ("confirmed_finding", "false_alarm", "artefact", "not_relevant", "wrong_study")
STATES = ("received", "complete", "queued", "scored", "not_assessable", "failed")


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    for column in (
        sa.Column("assigned_by", sa.Text(), nullable=True),
        sa.Column("assigned_at", at, nullable=True),
        sa.Column("assignment_version", sa.Integer(), server_default="0", nullable=False),
    ):
        op.add_column("study", column, schema="vigil")
    feedback()
    op.create_table(
        "answer",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("at", at, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_answer")),
        schema="vigil",
    )
    op.create_index(op.f("ix_vigil_answer_at"), "answer", ["at"], schema="vigil")
    let_a_stored_result_be_sent_again()


def downgrade() -> None:
    allow(move for move in DELIVERY_MOVES if move != ("stored", "waiting"))
    op.drop_table("answer", schema="vigil")
    for name in ("note_feedback", "refuse_feedback_change"):
        op.execute(f"DROP FUNCTION vigil.{name} CASCADE")  # with its trigger
    op.drop_table("feedback", schema="vigil")
    for name in ("assigned_by", "assigned_at", "assignment_version"):
        op.drop_column("study", name, schema="vigil")


def feedback() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "feedback",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum(*VERDICTS, name="verdict", native_enum=False, create_constraint=True, length=20),
            nullable=False,
        ),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("region", sa.Integer(), nullable=True),
        sa.Column("slice_index", sa.Integer(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", at, server_default=sa.func.now(), nullable=False),
        sa.Column("score_id", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(*STATES, name="state", native_enum=False, create_constraint=True, length=20),
            nullable=False,
        ),
        sa.Column("model_hash", sa.Text(), nullable=True),
        sa.Column("calibration_hash", sa.Text(), nullable=True),
        sa.Column("study_score", sa.Float(), nullable=True),
        sa.Column("percentile", sa.Float(), nullable=True),
        sa.CheckConstraint("version >= 1 AND number >= 1", name=op.f("ck_feedback_counts_from_one")),
        sa.CheckConstraint("length(note) <= 1000", name=op.f("ck_feedback_note_is_bounded")),
        sa.CheckConstraint(
            "region >= 0 AND slice_index >= 0", name=op.f("ck_feedback_places_count_from_zero")
        ),
        sa.CheckConstraint(
            "(percentile IS NULL) = (study_score IS NULL)", name=op.f("ck_feedback_numbers_come_together")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["vigil.study.id"], name=op.f("fk_feedback_study_id_study")),
        sa.ForeignKeyConstraint(["score_id"], ["vigil.score.id"], name=op.f("fk_feedback_score_id_score")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sa.UniqueConstraint(
            "study_id", "number", "version", name=op.f("uq_feedback_study_id_number_version")
        ),
        schema="vigil",
    )
    op.create_index(op.f("ix_vigil_feedback_score_id"), "feedback", ["score_id"], schema="vigil")
    op.execute("""
        CREATE FUNCTION vigil.refuse_feedback_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'feedback is append-only'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'feedback_is_append_only';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER feedback_append_only BEFORE UPDATE OR DELETE ON vigil.feedback
        FOR EACH STATEMENT EXECUTE FUNCTION vigil.refuse_feedback_change()
    """)
    op.execute("""
        CREATE FUNCTION vigil.note_feedback() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM vigil.note_change(key, 'feedback') FROM vigil.study WHERE id = NEW.study_id;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER feedback_is_given AFTER INSERT ON vigil.feedback
        FOR EACH ROW EXECUTE FUNCTION vigil.note_feedback()
    """)


def let_a_stored_result_be_sent_again() -> None:
    """Let an archive that lost what it had stored be sent it again, by a person."""
    allow(DELIVERY_MOVES)


def allow(moves: Iterable[tuple[str, str]]) -> None:
    allowed = ", ".join(f"('{before}', '{after}')" for before, after in moves)
    op.execute(f"""
        CREATE OR REPLACE FUNCTION vigil.refuse_illegal_delivery_move() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.status, NEW.status) NOT IN ({allowed}) THEN
                RAISE EXCEPTION 'a delivery cannot go from % to %', OLD.status, NEW.status
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'delivery_moves';
            END IF;
            RETURN NEW;
        END $$
    """)
