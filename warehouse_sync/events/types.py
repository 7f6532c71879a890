"""The one table of values: Arrow type -> SQL expression of its JSON text. Nested values are built from it too.

What each value becomes:

* integers, decimals: their digits by `::varchar` (34.70 stays 34.70), with the zero that DuckDB leaves out of `.05`;
  decimals of more than 18 digits go through DECIMAL(18,s) when they fit, which prints faster;
* floats: the shortest digits that read back the same, by `::varchar`; NaN and infinities are null, noted per leaf;
* text, UUID, enum, dictionary: `to_json`. It gives an empty string for bytes that are not UTF-8, which is how they are
  found; a result longer than text + 2 quotes is the cheap sign of an escape, and only then NUL characters are removed;
* dates `YYYY-MM-DD`; times, intervals, bit strings: their text;
* timestamps `YYYY-MM-DDTHH:MM:SS.ffffff` in UTC: naive ones are read in the models' zone and carry no suffix, aware
  ones end in `Z`; nanoseconds are cut off; infinite ones, and years outside 1 to 9999, are null and noted;
* JSON and VARIANT text: a scalar is sent as that scalar (numbers as the text they are), JSON null is NULL; an object,
  an array and text that is no JSON are sent as a JSON string; inside other values it is text like any other unless
  Arrow says that it is JSON. DuckDB's own VARIANT is printed by DuckDB, which drops a decimal's last zeros; NaN and
  infinities in a VARIANT are null, noted;
* STRUCT, MAP, LIST, ARRAY: a JSON string of the object or array built from the above. UNION: its member's value.

Only casts and functions that cannot fail are used on a bare value, and what fails on bytes that are not UTF-8 (`trim`,
`lower`, ... take the whole database down) stands behind a CASE that has seen them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from warehouse_sync.events import json_text
from warehouse_sync.events.reasons import Note
from warehouse_sync.events.shapes import (
    NESTED,
    SEMI_STRUCTURED,
    Column,
    Shape,
    UnsupportedTypeError,
    child_of,
    children,
)
from warehouse_sync.events.sql import Part, Text, any_of, concat, json_key, quote

MAX_DOUBLE_INTEGER = 2**53
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%f"


@dataclass(frozen=True)
class Value:
    """A value as SQL.

    `json`: its JSON text, NULL where null is to be sent; `sent`: true when `json` is not NULL; `text`: the value as
    bare text, as in a key; `invalid`: true when it holds bytes that are not UTF-8 ('' when it cannot); `notes`: what
    was changed, each with its predicate.
    """

    json: str
    sent: str
    text: str
    invalid: str = ""
    notes: tuple[tuple[Note, str], ...] = ()

    @property
    def in_key(self) -> str:
        """Its JSON text in a key of several columns: no two values have the same one there."""
        lost = any_of([predicate for note, predicate in self.notes if note is not Note.BEYOND_2_53])
        return f"CASE WHEN {lost} THEN {to_json(self.text)} ELSE {self.json} END" if self.notes else self.json


def to_json(text: str) -> str:
    """JSON text of a VARCHAR expression; '' when its bytes are not UTF-8. One spelling, so that DuckDB shares it."""
    return f"to_json({text})::varchar"


def clean_json(text: str) -> str:
    """`to_json`, with NUL characters removed."""
    escaped = f"strlen({to_json(text)}) > strlen({text}) + 2"
    return f"CASE WHEN {escaped} THEN to_json(replace({text}, chr(0), ''))::varchar ELSE {to_json(text)} END"


def has_nul(text: str) -> str:
    """True when a text holds a NUL; cheap to deny, since only texts that `to_json` escapes are searched."""
    return f"strlen({to_json(text)}) > strlen({text}) + 2 AND contains({text}, chr(0))"


def invalid_utf8(text: str) -> str:
    """True when a text holds bytes that are not UTF-8."""
    return f"{to_json(text)} = ''"


@dataclass(frozen=True)
class Types:
    """Builds values; `zone` is the zone of timestamps that carry none."""

    zone: str

    def value(self, column: Column, depth: int = 0) -> Value:
        """A column or leaf as the JSON text of a property. `depth` counts the lambdas around it."""
        value = self.embedded(column, depth)
        return replace(value, json=to_json(value.json)) if column.shape in _CONTAINERS else value

    def embedded(self, column: Column, depth: int = 0) -> Value:
        """The same as it stands inside another value: containers as objects and arrays, not as strings."""
        return _BUILDERS[column.shape](self, column, depth)

    def utc(self, column: Column) -> str:
        """A date or timestamp as TIMESTAMP in UTC, of any year; NULL when NULL or infinite."""
        x, type_ = column.sql, column.type
        if column.shape is Shape.DATE:
            return self.from_zone(f"TRY_CAST({x} AS TIMESTAMP)")
        if type_.unit == "ns":
            nanoseconds = f"epoch_ns({x})"
            moment = f"make_timestamp(({nanoseconds} - (({nanoseconds} % 1000) + 1000) % 1000) // 1000)"
        elif type_.tz is None and type_.unit != "us":
            moment = f"make_timestamp(epoch_us(TRY_CAST({x} AS TIMESTAMP)))"
        else:
            moment = f"make_timestamp(epoch_us({x}))"
        return moment if type_.tz is not None else self.from_zone(moment)

    def from_zone(self, moment: str) -> str:
        """A naive TIMESTAMP of the models' zone in UTC. Far years, on which the conversion fails, stay as they are."""
        if self.zone in {"UTC", "Etc/UTC"}:
            return moment
        near = f"{moment} BETWEEN TIMESTAMP '0001-01-03' AND TIMESTAMP '9999-12-29'"
        converted = f"make_timestamp(epoch_us(timezone({quote(self.zone)}, {moment})))"
        return f"CASE WHEN {near} THEN {converted} ELSE {moment} END"


