"""Rows of a test as views of DuckDB, and the names under which a model finds them.

A column that the model reads and the rows do not have is an untyped NULL: it fits into any expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from warehouse_sync.errors import ModelError
from warehouse_sync.model_tests.translate import translate
from warehouse_sync.project.dbt.relations import Use
from warehouse_sync.project.names import nearest
from warehouse_sync.project.unit_tests import Given, Input, Rows
from warehouse_sync.project.yaml.document import DateText
from warehouse_sync.warehouses.base import name_literal, text_literal

MAIN = "main"
"""The schema of refs without a package: DuckDB's own default."""

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_AWARE = re.compile(r"(Z|[+-]\d{1,2}(:?\d{2})?)$")
_BIGINT = 2**63


@dataclass(frozen=True)
class GivenRelations:
    """`source()` and `ref()` of a model under test: only what the test gives. `dialect` is the model's."""

    inputs: Sequence[Input]
    dialect: str

    def source(self, schema: str, table: str) -> str:
        """The name of the given rows as SQL; ModelError for rows that are not given."""
        return self._name(Input("source", (schema, table)))

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """The name of the given rows as SQL; `ref('name')` gives them for any package and version."""
        wanted = Use("ref", (package or "", name, version or ""))
        fitting = [input_ for input_ in self.inputs if stands_for(input_, wanted)]
        # What names more is meant more exactly; a version says more than a package.
        exact = max(fitting, key=lambda input_: (bool(input_.version), len(input_.names)), default=None)
        return self._name(exact or Input("ref", (name,), version or ""))

    def _name(self, wanted: Input) -> str:
        from sqlglot import exp

        if wanted not in self.inputs:
            raise ModelError(
                f"the test gives no rows for {wanted}{nearest(str(wanted), map(str, self.inputs))}",
                hint=f'add it under `given`, with `rows: []` for an empty table: input: "{wanted}".',
            )
        schema, table = place_of(wanted)
        return exp.table_(table, db=None if schema == MAIN else schema, quoted=True).sql(dialect=self.dialect)


class AnyRelations:
    """`source()` and `ref()` of a model that is only asked what it calls."""

    def source(self, schema: str, table: str) -> str:
        """Some name."""
        return table

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """Some name."""
        return name


def stands_for(input_: Input, use: Use) -> bool:
    """True when rows of that input are what the call reads: `ref('name')` stands for any package and version."""
    if input_.kind != use.kind or use.kind == "source":
        return (input_.kind, input_.names) == (use.kind, use.names)
    package, name, version = use.names
    return input_.names in ((name,), (package, name)) and input_.version in ("", version)


def place_of(input_: Input) -> tuple[str, str]:
    """Schema and name of an input's view."""
    name = f"{input_.names[-1]}.v{input_.version}" if input_.version else input_.names[-1]
    return (MAIN if len(input_.names) == 1 else input_.names[0]), name


def columns_of(rows: Rows) -> tuple[str, ...]:
    """The columns of rows, in the order in which they first stand; none for a query."""
    return tuple(dict.fromkeys(name for row in rows.rows for name in row))


def view_sql(given: Given, missing: Iterable[str], dialect: str) -> str:
    """The SELECT behind a view, in DuckDB's SQL. Raises ModelError for values of a column that do not go together."""
    nulls = [f"NULL AS {name_literal(name)}" for name in missing]
    if given.rows.sql is not None:
        return f"SELECT {', '.join(['*', *nulls])} FROM (\n{translate(given.rows.sql, dialect)}\n)"
    names = columns_of(given.rows)
    types = {name.casefold(): _type(text, dialect) for name, text in given.types.items()}
    columns = [name_literal(name) for name in names]
    if not names:
        return f"SELECT {', '.join(nulls) or 'NULL AS none'} WHERE false"
    for name in names:
        if name.casefold() not in types:
            _check_kinds(given.input, name, given.rows.rows)
    rows = ", ".join(
        f"({', '.join(literal(row.get(name), types.get(name.casefold())) for name in names)})"
        for row in given.rows.rows
    )
    return f"SELECT {', '.join(['*', *nulls])} FROM (VALUES {rows}) AS given({', '.join(columns)})"


def _type(text: str, dialect: str) -> str:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    # Only a cast shows that nothing stands behind the type, and only by itself is it looked up.
    try:
        (cast,) = sqlglot.parse(f"CAST(NULL AS {text})", dialect=dialect)
        if isinstance(cast, exp.Cast):
            return exp.DataType.build(text, dialect=dialect).sql(dialect="duckdb")
    except (SqlglotError, ValueError):
        pass
    raise ModelError(f"`types` names {text!r}, which is no type", hint="write it as in the model's SQL.")


def _check_kinds(input_: Input, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    kinds = {_kind(row[name]) for row in rows if row.get(name) is not None}
    if len(kinds) > 1:
        raise ModelError(
            f"{input_}: the values of column `{name}` are {' and '.join(sorted(kinds))}",
            hint="quote all of them to make them text, or name the column's type under `types`.",
        )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float | Decimal):
        return "numbers"
    if isinstance(value, DateText):
        return "times"
    return "nested values" if isinstance(value, dict | list) else "text"


def literal(value: Any, kind: str | None = None) -> str:
    """One cell as DuckDB SQL; with `kind`, a DuckDB type, as the text that is cast to it."""
    if value is None:
        return "NULL"
    if kind is not None:
        return f"CAST({text_literal(_text(value))} AS {kind})"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}::BIGINT" if -_BIGINT < value < _BIGINT else str(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float):
        return f"'{value}'::DOUBLE"
    if isinstance(value, DateText):
        date, aware = _DATE.fullmatch(value.text), _AWARE.search(value.text[10:])
        return f"{text_literal(value.text)}::{'DATE' if date else 'TIMESTAMPTZ' if aware else 'TIMESTAMP'}"
    return f"{text_literal(_text(value))}::JSON" if isinstance(value, dict | list) else text_literal(str(value))


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=_json)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.text if isinstance(value, DateText) else str(value)


def _json(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else _text(value)
