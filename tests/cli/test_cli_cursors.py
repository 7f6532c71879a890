"""What `debug`, `plan` and a model's first run say of its cursor column."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness import Project

SQLITE = "{type: sqlalchemy, url: 'sqlite:///../w.sqlite'}"


def cursor_lines(project: Project, code: int = 0) -> dict[str, str]:
    lines = project.cli.here("debug", "--output", "json").check(code).lines
    told = [line["message"] for line in lines if line["check"] == "cursor"]
    return {message.partition(":")[0]: message for message in told}


def test_debug_says_what_each_cursor_holds(project: Project) -> None:
    project.write_model("all", "{{ config(event='identify_company') }} select 'c' as company_id")
    said = cursor_lines(project)
    assert said == {
        "events": "events: `_happened`, timestamp; 4 rows, 0.0% NULL, 1 at the greatest value, 0 ahead of the clock;"
        " read in UTC",
        "users": "users: `_changed`, timestamp; 3 rows, 0.0% NULL, 1 at the greatest value, 0 ahead of the clock;"
        " read in UTC",
    }
    assert "session zone UTC" in project.cli.here("debug").check().out


def test_debug_says_what_is_odd_and_what_to_do(project: Project) -> None:
    project.execute(
        "INSERT INTO users VALUES ('u4', 'x', NULL), ('u5', 'x', '2206-01-01'), ('u6', 'x', '2025-01-03 10:00')",
    )
    message = cursor_lines(project)["users"]
    assert "6 rows, 16.7% NULL, 2 at the greatest value, 1 ahead of the clock" in message
    assert "NULL in 1 of 6 rows, and refused: `null_cursor='skip'` leaves them out, `include`" in message
    assert "ahead of the warehouse's clock in 1 row: such rows wait" in message
    assert "2206" not in message
    project.execute("DELETE FROM users")
    assert cursor_lines(project)["users"].startswith("users: `_changed`, timestamp; no rows")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("DATE", "DATE '2025-01-01'", "date; 3 rows, 0.0% NULL, 3 at the greatest value, 0 ahead"),
        ("TIMESTAMPTZ", "TIMESTAMPTZ '2025-01-01 00:00+02'", "timestamptz; 3 rows, 0.0% NULL, 3 at the greatest"),
        ("BIGINT", "7", "integer; 3 rows, 0.0% NULL, 3 at the greatest value"),
        ("VARCHAR", "id", "string; 3 rows, 0.0% NULL, 1 at the greatest value"),
    ],
)
def test_every_kind_of_cursor(project: Project, kind: str, value: str, shown: str) -> None:
    project.write_model("users", "{{ config(event='identify_user', cursor='_c') }}\n"
                        f"select id as user_id, ({value})::{kind} as _c from users")  # fmt: skip
    assert shown in cursor_lines(project)["users"]


def test_a_cursor_that_cannot_be_looked_at_fails_its_line_only(project: Project) -> None:
    project.write_model(
        "users", "{{ config(event='identify_user', cursor='_nowhere') }}\nselect id as user_id from users"
    )
    said = cursor_lines(project, 1)
    assert "`_nowhere` is not returned" in next(text for text in said.values() if "users.sql" in text)
    assert "events" in said


def test_the_first_run_says_it_before_and_the_second_does_not(project: Project) -> None:
    project.write_config("invalid: {error_above: 100%}\n")
    project.execute("INSERT INTO users VALUES ('u4', 'x', NULL)")
    assert "WARN users: `_changed` is NULL in 1 of 4 rows" in project.cli.here("plan", "-s", "users").check().err
    assert "WARN users: `_changed` is NULL in 1 of 4 rows" in project.cli.here("run", "-s", "users").check().err
    assert "is NULL in" not in project.cli.here("run", "-s", "users").check().err


def test_many_rows_at_the_bound(project: Project) -> None:
    project.execute("INSERT INTO users SELECT 'x' || i, 'p', '2025-02-02' FROM range(10001) AS r(i)")
    assert "10,001 rows share the greatest value of `_changed`" in cursor_lines(project)["users"]


@pytest.mark.parametrize("zone", [pytest.param("Pacific/Kiritimati", marks=pytest.mark.slow), "America/St_Johns"])
def test_the_machines_own_zone_changes_nothing(project: Project, zone: str) -> None:
    """What is sent, where the cursor stands and what the second run reads are those of UTC."""
    project.execute("CREATE TABLE aware AS SELECT id, changed::TIMESTAMPTZ AS c FROM users")
    project.write_model(
        "users",
        """\
        {{ config(event='identify_user', cursor='_c') }}
        select id as user_id, c as seen, c as inserted_at, c as _c from aware
        """,
    )
    (before,) = project.cli.here("show", "-s", "users", "--limit", "1").check().lines
    assert project.cli("run", "-s", "users", TZ=zone).check().code == 0
    (after,) = project.cli("show", "-s", "users", "--limit", "1", TZ=zone).check().lines
    assert before == after
    (plan,) = project.cli("plan", "-s", "users", "--output", "json", TZ=zone).check().lines
    assert (plan["counts"]["read"], plan["counts"]["unchanged"]) == (1, 1)


def test_a_source_without_types_that_is_empty_for_a_moment_changes_nothing(
    project: Project, imported: Callable[[], list[dict[str, Any]]]
) -> None:
    """SQLite's columns have the types of their values: without any they are nothing else than before."""
    for path in (project.folder / "models_sql").glob("*.sql"):
        path.unlink()
    header = "{{ config(event='identify_user', cursor='_c', lag=0) }}"
    project.write_model("people", f"{header} select user_id, seats, c as _c from people")
    path = project.write_config()
    path.write_text(path.read_text().replace("{type: duckdb, path: ../warehouse.duckdb}", SQLITE))

    def change(*statements: str) -> None:
        with closing(sqlite3.connect(project.folder / "w.sqlite")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    change("CREATE TABLE people (user_id, seats, c)", "INSERT INTO people VALUES ('a', 1, 1), ('b', 2, 2)")
    project.cli.here("run").check()
    change("UPDATE people SET seats = NULL, c = c + 2")
    project.cli.here("run").check()
    change("DELETE FROM people")
    err = project.cli.here("run").check(1).err
    assert "the cursor `_c` has no value in any row" in err
    assert "is the source empty" in err
    assert "reset" not in err
    change("INSERT INTO people VALUES ('a', 3, 9)")
    project.cli.here("run").check()
    seats = [(row["user_id"], row["metadata"]["seats"]) for row in imported()]
    assert sorted(seats[:2]) == [("a", 1), ("b", 2)]
    assert sorted(seats[2:4]) == [("a", None), ("b", None)]
    assert seats[4:] == [("a", 3)]
