"""The life cycles: what the tables say, and that nothing else happens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import pytest
from sqlalchemy import update

from warehouse_sync.state import lifecycle, moves
from warehouse_sync.state.lifecycle import BatchState, IllegalMove, JobState, RejectState, WindowState
from warehouse_sync.values import Counts

TABLES: dict[type[StrEnum], Mapping[Any, frozenset[Any]]] = {
    WindowState: lifecycle.WINDOW_MOVES,
    BatchState: lifecycle.BATCH_MOVES,
    JobState: lifecycle.JOB_MOVES,
    RejectState: lifecycle.REJECT_MOVES,
}
LEGAL = {
    WindowState: {"extracting>ready", "ready>settled", "ready>superseded"},
    BatchState: {
        "sealed>sent", "sealed>superseded",
        "sent>delivered", "sent>held", "sent>superseded", "sent>sealed",
        "held>sealed", "held>delivered", "held>superseded",
    },
    JobState: {
        "intent>accepted", "intent>lost", "intent>failed", "intent>held",
        "accepted>completed", "accepted>failed", "accepted>held",
        "held>completed", "held>failed",
    },
    RejectState: {"open>resolved", "open>dismissed", "dismissed>resolved"},
}  # fmt: skip
CYCLES: list[moves.Cycle[Any]] = [moves.WINDOW, moves.BATCH, moves.JOB]
PAIRS = [
    pytest.param(cycle, source, target, id=f"{cycle.noun}-{source}-{target}")
    for cycle in CYCLES
    for source, target in itertools.product(cycle.moves, cycle.moves)
]


def make_move(database: Any, cycle: Any, rows: list[int], target: Any) -> None:
    with database.write() as connection:
        moves.move(connection, cycle, rows, target)


@pytest.mark.parametrize("states", TABLES)
def test_the_legal_moves_are_those_of_the_design(states: type[StrEnum]) -> None:
    table = TABLES[states]
    assert set(table) == set(states)
    assert {f"{source}>{target}" for source, targets in table.items() for target in targets} == LEGAL[states]


@pytest.mark.parametrize(("cycle", "source", "target"), PAIRS)
def test_a_move_happens_only_when_it_is_legal(world: Any, cycle: Any, source: Any, target: Any) -> None:
    [batch] = world.sealed()
    job = world.intend([batch])
    row = {"window": batch.window_id, "batch": batch.id, "job": job.id}[cycle.noun]
    database = world.store._database

    def state() -> Any:
        with database.read() as connection:
            return connection.scalar(cycle.table.select().with_only_columns(cycle.table.c.state).filter_by(id=row))

    with database.write() as connection:
        connection.execute(update(cycle.table).where(cycle.table.c.id == row).values(state=source))
    if target in cycle.moves[source]:
        make_move(database, cycle, [row], target)
        assert state() is target
    else:
        with pytest.raises(IllegalMove, match=rf"^{cycle.noun} {row} is {source}; only from"):
            make_move(database, cycle, [row], target)
        assert state() is source


def test_a_move_of_several_rows_happens_to_all_or_none(world: Any) -> None:
    first, second = world.sealed(1, 2)
    world.intend([first])
    with pytest.raises(IllegalMove, match=f"^batch {first.id}, {second.id}: not all of them are sealed, so"):
        make_move(world.store._database, moves.BATCH, [first.id, second.id], BatchState.SENT)
    assert [batch.state for batch in world.store.batches("prod")] == ["sent", "sealed"]


def test_a_row_that_does_not_exist_cannot_move(world: Any) -> None:
    with pytest.raises(IllegalMove, match=r"^job 4711 is unknown"):
        world.store.lose(4711)


def test_a_long_list_is_cut_short_in_the_message(world: Any) -> None:
    with pytest.raises(IllegalMove, match=r"10, …: not all of them are held or sealed, so"):
        world.store.supersede_batches(range(1, 50))


def send_twice(world: Any) -> None:
    batch = ready(world)
    world.store.fail(world.intend([batch]).id, answer={}, reason="413")
    world.intend([batch])
    world.store.lose(world.store.jobs("prod")[-1].id)
    world.store.supersede_batches([batch.id])
    world.intend([batch])


def ready(world: Any) -> Any:
    return world.sealed()[0]


WRONG: dict[str, Callable[[Any], Any]] = {
    "seal a sealed window": lambda w: w.seal(w.store.window(ready(w).window_id)),
    "seal an unknown window": lambda w: w.store.seal_window(
        9, batches=(), rejects=(), counts=Counts(), cursor_to=None, properties={}
    ),
    "drop a sealed window": lambda w: w.store.drop_window(ready(w).window_id),
    "begin a window beside an unsettled one": lambda w: (w.window(), w.window()),
    "begin a window beside a ready one": lambda w: (ready(w), w.window()),
    "supersede a window that is read": lambda w: w.store.supersede_window(w.window().id),
    "supersede an unknown window": lambda w: w.store.supersede_window(9),
    "supersede a sent batch": lambda w: w.store.supersede_batches([w.store.job_batches(w.intend([ready(w)]).id)[0].id]),
    "split a sent batch": lambda w: w.store.split(
        w.store.job_batches(w.intend([ready(w)]).id)[0].id, children=[w.file(10)], rejects=()
    ),
    "split an unknown batch": lambda w: w.store.split(9, children=[w.file(10)], rejects=()),
    "send a sent batch": send_twice,
    "two jobs in flight": lambda w: (w.intend([ready(w)]), w.intend([w.sealed(model="other")[0]])),
    "accept twice": lambda w: w.store.accept(
        w.accepted([ready(w)]).id, remote_id="i", links=None, remote_status="", request_id=None
    ),
    "complete an intent": lambda w: w.store.complete(w.intend([ready(w)]).id, answer={}, total_rows=1),
    "lose an accepted job": lambda w: w.store.lose(w.accepted([ready(w)]).id),
    "observe an intent": lambda w: w.store.observe(w.intend([ready(w)]).id, "queued", 0),
    "end a run twice": lambda w: (w.store.end_run(w.run, 0, []), w.store.end_run(w.run, 1, [])),
    "merge a batch that is not delivered": lambda w: w.store.record_merged("prod", "users", ready(w).id),
    "a window of an unknown run": lambda w: w.window(run_id=99),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_store_refuses(world: Any, what: str) -> None:
    with pytest.raises(IllegalMove):
        WRONG[what](world)
