"""`retry`: failed models again, mended rows, held batches; and nothing twice that was not asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.state.lifecycle import BatchState, JobState, RejectState
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project

Rows = Callable[[], list[dict[str, Any]]]


def store_of(project: Project) -> Any:
    return open_store(f"sqlite:///{project.folder}/.warehouse_sync/state.db", read_only=True)


def rejects(project: Project) -> Counter[str]:
    """State of every reject of every model."""
    with store_of(project) as store:
        return Counter(str(one.state) for one in store.rejects("prod", states=tuple(RejectState)))


def cursor(project: Project, model: str = "users") -> str | None:
    with store_of(project) as store:
        known = store.model_state("prod", model)
        return known.cursor.text if known and known.cursor else None


# Models


def test_nothing_to_do_again(project: Project) -> None:
    assert "nothing to do again" in project.cli.here("retry").check().err
    project.cli.here("run").check()
    assert "nothing to do again" in project.cli.here("retry").check().err
    assert project.results()["args"]["which"] == "run", "no results of nothing"


def test_failed_models_of_the_last_run(project: Project, imported: Rows) -> None:
    good = (project.folder / "models_sql" / "events.sql").read_text()
    project.write_model("events", "{{ config(event='track', unique_key='nope', begin='all') }} select 1 as nope")
    project.cli.here("run").check(1)
    project.write_model("events", good)
    project.execute("INSERT INTO users VALUES ('u9', 'free', '2025-02-01')")
    result = project.cli.here("retry").check()
    assert "events: run 1 ended:" in result.err
    assert Counter(row["event_type"] for row in imported()) == {"identify_user": 3, "track": 4}, "users succeeded"
    assert [row["unique_id"] for row in project.results()["results"]] == ["sync.prod.events"]
    assert project.results()["args"]["which"] == "retry"
    assert "nothing to do again" in project.cli.here("retry").check().err
    assert "retry" in project.cli.here("history").check().out


def test_models_that_a_retry_did_not_take_are_still_failed(project: Project, imported: Rows) -> None:
    warehouse = project.warehouse.read_bytes()
    project.warehouse.unlink()
    project.cli.here("run").check(1)
    project.warehouse.write_bytes(warehouse)
    project.cli.here("retry", "--select", "users").check()
    assert len(imported()) == 3
    project.cli.here("retry").check()
    assert len(imported()) == 7


def test_failed_models_are_read_as_the_last_run_was_asked_to(project: Project, imported: Rows) -> None:
    warehouse = project.warehouse.read_bytes()
    project.warehouse.unlink()
    project.cli.here("run", "--select", "users", "--limit", "2", "--vars", "{since: 2025}").check(1)
    project.warehouse.write_bytes(warehouse)
    project.cli.here("retry").check()
    assert len(imported()) == 2
    assert cursor(project) is None
    assert project.results()["args"]["vars"] == "{since: 2025}"


LEFT = "delivery: {busy_timeout: 100ms, grace: 100ms}\n"
EVENTS = "select user_id, 'opened' as event_name, ts as inserted_at, ts as _at from clicks"


def left(project: Project, sandbox: Sandbox, header: str, *words: str) -> None:
    """A run that read four events, or what `words` ask for, and could deliver none of them."""
    for path in (project.folder / "models_sql").glob("*.sql"):
        path.unlink()
    rows = ", ".join(f"('u{i}', TIMESTAMP '2025-05-0{i}')" for i in range(1, 5))
    project.execute(f"CREATE TABLE clicks AS SELECT * FROM (VALUES {rows}) AS t(user_id, ts)")
    project.write_model("clicks", f"{{{{ config(event='track', {header}) }}}} {EVENTS}")
    project.write_config(LEFT)
    sandbox.inject("upload:409*99")
    project.cli.here("run", *words).check(1)
    sandbox.clear_faults()


ASKED = {
    "always": ("always=True", []),
    "full refresh": ("cursor='_at', begin='all', full_refresh=True", ["-f"]),
    "backfill": ("cursor='_at', begin='all'", ["--from", "2025-05-01", "--to", "2025-05-05"]),
    "limit": ("cursor='_at', begin='all'", ["--limit", "4"]),
}


@pytest.mark.parametrize("verb", ["retry", "run"])
@pytest.mark.parametrize("asked", ASKED)
def test_what_was_read_and_not_delivered_is_not_read_again_for_the_same(
    project: Project, sandbox: Sandbox, imported: Rows, verb: str, asked: str
) -> None:
    header, words = ASKED[asked]
    left(project, sandbox, header, *words)
    result = project.cli.here(verb, *(words if verb == "run" else [])).check()
    assert "WARN clicks: what run 1 read for the same goes now; nothing is read anew" in result.err
    assert sorted(row["user_id"] for row in imported()) == ["u1", "u2", "u3", "u4"]


COMPARED = {
    "backfill": ("cursor='_at', begin='all', unique_key='user_id'", ["--from", "2025-05-01", "--to", "2025-05-09"]),
    "full refresh": ("cursor='_at', begin='all', unique_key='user_id', full_refresh=True", ["-f"]),
    "no full refresh": ("cursor='_at', begin='all'", ["-f"]),
    "always": ("cursor='_at', begin='all', always=True", []),
}


@pytest.mark.parametrize("verb", ["retry", "run"])
@pytest.mark.parametrize("asked", COMPARED)
def test_what_came_since_is_read_in_the_run_that_delivers_the_rest(
    project: Project, sandbox: Sandbox, imported: Rows, verb: str, asked: str
) -> None:
    header, words = COMPARED[asked]
    left(project, sandbox, header, *words)
    project.execute("INSERT INTO clicks VALUES ('new', TIMESTAMP '2025-05-04 12:00')")
    result = project.cli.here(verb, *(words if verb == "run" else [])).check()
    found = Counter(row["user_id"] for row in imported())
    # Without comparing, the row at the cursor goes in every run.
    assert found == {"u1": 1, "u2": 1, "u3": 1, "u4": 2 if asked == "always" else 1, "new": 1}
    assert "nothing is read anew" not in result.err


def test_a_full_refresh_after_one_that_lost_a_file_sends_everything(
    project: Project, sandbox: Sandbox, imported: Rows
) -> None:
    header, words = COMPARED["full refresh"]
    left(project, sandbox, header, *words)
    (file,) = (project.home / "outbox").rglob("*.ndjson")
    file.write_text("damaged")
    project.cli.here("run", *words).check()
    assert len(imported()) == 4


@pytest.mark.parametrize("asked", ["full refresh", "backfill"])
def test_what_was_read_for_something_else_does_not_stand_for_what_is_asked(
    project: Project, sandbox: Sandbox, imported: Rows, asked: str
) -> None:
    header, words = ASKED[asked]
    left(project, sandbox, header)
    project.cli.here("run", *words).check()
    found = Counter(row["user_id"] for row in imported())
    # What stands at the cursor is known line by line.
    assert found == {"u1": 2, "u2": 2, "u3": 2, "u4": 2 if asked == "full refresh" else 1}


def test_secret_vars_have_to_be_given_again(project: Project) -> None:
    project.warehouse.unlink()
    project.cli.here("run", "--vars", f"{{key: {project.api_key}}}").check(1)
    assert "a secret in `--vars`" in project.cli.here("retry").check(2).err


@pytest.mark.parametrize("what", ["model", "pipeline"])
def test_a_failed_model_that_has_another_name_by_now(project: Project, imported: Rows, what: str) -> None:
    good = (project.folder / "models_sql" / "events.sql").read_text()
    project.cli.here("run").check()
    project.execute("INSERT INTO events VALUES ('u9', 'later', '2025-02-01')")
    project.write_model("events", good + " where nope")
    project.cli.here("run").check(1)
    (project.folder / "models_sql" / "events.sql").unlink()
    if what == "model":
        project.write_model("clicks", good)
        project.cli.here("state", "rename", "events", "clicks", "--yes").check()
    else:
        project.write_model("events", good)
        project.name = "other"
        project.write_config()
        project.cli.here("state", "rename", "--pipeline", "prod", "--yes").check()
    project.cli.here("retry").check()
    assert len(imported()) == 8
    assert "nothing to do again" in project.cli.here("retry").check().err


def test_a_run_that_was_killed(project: Project, imported: Rows) -> None:
    project.cli("run", WAREHOUSE_SYNC_TEST_KILL_AT="window_ready").check(-9)
    result = project.cli.here("retry").check()
    assert "users: run 1 was cut short" in result.err
    assert len(imported()) == 7


# Refused rows


@pytest.fixture
def refused(project: Project) -> Project:
    """A project that has read past two bad users: their cursor lies far behind."""
    project.execute(
        "INSERT INTO users VALUES ('1001', 'a', '1969-01-09'), ('x', 'b', '1969-01-10')",
    )
    project.cli.here("run").check(1)
    project.write_model(
        "users",
        """\
        {{ config(event='identify_user', cursor='_changed') }}
        select id as user_id, plan, greatest(changed, timestamp '1971-01-01') as inserted_at, changed as _changed
        from users
        """,
    )
    return project


def test_a_mended_key_is_not_looked_for_under_the_old_one(project: Project, imported: Rows) -> None:
    project.execute("INSERT INTO users VALUES ('   ', 'free', '2025-01-01 11:00')")
    project.cli.here("run").check(1)
    project.execute("UPDATE users SET id = 'u7' WHERE id = '   '")
    result = project.cli.here("retry").check()
    assert "is read again, and compared" in result.err
    assert [row["user_id"] for row in imported() if row["event_type"] == "identify_user"].count("u7") == 1
    assert rejects(project) == {"resolved": 1}


def test_mended_rows_are_found_by_key(refused: Project, imported: Rows) -> None:
    before = cursor(refused)
    assert rejects(refused) == {"open": 2}
    refused.cli.here("run").check()
    assert rejects(refused) == {"open": 2}, "the cursor has passed them"
    refused.execute("INSERT INTO users VALUES ('u9', 'free', '2025-02-01')")
    result = refused.cli.here("retry").check()
    assert "users: 2 refused rows: read again by key" in result.err
    assert sorted(row["user_id"] for row in imported() if row["event_type"] == "identify_user") == [
        "1001", "u1", "u2", "u3", "x",
    ]  # fmt: skip
    assert rejects(refused) == {"resolved": 2}
    assert cursor(refused) == before, "a retry moves no cursor"
    assert refused.results()["results"][0]["read"] == 2
    refused.cli.here("run").check()
    assert len(imported()) == 10


def test_rows_that_are_still_bad_stay_refused(project: Project, imported: Rows) -> None:
    project.execute("INSERT INTO users VALUES ('1001', 'a', '1969-01-09'), ('x', 'b', '1969-01-10')")
    project.cli.here("run").check(1)
    project.execute("UPDATE users SET changed = '1969-02-02' WHERE id = 'x'")
    project.cli.here("retry").check()
    assert rejects(project) == {"open": 2}, "as they were"
    project.execute("UPDATE users SET plan = 'other' WHERE id = 'x'")
    result = project.cli.here("retry").check(1)
    assert "1 row refused" in result.err, "another bad row of that key"
    assert rejects(project) == {"open": 2, "resolved": 1}
    assert len(imported()) == 7


def test_a_row_that_left_the_source_is_closed(refused: Project) -> None:
    refused.execute("DELETE FROM users WHERE id = 'x'")
    refused.cli.here("retry").check()
    assert rejects(refused) == {"resolved": 2}


def test_rows_without_a_key_are_found_by_their_window(project: Project, imported: Rows) -> None:
    project.execute("INSERT INTO users VALUES (NULL, 'a', '2024-01-01'), ('', 'b', '2024-01-02')")
    project.cli.here("run").check(1)
    assert rejects(project) == {"open": 2}
    project.execute("UPDATE users SET id = 'n1' WHERE id IS NULL")
    result = project.cli.here("retry").check()
    assert "what is there from the beginning on is read again, and compared" in result.err
    assert Counter(row["user_id"] for row in imported() if row["event_type"] == "identify_user")["n1"] == 1
    assert len(imported()) == 8, "nothing else goes again"
    assert rejects(project) == {"open": 1, "resolved": 1}


@pytest.mark.parametrize("where", ["", "snapshot: {where: warehouse, schema: sync}\n"])
def test_rows_with_a_blank_id_do_not_stand_for_each_other(project: Project, imported: Rows, where: str) -> None:
    project.write_config(where + "invalid: {stop_above: 100%}\n")
    bad = "INSERT INTO users VALUES ('', '{0}', '{1}'), (' ', '{0}{0}', '{1}')"
    project.execute(bad.format("a", "2025-01-08"))
    project.cli.here("run").check(1)
    project.execute(bad.format("b", "2025-01-09"))
    project.cli.here("run").check(1)
    assert rejects(project) == {"open": 4}
    project.cli.here("run").check()
    assert rejects(project) == {"open": 4}, "known by now"
    project.execute("UPDATE users SET id = plan WHERE trim(id) = '' AND plan <> 'aa'")
    project.cli.here("retry").check()
    assert {"a", "b", "bb"} <= {row["user_id"] for row in imported() if row["event_type"] == "identify_user"}
    assert len(imported()) == 10
    assert rejects(project) == {"open": 1, "resolved": 3}


def test_a_model_without_cursor_is_read_again(project: Project, imported: Rows) -> None:
    project.write_model("users", "{{ config(event='identify_user') }} select id as user_id, plan from users")
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08')")
    project.cli.here("run").check(1)
    project.execute("UPDATE users SET id = 'u8' WHERE id = ''")
    assert "the model is read again" in project.cli.here("retry").check().err
    assert rejects(project) == {"resolved": 1}
    assert len(imported()) == 8


def test_keys_of_several_columns(project: Project, imported: Rows) -> None:
    project.write_model(
        "events",
        """\
        {{ config(event='track', unique_key=['user_id', 'n'], cursor='_happened', begin='all') }}
        select user_id, extract(minute from happened) as n, name as event_name, happened as inserted_at,
          happened as _happened from events
        """,
    )
    project.execute("UPDATE events SET name = '' WHERE extract(minute from happened) = 1")
    project.cli.here("run").check(1)
    project.execute("UPDATE events SET name = 'mended' WHERE name = ''", "DELETE FROM users")
    assert "read again by key" in project.cli.here("retry").check().err
    assert Counter(row.get("event_name") for row in imported()) == {None: 3, "opened": 3, "mended": 1}


def test_events_without_a_key_go_again_only_when_asked_to(project: Project, imported: Rows) -> None:
    project.execute("UPDATE events SET name = '' WHERE extract(minute from happened) = 1")
    project.cli.here("run").check(1)
    project.execute("UPDATE events SET name = 'mended' WHERE name = ''")
    result = project.cli.here("retry").check()
    assert "1 refused row has no key to be found by" in result.err
    assert "nothing to do again" in result.err
    assert "say --yes" in project.cli.here("retry", "--whole-windows").check(2).err
    project.execute("INSERT INTO events VALUES ('u1', 'later', '2025-01-06')")
    result = project.cli.here("retry", "--whole-windows", "--yes").check()
    assert "sends about 3 events a second time" in result.err
    assert rejects(project) == {"resolved": 1}
    names = Counter(row.get("event_name") for row in imported())
    assert names["mended"] == 1
    assert names["later"] == 0, "what comes after the window waits for a run"
    project.cli.here("run").check()
    assert Counter(row.get("event_name") for row in imported())["later"] == 1


def test_rows_that_userpilot_refused_go_again_when_asked_to(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    sandbox.inject("job:fail-row=u2*9")
    project.cli.here("run", "--select", "users").check(1)
    sandbox.clear_faults()
    project.cli.here("retry", "--select", "users").check()
    assert rejects(project) == {"open": 1}, "as it was"
    project.cli.here("retry", "--select", "users", "--refused").check()
    assert rejects(project) == {"resolved": 1}
    assert Counter(row["user_id"] for row in imported() if row["event_type"] == "identify_user") == {
        "u1": 1, "u2": 1, "u3": 1,
    }  # fmt: skip


def test_two_bad_rows_of_one_key_do_not_take_turns(project: Project) -> None:
    project.execute("INSERT INTO users VALUES ('1001', 'a', '1969-01-09'), ('1001', 'b', '1969-01-10')")
    project.write_model(
        "users",
        "{{ config(event='identify_user') }} select id as user_id, plan, changed as inserted_at from users",
    )
    project.cli.here("run", "-s", "users").check(1)
    project.execute("UPDATE users SET plan = 'c' WHERE plan = 'b'")
    project.cli.here("run", "-s", "users").check(1)
    for _ in range(2):
        project.cli.here("run", "-s", "users").check()
        assert rejects(project)["open"] == 2


def test_rejects_are_forgotten_some_time_after_they_closed(refused: Project) -> None:
    refused.cli.here("retry").check()
    refused.cli.here("run").check()
    assert rejects(refused) == {"resolved": 2}
    refused.write_config("retention: {rejects: 0 days}\n")
    refused.cli.here("run").check()
    assert rejects(refused) == {}


# What a retry reads again

NAME = "case when bad then '' else 'opened' end as event_name"
SEQ = f"select user_id, {NAME}, timestamp '2025-05-01' as inserted_at, n as _n"


@pytest.fixture
def numbered(project: Project) -> Project:
    """Thirty good clicks, numbered from 0, and no model yet but those of users, which go."""
    (project.folder / "models_sql" / "users.sql").unlink()
    (project.folder / "models_sql" / "events.sql").unlink()
    project.write_config("invalid: {stop_above: 100%}\n")
    project.execute(
        "CREATE TABLE clicks AS SELECT 'u' || i AS user_id, i AS n, false AS bad FROM range(30) AS numbers(i)"
    )
    return project


def clicks(project: Project, header: str, where: str = "") -> None:
    project.write_model("clicks", f"{{{{ config(event='track', cursor='_n', {header}) }}}} {SEQ} from clicks {where}")


def times(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How often what went more than once, or is called otherwise than those of the beginning, was imported."""
    found = Counter(row["user_id"] for row in rows)
    return {name: number for name, number in found.items() if number > 1 or not name.startswith("u")}


