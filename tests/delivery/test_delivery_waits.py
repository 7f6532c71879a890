"""Waiting, asking and finding again: pauses that grow, polls that are counted, jobs that turn up late."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from datetime import timedelta

import pytest
from test_delivery import QUICK, bench_of, line

from warehouse_sync.delivery import Timing
from warehouse_sync.delivery.asking import ask, poll_step
from warehouse_sync.delivery.reconcile import best
from warehouse_sync.errors import JobsOutOfReach, Throttled, Unclear
from warehouse_sync.patience import LONGEST_PAUSE, MOST_ASKED, Patience, growing_pause
from warehouse_sync.state.lifecycle import BatchState, JobState, RejectKind
from warehouse_sync.state.rows import NewJob
from warehouse_sync.userpilot.client import Client
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.values import EventType


class Heard:
    """A reporter that remembers."""

    def __init__(self):
        self.events = []

    def event(self, code, message, *, level="info", **data):
        self.events.append((code, message))

    def progress(self, task, done, total, unit):
        self.events.append(("progress", task))

    def codes(self):
        return [code for code, _ in self.events]


@pytest.fixture
def bench(tmp_path, quick_stores):
    with bench_of(tmp_path) as bench:
        yield bench


def test_pauses_grow_to_a_bound_and_are_never_the_same():
    for attempt in range(40):
        most = min(0.5 * 2**attempt, LONGEST_PAUSE)
        pauses = {growing_pause(0.5, attempt) for _ in range(20)}
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(pauses) > 10


@pytest.mark.parametrize(("asked", "least"), [(7.0, 7.0), (10**6, MOST_ASKED), (0.0, 0.0), (None, 0.0)])
def test_retry_after_is_a_minimum_within_reason(asked, least):
    pauses = [growing_pause(0.01, 0, asked) for _ in range(50)]
    assert all(least <= pause <= max(1.1 * least, 0.01) for pause in pauses)


@pytest.mark.parametrize("duration", [0, 0.3, 1, 3, 6, 9, 12, 45, 300, 600, 3600, 7200])
def test_the_end_of_a_job_is_noticed_in_time_and_with_few_questions(duration):
    for answer_time in (0.0, 0.03):
        at, looks = 0.0, 0
        while at < duration:
            at += poll_step(looks, at) + answer_time
            looks += 1
        assert at - duration <= max(0.5, 0.05 * max(duration, 1)) + answer_time
        short, long = min(duration, 9), min(max(duration, 9), 625)
        assert looks <= 5 + short / 0.45 + math.log(long / 9) / math.log(1.048) + max(0, duration - 625) / 30 + 1


def test_a_job_of_three_seconds_costs_a_dozen_questions(tmp_path):
    with bench_of(tmp_path, job_seconds=3) as bench:
        bench.window("users", EventType.IDENTIFY_USER)
        bench.deliver("users")
        polls = [r for r in bench.sandbox.requests if r.method == "GET" and "imports:jobs" in r.path]
        assert len(polls) <= 13


def test_a_question_is_asked_again_until_its_time_is_over():
    heard, asked = Heard(), []

    def silent():
        asked.append(time.monotonic())
        raise Throttled("slow down", retry_after=0.05) if len(asked) < 3 else Unclear("cut")

    began = time.monotonic()
    with pytest.raises(JobsOutOfReach, match="does not answer: cut"):
        ask(silent, Patience(), timedelta(seconds=0.6), heard.event, first=0.02)
    assert time.monotonic() - began < 0.7
    assert 4 <= len(asked) <= 14
    assert asked[1] - asked[0] >= 0.05, "Retry-After is a minimum"
    assert heard.codes()[:2] == ["api_silent", "api_silent"]


def test_a_wait_that_cannot_end_well_is_not_begun():
    def busy():
        raise Throttled("come back later", retry_after=500)

    began = time.monotonic()
    with pytest.raises(JobsOutOfReach):
        ask(busy, Patience(), timedelta(seconds=5), Heard().event)
    assert time.monotonic() - began < 1


def test_uploads_that_nobody_takes_end_with_a_sentence(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("upload:429;retry-after=0*")
    short = Timing(QUICK.job_timeout, timedelta(seconds=0.5), QUICK.grace, pause=0.01)
    with pytest.raises(JobsOutOfReach, match="took no job for"):
        bench.deliver("users", timing=short)
    posts = [r for r in bench.sandbox.requests if r.method == "POST"]
    assert 3 <= len(posts) <= 12
    assert bench.states() == {"sealed"}


def test_while_waiting_it_says_whose_job_is_running_and_since_when(tmp_path):
    with bench_of(tmp_path, job_seconds=0.8) as bench:
        bench.window("users", EventType.IDENTIFY_USER)
        other = tmp_path / "other.ndjson"
        other.write_text(line(EventType.TRACK, "x") + "\n")
        with Client(bench.sandbox.url, "sandbox-key", user_agent="t") as client:
            client.upload("other.ndjson", [other], other.stat().st_size)
        bench.reporter = heard = Heard()
        bench.deliver("users")
        (told,) = [message for code, message in heard.events if code == "waiting_for_room"]
        assert "somebody else, other.ndjson" in told
        assert "since 20" in told
        assert ("progress", "waiting for other.ndjson") in heard.events
        assert bench.imported() - bench.sent == Counter([line(EventType.TRACK, "x")])


def test_an_upload_that_turns_up_after_it_was_given_up_is_not_sent_again(bench):
    """The list hides the job for longer than `grace`; the next attempt meets it before it goes out."""
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("upload:drop-after", "list:empty*3")
    bench.deliver("clicks")
    assert bench.imported() == bench.sent
    assert [job.state for job in bench.store.jobs("p")] == [JobState.LOST, JobState.COMPLETED]
    assert len([r for r in bench.sandbox.requests if r.method == "POST"]) == 1


def test_a_job_of_ours_that_is_listed_as_failed_is_taken_as_failed(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("upload:drop-after", "job:fail-row=users-1-0-1")
    bench.deliver("users")
    (reject,) = bench.store.rejects("p")
    assert "users-1-0-1" in reject.key
    assert [job.state for job in bench.store.jobs("p")] == [JobState.FAILED, JobState.COMPLETED]


@pytest.mark.parametrize("size", [None, 10])
def test_of_several_listed_jobs_the_ended_one_is_ours(size):
    entries = [
        RemoteJob("1", "failed", "a", size),
        RemoteJob("2", "queued", "a", size),
        RemoteJob("3", "completed", "a", size),
        RemoteJob("4", "completed", "b", size),
        RemoteJob("5", "completed", "a", 11),
    ]
    assert best(entries, "a", 10, set()).job_id == "3"
    assert best(entries[:2], "a", 10, set()).job_id == "2"
    assert best(entries[:1], "a", 10, set()).job_id == "1"
    assert best(entries[:1], "", 10, {"a"}) is None, "a lost attempt that failed has no rows there"
    assert best(entries[4:], "a", 10, set()) is None
    assert best(entries[4:], "a", None, set()).job_id == "5"


def test_an_upload_that_is_too_large_goes_in_smaller_jobs(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=3, rows=4)
    bench.window("clicks", EventType.TRACK, rows=7)
    bench.sandbox.inject("upload:413*4")
    delivery = bench.deliver("users", "clicks")
    assert delivery.done.trouble == {}
    assert bench.imported() == bench.sent
    assert bench.store.rejects("p") == []


def test_a_row_that_is_too_large_by_itself_stops_only_its_batch(bench):
    bench.window("users", EventType.IDENTIFY_USER, rows=2)
    bench.sandbox.inject("upload:413*")
    delivery = bench.deliver("users")
    assert "413" in delivery.done.trouble["users"].message or "single row" in delivery.done.trouble["users"].message
    assert bench.store.rejects("p") == []
    bench.sandbox.clear_faults()
    bench.deliver("users")
    assert bench.imported() == bench.sent


def test_a_bad_row_in_one_model_does_not_keep_the_others(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=4, rows=2)
    bench.window("clicks", EventType.TRACK, batches=2)
    bench.sandbox.inject("job:fail-silent=users-1-2-1")
    bench.deliver("users", "clicks")
    (reject,) = bench.store.rejects("p")
    assert reject.kind is RejectKind.REJECTED
    assert sum((bench.sent - bench.imported()).values()) == 1
    for job in bench.store.jobs("p")[2:]:
        models = {batch.model for batch in bench.store.job_batches(job.id)}
        assert len(models) <= 2


def test_a_short_outage_makes_no_row_guilty(bench):
    """A lone row fails while the API is down for a moment, its siblings go through later: it is tried again."""
    bench.window("users", EventType.IDENTIFY_USER, rows=2)
    bench.sandbox.inject("job:fail*3")
    bench.deliver("users")
    assert bench.store.rejects("p") == []
    assert bench.imported() == bench.sent


def test_rows_done_and_a_row_echoed(bench):
    """A failed profile job with rows done and an echo: the row is set aside, the others go again."""
    bench.window("users", EventType.IDENTIFY_USER, rows=4)
    (batch,) = bench.store.batches("p")
    delivery = bench.deliver()
    job = bench.store.intend(
        NewJob(
            bench.context().run_id, "p", bench.destination, [batch.id], sha256=batch.sha256, rows=4, bytes=batch.bytes
        )
    )
    row = json.loads(line(EventType.IDENTIFY_USER, "users-1-0-2"))
    echo = f'Bad: %{{"event_type" => "identify_user", "user_id" => "{row["user_id"]}"}}'
    delivery._fail(job, RemoteJob("x", "failed", total_rows=2, reasons=(echo,)))
    assert len(bench.store.rejects("p")) == 1
    (child,) = bench.store.batches("p", states=[BatchState.SEALED])
    assert child.rows == 3


def test_no_connection_at_all_loses_nothing(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    url, bench.url = bench.sandbox.url, "http://127.0.0.1:9"
    short = Timing(QUICK.job_timeout, timedelta(seconds=0.3), QUICK.grace, pause=0.01)
    with pytest.raises(JobsOutOfReach, match="refused or unreachable"):
        bench.deliver("users", timing=short)
    assert bench.states() == {"sealed"}
    bench.url = url
    bench.deliver("users")
    assert bench.imported() == bench.sent
