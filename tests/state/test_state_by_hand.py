"""What people do to a state: decide about held batches, rename, move the cursor, take out and put back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from warehouse_sync.errors import LocalStateLost, UsageError
from warehouse_sync.state.lease import RowLease
from warehouse_sync.state.lifecycle import BatchState, IllegalMove, JobState, RejectState
from warehouse_sync.state.store import open_store
from warehouse_sync.state.transfer import check
from warehouse_sync.values import CursorKind, CursorValue, EventType


def held(world: Any, *rows: int) -> tuple[Any, list[Any]]:
    """A held job and its batches."""
    batches = world.sealed(*rows, event=EventType.TRACK)
    job = world.accepted(batches)
    world.store.hold(job.id, reason="nobody knows")
    return job, batches


# Decisions


def test_held_batches_arrived(world: Any) -> None:
    job, batches = held(world, 1, 2)
    assert world.store.decide(job.id, [batches[0].id], arrived=True) == []
    assert world.store.job(job.id).state is JobState.HELD, "one batch is still held"
    [window] = world.store.decide(job.id, [batches[1].id], arrived=True)
    assert window.id == batches[0].window_id
    assert world.store.job(job.id).state is JobState.COMPLETED
    assert [batch.delivery_seq for batch in world.store.mergeable("prod", "users")] == [1, 2]
    assert world.cursor() is not None


def test_held_batches_go_again(world: Any) -> None:
    job, batches = held(world, 1, 2)
    world.store.decide(job.id, [batch.id for batch in batches], arrived=False)
    assert {world.batch(one).state for one in batches} == {BatchState.SEALED}
    assert {world.batch(one).job_id for one in batches} == {None}
    assert world.store.job(job.id).state is JobState.FAILED
    world.deliver(batches)


def test_a_job_of_which_a_part_arrived_is_completed(world: Any) -> None:
    job, batches = held(world, 1, 2)
    world.store.decide(job.id, [batches[0].id], arrived=False)
    world.store.decide(job.id, [batches[1].id], arrived=True)
    assert world.store.job(job.id).state is JobState.COMPLETED
    assert world.batch(batches[0]).state is BatchState.SEALED


def test_only_held_batches_are_decided_about(world: Any) -> None:
    job, batches = held(world, 1)
    [other] = world.sealed(1, model="other")
    for ids in ([], [other.id], [batches[0].id, other.id], [4711]):
        for arrived in (True, False):
            with pytest.raises(IllegalMove, match="does not hold these batches"):
                world.store.decide(job.id, ids, arrived=arrived)
    assert world.batch(batches[0]).state is BatchState.HELD


def test_rejects_of_rows_that_arrived_are_resolved(world: Any, reject: Any) -> None:
    world.seal(world.window(), (), batches=(), rejects=[reject(1)])
    [open_one] = world.store.open_rejects("prod", "users")
    job, batches = held(world, 1)
    world.store.decide(job.id, [batches[0].id], arrived=True, resolved=[open_one.id])
    assert world.store.open_rejects("prod", "users") == []


# Rejects


def test_old_resolved_rejects_are_forgotten(world: Any, reject: Any, clock: Any) -> None:
    world.seal(world.window(), (), batches=(), rejects=[reject(n, f"k{n}") for n in range(4)])
    first, second, third, _ = world.store.open_rejects("prod", "users")
    world.store.resolve([first.id])
    world.store.dismiss([second.id])
    clock.now += timedelta(days=91)
    world.store.resolve([third.id])
    assert world.store.prune_rejects("prod", timedelta(days=90)) == 1
    left = world.store.rejects("prod", states=tuple(RejectState))
    assert [one.key for one in left] == ["k1", "k2", "k3"], "dismissed and open ones still keep their rows back"
    assert world.store.prune_rejects("nobody", timedelta(0)) == 0


# Names and cursors


def test_another_name_for_a_model(world: Any) -> None:
    world.deliver(world.sealed())
    before = world.store.model_state("prod", "users")
    world.store.by_hand.rename_model("prod", "users", "people")
    after = world.store.model_state("prod", "people")
    assert after.cursor == before.cursor
    assert world.store.model_state("prod", "users") is None
    assert [batch.model for batch in world.store.batches("prod")] == ["people"]
    world.sealed(model="other")
    with pytest.raises(UsageError, match="knows a model `other` already"):
        world.store.by_hand.rename_model("prod", "people", "other")
    with pytest.raises(UsageError, match="knows no model `nobody`"):
        world.store.by_hand.rename_model("prod", "nobody", "somebody")


def test_another_name_for_a_pipeline(world: Any) -> None:
    world.deliver(world.sealed())
    other = replace(world, pipeline="eu")
    other.deliver(other.sealed())
    with pytest.raises(UsageError, match="knows a pipeline `eu` already"):
        world.store.by_hand.rename_pipeline("prod", "eu")
    world.store.by_hand.rename_pipeline("prod", "live")
    assert world.store.model_state("live", "users") is not None
    with pytest.raises(UsageError, match="knows no pipeline `prod`"):
        world.store.by_hand.rename_pipeline("prod", "other")


def test_the_name_of_a_pipeline_that_was_reset(world: Any) -> None:
    world.deliver(world.sealed())
    other = replace(world, pipeline="eu")
    for _ in range(3):
        other.deliver(other.sealed())
    world.store.by_hand.reset("eu")
    world.store.by_hand.rename_pipeline("prod", "eu")
    assert [one.name for one in world.store.pipelines()] == ["eu"]
    assert world.store.model_state("eu", "users") is not None
    assert {run.id for run in world.store.runs("eu", 9)} == {world.run, other.run}
    (found,) = world.store.by_hand.take_out("eu")["pipelines"]
    assert (found["job_number"], found["delivery_seq"]) == (3, 3), "numbers of the past are not used again"


def test_another_cursor(world: Any) -> None:
    world.deliver(world.sealed())
    world.store.by_hand.set_cursor("prod", "users", CursorValue(CursorKind.INTEGER, "4"))
    assert world.cursor() == "4"
    with pytest.raises(LookupError):
        world.store.by_hand.set_cursor("prod", "nobody", CursorValue(CursorKind.INTEGER, "4"))


# Out and in again


def full(world: Any, reject: Any) -> None:
    """Something in every table: children, rejects, a settled and an open window, a finished run."""
    world.deliver(world.sealed(3, 4), total_rows=7)
    [batch] = world.sealed(5, model="events", event=EventType.TRACK)
    world.store.split(batch.id, children=[world.file(4)], rejects=[reject(1, "k1")])
    world.seal(world.window("more"), (), batches=(), rejects=[reject(2, None)])
    world.store.end_run(world.run, 1, [{"unique_id": "sync.prod.users", "status": "success"}])


def test_what_was_taken_out_is_put_back_as_it_was(world: Any, reject: Any) -> None:
    full(world, reject)
    before = world.store.by_hand.take_out("prod")
    assert all(before.values()), "no table is empty"
    world.store.by_hand.reset("prod")
    world.store.by_hand.put_back("prod", before, "home")
    assert world.store.by_hand.take_out("prod") == before
    world.store.by_hand.put_back("prod", before, "home")
    assert world.store.by_hand.take_out("prod") == before


def test_ids_are_not_used_twice_after_that(world: Any, reject: Any) -> None:
    full(world, reject)
    before = world.store.by_hand.take_out("prod")
    world.store.by_hand.reset("prod")
    world.store.by_hand.put_back("prod", before, "home")
    [batch] = world.sealed(model="late")
    assert batch.window_id > max(row["id"] for row in before["windows"])
    assert batch.id > max(row["id"] for row in before["batches"])


def test_into_a_store_where_the_ids_are_taken(world: Any, reject: Any, sqlite_url: str) -> None:
    full(world, reject)
    before = world.store.by_hand.take_out("prod")
    with open_store(sqlite_url) as other:
        full(type(world)(other, "neighbour"), reject)
        beside = other.by_hand.take_out("neighbour")
        other.by_hand.put_back("prod", before, "there")
        assert other.by_hand.take_out("neighbour") == beside
        after = other.by_hand.take_out("prod")
        assert {name: len(rows) for name, rows in after.items()} == {name: len(rows) for name, rows in before.items()}
        known, found = world.store.model_state("prod", "users"), other.model_state("prod", "users")
        assert (found.cursor, found.properties) == (known.cursor, known.properties)
        assert other.window(found.settled_window_id).fingerprint == "f1"
        assert other.pipeline("prod").home_id == "there"
        [child] = [batch for batch in other.batches("prod") if batch.parent_id]
        assert other.batch(child.parent_id).split
        assert [job.filename for job in other.jobs("prod")] == [job.filename for job in world.store.jobs("prod")]


def test_counters_never_go_back(world: Any, reject: Any) -> None:
    full(world, reject)
    before = world.store.by_hand.take_out("prod")
    world.deliver(world.sealed(1))
    [used] = world.store.jobs("prod", limit=1)
    world.store.by_hand.put_back("prod", before, "home")
    assert world.intend(world.sealed(1)).number == used.number + 1


def test_rows_that_do_not_fit(world: Any, reject: Any) -> None:
    full(world, reject)
    good = world.store.by_hand.take_out("prod")
    check(good)
    for bad, why in (
        ({name: rows for name, rows in good.items() if name != "jobs"}, "has no `jobs`"),
        (good | {"models": [row | {"more": 1} for row in good["models"]]}, "`models` has other columns"),
        (good | {"pipelines": good["pipelines"] * 2}, "not of one pipeline"),
    ):
        with pytest.raises(UsageError, match=why):
            check(bad)


# Only under the lease


def test_a_store_whose_lease_is_lost_changes_nothing(world: Any) -> None:
    database = world.store._database
    lease = RowLease.take(database, "prod", "laptop", None)
    assert isinstance(lease, RowLease)
    world.store.only_under(lease)
    [batch] = world.sealed(1)
    database.fence = None
    assert world.store.by_hand.unlock("prod")
    assert not world.store.by_hand.unlock("prod")
    other = RowLease.take(database, "prod", "cron", None)
    assert isinstance(other, RowLease)
    database.fence = lease.fence
    for change in (
        lambda: world.store.supersede_window(batch.window_id),
        lambda: world.intend([batch]),
        lambda: world.store.end_run(world.run, 0, []),
        lambda: world.window("late"),
    ):
        with pytest.raises(LocalStateLost, match="another run took it"):
            change()
    assert world.batch(batch).state is BatchState.SEALED
    database.fence = None
    lease.release()
    other.release()
