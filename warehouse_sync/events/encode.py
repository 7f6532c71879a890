"""A model header and an Arrow schema -> the SQL of its lines, keys, hashes and checks.

**The line.** `event_type`, `source`, the ids, `event_name`, the context fields, `inserted_at`, `metadata`, in this
order; NULL fields are left out. `metadata` stands in every identify_* and track line, and in page_view lines of models
that have properties. The expression fails for no row, so it may stand where invalid rows pass.

**Key.** One column: its value as text. Several: the JSON array of their values; a value that is sent as null, or
without its NUL characters, stands there as its text, so that two values are two keys. NULL when a column is NULL, or
blank where that refuses the row: a blank id says of no two rows that they are one. `key_hash` is `unhex(md5(key))`.

**Row hash.** See `row_hash`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from warehouse_sync.errors import ModelError
from warehouse_sync.events.columns import Mapped, map_columns
from warehouse_sync.events.faults import Faults
from warehouse_sync.events.fields import Fields, build_fields, is_blank
from warehouse_sync.events.properties import Properties, build_properties
from warehouse_sync.events.reasons import Reason
from warehouse_sync.events.row_hash import Sent, encoder_version, row_hashes
from warehouse_sync.events.schema import REQUIRED
from warehouse_sync.events.shapes import NESTED, Column, Shape
from warehouse_sync.events.sql import Check, Part, Text, any_of, bits, concat
from warehouse_sync.events.times import InsertedAt, build_inserted_at
from warehouse_sync.events.types import TIME_FORMAT, Types, invalid_utf8, to_json
from warehouse_sync.values import EventType, Model, Property, RowSql

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = {"user_id", "company_id", "event_name"}
"""The fields that are refused where they are blank, whatever else the row holds."""


@dataclass(frozen=True)
class PropertyLimits:
    """What Userpilot is said to keep of properties (second-hand): beyond it is a warning. None: no limit.

    `properties`: of one model; `name`: characters; `value`: bytes of a text.
    """

    properties: int | None = 500
    name: int | None = 255
    value: int | None = 65_535


@dataclass(frozen=True)
class EncodeOptions:
    """What is not in the model: the zone of naive times, the window's start (aware), and whether the warehouse folds
    names to upper case, so that property names without a lower-case letter are lower-cased."""

    timezone: str
    now: datetime
    fold_upper: bool = False
    limits: PropertyLimits = field(default_factory=PropertyLimits)


@dataclass(frozen=True)
class Encoding:
    """How a model's rows become lines.

    `properties`: by name, without the keys of a `metadata` column; `fields`: field -> column; `reason_columns`: the
    columns that a reason can be about, for messages. `opened`: columns whose properties only rows tell, and how they
    are sent; `event_type`: the column of that name, which is checked and not sent.
    """

    row: RowSql
    properties: tuple[Property, ...]
    fields: Mapping[str, str]
    reason_columns: Mapping[Reason, tuple[str, ...]]
    warnings: tuple[str, ...] = ()
    version: int = 1
    opened: Mapping[str, str] = field(default_factory=dict)
    event_type: str | None = None


def compile_row(model: Model, schema: pa.Schema, options: EncodeOptions) -> Encoding:
    """The SQL of one model's rows.

    `schema`: of the columns that the query returns; a field's metadata may name the warehouse's own type where Arrow's
    is not enough (`duckdb_type`; Snowflake's `logicalType`). The expressions name columns without a qualifier.
    ModelError, with all that is wrong, when a row of that schema could never be sent as the header asks.
    """
    faults = Faults(model)
    compiler = _Compiler(model, schema, options, faults)
    faults.raise_any()
    return compiler.encoding()


class _Compiler:
    def __init__(self, model: Model, schema: pa.Schema, options: EncodeOptions, faults: Faults) -> None:
        self.model = model
        self.limits = options.limits
        self.types = Types(options.timezone)
        self.mapped: Mapped = map_columns(model, schema, fold_upper=options.fold_upper, faults=faults)
        self.fields: Fields = build_fields(model, self.mapped, faults)
        # Where nobody named a key it is a field, and of that it is said already that it is not returned.
        key = [name for name in model.unique_key if name not in REQUIRED[model.event] - self.mapped.fields.keys()]
        self.unique_key = self.named(key, "unique_key", faults)
        cursor = self.named([model.cursor] if model.cursor else [], "cursor", faults)
        self.cursor = cursor[0] if cursor else None
        told = {self.mapped.fields[name].name for name in faults.fields & self.mapped.fields.keys()}
        for where, names in (("unique_key", self.unique_key), ("cursor", cursor)):
            for name in names:
                with faults.met():
                    _ = name in told or self.scalar(name, where)
        self.ignored = set(self.named(model.ignore_changes, "ignore_changes", faults))
        self.properties: Properties = build_properties(model, self.mapped, self.types, faults)
        column = self.mapped.fields.get("inserted_at")
        if column is not None or "inserted_at" not in faults.fields:
            with faults.met():
                self.inserted_at: InsertedAt = build_inserted_at(model, column, self.types, options.now)

    def named(self, names: Sequence[str], key: str, faults: Faults) -> tuple[str, ...]:
        """The columns that a header key names, but for those that are not there."""
        found: list[str] = []
        for name in names:
            with faults.met():
                found += self.mapped.named((name,), key)
        return tuple(found)

    def encoding(self) -> Encoding:
        key, key_checks = self.key()
        cursor, cursor_checks = self.cursor_sql()
        checks = [
            *self.fields.checks,
            *self.inserted_at.checks,
            *key_checks,
            *cursor_checks,
            *self.properties.checks(),
        ]
        row_hash, older = self.row_hash()
        row = RowSql(
            key=key,
            key_hash=f"unhex(md5({key}))",
            row_hash=row_hash,
            cursor=cursor,
            inserted_at=self.inserted_at.sql,
            reasons=bits(checks),
            notes=bits([*self.fields.notes, *self.properties.notes(), *self.properties.long_values(self.limits.value)]),
            line=self.line,
            older=older,
            identity=() if self.model.event.is_identify else self.identity(),
            shared=self.shared(),
        )
        return Encoding(
            row,
            self.properties.described,
            {name: column.name for name, column in self.mapped.fields.items()},
            _columns_by_reason(checks),
            tuple(self.warnings()),
            encoder_version(),
            self.opened(),
            self.mapped.event_type.name if self.mapped.event_type else None,
        )

    def opened(self) -> dict[str, str]:
        """Columns that are opened row by row -> the pattern of their properties' names."""
        names = {column.name: name for name, column in self.mapped.properties.items()}
        found = {one.column.name: f"metadata.{names.get(one.column.name, '')}.*" for one in self.properties.opened}
        return found | ({self.mapped.metadata.name: "metadata.*"} if self.mapped.metadata else {})

    def line(self, inserted_at: str) -> str:
        """The NDJSON line with that TIMESTAMP expression as its time."""
        parts: list[Part] = [Text(f'{{"event_type":"{self.model.event.value}"')]
        if not any(one.field.name == "source" for one in self.fields.parts):
            parts.append(Text(f',"source":"{self.model.source}"'))
        for one in self.fields.parts:
            parts += one.parts()
        parts.append(f'strftime({inserted_at}, \',"inserted_at":"{TIME_FORMAT}"\')')
        if not (self.model.event is EventType.PAGE_VIEW and self.properties.none):
            parts += [Text(',"metadata":'), *self.properties.object()]
        return concat([*parts, Text("}\n")])

    def identity(self) -> tuple[str, ...]:
        """The texts that, with type and time, make Userpilot's own id of an event (page "Event Schema" of exports)."""
        names = ("user_id", "company_id", "event_name")
        return tuple(one.text for one in self.fields.parts if one.field.name in names)

    def shared(self) -> tuple[str, ...]:
        """The JSON texts of the columns that hold text."""
        sent = [*self.mapped.fields.values(), *self.mapped.properties.values()]
        return tuple(to_json(f"{column.sql}::varchar") for column in sent if column.shape is Shape.TEXT)

    def key(self) -> tuple[str, list[Check]]:
        """The key as text, and what has to be true of its columns."""
        if not self.unique_key:
            return "NULL::VARCHAR", []
        columns = [self.scalar(name, "unique_key") for name in self.unique_key]
        names = NAMES & REQUIRED[self.model.event] & self.mapped.fields.keys()
        named = {self.mapped.fields[name].name for name in names}
        blank = [column for column in columns if column.name in named and column.shape is Shape.TEXT]
        lost = [is_blank(f"{column.sql}::varchar") for column in blank]
        missing = any_of([*lost, *(f"{column.sql} IS NULL" for column in columns if column not in blank)])
        required = {self.mapped.fields[name].name for name in REQUIRED[self.model.event] & self.mapped.fields.keys()}
        others = [column for column in columns if column.name not in required]
        checks = [Check(Reason.KEY_MISSING, f"{column.sql} IS NULL", column.name) for column in others]
        checks += self.readable(columns)
        values = [self.types.value(column) for column in columns]
        if len(values) == 1:
            return f"CASE WHEN NOT ({missing}) THEN {values[0].text} END" if blank else values[0].text, checks
        parts: list[Part] = [Text("[")]
        for i, value in enumerate(values):
            parts += [Text("," if i else ""), value.in_key]
        return f"CASE WHEN NOT ({missing}) THEN {concat([*parts, Text(']')])} END", checks

    def cursor_sql(self) -> tuple[str, list[Check]]:
        """The cursor as it is; text that is not UTF-8 is NULL, and its row is refused."""
        if self.cursor is None:
            return "NULL", []
        column = self.scalar(self.cursor, "cursor")
        if column.shape is Shape.TEXT:
            text = f"{column.sql}::varchar"
            return f"CASE WHEN {invalid_utf8(text)} THEN NULL ELSE {text} END", self.readable([column])
        if getattr(column.type, "unit", "") == "s":
            # Parquet has no seconds, and its milliseconds no room for all of them.
            return f"TRY_CAST({column.sql} AS TIMESTAMP)", []
        if column.native in {"HUGEINT", "UHUGEINT"}:
            # Nor has it room for their 39th digit.
            return f"TRY_CAST({column.sql} AS DECIMAL(38, 0))", []
        return column.sql, []

    def readable(self, columns: Iterable[Column]) -> list[Check]:
        return [
            Check(Reason.INVALID_UTF8, invalid_utf8(f"{column.sql}::varchar"), column.name)
            for column in columns
            if column.shape is Shape.TEXT
        ]

    def scalar(self, name: str, key: str) -> Column:
        column = self.mapped.returned.column(name)
        if column.shape in NESTED or column.shape is Shape.UNION:
            raise ModelError(
                f"{key} names {name!r}, which is nested ({column.type_name})",
                path=self.model.path,
                hint="name a part of it that is text, a number or a time, as a column of its own.",
            )
        return column

    def row_hash(self) -> tuple[str, dict[int, str]]:
        """The hash of what is sent, and the same as older versions made it."""
        line = self.line(self.inserted_at.sql)
        if not self.model.unique_key:
            return row_hashes(Sent(line, {}, keyed=False))
        skipped = self.ignored | ({self.cursor} if self.cursor else set())
        hashed = {one.field.name: one.json for one in self.fields.parts if one.column not in skipped}
        for known in self.properties.known:
            if known.column.name not in skipped:
                hashed[f"metadata.{known.name}"] = self.properties.sent(known)
        opened = tuple(one for one in self.properties.opened if one.column.name not in skipped)
        if opened:
            hashed["metadata"] = replace(self.properties, opened=opened).told_by_rows()
        return row_hashes(Sent(line, hashed, keyed=True))

    def warnings(self) -> list[str]:
        """What will probably surprise, though it is allowed."""
        found, limits = [], self.limits
        count = len(self.properties.known)
        if limits.properties is not None and count > limits.properties:
            found.append(f"{count} properties are sent; Userpilot is said to keep {limits.properties} at most")
        for one in self.properties.known:
            if limits.name is not None and len(one.name) > limits.name:
                name = f"{one.name[:40]}…"
                found.append(
                    f"the name of property {name} has {len(one.name)} characters; Userpilot is said to keep"
                    f" {limits.name} at most"
                )
        return found


def _columns_by_reason(checks: Sequence[Check]) -> dict[Reason, tuple[str, ...]]:
    found: dict[Reason, list[str]] = {}
    for check in checks:
        if isinstance(check.flag, Reason) and check.column not in found.setdefault(check.flag, []):
            found[check.flag].append(check.column)
    return {reason: tuple(found[reason]) for reason in sorted(found, key=lambda reason: reason.bit)}