def _plain(sql: str) -> Callable[[Types, Column, int], Value]:
    """A builder whose JSON text and bare text are the same expression over {x}."""

    def build(_types: Types, column: Column, _depth: int) -> Value:
        text = sql.format(x=column.sql)
        return Value(text, f"{column.sql} IS NOT NULL", text)

    return build


def _null(_types: Types, _column: Column, _depth: int) -> Value:
    return Value("NULL::VARCHAR", "false", "NULL::VARCHAR")


def _integer(types: Types, column: Column, depth: int) -> Value:
    import pyarrow.types as t

    x, type_ = column.sql, column.type
    limit = MAX_DOUBLE_INTEGER
    if column.native == "BIGNUM":
        beyond = f"{x} IS NOT NULL AND TRY_CAST({x}::varchar AS HUGEINT) BETWEEN -{limit} AND {limit} IS NOT TRUE"
    elif column.native == "UHUGEINT" or t.is_unsigned_integer(type_):
        beyond = f"{x} > {limit}"
    else:
        beyond = f"{x} NOT BETWEEN -{limit} AND {limit}"
    narrow = t.is_integer(type_) and type_.bit_width < 64
    return Value(
        f"{x}::varchar",
        f"{x} IS NOT NULL",
        f"{x}::varchar",
        notes=() if narrow else ((Note.BEYOND_2_53, beyond),),
    )


def _number_text(x: str) -> Value:
    """Digits of any length that come as text; what ends in no digit is NaN or an infinity."""
    finite = f"right({x}, 1) BETWEEN '0' AND '9'"
    within = f"TRY_CAST({x} AS DOUBLE) BETWEEN -{MAX_DOUBLE_INTEGER} AND {MAX_DOUBLE_INTEGER}"
    large = f"strlen({x}) > 15 AND {finite} AND NOT ({within})"
    notes = ((Note.NAN_TO_NULL, f"NOT ({finite})"), (Note.BEYOND_2_53, large))
    return Value(f"CASE WHEN {finite} THEN {x} END", finite, x, notes=notes)


def _decimal(_types: Types, column: Column, _depth: int) -> Value:
    x, type_ = column.sql, column.type
    if column.native == "NUMERIC":
        return _number_text(x)
    if not hasattr(type_, "precision"):  # dictionary or run-end encoded
        type_ = type_.value_type
    precision, scale = type_.precision, type_.scale
    digits = f"{x}::varchar"
    if precision == scale:  # DuckDB prints .05
        digits = f"regexp_replace({digits}, '^(-?)\\.', '\\10.')"
    elif precision > 18 and scale <= 12:
        digits = f"coalesce(TRY_CAST({x} AS DECIMAL(18,{scale}))::varchar, {digits})"
    beyond = f"{x} NOT BETWEEN -{MAX_DOUBLE_INTEGER} AND {MAX_DOUBLE_INTEGER}"
    notes = ((Note.BEYOND_2_53, beyond),) if precision - scale > 15 else ()
    return Value(digits, f"{x} IS NOT NULL", digits, notes=notes)


