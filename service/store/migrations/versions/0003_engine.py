"""The database refuses illegal moves. Parking, times of the stages, and which release may work here."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

# As `service.study` had them when this was written; a test compares what PostgreSQL allows with it.
STUDY_MOVES = (
    ("received", "complete"),
    ("complete", "queued"),
    ("queued", "scored"),
    ("queued", "not_assessable"),
    ("queued", "failed"),
    ("queued", "complete"),
    ("scored", "complete"),
    ("not_assessable", "complete"),
    ("failed", "complete"),
    ("failed", "queued"),
)
SCORE_MOVES = (("queued", "scored"), ("queued", "not_assessable"), ("queued", "failed"), ("failed", "queued"))
DELIVERY_MOVES = (
    ("waiting", "delivered"),
    ("waiting", "undelivered"),
    ("delivered", "stored"),
    ("delivered", "waiting"),
    ("delivered", "undelivered"),
    ("undelivered", "waiting"),
)
ENDED = "('scored', 'not_assessable', 'failed')"


def upgrade() -> None:
    columns()
    repair()
    checks()
    for table, column, moves in (
        ("study", "state", STUDY_MOVES),
        ("score", "state", SCORE_MOVES),
        ("delivery", "status", DELIVERY_MOVES),
    ):
        refuse_other_moves(table, column, moves)
    priority_never_falls()
    op.execute(
        "CREATE INDEX vigil_jobs_by_row ON procrastinate.procrastinate_jobs"
        " (queue_name, ((args->>'row_id')::bigint))"
    )
    # The oldest release, by its newest migration, that may work on this schema. Later migrations raise it
    # where they change or take away what an older release reads or writes.
    op.execute("CREATE TABLE vigil.schema_support (oldest text NOT NULL)")
    op.execute("INSERT INTO vigil.schema_support VALUES ('0003')")


def downgrade() -> None:
    op.execute("DROP TABLE vigil.schema_support")
    op.execute("DROP INDEX procrastinate.vigil_jobs_by_row")
    for name in ("illegal_study_move", "illegal_score_move", "illegal_delivery_move", "lower_priority"):
        op.execute(f"DROP FUNCTION vigil.refuse_{name} CASCADE")  # with its trigger
    for table, names in (
        ("study", ("failed_has_a_reason", "ended_has_a_time", "complete_has_a_time")),
        ("score", ("scored_has_a_score", "unscored_has_a_reason", "ended_has_a_time", "is_born_queued")),
        ("delivery", ("waiting_has_no_end", "ended_has_a_time", "undelivered_has_a_reason")),
    ):
        for name in names:
            op.drop_constraint(op.f(f"ck_{table}_{name}"), table, schema="vigil")
    for table in ("parked_destination", "heartbeat"):
        op.drop_table(table, schema="vigil")
    for table, column in (
        ("study", "parked_at"),
        *(("score", name) for name in ("began_at", "seconds")),
        *(("delivery", name) for name in ("began_at", "delivered_at", "seconds")),
    ):
        op.drop_column(table, column, schema="vigil")


def columns() -> None:
    at = sa.DateTime(timezone=True)
    for table, column in (
        ("study", sa.Column("parked_at", at, nullable=True)),
        ("score", sa.Column("began_at", at, nullable=True)),
        ("score", sa.Column("seconds", postgresql.JSONB(), server_default="{}", nullable=False)),
        ("delivery", sa.Column("began_at", at, nullable=True)),
        ("delivery", sa.Column("delivered_at", at, nullable=True)),
        ("delivery", sa.Column("seconds", sa.Float(), server_default="0", nullable=False)),
    ):
        op.add_column(table, column, schema="vigil")
    op.create_table(
        "parked_destination",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parked_at", at, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_parked_destination")),
        schema="vigil",
    )
    op.create_table(
        "heartbeat",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", at, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeat")),
        schema="vigil",
    )


def repair() -> None:
    """Bring rows of an earlier release under the rules that follow."""
    for table in ("study", "score"):
        op.execute(
            f"UPDATE vigil.{table} SET ended_at = CASE WHEN state IN {ENDED}"  # noqa: S608 - literals above
            " THEN coalesce(ended_at, now()) END"
            f" WHERE (state IN {ENDED}) <> (ended_at IS NOT NULL)"
        )
        op.execute(
            f"UPDATE vigil.{table} SET reason = 'attempts_used_up'"  # noqa: S608 - literals above
            " WHERE state IN ('failed', 'not_assessable') AND reason IS NULL"
        )
    op.execute(
        "UPDATE vigil.study SET completed_at = last_instance_at"
        " WHERE state <> 'received' AND completed_at IS NULL"
    )
    op.execute(
        "UPDATE vigil.delivery SET ended_at = CASE WHEN status = 'waiting' THEN NULL ELSE now() END"
        " WHERE (status = 'waiting' AND ended_at IS NOT NULL)"
        " OR (status IN ('stored', 'undelivered') AND ended_at IS NULL)"
    )
    op.execute(
        "UPDATE vigil.delivery SET error = 'unknown'"
        " WHERE status = 'undelivered' AND error = '' AND fallback IS NULL"
    )


def checks() -> None:
    ended_has_a_time = f"(state IN {ENDED}) = (ended_at IS NOT NULL)"
    for table, name, condition in (
        ("study", "failed_has_a_reason", "(state = 'failed') <= (reason IS NOT NULL)"),
        ("study", "ended_has_a_time", ended_has_a_time),
        ("study", "complete_has_a_time", "state = 'received' OR completed_at IS NOT NULL"),
        ("score", "scored_has_a_score", "(state = 'scored') = (study_score IS NOT NULL)"),
        ("score", "unscored_has_a_reason", "state NOT IN ('not_assessable', 'failed') OR reason IS NOT NULL"),
        ("score", "ended_has_a_time", ended_has_a_time),
        ("score", "is_born_queued", "state NOT IN ('received', 'complete')"),
        ("delivery", "waiting_has_no_end", "status <> 'waiting' OR ended_at IS NULL"),
        (
            "delivery",
            "ended_has_a_time",
            "status NOT IN ('stored', 'undelivered') OR ended_at IS NOT NULL",
        ),
        (
            "delivery",
            "undelivered_has_a_reason",
            "status <> 'undelivered' OR error <> '' OR fallback IS NOT NULL",
        ),
    ):
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition, schema="vigil")


def refuse_other_moves(table: str, column: str, moves: tuple[tuple[str, str], ...]) -> None:
    allowed = ", ".join(f"('{before}', '{after}')" for before, after in moves)
    op.execute(f"""
        CREATE FUNCTION vigil.refuse_illegal_{table}_move() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.{column}, NEW.{column}) NOT IN ({allowed}) THEN
                RAISE EXCEPTION 'a {table} cannot go from % to %', OLD.{column}, NEW.{column}
                    USING ERRCODE = 'check_violation', CONSTRAINT = '{table}_moves';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute(f"""
        CREATE TRIGGER {table}_moves BEFORE UPDATE OF {column} ON vigil.{table} FOR EACH ROW
        WHEN (OLD.{column} IS DISTINCT FROM NEW.{column})
        EXECUTE FUNCTION vigil.refuse_illegal_{table}_move()
    """)


def priority_never_falls() -> None:
    """No priority given by a person or an order is lowered (I12)."""
    op.execute("""
        CREATE FUNCTION vigil.refuse_lower_priority() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a priority is never lowered'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'study_priority';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER study_priority BEFORE UPDATE OF priority ON vigil.study FOR EACH ROW
        WHEN (NEW.priority < OLD.priority) EXECUTE FUNCTION vigil.refuse_lower_priority()
    """)
