"""Exactly one query: what a rendered model must be, and how it is put into another query.

sqlglot reads the SQL in the warehouse's dialect. What it cannot parse goes to the warehouse as it is, with a warning:
the warehouse decides. Tokens alone are enough to find a second statement and to cut off the end safely, so that is
never left open.
"""

from __future__ import annotations

import logging
from typing import Any

QUERY_WORDS = frozenset({"SELECT", "WITH", "FROM", "VALUES", "TABLE", "PIVOT", "UNPIVOT", "("})
"""How a query begins. SHOW, DESCRIBE, SUMMARIZE, EXPLAIN and CALL give rows too, but not rows of a model."""


class NotOneQuery(Exception):
    """The SQL is not one query. `line` is a line of the SQL, 1-based, 0 when unknown; `hint` says what to do."""

    def __init__(self, message: str, line: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


def wrap(sql: str, alias: str = "model") -> str:
    """`(<sql>) AS <alias>`: a query that `render` returned, to stand after FROM or JOIN in another one.

    `SELECT * FROM {wrap(sql)}` is one query for every `sql` that passed; the engine counts its lines from one more.
    """
    return f"(\n{sql}\n) AS {alias}"


def one_query(sql: str, dialect: str) -> tuple[str, int | None]:
    """The query without what stands after its last token (`;`, comments, blanks). Lines keep their numbers.

    The number is None, or the line at which sqlglot cannot parse the query (1-based, 0 when it does not say).
    `dialect` is sqlglot's name of it, empty for none in particular.
    Raises NotOneQuery: nothing there, two statements, no query, a query that also writes, an open quote.
    """
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import SqlglotError

    # Its warnings print SQL, and what is not understood is reported here.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    reader = Dialect.get_or_raise(dialect)
    try:
        tokens = reader.tokenize(sql)
    except SqlglotError:
        raise NotOneQuery(
            "the SQL cannot be read: a quote or a comment is not closed", _open_line(sql, reader)
        ) from None
    while tokens and _is(tokens[-1], "SEMICOLON"):
        tokens.pop()
    if not tokens:
        raise NotOneQuery("the file renders to no SQL", hint="write a SELECT below the header.")
    _check_tokens(tokens)
    query = sql[: tokens[-1].end + 1]
    try:
        statements = reader.parse(query)
    except (SqlglotError, RecursionError) as error:
        # Not the message: it quotes the SQL.
        return query, next((item["line"] for item in getattr(error, "errors", ()) if item.get("line")), 0)
    for statement in statements:
        _check_tree(statement, tokens)
    return query, None


def _is(token: Any, kind: str) -> bool:
    return bool(token.token_type.name == kind)


def _check_tokens(tokens: list[Any]) -> None:
    """What can be told without a grammar: one statement, that begins like a query, with parentheses in pairs."""
    first = tokens[0].text.upper()
    if first not in QUERY_WORDS:
        raise NotOneQuery(
            f"a model is one query, and this begins with {first if first.isalpha() else 'something else'}",
            tokens[0].line,
            "begin with SELECT or WITH; a model only reads.",
        )
    opened: list[int] = []
    for token in tokens:
        if _is(token, "SEMICOLON"):
            raise NotOneQuery("a second statement after `;`", token.line, "a model is one query: make two files of it.")
        if _is(token, "L_PAREN"):
            opened.append(token.line)
        elif _is(token, "R_PAREN"):
            if not opened:
                raise NotOneQuery("a `)` without its `(`", token.line)
            opened.pop()
    if opened:
        raise NotOneQuery("a `(` without its `)`", opened[-1])


def _check_tree(statement: Any, tokens: list[Any]) -> None:
    """The parsed statement is a query, and nothing in it writes."""
    from sqlglot import exp

    for node in statement.walk():
        if isinstance(node, exp.DML | exp.DDL | exp.Command | exp.Into):
            word = node.key.upper()
            line = next((token.line for token in tokens if token.text.upper() == word), tokens[0].line)
            what = "SELECT … INTO" if isinstance(node, exp.Into) else word
            raise NotOneQuery(f"the query also writes: {what}", line, "a model only reads.")
    if not isinstance(statement, exp.Query | exp.Values | exp.Pivot):
        raise NotOneQuery(
            "a model is one query, and this is something else", tokens[0].line, "begin with SELECT or WITH."
        )


def _open_line(sql: str, reader: Any) -> int:
    """The line where a quote or comment begins that is never closed; 0 when it is too far from the end to look for."""
    from sqlglot.errors import SqlglotError

    lines = sql.split("\n")
    for number in range(len(lines), max(0, len(lines) - 300), -1):
        try:
            reader.tokenize("\n".join(lines[: number - 1]))
        except SqlglotError:
            continue
        return number
    return 0


__all__ = ["NotOneQuery", "one_query", "wrap"]
