"""What kind of value a column holds, read from its Arrow type and what the warehouse says besides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from warehouse_sync.events.sql import quote

if TYPE_CHECKING:
    import pyarrow as pa

PropertyType = Literal["String", "Numeric", "Date", "Boolean"]


class Shape(Enum):
    """What kind of value a column or a leaf holds; its value is the Userpilot type of a property."""

    NULL = ("null", "String")
    INTEGER = ("integer", "Numeric")
    DECIMAL = ("decimal", "Numeric")
    FLOAT = ("float", "Numeric")
    BOOLEAN = ("boolean", "Boolean")
    TEXT = ("text", "String")
    LABEL = ("label", "String")  # time, interval, bit: printed as ASCII text
    DATE = ("date", "Date")
    TIMESTAMP = ("timestamp", "Date")
    JSON = ("json", "String")
    VARIANT = ("variant", "String")
    STRUCT = ("struct", "String")
    MAP = ("map", "String")
    LIST = ("list", "String")
    UNION = ("union", "String")

    @property
    def property_type(self) -> PropertyType:
        """The type that Userpilot will see."""
        kind: PropertyType = self.value[1]
        return kind


NESTED = frozenset({Shape.STRUCT, Shape.MAP, Shape.LIST, Shape.JSON, Shape.VARIANT})
SEMI_STRUCTURED = frozenset({"VARIANT", "OBJECT", "ARRAY"})
"""Native types whose JSON text is made by the warehouse: numbers in there may be NaN and infinite."""


@dataclass(frozen=True)
class Column:
    """One returned column, or a value inside it: the column's name, Arrow type, shape, the SQL that reads it."""

    name: str
    type: pa.DataType
    shape: Shape
    sql: str
    native: str = ""

    @property
    def type_name(self) -> str:
        """The type as messages call it."""
        return self.native or str(self.type)


class UnsupportedTypeError(Exception):
    """A type that cannot be sent; the message says why, for the one who knows the column's name."""


def native_type(field: pa.Field) -> str:
    """The warehouse's own name of a type where Arrow's is not enough, upper case; '' when nothing says it.

    Read from the field's metadata (`duckdb_type`; Snowflake's `logicalType`) and from Arrow extension types.
    """
    metadata = field.metadata or {}
    hint: bytes = metadata.get(b"duckdb_type") or metadata.get(b"logicalType") or b""
    if not hint:
        extension = metadata.get(b"ARROW:extension:name", b"").decode() or getattr(field.type, "extension_name", "")
        opaque = str(getattr(field.type, "type_name", ""))
        hint = {"arrow.json": "JSON", "arrow.uuid": "UUID", "arrow.parquet.variant": "VARIANT"}.get(
            extension, opaque if extension == "arrow.opaque" else extension
        ).encode()
    return hint.decode().upper()


def type_name(field: pa.Field) -> str:
    """The type of a column as messages call it."""
    return native_type(field) or str(field.type)


_NATIVE_SHAPES = {
    "NUMERIC": Shape.DECIMAL,
    "JSON": Shape.JSON,
    "HUGEINT": Shape.INTEGER,
    "UHUGEINT": Shape.INTEGER,
    "BIGNUM": Shape.INTEGER,
    "UUID": Shape.TEXT,
    "BIT": Shape.LABEL,
    "TIME_TZ": Shape.LABEL,
    "ARROW.BOOL8": Shape.BOOLEAN,
}


def shape_of(type_: pa.DataType, native: str = "") -> Shape:
    """The shape of an Arrow type; `UnsupportedTypeError` when there is none."""
    import pyarrow.types as t

    if native in SEMI_STRUCTURED:
        textual = t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_)
        return Shape.JSON if textual else Shape.VARIANT
    if native in _NATIVE_SHAPES:
        return _NATIVE_SHAPES[native]
    if hasattr(type_, "storage_type"):
        raise UnsupportedTypeError(f"{native} values cannot be sent; cast the column to text, or exclude it")
    if t.is_dictionary(type_) or t.is_run_end_encoded(type_):
        return shape_of(type_.value_type)
    _refuse_unreadable(type_)
    for shape, tests in _shape_tests().items():
        if any(test(type_) for test in tests):
            return shape
    raise UnsupportedTypeError(f"{native or type_} values cannot be sent; cast the column to text, or exclude it")


