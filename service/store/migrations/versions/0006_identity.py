"""Whom a study is about, for lists that show it masked and messages that must name it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("study_id", sa.BigInteger(), sa.ForeignKey("vigil.study.id"), primary_key=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("study_uid", "name", "patient_id", "issuer", "accession_number", "sex")
        ),
        sa.Column("birth_date", sa.Date(), nullable=True),
        sa.Column("age_years", sa.Float(), nullable=True),
        schema="vigil",
    )
    for name in ("study_uid", "accession_number"):
        op.create_index(f"ix_vigil_identity_{name}", "identity", [name], schema="vigil")


def downgrade() -> None:
    op.drop_table("identity", schema="vigil")
