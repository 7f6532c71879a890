"""A model file made ready to read: rendered, described, compiled, its window bounded. Reads no row, writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.compare import PREFIX
from warehouse_sync.changes.window import Bounds, bounds, cursor_kind, in_order, order, parse, sliced, value_of
from warehouse_sync.errors import ModelError, ModelErrors, WarehouseError
from warehouse_sync.events.encode import EncodeOptions, Encoding, PropertyLimits, compile_row
from warehouse_sync.events.row_hash import ROW_HASHES, encoder_version
from warehouse_sync.events.shapes import type_name
from warehouse_sync.extraction.guard import Guard
from warehouse_sync.extraction.recall import Recall, key_test
from warehouse_sync.outbox import BatchLimits
from warehouse_sync.project.model import ModelSettings
from warehouse_sync.project.render import Rendered, fingerprint, render, wrap
from warehouse_sync.project.template import header_call
from warehouse_sync.state.rows import ModelState, WindowKind
from warehouse_sync.values import CursorKind, CursorValue, Model
from warehouse_sync.warehouses.base import UNTOLD, Warehouse, cursor_literal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Policy:
    """The YAML's rules for extraction: how models render, sizes of batches and lines, what stops a model."""

    settings: ModelSettings
    limits: BatchLimits
    max_line: int
    guard: Guard
    drift: str = "error"
    property_limits: PropertyLimits = field(default_factory=PropertyLimits)


@dataclass(frozen=True)
class Request:
    """What is asked of one extraction beyond the model itself: `-f`, `--limit` (rows), `--from` and `--to` (half open).

    `recall`: refused rows, once more. `half_sent`: of a model whose events only their lines tell apart, the
    fingerprints of windows that were sent, or a part of them, and are read again. `compared`: everything is read, as
    `-f` has it, and what is as it was sent stays.
    """

    full_refresh: bool = False
    limit: int | None = None
    start: str | None = None
    end: str | None = None
    recall: Recall | None = None
    half_sent: frozenset[str] = frozenset()
    compared: bool = False

    @property
    def is_backfill(self) -> bool:
        """True when a range of the cursor was asked for."""
        return self.start is not None or self.end is not None

    @property
    def kind(self) -> WindowKind:
        """A limited window, a backfill and a recall move no cursor; a full one starts the model over."""
        if self.recall is not None:
            return "recall"
        if self.limit is not None:
            return "limit"
        return "backfill" if self.is_backfill else "full" if self.full_refresh else "incremental"

    @property
    def mark(self) -> str:
        """What two requests for the same rows share, and others do not. No key can be read from it."""
        recall = self.recall and replace(self.recall, rejects=())
        asked = (self.kind, self.limit, self.start, self.end, recall)
        return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prepared:
    """A model ready to read. `sql` holds the window's bound; `full`: rows go whatever was sent before.

    `whole` is the query without any bound; `has_own_bound`: the model's is_incremental() part changed `sql` too;
    `reads_all`: a key that is not among the rows is no longer in the source.
    `identities`: the fingerprints that the model, as it is now, has under each version of the encoder.
    """

    model: Model
    sql: str
    whole: str
    has_own_bound: bool
    reads_all: bool
    schema: pa.Schema
    encoding: Encoding
    cursor: CursorKind | None
    bounds: Bounds
    started_at: datetime
    known: ModelState | None
    full: bool
    fingerprint: str
    identities: frozenset[str]
    warnings: tuple[str, ...]
    recall: Recall | None = None
    timezone: str = "UTC"


