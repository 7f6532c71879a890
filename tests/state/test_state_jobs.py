"""Jobs: from the intent to the end, and what becomes of their batches."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse_sync.state.lifecycle import BatchState, JobState, RejectKind
from warehouse_sync.values import EventType


def states(world: Any, batches: Any) -> list[str]:
    return [str(world.batch(one).state) for one in batches]


def test_a_job_from_intent_to_completion(world: Any) -> None:
    batches = world.sealed(10, 5)
    job = world.intend(list(reversed(batches)))
    assert job.filename == "prod-000001-cdcdcdcdcdcd.ndjson"
    assert (job.state, job.rows, job.bytes, job.run_id) == (JobState.INTENT, 15, 1500, world.run)
    assert [one.id for one in world.store.job_batches(job.id)] == [batches[1].id, batches[0].id]
    assert states(world, batches) == ["sent", "sent"]
    job = world.store.accept(job.id, remote_id="imports:jobs:1", links=None, remote_status="queued", request_id=None)
    assert (job.state, job.remote_id, job.remote_status) == (JobState.ACCEPTED, "imports:jobs:1", "queued")
    world.store.observe(job.id, "processing", 15)
    world.store.observe(job.id, "pending_refresh", None)
    job = world.store.job(job.id)
    assert (job.remote_status, job.total_rows) == ("pending_refresh", 15)
    assert job.intended_at < job.accepted_at < job.observed_at
    [window] = world.store.complete(job.id, answer={"status": "completed"}, total_rows=14)
    assert window.id == batches[0].window_id
    job = world.store.job(job.id)
    assert (job.state, job.total_rows, job.answer) == (JobState.COMPLETED, 14, {"status": "completed"})
    assert job.remote_status == "completed"
    assert states(world, batches) == ["delivered", "delivered"]
    assert [one.job_id for one in world.store.job_batches(job.id)] == [job.id, job.id]


def test_small_batches_of_several_models_share_a_job(world: Any) -> None:
    users = world.sealed(1)
    companies = world.sealed(2, model="companies", event=EventType.IDENTIFY_COMPANY)
    settled = world.deliver(companies + users)
    assert [one.model for one in settled] == ["users", "companies"]


def test_job_numbers_and_names_are_never_used_twice(world: Any) -> None:
    batches = world.sealed()
    for number in (1, 2):
        job = world.intend(batches)
        assert job.number == number
        world.store.lose(job.id)
    world.store.by_hand.reset("prod")
    world.destination = world.store.claim_destination("prod", "https://a", None, "key").id
    assert world.intend(world.sealed()).filename.startswith("prod-000003-")


def test_a_lost_job_gives_its_batches_back(world: Any) -> None:
    batches = world.sealed(1, 2)
    job = world.intend(batches)
    world.store.lose(job.id)
    assert world.store.job(job.id).state is JobState.LOST
    assert states(world, batches) == ["sealed", "sealed"]
    assert [world.batch(one).job_id for one in batches] == [None, None]
    again = world.accepted(batches)
    assert [one.id for one in world.store.batch_jobs(batches[0].id)] == [job.id, again.id]


@pytest.mark.parametrize("how", ["intend", "accepted"])
def test_a_failed_job_gives_its_batches_back(world: Any, how: str) -> None:
    batches = world.sealed()
    job = getattr(world, how)(batches)
    world.store.fail(job.id, answer={"status": "failed"}, reason="refused")
    job = world.store.job(job.id)
    assert (job.state, job.reason, job.answer) == (JobState.FAILED, "refused", {"status": "failed"})
    assert job.ended_at is not None
    assert states(world, batches) == ["sealed"]


@pytest.mark.parametrize("how", ["intend", "accepted"])
def test_a_held_job_waits_for_a_person(world: Any, how: str) -> None:
    batches = world.sealed()
    job = getattr(world, how)(batches)
    world.store.hold(job.id, reason="gone from the list")
    assert (world.store.job(job.id).state, world.store.job(job.id).reason) == (JobState.HELD, "gone from the list")
    assert states(world, batches) == ["held"]
    assert world.batch(batches[0]).job_id == job.id
    assert world.state_of(batches[0].window_id) == "ready"
    # Another job may go: a held one is not with the API as far as anyone knows.
    world.deliver(world.sealed(model="companies"))


def test_a_held_job_that_arrived_after_all(world: Any) -> None:
    batches = world.sealed()
    job = world.accepted(batches)
    world.store.hold(job.id, reason="gone")
    world.store.observe(job.id, "completed", 10)
    assert len(world.store.complete(job.id, answer={}, total_rows=None)) == 1
    assert world.store.job(job.id).total_rows == 10
    assert states(world, batches) == ["delivered"]


def test_a_held_job_that_is_sent_again(world: Any) -> None:
    batches = world.sealed()
    job = world.accepted(batches)
    world.store.hold(job.id, reason="gone")
    world.store.fail(job.id, answer={}, reason="retry --resend")
    assert states(world, batches) == ["sealed"]


def test_profiles_of_a_held_job_go_again_and_events_wait(world: Any) -> None:
    users = world.sealed()
    events = world.sealed(model="events", event=EventType.TRACK)
    job = world.accepted(users + events)
    world.store.hold(job.id, reason="3 rows done", resend=[users[0].id])
    assert states(world, users + events) == ["sealed", "held"]
    world.deliver(users)
    world.store.complete(job.id, answer={}, total_rows=None)
    assert states(world, users + events) == ["delivered", "delivered"]
    # Settling the held job took nothing from the one that delivered the users.
    assert world.batch(users[0]).job_id != job.id


def test_failing_a_held_job_leaves_alone_what_another_job_has(world: Any) -> None:
    users = world.sealed()
    events = world.sealed(model="events", event=EventType.TRACK)
    held = world.accepted(users + events)
    world.store.hold(held.id, reason="3 rows done", resend=[users[0].id])
    world.accepted(users)
    world.store.fail(held.id, answer={}, reason="retry --resend")
    assert states(world, users + events) == ["sent", "sealed"]


@pytest.mark.parametrize("resend", ["all", "another"])
def test_holding_needs_a_batch_to_hold(world: Any, resend: str) -> None:
    batches = world.sealed()
    [other] = world.sealed(model="companies")
    job = world.accepted(batches)
    with pytest.raises(ValueError, match=f"^job {job.id} "):
        world.store.hold(job.id, reason="", resend=[batches[0].id if resend == "all" else other.id])
    assert world.store.job(job.id).state is JobState.ACCEPTED


def test_held_batches_given_up_by_hand_end_their_job(world: Any) -> None:
    first, second = world.sealed(1, 2)
    job = world.accepted([first, second])
    world.store.hold(job.id, reason="gone")
    world.store.supersede_batches([first.id])
    assert world.store.job(job.id).state is JobState.HELD
    assert world.state_of(first.window_id) == "ready"
    world.store.supersede_batches([second.id])
    assert (world.store.job(job.id).state, world.store.job(job.id).reason) == (JobState.FAILED, "gone")
    assert world.state_of(first.window_id) == "superseded"


def test_a_held_job_delivers_what_was_not_given_up(world: Any) -> None:
    first, second = world.sealed(1, 2)
    job = world.accepted([first, second])
    world.store.hold(job.id, reason="gone")
    world.store.supersede_batches([first.id])
    assert world.store.complete(job.id, answer={}, total_rows=None) == []
    assert states(world, [first, second]) == ["superseded", "delivered"]
    assert world.state_of(first.window_id) == "superseded"


def test_a_job_covers_something_and_each_batch_once(world: Any) -> None:
    batches = world.sealed()
    for wrong in ([], batches * 2):
        with pytest.raises(ValueError, match="covers one batch or more, each once"):
            world.intend(wrong)


def test_rejects_of_a_completed_job_belong_to_their_batch(world: Any, reject: Any) -> None:
    [users] = world.sealed()
    [events] = world.sealed(model="events", event=EventType.TRACK)
    found = [
        reject(1, "k1", RejectKind.REJECTED, users.name),
        reject(2, None, RejectKind.REJECTED, events.name),
    ]
    world.deliver([users, events], rejects=found)
    assert world.store.reject_counts("prod") == {"events": 1, "users": 1}
    assert world.store.open_rejects("prod", "events")[0].batch_name == events.name


def test_a_job_of_one_batch_needs_no_names(world: Any, reject: Any) -> None:
    world.deliver(world.sealed(), rejects=[reject(1, "k1", RejectKind.REJECTED)])
    assert world.store.reject_counts("prod") == {"users": 1}


def test_a_reject_without_a_batch_undoes_the_completion(world: Any, reject: Any) -> None:
    batches = world.sealed(1, 2)
    job = world.accepted(batches)
    with pytest.raises(ValueError, match="must name one of its batches"):
        world.store.complete(job.id, answer={}, total_rows=None, rejects=[reject(1)])
    assert world.store.job(job.id).state is JobState.ACCEPTED
    assert states(world, batches) == ["sent", "sent"]


def test_delivered_keys_close_their_rejects(world: Any, reject: Any) -> None:
    batches = world.seal(world.window(), rejects=[reject(1, "k1"), reject(2, "k2")])
    first, second = world.store.open_rejects("prod", "users")
    # One closed by somebody faster is no reason to fail a delivery.
    world.store.resolve([second.id])
    world.deliver(batches, resolved=[first.id, second.id])
    assert world.store.open_rejects("prod", "users") == []


def test_jobs_can_be_listed(world: Any) -> None:
    for _ in range(3):
        world.deliver(world.sealed())
    store = world.store
    assert [one.number for one in store.jobs("prod")] == [1, 2, 3]
    assert [one.number for one in store.jobs("prod", limit=2)] == [2, 3]
    assert store.jobs("prod", states=[JobState.INTENT, JobState.ACCEPTED]) == []
    assert store.jobs("nobody") == []
    assert store.job(99) is None
    assert all(one.state is BatchState.DELIVERED for job in store.jobs("prod") for one in store.job_batches(job.id))


def test_history_joins_runs_jobs_and_batches(world: Any) -> None:
    first, second = world.sealed(1, 2)
    world.deliver([first])
    world.store.end_run(world.run, 0, [])
    old, world.run = world.run, world.store.begin_run("prod", "run", {}, "0.1.0")
    world.deliver([second])
    newest, oldest = world.store.history("prod", 10)
    assert (newest.run.id, oldest.run.id) == (world.run, old)
    assert [[one.id for one in job.batches] for job in newest.jobs] == [[second.id]]
    assert [[one.id for one in job.batches] for job in oldest.jobs] == [[first.id]]
    assert [one.run.id for one in world.store.history("prod", 1)] == [world.run]
