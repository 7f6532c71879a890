"""The first layout."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.DateTime(timezone=True)


def _id() -> sa.Column[int]:
    return sa.Column("id", ID, primary_key=True)


def _ref(table: str, name: str, target: str, *, nullable: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey(f"{target}.id", name=f"fk_{table}_{name}")
    return sa.Column(name, ID, key, nullable=nullable)


def upgrade() -> None:
    """An empty database becomes a state store."""
    _pipelines()
    _runs_and_models()
    _windows()
    _jobs_and_batches()
    _rejects_and_leases()


def _pipelines() -> None:
    op.create_table(
        "pipelines",
        _id(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("home_id", sa.Text, nullable=False),
        sa.Column("job_number", sa.BigInteger, nullable=False),
        sa.Column("delivery_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("name", name="uq_pipelines_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "destinations",
        _id(),
        _ref("destinations", "pipeline_id", "pipelines"),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("account", sa.Text),
        sa.Column("key_fingerprint", sa.Text, nullable=False),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.UniqueConstraint("pipeline_id", name="uq_destinations_pipeline_id"),
        sqlite_autoincrement=True,
    )


def _runs_and_models() -> None:
    op.create_table(
        "runs",
        _id(),
        _ref("runs", "pipeline_id", "pipelines"),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("args", sa.JSON, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("exit_code", sa.Integer),
        sa.Column("results", sa.JSON),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_pipeline_id", "runs", ["pipeline_id"])
    op.create_table(
        "models",
        _id(),
        _ref("models", "pipeline_id", "pipelines"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("event", sa.Text),
        sa.Column("unique_key", sa.JSON),
        sa.Column("cursor_column", sa.Text),
        sa.Column("cursor_kind", sa.Text),
        sa.Column("cursor", sa.Text),
        sa.Column("properties", sa.JSON),
        sa.Column("settled_window_id", ID),
        sa.Column("settled_at", TIME),
        sa.Column("merged_seq", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("pipeline_id", "name", name="uq_models_pipeline_id_name"),
        sqlite_autoincrement=True,
    )


def _windows() -> None:
    op.create_table(
        "windows",
        _id(),
        _ref("windows", "run_id", "runs"),
        _ref("windows", "model_id", "models"),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cursor_column", sa.Text),
        sa.Column("cursor_kind", sa.Text),
        sa.Column("cursor_from", sa.Text),
        sa.Column("cursor_to", sa.Text),
        sa.Column("unique_key", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("sealed_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("counts", sa.JSON),
        sa.Column("properties", sa.JSON),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_windows_run_id", "windows", ["run_id"])
    op.create_index("ix_windows_model_id", "windows", ["model_id"])
    unsettled = sa.text("state IN ('extracting', 'ready')")
    op.create_index(
        "uq_windows_unsettled", "windows", ["model_id"], unique=True,
        sqlite_where=unsettled, postgresql_where=unsettled,
    )  # fmt: skip


def _jobs_and_batches() -> None:
    op.create_table(
        "jobs",
        _id(),
        _ref("jobs", "pipeline_id", "pipelines"),
        _ref("jobs", "run_id", "runs"),
        _ref("jobs", "destination_id", "destinations"),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("remote_id", sa.Text),
        sa.Column("links", sa.Text),
        sa.Column("remote_status", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("total_rows", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("answer", sa.JSON),
        sa.Column("intended_at", TIME, nullable=False),
        sa.Column("accepted_at", TIME),
        sa.Column("observed_at", TIME),
        sa.Column("ended_at", TIME),
        sa.UniqueConstraint("pipeline_id", "number", name="uq_jobs_pipeline_id_number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_run_id", "jobs", ["run_id"])
    op.create_index("ix_jobs_destination_id", "jobs", ["destination_id"])
    flying = sa.text("state IN ('intent', 'accepted')")
    op.create_index(
        "uq_jobs_in_flight", "jobs", ["destination_id"], unique=True, sqlite_where=flying, postgresql_where=flying
    )
    op.create_table(
        "batches",
        _id(),
        _ref("batches", "window_id", "windows"),
        _ref("batches", "parent_id", "batches", nullable=True),
        _ref("batches", "job_id", "jobs", nullable=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("split", sa.Boolean, nullable=False),
        sa.Column("delivery_seq", sa.BigInteger),
        sa.Column("settled_at", TIME),
        sa.UniqueConstraint("window_id", "number", name="uq_batches_window_id_number"),
        sa.UniqueConstraint("window_id", "name", name="uq_batches_window_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batches_parent_id", "batches", ["parent_id"])
    op.create_index("ix_batches_job_id", "batches", ["job_id"])
    op.create_table(
        "job_batches",
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id", name="fk_job_batches_job_id"), nullable=False),
        sa.Column("batch_id", ID, sa.ForeignKey("batches.id", name="fk_job_batches_batch_id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "batch_id", name="pk_job_batches"),
        sa.UniqueConstraint("job_id", "position", name="uq_job_batches_job_id_position"),
    )
    op.create_index("ix_job_batches_batch_id", "job_batches", ["batch_id"])


def _rejects_and_leases() -> None:
    op.create_table(
        "rejects",
        _id(),
        _ref("rejects", "model_id", "models"),
        _ref("rejects", "window_id", "windows"),
        _ref("rejects", "first_run", "runs"),
        _ref("rejects", "last_run", "runs"),
        sa.Column("batch_name", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("key_hash", sa.LargeBinary, nullable=False),
        sa.Column("row_hash", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("closed_at", TIME),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rejects_model_id_state", "rejects", ["model_id", "state"])
    for column in ("window_id", "first_run", "last_run"):
        op.create_index(f"ix_rejects_{column}", "rejects", [column])
    standing = sa.text("state <> 'resolved'")
    op.create_index(
        "uq_rejects_standing", "rejects", ["model_id", "key_hash", "row_hash"], unique=True,
        sqlite_where=standing, postgresql_where=standing,
    )  # fmt: skip
    op.create_table(
        "leases",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_leases"),
    )
