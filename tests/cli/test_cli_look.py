"""`status`, `history`, `rejects`, `state`, `debug`: what the program knows, and making it forget."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project

Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def refused(project: Project) -> Project:
    """A project whose last run refused two users."""
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08'), ('1001', NULL, '1969-01-09')")
    project.cli.here("run").check(1)
    return project


def leave_a_job(project: Project, sandbox: Sandbox) -> None:
    """A run that ends while its job goes on."""
    sandbox.job_seconds = 60
    project.write_config("delivery: {job_timeout: 1ms}\n")
    assert "is still `" in project.cli.here("run").check(1).err
    project.write_config("delivery: {grace: 200ms}\n")


def refuse_a_row(project: Project) -> None:
    """A run that ends with exit code 1."""
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08')")
    project.cli.here("run").check(1)


def break_off(project: Project) -> None:
    """A run that is killed while its job goes on."""
    assert project.cli("run", WAREHOUSE_SYNC_TEST_KILL_AT="after_accept").code == -9


def run_with_a_clock_ahead(project: Project) -> None:
    """A run that ended, and a clock that was put right since."""
    project.cli.here("run").check()
    with closing(sqlite3.connect(project.home.parent / "state.db")) as store, store:
        store.execute("UPDATE runs SET ended_at = datetime(ended_at, '+400 days')")


# status


def test_status_before_the_first_run(project: Project) -> None:
    result = project.cli.here("status").check()
    assert result.out.count("never delivered") == 2
    assert "job: none on its way\nrun: none at work" in result.out


def test_status_after_a_run(project: Project) -> None:
    project.cli.here("run").check()
    out = project.cli.here("status").check().out
    users = next(line for line in out.splitlines() if line.startswith("users")).split()
    assert users[1:5] == ["identify_user", "2025-01-03", "10:00:00.000000", "1h"]
    (document,) = project.cli.here("status", "--output", "json").check().lines
    assert document["pipeline"] == "prod"
    assert (document["job"], document["lease"]) == (None, None)
    events, users_row = document["models"]
    assert users_row["window_counts"]["delivered"] == 0, "counts of the seal"
    assert (events["cursor"], events["cursor_column"], events["waiting"]) == (
        "2025-01-05 00:03:00.000000", "_happened", 0,
    )  # fmt: skip


def test_status_of_what_waits(project: Project, sandbox: Sandbox) -> None:
    leave_a_job(project, sandbox)
    out = project.cli.here("status").check().out
    assert "is accepted, 7 rows" in out
    (document,) = project.cli.here("status", "--output", "json").check().lines
    assert [row["waiting"] for row in document["models"]] == [4, 3]
    assert document["job"]["remote_id"].startswith("imports:jobs:")


@pytest.mark.parametrize(
    ("prepare", "max_age", "trouble"),
    [
        (lambda project: None, "1h", "there was no run yet"),
        (lambda project: project.cli.here("run").check(), "1h", None),
        (lambda project: project.cli.here("run").check(), "0s", "run 1 ended more than 0s ago"),
        (refuse_a_row, "1h", "run 1 ended with exit code 1"),
        (break_off, "1h", "run 1 was broken off"),
        (run_with_a_clock_ahead, "1h", "run 1 ended in the future: was the clock set?"),
    ],
)
def test_status_for_a_health_check(
    project: Project, prepare: Callable[[Project], object], max_age: str, trouble: str | None
) -> None:
    prepare(project)
    result = project.cli.here("status", "--max-age", max_age).check(0 if trouble is None else 1)
    assert (trouble or "") in result.err
    assert "run: none at work" in result.out
    project.cli.here("status").check()


def test_status_for_a_health_check_while_a_run_is_at_work(project: Project) -> None:
    from warehouse_sync.state.lease import hold_lease

    refuse_a_row(project)
    store = f"sqlite:///{project.home.parent / 'state.db'}"
    with hold_lease(store, project.name, "somebody"):
        project.cli.here("status", "--max-age", "1h").check()
    project.cli.here("status", "--max-age", "1h").check(1)


def test_status_of_held_rows(project: Project, sandbox: Sandbox) -> None:
    leave_a_job(project, sandbox)
    sandbox.forget_jobs()
    project.cli.here("run").check(1)
    assert "rows are held: nobody can tell whether they arrived" in project.cli.here("status").check().out


def test_status_of_models_that_are_gone_or_broken(project: Project) -> None:
    project.cli.here("run").check()
    (project.folder / "models_sql" / "events.sql").unlink()
    project.write_model("users", "select 1")
    out = project.cli.here("status").check().out
    assert "no such model any more" in out
    assert "cannot be used" in out
    assert "events" not in project.cli.here("status", "-s", "users").check().out


def test_status_when_the_lag_no_longer_fits_the_cursor(project: Project) -> None:
    project.cli.here("run").check()
    project.write_config("models: {overrides: {users: {lag: 5}}}\n")
    (document,) = project.cli.here("status", "-s", "users", "--output", "json").check().lines
    assert document["models"][0]["lag"] is None


# history


def test_history_of_nothing(project: Project) -> None:
    assert project.cli.here("history").check().out == "no runs yet\n"
    assert project.cli.here("history", "--output", "json").check().out == ""


def test_history_shows_jobs_and_the_batches_they_covered(project: Project) -> None:
    project.cli.here("run").check()
    project.cli.here("run").check()
    out = project.cli.here("history").check().out
    assert out.index("run 2  run  ") < out.index("run 1  run  ")
    assert "exit code 0" in out
    assert "2 success" in out
    assert "users/" in out
    assert "events/" in out
    newest, oldest = project.cli.here("history", "--output", "json").check().lines
    assert newest["jobs"] == []
    (job,) = oldest["jobs"]
    assert [(batch["model"], batch["rows"]) for batch in job["batches"]] == [("users", 3), ("events", 4)]
    assert oldest["args"]["which"] == "run"
    assert len(project.cli.here("history", "--limit", "1", "--output", "json").check().lines) == 1


def test_history_shows_why_a_job_failed(project: Project, sandbox: Sandbox) -> None:
    project.write_config("delivery: {max_splits: 1}\n")
    sandbox.inject("job:fail=The import failed*")
    project.cli.here("run", "-s", "users").check(1)
    out = project.cli.here("history").check().out
    assert "failed" in out
    assert "The import failed" in out


def test_history_of_a_killed_run(project: Project, sandbox: Sandbox) -> None:
    sandbox.job_seconds = 60
    with project.cli.start("run") as process:
        while not sandbox.jobs:
            assert process.poll() is None, process.communicate()
    assert "not ended: at work, or killed" in project.cli.here("history").check().out


def test_history_of_a_run_that_reached_nobody(project: Project, sandbox: Sandbox) -> None:
    sandbox.close()
    project.write_config("delivery: {busy_timeout: 700ms}\n")
    result = project.cli.here("run").check(1)
    assert f"Check userpilot.endpoint ({sandbox.url}), and that this machine can reach it." in result.err
    assert "1 of 2 SKIPPED events: not tried\n" in result.err
    assert "ERROR Userpilot does not answer: job list: no connection: refused or unreachable" in result.err
    assert " in 0.00s" not in result.err, "what is skipped takes no time"
    (entry,) = project.cli.here("history", "--output", "json").check().lines
    seconds = datetime.fromisoformat(entry["ended_at"]) - datetime.fromisoformat(entry["started_at"])
    assert 0.2 < seconds.total_seconds() < 60


def test_the_first_call_of_a_run_is_not_tried_for_hours(
    project: Project, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no setting is named that would not help."""
    for module in ("warehouse_sync.runs.run", "warehouse_sync.delivery.asking"):
        monkeypatch.setattr(f"{module}.FIRST_CALL", timedelta(milliseconds=700))
    sandbox.close()
    err = project.cli.here("run").check(1).err
    assert "Everything is recorded; the next run goes on." in err
    assert "busy_timeout" not in err


