"""Every operation happens as a whole: stopped before any of its statements, it has not happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select

from warehouse_sync.state.lifecycle import RejectKind
from warehouse_sync.state.tables import metadata
from warehouse_sync.values import Counts, CursorKind, CursorValue


class Stopped(BaseException):
    """Not an Exception, as a signal is not."""


def content(world: Any) -> dict[str, list[Any]]:
    """Every row of every table."""
    with world.store._database.read() as connection:
        return {
            table.name: sorted(connection.execute(select(table)).all(), key=str) for table in metadata.sorted_tables
        }


def two_models(world: Any, reject: Any) -> tuple[Any, Any]:
    users = world.seal(world.window("users"), (4, 6), rejects=[reject(1, "k1"), reject(2, None)])
    return users, world.sealed(3, model="companies")


def seal(world: Any, window: Any, files: list[Any], rejects: list[Any]) -> None:
    end = CursorValue(CursorKind.INTEGER, "9")
    world.store.seal_window(
        window.id, batches=files, rejects=rejects, counts=Counts(read=9), cursor_to=end, properties={}
    )


def sealing(world: Any, reject: Any) -> Callable[[], Any]:
    world.deliver(world.seal(world.window(), rejects=[reject(1)]))
    window = world.window()
    files = [world.file(3), world.file(4)]
    return lambda: seal(world, window, files, [reject(5), reject(6, None)])


def sealing_nothing(world: Any, _reject: Any) -> Callable[[], Any]:
    window = world.window()
    return lambda: seal(world, window, [], [])


def intending(world: Any, reject: Any) -> Callable[[], Any]:
    users, companies = two_models(world, reject)
    return lambda: world.intend([*companies, *users])


def completing(world: Any, reject: Any) -> Callable[[], Any]:
    users, companies = two_models(world, reject)
    job = world.accepted([*companies, *users])
    found = [reject(9, "k9", RejectKind.REJECTED, users[0].name)]
    resolved = [one.id for one in world.store.rejects("prod")]
    return lambda: world.store.complete(job.id, answer={}, total_rows=13, rejects=found, resolved=resolved)


def failing(world: Any, reject: Any) -> Callable[[], Any]:
    job = world.accepted(two_models(world, reject)[0])
    return lambda: world.store.fail(job.id, answer={}, reason="no")


def losing(world: Any, reject: Any) -> Callable[[], Any]:
    job = world.intend(two_models(world, reject)[0])
    return lambda: world.store.lose(job.id)


def holding(world: Any, reject: Any) -> Callable[[], Any]:
    users, companies = two_models(world, reject)
    job = world.accepted([*companies, *users])
    return lambda: world.store.hold(job.id, reason="gone", resend=[users[1].id])


def splitting(world: Any, reject: Any) -> Callable[[], Any]:
    users, _ = two_models(world, reject)
    files = [world.file(2), world.file(1)]
    return lambda: world.store.split(users[0].id, children=files, rejects=[reject(8, "k8")])


def giving_up(world: Any, reject: Any) -> Callable[[], Any]:
    users, companies = two_models(world, reject)
    world.store.hold(world.accepted(companies).id, reason="gone")
    return lambda: world.store.supersede_batches([one.id for one in (*users, *companies)])


def giving_up_a_window(world: Any, reject: Any) -> Callable[[], Any]:
    users, _ = two_models(world, reject)
    return lambda: world.store.supersede_window(users[0].window_id)


def resetting(world: Any, reject: Any) -> Callable[[], Any]:
    users, companies = two_models(world, reject)
    world.deliver([users[0], *companies])
    return lambda: world.store.by_hand.reset("prod")


def claiming(world: Any, _reject: Any) -> Callable[[], Any]:
    return lambda: world.store.claim_destination("prod", "https://a", "NX-1", "key")


OPERATIONS = [
    sealing, sealing_nothing, intending, completing, failing, losing, holding, splitting, giving_up,
    giving_up_a_window, resetting, claiming,
]  # fmt: skip


@pytest.mark.parametrize("prepare", OPERATIONS)
def test_an_operation_happens_as_a_whole(world: Any, reject: Any, prepare: Any) -> None:
    act = prepare(world, reject)
    before = content(world)
    engine = world.store._database.engine
    stop_at, seen = 0, 0

    def stop(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == stop_at:
            raise Stopped

    event.listen(engine, "before_cursor_execute", stop)
    try:
        while True:
            stop_at, seen = stop_at + 1, 0
            try:
                act()
            except Stopped:
                seen = -1_000_000
                assert content(world) == before
            else:
                break
    finally:
        event.remove(engine, "before_cursor_execute", stop)
    # One statement more than there are: the last attempt went through.
    assert stop_at > 2
    assert content(world) != before


def test_a_commit_that_fails_leaves_nothing(world: Any) -> None:
    batches = world.sealed()
    job = world.accepted(batches)
    before = content(world)

    def stop(_connection: Any) -> None:
        raise Stopped

    event.listen(world.store._database.engine, "commit", stop)
    with pytest.raises(Stopped):
        world.store.complete(job.id, answer={}, total_rows=None)
    event.remove(world.store._database.engine, "commit", stop)
    assert content(world) == before
    world.store.complete(job.id, answer={}, total_rows=None)
    assert world.cursor() is not None
