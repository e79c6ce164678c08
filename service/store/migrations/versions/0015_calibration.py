"""What the model said of a study stands beside its percentile, and without one; calibrations are rows.

A study whose scanner has no calibration keeps its raw score and stands in a band of its own, between what a
person must look at and what is ranked.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"

# As `service.study` had them when this was written.
RANKED, UNCALIBRATED = 1, 3
RAW_REASONS = "('uncalibrated', 'drifted')"
HAS_RAW = f"(counting.reason IN {RAW_REASONS} AND counting.study_score IS NOT NULL)"

BEFORE = {
    "band": "",
    "study_score": f"NEW.band = {RANKED}",
    "tail": "",
}
AFTER = {
    "band": f"WHEN NEW.state = 'not_assessable' AND {HAS_RAW} THEN {UNCALIBRATED}",
    "study_score": f"NEW.band IN ({RANKED}, {UNCALIBRATED})",
    "tail": f"NEW.tail := CASE WHEN NEW.band = {RANKED} THEN counting.tail END;",
}
OLD_NUMBERS = "coalesce(p_value, 0), coalesce(-study_score, 0), received_at, id"
NUMBERS = "coalesce(p_value, 0), coalesce(tail, p_value, 0), coalesce(-study_score, 0), received_at, id"


def upgrade() -> None:
    for column in (
        sa.Column("group_key", sa.Text(), nullable=True),
        sa.Column("looks", JSONB(), server_default="{}", nullable=False),
        sa.Column("peak", sa.Float(), nullable=True),
        sa.Column("tail", sa.Float(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("preprocessing", sa.Text(), nullable=True),
    ):
        op.add_column("score", column, schema="vigil")
    op.add_column("study", sa.Column("tail", sa.Float(), nullable=True), schema="vigil")
    _check(
        "score",
        "scored_has_a_score",
        f"CASE WHEN state = 'scored' THEN study_score IS NOT NULL"
        f" ELSE study_score IS NULL OR (state = 'not_assessable' AND reason IN {RAW_REASONS}) END",
    )
    _check("study", "ranked_has_numbers", f"(band = {RANKED}) = (p_value IS NOT NULL)")
    _check(
        "study",
        "unranked_has_none",
        f"(band IN ({RANKED}, {UNCALIBRATED})) = (study_score IS NOT NULL)",
    )
    op.create_check_constraint(
        op.f("ck_study_tail_is_of_the_ranked"), "study", f"tail IS NULL OR band = {RANKED}", schema="vigil"
    )
    _places(AFTER, "p_value, study_score, tail, reason, model_name")
    _indexes(NUMBERS)
    op.create_table(
        "calibration",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("document", JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("scanner", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration")),
        sa.UniqueConstraint("sha256", name=op.f("uq_calibration_sha256")),
        sa.CheckConstraint(
            "state IN ('proposed', 'accepted', 'retired', 'refused')", name=op.f("ck_calibration_state")
        ),
        sa.CheckConstraint(
            "origin IN ('folder', 'file', 'commissioning', 'archive', 'received')",
            name=op.f("ck_calibration_origin"),
        ),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)",
            name=op.f("ck_calibration_decided_by_somebody"),
        ),
        schema="vigil",
    )
    op.create_index(
        "ix_calibration_accepted",
        "calibration",
        ["model_sha256"],
        unique=True,
        schema="vigil",
        postgresql_where=sa.text("state = 'accepted'"),
    )
    # A release before this one knows no such band, and would show no list at all where a study stands there.
    op.execute("UPDATE vigil.schema_support SET oldest = '0015'")


def downgrade() -> None:
    op.execute("UPDATE vigil.schema_support SET oldest = '0003'")
    op.drop_table("calibration", schema="vigil")
    _places(BEFORE, "p_value, study_score, model_name")
    op.execute("ALTER TABLE vigil.study DROP CONSTRAINT ck_study_ranked_has_numbers")
    op.execute("ALTER TABLE vigil.study DROP CONSTRAINT ck_study_unranked_has_none")
    op.execute("ALTER TABLE vigil.study DROP CONSTRAINT ck_study_tail_is_of_the_ranked")
    # A release that knows no raw score without a percentile would show none of it: it goes.
    op.execute("UPDATE vigil.score SET study_score = NULL WHERE state <> 'scored'")
    op.execute("UPDATE vigil.study SET band = band WHERE band = 3")  # uncalibrated
    _check("score", "scored_has_a_score", "(state = 'scored') = (study_score IS NOT NULL)")
    for name, condition in (
        ("ranked_has_numbers", f"(band = {RANKED}) = (p_value IS NOT NULL AND study_score IS NOT NULL)"),
        ("unranked_has_none", f"band = {RANKED} OR (p_value IS NULL AND study_score IS NULL)"),
    ):
        op.create_check_constraint(op.f(f"ck_study_{name}"), "study", condition, schema="vigil")
    _indexes(OLD_NUMBERS)
    op.drop_column("study", "tail", schema="vigil")
    for column in ("group_key", "looks", "peak", "tail", "provider", "preprocessing"):
        op.drop_column("score", column, schema="vigil")


def _check(table: str, name: str, condition: str) -> None:
    op.execute(f"ALTER TABLE vigil.{table} DROP CONSTRAINT ck_{table}_{name}")
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition, schema="vigil")


def _places(rules: dict[str, str], watched: str) -> None:
    """Let the place of a study follow these rules, and these columns of its score."""
    columns = "id, p_value, study_score, model_name" + (", tail, reason" if rules["tail"] else "")
    newest = ", ".join(f"newest.{column.strip()}" for column in columns.split(","))
    op.execute(f"""
        CREATE OR REPLACE FUNCTION vigil.place_study() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            counting record;
        BEGIN
            SELECT {newest} INTO counting
            FROM (
                SELECT id FROM vigil.revision WHERE study_id = NEW.id ORDER BY number DESC LIMIT 1
            ) AS current
            LEFT JOIN LATERAL (
                SELECT {columns} FROM vigil.score
                WHERE revision_id = current.id ORDER BY id DESC LIMIT 1
            ) AS newest ON true;
            NEW.score_id := counting.id;
            NEW.model_name := coalesce(counting.model_name, '');
            NEW.band := CASE
                WHEN NEW.state = 'scored' AND counting.p_value IS NOT NULL
                    AND counting.study_score IS NOT NULL THEN {RANKED}
                -- judged by a model that nothing says how to read here: a raw score, and no percentile
                {rules["band"]}
                -- "scored" without a score, or put aside: nobody will judge it, so it may not look calm
                WHEN NEW.state IN ('scored', 'not_assessable', 'failed') OR NEW.parked_at IS NOT NULL
                    THEN 0
                ELSE 2
            END;
            NEW.p_value := CASE WHEN NEW.band = {RANKED} THEN counting.p_value END;
            NEW.study_score := CASE WHEN {rules["study_score"]} THEN counting.study_score END;
            {rules["tail"]}
            NEW.first_seen_at := coalesce(OLD.first_seen_at, NEW.first_seen_at, NEW.seen_at);
            -- What a reader saw is gone when the state, the score or the band is another.
            IF NEW.seen_at = OLD.seen_at
                AND (NEW.state, NEW.score_id, NEW.band) IS DISTINCT FROM (OLD.state, OLD.score_id, OLD.band)
            THEN
                NEW.seen_at := NULL;
                NEW.seen_by := NULL;
            END IF;
            RETURN NEW;
        END $$
    """)  # noqa: S608 - of the constants above
    op.execute("DROP TRIGGER score_places_study ON vigil.score")
    op.execute(
        "CREATE TRIGGER score_places_study"
        f" AFTER INSERT OR UPDATE OF state, {watched} ON vigil.score FOR EACH ROW"
        " EXECUTE FUNCTION vigil.place_study_of_score()"
    )


def _indexes(numbers: str) -> None:
    """Keep the ranked in this order."""
    for name, columns, condition in (
        ("triage", f"band, priority, {numbers}", "WHERE seen_at IS NULL"),
        ("percentile", f"band, {numbers}", ""),
    ):
        op.execute(f"DROP INDEX vigil.ix_study_{name}")
        op.execute(f"CREATE INDEX ix_study_{name} ON vigil.study ({columns}) {condition}")
