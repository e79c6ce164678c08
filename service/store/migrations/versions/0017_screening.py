"""Cohorts that are screened, and what becomes of incidental findings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0016"

COHORT_STATES = ("gathering", "gathered", "ended")
MEMBER_STATES = ("wanted", "copied", "taken", "left_out")
REFERRAL_STATES = ("reported", "reviewed", "referred", "closed")
# As `service.study` had them when this was written; a test compares what PostgreSQL allows with it.
REFERRAL_MOVES = (
    ("reported", "reported"),
    ("reported", "reviewed"),
    ("reported", "referred"),
    ("reported", "closed"),
    ("reviewed", "reviewed"),
    ("reviewed", "referred"),
    ("reviewed", "closed"),
    ("referred", "referred"),
    ("referred", "closed"),
    ("closed", "closed"),
    ("closed", "reviewed"),
)


def upgrade() -> None:
    cohorts()
    referrals()
    overdue("seen_at IS NULL AND priority > 0")  # screening is never overdue


def downgrade() -> None:
    overdue("seen_at IS NULL")
    op.drop_table("referral", schema="vigil")
    op.execute("DROP FUNCTION vigil.refuse_referral_change")
    op.execute("DROP FUNCTION vigil.refuse_illegal_referral_move")
    op.execute("DROP FUNCTION vigil.note_referral")
    op.drop_table("cohort_study", schema="vigil")
    op.drop_table("cohort", schema="vigil")


def cohorts() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "cohort",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("q", sa.Float(), nullable=False),
        sa.Column("state", _coded("cohortstate", COHORT_STATES), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_at", at, server_default=sa.func.now(), nullable=False),
        sa.Column("ended_at", at, nullable=True),
        sa.Column("files", JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("q > 0 AND q < 1", name=op.f("ck_cohort_q_is_a_rate")),
        sa.CheckConstraint(
            "(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("ck_cohort_ended_has_a_time")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cohort")),
        sa.UniqueConstraint("source", "name", name=op.f("uq_cohort_source_name")),
        schema="vigil",
    )
    op.create_table(
        "cohort_study",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("cohort_id", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("study_key", sa.Text(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("state", _coded("memberstate", MEMBER_STATES), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", at, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint(
            "(state = 'left_out') = (reason IS NOT NULL)",
            name=op.f("ck_cohort_study_left_out_has_a_reason"),
        ),
        sa.CheckConstraint(
            "state = 'left_out' OR study_key IS NOT NULL", name=op.f("ck_cohort_study_here_has_a_key")
        ),
        sa.ForeignKeyConstraint(
            ["cohort_id"], ["vigil.cohort.id"], name=op.f("fk_cohort_study_cohort_id_cohort"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cohort_study")),
        sa.UniqueConstraint("cohort_id", "mark", name=op.f("uq_cohort_study_cohort_id_mark")),
        schema="vigil",
    )  # fmt: skip
    op.create_index(op.f("ix_vigil_cohort_study_study_key"), "cohort_study", ["study_key"], schema="vigil")
    op.create_index("ix_cohort_study_state", "cohort_study", ["cohort_id", "state"], schema="vigil")


def referrals() -> None:
    op.create_table(
        "referral",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", _coded("referralstate", REFERRAL_STATES), nullable=False),
        sa.Column("due", sa.Date(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("version >= 1 AND number >= 1", name=op.f("ck_referral_counts_from_one")),
        sa.CheckConstraint("length(note) <= 1000", name=op.f("ck_referral_note_is_bounded")),
        sa.CheckConstraint("version > 1 OR state = 'reported'", name=op.f("ck_referral_begins_reported")),
        sa.ForeignKeyConstraint(["study_id"], ["vigil.study.id"], name=op.f("fk_referral_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referral")),
        sa.UniqueConstraint(
            "study_id", "number", "version", name=op.f("uq_referral_study_id_number_version")
        ),
        schema="vigil",
    )
    op.execute("""
        CREATE FUNCTION vigil.refuse_referral_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'referrals are append-only'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'referral_is_append_only';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER referral_append_only BEFORE UPDATE OR DELETE ON vigil.referral
        FOR EACH STATEMENT EXECUTE FUNCTION vigil.refuse_referral_change()
    """)
    allowed = ", ".join(f"('{before}', '{after}')" for before, after in REFERRAL_MOVES)
    is_illegal = f"before IS NULL OR (before, NEW.state) NOT IN ({allowed})"
    op.execute(f"""
        CREATE FUNCTION vigil.refuse_illegal_referral_move() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            before text := (
                SELECT state FROM vigil.referral
                WHERE study_id = NEW.study_id AND number = NEW.number AND version = NEW.version - 1
            );
        BEGIN
            IF NEW.version > 1 AND ({is_illegal}) THEN
                RAISE EXCEPTION 'a referral cannot go from % to %', before, NEW.state
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'referral_moves';
            END IF;
            RETURN NEW;
        END $$
    """)  # noqa: S608 - of the constants above
    op.execute("""
        CREATE TRIGGER referral_moves BEFORE INSERT ON vigil.referral
        FOR EACH ROW EXECUTE FUNCTION vigil.refuse_illegal_referral_move()
    """)
    op.execute("""
        CREATE FUNCTION vigil.note_referral() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM vigil.note_change(key, 'referral') FROM vigil.study WHERE id = NEW.study_id;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER referral_is_written AFTER INSERT ON vigil.referral
        FOR EACH ROW EXECUTE FUNCTION vigil.note_referral()
    """)


def overdue(condition: str) -> None:
    op.execute("DROP INDEX vigil.ix_study_overdue")
    op.execute(
        "CREATE INDEX ix_study_overdue ON vigil.study (band, (priority >= 30), received_at, id)"
        f" WHERE {condition}"
    )


def _coded(name: str, codes: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*codes, name=name, native_enum=False, create_constraint=True, length=20)
