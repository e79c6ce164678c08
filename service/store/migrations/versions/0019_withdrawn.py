"""Results that a newer score replaced are sent no more, and what failed retracts what was sent before."""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

STATUSES = ("waiting", "delivered", "stored", "undelivered")
# As `service.study` had them when this was written; a test compares what PostgreSQL allows with it.
MOVES = (
    ("waiting", "delivered"),
    ("waiting", "undelivered"),
    ("delivered", "stored"),
    ("delivered", "waiting"),
    ("delivered", "undelivered"),
    ("stored", "waiting"),
    ("undelivered", "waiting"),
)
NEW_MOVES = (("waiting", "withdrawn"), ("undelivered", "withdrawn"), ("withdrawn", "waiting"))
BACK = ("withdrawn", "undelivered")  # with the schema alone


def upgrade() -> None:
    _check("deliverystatus", f"status IN ({_listed((*STATUSES, 'withdrawn'))})")
    _check(
        "ended_has_a_time",
        "status NOT IN ('stored', 'undelivered', 'withdrawn') OR ended_at IS NOT NULL",
    )
    _allow((*MOVES, *NEW_MOVES))
    retractions()
    # A release before this one cannot read a delivery that is withdrawn, and would send outdated results.
    op.execute("UPDATE vigil.schema_support SET oldest = '0019'")


def retractions() -> None:
    op.add_column("score", sa.Column("retraction", sa.String(length=20), nullable=True), schema="vigil")
    op.create_check_constraint(
        op.f("ck_score_retractionstate"),
        "score",
        "retraction IN ('wanted', 'made', 'failed')",
        schema="vigil",
    )
    op.create_index(
        "ix_score_retraction_wanted",
        "score",
        ["id"],
        schema="vigil",
        postgresql_where=sa.text("retraction = 'wanted'"),
    )
    # A schema that was here before, and taken back: what was made then is not made twice.
    op.execute("""
        UPDATE vigil.score SET retraction = 'made' WHERE EXISTS (
            SELECT FROM vigil.result WHERE result.score_id = score.id AND kind = 'sr_retraction'
        )
    """)
    # What ended without a report before this release left an older percentile as the only word, too.
    op.execute("""
        UPDATE vigil.score SET retraction = 'wanted'
        FROM vigil.study
        WHERE study.score_id = score.id AND study.state = score.state
            AND study.state IN ('failed', 'not_assessable')
            AND study.bytes_are = 'here' AND score.retraction IS NULL
            AND NOT EXISTS (
                SELECT FROM vigil.result WHERE result.score_id = score.id AND result.kind = 'sr'
            )
            AND EXISTS (
                SELECT FROM vigil.result
                JOIN vigil.score AS before ON before.id = result.score_id
                JOIN vigil.revision ON revision.id = before.revision_id
                WHERE revision.study_id = study.id AND before.id < score.id AND result.kind = 'sr'
            )
    """)


def downgrade() -> None:
    op.execute("UPDATE vigil.schema_support SET oldest = '0015'")
    op.drop_column("score", "retraction", schema="vigil")
    _allow((*MOVES, *NEW_MOVES, BACK))
    op.execute(
        "UPDATE vigil.delivery SET status = 'undelivered', error = 'a newer score took its place'"
        " WHERE status = 'withdrawn'"
    )
    _allow(MOVES)
    _check("ended_has_a_time", "status NOT IN ('stored', 'undelivered') OR ended_at IS NOT NULL")
    _check("deliverystatus", f"status IN ({_listed(STATUSES)})")


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(f"'{code}'" for code in codes)


def _check(name: str, condition: str) -> None:
    constraint = op.f(f"ck_delivery_{name}")
    op.drop_constraint(constraint, "delivery", schema="vigil")
    op.create_check_constraint(constraint, "delivery", condition, schema="vigil")


def _allow(moves: Iterable[tuple[str, str]]) -> None:
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