def _shape_tests() -> dict[Shape, tuple[Callable[[pa.DataType], bool], ...]]:
    """Arrow types by shape. Binary is in none of them."""
    import pyarrow.types as t

    return {
        Shape.NULL: (t.is_null,),
        Shape.BOOLEAN: (t.is_boolean,),
        Shape.INTEGER: (t.is_integer,),
        Shape.DECIMAL: (t.is_decimal,),
        Shape.FLOAT: (t.is_floating,),
        Shape.TEXT: (t.is_string, t.is_large_string, t.is_string_view),
        Shape.DATE: (t.is_date,),
        Shape.TIMESTAMP: (t.is_timestamp,),
        Shape.LABEL: (t.is_time, t.is_duration, t.is_interval),
        Shape.STRUCT: (t.is_struct,),
        Shape.MAP: (t.is_map,),
        Shape.LIST: (t.is_list, t.is_large_list, t.is_fixed_size_list, t.is_list_view, t.is_large_list_view),
        Shape.UNION: (t.is_union,),
    }


def _refuse_unreadable(type_: pa.DataType) -> None:
    """Arrow types that DuckDB cannot read (2.0: it stops the query, or itself)."""
    import pyarrow.types as t

    if t.is_decimal256(type_) or (t.is_decimal(type_) and type_.scale < 0):
        raise UnsupportedTypeError(
            f"{type_} is wider than 38 digits or has a negative scale; cast it to DECIMAL(38, s)"
        )
    if t.is_float16(type_):
        raise UnsupportedTypeError("half-precision floats cannot be read; cast the column to FLOAT")
    if t.is_union(type_) and type_.mode != "sparse":
        raise UnsupportedTypeError("dense unions cannot be read; cast the column to text")


def children(column: Column) -> dict[str, Column]:
    """The fields of a STRUCT by name, as columns that read them."""
    fields = [column.type.field(i) for i in range(column.type.num_fields)]
    return {
        field.name: child_of(field, f"struct_extract({column.sql}, {quote(field.name)})", column) for field in fields
    }


def column_of(field: pa.Field, sql: str, name: str = "") -> Column:
    """A returned column, or with `name` a part of the column of that name; UnsupportedTypeError names it."""
    native, name = native_type(field), name or field.name
    if re.search(r"\bTUPLE\(", native):
        raise UnsupportedTypeError(
            f"{name!r}: a STRUCT whose fields have no names cannot be sent; name them ({{'a': 1}}, struct_pack), or"
            " cast it to text"
        )
    try:
        return Column(name, field.type, shape_of(field.type, native), sql, native)
    except UnsupportedTypeError as error:
        raise UnsupportedTypeError(f"{name!r}: {error}") from None


def child_of(field: pa.Field, sql: str, parent: Column) -> Column:
    """A value inside a column, under the name of that column."""
    return column_of(field, sql, parent.name)


def leaves(column: Column) -> Iterator[tuple[str, Column]]:
    """The values inside a column that hold no others, each with the way to it: names, and kinds of containers."""
    if column.shape is Shape.STRUCT or column.shape is Shape.UNION:
        inner = [column.type.field(i) for i in range(column.type.num_fields)]
    elif column.shape is Shape.MAP:
        inner = [column.type.key_field, column.type.item_field]
    elif column.shape is Shape.LIST:
        inner = [column.type.value_field]
    else:
        yield "", column
        return
    for field in inner:
        name = field.name if column.shape in {Shape.STRUCT, Shape.UNION} else ""
        for way, leaf in leaves(child_of(field, "", column)):
            yield f"{column.shape.value[0]} {name}/{way}", leaf


def map_item_shape(column: Column) -> Shape:
    """The shape of a MAP's values."""
    return column_of(column.type.item_field, "").shape