# rejects


def test_no_rejects(project: Project) -> None:
    assert project.cli.here("rejects").check().out == "no open refused rows\n"
    assert project.cli.here("rejects", "--all").check().out == "no refused rows\n"


def test_rejects_with_their_reasons(refused: Project) -> None:
    out = refused.cli.here("rejects").check().out
    assert "user_id is NULL, empty or blank." in out
    assert "here, before sending" in out
    first, second = refused.cli.here("rejects", "--output", "json").check().lines
    assert (first["model"], first["kind"], first["state"]) == ("users", "invalid", "open")
    assert first["reasons"] == ["user_id_missing"]
    assert second["key"] == "1001"
    assert second["reasons"] == ["inserted_at_out_of_range"]
    assert (second["first_run"], second["last_run"]) == (1, 1)


def test_rejects_without_a_key_are_found_by_their_window(project: Project) -> None:
    project.cli.here("run").check()
    project.execute(
        "INSERT INTO events VALUES (NULL, 'opened', '2025-01-06'), ('u1', 'closed', '2025-01-07')",
        "INSERT INTO users VALUES (NULL, 'free', '2025-01-08')",
    )
    project.cli.here("run").check(1)
    out = project.cli.here("rejects").check().out
    assert "_happened from 2025-01-05 00:03:00.000000 to 2025-01-07 00:00:00.000000" in out
    assert "_changed from 2025-01-03 09:00:00.000000 to 2025-01-08 00:00:00.000000" in out
    for item in project.cli.here("rejects", "--output", "json").check().lines:
        assert item["key"] is None
        assert item["window"]
        assert item["cursor_from"] < item["cursor_to"]


