"""Snapshots that lie in the warehouse (`snapshot.where: warehouse`), and who writes them.

    "sent.<pipeline>.<model>"     key_hash, row_hash, inserted_at, batch      one row a delivered key
    "merged.<pipeline>.<model>"   merged, known, hashes                       one row: last delivery, keys, version
    "taken.<pipeline>.<model>"    as `sent`                                   what is about to go in; soon gone
    "….<pipeline>.<model>_aside~…"                                            what the last reset set aside

`inserted_at` is the latest that was sent of the key, `known` the number of rows of `sent`.

A model is read in a session that cannot write. This one can: it is opened for a merge, and closed right after it. The
rows of a delivery and the number of that delivery go in together, in one transaction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import Engine, name_literal, text_literal

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL, the least of the three."""

_PLAIN = re.compile(r"[a-z0-9_.-]+")
_COLUMNS = "key_hash, row_hash, inserted_at, batch"


@dataclass(frozen=True)
class Tables:
    """The tables of one model, as SQL. `schema` and `name` as they are stored."""

    schema: str
    name: str

    @classmethod
    def of(cls, schema: str, pipeline: str, model: str) -> Tables:
        """No two models share their tables: a pipeline's name has no dot, and case is told apart by a digest."""
        name = f"{pipeline}.{model}"
        if not _PLAIN.fullmatch(name) or len(f"merged.{name}") > _LONGEST_NAME:
            readable = re.sub(r"[^a-z0-9_.-]", "_", name.casefold())[:32]
            name = f"{readable}~{hashlib.sha256(name.encode()).hexdigest()[:20]}"
        return cls(schema, name)

    @property
    def sent(self) -> str:
        """What was delivered, by key."""
        return self.table("sent")

    @property
    def meta(self) -> str:
        """How far it is merged."""
        return self.table("merged")

    @property
    def taken(self) -> str:
        """What is on its way in."""
        return self.table("taken")

    def table(self, kind: str) -> str:
        """The table of that kind (`sent`, `merged`, `taken`), as SQL."""
        return f"{name_literal(self.schema)}.{name_literal(self.stored(kind))}"

    def stored(self, kind: str) -> str:
        """Its name in the schema."""
        return f"{kind}.{self.name}"


@dataclass(frozen=True)
class MergedThrough:
    """How far a snapshot is merged: the last delivery, its keys, the version of its hashes."""

    merged: int
    known: int
    hashes: int


def merged_of(session: Queryable, tables: Tables) -> MergedThrough | None:
    """What a session says of a snapshot; None when a table is not there, or only just made. Raises WarehouseError."""
    if not all(_is_there(session, tables, kind) for kind in ("sent", "merged")):
        return None
    numbers = " || ' ' || ".join(f"CAST({column} AS VARCHAR)" for column in ("merged", "known", "hashes"))
    told = session.scalar(f"SELECT {numbers} FROM {tables.meta}")
    return None if told is None else MergedThrough(*map(int, told.split()))


def lacking(session: Queryable, tables: Tables) -> int:
    """How many rows the table of sent keys lacks of those that were put in; below 0 when there are more.

    One statement: a merge beside it changes both numbers at once. Raises WarehouseError.
    """
    return int(session.scalar(f"SELECT known - (SELECT count(*) FROM {tables.sent}) FROM {tables.meta}"))


def _is_there(session: Queryable, tables: Tables, kind: str) -> bool:
    if session.dialect not in _THERE:
        raise WarehouseError(
            f"snapshots cannot be kept in a warehouse of this kind ({session.dialect})",
            hint="`snapshot.where: warehouse` goes with DuckDB, PostgreSQL and Snowflake: leave it out.",
        )
    query = _THERE[session.dialect].format(
        schema=text_literal(tables.schema),
        table=text_literal(tables.stored(kind)),
        name=text_literal(tables.table(kind)),
    )
    return bool(session.scalar(query))


_IN_CATALOG = "SELECT count(*) FROM information_schema.tables WHERE table_schema = {schema} AND table_name = {table}"
_THERE = {
    "duckdb": f"{_IN_CATALOG} AND table_catalog = current_database()",
    # The information schema hides what the role may not read.
    "postgres": "SELECT count(to_regclass({name}))",
    "snowflake": _IN_CATALOG,
}
_SCHEMAS = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = {schema}"
_HAS_SCHEMA = {
    "duckdb": f"{_SCHEMAS} AND catalog_name = current_database()",
    "postgres": "SELECT count(to_regnamespace({quoted}))",
    "snowflake": _SCHEMAS,
}
_TYPES = {
    "duckdb": ("BLOB", "TIMESTAMP", "BIGINT"),
    "postgres": ("BYTEA", "TIMESTAMP", "BIGINT"),
    "snowflake": ("BINARY", "TIMESTAMP_NTZ", "NUMBER(18, 0)"),
}
_REFUSED = re.compile("permission denied|insufficient privileges|not authorized", re.IGNORECASE)
_GRANTS = (
    "the user of the sync needs CREATE on the schema, or on the database while the schema is missing, and owns the"
    " tables that it makes there."
)
_KEYED = {"duckdb": "", "postgres": " PRIMARY KEY", "snowflake": ""}


