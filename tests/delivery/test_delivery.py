"""Delivery against the sandbox over a real socket: whatever the answer, every row arrives once or is still waiting."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from warehouse_sync.context import RunContext
from warehouse_sync.delivery import Delivery, Timing
from warehouse_sync.delivery.packing import pack
from warehouse_sync.delivery.quarantine import Quarantine
from warehouse_sync.errors import AuthError, JobsOutOfReach, Outage, TimeLimit
from warehouse_sync.observe.reporter import Silent
from warehouse_sync.outbox import BatchLimits, Outbox
from warehouse_sync.patience import Patience
from warehouse_sync.state.lifecycle import BatchState, JobState, RejectKind, WindowState
from warehouse_sync.state.rows import NewBatch, NewJob, NewReject, NewWindow
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.client import Client
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.values import Counts, CursorKind, CursorValue, EventType
from warehouse_sync.warehouses.base import Engine

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUICK = Timing(timedelta(seconds=20), timedelta(seconds=20), grace=timedelta(seconds=0.2), pause=0.01)


class Bench:
    """One pipeline with a store, an outbox and a sandbox, without a warehouse."""

    def __init__(self, home, sandbox, store):
        self.home, self.sandbox, self.store = home, sandbox, store
        store.register_pipeline("p", "id")
        self.destination = store.claim_destination("p", sandbox.url, None, "fp").id
        self.outbox = Outbox(home)
        self.sent: Counter[str] = Counter()
        self.url, self.reporter = sandbox.url, Silent()

    def context(self) -> RunContext:
        run_id = self.store.begin_run("p", "run", {}, "0")
        return RunContext("p", self.home, run_id, self.store, self.outbox, Engine(), self.reporter)

    def window(self, model: str, event: EventType, batches: int = 1, rows: int = 3, rejects=()):
        """A sealed window of that many batches; its rows are remembered in `sent`."""
        context = self.context()
        window = self.store.begin_window(
            NewWindow(context.run_id, "p", model, event, "incremental", "c", None, NOW, "f", ("user_id",))
        )
        with self.outbox.writer(model, window.id, BatchLimits(rows, 10**6)) as writer:
            for batch in range(batches):
                lines = [line(event, f"{model}-{window.id}-{batch}-{row}") for row in range(rows)]
                self.sent.update(lines)
                writer.write(record(lines))
            sealed = writer.close()
        self.store.seal_window(
            window.id,
            batches=[NewBatch(file.name, file.rows, file.bytes, file.sha256) for file in sealed],
            rejects=rejects,
            counts=Counts(read=batches * rows, added=batches * rows),
            cursor_to=CursorValue(CursorKind.INTEGER, "9"),
            properties={},
        )
        return window

    def deliver(self, *models: str, timing: Timing = QUICK, patience: Patience | None = None, **limits) -> Delivery:
        bounds = BatchLimits(limits.get("max_rows", 10_000), limits.get("max_bytes", 10**6))
        with Client(self.url, limits.get("key", "sandbox-key"), user_agent="t", read_timeout=1) as client:
            patience = patience or Patience()
            delivery = Delivery(self.context(), client, bounds, timing, patience, self.destination)
            delivery.resume()
            delivery.deliver(set(models))
            return delivery

    def imported(self) -> Counter[str]:
        return Counter(text.rstrip("\n") for text in self.sandbox.imported())

    def states(self) -> set[str]:
        return {str(batch.state) for batch in self.store.batches("p")}


def line(event: EventType, key: str) -> str:
    who = "company_id" if event is EventType.IDENTIFY_COMPANY else "user_id"
    row = {"event_type": event, who: key, "source": "backend-http-import", "inserted_at": "2026-01-01T00:00:00.000000"}
    if event is EventType.TRACK:
        row["event_name"] = "e"
    return json.dumps({**row, "metadata": {}})


def hashed(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def record(lines: list[str]) -> pa.RecordBatch:
    count = len(lines)
    return pa.record_batch(
        {
            "line": pa.array([text + "\n" for text in lines], pa.large_string()),
            "key": pa.array(lines, pa.large_string()),
            "key_hash": pa.array([hashed(text) for text in lines], pa.large_binary()),
            "row_hash": pa.array([b"r" * 16] * count, pa.large_binary()),
            "cursor": pa.array([1] * count, pa.int64()),
            "inserted_at": pa.array([0] * count, pa.timestamp("us")),
        }
    )


@contextmanager
def bench_of(tmp_path, **sandbox):
    with (
        Sandbox(tmp_path / "sandbox", **sandbox) as server,
        open_store(f"sqlite:///{tmp_path / 'state.db'}") as store,
    ):
        yield Bench(tmp_path / "home", server, store)


@pytest.fixture
def bench(tmp_path, quick_stores):
    with bench_of(tmp_path) as bench:
        yield bench


def test_small_batches_of_several_models_share_a_job_in_order(bench):
    bench.window("clicks", EventType.TRACK, batches=2)
    bench.window("users", EventType.IDENTIFY_USER, batches=2)
    bench.window("companies", EventType.IDENTIFY_COMPANY)
    delivery = bench.deliver("clicks", "users", "companies")
    assert bench.imported() == bench.sent
    (job,) = bench.store.jobs("p")
    assert job.state is JobState.COMPLETED
    assert [batch.model for batch in bench.store.job_batches(job.id)] == [
        "companies",
        "users",
        "users",
        "clicks",
        "clicks",
    ]
    assert delivery.done.jobs == {"companies": 1, "users": 1, "clicks": 1}
    assert all(window.state is WindowState.SETTLED for window in bench.store.windows("p"))
    assert bench.store.model_state("p", "users").cursor == CursorValue(CursorKind.INTEGER, "9")


def test_twenty_batches_of_fifty_rows_take_one_job(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=20, rows=50)
    bench.deliver("users")
    (job,) = bench.store.jobs("p")
    assert len(bench.store.job_batches(job.id)) == 20
    assert len(bench.imported()) == 1000


def test_job_limits_cut_jobs(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=5, rows=4)
    bench.deliver("users", max_rows=8)
    assert [job.rows for job in bench.store.jobs("p")] == [8, 8, 4]
    assert bench.imported() == bench.sent


def test_only_selected_models_are_sent(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.window("clicks", EventType.TRACK)
    bench.deliver("users")
    assert [batch.model for batch in bench.store.batches("p", states=[BatchState.SEALED])] == ["clicks"]


TROUBLE = [
    "upload:drop-before",
    "upload:drop-middle",
    "upload:drop-after",
    "upload:500",
    "upload:500*2",
    "upload:503-after",
    "upload:garbage",
    "upload:empty",
    "upload:no-id",
    "upload:409*3",
    "upload:429",
    "upload:delay=1.5",
    "list:500*2",
    "list:others=200",
    "job:unknown-status",
    "job:500*2",
    "job:404*2",
    "job:404*50",
]


@pytest.mark.parametrize("fault", TROUBLE)
def test_trouble_on_the_way_neither_loses_nor_repeats_a_row(bench, fault):
    bench.window("users", EventType.IDENTIFY_USER, batches=3)
    bench.sandbox.inject(fault)
    bench.deliver("users", max_rows=6)
    assert bench.imported() == bench.sent
    assert bench.states() == {"delivered"}


@pytest.mark.parametrize("fault", ["upload:drop-after", "upload:503-after"])
def test_a_job_whose_answer_was_lost_is_found_in_the_list(bench, fault):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject(fault)
    bench.deliver("users")
    assert [job.state for job in bench.store.jobs("p")] == [JobState.COMPLETED]
    assert bench.imported() == bench.sent


def test_a_job_that_never_arrived_goes_again_under_another_name(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("upload:drop-before")
    bench.deliver("users")
    lost, done = bench.store.jobs("p")
    assert (lost.state, done.state) == (JobState.LOST, JobState.COMPLETED)
    assert lost.filename != done.filename
    assert lost.sha256 == done.sha256


def test_a_running_job_of_somebody_else_is_waited_for(tmp_path):
    with bench_of(tmp_path, job_seconds=0.6) as bench:
        bench.window("users", EventType.IDENTIFY_USER)
        other = tmp_path / "other.ndjson"
        other.write_text(line(EventType.TRACK, "x") + "\n")
        with Client(bench.sandbox.url, "sandbox-key", user_agent="t") as client:
            client.upload("other.ndjson", [other], other.stat().st_size)
        bench.deliver("users")
        assert bench.states() == {"delivered"}
        assert bench.imported() - bench.sent == Counter([line(EventType.TRACK, "x")])


def test_patience_with_others_ends(tmp_path):
    with bench_of(tmp_path, job_seconds=60) as bench:
        bench.window("users", EventType.IDENTIFY_USER)
        other = tmp_path / "other.ndjson"
        other.write_text(line(EventType.TRACK, "x") + "\n")
        with Client(bench.sandbox.url, "sandbox-key", user_agent="t") as client:
            client.upload("other.ndjson", [other], other.stat().st_size)
        short = Timing(QUICK.job_timeout, timedelta(seconds=0.3), QUICK.grace, pause=0.01)
        with pytest.raises(JobsOutOfReach, match=r"somebody else, other\.ndjson, which is `\w+` since"):
            bench.deliver("users", timing=short)
        assert bench.states() == {"sealed"}


def test_a_job_that_takes_too_long_is_picked_up_by_the_next_run(tmp_path):
    with bench_of(tmp_path, job_seconds=1.2) as bench:
        bench.window("users", EventType.IDENTIFY_USER)
        short = Timing(timedelta(seconds=0.1), QUICK.busy_timeout, QUICK.grace)
        with pytest.raises(JobsOutOfReach, match="is still"):
            bench.deliver("users", timing=short)
        assert bench.states() == {"sent"}
        bench.deliver("users")
        assert bench.imported() == bench.sent
        assert [job.state for job in bench.store.jobs("p")] == [JobState.COMPLETED]


def test_a_time_limit_keeps_the_job(tmp_path):
    with bench_of(tmp_path, job_seconds=30) as bench:
        bench.window("users", EventType.IDENTIFY_USER)
        with pytest.raises(TimeLimit):
            bench.deliver("users", patience=Patience(timedelta(seconds=0.4)))
        assert bench.states() == {"sent"}


def test_an_intent_that_a_killed_run_left_is_looked_for_first(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    context = bench.context()
    (batch,) = bench.store.batches("p")
    job = bench.store.intend(
        NewJob(
            context.run_id, "p", bench.destination, [batch.id], sha256=batch.sha256, rows=batch.rows, bytes=batch.bytes
        )
    )
    with Client(bench.sandbox.url, "sandbox-key", user_agent="t") as client:
        client.upload(job.filename, [bench.outbox.lines(batch.name)], batch.bytes)
    bench.deliver("users")
    assert bench.imported() == bench.sent
    assert [done.state for done in bench.store.jobs("p")] == [JobState.COMPLETED]


def test_an_intent_that_never_left_is_lost_and_goes_again(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    context = bench.context()
    (batch,) = bench.store.batches("p")
    bench.store.intend(
        NewJob(context.run_id, "p", bench.destination, [batch.id], sha256="s" * 64, rows=3, bytes=batch.bytes)
    )
    bench.deliver("users")
    assert bench.imported() == bench.sent
    assert [done.state for done in bench.store.jobs("p")] == [JobState.LOST, JobState.COMPLETED]


def test_a_job_that_the_api_forgot_is_held_not_sent_again(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("job:404*50", "list:empty*50")
    delivery = bench.deliver("users")
    assert bench.states() == {"held"}
    assert "no longer knows" in delivery.done.held["users"].message
    assert "no longer knows" in bench.deliver("users").done.held["users"].message, "shown until somebody decides"
    assert [job.state for job in bench.store.jobs("p")] == [JobState.HELD]
    bench.sandbox.clear_faults()
    assert bench.deliver("users").done.held == {}, "or until the API knows it again"
    assert [job.state for job in bench.store.jobs("p")] == [JobState.COMPLETED]
    assert bench.imported() == bench.sent


def test_an_api_that_fails_everything_rejects_nothing(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=2, rows=8)
    bench.sandbox.inject("job:fail=Something broke*500")
    with pytest.raises(Outage, match="Something broke"):
        bench.deliver("users")
    assert bench.store.rejects("p") == []
    bench.sandbox.clear_faults()
    bench.deliver("users")
    assert bench.imported() == bench.sent


def test_an_echoed_row_is_set_aside_and_the_rest_goes_on(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=2)
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("job:fail-row=users-1-0-1*9")
    bench.deliver("users", "clicks")
    (reject,) = bench.store.rejects("p")
    assert "users-1-0-1" in reject.key
    assert reject.kind is RejectKind.REJECTED
    bad = line(EventType.IDENTIFY_USER, "users-1-0-1")
    assert bench.imported() == bench.sent - Counter([bad])
    assert all(window.state is WindowState.SETTLED for window in bench.store.windows("p"))
    for job in bench.store.jobs("p"):
        assert "users-1-0-1" not in json.dumps(job.answer) + (job.reason or "")


def test_what_was_sent_after_a_copy_of_the_state_is_not_sent_again(bench, tmp_path):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.deliver("users")
    bench.window("clicks", EventType.TRACK)
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "state.db")) as now, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        now.backup(copy)
    bench.deliver("clicks")
    with open_store(f"sqlite:///{tmp_path / 'copy.db'}") as store:
        bench.home, bench.store, bench.outbox = tmp_path / "copy", store, Outbox(tmp_path / "copy")
        bench.deliver("clicks")
        assert bench.states() == {"delivered"}
        assert bench.imported() == bench.sent
        bench.window("clicks", EventType.TRACK)
        bench.deliver("clicks")
    assert bench.imported() == bench.sent


def test_a_thousand_echoed_rows_are_looked_up_at_once(bench, monkeypatch):
    connect, connections = Engine.connect, []
    monkeypatch.setattr(Engine, "connect", lambda self: connections.append(connect(self)) or connections[-1])
    said = 'Bad value in the row: %{{"event_name" => "e", "event_type" => "track", "user_id" => "{}"}}'
    bench.window("clicks", EventType.TRACK, rows=2000)
    reasons = tuple(said.format(f"clicks-1-0-{number}") for number in range(1, 2000, 2))
    remote = RemoteJob("imports:jobs:x", "completed", reasons=(*reasons, said.format("gone"), *reasons[:9]))
    rejects = Quarantine(bench.context(), 40, lambda batch: True).refused(bench.store.batches("p"), remote)
    assert [reject.key for reject in rejects] == [line(EventType.TRACK, f"clicks-1-0-{n}") for n in range(1, 2000, 2)]
    assert {reject.reasons for reject in rejects} == {("Bad value in the row",)}
    assert len(connections) == 1


def test_an_echo_of_half_a_letter_fits_no_row(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    quarantine = Quarantine(bench.context(), 40, lambda batch: True)
    reasons = (r'Bad row: %{"user_id" => "\x{D800}"}', 'Bad row: %{"user_id" => "\ud800", "a" => "\ud800..."}')
    remote = RemoteJob("imports:jobs:x", "completed", reasons=reasons)
    assert quarantine.refused(bench.store.batches("p"), remote) == []


def test_a_row_that_is_not_echoed_is_found_by_halves(bench):
    bench.window("users", EventType.IDENTIFY_USER, rows=9)
    target = line(EventType.IDENTIFY_USER, "users-1-0-4")
    bench.sandbox.inject("job:fail-silent=users-1-0-4")
    bench.deliver("users")
    (reject,) = bench.store.rejects("p")
    assert reject.key == target
    assert bench.imported() == bench.sent - Counter([target])


def test_halves_end_at_max_splits(bench):
    bench.window("users", EventType.IDENTIFY_USER, rows=9)
    bench.sandbox.inject("job:fail-silent=users-1-0-4")
    delivery = bench.deliver("users", timing=Timing(QUICK.job_timeout, QUICK.busy_timeout, QUICK.grace, max_splits=1))
    assert "max_splits" in delivery.done.trouble["users"].message
    assert bench.store.rejects("p") == []


def test_reasons_on_a_completed_job_are_rejects_of_those_rows(bench):
    bench.window("clicks", EventType.TRACK, batches=2)
    bench.sandbox.inject("job:reject-row=clicks-1-1-2")
    bench.deliver("clicks")
    (reject,) = bench.store.rejects("p")
    assert "clicks-1-1-2" in reject.key
    assert bench.states() == {"delivered"}
    assert sum((bench.sent - bench.imported()).values()) == 1


def test_rows_done_before_a_failure(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("job:partial")
    bench.deliver("users")
    assert bench.sent - bench.imported() == Counter(), "profiles go again: the latest wins"
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("job:partial")
    delivery = bench.deliver("clicks")
    assert "some rows done" in delivery.done.held["clicks"].message
    assert bench.states() == {"delivered", "held"}, "which of the events arrived, nobody can tell"


def test_an_api_that_hides_our_names_gets_no_event_twice(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("job:no-names*99", "list:no-names*99")
    bench.deliver("users")
    bench.window("clicks", EventType.TRACK)
    bench.sandbox.inject("upload:drop-after")
    delivery = bench.deliver("clicks")
    assert "nobody can tell" in delivery.done.held["clicks"].message
    assert bench.imported() == bench.sent
    bench.window("users", EventType.IDENTIFY_USER)
    bench.sandbox.inject("upload:drop-after")
    bench.deliver("users")
    assert bench.sent - bench.imported() == Counter()


def test_a_wrong_key_sends_nothing_and_keeps_everything(bench):
    bench.window("users", EventType.IDENTIFY_USER)
    with pytest.raises(AuthError):
        bench.deliver("users", key="wrong")
    assert bench.imported() == Counter()
    bench.deliver("users")
    assert bench.imported() == bench.sent


def test_a_damaged_batch_gives_up_the_rest_of_its_window(bench):
    window = bench.window("users", EventType.IDENTIFY_USER, batches=3)
    first, second, third = bench.store.batches("p")
    bench.outbox.lines(second.name).write_bytes(b"x")
    delivery = bench.deliver("users", max_rows=3)
    states = [batch.state for batch in bench.store.batches("p")]
    assert states == [BatchState.DELIVERED, BatchState.SUPERSEDED, BatchState.SUPERSEDED]
    assert delivery.done.damaged == {window.id}
    assert bench.store.window(window.id).state is WindowState.SUPERSEDED
    assert bench.store.model_state("p", "users").cursor is None
    assert third.state is BatchState.SEALED
    assert first.rows == sum(bench.imported().values())


def test_a_delivered_key_closes_its_reject(bench):
    key = hashed(line(EventType.IDENTIFY_USER, "users-2-0-0"))
    rejects = [NewReject("k", key, row * 16, RejectKind.INVALID, ("user_id_missing",)) for row in (b"o", b"p")]
    bench.window("users", EventType.IDENTIFY_USER, batches=0, rejects=rejects)
    assert len(bench.store.open_rejects("p", "users")) == 2
    bench.window("users", EventType.IDENTIFY_USER)
    bench.deliver("users")
    assert bench.store.open_rejects("p", "users") == []


def test_a_bad_row_read_beside_the_good_one_of_its_key_stays(bench):
    key = hashed(line(EventType.IDENTIFY_USER, "users-1-0-0"))
    reject = NewReject("k", key, b"o" * 16, RejectKind.INVALID, ("user_id_missing",))
    bench.window("users", EventType.IDENTIFY_USER, rejects=[reject])
    bench.deliver("users")
    assert len(bench.store.open_rejects("p", "users")) == 1


def test_children_of_a_failed_job_travel_alone(bench):
    bench.window("users", EventType.IDENTIFY_USER, batches=2)
    parent, other = bench.store.batches("p")
    rest = bench.outbox.without(type("File", (), {"name": parent.name, "rows": parent.rows})(), [0], f"{parent.name}-c")
    rejected = NewReject("k", b"k" * 16, b"r" * 16, RejectKind.REJECTED, ("refused",), parent.name)
    child = NewBatch(rest.name, rest.rows, rest.bytes, rest.sha256, parent_id=parent.id)
    (child,) = bench.store.split(parent.id, children=[child], rejects=[rejected])
    sealed = bench.store.batches("p", states=[BatchState.SEALED])
    assert {batch.id for batch in sealed} == {other.id, child.id}
    first = pack(sealed, BatchLimits(100, 10**6))
    assert len(first) == 1
    second = pack([batch for batch in sealed if batch.id != first[0].id], BatchLimits(100, 10**6))
    assert len(second) == 1
