"""A model file made ready to read: rendered, described, compiled, its window bounded. Reads no row, writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from warehouse_sync.changes.compare import PREFIX
from warehouse_sync.changes.window import Bounds, bounds, cursor_kind, order, parse, sliced, value_of
from warehouse_sync.errors import ModelError, ModelErrors, WarehouseError
from warehouse_sync.events.encode import EncodeOptions, Encoding, compile_row
from warehouse_sync.events.row_hash import ROW_HASHES, encoder_version
from warehouse_sync.events.shapes import type_name
from warehouse_sync.extraction.contract import (
    as_known,
    cannot_compare,
    check_contract,
    check_known,
    half_sent_error,
    other_kind,
)
from warehouse_sync.extraction.recall import Recall
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.extraction.statement import around, bounded, cursor_name, describe
from warehouse_sync.project.model import ModelSettings
from warehouse_sync.project.render import Rendered, fingerprint, render, wrap
from warehouse_sync.project.template import header_call
from warehouse_sync.state.rows import ModelState
from warehouse_sync.values import CursorKind, CursorValue, Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

if TYPE_CHECKING:
    import pyarrow as pa


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
    check_known(model, known)
    full = request.full_refresh and model.full_refresh
    since = None if full or known is None or request.is_backfill or request.recall else known.cursor
    described = _described(model, warehouse, policy, started_at)
    first, schema, kind = described.first, described.schema, described.cursor
    if since is not None and kind is not since.kind:
        raise other_kind(model, schema, since, kind)
    rendered, window = first, Bounds(None, None, None)
    if kind is not None:
        with _beside_columns(model, schema, described.options), around(model), _header_line(model):
            window = _window(model, kind, since, request, described)
    elif request.is_backfill:
        raise ModelError("a backfill needs a cursor, and this model has none", path=model.path, hint="leave it out.")
    ranged = request.is_backfill or (request.recall is not None and not request.recall.keys)
    if window.low is not None and (since is not None or ranged):
        low = cursor_literal(window.low, warehouse.dialect)
        rendered = render(model, policy.settings.context(incremental=True, cursor_from=low), warehouse.dialect)
        schema = schema if rendered.sql == first.sql else describe(model, warehouse, rendered)
    identities = frozenset(fingerprint_of(first.sql, model, policy.settings, version) for version in ROW_HASHES)
    moved = _is_another(model, known, request, identities, decided=full or ranged, compares=since is not None)
    if moved:
        # Its lines are others now, so the delivered rows at the bound cannot be told apart: they are not read again.
        window = replace(window, above=True)
    with _header_line(model):
        encoding = as_known(compile_row(model, schema, described.options), schema, known)
    news = check_contract(model, known.properties if known else {}, encoding, policy.drift)
    if request.full_refresh and not model.full_refresh:
        news.append("`-f` passed over: this model has `full_refresh=false`")
    if request.is_backfill and cannot_compare(model, known):
        news.append(_TWICE)
    if moved and since:
        news.append(f"the model changed: rows exactly at {since.text} are not read again")
    return Prepared(
        model=model,
        sql=bounded(model, rendered.sql, window, warehouse, schema, request),
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
        fingerprint=fingerprint_of(first.sql, model, policy.settings),
        identities=identities,
        warnings=(*rendered.warnings, *encoding.warnings, *news),
        recall=request.recall,
        timezone=policy.settings.timezone,
    )


_TWICE = "events without a `unique_key` are not compared: those that were sent before are sent a second time"


@dataclass(frozen=True)
class _Described:
    """A model's full query, what it returns, and where; `cursor`: of what kind its cursor is."""

    first: Rendered
    schema: pa.Schema
    warehouse: Warehouse
    options: EncodeOptions
    cursor: CursorKind | None


def _described(model: Model, warehouse: Warehouse, policy: Policy, started_at: datetime) -> _Described:
    warehouse.label(model.name)
    first = render(model, policy.settings.context(), warehouse.dialect)
    schema = describe(model, warehouse, first)
    _check_names(model, schema)
    options = EncodeOptions(policy.settings.timezone, started_at, warehouse.folds_upper, policy.property_limits)
    with _beside_columns(model, schema, options), _header_line(model, "cursor"):
        kind = cursor_kind(model, schema, type_name)
    return _Described(first, schema, warehouse, options, kind)


def _is_another(
    model: Model,
    known: ModelState | None,
    request: Request,
    identities: Collection[str],
    *,
    decided: bool,
    compares: bool,
) -> bool:
    """True when the rows at the cursor were sent by the model as it was, and only their lines would tell them apart.

    `decided`: somebody asked for rows whatever was sent; `compares`: the cursor says where this one begins. Raises
    ModelError where a part of what is read next was sent by the model as it was.
    """
    stands_for = known.cursor_fingerprint if known and compares else None
    decided = decided or (compares and stands_for is None)
    if not decided and not request.half_sent <= set(identities):
        raise half_sent_error(model, known)
    return not model.unique_key and stands_for not in {None, *identities}


def _window(
    model: Model, kind: CursorKind, since: CursorValue | None, request: Request, described: _Described
) -> Bounds:
    """What this extraction reads: the asked range, or what comes after `since`, cut by the header's `slice`."""
    warehouse, zone = described.warehouse, described.options.timezone
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
        query = f"SELECT min({column}) FROM {wrap(described.first.sql)}"
        start = window.since or window.low
        if start is not None:
            sign = ">" if window.since is not None else ">="
            query += f" WHERE {column} {sign} {cursor_literal(start, warehouse.dialect)}"
        return value_of(kind, warehouse.scalar(query), zone)

    return sliced(model, kind, window, first_new)


def fingerprint_of(sql: str, model: Model, settings: ModelSettings, encoder: int | None = None) -> str:
    """What decides a window's rows: another one means that batches not yet in a job are read again.

    `encoder`: as this version of it would have it; None for the one that writes.
    """
    outside = {"encoder": str(encoder or encoder_version()), "timezone": settings.timezone}
    return fingerprint(sql, model, outside)


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


def _check_names(model: Model, schema: pa.Schema) -> None:
    """A column may have any name but those that the comparing query adds beside it."""
    for name in schema.names:
        if name.casefold().startswith(PREFIX):
            raise ModelError(
                f"the query returns a column named `{name}`: names that begin with `{PREFIX}` are this program's own",
                path=model.path,
                hint="give it another name in the query.",
            )
