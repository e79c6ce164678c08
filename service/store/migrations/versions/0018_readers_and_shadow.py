"""What readers teach, in the categories of a population study, and scores of a model that only watches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"

# As `service.study` had them when this was written; a test compares what PostgreSQL allows with it.
VERDICTS = (
    "confirmed_finding",
    "false_alarm",
    "artefact",
    "not_relevant",
    "wrong_study",
    "extraction_failure",
    "other_condition",
)
STATES = ("received", "complete", "queued", "scored", "not_assessable", "failed")


def upgrade() -> None:
    op.add_column("feedback", sa.Column("conspicuity", sa.SmallInteger(), nullable=True), schema="vigil")
    allowed = ", ".join(f"'{verdict}'" for verdict in VERDICTS)
    op.execute("ALTER TABLE vigil.feedback DROP CONSTRAINT ck_feedback_verdict")
    op.execute(
        f"ALTER TABLE vigil.feedback ADD CONSTRAINT ck_feedback_verdict CHECK (verdict IN ({allowed}))"
    )
    op.execute(
        "ALTER TABLE vigil.feedback ADD CONSTRAINT ck_feedback_conspicuity_is_of_a_finding CHECK"
        " (conspicuity IS NULL OR (verdict = 'confirmed_finding' AND conspicuity BETWEEN 1 AND 3))"
    )
    shadow_scores()


def shadow_scores() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "shadow_score",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("model_hash", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), server_default="", nullable=False),
        sa.Column("model_version", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "state",
            sa.Enum(*STATES, name="state", native_enum=False, create_constraint=True, length=20),
            server_default="queued",
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("study_score", sa.Float(), nullable=True),
        sa.Column("p_value", sa.Float(), nullable=True),
        sa.Column("group_key", sa.Text(), server_default="", nullable=False),
        sa.Column("calibration_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("seconds", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("made_at", at, server_default=sa.func.now(), nullable=False),
        sa.Column("ended_at", at, nullable=True),
        sa.CheckConstraint(
            "(state = 'scored') = (p_value IS NOT NULL)", name=op.f("ck_shadow_score_scored_has_a_p_value")
        ),
        sa.CheckConstraint(
            "p_value > 0 AND p_value <= 1", name=op.f("ck_shadow_score_p_value_is_a_probability")
        ),
        sa.CheckConstraint(
            "(state = 'scored') <= (study_score IS NOT NULL)", name=op.f("ck_shadow_score_scored_has_a_score")
        ),
        sa.CheckConstraint(
            "state NOT IN ('not_assessable', 'failed') OR reason IS NOT NULL",
            name=op.f("ck_shadow_score_unscored_has_a_reason"),
        ),
        sa.CheckConstraint(
            "(state IN ('scored', 'not_assessable', 'failed')) = (ended_at IS NOT NULL)",
            name=op.f("ck_shadow_score_ended_has_a_time"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('received', 'complete')", name=op.f("ck_shadow_score_is_born_queued")
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["vigil.revision.id"], name=op.f("fk_shadow_score_revision_id_revision")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_score")),
        sa.UniqueConstraint("revision_id", "model_hash", name=op.f("uq_shadow_score_revision_id_model_hash")),
        schema="vigil",
    )
    op.create_index("ix_shadow_score_state", "shadow_score", ["model_hash", "state"], schema="vigil")


def downgrade() -> None:
    op.drop_table("shadow_score", schema="vigil")
    op.drop_constraint("ck_feedback_conspicuity_is_of_a_finding", "feedback", schema="vigil")
    op.drop_column("feedback", "conspicuity", schema="vigil")
    before = ", ".join(f"'{verdict}'" for verdict in VERDICTS[:5])
    op.execute("ALTER TABLE vigil.feedback DROP CONSTRAINT ck_feedback_verdict")
    # What was said stays on record, in words that the release before shows as they are.
    op.execute(
        "ALTER TABLE vigil.feedback ADD CONSTRAINT ck_feedback_verdict"
        f" CHECK (verdict IN ({before})) NOT VALID"
    )
