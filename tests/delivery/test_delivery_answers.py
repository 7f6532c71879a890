"""Answers that help nobody: a job path that refuses, a list without our jobs, a 2xx without an id, an unknown end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from test_delivery import QUICK, bench_of, line

from warehouse_sync.delivery import Timing, asking
from warehouse_sync.errors import JobsOutOfReach
from warehouse_sync.state.lifecycle import JobState
from warehouse_sync.userpilot.client import Client
from warehouse_sync.values import EventType


@pytest.fixture
def bench(tmp_path, quick_stores):
    with bench_of(tmp_path) as bench:
        yield bench


def posts(bench):
    return [request for request in bench.sandbox.requests if request.method == "POST"]


@pytest.mark.parametrize("answer", ["302", "400", "403", "405", "500", "garbage"])
def test_a_job_that_no_path_shows_is_followed_in_the_list(bench, answer):
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject(f"job:{answer}*99")
    bench.deliver("clicks")
    assert bench.states() == {"delivered"}
    assert bench.imported() == bench.sent


def test_a_list_that_never_shows_our_jobs_gets_no_event_twice(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("list:empty*99")
    bench.deliver("users")
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("upload:drop-after")
    delivery = bench.deliver("clicks")
    assert "nobody can tell" in delivery.done.held["clicks"].message
    assert bench.imported() == bench.sent


def test_a_list_that_was_late_once_is_trusted_again(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("list:empty*2")
    bench.deliver("users")
    bench.window("companies", EventType.IDENTIFY_COMPANY)
    bench.deliver("companies")
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("upload:drop-before")
    assert bench.deliver("clicks").done.held == {}
    assert bench.imported() == bench.sent


@pytest.mark.parametrize(("event", "state"), [(EventType.TRACK, "held"), (EventType.IDENTIFY_USER, "sealed")])
def test_a_taken_upload_that_nobody_lists_is_not_sent_over_and_over(bench, event, state):
    bench.window("model", event)
    bench.sandbox.inject("upload:no-id*", "list:empty*")
    with pytest.raises(JobsOutOfReach, match="no id of an import job"):
        bench.deliver("model")
    assert bench.states() == {state}
    assert len(posts(bench)) == 1


def test_a_job_that_ended_in_an_unknown_way_is_held_until_it_is_known(bench):
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("job:unknown-status*99")
    delivery = bench.deliver("clicks")
    assert "it ended as `" in delivery.done.held["clicks"].message
    assert [job.state for job in bench.store.jobs("p")] == [JobState.HELD]
    bench.sandbox.clear_faults()
    assert bench.deliver("clicks").done.held == {}
    assert [job.state for job in bench.store.jobs("p")] == [JobState.COMPLETED]
    assert len(posts(bench)) == 1


def test_a_listed_job_that_never_ends_is_put_to_the_test(bench, tmp_path, monkeypatch):
    """It may be what the API's 409 is about, or a leftover: only another upload tells."""
    bench.sandbox.inject("job:stuck")
    other = tmp_path / "other.ndjson"
    other.write_text(line(EventType.TRACK, "x") + "\n")
    with Client(bench.sandbox.url, "sandbox-key", user_agent="t") as client:
        client.upload("other.ndjson", [other], other.stat().st_size)
    bench.window("users", EventType.IDENTIFY_USER)
    monkeypatch.setattr(asking, "TRY_AGAIN", 0.05)
    short = Timing(QUICK.job_timeout, timedelta(seconds=1), QUICK.grace, pause=0.01)
    with pytest.raises(JobsOutOfReach, match=r"somebody else, other\.ndjson"):
        bench.deliver("users", timing=short)
    assert len(posts(bench)) > 3
    assert bench.states() == {"sealed"}