def test_rejects_of_selected_models(refused: Project) -> None:
    assert "no open" in refused.cli.here("rejects", "-s", "events").check().out
    assert len(refused.cli.here("rejects", "-s", "users", "--output", "json").check().lines) == 2


def test_more_rejects_than_asked_for(refused: Project) -> None:
    assert "1 more: --limit 2" in refused.cli.here("rejects", "--limit", "1").check().out


def test_rejects_of_userpilot(project: Project, sandbox: Sandbox) -> None:
    sandbox.inject("job:reject-row=u2")
    project.cli.here("run", "-s", "users")
    assert "by Userpilot" in project.cli.here("rejects").check().out


@pytest.mark.parametrize("text", ["2", "key:1001"])
def test_dismiss(refused: Project, text: str) -> None:
    result = refused.cli.here("rejects", "--dismiss", text).check()
    assert "1 refused row dismissed" in result.err
    (left,) = refused.cli.here("rejects", "--output", "json").check().lines
    assert left["id"] == 1
    assert "dismissed" in refused.cli.here("rejects", "--all").check().out
    refused.cli.here("run").check()
    assert len(refused.cli.here("rejects", "--output", "json").check().lines) == 1, "it stays dismissed"


def test_dismiss_what_is_not_there(refused: Project) -> None:
    result = refused.cli.here("rejects", "--dismiss", "1", "--dismiss", "u9").check(2)
    assert "no open refused row has the id or key 'u9'" in result.err
    assert len(refused.cli.here("rejects", "--output", "json").check().lines) == 2, "nothing was dismissed"


# state


def test_state_of_nothing(project: Project) -> None:
    assert "knows nothing of pipeline `prod` yet" in project.cli.here("state", "show").check().out
    assert project.cli.here("state", "show", "--output", "json").check().lines[0]["pipeline"] is None
    assert "knows nothing of pipeline" in project.cli.here("state", "reset", "--all", "--yes").check(2).err
    assert not (project.folder / ".warehouse_sync").exists()


def test_state_show(project: Project, sandbox: Sandbox) -> None:
    leave_a_job(project, sandbox)
    assert "WARN users: 3 rows wait to be delivered, which a run does first" in project.cli.here("plan").check().err
    out = project.cli.here("state", "show").check().out
    assert f"destination  {sandbox.url}, account not known yet" in out
    for heading in ("windows", "batches", "jobs"):
        assert f"\n{heading}\n" in out
    sandbox.finish_jobs()
    project.cli.here("run").check()
    out = project.cli.here("state", "show").check().out
    assert f"account {sandbox.account}" in out
    assert "\nmodels\n" in out
    assert "\njobs\n" not in out
    (document,) = project.cli.here("state", "show", "users", "--output", "json").check().lines
    assert [row["model"] for row in document["models"]] == ["users"]
    assert document["models"][0]["properties"] == {"plan": "String"}
    assert project.cli.here("state", "-c", str(project.config), "--output", "json", "show", "users").check().lines == [
        document
    ]
    assert "the state store knows no model `user`" in project.cli.here("state", "show", "user").check(2).err


