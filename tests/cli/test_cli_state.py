"""`state …`: each verb says what it does, asks, and is undone by `import` of the export that it made."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.state.lifecycle import BatchState
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project

    from warehouse_sync.context import RunContext
    from warehouse_sync.state.rows import Batch
    from warehouse_sync.values import Model

Rows = Callable[[], list[dict[str, Any]]]


def url_of(project: Project) -> str:
    return f"sqlite:///{project.folder}/.warehouse_sync/state.db"


def tables(project: Project, name: str = "prod") -> dict[str, Any]:
    """Everything that the store holds, but for runs and the counters that never go back."""
    with open_store(url_of(project), read_only=True) as store:
        found: dict[str, Any] = store.by_hand.take_out(name)
    del found["runs"]
    for row in found["pipelines"]:
        del row["job_number"], row["delivery_seq"]
    return found


def export_of(err: str) -> str:
    """The path of the export that a verb says it made."""
    found = re.search(r"state import (\S+\.zip)` undoes this", err)
    assert found is not None, err
    return found.group(1)


def undo(project: Project, err: str) -> None:
    project.cli.here("state", "import", export_of(err), "--yes").check()


@pytest.fixture
def synced(project: Project) -> Project:
    """A project after a run, with a refused row."""
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08')")
    project.cli.here("run").check(1)
    return project


def test_a_reset_can_be_undone(synced: Project, imported: Rows) -> None:
    before = tables(synced)
    for words in (["users"], ["--all"]):
        err = synced.cli.here("state", "reset", *words, "--yes").check().err
        assert tables(synced) != before
        path = Path(export_of(err))
        assert path.parent == synced.home / "exports"
        assert path.stat().st_mode & 0o777 == 0o600
        undo(synced, err)
        assert tables(synced) == before
    synced.cli.here("run").check()
    assert len(imported()) == 7, "nothing goes again"


def test_an_import_can_be_undone(synced: Project) -> None:
    first = synced.cli.here("state", "export").check().out.strip()
    synced.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
    synced.cli.here("run").check()
    later = tables(synced)
    result = synced.cli.here("state", "import", first, "--yes").check()
    assert "What was delivered since then is forgotten" in result.err
    assert tables(synced) != later
    undo(synced, result.err)
    assert tables(synced) == later
    synced.cli.here("run").check()


def test_what_was_delivered_since_an_export_goes_again(synced: Project, imported: Rows) -> None:
    first = synced.cli.here("state", "export").check().out.strip()
    synced.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
    synced.cli.here("run").check()
    synced.cli.here("state", "import", first, "--yes").check()
    synced.cli.here("run").check()
    assert Counter(row["user_id"] for row in imported() if row["event_type"] == "identify_user")["u9"] == 2


def test_a_folder_of_another_user(synced: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def refuse(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "id":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    said = synced.cli.here("run").check(2).err
    assert "id cannot be read by this user" in said
    assert "backup" not in said


def test_an_export_needs_no_api_key(synced: Project) -> None:
    synced.write_config(api_key="${NOBODY_SET_THIS}")
    synced.cli.here("state", "export").check()


def test_an_export_makes_no_folders(synced: Project) -> None:
    assert "there is no folder" in synced.cli.here("state", "export", "new/out.zip").check(2).err
    assert not (synced.folder / "new").exists()


KEYED = (
    "{{ config(event='track', unique_key='id') }}"
    " select id, id as user_id, 'seen' as event_name, changed as inserted_at from users"
)


@pytest.mark.parametrize("snapshots", ["local", "warehouse"])
def test_a_store_from_before_the_first_delivery_of_a_model(project: Project, imported: Rows, snapshots: str) -> None:
    project.write_config(f"snapshot: {{where: {snapshots}, schema: sync}}\n" if snapshots == "warehouse" else "")
    project.cli.here("run", "--select", "users").check()
    project.write_model("views", KEYED)
    store, older = project.folder / ".warehouse_sync" / "state.db", project.folder / "older.db"
    shutil.copy(store, older)
    project.cli.here("run").check()
    assert len(imported()) == 10
    shutil.copy(older, store)
    words = ("newer than the state store", "every row then counts as new")
    for verb, code in ((["plan"], 1), (["explain", "views", "u1"], 2), (["run"], 1)):
        said = project.cli.here(*verb).check(code)
        assert all(word in said.out + said.err for word in words), said
        assert "state reset views" not in said.out + said.err, "the store knows no such model"
    assert len(imported()) == 10, "nothing goes twice"
    if snapshots == "local":
        for model in ("views", "events"):
            assert f"remove {project.home}/snapshots/{model}.duckdb" in said.err
            (project.home / "snapshots" / f"{model}.duckdb").unlink()
        project.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
        project.cli.here("run").check()
        assert [row["event_type"] for row in imported() if row["user_id"] == "u9"] == ["identify_user", "track"]


def test_a_state_moves_to_another_store(synced: Project, imported: Rows) -> None:
    path = synced.cli.here("state", "export", "out.zip").check().out.strip()
    before = tables(synced)
    synced.write_config("state: {url: 'sqlite:///../other.db', dir: ../.warehouse_sync}\n")
    with open_store(f"sqlite:///{synced.folder}/other.db") as store:
        store.register_pipeline("neighbour", "x")
        run = store.begin_run("neighbour", "run", {}, "0")
        assert run == 1, "an id that the export has too"
    synced.cli.here("state", "import", path, "--yes").check()
    synced.cli.here("run").check()
    assert len(imported()) == 7
    with open_store(f"sqlite:///{synced.folder}/other.db", read_only=True) as store:
        found = store.by_hand.take_out("prod")
        assert [row["verb"] for row in found["runs"]] == ["run", "run"]
        assert [row["cursor"] for row in found["models"]] == [row["cursor"] for row in before["models"]]
        assert len(store.runs("neighbour", 9)) == 1


def test_undelivered_batches_are_in_an_export(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    sandbox.job_seconds = 60
    project.write_config("delivery: {job_timeout: 1ms}\n")
    project.cli.here("run").check(1)
    err = project.cli.here("state", "reset", "--all", "--yes").check().err
    assert not list((project.home / "outbox").glob("*/*"))
    undo(project, err)
    sandbox.finish_jobs()
    sandbox.job_seconds = 0
    project.write_config()
    project.cli.here("run").check()
    assert len(imported()) == 7


def test_files_that_are_no_export(synced: Project) -> None:
    good = synced.cli.here("state", "export").check().out.strip()
    assert "is there already" in synced.cli.here("state", "export", good).check(2).err
    assert "does not exist" in synced.cli.here("state", "import", "nothing.zip", "--yes").check(2).err
    (synced.folder / "bad.zip").write_bytes(Path(good).read_bytes()[:-200])
    assert "damaged, or no export" in synced.cli.here("state", "import", "bad.zip", "--yes").check(2).err
    for change, said in (
        ({"format": 2}, "is of format 2, this program knows 1"),
        ({"pipeline": "other"}, "is of pipeline `other`, the YAML names `prod`"),
        ({"files": "../evil"}, "damaged, or no export"),
        ({"tables": {}}, "the export has no `pipelines`"),
        ({"columns": 1}, "has other columns than this program knows"),
    ):
        changed(Path(good), synced.folder / "changed.zip", **change)
        assert said in synced.cli.here("state", "import", "changed.zip", "--yes").check(2).err
    before = tables(synced)
    synced.cli.here("run").check()
    assert tables(synced)["models"][0]["cursor"] == before["models"][0]["cursor"]


def changed(source: Path, target: Path, **change: Any) -> None:
    """A copy of an export with another manifest, other tables, or a file of another place."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        manifest, state = json.loads(old.read("manifest.json")), json.loads(old.read("state.json"))
        manifest |= {name: value for name, value in change.items() if name in manifest}
        state = change.get("tables", state)
        if "columns" in change:
            state["models"][0]["strange"] = 1
        new.writestr("manifest.json", json.dumps(manifest))
        new.writestr("state.json", json.dumps(state))
        if "files" in change:
            new.writestr(f"files/{change['files']}", "x")


