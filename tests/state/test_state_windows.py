"""Windows and batches: what settles, what is given up, and when the cursor moves."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse_sync.state.lifecycle import BatchState, WindowState
from warehouse_sync.state.rows import NewBatch
from warehouse_sync.values import Counts, CursorKind, CursorValue, EventType


def integer(value: int) -> CursorValue:
    return CursorValue(CursorKind.INTEGER, str(value))


def test_a_window_is_read_sealed_delivered_and_settled(world: Any) -> None:
    window = world.window(cursor_from=integer(0), kind="incremental")
    assert (window.state, window.cursor_from, window.counts) == (WindowState.EXTRACTING, integer(0), Counts())
    first, second = world.seal(window, (10, 5))
    assert (first.number, second.number) == (1, 2)
    assert (first.model, first.event, first.state) == ("users", EventType.IDENTIFY_USER, BatchState.SEALED)
    assert world.store.model_state("prod", "users") is None
    assert world.deliver([first]) == []
    assert world.cursor() is None
    [settled] = world.deliver([second])
    assert (settled.id, settled.state, settled.cursor_to) == (window.id, WindowState.SETTLED, integer(window.id))
    assert settled.counts == Counts(read=15, added=15)
    assert settled.started_at < settled.sealed_at < settled.ended_at
    state = world.store.model_state("prod", "users")
    assert (state.event, state.unique_key, state.cursor_column) == (EventType.IDENTIFY_USER, ("user_id",), "loaded_at")
    assert (state.cursor, state.properties) == (integer(window.id), {"plan": "String"})
    assert (state.settled_window_id, state.settled_at) == (window.id, settled.ended_at)
    assert world.store.model_states("prod") == [state]


def test_the_shape_of_the_snapshot_is_known_from_the_first_delivery(world: Any) -> None:
    first, _second = world.sealed(1, 2)
    world.deliver([first])
    state = world.store.model_state("prod", "users")
    assert (state.event, state.unique_key) == (EventType.IDENTIFY_USER, ("user_id",))
    assert (state.cursor, state.cursor_column, state.properties, state.settled_window_id) == (None, None, {}, None)


def test_a_window_without_rows_to_send_settles_at_once(world: Any) -> None:
    window = world.window()
    sealed = world.store.seal_window(
        window.id, batches=(), rejects=(), counts=Counts(read=3, unchanged=3), cursor_to=integer(7), properties={}
    )
    assert sealed.settled
    assert world.cursor() == "7"


def test_a_window_without_rows_at_all_leaves_the_cursor(world: Any) -> None:
    world.deliver(world.sealed(cursor_from=None))
    before = world.store.model_state("prod", "users")
    world.seal(world.window(cursor_from=before.cursor), (), cursor_to=None)
    after = world.store.model_state("prod", "users")
    assert (after.cursor, after.cursor_column) == (before.cursor, "loaded_at")
    assert after.settled_window_id != before.settled_window_id


def test_a_model_that_loses_its_cursor_has_none(world: Any) -> None:
    world.deliver(world.sealed())
    world.seal(world.window(cursor_column=None, kind="full"), (), cursor_to=None)
    state = world.store.model_state("prod", "users")
    assert (state.cursor, state.cursor_column) == (None, None)


@pytest.mark.parametrize(
    ("kind", "moves"), [("incremental", 1), ("full", 1), ("limit", 0), ("backfill", 0), ("recall", 0)]
)
def test_which_kinds_move_the_cursor(world: Any, kind: str, moves: int) -> None:
    batches = world.sealed(kind=kind)
    world.deliver(batches)
    state = world.store.model_state("prod", "users")
    assert (state.cursor is not None, bool(state.properties)) == (bool(moves), bool(moves))
    assert state.settled_window_id == batches[0].window_id
    assert state.unique_key == ("user_id",)


def test_a_window_begins_and_ends_with_one_kind_of_cursor(world: Any) -> None:
    window = world.window(cursor_from=CursorValue(CursorKind.DATE, "2026-01-01"))
    with pytest.raises(ValueError, match="different kinds of cursor"):
        world.seal(window)
    assert world.state_of(window.id) == "extracting"


def test_a_dropped_window_is_gone_and_its_number_is_not_used_again(world: Any) -> None:
    window = world.window()
    world.store.drop_window(window.id)
    assert world.store.window(window.id) is None
    assert not world.store.has_history("prod")
    assert world.window().id > window.id


def test_lists_can_be_narrowed(world: Any) -> None:
    first = world.sealed(1, 2)
    [other] = world.sealed(model="companies", event=EventType.IDENTIFY_COMPANY)
    world.deliver(first[:1])
    store = world.store
    assert [one.model for one in store.windows("prod")] == ["users", "companies"]
    assert [one.id for one in store.windows("prod", model="companies")] == [other.window_id]
    assert store.windows("prod", states=[WindowState.SETTLED]) == []
    assert store.windows("nobody") == []
    assert [one.id for one in store.batches("prod")] == [*(one.id for one in first), other.id]
    assert [one.id for one in store.batches("prod", model="companies")] == [other.id]
    assert [one.id for one in store.batches("prod", states=[BatchState.DELIVERED])] == [first[0].id]
    assert store.batch(99) is None


def test_giving_up_a_window_leaves_the_cursor(world: Any) -> None:
    batches = world.sealed(1, 2)
    given_up = world.store.supersede_window(batches[0].window_id)
    assert [(one.id, one.state) for one in given_up] == [(one.id, BatchState.SUPERSEDED) for one in batches]
    assert world.state_of(batches[0].window_id) == "superseded"
    assert world.cursor() is None
    assert world.window().cursor_from is None


def test_a_window_given_up_waits_for_what_is_under_way(world: Any) -> None:
    first, second = world.sealed(1, 2)
    job = world.accepted([first])
    assert [one.id for one in world.store.supersede_window(first.window_id)] == [second.id]
    assert world.state_of(first.window_id) == "ready"
    assert world.store.complete(job.id, answer={}, total_rows=1) == []
    assert world.state_of(first.window_id) == "superseded"
    assert world.cursor() is None


def test_giving_up_a_window_that_is_all_under_way_changes_nothing(world: Any) -> None:
    [batch] = world.sealed()
    job = world.accepted([batch])
    assert world.store.supersede_window(batch.window_id) == []
    world.store.complete(job.id, answer={}, total_rows=1)
    assert world.cursor() is not None


def test_giving_up_the_rest_of_a_window(world: Any) -> None:
    first, second = world.sealed(1, 2)
    world.deliver([first])
    world.store.supersede_batches([second.id])
    assert world.state_of(first.window_id) == "superseded"
    assert world.batch(first).state is BatchState.DELIVERED


def test_a_split_batch_lives_on_in_its_children(world: Any) -> None:
    first, second = world.sealed(10, 4)
    children = world.store.split(first.id, children=[world.file(6), world.file(4)], rejects=())
    assert [(one.parent_id, one.number, one.rows) for one in children] == [(first.id, 3, 6), (first.id, 4, 4)]
    assert (world.batch(first).state, world.batch(first).split) == (BatchState.SUPERSEDED, True)
    [settled] = world.deliver([second, *children])
    assert settled.state is WindowState.SETTLED
    assert world.cursor() is not None


def test_a_batch_of_nothing_but_rejects_settles_its_window(world: Any, reject: Any) -> None:
    [batch] = world.sealed(2)
    assert world.store.split(batch.id, children=(), rejects=[reject(1), reject(2, "k2")]) == []
    assert world.state_of(batch.window_id) == "settled"
    assert world.cursor() is not None
    assert len(world.store.open_rejects("prod", "users")) == 2


def test_a_child_given_up_takes_its_window_along(world: Any) -> None:
    [batch] = world.sealed(2)
    first, second = world.store.split(batch.id, children=[world.file(1), world.file(1)], rejects=())
    world.deliver([first])
    world.store.supersede_batches([second.id])
    assert world.state_of(batch.window_id) == "superseded"


@pytest.mark.parametrize(("rows", "rejected"), [((5, 6), 0), ((5,), 0), ((), 0)])
def test_a_split_must_not_lose_rows(world: Any, reject: Any, rows: tuple[int, ...], rejected: int) -> None:
    [batch] = world.sealed(10)
    with pytest.raises(ValueError, match="do not add up"):
        world.store.split(batch.id, children=[world.file(one) for one in rows], rejects=[reject(1)] * rejected)
    assert world.batch(batch).state is BatchState.SEALED


def test_file_names_are_unique_within_a_window(world: Any) -> None:
    file = NewBatch("same", 1, 10, "ab")
    with pytest.raises(RuntimeError, match="refuses the change: ") as caught:
        world.seal(world.window(), batches=[file, file])
    assert "same" not in str(caught.value)
    assert [one.state for one in world.store.windows("prod")] == ["extracting"]


def test_merging_follows_the_order_of_deliveries(world: Any) -> None:
    first, second, third = world.sealed(1, 2, 3)
    world.deliver([second])
    world.deliver([third, first])
    store = world.store
    merge = store.mergeable("prod", "users")
    assert [(one.id, one.delivery_seq) for one in merge] == [(second.id, 1), (third.id, 2), (first.id, 3)]
    store.record_merged("prod", "users", third.id)
    assert [one.id for one in store.mergeable("prod", "users")] == [first.id]
    store.record_merged("prod", "users", second.id)
    assert store.model_state("prod", "users").merged_seq == 2
    assert store.mergeable("prod", "companies") == []


def test_a_batch_of_another_model_cannot_be_merged(world: Any) -> None:
    batches = world.sealed()
    world.deliver(batches)
    world.window("companies")
    with pytest.raises(RuntimeError, match="is not a delivered batch of model companies"):
        world.store.record_merged("prod", "companies", batches[0].id)
