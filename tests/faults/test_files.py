"""Files that are lost or damaged between two runs: noticed, and never taken for "all rows are new"."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fault_world import World, quick
from harness import duckdb_file
from test_network import die_at

from warehouse_sync.errors import StateError
from warehouse_sync.state.lifecycle import BatchState
from warehouse_sync.state.store import open_store
from warehouse_sync.values import ModelStatus

DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "flipped": lambda path: path.write_bytes(path.read_bytes().replace(b"u1-", b"u9-", 1)),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.fixture
def world(make_world, monkeypatch) -> World:
    quick(monkeypatch)
    return make_world()


def batch_files(world: World, model: str) -> list[Path]:
    return sorted((world.folder / "state/p/outbox" / model).glob("*.ndjson"))


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "model"), [*((damage, "users") for damage in DAMAGES), ("gone", "clicks")])
def test_a_damaged_batch_is_read_again(world, monkeypatch, told, damage, model):
    die_at(monkeypatch, world, "before_post")
    DAMAGES[damage](batch_files(world, model)[-1])
    world.clean_run()
    world.check_equal()
    told(f"a sealed batch is {damage}", "the rest of its window is read again; every row imported once")


@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_a_lost_key_file_of_a_sealed_batch(world, monkeypatch, told, damage):
    die_at(monkeypatch, world, "before_post")
    keys = sorted((world.folder / "state/p/outbox/users").glob("*.keys.parquet"))
    DAMAGES[damage](keys[-1])
    world.clean_run()
    world.check_equal()
    told(f"a sealed batch's key file is {damage}", "the rest of its window is read again; every row imported once")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_a_lost_key_file_of_a_batch_with_a_refused_row(world, server, monkeypatch, told, damage):
    """Which row that was cannot be recorded: the job ends all the same, and the snapshot asks for the file."""
    server.inject("job:reject-row=u1-2")
    die_at(monkeypatch, world, "after_accept")
    for keys in (world.folder / "state/p/outbox/users").glob("*.keys.parquet"):
        DAMAGES[damage](keys)
    for _ in range(2):
        results = {result.model: result for result in world.run().results}
        assert results["users"].status is ModelStatus.ERROR
        assert "state reset users" in f"{results['users'].error} {results['users'].error.hint}"
        assert [model for model, result in results.items() if result.status is ModelStatus.ERROR] == ["users"]
    told(f"a sent batch's key file is {damage}, and the API refuses a row", "that model stops with what to do")


def test_a_delivered_batch_that_is_lost_before_its_merge(world, monkeypatch, told):
    die_at(monkeypatch, world, "after_complete")
    for path in (world.folder / "state/p/outbox/users").iterdir():
        path.unlink()
    report = world.run()
    (users,) = [result for result in report.results if result.model == "users"]
    assert users.status is ModelStatus.ERROR
    assert "state reset users" in str(users.error)
    assert all(result.status is ModelStatus.SUCCESS for result in report.results if result.model != "users")
    before = world.imported()
    world.run()
    assert world.imported() == before
    told("a delivered batch is gone before its snapshot", "that model stops with what to do; nothing goes twice")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "model"),
    [
        pytest.param(damage, model, marks=() if always == damage else pytest.mark.slow)
        for model, always in {"users": "gone", "orders": "truncated", "clicks": "gone", "companies": "empty"}.items()
        for damage in ("gone", "truncated", "empty")
    ],
)
def test_a_lost_snapshot_is_never_all_rows_are_new(world, told, damage, model):
    world.clean_run()
    before = world.imported()
    DAMAGES[damage](world.folder / f"state/p/snapshots/{model}.duckdb")
    report = world.run()
    (broken,) = [result for result in report.results if result.model == model]
    assert broken.status is ModelStatus.ERROR
    assert "state reset" in str(broken.error)
    assert world.imported() == before
    told(f"a snapshot is {damage}", "that model stops with what to do; the others go on; nothing goes again")


def test_a_snapshot_lost_while_a_delivery_waits_for_its_merge(world, monkeypatch):
    world.clean_run()
    world.add(3)
    die_at(monkeypatch, world, "after_complete")
    (world.folder / "state/p/snapshots/users.duckdb").unlink()
    report = world.run()
    assert {result.model for result in report.results if result.status is not ModelStatus.SUCCESS} == {"users"}
    assert not (world.folder / "state/p/snapshots/users.duckdb").exists(), "no new one with a gap"
    world.check_equal()


LAYOUTS = {
    "an older": (
        "ALTER TABLE sent DROP COLUMN encoder;"
        "DROP TABLE meta; CREATE TABLE meta AS SELECT 3::BIGINT AS merged, 1::INTEGER AS encoder"
    ),
    "a newer": "UPDATE meta SET layout = layout + 1",
}


@pytest.mark.parametrize("age", LAYOUTS)
def test_a_snapshot_of_another_layout_is_not_a_damaged_one(world, age):
    world.clean_run()
    before = world.imported()
    path = world.folder / "state/p/snapshots/users.duckdb"
    with duckdb_file(path) as connection:
        connection.execute(LAYOUTS[age])
    (users,) = [result for result in world.run().results if result.model == "users"]
    assert users.status is ModelStatus.ERROR
    assert f"{path} was written by {age} version of this program" in str(users.error)
    assert world.imported() == before


def test_a_snapshot_without_the_number_of_its_layout_gets_it(world):
    world.clean_run()
    path = world.folder / "state/p/snapshots/users.duckdb"
    with duckdb_file(path) as connection:
        connection.execute("ALTER TABLE meta DROP COLUMN layout")
    world.clean_run()
    world.add(3)
    world.clean_run()
    world.check_equal()
    with duckdb_file(path) as connection:
        assert connection.execute("SELECT layout FROM meta").fetchall() == [(2,)]


def test_leftovers_of_a_killed_merge_are_not_replayed(world):
    world.clean_run()
    (world.folder / "state/p/snapshots/users.new").write_bytes(b"x" * 5000)
    (world.folder / "state/p/snapshots/users.new.wal").write_bytes(b"y" * 5000)
    world.add(3)
    world.clean_run()
    world.add(3)
    world.clean_run()
    world.check_equal()


def test_a_new_disk(world, told):
    world.clean_run()
    shutil.rmtree(world.folder / "state/p")
    before = world.imported()
    with pytest.raises(StateError, match="state adopt"):
        world.run()
    assert world.imported() == before
    told("state.dir is empty", "exit 2, says `state adopt`; nothing is sent")


def test_another_disk(world, tmp_path, told):
    world.clean_run()
    (world.folder / "state/p/id").write_text('{"pipeline": "p", "id": "another"}')
    with pytest.raises(StateError, match="not the folder"):
        world.run()
    told("state.dir is another one", "exit 2; nothing is sent")


def test_a_lost_state_store(world, told):
    world.clean_run()
    for path in (world.folder / "state").glob("state.db*"):
        path.unlink()
    before = world.imported()
    with pytest.raises(StateError, match="another state store"):
        world.run()
    assert world.imported() == before
    told("the SQLite file is gone", "exit 2; nothing is sent")


def test_a_damaged_state_store(world, told):
    world.clean_run()
    path = world.folder / "state/state.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StateError):
        world.run()
    told("the SQLite file is damaged", "exit 2; nothing is sent")


def test_a_store_from_an_older_backup(world, told):
    world.clean_run()
    shutil.copy(world.folder / "state/state.db", world.folder / "backup.db")
    world.add(3)
    world.change()
    world.clean_run()
    for path in (world.folder / "state").glob("state.db*"):
        path.unlink()
    shutil.copy(world.folder / "backup.db", world.folder / "state/state.db")
    before = world.imported()
    report = world.run()
    assert report.exit_code == 1
    assert all("newer than the state store" in str(result.error) for result in report.results)
    assert world.imported() == before
    told("the SQLite file is an older copy", "every model stops with what to do; nothing is sent")


def test_a_changed_model_never_sends_yesterdays_rows(world, monkeypatch, told):
    die_at(monkeypatch, world, "after_intent")
    model = world.folder / "models_sql/users.sql"
    model.write_text(model.read_text().replace(" v,", " v + 1000 as v,"))
    world.clean_run()
    assert all(int(row.split()[2]) > 1000 for row in world.imported() if row.startswith("users"))
    told("a model is mended while its job hangs", "what was not sent is read again")


@pytest.mark.slow
def test_poison_rows_do_not_come_back(world, server, told):
    server.inject("job:fail-row=c1-0", "job:fail-silent=u1-7")
    first = world.run()
    assert first.exit_code in (0, 1)
    posts = len(world.jobs())
    missing = world.rows() - world.imported()
    assert {row.split()[1] for row in missing} == {"c1-0", "u1-7"}
    world.clean_run()
    assert len(world.jobs()) == posts, "as they are they stay where they are"
    server.clear_faults()
    world.change()
    world.execute("UPDATE users SET v = 99, seen = TIMESTAMP '2025-06-01' WHERE user_id = 'u1-7'")
    world.clean_run()
    assert "users u1-7 99 2025-06-01T00:00:00.000000" in world.imported()
    told("rows that the API refuses", "set aside once; they stay away until they change, the others go on")


def test_held_batches_keep_their_model_from_being_read(world, server, told):
    server.inject("job:404*40", "list:empty*40")
    assert world.run().exit_code == 1
    with open_store(f"sqlite:///{world.folder}/state/state.db", read_only=True) as store:
        assert store.batches("p", states=[BatchState.HELD])
        windows = len(store.windows("p"))
    server.clear_faults()
    server.forget_jobs()
    report = world.run()
    held = [result for result in report.results if "held with job" in result.message]
    assert held
    assert all("retry --resend" in str(result.error) for result in held)
    with open_store(f"sqlite:///{world.folder}/state/state.db", read_only=True) as store:
        assert len(store.windows("p")) == windows
    assert max(world.imported().values()) == 1
    told("a job whose id is known is gone from the API", "held and shown each run; its models wait for a person")