def test_of_a_backfill_only_its_range_goes_again(numbered: Project, imported: Rows) -> None:
    clicks(numbered, "begin='all'")
    numbered.cli.here("run").check()
    numbered.execute("INSERT INTO clicks VALUES ('late', 20, true)")
    numbered.cli.here("run", "--from", "20", "--to", "22").check(1)
    assert "_n from 20 to 21" in numbered.cli.here("rejects").check().out
    numbered.execute("UPDATE clicks SET bad = false")
    result = numbered.cli.here("retry", "--whole-windows", "--yes").check()
    assert "sends about 2 events a second time" in result.err
    assert times(imported()) == {"late": 1, "u20": 3, "u21": 3}
    assert rejects(numbered) == {"resolved": 1}


def test_a_retry_reads_no_further_than_the_one_before_it(numbered: Project, imported: Rows) -> None:
    clicks(numbered, "begin='all'")
    numbered.cli.here("run").check()
    numbered.execute("INSERT INTO clicks VALUES ('late', 31, true), ('good', 30, false)")
    numbered.cli.here("run").check(1)
    for number in (2, 3):
        said = numbered.cli.here("retry", "--whole-windows", "--yes").check().err
        assert "sends about 2 events a second time" in said
        assert "_n from 29 to 31" in numbered.cli.here("rejects").check().out
        assert times(imported()) == {"good": number, "u29": number}
        assert rejects(numbered) == {"open": 1}


