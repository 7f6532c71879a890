"""`explain MODEL KEY`: what is known of one key, and what the next run would do with it."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project

EVENTS = "select user_id, name as event_name, happened as inserted_at, happened as _happened from events"

WHOLE = """\
{{ config(event='identify_user') }}
select id as user_id, plan, changed as inserted_at from users
"""


def explained(project: Project, *words: str, code: int = 0) -> dict[str, Any]:
    (found,) = project.cli.here("explain", *words, "--output", "json").check(code).lines
    return found


def fates(project: Project, *words: str) -> list[str]:
    return [row["fate"] for row in explained(project, *words)["warehouse"]]


def test_a_delivered_row_names_batch_job_and_run(project: Project) -> None:
    project.cli.here("run").check()
    text = project.cli.here("explain", "users", "u1").check().out
    assert text.startswith("users u1\n")
    assert "in batch users/" in text
    assert "of run 1, inserted_at 2025-01-01T10:00:00.000000" in text
    found = explained(project, "users", "u1")
    (run,) = project.cli.here("history", "--output", "json").check().lines
    jobs = {batch["batch"]: job["file"] for job in run["jobs"] for batch in job["batches"]}
    assert found["delivered"]["job"] == jobs[found["delivered"]["batch"]]
    assert (found["delivered"]["run"], found["delivered"]["state"]) == (1, "delivered")
    assert found["delivered"]["remote_id"].startswith("imports:jobs:")


def test_what_the_next_run_would_do(project: Project) -> None:
    assert fates(project, "users", "u1") == ["added"]
    project.cli.here("run").check()
    assert fates(project, "users", "u3") == ["unchanged"]
    assert fates(project, "users", "u1") == ["behind"], "two days before the cursor, beyond the lag"
    project.execute(
        "UPDATE users SET plan = 'gold' WHERE id = 'u3'",
        "UPDATE users SET id = 'u1', changed = '2025-01-04' WHERE id = 'u2'",
        "INSERT INTO users VALUES ('ahead', 'x', '2206-01-01'), ('null', 'x', NULL),"
        " ('twin', 'a', '2025-01-05'), ('twin', 'b', '2025-01-05'),"
        " ('old', 'a', '2025-01-04'), ('old', 'b', '2025-01-05')",
    )
    assert fates(project, "users", "u3") == ["changed"]
    assert sorted(fates(project, "users", "u1")) == ["behind", "changed"]
    assert fates(project, "users", "ahead") == ["future"]
    assert fates(project, "users", "null") == ["invalid"]
    assert fates(project, "users", "twin") == ["invalid", "invalid"]
    assert sorted(fates(project, "users", "old")) == ["added", "duplicate"]
    assert explained(project, "users", "twin")["warehouse"][0]["reasons"] == ["ambiguous_duplicate"]
    found = explained(project, "users", "u2")
    assert (found["warehouse"], found["delivered"]["run"]) == ([], 1)
    assert "holds no such row now" in project.cli.here("explain", "users", "u2").check().out


def test_it_agrees_with_the_run(project: Project) -> None:
    project.cli.here("run").check()
    project.execute(
        "UPDATE users SET plan = 'gold' WHERE id = 'u3'", "INSERT INTO users VALUES ('u4', 'new', '2025-01-04')"
    )
    said = {key: fates(project, "users", key)[0] for key in ("u1", "u2", "u3", "u4")}
    (plan,) = project.cli.here("plan", "-s", "users", "--output", "json").check().lines
    assert {key: fate for key, fate in said.items() if fate != "behind"} == {
        key: fate for fate, keys in plan["keys"].items() for key in keys
    }


def test_refused_rows_with_their_reasons(project: Project) -> None:
    project.write_config("invalid: {error_above: 100%, stop_above: 100%}\n")
    project.execute("UPDATE users SET changed = NULL WHERE id = 'u3'")
    project.cli.here("run", "-s", "users").check()
    found = explained(project, "users", "u3")
    assert found["delivered"] is None
    assert [reject["reasons"] for reject in found["rejects"]] == [["null_cursor"]]
    assert [row["fate"] for row in found["warehouse"]] == ["suppressed"]
    text = project.cli.here("explain", "users", "u3").check().out
    assert "The cursor is NULL, and the model says null_cursor: reject." in text


def test_a_row_that_userpilot_refused_names_batch_job_and_run(project: Project, sandbox: Sandbox) -> None:
    project.write_config("invalid: {error_above: 100%}\n")
    project.write_model("users", WHOLE)
    sandbox.inject("job:fail-row=u2")
    project.cli.here("run", "-s", "users").check()
    (reject,) = explained(project, "users", "u2")["rejects"]
    (run,) = project.cli.here("history", "--output", "json").check().lines
    refusing = [job for job in run["jobs"] if reject["batch"] in [batch["batch"] for batch in job["batches"]]]
    assert (reject["job"], reject["job_number"], reject["run"]) == (refusing[-1]["file"], refusing[-1]["number"], 1)
    project.execute("UPDATE users SET changed = '2025-01-02 23:00' WHERE id = 'u2'")
    text = project.cli.here("explain", "users", "u2").check().out
    assert f"by Userpilot, in batch {reject['batch']}, job {reject['job_number']} ({reject['job']}) of run 1" in text
    assert "it was refused before and is as it was then. That says nothing of `inserted_at`" in text


@pytest.mark.parametrize("inside", [False, True])
def test_an_ambiguous_key_that_was_refused_before_is_suppressed(project: Project, inside: bool) -> None:
    where = "snapshot: {where: warehouse, schema: synced}\n" if inside else ""
    project.write_config("invalid: {error_above: 100%, stop_above: 100%}\n" + where)
    project.execute("INSERT INTO users VALUES ('u3', 'other', '2025-01-03 10:00')")
    assert fates(project, "users", "u3") == ["invalid", "invalid"]
    project.cli.here("run", "-s", "users").check()
    (plan,) = project.cli.here("plan", "-s", "users", "--output", "json").check().lines
    assert plan["keys"]["suppressed"] == ["u3"]
    assert fates(project, "users", "u3") == ["suppressed", "suppressed"]
    assert "Rows of one key differ" in project.cli.here("explain", "users", "u3").check().out


def test_rows_that_wait_in_a_sealed_batch(project: Project, sandbox: Sandbox) -> None:
    sandbox.inject("upload:401")
    project.cli.here("run", "-s", "users").check(1)
    found = explained(project, "users", "u2")
    assert found["delivered"] is None
    assert [item["state"] for item in found["waiting"]] == ["sealed"]
    out = project.cli.here("explain", "users", "u2").check().out
    assert "sealed, not uploaded yet, in batch users/" in out
    assert "The next run delivers what waits first, then compares this row with it." in out


def test_names_of_what_changed_while_the_batch_is_kept(project: Project) -> None:
    project.write_config("retention: {delivered: 7 days}\n")
    project.cli.here("run").check()
    project.execute("UPDATE users SET plan = 'gold' WHERE id = 'u3'")
    assert explained(project, "users", "u3")["warehouse"][0]["changed"] == ["metadata.plan"]
    assert "Changed: metadata.plan." in project.cli.here("explain", "users", "u3").check().out
    project.write_config("retention: {delivered: 0 days}\n")
    project.execute("UPDATE users SET plan = 'silver' WHERE id = 'u2'")
    project.cli.here("run").check()
    project.execute("UPDATE users SET plan = 'tin' WHERE id = 'u3'")
    assert explained(project, "users", "u3")["warehouse"][0]["changed"] is None
    assert (
        "the file that was delivered is deleted. `retention: {delivered: 7 days}`"
        in project.cli.here("explain", "users", "u3").check().out
    )


def test_events_of_a_key_go_once(project: Project) -> None:
    header = "{{ config(event='track', cursor='_happened', begin='2025-01-05T00:02', unique_key='user_id') }}\n"
    project.execute("DELETE FROM events WHERE happened >= '2025-01-05 00:03'")
    project.write_model("events", header + EVENTS)
    assert fates(project, "events", "u2") == ["before_begin"]
    assert fates(project, "events", "u3") == ["added"]
    project.cli.here("run").check()
    project.execute("UPDATE events SET name = 'closed' WHERE user_id = 'u3'")
    assert fates(project, "events", "u3") == ["delivered"]


def test_slices_and_the_models_own_bound(project: Project) -> None:
    header = "{{ config(event='track', cursor='_happened', begin='all', unique_key='user_id', slice='2m', lag=%s) }}\n"
    project.write_model("events", header % 0 + EVENTS)
    project.execute("DELETE FROM events WHERE happened >= '2025-01-05 00:03'")
    assert [fates(project, "events", key) for key in ("u1", "u2", "u3")] == [["added"], ["added"], ["later"]]
    project.cli.here("run", "-s", "events").check()
    own = "{% if is_incremental() %} where happened > {{ cursor_from() }} {% endif %}"
    project.write_model("events", header % 0 + EVENTS + own)
    assert fates(project, "events", "u3") == ["left_out"]
    project.write_model("users", "{{ config(event='identify_user', cursor='_c', null_cursor='skip') }}\n"
                        "select id as user_id, null::timestamp as _c from users")  # fmt: skip
    assert fates(project, "users", "u1") == ["skipped"]


@pytest.mark.parametrize(
    "words", [['["a\\"b", 7, true]'], ['a"b', "7", "true"], ['["a\\"b", "7", true]']], ids=["array", "words", "texts"]
)
def test_keys_of_several_columns(project: Project, words: list[str]) -> None:
    project.execute("CREATE TABLE t AS SELECT 'a\"b' AS a, 7::DECIMAL(9,0) AS n, true AS b, 'u' AS u")
    project.write_model(
        "many", "{{ config(event='identify_company', unique_key=['a', 'n', 'b']) }}\n"
        "select u as company_id, a, n, b from t"
    )  # fmt: skip
    project.cli.here("run", "-s", "many").check()
    is_wrong = words == ['["a\\"b", "7", true]']
    found = explained(project, "many", *words, code=int(is_wrong))
    assert found["known"] is not is_wrong
    if not is_wrong:
        assert found["key"] == '["a\\"b",7,true]'
        assert found["delivered"]["run"] == 1
    assert "3 columns (a, n, b), not 2" in project.cli.here("explain", "many", "a", "b").check(2).err
    assert "3 columns" in project.cli.here("explain", "many", "[1, {}]").check(2).err


def test_an_unknown_key(project: Project) -> None:
    result = project.cli.here("explain", "users", "nobody").check(1)
    assert "No such row" in result.out
    assert explained(project, "users", "nobody", code=1)["known"] is False


def test_what_cannot_be_explained(project: Project) -> None:
    assert "(nearest: users)" in project.cli.here("explain", "user", "u1").check(2).err
    assert "has no `unique_key`" in project.cli.here("explain", "events", "x").check(2).err
    project.write_model("broken", "select 1")
    assert "broken.sql" in project.cli.here("explain", "broken", "x").check(1).err
    assert "Missing argument" in project.cli.here("explain", "users").check(2).err


def test_what_is_known_here_is_said_without_a_warehouse(project: Project) -> None:
    project.cli.here("run").check()
    project.warehouse.rename(project.folder / "elsewhere.duckdb")
    result = project.cli.here("explain", "users", "u1").check(1)
    assert "in batch users/" in result.out
    assert "does not exist" in result.err


def test_an_invalid_time_of_no_calendar(project: Project) -> None:
    project.write_model("users", "{{ config(event='identify_user') }}\n"
                        "select id as user_id, 'infinity'::timestamp as inserted_at from users")  # fmt: skip
    assert fates(project, "users", "u1") == ["invalid"]


@pytest.mark.slow
def test_it_answers_while_runs_write(project: Project) -> None:
    """Merges rename snapshots and delete batches all the time; a reader never sees half of it."""
    problems: list[Any] = []

    def look() -> None:
        for number in range(6):
            for words in (("explain", "users", "u1"), ("plan", "-s", "users")):
                result = project.cli(*words, "--output", "json")
                if result.code:
                    problems.append((number, words, result.out, result.err))

    project.execute("INSERT INTO users SELECT 'x' || i, 'p', '2025-01-03' FROM range(3000) AS r(i)")
    project.write_config("batch: {max_rows: 100}\njob: {max_rows: 300}\n")
    project.cli.here("run").check()
    reader = threading.Thread(target=look)
    reader.start()
    while reader.is_alive():
        project.cli("run", "-s", "users", "-f").check()
    reader.join()
    assert not problems, json.dumps(problems)[:3000]


def test_a_snapshot_that_lies_in_the_warehouse(project: Project) -> None:
    project.write_config("snapshot: {where: warehouse, schema: sync}\n")
    project.execute("CREATE SCHEMA sync")
    project.cli.here("run", "-s", "users").check()
    found = explained(project, "users", "u3")
    assert (found["delivered"]["run"], [row["fate"] for row in found["warehouse"]]) == (1, ["unchanged"])
    assert found["delivered"]["inserted_at"] == "2025-01-03T10:00:00.000000"
    project.execute("UPDATE users SET plan = 'gold' WHERE id = 'u3'")
    assert fates(project, "users", "u3") == ["changed"]