def _float(_types: Types, column: Column, _depth: int) -> Value:
    x = column.sql
    digits = f"CASE WHEN isfinite({x}) THEN {x}::varchar END"
    return Value(digits, f"isfinite({x})", f"{x}::varchar", notes=((Note.NAN_TO_NULL, f"NOT isfinite({x})"),))


def _text(_types: Types, column: Column, _depth: int) -> Value:
    text = f"{column.sql}::varchar"
    readable = f"CASE WHEN {invalid_utf8(text)} THEN encode({text})::varchar ELSE {text} END"
    return Value(
        clean_json(text),
        f"{column.sql} IS NOT NULL",
        readable,
        invalid_utf8(text),
        ((Note.NUL_REMOVED, has_nul(text)),),
    )


def _label(_types: Types, column: Column, _depth: int) -> Value:
    text = f"{column.sql}::varchar"
    return Value(to_json(text), f"{column.sql} IS NOT NULL", text)


def _date(_types: Types, column: Column, _depth: int) -> Value:
    x = column.sql
    known = f"{x} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
    note = (Note.TIME_TO_NULL, f"NOT ({known})")
    return Value(f"CASE WHEN {known} THEN strftime({x}, '\"%Y-%m-%d\"') END", known, f"{x}::varchar", notes=(note,))


def _timestamp(types: Types, column: Column, _depth: int) -> Value:
    utc, suffix = types.utc(column), "" if column.type.tz is None else "Z"
    known = f"{utc} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
    note = (Note.TIME_TO_NULL, f"{column.sql} IS NOT NULL AND ({known}) IS NOT TRUE")
    return Value(
        f"CASE WHEN {known} THEN strftime({utc}, '\"{TIME_FORMAT}{suffix}\"') END",
        known,
        f"CASE WHEN {known} THEN strftime({utc}, '{TIME_FORMAT}{suffix}') ELSE {column.sql}::varchar END",
        notes=(note,),
    )


def json_source(column: Column) -> str:
    """The JSON text of a JSON or VARIANT column, in the latter null for NaN and infinities."""
    text = _told_text(column)
    return json_text.without_nan(text) if may_hold_nan(column) else text


def json_nan(column: Column) -> str:
    """True when such a number became null."""
    text = _told_text(column)
    return json_text.holds_nan(text) if may_hold_nan(column) else json_text.is_nan(text)


def may_hold_nan(column: Column) -> bool:
    """True when the warehouse made the JSON text of a column."""
    return column.shape is Shape.VARIANT or column.native in SEMI_STRUCTURED


def _told_text(column: Column) -> str:
    return f"to_json({column.sql})::varchar" if column.shape is Shape.VARIANT else f"{column.sql}::varchar"


def _json(_types: Types, column: Column, depth: int) -> Value:
    text, nan = json_source(column), (Note.NAN_TO_NULL, json_nan(column))
    if depth:
        json = f"CASE WHEN {json_text.is_json(text)} THEN {text} ELSE {clean_json(text)} END"
        inside = (nan,) if may_hold_nan(column) else ()
        return Value(json, f"{column.sql} IS NOT NULL", text, invalid_utf8(text), inside)
    json = json_text.scalar_or_string(text, clean_json(text))
    notes = ((Note.NUL_REMOVED, json_text.has_nul(text, has_nul(text))), nan)
    return Value(json, f"{json} IS NOT NULL", text, invalid_utf8(text), notes)


def _struct(types: Types, column: Column, depth: int) -> Value:
    parts: list[Part] = [Text("{")]
    values = [(name, types.embedded(child, depth + 1)) for name, child in children(column).items()]
    for i, (name, value) in enumerate(values):
        parts += [Text(("," if i else "") + json_key(name) + ":"), f"coalesce({value.json}, 'null')"]
    json = f"CASE WHEN {column.sql} IS NOT NULL THEN {concat([*parts, Text('}')])} END"
    return _container(column, json, [value for _, value in values], lambda predicate: predicate)


