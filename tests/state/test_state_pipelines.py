"""Pipelines, destinations, runs, and the reset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from warehouse_sync.errors import DestinationError, StateError
from warehouse_sync.state.lifecycle import IN_FLIGHT, JobState
from warehouse_sync.state.rows import NewWindow, ResetReport
from warehouse_sync.state.store import Store, _known
from warehouse_sync.values import EventType

KEY = {"key_fingerprint": "key"}


def test_a_pipeline_is_registered_once(store: Store) -> None:
    assert store.pipelines() == []
    assert store.pipeline("prod") is None
    first = store.register_pipeline("prod", "home")
    assert store.register_pipeline("prod", "home") == first
    assert store.pipeline("prod") == first
    store.register_pipeline("eu", "other")
    assert [one.name for one in store.pipelines()] == ["eu", "prod"]


def test_another_home_is_refused_until_it_is_taken_over(world: Any) -> None:
    with pytest.raises(StateError, match=r"another state\.dir") as caught:
        world.store.register_pipeline("prod", "elsewhere")
    assert "state adopt" in caught.value.hint
    world.store.set_home("prod", "elsewhere")
    assert world.store.register_pipeline("prod", "elsewhere").home_id == "elsewhere"


def test_a_pipeline_that_nobody_registered_is_a_fault(store: Store) -> None:
    for call in (
        lambda: store.set_home("prod", "home"),
        lambda: store.begin_run("prod", "run", {}, "0"),
        lambda: store.by_hand.reset("prod"),
        lambda: store.claim_destination("prod", "https://a", None, "key"),
    ):
        with pytest.raises(LookupError, match="pipeline prod is not registered"):
            call()
    assert not store.has_history("prod")
    assert store.destination("prod") is None


def test_has_history_from_the_first_window_on(world: Any) -> None:
    assert not world.store.has_history("prod")
    world.window()
    assert world.store.has_history("prod")
    assert not world.store.has_history("eu")


def test_a_destination_is_claimed_and_kept(world: Any) -> None:
    claim = world.store.claim_destination
    first = world.store.destination("prod")
    assert (first.origin, first.account, first.key_fingerprint) == ("https://a", None, "key")
    assert claim("prod", "https://a", None, "key") == first
    known = claim("prod", "https://a", "NX-1", "key")
    assert (known.id, known.account) == (first.id, "NX-1")
    assert claim("prod", "https://a", None, "key").account == "NX-1"
    renewed = claim("prod", "https://a", "NX-1", "new key")
    assert (renewed.id, renewed.key_fingerprint) == (first.id, "new key")


@pytest.mark.parametrize(
    ("known", "origin", "account", "key", "why"),
    [
        (None, "https://b", None, "key", "rows went to https://a so far, userpilot.endpoint is https://b"),
        ("NX-1", "https://b", "NX-1", "key", "rows went to https://a so far"),
        ("NX-1", "https://a", "NX-2", "key", "belongs to another Userpilot account"),
        ("NX-1", "https://a", None, "new", "no import job shows yet which account"),
        (None, "https://a", None, "new", "no import job shows yet which account"),
        (None, "https://a", "NX-1", "new", "no import job shows yet which account"),
    ],
)
def test_another_destination_is_refused(
    world: Any, known: str | None, origin: str, account: str | None, key: str, why: str
) -> None:
    claim = world.store.claim_destination
    before = claim("prod", "https://a", known, "key")
    with pytest.raises(DestinationError, match=why) as caught:
        claim("prod", origin, account, key)
    assert caught.value.exit_code == 2
    assert "state adopt" in caught.value.hint
    assert "state reset" in caught.value.hint
    assert world.store.destination("prod") == before
    adopted = world.store.adopt_destination("prod", origin, account, key)
    assert (adopted.id, adopted.origin, adopted.account) == (before.id, origin, account)
    assert claim("prod", origin, account, key) == adopted


def test_runs_newest_first_and_unfinished_when_their_process_died(world: Any) -> None:
    world.store.end_run(world.run, 1, [{"unique_id": "sync.prod.users", "status": "error"}])
    second = world.store.begin_run("prod", "retry", {}, "0.2.0")
    newest, oldest = world.store.runs("prod", 5)
    assert (newest.id, newest.verb, newest.version, newest.finished, newest.exit_code) == (
        second, "retry", "0.2.0", False, None,
    )  # fmt: skip
    assert (oldest.args, oldest.exit_code, oldest.finished) == ({"select": ["users"]}, 1, True)
    assert oldest.results == ({"unique_id": "sync.prod.users", "status": "error"},)
    assert len(world.store.runs("prod", 1)) == 1


def test_times_come_back_aware_and_in_utc(world: Any) -> None:
    started = datetime(2026, 3, 29, 2, 30, 0, 1, timezone(timedelta(hours=2)))
    window = world.window(started_at=started)
    assert window.started_at == started
    assert window.started_at.tzinfo is UTC
    assert world.store.window(window.id).started_at.utcoffset() == timedelta(0)


def test_a_naive_time_is_a_fault(world: Any) -> None:
    with pytest.raises(Exception, match="aware datetimes only"):
        world.window(started_at=datetime(2026, 1, 1))


def test_reset_of_one_model_keeps_the_others(world: Any, reject: Any) -> None:
    users = world.seal(world.window("users"), (1, 2), rejects=[reject(1)])
    companies = world.sealed(3, model="companies")
    job = world.accepted([users[0], *companies])
    report = world.store.by_hand.reset_report("prod", "users")
    assert report == ResetReport(("users",), windows=1, batches=2, undelivered=2, rejects=1, jobs=1, in_flight=1)
    assert world.store.by_hand.reset("prod", "users") == report
    assert [one.model for one in world.store.windows("prod")] == ["companies"]
    [window] = world.store.complete(job.id, answer={}, total_rows=None)
    assert window.model == "companies"
    assert [one.model for one in world.store.model_states("prod")] == ["companies"]
    assert world.store.rejects("prod") == []
    assert world.store.by_hand.reset("prod", "nobody") == ResetReport((), 0, 0, 0, 0, 0, 0)
    world.window("users")


@pytest.mark.parametrize("state", [JobState.INTENT, JobState.ACCEPTED, JobState.HELD])
def test_a_job_whose_models_were_all_reset_is_over(world: Any, state: JobState) -> None:
    job = (world.intend if state is JobState.INTENT else world.accepted)(world.sealed())
    if state is JobState.HELD:
        world.store.hold(job.id, reason="nobody knows")
    world.store.by_hand.reset("prod", "users")
    found = world.store.job(job.id)
    assert found.state is (JobState.LOST if state is JobState.INTENT else JobState.FAILED)
    assert found.ended_at is not None
    assert world.store.jobs("prod", states=IN_FLIGHT | {JobState.HELD}) == []
    world.deliver(world.sealed())


def test_reset_of_a_pipeline_keeps_the_other_pipelines_and_the_runs(world: Any, reject: Any) -> None:
    store = world.store
    store.register_pipeline("eu", "home-eu")
    run = store.begin_run("eu", "run", {}, "0")
    store.begin_window(
        NewWindow(run, "eu", "users", EventType.TRACK, "full", None, None, datetime(2026, 1, 1, tzinfo=UTC), "f")
    )
    [batch] = world.seal(world.window(), (10,), rejects=[reject(1)])
    children = store.split(batch.id, children=[world.file(4), world.file(6)], rejects=())
    world.deliver(children)
    store.record_merged("prod", "users", children[0].id)
    before = children[1].id
    report = store.by_hand.reset("prod")
    assert report == ResetReport(("users",), windows=1, batches=3, undelivered=0, rejects=1, jobs=1, in_flight=0)
    assert not store.has_history("prod")
    assert store.has_history("eu")
    assert store.model_states("prod") == []
    assert store.destination("prod") is None
    assert [one.verb for one in store.runs("prod", 9)] == ["run"]
    # Neither ids nor delivery numbers begin again: a snapshot left behind never looks up to date.
    world.destination = store.claim_destination("prod", "https://b", None, "key").id
    again = world.sealed()
    world.deliver(again)
    assert again[0].id > before
    assert [one.delivery_seq for one in store.mergeable("prod", "users")] == [3]


def test_what_was_just_written_is_there() -> None:
    with pytest.raises(LookupError, match="does not hold what it just wrote"):
        _known(None)
