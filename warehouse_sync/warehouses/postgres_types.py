"""How each PostgreSQL type crosses: what the server casts, what Arrow carries, what the engine mends.

* numeric comes as the digits it has, however many: with a declared scale of 0 it is DECIMAL(p, 0), so that it can be an
  id or a cursor; all others stay text that is sent as a number. NaN and infinities become NULL;
* money becomes numeric, oid to bigint; char(n) to text, which drops the padding that means nothing;
* arrays, composite types and records become JSON on the server: any depth, exact numbers; NaN and infinities in an
  array become null, in a composite type they are text, as money is; what holds bytea is refused, as bytea is;
* json, jsonb, uuid, enum, date, time, interval, bytea as they are; infinite dates and timestamps stay infinite;
* everything else that only the server can read (timetz, inet, ranges, bit, xml, tsvector, …) becomes its text there,
  but for geometry and geography, which are refused unless they are excluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse_sync.warehouses.base import NUMBER_AS_TEXT, hinted, name_literal

if TYPE_CHECKING:
    import pyarrow as pa

_SPATIAL = frozenset({"geometry", "geography", "raster"})
_SERVER_CASTS = {
    # The driver takes four times as long for the same digits.
    "numeric": "{x}::text",
    "money": "{x}::numeric::text",
    "oid": "{x}::bigint",
    "bpchar": "{x}::text",
}
_JSON = "to_json({x})"
_AMOUNTS = "to_json({x}::numeric[])"
_NUMBERS = """regexp_replace(to_json({x})::text, '"(NaN|-?Infinity)"', 'null', 'g')"""
"""An array of numbers as JSON, where PostgreSQL makes text of what is no number."""
_EPOCH_US, _EPOCH_DAYS = 946_684_800_000_000, 10_957
"""PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01."""


@dataclass(frozen=True)
class ColumnCast:
    """One column on its way. `cast`: the server's expression; `field`: as `describe` gives it; `mend`: the engine's."""

    cast: str
    field: pa.Field
    mend: str


def column_of(field: pa.Field) -> ColumnCast:
    """The way of a column that the driver describes by this field."""
    import pyarrow as pa

    metadata = field.metadata or {}
    name, kind = name_literal(field.name), metadata.get(b"POSTGRESQL:type", b"").decode()
    cast = _server_cast(field.type, kind)
    plain = ColumnCast(cast.format(x=name), field.remove_metadata(), name)
    if kind in ("numeric", "money"):
        typmod = -1 if kind == "money" else int(metadata.get(b"POSTGRESQL:typmod", b"-1"))
        return _numeric(field, plain.cast, typmod)
    if cast in (_JSON, _NUMBERS, _AMOUNTS) or kind in ("json", "jsonb"):
        return ColumnCast(plain.cast, hinted(field.name, pa.string(), "JSON"), name)
    if kind == "oid":
        return ColumnCast(plain.cast, pa.field(field.name, pa.int64()), name)
    if cast != "{x}":
        return ColumnCast(plain.cast, pa.field(field.name, pa.string()), name)
    if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type):
        return ColumnCast(name, plain.field, _infinite(name, field.type))
    return plain


def _server_cast(type_: pa.DataType, kind: str) -> str:
    import pyarrow as pa

    if kind in _SERVER_CASTS:
        return _SERVER_CASTS[kind]
    if pa.types.is_list(type_) or pa.types.is_struct(type_):
        return _json_cast(type_)
    unread = getattr(type_, "extension_name", "") == "arrow.opaque" and kind not in _SPATIAL
    return "{x}::text" if unread else "{x}"


def _json_cast(type_: pa.DataType) -> str:
    import pyarrow as pa

    if _holds_bytes(type_):
        return "{x}"
    kind = b""
    while pa.types.is_list(type_):
        kind, type_ = (type_.value_field.metadata or {}).get(b"POSTGRESQL:type", b""), type_.value_type
    if kind == b"money":
        return _AMOUNTS
    is_number = pa.types.is_floating(type_) or getattr(type_, "type_name", "") == "numeric"
    return _NUMBERS if is_number else _JSON


def _holds_bytes(type_: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_list(type_) or pa.types.is_struct(type_):
        return any(_holds_bytes(type_.field(place).type) for place in range(type_.num_fields))
    return bool(pa.types.is_binary(type_))


def _numeric(field: pa.Field, cast: str, typmod: int) -> ColumnCast:
    import pyarrow as pa

    name = name_literal(field.name)
    precision, scale = ((typmod - 4) >> 16) & 0xFFFF, (((typmod - 4) & 0x7FF) ^ 1024) - 1024
    whole = precision - scale
    if typmod >= 0 and scale <= 0 and whole <= 38:
        return ColumnCast(
            cast, pa.field(field.name, pa.decimal128(whole, 0)), f"TRY_CAST({name} AS DECIMAL({whole}, 0))"
        )
    # Not a plain string: as a cursor its values would be compared as text.
    opaque = pa.opaque(pa.string(), "numeric", "PostgreSQL")
    return ColumnCast(cast, hinted(field.name, opaque, NUMBER_AS_TEXT), name)


def _infinite(name: str, type_: pa.DataType) -> str:
    """The driver moves infinity from one epoch to the other like any value, past the end of the integers; and with it
    the last 29 years that PostgreSQL has, which the engine does not."""
    import pyarrow as pa

    if pa.types.is_date(type_):
        number, never, kind = f"({name} - DATE '1970-01-01')", -(2**31) + _EPOCH_DAYS, "DATE"
    else:
        number, never = f"epoch_us({name})", -(2**63) + _EPOCH_US
        kind = "TIMESTAMP" if type_.tz is None else "TIMESTAMPTZ"
    ends = f"WHEN {number} < {never} THEN 'infinity'::{kind} WHEN {number} = {never} THEN '-infinity'::{kind}"
    return f"CASE {ends} ELSE {name} END"


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that the engine reads: types that only name themselves are what they are stored as."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _stored(field.type)) for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch under `plain_schema`; nothing is copied."""
    import pyarrow as pa

    columns = [
        column.storage if field.type != column.type else column
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _stored(type_: pa.DataType) -> pa.DataType:
    return type_.storage_type if getattr(type_, "extension_name", "") == "arrow.opaque" else type_
