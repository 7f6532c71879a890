"""What every stage of one run shares: opened once by `run`, handed on, never changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from warehouse_sync.changes.snapshot import snapshot_file
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.outbox import Outbox
from warehouse_sync.patience import Breakable
from warehouse_sync.state.store import Store
from warehouse_sync.values import utc_now
from warehouse_sync.warehouses.base import Engine
from warehouse_sync.warehouses.snapshot_tables import SnapshotSchema


@dataclass(frozen=True)
class RunContext:
    """One run of one pipeline. `home` is `<state.dir>/<name>`; `run_id` is the run's row in the state store.

    `still_ours` raises LocalStateLost when the lease is gone; it is asked before every upload. `query` is held open
    while the engine may be at work on a connection, so that a signal can stop it. `snapshot_schema`: where in the
    warehouse the snapshots of models with a key lie; None: they lie in `home`.
    """

    pipeline: str
    home: Path
    run_id: int
    store: Store
    outbox: Outbox
    engine: Engine
    reporter: Reporter
    still_ours: Callable[[], None] = lambda: None
    query: Callable[[Breakable], AbstractContextManager[None]] = lambda _: nullcontext()
    clock: Callable[[], datetime] = utc_now
    snapshot_schema: SnapshotSchema | None = None

    def snapshot_path(self, model: str) -> Path:
        """Where the snapshot of that model lies."""
        return snapshot_file(self.home, model)
