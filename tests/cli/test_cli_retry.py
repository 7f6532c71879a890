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
    project.cli.here(verb, *(words if verb == "run" else [])).check()
    assert sorted(row["user_id"] for row in imported()) == ["u1", "u2", "u3", "u4"]


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
