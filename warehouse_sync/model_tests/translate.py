"""A model's SQL in DuckDB's dialect. What cannot be translated is an error at its line, not a guess.

Names without quotes are folded as the warehouse folds them, so that a column is called what it would be called there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ModelError

if TYPE_CHECKING:
    from sqlglot import exp

DUCKDB = "duckdb"

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED = re.compile(r'["\'`]([^"\'`]+)["\'`]|name ([A-Za-z_]\w*) does not exist')


def translate(sql: str, dialect: str) -> str:
    """The query for DuckDB; DuckDB's own SQL stays as it is. Raises ModelError with the line (1-based) in `sql`."""
    if dialect == DUCKDB:
        return sql
    from sqlglot import ErrorLevel
    from sqlglot.errors import UnsupportedError
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    tree = parse(sql, dialect)
    for call in _unknown_functions(tree):
        raise ModelError(
            f"DuckDB has no function {call.name}(), and sqlglot knows no translation from {dialect or 'this dialect'}",
            line=line_of(call),
            hint="a unit test cannot run this; write it in SQL that both know, or test the rest of the model without.",
        )
    tree = _read_text_of_json(normalize_identifiers(tree, dialect=dialect))
    try:
        return str(tree.sql(dialect=DUCKDB, unsupported_level=ErrorLevel.RAISE))
    except UnsupportedError as error:
        raise ModelError(
            f"this cannot be translated from {dialect or 'this dialect'} to DuckDB: {str(error).partition(chr(10))[0]}",
            line=_unsupported_line(tree),
            hint="a unit test cannot run this; write it in SQL that both know, or test the rest of the model without.",
        ) from None


def parse(sql: str, dialect: str) -> exp.Expr:
    """The query as a tree. Raises ModelError with the line at which sqlglot stops."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        return sqlglot.parse_one(sql, dialect=dialect)
    except (SqlglotError, RecursionError) as error:
        line = next((item["line"] for item in getattr(error, "errors", ()) if item.get("line")), 0)
        raise ModelError(
            f"sqlglot cannot read this as {dialect or 'SQL'}, so it cannot be translated to DuckDB",
            line=line,
            hint="a unit test cannot run this model; `warehouse-sync show` tries it on the warehouse.",
        ) from None


def line_of(node: exp.Expr) -> int:
    """The first line (1-based) that a part of the tree is known to stand in; 0 when none is."""
    return min((part.meta["line"] for part in node.walk() if part.meta.get("line")), default=0)


def line_of_error(text: str, sql: str, dialect: str) -> int:
    """The line of `sql` that an error of DuckDB about its translation speaks of: the first one with a word of it.

    DuckDB shows a piece of the translated query with a mark below it; the words at the mark, then those in quotes,
    are looked for in the query. 0 when none stands there.
    """
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import SqlglotError

    try:
        tokens = Dialect.get_or_raise(dialect).tokenize(sql)
    except SqlglotError:
        return 0
    lines: dict[str, int] = {}
    for token in tokens:
        for word in _WORD.findall(token.text):
            lines.setdefault(word.casefold(), token.line)
    return next((lines[word] for word in _words(text) if word in lines), 0)


def _words(text: str) -> Iterator[str]:
    shown = text.split("\n")
    for place, line in enumerate(shown):
        if line.strip() == "^" and place:
            yield from (word.casefold() for word in _WORD.findall(shown[place - 1][line.index("^") :])[:3])
    for quoted, function in _QUOTED.findall(text):
        yield from (word.casefold() for word in _WORD.findall(quoted or function))


def columns_read(sql: str, dialect: str, known: Collection[str]) -> dict[tuple[str, str], set[str]]:
    """The columns that a query reads of each table, as far as it says so: (schema, table), casefolded, -> names.

    A column without its table counts where only one table can be meant, unless its name (casefolded) is `known` of any
    table, or the SELECT gives something else that name. Empty for a query that cannot be understood; DuckDB has the
    last word.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.scope import traverse_scope

    found: dict[tuple[str, str], set[str]] = {}
    try:
        scopes = traverse_scope(parse(sql, dialect))
    except (SqlglotError, ModelError):
        return found
    for scope in scopes:
        tables = {name: table for name, table in scope.sources.items() if isinstance(table, exp.Table)}
        items = {item.alias.casefold(): item for item in getattr(scope.expression, "selects", ()) if item.alias}
        for column in scope.columns:
            table = tables.get(column.table)
            name = column.name.casefold()
            # `coalesce(plan, '') as plan` cannot mean itself.
            is_alias = name in items and column.find_ancestor(exp.Alias) is not items[name]
            if not column.table and len(scope.sources) == 1 and name not in known and not is_alias:
                table = next(iter(tables.values()), None)
            if table is not None:
                place = (table.db.casefold(), table.name.casefold())
                found.setdefault(place, set()).add(column.name)
    return found


def names_in(sql: str, dialect: str) -> frozenset[str] | None:
    """Every name that stands in a query, casefolded; None where it may read columns without naming them.

    It does so by `*`, by a table's name in the place of a value, and by NATURAL JOIN.
    """
    from sqlglot import exp

    try:
        tree = parse(sql, dialect)
    except ModelError:
        return None
    tables = {table.alias_or_name.casefold() for table in tree.find_all(exp.Table, exp.Subquery, exp.CTE)}
    if any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star)):
        return None
    if any(not column.table and column.name.casefold() in tables for column in tree.find_all(exp.Column)):
        return None
    if any(join.method == "NATURAL" for join in tree.find_all(exp.Join)):
        return None
    return frozenset(name.this.casefold() for name in tree.find_all(exp.Identifier))


@cache
def _functions() -> frozenset[str]:
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()").fetchall()
    return frozenset(name for (name,) in rows)


def _unknown_functions(tree: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    return (call for call in tree.find_all(exp.Anonymous) if call.name.lower() not in _functions())


def _read_text_of_json(tree: Any) -> Any:
    """`v:a::string` is the text of a JSON string without its quotes; DuckDB's cast would keep them."""
    from sqlglot import exp

    for cast in list(tree.find_all(exp.Cast)):
        if isinstance(cast.this, exp.JSONExtract) and cast.to.is_type(*exp.DataType.TEXT_TYPES):
            cast.replace(exp.JSONExtractScalar(**cast.this.args))
    return tree


def _unsupported_line(tree: exp.Expr) -> int:
    """The line of the smallest part that cannot be written for DuckDB by itself."""
    from sqlglot import ErrorLevel
    from sqlglot.errors import UnsupportedError

    smallest, size = tree, 1 << 30
    for node in tree.walk():
        try:
            node.sql(dialect=DUCKDB, unsupported_level=ErrorLevel.RAISE)
        except UnsupportedError:
            parts = sum(1 for _ in node.walk())
            if parts < size:
                smallest, size = node, parts
    return line_of(smallest)
