"""How a run ends when it has to: signals, another runner, no room on the disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest
from fault_processes import Child, Nursery
from fault_world import World, quick

from warehouse_sync.state.lifecycle import JobState, WindowState
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox


def ended(child: Child, within: float = 5.0) -> int:
    began = time.monotonic()
    code = child.wait()
    assert time.monotonic() - began < within
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_job_runs(tmp_path, make_world, nursery: Nursery, told, number):
    with Sandbox(tmp_path / "slow", job_seconds=30) as sandbox:
        world: World = make_world(sandbox=sandbox)
        child = nursery.start(world.folder)
        child.until("job_accepted")
        child.send(number)
        assert ended(child) == 1, child.said
        assert f"stopped by {number.name}" in child.said
        assert [job.state for job in world.jobs()] == [JobState.ACCEPTED]
        sandbox.finish_jobs()
        sandbox.job_seconds = 0
        world.clean_run()
        world.check_equal()
    told("SIGTERM or SIGINT while a job runs", "exit 1 within 5 s; the next run follows that job")


@pytest.mark.slow
def test_a_signal_while_an_upload_hangs(make_world, server, nursery: Nursery, told):
    world: World = make_world()
    server.inject("upload:delay=60")
    child = nursery.start(world.folder)
    child.until("job_posting")
    time.sleep(0.2)
    child.send(signal.SIGTERM)
    assert ended(child) == 1
    assert [job.state for job in world.jobs()] == [JobState.INTENT]
    world.clean_run()
    world.check_equal()
    told("SIGTERM while an upload hangs", "exit 1 within 5 s; the next run finds the job in the list")


def test_a_signal_while_the_warehouse_works(make_world, nursery: Nursery, told):
    world: World = make_world()
    model = world.folder / "models_sql" / "users.sql"
    text = model.read_text()
    slow = "(select count(*) from range(100000000000) t(i) where md5(i::varchar) = 'x')"
    model.write_text(text.replace(" v,", f" v + {slow} as v,"))
    child = nursery.start(world.folder)
    child.until("START identify_user users")
    time.sleep(0.5)
    child.send(signal.SIGTERM)
    assert ended(child) == 1, child.said
    assert "stopped by SIGTERM" in child.said
    model.write_text(text)
    world.clean_run()
    world.check_equal()
    told("SIGTERM while the engine reads", "the query is broken off, exit 1 within 5 s, nothing half recorded")


def test_a_second_signal_ends_at_once(tmp_path, make_world, server, nursery: Nursery, told):
    world: World = make_world()
    server.inject("upload:delay=60")
    child = nursery.start(world.folder)
    child.until("job_posting")
    child.send(signal.SIGTERM)
    time.sleep(0.3)
    child.send(signal.SIGTERM)
    assert ended(child, 1.0) == -signal.SIGTERM
    world.clean_run()
    world.check_equal()
    told("a second SIGTERM", "the process ends at once, as if killed; the next run goes on")


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_two_runners_at_once(tmp_path, make_world, nursery: Nursery, told, rounds):
    with Sandbox(tmp_path / "busy", job_seconds=0.05) as sandbox:
        world: World = make_world(sandbox=sandbox)
        codes: Counter[int] = Counter()
        for number in range(rounds):
            pair = [nursery.start(world.folder) for _ in range(2)]
            codes.update(child.wait() for child in pair)
            for child in pair:
                assert "internal error" not in child.said
                if "lease_held" in child.said:
                    assert "process " in child.said
                    assert "since 20" in child.said
            if number + 1 < rounds:
                world.add(4)
                world.change()
        assert set(codes) <= {0, 1}
        world.clean_run()
        world.check()
        assert [r for r in sandbox.requests if r.method == "POST" and r.status == 409] == [], "two jobs of ours at once"
    told("two runners at once, in rounds", "one works, the other ends 1 and says who and since when", times=rounds)


@pytest.mark.slow
def test_a_paused_runner(make_world, server, nursery: Nursery, told):
    world: World = make_world()
    server.inject("upload:delay=1")
    child = nursery.start(world.folder)
    child.until("job_posting")
    child.send(signal.SIGSTOP)
    other = nursery.start(world.folder)
    assert other.wait() == 1
    assert f"process {child.pid}" in other.said
    child.send(signal.SIGCONT)
    assert child.wait() == 0, child.said
    world.clean_run()
    world.check_equal()
    told("SIGSTOP, another runner, SIGCONT", "the paused one keeps the lease and goes on; the other ends 1")


def test_a_runner_whose_lock_file_was_deleted_sends_nothing_more(make_world, server, nursery: Nursery, told):
    world: World = make_world()
    server.inject("upload:delay=0.7")
    child = nursery.start(world.folder)
    child.until("job_posting")
    (lock,) = (world.folder / "state").glob("*.lock")
    lock.unlink()
    assert child.wait() == 1, child.said
    assert "the lease of this run is lost" in child.said
    assert len([r for r in server.requests if r.method == "POST"]) == 1
    world.clean_run()
    world.check_equal()
    told("lease lost in the middle of a run", "exit 1, nothing more is sent or recorded; the next run goes on")


def mounted(path, size: str) -> bool:
    """A small disk of its own; False where that is not allowed."""
    path.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        return False
    order = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    return subprocess.run(order, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path, make_world, server):
    """A world whose state lies on a disk of 8 MB."""
    place = tmp_path / "disk"
    if not mounted(place, "8m"):
        pytest.skip("no rights to mount a small disk")
    world = make_world()
    text = (world.folder / "config.yml").read_text()
    (world.folder / "config.yml").write_text(text.replace("dir: state", f"dir: {place}"))
    yield world, place
    subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place, leave: int) -> None:
    """Leave only so many bytes."""
    stats = os.statvfs(place)
    with (place / "ballast").open("wb") as file:
        file.write(b"x" * max(0, stats.f_bavail * stats.f_frsize - leave))


@pytest.mark.slow
@pytest.mark.parametrize(
    "leave", [20_000, 400_000, *(pytest.param(room, marks=pytest.mark.slow) for room in (0, 4096, 150_000, 700_000))]
)
def test_a_full_disk(small_disk, nursery: Nursery, told, leave):
    world, place = small_disk
    assert nursery.start(world.folder).wait() == 0
    world.execute(
        "INSERT INTO users SELECT 'x' || i, repeat('y', 300) || i, 7, TIMESTAMP '2025-02-01' + i * INTERVAL 1 SECOND"
        " FROM range(2000) t(i)"
    )
    text = (world.folder / "config.yml").read_text()
    (world.folder / "config.yml").write_text(
        text.replace("max_rows: 8", "max_rows: 900").replace("rows: 16", "rows: 900")
    )
    fill(place, leave)
    child = nursery.start(world.folder)
    assert child.wait() in (1, 2), child.said
    assert "internal error" not in child.said
    (place / "ballast").unlink()
    again = nursery.start(world.folder)
    assert again.wait() == 0, again.said
    world.check_equal()
    told("disk full while extracting, merging the snapshot, or in between", "exit 1, says so; the next run goes on")


@pytest.mark.parametrize(
    "limit", [8_000, 200_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (60_000, 400_000))]
)
def test_a_state_that_cannot_grow(make_world, nursery: Nursery, told, limit):
    world: World = make_world()
    child = nursery.start(world.folder, limit=limit)
    assert child.wait() in (1, 2), child.said
    assert "internal error" not in child.said
    again = nursery.start(world.folder)
    assert again.wait() == 0, again.said
    world.check_equal()
    told(
        "no file may grow (RLIMIT_FSIZE): state store, batches, snapshot", "exit 1 or 2, says so; the next run goes on"
    )


def test_a_read_only_state(tmp_path, make_world, nursery: Nursery, told):
    world: World = make_world()
    world.run()
    state = world.folder / "state"
    if os.geteuid() or subprocess.run(["mount", "--bind", str(state), str(state)], check=False).returncode:
        pytest.skip("no rights to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(state)], check=True)
        child = nursery.start(world.folder)
        assert child.wait() == 2, child.said
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
    world.add(3)
    world.clean_run()
    world.check_equal()
    told("read-only state.dir", "exit 2 before anything happens")


@pytest.mark.slow
def test_a_job_that_takes_too_long_and_one_of_somebody_else(tmp_path, make_world, monkeypatch, told):
    quick(monkeypatch)
    with Sandbox(tmp_path / "slow", job_seconds=60) as sandbox:
        world: World = make_world(sandbox=sandbox, job_timeout="1s", busy_timeout="1s")
        report = world.run()
        assert report.exit_code == 1
        assert "is still" in str(report.stopped)
        assert "`delivery.job_timeout` sets the limit" in str(report.stopped)
        assert world.run().exit_code == 1
        assert [job.state for job in world.jobs()] == [JobState.ACCEPTED]
        sandbox.finish_jobs()
        sandbox.job_seconds = 0
        world.clean_run()
        world.check_equal()
    told("a job that does not end", "exit 1 after `job_timeout`; it stays accepted, each run waits for it again")


@pytest.mark.slow
def test_a_time_limit(tmp_path, make_world, monkeypatch):
    from datetime import timedelta

    quick(monkeypatch)
    with Sandbox(tmp_path / "slow", job_seconds=30) as sandbox:
        world: World = make_world(sandbox=sandbox)
        report = world.run(time_limit=timedelta(seconds=6))
        assert report.exit_code == 1
        assert "time limit" in str(report.stopped)
        with open_store(f"sqlite:///{world.folder}/state/state.db", read_only=True) as store:
            assert store.windows("p", states=[WindowState.READY])
        sandbox.finish_jobs()
        sandbox.job_seconds = 0
        world.clean_run()
        world.check_equal()
