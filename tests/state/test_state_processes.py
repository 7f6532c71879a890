"""Several processes on one store."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from warehouse_sync.errors import StateError
from warehouse_sync.state import database
from warehouse_sync.state.lifecycle import IllegalMove, WindowState
from warehouse_sync.state.store import open_store

OPEN = """
import sys
from warehouse_sync.state.store import open_store
sys.stdin.readline()
with open_store(sys.argv[1]) as store:
    store.register_pipeline("prod", "home")
print(len(store.pipelines()))
"""

WORK = """
import sys
from warehouse_sync.state.rows import NewBatch, NewJob, NewReject, NewWindow
from warehouse_sync.state.store import open_store
from warehouse_sync.values import Counts, CursorKind, CursorValue, EventType, utc_now
url, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
with open_store(url) as store:
    store.register_pipeline(name, name)
    home = store.claim_destination(name, "https://a", None, "key")
    run = store.begin_run(name, "run", {}, "0")
    for number in range(1, rounds + 1):
        window = store.begin_window(
            NewWindow(run, name, "users", EventType.TRACK, "incremental", "id", None, utc_now(), "f")
        )
        store.seal_window(
            window.id, batches=[NewBatch(f"{number}", 1, 1, "a")], rejects=[], counts=Counts(),
            cursor_to=CursorValue(CursorKind.INTEGER, str(number)), properties={},
        )
        [batch] = store.batches(name, window_id=window.id)
        job = store.intend(NewJob(run, name, home.id, [batch.id], sha256="b" * 64, rows=1, bytes=1))
        store.accept(job.id, remote_id="r", links=None, remote_status="queued", request_id=None)
        store.complete(job.id, answer={}, total_rows=1)
    store.end_run(run, 0, [])
"""

CRASH = """
import os, signal, sys
from sqlalchemy import event
from warehouse_sync.state.store import open_store
url, job, moment = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_store(url)
seen = 0
def count(*_):
    global seen
    seen += 1
    if seen == moment:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(store._database.engine, "before_cursor_execute", count)
store.complete(job, answer={}, total_rows=None)
"""


def start(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120) for process in processes]
    assert [(process.returncode, end[1]) for process, end in zip(processes, ends, strict=True)] == [
        (0, "") for _ in processes
    ]
    return [end[0].strip() for end in ends]


def test_processes_that_make_the_same_store_at_once(store_url: str) -> None:
    processes = [start(OPEN, store_url) for _ in range(4)]
    assert finish(processes) == ["1"] * 4


@pytest.mark.parametrize("patience", [30, 0.05])
def test_a_store_that_another_process_is_making(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    path = Path(str(make_url(sqlite_url).database))
    path.parent.mkdir()
    monkeypatch.setattr(database, "BUSY_SECONDS", patience)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    if patience < 0.3:
        with pytest.raises(StateError, match="database is locked"):
            open_store(sqlite_url)
    else:
        open_store(sqlite_url).close()
    release.join()
    other.close()


def test_two_processes_work_on_one_store_at_once(store_url: str) -> None:
    rounds = 25
    finish([start(WORK, store_url, name, str(rounds)) for name in ("eu", "us")])
    with open_store(store_url) as store:
        for name in ("eu", "us"):
            state = store.model_state(name, "users")
            assert state is not None
            assert state.cursor is not None
            assert state.cursor.text == str(rounds)
            assert [job.number for job in store.jobs(name)] == list(range(1, rounds + 1))
            assert [batch.delivery_seq for batch in store.mergeable(name, "users")] == list(range(1, rounds + 1))
            assert {window.state for window in store.windows(name)} == {WindowState.SETTLED}


@pytest.mark.parametrize("moment", [1, 2, 3, 5, 8, 11])
def test_a_process_killed_in_the_middle_of_a_delivery_has_not_begun_it(
    sqlite_url: str, make_world: Any, moment: int
) -> None:
    world = make_world(sqlite_url)
    batches = world.sealed(1, 2)
    job = world.accepted(batches)
    world.store.close()
    process = start(CRASH, sqlite_url, str(job.id), str(moment))
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert Path(str(make_url(sqlite_url).database)).with_name("state.db-wal").exists()
    with open_store(sqlite_url) as world.store:
        assert world.cursor() is None
        assert {world.batch(one).state for one in batches} == {"sent"}
        assert len(world.store.complete(job.id, answer={}, total_rows=None)) == 1
        assert world.cursor() is not None


def test_two_runners_with_the_same_picture_do_not_both_act(store_url: str, make_world: Any) -> None:
    world = make_world(store_url)
    [batch] = world.sealed()
    with open_store(store_url) as other:
        job = world.accepted([batch])
        other.complete(job.id, answer={}, total_rows=None)
        with pytest.raises(IllegalMove, match="is completed; only from"):
            world.store.complete(job.id, answer={}, total_rows=None)
        with pytest.raises(IllegalMove):
            world.store.fail(job.id, answer={}, reason="late")
    world.store.close()