# Cursor


def test_another_cursor(synced: Project, imported: Rows) -> None:
    before = tables(synced)
    synced.execute("UPDATE users SET plan = 'mended' WHERE id = 'u1'")
    synced.cli.here("run").check()
    assert len(imported()) == 7, "u1 lies behind the cursor"
    result = synced.cli.here("state", "reset", "users", "--cursor", "2025-01-01", "--yes").check()
    assert "Rows from there on are read again and compared" in result.err
    synced.cli.here("run").check()
    assert [row["user_id"] for row in imported()[7:]] == ["u1"]
    result = synced.cli.here("state", "reset", "events", "--cursor", "2025-01-05T00:02:00", "--yes").check()
    assert "rows from there on are sent again" in result.err
    undo(synced, result.err)
    synced.cli.here("run").check()
    assert len(imported()) == 8
    assert "Rows between the two are not read" in synced.cli.here(
        "state", "reset", "users", "--cursor", "2026-01-01", "--yes"
    ).check().err  # fmt: skip
    assert before["models"] != tables(synced)["models"]


@pytest.mark.parametrize("killed", [False, True], ids=["merged", "killed before its merge"])
def test_a_cursor_that_goes_back_without_a_key_sends_all_rows_from_there_on(
    project: Project, imported: Rows, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    def merge(context: RunContext, model: Model) -> list[Batch]:
        return sys.exit(9) if context.store.mergeable(context.pipeline, model.name) else []

    with monkeypatch.context() as patch:
        if killed:
            patch.setattr("warehouse_sync.runs.run.merge_delivered", merge)
        project.cli.here("run", "--select", "events").check(9 if killed else 0)
    reset = ("state", "reset", "events", "--cursor", "2025-01-05T00:02:00", "--yes")
    assert "rows from there on are sent again" in project.cli.here(*reset).check().err
    project.cli.here("run", "--select", "events").check()
    minutes = [row["inserted_at"][14:16] for row in imported()]
    assert sorted(minutes) == ["00", "01", "02", "02", "03", "03"]
    project.cli.here("run", "--select", "events").check()
    assert len(imported()) == 6


@pytest.mark.parametrize("words", [["reset", "users"], ["discard", "--all"], ["rename", "users", "people"], ["adopt"]])
def test_lines_for_machines(synced: Project, sandbox: Sandbox, words: list[str]) -> None:
    if words[0] == "adopt":
        (synced.home / "id").unlink()
    if words[0] == "discard":
        sandbox.inject("upload:500*99")
        synced.write_config("delivery: {busy_timeout: 200ms, grace: 100ms}\n")
        synced.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
        synced.cli.here("run").check(1)
    result = synced.cli.here("--log-format", "json", "state", *words, "--yes").check()
    assert [event["code"] for event in result.events][:2] == ["state_change", "state_exported"]
    assert result.event("state_change")["msg"]


def test_an_export_says_where_it_is_as_json(synced: Project) -> None:
    result = synced.cli.here("state", "export", "out.zip", "--output", "json").check()
    assert result.lines == [{"path": "out.zip"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all", "--cursor", "1"], "--cursor goes with a model"),
        (["users", "--cursor", "soon"], "`soon` is no value of the cursor"),
        (["nobody", "--cursor", "1"], "the state store knows no model `nobody`"),
        (["gone", "--cursor", "2025-01-01"], "there is no model `gone`"),
    ],
)
def test_cursors_that_cannot_be(synced: Project, words: list[str], said: str) -> None:
    synced.write_model("gone", "{{ config(event='identify_company') }} select 'c' as company_id")
    synced.cli.here("run", "-s", "gone").check()
    (synced.folder / "models_sql" / "gone.sql").unlink()
    before = tables(synced)
    assert said in synced.cli.here("state", "reset", *words, "--yes").check(2).err
    assert tables(synced) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "{{ config(event='identify_user') }} select id as user_id, plan from users",
            "users: `cursor` was `_changed` and is now none",
        ),
        (
            "{{ config(event='identify_user', cursor='_n') }} select id as user_id, 1 as _n from users",
            "users: `cursor` was `_changed` and is now `_n`",
        ),
        (
            "{{ config(event='identify_user', cursor='_changed') }}"
            " select id as user_id, plan, changed::date as _changed from users",
            "users: the cursor `_changed` was of kind timestamp and is now of kind date",
        ),
    ],
)
def test_a_value_of_another_cursor_than_the_one_that_the_state_knows(synced: Project, sql: str, said: str) -> None:
    synced.write_model("users", sql)
    before = tables(synced)
    err = synced.cli.here("state", "reset", "users", "--cursor", "2025-01-01", "--yes").check(2).err
    assert said in err
    assert "state reset users" in err
    assert tables(synced) == before