def test_windows_that_share_rows_are_read_again_once(numbered: Project, imported: Rows) -> None:
    clicks(numbered, "begin='all'")
    numbered.cli.here("run").check()
    for n in (31, 33):
        numbered.execute(f"INSERT INTO clicks VALUES ('bad{n}', {n}, true), ('good{n}', {n + 1}, false)")
        numbered.cli.here("run").check(1)
    numbered.execute("UPDATE clicks SET bad = false")
    numbered.cli.here("retry", "--whole-windows", "--yes").check()
    # What stands at the cursor is known line by line.
    assert times(imported()) == {"u29": 2, "good31": 2, "good33": 1, "bad31": 1, "bad33": 1}
    assert rejects(numbered) == {"resolved": 2}


def test_what_the_next_run_reads_anyway_is_left_to_it(numbered: Project, imported: Rows) -> None:
    clicks(numbered, "begin='all'")
    numbered.cli.here("run").check()
    numbered.execute("INSERT INTO clicks VALUES ('late', 31, true), ('good', 32, false)")
    numbered.cli.here("run", "--limit", "5").check(1)
    result = numbered.cli.here("retry", "--whole-windows", "--yes").check()
    assert "clicks: 1 refused row is read again by the next run" in result.err
    assert "nothing to do again" in result.err
    numbered.execute("UPDATE clicks SET bad = false")
    numbered.cli.here("run").check()
    assert times(imported()) == {"late": 1, "good": 1}