def test_reset_of_a_model(project: Project, imported: Rows) -> None:
    project.cli.here("run").check()
    result = project.cli.here("state", "reset", "users", "--yes").check()
    assert "This forgets model users:" in result.err
    assert "model users starts over with the next run" in result.err
    assert not (project.home / "snapshots" / "users.duckdb").exists()
    project.cli.here("run").check()
    assert [row["event_type"] for row in imported()[7:]] == ["identify_user"] * 3


def test_state_before_the_first_destination(project: Project) -> None:
    project.write_config(api_key="another-key")
    project.cli.here("run").check(2)
    out = project.cli.here("state", "show").check().out
    assert out.startswith("pipeline     prod")
    assert "destination" not in out


def test_history_outlives_a_reset(project: Project) -> None:
    project.cli.here("run", "-s", "users").check()
    project.cli.here("state", "reset", "users", "--yes").check()
    out = project.cli.here("history").check().out
    assert "completed" in out
    assert "users/" not in out


def test_reset_of_the_pipeline(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    leave_a_job(project, sandbox)
    assert list((project.home / "outbox").glob("*/*.ndjson"))
    result = project.cli.here("state", "reset", "--all", "--yes").check()
    assert "1 job is on the way" in result.err
    assert "pipeline prod starts over" in result.err
    assert not list((project.home / "outbox").glob("*/*"))
    sandbox.finish_jobs()
    sandbox.job_seconds = 0
    with Sandbox(project.folder / "other", account="NX-other") as other:
        project.write_config(endpoint=other.url)
        project.cli.here("run").check()
        assert len(other.imported()) == 7
    assert len(imported()) == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a model, or say --all"),
        (["users", "--all"], "name a model, or say --all"),
        (["nobody", "--yes"], "the state store knows no model `nobody`"),
        (["users"], "nothing is done: nobody is there to ask\n            say --yes"),
    ],
)
def test_resets_that_are_refused(project: Project, words: list[str], said: str) -> None:
    project.cli.here("run").check()
    result = project.cli.here("state", "reset", *words).check(2)
    assert said in result.err
    assert ("Usage:" in result.err) is ("name a model" in said), "only for words that cannot be"
    assert (project.home / "snapshots" / "users.duckdb").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_reset_asks(project: Project, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    project.cli.here("run").check()
    monkeypatch.setattr("warehouse_sync.cli.ask.is_terminal", lambda _: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer)
    assert ("nothing is done" in project.cli.here("state", "reset", "users").check(code).err) is bool(code)
    assert (project.home / "snapshots" / "users.duckdb").exists() is bool(code)


def test_reset_waits_for_no_run(project: Project) -> None:
    from warehouse_sync.state.lease import hold_lease

    project.cli.here("run").check()
    with hold_lease(f"sqlite:///{project.folder}/.warehouse_sync/state.db", "prod", "a run"):
        assert "another run of prod is at work" in project.cli.here("state", "reset", "--all", "--yes").check(1).err


# debug


def checks(out: str) -> dict[str, str]:
    """What `debug` says: check -> OK or FAIL, without the lines of single cursors."""
    lines = [line for line in out.splitlines() if line.startswith(("OK", "FAIL")) and line[6:12] != "cursor"]
    return {line[6:19].strip(): line[:4].strip() for line in lines}


GOOD = dict.fromkeys(("config", "models", "warehouse", "userpilot", "state store", "state folder", "disk"), "OK")


def test_debug_of_a_good_project(project: Project) -> None:
    result = project.cli.here("debug").check()
    assert checks(result.out) == GOOD
    assert "A key of another region is accepted too, silently" in result.out
    assert "account not known before its first import job" in result.out
    assert not project.home.exists(), "looking makes nothing"
    project.cli.here("run").check()
    result = project.cli.here("debug").check()
    assert "account NX-5a4db0c5, 1 import job listed" in result.out
    assert "2 models known" in result.out


def test_debug_goes_on_after_each_failure(project: Project, sandbox: Sandbox) -> None:
    project.cli.here("run").check()
    project.write_model("broken", "select 1")
    project.warehouse.unlink()
    project.write_config(api_key="another-key")
    (project.home / "id").write_text(json.dumps({"pipeline": "prod", "id": "another"}))
    result = project.cli.here("debug").check(2)
    failed = {"models", "warehouse", "userpilot", "state folder"}
    assert checks(result.out) == GOOD | dict.fromkeys(failed, "FAIL")
    assert "another-key" not in result.out


def test_debug_as_json(project: Project, sandbox: Sandbox) -> None:
    sandbox.close()
    lines = project.cli.here("debug", "--output", "json").check(1).lines
    assert [line["check"] for line in lines if not line["ok"]] == ["userpilot"]


def test_debug_ends_as_a_run_would_with_a_refused_key(project: Project) -> None:
    project.write_config(api_key="another-key")
    assert "Userpilot refuses the API key" in project.cli.here("run").check(2).err
    assert checks(project.cli.here("debug").check(2).out) == GOOD | {"userpilot": "FAIL"}


def test_debug_of_a_running_job(project: Project, sandbox: Sandbox) -> None:
    leave_a_job(project, sandbox)
    assert "is running" in project.cli.here("debug").check().out


def test_debug_of_a_broken_config(project: Project) -> None:
    project.config.write_text("name: [")
    result = project.cli.here("debug").check(2)
    assert checks(result.out) == {"config": "FAIL"}
    assert "FAIL  config" in project.cli.here("debug", "-c", "nowhere.yml").check(2).out


def test_debug_of_a_state_folder_that_is_gone(project: Project) -> None:
    import shutil

    project.cli.here("run").check()
    shutil.rmtree(project.home)
    result = project.cli.here("debug").check(2)
    assert "is missing or empty" in result.out
    assert "state adopt" in result.out
    for path in (project.folder / ".warehouse_sync").glob("state.db*"):
        path.unlink()
    project.home.mkdir()
    (project.home / "id").write_text(json.dumps({"pipeline": "prod", "id": "x"}))
    assert "state import FILE" in project.cli.here("debug").check(2).out


def test_debug_of_a_folder_that_cannot_be_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written by this user" in project.cli.here("debug").check(2).out


def test_a_state_folder_that_cannot_be_looked_into(project: Project) -> None:
    long = "x" * 300
    project.write_config(f"state: {{url: 'sqlite:///../{long}/state.db', dir: ../{long}}}\n")
    for words in ("run", "status", "plan"):
        err = project.cli.here(words).check(2).err
        assert "state.db: cannot use the state store: File name too long" in err
    found = checks(project.cli.here("debug").check(2).out)
    assert found == GOOD | dict.fromkeys(("state store", "state folder"), "FAIL")


def test_debug_of_a_full_disk(project: Project) -> None:
    project.write_config("batch: {max_bytes: 900TB}\njob: {max_bytes: 900TB}\n")
    assert checks(project.cli.here("debug").check(1).out)["disk"] == "FAIL"


def test_debug_of_a_driver_that_is_missing(project: Project) -> None:
    text = project.config.read_text().replace(
        "{type: duckdb, path: ../warehouse.duckdb}", "{type: sqlalchemy, url: 'mysql://u:secret-word@h/d'}"
    )
    project.config.write_text(text)
    result = project.cli.here("debug").check(1)
    assert checks(result.out) == GOOD | {"warehouse": "FAIL"}
    assert "secret-word" not in result.out + result.err


def test_debug_goes_on_after_a_fault_of_its_own(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise KeyError("a value")

    monkeypatch.setattr("warehouse_sync.userpilot.client.Client.check", fail)
    result = project.cli.here("debug").check(1)
    assert checks(result.out) == GOOD | {"userpilot": "FAIL"}
    assert "internal error: KeyError at warehouse_sync/cli/debug.py:" in result.out
    assert "a value" not in result.out + result.err


@pytest.mark.parametrize("verb", ["status", "plan", "explain users u1"])
def test_a_lost_store_is_not_a_first_run(project: Project, verb: str) -> None:
    project.cli.here("run").check()
    for path in (project.folder / ".warehouse_sync").glob("state.db*"):
        path.unlink()
    err = project.cli.here(*verb.split()).check(2).err
    assert "was filled by another state store" in err
    assert err.index("state export") < err.index("point `state.url` back") < err.index("remove the folder")
