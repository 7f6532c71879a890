"""Rows of a DBAPI driver into Arrow: a type for each column, and the columns under those types.

A column's type follows from what the driver says about it where that is enough, and otherwise from the values of the
first rows. Integers, floats and decimals may mix; whatever else does not fit its column's type is an error that asks
for a CAST.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import NATIVE_TYPE, NUMBER_AS_TEXT, hinted, stored_schema

if TYPE_CHECKING:
    import pyarrow as pa

_INT64 = range(-(2**63), 2**63)


def field_of(name: str, values: Sequence[Any]) -> pa.Field | None:
    """The field of a column with these values; None when they are all NULL. Raises WarehouseError for a mixture."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return None
    for accepted, build in _rules():
        if kinds <= accepted:
            return build(name, [value for value in values if value is not None])
    raise _mixed(name, kinds)


def numbers(name: str) -> pa.Field:
    """Text of numbers; not a plain string, since as a cursor its values would be compared as text."""
    import pyarrow as pa

    opaque = pa.opaque(pa.string(), "numeric", "Python")
    return hinted(name, opaque, NUMBER_AS_TEXT)


def _rules() -> list[tuple[set[type], Callable[[str, Sequence[Any]], pa.Field]]]:
    """The first set of Python types that holds all types of a column decides."""
    import pyarrow as pa

    def of(type_: pa.DataType) -> Callable[[str, Sequence[Any]], pa.Field]:
        return lambda name, _values: pa.field(name, type_)

    return [
        ({bool}, of(pa.bool_())),
        ({int, bool}, _integer),
        ({int, bool, float}, of(pa.float64())),
        ({int, float, Decimal}, lambda name, _values: numbers(name)),
        ({str}, of(pa.string())),
        ({datetime}, _timestamp),
        ({date}, of(pa.date32())),
        ({time}, of(pa.time64("us"))),
        ({timedelta}, of(pa.duration("us"))),
        ({bytes, bytearray, memoryview}, of(pa.binary())),
        ({UUID}, lambda name, _values: hinted(name, pa.string(), "UUID")),
        ({dict, list, tuple}, lambda name, _values: hinted(name, pa.string(), "JSON")),
    ]


def _integer(name: str, values: Sequence[Any]) -> pa.Field:
    import pyarrow as pa

    return pa.field(name, pa.int64() if all(value in _INT64 for value in values) else pa.decimal128(38, 0))


def _timestamp(name: str, values: Sequence[Any]) -> pa.Field:
    import pyarrow as pa

    aware = {value.tzinfo is not None for value in values}
    if len(aware) > 1:
        raise _mixed(name, {datetime}, "timestamps with and without a zone")
    return pa.field(name, pa.timestamp("us", tz="UTC" if aware.pop() else None))


def batch_of(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as one record batch; the schema's types that only name themselves are stored as text."""
    import pyarrow as pa

    stored = stored_schema(schema)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [array_of(values, field, to.type) for values, field, to in zip(columns, schema, stored, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=stored)


def array_of(values: Sequence[Any], field: pa.Field, type_: pa.DataType) -> pa.Array:
    """One column's values under its type. Raises WarehouseError, which names no value."""
    import pyarrow as pa

    hint = (field.metadata or {}).get(NATIVE_TYPE, b"").decode()
    try:
        if hint or type_ == pa.string():
            return _texts(values, hint, is_number=type_ != field.type)
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    if is_time(type_):
        # MySQL's zero dates come as text; they are no moment, and NULL is what a strict server would hold.
        kept = date if pa.types.is_date(type_) else datetime
        values = [value if isinstance(value, kept) else None for value in values]
    try:
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        kinds = {type(value) for value in values} - {type(None)}
        raise _mixed(field.name, kinds, f"values that do not fit {type_}") from None


def is_time(type_: pa.DataType) -> bool:
    """True for dates and timestamps."""
    import pyarrow as pa

    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def _texts(values: Sequence[Any], hint: str, *, is_number: bool) -> pa.Array:
    import pyarrow as pa

    if is_number:
        return pa.array([None if value is None else _digits(value) for value in values], pa.string())
    if hint == "JSON":
        return pa.array([_json(value) for value in values], pa.string())
    if hint:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, UnicodeError):
        # Not UTF-8: the engine takes it as it is, and the row is refused there.
        return pa.array([_bytes(value) for value in values], pa.binary()).view(pa.string())


def _bytes(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _digits(value: Any) -> str | None:
    """A number as JSON writes it; NaN and infinities are NULL."""
    finite = value.is_finite() if isinstance(value, Decimal) else isfinite(value)
    return str(value) if finite else None


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _mixed(name: str, kinds: set[type], what: str = "") -> WarehouseError:
    found = what or "values of several types"
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    return WarehouseError(
        f"the column {name!r} holds {found} (Python: {names})",
        hint="CAST it in the model, so that every row has the same type.",
    )
