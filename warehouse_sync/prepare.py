"""A model file made ready to read: rendered, described, compiled, its window bounded. Reads no row, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from warehouse_sync.changes.compare import PREFIX
from warehouse_sync.changes.window import Bounds, bounds, cursor_kind, parse, sliced, value_of
from warehouse_sync.errors import ModelError, WarehouseError
from warehouse_sync.events.encode import ENCODER_VERSION, EncodeOptions, Encoding, compile_row
from warehouse_sync.guard import Guard
from warehouse_sync.outbox import Limits
from warehouse_sync.project.model import ModelSettings
from warehouse_sync.project.render import fingerprint, render, wrap
from warehouse_sync.state.rows import ModelState, WindowKind
from warehouse_sync.values import CursorKind, CursorValue, Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Policy:
    """The YAML's rules for extraction: how models render, sizes of batches and lines, what stops a model."""

    settings: ModelSettings
    limits: Limits
    max_line: int
    guard: Guard
    drift: str = "error"


@dataclass(frozen=True)
class Request:
    """What is asked of one extraction beyond the model itself: `-f`, `--limit` (rows), `--from` and `--to` (half open).

    `last_fingerprint` is the model's when its last window settled, None when none did.
    """

    full_refresh: bool = False
    limit: int | None = None
    start: str | None = None
    end: str | None = None
    last_fingerprint: str | None = None

    @property
    def is_backfill(self) -> bool:
        """True when a range of the cursor was asked for."""
        return self.start is not None or self.end is not None

    @property
    def kind(self) -> WindowKind:
        """A limited window and a backfill move no cursor; a full one starts the model over."""
        if self.limit is not None:
            return "limit"
        return "backfill" if self.is_backfill else "full" if self.full_refresh else "incremental"


@dataclass(frozen=True)
class Prepared:
    """A model ready to read. `sql` holds the window's bound; `full`: rows go whatever was sent before."""

    model: Model
    sql: str
    columns: tuple[str, ...]
    encoding: Encoding
    cursor: CursorKind | None
    bounds: Bounds
    started_at: datetime
    known: ModelState | None
    full: bool
    fingerprint: str
    warnings: tuple[str, ...]


def prepare(
    model: Model, warehouse: Warehouse, policy: Policy, known: ModelState | None, started_at: datetime, request: Request
) -> Prepared:
    """Render, describe and compile a model. Raises ModelError with the place in the file."""
    _check_known(model, known)
    warehouse.label(model.name)
    full = request.full_refresh and model.full_refresh
    since = None if full or known is None or request.is_backfill else known.cursor
    zone = policy.settings.timezone
    first = render(model, policy.settings.context(), warehouse.dialect)
    schema = describe(model, warehouse, first.sql)
    _check_names(model, schema)
    kind = cursor_kind(model, schema)
    if since is not None and kind is not since.kind:
        raise _restart(model, f"the cursor `{model.cursor}` was of kind {since.kind} and is now of kind {kind}")
    rendered, window = first, Bounds(None, None, None)
    if kind is not None:
        window = _window(model, kind, since, request, _Described(first.sql, schema, warehouse, zone))
    elif request.is_backfill:
        raise ModelError("a backfill needs a cursor, and this model has none", path=model.path, hint="leave it out.")
    if window.low is not None and (since is not None or request.is_backfill):
        low = cursor_literal(window.low, warehouse.dialect)
        rendered = render(model, policy.settings.context(incremental=True, cursor_from=low), warehouse.dialect)
        schema = describe(model, warehouse, rendered.sql)
    identity = fingerprint_of(first.sql, model, policy.settings)
    moved = since is not None and not model.unique_key and request.last_fingerprint not in (None, identity)
    if moved:
        # Its lines are others now, so the delivered rows at the bound cannot be told apart: they are not read again.
        window = replace(window, above=True)
    encoding = compile_row(model, schema, EncodeOptions(zone, started_at, warehouse.folds_upper))
    news = _contract(model, known, encoding, policy.drift)
    ignored = request.full_refresh and not model.full_refresh
    return Prepared(
        model=model,
        sql=_bounded(model, rendered.sql, window, warehouse, schema, request.limit),
        columns=tuple(schema.names),
        encoding=encoding,
        cursor=kind,
        bounds=window,
        started_at=started_at,
        known=known,
        full=full,
        fingerprint=identity,
        warnings=(
            *rendered.warnings,
            *encoding.warnings,
            *news,
            *(["`-f` passed over: this model has `full_refresh=false`"] if ignored else []),
            *([f"the model changed: rows exactly at {since.text} are not read again"] if moved and since else []),
        ),
    )


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
        low = None if request.start is None else parse(request.start, kind, zone, model)
        before = None if request.end is None else parse(request.end, kind, zone, model)
        return replace(bounds(model, kind, None, now, zone), low=low, before=before)
    window = bounds(model, kind, since, now, zone)
    if request.kind != "incremental":
        return window

    def first_new() -> CursorValue | None:
        column = warehouse.quote(_cursor_name(model, described.schema))
        query = f"SELECT min({column}) FROM {wrap(described.sql)}"
        start = window.since or window.low
        if start is not None:
            sign = ">" if window.since is not None else ">="
            query += f" WHERE {column} {sign} {cursor_literal(start, warehouse.dialect)}"
        return value_of(kind, warehouse.scalar(query), zone)

    return sliced(model, kind, window, first_new)


