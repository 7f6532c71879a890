"""Models that are compared in their warehouse: the statement of a window, made of all that is known of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from warehouse_sync.changes import pushdown
from warehouse_sync.changes.pushdown import Comparison, Value
from warehouse_sync.context import RunContext
from warehouse_sync.events.columns import Mapped, map_columns
from warehouse_sync.events.shapes import NESTED, Column, Shape, leaves, native_type
from warehouse_sync.extraction.prepare import Prepared
from warehouse_sync.merge import check_inside, check_whole
from warehouse_sync.values import CursorKind, CursorValue, Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal, name_literal
from warehouse_sync.warehouses.snapshot_tables import MergedThrough, SnapshotSchema, Tables

if TYPE_CHECKING:
    import pyarrow as pa

MOST_KEYS = 10_000
"""Refused keys that a statement names; where there are more, all rows leave."""

_BEFORE_ALL, _SURELY_PAST = "1970-01-02", timedelta(hours=9)
"""Times that are in range wherever they are read: a day after the first one, and well before the last (24 hours after
the window's start), since a naive time may be 14 hours ahead of UTC. Other times leave, and are judged here."""


@dataclass(frozen=True)
class Inside:
    """A window that is compared in the warehouse: what to read, and the model prepared for its columns.

    `merged`: how far the snapshot is merged; None while there is none.
    """

    sql: str
    prepared: Prepared
    merged: MergedThrough | None


def compare_inside(
    context: RunContext, prepared: Prepared, warehouse: Warehouse, *, everything: bool = False
) -> Inside | None:
    """The window's statement, or None for a model that is compared here.

    `everything`: rows that are as they were sent leave too. Rows whose keys wait for somebody always do: it may be them
    that are mended. Raises StateError when the snapshot is not the one that the state knows.
    """
    model, snapshot_schema = prepared.model, context.snapshot_schema
    if snapshot_schema is None or not model.unique_key:
        return None
    tables = tables_of(snapshot_schema, context, model)
    merged = check_inside(context, model, prepared.known, tables, warehouse)
    if merged is not None:
        check_whole(model, prepared.known, tables, warehouse)
    mapped = map_columns(model, prepared.schema, fold_upper=warehouse.folds_upper)
    asked = _comparison(prepared, mapped, warehouse)
    rejects = context.store.standing_rejects(context.pipeline, model.name)
    refused = tuple(sorted({reject.key_hash for reject in rejects if reject.key_hash}))
    asked = replace(
        asked,
        table=None if merged is None else tables.sent,
        leave=refused,
        everything=everything or model.always or prepared.full or len(refused) > MOST_KEYS,
    )
    if asked.everything:
        asked = replace(asked, leave=(), settled=())
    own = prepared.encoding.row
    # What is no key here has a hash there all the same.
    key_hash = f"CASE WHEN ({own.key}) IS NOT NULL THEN {name_literal(pushdown.KEY)} END"
    row = replace(own, key_hash=key_hash, row_hash=name_literal(pushdown.ROW), older={})
    told = replace(prepared, encoding=replace(prepared.encoding, row=row))
    return Inside(pushdown.statement(asked), told, merged)


def delivered_inside(
    context: RunContext, model: Model, texts: Sequence[str], warehouse: Warehouse
) -> tuple[int, datetime | None] | None:
    """The batch that delivered the key whose columns have these texts, and the latest time that was sent of it.

    None where no snapshot in the warehouse has it.
    """
    snapshot_schema = context.snapshot_schema
    known = context.store.model_state(context.pipeline, model.name)
    if (
        snapshot_schema is None
        or check_inside(context, model, known, tables_of(snapshot_schema, context, model), warehouse) is None
    ):
        return None
    key = pushdown.bytes_literal(pushdown.key_of(texts), warehouse.dialect)
    rows = f"FROM {tables_of(snapshot_schema, context, model).sent} WHERE key_hash = {key}"
    batch = warehouse.scalar(f"SELECT batch {rows}")
    return None if batch is None else (int(batch), warehouse.scalar(f"SELECT inserted_at {rows}"))


def tables_of(snapshot_schema: SnapshotSchema, context: RunContext, model: Model) -> Tables:
    """The model's tables in the warehouse."""
    return snapshot_schema.tables(context.pipeline, model.name)


def _comparison(prepared: Prepared, mapped: Mapped, warehouse: Warehouse) -> Comparison:
    model, fields = prepared.model, mapped.returned.fields
    cursor = mapped.named((model.cursor,), "cursor")[0] if model.cursor else None
    skipped = {*mapped.named(model.ignore_changes, "ignore_changes"), cursor}
    sent = {name: column for name, column in _sent(mapped).items() if column.name not in skipped}
    omitted = "n" if model.nulls == "omit" else "N"
    values = [
        replace(
            _value(fields[column.name], "N" if name in mapped.fields else omitted),
            with_json=warehouse.dialect == "duckdb" and _is_ambiguous(column),
        )
        for name, column in sorted(sent.items())
    ]
    shapes, snowflake = {column.shape for column in sent.values()}, warehouse.dialect == "snowflake"
    naive = any(_is_naive(leaf) for column in sent.values() for _, leaf in leaves(column))
    return Comparison(
        dialect=warehouse.dialect,
        model=prepared.sql,
        columns=tuple(fields),
        key=tuple(_value(fields[name]) for name in mapped.named(model.unique_key, "unique_key")),
        values=tuple(values),
        digest=pushdown.digest(
            [
                (name, column.shape.property_type, *_form(column, mapped, zones=naive and snowflake))
                for name, column in sent.items()
            ],
            model.nested if shapes & NESTED else "",
            prepared.timezone if naive else "",
        ),
        cursor=_value(fields[cursor]) if cursor else None,
        settled=_settled(prepared, mapped, cursor, warehouse),
        events=not model.event.is_identify,
        count_gone=model.event.is_identify and prepared.reads_all,
    )


def _form(column: Column, mapped: Mapped, *, zones: bool) -> list[str]:
    """What tells a column from one of another type, the same Userpilot type and the same texts; empty for plain ones.

    Members of `metadata` are the same in JSON and in text. `zones`: the texts of times do not show whether they have a
    zone, and not all of them have the same.
    """
    if column.shape is Shape.TIMESTAMP:
        return ["zone"] if zones and not _is_naive(column) else []
    if column == mapped.metadata and column.shape in {Shape.JSON, Shape.TEXT}:
        return []
    if column.shape in NESTED or column.shape is Shape.UNION:
        return [way + leaf.shape.value[0] + (" naive" if _is_naive(leaf) else "") for way, leaf in leaves(column)]
    return []


def _is_naive(column: Column) -> bool:
    return column.shape is Shape.TIMESTAMP and column.type.tz is None


def _is_ambiguous(column: Column) -> bool:
    """True for values of which DuckDB's text does not tell 1 from '1'."""
    inside = {leaf.shape for _, leaf in leaves(column)}
    return Shape.VARIANT in inside or any(f"{Shape.UNION.value[0]} " in way for way, _ in leaves(column))


def _sent(mapped: Mapped) -> dict[str, Column]:
    """Final name -> column of everything that makes a row another one, as in the local row hash."""
    sent = {name: column for name, column in mapped.fields.items() if name != "inserted_at"}
    sent |= {f"metadata.{name}": column for name, column in mapped.properties.items()}
    return sent | ({"metadata": mapped.metadata} if mapped.metadata else {})


def _value(field: pa.Field, null: str = "N") -> Value:
    return Value(field.name, field.type, native_type(field), null)


def _settled(prepared: Prepared, mapped: Mapped, cursor: str | None, warehouse: Warehouse) -> tuple[str, ...]:
    """What holds of a row that is good as far as its hash does not tell. A row of which it does not hold leaves."""
    model, tests = prepared.model, []
    if cursor is not None and model.null_cursor == "reject":
        tests.append(f"{warehouse.quote(cursor)} IS NOT NULL")
    if cursor is not None and prepared.bounds.high is not None:
        high = cursor_literal(prepared.bounds.high, warehouse.dialect)
        tests.append(f"{warehouse.quote(cursor)} IS NULL OR {warehouse.quote(cursor)} <= {high}")
    if mapped.event_type is not None:
        tests.append(f"{warehouse.quote(mapped.event_type.name)} = '{model.event.value}'")
    return (*tests, *_settled_time(prepared, mapped.fields.get("inserted_at"), warehouse))


def _settled_time(prepared: Prepared, column: Column | None, warehouse: Warehouse) -> tuple[str, ...]:
    """The same of `inserted_at`, which is not part of the hash; a text's form is not looked at again."""
    if column is None:
        return ()
    name = warehouse.quote(column.name)
    missing = "" if not prepared.model.event.is_identify else f"{name} IS NULL OR "
    if column.shape not in (Shape.DATE, Shape.TIMESTAMP):
        return () if missing else (f"{name} IS NOT NULL",)
    kind = CursorKind.DATE if column.shape is Shape.DATE else CursorKind.TIMESTAMP
    kind = CursorKind.TIMESTAMPTZ if column.shape is Shape.TIMESTAMP and column.type.tz is not None else kind
    latest = prepared.started_at.astimezone(UTC) + _SURELY_PAST
    low, high = (cursor_literal(_time(kind, text), warehouse.dialect) for text in (_BEFORE_ALL, f"{latest:%F %T}"))
    return (f"{missing}{name} BETWEEN {low} AND {high}",)


def _time(kind: CursorKind, text: str) -> CursorValue:
    """A moment of UTC (`YYYY-MM-DD[ HH:MM:SS]`) as a value of that kind."""
    if kind is CursorKind.DATE:
        return CursorValue(kind, text[:10])
    whole = text if " " in text else f"{text} 00:00:00"
    return CursorValue(kind, f"{whole}.000000{'+00:00' if kind is CursorKind.TIMESTAMPTZ else ''}")


__all__ = ["Inside", "compare_inside", "delivered_inside"]
