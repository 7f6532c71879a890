"""Opening the store: making, migrating, refusing."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from warehouse_sync.errors import DiskError, LocalStateLost, StateError
from warehouse_sync.state import database as database_module
from warehouse_sync.state.database import open_database
from warehouse_sync.state.lifecycle import BatchState
from warehouse_sync.state.store import open_store
from warehouse_sync.state.tables import REVISION, VERSION_TABLE, batches, metadata

if TYPE_CHECKING:
    from harness import Project


def path_of(url: str) -> Path:
    return Path(str(make_url(url).database))


def layout(engine: Any) -> dict[str, Any]:
    """Everything that an inspector sees, but for the table of the migrations."""
    found = inspect(engine)
    parts = (
        found.get_columns,
        found.get_pk_constraint,
        found.get_foreign_keys,
        found.get_unique_constraints,
        found.get_indexes,
    )

    def words(part: Any) -> Any:
        listed = [json.dumps(one, default=str, sort_keys=True) for one in (part if isinstance(part, list) else [part])]
        return sorted(listed)

    return {
        table: [words(part(table)) for part in parts] for table in found.get_table_names() if table != VERSION_TABLE
    }


def test_a_migrated_store_is_laid_out_like_a_fresh_one(store_url: str) -> None:
    migrated = open_database(store_url)
    first = layout(migrated.engine)
    with migrated.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert layout(migrated.engine) == first
    assert set(first) == set(metadata.tables)
    migrated.close()


def test_a_migrated_sqlite_store_is_word_for_word_like_a_fresh_one(sqlite_url: str) -> None:
    def statements(engine: Any) -> dict[str, list[str]]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            plain = {row.name: re.sub(r"\s+", " ", row.sql).replace('"', "") for row in rows}
            # A column that came later stands behind the constraints.
            return {name: sorted(re.split(r", (?![^(]*\))|\(\s?|\s?\)$", sql)) for name, sql in plain.items()}

    migrated = open_database(sqlite_url)
    fresh = create_engine("sqlite://")
    metadata.create_all(fresh)
    found = statements(migrated.engine)
    del found[VERSION_TABLE]
    assert found == statements(fresh)
    migrated.close()
    fresh.dispose()


def test_the_last_migration_is_the_revision_of_this_program() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "warehouse_sync.state:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_a_store_of_the_first_layout_keeps_what_it_holds(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _target: upgrade(config, "0001"))
        old = open_database(store_url)
    with old.engine.execution_options(writes=True).begin() as connection:
        connection.execute(
            text("INSERT INTO pipelines VALUES (1, 'prod', 'home', 0, 0, '2026-01-01 00:00:00.000000+00:00')")
        )
        connection.execute(
            text(
                "INSERT INTO runs VALUES (1, 1, 'run', '{}', '0', '2026-01-01 00:00:00.000000+00:00', NULL, NULL, NULL)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO models (id, pipeline_id, name, cursor_column, cursor_kind, cursor, settled_window_id,"
                " merged_seq) VALUES (1, 1, 'm', 'c', 'integer', '7', 1, 0), (2, 1, 'n', NULL, NULL, NULL, 1, 0)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO windows (id, run_id, model_id, event, kind, state, unique_key, fingerprint, started_at)"
                " VALUES (1, 1, 1, 'track', 'incremental', 'settled', '[]', 'f1', '2026-01-01 00:00:00.000000+00:00')"
            )
        )
        columns = {column["name"] for column in inspect(connection).get_columns("batches")}
    old.close()
    assert columns - set(batches.columns.keys()) == {"added", "changed"}
    with open_store(store_url) as store, store._database.read() as connection:
        assert store.pipeline("prod") is not None
        assert {column["name"] for column in inspect(connection).get_columns("batches")} == set(batches.columns.keys())
        found = connection.execute(text("SELECT cursor_fingerprint FROM models ORDER BY id")).scalars().all()
        assert found == ["f1", None]


def test_a_store_of_layout_0003_is_mended(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _target: upgrade(config, "0003"))
        old = open_database(store_url)
    now, sha = "'2026-01-01 00:00:00.000000+00:00'", "'ab'"
    statements = [
        f"INSERT INTO pipelines VALUES (1, 'prod', 'home', 9, 9, {now})",
        f"INSERT INTO runs VALUES (1, 1, 'run', '{{}}', '0', {now}, NULL, NULL, NULL)",
        "INSERT INTO models (id, pipeline_id, name, merged_seq) VALUES (1, 1, 'm', 3), (2, 1, 'n', 0)",
        "INSERT INTO windows (id, run_id, model_id, event, kind, state, unique_key, fingerprint, started_at,"
        " cursor_kind, cursor_from)"
        f" VALUES (1, 1, 1, 'track', 'incremental', 'settled', '[]', 'f', {now}, 'integer', '7'),"
        f" (2, 1, 1, 'track', 'incremental', 'ready', '[\"id\"]', 'f', {now}, 'integer', '7')",
        f"INSERT INTO destinations VALUES (1, 1, 'o', NULL, 'k', {now})",
        *(
            "INSERT INTO jobs (id, pipeline_id, run_id, destination_id, number, filename, sha256, rows, bytes, state,"
            f" intended_at) VALUES ({id_}, 1, 1, 1, {id_}, 'f', {sha}, 1, 1, '{state}', {now})"
            for id_, state in ((1, "completed"), (2, "intent"), (3, "held"))
        ),
        "INSERT INTO batches (id, window_id, job_id, number, name, rows, bytes, sha256, state, split, delivery_seq)"
        f" VALUES (1, 1, 1, 1, 'b1', 1, 1, {sha}, 'delivered', false, 4), (2, 2, NULL, 1, 'b2', 1, 1, {sha}, 'sealed',"
        " false, NULL)",
        "INSERT INTO job_batches VALUES (1, 1, 0)",
        *(
            "INSERT INTO rejects (id, model_id, window_id, first_run, last_run, batch_name, key, key_hash, row_hash,"
            f" kind, reasons, state, opened_at) VALUES ({id_}, 1, 1, 1, 1, '', {key}, '{id_}', '{id_}', 'invalid',"
            f" '[\"user_id_missing\"]', 'open', {now})"
            for id_, key in ((1, "'  '"), (2, "'k'"))
        ),
    ]
    with old.engine.execution_options(writes=True).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    old.close()
    with open_store(store_url) as store:
        assert [one.read_from.text if one.read_from else None for one in store.windows("prod")] == ["7", None]
        assert [one.name for one in store.mergeable("prod", "m")] == ["b1"]
        assert store.mergeable("prod", "n") == []
        assert [str(one.state) for one in store.jobs("prod")] == ["completed", "lost", "failed"]
        assert [(one.key, one.key_hash is None) for one in store.rejects("prod")] == [(None, True), ("k", False)]
        assert [one.name for one in store.batches("prod", states=[BatchState.SEALED])] == ["b2"]


def test_a_new_sqlite_store_is_private_and_durable(sqlite_url: str) -> None:
    path = path_of(sqlite_url)
    with open_store(sqlite_url) as store, store._database.read() as connection:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.with_name("state.db-wal").stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1, 30_000]


def test_an_existing_store_keeps_its_mode_and_content(sqlite_url: str) -> None:
    with open_store(sqlite_url) as store:
        store.register_pipeline("prod", "home")
    path_of(sqlite_url).chmod(0o660)
    with open_store(sqlite_url) as store:
        assert store.pipeline("prod") is not None
    assert path_of(sqlite_url).stat().st_mode & 0o777 == 0o660


def test_opening_a_store_that_is_up_to_date_does_not_import_alembic(sqlite_url: str) -> None:
    open_store(sqlite_url).close()
    code = (
        "import sys; from warehouse_sync.state.store import open_store\n"
        f"open_store({sqlite_url!r}).close(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_values_and_life_cycles_do_not_import_sqlalchemy() -> None:
    code = (
        "import sys, warehouse_sync.state.rows, warehouse_sync.state.lifecycle, warehouse_sync.state.lease\n"
        "print('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_store_that_is_half_migrated_does_not_exist(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade

    def stopped(config: Any, target: str) -> None:
        upgrade(config, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "upgrade", stopped)
    with pytest.raises(KeyboardInterrupt):
        open_store(store_url)
    monkeypatch.undo()
    with open_store(store_url, read_only=True) as store:
        assert store._database.engine.url.database is None
    with open_store(store_url) as store:
        store.register_pipeline("prod", "home")


def test_a_store_is_migrated_by_one_process_only(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(store_url).close()
    found = iter([None])
    real = database_module._revision
    monkeypatch.setattr(database_module, "_revision", lambda *args: next(found, real(*args)))
    with open_store(store_url) as store:
        assert store.pipelines() == []


def test_a_newer_store_is_refused(store_url: str) -> None:
    opened = open_database(store_url)
    with opened.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    opened.close()
    for read_only in (False, True):
        with pytest.raises(StateError, match="written by a newer warehouse-sync") as caught:
            open_store(store_url, read_only=read_only)
        assert "pip install -U" in caught.value.hint
        assert caught.value.exit_code == 2


def test_an_older_store_cannot_be_read_without_bringing_it_up_to_date(store_url: str) -> None:
    opened = open_database(store_url)
    with opened.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0000'"))
    opened.close()
    with pytest.raises(StateError, match="older layout"):
        open_store(store_url, read_only=True)
    with pytest.raises(StateError, match="layout 0000 is not one"):
        open_store(store_url)


def test_read_only_makes_nothing(store_url: str) -> None:
    with open_store(store_url, read_only=True) as store:
        assert store.pipelines() == []
    if store_url.startswith("sqlite"):
        assert not path_of(store_url).parent.exists()
    open_store(store_url).close()
    with open_store(store_url, read_only=True) as store:
        assert store.model_states("prod") == []
        with pytest.raises((DiskError, LocalStateLost)):
            store.register_pipeline("prod", "home")


def test_a_store_in_memory(make_world: Any) -> None:
    world = make_world("sqlite:///:memory:")
    world.deliver(world.sealed())
    assert world.cursor() is not None
    world.store.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("state.db", "not a database URL"),
        ("sqlite:///file:/tmp/x?uri=true", "file: form is not supported"),
        ("mysql://root@localhost/x", "a state store on mysql is not supported"),
        ("postgresql+nosuch://a/b", "driver for this state store is not installed"),
    ],
)
def test_urls_that_name_no_store(url: str, why: str) -> None:
    with pytest.raises(StateError, match=why) as caught:
        open_store(url)
    assert caught.value.hint


def test_a_server_that_does_not_answer() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StateError, match="cannot use the state store") as caught:
        open_store("postgresql://me:secret@127.0.0.1:1/x?connect_timeout=1")
    assert "secret" not in str(caught.value)
    assert "Check that the server runs" in caught.value.hint


def test_a_network_that_carries_nothing_any_more_is_noticed(postgresql: Any) -> None:
    url = postgresql.make()
    database = open_database(url.update_query_dict({"keepalives_idle": "7"}).render_as_string(hide_password=False))
    connection = database.engine.raw_connection()
    found: dict[str, str] = connection.dbapi_connection.info.get_parameters()
    connection.close()
    database.close()
    assert (found["keepalives_idle"], found["tcp_user_timeout"], found["connect_timeout"]) == ("7", "30000", "10")
    postgresql.drop(url)


@pytest.mark.parametrize("content", [b"name: prod\n" * 500, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_file_that_is_no_database(sqlite_url: str, content: bytes) -> None:
    path_of(sqlite_url).parent.mkdir()
    path_of(sqlite_url).write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(StateError, match="cannot use the state store: ") as caught:
            open_store(sqlite_url, read_only=read_only)
        assert str(path_of(sqlite_url)) in str(caught.value)
    assert path_of(sqlite_url).read_bytes() == content


def test_a_database_of_somebody_else(sqlite_url: str) -> None:
    path_of(sqlite_url).parent.mkdir()
    with sqlite3.connect(path_of(sqlite_url)) as connection:
        connection.execute("CREATE TABLE users (id)")
    connection.close()
    with pytest.raises(StateError, match="holds other tables") as caught:
        open_store(sqlite_url)
    assert "database of its own" in caught.value.hint


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot make the state store: ") as caught:
        open_store(f"sqlite:///{tmp_path}/file/state.db")
    assert caught.value.hint
    with pytest.raises(StateError, match="unable to open database file"):
        open_store(f"sqlite:///{tmp_path}")


def test_a_store_that_cannot_be_written_to_is_noticed_at_once(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(sqlite_url).close()
    # Root may write to any file, so SQLite plays the file system's refusal.
    read_only = make_url(f"sqlite:///file:{path_of(sqlite_url)}?mode=ro&uri=true")
    monkeypatch.setattr(database_module, "create_engine", lambda _url, **options: create_engine(read_only, **options))
    with pytest.raises(StateError, match="cannot use the state store: attempt to write a readonly database"):
        open_store(sqlite_url)


def test_a_disk_that_is_full_from_the_start(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = database_module._engine

    def tight(url: Any, **options: Any) -> Any:
        made = engine(url, **options)
        event.listen(made, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 1"))
        return made

    monkeypatch.setattr(database_module, "_engine", tight)
    with pytest.raises(StateError, match="cannot use the state store: database or disk is full") as caught:
        open_store(sqlite_url)
    assert "Make room" in caught.value.hint


def test_a_server_that_takes_no_writes(store_url: str) -> None:
    if store_url.startswith("sqlite"):
        pytest.skip("PostgreSQL's standby servers")
    open_store(store_url).close()
    with pytest.raises(
        StateError, match="cannot use the state store: cannot execute DELETE in a read-only transaction"
    ):
        open_store(f"{store_url}?options=-c%20default_transaction_read_only%3Don")


def test_a_user_who_may_not_make_the_store_is_told_what_to_grant(project: Project, postgresql: Any) -> None:
    url, admin = postgresql.make(), postgresql.admin
    whole = url.render_as_string(hide_password=False)
    plain = url.set(username="guest", password="x").render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'x'"))
    project.write_config(f"state: {{url: '{plain}', dir: ../.warehouse_sync}}\n")

    def refused(what: str) -> None:
        said = project.cli.here("run").check(2).err
        assert what in said
        found = project.cli.here("debug").check(2).out
        assert "permission denied for" in found
        assert what in found

    refused(f'GRANT CREATE ON DATABASE "{url.database}" TO "guest"')
    open_store(whole).close()
    refused('GRANT USAGE, CREATE ON SCHEMA warehouse_sync TO "guest"')
    owner = create_engine(url)
    with owner.begin() as connection:
        connection.execute(text("GRANT USAGE ON SCHEMA warehouse_sync TO guest"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA warehouse_sync TO guest"))
    owner.dispose()
    refused("the user who made the store")
    postgresql.drop(url)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {url.database}"))
        connection.execute(text(f"GRANT CREATE ON DATABASE {url.database} TO guest"))
    project.cli.here("debug").check()
    project.cli.here("run").check()
    project.cli.here("debug").check()
    postgresql.drop(url)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("database or disk is full", DiskError),
        ("attempt to write a readonly database", DiskError),
        ("could not extend file: No space left on device\nDETAIL: secret", DiskError),
        ("server closed the connection unexpectedly", LocalStateLost),
        ("database is locked", LocalStateLost),
    ],
)
def test_a_database_that_breaks_in_the_middle(world: Any, reason: str, kind: type[Exception]) -> None:
    batches = world.sealed()
    job = world.accepted(batches)

    def broken(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.startswith("UPDATE batches"):
            raise OperationalError(statement, parameters, Exception(reason))

    event.listen(world.store._database.engine, "before_cursor_execute", broken)
    with pytest.raises(kind, match="the state store failed: ") as caught:
        world.store.complete(job.id, answer={}, total_rows=None)
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)
    event.remove(world.store._database.engine, "before_cursor_execute", broken)
    assert world.state_of(batches[0].window_id) == "ready"
    assert len(world.store.complete(job.id, answer={}, total_rows=None)) == 1
