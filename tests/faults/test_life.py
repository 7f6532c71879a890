"""Runs, faults, crashes, lost files and changed models in any order: the promise holds after each of them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from fault_proxy import Proxy
from fault_world import World, quick
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from test_network import JOBS, LISTS, UPLOADS

from warehouse_sync import checkpoints
from warehouse_sync.checkpoints import POINTS
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.state.lifecycle import BatchState, IllegalMove, JobState, WindowState
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox


class Died(BaseException):
    """The process is gone."""


class Life(RuleBasedStateMachine):
    """One pipeline over its life. Nothing here makes the API forget a job: then every row goes exactly once."""

    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="life-"))
        shutil.copytree(self.template, self.folder / "world")
        self.sandbox = Sandbox(self.folder / "sandbox").__enter__()
        self.proxy = Proxy(self.sandbox.url).__enter__()
        self.world = World(self.folder / "world", self.sandbox, self.proxy.url)
        self.version = 0

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.proxy.clear()
            self.sandbox.clear_faults()
            for _ in range(2):
                self.world.run()
            self.everything_accepted_is_imported()
            if not self.version:
                self.world.check()
            with open_store(f"sqlite:///{self.world.folder}/state/state.db", read_only=True) as store:
                assert store.jobs("p", states=[JobState.INTENT, JobState.ACCEPTED]) == []
                assert store.windows("p", states=[WindowState.EXTRACTING, WindowState.READY]) == []
        finally:
            self.proxy.__exit__()
            self.sandbox.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # What happens

    @rule(rows=st.integers(1, 12))
    def rows_come(self, rows: int) -> None:
        self.world.add(rows)

    @rule()
    def profiles_change(self) -> None:
        self.world.change()

    @rule()
    def run(self) -> None:
        self.world.run()

    @rule(
        upload=st.lists(st.sampled_from([None, *sorted(set(UPLOADS) - {"late", "400", "413"})]), max_size=3),
        listed=st.lists(st.sampled_from([None, *sorted(set(LISTS) - {"empty", "stale"})]), max_size=3),
        job=st.lists(st.sampled_from([None, *sorted(JOBS)]), max_size=2),
    )
    def run_in_bad_weather(self, upload: list[str | None], listed: list[str | None], job: list[str | None]) -> None:
        self.proxy.plan(upload=upload, list=listed, job=job)
        with suppress(WarehouseSyncError):
            self.world.run()
        self.proxy.clear()

    @rule(point=st.sampled_from(sorted(POINTS)), times=st.integers(1, 2))
    def crash(self, point: str, times: int) -> None:
        left = [times]

        def watch(reached: str) -> None:
            left[0] -= reached == point
            if reached == point and left[0] == 0:
                raise Died

        checkpoints.watch = watch
        try:
            with suppress(Died, WarehouseSyncError):
                self.world.run()
        finally:
            checkpoints.watch = None

    @rule(data=st.data(), cut=st.booleans())
    def sealed_files_are_lost(self, data: st.DataObject, cut: bool) -> None:
        if not (self.world.folder / "state/state.db").exists():
            return
        with open_store(f"sqlite:///{self.world.folder}/state/state.db", read_only=True) as store:
            sealed = store.batches("p", states=[BatchState.SEALED]) if store.pipeline("p") else []
        if sealed:
            batch = data.draw(st.sampled_from(sealed))
            path = self.world.folder / "state/p/outbox" / f"{batch.name}.ndjson"
            path.write_bytes(path.read_bytes()[:-5]) if cut else path.unlink(missing_ok=True)

    @precondition(lambda self: self.version < 2)
    @rule()
    def a_model_changes(self) -> None:
        self.version += 1
        path = self.world.folder / "models_sql/orders.sql"
        path.write_text(path.read_text().replace("as event_name", f"as event_name, {self.version} as p{self.version}"))

    # What holds

    @invariant()
    def everything_accepted_is_imported(self) -> None:
        if not hasattr(self, "world") or not (self.world.folder / "state/state.db").exists():
            return
        accepted, imported = self.world.accepted(), Counter(self.sandbox.imported())
        assert not accepted - imported, "accepted and not imported"
        # What a killed run sent and nobody wrote down yet is at most one job's.
        assert sum((imported - accepted).values()) <= 16
        assert max(self.world.imported().values(), default=1) == 1, "a row went twice"

    @invariant()
    def dead_things_stay_dead(self) -> None:
        if not hasattr(self, "world") or not (self.world.folder / "state/state.db").exists():
            return
        with open_store(f"sqlite:///{self.world.folder}/state/state.db") as store:
            done = store.jobs("p", states=[JobState.COMPLETED, JobState.LOST, JobState.FAILED], limit=3)
            for job in done:
                for move in (
                    lambda: store.lose(job.id),  # noqa: B023
                    lambda: store.accept(job.id, remote_id="x", links=None, remote_status="", request_id=None),  # noqa: B023
                ):
                    with pytest.raises(IllegalMove):
                        move()


@pytest.mark.parametrize("lives", [2, pytest.param(13, marks=pytest.mark.slow)])
def test_any_order_of_events(loaded, monkeypatch, told, lives):
    quick(monkeypatch, read_timeout=0.5)
    Life.template = loaded
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=lives, stateful_step_count=8, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), print_blob=True, derandomize=settings.default.derandomize,
        ),
    )  # fmt: skip
    outcome = "imported = accepted, once"
    told("random lives: runs, network faults, crashes, lost files, changed models", outcome, times=lives)