def _list(types: Types, column: Column, depth: int) -> Value:
    element = f'"warehouse_sync.v{depth}"'
    value = types.embedded(child_of(column.type.value_field, element, column), depth + 1)
    elements = f"list_transform({column.sql}, lambda {element}: coalesce({value.json}, 'null'))"
    body = concat([Text("["), f"array_to_string({elements}, ',')", Text("]")])
    json = f"CASE WHEN {column.sql} IS NOT NULL THEN {body} END"
    return _container(column, json, [value], lambda predicate: _any_element(column.sql, element, predicate))


def map_entry(types: Types, column: Column, depth: int) -> tuple[str, Value, Value]:
    """Of a MAP: the lambda parameter that stands for an entry, and its key and value."""
    entry = f'"warehouse_sync.v{depth}"'
    key = child_of(column.type.key_field, f"struct_extract({entry}, 'key')", column)
    item = child_of(column.type.item_field, f"struct_extract({entry}, 'value')", column)
    if key.shape in NESTED or key.shape is Shape.UNION:
        raise UnsupportedTypeError(
            f"{column.name!r}: a MAP with nested keys cannot be sent; cast it to text, or exclude it"
        )
    return entry, types.embedded(key, depth + 1), types.embedded(item, depth + 1)


def plain_text(text: str, invalid: str) -> str:
    """Text without NUL characters; bytes that are not UTF-8 stay as they are (their row is refused)."""
    return f"CASE WHEN {has_nul(text)} THEN replace({text}, chr(0), '') ELSE {text} END" if invalid else text


def _map(types: Types, column: Column, depth: int) -> Value:
    entry, key, item = map_entry(types, column, depth)
    member = concat([clean_json(key.text), Text(":"), f"coalesce({item.json}, 'null')"])
    members = f"list_transform(map_entries({column.sql}), lambda {entry}: {member})"
    body = concat([Text("{"), f"array_to_string({members}, ',')", Text("}")])
    json = f"CASE WHEN {column.sql} IS NOT NULL THEN {body} END"
    entries = f"map_entries({column.sql})"
    return _container(column, json, [key, item], lambda predicate: _any_element(entries, entry, predicate))


def _any_element(elements: str, element: str, predicate: str) -> str:
    tests = f"list_transform({elements}, lambda {element}: coalesce({predicate}, false))"
    return f"coalesce(list_aggregate({tests}, 'bool_or'), false)"


def _container(column: Column, json: str, inner: list[Value], lift: Callable[[str], str]) -> Value:
    invalid = f"to_json({column.sql})::varchar = ''" if any(value.invalid for value in inner) else ""
    found: dict[Note, list[str]] = {}
    for value in inner:
        for note, predicate in value.notes:
            found.setdefault(note, []).append(predicate)
    notes = tuple((note, lift(any_of(predicates))) for note, predicates in found.items())
    return Value(json, f"{column.sql} IS NOT NULL", f"{column.sql}::varchar", invalid, notes)


def _union(types: Types, column: Column, depth: int) -> Value:
    members = [column.type.field(i) for i in range(column.type.num_fields)]
    values = [
        (field.name, types.value(child_of(field, f"union_extract({column.sql}, {quote(field.name)})", column), depth))
        for field in members
    ]
    cases = " ".join(f"WHEN {quote(name)} THEN {value.json}" for name, value in values)
    json = f"CASE union_tag({column.sql})::varchar {cases} END"
    unreadable = [value.invalid for _, value in values if value.invalid]
    notes = tuple(note for _, value in values for note in value.notes)
    invalid = any_of(unreadable) if unreadable else ""
    return Value(json, f"{json} IS NOT NULL", f"{column.sql}::varchar", invalid, notes)


_CONTAINERS = frozenset({Shape.STRUCT, Shape.MAP, Shape.LIST})
_BUILDERS: dict[Shape, Callable[[Types, Column, int], Value]] = {
    Shape.NULL: _null,
    Shape.INTEGER: _integer,
    Shape.DECIMAL: _decimal,
    Shape.FLOAT: _float,
    Shape.BOOLEAN: _plain("{x}::varchar"),
    Shape.TEXT: _text,
    Shape.LABEL: _label,
    Shape.DATE: _date,
    Shape.TIMESTAMP: _timestamp,
    Shape.JSON: _json,
    Shape.VARIANT: _json,
    Shape.STRUCT: _struct,
    Shape.MAP: _map,
    Shape.LIST: _list,
    Shape.UNION: _union,
}
