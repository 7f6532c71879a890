"""A model's rows, ready to stream: the comparing query with all it compares with, and what it leaves aside.

A run seals them, `plan` and `explain` look at them, unit tests compare them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes import compare
from warehouse_sync.changes.change_set import ChangeSet
from warehouse_sync.changes.compare import Baseline, Rules
from warehouse_sync.changes.pushdown import SUMMARY
from warehouse_sync.changes.snapshot import SNAPSHOT
from warehouse_sync.changes.spill import WORK
from warehouse_sync.changes.window import order
from warehouse_sync.context import RunContext
from warehouse_sync.errors import ModelError
from warehouse_sync.events.reasons import Note, Reason, codes
from warehouse_sync.extraction.guard import KnownKeys
from warehouse_sync.extraction.prepare import Prepared
from warehouse_sync.extraction.pushdown import Inside, compare_inside
from warehouse_sync.extraction.statement import around, cursor_name, explained
from warehouse_sync.merge import check_snapshot, snapshot_of
from warehouse_sync.state.lifecycle import RejectKind, RejectState
from warehouse_sync.state.rows import NewReject
from warehouse_sync.values import Counts, CursorValue, Model
from warehouse_sync.warehouses.base import Source, Warehouse, name_literal

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


_BOUNDARY = f"(SELECT row_hash, cursor, sum(rows) AS rows FROM {SNAPSHOT}.boundary GROUP BY row_hash, cursor)"

ROWS_A_VECTOR = 2048
"""Rows of one Arrow batch on the way out: one DuckDB vector stays in cache and keeps memory flat."""


@dataclass(frozen=True)
class OpenReading:
    """A model's rows on their way: the comparing query, and what it leaves aside.

    `inside`: where they were compared in the warehouse; `gone_before`: delivered keys that were not in the source when
    the last window settled.
    """

    prepared: Prepared
    source: Source
    baseline: Baseline
    aside: ChangeSet
    warehouse: Warehouse
    inside: Inside | None = None
    gone_before: int = 0

    def statement(self, max_line: int) -> str:
        """The one query that reads, judges and encodes."""
        return self._statement(self.source.relation, max_line)

    def _statement(self, relation: str, max_line: int) -> str:
        return compare.statement(self.prepared.encoding.row, relation, self.baseline, _rules(self.prepared, max_line))

    def _read(self) -> str:
        """The source's rows that are read. Some values come as NULL that the warehouse does not take for it: a numeric
        that is no number, a zero date; `null_cursor: skip` is about those too."""
        model = self.prepared.model
        if model.cursor is None or model.null_cursor != "skip":
            return self.source.relation
        summary = f" OR {name_literal(SUMMARY)} IS NOT NULL" if self.inside else ""
        known = f"{name_literal(cursor_name(model, self.prepared.schema))} IS NOT NULL{summary}"
        return f"(SELECT * FROM {self.source.relation} AS read WHERE {known})"

    def rows(self, max_line: int) -> Iterator[pa.RecordBatch]:
        """Record batches of rows that are sent, with the columns of `compare.OUTPUT`. Raises WarehouseError."""
        import duckdb
        import pyarrow as pa

        try:
            query = self._statement(self._read(), max_line)
            stream = self.source.connection.sql(query).to_arrow_reader(ROWS_A_VECTOR)
        except duckdb.Error as error:
            raise explained(self.prepared.model, self.warehouse, error) from None
        while True:
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                break
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise explained(self.prepared.model, self.warehouse, error) from None
            rows = self.aside.take(batch)
            if rows is not None:
                yield rows
        if self.baseline.boundary:
            yield from self.aside.at_bound(self.baseline.boundary)

    def losers(self, sent: str | None) -> pa.Table | None:
        """Rows of keys that stand more than once; `sent` is the relation of the rows that were written."""
        keyed = bool(self.prepared.model.unique_key)
        known = self.aside.known if self.inside else self.baseline.snapshot
        return self.aside.losers(sent, known, self.baseline.rejects) if keyed else None

    def counts(self, sent: str | None) -> Counts:
        """What every row that was read came to, and the delivered keys that are gone from a source read whole."""
        if self.inside:
            return replace(self.aside.counts(), removed=self.aside.stayed.gone)
        gone = self.gone(sent)
        return replace(self.aside.counts(), removed=self.aside.count(gone) if gone else 0)

    def gone(self, sent: str | None) -> str | None:
        """Delivered keys that are no longer in a source that is read whole, as a relation; None for other sources, and
        where the warehouse only tells their number."""
        if self.baseline.snapshot is None or not self._shows_gone:
            return None
        return self.aside.gone(sent, self.baseline.snapshot)

    @property
    def _shows_gone(self) -> bool:
        """True when a key that is not read is not there. Of events, nobody asks for those that left."""
        return self.prepared.model.event.is_identify and self.prepared.reads_all

    def keys(self, counts: Counts) -> KnownKeys:
        """The keys of the snapshot; a window that reads a part of the source tells of none that it is gone."""
        gone = counts.removed if self._shows_gone else self.gone_before
        return KnownKeys(self._known_keys(), gone, self.gone_before)

    def _known_keys(self) -> int:
        if self.inside:
            return self.inside.merged.known if self.inside.merged else 0
        return self.aside.count(self.baseline.snapshot) if self.baseline.snapshot else 0

    @property
    def reached(self) -> CursorValue | None:
        """The greatest cursor that was read, but for rows ahead of the clock; None without any."""
        return self.aside.tally.cursor(self.prepared.cursor) if self.prepared.cursor else None

    def cursor_to(self) -> CursorValue | None:
        """The greatest cursor that was read or the one before; None for a model without cursor.

        `begin='now'` is the moment of the first run, rows or none: what comes after it is the next run's.
        """
        if self.prepared.cursor is None:
            return None
        bounds, begin = self.prepared.bounds, self.prepared.model.begin
        earlier = bounds.low if bounds.since is None and begin == "now" else bounds.since
        return max_cursor(self.reached, earlier)

    def rejects(self, losers: pa.Table | None) -> list[NewReject]:
        """The rows that are not sent because something is wrong with them."""
        invalid = self.aside.refused()
        names = ("key", "key_hash", "row_hash", "reasons")
        columns = [] if invalid is None else [invalid.column(name).to_pylist() for name in names]
        found = [
            NewReject(key, key_hash, row_hash, RejectKind.INVALID, codes(bits))
            for key, key_hash, row_hash, bits in zip(*columns, strict=True)
        ]
        alike = (Reason.AMBIGUOUS_DUPLICATE.code,)
        return found + [
            NewReject(row["key"], row["key_hash"], row["row_hash"], RejectKind.INVALID, alike)
            for row in ambiguous_of(losers)
        ]

    def reasons(self, losers: pa.Table | None) -> Counter[str]:
        """How many invalid rows each reason, by its code, applies to."""
        return Counter(code for reject in self.rejects(losers) for code in reject.reasons)

    def notes(self, losers: pa.Table | None) -> dict[Note, int]:
        """How many rows each note applies to."""
        seen = self.aside.tally.notes
        found = {note: sum(n for bits, n in seen.items() if bits & note.bit) for note in Note}
        found[Note.SAME_EVENT] = self.aside.same_events(losers)
        found[Note.EVENT_CHANGED] += self.aside.stayed.differing
        return {note: rows for note, rows in found.items() if rows}


def ambiguous_of(losers: pa.Table | None) -> list[dict[str, Any]]:
    """The refused rows among those that do not stand for their key."""
    return [] if losers is None else losers.filter(losers.column("ambiguous")).to_pylist()


@contextmanager
def opened(
    context: RunContext, prepared: Prepared, warehouse: Warehouse, *, everything: bool = False
) -> Iterator[OpenReading]:
    """The model's rows, ready to stream, with what they are compared with attached; all of it let go at the end.

    `everything`: also those of which the warehouse knows that they are as they were sent.
    """
    import duckdb

    model = prepared.model
    inside = compare_inside(context, prepared, warehouse, everything=everything)
    prepared = inside.prepared if inside else prepared
    with around(model):
        source = warehouse.open(inside.sql if inside else prepared.sql)
    side = source.connection.cursor()
    # Settings of a session do not go with a cursor: what one writes about times, the other could not read.
    side.execute("SET TimeZone = 'UTC'")
    _check_catalogs(side, model)
    try:
        if source.streams:
            compare.pin(source.connection)
        snapshot = snapshot_of(context, model)
        attached = inside is None and check_snapshot(context, model, prepared.known, snapshot, side) is not None
        stored = snapshot.encoders(side) if attached else ()
        unkeyed = attached and not (model.unique_key or model.always or prepared.full)
        last = snapshot.boundary_to(side) if unkeyed and prepared.cursor is not None else None
        rejects = _standing_rejects(context, prepared, side)
        row = prepared.encoding.row
        baseline = Baseline(
            snapshot=f"{SNAPSHOT}.sent" if attached and model.unique_key else None,
            boundary=None if last is None else _BOUNDARY,
            boundary_to=CursorValue(prepared.cursor, last) if last is not None and prepared.cursor else None,
            rejects=rejects,
            # Nobody knows of which version a refused row's hash is.
            older=tuple(sorted(row.older if rejects else set(row.older).intersection(stored))),
            inside=inside is not None,
        )
        is_keyed, upgrading = bool(model.unique_key), bool(baseline.older)
        reading = ChangeSet(side, keyed=is_keyed, upgrading=upgrading, inside=baseline.inside)
        with context.query(source.connection), context.query(side):
            yield OpenReading(prepared, source, baseline, reading, warehouse, inside, _gone_before(context, prepared))
    except duckdb.Error as error:
        # Out of memory or disk, beside the stream.
        raise explained(model, warehouse, error) from None
    finally:
        # Of a connection that is closed already nothing is left, and the first error is the one to see.
        with suppress(duckdb.ConnectionException):
            for catalog in (WORK, SNAPSHOT):
                side.execute(f"DETACH DATABASE IF EXISTS {catalog}")
            side.close()


def _check_catalogs(side: DuckDBPyConnection, model: Model) -> None:
    """A DuckDB warehouse brings its file's name as a catalog beside ours. Raises ModelError when it is one of them."""
    names = {name for (name,) in side.execute("SELECT database_name FROM duckdb_databases()").fetchall()}
    for name in (WORK, SNAPSHOT):
        if name in names:
            raise ModelError(
                f"the warehouse is called `{name}`, a name that this program uses itself",
                path=model.path,
                hint="rename the file, or link to it by another name.",
            )