class Queryable(Protocol):
    """Of a warehouse, what answers a question; raises WarehouseError."""

    dialect: str

    def scalar(self, sql: str) -> Any:
        """The one value of a one-row, one-column query."""
        ...


class Writer(Queryable, Protocol):
    """A session of a warehouse that may write. All raise WarehouseError."""

    def execute(self, sql: str) -> None:
        """Run a statement."""
        ...

    def load(self, tables: Tables, rows: pa.RecordBatchReader) -> str:
        """Put these rows (`key_hash`, `row_hash`, `inserted_at`, `batch`) into a table; gives its name as SQL."""
        ...

    def unload(self, tables: Tables) -> None:
        """Let that table go, where it does not go by itself."""
        ...

    def close(self) -> None:
        """Let go of the session."""
        ...


class SnapshotWriter:
    """The writing side of a pipeline's snapshots in one schema. Every method raises WarehouseError."""

    def __init__(self, writer: Writer, schema: str) -> None:
        self._writer = writer
        self.schema = schema

    def tables(self, pipeline: str, model: str) -> Tables:
        """The tables of a model."""
        return Tables.of(self.schema, pipeline, model)

    def aside(self, pipeline: str, model: str) -> Tables:
        """What the last reset of a model set aside. No model's name has a slash."""
        return Tables.of(self.schema, pipeline, f"{model}/aside")

    @property
    def session(self) -> Queryable:
        """What can be asked how far a snapshot is merged."""
        return self._writer

    def prepare(self, tables: Tables, hashes: int) -> MergedThrough:
        """Create what is missing; `hashes`: the version of those that will be stored. Gives how far it is merged."""
        with self._border():
            _is_there(self._writer, tables, "merged")
            return self._prepare(tables, hashes)

    def _prepare(self, tables: Tables, hashes: int) -> MergedThrough:
        writer = self._writer
        binary, moment, number = _TYPES[writer.dialect]
        if not self._has_schema():
            writer.execute(f"CREATE SCHEMA IF NOT EXISTS {name_literal(self.schema)}")
        writer.execute(
            f"CREATE TABLE IF NOT EXISTS {tables.sent} (key_hash {binary} NOT NULL{_KEYED[writer.dialect]},"
            f" row_hash {binary} NOT NULL, inserted_at {moment}, batch {number})"
        )
        writer.execute(
            f"CREATE TABLE IF NOT EXISTS {tables.meta}"
            f" (merged {number} NOT NULL, known {number} NOT NULL, hashes {number} NOT NULL)"
        )
        # A kill between the two leaves a table without its row.
        writer.execute(
            f"INSERT INTO {tables.meta} (merged, known, hashes) SELECT 0, 0, {hashes}"
            f" FROM (SELECT count(*) AS n FROM {tables.meta}) AS there WHERE there.n = 0"
        )
        found = merged_of(writer, tables)
        if found is None:
            raise WarehouseError(f"{tables.meta} cannot be read", hint="it belongs to another role.")
        return found

    def merge(
        self, tables: Tables, rows: pa.RecordBatchReader, upto: int, sure: Callable[[], None] = lambda: None
    ) -> None:
        """Replace the rows of every key in `rows` (one row a key), and record `upto` as the last merged delivery.

        Of `inserted_at` the latest stays that was ever sent for a key, as Userpilot has it.
        """
        writer = self._writer
        with self._border():
            taken = writer.load(tables, rows)
        try:
            with self._border(), self._transaction():
                replaced = f"SELECT count(*) FROM {tables.sent} AS s JOIN {taken} AS t ON t.key_hash = s.key_hash"
                new = int(writer.scalar(f"SELECT count(*) FROM {taken}")) - int(writer.scalar(replaced))
                writer.execute(
                    f"UPDATE {taken} SET inserted_at = sent_at"
                    f" FROM (SELECT key_hash AS sent_key, inserted_at AS sent_at FROM {tables.sent}) AS s"
                    " WHERE sent_key = key_hash AND sent_at > inserted_at"
                )
                writer.execute(f"DELETE FROM {tables.sent} WHERE key_hash IN (SELECT key_hash FROM {taken})")
                writer.execute(f"INSERT INTO {tables.sent} ({_COLUMNS}) SELECT {_COLUMNS} FROM {taken}")
                writer.execute(f"UPDATE {tables.meta} SET merged = {upto}, known = known + {new}")
                checkpoint("snapshot_written")
                sure()
        finally:
            writer.unload(tables)
        checkpoint("snapshot_published")

    def drop(self, tables: Tables) -> None:
        """Forget a model: its tables go."""
        with self._border():
            if self._has_schema():
                for table in (tables.meta, tables.sent, tables.taken):
                    self._writer.execute(f"DROP TABLE IF EXISTS {table}")

    def rename(self, before: Tables, after: Tables) -> None:
        """Give a model's tables to another name; what was renamed already is passed over: it can be done again."""
        writer = self._writer
        with self._border():
            kinds = [kind for kind in ("sent", "merged") if _is_there(writer, before, kind)]
            # `merged` goes last, so that one that is there is not of a rename that was broken off: both are old.
            if kinds and _is_there(writer, after, "merged"):
                for kind in ("sent", "merged"):
                    writer.execute(f"DROP TABLE IF EXISTS {after.table(kind)}")
            for kind in kinds:
                writer.execute(f"DROP TABLE IF EXISTS {after.table(kind)}")
                new = after.table(kind) if writer.dialect == "snowflake" else name_literal(after.stored(kind))
                writer.execute(f"ALTER TABLE {before.table(kind)} RENAME TO {new}")

    def put_back(self, pipeline: str, ends: Mapping[str, Set[int]], others: Sequence[str]) -> None:
        """Let models have the snapshots that an older state knows, where they are still there, under whatever name.

        `ends`: by model, the deliveries that its snapshot may end with, 0 for none; a delivery's number is one model's
        alone. `others`: models that the older state does not know: they start over. Can be done again.
        """
        for model, wanted in ends.items():
            own, aside = self.tables(pipeline, model), self.aside(pipeline, model)
            spare = Tables.of(self.schema, pipeline, f"{model}/spare")
            places = [aside, *(self.tables(pipeline, other) for other in others)]
            for place in places:
                self._go_on(place, own)
            if self._end(own) not in wanted:
                found = [place for place in places if self._end(place) in wanted - {0}]
                if not found and 0 not in wanted:
                    continue  # the model stops, and says what it misses
                self.rename(own, spare)
                for place in found[:1]:
                    self.rename(place, own)
            self.rename(spare, aside)
        for other in others:
            self.rename(self.tables(pipeline, other), self.aside(pipeline, other))

    def _go_on(self, before: Tables, after: Tables) -> None:
        """Bring a rename to its end that was broken off between the two tables."""
        with self._border():
            half = [(before, "merged"), (after, "sent")]
            other = [(before, "sent"), (after, "merged")]
            is_half = all(_is_there(self._writer, *one) for one in half) and not any(
                _is_there(self._writer, *one) for one in other
            )
        if is_half:
            self.rename(before, after)

    def _end(self, tables: Tables) -> int:
        """The last delivery in a snapshot, 0 for none."""
        with self._border():
            found = merged_of(self._writer, tables)
        return found.merged if found else 0

    def check(self) -> str:
        """One line for `debug`: a table is made in the schema, written and dropped again."""
        probe = Tables(self.schema, "~probe")
        try:
            self.prepare(probe, 0)
        finally:
            self.drop(probe)
        return f"schema {self.schema} of the warehouse: tables can be made, written and dropped"

    def close(self) -> None:
        """Let go of the session, so that others can write."""
        self._writer.close()

    def _has_schema(self) -> bool:
        schema, quoted = text_literal(self.schema), text_literal(name_literal(self.schema))
        query = _HAS_SCHEMA[self._writer.dialect].format(schema=schema, quoted=quoted)
        return bool(self._writer.scalar(query))

    @contextmanager
    def _border(self) -> Iterator[None]:
        """The session's errors speak of reading a model."""
        try:
            yield
        except WarehouseError as error:
            what = error.message.replace(" while it read this model", "").replace(" while this model was read", "")
            raise WarehouseError(
                f"snapshots cannot be kept in schema `{self.schema}` of the warehouse (`snapshot.schema`): {what}",
                hint=_GRANTS if _REFUSED.search(what) else error.hint,
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            # Where the session is gone, what it began is gone with it.
            with suppress(WarehouseError):
                self._writer.execute("ROLLBACK")
            raise


@dataclass(frozen=True)
class SnapshotSchema:
    """Where a pipeline's snapshots lie: a warehouse of that `kind` with these `settings`, and a schema in it."""

    kind: str
    settings: Mapping[str, Any] = field(repr=False)
    engine: Engine
    schema: str
    label: str = ""

    def tables(self, pipeline: str, model: str) -> Tables:
        """The tables of a model."""
        return Tables.of(self.stored_schema, pipeline, model)

    @property
    def stored_schema(self) -> str:
        """The schema's name as the warehouse stores it: Snowflake folds a plain name to upper case."""
        folds = self.kind == "snowflake" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", self.schema)
        return self.schema.upper() if folds else self.schema

    @contextmanager
    def open(self) -> Iterator[SnapshotWriter]:
        """The writing side, for as long as it is needed. Raises WarehouseError."""
        from warehouse_sync.warehouses.snapshot_writers import writer

        keeper = SnapshotWriter(writer(self.kind, self.settings, self.engine, self.label), self.stored_schema)
        try:
            yield keeper
        finally:
            keeper.close()


__all__ = ["MergedThrough", "Queryable", "SnapshotSchema", "SnapshotWriter", "Tables", "Writer", "lacking", "merged_of"]
