"""The tables of the state store, for SQLite and PostgreSQL.

Names live in `pipelines` and `models` only, so that renaming one is one row. Ids are never used twice. Times are UTC.
A change here needs a numbered migration in `migrations/versions` and its number in `REVISION`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from warehouse_sync.state.lifecycle import BatchState, JobState, RejectKind, RejectState, WindowState
from warehouse_sync.values import CursorKind, EventType

REVISION = "0004"
VERSION_TABLE = "warehouse_sync_version"
SCHEMA = "warehouse_sync"


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite keeps no zone, so it is taken off and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a naive datetime is a fault of this program."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the state store takes aware datetimes only")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Word(TypeDecorator[StrEnum]):
    """A StrEnum by its value; a word that this version does not know is a ValueError."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | str | None, dialect: Dialect) -> str | None:
        """The plain text: drivers differ in what they make of an enum."""
        return None if value is None else self.words(value).value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> StrEnum | None:
        """The member."""
        return None if value is None else self.words(value)


NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
metadata = MetaData(naming_convention=NAMES)

# SQLite gives numbers only to INTEGER primary keys; PostgreSQL's INTEGER would end at 2^31.
Id = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)


# The conditions of partial indexes: what is over stays for ever, and nobody walks through it. Statements that want such
# an index say its condition in the same words, with no bound values in it.
STANDING = text("state <> 'resolved'")
OPEN_WINDOWS = "state IN ('extracting', 'ready')"
OPEN_JOBS = "state IN ('intent', 'accepted', 'held')"
OPEN_BATCHES = "state IN ('sealed', 'sent', 'held')"
IN_FLIGHT_JOBS = "state IN ('intent', 'accepted')"


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True)


def _ref(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), nullable=nullable)


