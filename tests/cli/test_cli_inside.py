"""`snapshot.where: warehouse` from the command line: what each verb makes of a snapshot that lies in the warehouse."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

if TYPE_CHECKING:
    from harness import Project

Rows = Callable[[], list[dict[str, Any]]]
INSIDE = "snapshot: {where: warehouse, schema: sync}\n"


def tables(project: Project) -> list[str]:
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'sync' ORDER BY ALL")
        return [name for (name,) in found.fetchall()]


@pytest.fixture
def kept(project: Project) -> Project:
    """A project after a run, its snapshots in its warehouse."""
    project.write_config(INSIDE)
    project.write_model(
        "events",
        """\
        {{ config(event='track', unique_key=['user_id', '_happened'], cursor='_happened', begin='all') }}
        select user_id, name as event_name, happened as inserted_at, happened as _happened from events
        """,
    )
    project.cli.here("run").check()
    assert tables(project) == ["merged.prod.events", "merged.prod.users", "sent.prod.events", "sent.prod.users"]
    return project


def test_plan_counts_what_stays(kept: Project, imported: Rows) -> None:
    kept.execute("UPDATE users SET plan = 'gold' WHERE id = 'u3'")
    plans = {plan["model"]: plan for plan in kept.cli.here("plan", "--output", "json").check().lines}
    assert {name: plans["users"]["counts"][name] for name in ("read", "changed")} == {"read": 1, "changed": 1}
    assert {name: plans["events"]["counts"][name] for name in ("read", "unchanged")} == {"read": 4, "unchanged": 4}
    assert len(imported()) == 7


def aside(project: Project) -> list[str]:
    """Tables that a reset set aside, by the names that people read."""
    return [name.partition("~")[0] for name in tables(project) if "~" in name]


def in_use(project: Project) -> list[str]:
    return [name for name in tables(project) if "~" not in name]


def undo(project: Project, err: str) -> None:
    (export,) = re.findall(r"state import (\S+\.zip)` undoes this", err)
    project.cli.here("state", "import", export, "--yes").check()


def test_reset_sets_the_tables_of_the_model_aside(kept: Project, imported: Rows) -> None:
    kept.cli.here("state", "reset", "users", "--yes").check()
    assert in_use(kept) == ["merged.prod.events", "sent.prod.events"]
    assert aside(kept) == ["merged.prod.users_aside", "sent.prod.users_aside"]
    kept.cli.here("run").check()
    assert len(imported()) == 10
    kept.cli.here("state", "reset", "--all", "--yes").check()
    assert in_use(kept) == []
    assert len(aside(kept)) == 4, "what was set aside before has gone"


@pytest.mark.parametrize("words", ["reset users", "reset --all", "rename users people"])
def test_what_was_done_by_hand_can_be_undone(kept: Project, imported: Rows, words: str) -> None:
    before = tables(kept)
    said = kept.cli.here("state", *words.split(), "--yes").check().err
    assert in_use(kept) != before
    undo(kept, said)
    assert in_use(kept) == before
    kept.cli.here("run").check()
    assert len(imported()) == 7, "nothing goes again"


def test_a_reset_can_be_undone_after_a_run_and_that_too(kept: Project, imported: Rows) -> None:
    said = kept.cli.here("state", "reset", "users", "--yes").check().err
    kept.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
    kept.cli.here("run").check()
    assert len(imported()) == 11
    (export,) = re.findall(r"state import (\S+\.zip)` undoes this", said)
    again = kept.cli.here("state", "import", export, "--yes").check().err
    kept.cli.here("run", "-s", "events").check()
    assert "u9" in kept.cli.here("plan", "-s", "users").check().out
    undo(kept, again)
    kept.cli.here("run").check()
    assert len(imported()) == 11


def test_a_model_that_an_import_does_not_know_starts_over(kept: Project, imported: Rows) -> None:
    export = kept.cli.here("state", "export").check().out.strip()
    (kept.folder / "models_sql" / "users.sql").rename(kept.folder / "models_sql" / "people.sql")
    kept.cli.here("state", "reset", "users", "--yes").check()
    kept.cli.here("run").check()
    assert len(imported()) == 10
    kept.cli.here("state", "import", export, "--yes").check()
    assert in_use(kept) == ["merged.prod.events", "merged.prod.users", "sent.prod.events", "sent.prod.users"]
    kept.cli.here("state", "rename", "users", "people", "--yes").check()
    kept.cli.here("run").check()
    assert len(imported()) == 10


def test_what_a_model_delivered_since_an_export_stops_it(kept: Project, imported: Rows) -> None:
    export = kept.cli.here("state", "export").check().out.strip()
    kept.execute("INSERT INTO users VALUES ('u9', 'x', '2025-01-09')")
    kept.cli.here("run").check()
    said = kept.cli.here("state", "import", export, "--yes").check().err
    assert "Snapshots in the warehouse are not in an export" in said
    assert "is newer than the state store" in kept.cli.here("run").check(1).err
    undo(kept, said)
    kept.cli.here("run").check()
    assert len(imported()) == 8


def test_where_the_table_was_emptied_a_reset_is_the_way_out(kept: Project, imported: Rows) -> None:
    kept.execute('DELETE FROM sync."sent.prod.events"')
    for verb in ("plan", "run"):
        said = kept.cli.here(verb)
        assert said.code == 1
        assert "lacks 4 of the rows" in said.err
    assert len(imported()) == 7
    kept.cli.here("state", "reset", "events", "--yes").check()
    kept.cli.here("run").check()
    kept.cli.here("run").check()
    assert len(imported()) == 11


def test_without_the_store_the_tables_to_drop_are_named(kept: Project, imported: Rows) -> None:
    shutil.rmtree(kept.folder / ".warehouse_sync")
    said = kept.cli.here("run", "-s", "users")
    assert said.code == 1
    assert "newer than the state store" in said.err
    assert 'drop "sync"."sent.prod.users" and "sync"."merged.prod.users"' in " ".join(said.err.split())
    assert "state reset" not in said.err
    kept.execute('DROP TABLE sync."sent.prod.users"', 'DROP TABLE sync."merged.prod.users"')
    kept.cli.here("run", "-s", "users").check()
    kept.cli.here("run", "-s", "users").check()
    assert len(imported()) == 10


def test_a_table_without_its_row_stops_nothing(project: Project, imported: Rows) -> None:
    project.write_config(INSIDE)
    columns = "key_hash BLOB NOT NULL, row_hash BLOB NOT NULL, inserted_at TIMESTAMP, batch BIGINT"
    project.execute(
        "CREATE SCHEMA sync",
        f'CREATE TABLE sync."sent.prod.users" ({columns})',
        'CREATE TABLE sync."merged.prod.users" (merged BIGINT NOT NULL, known BIGINT NOT NULL, hashes BIGINT NOT NULL)',
    )
    (plan,) = project.cli.here("plan", "-s", "users", "--output", "json").check().lines
    assert plan["counts"]["added"] == 3
    for _ in range(2):
        project.cli.here("run", "-s", "users").check()
    assert len(imported()) == 3


def test_reset_to_a_cursor_keeps_them(kept: Project, imported: Rows) -> None:
    kept.cli.here("state", "reset", "users", "--cursor", "2025-01-01", "--yes").check()
    kept.cli.here("run").check()
    assert len(imported()) == 7


def test_renames_take_the_tables_along(kept: Project, imported: Rows) -> None:
    models = kept.folder / "models_sql"
    (models / "users.sql").rename(models / "People.sql")
    kept.cli.here("state", "rename", "users", "People", "--yes").check()
    kept.cli.here("run").check()
    config = kept.config.read_text().replace("name: prod", "name: other")
    kept.config.write_text(config)
    kept.cli.here("state", "rename", "--pipeline", "prod", "--yes").check()
    kept.cli.here("run").check()
    assert len(imported()) == 7
    assert "sent.other.events" in tables(kept)


def test_explain_finds_a_key_of_several_columns(kept: Project) -> None:
    key = '["u1","2025-01-05 00:00:00"]'
    (found,) = kept.cli.here("explain", "events", key, "--output", "json").check().lines
    assert found["delivered"]["run"] == 1


def test_debug_tries_to_write(kept: Project) -> None:
    said = kept.cli.here("debug").out
    assert "OK    snapshots" in said
    assert "schema sync of the warehouse" in said
    assert not any("probe" in name for name in tables(kept))


def test_a_file_that_is_locked_for_the_merge_is_merged_by_the_next_run(
    kept: Project, imported: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warehouse_sync.errors import WarehouseError
    from warehouse_sync.warehouses.snapshot_tables import SnapshotWriter

    kept.execute("UPDATE users SET plan = 'gold' WHERE id = 'u3'")

    def locked(*_: object) -> None:
        raise WarehouseError("w.duckdb is locked by dbt (PID 7)", hint="run again when it is done.")

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotWriter, "merge", locked)
        said = kept.cli.here("run", "-s", "users")
    assert said.check().code == 0
    assert "is locked by dbt" in said.err
    assert len(imported()) == 8
    kept.cli.here("run", "-s", "users").check()
    assert len(imported()) == 8
