"""`plan` beside `run`: what stops a run stops its plan, in the same words, and both count the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.changes.spill import SpillTable
from warehouse_sync.inspection import preview
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from harness import Project

WHOLE = "{{ config(event='identify_user') }} select id as user_id, plan from users"
REPORTING = WHOLE.replace("'identify_user'", "'identify_user', on_removed='report'")
EVENTS = """\
{{ config(event='track', cursor='_happened', begin='all') }}
select user_id, name as event_name, happened as inserted_at, happened as _happened, 'x' as more from events
"""

CURSOR = ", cursor='_c', lag=9"
TWO = "INSERT INTO users VALUES ('x', 'p', '2025-01-09'), ('x', 'q', '{}')"


def planned(project: Project, *words: str, code: int = 0) -> dict[str, Any]:
    """The plan of `users`, but for the counts that are 0."""
    (plan,) = project.cli.here("plan", "-s", "users", "--output", "json", *words).check(code).lines
    return plan | {"counts": {name: rows for name, rows in plan["counts"].items() if rows}}


def ran(project: Project, code: int = 0) -> dict[str, Any]:
    """The result of a run of `users`."""
    project.cli.here("run", "-s", "users").check(code)
    (result,) = project.results()["results"]
    return dict(result)


def same_end(project: Project) -> str:
    """Plan, and then run, a model that does not go; gives what both of them say."""
    seen = project.cli.here("plan", "-s", "users").check(1)
    plan, result = planned(project, code=1), ran(project, 1)
    assert result["status"] == "error"
    assert result["message"] in plan["error"]
    assert seen.out.splitlines()[-1].split()[:2] == ["users", "error"]
    assert plan["error"].splitlines()[-1].strip() in seen.err, "the hint too"
    return str(plan["error"])


# What stops a run


@pytest.mark.parametrize(
    ("settings", "change", "says", "shows"),
    [
        ("guard: {max_rows: 2}", "SELECT 1", "3 rows would be sent", "added: u1, u2, u3"),
        ("invalid: {stop_above: 10%}", "UPDATE users SET id = '' WHERE id = 'u2'", "1 of 3 rows", "user_id_missing"),
    ],
)  # fmt: skip
def test_a_guard_stops_the_plan_too(project: Project, settings: str, change: str, says: str, shows: str) -> None:
    project.write_config(settings + "\n")
    project.execute(change)
    error = same_end(project)
    assert says in error
    assert "nothing was sent" in error
    out = project.cli.here("plan", "-s", "users").check(1).out
    assert shows in out, "the hint sends people here"
    assert out.splitlines()[-1].split()[:3] == ["users", "error", "3"]
    assert planned(project, code=1)["counts"]["read"] == 3


@pytest.mark.parametrize(
    ("gone", "removed", "says"), [("true", 3, "the source is empty: 3 of 3"), ("id <> 'u1'", 2, "2 of 3")]
)
def test_a_source_that_lost_its_rows_stops_the_plan_too(project: Project, gone: str, removed: int, says: str) -> None:
    project.write_model("users", WHOLE)
    project.cli.here("run").check()
    project.execute(f"DELETE FROM users WHERE {gone}")
    assert f"{says} delivered keys are gone" in same_end(project)
    plan = planned(project, code=1)
    assert plan["counts"]["removed"] == removed
    assert plan["keys"]["removed"] == ["u1", "u2", "u3"][-removed:]


OWN_BOUND = """\
{{{{ config(event='identify_user', cursor='_c') }}}} select id as user_id, plan, changed as _c from users
{{% if is_incremental() %}} where changed {} {{{{ cursor_from() }}}} {{% endif %}}
"""
KEYED = """\
{{ config(event='track', unique_key='user_id') }}
select id as user_id, 'x' as event_name, changed as inserted_at from users
"""


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            "",
            "no row is there from 2025-01-03 09:00:00.000000 on, where rows up to 2025-01-03 10:00:00.000000 were read",
        ),
        (OWN_BOUND.format(">="), "no row is there from 2025-01-03 09:00:00.000000 on"),
        (KEYED, "the source has no row, where rows were read before: is the source being loaded, or was it emptied?"),
    ],
)
def test_a_source_that_became_empty_is_said(project: Project, model: str, says: str) -> None:
    if model:
        project.write_model("users", model)
    for _ in range(2):
        out = project.cli.here("run", "-s", "users").check()
        assert "WARN" not in out.err
    project.execute("DELETE FROM users")
    for _ in range(2):
        (warning,) = planned(project)["warnings"]
        assert says in warning
        assert f"WARN users: {warning}" in project.cli.here("run", "-s", "users").check().err
    project.execute("INSERT INTO users VALUES ('u4', 'x', '2025-01-03 09:30')")
    assert planned(project)["warnings"] == []


@pytest.mark.parametrize(
    "model",
    [
        OWN_BOUND.format("> timestamp '2025-01-03' - interval 9 hour and changed >").replace("_c')", "_c', lag=0)"),
        OWN_BOUND.format(">=").replace("_c')", "_c', begin='now')"),
        WHOLE.replace("'identify_user'", "'track', always=true").replace(
            "plan", "'x' as event_name, changed as inserted_at"
        ),
    ],
)
def test_a_window_without_rows_need_not_have_lost_any(project: Project, model: str) -> None:
    project.write_model("users", model)
    for _ in range(2):
        assert planned(project)["warnings"] == []
        ran(project)
    if "always" in model:
        project.execute("DELETE FROM users")
        assert planned(project)["warnings"] == []


def test_a_begin_ahead_of_the_clock_is_said(project: Project) -> None:
    project.write_model("users", OWN_BOUND.format(">=").replace("_c')", "_c', begin='2999-01-01')"))
    assert (
        "it reads from 2999-01-01 00:00:00.000000 on, which is ahead of the warehouse's clock"
        in planned(project)["warnings"][0]
    )


def test_what_is_usual_stops_the_plan_too(project: Project) -> None:
    project.write_config("guard: {max_times_median: 1}\n")
    project.write_model("users", WHOLE)
    project.cli.here("run").check()
    for plan in "abc":
        project.execute(f"UPDATE users SET plan = '{plan}' WHERE id = 'u1'")
        assert planned(project)["counts"]["changed"] == 1
        project.cli.here("run").check()
    project.execute("UPDATE users SET plan = 'other'")
    assert "3 rows would be sent, usually it is about 1" in same_end(project)
    assert planned(project, "--full-refresh", code=0)["error"] is None, "all rows are usual in a full window"


def test_a_renamed_model_is_planned_as_it_would_run(project: Project) -> None:
    project.cli.here("run").check()
    path = project.folder / "models_sql" / "users.sql"
    path.rename(path.with_name("people.sql"))
    (people,) = project.cli.here("plan", "-s", "people", "--output", "json").check(1).lines
    assert "`warehouse-sync state rename users people` takes its state over" in people["error"]
    assert people["counts"]["read"] == 0
    project.cli.here("run", "-s", "people").check(1)
    assert project.results()["results"][0]["message"] in people["error"]
    project.cli.here("state", "rename", "users", "people", "--yes").check()
    assert project.cli.here("plan", "-s", "people", "--output", "json").check().lines[0]["counts"]["added"] == 0


def test_a_renamed_pipeline_is_planned_as_it_would_run(project: Project) -> None:
    project.cli.here("run").check()
    project.config.write_text(project.config.read_text().replace("name: prod", "name: live"))
    said = "pipeline `live` is new, and `prod`, which no YAML file names any more"
    assert said in project.cli.here("run").check(2).err
    assert said in project.cli.here("plan").check(2).err


def test_held_rows_keep_their_model_from_being_read(project: Project, sandbox: Sandbox) -> None:
    project.write_config("delivery: {grace: 200ms}\njob: {max_rows: 3}\nbatch: {max_rows: 3}\n")
    sandbox.inject("list:empty", "list:empty", "job:partial")
    project.cli.here("run", "-s", "events").check(1)
    project.execute("INSERT INTO events VALUES ('u1', 'later', '2025-02-01')")
    (plan,) = project.cli.here("plan", "-s", "events", "--output", "json").check(1).lines
    assert "3 rows are held with job prod-" in plan["error"]
    assert "`warehouse-sync retry --resend` sends its batches again" in plan["error"]
    assert (plan["counts"]["added"], plan["warnings"]) == (0, [])
    project.cli.here("run", "-s", "events").check(1)
    assert project.results()["results"][0]["message"] in plan["error"]
    project.write_model("events", EVENTS)
    assert project.cli.here("plan", "-s", "events", "--output", "json").check(1).lines[0]["error"] == plan["error"]
    assert "3 rows are held" in project.cli.here("run", "-s", "events").check(1).err, "a changed model waits as well"


def test_rows_that_nobody_took_yet_are_told_of(project: Project, sandbox: Sandbox) -> None:
    project.write_config("delivery: {grace: 200ms, busy_timeout: 1s}\n")
    sandbox.inject("upload:503*9")
    project.cli.here("run", "-s", "users").check(1)
    said = "3 rows wait to be delivered, which a run does first; here they count as not sent"
    plan = planned(project)
    assert (plan["warnings"], plan["counts"]) == ([said], {"read": 3, "added": 3})


# What is counted


def test_keys_that_are_gone_count_where_the_model_reports_them(project: Project) -> None:
    project.write_model("users", WHOLE)
    project.cli.here("run").check()
    project.execute("DELETE FROM users WHERE id = 'u3'")
    plan, result = planned(project), ran(project)
    assert (plan["counts"].get("removed", 0), result["removed"]) == (0, 0)
    assert "removed" not in plan["keys"]
    project.write_model("users", REPORTING)
    plan, result = planned(project), ran(project)
    assert (plan["counts"]["removed"], result["removed"]) == (1, 1)
    assert plan["keys"]["removed"] == ["u3"]


@pytest.mark.parametrize(
    ("header", "repaired", "changes"),
    [
        pytest.param("", 0, [], id="as it was"),
        pytest.param("", 2, ["UPDATE users SET changed = '2025-01-09'"], id="mended, and sent"),
        pytest.param("", 1, ["UPDATE users SET changed = '2025-01-09', plan = 'z' WHERE id = 'x'"], id="one of two"),
        pytest.param("", 0, ["UPDATE users SET plan = 'other' WHERE id IN ('x', 'y')"], id="bad in another way"),
        pytest.param("", 1, ["DELETE FROM users WHERE id = 'x'"], id="gone"),
        pytest.param("", 1, ["UPDATE users SET id = 'z' WHERE id = 'x'"], id="gone, and another in its place"),
        pytest.param("", 0, ["INSERT INTO users VALUES ('x', 'good', '2025-01-09')"], id="a good one beside it"),
        pytest.param("", 0, ["UPDATE users SET plan = 'other' WHERE id = 'u1'"], id="another key"),
        pytest.param("", 0, ["DELETE FROM users WHERE id = 'x'", TWO.format("2025-01-09")], id="ambiguous now"),
        pytest.param("", 1, ["DELETE FROM users WHERE id = 'x'", TWO.format("2025-01-08")], id="twice, and good"),
        pytest.param(CURSOR, 2, ["UPDATE users SET changed = '2025-01-09'"], id="mended, with a cursor"),
        pytest.param(CURSOR, 0, ["DELETE FROM users WHERE id = 'x'"], id="gone, with a cursor"),
    ],
)
def test_repaired_rows_are_foreseen(project: Project, header: str, repaired: int, changes: list[str]) -> None:
    project.write_config("invalid: {stop_above: 100%, error_above: 100%}\n")
    sql = "select id as user_id, plan, changed as inserted_at, length(id) as _c from users"
    project.write_model("users", f"{{{{ config(event='identify_user'{header}) }}}} {sql}")
    project.execute("INSERT INTO users VALUES ('x', 'a', '1969-01-09'), ('y', 'b', '1969-01-10')")
    assert ran(project)["invalid"] == 2
    project.execute(*changes)
    plan, result = planned(project), ran(project)
    counts = {name: rows for name, rows in result.items() if name in ("repaired", "suppressed", "invalid", "added")}
    assert {name: plan["counts"].get(name, 0) for name in counts} == counts
    assert result["repaired"] == repaired


def test_rows_that_were_sent_before_are_repaired_too(project: Project) -> None:
    project.write_config("invalid: {stop_above: 100%, error_above: 100%}\n")
    project.write_model("users", WHOLE.replace("plan from", "plan, changed as inserted_at from"))
    ran(project)
    project.execute("UPDATE users SET changed = '1969-01-09', plan = 'bad' WHERE id = 'u1'")
    assert ran(project)["invalid"] == 1
    project.execute("UPDATE users SET changed = '2025-01-01 10:00', plan = 'free' WHERE id = 'u1'")
    seen = project.cli.here("plan", "-s", "users").check().out
    plan, result = planned(project), ran(project)
    assert (plan["counts"]["repaired"], result["repaired"], result["unchanged"]) == (1, 1, 3)
    assert seen.splitlines()[-3].split()[-1] == "repaired"


# How it reads


def test_one_login_serves_all_models(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    login = preview.warehouse_of

    def counted_login(*words: Any) -> Any:
        opened.append(login(*words))
        return opened[-1]

    monkeypatch.setattr(preview, "warehouse_of", counted_login)
    project.write_model("broken", "{{ config(event='track', always=true) }} select a from nowhere")
    rows = project.cli.here("plan", "--output", "json").check(1).lines
    assert [row["counts"]["added"] for row in rows] == [0, 4, 3], "one model's fault is its own"
    assert len(opened) == 1
    project.warehouse.unlink()
    rows = project.cli.here("plan", "--output", "json").check(1).lines
    assert ["does not exist" in row["error"] for row in rows] == [True, True, True]


def test_no_session_outlives_its_model(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    sessions: list[DuckDBPyConnection] = []
    begin = SpillTable.__init__
    end = DuckDBWarehouse.close
    alive: list[int] = []

    def remember(pile: SpillTable, connection: DuckDBPyConnection, name: str) -> None:
        sessions.append(connection)
        begin(pile, connection, name)

    def is_alive(session: DuckDBPyConnection) -> bool:
        try:
            session.execute("SELECT 1").fetchall()
        except duckdb.ConnectionException:
            return False
        return True

    def close(warehouse: DuckDBWarehouse) -> None:
        alive.append(sum(map(is_alive, sessions)))
        end(warehouse)

    monkeypatch.setattr(SpillTable, "__init__", remember)
    monkeypatch.setattr(DuckDBWarehouse, "close", close)
    project.cli.here("plan").check()
    assert len(sessions) > 2
    assert alive == [0], "the warehouse's own session is the last one"
