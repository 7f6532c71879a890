"""How each Snowflake type crosses: what the server casts, the Arrow type that every chunk of a result is brought to.

A chunk has the Arrow types that its own values need (NUMBER as int8 in one, as decimal in the next), so that each one
is cast to what the description of the query promises. NUMBER(p, 0) is an integer up to 18 digits and a decimal beyond;
timestamps are cut to microseconds; VARIANT, OBJECT and ARRAY are JSON text; GEOGRAPHY and GEOMETRY are refused unless
they are excluded; DECFLOAT, intervals, VECTOR, MAP and FILE are cast by the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import NUMBER_AS_TEXT, hinted, name_literal

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = (
    "FIXED", "REAL", "TEXT", "DATE", "TIMESTAMP", "VARIANT", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIMESTAMP_NTZ",
    "OBJECT", "ARRAY", "BINARY", "TIME", "BOOLEAN", "GEOGRAPHY", "GEOMETRY", "VECTOR", "MAP", "FILE",
    "INTERVAL_YEAR_MONTH", "INTERVAL_DAY_TIME",
)  # fmt: skip
"""The connector's type codes, in order."""

_CASTS = {
    "VECTOR": "TO_VARIANT({x}::ARRAY)",
    "MAP": "TO_VARIANT({x})",
    "FILE": "TO_VARIANT({x})",
    "INTERVAL_YEAR_MONTH": "TO_VARCHAR({x})",
    "INTERVAL_DAY_TIME": "TO_VARCHAR({x})",
}
_LONGEST_INT64 = 18


@dataclass(frozen=True)
class ColumnCast:
    """One column on its way. `cast`: the server's expression; `field`: as `describe` gives it."""

    cast: str
    field: pa.Field


def column_of(meta: Any) -> ColumnCast:
    """The way of a column that the connector describes by this `ResultMetadata`."""
    import pyarrow as pa

    kind = _NAMES[meta.type_code] if 0 <= meta.type_code < len(_NAMES) else "TEXT"
    name = name_literal(meta.name)
    if kind == "FIXED":
        if meta.precision is None or meta.scale is None:  # DECFLOAT
            opaque = pa.opaque(pa.string(), "decfloat", "Snowflake")
            return ColumnCast(f"TO_VARCHAR({name})", hinted(meta.name, opaque, NUMBER_AS_TEXT))
        narrow = meta.scale == 0 and meta.precision <= _LONGEST_INT64
        return ColumnCast(
            name, pa.field(meta.name, pa.int64() if narrow else pa.decimal128(meta.precision, meta.scale))
        )
    if kind in ("VARIANT", "OBJECT", "ARRAY", "VECTOR", "MAP", "FILE"):
        return ColumnCast(_CASTS.get(kind, "{x}").format(x=name), hinted(meta.name, pa.string(), "JSON"))
    if kind in ("GEOGRAPHY", "GEOMETRY"):
        return ColumnCast(name, hinted(meta.name, pa.binary(), kind))
    types = {
        "REAL": pa.float64(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
        "TIMESTAMP_NTZ": pa.timestamp("us"),
        "TIMESTAMP_LTZ": pa.timestamp("us", tz="UTC"),
        "TIMESTAMP_TZ": pa.timestamp("us", tz="UTC"),
        "BINARY": pa.binary(),
        "TIME": pa.time64("us"),
        "BOOLEAN": pa.bool_(),
    }
    return ColumnCast(_CASTS.get(kind, "{x}").format(x=name), pa.field(meta.name, types.get(kind, pa.string())))


def conform(table: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """A chunk under the schema of its query. Raises WarehouseError (it names no value) when a column does not fit."""
    import pyarrow as pa

    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(_cast(column, field.type))
        except pa.ArrowException:
            raise WarehouseError(
                f"the column {field.name!r} was described as {field.type} and came as {column.type}",
                hint="CAST it in the model, for instance to VARCHAR, NUMBER(38, s) or VARIANT.",
            ) from None
    yield from pa.Table.from_arrays(columns, schema=schema).to_batches()


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    """Digits below the microsecond are cut; nothing else may be lost."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type == to:
        return column
    if pa.types.is_timestamp(to) and pa.types.is_timestamp(column.type) and column.type.tz is None and to.tz:
        column = pc.assume_timezone(column, "UTC")
    return column.cast(options=pc.CastOptions(target_type=to, allow_time_truncate=True))
