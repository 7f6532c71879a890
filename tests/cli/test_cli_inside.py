"""`snapshot.where: warehouse` from the command line: what each verb makes of a snapshot that lies in the warehouse."""

from __future__ import annotations

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


def test_reset_drops_the_tables_of_the_model(kept: Project, imported: Rows) -> None:
    kept.cli.here("state", "reset", "users", "--yes").check()
    assert tables(kept) == ["merged.prod.events", "sent.prod.events"]
    kept.cli.here("run").check()
    assert len(imported()) == 10
    kept.cli.here("state", "reset", "--all", "--yes").check()
    assert tables(kept) == []


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
    from warehouse_sync.warehouses.keeper import Keeper

    kept.execute("UPDATE users SET plan = 'gold' WHERE id = 'u3'")

    def locked(*_: object) -> None:
        raise WarehouseError("w.duckdb is locked by dbt (PID 7)", hint="run again when it is done.")

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "merge", locked)
        said = kept.cli.here("run", "-s", "users")
    assert said.check().code == 0
    assert "is locked by dbt" in said.err
    assert len(imported()) == 8
    kept.cli.here("run", "-s", "users").check()
    assert len(imported()) == 8