def prepare(
    model: Model, warehouse: Warehouse, policy: Policy, known: ModelState | None, started_at: datetime, request: Request
) -> Prepared:
    """Render, describe and compile a model. Raises ModelError with the place in the file."""
    _check_known(model, known)
    warehouse.label(model.name)
    full = request.full_refresh and model.full_refresh
    since = None if full or known is None or request.is_backfill or request.recall else known.cursor
    zone = policy.settings.timezone
    first = render(model, policy.settings.context(), warehouse.dialect)
    schema = describe(model, warehouse, first)
    _check_names(model, schema)
    options = EncodeOptions(zone, started_at, warehouse.folds_upper, policy.property_limits)
    with _beside_columns(model, schema, options), _header_line(model, "cursor"):
        kind = cursor_kind(model, schema, type_name)
    if since is not None and kind is not since.kind:
        raise _other_kind(model, schema, since, kind)
    rendered, window = first, Bounds(None, None, None)
    if kind is not None:
        with _beside_columns(model, schema, options), around(model), _header_line(model):
            window = _window(model, kind, since, request, _Described(first.sql, schema, warehouse, zone))
    elif request.is_backfill:
        raise ModelError("a backfill needs a cursor, and this model has none", path=model.path, hint="leave it out.")
    ranged = request.is_backfill or (request.recall is not None and not request.recall.keys)
    if window.low is not None and (since is not None or ranged):
        low = cursor_literal(window.low, warehouse.dialect)
        rendered = render(model, policy.settings.context(incremental=True, cursor_from=low), warehouse.dialect)
        schema = schema if rendered.sql == first.sql else describe(model, warehouse, rendered)
    identity = fingerprint_of(first.sql, model, policy.settings)
    identities = {fingerprint_of(first.sql, model, policy.settings, version) for version in ROW_HASHES}
    stands_for = known.cursor_fingerprint if known and since is not None else None
    decided = full or ranged or (since is not None and stands_for is None)
    if not decided and not request.half_sent <= identities:
        raise _half_sent(model, known)
    moved = not model.unique_key and stands_for not in {None, *identities}
    if moved:
        # Its lines are others now, so the delivered rows at the bound cannot be told apart: they are not read again.
        window = replace(window, above=True)
    with _header_line(model):
        encoding = _as_known(compile_row(model, schema, options), schema, known)
    news = check_contract(model, known.properties if known else {}, encoding, policy.drift)
    if request.full_refresh and not model.full_refresh:
        news.append("`-f` passed over: this model has `full_refresh=false`")
    if request.is_backfill and _cannot_compare(model, known):
        news.append(_TWICE)
    if moved and since:
        news.append(f"the model changed: rows exactly at {since.text} are not read again")
    return Prepared(
        model=model,
        sql=_bounded(model, rendered.sql, window, warehouse, schema, request),
        whole=first.sql,
        has_own_bound=rendered.sql != first.sql,
        reads_all=kind is None and request.limit is None and not (request.recall and request.recall.keys),
        schema=schema,
        encoding=encoding,
        cursor=kind,
        bounds=window,
        started_at=started_at,
        known=known,
        full=full and not request.compared,
        fingerprint=identity,
        identities=frozenset(identities),
        warnings=(*rendered.warnings, *encoding.warnings, *news),
        recall=request.recall,
        timezone=zone,
    )


_TWICE = "events without a `unique_key` are not compared: those that were sent before are sent a second time"


def _cannot_compare(model: Model, known: ModelState | None) -> bool:
    """True when rows of that model may have been sent, and nobody can tell which."""
    return known is not None and not model.event.is_identify and not model.unique_key


@dataclass(frozen=True)
class _Described:
    """The model's full query, what it returns, and where."""

    sql: str
    schema: pa.Schema
    warehouse: Warehouse
    zone: str


def _window(
    model: Model, kind: CursorKind, since: CursorValue | None, request: Request, described: _Described
) -> Bounds:
    """What this extraction reads: the asked range, or what comes after `since`, cut by the header's `slice`."""
    warehouse, zone = described.warehouse, described.zone
    now = warehouse.now()
    if request.is_backfill:
        low = None if request.start is None else parse(request.start, kind, zone, model, f"--from {request.start}")
        before = None if request.end is None else parse(request.end, kind, zone, model, f"--to {request.end}")
        if low is not None and before is not None and order(low) >= order(before):
            raise ModelError(
                f"--from {request.start} is not before --to {request.end}",
                path=model.path,
                hint="the range holds what is from the first on and before the second: nothing.",
            )
        return replace(bounds(model, kind, None, now, zone), low=low, before=before)
    if request.recall is not None:
        window = bounds(model, kind, None, now, zone)
        return replace(window, low=request.recall.since(window.low), last=request.recall.high)
    window = bounds(model, kind, since, now, zone)
    if request.kind != "incremental":
        return window

    def first_new() -> CursorValue | None:
        column = warehouse.quote(cursor_name(model, described.schema))
        query = f"SELECT min({column}) FROM {wrap(described.sql)}"
        start = window.since or window.low
        if start is not None:
            sign = ">" if window.since is not None else ">="
            query += f" WHERE {column} {sign} {cursor_literal(start, warehouse.dialect)}"
        return value_of(kind, warehouse.scalar(query), zone)

    return sliced(model, kind, window, first_new)


