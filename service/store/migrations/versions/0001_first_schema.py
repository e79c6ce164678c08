"""First schema: the domain tables in ``vigil`` and the engine's packaged SQL in ``procrastinate``."""

import psycopg
import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE SCHEMA vigil")
    op.execute("CREATE SCHEMA procrastinate")
    engine()
    domain()
    audit_is_append_only()


def engine() -> None:
    """Procrastinate's own SQL, forward only, in its own schema: engine rows are disposable."""
    op.execute("SET LOCAL search_path TO procrastinate")
    # The driver's cursor: the script holds many statements and percent signs.
    driver = op.get_bind().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - one dialect, one driver (design §4)
    driver.execute(SchemaManager.get_schema())
    op.execute("SET LOCAL search_path TO vigil, procrastinate")


def audit_is_append_only() -> None:
    """Nobody who comes through the database changes or removes an audit row."""
    op.execute("""
        CREATE FUNCTION vigil.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'audit rows are append-only'; END $$
    """)
    op.execute("""
        CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON vigil.audit
        FOR EACH ROW EXECUTE FUNCTION vigil.refuse_audit_change()
    """)
    op.execute("""
        CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON vigil.audit
        FOR EACH STATEMENT EXECUTE FUNCTION vigil.refuse_audit_change()
    """)


def domain() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("study_key", sa.Text(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
        schema="vigil",
    )
    op.create_index(op.f("ix_vigil_audit_study_key"), "audit", ["study_key"], unique=False, schema="vigil")
    op.create_table(
        "study",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "received",
                "complete",
                "queued",
                "scored",
                "not_assessable",
                "failed",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="10", nullable=False),
        sa.Column("modality", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("sender", sa.Text(), server_default="", nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_instance_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_pending", sa.Boolean(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_by", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'not_assessable') <= (reason IS NOT NULL)",
            name=op.f("ck_study_not_assessable_has_a_reason"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("key", name=op.f("uq_study_key")),
        schema="vigil",
    )
    op.create_index(
        "ix_study_pending",
        "study",
        ["id"],
        unique=False,
        schema="vigil",
        postgresql_where=sa.text("is_pending"),
    )
    op.create_index(op.f("ix_vigil_study_state"), "study", ["state"], unique=False, schema="vigil")
    op.create_table(
        "instance",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("is_own", sa.Boolean(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_revision", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["vigil.study.id"], name=op.f("fk_instance_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("study_id", "file_name", name=op.f("uq_instance_study_id_file_name")),
        schema="vigil",
    )
    op.create_table(
        "revision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("completed_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["vigil.study.id"], name=op.f("fk_revision_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
        sa.UniqueConstraint("study_id", "content_hash", name=op.f("uq_revision_study_id_content_hash")),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_revision_study_id_number")),
        schema="vigil",
    )
    op.create_table(
        "score",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("model_hash", sa.Text(), nullable=False),
        sa.Column("config_digest", sa.Text(), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "received",
                "complete",
                "queued",
                "scored",
                "not_assessable",
                "failed",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("study_score", sa.Float(), nullable=True),
        sa.Column("p_value", sa.Float(), nullable=True),
        sa.Column("model_name", sa.Text(), server_default="", nullable=False),
        sa.Column("model_version", sa.Text(), server_default="", nullable=False),
        sa.Column("reference_group", sa.Text(), server_default="", nullable=False),
        sa.Column("reference_n", sa.Integer(), nullable=True),
        sa.Column("calibration_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("scored_series", sa.Text(), server_default="", nullable=False),
        sa.Column("series", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("heads", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("regions", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("pictures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'scored') = (p_value IS NOT NULL)", name=op.f("ck_score_scored_has_a_p_value")
        ),
        sa.CheckConstraint("p_value > 0 AND p_value <= 1", name=op.f("ck_score_p_value_is_a_probability")),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["vigil.revision.id"], name=op.f("fk_score_revision_id_revision")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score")),
        sa.UniqueConstraint(
            "revision_id",
            "model_hash",
            "config_digest",
            name=op.f("uq_score_revision_id_model_hash_config_digest"),
        ),
        schema="vigil",
    )
    op.create_index(op.f("ix_vigil_score_state"), "score", ["state"], unique=False, schema="vigil")
    op.create_table(
        "result",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("score_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["score_id"], ["vigil.score.id"], name=op.f("fk_result_score_id_score")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sa.UniqueConstraint("score_id", "kind", name=op.f("uq_result_score_id_kind")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_result_sop_instance_uid")),
        schema="vigil",
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("result_id", sa.BigInteger(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "waiting",
                "delivered",
                "stored",
                "undelivered",
                name="deliverystatus",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("answer", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["result_id"], ["vigil.result.id"], name=op.f("fk_delivery_result_id_result")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("result_id", "destination", name=op.f("uq_delivery_result_id_destination")),
        schema="vigil",
    )
    op.create_index(op.f("ix_vigil_delivery_status"), "delivery", ["status"], unique=False, schema="vigil")