def test_what_the_lag_reached_is_read_again_before_anything_is_closed(numbered: Project, imported: Rows) -> None:
    clicks(numbered, "unique_key='user_id', lag=10, begin='all'")
    numbered.cli.here("run").check()
    numbered.execute("INSERT INTO clicks VALUES ('late', 21, true), (NULL, 30, true)")
    numbered.cli.here("run").check(1)
    # The lag of today says nothing about the window.
    clicks(numbered, "unique_key='user_id', lag=0, begin='all'")
    assert "what is there from 19 on is read again" in numbered.cli.here("retry").check().err
    assert rejects(numbered) == {"open": 2}
    numbered.execute("INSERT INTO clicks VALUES ('new', 99, false)")
    numbered.cli.here("run").check()
    numbered.execute("UPDATE clicks SET bad = false WHERE user_id = 'late'")
    numbered.cli.here("retry").check()
    assert times(imported()) == {"late": 1, "new": 1}
    assert rejects(numbered) == {"open": 1, "resolved": 1}


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("words", [["--from", "0", "--to", "5"], ["--to", "5"]])
def test_what_a_backfill_met_before_begin_is_found_again(
    numbered: Project, imported: Rows, words: list[str], keyed: bool
) -> None:
    clicks(numbered, "begin=10" + (", unique_key='user_id'" if keyed else ""))
    numbered.execute("UPDATE clicks SET user_id = 'x3', bad = true WHERE n = 3")
    numbered.cli.here("run").check()
    numbered.cli.here("run", *words).check(1)
    for end in ("open", "resolved"):
        numbered.cli.here("retry", *([] if keyed else ["--whole-windows", "--yes"])).check()
        assert rejects(numbered) == {end: 1}
        numbered.execute("UPDATE clicks SET bad = false")
    again = {} if keyed else {f"u{i}": 3 for i in (0, 1, 2, 4)}
    assert times(imported()) == {"x3": 1, **again}