def cursor_name(model: Model, schema: pa.Schema) -> str:
    """The model's cursor column as the query names it."""
    return str(next(name for name in schema.names if name.casefold() == (model.cursor or "").casefold()))


def fingerprint_of(sql: str, model: Model, settings: ModelSettings, encoder: int | None = None) -> str:
    """What decides a window's rows: another one means that batches not yet in a job are read again.

    `encoder`: as this version of it would have it; None for the one that writes.
    """
    outside = {"encoder": str(encoder or encoder_version()), "timezone": settings.timezone}
    return fingerprint(sql, model, outside)


def describe(model: Model, warehouse: Warehouse, rendered: Rendered) -> pa.Schema:
    """The columns of the model. Raises ModelError with the model file and, where the warehouse says it, the line."""
    try:
        return warehouse.describe(rendered.sql)
    except WarehouseError as error:
        error.path, error.line = model.path, rendered.place(error.line)
        raise


@contextmanager
def _header_line(model: Model, key: str = "") -> Iterator[None]:
    """Errors about a key of the header, which their message begins with, name its line in the file."""
    try:
        yield
    except ModelErrors as several:
        for one in several.errors:
            _place(model, one, key)
        raise ModelErrors.of(several.errors) from None
    except ModelError as error:
        _place(model, error, key)
        raise


def _place(model: Model, error: ModelError, key: str) -> None:
    named = key or error.message.split()[0].strip("`").partition("=")[0]
    error.line = error.line or header_call(model.sql, model.path).lines.get(named, 0)


@contextmanager
def _beside_columns(model: Model, schema: pa.Schema, options: EncodeOptions) -> Iterator[None]:
    """An error about the cursor comes with all that is wrong with the other columns."""
    try:
        yield
    except WarehouseError:
        raise
    except ModelError as error:
        try:
            with _header_line(model):
                compile_row(replace(model, cursor=None), schema, options)
        except ModelError as others:
            raise ModelErrors.of([error, others]) from None
        raise


@contextmanager
def around(model: Model) -> Iterator[None]:
    """A statement around the model's query: its errors name the model's file, and no line, which would be theirs."""
    try:
        yield
    except WarehouseError as error:
        error.path, error.line = model.path, 0
        raise


def explained(model: Model, warehouse: Warehouse, error: Exception) -> WarehouseError:
    """An error of the query around the model's, in this program's words; a line would be one of that query."""
    found = warehouse.explain(error)
    found.path, found.line = model.path, 0
    return found


def one_row(model: Model, warehouse: Warehouse, query: str) -> tuple[Any, ...]:
    """The only row of a query around the model's. Raises WarehouseError."""
    import duckdb

    with around(model):
        source = warehouse.open(query)
        try:
            (row,) = source.connection.sql(f"FROM {source.relation}").fetchall()
        except duckdb.Error as error:
            raise warehouse.explain(error) from None
    return tuple(row)


def cursor_sql(model: Model, warehouse: Warehouse, schema: pa.Schema) -> str:
    """The cursor column in the warehouse's SQL, in the order in which the greatest of its values is found."""
    column = schema.field(cursor_name(model, schema))
    return in_order(warehouse.quote(column.name), column.type, warehouse.dialect)


def _bounded(model: Model, sql: str, window: Bounds, warehouse: Warehouse, schema: pa.Schema, request: Request) -> str:
    """The model's query within the window's bounds and limit; rows without a cursor as `null_cursor` says."""
    wrapped = f"SELECT * FROM {wrap(sql, 'model')}"
    if model.cursor is not None:
        name = cursor_sql(model, warehouse, schema)
        limits = [(">" if window.above else ">=", window.low), ("<", window.before), ("<=", window.last)]
        inside = [f"{name} {sign} {cursor_literal(end, warehouse.dialect)}" for sign, end in limits if end is not None]
        if model.null_cursor == "skip":
            inside.append(f"{name} IS NOT NULL")
        test = " AND ".join(inside)
        if test and model.null_cursor != "skip":
            test = f"({test}) OR {name} IS NULL"
        wrapped += f"\nWHERE {test}" if test else ""
    if request.recall is not None and request.recall.keys:
        found = key_test(model, schema, request.recall.keys, warehouse)
        wrapped = f"SELECT * FROM (\n{wrapped}\n) AS within\nWHERE {found}" if found else wrapped
    return wrapped if request.limit is None else f"{wrapped}\nLIMIT {request.limit}"


