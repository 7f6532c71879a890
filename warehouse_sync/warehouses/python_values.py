"""Rows of a DBAPI driver into Arrow: a type for each column, and the columns under those types.

A column's type follows from what the driver says about it where that is enough, and otherwise from the values of the
first rows. Then all later values have to be of the Python types that these were taken for: Arrow alone would cut off
fractions and times of day. Whatever is of another type is an error that asks for a CAST.

Floats and decimals are sent as the digits that they have, in the same column as integers: SQLite holds the 10.00 of a
NUMERIC column as an integer, and what is sent of it may not depend on what other rows hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import NATIVE_TYPE, NUMBER_AS_TEXT, UNTOLD, hinted, stored_schema

if TYPE_CHECKING:
    import pyarrow as pa

_INT64 = range(-(2**63), 2**63)
_PYTHON = b"python"
"""In the metadata of a field whose type was read from values: the Python types that its values may have."""
_BOTH_ZONES = "timestamps with and without a zone"


def field_of(name: str, values: Sequence[Any]) -> pa.Field | None:
    """The field of a column with these values; None when they are all NULL. Raises WarehouseError for a mixture."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return None
    for accepted, build in _rules():
        if kinds <= accepted:
            field = build(name, [value for value in values if value is not None])
            return _held_to(field, accepted)
    raise _mixed(name, kinds)


def untold(name: str) -> pa.Field:
    """The field of a column whose type nobody told, and no value either."""
    import pyarrow as pa

    return _held_to(pa.field(name, pa.string(), metadata={UNTOLD: b""}), {str})


def _held_to(field: pa.Field, accepted: set[type]) -> pa.Field:
    names = ",".join(sorted(kind.__name__ for kind in accepted))
    return field.with_metadata({**(field.metadata or {}), _PYTHON: names.encode()})


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
        ({int}, _integer),
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

    aware = _zones(values)
    if len(aware) > 1:
        raise _mixed(name, {datetime}, _BOTH_ZONES)
    return pa.field(name, pa.timestamp("us", tz="UTC" if aware.pop() else None))


def _zones(values: Sequence[Any]) -> set[bool]:
    """Whether the moments among the values carry a zone: both, one or none of the two."""
    return {value.tzinfo is not None for value in values if value is not None}


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

    metadata = field.metadata or {}
    hint, accepted = (metadata.get(key, b"").decode() for key in (NATIVE_TYPE, _PYTHON))
    if accepted:
        _check(values, field, accepted.split(","))
    try:
        if hint or type_ == pa.string():
            return _texts(values, hint)
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    if is_time(type_) and not accepted:
        # MySQL's zero dates come as text; they are no moment, and NULL is what a strict server would hold.
        values = [None if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        kinds = {type(value) for value in values} - {type(None)}
        raise _mixed(field.name, kinds, f"values that do not fit {type_}") from None


def _check(values: Sequence[Any], field: pa.Field, accepted: Sequence[str]) -> None:
    """Raises WarehouseError for a value of another Python type than those for which the column's type was chosen."""
    import pyarrow.types as t

    kinds = set(map(type, values)) - {type(None)}
    late = {kind for kind in kinds if kind.__name__ not in accepted}
    if late:
        real = " (of SQLite's numbers: AS REAL)" if late == {float} and "int" in accepted else ""
        raise _mixed(field.name, late, f"values that do not fit {field.type}, the type of its first rows", real)
    if t.is_timestamp(field.type) and _zones(values) - {field.type.tz is not None}:
        raise _mixed(field.name, kinds, _BOTH_ZONES)


def is_time(type_: pa.DataType) -> bool:
    """True for dates and timestamps."""
    import pyarrow as pa

    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def _texts(values: Sequence[Any], hint: str) -> pa.Array:
    """Of numbers these are the digits that the engine prints of the same float; of what is no number, its name."""
    import pyarrow as pa

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


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _mixed(name: str, kinds: set[type], what: str = "", more: str = "") -> WarehouseError:
    found = what or "values of several types"
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    return WarehouseError(
        f"the column {name!r} holds {found} (Python: {names})",
        hint=f"CAST it in the model, so that every row has the same type{more}.",
    )
