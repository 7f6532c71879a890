"""What is over stays in the store for ever: what a run asks for is found by indexes, and costs the same every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text

from warehouse_sync.state.lifecycle import IN_FLIGHT, UNSETTLED_BATCHES, BatchState, JobState, WindowState
from warehouse_sync.state.rows import NewJob
from warehouse_sync.values import Counts, CursorKind, CursorValue


def _refused(store: Any) -> None:
    """A job that is not taken, since there is no such batch."""
    with pytest.raises(Exception, match="batch"):
        store.intend(NewJob(1, "prod", 1, [4711], "cd", 1, 1))


QUESTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "extracting": (
        lambda s: s.windows("prod", states=[WindowState.EXTRACTING]),
        "windows USING INDEX uq_windows_unsettled",
    ),
    "ready": (lambda s: s.windows("prod", model="users", states=[WindowState.READY]), "INDEX uq_windows_unsettled"),
    "sealed": (lambda s: s.batches("prod", states=[BatchState.SEALED]), "batches USING INDEX ix_batches_open"),
    "waiting": (
        lambda s: s.batches("prod", model="users", states=UNSETTLED_BATCHES),
        "batches USING INDEX ix_batches_open",
    ),
    "in flight": (lambda s: s.jobs("prod", states=IN_FLIGHT), "jobs USING INDEX ix_jobs_open"),
    "held": (lambda s: s.jobs("prod", states=[JobState.HELD]), "jobs USING INDEX ix_jobs_open"),
    "last jobs": (
        lambda s: s.jobs("prod", states=[JobState.COMPLETED], limit=3),
        "sqlite_autoindex_jobs_1 (pipeline_id=?)",
    ),
    "last sent": (lambda s: s.last_sent("prod"), "windows USING INDEX ix_windows_model_id_id (model_id=? AND id>?)"),
    "unmerged": (lambda s: s.mergeable("prod", "users"), "ix_batches_delivery_seq (delivery_seq>? AND delivery_seq<?)"),
    "rows sent": (lambda s: s.rows_sent("prod", "users"), "windows USING INDEX ix_windows_model_id_id (model_id=?)"),
    "next job": (_refused, "jobs USING INDEX uq_jobs_in_flight (destination_id=?)"),
}


def test_a_run_walks_through_nothing_that_is_over(make_world: Callable[[str], Any], sqlite_url: str) -> None:
    world = make_world(sqlite_url)
    world.deliver(world.sealed())
    engine = world.store._database.engine
    asked: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    for question, (ask, expected) in QUESTIONS.items():
        asked.clear()
        ask(world.store)
        selects = [(statement, parameters) for statement, parameters in asked if statement.startswith("SELECT")]
        with engine.connect() as connection:
            plan = [
                row[3]
                for statement, parameters in selects
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
        assert any(expected in step for step in plan), (question, plan)
        scans = [
            step for step in plan if step.startswith("SCAN") and "INDEX ix_" not in step and "CONSTANT" not in step
        ]
        assert scans == [], question
    world.store.close()


def test_what_was_sent_lately(world: Any) -> None:
    assert world.store.rows_sent("prod", "users") is None
    assert not world.store.has_read("prod", "users")

    def read(rows: int, end: str, start: str | None = None, **changes: Any) -> None:
        at = [None if one is None else CursorValue(CursorKind.INTEGER, one) for one in (start, end)]
        window = world.window(cursor_from=at[0], **changes)
        counts = Counts(read=rows, added=rows - rows // 2, changed=rows // 2)
        world.seal(window, (), batches=(), cursor_to=at[1], counts=counts)

    read(5, "5", kind="limit")
    assert world.store.rows_sent("prod", "users") is None, "the model was never read as far as it goes"
    read(100, "5", kind="full")
    assert world.store.rows_sent("prod", "users") == []
    for rows, end, start in ((7, "12", "5"), (0, "12", "12"), (9, "21", "12")):
        read(rows, end, start)
    read(3, "24", "21", fingerprint="f2")
    assert world.store.rows_sent("prod", "users") == [3, 9, 7]
    assert world.store.rows_sent("prod", "users", limit=2) == [3, 9]
    assert world.store.rows_sent("prod", "users", fingerprints=["f1"]) == [9, 7]
    moved = {
        end: world.store.has_read("prod", "users", CursorValue(CursorKind.INTEGER, end)) for end in ("12", "13", "24")
    }
    assert moved == {"12": True, "13": False, "24": True}
    assert not world.store.has_read("prod", "users", CursorValue(CursorKind.STRING, "12"))


def test_open_batches_and_jobs_are_those_of_the_pipeline(world: Any) -> None:
    store = world.store
    users, companies = world.sealed(1), world.sealed(2, model="companies")
    job = world.accepted(users)
    store.register_pipeline("eu", "home-eu")
    assert store.batches("eu", states=UNSETTLED_BATCHES) == []
    assert store.jobs("eu", states=IN_FLIGHT) == []
    assert [one.id for one in store.jobs("prod", states=IN_FLIGHT)] == [job.id]
    assert [one.id for one in store.batches("prod", states=UNSETTLED_BATCHES)] == [users[0].id, companies[0].id]
    assert [one.id for one in store.batches("prod", model="companies", states=UNSETTLED_BATCHES)] == [companies[0].id]
    with store._database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM batches")) == 2
