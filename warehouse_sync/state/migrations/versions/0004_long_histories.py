"""Where a window began to read, whatever it was read for; what is at work is found without looking at what is over."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Windows without a key had no lag; of others nobody knows any more how far theirs went back."""
    op.add_column("windows", sa.Column("read_from", sa.Text))
    op.execute("UPDATE windows SET read_from = cursor_from WHERE CAST(unique_key AS TEXT) = '[]'")
    _indexes()
    _delivered()
    _jobs_without_batches()
    _blank_keys()


def _indexes() -> None:
    op.drop_index("ix_windows_model_id", "windows")
    op.create_index("ix_windows_model_id_id", "windows", ["model_id", "id"])
    op.create_index("ix_batches_delivery_seq", "batches", ["delivery_seq"])
    for table, column, states in (
        ("batches", "id", "'sealed', 'sent', 'held'"),
        ("jobs", "pipeline_id", "'intent', 'accepted', 'held'"),
    ):
        is_open = sa.text(f"state IN ({states})")
        op.create_index(f"ix_{table}_open", table, [column], sqlite_where=is_open, postgresql_where=is_open)


def _delivered() -> None:
    op.add_column("models", sa.Column("delivered_seq", sa.BigInteger))
    op.execute(
        "UPDATE models SET delivered_seq = (SELECT max(b.delivery_seq) FROM batches AS b"
        " JOIN windows AS w ON w.id = b.window_id WHERE w.model_id = models.id)"
    )


def _jobs_without_batches() -> None:
    """A reset of a model left them on their way, and no run could end them."""
    for state, before in (("lost", "'intent'"), ("failed", "'accepted', 'held'")):
        op.execute(
            f"UPDATE jobs SET state = '{state}', ended_at = CURRENT_TIMESTAMP, reason = 'its rows were forgotten by"
            f" hand' WHERE state IN ({before}) AND NOT EXISTS (SELECT 1 FROM job_batches WHERE job_id = jobs.id)"
        )


def _blank_keys() -> None:
    """A blank id is no key any more. Resolved rows keep what they had."""
    empty = "''::bytea" if op.get_bind().dialect.name == "postgresql" else "x''"
    op.execute(
        f"UPDATE rejects SET key = NULL, key_hash = {empty} WHERE state <> 'resolved' AND trim(key) = ''"
        " AND (CAST(reasons AS TEXT) LIKE '%user_id_missing%' OR CAST(reasons AS TEXT) LIKE '%company_id_missing%')"
    )
