"""Where a study stands on the list is kept beside it, so that a page of the list is an index scan.

Triggers keep it: whoever writes a state, a score, a revision or a mark, the place follows in the same
transaction, and nobody can write a place of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

# As `service.study` had them when this was written. Bands: 0 unjudged, 1 ranked, 2 pending.
RANKED = 1
ROUTINE, STAT = 10, 30


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    for column in (
        sa.Column("band", sa.SmallInteger(), nullable=True),
        sa.Column("score_id", sa.BigInteger(), nullable=True),
        sa.Column("p_value", sa.Float(), nullable=True),
        sa.Column("study_score", sa.Float(), nullable=True),
        sa.Column("model_name", sa.Text(), server_default="", nullable=False),
        sa.Column("seen_at", at, nullable=True),
        sa.Column("seen_by", sa.Text(), nullable=True),
        sa.Column("first_seen_at", at, nullable=True),
        sa.Column("assigned_to", sa.Text(), nullable=True),
    ):
        op.add_column("study", column, schema="vigil")
    places()
    op.execute("UPDATE vigil.study SET band = NULL")  # the trigger says where each stands
    # Nobody could mark a study as seen before. Old ones stay in their bands, but they are not news, and years
    # of them must not stand as overdue before what comes today.
    op.execute("UPDATE vigil.study SET seen_at = now(), seen_by = 'upgrade' WHERE ended_at IS NOT NULL")
    op.alter_column("study", "band", nullable=False, schema="vigil")
    checks()
    indexes()
    changes()
    op.create_table(
        "secret",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secret")),
        schema="vigil",
    )


def downgrade() -> None:
    for name in (
        *("place_study", "place_study_of_score", "place_study_of_revision"),
        *("note_study", "note_delivery", "note_change"),
    ):
        op.execute(f"DROP FUNCTION vigil.{name} CASCADE")  # with its triggers
    for table in ("secret", "change"):
        op.drop_table(table, schema="vigil")
    for name in ("modality", "sender", "unusual_priority"):
        op.drop_index(f"ix_study_{name}", "study", schema="vigil")
    op.drop_constraint(op.f("ck_study_priority_is_known"), "study", schema="vigil")
    for name in (  # checks and the other indexes go with their columns
        *("band", "score_id", "p_value", "study_score", "model_name"),
        *("seen_at", "seen_by", "first_seen_at", "assigned_to"),
    ):
        op.drop_column("study", name, schema="vigil")


def places() -> None:
    """Let the place of a study follow whatever it depends on."""
    op.execute("""
        CREATE FUNCTION vigil.place_study() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            counting record;
        BEGIN
            SELECT newest.id, newest.p_value, newest.study_score, newest.model_name INTO counting
            FROM (
                SELECT id FROM vigil.revision WHERE study_id = NEW.id ORDER BY number DESC LIMIT 1
            ) AS current
            LEFT JOIN LATERAL (
                SELECT id, p_value, study_score, model_name FROM vigil.score
                WHERE revision_id = current.id ORDER BY id DESC LIMIT 1
            ) AS newest ON true;
            NEW.score_id := counting.id;
            NEW.model_name := coalesce(counting.model_name, '');
            NEW.band := CASE
                WHEN NEW.state = 'scored' AND counting.p_value IS NOT NULL
                    AND counting.study_score IS NOT NULL THEN 1
                -- "scored" without a score, or put aside: nobody will judge it, so it may not look calm
                WHEN NEW.state IN ('scored', 'not_assessable', 'failed') OR NEW.parked_at IS NOT NULL
                    THEN 0
                ELSE 2
            END;
            NEW.p_value := CASE WHEN NEW.band = 1 THEN counting.p_value END;
            NEW.study_score := CASE WHEN NEW.band = 1 THEN counting.study_score END;
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
    """)
    op.execute(
        "CREATE TRIGGER study_place BEFORE INSERT OR UPDATE ON vigil.study FOR EACH ROW"
        " EXECUTE FUNCTION vigil.place_study()"
    )
    # A score of an older revision counts no more, and who writes it does not hold the study.
    op.execute("""
        CREATE FUNCTION vigil.place_study_of_score() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE vigil.study SET band = band WHERE id = (
                SELECT study_id FROM vigil.revision AS own WHERE id = NEW.revision_id AND NOT EXISTS (
                    SELECT FROM vigil.revision WHERE study_id = own.study_id AND number > own.number
                )
            );
            RETURN NULL;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER score_places_study"
        " AFTER INSERT OR UPDATE OF state, p_value, study_score, model_name ON vigil.score FOR EACH ROW"
        " EXECUTE FUNCTION vigil.place_study_of_score()"
    )
    op.execute("""
        CREATE FUNCTION vigil.place_study_of_revision() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE vigil.study SET band = band WHERE id = NEW.study_id;
            RETURN NULL;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER revision_places_study AFTER INSERT ON vigil.revision FOR EACH ROW"
        " EXECUTE FUNCTION vigil.place_study_of_revision()"
    )


def checks() -> None:
    for name, condition in (
        ("ranked_has_numbers", f"(band = {RANKED}) = (p_value IS NOT NULL AND study_score IS NOT NULL)"),
        ("unranked_has_none", f"band = {RANKED} OR (p_value IS NULL AND study_score IS NULL)"),
        ("priority_is_known", "priority IN (0, 10, 20, 30)"),
        ("seen_by_somebody", "(seen_at IS NULL) = (seen_by IS NULL)"),
        ("seen_was_seen_first", "seen_at IS NULL OR first_seen_at IS NOT NULL"),
    ):
        op.create_check_constraint(op.f(f"ck_study_{name}"), "study", condition, schema="vigil")


def indexes() -> None:
    numbers = "coalesce(p_value, 0), coalesce(-study_score, 0), received_at, id"
    unseen = "WHERE seen_at IS NULL"
    for name, columns, condition in (
        ("triage", f"band, priority, {numbers}", unseen),
        ("overdue", f"band, (priority >= {STAT}), received_at, id", unseen),
        ("seen", "band, seen_at, id", "WHERE seen_at IS NOT NULL"),
        ("percentile", f"band, {numbers}", ""),
        ("received", "band, received_at, id", ""),
        ("modality", "modality", ""),
        ("sender", "sender", ""),
        ("unusual_priority", "priority", f"WHERE priority <> {ROUTINE}"),
    ):
        op.execute(f"CREATE INDEX ix_study_{name} ON vigil.study ({columns}) {condition}")


def changes() -> None:
    """Notice what changed on the list, for those who watch it."""
    op.create_table(
        "change",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("study_key", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
        sa.UniqueConstraint("number", name=op.f("uq_change_number")),
        schema="vigil",
    )
    op.execute("CREATE INDEX ix_change_new ON vigil.change (study_key) WHERE number IS NULL")
    op.execute("CREATE SEQUENCE vigil.change_number OWNED BY vigil.change.number")
    op.execute("""
        CREATE FUNCTION vigil.note_change(key text, what text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO vigil.change (study_key, change) VALUES (key, what);
            PERFORM pg_notify('vigil_change', '');
        END $$
    """)
    op.execute("""
        CREATE FUNCTION vigil.note_study() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM vigil.note_change(NEW.key, CASE
                WHEN TG_OP = 'INSERT' OR OLD.state <> NEW.state THEN NEW.state
                WHEN OLD.priority <> NEW.priority THEN 'priority'
                WHEN OLD.parked_at IS DISTINCT FROM NEW.parked_at THEN 'parked'
                WHEN OLD.seen_at IS DISTINCT FROM NEW.seen_at THEN 'seen'
                WHEN OLD.assigned_to IS DISTINCT FROM NEW.assigned_to THEN 'assigned'
                ELSE 'changed'
            END);
            RETURN NULL;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER study_is_new AFTER INSERT ON vigil.study FOR EACH ROW"
        " EXECUTE FUNCTION vigil.note_study()"
    )
    shown = (
        "state, reason, detail, priority, parked_at, seen_at, assigned_to, band, score_id, p_value,"
        " study_score, is_pending, flag, modality, description, sender"
    )
    before, after = (
        ", ".join(f"{row}.{column.strip()}" for column in shown.split(",")) for row in ("OLD", "NEW")
    )
    op.execute(
        "CREATE TRIGGER study_has_changed AFTER UPDATE ON vigil.study FOR EACH ROW"
        f" WHEN (({before}) IS DISTINCT FROM ({after})) EXECUTE FUNCTION vigil.note_study()"
    )
    op.execute("""
        CREATE FUNCTION vigil.note_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM vigil.note_change(study.key, 'delivery')
            FROM vigil.result
            JOIN vigil.score ON score.id = result.score_id
            JOIN vigil.revision ON revision.id = score.revision_id
            JOIN vigil.study ON study.id = revision.study_id
            WHERE result.id = NEW.result_id;
            RETURN NULL;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER delivery_has_changed AFTER UPDATE OF status ON vigil.delivery FOR EACH ROW"
        " WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION vigil.note_delivery()"
    )