def max_cursor(read: CursorValue | None, since: CursorValue | None) -> CursorValue | None:
    """The later of two values of one cursor: a window that reads only its overlap does not move the cursor back."""
    if read is None or since is None:
        return read or since
    return max(read, since, key=order)


def _rules(prepared: Prepared, max_line: int) -> Rules:
    model = prepared.model
    return Rules(
        is_identify=model.event.is_identify,
        keyed=bool(model.unique_key),
        always=model.always or prepared.full,
        cursor_kind=prepared.cursor,
        high=prepared.bounds.high,
        started_at=prepared.started_at,
        max_line=max_line,
        refuse_null_cursor=model.null_cursor == "reject",
        bit_null_cursor=Reason.NULL_CURSOR.bit,
        bit_line_too_long=Reason.LINE_TOO_LONG.bit,
        bit_event_changed=Note.EVENT_CHANGED.bit,
    )


def _gone_before(context: RunContext, prepared: Prepared) -> int:
    """How many delivered keys were not in the source when the model's last window settled."""
    last = prepared.known.settled_window_id if prepared.known else None
    window = context.store.window(last) if last is not None else None
    return window.gone if window else 0


def _standing_rejects(context: RunContext, prepared: Prepared, side: DuckDBPyConnection) -> str | None:
    """The rows that wait for somebody, as a table of the engine: as they are they do not go again, unless asked for."""
    import pyarrow as pa

    rejects = context.store.standing_rejects(context.pipeline, prepared.model.name)
    if prepared.recall and prepared.recall.refused:
        asked = (RejectState.OPEN, RejectKind.REJECTED)
        rejects = [reject for reject in rejects if (reject.state, reject.kind) != asked]
    if not rejects:
        return None
    table = pa.table(
        {
            "key_hash": pa.array([reject.key_hash for reject in rejects], pa.binary()),
            "row_hash": pa.array([reject.row_hash for reject in rejects], pa.binary()),
            "refused_there": pa.array([reject.kind is RejectKind.REJECTED for reject in rejects], pa.bool_()),
        }
    )
    side.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {WORK}")
    side.register("open_rejects", table)
    side.execute(
        f"CREATE TABLE {WORK}.rejects AS SELECT key_hash, row_hash, bool_or(refused_there) AS refused_there"
        " FROM open_rejects GROUP BY ALL"
    )
    side.unregister("open_rejects")
    return f"{WORK}.rejects"
