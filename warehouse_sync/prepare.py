"""A model file made ready to read: rendered, described, compiled, its window bounded. Reads no row, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from warehouse_sync.changes.window import Bounds, bounds, cursor_kind
from warehouse_sync.errors import ModelError, WarehouseError
from warehouse_sync.events.encode import ENCODER_VERSION, EncodeOptions, Encoding, compile_row
from warehouse_sync.outbox import Limits
from warehouse_sync.project.model import ModelSettings
from warehouse_sync.project.render import fingerprint, render, wrap
from warehouse_sync.project.units import Allowance
from warehouse_sync.state.rows import ModelState, WindowKind
from warehouse_sync.values import CursorKind, Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal, name_literal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Policy:
    """The YAML's rules for extraction: how models render, sizes of batches and lines, what stops a model."""

    settings: ModelSettings
    limits: Limits
    max_line: int
    stop_above: Allowance
    max_rows: int | None = None
    drift: str = "error"


@dataclass(frozen=True)
class Request:
    """What is asked of one extraction beyond the model itself: `-f`, `--limit` (rows)."""

    full_refresh: bool = False
    limit: int | None = None

    @property
    def kind(self) -> WindowKind:
        """A limited window moves no cursor; a full one starts the model over."""
        return "limit" if self.limit is not None else "full" if self.full_refresh else "incremental"


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
    full = request.full_refresh and model.full_refresh
    since = None if full or known is None else known.cursor
    zone = policy.settings.timezone
    first = render(model, policy.settings.context(), warehouse.dialect)
    rendered, window = first, Bounds(None, None, None)
    if since is not None:
        window = bounds(model, since.kind, since, warehouse.now(), zone)
        low = cursor_literal(window.low or since, warehouse.dialect)
        rendered = render(model, policy.settings.context(incremental=True, cursor_from=low), warehouse.dialect)
    schema = describe(model, warehouse, rendered.sql)
    kind = cursor_kind(model, schema)
    if since is not None and kind is not since.kind:
        raise _restart(model, f"the cursor `{model.cursor}` was of kind {since.kind} and is now of kind {kind}")
    if kind is not None and since is None:
        window = bounds(model, kind, None, warehouse.now(), zone)
    encoding = compile_row(model, schema, EncodeOptions(zone, started_at, warehouse.folds_upper))
    news = _contract(model, known, encoding, policy.drift)
    ignored = request.full_refresh and not model.full_refresh
    return Prepared(
        model=model,
        sql=_bounded(model, rendered.sql, window, warehouse.dialect, schema, request.limit),
        columns=tuple(schema.names),
        encoding=encoding,
        cursor=kind,
        bounds=window,
        started_at=started_at,
        known=known,
        full=full,
        fingerprint=fingerprint_of(first.sql, model, policy.settings),
        warnings=(
            *rendered.warnings,
            *encoding.warnings,
            *news,
            *(["`-f` passed over: this model has `full_refresh=false`"] if ignored else []),
        ),
    )


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


def _bounded(model: Model, sql: str, window: Bounds, dialect: str, schema: pa.Schema, limit: int | None) -> str:
    """The model's query within the window's lower bound and limit; rows without a cursor as `null_cursor` says."""
    wrapped = f"SELECT * FROM {wrap(sql, 'model')}"
    if model.cursor is not None:
        column = next(name for name in schema.names if name.casefold() == model.cursor.casefold())
        name = name_literal(column) if dialect in ("duckdb", "postgres", "snowflake") else column
        tests = []
        if window.low is not None:
            tests.append(f"{name} >= {cursor_literal(window.low, dialect)}")
            if model.null_cursor != "skip":
                tests.append(f"OR {name} IS NULL")
        elif model.null_cursor == "skip":
            tests.append(f"{name} IS NOT NULL")
        if tests:
            wrapped += f"\nWHERE {' '.join(tests)}"
    return wrapped if limit is None else f"{wrapped}\nLIMIT {limit}"


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
