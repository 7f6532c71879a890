"""Why one key was or was not sent: what is known of it, what the warehouse holds of it, what the next run would do.

Works beside a run, and writes nothing: the state store is read, the published snapshot is attached read-only, and the
model is read as `plan` reads it, for this key alone.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.duplicates import losers
from warehouse_sync.changes.snapshot import SNAPSHOT
from warehouse_sync.changes.window import duckdb_literal, lag_of
from warehouse_sync.context import RunContext
from warehouse_sync.errors import ModelError, UsageError, WarehouseSyncError
from warehouse_sync.events.reasons import Reason, codes
from warehouse_sync.extraction.extract import since_then
from warehouse_sync.extraction.prepare import prepare
from warehouse_sync.extraction.pushdown import delivered_inside
from warehouse_sync.extraction.reading import OpenReading, opened
from warehouse_sync.extraction.recall import key_test
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.extraction.statement import explained
from warehouse_sync.inspection.preview import looking
from warehouse_sync.merge import snapshot_of
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.observe.words import counted
from warehouse_sync.parts import warehouse_of
from warehouse_sync.project.config import Config
from warehouse_sync.project.quantities import format_duration
from warehouse_sync.project.render import wrap
from warehouse_sync.state.lifecycle import UNSETTLED_BATCHES, BatchState, RejectState
from warehouse_sync.state.rows import Batch, Job, Reject
from warehouse_sync.values import Model, Verdict
from warehouse_sync.warehouses.base import Warehouse, text_literal

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

TRIES = 3
"""A run beside this one may take batch files away between looking and reading."""

SENTENCES = {
    "added": "The next run sends it: it is new.",
    "changed": "The next run sends it: it is not as it was sent.",
    "unchanged": "Not sent: it is as it was sent.",
    "delivered": "Not sent: an event of this key was delivered, and it never goes again.",
    "duplicate": "Not sent: another row of this key is newer.",
    "suppressed": "Not sent: it was refused before and is as it was then.",
    "invalid": "Refused.",
    "future": "It waits: its cursor is more than an hour ahead of the warehouse's clock.",
    "behind": "Not read: its cursor is before the one from which the next run reads.",
    "before_begin": "Not read: its cursor is before the model's `begin`.",
    "later": "A later slice of the next run reads it.",
    "skipped": "Not read: its cursor is NULL, and the model says null_cursor: skip.",
    "left_out": "Not read: the model's own is_incremental() part leaves it out.",
}
"""What becomes of a row of the warehouse in the next run, and what that means."""


@dataclass(frozen=True)
class Sending:
    """A batch that holds the key. `job`: the one that has it or delivered it; `at`: when it was delivered."""

    batch: Batch
    job: Job | None
    at: datetime | None
    inserted_at: datetime | None


@dataclass(frozen=True)
class Refusal:
    """A refused row of the key. `batch` and `job`: of a row that Userpilot refused, the last ones that held it."""

    reject: Reject
    batch: Batch | None = None
    job: Job | None = None


@dataclass(frozen=True)
class RowNow:
    """A row of the key in the warehouse. `fate`: a key of SENTENCES; `reasons`: codes; `cursor`: as text.

    `changed`: names of what differs from what was delivered, None where nobody knows.
    """

    fate: str
    reasons: tuple[str, ...]
    cursor: str | None
    inserted_at: str | None
    changed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Explanation:
    """All that is known of a key. `reads_from`: where the next run begins; `error`: why the warehouse says nothing."""

    model: str
    key: str
    delivered: Sending | None = None
    waiting: tuple[Sending, ...] = ()
    rejects: tuple[Refusal, ...] = ()
    rows: tuple[RowNow, ...] = ()
    reads_from: str | None = None
    lag: str | None = None
    error: WarehouseSyncError | None = None

    @property
    def known(self) -> bool:
        """False when neither state nor warehouse has ever seen the key."""
        return bool(self.delivered or self.waiting or self.rejects or self.rows)


def explain(config: Config, policy: Policy, model: Model, words: Sequence[str], reporter: Reporter) -> Explanation:
    """Everything that is known of one key of the model.

    `words`: the key as `plan` and `rejects` print it, a JSON array of the columns of `unique_key`, or one word a
    column. Raises UsageError for a model without key and for another number of columns, StateError.
    """
    with looking(config, reporter) as context:
        wanted = _wanted(context, model, words)
        past = _past(context, model, wanted)
        try:
            warehouse = warehouse_of(config, context.engine)
            try:
                past = _past_inside(context, model, wanted, past, warehouse)
                return _present(context, model, policy, wanted, past, warehouse)
            finally:
                warehouse.close()
        except ModelError as error:
            return replace(past, error=error)


@dataclass(frozen=True)
class _Wanted:
    """Every text that the key may be: one word a column does not say whether `7` is a number or a text.

    `texts`: of each column.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The texts as a list of DuckDB literals."""
        return ", ".join(map(text_literal, self.keys))

    @property
    def hashes(self) -> str:
        """Their hashes as a list of DuckDB expressions."""
        return ", ".join(f"unhex(md5({text_literal(key)}))" for key in self.keys)


def _wanted(context: RunContext, model: Model, words: Sequence[str]) -> _Wanted:
    columns = model.unique_key
    if not columns:
        raise UsageError(
            f"model `{model.name}` has no `unique_key`: its rows are told apart by their content",
            hint="`warehouse-sync history` shows its windows and batches.",
        )
    if len(columns) == 1 and len(words) == 1:
        return _Wanted((words[0],), (words[0],))
    parts: list[tuple[str, bool | None]] = [(word, None) for word in words]
    if len(words) == 1:
        parts = _members(words[0])
    if len(parts) != len(columns):
        has = f"{counted(len(columns), 'column')} ({', '.join(columns)})"
        raise UsageError(
            f"the key of model `{model.name}` has {has}, not {len(parts)}",
            hint="give one word a column, or all of them as a JSON array.",
        )
    texts = tuple(text for text, _ in parts)
    connection = context.engine.connect()
    try:
        query = "SELECT list_transform(?::VARCHAR[], lambda text: to_json(text))"
        ((quoted,),) = connection.execute(query, [list(texts)]).fetchall()
    finally:
        connection.close()
    choices = []
    for (text, is_text), json_text in zip(parts, quoted, strict=True):
        bare = is_text is False or (is_text is None and re.fullmatch(r"-?\d+(\.\d+)?|true|false", text) is not None)
        choices.append([*([] if is_text is False else [json_text]), *([text] if bare else [])])
    return _Wanted(tuple(f"[{','.join(choice)}]" for choice in itertools.product(*choices)), texts)


def _members(text: str) -> list[tuple[str, bool | None]]:
    """The members of a JSON array as text, and whether they are texts; numbers keep their digits."""

    class Digits(str):
        __slots__ = ()

    try:
        found = json.loads(text, parse_float=Digits, parse_int=Digits)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str | bool) for item in found):
        return [(text, None)]
    return [
        (json.dumps(item) if isinstance(item, bool) else str(item), not isinstance(item, bool | Digits))
        for item in found
    ]


# What is known here


def _past(context: RunContext, model: Model, wanted: _Wanted) -> Explanation:
    """What state store, snapshot and sealed batches hold of the key."""
    import duckdb

    connection = context.engine.connect()
    try:
        for attempt in range(TRIES):
            try:
                delivered, waiting = _sendings(context, model, wanted, connection)
                break
            except duckdb.IOException:
                if attempt == TRIES - 1:
                    raise
        states = (RejectState.OPEN, RejectState.DISMISSED)
        standing = context.store.rejects(context.pipeline, model=model.name, states=states, keys=wanted.keys)
        rejects = _refusals(context, standing)
    finally:
        connection.close()
    return Explanation(model.name, wanted.keys[0], delivered, tuple(waiting), rejects)


def _refusals(context: RunContext, rejects: Sequence[Reject]) -> tuple[Refusal, ...]:
    """The rejects, with the batch that held each, and the job that uploaded it last."""
    store, found = context.store, []
    for reject in rejects:
        batches = store.batches(context.pipeline, window_id=reject.window_id) if reject.batch_name else []
        batch = next((one for one in batches if one.name == reject.batch_name), None)
        jobs = store.batch_jobs(batch.id) if batch else []
        found.append(Refusal(reject, batch, jobs[-1] if jobs else None))
    return tuple(found)


def _sendings(
    context: RunContext, model: Model, wanted: _Wanted, connection: DuckDBPyConnection
) -> tuple[Sending | None, list[Sending]]:
    """The last delivery of the key, and the batches in which it waits."""
    store, outbox = context.store, context.outbox
    # Files first: what is merged while this looks is in the snapshot by then.
    unmerged = store.mergeable(context.pipeline, model.name)
    open_ones = store.batches(context.pipeline, model=model.name, states=UNSETTLED_BATCHES)
    found: dict[int, datetime | None] = {}
    batches = {batch.id: batch for batch in (*unmerged, *open_ones) if outbox.keys(batch.name).is_file()}
    if batches:
        values = ", ".join(f"({text_literal(str(outbox.keys(b.name)))}, {b.id})" for b in batches.values())
        files = ", ".join(text_literal(str(outbox.keys(batch.name))) for batch in batches.values())
        rows = connection.execute(
            f"SELECT b.id, max(k.inserted_at) FROM read_parquet([{files}], filename = true) AS k"
            f" JOIN (VALUES {values}) AS b(file, id) ON b.file = k.filename"
            f" WHERE k.key IN ({wanted.sql}) GROUP BY b.id"
        )
        found = dict(rows.fetchall())
    waiting = [_sending(context, batch, found[batch.id]) for batch in open_ones if batch.id in found]
    newest = next((batch for batch in reversed(unmerged) if batch.id in found), None)
    if newest is not None:
        return _sending(context, newest, found[newest.id]), waiting
    return _merged(context, model, wanted, connection), waiting


def _merged(context: RunContext, model: Model, wanted: _Wanted, connection: DuckDBPyConnection) -> Sending | None:
    """What the published snapshot holds of the key."""
    snapshot = snapshot_of(context, model)
    if not snapshot.path.exists():
        return None
    snapshot.attach(connection)
    rows = connection.execute(
        f"SELECT batch, inserted_at FROM {SNAPSHOT}.sent WHERE key_hash IN ({wanted.hashes})"
    ).fetchall()
    connection.execute(f"DETACH {SNAPSHOT}")
    batch = context.store.batch(rows[0][0]) if rows else None
    return None if batch is None else _sending(context, batch, rows[0][1])


def _past_inside(
    context: RunContext, model: Model, wanted: _Wanted, past: Explanation, warehouse: Warehouse
) -> Explanation:
    """The same with what a snapshot in the warehouse holds of the key."""
    found = None if past.delivered else delivered_inside(context, model, wanted.texts, warehouse)
    batch = context.store.batch(found[0]) if found else None
    return replace(past, delivered=_sending(context, batch, found[1])) if found and batch else past


def _sending(context: RunContext, batch: Batch, inserted_at: datetime | None) -> Sending:
    job = None if batch.job_id is None else context.store.job(batch.job_id)
    return Sending(batch, job, batch.settled_at if batch.state is BatchState.DELIVERED else None, inserted_at)


# What the warehouse holds


def _present(
    context: RunContext, model: Model, policy: Policy, wanted: _Wanted, past: Explanation, warehouse: Warehouse
) -> Explanation:
    """The rows of the key in the warehouse, and what the next run would do with each. Raises ModelError."""
    known = context.store.model_state(context.pipeline, model.name)
    prepared = prepare(model, warehouse, policy, known, context.clock(), since_then(context, model, Request()))
    test = key_test(model, prepared.schema, wanted.keys, warehouse)
    condition = f"\nWHERE {test}" if test else ""
    whole = replace(prepared, sql=f"SELECT * FROM {wrap(prepared.whole, 'model')}{condition}")
    with opened(context, whole, warehouse, everything=True) as reading:
        rows = _rows(_only(reading, wanted), policy.max_line)
        left_out = False
    if prepared.has_own_bound and any(row["fate"] not in _OUTSIDE for row in rows):
        narrow = replace(prepared, sql=f"SELECT * FROM (\n{prepared.sql}\n) AS bounded{condition}")
        with opened(context, narrow, warehouse, everything=True) as reading:
            left_out = not _rows(_only(reading, wanted), policy.max_line)
    lag = lag_of(model, prepared.cursor) if prepared.cursor else None
    low = prepared.bounds.low
    return replace(
        past,
        key=rows[0]["key"] if rows else past.key,
        rows=tuple(_row_now(context, past, row, left_out=left_out) for row in rows),
        reads_from=None if low is None else low.text,
        lag=format_duration(lag) if isinstance(lag, timedelta) else None if lag is None else str(lag),
    )


_OUTSIDE = ("behind", "before_begin", "later", "skipped", "future")


def _only(reading: OpenReading, wanted: _Wanted) -> OpenReading:
    """The same reading, of nothing but the rows of the key."""
    key = reading.prepared.encoding.row.key
    relation = f"(SELECT * FROM {reading.source.relation} AS rows_read WHERE ({key}) IN ({wanted.sql}))"
    return replace(reading, source=replace(reading.source, relation=relation))


def _rows(reading: OpenReading, max_line: int) -> list[dict[str, Any]]:
    """The rows with their verdicts, judged together where they are duplicates of each other. A handful."""
    import duckdb
    import pyarrow as pa

    bounds, model = reading.prepared.bounds, reading.prepared.model
    behind = "false" if bounds.low is None else f"cursor {'<=' if bounds.above else '<'} {duckdb_literal(bounds.low)}"
    later = "false" if bounds.before is None else f"cursor >= {duckdb_literal(bounds.before)}"
    skipped = "cursor IS NULL" if model.cursor and model.null_cursor == "skip" else "false"
    query = (
        "SELECT * REPLACE (cursor::VARCHAR AS cursor), own_at::VARCHAR AS at_text, cursor AS order_of,"
        " row_number() OVER () - 1 AS place,"
        f" CASE WHEN verdict = {Verdict.FUTURE.value} THEN NULL WHEN {skipped} THEN 'skipped'"
        f" WHEN {behind} THEN {text_literal('before_begin' if bounds.since is None else 'behind')}"
        f" WHEN {later} THEN 'later' END AS outside FROM ({reading.statement(max_line)})"
    )
    try:
        found = reading.source.connection.sql(query).to_arrow_table()
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise explained(model, reading.warehouse, error) from None
    rows: list[dict[str, Any]] = found.drop_columns(["order_of", "own_at", "inserted_at"]).to_pylist()
    beaten = _losers(reading, found)
    for row in rows:
        row["fate"] = row["outside"] or Verdict(row["verdict"]).name.lower()
        if row["place"] in beaten and not row["outside"]:
            row["fate"] = beaten[row["place"]]
            row["reasons"] = 0 if row["fate"] == "duplicate" else Reason.AMBIGUOUS_DUPLICATE.bit
        elif row["fate"] == "unchanged" and not model.event.is_identify:
            row["fate"] = "delivered"
    return rows


def _losers(reading: OpenReading, found: pa.Table) -> dict[int, str]:
    """Place -> fate of the rows that do not stand for the key; rows that are not read or refused stand for nothing."""
    side = reading.source.connection.cursor()
    try:
        side.register("rows_of_key", found)
        lost = losers(
            side,
            "(SELECT verdict, key, key_hash, row_hash, order_of AS cursor, own_at AS inserted_at, place"
            " FROM rows_of_key WHERE outside IS NULL AND reasons = 0"
            f" AND verdict NOT IN ({Verdict.FUTURE.value}, {Verdict.INVALID.value}))",
            found.num_rows,
        )
        if lost is None:
            return {}
        again, rejects = "false", reading.baseline.rejects
        if rejects:
            known_as = "coalesce(r.stored, r.row_hash)" if "stored" in found.column_names else "r.row_hash"
            again = f"(r.key_hash, {known_as}) IN (SELECT (key_hash, row_hash) FROM {rejects})"
        side.register("lost", lost)
        fate = f"CASE WHEN NOT l.ambiguous THEN 'duplicate' WHEN {again} THEN 'suppressed' ELSE 'invalid' END"
        fates = side.execute(f"SELECT place, {fate} FROM lost AS l JOIN rows_of_key AS r USING (place)")
        return dict(fates.fetchall())
    finally:
        side.close()


def _row_now(context: RunContext, past: Explanation, row: dict[str, Any], *, left_out: bool) -> RowNow:
    fate = "left_out" if left_out and row["fate"] not in _OUTSIDE else row["fate"]
    changed = _changed(context, past, row["key"], row["line"]) if fate == "changed" else None
    return RowNow(fate, codes(row["reasons"]), row["cursor"], row["at_text"], changed)


def _changed(context: RunContext, past: Explanation, key: str, line: str | None) -> tuple[str, ...] | None:
    """What differs between the row and the line that was delivered, where its batch's files are still there."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    batch = past.delivered.batch if past.delivered else None
    if batch is None or line is None:
        return None
    try:
        keys = pq.read_table(context.outbox.keys(batch.name), columns=["key"]).column("key")
        lines = context.outbox.line_table(batch.name).column("line")
    except FileNotFoundError:
        return None
    place = pc.index(keys, key).as_py()
    return None if place < 0 else tuple(_differing(json.loads(lines[place].as_py()), json.loads(line)))


def _differing(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Names of fields, and of properties, that are not the same in two lines; the time always differs."""
    old, new = before.get("metadata") or {}, now.get("metadata") or {}
    for name in sorted({*before, *now} - {"metadata", "inserted_at"}):
        if before.get(name) != now.get(name):
            yield name
    for name in sorted({*old, *new}):
        if (name in old) is not (name in new) or old.get(name) != new.get(name):
            yield f"metadata.{name}"


__all__ = ["SENTENCES", "Explanation", "Refusal", "RowNow", "Sending", "explain"]