pipelines = Table(
    "pipelines",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("home_id", Text, nullable=False),
    # Counters survive a reset: a file name is never used twice, and a forgotten snapshot never looks up to date.
    Column("job_number", BigInteger, nullable=False),
    Column("delivery_seq", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,
)

destinations = Table(
    "destinations",
    metadata,
    _id(),
    _ref("pipeline_id", "pipelines"),
    Column("origin", Text, nullable=False),
    Column("account", Text),
    Column("key_fingerprint", Text, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    UniqueConstraint("pipeline_id"),
    sqlite_autoincrement=True,
)

runs = Table(
    "runs",
    metadata,
    _id(),
    _ref("pipeline_id", "pipelines"),
    Column("verb", Text, nullable=False),
    Column("args", Json, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("exit_code", Integer),
    Column("results", Json),
    Index(None, "pipeline_id"),
    sqlite_autoincrement=True,
)

models = Table(
    "models",
    metadata,
    _id(),
    _ref("pipeline_id", "pipelines"),
    Column("name", Text, nullable=False),
    # Empty until a batch of the model is delivered or a window of it settles.
    Column("event", Word(EventType)),
    Column("unique_key", Json),
    Column("cursor_column", Text),
    Column("cursor_kind", Word(CursorKind)),
    Column("cursor", Text),
    Column("properties", Json),
    # No foreign key: it would make a circle with windows.model_id.
    Column("settled_window_id", Id),
    Column("settled_at", UtcDateTime),
    Column("merged_seq", BigInteger, nullable=False),
    # Of the batch delivered last: where it is not beyond the merged one, there is nothing to look for.
    Column("delivered_seq", BigInteger),
    # Of the window that moved the cursor to where it stands; empty when a person put it there.
    Column("cursor_fingerprint", Text),
    UniqueConstraint("pipeline_id", "name"),
    sqlite_autoincrement=True,
)

windows = Table(
    "windows",
    metadata,
    _id(),
    _ref("run_id", "runs"),
    _ref("model_id", "models"),
    Column("event", Word(EventType), nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Word(WindowState), nullable=False),
    Column("cursor_column", Text),
    Column("cursor_kind", Word(CursorKind)),
    Column("cursor_from", Text),
    Column("cursor_to", Text),
    Column("unique_key", Json, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("sealed_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("counts", Json),
    Column("properties", Json),
    # Tells what was asked for by hand from what else was; empty in windows of layouts before 0003.
    Column("asked", Text),
    # Lag and `begin` counted in; empty when it read from the beginning on.
    Column("read_from", Text),
    Index(None, "run_id"),
    Index(None, "model_id", "id"),
    # A model with an unsettled window is not extracted again.
    Index(
        "uq_windows_unsettled",
        "model_id",
        unique=True,
        sqlite_where=text(OPEN_WINDOWS),
        postgresql_where=text(OPEN_WINDOWS),
    ),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _ref("pipeline_id", "pipelines"),
    _ref("run_id", "runs"),
    _ref("destination_id", "destinations"),
    Column("number", BigInteger, nullable=False),
    Column("filename", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("state", Word(JobState), nullable=False),
    Column("remote_id", Text),
    Column("links", Text),
    Column("remote_status", Text),
    Column("request_id", Text),
    Column("total_rows", BigInteger),
    Column("reason", Text),
    Column("answer", Json),
    Column("intended_at", UtcDateTime, nullable=False),
    Column("accepted_at", UtcDateTime),
    Column("observed_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    UniqueConstraint("pipeline_id", "number"),
    Index(None, "run_id"),
    Index(None, "destination_id"),
    Index("ix_jobs_open", "pipeline_id", sqlite_where=text(OPEN_JOBS), postgresql_where=text(OPEN_JOBS)),
    # The API takes one job at a time.
    Index(
        "uq_jobs_in_flight",
        "destination_id",
        unique=True,
        sqlite_where=text(IN_FLIGHT_JOBS),
        postgresql_where=text(IN_FLIGHT_JOBS),
    ),
    sqlite_autoincrement=True,
)

batches = Table(
    "batches",
    metadata,
    _id(),
    _ref("window_id", "windows"),
    _ref("parent_id", "batches", nullable=True),
    # The job that has it now, or that delivered it; every job that ever had it is in job_batches.
    _ref("job_id", "jobs", nullable=True),
    Column("number", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("state", Word(BatchState), nullable=False),
    # True when children and rejects took over all its rows: superseded, and yet nothing has to be read again.
    Column("split", Boolean, nullable=False),
    Column("delivery_seq", BigInteger),
    Column("settled_at", UtcDateTime),
    UniqueConstraint("window_id", "number"),
    UniqueConstraint("window_id", "name"),
    Index(None, "parent_id"),
    Index(None, "job_id"),
    Index(None, "delivery_seq"),
    Index("ix_batches_open", "id", sqlite_where=text(OPEN_BATCHES), postgresql_where=text(OPEN_BATCHES)),
    sqlite_autoincrement=True,
)

job_batches = Table(
    "job_batches",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("batch_id", Id, ForeignKey("batches.id"), primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    UniqueConstraint("job_id", "position"),
    Index(None, "batch_id"),
)

rejects = Table(
    "rejects",
    metadata,
    _id(),
    _ref("model_id", "models"),
    # The last window that met it, and the runs that met it first and last.
    _ref("window_id", "windows"),
    _ref("first_run", "runs"),
    _ref("last_run", "runs"),
    Column("batch_name", Text, nullable=False),
    Column("key", Text),
    # Empty bytes when the model has no key, because NULLs are never equal to each other.
    Column("key_hash", LargeBinary, nullable=False),
    Column("row_hash", LargeBinary, nullable=False),
    Column("kind", Word(RejectKind), nullable=False),
    Column("reasons", Json, nullable=False),
    Column("state", Word(RejectState), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Index(None, "model_id", "state"),
    Index(None, "window_id"),
    Index(None, "first_run"),
    Index(None, "last_run"),
    Index(
        "uq_rejects_standing",
        "model_id",
        "key_hash",
        "row_hash",
        unique=True,
        sqlite_where=STANDING,
        postgresql_where=STANDING,
    ),
    sqlite_autoincrement=True,
)

leases = Table(
    "leases",
    metadata,
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