def _check_names(model: Model, schema: pa.Schema) -> None:
    """A column may have any name but those that the comparing query adds beside it."""
    for name in schema.names:
        if name.casefold().startswith(PREFIX):
            raise ModelError(
                f"the query returns a column named `{name}`: names that begin with `{PREFIX}` are this program's own",
                path=model.path,
                hint="give it another name in the query.",
            )


def _check_known(model: Model, known: ModelState | None) -> None:
    """What the state remembers must still be what the header says, or rows would be compared with the wrong ones."""
    if known is None:
        return
    if known.event is not model.event:
        raise _restart(model, f"this model was `{known.event}` and is now `{model.event}`")
    if known.unique_key != model.unique_key:
        was, now = ", ".join(known.unique_key) or "none", ", ".join(model.unique_key) or "none"
        raise _restart(model, f"`unique_key` was {was} and is now {now}")
    if known.cursor_column is not None and known.cursor_column != model.cursor:
        raise _restart(
            model, f"`cursor` was `{known.cursor_column}` and is now {f'`{model.cursor}`' if model.cursor else 'none'}"
        )


def _half_sent(model: Model, known: ModelState | None) -> ModelError:
    """Without a key, the delivered rows of a window that was sent in part are told apart by their line as it was."""
    return ModelError(
        "this model changed while a part of what it reads next was delivered: without a `unique_key` nobody can tell"
        " which of its rows those are",
        path=model.path,
        hint="put it back, run, and change it then; or let all of them be sent"
        + (" from a value of the cursor on" if known and known.cursor else "")
        + f", what was delivered a second time: `warehouse-sync state reset {model.name}"
        + (" --cursor VALUE`." if known and known.cursor else "`."),
    )


def _other_kind(model: Model, schema: pa.Schema, since: CursorValue, kind: CursorKind | None) -> ModelError:
    if kind is not None and cursor_name(model, schema) in _untold(schema):
        return ModelError(
            f"the cursor `{model.cursor}` has no value in any row, so of what kind it is cannot be told",
            path=model.path,
            hint="is the source empty, or being loaded? Nothing was read; run again when there are rows.",
        )
    return _restart(model, f"the cursor `{model.cursor}` was of kind {since.kind} and is now of kind {kind}")


def _as_known(encoding: Encoding, schema: pa.Schema, known: ModelState | None) -> Encoding:
    """The encoding, properties of columns without a single value having the type that they were last sent with."""
    was: Mapping[str, Any] = known.properties if known else {}
    untold = _untold(schema)
    properties = [
        replace(one, type=was.get(one.name, one.type)) if one.column in untold else one for one in encoding.properties
    ]
    return replace(encoding, properties=tuple(properties))


def _untold(schema: pa.Schema) -> set[str]:
    return {field.name for field in schema if UNTOLD in (field.metadata or {})}


def _restart(model: Model, what: str) -> ModelError:
    return ModelError(
        what,
        path=model.path,
        hint=f"put it back, or start this model over with `warehouse-sync state reset {model.name}`.",
    )


def check_contract(model: Model, sent: Mapping[str, str], encoding: Encoding, drift: str) -> list[str]:
    """What was sent once (property -> type) does not vanish or change type unnoticed; gives the news, or ModelError."""
    if not sent or drift == "allow":
        return []
    now = {item.name: item.type for item in encoding.properties}
    gone = [name for name in sent if name not in now and name not in model.dropped]
    changed = [name for name, old in sent.items() if now.get(name, old) != old and name not in model.dropped]
    retyped = [f"{name} ({sent[name]} -> {now[name]})" for name in changed]
    fresh = [name for name in now if name not in sent]
    trouble = [f"no longer sent: {', '.join(gone)}"] if gone else []
    trouble += [f"changed type: {', '.join(retyped)}"] if retyped else []
    if trouble and drift == "error":
        raise ModelError(
            f"properties {'; '.join(trouble)}",
            path=model.path,
            hint="Userpilot keeps old values and types. Bring them back, list those that may go or change in the header"
            " (`dropped=[...]`), or set `models.drift: warn`.",
        )
    return trouble + ([f"new properties: {', '.join(fresh)}"] if fresh else [])