def test_a_cursor_for_a_model_whose_snapshot_is_lost(synced: Project, imported: Rows) -> None:
    (synced.home / "snapshots" / "users.duckdb").unlink()
    assert "state reset users" in synced.cli.here("run").check(1).err
    result = synced.cli.here("state", "reset", "users", "--cursor", "2025-01-03", "--yes").check()
    assert "The snapshot of users is lost: what is read from there on counts as new" in result.err
    synced.cli.here("run").check()
    assert [row["user_id"] for row in imported()[7:]] == ["u3"]
    synced.cli.here("run").check()
    assert len(imported()) == 8


def test_a_cursor_waits_for_the_job(project: Project, sandbox: Sandbox) -> None:
    project.cli.here("run").check()
    sandbox.job_seconds = 60
    project.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
    project.write_config("delivery: {job_timeout: 1ms}\n")
    project.cli.here("run").check(1)
    err = project.cli.here("state", "reset", "users", "--cursor", "2025-01-01", "--yes").check(2).err
    assert "1 batch of `users` went with a job" in err


# Discard


def test_discard(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    assert "knows nothing of pipeline" in project.cli.here("state", "discard", "--all", "--yes").check(2).err
    sandbox.inject("upload:500*99")
    project.write_config("delivery: {busy_timeout: 200ms, grace: 100ms}\n")
    project.cli.here("run").check(1)
    sandbox.clear_faults()
    result = project.cli.here("state", "discard", "--all", "--yes").check()
    assert "users  1 batch, 3 rows" in result.err
    assert not list((project.home / "outbox").glob("*/*"))
    project.execute("UPDATE users SET plan = 'mended' WHERE id = 'u1'")
    project.write_config()
    project.cli.here("run").check()
    assert Counter(row["metadata"].get("plan") for row in imported())["mended"] == 1
    assert len(imported()) == 7
    assert "nothing was read and not delivered" in project.cli.here("state", "discard", "--all").check().err


def test_discard_of_held_rows_and_back(project: Project, sandbox: Sandbox) -> None:
    sandbox.inject("job:partial")
    project.write_config("delivery: {grace: 100ms}\n")
    project.cli.here("run").check(1)
    before = tables(project)
    assert "name a model, or say --all" in project.cli.here("state", "discard").check(2).err
    result = project.cli.here("state", "discard", "events", "--yes").check()
    assert "4 rows are held: nobody can tell whether they arrived" in result.err
    with open_store(url_of(project), read_only=True) as store:
        assert store.batches("prod", states=[BatchState.HELD]) == []
    undo(project, result.err)
    assert tables(project) == before


# Adopt


def test_nothing_to_adopt(synced: Project) -> None:
    assert "nothing to adopt" in synced.cli.here("state", "adopt").check().err


def test_an_empty_folder_is_adopted(project: Project, sandbox: Sandbox, imported: Rows) -> None:
    project.cli.here("run", "-s", "users").check()
    sandbox.inject("upload:500*99")
    project.write_config("delivery: {busy_timeout: 200ms, grace: 100ms}\n")
    project.cli.here("run", "-s", "events").check(1)
    sandbox.clear_faults()
    shutil.rmtree(project.home)
    assert "state adopt" in project.cli.here("run").check(2).err
    result = project.cli.here("state", "adopt", "--yes").check()
    assert "It is empty." in result.err
    assert "What was read of events and not delivered is not there: it is read again" in result.err
    assert "The snapshot of users is not there" in result.err
    result = project.cli.here("run").check(1)
    assert len(imported()) == 7, "events were read again"
    words = re.search(r"state reset users --cursor '([^']+)'", project.cli.here("state", "show").check().out)
    assert words is None
    project.cli.here("state", "reset", "users", "--cursor", "2025-01-03 10:00", "--yes").check()
    project.cli.here("run").check()


@pytest.mark.parametrize("content", [None, "", '{"pipeline": "prod"}'], ids=["missing", "empty", "damaged"])
def test_a_folder_that_lost_only_its_id_is_adopted(synced: Project, imported: Rows, content: str | None) -> None:
    mark = synced.home / "id"
    mark.unlink()
    if content is not None:
        mark.write_text(content)
    said = synced.cli.here("run").check(2).err
    assert f"{mark} {'is missing' if content is None else 'is damaged'}" in said
    assert "state adopt" in said
    said = synced.cli.here("state", "adopt", "--yes").check().err
    assert f"Its `id` is {'missing' if content is None else 'damaged'}." in said
    assert "is not there" not in said
    synced.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
    synced.cli.here("run").check()
    assert len(imported()) == 8


def test_a_damaged_id_of_a_folder_that_the_store_does_not_know(project: Project) -> None:
    project.home.mkdir(parents=True)
    (project.home / "id").touch()
    assert "state adopt" not in project.cli.here("state", "adopt", "--yes").check(2).err


@pytest.mark.parametrize("name", ["outbox", "snapshots"])
def test_a_file_where_a_folder_belongs(synced: Project, name: str) -> None:
    place = synced.home / name
    place.rename(place.with_name("kept"))
    place.touch()
    for verb in ("run", "plan"):
        said = synced.cli.here(verb).check(2).err
        assert f"{place} is a file, and has to be a folder" in said
        assert "chown" not in said
    place.unlink()
    place.with_name("kept").rename(place)
    synced.cli.here("run").check()


def test_another_folder_is_adopted(synced: Project) -> None:
    (synced.home / "id").write_text('{"pipeline": "prod", "id": "another"}')
    synced.cli.here("run").check(2)
    assert "It is another one." in synced.cli.here("state", "adopt", "--yes").check().err
    synced.cli.here("run").check()
    (synced.home / "id").write_text('{"pipeline": "else", "id": "another"}')
    assert "belongs to pipeline `else`" in synced.cli.here("state", "adopt", "--yes").check(2).err


def test_a_new_key_is_adopted(tmp_path: Path, project: Project, sandbox: Sandbox, imported: Rows) -> None:
    project.cli.here("run").check()
    with Sandbox(tmp_path / "again", account=sandbox.account, api_key="new-key") as other:
        project.write_config(api_key="new-key", endpoint=other.url)
        assert "state adopt" in project.cli.here("run").check(2).err
        result = project.cli.here("state", "adopt", "--yes").check()
        assert f"Rows went to {sandbox.url} so far" in result.err
        assert "The API key is another one." in result.err
        assert "No import job shows whether that is the same account" in result.err
        project.cli.here("run").check()
        assert other.imported() == []


def test_another_account_is_not_adopted(tmp_path: Path, project: Project) -> None:
    project.cli.here("run").check()
    with Sandbox(tmp_path / "again", account="NX-other") as other:
        project.write_config(endpoint=other.url)
        from warehouse_sync.userpilot.client import Client

        path = tmp_path / "one.ndjson"
        path.write_text('{"event_type": "track", "user_id": "x", "event_name": "e"}\n')
        with Client(other.url, other.api_key, user_agent="t") as client:
            client.upload("one.ndjson", [path], path.stat().st_size)
        err = project.cli.here("state", "adopt", "--yes").check(2).err
        assert "the API key is for account NX-other" in err
        assert "state reset --all" in err


# Names


def test_a_renamed_model(synced: Project, imported: Rows) -> None:
    path = synced.folder / "models_sql" / "users.sql"
    path.rename(path.with_name("people.sql"))
    err = synced.cli.here("run").check(1).err
    assert "model `people` is new, and `users`, which is gone or disabled, has sent the same rows" in err
    assert "state rename users people" in err
    assert len(imported()) == 7
    before = tables(synced)
    result = synced.cli.here("state", "rename", "users", "people", "--yes").check()
    synced.cli.here("run").check()
    assert len(imported()) == 7, "nothing is sent again"
    assert "the state store knows no model `users`" in synced.cli.here(
        "state", "rename", "users", "persons", "--yes"
    ).check(2).err  # fmt: skip
    assert "knows a model `people` already" in synced.cli.here(
        "state", "rename", "events", "people", "--yes"
    ).check(2).err  # fmt: skip
    path.with_name("people.sql").rename(path)
    undo(synced, result.err)
    assert tables(synced) == before
    synced.cli.here("run").check()
    assert len(imported()) == 7


def test_a_new_name_whose_first_try_failed_takes_over_all_the_same(synced: Project, imported: Rows) -> None:
    users = synced.folder / "models_sql" / "users.sql"
    people, text = users.with_name("people.sql"), users.read_text()
    users.unlink()
    people.write_text(text.replace("from users", "from users where error('not yet') is null"))
    synced.cli.here("run").check(1)
    people.write_text(text)
    assert "state rename users people" in synced.cli.here("run").check(1).err
    synced.cli.here("state", "rename", "users", "people", "--yes").check()
    synced.cli.here("run").check()
    assert len(imported()) == 7, "nothing is sent again"


def test_a_rename_that_the_disk_refuses_changes_nothing(synced: Project, imported: Rows) -> None:
    users = synced.folder / "models_sql" / "users.sql"
    users.rename(users.with_name("people.sql"))
    in_the_way = synced.home / "snapshots" / "people.duckdb"
    in_the_way.mkdir()
    err = synced.cli.here("state", "rename", "users", "people", "--yes").check(1).err
    assert f"cannot write {in_the_way}: Is a directory" in err
    in_the_way.rmdir()
    synced.cli.here("state", "rename", "users", "people", "--yes").check()
    synced.cli.here("run").check()
    assert len(imported()) == 7


def test_a_model_that_starts_over_under_another_name(synced: Project, imported: Rows) -> None:
    path = synced.folder / "models_sql" / "users.sql"
    path.rename(path.with_name("people.sql"))
    synced.cli.here("state", "reset", "users", "--yes").check()
    synced.cli.here("run").check(1)
    assert len(imported()) == 10


def rename_yaml(project: Project, old: str, new: str) -> None:
    project.config.write_text(project.config.read_text().replace(f"name: {old}\n", f"name: {new}\n"))


def test_a_renamed_pipeline(synced: Project, imported: Rows) -> None:
    rename_yaml(synced, "prod", "live")
    err = synced.cli.here("run").check(2).err
    assert "pipeline `live` is new, and `prod`" in err
    assert "state rename --pipeline prod" in err
    synced.cli.here("state", "rename", "--pipeline", "prod", "--yes").check()
    assert not (synced.home / "id").exists()
    assert (synced.home.parent / "live" / "snapshots" / "users.duckdb").exists()
    synced.cli.here("run").check()
    assert len(imported()) == 7
    assert "live" in synced.cli.here("state", "show").check().out


def test_a_renamed_pipeline_gets_its_old_name_back(synced: Project, imported: Rows) -> None:
    rename_yaml(synced, "prod", "live")
    result = synced.cli.here("state", "rename", "--pipeline", "prod", "--yes").check()
    assert "`name: prod` in the YAML, then `warehouse-sync state rename --pipeline live` undoes this" in result.err
    (kept,) = (synced.home.parent / "live" / "exports").glob("*-rename.zip")
    assert "set `name: prod` first" in synced.cli.here("state", "import", str(kept), "--yes").check(2).err
    rename_yaml(synced, "live", "prod")
    synced.cli.here("state", "rename", "--pipeline", "live", "--yes").check()
    synced.cli.here("run").check()
    assert len(imported()) == 7


def history(project: Project) -> list[dict[str, Any]]:
    return project.cli.here("history", "--output", "json").check().lines


def test_an_imported_pipeline_takes_over_the_name_that_it_had_since(synced: Project, imported: Rows) -> None:
    export = str(Path(synced.cli.here("state", "export", "../kept.zip").check().out.strip()))
    rename_yaml(synced, "prod", "live")
    synced.cli.here("state", "rename", "--pipeline", "prod", "--yes").check()
    rename_yaml(synced, "live", "prod")
    synced.cli.here("state", "import", export, "--yes").check()
    synced.cli.here("run").check()
    rename_yaml(synced, "prod", "live")
    words = ("state", "rename", "--pipeline", "prod", "--yes")
    assert "state reset --all` forgets what `live` sent; then" in synced.cli.here(*words).check(2).err
    synced.cli.here("state", "reset", "--all", "--yes").check()
    synced.cli.here(*words).check()
    synced.cli.here("run").check()
    assert len(imported()) == 7, "nothing is sent again"
    assert len({run["started_at"] for run in history(synced)}) == 3, "none is forgotten"


def test_a_pipeline_that_starts_over_beside_an_old_one(synced: Project, imported: Rows) -> None:
    rename_yaml(synced, "prod", "live")
    synced.cli.here("run").check(2)
    assert "starts with nothing" in synced.cli.here("state", "adopt", "--yes").check().err
    synced.cli.here("run").check(1)
    assert len(imported()) == 14


def test_two_pipelines_of_the_same_models(synced: Project, imported: Rows) -> None:
    other = synced.config.with_name("other.yml")
    other.write_text(synced.config.read_text().replace("name: prod\n", "name: other\n"))
    synced.cli.here("run", "-c", str(other)).check(1)
    assert len(imported()) == 14, "the YAML of the first one is still there"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say OLD NEW"),
        (["users"], "say OLD NEW"),
        (["a", "b", "--pipeline", "c"], "say OLD NEW"),
        (["--pipeline", "prod"], "the YAML names the pipeline `prod` already"),
        (["--pipeline", "nobody"], "the state store knows nothing of pipeline `nobody`"),
        (["nobody", "x"], "the state store knows no model `nobody`"),
        (["users", "users"], "`users` has this name already"),
    ],
)
def test_renames_that_cannot_be(synced: Project, words: list[str], said: str) -> None:
    assert said in synced.cli.here("state", "rename", *words, "--yes").check(2).err


