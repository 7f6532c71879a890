"""Any order of operations keeps what the promise of delivery rests on."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from warehouse_sync.state.lifecycle import (
    IN_FLIGHT,
    BatchState,
    IllegalMove,
    JobState,
    RejectKind,
    WindowState,
)
from warehouse_sync.state.rows import Batch, Job, NewReject, Window
from warehouse_sync.state.store import open_store
from warehouse_sync.values import EventType

OPEN = (BatchState.SEALED, BatchState.SENT, BatchState.HELD)
MODELS = ("users", "companies", "events")
pick = st.integers(0, 1_000_000)


def machine(make_world: Callable[[str], Any], reject: Callable[..., NewReject]) -> type[RuleBasedStateMachine]:
    """The machine over stores that `make_world` makes."""

    class Lives(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = tempfile.TemporaryDirectory()
            self.url = f"sqlite:///{Path(self.folder.name) / 'state.db'}"
            self.world = make_world(self.url)
            self.cursors: dict[str, str | None] = dict.fromkeys(MODELS)
            self.known: set[int] = set()
            # Rows of each window, and where they ended; the books that the store is checked against.
            self.rows: dict[int, int] = {}
            self.rejected: dict[int, int] = {}
            self.row_hashes = itertools.count(1)

        def teardown(self) -> None:
            self.world.store.close()
            self.folder.cleanup()

        def windows(self, *states: WindowState) -> list[Window]:
            return list(self.world.store.windows("prod", states=states))

        def batches(self, *states: BatchState) -> list[Batch]:
            return list(self.world.store.batches("prod", states=states))

        def jobs(self, *states: JobState) -> list[Job]:
            return list(self.world.store.jobs("prod", states=states))

        @rule(
            model=st.sampled_from(MODELS), kind=st.sampled_from(["incremental", "full", "limit", "backfill", "recall"])
        )
        def begin(self, model: str, kind: str) -> None:
            unsettled = [one for one in self.world.store.windows("prod", model=model) if one.ended_at is None]
            try:
                self.world.window(model, kind=kind, event=EventType.TRACK)
            except IllegalMove:
                assert unsettled
            else:
                assert not unsettled

        @precondition(lambda self: self.windows(WindowState.EXTRACTING))
        @rule(which=pick, rows=st.lists(st.integers(1, 9), max_size=4), refused=st.integers(0, 2))
        def seal(self, which: int, rows: list[int], refused: int) -> None:
            window = one_of(self.windows(WindowState.EXTRACTING), which)
            rejects = [reject(next(self.row_hashes), None) for _ in range(refused)]
            self.world.seal(window, rows, rejects=rejects)
            self.rows[window.id], self.rejected[window.id] = sum(rows), 0
            assert (self.world.state_of(window.id) == "settled") == (not rows)

        @precondition(lambda self: self.windows(WindowState.EXTRACTING))
        @rule(which=pick)
        def crash_while_reading(self, which: int) -> None:
            self.world.store.drop_window(one_of(self.windows(WindowState.EXTRACTING), which).id)

        @precondition(lambda self: self.batches(BatchState.SEALED))
        @rule(which=st.sets(pick, min_size=1, max_size=5))
        def intend(self, which: set[int]) -> None:
            sealed = self.batches(BatchState.SEALED)
            chosen = {batch.id: batch for batch in (one_of(sealed, one) for one in which)}
            flying = self.jobs(*IN_FLIGHT)
            try:
                self.world.intend(list(chosen.values()))
            except IllegalMove:
                assert flying
            else:
                assert not flying

        @precondition(lambda self: self.jobs(JobState.INTENT))
        @rule(how=st.sampled_from(["accept", "lose", "fail", "hold"]))
        def answer(self, how: str) -> None:
            self.end(self.jobs(JobState.INTENT)[0], how)

        @precondition(lambda self: self.jobs(JobState.ACCEPTED))
        @rule(how=st.sampled_from(["complete", "complete", "fail", "hold", "observe", "lose"]))
        def end_the_job(self, how: str) -> None:
            self.end(self.jobs(JobState.ACCEPTED)[0], how)

        @precondition(lambda self: self.jobs(JobState.HELD))
        @rule(which=pick, how=st.sampled_from(["complete", "fail", "observe", "hold", "accept"]))
        def decide(self, which: int, how: str) -> None:
            self.end(one_of(self.jobs(JobState.HELD), which), how)

        def all_but_one(self, job: Job) -> list[int]:
            return [batch.id for batch in self.world.store.job_batches(job.id) if batch.job_id == job.id][1:]

        def end(self, job: Job, how: str) -> None:
            store = self.world.store
            acts: dict[str, Callable[[], Any]] = {
                "accept": lambda: store.accept(
                    job.id, remote_id="1", links=None, remote_status="queued", request_id=None
                ),
                "observe": lambda: store.observe(job.id, "processing", 3),
                "complete": lambda: store.complete(job.id, answer={}, total_rows=job.rows),
                "fail": lambda: store.fail(job.id, answer={}, reason="no"),
                "lose": lambda: store.lose(job.id),
                "hold": lambda: store.hold(job.id, reason="gone", resend=self.all_but_one(job)),
            }
            legal = {
                JobState.INTENT: {"accept", "lose", "fail", "hold"},
                JobState.ACCEPTED: {"complete", "fail", "hold", "observe"},
                JobState.HELD: {"complete", "fail", "observe"},
            }
            try:
                acts[how]()
            except IllegalMove:
                assert how not in legal[job.state]
            else:
                assert how in legal[job.state]

        @precondition(lambda self: self.batches(*OPEN))
        @rule(which=pick, quarantined=st.integers(0, 3), halves=st.booleans())
        def split(self, which: int, quarantined: int, halves: bool) -> None:
            batch = one_of(self.batches(*OPEN), which)
            quarantined = min(quarantined, batch.rows)
            rest = batch.rows - quarantined
            parts = [rest // 2, rest - rest // 2] if halves else [rest]
            rejects = [reject(next(self.row_hashes), None, RejectKind.REJECTED) for _ in range(quarantined)]
            files = [self.world.file(rows) for rows in parts if rows]
            try:
                children = self.world.store.split(batch.id, children=files, rejects=rejects)
            except IllegalMove:
                assert batch.state is not BatchState.SEALED
            else:
                assert batch.state is BatchState.SEALED
                assert [child.parent_id for child in children] == [batch.id] * len(files)
                self.rejected[batch.window_id] += quarantined

        @precondition(lambda self: self.windows(WindowState.READY))
        @rule(which=pick)
        def give_up_a_window(self, which: int) -> None:
            self.world.store.supersede_window(one_of(self.windows(WindowState.READY), which).id)

        @precondition(lambda self: self.batches(*OPEN))
        @rule(which=st.sets(pick, min_size=1, max_size=2))
        def give_up_batches(self, which: set[int]) -> None:
            found = self.batches(*OPEN)
            chosen = {one_of(found, one).id: one_of(found, one).state for one in which}
            try:
                self.world.store.supersede_batches(list(chosen))
            except IllegalMove:
                assert BatchState.SENT in chosen.values()
            else:
                assert BatchState.SENT not in chosen.values()

        @rule(model=st.sampled_from(MODELS), how_many=st.integers(0, 3))
        def merge(self, model: str, how_many: int) -> None:
            waiting = self.world.store.mergeable("prod", model)
            order = [batch.delivery_seq for batch in waiting]
            assert order == sorted(set(order))
            for batch in waiting[:how_many]:
                self.world.store.record_merged("prod", model, batch.id)
            assert self.world.store.mergeable("prod", model) == waiting[how_many:]

        @rule()
        def restart(self) -> None:
            store = self.world.store
            store.close()
            self.world.store = open_store(self.url)

        @rule(model=st.sampled_from(MODELS))
        def reset(self, model: str) -> None:
            self.world.store.by_hand.reset("prod", model)
            self.cursors[model] = None

        @invariant()
        def cursors_move_with_settled_windows_and_never_else(self) -> None:
            # Any operation may settle a window; another invariant says which ones may call themselves settled.
            for window in self.windows(WindowState.SETTLED):
                if window.id not in self.known and window.kind in ("incremental", "full"):
                    self.cursors[window.model] = window.cursor_to.text
                self.known.add(window.id)
            assert {model: self.world.cursor(model) for model in MODELS} == self.cursors

        @invariant()
        def an_ended_window_has_no_open_batch_and_lost_no_row(self) -> None:
            by_window: dict[int, list[Batch]] = {}
            for batch in self.world.store.batches("prod"):
                by_window.setdefault(batch.window_id, []).append(batch)
            for window in self.world.store.windows("prod"):
                mine = by_window.get(window.id, [])
                still_open = [batch for batch in mine if batch.state in OPEN]
                given_up = [batch for batch in mine if batch.state is BatchState.SUPERSEDED and not batch.split]
                if window.state is WindowState.READY:
                    assert still_open
                    continue
                assert not still_open
                assert (window.ended_at is None) == (window.state is WindowState.EXTRACTING)
                assert bool(given_up) == (window.state is WindowState.SUPERSEDED)
                if window.state is WindowState.SETTLED:
                    delivered = sum(batch.rows for batch in mine if batch.state is BatchState.DELIVERED)
                    assert delivered + self.rejected[window.id] == self.rows[window.id]

        @invariant()
        def jobs_and_their_batches_agree(self) -> None:
            assert len(self.jobs(*IN_FLIGHT)) <= 1
            holders: dict[int, int] = {}
            for job in self.world.store.jobs("prod"):
                states = {}
                for batch in self.world.store.job_batches(job.id):
                    if batch.job_id == job.id:
                        states[batch.id] = batch.state
                        assert holders.setdefault(batch.id, job.id) == job.id
                expected = {
                    JobState.INTENT: {BatchState.SENT},
                    JobState.ACCEPTED: {BatchState.SENT},
                    JobState.COMPLETED: {BatchState.DELIVERED, BatchState.SUPERSEDED},
                    JobState.HELD: {BatchState.HELD, BatchState.SUPERSEDED},
                    JobState.FAILED: {BatchState.SUPERSEDED},
                    JobState.LOST: set(),
                }[job.state]
                assert set(states.values()) <= expected
            for batch in self.world.store.batches("prod"):
                with_a_job = batch.state in (BatchState.SENT, BatchState.HELD, BatchState.DELIVERED)
                assert not with_a_job or holders[batch.id] == batch.job_id
                assert (batch.delivery_seq is not None) == (batch.state is BatchState.DELIVERED)
                assert batch.state is not BatchState.SEALED or batch.job_id is None

    return Lives


def one_of(items: list[Any], which: int) -> Any:
    return items[which % len(items)]


def test_any_order_of_operations_keeps_the_promise(make_world: Any, reject: Any) -> None:
    run_state_machine_as_test(
        machine(make_world, reject),
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