@pytest.mark.parametrize("keyed", [True, False])
def test_what_is_older_than_begin_stays_unsent(numbered: Project, imported: Rows, keyed: bool) -> None:
    clicks(numbered, "begin=10" + (", unique_key='user_id'" if keyed else ""))
    numbered.execute(f"INSERT INTO clicks VALUES ({'NULL' if keyed else repr('x')}, 12, true)")
    numbered.cli.here("run").check(1)
    numbered.execute("UPDATE clicks SET bad = false, user_id = 'x' WHERE bad")
    numbered.cli.here("retry", *([] if keyed else ["--whole-windows", "--yes"])).check()
    found = Counter(row["user_id"] for row in imported())
    assert found["x"] == 1
    assert not {f"u{i}" for i in range(10)} & {*found}
    assert rejects(numbered) == {"resolved": 1}


# Held batches


@pytest.fixture
def held(project: Project, sandbox: Sandbox) -> Project:
    """A project whose first job ended with some rows done: the events in it are held."""
    project.write_config("delivery: {grace: 200ms}\n")
    sandbox.inject("job:partial")
    project.cli.here("run").check(1)
    with store_of(project) as store:
        assert [batch.model for batch in store.batches("prod", states=[BatchState.HELD])] == ["events"]
    return project


def test_held_batches_wait_for_a_word(held: Project) -> None:
    result = held.cli.here("retry").check(1)
    assert "4 rows of events" in result.err
    assert "--resend sends them again, --settle takes them as arrived" in result.err
    with store_of(held) as store:
        assert store.batches("prod", states=[BatchState.HELD])