# Lease


def test_unlock_on_sqlite_explains_the_lock(synced: Project) -> None:
    from warehouse_sync.state.lease import hold_lease

    assert "nobody holds the lease of prod" in synced.cli.here("state", "unlock").check().err
    with hold_lease(url_of(synced), "prod", "a run"):
        err = synced.cli.here("state", "unlock", "--yes").check(1).err
        assert "the operating system holds the lock" in err
        assert "a run, process" in err


def test_unlock_after_a_first_run_that_got_no_further_than_its_lease(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warehouse_sync.state import lease

    # The lease of stores without a file, which a killed run leaves behind.
    monkeypatch.setattr(lease, "lock_path", lambda *_: None)
    open_store(url_of(project)).close()
    with lease.hold_lease(url_of(project), "prod", "a run"):
        assert "state unlock" in project.cli.here("run").check(1).err
        assert "nobody holds the lease of prod any more" in project.cli.here("state", "unlock", "--yes").check().err
    project.cli.here("run").check()


@pytest.mark.parametrize("words", [["adopt"], ["rename", "a", "b"], ["discard", "--all"], ["export"]])
def test_verbs_that_change_the_state_wait_for_no_run(synced: Project, words: list[str]) -> None:
    from warehouse_sync.state.lease import hold_lease

    with hold_lease(url_of(synced), "prod", "a run"):
        assert "another run of prod is at work: a run" in synced.cli.here("state", *words).check(1).err


@pytest.mark.parametrize("words", [["reset", "users"], ["rename", "users", "people"]])
def test_verbs_that_change_the_state_ask(synced: Project, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    before = tables(synced)
    assert "say --yes" in synced.cli.here("state", *words).check(2).err
    monkeypatch.setattr("warehouse_sync.cli.ask.is_terminal", lambda _: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    for flags in ([], ["--quiet"]):
        said = synced.cli.here(*flags, "state", *words).check(1).err
        assert ("nothing is done" in said) is not bool(flags)
    assert tables(synced) == before
    assert not (synced.home / "exports").exists()
