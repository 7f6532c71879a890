"""The inside of `metadata`: properties whose names are known before the first row, and those that only rows tell.

`nested` decides about nested columns: `json` sends a JSON string; `flatten` sends the fields of a STRUCT as `a.b`
(known names) and opens MAPs and JSON objects row by row (names that only rows tell), arrays staying JSON strings;
`error` is a ModelError for a nested column and makes a row invalid whose `metadata` holds a nested value.

The keys of a `metadata` column become properties; a column of the same name wins. Of equal keys that only rows tell,
the last one counts, as in every JSON parser; JSON nulls in there stay null whatever `nulls` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse_sync.errors import ModelError
from warehouse_sync.events import json_text
from warehouse_sync.events.reasons import Note, Reason
from warehouse_sync.events.shapes import NESTED, Column, Shape, UnsupportedTypeError, children, map_item_shape
from warehouse_sync.events.sql import Check, Part, Text, concat, json_key, quote
from warehouse_sync.events.types import (
    Types,
    Value,
    invalid_utf8,
    json_nan,
    json_source,
    map_entry,
    may_hold_nan,
    plain_text,
)
from warehouse_sync.values import Property

if TYPE_CHECKING:
    from warehouse_sync.events.columns import Mapped
    from warehouse_sync.events.faults import Faults
    from warehouse_sync.values import Model


@dataclass(frozen=True)
class Known:
    """A property whose name is known, the returned column that it is (part of), and its value."""

    name: str
    column: Column
    value: Value


@dataclass(frozen=True)
class Opened:
    """A column whose members become properties row by row.

    `members`: SQL list of STRUCT(k, v), never NULL; `text`: the JSON text of a `metadata` column, which may often be
    spliced as it is, else ''.
    """

    column: Column
    members: str
    checks: tuple[Check, ...]
    notes: tuple[tuple[Note, str], ...]
    text: str = ""


@dataclass(frozen=True)
class Properties:
    """What goes into `metadata`, and what has to be checked about it."""

    known: tuple[Known, ...]
    opened: tuple[Opened, ...]
    described: tuple[Property, ...]
    omit_nulls: bool

    @property
    def none(self) -> bool:
        """True when the model sends no property at all."""
        return not self.known and not self.opened

    def checks(self) -> list[Check]:
        """What makes a row invalid."""
        checks = [
            Check(Reason.INVALID_UTF8, one.value.invalid, one.column.name) for one in self.known if one.value.invalid
        ]
        return checks + [check for one in self.opened for check in one.checks]

    def notes(self) -> list[Check]:
        """What a row is noted for."""
        values = [(one.column.name, one.value.notes) for one in self.known]
        values += [(one.column.name, one.notes) for one in self.opened]
        return [Check(note, predicate, name) for name, notes in values for note, predicate in notes]

    def long_values(self, limit: int | None) -> list[Check]:
        """Which rows hold a text of more bytes than that, in a text or JSON column or as a member of `metadata`."""
        if limit is None:
            return []
        shapes = {Shape.TEXT, Shape.JSON, Shape.VARIANT}
        found = [
            (one.column.name, f"strlen({one.column.sql}::varchar) > {limit}")
            for one in self.known
            if one.column.shape in shapes
        ]
        for one in self.opened:
            if one.text:
                size = "strlen(json_extract_string(member.v, '$'))"
                longer = f"len(list_filter({one.members}, lambda member: {size} > {limit})) > 0"
                found.append((one.column.name, f"CASE WHEN strlen({one.text}) > {limit} THEN {longer} ELSE false END"))
        return [Check(Note.LONG_VALUE, predicate, name) for name, predicate in found]

    def sent(self, one: Known) -> str:
        """The value of a property as it is sent: NULL where it is left out."""
        return one.value.json if self.omit_nulls else f"coalesce({one.value.json}, 'null')"

    def told_by_rows(self) -> str:
        """The members of the opened columns as JSON text, each with a comma before it; '' when there are none."""
        taken = [one.name for one in self.known]
        lists = [one.members for one in self.opened]
        joined = json_text.joined(lists[0] if len(lists) == 1 else f"list_concat({', '.join(lists)})", taken)
        text = self.opened[0].text if len(self.opened) == 1 else ""
        if not text:
            return joined
        can_splice = json_text.can_splice(text, unique=self.opened[0].column.native in {"VARIANT", "OBJECT"})
        spliced = json_text.spliced(text, taken)
        return f"CASE WHEN {can_splice} THEN {spliced} WHEN {text} IS NULL OR {text} = '{{}}' THEN '' ELSE {joined} END"

    def object(self) -> list[Part]:
        """The JSON object, as parts of the line."""
        first: list[Part] = []
        rest: list[Part] = []
        for i, one in enumerate(self.known):
            key = json_key(one.name) + ":"
            if i == 0:
                first = [Text(key), self.sent(one)]
            elif self.omit_nulls:
                rest += [f"CASE WHEN {one.value.sent} THEN {quote(',' + key)} ELSE '' END", one.value.json]
            else:
                rest += [Text("," + key), self.sent(one)]
        if self.opened:
            rest.append(self.told_by_rows() if self.known else f"substr({self.told_by_rows()}, 2)")
        if self.omit_nulls and self.known:
            present = self.known[0].value.sent
            without = f"substr({concat(rest)}, 2)" if rest else "''"
            return [Text("{"), f"CASE WHEN {present} THEN {concat([*first, *rest])} ELSE {without} END", Text("}")]
        return [Text("{"), *first, *rest, Text("}")]


def build_properties(model: Model, mapped: Mapped, types: Types, faults: Faults) -> Properties:
    """Reads the property columns and the `metadata` column of a model; `faults` takes what is wrong with them."""
    builder = _Builder(model, types, {}, [])
    for name, column in mapped.properties.items():
        with faults.met():
            builder.add(name, column)
    described = tuple(
        Property(name, one.column.name, one.column.shape.property_type) for name, one in builder.known.items()
    )
    if mapped.metadata is not None:
        with faults.met():
            builder.open_metadata(mapped.metadata)
    return Properties(tuple(builder.known.values()), tuple(builder.opened), described, model.nulls == "omit")


@dataclass
class _Builder:
    model: Model
    types: Types
    known: dict[str, Known]
    opened: list[Opened]

    def add(self, name: str, column: Column, *, yields: bool = False) -> None:
        """One property; with `yields` it steps back where the name is taken."""
        if column.shape in NESTED and self.model.nested == "error":
            raise ModelError(
                f"column {column.name!r} is nested, and the model says nested: error",
                path=self.model.path,
                hint="nested: json sends it as a JSON string, nested: flatten as a.b.",
            )
        if column.shape is Shape.STRUCT and self.model.nested == "flatten":
            for field, child in children(column).items():
                self.add(f"{name}.{field}", child, yields=yields)
        elif column.shape in {Shape.MAP, Shape.JSON, Shape.VARIANT} and self.model.nested == "flatten":
            self.opened.append(self.map(column, name) if column.shape is Shape.MAP else self.json(column, name))
        elif name not in self.known:
            self.known[name] = Known(name, column, self.types.value(column))
        elif not yields:
            raise ModelError(
                f"two properties would both be sent as {name!r}", path=self.model.path, hint="rename tells them apart."
            )

    def open_metadata(self, column: Column) -> None:
        """The `metadata` column: a STRUCT tells its names now, a MAP and JSON text in every row."""
        if column.shape is Shape.STRUCT:
            for field, child in children(column).items():
                self.add(field, child, yields=True)
        elif column.shape is Shape.MAP:
            self.opened.append(self.map(column, ""))
        elif column.shape in {Shape.JSON, Shape.VARIANT, Shape.TEXT}:
            self.opened.append(self.metadata_json(column))
        elif column.shape is not Shape.NULL:
            raise ModelError(
                f"column {column.name!r} is {column.type_name}, and metadata has to be JSON, VARIANT, STRUCT or MAP",
                path=self.model.path,
                hint=f"rename: {{{column.name}: metadata.{column.name}}} sends it as one property.",
            )

    def map(self, column: Column, prefix: str) -> Opened:
        """A MAP, its keys behind `prefix` and a dot where there is one."""
        entry, key, item = map_entry(self.types, column, 0)
        name = plain_text(key.text, key.invalid)
        if prefix:
            name = f"concat({quote(prefix + '.')}, {name})"
        value = item.json if self.model.nulls == "omit" else f"coalesce({item.json}, 'null')"
        members = f"list_transform(map_entries({column.sql}), lambda {entry}: {{'k': {name}, 'v': {value}}})"
        if self.model.nulls == "omit":
            members = f"list_filter({members}, lambda {entry}: {entry}.v IS NOT NULL)"
        if self.model.nested == "error" and map_item_shape(column) in NESTED:
            raise UnsupportedTypeError(f"{column.name!r}: its values are nested, and the model says nested: error")
        whole = self.types.embedded(column)
        checks = (Check(Reason.INVALID_UTF8, whole.invalid, column.name),) if whole.invalid else ()
        members = f"CASE WHEN {column.sql} IS NULL THEN {json_text.NO_MEMBERS} ELSE {self.flat(members)} END"
        return Opened(column, members, checks, whole.notes)

    def json(self, column: Column, name: str) -> Opened:
        """A JSON column under `nested: flatten`: an object is opened, any other value keeps the column's name."""
        text = json_source(column)
        clean = json_text.clean(text)
        opened = self.flat(json_text.members(clean, quote(name + ".")))
        single = f"[{{'k': {quote(name)}, 'v': {json_text.trimmed(clean)}}}]"
        members = (
            f"CASE WHEN {json_text.is_null(text)} THEN {json_text.NO_MEMBERS} "
            f"WHEN {json_text.is_object(text)} THEN {opened} "
            f"WHEN {json_text.is_json(text)} THEN {single} ELSE {json_text.NO_MEMBERS} END"
        )
        bad = f"{text} IS NOT NULL AND NOT ({json_text.is_json(text)} AND {json_text.is_shallow(text)})"
        checks = (
            Check(Reason.INVALID_UTF8, invalid_utf8(text), column.name),
            Check(Reason.JSON_MALFORMED, f"{bad} AND NOT {json_text.is_json(text)}", column.name, gate=bad),
            Check(Reason.JSON_TOO_DEEP, f"{bad} AND {json_text.is_json(text)}", column.name, gate=""),
        )
        return Opened(column, members, checks, self.json_notes(column))

    def metadata_json(self, column: Column) -> Opened:
        """A `metadata` column of JSON text."""
        text = json_source(column)
        members = self.flat(json_text.members(json_text.clean(text)))
        members = f"CASE WHEN {json_text.is_object(text)} THEN {members} ELSE {json_text.NO_MEMBERS} END"
        json, null = json_text.is_json(text), json_text.is_null(text)
        good = json_text.is_flat(text) if self.model.nested == "error" else json_text.is_object(text)
        bad = f"NOT {json_text.is_fast(text)} AND {text} IS NOT NULL AND NOT {good} AND NOT {null}"
        opens = json_text.starts_with(text, "{")
        checks = [
            Check(Reason.INVALID_UTF8, invalid_utf8(text), column.name),
            Check(Reason.METADATA_MALFORMED, f"{bad} AND NOT {json}", column.name, gate=bad),
            Check(Reason.METADATA_NOT_OBJECT, f"{bad} AND {json} AND NOT {opens}", column.name, gate=""),
        ]
        if self.model.nested == "error":
            checks.append(Check(Reason.NESTED_VALUE, f"{bad} AND {json} AND {opens}", column.name, gate=""))
        else:
            checks.append(Check(Reason.JSON_TOO_DEEP, f"{bad} AND {json} AND {opens}", column.name, gate=""))
        return Opened(column, members, tuple(checks), self.json_notes(column), text)

    def json_notes(self, column: Column) -> tuple[tuple[Note, str], ...]:
        text = json_source(column)
        removed = (Note.NUL_REMOVED, json_text.guarded(text, json_text.escapes_nul(text)))
        return (removed, (Note.NAN_TO_NULL, json_nan(column))) if may_hold_nan(column) else (removed,)

    def flat(self, members: str) -> str:
        return json_text.flattened(members) if self.model.nested == "flatten" else members
