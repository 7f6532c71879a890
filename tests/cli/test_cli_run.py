"""`run` through the front door: the real command, a real DuckDB file, the sandbox over a socket."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.cli.session import Session
from warehouse_sync.errors import StateError
from warehouse_sync.observe.codes import CODES
from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project

Rows = Callable[[], list[dict[str, Any]]]

COUNTS = {
    "read", "added", "changed", "unchanged", "duplicate", "suppressed", "invalid", "future", "delivered", "rejected",
    "waiting", "removed", "retimed", "repaired", "batches", "jobs",
}  # fmt: skip


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_first_run_sends_everything_and_the_second_nothing(project: Project, imported: Rows) -> None:
    result = project.cli("run").check()
    assert len(imported()) == 7
    assert result.out == "", "stdout carries data, and there is none"
    assert "1 of 2 START identify_user users" in result.err
    assert "2 of 2 OK users: 3 rows delivered in" in result.err
    assert "SUCCESS=2 PARTIAL=0 ERROR=0 SKIPPED=0 TOTAL=2" in result.err.splitlines()[-1]

    again = project.cli.here("run").check()
    assert len(imported()) == 7
    assert "2 of 2 OK users: nothing to send" in again.err


def test_only_what_changed_goes(project: Project, imported: Rows) -> None:
    project.cli.here("run").check()
    project.execute("UPDATE users SET plan = 'pro', changed = '2025-02-01' WHERE id = 'u1'")
    project.execute("UPDATE users SET changed = '2025-02-01' WHERE id = 'u2'")
    project.cli.here("run").check()
    assert [(row["user_id"], row["metadata"]["plan"]) for row in imported()[7:]] == [("u1", "pro")]


def test_a_narrow_terminal_gets_a_narrow_table(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from warehouse_sync.cli import session

    monkeypatch.setattr(session, "is_terminal", lambda _: True)
    err = project.cli.here("run", COLUMNS="60", NO_COLOR="1").check().err
    (heading,) = [line.split() for line in err.splitlines() if line.startswith("model ")]
    assert heading == ["model", "status", "read", "added", "delivered"]


def test_every_line_has_a_clock(project: Project) -> None:
    err = project.cli.here("run", "-s", "users").check().err
    messages = [line for line in err.splitlines() if line and line[0].isdigit()]
    assert len(messages) >= 5
    assert all(line[2] == line[5] == ":" and line[8:10] == "  " for line in messages)


def test_quiet_says_nothing_when_all_is_well(project: Project) -> None:
    result = project.cli.here("run", "-q").check()
    assert (result.out, result.err) == ("", "")


def test_debug_says_what_the_wire_did(project: Project) -> None:
    assert "warehouse_sync.userpilot: upload: status 200" in project.cli.here("run", "-d").check().err


def test_json_lines(project: Project) -> None:
    project.write_model("broken", "select 1")
    events = project.cli.here("run", "--log-format", "json").check(1).events
    for event in events:
        assert list(event) == ["ts", "level", "code", "msg", "run", "data"]
        assert event["code"] in CODES
        assert event["ts"].endswith("Z")
    assert {event["run"] for event in events} == {1}
    results = {event["data"]["model"]: event["data"] for event in events if event["code"] == "model_result"}
    assert set(results) == {"broken", "events", "users"}
    assert results["users"].keys() >= {"status", "seconds", *COUNTS}
    assert results["broken"]["status"] == "error"
    done = events[-1]
    assert done["code"] == "run_done"
    assert done["data"]["statuses"] == {"success": 2, "partial": 0, "error": 1, "skipped": 0}


def test_results_as_data(project: Project) -> None:
    result = project.cli.here("run", "--output", "json", "-q").check()
    (document,) = result.lines
    assert document == project.results()
    assert result.err == ""


def test_run_results(project: Project) -> None:
    variables = {"WAREHOUSE_SYNC_ENV_JOB": "nightly-7", "WAREHOUSE_SYNC_ENV_": "no name"}
    project.cli.here("run", "-s", "users", "--vars", "{a: 1}", **variables).check()
    document = project.results()
    assert set(document) == {"metadata", "args", "elapsed_time", "results"}
    metadata = document["metadata"]
    assert metadata.pop("invocation_id")
    assert metadata.pop("generated_at").endswith("Z")
    assert metadata.pop("version")
    assert metadata == {"tool": "warehouse-sync", "run": 1, "pipeline": "prod", "env": {"JOB": "nightly-7"}}
    assert document["args"]["select"] == ["users"]
    assert document["args"]["vars"] == "{a: 1}"
    assert document["elapsed_time"] > 0
    (result,) = document["results"]
    assert result["unique_id"] == "sync.prod.users"
    assert result.keys() == {"unique_id", "status", "execution_time", "message", *COUNTS}
    assert (result["status"], result["read"], result["delivered"]) == ("success", 3, 3)
    path = project.home / "run_results.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(project.home.glob("*.tmp"))


def test_results_that_cannot_be_written_are_an_error(project: Project) -> None:
    (project.home / "run_results.json" / "in the way").mkdir(parents=True)
    result = project.cli.here("run").check(1)
    assert f"manifest.json in {project.home} cannot be written: " in result.err
    assert "SUCCESS=2" in result.err


def test_a_store_that_is_gone_once_the_run_is_over_changes_no_ending(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(session: Session) -> None:
        raise StateError("the server is gone", hint="wait for it.")

    monkeypatch.setattr(Session, "store", gone)
    result = project.cli.here("run").check()
    assert "refused rows cannot be counted: the server is gone" in result.err
    assert "SUCCESS=2" in result.err
    assert [row["status"] for row in project.results()["results"]] == ["success", "success"]


def test_log_file_holds_the_run_without_secrets_or_rows(project: Project) -> None:
    project.write_config(api_key="${USERPILOT_API_KEY}")
    project.cli.here("run", "--vars", "{note: sandbox-key}", USERPILOT_API_KEY="sandbox-key").check()
    (log,) = (project.home / "logs").iterdir()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"run_started", "model_start", "job_posting", "job_completed", "run_done"} <= {e["code"] for e in events}
    everything = log.read_text() + (project.home / "run_results.json").read_text()
    assert "sandbox-key" not in everything
    assert "free" not in everything, "no value of a row"
    assert '"u1"' not in everything, "no key"
    assert project.results()["args"]["vars"] == "{note: *****}"


def test_old_log_files_are_removed(project: Project) -> None:
    project.write_config("retention: {logs: 7 days}\n")
    project.cli.here("run").check()
    logs = project.home / "logs"
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    for name in ("2020-01-01.log", f"{yesterday}.log", "notes.log"):
        (logs / name).touch()
    project.cli.here("run").check()
    assert not (logs / "2020-01-01.log").exists()
    assert (logs / f"{yesterday}.log").exists()
    assert (logs / "notes.log").exists()


# Selection


def test_empty_selection_is_a_warning(project: Project, sandbox: Sandbox) -> None:
    result = project.cli.here("run", "--select", "userss").check()
    assert "WARN userss selects no enabled model (nearest: users)" in result.err
    assert "nothing" in result.err or "no enabled model" in result.err
    assert sandbox.requests == []
    assert not project.home.exists()


def test_folder_without_enabled_models(project: Project) -> None:
    for path in (project.folder / "models_sql").glob("*.sql"):
        path.write_text("{{ config(event='identify_user', enabled=false) }}\nselect 1 as user_id")
    assert "WARN there is no enabled model in" in project.cli.here("run").check().err


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["-s", "users", "events"], {"users", "events"}),
        (["--select", "users", "-s", "events"], {"users", "events"}),
        (["--select", "users events", "--exclude", "users"], {"events"}),
        (["-s", "tag:daily"], {"users"}),
        (["--exclude", "event:track"], {"users"}),
        (["-s", "users,tag:daily", "-x"], {"users"}),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else " ".join(value),
)
def test_selectors(project: Project, words: list[str], models: set[str]) -> None:
    project.cli.here("run", *words).check()
    assert {result["unique_id"] for result in project.results()["results"]} == {f"sync.prod.{name}" for name in models}


def test_options_may_stand_before_the_verb(project: Project) -> None:
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    project.cli.folder = elsewhere
    project.cli.here("-c", "../configs/prod.yml", "-s", "users", "--log-format", "json", "run").check()
    assert [result["unique_id"] for result in project.results()["results"]] == ["sync.prod.users"]
    assert [event["code"] for event in project.cli.here("--log-format", "json", "run").check(2).events] == ["usage"]
    project.cli.here("run", WAREHOUSE_SYNC_CONFIG=str(project.config)).check()


# What does not end well: exit code 1


def test_one_broken_model_does_not_stop_the_others(project: Project, imported: Rows) -> None:
    path = project.write_model("broken", "{{ config(event='track', begin='all') }}\nselect {{ nope }}")
    result = project.cli.here("run").check(1)
    assert len(imported()) == 7
    assert f"1 of 3 ERROR broken: {path}" in result.err.replace(f"\n{' ' * 10}", " ") or str(path) in result.err
    assert re.findall(r"(\d of \d) START", result.err) == ["2 of 3", "3 of 3"], "as many as there are results"
    assert "SUCCESS=2 PARTIAL=0 ERROR=1 SKIPPED=0 TOTAL=3" in result.err
    results = {result["unique_id"]: result["status"] for result in project.results()["results"]}
    assert results == {"sync.prod.broken": "error", "sync.prod.events": "success", "sync.prod.users": "success"}


HEAD = "{{ config(event='track', cursor='_t', begin='all') }}\n"
ROW = "select 'u' as user_id, 'n' as event_name, timestamp '2025-01-01' as inserted_at, timestamp '2025-01-01' as _t"
MODEL_FAULTS = {
    "two statements": (f"{HEAD}{ROW}; {ROW}", "a second statement"),
    "not a query": (f"{HEAD}delete from users", "query"),
    "jinja": (f"{HEAD}{ROW} {{{{ nope }}}}", "nope"),
    "header": ("{{ config(event='track', begin='all', cursr='_t') }}\n" + ROW, "nearest: cursor"),
    "column that is not returned": (f"{HEAD}{ROW.replace('as _t', 'as _other')}", "_t"),
    "table that is not there": (f"{HEAD}{ROW} from nowhere", "nowhere"),
    "binary column": (f"{HEAD}{ROW}, 'x'::blob as picture", "picture"),
    "runtime error": (f"{HEAD}{ROW}, cast('secret-value' as integer) as n", "Conversion Error"),
}


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_faults_of_one_model(project: Project, imported: Rows, fault: str) -> None:
    sql, said = MODEL_FAULTS[fault]
    path = project.write_model("odd", sql)
    result = project.cli.here("run").check(1)
    summary = result.err.partition("ERROR odd: ")[2]
    assert said in summary
    assert path.name in summary
    assert "secret-value" not in result.err
    assert len(imported()) == 7


def test_two_identify_models_of_one_event(project: Project) -> None:
    project.write_model("people", "{{ config(event='identify_user') }}\nselect 'u' as user_id")
    result = project.cli.here("run").check(1)
    statuses = {result["unique_id"]: result["status"] for result in project.results()["results"]}
    assert statuses == {"sync.prod.people": "error", "sync.prod.users": "error", "sync.prod.events": "success"}
    assert "another model is identify_user too: users" in result.err


def test_fail_fast_leaves_the_rest_alone(project: Project) -> None:
    project.write_model("aaa", "{{ config(event='identify_company') }}\nselect 1 as company_id from nowhere")
    project.cli.here("run", "-x").check(1)
    statuses = {result["unique_id"]: result["status"] for result in project.results()["results"]}
    assert statuses == {"sync.prod.aaa": "error", "sync.prod.events": "skipped", "sync.prod.users": "skipped"}


ONE_JOB_EACH = "batch: {max_rows: 3}\njob: {max_rows: 3}\n"


@pytest.mark.parametrize(("fault", "status"), [("job:fail*2", "error"), ("job:reject-row=c2", "partial")])
def test_fail_fast_sends_nothing_after_what_did_not_arrive(
    project: Project, sandbox: Sandbox, imported: Rows, fault: str, status: str
) -> None:
    project.write_config(ONE_JOB_EACH + "delivery: {max_splits: 0, grace: 100ms}\n")
    companies = "select 'c' || i as company_id, timestamp '2025-01-01' as inserted_at from range(3) as numbers(i)"
    project.write_model("aaa", f"{{{{ config(event='identify_company') }}}}\n{companies}")
    project.write_model("zzz", "{{ config(event='track', unique_key='user_id') }}\n" + FIRST)
    sandbox.inject(fault)
    project.cli.here("run", "-x").check(1)
    found = {result["unique_id"]: result for result in project.results()["results"]}
    assert found["sync.prod.aaa"]["status"] == status
    assert found["sync.prod.users"]["status"] == "error"
    assert found["sync.prod.users"]["waiting"] == 3
    assert not [row for row in imported() if "user_id" in row]
    project.cli.here("run").check()
    assert len([row for row in imported() if "user_id" in row]) == 8


FIRST = "select 'first' as user_id, 'opened' as event_name, timestamp '2025-01-01' as inserted_at"


def test_fail_fast_reads_nothing_after_refused_rows(project: Project, imported: Rows) -> None:
    project.write_model("aaa", "{{ config(event='identify_company') }}\nselect 'c' as company_id")
    project.execute("INSERT INTO users VALUES ('', 'pro', '2025-01-04')")
    project.cli.here("run", "-x").check(1)
    statuses = {result["unique_id"]: result["status"] for result in project.results()["results"]}
    assert statuses == {"sync.prod.aaa": "success", "sync.prod.events": "skipped", "sync.prod.users": "partial"}
    assert len(imported()) == 4, "what was read before is sent"


def test_refused_rows_are_partial_and_shown(project: Project, imported: Rows) -> None:
    project.execute("INSERT INTO users VALUES ('', 'pro', '2025-01-04')")
    result = project.cli.here("run").check(1)
    assert "PARTIAL users: 1 row refused" in result.err
    assert "1 refused row is open (users: 1): `warehouse-sync rejects` shows why" in result.err
    assert len(imported()) == 7, "the good rows go"
    again = project.cli.here("run").check(0)
    assert "1 refused row is open" in again.err, "still said, although this run refused nothing new"


def test_a_full_refresh_that_a_model_refuses_is_a_warning(project: Project) -> None:
    err = project.cli.here("run", "-f").check().err
    assert err.count("WARN events: `-f` passed over: this model has `full_refresh=false`") == 1


def test_warnings_and_notes_once_each(project: Project) -> None:
    project.write_model(
        "users",
        "{{ config(event='identify_user') }}\nselect id as user_id, 'nan'::double as score from users",
    )
    result = project.cli.here("run", "-s", "users").check()
    assert result.err.count("NaN or an infinity was sent as null") == 1
    assert "(3 rows)" in result.err


def test_warehouse_that_is_not_there(project: Project) -> None:
    project.warehouse.unlink()
    result = project.cli.here("run").check(1)
    assert f"warehouse file {project.warehouse} does not exist" in result.err
    assert [result["status"] for result in project.results()["results"]] == ["error", "error"]


def test_warehouse_that_a_build_has_open(project: Project) -> None:
    import duckdb

    with duckdb.connect(str(project.warehouse)):
        result = project.cli("run").check(1)
    assert "is locked by" in result.err
    assert "dbt build" in result.err
    project.cli.here("run").check()


def test_a_build_may_write_while_rows_are_delivered(project: Project, sandbox: Sandbox) -> None:
    sandbox.job_seconds = 60
    with project.cli.start("run") as process:
        wait_for(lambda: sandbox.jobs, "a job")
        project.execute("INSERT INTO users VALUES ('u4', 'free', '2025-01-04')")
        sandbox.finish_jobs()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    sandbox.job_seconds = 0
    project.cli.here("run").check()
    assert project.results()["results"][1]["added"] == 1


def test_lease_held(project: Project, sandbox: Sandbox) -> None:
    from warehouse_sync.state.lease import hold_lease
    from warehouse_sync.state.store import open_store

    project.cli.here("run").check()
    before = project.results()
    url = f"sqlite:///{project.folder}/.warehouse_sync/state.db"
    asked = len(sandbox.requests)
    with open_store(url), hold_lease(url, "prod", "somebody else"):
        failed = project.cli.here("run").check(1)
        assert "ERROR another run of prod is at work: somebody else" in failed.err
        assert "--wait 5m" in failed.err
        skipped = project.cli.here("run", "--if-locked", "skip").check(0)
        assert "nothing done: another run of prod is at work" in skipped.err
        waited = project.cli.here("run", "--wait", "600ms").check(1)
        assert "somebody else" in waited.err
        assert f"run: somebody else, process {os.getpid()}" in project.cli.here("status").check().out
    assert len(sandbox.requests) == asked
    assert project.results() == before, "the results of the run at work are left alone"


def test_time_limit(project: Project, sandbox: Sandbox) -> None:
    sandbox.job_seconds = 60
    result = project.cli.here("run", "--time-limit", "5s").check(1)
    assert "the time limit of" in result.err
    statuses = {entry["status"] for entry in project.results()["results"]}
    assert statuses == {"error"}
    assert {entry["waiting"] for entry in project.results()["results"]} == {3, 4}
    sandbox.finish_jobs()
    again = project.cli.here("run").check()
    assert "picking up job" in again.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_the_next_goes_on(
    project: Project, sandbox: Sandbox, imported: Rows, number: signal.Signals
) -> None:
    sandbox.job_seconds = 60
    with project.cli.start("run") as process:
        wait_for(lambda: sandbox.jobs, "a job")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"stopped by {number.name}" in err
    assert "Traceback" not in err
    assert {entry["status"] for entry in project.results()["results"]} == {"error"}
    sandbox.job_seconds = 0
    sandbox.finish_jobs()
    project.execute("INSERT INTO users VALUES ('u4', 'pro', '2025-01-04 10:00')")
    project.cli.here("run").check()
    assert len(imported()) == 8, "what was left, and what is new since"


def test_a_lease_that_is_lost_stops_before_the_next_upload(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    sandbox.job_seconds = 2
    project.write_config("batch: {max_rows: 1}\njob: {max_rows: 1}\n")
    with project.cli.start("run") as process:
        wait_for(lambda: sandbox.jobs, "a job")
        (lock,) = (project.folder / ".warehouse_sync").glob("*.lock")
        lock.unlink()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the lease of this run is lost" in err
    assert len(sandbox.jobs) == 1
    assert {entry["status"] for entry in project.results()["results"]} == {"error"}
    sandbox.job_seconds = 0
    project.cli.here("run").check()
    assert len(imported()) == 7


def test_disk_full(sample_project: Project, imported: Rows) -> None:
    import resource

    # A limit on the size of any file: the batch of 8,000 events does not fit, the state store does.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    project = sample_project
    project.cli.here("run", "-s", "companies").check()
    before = len(imported())
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        result = project.cli("run", "-s", "events")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.check(1).err.count("cannot write ") >= 1
    assert len(imported()) == before
    assert not list((project.home / "outbox" / "events").iterdir())
    project.cli.here("run", "-s", "events").check()
    assert len(imported()) == before + 8000


# What could not start: exit code 2


def test_no_config(project: Project) -> None:
    result = project.cli.here("run", "-c", "nowhere.yml").check(2)
    assert "ERROR nowhere.yml (--config) does not exist" in result.err
    assert project.cli.here("run", WAREHOUSE_SYNC_CONFIG="gone.yml").check(2).err.count("gone.yml") == 1


CONFIG_FAULTS = {
    "syntax": ("name: [prod", "configs/prod.yml:1"),
    "unknown key": ("name: prod\nwharehouse: {}\n", "nearest: warehouse"),
    "duplicate key": ("name: prod\nname: test\n", "prod.yml:2:1: name"),
    "variable": ("name: ${NOWHERE_SET}\n", "the variable `NOWHERE_SET` is not set"),
    "http": ("userpilot: {api_key: abcdef, endpoint: 'http://example.com'}\n", "userpilot.endpoint"),
    "later": ("name: prod\nmetrics: {}\n", "metrics: is not built yet in this version"),
}


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_faults_of_the_config(project: Project, fault: str) -> None:
    text, said = CONFIG_FAULTS[fault]
    project.config.write_text(text)
    result = project.cli.here("run").check(2)
    assert said in result.err
    (event,) = project.cli.here("run", "--log-format", "json").check(2).events
    assert event["code"] == "config"
    assert event["data"]["problems"][0]["line"] >= 1
    assert not project.home.exists()


def test_no_folder_of_models(project: Project) -> None:
    project.write_config("models: {path: nowhere}\n")
    assert "there is no folder" in project.cli.here("run").check(2).err


@pytest.mark.parametrize("selector", ["state:nope", "+users", "nothing:x", "event:nope", "users,,events"])
def test_selector_that_cannot_be_read(project: Project, selector: str) -> None:
    assert "ERROR the selector" in project.cli.here("run", "-s", selector).check(2).err


@pytest.mark.parametrize("text", ["[1, 2]", "{a: ", "a", "{1: 2}"])
def test_vars_that_are_no_mapping(project: Project, text: str) -> None:
    assert "--vars is no mapping" in project.cli.here("run", "--vars", text).check(2).err


def test_vars_reach_the_models(project: Project, imported: Rows) -> None:
    project.write_model(
        "users", "{{ config(event='identify_user') }}\nselect '{{ var(\"who\") }}' as user_id"
    )  # fmt: skip
    assert "who" in project.cli.here("run", "-s", "users").check(1).err
    project.cli.here("run", "-s", "users", "--vars", "{who: somebody}").check()
    assert [row["user_id"] for row in imported()] == ["somebody"]


@pytest.mark.parametrize("words", [["--limit", "0"], ["--wait", "5"], ["--time-limit", "soon"], ["--nope"], ["users"]])
def test_usage(project: Project, words: list[str]) -> None:
    result = project.cli.here("run", *words).check(2)
    assert "Usage: warehouse-sync run" in result.err


def test_a_backfill_that_no_model_can_do_sends_nothing(project: Project) -> None:
    result = project.cli.here("run", "--from", "2025-13-01").check(1)
    assert "is no value of the cursor" in result.err


def test_a_backfill_says_what_it_cannot_compare(project: Project, imported: Rows) -> None:
    project.cli.here("run").check()
    turned = project.cli.here("run", "--from", "2025-02-01", "--to", "2025-01-01").check(1)
    assert "--from 2025-02-01 is not before --to 2025-01-01" in turned.err
    result = project.cli.here("run", "--from", "2025-01-01").check()
    assert result.err.count("those that were sent before are sent a second time") == 1, "of events, not of users"
    assert len(imported()) == 7 + 3, "but for the last one, whose hash is kept for the next run"


def test_api_key_refused(project: Project) -> None:
    project.write_config(api_key="another-key")
    result = project.cli.here("run").check(2)
    assert "Userpilot refuses the API key" in result.err
    for word in ("key", "plan", "region"):
        assert word in result.err
    assert "another-key" not in result.err


def test_nobody_listens(project: Project, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse_sync.runs.run.FIRST_CALL", timedelta(seconds=1))
    sandbox.close()
    result = project.cli.here("run").check(1)
    assert "ERROR" in result.err


def test_state_store_of_a_newer_program(project: Project) -> None:
    import sqlite3

    project.cli.here("run").check()
    with sqlite3.connect(project.folder / ".warehouse_sync" / "state.db") as store:
        store.execute("UPDATE warehouse_sync_version SET version_num = '9999'")
    store.close()
    assert "newer warehouse-sync" in project.cli.here("run").check(2).err


def test_state_dir_that_cannot_be_written(project: Project) -> None:
    (project.folder / "file").touch()
    project.write_config("state: {dir: ../file, url: 'sqlite:///../state.db'}\n")
    result = project.cli.here("run").check(2)
    assert "state.dir" in result.err
    assert "cannot be written" in result.err


def test_state_dir_of_another_pipeline(project: Project) -> None:
    project.cli.here("run").check()
    (project.home / "id").write_text(json.dumps({"pipeline": "other", "id": "x"}))
    assert "belongs to pipeline `other`" in project.cli.here("run").check(2).err


def test_state_dir_gone_while_the_store_knows_windows(project: Project, imported: Rows) -> None:
    import shutil

    project.cli.here("run").check()
    shutil.rmtree(project.home)
    result = project.cli.here("run").check(2)
    assert "is missing or empty, while the state store holds windows" in result.err
    assert len(imported()) == 7
    assert not (project.home / "logs").exists(), "the folder stays as it was found, ready for a backup"


def test_another_destination(project: Project, tmp_path: Path) -> None:
    project.cli.here("run").check()
    with Sandbox(tmp_path / "other", account="NX-other") as other:
        project.write_config(endpoint=other.url)
        result = project.cli.here("run").check(2)
    assert "belongs to another destination" in result.err
    assert "state reset" in result.err
