"""`ls`, `compile`, `show`, `plan`: they print, and change nothing."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from warehouse_sync.errors import WarehouseError
from warehouse_sync.extraction.reading import OpenReading
from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from harness import Project


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder, but what SQLite keeps beside an open store."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


# ls


def test_ls_prints_names(project: Project) -> None:
    assert project.cli.here("ls").check().out == "events\nusers\n"
    assert project.cli.here("ls", "-s", "tag:daily").check().out == "users\n"


def test_ls_as_json(project: Project) -> None:
    project.write_config("models: {config: {meta: {owner: data}}}\n")
    events, users = project.cli.here("ls", "--output", "json").check().lines
    assert users["unique_id"] == "sync.prod.users"
    assert users["path"] == str(project.folder / "models_sql" / "users.sql")
    assert (users["event"], users["unique_key"], users["cursor"]) == ("identify_user", ["user_id"], "_changed")
    assert (users["tags"], users["meta"]) == (["daily"], {"owner": "data"})
    assert events["begin"] == "all"


def test_ls_writes_durations_as_the_header_does(project: Project) -> None:
    project.write_config("models: {overrides: {users: {lag: 90 minutes}}}\n")
    assert project.cli.here("ls", "-s", "users", "--output", "json").check().lines[0]["lag"] == "1h 30m"


def test_ls_names_broken_models_and_says_why(project: Project) -> None:
    project.write_model("broken", "select 1")
    result = project.cli.here("ls").check(1)
    assert result.out == "broken\nevents\nusers\n"
    assert "models_sql/broken.sql" in result.err
    assert "error" in project.cli.here("ls", "-s", "broken", "--output", "json").check(1).lines[0]


def test_disabled_models_are_left_out(project: Project) -> None:
    project.write_config("models: {overrides: {users: {enabled: false}}}\n")
    assert project.cli.here("ls").check().out == "events\n"


# compile


def test_compile_prints_the_sql_of_the_first_run(sample_project: Project) -> None:
    out = sample_project.cli.here("compile", "-s", "users").check().out
    assert "from app.users as u" in out
    assert "_loaded_at >=" not in out
    assert "-- users (" not in out, "one model alone needs no heading"
    both = sample_project.cli.here("compile", "-s", "users", "events").check().out
    assert both.count("-- users (") == both.count("-- events (") == 1


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("2025-01-01", "CAST('2025-01-01' AS DATE)"),
        ("2025-01-01 10:00:00", "CAST('2025-01-01 10:00:00' AS TIMESTAMP)"),
        ("2025-01-01T10:00:00Z", "CAST('2025-01-01T10:00:00Z' AS TIMESTAMPTZ)"),
        ("2025-01-01 10:00:00+02:00", "CAST('2025-01-01 10:00:00+02:00' AS TIMESTAMPTZ)"),
        ("42", "42"),
        ("it's", "'it''s'"),
    ],
)
def test_compile_of_a_later_run(sample_project: Project, value: str, literal: str) -> None:
    out = sample_project.cli.here("compile", "-s", "users", "--incremental-from", value).check().out
    assert f"where u._loaded_at >= {literal}" in out


def test_compile_takes_the_kind_of_cursor_from_the_state(project: Project) -> None:
    project.cli.here("run", "-s", "users").check()
    project.write_model(
        "users",
        "{{ config(event='identify_user', cursor='_changed') }}\nselect id as user_id, changed as _changed from users"
        "{% if is_incremental() %} where changed > {{ cursor_from() }}{% endif %}",
    )
    out = project.cli.here("compile", "-s", "users", "--incremental-from", "2025-01-01").check().out
    assert "CAST('2025-01-01' AS TIMESTAMP)" in out


def test_compile_as_json(project: Project) -> None:
    (row,) = project.cli.here("compile", "-s", "users", "--output", "json").check().lines
    assert set(row) == {"name", "path", "sql"}


def test_compile_says_what_is_wrong(project: Project) -> None:
    project.write_model("broken", "select 1")
    project.write_model("odd", "{{ config(event='track', always=true) }}\nselect 1; select 2")
    result = project.cli.here("compile").check(1)
    assert "broken.sql" in result.err
    assert "odd.sql:2" in result.err
    assert "from users" in result.out


def test_compile_warns_of_sql_that_nobody_can_parse(project: Project) -> None:
    project.write_model("odd", "{{ config(event='track', always=true) }}\nselect 1 as a from (from b pivot c d e f)")
    assert "WARN odd: " in project.cli.here("compile", "-s", "odd").check().err


# show


def test_show_prints_events(project: Project) -> None:
    rows = project.cli.here("show", "--select", "users", "--limit", "2").check().lines
    assert [row["user_id"] for row in rows] == ["u1", "u2"]
    assert rows[0]["event_type"] == "identify_user"
    assert project.cli.here("show", "-s", "users", "--limit", "2", "--output", "json").check().lines == rows


def test_show_prints_rows_that_were_delivered_already(project: Project) -> None:
    project.cli.here("run").check()
    assert len(project.cli.here("show", "-s", "users").check().lines) == 3


def test_the_first_error_is_the_one_that_is_shown(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(reading: OpenReading, _max_line: int) -> Iterator[pa.RecordBatch]:
        reading.source.connection.close()
        reading.aside._connection.close()
        raise WarehouseError("the server is gone")

    monkeypatch.setattr(OpenReading, "rows", lose)
    assert "the server is gone" in project.cli.here("show", "-s", "users").check(1).err


def test_show_names_the_reasons_of_refused_rows(project: Project) -> None:
    project.execute("UPDATE users SET id = NULL WHERE id = 'u3'")
    assert project.cli.here("show", "-s", "users").check().lines[-1] == {
        "invalid": ["user_id_missing"], "columns": {"user_id_missing": ["user_id"]}, "key": None,
    }  # fmt: skip


def test_show_needs_a_model(project: Project) -> None:
    assert "needs --select MODEL" in project.cli.here("show").check(2).err


def test_show_of_models_that_do_not_work(project: Project) -> None:
    project.write_model("broken", "select 1")
    project.write_model("odd", "{{ config(event='track', always=true) }}\nselect a from nowhere")
    result = project.cli.here("show", "-s", "broken", "odd", "users").check(1)
    assert "broken.sql" in result.err
    assert "nowhere" in result.err
    assert len(result.lines) == 3


# plan


def test_plan_counts_and_explains(project: Project) -> None:
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-09')")
    out = project.cli.here("plan", "-s", "users").check().out
    assert "metadata.plan" in out
    assert re.search(r"1 +user_id_missing +user_id +user_id is NULL, empty or blank\.", out)
    assert "added: u1, u2, u3" in out
    totals = out.splitlines()[-1].split()
    assert totals[:2] == ["users", "4"]


def test_plan_as_json(project: Project) -> None:
    project.cli.here("run").check()
    project.execute("UPDATE users SET plan = 'pro', changed = '2025-03-01' WHERE id = 'u1'")
    events, users = project.cli.here("plan", "--output", "json").check().lines
    assert set(users) == {
        "model", "error", "counts", "columns", "keys", "reasons", "reason_columns", "warnings", "notes", "skipped",
    }  # fmt: skip
    assert users["counts"]["changed"] == 1
    assert users["keys"]["changed"] == ["u1"]
    assert {"column": "plan", "to": "metadata.plan", "kind": "property", "type": "String"}.items() <= next(
        column for column in users["columns"] if column["column"] == "plan"
    ).items()
    assert events["counts"]["added"] == 0


def test_plan_names_each_row_of_a_key_once_and_as_it_counts_it(project: Project) -> None:
    project.cli.here("run").check()
    project.write_config("invalid: {stop_above: 100%}\n")
    project.write_model("users", "{{ config(event='identify_user') }}\nselect id as user_id, plan from users")
    project.execute(
        "INSERT INTO users VALUES ('u1', 'other', NULL), ('  ', 'x', NULL)",
        "INSERT INTO users FROM users WHERE id = 'u2'",
    )
    project.cli.here("state", "reset", "users", "--yes").check()

    def planned() -> tuple[dict[str, list[str]], dict[str, int], dict[str, int]]:
        (plan,) = project.cli.here("plan", "-s", "users", "--output", "json").check().lines
        return plan["keys"], plan["reasons"], {name: n for name, n in plan["counts"].items() if n}

    keys = {"added": ["u2", "u3"], "duplicate": ["u2"], "invalid": ["u1"]}
    assert planned() == (keys, {"ambiguous_duplicate": 2, "user_id_missing": 1},
                         {"read": 6, "added": 2, "duplicate": 1, "invalid": 3})  # fmt: skip
    project.cli.here("run").check(1)
    keys = {"unchanged": ["u2", "u3"], "duplicate": ["u2"], "suppressed": ["u1"]}
    assert planned() == (keys, {}, {"read": 6, "unchanged": 2, "duplicate": 1, "suppressed": 3})
    assert "\nsuppressed: u1\n" in project.cli.here("plan", "-s", "users").check().out


def test_plan_of_a_full_refresh(project: Project) -> None:
    project.cli.here("run").check()
    (users,) = project.cli.here("plan", "-s", "users", "-f", "--output", "json").check().lines
    assert users["counts"]["read"] == 3
    assert users["counts"]["added"] + users["counts"]["changed"] == 3


def test_plan_of_a_backfill(project: Project) -> None:
    (events,) = project.cli.here(
        "plan", "-s", "events", "--from", "2025-01-05T00:01", "--to", "2025-01-05T00:03", "--output", "json"
    ).check().lines  # fmt: skip
    assert events["counts"]["read"] == 2


def test_plan_of_models_that_do_not_work(project: Project) -> None:
    project.write_model("broken", "select 1")
    result = project.cli.here("plan").check(1)
    assert "broken.sql" in result.err
    assert result.out.splitlines()[-3].split()[:2] == ["broken", "error"]
    rows = project.cli.here("plan", "--output", "json").check(1).lines
    assert [row["error"] is None for row in rows] == [False, True, True]


def test_plan_says_warnings(project: Project) -> None:
    project.cli.here("run").check()
    project.write_model(
        "users",
        "{{ config(event='identify_user', cursor='_changed') }}\n"
        "select id as user_id, plan, 1 as fresh, changed as inserted_at, changed as _changed from users",
    )
    assert "WARN users: new properties: fresh" in project.cli.here("plan", "-s", "users").check().err


def test_plan_of_nothing(project: Project) -> None:
    result = project.cli.here("plan", "-s", "nope").check()
    assert result.out == ""
    assert "WARN no enabled model is selected; there are events, users" in result.err


def test_looking_needs_no_api_key(project: Project) -> None:
    project.write_config(api_key="${NOBODY_SET_THIS}")
    for words in ("compile", "plan", "show -s users", "status", "history", "rejects", "explain users u1", "validate",
                  "state show"):  # fmt: skip
        project.cli.here(*words.split()).check()
    assert "the variable `NOBODY_SET_THIS` is not set" in project.cli.here("run").check(2).err


def test_a_secret_is_needed_where_the_warehouse_is_asked(project: Project) -> None:
    project.write_config(api_key="${NOBODY_SET_THIS}")
    text = project.config.read_text().replace("../warehouse.duckdb", "'${NOBODY_SET_THIS}'")
    project.config.write_text(text)
    project.cli.here("compile").check()
    assert "the variable `NOBODY_SET_THIS` is not set" in project.cli.here("plan").check(2).err


@pytest.mark.parametrize("ran", [False, True])
def test_looking_writes_nothing_and_asks_nobody(project: Project, sandbox: Sandbox, ran: bool) -> None:
    if ran:
        project.cli.here("run").check()
    before, asked = digests(project.folder), len(sandbox.requests)
    for words in (["ls"], ["compile"], ["plan"], ["show", "-s", "users"], ["status"], ["history"], ["rejects"],
                  ["state", "show"]):  # fmt: skip
        project.cli.here(*words).check()
    assert digests(project.folder) == before
    assert len(sandbox.requests) == asked
    assert project.home.exists() is ran


def test_data_goes_to_stdout_and_words_to_stderr(project: Project) -> None:
    result = project.cli.here("ls", "-s", "users", "nope", "--output", "json")
    assert json.loads(result.out)["name"] == "users"
    assert "WARN nope selects no enabled model" in result.err


# What is wrong with a model


@pytest.mark.parametrize("verb", ["plan", "run", "show"])
def test_all_that_is_wrong_with_the_columns_is_said_at_once(project: Project, verb: str) -> None:
    project.write_model(
        "users",
        """\
        {{ config(event='track', cursor='nope',
            unique_key=['user', 'doc'],
            rename={'nam': 'x', 'id': 'event_name'},
            exclude_columns=['gone'], ignore_changes=['away'], begin='all') }}
        select 1.5 as id, 'a'::blob as one, 'b'::blob as two, {'a': 'c'::blob} as three, '{}'::json as doc,
            'x' as company_id, 1::float as browser from users
        """,
    )
    seen = project.cli.here(verb, "-s", "users").check(1)
    said = seen.err
    for text in (
        "the cursor column `nope` is not returned by the model (add it",
        "line 2: unique_key names 'user', which the query does not return (Did you mean 'browser'?)",
        "line 2: unique_key names 'doc', which is nested (JSON) (name a part of it",
        "line 3: rename names 'nam', which the query does not return",
        "line 4: exclude_columns names 'gone', which the query does not return",
        "line 4: ignore_changes names 'away', which the query does not return",
        "column 'one': BLOB", "column 'two': BLOB", "column 'three': large_binary",
        "column 'id' is DECIMAL(2,1), and event_name has to be text",
        "column 'browser' is FLOAT, and browser has to be text",
        "track needs user_id, which the query does not return",
        "track needs inserted_at, the time when it happened, which the query does not return",
    ):  # fmt: skip
        assert said.count(text) == (2 if verb == "run" else 1), (text, said)
    assert "needs event_name" not in said


def test_a_column_of_a_json_cursor_says_what_to_name(project: Project) -> None:
    project.write_model(
        "users", "{{ config(event='identify_user', cursor='_c') }} select id as user_id, '{}'::json as _c from users"
    )
    said = project.cli.here("plan", "-s", "users").check(1).err
    assert "cursor names '_c', which is nested (JSON)" in said
    assert "name a part of it that is text, a number or a time, as a column of its own." in said


def test_a_begin_that_is_no_value_is_named_with_its_line(project: Project) -> None:
    model = "{{ config(event='identify_user', cursor='_c',\n begin='yesterday') }}"
    project.write_model("users", model + " select id as user_id, changed as _c, plan as inserted_at from users")
    said = project.cli.here("plan", "-s", "users").check(1).err
    assert "users.sql:2: `begin='yesterday'` is no value of the cursor `_c`, which is of kind timestamp" in said
    project.write_model("users", model.replace("yesterday", "all") + " select id as user_id, changed as _c from users")
    said = project.cli.here("plan", "-s", "users", "--from", "today").check(1).err
    assert "--from today is no value of the cursor `_c`" in said


def test_a_name_that_stands_twice_is_said_once(project: Project) -> None:
    project.write_model("users", "{{ config(event='identify_user') }} select id as user_id, 1 as A, 2 as a from users")
    assert "two columns named" in project.cli.here("plan", "-s", "users").check(1).err
