"""Exactly one query, and that its wrapper runs on a real engine whatever stands at its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.errors import ModelError
from warehouse_sync.project.query import NotOneQuery, one_query
from warehouse_sync.project.render import RenderContext, Rendered, fingerprint, render, wrap
from warehouse_sync.values import EventType, Model

HEADER = "{{ config(event='identify_user') }}\n"
MODEL = Model(name="users", path=Path("/models/users.sql"), sql=HEADER, event=EventType.IDENTIFY_USER)


def one(sql: str, dialect: str = "duckdb") -> Rendered:
    return render(replace(MODEL, sql=HEADER + sql), RenderContext(), dialect)


def error_of(sql: str, dialect: str = "duckdb") -> str:
    with pytest.raises(ModelError) as caught:
        one(sql, dialect)
    return str(caught.value).replace("/models/", "")


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("create table t as select * from (values (1, 'x'), (2, 'y')) v(a, b)")
        yield connection


GOOD = [
    ("select 1", [(1,)]),
    ("select 1;", [(1,)]),
    ("select 1 ;;\n ; ", [(1,)]),
    ("select 1 -- done;", [(1,)]),
    ("select 1; -- done;", [(1,)]),
    ("select 1; -- done; select 2\n-- more\n", [(1,)]),
    ("select 1 /* ; */ ; /* select 2; */", [(1,)]),
    ("select 1 /* /* nested; */ ; */;", [(1,)]),
    ("-- first;\nselect 1", [(1,)]),
    ("/* a */ select 1 --", [(1,)]),
    ("select ';' -- it's fine", [(";",)]),
    ("select '-- no comment'", [("-- no comment",)]),
    ("select '/*', 2 -- */", [("/*", 2)]),
    ("select 'it''s; --'", [("it's; --",)]),
    ('select 1 as "a;b -- c" ;', [(1,)]),
    ("select $$a; -- b$$;", [("a; -- b",)]),
    ("select $tag$;$$;$tag$", [(";$$;",)]),
    ("select e'a\\';b' -- c", [("a';b",)]),
    ("select '😀;' as x; -- 😀;", [("😀;",)]),
    ("select {'a': {'b': 1}}.a.b -- ;", [(1,)]),
    ("select ')' -- (", [(")",)]),
    ("from t order by a", [(1, "x"), (2, "y")]),
    ("from t select a where a > 1", [(2,)]),
    ("values (1), (2);", [(1,), (2,)]),
    ("table t;", [(1, "x"), (2, "y")]),
    ("with x as (from t) select a from x order by a limit 1", [(1,)]),
    ("with recursive x(i) as (select 1 union all select i + 1 from x where i < 3) from x", [(1,), (2,), (3,)]),
    ("(select 1) union all (select 2) order by 1", [(1,), (2,)]),
    ("((select 1))", [(1,)]),
    ("pivot t on b in ('x', 'y') using sum(a)", [(1, 2)]),
    ("unpivot t on a into name n value v", [("x", "a", 1), ("y", "a", 2)]),
    ("select * exclude (b) from t qualify row_number() over (order by a) = 1", [(1,)]),
]


@pytest.mark.parametrize(("sql", "rows"), GOOD)
def test_the_wrapper_runs(sql: str, rows: list[Any], engine: duckdb.DuckDBPyConnection) -> None:
    rendered = one(sql)
    assert rendered.warnings == ()
    assert engine.sql(f"SELECT * FROM {wrap(rendered.sql)}").fetchall() == rows
    assert engine.sql(f"SELECT * FROM {wrap(rendered.sql, 'm')} WHERE m IS NOT NULL").fetchall() == rows


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("select 1 // c; d", "select 1"),
        ("select a:b::string from t; // c", "select a:b::string from t"),
        ("select $1 from @stage;", "select $1 from @stage"),
        ("select $$a;b$$", "select $$a;b$$"),
        ("select 'a\\';b' -- c", "select 'a\\';b'"),
    ],
)
def test_snowflake(sql: str, kept: str) -> None:
    assert one(sql, "snowflake") == Rendered("\n" + kept)


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake", "postgres", "bigquery", "mysql", "redshift", "tsql", ""])
def test_dialects(dialect: str) -> None:
    assert one("select a, ';' as b from t; -- c", dialect) == Rendered("\nselect a, ';' as b from t")


ONE = "  begin with SELECT or WITH; a model only reads."
BAD = [
    ("select 1; select 2", "2: a second statement after `;`\n  a model is one query: make two files of it."),
    ("select 1;\n;select 2", "2: a second statement after `;`\n  a model is one query: make two files of it."),
    ("; select 1", f"2: a model is one query, and this begins with something else\n{ONE}"),
    ("", "the file renders to no SQL\n  write a SELECT below the header."),
    ("-- nothing\n;;", "the file renders to no SQL\n  write a SELECT below the header."),
    ("\ninsert into t select 1", f"3: a model is one query, and this begins with INSERT\n{ONE}"),
    ("create table x as select 1", f"2: a model is one query, and this begins with CREATE\n{ONE}"),
    ("copy t to 'x'", f"2: a model is one query, and this begins with COPY\n{ONE}"),
    ("pragma version", f"2: a model is one query, and this begins with PRAGMA\n{ONE}"),
    ("set threads = 1", f"2: a model is one query, and this begins with SET\n{ONE}"),
    ("explain select 1", f"2: a model is one query, and this begins with EXPLAIN\n{ONE}"),
    ("show tables", f"2: a model is one query, and this begins with SHOW\n{ONE}"),
    ("describe t", f"2: a model is one query, and this begins with DESCRIBE\n{ONE}"),
    ("summarize t", f"2: a model is one query, and this begins with SUMMARIZE\n{ONE}"),
    ("call f()", f"2: a model is one query, and this begins with CALL\n{ONE}"),
    ("'select 1'", f"2: a model is one query, and this begins with something else\n{ONE}"),
    ("(t)", "2: a model is one query, and this is something else\n  begin with SELECT or WITH."),
    ("with x as (select 1)\ninsert into t select * from x", "3: the query also writes: INSERT\n  a model only reads."),
    (
        "with x as (\ndelete from t returning *) select * from x",
        "3: the query also writes: DELETE\n  a model only reads.",
    ),
    (
        "with x as (update t set a = 1 returning *) select * from x",
        "2: the query also writes: UPDATE\n  a model only reads.",
    ),
    ("select *\ninto x from t", "3: the query also writes: SELECT … INTO\n  a model only reads."),
    ("select (1,\n(2)", "2: a `(` without its `)`"),
    ("select 1) as x,\n(select 2", "2: a `)` without its `(`"),
    ("select 1\nfrom 'a", "3: the SQL cannot be read: a quote or a comment is not closed"),
    ("select 1 /* a\n\n\n", "2: the SQL cannot be read: a quote or a comment is not closed"),
    ("select 'a" + "\n" * 400, "the SQL cannot be read: a quote or a comment is not closed"),
]


@pytest.mark.parametrize(("sql", "message"), BAD)
def test_what_is_not_one_query(sql: str, message: str) -> None:
    place = "users.sql:" if message[0].isdigit() else "users.sql: "
    assert error_of(sql, "postgres" if "delete" in sql or "update" in sql else "duckdb") == place + message


def test_no_message_shows_the_sql(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        for sql in ("with x as (vacuum hunter2) select 1", "select 'hunter2' from from", "select 'hunter2"):
            try:
                shown = str(one(sql).warnings)
            except ModelError as error:
                shown = str(error)
            assert "hunter2" not in shown
    assert "hunter2" not in caplog.text + "".join(capfd.readouterr())


def test_what_sqlglot_cannot_parse_is_a_warning_with_the_line_of_the_file() -> None:
    rendered = one("{% if false %}\n\n{% endif %}\nselect 1\nas a frobnicate b; -- c")
    assert rendered.sql == "\n\nselect 1\nas a frobnicate b"
    assert rendered.warnings == (
        "/models/users.sql:6: sqlglot cannot parse this as duckdb; the warehouse gets it unchecked",
    )


@pytest.mark.parametrize("sql", ["select 1 frob nicate; select 2", "select 1 frob nicate) as x, (select 2"])
def test_what_sqlglot_cannot_parse_is_still_one_statement(sql: str) -> None:
    assert "a second statement" in error_of(sql) or "without its" in error_of(sql)


def test_nesting_beyond_the_parser_is_a_warning_without_a_line() -> None:
    rendered = one("select " + "(" * 3000 + "1" + ")" * 3000)
    assert rendered.warnings == (
        "/models/users.sql: sqlglot cannot parse this as duckdb; the warehouse gets it unchecked",
    )


def test_an_unknown_dialect_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="klingon"):
        one("select 1", "klingon")


# Fingerprints: the same for the same rows, another for what changes them.

KEYED = replace(
    MODEL,
    unique_key=("user_id",),
    cursor="at",
    lag=timedelta(hours=1),
    rename={"a": "b", "c": "d"},
    tags=("x",),
    meta={"k": 1},
)


def test_a_fingerprint_is_written_down() -> None:
    """A new value means that every user's unsent batches are read again once: change it knowingly."""
    assert fingerprint("select 1", KEYED, {"encoder": "1"}) == (
        "87fa95948b3a000a80e4a873e015551fe9592ea10a8f665d15cbfbadd41e21c9"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"name": "people"},
        {"path": Path("/elsewhere/users.sql")},
        {"sql": "select 2"},
        {"enabled": False},
        {"tags": ()},
        {"description": "new"},
        {"meta": {"k": 2}},
        {"rename": {"c": "d", "a": "b"}},
    ],
)
def test_what_changes_no_row_changes_no_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint("\n\nselect 1\n", replace(KEYED, **change), {"b": "2", "a": "1"}) == fingerprint(
        "select 1", KEYED, {"a": "1", "b": "2"}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"event": EventType.IDENTIFY_COMPANY},
        {"unique_key": ("id",)},
        {"unique_key": ("user", "_id")},
        {"cursor": None},
        {"lag": timedelta(hours=2)},
        {"lag": 3_600_000_000},
        {"lag": None},
        {"begin": "all"},
        {"slice": 1},
        {"null_cursor": "skip"},
        {"always": True},
        {"full_refresh": False},
        {"nulls": "omit"},
        {"nested": "flatten"},
        {"context": True},
        {"source": "web-client"},
        {"rename": {"a": "b"}},
        {"exclude_columns": ("a",)},
        {"ignore_changes": ("a",)},
        {"on_removed": "report"},
        {"dropped": ("a",)},
        {"partial": True},
    ],
)
def test_what_may_change_a_row_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint("select 1", replace(KEYED, **change), {}) != fingerprint("select 1", KEYED, {})


def test_sql_and_extra_change_the_fingerprint() -> None:
    same = fingerprint("select 1", KEYED, {"a": "1"})
    assert fingerprint("select 2", KEYED, {"a": "1"}) != same
    assert fingerprint("select 1", KEYED, {"a": "2"}) != same
    assert fingerprint("select 1", KEYED, {}) != same


def test_a_value_without_a_canonical_form_is_a_fault_of_the_caller() -> None:
    with pytest.raises(TypeError, match="set"):
        fingerprint("select 1", replace(KEYED, rename=cast("Any", {"a": {1}})), {})


PIECES = [
    ";",
    "--",
    "/*",
    "*/",
    "'",
    '"',
    "$$",
    "(",
    ")",
    "1 ",
    ", ",
    "\n",
    "e'",
    "\\",
    "$a$",
    "x'",
    "{",
    "}",
    "[",
    "]",
    "a",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_engine_never_sees_a_second_statement(text: str) -> None:
    try:
        sql, _ = one_query(f"select {text}", "duckdb")
    except NotOneQuery:
        return
    with suppress(duckdb.ParserException):
        assert len(duckdb.extract_statements(f"SELECT * FROM {wrap(sql)}")) == 1
