"""Rejects: what is new, what stands, what closes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from warehouse_sync.state.lifecycle import RejectKind, RejectState
from warehouse_sync.state.rows import NewReject


def meet(world: Any, *rejects: NewReject, model: str = "users") -> int:
    """A window that met these rejects and nothing else; returns how many are new."""
    window = world.window(model)
    sealed = world.store.seal_window(
        window.id,
        batches=(),
        rejects=rejects,
        counts=window.counts,
        cursor_to=None,
        properties={},
    )
    return int(sealed.new_rejects)


def next_run(world: Any) -> None:
    world.run = world.store.begin_run("prod", "run", {}, "0.1.0")


def test_a_reject_is_new_once(world: Any, reject: Any) -> None:
    first_run = world.run
    assert meet(world, reject(1, "k1"), reject(2, "k2")) == 2
    next_run(world)
    assert meet(world, reject(1, "k1"), reject(3, "k3")) == 1
    found = {one.key: one for one in world.store.open_rejects("prod", "users")}
    assert {key: (one.first_run, one.last_run) for key, one in found.items()} == {
        "k1": (first_run, world.run),
        "k2": (first_run, first_run),
        "k3": (world.run, world.run),
    }
    assert found["k1"].window_id > found["k2"].window_id
    assert world.store.reject_counts("prod") == {"users": 3}


def test_what_a_reject_remembers(world: Any, reject: Any) -> None:
    meet(world, reject(1, None, RejectKind.INVALID, "batch-1"))
    [found] = world.store.rejects("prod", model="users")
    assert (found.model, found.key, found.key_hash, found.row_hash) == ("users", None, None, (1).to_bytes(16, "big"))
    assert (found.kind, found.reasons, found.state) == (RejectKind.INVALID, ("missing_field",), RejectState.OPEN)
    assert (found.batch_name, found.closed_at) == ("batch-1", None)


def test_a_key_whose_row_changed_has_one_open_reject(world: Any, reject: Any) -> None:
    meet(world, reject(1, "k1"), reject(2, "k2"))
    assert meet(world, reject(7, "k1")) == 1
    found = world.store.rejects("prod", states=RejectState)
    assert [(one.key, one.row_hash[-1], str(one.state)) for one in found] == [
        ("k1", 1, "resolved"),
        ("k2", 2, "open"),
        ("k1", 7, "open"),
    ]
    assert found[0].closed_at is not None


def test_two_bad_rows_of_one_key_do_not_replace_each_other_every_night(world: Any, reject: Any) -> None:
    twins = (reject(1, "k1"), reject(2, "k1"))
    assert meet(world, *twins) == 2
    assert meet(world, *twins) == 0
    assert len(world.store.open_rejects("prod", "users")) == 2


def test_equal_rows_without_a_key_are_one_reject(world: Any, reject: Any) -> None:
    assert meet(world, reject(1, None), reject(1, None), reject(2, None)) == 2
    assert meet(world, reject(2, None)) == 0
    assert len(world.store.open_rejects("prod", "users")) == 2


def test_rejects_of_some_keys(world: Any, reject: Any) -> None:
    meet(world, reject(1, "k1"), reject(2, "k2"), reject(3, "k1"), reject(4, None))
    assert [one.row_hash[-1] for one in world.store.rejects("prod", model="users", keys=("k1", "k9"))] == [1, 3]
    assert world.store.rejects("prod", keys=()) == []


def test_models_do_not_share_rejects(world: Any, reject: Any) -> None:
    assert meet(world, reject(1)) == 1
    assert meet(world, reject(1), model="companies") == 1
    assert world.store.reject_counts("prod") == {"companies": 1, "users": 1}
    assert len(world.store.rejects("prod")) == 2
    assert len(world.store.rejects("prod", limit=1)) == 1
    assert world.store.rejects("nobody") == []


def test_a_resolved_reject_opens_anew(world: Any, reject: Any) -> None:
    meet(world, reject(1))
    [found] = world.store.open_rejects("prod", "users")
    assert world.store.resolve([found.id]) == 1
    assert world.store.resolve([found.id]) == 0
    assert world.store.open_rejects("prod", "users") == []
    assert meet(world, reject(1)) == 1


def test_a_dismissed_reject_stays_dismissed(world: Any, reject: Any) -> None:
    meet(world, reject(1), reject(2, "k2"))
    first, second = world.store.open_rejects("prod", "users")
    assert world.store.dismiss([first.id]) == 1
    assert world.store.dismiss([first.id, 4711]) == 0
    next_run(world)
    assert meet(world, reject(1), reject(2, "k2")) == 0
    assert world.store.open_rejects("prod", "users")[0].id == second.id
    [dismissed] = world.store.rejects("prod", states=[RejectState.DISMISSED])
    assert (dismissed.id, dismissed.last_run) == (first.id, world.run)
    # Another row of the same key is another matter, and does not undo what was decided.
    assert meet(world, reject(9)) == 1
    assert [one.id for one in world.store.rejects("prod", states=[RejectState.DISMISSED])] == [first.id]
    assert world.store.resolve([first.id]) == 1


def test_rejects_of_a_later_run_belong_to_that_run(world: Any, reject: Any) -> None:
    [batch] = world.sealed(2)
    next_run(world)
    world.store.split(batch.id, children=[world.file(1)], rejects=[reject(1, "k1", RejectKind.REJECTED)])
    assert [one.first_run for one in world.store.rejects("prod")] == [world.run]


def test_without_a_run_of_its_own_a_store_takes_that_of_the_window(world: Any, reject: Any) -> None:
    world.store._run_id = None
    assert meet(world, reject(1)) == 1
    assert world.store.open_rejects("prod", "users")[0].first_run == world.run


def test_many_rejects_cost_no_scan_each(world: Any, reject: Any) -> None:
    number = 6_000  # more than one statement takes
    assert meet(world, *(reject(one, f"k{one}") for one in range(number))) == number
    assert meet(world, *(reject(one + number, f"k{one}") for one in range(number))) == number
    assert world.store.reject_counts("prod") == {"users": number}
    if world.store._database.engine.dialect.name == "sqlite":
        with world.store._database.read() as connection:
            plan = connection.execute(
                text(
                    "EXPLAIN QUERY PLAN UPDATE rejects SET closed_at = NULL WHERE state <> 'resolved' "
                    "AND model_id = 1 AND key_hash = x'00' AND state = 'open' AND window_id <> 1"
                )
            ).all()
        assert "uq_rejects_standing (model_id=? AND key_hash=?)" in str(plan)


def test_two_bad_rows_of_one_key_of_which_one_changes(world: Any, reject: Any) -> None:
    assert meet(world, reject(1, "k1"), reject(2, "k1")) == 2
    window = world.window()
    sealed = world.store.seal_window(
        window.id,
        batches=(),
        rejects=[reject(3, "k1")],
        again=[(reject(1, "k1").key_hash, reject(1, "k1").row_hash)],
        counts=window.counts,
        cursor_to=None,
        properties={},
    )
    assert sealed.new_rejects == 1
    standing = {one.row_hash[-1]: one for one in world.store.open_rejects("prod", "users")}
    assert set(standing) == {1, 3}, "the first was read again as it is, the second is now the third"
    assert standing[1].window_id == window.id


def test_a_row_without_key_that_is_met_again(world: Any, reject: Any) -> None:
    meet(world, reject(1, None, RejectKind.REJECTED, "batch-1"))
    next_run(world)
    window = world.window()
    world.store.seal_window(
        window.id, batches=(), rejects=(), again=[(None, reject(1, None).row_hash)], counts=window.counts,
        cursor_to=None, properties={},
    )  # fmt: skip
    [found] = world.store.open_rejects("prod", "users")
    assert (found.last_run, found.kind, found.batch_name) == (world.run, RejectKind.REJECTED, "batch-1")


def test_what_stands_and_what_userpilot_refused(world: Any, reject: Any) -> None:
    refused, invalid = RejectKind.REJECTED, RejectKind.INVALID
    meet(
        world, reject(1, "k1", refused, "b1"), reject(2, "k2", refused, "b1"), reject(3, "k3", refused, "b2"),
        reject(4, None, refused, "b2"), reject(5, "k5", invalid),
    )  # fmt: skip
    ids = {one.row_hash[-1]: one.id for one in world.store.open_rejects("prod", "users")}
    world.store.resolve([ids[2]])
    world.store.dismiss([ids[3]])
    full = world.store.rejects("prod", model="users", states=(RejectState.OPEN, RejectState.DISMISSED))
    assert [tuple(one) for one in world.store.standing_rejects("prod", "users")] == [
        (one.id, one.window_id, one.key_hash, one.row_hash, one.kind, one.state) for one in full
    ]
    assert [one.row_hash[-1] for one in full] == [1, 3, 4, 5]
    keys = {one.key: one.key_hash for one in world.store.rejects("prod", model="users", states=RejectState)}
    found = world.store.refused_in("prod", ["b1", "b2", "b3", ""])
    assert found == {"b1": [keys["k1"], keys["k2"]], "b2": [keys["k3"]]}, "mended since or not"
    assert world.store.refused_in("other", ["b1"]) == world.store.refused_in("prod", []) == {}
