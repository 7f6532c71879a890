"""Runs in processes of their own, forked from one that has imported everything: real signals, little waiting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent

NURSERY = """
import json, os, sys
import alembic.command, alembic.config, duckdb, jinja2, pyarrow, pyarrow.compute, pyarrow.parquet, pydantic, requests
import sqlalchemy.dialects.sqlite, sqlglot, tenacity, logging.config
from sqlglot import parser, dialects
import warehouse_sync.cli.main, warehouse_sync.cli.report, warehouse_sync.runs.run, warehouse_sync.state.store
import warehouse_sync.warehouses.duckdb, warehouse_sync.observe.console, warehouse_sync.observe.logfile

def live(order):
    os.chdir(order["cwd"])
    os.environ.update(order["env"])
    out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, target)
    if order["quick"]:
        sys.path.insert(0, order["quick"])
        import fault_world
        warehouse_sync.runs.run.Timing = fault_world.quick_timing
    if order["limit"]:
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    try:
        warehouse_sync.cli.main.cli.main(order["words"])
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)

for line in sys.stdin:
    order = json.loads(line)
    if "reap" in order:
        _, status = os.waitpid(order["reap"], 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
        continue
    child = os.fork()
    if child == 0:
        try:
            live(order)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(99)
    print(json.dumps(child), flush=True)
"""


class Nursery:
    """Starts `warehouse-sync …` as a child of a process that is warm."""

    def __init__(self) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("WAREHOUSE_SYNC_")}
        self._parent = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def ask(self, order: dict[str, Any]) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        return int(json.loads(self._parent.stdout.readline()))

    def start(self, folder: Path, *words: str, quick: bool = True, limit: int = 0, **environ: str) -> Child:
        """A run that goes on by itself. `limit`: bytes that a file may hold (RLIMIT_FSIZE)."""
        out = folder / f"out-{time.monotonic_ns()}.txt"
        words = words or ("run", "-c", "config.yml", "--log-format", "json")
        here = str(Path(__file__).parent)
        order = {"cwd": str(folder), "env": environ, "out": str(out), "words": words, "quick": here * quick,
                 "limit": limit}  # fmt: skip
        return Child(self, self.ask(order), out)

    def close(self) -> None:
        """End the warm process."""
        self._parent.communicate("", timeout=20)


class Child:
    """A run in a process of its own."""

    def __init__(self, nursery: Nursery, pid: int, out: Path) -> None:
        self.nursery, self.pid, self.out = nursery, pid, out

    def wait(self) -> int:
        """Its exit code; minus the number of the signal that ended it."""
        return self.nursery.ask({"reap": self.pid})

    def send(self, number: int) -> None:
        """A signal."""
        os.kill(self.pid, number)

    def kill(self) -> int:
        """SIGKILL; the code it ended with, which is its own when it was faster."""
        self.send(signal.SIGKILL)
        return self.wait()

    @property
    def said(self) -> str:
        """What it printed."""
        return self.out.read_text() if self.out.exists() else ""

    def until(self, words: str, seconds: float = 20) -> None:
        """Wait until it printed these words."""
        end = time.monotonic() + seconds
        while words not in self.said:
            assert time.monotonic() < end, f"never said {words!r}:\n{self.said}"
            time.sleep(0.01)
