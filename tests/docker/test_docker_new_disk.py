"""State on a new disk, through the command line: what is lost, what is said, what goes again, and the way on.

The table in the README, section "In a container". Damage of the same files in every state of a run: tests/faults.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync.userpilot.sandbox import Sandbox

if TYPE_CHECKING:
    from harness import Project

Rows = Callable[[], list[dict[str, Any]]]
ROWS = 7


def sent(imported: Rows) -> Counter[str]:
    """Who was imported how often."""
    return Counter(f"{row['event_type']} {row['user_id']} {row['inserted_at']}" for row in imported())


def lose_state_store(project: Project) -> None:
    for path in project.home.parent.glob("state.db*"):
        path.unlink()


@pytest.fixture
def synced(project: Project) -> Project:
    """A project after its first run."""
    project.cli.here("run").check()
    return project


@pytest.fixture
def waiting(project: Project, sandbox: Sandbox) -> Project:
    """A project whose first run sealed everything and could deliver nothing."""
    project.write_config("delivery: {busy_timeout: 1s, grace: 200ms}\n")
    sandbox.inject("upload:500*100")
    project.cli.here("run").check(1)
    sandbox.clear_faults()
    assert list((project.home / "outbox").rglob("*.ndjson"))
    return project


# The outbox


def test_a_lost_outbox_after_a_delivery_is_nothing(synced: Project, imported: Rows) -> None:
    shutil.rmtree(synced.home / "outbox")
    synced.cli.here("run").check()
    assert len(imported()) == ROWS


def test_a_lost_outbox_with_rows_that_wait_is_read_again(waiting: Project, imported: Rows) -> None:
    shutil.rmtree(waiting.home / "outbox")
    waiting.cli.here("run").check()
    assert set(sent(imported).values()) == {1}
    assert len(imported()) == ROWS


# The snapshot


def test_a_lost_snapshot_stops_its_models_and_sends_nothing(synced: Project, imported: Rows) -> None:
    shutil.rmtree(synced.home / "snapshots")
    done = synced.cli.here("run").check(1)
    assert "the snapshot of model `users`" in done.err
    assert "state reset users" in done.err
    assert len(imported()) == ROWS


def test_the_way_on_from_a_lost_snapshot(synced: Project, imported: Rows) -> None:
    (synced.home / "snapshots/users.duckdb").unlink()
    synced.cli.here("run").check(1)
    synced.cli.here("state", "reset", "users", "--yes").check()
    synced.cli.here("run").check()
    times = sent(imported)
    assert {count for name, count in times.items() if name.startswith("identify_user")} == {2}, "profiles go again"
    assert {count for name, count in times.items() if name.startswith("track")} == {1}, "events do not"


# The whole folder, with the state store elsewhere (PostgreSQL) or on a disk of its own


def test_an_empty_folder_is_refused(synced: Project, imported: Rows) -> None:
    shutil.rmtree(synced.home)
    done = synced.cli.here("run").check(2)
    assert "is missing or empty, while the state store holds windows or snapshots" in done.err
    assert "state adopt" in done.err
    assert len(imported()) == ROWS


def test_the_way_on_from_an_empty_folder(synced: Project, imported: Rows) -> None:
    shutil.rmtree(synced.home)
    adopted = synced.cli.here("state", "adopt", "--yes").check()
    assert "The snapshot of users is not there" in adopted.out + adopted.err
    assert "state reset users" in synced.cli.here("run").check(1).err
    for model, cursor in (("users", "2025-01-03 10:00:00"), ("events", "2025-01-05 00:03:00")):
        synced.cli.here("state", "reset", model, "--cursor", cursor, "--yes").check()
    synced.execute("INSERT INTO users VALUES ('u9', 'pro', '2025-01-09 10:00')")
    synced.cli.here("run").check()
    assert sent(imported)["identify_user u9 2025-01-09T10:00:00.000000"] == 1


def test_an_empty_folder_while_rows_wait(waiting: Project, imported: Rows) -> None:
    shutil.rmtree(waiting.home)
    waiting.cli.here("run").check(2)
    waiting.cli.here("state", "adopt", "--yes").check()
    waiting.cli.here("run").check()
    assert set(sent(imported).values()) == {1}
    assert len(imported()) == ROWS


# The state store


def test_a_lost_sqlite_file_is_refused(synced: Project, imported: Rows) -> None:
    lose_state_store(synced)
    done = synced.cli.here("run").check(2)
    assert "was filled by another state store than the one of `state.url`" in done.err
    assert len(imported()) == ROWS


def test_a_lost_sqlite_file_does_not_replace_a_backup(synced: Project, imported: Rows) -> None:
    """The refused run leaves an empty store; the copy that is put back over it is what counts."""
    path = synced.home.parent / "state.db"
    kept = synced.folder / "backup.db"
    shutil.copy(path, kept)
    lose_state_store(synced)
    synced.cli.here("run").check(2)
    lose_state_store(synced)
    shutil.copy(kept, path)
    synced.cli.here("run").check()
    assert len(imported()) == ROWS


def test_with_both_lost_nobody_is_left_to_notice(synced: Project, imported: Rows) -> None:
    """The one loss that is a first run: why a volume must not be forgotten, and why PostgreSQL helps."""
    shutil.rmtree(synced.home.parent)
    synced.cli.here("run").check()
    assert len(imported()) == 2 * ROWS