def test_a_model_that_changed_is_not_read_while_rows_of_it_are_held(held: Project, sandbox: Sandbox) -> None:
    held.write_model(
        "events",
        """\
        {{ config(event='track', cursor='_happened', begin='all') }}
        select user_id, name as event_name, 'new' as plan, happened as inserted_at, happened as _happened from events
        """,
    )
    result = held.cli.here("run", "--log-format", "json").check(1)
    assert result.event("window_superseded")["msg"].endswith("read again once somebody has decided about its held rows")
    assert [event["data"]["model"] for event in result.events if event["code"] == "model_start"] == ["users"]


def test_resend(held: Project, imported: Rows) -> None:
    done = len([row for row in imported() if row["event_type"] == "track"])
    result = held.cli.here("retry", "--resend", "--yes").check()
    assert "events of events that did arrive count twice" in result.err
    assert len([row for row in imported() if row["event_type"] == "track"]) == done + 4
    with store_of(held) as store:
        assert next(job.state for job in store.jobs("prod")) is JobState.FAILED
        assert not store.batches("prod", states=[BatchState.HELD, BatchState.SEALED])
    assert cursor(held, "events") is not None
    held.cli.here("run").check()


def test_settle(held: Project, imported: Rows) -> None:
    done = len(imported())
    result = held.cli.here("retry", "--settle", "--yes").check()
    assert "what did not arrive is never sent" in result.err
    assert len(imported()) == done
    with store_of(held) as store:
        assert next(job.state for job in store.jobs("prod")) is JobState.COMPLETED
    assert cursor(held, "events") is not None
    held.cli.here("run").check()
    assert len(imported()) == done