def _cursor_name(model: Model, schema: pa.Schema) -> str:
    return str(next(name for name in schema.names if name.casefold() == (model.cursor or "").casefold()))


def fingerprint_of(sql: str, model: Model, settings: ModelSettings) -> str:
    """What decides a window's rows: another one means that batches not yet in a job are read again."""
    outside = {"encoder": str(ENCODER_VERSION), "timezone": settings.timezone}
    return fingerprint(sql, model, outside)


def describe(model: Model, warehouse: Warehouse, sql: str) -> pa.Schema:
    """The columns of the model. Raises ModelError with the model file and, where the warehouse says it, the line."""
    try:
        return warehouse.describe(sql)
    except WarehouseError as error:
        error.path = model.path
        raise


def _cursor_sql(model: Model, warehouse: Warehouse, schema: pa.Schema) -> str:
    """The cursor column in the warehouse's SQL; texts in the order of their bytes, where it can be told so."""
    import pyarrow.types as t

    field = schema.field(_cursor_name(model, schema))
    name = warehouse.quote(field.name)
    text = t.is_string(field.type) or t.is_large_string(field.type) or t.is_dictionary(field.type)
    return f'CAST({name} AS VARCHAR) COLLATE "binary"' if text and warehouse.dialect == "duckdb" else name


def _bounded(model: Model, sql: str, window: Bounds, warehouse: Warehouse, schema: pa.Schema, limit: int | None) -> str:
    """The model's query within the window's bounds and limit; rows without a cursor as `null_cursor` says."""
    wrapped = f"SELECT * FROM {wrap(sql, 'model')}"
    if model.cursor is not None:
        name = _cursor_sql(model, warehouse, schema)
        limits = [(">" if window.above else ">=", window.low), ("<", window.before)]
        inside = [f"{name} {sign} {cursor_literal(end, warehouse.dialect)}" for sign, end in limits if end is not None]
        if model.null_cursor == "skip":
            inside.append(f"{name} IS NOT NULL")
        test = " AND ".join(inside)
        if test and model.null_cursor != "skip":
            test = f"({test}) OR {name} IS NULL"
        wrapped += f"\nWHERE {test}" if test else ""
    return wrapped if limit is None else f"{wrapped}\nLIMIT {limit}"


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
    if known is None or known.settled_window_id is None:
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


def _restart(model: Model, what: str) -> ModelError:
    return ModelError(
        what,
        path=model.path,
        hint=f"put it back, or start this model over with `warehouse-sync state reset {model.name}`.",
    )


def _contract(model: Model, known: ModelState | None, encoding: Encoding, drift: str) -> list[str]:
    """What was sent once does not vanish or change type unnoticed (design: "Property contract"); gives the news."""
    if known is None or not known.properties or drift == "allow":
        return []
    now = {item.name: item.type for item in encoding.properties}
    gone = [name for name in known.properties if name not in now and name not in model.dropped]
    retyped = [f"{name} ({old} -> {now[name]})" for name, old in known.properties.items() if now.get(name, old) != old]
    fresh = [name for name in now if name not in known.properties]
    trouble = [f"no longer sent: {', '.join(gone)}"] if gone else []
    trouble += [f"changed type: {', '.join(retyped)}"] if retyped else []
    if trouble and drift == "error":
        raise ModelError(
            f"properties {'; '.join(trouble)}",
            path=model.path,
            hint="Userpilot keeps old values and types. Bring them back, list those that may go in the header"
            " (`dropped=[...]`), or set `models.drift: warn`.",
        )
    return trouble + ([f"new properties: {', '.join(fresh)}"] if fresh else [])
