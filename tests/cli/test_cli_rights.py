"""Files of state.dir that this user may not use, as one run with sudo leaves them: said, and taken for nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import BOUND, ROOT

from warehouse_sync.state.lease import lock_path

if TYPE_CHECKING:
    from harness import Project

    from warehouse_sync.userpilot.sandbox import Sandbox

Rows = Callable[[], list[dict[str, Any]]]


def test_files_that_this_user_may_not_use_stop_a_run_before_it_begins(
    project: Project, sandbox: Sandbox, imported: Rows
) -> None:
    project.cli.here("run", "--select", "users").check()
    project.execute("INSERT INTO users SELECT 'u4', 'pro', TIMESTAMP '2025-02-01'")
    sandbox.inject("upload:503*40")
    project.write_config("delivery: {busy_timeout: 1s, grace: 1s}")
    project.cli.here("run", "--select", "users").check(1)
    sandbox.clear_faults()
    places = {"outbox/users": 0o500, "outbox/users/*.ndjson": 0, "snapshots": 0, "snapshots/users.duckdb": 0}
    for (place, mode), verb in zip(places.items(), ("run", "run", "run", "plan"), strict=True):
        (closed,) = project.home.glob(place)
        before = closed.stat().st_mode
        closed.chmod(mode)
        result = project.cli(verb, bound=True).check(2)
        assert "may not read" in result.err
        assert str(closed) in result.err
        assert "chown -R" in result.err
        assert "state reset" not in result.err
        closed.chmod(before)
    assert len(imported()) == 3
    project.cli.here("run").check()
    assert len(imported()) == 8


def test_a_state_store_that_another_user_made(project: Project, imported: Rows) -> None:
    project.cli.here("run").check()
    folder = project.home.parent
    store, lock = folder / "state.db", folder / "state.db.prod.lock"
    for closed, mode, verbs in (
        (folder, 0o500, ["run", "plan", "debug"]),
        (lock, 0o400, ["run"]),
        (store, 0o400, ["run", "debug"]),
    ):
        before = closed.stat().st_mode
        closed.chmod(mode)
        for verb in verbs:
            result = project.cli(verb, bound=True).check(2)
            said = result.out + result.err
            assert f"may not read and change {closed}, which belongs to user" in said
            assert re.search(rf"`chown {'-R ' if closed == folder else ''}\S+ {closed}[ `]", said), said
        closed.chmod(before)
    folder.chmod(0)
    result = project.cli("run", bound=True).check(2)
    folder.chmod(0o700)
    assert re.search(rf"`chown -R \S+ {folder}`", result.err), result.err
    assert len(imported()) == 7


def test_debug_says_that_the_first_run_cannot_make_the_store(project: Project) -> None:
    project.folder.chmod(0o500)
    result = project.cli("debug", bound=True)
    project.folder.chmod(0o700)
    (line,) = re.findall(r"(\w+) +state store +(.*)", result.check(2).out)
    assert line[0] == "FAIL"
    assert f"{project.folder}, which belongs to user" in line[1]


@pytest.mark.parametrize(("options", "said"), [("size=1m,nr_inodes=8", "No space left"), ("size=1m", "Read-only")])
def test_a_disk_that_takes_no_file_is_not_another_users(project: Project, options: str, said: str) -> None:
    disk = project.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no rights to mount a small disk")
    try:
        project.write_config("state: {url: 'sqlite:///../disk/state.db', dir: ../state}\n")
        project.cli.here("run").check()
        if said == "Read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        else:
            for number in range(8):
                with suppress(OSError):
                    (disk / f"{number}").touch()
        for verb in ("run", "status"):
            err = project.cli.here(verb).check(2).err
            assert said in err
            assert "chown" not in err
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_status_says_that_it_cannot_look_at_the_lock(project: Project) -> None:
    project.cli.here("run").check()
    path = lock_path(f"sqlite:///{project.home.parent}/state.db", project.name)
    assert path is not None
    path.chmod(0)
    assert "run: none at work" in project.cli("status", bound=True).check().out
    path.write_text("a run that was killed, or one that is at work")
    assert f"another user's run, unless it was killed ({path}" in project.cli("status", bound=True).check().out


LOOK = """
import sys
from pathlib import Path
import duckdb
from warehouse_sync.changes.snapshot import Snapshot
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.outbox import Outbox
home, name = Path(sys.argv[1]), sys.argv[2]
for look in (
    lambda: Snapshot(home / "users.duckdb", ()).attach(duckdb.connect()),
    lambda: Outbox(home).key_table(name, 1),
    lambda: Outbox(home).is_whole(name, 1, 1, ""),
):
    try:
        print(look())
    except WarehouseSyncError as error:
        print(type(error).__name__, error)
"""


def test_what_may_not_be_read_in_the_middle_of_a_run_is_not_taken_for_damaged(tmp_path: Path) -> None:
    names = ("users.duckdb", "outbox/keys.keys.parquet", "outbox/keys.ndjson")
    (tmp_path / "outbox").mkdir()
    for name in names:
        (tmp_path / name).touch(0)
    order = [*BOUND, sys.executable, "-c", LOOK, str(tmp_path), "keys"]
    said = subprocess.run(order, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.findall(r"^(\w+) this user may not read .*?([\w.]+)$", said, re.MULTILINE) == [
        ("StateError", "users.duckdb"), ("DiskError", "keys.keys.parquet"), ("DiskError", "keys.keys.parquet"),
    ]  # fmt: skip
    assert "reset" not in said