def test_decisions_are_asked_for(held: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not both" in held.cli.here("retry", "--settle", "--resend").check(2).err
    assert "say --yes" in held.cli.here("retry", "--settle").check(2).err
    monkeypatch.setattr("warehouse_sync.cli.ask.is_terminal", lambda _: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    held.cli.here("retry", "--settle").check(1)
    with store_of(held) as store:
        assert store.batches("prod", states=[BatchState.HELD])


def test_a_held_job_that_runs_again_stays_held(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    project.write_config("delivery: {grace: 200ms}\n")
    sandbox.inject("job:404*50", "list:empty*50")
    sandbox.job_seconds = 60
    project.cli.here("run").check(1)
    sandbox.clear_faults()
    result = project.cli.here("retry", "--resend", "--yes").check(1)
    assert "its batches stay held until it ends" in result.err
    sandbox.finish_jobs()
    sandbox.job_seconds = 0
    project.cli.here("retry").check()
    assert len(imported()) == 7


def test_a_retry_waits_for_no_run(held: Project) -> None:
    from warehouse_sync.state.lease import hold_lease

    with hold_lease(f"sqlite:///{held.folder}/.warehouse_sync/state.db", "prod", "a run"):
        assert "another run of prod is at work: a run" in held.cli.here("retry").check(1).err
