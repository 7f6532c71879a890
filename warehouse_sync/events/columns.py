"""Which column is which field or property (design: "Columns to fields").

`rename` comes first and gives the final name; a final name that begins with `_`, and every column in
`exclude_columns`, is never sent. Then a field's name (compared without case) makes the field; `event_type` is checked,
`metadata` is opened; all else is a property. The cursor column is no exception: it is sent unless its name begins with
`_` or it is excluded.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse_sync.errors import ModelError
from warehouse_sync.events.faults import Faults
from warehouse_sync.events.schema import Field, fields_of
from warehouse_sync.events.shapes import Column, column_of
from warehouse_sync.events.sql import ident
from warehouse_sync.values import Model

if TYPE_CHECKING:
    import pyarrow as pa

PROPERTY_PREFIX = "metadata."


@dataclass(frozen=True)
class Returned:
    """The columns that a model returns, looked up as its header names them."""

    model: Model
    fields: Mapping[str, pa.Field]

    @classmethod
    def of(cls, model: Model, schema: pa.Schema) -> Returned:
        """Reads the schema; two columns that differ only by case are a ModelError: SQL could not tell them apart."""
        seen: dict[str, str] = {}
        for name in schema.names:
            other = seen.get(name.lower())
            if other is not None:
                raise ModelError(
                    f"the query returns two columns named {name!r}" + (f" and {other!r}" if other != name else ""),
                    path=model.path,
                    hint="Give one of them another name: names are compared without case.",
                )
            seen[name.lower()] = name
        return cls(model, {field.name: field for field in schema})

    def find(self, name: str) -> str | None:
        """The returned column of that name: exactly, else without case."""
        if name in self.fields:
            return name
        return next((column for column in self.fields if column.lower() == name.lower()), None)

    def require(self, name: str, key: str) -> str:
        """The returned column that a header key names, or a ModelError that names the nearest one."""
        found = self.find(name)
        if found is None:
            near = difflib.get_close_matches(name.lower(), [column.lower() for column in self.fields], 1, 0.5)
            nearest = self.find(near[0]) if near else None
            hint = f"Did you mean {nearest!r}?" if nearest else "It returns " + ", ".join(self.fields) + "."
            raise ModelError(f"{key} names {name!r}, which the query does not return", path=self.model.path, hint=hint)
        return found

    def column(self, name: str) -> Column:
        """The column with its type; UnsupportedTypeError when that type cannot be sent."""
        return column_of(self.fields[name], ident(name))


@dataclass(frozen=True)
class Mapped:
    """Every sent column in its place. `fields` in the order of the line, by field name; properties by final name."""

    returned: Returned
    fields: Mapping[str, Column]
    kinds: tuple[Field, ...]
    event_type: Column | None
    metadata: Column | None
    properties: Mapping[str, Column]

    def named(self, names: Sequence[str], key: str) -> tuple[str, ...]:
        """The columns that a header key names; the name of a field stands for the column that was renamed to it."""
        return tuple(
            self.fields[name].name
            if self.returned.find(name) is None and name in self.fields
            else self.returned.require(name, key)
            for name in names
        )


def map_columns(model: Model, schema: pa.Schema, *, fold_upper: bool, faults: Faults | None = None) -> Mapped:
    """Puts every returned column in its place.

    `faults`: takes what else is wrong, and the columns at fault are left out; without it that is raised. ModelError for
    two columns of one name, for names that clash or that the query does not return, for types that cannot be sent.
    """
    returned = Returned.of(model, schema)
    met = Faults(model) if faults is None else faults
    mapped = _map(model, returned, fold_upper=fold_upper, faults=met)
    if faults is None:
        met.raise_any()
    return mapped


def _map(model: Model, returned: Returned, *, fold_upper: bool, faults: Faults) -> Mapped:
    renamed: dict[str, str] = {}
    for old, new in model.rename.items():
        with faults.met(new.lower()):
            renamed[returned.require(old, "rename")] = new
    excluded: set[str] = set()
    for name in model.exclude_columns:
        with faults.met():
            excluded.add(returned.require(name, "exclude_columns"))
    kinds = fields_of(model.event, context=model.context)
    special = {field.name for field in kinds} | {"event_type", "metadata"}

    placed: dict[str, str] = {}
    properties: dict[str, str] = {}
    for name in returned.fields:
        final = renamed.get(name, name)
        if name in excluded or final.startswith("_"):
            continue
        with faults.met():
            if final.lower() in special:
                _put(placed, final.lower(), name, model)
            else:
                fold = fold_upper and name not in renamed
                _put(properties, _property_name(final, fold=fold, model=model), name, model)

    columns, others = (_typed(returned, names, faults) for names in (placed, properties))
    return Mapped(
        returned,
        {field.name: columns[field.name] for field in kinds if field.name in columns},
        kinds,
        columns.get("event_type"),
        columns.get("metadata"),
        others,
    )


def _typed(returned: Returned, names: Mapping[str, str], faults: Faults) -> dict[str, Column]:
    """Final name -> column, of those whose type can be sent."""
    found: dict[str, Column] = {}
    for final, name in names.items():
        with faults.met(final):
            found[final] = returned.column(name)
    return found


def _property_name(final: str, *, fold: bool, model: Model) -> str:
    name = final[len(PROPERTY_PREFIX) :] if final.startswith(PROPERTY_PREFIX) else final
    if not name:
        raise ModelError(
            f"{final!r} is no name for a property",
            path=model.path,
            hint="Give the column one in the query (`AS plan`), or rename it.",
        )
    return name.lower() if fold and name == name.upper() else name


def _put(places: dict[str, str], final: str, column: str, model: Model) -> None:
    if final in places:
        raise ModelError(
            f"columns {places[final]!r} and {column!r} would both be sent as {final!r}",
            path=model.path,
            hint="rename or exclude_columns tells them apart.",
        )
    places[final] = column
